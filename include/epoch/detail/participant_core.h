// The machinery behind Participant, Pin and Draft. See participant.h for what each call promises.
//
// Barriers:
//   A  Pin: the CAS that announces the pin is also the store-load barrier before head is re-read;
//      pairs with C in Reclaim (head before pins) and with the fence's drain scan.
//   D  slot state before lock byte (slots.h).
//   E  PinSlowly: narrowing an announcement releases what was read before.
//   G  HoldTail: the exchange that announces the guard, before tail is re-read; pairs with C.
#ifndef EPOCH_DETAIL_PARTICIPANT_CORE_H_
#define EPOCH_DETAIL_PARTICIPANT_CORE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "epoch/detail/bell.h"
#include "epoch/detail/check.h"
#include "epoch/detail/mapping.h"
#include "epoch/detail/slots.h"
#include "epoch/detail/transition.h"
#include "epoch/detail/voter.h"
#include "epoch/options.h"

namespace epoch::detail {

struct PinnedState {
  Epoch epoch = 0;
  const std::byte* bytes = nullptr;
  std::size_t length = 0;
};

struct TailState {
  Epoch epoch;
  std::uint64_t token;
  const std::byte* bytes;
  std::size_t length;
};

// How long to look at a vote before sleeping: about as long as a sleep and a wake-up take.
inline constexpr std::int64_t kSpin_ns = 30'000;

class ParticipantCore final : public ForkAware {
 public:
  static absl::StatusOr<std::unique_ptr<ParticipantCore>> Join(std::shared_ptr<Mapping> mapping,
                                                               const JoinOptions& options) {
    if (mapping->read_only()) {
      return absl::PermissionDeniedError(
          absl::StrCat(mapping->path(), " is mapped read-only: open it for writing to join"));
    }
    if (options.name.size() >= kNameBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("participant name is longer than ", kNameBytes - 1, " bytes"));
    }
    absl::StatusOr<SlotClaim> claim =
        TakeSlot(*mapping, options.name, options.voter ? std::uint32_t{kSlotVoter} : 0u);
    if (!claim.ok()) return claim.status();
    auto core = std::make_unique<ParticipantCore>(Badge{}, std::move(mapping), options, *claim);
    // Only now that the slot is Active are tail and head read: a scan of the slots that missed
    // this one was over before, so what it decided is already visible here.
    HelpAccepted(core->view_);
    core->Acknowledge(core->HeadEpoch());
    return core;
  }

  class Badge {
    friend class ParticipantCore;
    Badge() = default;
  };
  ParticipantCore(Badge, std::shared_ptr<Mapping> mapping, const JoinOptions& options,
                  const SlotClaim& claim)
      : slot_(&mapping->view().slots[claim.slot]),
        active_(SlotWord{SlotState::kActive, claim.generation}.Pack()),
        unpinned_(NoneOf(claim.generation)),
        announced_(PinWord(0)),
        release_word_(unpinned_),
        view_(mapping->view()),
        mapping_(std::move(mapping)),
        options_(options),
        claim_(claim),
        // Participants start their search for cells apart from each other.
        cursor_(claim.slot * 7 % view_.geometry.versions),
        voter_(*mapping_, claim_) {
    nowhere_.pin.Store(unpinned_);
    Register();
  }
  ~ParticipantCore() {
    EPOCH_CHECK(!pinned(), "a Pin outlives its Participant");
    EPOCH_CHECK(drafts_ == 0, "a Draft outlives its Participant");
    EPOCH_CHECK(!listening(), "a Listener outlives its Participant");
    Leave();
    Unregister();
  }

  // --- reading -----------------------------------------------------------------------------------

  // False: expelled, forked away, or (only if it may not wait) a fence drains.
  //
  // The fast path stores nothing but the slot's own word: that word is also the only record of
  // whether a pin is held, since every further store would have to drain before the next CAS.
  [[gnu::always_inline]] bool Pin(bool may_wait = true) noexcept {
    Slot* const slot = slot_;  // loaded once: the compiler may not do so across the CAS
    // Any epoch that head has had will do for the announcement: an older one protects more.
    std::uint64_t found = unpinned_;
    const bool mine = slot->pin.CompareExchange(found, announced_);
    if (__builtin_expect(!mine, 0)) return PinAgain(found);
    EPOCH_POINT("pin.announced");
    const std::uint64_t word = view_.control->head.Load();  // A
    if (__builtin_expect(word != pinned_word_, 0)) return PinSlowly(word, may_wait);
    // After the announcement: either the expeller sees the pin, or this sees the expulsion.
    if (__builtin_expect(slot->state.Load() != active_, 0)) return PinSlowly(word, may_wait);
    return true;
  }

  [[gnu::always_inline]] void Unpin() noexcept {
    const std::uint64_t word = release_word_;
    if (__builtin_expect(word == 0, 0)) return UnpinNested();
    // Release: what was read through the pin is read before the cell may be recycled.
    slot_->pin.Store(word, std::memory_order_release);
  }

  // Only this participant writes its pin word. (Compared with what it announced, not with "none":
  // a scribbled word is no pin.)
  bool pinned() const noexcept { return slot_->pin.Load(std::memory_order_relaxed) == announced_; }
  bool drafting() const noexcept { return drafts_ != 0; }
  const PinnedState& pinned_state() const noexcept { return pinned_; }

  // Why Pin() returned false although it might wait.
  absl::Status WhyUnpinned() const {
    if (absl::Status s = Status(); !s.ok()) return s;
    const StateWord head = StateWord::Unpack(view_.control->head.Load());
    if (head.phase == Phase::kClosed && view_.ValidCell(head.version)) {
      return absl::UnavailableError(
          "a fenced transition is on its way to a journal that can not be written");
    }
    if (!view_.ValidCell(head.version) ||
        view_.cells[head.version].length_bytes.Load() > view_.geometry.state_bytes) {
      return absl::DataLossError(absl::StrCat(mapping_->path(),
                                              ": the epoch word or the version it "
                                              "names (",
                                              head.version, ") is damaged"));
    }
    return absl::DataLossError(absl::StrCat(mapping_->path(), ": the pin word of slot ",
                                            claim_.slot, " was overwritten by somebody else"));
  }

