#include "tests/sim/guards.h"

#include "absl/strings/str_cat.h"

namespace epoch::sim {

using detail::CellState;
using detail::OwnedWord;
using detail::OwnerWord;
using detail::Phase;
using detail::Slot;
using detail::SlotState;
using detail::SlotWord;
using detail::StateWord;

namespace {

template <typename T>
std::optional<std::uint32_t> IndexIn(const void* at, const T* first, std::uint32_t count) {
  if (at < first || at >= first + count) return std::nullopt;
  return static_cast<std::uint32_t>(
      static_cast<std::size_t>(static_cast<const std::byte*>(at) -
                               reinterpret_cast<const std::byte*>(first)) /
      sizeof(T));
}

}  // namespace

void Guards::Stored(const void* at, std::uint64_t value) {
  if (at == &view_.control->tail) {
    if (StateWord::Unpack(value).phase == Phase::kVoting) Confirm(value);
    return;
  }
  if (const auto i = IndexIn(at, view_.cells, view_.geometry.versions); i.has_value()) {
    if (at == &view_.cells[*i].owner && OwnerWord::Unpack(value).state == CellState::kFree) {
      Freed(*i);
    }
    return;
  }
  const auto i = IndexIn(at, view_.slots, view_.geometry.participants);
  if (!i.has_value()) return;
  const Slot& slot = view_.slots[*i];
  if (at != &slot.own && at != &slot.help && at != &slot.look && at != &slot.listen) return;
  const std::uint64_t cell = OwnedWord::Unpack(value).number;
  if (const auto before = held_.find(at); before != held_.end() && before->second.confirmed &&
                                          before->second.process == engine_.process() &&
                                          before->second.thread != engine_.current()) {
    engine_.Violation(absl::StrCat("G3: slot ", *i, " takes away the guard of another thread"));
  }
  held_.erase(at);
  if (cell >= view_.geometry.versions) return;
  held_[at] = {static_cast<std::uint32_t>(cell), engine_.current(), engine_.process(), false};
}

void Guards::Loaded(const void* at, std::uint64_t value) {
  if (at == &view_.control->tail || at == &view_.control->head) Confirm(value);
}

void Guards::Confirm(std::uint64_t state_word) {
  for (auto& [word, held] : held_) {
    if (held.thread != engine_.current() || held.cell != StateWord::Unpack(state_word).version) {
      continue;
    }
    held.confirmed = true;
  }
}

void Guards::Freed(std::uint32_t cell) {
  for (const auto& [word, held] : held_) {
    if (!held.confirmed || held.cell != cell || engine_.dead(held.process)) continue;
    engine_.Violation(
        absl::StrCat("G3: cell ", cell, " is recycled while process ", held.process, " guards it"));
  }
  for (const auto* word : {&view_.control->tail, &view_.control->head}) {
    if (StateWord::Unpack(word->Peek()).version != cell) continue;
    engine_.Violation(absl::StrCat("G3: cell ", cell, " is recycled while ",
                                   word == &view_.control->tail ? "tail" : "head", " names it"));
  }
}

void Scans::Loaded(const void* at, std::uint64_t value) {
  auto& found = found_[static_cast<std::size_t>(engine_.current())];
  if (const auto i = IndexIn(at, view_.slots, view_.geometry.participants); i.has_value()) {
    const Slot& slot = view_.slots[*i];
    if (at == &slot.state) found[*i] = {value};
    if (at == &slot.vote) found[*i].voted = true;
    if (at == &slot.flags && found[*i].voted) found[*i].flags = value;
    return;
  }
  const auto i = IndexIn(at, view_.cells, view_.geometry.versions);
  if (i.has_value() && at == &view_.cells[*i].outcome) found.clear();
}

void Scans::ForEachFoundIn(
    const std::function<void(std::uint32_t slot, std::uint64_t generation)>& visit) const {
  for (const auto& [slot, found] : found_[static_cast<std::size_t>(engine_.current())]) {
    const SlotWord state = SlotWord::Unpack(found.state);
    if (state.state != SlotState::kActive || !found.flags.has_value()) continue;
    if ((*found.flags & (detail::kSlotVoter | detail::kSlotParked)) != detail::kSlotVoter) continue;
    visit(slot, state.generation);
  }
}

}  // namespace epoch::sim
