// Proposals that are up for decision: who has yet to agree, what holds up the fence, the one CAS
// that decides, and what follows from it. Anyone may drive a proposal; everything needed is in its
// header.
//
//   1. tail (Voting, p, e+1)         ends what could be accepted behind e (accept.h)
//   2. every voter has accepted      a reject, too few voters, the deadline: Undecided -> Aborted
//   3. head has reached e            earlier transitions may be on their way to disk
//   4. fenced: head -> (Closed, p, e), then nobody pins any more
//   5. outcome: Undecided -> Committed     the decision: from here on it cannot be taken back
//   6. cell -> Published; volatile: head -> (Open, p, e+1); tail -> (Accepted, p, e+1); ring
//   aborted: cell -> Retired; head (Closed, p, e) -> (Open, v, e); tail -> (Accepted, v, e); ring
//
// A durable proposal is written by the journal once it is Committed and accepted; head follows.
//
// Thread safety: any number of drivers, each with a guard of its own. Progress: a step never waits;
// it says whom it would have to wait for.
// Invariants:
//  1. While a driver's guard is set and was confirmed, the proposal's cell is not recycled: so its
//     header stands still, and a CAS that names the cell means this proposal.
//  2. The cell is marked before tail lets go of it. So a driver that dies leaks nothing.
//  3. Head is closed late only by a driver that holds a guard on what it closes it for: whoever
//     meets a closed head can read that proposal's outcome.
// Barriers:
//   H  a driver's exchange that announces its guard, before it reads tail (head) again; pairs with
//      Abandoned (tail, guards, head, guards).
//   I  the CAS that closes head, before pins are read; pairs with A in Pin (pin, then head).
//   J  a slot's state, before its vote: the last owner's vote is not taken for the next one's.
#ifndef EPOCH_DETAIL_PROTOCOL_DRIVER_H_
#define EPOCH_DETAIL_PROTOCOL_DRIVER_H_

#include <cstdint>
#include <utility>

#include "epoch/detail/memory/bell.h"
#include "epoch/detail/protocol/collective.h"
#include "epoch/detail/protocol/head.h"
#include "epoch/detail/protocol/slots.h"
#include "epoch/detail/protocol/versions.h"

namespace epoch::detail {

// What a driver found.
struct Standing {
  enum class Found : std::uint8_t {
    kNothing,   // nothing is up for decision
    kFinished,  // a decision was made, or its consequences drawn: look again
    kVoter,     // `slot` has yet to vote
    kReader,    // `slot` holds up the fence with a pin
    kDisk,      // earlier epochs, or this one, are on their way to disk
    kDamaged,   // words that no participant writes
  };
  Found found = Found::kNothing;
  std::uint32_t slot = 0;

  bool waits() const {
    return found == Found::kVoter || found == Found::kReader || found == Found::kDisk;
  }
};

// No slot: nobody in particular is to blame.
inline constexpr std::uint32_t kNoSlot = kIndexMask;

// Ends the collective round `round`, unless it is over: the next one begins.
inline void EndRound(const RegionView& view, std::uint64_t round, AbortCause cause,
                     std::uint32_t culprit) noexcept {
  std::uint64_t word = view.control->gather.Load();
  while (GatherWord::Unpack(word).round == round) {
    if (view.control->gather.CompareExchange(word, GatherWord{cause, culprit, round + 1}.Pack())) {
      Ring(*view.control);
      return;
    }
  }
}

// Undecided -> Aborted for this ballot. False: it was decided already.
inline bool DecideAborted(VersionCell& cell, std::uint64_t ballot, AbortCause cause,
                          std::uint32_t culprit) noexcept {
  std::uint64_t word = cell.outcome.Load();
  for (;;) {
    const OutcomeWord found = OutcomeWord::Unpack(word);
    if (found.decision != Decision::kUndecided || found.ballot != (ballot & kBallotMask)) {
      return false;
    }
    const OutcomeWord aborted{Decision::kAborted, found.forced, cause, culprit, ballot};
    if (cell.outcome.CompareExchange(word, aborted.Pack())) return true;
  }
}

class Driver {
 public:
  // `guard`: one of the slot's guard words, used by one thread at a time.
  Driver(const Mapping& mapping, const SlotClaim& claim, seam::Atomic<std::uint64_t>& guard)
      : mapping_(mapping),
        view_(mapping.view()),
        claim_(claim),
        guard_(guard),
        none_(NoneOf(claim.generation)) {}