  Epoch HeadEpoch() const noexcept { return StateWord::Unpack(view_.control->head.Load()).epoch; }

  // The newest accepted state, protected by a guard until ReleaseTail. Lock-free: tail moves on
  // under it only when another's transition was accepted. While a vote is undecided: blocking.
  absl::StatusOr<TailState> HoldTail(std::int64_t deadline_ns) {
    if (holds_tail_) {
      return absl::FailedPreconditionError("an update inside of an update: propose it afterwards");
    }
    std::uint64_t word = view_.control->tail.Load();
    StateWord tail{};
    for (;;) {
      tail = StateWord::Unpack(word);
      if (tail.phase == Phase::kVoting) {
        ReleaseTail();
        if (absl::Status s = AwaitDecision(deadline_ns); !s.ok()) return s;
        word = view_.control->tail.Load();
        continue;
      }
      if (tail.phase != Phase::kAccepted || !view_.ValidCell(tail.version)) {
        ReleaseTail();
        return Refused(Refusal::kDamaged, tail.epoch);
      }
      slot_->own.Exchange((unpinned_ & ~kNumberMask) | tail.version);
      holds_tail_ = true;
      EPOCH_POINT("update.announced");
      // G: pairs with C. Still named by tail, so not below any head that a reclaimer has seen
      // before it looks at the guards.
      const std::uint64_t again = view_.control->tail.Load();
      if (again == word) break;
      word = again;
    }
    const VersionCell& cell = view_.cells[tail.version];
    const std::uint64_t length = cell.length_bytes.Load(std::memory_order_relaxed);
    if (length > view_.geometry.state_bytes) {
      ReleaseTail();
      return Refused(Refusal::kDamaged, tail.epoch);
    }
    return TailState{tail.epoch, cell.token.Load(std::memory_order_relaxed),
                     view_.PayloadOf(tail.version), static_cast<std::size_t>(length)};
  }

  void ReleaseTail() noexcept {
    if (!std::exchange(holds_tail_, false)) return;
    // Release: what was read under the guard is read before the cell may be recycled.
    slot_->own.Store(unpinned_, std::memory_order_release);
  }

  // --- drafting and committing -------------------------------------------------------------------

  absl::StatusOr<DraftedCell> NewDraft(std::size_t size) {
    if (size > view_.geometry.state_bytes) return TooLarge(size);
    for (bool reaped = false;;) {
      if (absl::Status s = Ready(); !s.ok()) return s;
      if (auto cell = DraftCell(view_, claim_.slot, cursor_); cell.has_value()) {
        ++drafts_;
        return *cell;
      }
      const Epoch head = HeadEpoch();
      const StateWord tail = StateWord::Unpack(view_.control->tail.Load());
      // What is undecided may never become visible: nothing to wait for.
      if (view_.durable && tail.epoch - (tail.phase == Phase::kVoting ? 1 : 0) > head) {
        // Accepted versions wait for the disk: back-pressure, not exhaustion.
        absl::Status s = AwaitCommitted(head + 1, absl::Seconds(10));
        if (s.ok()) continue;
        return absl::Status(s.code(), absl::StrCat("no free version, and the journal does not "
                                                   "move on: ",
                                                   std::string(s.message())));
      }
      if (reaped) return NoVersions();
      ReapAll(*mapping_);
      reaped = true;
    }
  }

  void Drop(const DraftedCell& cell) noexcept {
    --drafts_;
    if (!forked_) DropDraft(view_, cell);
  }

  std::byte* PayloadOf(const DraftedCell& cell) const noexcept {
    return view_.PayloadOf(cell.index);
  }
  std::uint64_t state_bytes() const noexcept { return view_.geometry.state_bytes; }

  absl::StatusOr<Epoch> Accept(const DraftedCell& cell, std::size_t size, std::uint64_t token,
                               std::optional<Epoch> expected, absl::Duration timeout) {
    if (absl::Status s = Ready(); !s.ok()) return s;
    if (view_.durable) {
      // Before the tail CAS: after it, "accepted, outcome pending" is the only honest answer.
      if (absl::Status s = JournalReady(); !s.ok()) return s;
    }
    const std::uint64_t digest = Xxh64::Of(PayloadOf(cell), size);
    Acceptance accepted = detail::Accept(view_, claim_, cell, size, digest, token, expected);
    if (accepted.refusal == Refusal::kVoting) [[unlikely]] {
      const std::int64_t deadline_ns = DeadlineAfter(timeout);
      do {
        if (absl::Status s = AwaitDecision(deadline_ns); !s.ok()) return s;
        accepted = detail::Accept(view_, claim_, cell, size, digest, token, expected);
      } while (accepted.refusal == Refusal::kVoting);
    }
    refusal_ = accepted.refusal;
    if (accepted.refusal == Refusal::kAccepted) [[likely]] {
      --drafts_;
      // Whoever serves the journal may be asleep; a process that can flush does so itself.
      if (view_.durable && mapping_->port() == nullptr) Ring(*view_.control);
      return accepted.at;
    }
    if (accepted.refusal == Refusal::kExpectedDiffers) {
      return ExpectedDiffers(*expected, accepted.at);
    }
    return Refused(accepted.refusal, accepted.at);
  }

