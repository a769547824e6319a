#include "tests/sim/names.h"

#include <cstddef>

#include "absl/strings/str_cat.h"
#include "epoch/detail/memory/journal_port.h"

namespace epoch::sim::naming {
namespace {

using detail::Control;
using detail::Slot;
using detail::VersionCell;

std::string Number(std::uint64_t n) { return n == detail::kNone ? "none" : absl::StrCat(n); }

std::string State(std::uint64_t value) {
  static constexpr const char* kPhases[] = {"?",      "Accepted", "Voting", "Open",
                                            "Closed", "Poisoned", "?",      "?"};
  const auto w = detail::StateWord::Unpack(value);
  return absl::StrCat(kPhases[static_cast<int>(w.phase)], " v", w.version, " e", w.epoch);
}

std::string Owner(std::uint64_t value) {
  static constexpr const char* kStates[] = {"?",       "Free", "Drafted", "Published",
                                            "Retired", "?",    "?",       "?"};
  const auto w = detail::OwnerWord::Unpack(value);
  return absl::StrCat(kStates[static_cast<int>(w.state)], " slot ", w.slot, " use ", w.use);
}

std::string SlotState(std::uint64_t value) {
  static constexpr const char* kStates[] = {"?",        "Free", "Joining", "Active",
                                            "Expelled", "?",    "?",       "?"};
  const auto w = detail::SlotWord::Unpack(value);
  return absl::StrCat(kStates[static_cast<int>(w.state)], " g", w.generation);
}

std::string Owned(std::uint64_t value) {
  const auto w = detail::OwnedWord::Unpack(value);
  if (w.number != detail::kNone && (w.number & detail::kPinsAllFrom) != 0) {
    return absl::StrCat("all from ", w.number & ~detail::kPinsAllFrom, " g", w.generation);
  }
  return absl::StrCat(Number(w.number), " g", w.generation);
}

std::string Outcome(std::uint64_t value) {
  static constexpr const char* kDecisions[] = {"none", "Undecided", "Committed", "Aborted"};
  const auto w = detail::OutcomeWord::Unpack(value);
  return absl::StrCat(kDecisions[static_cast<int>(w.decision)], w.forced ? " forced" : "",
                      " ballot ", w.ballot, " cause ", static_cast<int>(w.cause), " slot ",
                      w.culprit);
}

std::string Vote(std::uint64_t value) {
  static constexpr const char* kVerdicts[] = {"Unsaid", "Accept", "Reject", "?"};
  const auto w = detail::VoteWord::Unpack(value);
  return absl::StrCat(kVerdicts[static_cast<int>(w.verdict) & 3], " ballot ", w.ballot, " g",
                      w.generation);
}

std::string Gather(std::uint64_t value) {
  const auto w = detail::GatherWord::Unpack(value);
  return absl::StrCat("round ", w.round, ", the last: cause ", static_cast<int>(w.cause), " slot ",
                      w.culprit);
}

std::string Batch(std::size_t offset, std::uint64_t value) {
  const std::size_t index = offset / sizeof(detail::BatchWords);
  static constexpr const char* kStates[] = {"?", "Frozen", "Written", "Failed"};
  switch (offset % sizeof(detail::BatchWords)) {
    case 0: {
      const auto w = detail::BatchW::Unpack(value);
      return absl::StrCat("ring[", index, "].w = ", kStates[static_cast<int>(w.state)], " v",
                          w.version, " to e", w.last);
    }
    case 8:
      return absl::StrCat("ring[", index, "].e = segment ", value >> 40, " block ",
                          value & ((std::uint64_t{1} << 40) - 1));
    default:
      return absl::StrCat("ring[", index, "].h = tag ", value >> detail::kNumberBits, " hint e",
                          value & detail::kNumberMask);
  }
}

struct Field {
  std::size_t offset;
  const char* name;
  std::string (*value)(std::uint64_t);
};

std::string Plain(std::uint64_t value) { return absl::StrCat(value); }

template <std::size_t N>
std::string Find(const Field (&fields)[N], std::size_t offset, std::uint64_t value) {
  for (const Field& f : fields) {
    if (f.offset == offset) return absl::StrCat(f.name, " = ", f.value(value));
  }
  return absl::StrCat("+", offset, " = ", value);
}

}  // namespace

std::string NameOfWord(const detail::RegionView& view, const void* at, std::uint64_t value) {
  static constexpr Field kControl[] = {
      {offsetof(Control, head), "head", State},
      {offsetof(Control, tail), "tail", State},
      {offsetof(Control, bell), "bell", Plain},
      {offsetof(Control, slot_limit), "slot_limit", Plain},
      {offsetof(Control, ballot), "ballot", Plain},
      {offsetof(Control, gather), "gather", Gather},
      {offsetof(Control, preparer), "preparer", Plain},
      {offsetof(Control, flush_latency_ns), "flush_latency", Plain},
      {offsetof(Control, journal_stall_errno), "stall_errno", Plain},
      {offsetof(Control, named_segment), "named_segment", Plain}};
  static constexpr Field kSlot[] = {
      {offsetof(Slot, state), "state", SlotState}, {offsetof(Slot, flags), "flags", Plain},
      {offsetof(Slot, pin), "pin", Owned},         {offsetof(Slot, ack), "ack", Owned},
      {offsetof(Slot, own), "own", Owned},         {offsetof(Slot, help), "help", Owned},
      {offsetof(Slot, look), "look", Owned},       {offsetof(Slot, listen), "listen", Owned},
      {offsetof(Slot, offer), "offer", Owned},     {offsetof(Slot, tag), "tag", Plain},
      {offsetof(Slot, vote), "vote", Vote},        {offsetof(Slot, vote_digest), "digest", Plain}};
  static constexpr Field kCell[] = {{offsetof(VersionCell, owner), "owner", Owner},
                                    {offsetof(VersionCell, outcome), "outcome", Outcome},
                                    {offsetof(VersionCell, epoch), "epoch", Plain},
                                    {offsetof(VersionCell, length_bytes), "length", Plain},
                                    {offsetof(VersionCell, digest), "digest", Plain},
                                    {offsetof(VersionCell, chain), "chain", Plain},
                                    {offsetof(VersionCell, token), "token", Plain},
                                    {offsetof(VersionCell, shape), "shape", Plain},
                                    {offsetof(VersionCell, ballot), "ballot", Plain},
                                    {offsetof(VersionCell, proposer), "proposer", Plain},
                                    {offsetof(VersionCell, deadline_ns), "deadline", Plain},
                                    {offsetof(VersionCell, round), "round", Plain}};
  const auto* p = static_cast<const std::byte*>(at);
  const auto inside = [&](const void* base, std::size_t size) {
    return p >= static_cast<const std::byte*>(base) &&
           p < static_cast<const std::byte*>(base) + size;
  };
  const auto offset = [&](const void* base) {
    return static_cast<std::size_t>(p - static_cast<const std::byte*>(base));
  };
  if (inside(view.control->ring, sizeof view.control->ring)) {
    return Batch(offset(view.control->ring), value);
  }
  if (inside(view.control, sizeof(Control))) return Find(kControl, offset(view.control), value);
  if (inside(view.slots, view.geometry.participants * sizeof(Slot))) {
    const std::size_t o = offset(view.slots);
    return absl::StrCat("slot[", o / sizeof(Slot), "].", Find(kSlot, o % sizeof(Slot), value));
  }
  if (inside(view.cells, view.geometry.versions * sizeof(VersionCell))) {
    const std::size_t o = offset(view.cells);
    return absl::StrCat("cell[", o / sizeof(VersionCell), "].",
                        Find(kCell, o % sizeof(VersionCell), value));
  }
  return "";
}

bool SaysHowFar(const detail::RegionView& view, const void* at) {
  const detail::Control& control = *view.control;
  if (at == &control.head || at == &control.tail || at == &control.named_segment) return true;
  const auto* p = static_cast<const std::byte*>(at);
  const auto offset = [p](const void* base, std::size_t bytes) {
    const std::ptrdiff_t from = p - static_cast<const std::byte*>(base);
    return from >= 0 && from < static_cast<std::ptrdiff_t>(bytes) ? from : -1;
  };
  if (const auto in = offset(control.ring, sizeof control.ring); in >= 0) {
    return static_cast<std::size_t>(in) % sizeof(detail::BatchWords) ==
           offsetof(detail::BatchWords, w);
  }
  const auto in = offset(view.slots, view.geometry.participants * sizeof(Slot));
  return in >= 0 && static_cast<std::size_t>(in) % sizeof(Slot) == offsetof(Slot, state);
}

}  // namespace epoch::sim::naming
