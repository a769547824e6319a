// A log of the slow disk, flush by flush: what was stable up to there, and what was not.
#ifndef EPOCH_TESTS_IMAGES_DEVICE_LOG_H_
#define EPOCH_TESTS_IMAGES_DEVICE_LOG_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/images/slow_disk.h"
#include "tests/images/tree.h"

namespace epoch::images {

class DeviceLog {
 public:
  DeviceLog(const std::string& path, std::uint64_t device_bytes);

  // To just before the next flush that completes at or behind record `position`; false if there is
  // none.
  bool NextFlush(std::uint64_t position);
  // Records before the cut.
  std::uint64_t position() const { return next_; }
  const Bytes& stable() const { return stable_; }

  // Sectors that were written and not flushed, in order.
  struct Loose {
    std::uint64_t offset;
    const std::byte* bytes;
    std::uint64_t write;  // they belong to the same write
  };
  std::vector<Loose> loose() const;

 private:
  struct Record {
    SlowDiskRecord head;
    std::size_t bytes_at;
  };
  Bytes log_;
  std::vector<Record> records_;
  std::uint64_t next_ = 0;
  Bytes stable_;
  struct Write {
    std::size_t record;
    bool written = false;
    std::uint64_t written_at = 0;
  };
  std::vector<Write> pending_;
  std::map<std::uint64_t, std::uint64_t> flushes_;  // id, where it began
};

}  // namespace epoch::images

#endif  // EPOCH_TESTS_IMAGES_DEVICE_LOG_H_