  // As Accept, but the others decide. Blocks until they have; on success the transition is accepted
  // and, in a volatile region, visible. `ballot` says what is asked of them; its number is given
  // here.
  absl::StatusOr<Epoch> Agree(const DraftedCell& draft, std::size_t size, std::uint64_t token,
                              std::optional<Epoch> expected, Ballot ballot) {
    draft_is_lost_ = false;
    refusal_ = Refusal::kAccepted;
    if (absl::Status s = Ready(); !s.ok()) return s;
    if (ballot.fence && pinned()) {
      return absl::FailedPreconditionError(
          "a fenced transition would wait for the pin that its proposer holds: release it first; "
          "nothing was changed");
    }
    if (holds_tail_) {
      return absl::FailedPreconditionError(
          "a voted transition inside of an update: propose it afterwards");
    }
    if (view_.durable) {
      if (absl::Status s = JournalReady(); !s.ok()) return s;
    }
    const std::uint64_t digest = Xxh64::Of(PayloadOf(draft), size);
    do {  // never the number that means: not voted
      ballot.number = (view_.control->ballot.FetchAdd(1) + 1) & kBallotMask;
    } while (ballot.number == 0);
    // Before the tail CAS, and until the outcome was read: nobody recycles the cell meanwhile.
    slot_->own.Exchange((unpinned_ & ~kNumberMask) | draft.index);
    EPOCH_POINT("vote.own_guarded");
    const auto unguarded = [this](absl::Status status) {
      slot_->own.Store(unpinned_, std::memory_order_release);
      return status;
    };
    Acceptance accepted{};
    for (;;) {
      if (ballot.round != 0 &&
          GatherWord::Unpack(view_.control->gather.Load()).round != ballot.round) {
        return unguarded(absl::AbortedError("the collective round is over"));
      }
      accepted = detail::Accept(view_, claim_, draft, size, digest, token, expected, ballot);
      refusal_ = accepted.refusal;
      if (accepted.refusal == Refusal::kAccepted) break;
      if (accepted.refusal == Refusal::kExpectedDiffers) {
        return unguarded(ExpectedDiffers(*expected, accepted.at));
      }
      if (accepted.refusal != Refusal::kVoting) {
        return unguarded(Refused(accepted.refusal, accepted.at));
      }
      // What is up for decision may wait for this contributor, who answers it by itself.
      if (ballot.round != 0) return unguarded(absl::CancelledError("another vote is undecided"));
      if (absl::Status s = AwaitDecision(ballot.deadline_ns); !s.ok()) return unguarded(s);
    }
    VersionCell& cell = view_.cells[draft.index];
    const std::uint64_t voting = StateWord{Phase::kVoting, draft.index, accepted.at}.Pack();
    // To look meanwhile would only take away the lines that the voters need.
    if (ballot.voters && AnotherVotes()) SpinWhileTailIs(voting);
    // Its own deadline ends it, so there is no other; and this can not fail.
    DriveUntil(INT64_MAX, &cell, [&] {
      return OutcomeWord::Unpack(cell.outcome.Load()).decision != Decision::kUndecided &&
             view_.control->tail.Load() != voting;
    }).IgnoreError();
    const OutcomeWord outcome = OutcomeWord::Unpack(cell.outcome.Load());
    if (outcome.decision < Decision::kCommitted || outcome.ballot != ballot.number) {
      // Tail may still name the cell: it must not be dropped, nor used again by this process.
      --drafts_;
      draft_is_lost_ = true;
      return absl::DataLossError(absl::StrCat(mapping_->path(), ": what epoch ", accepted.at,
                                              " was to become was overwritten while it was up for "
                                              "decision; its outcome is unknown"));
    }
    // Marked Retired by now: to drop the draft changes nothing.
    if (outcome.decision != Decision::kCommitted) {
      return unguarded(WhyAborted(outcome, accepted.at));
    }
    --drafts_;
    slot_->own.Store(unpinned_, std::memory_order_release);
    return accepted.at;
  }

  // Of the last proposal: its words were damaged, and nobody may touch its cell.
  bool draft_is_lost() const noexcept { return draft_is_lost_; }
  // Why the last transition was not accepted, if it was not.
  Refusal refusal() const noexcept { return refusal_; }

  // The words for an abort; names the culprit, and what it said.
  absl::Status WhyAborted(const OutcomeWord& outcome, Epoch epoch) const {
    const bool known = outcome.culprit < view_.geometry.participants;
    const std::string who = known ? DescribeSlot(view_, outcome.culprit) : "somebody";
    constexpr const char* kUnchanged = "; nothing was changed";
    switch (outcome.cause) {
      case AbortCause::kRejected: {
        std::string reason;
        if (known) {
          const Slot& slot = view_.slots[outcome.culprit];
          const std::uint64_t word = slot.vote.Load();
          const VoteWord vote = VoteWord::Unpack(word);
          if (vote.ballot == outcome.ballot && vote.verdict == Verdict::kReject) {
            reason = ReadReason(slot, word);
          }
        }
        return absl::AbortedError(absl::StrCat("epoch ", epoch, " was rejected by ", who,
                                               reason.empty() ? "" : ": ", reason, kUnchanged));
      }
      case AbortCause::kDigestDiffers:
        return absl::AbortedError(absl::StrCat("epoch ", epoch, ": ", who,
                                               " found other bytes than were drafted", kUnchanged));
      case AbortCause::kDeadline:
        return absl::DeadlineExceededError(
            absl::StrCat("epoch ", epoch, " was not agreed on in time: ",
                         known ? absl::StrCat(who, " did not answer, or did not let go of its pin")
                               : "earlier epochs were not on disk yet",
                         kUnchanged));
      case AbortCause::kPoisoned:
        return absl::UnavailableError(absl::StrCat(
            "epoch ", epoch, ": the journal has failed, or nobody writes it", kUnchanged));
      case AbortCause::kDied:
        return absl::AbortedError(
            absl::StrCat(who, " died, left or was expelled meanwhile", kUnchanged));
      case AbortCause::kTag:
        return absl::AbortedError(absl::StrCat(who, " brought another tag", kUnchanged));
      default:
        return absl::AbortedError(absl::StrCat(who, " gave up", kUnchanged));
    }
  }

