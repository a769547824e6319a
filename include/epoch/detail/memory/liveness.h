// Who is alive: what the kernel says of the byte that each participant keeps locked.
//
// The question for one byte, F_OFD_GETLK, walks through all locks of the file. Asked of each of
// thousands of slots that is quadratic: 4,096 take 40 ms and more. So a look over many slots reads
// the kernel's whole table, /proc/locks, once. What stands there is held, and need not be asked
// about; whatever does not stand there is asked, so death is only ever what F_OFD_GETLK says. The
// table is a snapshot: a HeldBytes lives within one call, and a death since is found by the next.
//
// Thread safety: a HeldBytes belongs to one thread. Progress: wait-free.
#ifndef EPOCH_DETAIL_MEMORY_LIVENESS_H_
#define EPOCH_DETAIL_MEMORY_LIVENESS_H_

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "epoch/detail/memory/layout.h"
#include "epoch/detail/platform/files.h"
#include "epoch/detail/platform/seam.h"
#include "epoch/detail/platform/system_calls.h"

namespace epoch::detail {

// Whether the slot's owner lives; kUnknown counts as alive: EPERM is not death. An owner's lock is
// exclusive. A shared one, which whoever may read the file can take, makes nobody look alive.
inline bool OwnerAlive(int probe_fd, std::uint32_t slot) noexcept {
  return seam::TestByteLock(probe_fd, slot, seam::ByteLock::kShared) != seam::LockState::kFree;
}

// Whether any slot of the file has an owner that lives.
inline bool AnybodyIn(int fd) noexcept {
  return seam::TestByteLock(fd, 0, seam::ByteLock::kShared, kMaxParticipants) !=
         seam::LockState::kFree;
}

// One line of /proc/locks (proc_locks(5)): a lock that an open file description holds.
struct HeldRange {
  std::uint64_t device_major, device_minor, inode;
  std::uint64_t first, last;  // bytes; last is UINT64_MAX up to the end of the file

  // Nothing for other kinds of locks (a process's, a lease, a shared one: OwnerAlive), and for who
  // still waits for one:
  //   17: OFDLCK ADVISORY  WRITE -1 00:1b:56680 62 63
  //   17: -> OFDLCK ADVISORY  WRITE -1 00:1b:56680 62 63
  // The process is -1 in every pid namespace: the lock is the description's.
  static std::optional<HeldRange> Of(std::string_view line) noexcept {
    if (Word(line).empty() || Word(line) != "OFDLCK") return std::nullopt;
    Word(line);  // ADVISORY
    if (Word(line) != "WRITE") return std::nullopt;
    Word(line);  // -1
    std::string_view file = Word(line);
    const std::string_view first = Word(line), last = Word(line);
    HeldRange range{};
    const bool whole = Number(Part(file), 16, range.device_major) &&
                       Number(Part(file), 16, range.device_minor) &&
                       Number(file, 10, range.inode) && Number(first, 10, range.first);
    if (!whole) return std::nullopt;
    if (last == "EOF") {
      range.last = UINT64_MAX;
    } else if (!Number(last, 10, range.last)) {
      return std::nullopt;
    }
    return range;
  }

 private:
  static std::string_view Word(std::string_view& line) noexcept {
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    const std::string_view word = line.substr(0, line.find(' '));
    line.remove_prefix(word.size());
    return word;
  }
  static std::string_view Part(std::string_view& file) noexcept {
    const std::string_view part = file.substr(0, file.find(':'));
    file.remove_prefix(std::min(part.size() + 1, file.size()));
    return part;
  }
  static bool Number(std::string_view digits, int base, std::uint64_t& number) noexcept {
    const char* const end = digits.data() + digits.size();
    const auto [at, error] = std::from_chars(digits.data(), end, number, base);
    return error == std::errc() && at == end && !digits.empty();
  }
};

class HeldBytes {
 public:
  // Up to here the single questions cost less than the table, of which a line takes 1 us.
  static constexpr std::uint32_t kAskedSingly = 128;

  explicit HeldBytes(int probe_fd) noexcept : probe_fd_(probe_fd) {}

  // Whether the slot's owner lives, or has since this was made. False is what the kernel says now.
  [[gnu::noinline]] bool Alive(std::uint32_t slot) noexcept {
    return Shows(slot) || OwnerAlive(probe_fd_, slot);
  }

  // True: since this was made somebody held the byte. False says nothing: ask. The table is read
  // when this has been called for more than a few slots.
  bool Shows(std::uint32_t slot) noexcept {
    if (asked_ < kAskedSingly) {
      ++asked_;
      return false;
    }
    if (!held_.has_value()) Read();
    return slot < held_->size() && held_->test(slot);
  }

 private:
  // The kernel hands out the table page by page; what is locked and unlocked in between may make it
  // skip lines, and never show one that was not there.
  // A table that cannot be read, or that names files by other numbers than fstat (layered file
  // systems do), shows nothing. More than this much of other files' locks is not worth the time.
  static constexpr std::size_t kMostBytes = std::size_t{1} << 20;

  void Read() noexcept {
    held_.emplace();
    struct stat info {};
    if (sys::fstat(probe_fd_, &info) != 0) return;
    if (EPOCH_FAULT("liveness.table") != 0) return;
    const Fd table(sys::open("/proc/locks", O_RDONLY | O_CLOEXEC));
    if (!table.ok()) return;
    std::array<char, 8192> buffer;
    std::size_t kept = 0;  // of a line that is not complete yet
    for (std::size_t total = 0; total < kMostBytes;) {
      const ssize_t got = sys::read(table.get(), buffer.data() + kept, buffer.size() - kept);
      if (got <= 0) return;
      total += static_cast<std::size_t>(got);
      std::string_view text(buffer.data(), kept + static_cast<std::size_t>(got));
      for (std::size_t end; (end = text.find('\n')) != text.npos; text.remove_prefix(end + 1)) {
        Add(HeldRange::Of(text.substr(0, end)), info);
      }
      kept = text.size();
      if (kept == buffer.size()) return;  // no such line is known
      std::copy(text.begin(), text.end(), buffer.begin());
    }
  }

  void Add(const std::optional<HeldRange>& range, const struct stat& info) noexcept {
    if (!range.has_value() || range->device_major != major(info.st_dev) ||
        range->device_minor != minor(info.st_dev) || range->inode != info.st_ino) {
      return;
    }
    for (std::uint64_t i = range->first; i <= range->last && i < held_->size(); ++i) held_->set(i);
  }

  const int probe_fd_;
  std::uint32_t asked_ = 0;
  std::optional<std::bitset<kMaxParticipants>> held_;
};

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_MEMORY_LIVENESS_H_
