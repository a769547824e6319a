// A real ext4 on a loop device on the slow disk, in namespaces of its own: whatever happens to the
// process that asked for it, no mount, loop device or process stays behind.
#ifndef EPOCH_TESTS_IMAGES_RIG_H_
#define EPOCH_TESTS_IMAGES_RIG_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/images/slow_disk.h"

namespace epoch::images {

// What ends a program that cannot do what it is for: this machine lacks something. ctest skips it.
inline constexpr int kLacking = 2;

// Runs `body` in a child with mount and process namespaces of its own, as their first process; all
// that it starts and mounts ends with it. Returns its exit code; kLacking if this machine does not
// allow that. `/proc` is its own; `scratch` is the path of an empty directory in memory.
int Isolated(const std::function<int(const std::string& scratch)>& body);

// Says what this machine lacks, and ends the process with kLacking.
[[noreturn]] void Lacking(const std::string& what);
// Ends the process with code 3.
[[noreturn]] void Failed(const std::string& what);

// A loop device on `file` that goes away with its last user; its path. `direct`: requests to the
// file are not serialised.
struct LoopDevice {
  std::string path;
  int fd = -1;
};
LoopDevice AttachLoop(const std::string& file, bool direct);
// Mounts ext4, and lets go of `device`, which then lives as long as the mount. False: it cannot be
// mounted.
bool MountExt4(LoopDevice& device, const std::string& at);
void Unmount(const std::string& at);

// The program at `path`, to its end: the exit code.
int RunProgram(const std::string& path, const std::vector<std::string>& arguments);

class SlowDisk {
 public:
  // Backing file and log lie in `scratch`.
  SlowDisk(const std::string& program, const std::string& scratch, std::uint64_t bytes);
  // The file for a loop device.
  std::string file() const { return mountpoint_ + "/" + kSlowDiskFile; }
  std::string backing() const { return scratch_ + "/backing"; }
  std::string log() const { return scratch_ + "/log"; }
  SlowDiskControl& control() { return *control_; }
  // Returns when `condition`, on what the disk does, holds. Ends the process with code 3 if it does
  // not within a minute, or if one of `awaited` is dead.
  void Await(const std::function<bool()>& condition, const std::vector<pid_t>& awaited = {}) const;
  // Everything that came is in the log; the file system is gone.
  void Stop();

 private:
  bool Reaches(const std::function<bool()>& condition, const std::vector<pid_t>& awaited) const;

  std::string scratch_;
  std::string mountpoint_;
  SlowDiskControl* control_ = nullptr;
  pid_t pid_ = -1;
};

}  // namespace epoch::images

#endif  // EPOCH_TESTS_IMAGES_RIG_H_
