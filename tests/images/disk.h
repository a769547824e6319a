// The disk under the journal. While a workload is played it records what reaches it, when each
// flush completed, and how far head had come by then. While an image is recovered, it just answers.
//
// Durable writes take time. They land even if their process has died meanwhile; until then they
// hold their description, and with it its locks. Errors follow the system's conventions: -1 and
// errno.
#ifndef EPOCH_TESTS_IMAGES_DISK_H_
#define EPOCH_TESTS_IMAGES_DISK_H_

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/images/fibers.h"
#include "tests/images/tree.h"

namespace epoch::images {

// What had been acknowledged: an epoch of one incarnation. -1: there was no region yet.
struct Acknowledged {
  int incarnation = -1;
  std::uint64_t epoch = 0;
};

struct Entry {
  enum Kind {
    kWrite,       // bytes were given to the device
    kSize,        // a file's size
    kName,        // a name was added, removed, or both
    kLanded,      // a flush: the write of entry `of` is stable
    kSynced,      // a flush: all of that file from before entry `of`, but for writes under way
    kNamesSynced  // the same of a directory
  };
  Kind kind;
  int node = -1;  // file or directory
  std::size_t offset = 0;
  Bytes bytes{};
  std::string add{}, remove{};
  int target = -1;         // what the name stands for
  bool directory = false;  // kName: what it names
  bool under_way = false;  // kWrite: a sync does not wait for it
  std::size_t of = 0;
  Acknowledged acknowledged{};  // just before
};
using Log = std::vector<Entry>;

class Disk {
 public:
  // Calls are played on `tree`. `log` null: nothing is recorded.
  Disk(Tree& tree, Log* log, std::uint64_t seed);
  ~Disk();
  static Disk* active() { return active_; }

  // Asked at each entry.
  std::function<Acknowledged()> acknowledged;
  // A file of /dev/shm got its name: its memory.
  std::function<void(std::byte* memory)> on_shm_link;
  // One in so many writes is short, interrupted, or refused (a limit, no room); 0: none.
  std::uint64_t faults = 0;

  void CloseAllOf(int process);
  // All descriptors, locks and shared memory are gone; of the tree that holds them, too.
  void Reset();

  // Relative paths, which are names, are looked up in the directory `at`.
  int Open(const char* path, int flags, unsigned mode, int at = AT_FDCWD);
  int Close(int fd);
  ssize_t Read(int fd, void* to, std::size_t size, std::int64_t offset);
  ssize_t Write(int fd, const void* from, std::size_t size, std::int64_t offset, bool durable);
  int Sync(int fd);
  // The same without waiting; the result is that of the call, or minus an errno.
  struct Begun {
    std::shared_ptr<bool> done;
    ssize_t result;
  };
  Begun Begin(int fd, const void* from, std::size_t size, std::int64_t offset, bool durable);
  Begun BeginSync(int fd);
  static void Await(const Begun& begun);
  int Allocate(int fd, std::int64_t size);
  int Link(const char* from, const char* to);
  int Unlink(const std::string& path, bool directory, int at = AT_FDCWD);
  int Rename(const char* from, const char* to, int from_at = AT_FDCWD, int to_at = AT_FDCWD);
  int MakeDirectory(const char* path);
  int Stat(const char* path, struct stat* info, int at = AT_FDCWD);
  int StatFd(int fd, struct stat* info);
  int StatX(int at, const char* path, unsigned mask, struct statx* info);
  bool InMemory(int fd);
  bool Exists(const char* path) { return NodeAt(path).node >= 0; }
  int LockByte(int fd, bool exclusive, bool release, std::int64_t byte);
  bool ByteHeld(int fd, std::int64_t byte);
  int Flock(int fd, bool wait);
  std::byte* MemoryOf(int fd);
  Random& random() { return random_; }

  struct Listing {
    int fd;
    std::vector<std::string> names{};
    std::size_t at = 0;
    dirent entry{};
  };
  Listing* OpenDirectory(const char* path);
  Listing* OpenDirectory(int fd);

 private:
  struct Description {
    int node;
    int references;
  };
  struct Descriptor {
    int description;  // -1: closed
    int process;
  };
  struct Lock {
    int node;
    std::int64_t byte;  // -1: flock
    int description;
    bool exclusive;
  };
  static void Step();
  static std::int64_t Latency();
  static int Fail(int error);
  Tree::Place NodeAt(std::string_view path, int at = AT_FDCWD) const;
  int NewFd(int node);
  int Describe(int fd) const;
  int NodeOf(int fd) const { return descriptions_[static_cast<std::size_t>(Describe(fd))].node; }
  void Drop(int description);
  bool Conflicts(int node, std::int64_t byte, int description, bool exclusive) const;
  void Record(Entry entry);
  void Change(int directory, const std::string& add, const std::string& remove, int target);

  static Disk* active_;
  Tree& tree_;
  Log* const log_;
  Random random_;
  std::vector<Description> descriptions_;
  std::vector<Descriptor> fds_;
  std::vector<Lock> locks_;
  std::size_t memory_used_ = 0;
};

}  // namespace epoch::images

#endif  // EPOCH_TESTS_IMAGES_DISK_H_
