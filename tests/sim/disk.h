// The simulated file system: a tree of files and directories, descriptions with locks, a shared
// memory directory, and a disk that forgets what was not synced.
//
//   /dev/shm   memory: gone with the power
//   /disk      files: what was written but not synced is kept, lost or torn, sector by sector, when
//              the power goes; so is each unsynced name. Durable writes take time, and land even if
//              their process has died meanwhile: until then they hold their description, and with
//              it its locks.
//
// Every call is a scheduling point. Errors follow the system's conventions: -1 and errno.
#ifndef EPOCH_TESTS_SIM_DISK_H_
#define EPOCH_TESTS_SIM_DISK_H_

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/sim/engine.h"

namespace epoch::sim {

inline constexpr std::size_t kSector = 512;

// What a Fault of kind kDisk makes fail: one call, the first of its kind after the fault's step.
enum DiskFault : std::uint64_t {
  kWriteFails,        // a durable write: EIO, some of its sectors have landed
  kWriteIsShort,      // a durable write does a part
  kWriteInterrupted,  // EINTR, EAGAIN; or EFBIG, ENOSPC: the trouble of who writes
  kSyncFails,         // fsync: EIO, and what it did not write is no longer dirty
  kNoSpace,           // allocation: ENOSPC
  kReadFails,         // EIO
  kSectorDamaged,     // not a call: at the next power loss one stable sector is overwritten
  kDiskFaults
};

class Disk {
 public:
  explicit Disk(Engine& engine, std::byte* arena, std::size_t arena_bytes);
  ~Disk();
  static Disk* active() { return active_; }

  // The power is back: what was stable is there, of the rest what chance left.
  // `tear`: a sector may also be half written.
  void PowerLoss(bool tear);
  // The boot that this is.
  std::uint64_t boot() const { return boot_; }

  // A file of /dev/shm got its name: its memory.
  std::function<void(const std::string& path, std::byte* memory)> on_shm_link;
  // A file of /disk is about to lose its name.
  std::function<void(const std::string& path)> on_unlink;
  // Names in a directory; empty if there is none.
  std::vector<std::string> Names(const std::string& directory) const;
  // What is stable of a file; empty if there is none.
  std::vector<std::byte> Stable(const std::string& path);
  // Overwrites one sector of it: by bytes that nobody wrote, or by zeros.
  void Damage(const std::string& path, std::size_t sector, bool zeros);
  bool damaged() const { return damaged_; }

  // Whose descriptors those are that set-up opens.
  void ActAs(int process) { acting_ = process; }
  // A process is gone, or a fork child closes what it inherited.
  void CloseAllOf(int process);

  // --- system calls
  // --------------------------------------------------------------------------------
  // Relative paths begin at the directory `at`.
  int Open(const char* path, int flags, unsigned mode, int at = AT_FDCWD);
  int Close(int fd);
  int Dup3(int from, int to);
  ssize_t Read(int fd, void* to, std::size_t size, std::int64_t offset);
  ssize_t Write(int fd, const void* from, std::size_t size, std::int64_t offset, bool durable);
  // What goes on while its process does something else, and if that dies. Its result is as the
  // call's, or minus an errno; it counts when `done`.
  struct Begun {
    std::shared_ptr<bool> done;
    std::shared_ptr<ssize_t> result;

    static Begun Over(ssize_t result) {
      return {std::make_shared<bool>(true), std::make_shared<ssize_t>(result)};
    }
  };
  Begun Begin(int fd, const void* from, std::size_t size, std::int64_t offset, bool durable);
  Begun BeginSync(int fd);
  Begun BeginUnlink(const std::string& name, int at);
  void Await(const Begun& begun) { engine_.BlockUntil(*begun.done); }
  int Sync(int fd);
  int Allocate(int fd, std::int64_t size);  // returns an errno
  int Link(const char* from, const char* to);
  int Unlink(const std::string& path, bool directory, int at = AT_FDCWD);
  int Rename(const char* from, const char* to, int from_at = AT_FDCWD, int to_at = AT_FDCWD);
  int MakeDirectory(const char* path);
  int Stat(const char* path, struct stat* info, int at = AT_FDCWD);
  int StatFd(int fd, struct stat* info);
  // What the name leads to, or the descriptor if it is empty; its number, device and links. No
  // scheduling point: what it finds is no word of the protocol's.
  int StatX(int at, const char* path, unsigned mask, struct statx* info);
  bool InMemory(int fd) { return NodeOf(DescriptionOf(fd).inode).shm; }
  bool Exists(const char* path);
  int Flock(int fd, bool wait);
  int LockByte(int fd, bool exclusive, bool release, std::int64_t byte);
  bool ByteHeld(int fd, std::int64_t byte);
  // Memory of a /dev/shm file; nullptr if it is none.
  std::byte* MemoryOf(int fd);

