// Slots: joining, leaving, expelling the dead, and who is behind.
//
// A slot's owner is alive while the byte `slot index` of the region file is locked: the kernel
// drops the lock when the last process with that open file description is gone, at once, in any
// pid namespace. A clock never decides who is dead; a stopped process is alive.
//
// Life of a slot:
//   Free(g) -> Joining(g+1) -> Active(g+1) -> Expelled(g+1) -> Free(g+1)
// Its owner does the last two when it leaves; anybody, when it is dead or expelled.
//
// Thread safety: any number of processes; joins and leaves of one mapping are serialised by its
// mutex. Progress: Reap is lock-free and idempotent: a reaper killed anywhere leaves the rest to
// the next one.
// Invariants:
//  1. The byte is locked before Free -> Joining and unlocked after -> Free. So a slot that is not
//     Free and whose byte is free has a dead owner (D: the state is read before the byte).
//  2. A slot becomes Free only after its pins, guards and drafts are gone.
#ifndef EPOCH_DETAIL_PROTOCOL_SLOTS_H_
#define EPOCH_DETAIL_PROTOCOL_SLOTS_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "epoch/detail/memory/bell.h"
#include "epoch/detail/memory/liveness.h"
#include "epoch/detail/memory/mapping.h"
#include "epoch/detail/platform/own_process.h"
#include "epoch/detail/platform/printable.h"
#include "epoch/detail/protocol/versions.h"