  // One attempt to bring to its end what tail has up for decision, or what holds head closed.
  Standing Drive() noexcept {
    const StateWord tail = StateWord::Unpack(view_.control->tail.Load());
    const StateWord head = StateWord::Unpack(view_.control->head.Load());
    const bool voting = tail.phase == Phase::kVoting, closed = head.phase == Phase::kClosed;
    if ((voting && !view_.ValidCell(tail.version)) || (closed && !view_.ValidCell(head.version))) {
      return {Standing::Found::kDamaged};
    }
    Standing of_head;
    std::uint64_t word = 0;
    // Closed for something else than what is up for decision. Only under a guard on that: the same
    // word may come again, for a fence that drains.
    if (closed && !(voting && tail.version == head.version) &&
        Hold(view_.control->head, Phase::kClosed, word)) {
      of_head = Reopen(word);
      Release();
      if (of_head.found != Standing::Found::kDisk) return of_head;
    }
    if (!Hold(view_.control->tail, Phase::kVoting, word)) return of_head;
    const Standing of_tail = DriveProposal(StateWord::Unpack(word));
    Release();
    // What is committed already should not wait for the next vote.
    return of_tail.waits() && of_head.waits() ? of_head : of_tail;
  }

  // Guards the cell that `at` names while it is in `phase`, the word being `word` then. False: it
  // is in another phase, and nothing is guarded.
  bool Hold(const seam::Atomic<std::uint64_t>& at, Phase phase, std::uint64_t& word) noexcept {
    word = at.Load();
    bool announced = false;
    for (;;) {
      const StateWord state = StateWord::Unpack(word);
      if (state.phase != phase || !view_.ValidCell(state.version)) {
        if (announced) Release();
        return false;
      }
      guard_.Exchange((none_ & ~kNumberMask) | state.version);  // H
      announced = true;
      EPOCH_POINT("vote.guarded");
      const std::uint64_t again = at.Load();  // H
      if (again == word) return true;
      word = again;
    }
  }
  // Release: what was read under the guard is read before the cell may be recycled.
  void Release() noexcept { guard_.Store(none_, std::memory_order_release); }

 private:
  struct Obstacle {
    enum class Kind : std::uint8_t { kNothing, kAgain, kAbort, kVoter, kReader, kDisk };
    Kind kind = Kind::kNothing;
    AbortCause cause = AbortCause::kNobody;
    std::uint32_t slot = 0;
    std::uint64_t state = 0;  // the straggler's exact state word
  };

  static constexpr Obstacle Abort(AbortCause cause, std::uint32_t slot) {
    return {Obstacle::Kind::kAbort, cause, slot, 0};
  }

  // Holds the proposal that tail names.
  Standing DriveProposal(const StateWord& tail) noexcept {
    using Kind = Obstacle::Kind;
    VersionCell& cell = view_.cells[tail.version];
    const std::uint64_t ballot = cell.ballot.Load(std::memory_order_relaxed);
    bool late = false;
    // Each turn that does not return takes a step that somebody had to take.
    for (int turn = 0; turn < 2 * static_cast<int>(kMaxParticipants) + 8; ++turn) {
      std::uint64_t word = cell.outcome.Load();
      OutcomeWord outcome = OutcomeWord::Unpack(word);
      if (ballot == 0 || outcome.ballot != (ballot & kBallotMask) ||
          outcome.decision < Decision::kUndecided || tail.epoch == 0) {
        return {Standing::Found::kDamaged};
      }
      if (outcome.decision == Decision::kCommitted) {
        FinishCommitted(tail, cell);
        return {Standing::Found::kFinished};
      }
      if (outcome.decision == Decision::kAborted) {
        FinishAborted(tail, cell, outcome);
        return {Standing::Found::kFinished};
      }
      const Obstacle obstacle = FindObstacle(tail, cell, ballot);
      if (obstacle.kind == Kind::kNothing) {
        outcome.decision = Decision::kCommitted;
        EPOCH_POINT("vote.before_commit");
        cell.outcome.CompareExchange(word, outcome.Pack());
        EPOCH_POINT("vote.decided");
        continue;
      }
      if (obstacle.kind == Kind::kAgain) return {Standing::Found::kFinished};
      if (obstacle.kind == Kind::kAbort) {
        DecideAborted(cell, ballot, obstacle.cause, obstacle.slot);
        EPOCH_POINT("vote.decided");
        continue;
      }
      if (seam::MonotonicNanos() < cell.deadline_ns.Load(std::memory_order_relaxed)) {
        return StandingOf(obstacle);
      }
      // Once more: what was found may be from before the deadline, and done in time since.
      if (!std::exchange(late, true)) continue;
      if (obstacle.kind == Kind::kDisk || !MayExpel(cell) || LeavesTooFew(cell, ballot)) {
        DecideAborted(cell, ballot, AbortCause::kDeadline, obstacle.slot);
        EPOCH_POINT("vote.decided");
        continue;
      }
      // It may let go of its pin by itself, and others will expel it. But if it owes an answer, to
      // drive may be all it does.
      if (obstacle.slot == claim_.slot && obstacle.kind == Kind::kReader) {
        return StandingOf(obstacle);
      }
      if (!outcome.forced) {
        // Before the expulsion: who decides later must know of it, whoever that is.
        outcome.forced = true;
        cell.outcome.CompareExchange(word, outcome.Pack());
        EPOCH_POINT("vote.forced");
        continue;
      }
      ExpelStraggler(obstacle);
    }
    return {Standing::Found::kFinished};  // words that never settle: the caller's deadline ends it
  }