  // --- voting ------------------------------------------------------------------------------------

  Voter& voter() noexcept { return voter_; }
  // The guards of this participant's thread, and of its listener's.
  seam::Atomic<std::uint64_t>& own_guard() noexcept { return view_.slots[claim_.slot].own; }
  seam::Atomic<std::uint64_t>& look_guard() noexcept { return view_.slots[claim_.slot].look; }
  seam::Atomic<std::uint64_t>& help_guard() noexcept { return view_.slots[claim_.slot].help; }
  seam::Atomic<std::uint64_t>& listen_guard() noexcept { return view_.slots[claim_.slot].listen; }

  bool listening() const noexcept { return listening_.load(std::memory_order_relaxed); }
  void set_listening(bool listening) noexcept {
    listening_.store(listening, std::memory_order_relaxed);
  }

  // Does what this participant can do for what is under way: answer, drive, make visible.
  Standing Step() {
    HelpAccepted(view_);
    if (forked_ || left_) return {};
    const bool cast = !listening() && voter_.Asked() && voter_.Answer(look_guard());
    const Standing standing = DriveOnce();
    if (cast) RingAfterVote(standing);
    return standing;
  }

  // The same, and acknowledging, for the listener's thread.
  Standing ListenOnce() {
    if (forked_) return {};
    HelpAccepted(view_);
    const bool cast = voter_.Answer(listen_guard());
    // Head before the pin: a pin taken since is of no earlier epoch than this.
    const std::uint64_t head = view_.control->head.Load();
    Slot& slot = view_.slots[claim_.slot];
    if (!options_.acknowledges_by_hand && active() && (slot.flags.Load() & kSlotParked) == 0 &&
        !PinReading::Of(slot.pin.Load()).held) {
      AcknowledgeIn(slot.ack, StateWord::Unpack(head).epoch);
    }
    Standing standing = Driver(*mapping_, claim_, listen_guard()).Drive();
    if (cast) RingAfterVote(standing);
    if (view_.durable && (!standing.waits() || standing.found == Standing::Found::kDisk)) {
      standing = HelpStalledJournal(head, standing);
    }
    return standing;
  }
  bool active() const noexcept { return view_.slots[claim_.slot].state.Load() == active_; }

  // Waits until nothing is up for decision any more.
  absl::Status AwaitDecision(std::int64_t deadline_ns) {
    return DriveUntil(deadline_ns, nullptr, [&] {
      return StateWord::Unpack(view_.control->tail.Load()).phase != Phase::kVoting;
    });
  }

  // `own`: this participant's proposal, up for decision; then there is no error.
  template <typename Done>
  absl::Status DriveUntil(std::int64_t deadline_ns, VersionCell* own, Done&& done) {
    Slices slices(deadline_ns, 1'000'000, 1'000'000);  // a death is noticed within 2 ms
    int turns = 0;
    for (bool spun = false;;) {
      const std::uint32_t armed = spun ? Arm(*view_.control) : 0;
      if (own != nullptr && done()) return absl::OkStatus();
      const std::uint64_t tail = view_.control->tail.Load();
      const Standing standing = Step();
      if (done()) return absl::OkStatus();
      if (standing.found == Standing::Found::kDamaged) {
        return absl::DataLossError(absl::StrCat(mapping_->path(),
                                                ": what tail has up for a vote, or head is closed "
                                                "for, is damaged"));
      }
      if (own == nullptr) {
        if (absl::Status s = Status(); !s.ok()) return s;
        if (standing.found == Standing::Found::kReader && standing.slot == claim_.slot) {
          return absl::FailedPreconditionError(
              "a fence waits for the pin that this participant holds: release it first; nothing "
              "was changed");
        }
      }
      if (!standing.waits()) {
        // Something was finished, so look again. Words that never settle are damage.
        constexpr int kMostTurns = 1'000'000;
        if (own == nullptr && ++turns > kMostTurns) {
          return absl::DataLossError(
              absl::StrCat(mapping_->path(), ": what tail has up for a vote never settles"));
        }
        continue;
      }
      turns = 0;
      std::int64_t nanos = slices.Next();
      if (standing.found == Standing::Found::kDisk && view_.durable) {
        Flushing flushing = FlushOnce(nanos);
        if (!flushing.status.ok()) {
          if (own == nullptr) return flushing.status;
          DecideAborted(*own, own->ballot.Load(std::memory_order_relaxed), AbortCause::kPoisoned,
                        0);
        }
        if (flushing.moved || !flushing.status.ok()) continue;
      }
      if (nanos <= 0) {
        if (done()) return absl::OkStatus();
        return absl::DeadlineExceededError(absl::StrCat("a vote is undecided: it waits for ",
                                                        standing.found == Standing::Found::kDisk
                                                            ? "the disk"
                                                            : DescribeSlot(view_, standing.slot),
                                                        "; nothing was changed"));
      }
      if (!spun) {
        SpinWhileTailIs(tail);
        spun = true;
      } else {
        seam::FutexWait(&view_.control->bell, armed, nanos);
      }
    }
  }

  // --- waiting -----------------------------------------------------------------------------------

