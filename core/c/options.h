// Structs that cross the border: read as far as both sides know them, and checked.
//
// struct_size says which version of the struct the caller was compiled with. One from before later
// members were added has zeros there, which mean the default. One of a later version may say zeros
// there; anything else is what this library does not know, and is refused.
#ifndef EPOCH_CORE_C_OPTIONS_H_
#define EPOCH_CORE_C_OPTIONS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/c/error.h"
#include "epoch/c.h"
#include "epoch/checkpoint.h"
#include "epoch/options.h"

namespace epoch::c {

// Of no struct here, nor of one to come: somebody forgot struct_size.
inline constexpr std::size_t kMostStructBytes = 4096;

// How many bytes the first version of each struct had. When one grows, its old size stays here.
template <typename T>
inline constexpr std::size_t kLeastBytes = sizeof(T);

// NULL: all defaults.
template <typename T>
absl::StatusOr<T> ReadOptions(const T* given) {
  T options{};
  if (given == nullptr) return options;
  const std::size_t size = given->struct_size;
  if (size < kLeastBytes<T> || size > kMostStructBytes) {
    return Refused("struct_size of the options is " + std::to_string(size) +
                   ", not sizeof the struct");
  }
  const auto* const bytes = reinterpret_cast<const unsigned char*>(given);
  for (std::size_t i = sizeof(T); i < size; ++i) {
    if (bytes[i] != 0) {
      return Refused("the program asks for an option that this library, of version " EPOCH_VERSION
                     ", does not know");
    }
  }
  std::memcpy(&options, given, std::min(size, sizeof(T)));
  // What is kept for later is 0, so that a later library may tell who asks for something there.
  if constexpr (requires { options.reserved; }) {
    if (options.reserved != 0) {
      return Refused("`reserved` of the options is " + std::to_string(options.reserved) +
                     ", not 0");
    }
  }
  return options;
}

// What does not fit into the caller's struct it does not know of; what this library does not know
// is zero.
template <typename T>
absl::Status WriteInfo(T* to, const T& info) {
  if (to == nullptr) return Refused("the struct for the result is NULL");
  const std::size_t size = to->struct_size;
  if (size < kLeastBytes<T> || size > kMostStructBytes) {
    return Refused("struct_size of the result is " + std::to_string(size) +
                   ", not sizeof the struct");
  }
  T whole = info;
  whole.struct_size = size;
  std::memcpy(to, &whole, std::min(size, sizeof(T)));
  if (size > sizeof(T)) std::memset(reinterpret_cast<char*>(to) + sizeof(T), 0, size - sizeof(T));
  return absl::OkStatus();
}

absl::StatusOr<absl::Duration> DurationOf(std::int64_t nanos, absl::Duration by_default);
absl::StatusOr<bool> FlagOf(std::uint32_t flag, const char* name);
Interrupted InterruptedBy(epoch_interrupted interrupted, void* user);
absl::StatusOr<std::span<const std::byte>> BytesOf(const void* data, std::size_t size);

absl::StatusOr<WaitOptions> WaitOf(const epoch_wait_options* given,
                                   absl::Duration by_default = absl::InfiniteDuration());
absl::StatusOr<RegionOptions> RegionOptionsOf(const epoch_region_options* given);
absl::StatusOr<JoinOptions> JoinOptionsOf(const epoch_join_options* given);
absl::StatusOr<CommitOptions> CommitOptionsOf(const epoch_commit_options* given);
absl::StatusOr<CollectiveOptions> CollectiveOptionsOf(const epoch_collective_options* given);
absl::StatusOr<CheckpointOptions> CheckpointOptionsOf(const epoch_rank_options* given);
absl::StatusOr<PruneOptions> PruneOptionsOf(const epoch_prune_options* given);

// Leaves the function with the error, or goes on with the value.
#define EPOCH_C_TRY(name, expression) \
  auto name = (expression);           \
  if (!name.ok()) return name.status()

}  // namespace epoch::c

#endif  // EPOCH_CORE_C_OPTIONS_H_