namespace epoch::detail {

struct SlotClaim {
  std::uint32_t slot;
  std::uint64_t generation;
};

inline void WriteName(Slot& slot, std::string_view name) noexcept {
  for (std::size_t word = 0; word < kNameBytes / 8; ++word) {
    std::uint64_t packed = 0;
    for (std::size_t i = 0; i < 8; ++i) {
      const std::size_t at = word * 8 + i;
      if (at < name.size() && at + 1 < kNameBytes) {
        packed |= std::uint64_t{static_cast<unsigned char>(name[at])} << (8 * i);
      }
    }
    slot.name[word].Store(packed, std::memory_order_relaxed);
  }
}

// The name as printable text, whatever bytes are there: '?' for what may not be shown.
inline std::string ReadName(const Slot& slot) {
  std::string name;
  for (std::size_t at = 0; at + 1 < kNameBytes; ++at) {
    const std::uint64_t word = slot.name[at / 8].Load(std::memory_order_relaxed);
    const char c = static_cast<char>(word >> (8 * (at % 8)));
    if (c == '\0') break;
    name += c;
  }
  return Shown(name, '?');
}

inline std::string DescribeSlot(const RegionView& view, std::uint32_t index) {
  const Slot& slot = view.slots[index];
  return absl::StrCat("\"", ReadName(slot), "\" (slot ", index, ", pid ", slot.pid.Load(), ")");
}

inline void ClearOwned(const Slot& slot, std::uint64_t expelled,
                       seam::Atomic<std::uint64_t>& word) noexcept {
  // Exact CAS: a late reaper finds the next owner's generation and stops. The word has only 16 bits
  // of it, so the slot is asked, too.
  const std::uint64_t generation = SlotWord::Unpack(expelled).generation;
  std::uint64_t found = word.Load();
  while (slot.state.Load() == expelled &&
         OwnedWord::Unpack(found).generation == static_cast<std::uint16_t>(generation) &&
         OwnedWord::Unpack(found).number != kNone) {
    if (word.CompareExchange(found, NoneOf(generation))) return;
  }
}

// Takes everything from an expelled slot whose owner will never write again, then frees it.
inline void Dismantle(const RegionView& view, std::uint32_t index,
                      std::uint64_t generation) noexcept {
  Slot& slot = view.slots[index];
  std::uint64_t expelled = SlotWord{SlotState::kExpelled, generation}.Pack();
  EPOCH_POINT("reap.expelled");
  // Guards before drafts: a guard of the dead on its own draft would keep it for ever.
  for (auto* word : OwnedWordsOf(slot)) ClearOwned(slot, expelled, *word);
  if (!FreeDraftsOf(view, index, expelled)) return;
  EPOCH_POINT("reap.before_free_slot");
  slot.state.CompareExchange(expelled, SlotWord{SlotState::kFree, generation}.Pack());
  Ring(*view.control);
}

// Expels the slot's owner if it is dead, and frees what it held. True if there was a dead owner.
inline bool ReapSlot(const Mapping& mapping, std::uint32_t index) noexcept {
  const RegionView& view = mapping.view();
  Slot& slot = view.slots[index];
  std::uint64_t found = slot.state.Load();  // D: before the byte is tested
  const SlotWord state = SlotWord::Unpack(found);
  if (state.state == SlotState::kFree) return false;
  if (OwnerAlive(mapping.probe_fd(), index)) return false;
  EPOCH_POINT("reap.found_dead");
  if (state.state != SlotState::kExpelled &&
      !slot.state.CompareExchange(found, SlotWord{SlotState::kExpelled, state.generation}.Pack())) {
    return false;  // it left in between, or another reaper was faster
  }
  Dismantle(view, index, state.generation);
  return true;
}

inline std::uint32_t ReapAll(const Mapping& mapping) noexcept {
  std::uint32_t reaped = 0;
  const std::uint32_t limit = mapping.view().SlotLimit();
  HeldBytes held(mapping.probe_fd());
  for (std::uint32_t i = 0; i < limit; ++i) {
    // Evidence may be older than the state: whoever joins or dies since is alive, or found later.
    reaped += !held.Shows(i) && ReapSlot(mapping, i) ? 1 : 0;
  }
  return reaped;
}

// Takes the slot away from a living owner. What it holds stays quarantined until it leaves or dies.
inline absl::Status ExpelSlot(const Mapping& mapping, std::uint32_t index) {
  const RegionView& view = mapping.view();
  if (index >= view.geometry.participants) {
    return absl::InvalidArgumentError(
        absl::StrCat("slot ", index, ": the region has ", view.geometry.participants));
  }
  std::uint64_t found = view.slots[index].state.Load();
  const SlotWord state = SlotWord::Unpack(found);
  if (state.state == SlotState::kExpelled) return absl::OkStatus();
  if (state.state != SlotState::kActive) {
    return absl::FailedPreconditionError(absl::StrCat("slot ", index, " has no participant"));
  }
  if (!view.slots[index].state.CompareExchange(
          found, SlotWord{SlotState::kExpelled, state.generation}.Pack())) {
    return absl::FailedPreconditionError(absl::StrCat("slot ", index, " changed hands meanwhile"));
  }
  Ring(*view.control);
  ReapSlot(mapping, index);
  return absl::OkStatus();
}

// Whether a live participant promises to write the journal for others.
inline bool SomebodyFlushes(const Mapping& mapping) noexcept {
  const RegionView& view = mapping.view();
  const std::uint32_t limit = view.SlotLimit();
  for (std::uint32_t i = 0; i < limit; ++i) {
    const Slot& slot = view.slots[i];
    if (SlotWord::Unpack(slot.state.Load()).state == SlotState::kActive &&
        (slot.flags.Load() & kSlotFlushes) != 0 && OwnerAlive(mapping.probe_fd(), i)) {
      return true;
    }
  }
  return false;
}

// Up to `most` holders, for messages about exhaustion.
inline std::string NameHolders(const RegionView& view, std::size_t most = 5) {
  std::string names;
  std::size_t count = 0;
  for (std::uint32_t i = 0; i < view.SlotLimit(); ++i) {
    if (SlotWord::Unpack(view.slots[i].state.Load()).state == SlotState::kFree) continue;
    if (++count <= most) absl::StrAppend(&names, names.empty() ? "" : ", ", DescribeSlot(view, i));
  }
  if (count > most) absl::StrAppend(&names, " and ", count - most, " more");
  return names.empty() ? "nobody" : names;
}

// One try at slot `index`. The caller holds the mapping's join mutex.
inline absl::StatusOr<bool> TryTakeSlot(const Mapping& mapping, std::uint32_t index,
                                        std::string_view name, std::uint32_t flags,
                                        SlotClaim& claim) {
  const RegionView& view = mapping.view();
  Slot& slot = view.slots[index];
  if (SlotWord::Unpack(slot.state.Load()).state != SlotState::kFree) return false;
  const int error = seam::SetByteLock(mapping.lock_fd(), seam::ByteLock::kExclusive, index);
  if (error == EAGAIN) return false;
  if (error != 0) return ErrnoStatus(error, absl::StrCat("cannot lock a slot of ", mapping.path()));
  EPOCH_POINT("join.locked");
  // A scan that starts after this sees the slot; an earlier one has nothing to see in it yet.
  std::uint32_t limit = view.control->slot_limit.Load();
  while (limit < index + 1 && !view.control->slot_limit.CompareExchange(limit, index + 1)) {
  }
  std::uint64_t found = slot.state.Load();  // again: now that nobody else can take it
  const SlotWord state = SlotWord::Unpack(found);
  const std::uint64_t generation = state.generation + 1;
  const std::uint64_t joining = SlotWord{SlotState::kJoining, generation}.Pack();
  if (state.state != SlotState::kFree || !slot.state.CompareExchange(found, joining)) {
    seam::SetByteLock(mapping.lock_fd(), seam::ByteLock::kNone, index);
    return false;
  }
  EPOCH_POINT("join.joining");
  OwnProcess self;
  slot.pid.Store(self.pid(), std::memory_order_relaxed);
  slot.start_time_ticks.Store(self.start_time_ticks(), std::memory_order_relaxed);
  slot.pid_namespace.Store(self.pid_namespace(), std::memory_order_relaxed);
  slot.flags.Store(flags, std::memory_order_relaxed);
  WriteName(slot, name);
  for (auto* word : OwnedWordsOf(slot)) word->Store(NoneOf(generation));
  EPOCH_POINT("join.filled");
  std::uint64_t expected = joining;
  if (!slot.state.CompareExchange(expected, SlotWord{SlotState::kActive, generation}.Pack())) {
    return absl::InternalError(absl::StrCat("slot ", index, " was taken away while joining"));
  }
  EPOCH_POINT("join.active");
  claim = {index, generation};
  return true;
}

inline absl::StatusOr<SlotClaim> TakeSlot(Mapping& mapping, std::string_view name,
                                          std::uint32_t flags) {
  if (absl::Status s = mapping.CheckClock(); !s.ok()) return s;
  const std::lock_guard lock(mapping.join_mutex());
  const std::uint32_t participants = mapping.view().geometry.participants;
  SlotClaim claim{};
  for (int pass = 0; pass < 2; ++pass) {
    for (std::uint32_t i = 0; i < participants; ++i) {
      absl::StatusOr<bool> taken = TryTakeSlot(mapping, i, name, flags, claim);
      if (!taken.ok()) return taken.status();
      if (*taken) return claim;
    }
    ReapAll(mapping);  // look again even if there was none to reap: another may have been faster
  }
  // A free slot is not to be had while anybody holds a shared lock on its byte (concepts.md, 6).
  std::uint32_t withheld = 0;
  for (std::uint32_t i = 0; i < participants; ++i) {
    const SlotWord state = SlotWord::Unpack(mapping.view().slots[i].state.Load());
    withheld += state.state == SlotState::kFree && !OwnerAlive(mapping.probe_fd(), i) ? 1 : 0;
  }
  return absl::ResourceExhaustedError(absl::StrCat(
      "all ", participants, " participant slots of ", mapping.path(), " are taken, by ",
      NameHolders(mapping.view()),
      withheld == 0 ? ""
                    : absl::StrCat(", and ", withheld,
                                   " free ones are locked by a process that only reads the file"),
      "; let one leave, or create the region with more participants"));
}

// Gives the slot back: its owner is this process and writes to it no more. Works for an expelled
// owner, too, whose quarantine ends here.
inline void ReturnSlot(Mapping& mapping, const SlotClaim& claim) noexcept {
  const std::lock_guard lock(mapping.join_mutex());
  const RegionView& view = mapping.view();
  Slot& slot = view.slots[claim.slot];
  std::uint64_t active = SlotWord{SlotState::kActive, claim.generation}.Pack();
  // Through Expelled, so that a death half-way leaves a state that every reaper finishes.
  slot.state.CompareExchange(active, SlotWord{SlotState::kExpelled, claim.generation}.Pack());
  EPOCH_POINT("leave.before_dismantle");
  Dismantle(view, claim.slot, claim.generation);
  EPOCH_POINT("leave.before_unlock");
  seam::SetByteLock(mapping.lock_fd(), seam::ByteLock::kNone, claim.slot);
}

// What a participant is doing, seen from outside.
enum class Condition : std::uint8_t {
  kRunning,  // or what /proc does not tell here: its process is in another pid namespace
  kStopped,  // by SIGSTOP, by a terminal, by a debugger
  kDead,
  kParked,
};

// Whether the slot's owner is stopped; false if this process cannot see it, or if the pid is by
// now another's. `pid_namespace`: this process's.
inline bool OwnerStopped(const Slot& slot, std::uint64_t pid_namespace) {
  if (slot.pid_namespace.Load() != pid_namespace) return false;
  const ProcessStat stat = ReadProcessStat(slot.pid.Load());
  return stat.start_time_ticks != 0 && stat.start_time_ticks == slot.start_time_ticks.Load() &&
         (stat.state == 'T' || stat.state == 't');
}

// Of a slot whose owner was found alive.
inline Condition LivingCondition(const Slot& slot, std::uint64_t pid_namespace) {
  if ((slot.flags.Load() & kSlotParked) != 0) return Condition::kParked;
  return OwnerStopped(slot, pid_namespace) ? Condition::kStopped : Condition::kRunning;
}

struct StragglerStatus {
  std::uint32_t slot;
  std::uint64_t generation;
  std::string name;
  std::uint32_t pid;
  std::optional<Epoch> acknowledged;
  std::optional<Epoch> pinned;
  // kParked: since it was found to be behind. The parked and the dead hold up nobody.
  Condition condition;
};

// Calls `visit(slot index)` for every live, active, unparked participant that has not acknowledged
// `epoch`, expelling the dead it meets, until `visit` returns false.
template <typename Visit>
void ForEachStraggler(const Mapping& mapping, Epoch epoch, Visit&& visit) {
  const RegionView& view = mapping.view();
  const std::uint32_t limit = view.SlotLimit();
  HeldBytes held(mapping.probe_fd());
  for (std::uint32_t i = 0; i < limit; ++i) {
    const Slot& slot = view.slots[i];
    const SlotState state = SlotWord::Unpack(slot.state.Load()).state;
    if (state != SlotState::kActive && state != SlotState::kJoining) continue;
    if ((slot.flags.Load() & kSlotParked) != 0) continue;
    const std::uint64_t acknowledged = OwnedWord::Unpack(slot.ack.Load()).number;
    if (acknowledged != kNone && acknowledged >= epoch) continue;
    if (!held.Alive(i)) {
      if (!mapping.read_only()) ReapSlot(mapping, i);
      continue;
    }
    if (!visit(i)) return;
  }
}

inline std::vector<StragglerStatus> StragglersOf(const Mapping& mapping, Epoch epoch) {
  std::vector<StragglerStatus> stragglers;
  const auto number = [](std::uint64_t word) -> std::optional<Epoch> {
    const std::uint64_t n = OwnedWord::Unpack(word).number;
    return n == kNone ? std::nullopt : std::optional<Epoch>(n);
  };
  const std::uint64_t pid_namespace = PidNamespace();
  ForEachStraggler(mapping, epoch, [&](std::uint32_t i) {
    const Slot& slot = mapping.view().slots[i];
    const PinReading pin = PinReading::Of(slot.pin.Load());
    stragglers.push_back({.slot = i,
                          .generation = SlotWord::Unpack(slot.state.Load()).generation,
                          .name = ReadName(slot),
                          .pid = slot.pid.Load(),
                          .acknowledged = number(slot.ack.Load()),
                          .pinned = pin.held ? std::optional<Epoch>(pin.epoch) : std::nullopt,
                          .condition = LivingCondition(slot, pid_namespace)});
    return true;
  });
  return stragglers;
}

inline std::string NameStragglers(const Mapping& mapping, Epoch epoch) {
  std::string names;
  ForEachStraggler(mapping, epoch, [&](std::uint32_t i) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", DescribeSlot(mapping.view(), i));
    return names.size() < 1000;
  });
  return names.empty() ? "nobody" : names;
}

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_PROTOCOL_SLOTS_H_