  // `accepted`: the epoch is this participant's own transition. To be expelled changes nothing
  // about it any more; an error would say that nothing was changed, and be wrong.
  absl::Status AwaitCommitted(Epoch epoch, absl::Duration timeout, bool accepted = false) {
    if (HeadEpoch() >= epoch) return absl::OkStatus();
    if (absl::Status s = Status(); !accepted && !s.ok()) return s;
    const std::int64_t deadline_ns = DeadlineAfter(timeout);
    Slices slices(deadline_ns);
    std::string stalled;
    for (;;) {
      const Standing standing = Step();
      const StateWord head = StateWord::Unpack(view_.control->head.Load());
      if (head.epoch >= epoch) return absl::OkStatus();
      if (head.phase == Phase::kPoisoned) {
        return absl::DataLossError(
            absl::StrCat("the journal failed: whether epoch ", epoch,
                         " is durable is unknown until recovery; head stays at ", head.epoch));
      }
      std::int64_t nanos = slices.Next();
      bool idle = true;
      const std::uint64_t tail_word = view_.control->tail.Load();
      if (standing.waits()) {
        if (standing.found == Standing::Found::kReader && standing.slot == claim_.slot) {
          return absl::FailedPreconditionError(
              "a fence waits for the pin that this participant holds: release it first");
        }
        nanos = std::min<std::int64_t>(nanos, 1'000'000);  // deaths and deadlines ring no bell
      }
      if (view_.durable && StateWord::Unpack(tail_word).epoch > head.epoch) {
        Flushing flushing = FlushOnce(nanos);
        if (absl::IsUnavailable(flushing.status)) {
          return absl::UnavailableError(
              absl::StrCat("epoch ", epoch,
                           " is accepted, but nobody writes the journal now: "
                           "its outcome is pending"));
        }
        if (!flushing.status.ok()) return flushing.status;
        if (!flushing.stalled.empty()) stalled = absl::StrCat(" (", flushing.stalled, ")");
        if (flushing.moved && nanos > 0) {
          slices = Slices(deadline_ns);
          continue;
        }
        idle = !flushing.busy;
      }
      if (nanos <= 0) {
        if (HeadEpoch() >= epoch) return absl::OkStatus();
        return absl::DeadlineExceededError(
            absl::StrCat("the region is at epoch ", head.epoch, ", not yet at ", epoch,
                         StateWord::Unpack(tail_word).epoch >= epoch
                             ? "; the transition is accepted and its outcome pending"
                             : "",
                         stalled));
      }
      SleepUnless(*view_.control, nanos, [&] {
        return view_.control->head.Load() != head.Pack() ||
               (idle && view_.control->tail.Load() != tail_word);
      });
    }
  }

  absl::Status AwaitConverged(Epoch epoch, absl::Duration timeout) {
    if (pinned()) {
      return absl::FailedPreconditionError(
          "waiting for convergence while holding a pin would wait for oneself: release it first");
    }
    if (options_.acknowledges_by_hand && (acknowledged_ == kNone || acknowledged_ < epoch)) {
      return absl::FailedPreconditionError(
          "waiting for convergence before having acknowledged by hand would wait for oneself");
    }
    const std::int64_t deadline_ns = DeadlineAfter(timeout);
    if (absl::Status s = AwaitCommitted(epoch, timeout); !s.ok()) return s;
    Slices slices(deadline_ns, 1'000'000, 2'000'000);  // a death is noticed within 2 ms
    const auto converged = [&] {
      bool behind = false;
      ForEachStraggler(*mapping_, epoch, [&](std::uint32_t) { return !(behind = true); });
      return !behind;
    };
    for (;;) {
      if (absl::StatusOr<Epoch> polled = Poll(); !polled.ok()) return polled.status();
      if (converged()) return absl::OkStatus();
      const std::int64_t nanos = slices.Next();
      if (nanos <= 0) {
        return absl::DeadlineExceededError(absl::StrCat("epoch ", epoch,
                                                        " is committed, but not acknowledged by ",
                                                        NameStragglers(*mapping_, epoch)));
      }
      SleepUnless(*view_.control, nanos, converged);
    }
  }

  absl::StatusOr<Epoch> Poll() {
    if (absl::Status s = Ready(); !s.ok()) return s;
    Step();
    // What is pinned is what this participant operates under, however far head has moved.
    const Epoch epoch = pinned() ? pinned_.epoch : HeadEpoch();
    Acknowledge(epoch);
    return epoch;
  }

  absl::Status AcknowledgeByHand(Epoch epoch) {
    if (absl::Status s = Ready(); !s.ok()) return s;
    if (const Epoch head = HeadEpoch(); epoch > head) {
      return absl::OutOfRangeError(
          absl::StrCat("epoch ", epoch, " is not committed: the region is at ", head));
    }
    if (acknowledged_ == kNone || acknowledged_ < epoch) acknowledged_ = epoch;
    AcknowledgeIn(slot_->ack, epoch);
    return absl::OkStatus();
  }

  absl::Status Park() {
    if (absl::Status s = Status(); !s.ok()) return s;
    if (pinned()) {
      return absl::FailedPreconditionError("a participant that holds a pin can not park");
    }
    parked_ = true;
    pinned_word_ = 0;
    slot_->flags.FetchOr(kSlotParked);
    Ring(*view_.control);
    return absl::OkStatus();
  }

  absl::Status Serve(absl::Duration duration, absl::FunctionRef<bool()> stop) {
    if (absl::Status s = Status(); !s.ok()) return s;
    if (!view_.durable) {
      return absl::FailedPreconditionError("the region is volatile: there is no journal to serve");
    }
    if (mapping_->port() == nullptr) {
      return absl::FailedPreconditionError(
          "this program has no compiled journal: link epoch::journal");
    }
    const std::int64_t deadline_ns = DeadlineAfter(duration);
    // Raised once for the whole time: between two looks at `stop` others must still count on it.
    slot_->flags.FetchOr(kSlotFlushes);
    absl::Status s;
    do {
      const std::int64_t left_ns = deadline_ns - seam::MonotonicNanos();
      s = AwaitCommitted(kMaxEpoch, std::min(absl::Nanoseconds(left_ns), absl::Milliseconds(100)));
    } while (absl::IsDeadlineExceeded(s) && !stop() && seam::MonotonicNanos() < deadline_ns);
    SetFlags(slot_->flags.Load() & ~std::uint32_t{kSlotFlushes});
    return absl::IsDeadlineExceeded(s) ? absl::OkStatus() : s;
  }

