// What the slow disk and those who use it share.
#ifndef EPOCH_TESTS_IMAGES_SLOW_DISK_H_
#define EPOCH_TESTS_IMAGES_SLOW_DISK_H_

#include <atomic>
#include <cstdint>

namespace epoch::images {

// A page that both map.
struct SlowDiskControl {
  std::atomic<std::uint64_t> position;   // records in its log
  std::atomic<std::uint32_t> delay_ms;   // of each write that begins from now on
  std::atomic<std::uint32_t> under_way;  // writes
  // A futex, rung when one of these changes; first when the disk is mounted.
  std::atomic<std::uint32_t> bell;
};

// One record of its log; the bytes of a write follow it.
struct SlowDiskRecord {
  enum Kind : std::uint32_t { kWrite = 1, kWritten, kFlush, kFlushed };
  std::uint32_t kind;
  std::uint32_t bytes;
  std::uint64_t offset;
  std::uint64_t id;  // of the write or flush that begins or ends
};

// The one file in its file system.
inline constexpr const char* kSlowDiskFile = "disk";

}  // namespace epoch::images

#endif  // EPOCH_TESTS_IMAGES_SLOW_DISK_H_