  static Standing StandingOf(const Obstacle& obstacle) {
    using Found = Standing::Found;
    const Found found = obstacle.kind == Obstacle::Kind::kVoter    ? Found::kVoter
                        : obstacle.kind == Obstacle::Kind::kReader ? Found::kReader
                                                                   : Found::kDisk;
    return {found, obstacle.slot};
  }

  // A collective commit is all or nothing: nobody is passed over once it is proposed.
  static bool MayExpel(const VersionCell& cell) noexcept {
    return ExpelOf(cell.shape.Load(std::memory_order_relaxed)) &&
           cell.round.Load(std::memory_order_relaxed) == 0;
  }

  // Whether fewer voters than the proposal asks for would be left without all who keep it waiting:
  // then it cannot be committed any more, and nobody is expelled in vain. (Whoever leaves behind
  // this look may still make it so.)
  bool LeavesTooFew(const VersionCell& cell, std::uint64_t ballot) const noexcept {
    const std::uint64_t shape = cell.shape.Load(std::memory_order_relaxed);
    const std::uint32_t least = LeastVotersOf(shape), limit = view_.SlotLimit();
    if (!VotersOf(shape) || least == 0 || least == kSomeVoter) return false;
    std::uint32_t left = 0;
    for (std::uint32_t i = 0; i < limit && left < least; ++i) {
      const Slot& slot = view_.slots[i];
      std::uint64_t word = slot.state.Load();
      for (bool same = false; !same;) {
        const SlotWord state = SlotWord::Unpack(word);
        const VoteWord vote = VoteWord::Unpack(slot.vote.Load());
        const bool accepted = Proposed(cell, i, state.generation) ||
                              (vote.ballot == (ballot & kBallotMask) &&
                               vote.generation == static_cast<std::uint16_t>(state.generation) &&
                               vote.verdict == Verdict::kAccept);
        const bool stays = state.state == SlotState::kActive && IsVoter(slot) && accepted &&
                           !(FenceOf(shape) && PinReading::Of(slot.pin.Load()).held);
        const std::uint64_t again = slot.state.Load();  // what was read may be of several owners
        same = again == word;
        if (same && stays) ++left;
        word = again;
      }
    }
    return left < least;
  }

  void ExpelStraggler(const Obstacle& obstacle) noexcept {
    std::uint64_t active = obstacle.state;
    const SlotWord state = SlotWord::Unpack(active);
    EPOCH_POINT("vote.before_expel");
    if (view_.slots[obstacle.slot].state.CompareExchange(
            active, SlotWord{SlotState::kExpelled, state.generation}.Pack())) {
      Ring(*view_.control);
    }
  }

