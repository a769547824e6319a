#include "core/inspect/region_status.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "epoch/detail/platform/deadline.h"
#include "epoch/detail/protocol/versions.h"

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

ParticipantStatus InspectSlot(const detail::Mapping& mapping, std::uint32_t index, SlotWord word,
                              Epoch head, std::uint64_t pid_namespace, detail::HeldBytes& held) {
  const detail::Slot& slot = mapping.view().slots[index];
  const std::uint32_t flags = slot.flags.Load();
  ParticipantStatus p;
  p.slot = index;
  p.generation = word.generation;
  p.state = word.state;
  p.name = detail::ReadName(slot);
  p.pid = slot.pid.Load();
  p.alive = held.Alive(index);
  p.voter = (flags & detail::kSlotVoter) != 0;
  p.parked = (flags & detail::kSlotParked) != 0;
  p.condition = p.alive ? detail::LivingCondition(slot, pid_namespace) : detail::Condition::kDead;
  p.stopped = p.condition == detail::Condition::kStopped ||
              (p.alive && p.parked && detail::OwnerStopped(slot, pid_namespace));
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
  std::optional<detail::GuardSet> guards;  // read if there is a cell that hangs on them
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
        ++(by_expelled ? counts.quarantined : counts.drafted);
        break;
      case CellState::kRetired:
        // A refused proposal is nobody's any more, whatever became of its proposer: whoever needs a
        // cell takes it, unless somebody is still looking at it.
        if (!guards.has_value()) guards.emplace(view);
        ++(guards->Has(i) ? counts.guarded : counts.superseded);
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

// Whether the vote waits for `p`: what Driver (driver.h) would find, asked without a guard.
bool Awaited(const RegionView& view, const VoteStatus& vote, const ParticipantStatus& p) {
  // The dead are reaped by whoever counts the votes.
  if (!p.alive || p.state != SlotState::kActive) return false;
  if (vote.draining && p.pin_epoch.has_value()) return true;
  if (!vote.voters || !p.voter || p.parked || p.slot == vote.proposer) return false;
  const auto said = detail::VoteWord::Unpack(view.slots[p.slot].vote.Load());
  return said.verdict == detail::Verdict::kUnsaid ||
         said.ballot != (vote.ballot & detail::kBallotMask) ||
         said.generation != static_cast<std::uint16_t>(p.generation);
}

// What tail, being `word`, has up for decision. Empty: it is decided, or another already.
// `shift_ns`: this process's clock to the region's.
std::optional<VoteStatus> InspectVote(const RegionView& view, std::uint64_t word,
                                      std::int64_t shift_ns) {
  const StateWord tail = StateWord::Unpack(word);
  if (tail.phase != Phase::kVoting || !view.ValidCell(tail.version)) return std::nullopt;
  const detail::VersionCell& cell = view.cells[tail.version];
  const auto outcome = detail::OutcomeWord::Unpack(cell.outcome.Load());
  const std::uint64_t shape = cell.shape.Load();
  const auto deadline = detail::Deadline::OfWord(cell.deadline_ns.Load());
  VoteStatus vote;
  vote.epoch = tail.epoch;
  vote.ballot = cell.ballot.Load();
  vote.token = cell.token.Load();
  vote.proposer = detail::ProposerWord::Unpack(cell.proposer.Load()).slot;
  vote.voters = detail::VotersOf(shape);
  vote.fence = detail::FenceOf(shape);
  vote.expel = detail::ExpelOf(shape);
  vote.collective = cell.round.Load() != 0;
  vote.forced = outcome.forced;
  const StateWord head = StateWord::Unpack(view.control->head.Load());
  vote.draining = head.phase == Phase::kClosed && head.version == tail.version;
  if (!deadline.never()) {
    std::int64_t left_ns = 0;  // the shift is a word of the file, and may be anything
    if (!__builtin_sub_overflow(deadline.Left_ns(), shift_ns, &left_ns)) {
      vote.left_ns = std::max<std::int64_t>(0, left_ns);
    }
  }
  const bool undecided = outcome.decision == detail::Decision::kUndecided &&
                         outcome.ballot == (vote.ballot & detail::kBallotMask);
  // A proposal's cell is not recycled while tail names it.
  if (!undecided || view.control->tail.Load() != word) return std::nullopt;
  return vote;
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
    status.retain_segments = superblock.retain_segments;
    status.retain_epochs = superblock.retain_epochs;
    status.journal = mapping.journal_directory();
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
  const std::uint64_t tail_word = view.control->tail.Load();
  const StateWord tail = StateWord::Unpack(tail_word);
  status.tail_epoch = tail.epoch;
  status.tail_phase = tail.phase;
  status.vote = InspectVote(view, tail_word, mapping.ClockShift_ns());

  const std::uint64_t pid_namespace = detail::PidNamespace();
  const std::uint32_t limit = view.SlotLimit();
  detail::HeldBytes held(mapping.probe_fd());
  for (std::uint32_t i = 0; i < limit; ++i) {
    const SlotWord word = SlotWord::Unpack(view.slots[i].state.Load());
    if (word.state == SlotState::kFree) continue;
    ParticipantStatus p = InspectSlot(mapping, i, word, status.epoch, pid_namespace, held);
    p.awaited = status.vote.has_value() && Awaited(view, *status.vote, p);
    status.participants.push_back(std::move(p));
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

std::string_view NameOf(History history) { return history == History::kLatest ? "latest" : "all"; }

std::string_view NameOf(detail::Condition condition) {
  switch (condition) {
    case detail::Condition::kRunning:
      return "running";
    case detail::Condition::kStopped:
      return "stopped";
    case detail::Condition::kDead:
      return "dead";
    case detail::Condition::kParked:
      return "parked";
  }
  return "damaged";
}

}  // namespace epoch::inspect