  bool forked() const noexcept { return forked_; }

  // --- membership --------------------------------------------------------------------------------

  absl::Status Status() const {
    if (forked_) {
      return absl::FailedPreconditionError(
          "this participant belongs to the parent process: join anew after fork()");
    }
    if (left_) return absl::FailedPreconditionError("this participant has left the region");
    if (slot_->state.Load() != active_) {
      return absl::FailedPreconditionError(absl::StrCat("expelled: slot ", claim_.slot,
                                                        " was taken from \"", options_.name,
                                                        "\"; rejoin to go on"));
    }
    return absl::OkStatus();
  }

  // Active, and not parked any more. (A forked or departed participant's slot_ is never Active.)
  absl::Status Ready() {
    if (slot_->state.Load() != active_) [[unlikely]]
      return Status();
    if (parked_) [[unlikely]]
      Unpark();
    return absl::OkStatus();
  }

  void Leave() noexcept {
    if (forked_ || left_) return;
    left_ = true;
    ReturnSlot(*mapping_, claim_);
    slot_ = &nowhere_;
  }

  // A new participant in a new slot, in place of this one.
  absl::StatusOr<std::unique_ptr<ParticipantCore>> Successor() {
    EPOCH_CHECK(drafts_ == 0, "a Draft outlives its Participant");
    Leave();
    return Join(mapping_, options_);
  }

  const Mapping& mapping() const noexcept { return *mapping_; }
  const SlotClaim& claim() const noexcept { return claim_; }
  const std::string& name() const noexcept { return options_.name; }

  void BeforeFork() noexcept override {
    // Not through slot_, which may belong to another thread's Leave().
    pin_at_fork_ = view_.slots[claim_.slot].pin.Load(std::memory_order_relaxed);
  }
  void AfterForkInChild() noexcept override {
    // Pins and drafts copied from the parent must touch nothing that is shared. What was pinned at
    // the fork is remembered: the parent goes on, and its word with it.
    if (forked_) return;  // a child's child
    forked_ = true;
    set_listening(false);  // its thread is not here
    voter_.AfterForkInChild();
    if (!left_ && pin_at_fork_ == announced_) nowhere_.pin.Store(announced_);
    slot_ = &nowhere_;
  }

  absl::Status TooLarge(std::size_t size) const {
    return absl::OutOfRangeError(absl::StrCat("a state of ", size,
                                              " bytes does not fit: ", mapping_->path(),
                                              " was created for ", view_.geometry.state_bytes));
  }
  absl::Status ExpectedDiffers(Epoch expected, Epoch found) const {
    return absl::AbortedError(absl::StrCat("expected epoch ", expected, ", but the region is at ",
                                           found, "; nothing was changed"));
  }

 private:
  // False if what shared memory says can not be: it is checked before it is used.
  bool Fill(std::uint64_t word) noexcept {
    const StateWord head = StateWord::Unpack(word);
    if (!view_.ValidCell(head.version)) return false;
    const std::uint64_t length =
        view_.cells[head.version].length_bytes.Load(std::memory_order_relaxed);
    if (length > view_.geometry.state_bytes) return false;
    pinned_ = {head.epoch, view_.PayloadOf(head.version), static_cast<std::size_t>(length)};
    pinned_word_ = word;
    return true;
  }

  // The pin word was not "none": a pin is held already, or the slot is not this participant's.
  [[gnu::noinline]] bool PinAgain(std::uint64_t found) noexcept {
    if (forked_ || found != announced_) return false;
    ++nested_;
    release_word_ = 0;
    return true;
  }
  [[gnu::noinline]] void UnpinNested() noexcept {
    if (--nested_ == 0) release_word_ = unpinned_;
  }

  std::uint64_t PinWord(std::uint64_t head_word) const noexcept {
    return (unpinned_ & ~kNumberMask) | (head_word & kNumberMask);
  }

