// The log of one process: records in a file that is mapped shared. What was appended is there for
// others from that moment on, whatever becomes of the process: it belongs to the page cache.
//
// Thread safety: Append from any thread of the one process that writes the file. Not to be written
// to by a fork child.
#ifndef EPOCH_TESTS_STRESS_LOG_H_
#define EPOCH_TESTS_STRESS_LOG_H_

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>

#include "stress/record.h"

namespace epoch::stress {

// The file of process `serial` in a directory of logs. The driver is number 0.
std::string LogPath(const std::string& directory, std::uint32_t serial);

class LogWriter {
 public:
  // A new, sparse file. Ends the process when that is not possible: there is no test without it.
  explicit LogWriter(const std::string& path);
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;
  ~LogWriter();

  // Stamps the record with the time and appends it.
  void Append(Record record);
  std::size_t room() const { return kCapacity - count_; }

 private:
  static constexpr std::size_t kCapacity = std::size_t{1} << 20;

  std::mutex mutex_;  // a listener's thread votes, and says so
  Record* records_;
  std::size_t count_ = 0;
};

// A log as it is now, mapped read-only.
class LogReader {
 public:
  explicit LogReader(const std::string& path);  // throws std::system_error
  LogReader(LogReader&& other) noexcept;
  LogReader& operator=(LogReader&&) = delete;
  ~LogReader();

  std::span<const Record> records() const { return {records_, count_}; }

 private:
  const Record* records_ = nullptr;
  std::size_t count_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace epoch::stress

#endif  // EPOCH_TESTS_STRESS_LOG_H_