  // What keeps the proposal from being committed now; the first thing found.
  Obstacle FindObstacle(const StateWord& tail, const VersionCell& cell,
                        std::uint64_t ballot) noexcept {
    using Kind = Obstacle::Kind;
    const std::uint64_t shape = cell.shape.Load(std::memory_order_relaxed);
    std::uint64_t word = view_.control->head.Load();
    StateWord head = StateWord::Unpack(word);
    if (head.phase == Phase::kPoisoned) return Abort(AbortCause::kPoisoned, 0);
    if (head.phase == Phase::kClosed && head.version != tail.version &&
        head.epoch + 1 == tail.epoch) {
      // Closed late, for a proposal that must have been aborted, as tail has gone on to this one.
      // Drive opens it, under a guard on that.
      return {Kind::kAgain};
    }
    if (const Obstacle missing = MissingContributor(tail.version, cell, ballot);
        missing.kind != Kind::kNothing) {
      return missing;
    }
    if (VotersOf(shape)) {
      const std::uint32_t least = LeastVotersOf(shape), limit = view_.SlotLimit();
      std::uint32_t accepted = 0;
      for (std::uint32_t i = 0; i < limit; ++i) {
        const Obstacle vote = MissingVote(i, cell, ballot, least != 0 ? &accepted : nullptr);
        if (vote.kind != Kind::kNothing) return vote;
      }
      // In the same look at the slots that says that nobody is missing: whoever left in between is
      // not counted, and whoever leaves from here on had accepted.
      const bool few = least != kSomeVoter
                           ? accepted < least
                           : accepted == 0 && !OutcomeWord::Unpack(cell.outcome.Load()).forced;
      if (few) return Abort(AbortCause::kNobody, accepted);
    }
    if (head.epoch + 1 != tail.epoch) return {Kind::kDisk, AbortCause::kNobody, kNoSlot, 0};
    if (!FenceOf(shape)) return {};
    if (head.phase == Phase::kOpen) {
      EPOCH_POINT("vote.before_close");
      const StateWord closed{Phase::kClosed, tail.version, head.epoch};
      if (!view_.control->head.CompareExchange(word, closed.Pack())) return {Kind::kAgain};  // I
      EPOCH_POINT("vote.closed");
    }
    const std::uint32_t limit = view_.SlotLimit();
    for (std::uint32_t i = 0; i < limit; ++i) {
      const Obstacle pin = HeldPin(i);
      if (pin.kind != Kind::kNothing) return pin;
    }
    return {};
  }

  // `accepted`: counts those that have; null if nobody asks.
  Obstacle MissingVote(std::uint32_t index, const VersionCell& cell, std::uint64_t ballot,
                       std::uint32_t* accepted) noexcept {
    Slot& slot = view_.slots[index];
    for (;;) {
      const std::uint64_t state_word = slot.state.Load();  // J
      const SlotWord state = SlotWord::Unpack(state_word);
      const VoteWord vote = VoteWord::Unpack(slot.vote.Load());  // J
      const bool answered = vote.ballot == (ballot & kBallotMask);
      // Heard whatever has become of the slot since: its owner was in when it answered.
      if (answered && vote.verdict == Verdict::kReject) {
        return Abort(AbortCause::kRejected, index);
      }
      // A joiner becomes Active later, and then it sees the proposal.
      if (state.state != SlotState::kActive) return {};
      const bool counts =
          answered && vote.generation == static_cast<std::uint16_t>(state.generation);
      if (!IsVoter(slot)) return {};
      if (Proposed(cell, index, state.generation)) {
        if (accepted == nullptr) return {};
        if (slot.state.Load() != state_word) continue;  // the flags may be of another owner
        ++*accepted;
        return {};
      }
      if (counts && vote.verdict == Verdict::kAccept) {
        const std::uint64_t digest = slot.vote_digest.Load(std::memory_order_relaxed);
        if (digest != cell.digest.Load(std::memory_order_relaxed)) {
          return Abort(AbortCause::kDigestDiffers, index);
        }
        if (accepted != nullptr) ++*accepted;
        return {};
      }
      if (slot.state.Load() != state_word) continue;  // what was read may be of several owners
      if (OwnerAlive(mapping_.probe_fd(), index)) {
        return {Obstacle::Kind::kVoter, AbortCause::kNobody, index, state_word};
      }
      ReapSlot(mapping_, index);  // dead; it may have answered just before
    }
  }

  static bool IsVoter(const Slot& slot) noexcept { return HasAVote(slot.flags.Load()); }
  static bool Proposed(const VersionCell& cell, std::uint32_t slot,
                       std::uint64_t generation) noexcept {
    // Its own proposal is its vote.
    return cell.proposer.Load(std::memory_order_relaxed) == ProposerWord{slot, generation}.Pack();
  }

