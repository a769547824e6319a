// The few types and numbers that everything else is about. Includes nothing of Epoch.
#ifndef EPOCH_TYPES_H_
#define EPOCH_TYPES_H_

#include <cstddef>
#include <cstdint>

#include "epoch/detail/platform/needs.h"

namespace epoch {

// Number of a committed state. Each epoch directly succeeds the one before it; 47 bits are used.
using Epoch = std::uint64_t;
inline constexpr Epoch kMaxEpoch = (Epoch{1} << 47) - 1;

// What a durable region's journal keeps: every state, or the last one of each batch.
enum class History : std::uint32_t { kAll = 1, kLatest = 2 };

// Of one participant to one collective commit.
inline constexpr std::size_t kMaxContributionBytes = 256;

// Longest reason of a voter that reaches the proposer, bytes; what is longer is cut.
inline constexpr std::size_t kMaxReasonBytes = 127;

namespace detail {

// Whether this program works with files that belong to neither its effective user nor root, where
// no option says otherwise. For a program that asks its user once, as epochctl does: to be set
// before the first region is opened, and before there are threads.
inline bool trust_other_owners = false;

}  // namespace detail
}  // namespace epoch

#endif  // EPOCH_TYPES_H_