  // Announced already; something is not as the fast path wants it.
  [[gnu::noinline]] bool PinSlowly(std::uint64_t word, bool may_wait) noexcept {
    if (parked_) {
      // Before head is read: a scan that still met the flag, and so did not wait for this one, came
      // after its epoch was committed, and then that epoch is found here.
      EPOCH_POINT("pin.unparking");
      Unpark();
      word = view_.control->head.Load();
    }
    // Announce exactly what head names, and look again: once head still names it, it is protected,
    // and nothing else is. If head keeps moving, announce "all from here" instead, which holds for
    // whatever head names next: that bounds the loop.
#ifdef EPOCH_PIN_EXACT_ATTEMPTS  // a test build, that wants to come here more often
    constexpr int kExactAttempts = EPOCH_PIN_EXACT_ATTEMPTS;
#else
    constexpr int kExactAttempts = 64;
#endif
    for (int attempt = 0;; ++attempt) {
      if (StateWord::Unpack(word).phase == Phase::kClosed) {
        slot_->pin.Store(unpinned_);  // withdraw: the fence waits for exactly this
        Ring(*view_.control);
        if (slot_->state.Load() != active_) return false;
        // Whoever finds head closed drives: who closed it may be dead.
        HelpAccepted(view_);
        const Standing standing = DriveOnce();
        if (standing.found == Standing::Found::kDamaged) return false;
        if (!may_wait) {
          word = view_.control->head.Load();
          if (StateWord::Unpack(word).phase == Phase::kClosed) return false;
          attempt = -1;
          continue;
        }
        std::int64_t nanos = 1'000'000;
        if (standing.found == Standing::Found::kDisk && view_.durable) {
          // Unavailable: nobody writes the journal now; at the proposal's deadline that is final.
          const Flushing flushing = FlushOnce(nanos);
          if (!flushing.status.ok() && !absl::IsUnavailable(flushing.status) &&
              !absl::IsDataLoss(flushing.status)) {
            return false;
          }
        }
        if (standing.waits()) {
          SleepUnless(*view_.control, nanos, [&] { return view_.control->head.Load() != word; });
        }
        word = view_.control->head.Load();
        attempt = -1;
        continue;
      }
      const bool exact = attempt < kExactAttempts;
      announced_ = PinWord(word);
      slot_->pin.Exchange(exact ? announced_ : announced_ | kPinsAllFrom);  // A
      EPOCH_POINT("pin.announced_again");
      const std::uint64_t again = view_.control->head.Load();  // A
      const bool settled = again == word || !exact;
      word = again;
      if (settled && StateWord::Unpack(word).phase != Phase::kClosed) break;
    }
    if (slot_->state.Load() != active_) {
      slot_->pin.Store(unpinned_);
      return false;
    }
    if (announced_ != PinWord(word) || slot_->pin.Load(std::memory_order_relaxed) != announced_) {
      // Narrowed to what was found. A scan meets one word or the other, and both protect this
      // version. E: release, so that whoever meets the narrow word and frees other cells comes
      // after this participant's earlier reads of them.
      announced_ = PinWord(word);
      slot_->pin.Store(announced_, std::memory_order_release);  // E
    }
    if (!Fill(word)) {
      slot_->pin.Store(unpinned_);
      return false;
    }
    Acknowledge(StateWord::Unpack(word).epoch);
    return true;
  }

  void Acknowledge(Epoch epoch) noexcept {
    if (epoch == acknowledged_ || options_.acknowledges_by_hand) return;
    acknowledged_ = epoch;
    AcknowledgeIn(slot_->ack, epoch);
  }
  // Never back: the listener may have acknowledged a later one.
  void AcknowledgeIn(seam::Atomic<std::uint64_t>& ack, Epoch epoch) noexcept {
    const std::uint64_t word = (unpinned_ & ~kNumberMask) | epoch;
    std::uint64_t found = ack.Load(std::memory_order_relaxed);
    while (found == unpinned_ || OwnedWord::Unpack(found).number < epoch) {
      if (ack.CompareExchange(found, word)) {  // full barrier, then look at the bell
        Ring(*view_.control);
        return;
      }
    }
  }

  // Who votes for a proposal counts the votes next; the last one decides, and rings. For a vote
  // that others still have to join nobody has to wake up; but the proposer can do something for the
  // disk.
  void RingAfterVote(const Standing& standing) noexcept {
    if (standing.waits() && standing.found != Standing::Found::kVoter) Ring(*view_.control);
  }

  Standing DriveOnce() noexcept {
    if (forked_ || left_) return {};
    const Phase tail = StateWord::Unpack(view_.control->tail.Load()).phase;
    const Phase head = StateWord::Unpack(view_.control->head.Load()).phase;
    if (tail != Phase::kVoting && head != Phase::kClosed) return {};
    return Driver(*mapping_, claim_, help_guard()).Drive();
  }

  // For the listener: what is accepted, and nobody writes, is written by it.
  Standing HelpStalledJournal(std::uint64_t head, Standing standing) {
    const Epoch tail = StateWord::Unpack(view_.control->tail.Load()).epoch;
    // A journal that has failed moves no more; and to say so again would ring the listener itself.
    if (tail <= StateWord::Unpack(head).epoch || mapping_->port() == nullptr ||
        StateWord::Unpack(head).phase == Phase::kPoisoned) {
      stalled_at_ = 0;
      return standing;
    }
    if (std::exchange(stalled_at_, head) == head) {  // no progress for a slice
      mapping_->port()->Flush(claim_.slot, claim_.generation).IgnoreError();
    }
    return {Standing::Found::kDisk};
  }

  // Whether anybody but this participant has a say. Only words that rarely change are read.
  bool AnotherVotes() const noexcept {
    const std::uint32_t limit = view_.SlotLimit();
    for (std::uint32_t i = 0; i < limit; ++i) {
      const Slot& slot = view_.slots[i];
      if (i != claim_.slot && SlotWord::Unpack(slot.state.Load()).state == SlotState::kActive &&
          (slot.flags.Load() & (kSlotVoter | kSlotParked)) == kSlotVoter) {
        return true;
      }
    }
    return false;
  }

  // The last voter finishes a vote by itself, mostly within microseconds, and changes tail last.
  void SpinWhileTailIs(std::uint64_t tail) const noexcept {
    const std::int64_t until_ns = seam::MonotonicNanos() + kSpin_ns;
    do {
      for (int i = 0; i < 8; ++i) {
        if (view_.control->tail.Load() != tail) return;
        seam::CpuRelax();
      }
    } while (seam::MonotonicNanos() < until_ns);
  }

  struct Flushing {
    absl::Status status;
    std::string stalled;  // the disk is full
    bool moved = false;   // a batch became durable
    bool busy = false;    // another writes
  };
  // Writes a batch of the journal, or sees who does. `nanos`: lowered to when help is due.
  // Unavailable: nobody does.
  Flushing FlushOnce(std::int64_t& nanos) {
    Flushing flushing;
    JournalPort* port = mapping_->port();
    if (port == nullptr) {
      if (!SomebodyFlushes(*mapping_)) {
        flushing.status = absl::UnavailableError("nobody writes the journal now");
      }
      return flushing;
    }
    absl::StatusOr<JournalPort::Outcome> flushed = port->Flush(claim_.slot, claim_.generation);
    if (absl::IsResourceExhausted(flushed.status())) {
      flushing.stalled = std::string(flushed.status().message());
    } else if (!flushed.ok()) {
      flushing.status = flushed.status();
    } else if (flushed->progress == JournalPort::Progress::kMoved) {
      flushing.moved = true;
    } else if (flushed->progress == JournalPort::Progress::kBusy) {
      nanos = std::min(nanos, flushed->help_after_ns);
      flushing.busy = true;
    }
    return flushing;
  }