  struct Listing {
    int fd;
    std::vector<std::string> names{};
    std::size_t at = 0;
    dirent entry{};
  };
  // Descriptors that count; read as files are.
  int MakeEvent();
  int AddToEvent(int fd, std::uint64_t count);
  // Its count, or 0 after that long. Whoever it wakes knows what the one who counted did.
  std::uint64_t AwaitEvent(int fd, std::int64_t nanos);

  Listing* OpenDirectory(const char* path, int at = AT_FDCWD);

 private:
  struct Inode {
    int number = 0;
    bool directory = false;
    bool shm = false;
    bool event = false;
    bool linkable = false;    // has no name yet, and may get one
    std::uint64_t count = 0;  // event
    unsigned mode = 0;
    int links = 0;
    std::byte* memory = nullptr;                     // shm
    std::size_t memory_bytes = 0;                    // shm
    std::vector<std::byte> now, stable;              // file
    std::vector<bool> dirty;                         // file: sectors in `now` that are not stable
    std::map<std::string, int> names, stable_names;  // directory
    struct Change {
      std::string add, remove;
      int inode;
      std::uint64_t number;
    };
    std::vector<Change> unsynced;  // directory: since the last sync
    std::int64_t changed_ns = 0;
    int parent = 0;      // directory
    std::string name{};  // directory: its own
    Clock clock{};       // directory, event: what its changers knew
  };
  struct Description {
    int inode;
    int references = 0;
    int process;  // that opened it
  };
  struct Descriptor {
    int description;
    int process;
  };
  struct Lock {
    int inode;
    std::int64_t byte;  // -1: flock
    int description;
    bool exclusive;
  };
  struct Flight {  // a durable write under way
    int description, inode;
    std::size_t offset;
    std::vector<std::byte> bytes;
    std::shared_ptr<bool> done;
  };

  Inode& NodeOf(int number) { return *inodes_[static_cast<std::size_t>(number)]; }
  const Inode& NodeOf(int number) const { return *inodes_[static_cast<std::size_t>(number)]; }
  Inode* NodeAt(const std::string& path, std::string* last = nullptr, Inode** parent = nullptr,
                int at = AT_FDCWD);
  std::string PathOf(const Inode& directory) const;
  Inode& NewNode(bool directory, bool shm, unsigned mode);
  int NewFd(int inode);
  int Self() const { return engine_.current() >= 0 ? engine_.process() : acting_; }
  int Describe(int fd) const;
  Description& DescriptionOf(int fd) {
    return descriptions_[static_cast<std::size_t>(Describe(fd))];
  }
  void Drop(int description);

  void Land(const Flight& flight, bool stable, const std::function<bool()>& sector_lands);
  void Fill(const Inode& node, struct stat* info) const;
  void Change(Inode& directory, const std::string& add, const std::string& remove, int inode,
              bool by_itself = false);
  int Remove(const std::string& path, bool directory, int at, bool by_itself);  // minus an errno
  bool Dropped(int submitter);
  void MakeStable(Inode& node, std::uint64_t up_to, const std::vector<bool>& dirty, bool fails);
  std::int64_t Latency();
  Clock& ReleasedAt(int inode, std::int64_t byte) { return released_[{inode, byte}]; }
  static void MarkDirty(Inode& node, std::size_t offset, std::size_t size);
  static int Fail(int error);

  static Disk* active_;

  Engine& engine_;
  std::byte* const arena_;
  const std::size_t arena_bytes_;
  std::size_t arena_used_ = 0;
  std::vector<std::unique_ptr<Inode>> inodes_;
  std::vector<Description> descriptions_;
  std::map<int, Descriptor> fds_;
  int next_fd_ = 1'000'000;  // no real descriptor: a call that bypasses the seam fails
  std::vector<Lock> locks_;
  std::map<std::pair<int, std::int64_t>, Clock> released_;
  std::map<std::pair<int, std::int64_t>, std::uint64_t> taken_;  // when a free byte was locked
  std::vector<std::shared_ptr<Flight>> flights_;
  std::uint64_t boot_ = 1;
  std::uint64_t changes_ = 0;  // of names
  std::uint64_t made_directories_ = 0;
  bool damaged_ = false;
  int acting_ = -1;
};

}  // namespace epoch::sim

#endif  // EPOCH_TESTS_SIM_DISK_H_
