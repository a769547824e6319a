#include "stress/log.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <utility>

#include "epoch/detail/platform/seam.h"

namespace epoch::stress {

std::string LogPath(const std::string& directory, std::uint32_t serial) {
  return directory + (serial == 0 ? "/driver.log" : "/process-" + std::to_string(serial) + ".log");
}

LogWriter::LogWriter(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  void* mapped = MAP_FAILED;
  if (fd >= 0 && ftruncate(fd, kCapacity * sizeof(Record)) == 0) {
    mapped = mmap(nullptr, kCapacity * sizeof(Record), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  if (mapped == MAP_FAILED) {
    std::fprintf(stderr, "cannot make the log %s: %s\n", path.c_str(), std::strerror(errno));
    std::_Exit(3);
  }
  close(fd);
  records_ = static_cast<Record*>(mapped);
}

LogWriter::~LogWriter() { munmap(records_, kCapacity * sizeof(Record)); }

void LogWriter::Append(Record record) {
  const std::lock_guard lock(mutex_);
  if (room() == 0) {
    std::fprintf(stderr, "a log is full\n");
    std::abort();
  }
  record.time_ns = seam::MonotonicNanos();
  const Kind kind = std::exchange(record.kind, Kind::kNone);
  Record& place = records_[count_++];
  place = record;
  // A process that is killed half-way leaves kNone: the record does not count.
  std::atomic_ref<Kind>(place.kind).store(kind, std::memory_order_release);
}

LogReader::LogReader(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status {};
  if (fd < 0 || fstat(fd, &status) != 0)
    throw std::system_error(errno, std::system_category(), path);
  bytes_ = static_cast<std::size_t>(status.st_size);
  if (bytes_ != 0) {
    void* mapped = mmap(nullptr, bytes_, PROT_READ, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED) throw std::system_error(errno, std::system_category(), path);
    // Found by halving, and without reading ahead: to touch all of a sparse file would fill memory
    // with its zeros.
    madvise(mapped, bytes_, MADV_RANDOM);
    records_ = static_cast<const Record*>(mapped);
  }
  close(fd);
  const Record* const end = records_ + bytes_ / sizeof(Record);
  const auto last =
      std::partition_point(records_, end, [](const Record& r) { return r.kind != Kind::kNone; });
  count_ = static_cast<std::size_t>(last - records_);
}

LogReader::LogReader(LogReader&& other) noexcept
    : records_(std::exchange(other.records_, nullptr)),
      count_(std::exchange(other.count_, 0)),
      bytes_(std::exchange(other.bytes_, 0)) {}

LogReader::~LogReader() {
  if (records_ != nullptr) munmap(const_cast<Record*>(records_), bytes_);
}

const char* NameOf(Operation operation) {
  switch (operation) {
    case Operation::kNone:
      return "nothing";
    case Operation::kOpen:
      return "open";
    case Operation::kJoin:
      return "join";
    case Operation::kPin:
      return "pin";
    case Operation::kPinNested:
      return "nested pin";
    case Operation::kCommit:
      return "commit";
    case Operation::kCommitExpecting:
      return "commit with expected";
    case Operation::kUpdate:
      return "update";
    case Operation::kPropose:
      return "propose";
    case Operation::kProposeUpdate:
      return "propose an update";
    case Operation::kAwaitTicket:
      return "await a ticket";
    case Operation::kAwaitCommitted:
      return "await committed";
    case Operation::kAwaitConverged:
      return "await converged";
    case Operation::kPark:
      return "park";
    case Operation::kPoll:
      return "poll";
    case Operation::kPollPinned:
      return "poll while pinned";
    case Operation::kLeave:
      return "leave";
    case Operation::kRejoin:
      return "rejoin";
    case Operation::kExpel:
      return "expel";
    case Operation::kReap:
      return "reap";
    case Operation::kNewDraft:
      return "new draft";
    case Operation::kDropDraft:
      return "drop a draft";
    case Operation::kFork:
      return "fork";
    case Operation::kRead:
      return "read";
    case Operation::kCollective:
      return "collective commit";
    case Operation::kVoteLater:
      return "vote later";
    case Operation::kListen:
      return "listen";
  }
  return "?";
}

}  // namespace epoch::stress
