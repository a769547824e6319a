// A disk that tells what it is asked: a FUSE file system with one file, for a loop device to stand
// on. Writes and flushes are logged as they begin and end, and passed through to a backing file. A
// write may be delayed: it reaches the backing file, and is answered, only then.
//
//   slow_disk BACKING LOG CONTROL MOUNTPOINT      stays in the foreground
#include "tests/images/slow_disk.h"

#include <fcntl.h>
#include <fuse3/fuse.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>

namespace epoch::images {
namespace {

struct State {
  int backing = -1;
  int log = -1;
  SlowDiskControl* control = nullptr;
  std::mutex mutex;
  std::uint64_t next_id = 1;
};
State state;

void Ring() {
  state.control->bell.fetch_add(1);
  syscall(SYS_futex, &state.control->bell, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

std::uint64_t Log(SlowDiskRecord::Kind kind, std::uint64_t id, const char* data, std::size_t size,
                  off_t offset) {
  const std::lock_guard lock(state.mutex);
  if (id == 0) id = state.next_id++;
  const SlowDiskRecord record{kind, static_cast<std::uint32_t>(size),
                              static_cast<std::uint64_t>(offset), id};
  if (write(state.log, &record, sizeof record) != sizeof record ||
      (size > 0 && write(state.log, data, size) != static_cast<ssize_t>(size))) {
    _exit(1);  // a log with holes proves nothing
  }
  state.control->position.fetch_add(1);
  Ring();
  return id;
}

bool IsDisk(const char* path) { return std::string(path) == std::string("/") + kSlowDiskFile; }

int GetAttributes(const char* path, struct stat* info, fuse_file_info*) {
  *info = {};
  if (std::strcmp(path, "/") == 0) {
    info->st_mode = S_IFDIR | 0700;
    info->st_nlink = 2;
    return 0;
  }
  if (!IsDisk(path)) return -ENOENT;
  struct stat backing {};
  if (fstat(state.backing, &backing) != 0) return -errno;
  info->st_mode = S_IFREG | 0600;
  info->st_nlink = 1;
  info->st_size = backing.st_size;
  return 0;
}

int Open(const char* path, fuse_file_info* file) {
  if (!IsDisk(path)) return -ENOENT;
  file->direct_io = 1;  // nothing stays in a cache above
  return 0;
}

int Read(const char*, char* to, std::size_t size, off_t offset, fuse_file_info*) {
  const ssize_t got = pread(state.backing, to, size, offset);
  return got < 0 ? -errno : static_cast<int>(got);
}

int Write(const char*, const char* from, std::size_t size, off_t offset, fuse_file_info*) {
  state.control->under_way.fetch_add(1);
  const std::uint64_t id = Log(SlowDiskRecord::kWrite, 0, from, size, offset);
  if (const std::uint32_t delay = state.control->delay_ms.load(); delay > 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(delay));
  }
  const ssize_t put = pwrite(state.backing, from, size, offset);
  const int error = errno;
  Log(SlowDiskRecord::kWritten, id, nullptr, 0, offset);
  state.control->under_way.fetch_sub(1);
  Ring();
  return put < 0 ? -error : static_cast<int>(put);
}

int Flush(const char*, int, fuse_file_info*) {
  const std::uint64_t id = Log(SlowDiskRecord::kFlush, 0, nullptr, 0, 0);
  Log(SlowDiskRecord::kFlushed, id, nullptr, 0, 0);
  return 0;
}

void* Init(fuse_conn_info* connection, fuse_config* config) {
  connection->max_write = 1 << 20;
  config->kernel_cache = 0;
  Ring();
  return nullptr;
}

int Main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: slow_disk BACKING LOG CONTROL MOUNTPOINT\n");
    return 2;
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  state.backing = open(argv[1], O_RDWR | O_CLOEXEC);
  state.log = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  const int control = open(argv[3], O_RDWR | O_CLOEXEC);
  void* page = control < 0 ? MAP_FAILED
                           : mmap(nullptr, sizeof(SlowDiskControl), PROT_READ | PROT_WRITE,
                                  MAP_SHARED, control, 0);
  if (state.backing < 0 || state.log < 0 || page == MAP_FAILED) {
    std::perror("slow_disk");
    return 2;
  }
  state.control = static_cast<SlowDiskControl*>(page);
  static fuse_operations operations{};
  operations.getattr = GetAttributes;
  operations.open = Open;
  operations.read = Read;
  operations.write = Write;
  operations.fsync = Flush;
  operations.init = Init;
  // The library's own words are of no use here: without it, there is no file to be found.
  if (std::freopen("/dev/null", "w", stderr) == nullptr) return 2;
  std::string name = "slow_disk", foreground = "-f";
  std::array<char*, 3> arguments{name.data(), foreground.data(), argv[4]};
  return fuse_main(static_cast<int>(arguments.size()), arguments.data(), &operations, nullptr);
}

}  // namespace
}  // namespace epoch::images

int main(int argc, char** argv) { return epoch::images::Main(argc, argv); }
