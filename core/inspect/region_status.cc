#include "core/inspect/region_status.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "epoch/detail/slots.h"

namespace epoch::inspect {
namespace {

using detail::CellState;
using detail::OwnedWord;
using detail::OwnerWord;
using detail::Phase;
using detail::RegionView;
using detail::SlotState;
using detail::SlotWord;
using detail::StateWord;

constexpr auto kRelaxed = std::memory_order_relaxed;

std::optional<Epoch> EpochOf(std::uint64_t word) {
  const std::uint64_t number = OwnedWord::Unpack(word).number;
  return number == detail::kNone ? std::nullopt : std::optional<Epoch>(number);
}

// Only for a process that this one can see and that is certainly the slot's owner.
bool IsStopped(const detail::Slot& slot) {
  const std::uint32_t pid = slot.pid.Load();
  const std::uint64_t started = slot.start_time_ticks.Load();
  if (slot.pid_namespace.Load() != detail::PidNamespace() || started == 0 ||
      detail::StartTimeTicks(pid) != started) {
    return false;
  }
  const std::string stat = detail::ReadSmallFile(absl::StrCat("/proc/", pid, "/stat").c_str());
  const std::size_t at = stat.rfind(") ");
  return at != std::string::npos && at + 2 < stat.size() &&
         (stat[at + 2] == 'T' || stat[at + 2] == 't');
}

ParticipantStatus InspectSlot(const detail::Mapping& mapping, std::uint32_t index, SlotWord word,
                              Epoch head) {
  const detail::Slot& slot = mapping.view().slots[index];
  const std::uint32_t flags = slot.flags.Load();
  ParticipantStatus p;
  p.slot = index;
  p.generation = word.generation;
  p.state = word.state;
  p.name = detail::ReadName(slot);
  p.pid = slot.pid.Load();
  p.alive = detail::OwnerAlive(mapping.probe_fd(), index);
  p.stopped = p.alive && IsStopped(slot);
  p.voter = (flags & detail::kSlotVoter) != 0;
  p.parked = (flags & detail::kSlotParked) != 0;
  p.flushes = (flags & detail::kSlotFlushes) != 0;
  p.ack_epoch = EpochOf(slot.ack.Load());
  const auto pin = detail::PinReading::Of(slot.pin.Load());
  if (pin.held) p.pin_epoch = pin.epoch;
  // Head was read earlier: an acknowledgment may be ahead of it by now.
  if (p.ack_epoch.has_value() && *p.ack_epoch < head) p.lag = head - *p.ack_epoch;
  p.straggler = p.alive && !p.parked && word.state != SlotState::kExpelled &&
                (!p.ack_epoch.has_value() || p.lag != 0);
  return p;
}

VersionCounts CountVersions(const RegionView& view, Epoch head,
                            const std::vector<ParticipantStatus>& participants) {
  std::set<Epoch> by_active, by_expelled_pin;
  for (const ParticipantStatus& p : participants) {
    if (!p.pin_epoch.has_value()) continue;
    (p.state == SlotState::kExpelled ? by_expelled_pin : by_active).insert(*p.pin_epoch);
  }
  VersionCounts counts;
  counts.total = view.geometry.versions;
  for (std::uint32_t i = 0; i < view.geometry.versions; ++i) {
    const OwnerWord owner = OwnerWord::Unpack(view.cells[i].owner.Load());
    const Epoch epoch = view.cells[i].epoch.Load(kRelaxed);
    const bool by_expelled =
        owner.slot < view.geometry.participants &&
        SlotWord::Unpack(view.slots[owner.slot].state.Load()).state == SlotState::kExpelled;
    switch (owner.state) {
      case CellState::kFree:
        ++counts.free;
        break;
      case CellState::kDrafted:
      case CellState::kRetired:
        ++(by_expelled ? counts.quarantined : counts.drafted);
        break;
      case CellState::kPublished:
        if (epoch > head) {
          ++counts.accepted;
        } else if (by_active.count(epoch) != 0) {
          ++counts.pinned;
        } else if (epoch == head) {
          ++counts.current;
        } else {
          ++(by_expelled_pin.count(epoch) != 0 ? counts.quarantined : counts.superseded);
        }
        break;
      default:
        ++counts.damaged;
    }
  }
  return counts;
}

}  // namespace

RegionStatus InspectRegion(const detail::Mapping& mapping) {
  const RegionView& view = mapping.view();
  const detail::Superblock& superblock = mapping.superblock();
  RegionStatus status;
  status.path = mapping.path();
  status.incarnation = detail::HexOf(superblock.incarnation);
  status.layout_major = superblock.layout_major;
  status.layout_minor = superblock.layout_minor;
  status.created_unix_ns = superblock.created_unix_ns;
  status.geometry = view.geometry;
  status.durable = view.durable;
  if (view.durable) {
    status.history = superblock.history;
    status.journal = superblock.journal_path.data();  // terminated: checked when it was opened
  }

  // Head's cell may be recycled while it is read; a few rounds find head at rest, or nearly so.
  for (int round = 0; round < 16; ++round) {
    const std::uint64_t word = view.control->head.Load();
    const StateWord head = StateWord::Unpack(word);
    status.epoch = head.epoch;
    status.phase = head.phase;
    const std::uint32_t index = detail::CommittedCell(view, head);
    if (!view.ValidCell(index)) break;
    const detail::VersionCell& cell = view.cells[index];
    status.length_bytes = cell.length_bytes.Load();
    status.digest = cell.digest.Load();
    status.token = cell.token.Load();
    status.forced = detail::OutcomeWord::Unpack(cell.outcome.Load()).forced;
    if (view.control->head.Load() == word) break;
  }
  const StateWord tail = StateWord::Unpack(view.control->tail.Load());
  status.tail_epoch = tail.epoch;
  status.tail_phase = tail.phase;

  const std::uint32_t limit = view.SlotLimit();
  for (std::uint32_t i = 0; i < limit; ++i) {
    const SlotWord word = SlotWord::Unpack(view.slots[i].state.Load());
    if (word.state == SlotState::kFree) continue;
    status.participants.push_back(InspectSlot(mapping, i, word, status.epoch));
  }
  status.versions = CountVersions(view, status.epoch, status.participants);
  return status;
}

std::string_view NameOf(Phase phase) {
  switch (phase) {
    case Phase::kAccepted:
      return "accepted";
    case Phase::kVoting:
      return "voting";
    case Phase::kOpen:
      return "open";
    case Phase::kClosed:
      return "closed";
    case Phase::kPoisoned:
      return "poisoned";
  }
  return "damaged";
}

std::string_view NameOf(SlotState state) {
  switch (state) {
    case SlotState::kFree:
      return "free";
    case SlotState::kJoining:
      return "joining";
    case SlotState::kActive:
      return "active";
    case SlotState::kExpelled:
      return "expelled";
  }
  return "damaged";
}

std::string_view NameOf(detail::History history) {
  return history == detail::History::kLatest ? "latest" : "all";
}

}  // namespace epoch::inspect
