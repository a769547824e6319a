// Aligned memory, and files opened for it; reads and writes that the caller waits for.
#ifndef EPOCH_CORE_FILES_DISK_H_
#define EPOCH_CORE_FILES_DISK_H_

#include <fcntl.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "core/files/block.h"
#include "epoch/detail/platform/files.h"

namespace epoch::journal {

// Zero-initialised memory, aligned for O_DIRECT. Empty if there is none to be had.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t size);
  std::byte* data() const { return data_.get(); }
  std::size_t size() const { return size_; }
  // Never to be used or freed again: somebody may still read it.
  void Leak() { static_cast<void>(data_.release()); }

 private:
  struct Unmap {
    Unmap() : size(0) {}
    explicit Unmap(std::size_t bytes) : size(bytes) {}
    std::size_t size;
    void operator()(std::byte* data) const;
  };
  std::unique_ptr<std::byte, Unmap> data_;
  std::size_t size_ = 0;
};

// Opens what may be anything, to look at it. `at`: what has that name in a directory that is open.
absl::StatusOr<detail::Fd> OpenToRead(const std::string& path, int at = AT_FDCWD);
// Opens with O_DIRECT if the filesystem has it, else buffered; `direct` tells which.
absl::StatusOr<detail::Fd> OpenDirect(const std::string& path, int flags, bool& direct);
absl::StatusOr<detail::Fd> OpenUnnamedDirect(const std::string& directory,
                                             const detail::Access& access, bool& direct);

// Reads exactly `size` bytes, aligned. A read error is never taken for the end of the log.
absl::Status ReadExactly(int fd, std::byte* to, std::size_t size, std::uint64_t offset,
                         const std::string& path);
// Writes all of it, without making it durable. ResourceExhausted when the disk is full.
absl::Status WriteFully(int fd, const std::byte* from, std::size_t size, std::uint64_t offset,
                        const std::string& path);

// Writes `size` bytes at `offset`; returns when they are on stable storage. 0, or an errno, of
// which detail::BlameFor(..., Attempt::kWrite) says whose it is. It may be called again then: the
// place is written once only, so the same bytes may land there twice.
int WriteDurably(int fd, const std::byte* from, std::size_t size, std::uint64_t offset);

// Makes what was written to a file before durable. 0, or an errno (Attempt::kSync).
int SyncData(int fd);
// The same of all that there is to know of it: a new file's size, a directory's names.
int SyncAll(int fd);

// Reserves a file's space. 0, or an errno. A filesystem that cannot (ext2, ext3) is none: what is
// reserved here is written at once anyway. `label`: as for detail::Allocate.
int Reserve(int fd, std::uint64_t bytes, const char* label);

}  // namespace epoch::journal

#endif  // EPOCH_CORE_FILES_DISK_H_
