// Words and Details for people and programs: who holds, refuses, or is waited for.
#ifndef EPOCH_DETAIL_PARTICIPANT_EXPLAIN_H_
#define EPOCH_DETAIL_PARTICIPANT_EXPLAIN_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "epoch/detail/protocol/slots.h"
#include "epoch/details.h"

namespace epoch::detail {

// Who has that slot now, and what it pins. Words that change meanwhile are of several owners at
// worst: this is for people.
inline Culprit CulpritAt(const RegionView& view, std::uint32_t index, std::string reason = {}) {
  const Slot& slot = view.slots[index];
  const PinReading pin = PinReading::Of(slot.pin.Load());
  return {.slot = index,
          .generation = SlotWord::Unpack(slot.state.Load()).generation,
          .pid = slot.pid.Load(),
          .name = ReadName(slot),
          .reason = std::move(reason),
          .epoch = pin.held ? std::optional<Epoch>(pin.epoch) : std::nullopt};
}
// None if it is no slot: nobody in particular.
inline std::vector<Culprit> CulpritsAt(const RegionView& view, std::uint32_t index,
                                       std::string reason = {}) {
  if (index >= view.geometry.participants) return {};
  return {CulpritAt(view, index, std::move(reason))};
}
// Those who have a slot; those whom `epoch` waits for.
inline std::vector<Culprit> HoldersOf(const RegionView& view) {
  std::vector<Culprit> holders;
  for (std::uint32_t i = 0; i < view.SlotLimit() && holders.size() < kMostCulprits; ++i) {
    if (SlotWord::Unpack(view.slots[i].state.Load()).state == SlotState::kFree) continue;
    holders.push_back(CulpritAt(view, i));
  }
  return holders;
}
inline std::vector<Culprit> StragglersAsCulprits(const Mapping& mapping, Epoch epoch) {
  std::vector<Culprit> stragglers;
  ForEachStraggler(mapping, epoch, [&](std::uint32_t i) {
    Culprit culprit = CulpritAt(mapping.view(), i);
    const std::uint64_t acknowledged = OwnedWord::Unpack(mapping.view().slots[i].ack.Load()).number;
    if (acknowledged != kNone) culprit.epoch = acknowledged;
    stragglers.push_back(std::move(culprit));
    return stragglers.size() < kMostCulprits;
  });
  return stragglers;
}

inline absl::Status Damaged(const Mapping& mapping, const std::string& what) {
  return Because(Cause::kDamaged, absl::DataLossError(absl::StrCat(mapping.path(), ": ", what)));
}
inline absl::Status Refuse(Cause cause, const std::string& why) {
  return Because(cause, absl::FailedPreconditionError(why));
}
// A fence, asked for by this participant or by another, and the pin that this one holds.
inline absl::Status WaitsForItself(const char* outcome = "") {
  return Refuse(
      Cause::kPinHeld,
      absl::StrCat("a fence waits for the pin that this participant holds: release it first",
                   outcome));
}
inline absl::Status MovedFrom(const char* what) {
  return Refuse(Cause::kLeft,
                absl::StrCat("this ", what, " was moved from: use the one that it was moved to"));
}
inline absl::Status WasInterrupted(const std::string& what) {
  return Because(Cause::kInterrupted, absl::CancelledError(absl::StrCat("interrupted: ", what)));
}

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_PARTICIPANT_EXPLAIN_H_