  void Unpark() noexcept {
    parked_ = false;
    SetFlags(slot_->flags.Load() & ~std::uint32_t{kSlotParked});
  }
  void SetFlags(std::uint32_t flags) noexcept { slot_->flags.Exchange(flags); }

  absl::Status JournalReady() {
    if (StateWord::Unpack(view_.control->head.Load()).phase == Phase::kPoisoned) {
      return absl::UnavailableError(
          absl::StrCat("the journal failed a write: ", mapping_->path(),
                       " is read-only until it is recovered (epochctl recover); nothing was "
                       "changed"));
    }
    JournalPort* port = mapping_->port();
    if (port == nullptr) {
      if (SomebodyFlushes(*mapping_)) return absl::OkStatus();
      return absl::UnavailableError(
          "nobody writes the journal: link epoch::journal, or run a process that serves it; "
          "nothing was changed");
    }
    if (view_.control->journal_stall_errno.Load(std::memory_order_relaxed) != 0) {
      // The disk was full. Try again; while it still is, take on nothing new.
      absl::StatusOr<JournalPort::Outcome> flushed = port->Flush(claim_.slot, claim_.generation);
      if (!flushed.ok()) {
        return absl::Status(
            flushed.status().code(),
            absl::StrCat(std::string(flushed.status().message()), "; nothing was changed"));
      }
      if (flushed->progress == JournalPort::Progress::kIdle) {
        view_.control->journal_stall_errno.Store(0, std::memory_order_relaxed);  // a late report
      } else if (flushed->progress == JournalPort::Progress::kBusy &&
                 view_.control->journal_stall_errno.Load(std::memory_order_relaxed) != 0) {
        return absl::ResourceExhaustedError(
            "the disk is full: accepted transitions wait for room for the next journal segment; "
            "nothing was changed");
      }
    }
    return absl::OkStatus();
  }

  absl::Status NoVersions() const {
    std::string holders;
    std::size_t count = 0;
    const auto add = [&](const std::string& holder) {
      if (++count <= 5) absl::StrAppend(&holders, holders.empty() ? "" : ", ", holder);
    };
    for (std::uint32_t i = 0; i < view_.SlotLimit(); ++i) {
      const PinReading pin = PinReading::Of(view_.slots[i].pin.Load());
      std::uint32_t drafted = 0;
      for (std::uint32_t cell = 0; cell < view_.geometry.versions; ++cell) {
        const OwnerWord owner = OwnerWord::Unpack(view_.cells[cell].owner.Load());
        drafted += owner.state == CellState::kDrafted && owner.slot == i ? 1 : 0;
      }
      const std::string who = DescribeSlot(view_, i);
      if (pin.held) {
        add(absl::StrCat(who, " pins ", pin.all_from ? "all from " : "", "epoch ", pin.epoch));
      }
      const Slot& slot = view_.slots[i];
      for (const auto* guard : {&slot.own, &slot.help, &slot.look, &slot.listen}) {
        if (!view_.ValidCell(OwnedWord::Unpack(guard->Load()).number)) continue;
        add(absl::StrCat(who, " looks at a proposal or an update"));
        break;
      }
      if (drafted != 0) add(absl::StrCat(who, " drafts ", drafted));
    }
    return absl::ResourceExhaustedError(
        absl::StrCat("no free version among ", view_.geometry.versions, " in ", mapping_->path(),
                     ": ", holders.empty() ? "nobody holds them any more, try again" : holders));
  }

  absl::Status Refused(Refusal refusal, Epoch at) const {
    switch (refusal) {
      case Refusal::kExpelled:
        return Status();
      case Refusal::kFull:
        return absl::OutOfRangeError("epoch numbers are used up");
      default:
        return absl::DataLossError(
            absl::StrCat(mapping_->path(), ": the tail word is damaged at epoch ", at));
    }
  }

  // Hot: everything that Pin and Unpin touch in this process.
  Slot* slot_;
  const std::uint64_t active_;
  const std::uint64_t unpinned_;
  std::uint64_t announced_;     // what Pin writes into the slot: an epoch that head has had
  std::uint64_t release_word_;  // what Unpin writes: unpinned_, or 0 while pins are nested
  // The head word that `pinned_` was read from. While head is still that word, its version is the
  // same one: it is Open, acknowledged, checked, and this participant is not parked. 0: none.
  std::uint64_t pinned_word_ = 0;
  PinnedState pinned_;
  const RegionView view_;
  Epoch acknowledged_ = kNone;
  std::uint32_t nested_ = 0;  // pins beyond the first
  bool parked_ = false;
  bool holds_tail_ = false;

  const std::shared_ptr<Mapping> mapping_;
  const JoinOptions options_;
  const SlotClaim claim_;
  std::uint32_t cursor_;
  std::uint32_t drafts_ = 0;
  bool forked_ = false;
  bool left_ = false;
  Voter voter_;
  Refusal refusal_ = Refusal::kAccepted;
  bool draft_is_lost_ = false;
  std::atomic<bool> listening_{false};  // a listener answers votes
  std::uint64_t stalled_at_ = 0;        // the listener's: head when it last looked
  std::uint64_t pin_at_fork_ = 0;
  Slot nowhere_{};  // what slot_ points to when the shared slot is not ours (any more)
};

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_PARTICIPANT_CORE_H_
