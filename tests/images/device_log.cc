#include "tests/images/device_log.h"

#include <cstring>
#include <fstream>
#include <iterator>

namespace epoch::images {

DeviceLog::DeviceLog(const std::string& path, std::uint64_t device_bytes) : stable_(device_bytes) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  log_.resize(static_cast<std::size_t>(in.tellg()));
  in.seekg(0);
  in.read(reinterpret_cast<char*>(log_.data()), static_cast<std::streamsize>(log_.size()));
  for (std::size_t at = 0; at + sizeof(SlowDiskRecord) <= log_.size();) {
    Record record;
    std::memcpy(&record.head, log_.data() + at, sizeof record.head);
    record.bytes_at = at + sizeof record.head;
    at = record.bytes_at + record.head.bytes;
    records_.push_back(record);
  }
}

bool DeviceLog::NextFlush(std::uint64_t position) {
  for (; next_ < records_.size(); ++next_) {
    const SlowDiskRecord& head = records_[next_].head;
    switch (head.kind) {
      case SlowDiskRecord::kWrite:
        pending_.push_back({next_});
        break;
      case SlowDiskRecord::kWritten:
        for (Write& write : pending_) {
          if (records_[write.record].head.id != head.id) continue;
          write.written = true;
          write.written_at = next_;
        }
        break;
      case SlowDiskRecord::kFlush:
        flushes_[head.id] = next_;
        break;
      default: {
        if (next_ >= position && position != 0) return true;
        // All that was done when it began.
        const std::uint64_t began = flushes_[head.id];
        flushes_.erase(head.id);
        std::erase_if(pending_, [&](const Write& write) {
          if (!write.written || write.written_at > began) return false;
          const Record& record = records_[write.record];
          std::memcpy(stable_.data() + record.head.offset, log_.data() + record.bytes_at,
                      record.head.bytes);
          return true;
        });
      }
    }
  }
  return false;
}

std::vector<DeviceLog::Loose> DeviceLog::loose() const {
  std::vector<Loose> sectors;
  for (const Write& write : pending_) {
    const Record& record = records_[write.record];
    for (std::size_t at = 0; at < record.head.bytes; at += kSector) {
      sectors.push_back(
          {record.head.offset + at, log_.data() + record.bytes_at + at, record.head.id});
    }
  }
  return sectors;
}

}  // namespace epoch::images