  // Of a collective proposal: everybody whose part is in it must have found it there.
  Obstacle MissingContributor(std::uint32_t proposal, const VersionCell& cell,
                              std::uint64_t ballot) noexcept {
    Obstacle missing;
    const std::uint64_t round = cell.round.Load(std::memory_order_relaxed);
    if (round == 0) return missing;
    const GatherWord gather = GatherWord::Unpack(view_.control->gather.Load());
    if (gather.round != round) {
      // Who ended it is known while its end is the last one, and nobody did if it was committed.
      const bool known = gather.round == round + 1 && gather.cause != AbortCause::kNobody;
      return Abort(AbortCause::kWithdrawn, known ? gather.culprit : kNoSlot);
    }
    const std::uint64_t length = cell.length_bytes.Load(std::memory_order_relaxed);
    if (length > view_.geometry.state_bytes) return Abort(AbortCause::kDigestDiffers, 0);
    ForEachContribution({view_.PayloadOf(proposal), length}, [&](const GatheredPart& part) {
      if (part.slot >= view_.geometry.participants) return true;
      if (Proposed(cell, part.slot, part.generation)) return true;
      Slot& slot = view_.slots[part.slot];
      const std::uint64_t state = slot.state.Load();  // J
      const VoteWord vote = VoteWord::Unpack(slot.vote.Load());
      if (vote.generation == static_cast<std::uint16_t>(part.generation) &&
          vote.ballot == (ballot & kBallotMask) && vote.verdict != Verdict::kUnsaid) {
        if (vote.verdict == Verdict::kReject) missing = Abort(AbortCause::kRejected, part.slot);
        return vote.verdict == Verdict::kAccept;
      }
      const bool there = state == SlotWord{SlotState::kActive, part.generation}.Pack() &&
                         OwnerAlive(mapping_.probe_fd(), part.slot);
      missing = there ? Obstacle{Obstacle::Kind::kVoter, AbortCause::kNobody, part.slot, state}
                      : Abort(AbortCause::kDied, part.slot);
      return false;
    });
    return missing;
  }

  // Head is closed: whoever pins from now on finds that, and withdraws.
  Obstacle HeldPin(std::uint32_t index) noexcept {
    const Slot& slot = view_.slots[index];
    for (;;) {
      const std::uint64_t state = slot.state.Load();
      // An expelled owner that lives on is passed over; it cannot be made to let go. Who is Active
      // only later finds head closed.
      if (SlotWord::Unpack(state).state != SlotState::kActive) return {};
      if (!PinReading::Of(slot.pin.Load()).held) return {};
      if (slot.state.Load() != state) continue;  // the pin may be of another owner
      if (OwnerAlive(mapping_.probe_fd(), index)) {
        return {Obstacle::Kind::kReader, AbortCause::kNobody, index, state};
      }
      ReapSlot(mapping_, index);
    }
  }

  void Mark(VersionCell& cell, CellState state) noexcept {
    std::uint64_t owner = cell.owner.Load();
    if (OwnerWord::Unpack(owner).state != CellState::kDrafted) return;
    cell.owner.CompareExchange(owner, OwnerWord::Unpack(owner).With(state));
  }

  void FinishCommitted(const StateWord& tail, VersionCell& cell) noexcept {
    Mark(cell, CellState::kPublished);
    EPOCH_POINT("vote.marked");
    if (const std::uint64_t round = cell.round.Load(std::memory_order_relaxed); round != 0) {
      EndRound(view_, round, AbortCause::kNobody, 0);
    }
    if (!view_.durable) {
      std::uint64_t word = view_.control->head.Load();
      // Again if it was closed or opened late meanwhile: that does not change its epoch.
      while (StateWord::Unpack(word).epoch + 1 == tail.epoch &&
             StateWord::Unpack(word).phase != Phase::kPoisoned &&
             !view_.control->head.CompareExchange(
                 word, StateWord{Phase::kOpen, tail.version, tail.epoch}.Pack())) {
      }
      EPOCH_POINT("vote.visible");
    }
    MoveTail(tail, StateWord{Phase::kAccepted, tail.version, tail.epoch});
  }

