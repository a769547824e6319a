// Reading what a collective commit has put together (Participant::CommitCollective).
#ifndef EPOCH_COLLECTIVE_H_
#define EPOCH_COLLECTIVE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "epoch/detail/protocol/collective.h"

namespace epoch {

struct Contribution {
  std::uint32_t slot;  // of the participant that gave it
  std::span<const std::byte> bytes;
};

// The contributions in a state, in slot order; they point into it. DataLoss if it is not the state
// of a collective commit.
inline absl::StatusOr<std::vector<Contribution>> ContributionsOf(std::span<const std::byte> state) {
  std::vector<Contribution> contributions;
  const bool whole = detail::ForEachContribution(
      state, [&](const detail::GatheredPart& part, std::span<const std::byte> bytes) {
        contributions.push_back({part.slot, bytes});
        return true;
      });
  if (!whole) return absl::DataLossError("this is not the state of a collective commit");
  return contributions;
}

}  // namespace epoch

#endif  // EPOCH_COLLECTIVE_H_
