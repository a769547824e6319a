// States that carry their own checksum, so that a torn or mixed one is noticed by whoever reads it.
//
//   | value | filler derived from value ... | XXH64 of all before |
#ifndef EPOCH_TESTS_SUPPORT_CHECKED_STATE_H_
#define EPOCH_TESTS_SUPPORT_CHECKED_STATE_H_

#include <sched.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "epoch/epoch.h"

namespace epoch::test {

inline constexpr std::size_t kCheckedStateBytes = 200;

inline void WriteChecked(std::span<std::byte> bytes, std::uint64_t value) {
  std::memcpy(bytes.data(), &value, 8);
  for (std::size_t i = 8; i + 8 < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>((value * 31 + i) & 0xff);
  }
  const std::uint64_t sum = detail::Xxh64::Of(bytes.data(), bytes.size() - 8, 77);
  std::memcpy(bytes.data() + bytes.size() - 8, &sum, 8);
}

inline std::vector<std::byte> CheckedState(std::uint64_t value,
                                           std::size_t size = kCheckedStateBytes) {
  std::vector<std::byte> bytes(size);
  WriteChecked(bytes, value);
  return bytes;
}

// The value; empty if the state is torn. The state that a region starts with counts as value 0.
inline std::optional<std::uint64_t> ReadChecked(std::span<const std::byte> bytes) {
  if (bytes.empty()) return 0;
  if (bytes.size() < 16) return std::nullopt;
  std::uint64_t sum = 0, value = 0;
  std::memcpy(&sum, bytes.data() + bytes.size() - 8, 8);
  if (sum != detail::Xxh64::Of(bytes.data(), bytes.size() - 8, 77)) return std::nullopt;
  std::memcpy(&value, bytes.data(), 8);
  return value;
}

// Update by one. Every commit of a history made of these, and of nothing else, has value == epoch:
// a lost, doubled or reordered one breaks that. Not retried.
inline absl::StatusOr<Epoch> Increment(Participant& self, const CommitOptions& options = {}) {
  return self.Update(
      [](const Current& current, Draft& next) {
        const auto value = ReadChecked(current.state);
        if (!value.has_value()) return absl::DataLossError("torn state");
        if (*value != current.epoch) return absl::DataLossError("value and epoch differ");
        if (absl::Status s = next.Resize(kCheckedStateBytes); !s.ok()) return s;
        WriteChecked(next.bytes(), *value + 1);
        return absl::OkStatus();
      },
      options);
}

// The same, as often as it takes: whoever is preempted with a pin held may exhaust a small region
// for the time being.
inline absl::StatusOr<Epoch> IncrementPatiently(Participant& self) {
  for (;;) {
    absl::StatusOr<Epoch> epoch = Increment(self);
    if (!absl::IsResourceExhausted(epoch.status())) return epoch;
    sched_yield();
  }
}

// The same without a pin: takes the epoch that it saw as expected, and may be Aborted.
inline absl::StatusOr<Epoch> IncrementUnpinned(Participant& self, const Region& region) {
  const Epoch seen = region.epoch();
  return self.Commit(CheckedState(seen + 1), {.expected = seen});
}

}  // namespace epoch::test

#endif  // EPOCH_TESTS_SUPPORT_CHECKED_STATE_H_