  void FinishAborted(const StateWord& tail, VersionCell& cell,
                     const OutcomeWord& outcome) noexcept {
    const std::uint32_t previous = PreviousCellOf(cell.shape.Load(std::memory_order_relaxed));
    Mark(cell, CellState::kRetired);
    EPOCH_POINT("vote.marked");
    if (const std::uint64_t round = cell.round.Load(std::memory_order_relaxed); round != 0) {
      EndRound(view_, round, outcome.cause, outcome.culprit);
    }
    std::uint64_t closed = StateWord{Phase::kClosed, tail.version, tail.epoch - 1}.Pack();
    view_.control->head.CompareExchange(closed,
                                        StateWord{Phase::kOpen, previous, tail.epoch - 1}.Pack());
    EPOCH_POINT("vote.reopened");
    MoveTail(tail, StateWord{Phase::kAccepted, previous, tail.epoch - 1});
  }

  void MoveTail(const StateWord& from, const StateWord& to) noexcept {
    std::uint64_t word = from.Pack();
    EPOCH_POINT("vote.before_tail");
    view_.control->tail.CompareExchange(word, to.Pack());
    EPOCH_POINT("vote.finished");
    Ring(*view_.control);
  }

  // Holds the proposal that head is closed for, while tail has nothing up for decision.
  Standing Reopen(std::uint64_t word) noexcept {
    const StateWord head = StateWord::Unpack(word);
    VersionCell& cell = view_.cells[head.version];
    const OutcomeWord outcome = OutcomeWord::Unpack(cell.outcome.Load());
    StateWord next{Phase::kOpen, head.version, head.epoch + 1};
    switch (outcome.decision) {
      case Decision::kAborted:
        next = {Phase::kOpen, PreviousCellOf(cell.shape.Load(std::memory_order_relaxed)),
                head.epoch};
        break;
      case Decision::kCommitted:
        if (!view_.durable) break;
        // Its readers must not hang on a journal that nobody writes.
        if (mapping_.port() == nullptr && !SomebodyFlushes(mapping_) &&
            seam::MonotonicNanos() >= cell.deadline_ns.Load(std::memory_order_relaxed) &&
            !SomebodyIsWriting()) {
          EPOCH_POINT("vote.before_poison");
          // The very head that was looked at. If it has moved since, somebody did write, and whoever
          // has slept here must not end what goes on.
          if (PoisonHeadAt(view_, word)) Ring(*view_.control);
        }
        return {Standing::Found::kDisk};
      case Decision::kUndecided: {
        // Voting began since tail was read, or was decided since the outcome was.
        const bool stands_still = !Names(view_.control->tail.Load(), head.version) &&
                                  cell.outcome.Load() == outcome.Pack();
        return {stands_still ? Standing::Found::kDamaged : Standing::Found::kFinished};
      }
      default:
        return {Standing::Found::kDamaged};
    }
    EPOCH_POINT("vote.before_reopen");
    if (view_.control->head.CompareExchange(word, next.Pack())) Ring(*view_.control);
    return {Standing::Found::kFinished};
  }

  // Whether a living process is at the journal just now, for a transition of its own: it does not
  // serve, and its write may take longer than the deadline of the fence. Or it is about to: it says
  // so before a fenced transition can be decided, and freezes a batch some time later.
  bool SomebodyIsWriting() const noexcept {
    const std::uint32_t limit = view_.SlotLimit();
    for (std::uint32_t i = 0; i < limit; ++i) {
      const Slot& slot = view_.slots[i];
      if (SlotWord::Unpack(slot.state.Load()).state == SlotState::kActive &&
          (slot.flags.Load() & kSlotWrites) != 0 && OwnerAlive(mapping_.probe_fd(), i)) {
        return true;
      }
    }
    for (const BatchWords& batch : view_.control->ring) {
      if (BatchW::Unpack(batch.w.Load()).state != BatchState::kFrozen) continue;
      const std::uint64_t writer = batch.writer.Load(std::memory_order_relaxed);
      if (writer - 1 < view_.geometry.participants &&
          OwnerAlive(mapping_.probe_fd(), static_cast<std::uint32_t>(writer - 1))) {
        return true;
      }
    }
    return false;
  }

  const Mapping& mapping_;
  const RegionView& view_;
  const SlotClaim& claim_;
  seam::Atomic<std::uint64_t>& guard_;
  const std::uint64_t none_;
};

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_PROTOCOL_DRIVER_H_
