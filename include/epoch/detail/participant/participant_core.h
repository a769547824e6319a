// The machinery behind Participant, Pin and Draft: joining, drafting, proposing, on top of the
// floors below (member.h). See participant.h for what each call promises.
#ifndef EPOCH_DETAIL_PARTICIPANT_PARTICIPANT_CORE_H_
#define EPOCH_DETAIL_PARTICIPANT_PARTICIPANT_CORE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "epoch/detail/participant/pinning.h"
#include "epoch/detail/platform/check.h"
#include "epoch/detail/platform/deadline.h"

namespace epoch::detail {

// A journal that moves on by no batch in this time has a problem that is worth an error.
inline const absl::Duration kJournalPatience = absl::Seconds(10);

class ParticipantCore final : public Pinning {
 public:
  static absl::StatusOr<std::unique_ptr<ParticipantCore>> Join(std::shared_ptr<Mapping> mapping,
                                                               const JoinOptions& options) {
    if (mapping->read_only()) {
      return Because(Cause::kReadOnly,
                     absl::PermissionDeniedError(absl::StrCat(
                         mapping->path(), " is mapped read-only: open it for writing to join")));
    }
    if (options.name.size() >= kNameBytes) {
      return Because(Cause::kInvalid,
                     absl::InvalidArgumentError(absl::StrCat("participant name is longer than ",
                                                             kNameBytes - 1, " bytes")));
    }
    absl::StatusOr<SlotClaim> claim =
        TakeSlot(*mapping, options.name, options.voter ? std::uint32_t{kSlotVoter} : 0u);
    if (absl::IsResourceExhausted(claim.status())) {
      return Because(Cause::kNoSlot, claim.status(), HoldersOf(mapping->view()));
    }
    if (!claim.ok()) return Unchanged(claim.status());
    std::unique_ptr<ParticipantCore> core;
    try {
      core = std::make_unique<ParticipantCore>(Badge{}, mapping, options, *claim);
    } catch (...) {  // no memory: nobody else would give the slot back while this process lives
      ReturnSlot(*mapping, *claim);
      throw;
    }
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
      : Pinning(std::move(mapping), options, claim),
        // Participants start their search for cells apart from each other.
        cursor_(claim.slot * 7 % view_.geometry.versions) {
    Register();
  }
  ~ParticipantCore() {
    EPOCH_CHECK(!pinned(), "a Pin outlives its Participant");
    EPOCH_CHECK(drafts_ == 0, "a Draft outlives its Participant");
    EPOCH_CHECK(!listening(), "a Listener outlives its Participant");
    Leave();
    Unregister();
  }

  // A new participant in a new slot, in place of this one.
  absl::StatusOr<std::unique_ptr<ParticipantCore>> Successor() {
    EPOCH_CHECK(drafts_ == 0, "a Draft outlives its Participant");
    Leave();
    return Join(mapping_, options_);
  }

  void AfterForkInChild() noexcept override {
    // Pins and drafts copied from the parent must touch nothing that is shared. What was pinned at
    // the fork is remembered: the parent goes on, and its word with it.
    if (forked_) return;  // a child's child
    forked_ = true;
    voter_.AfterForkInChild();
    if (!left_ && pin_at_fork_ == announced_) nowhere_.pin.Store(announced_);
    slot_ = &nowhere_;
  }

  // --- drafting and committing -------------------------------------------------------------------

  // In a durable region waits for a cell until the deadline, and at most as long as a healthy
  // journal would ever take.
  absl::StatusOr<DraftedCell> NewDraft(std::size_t size, Limit& limit) {
    if (size > view_.geometry.state_bytes) [[unlikely]]
      return TooLarge(size);
    for (bool reaped = false;;) {
      if (absl::Status s = Ready(); !s.ok()) [[unlikely]]
        return s;
      if (auto cell = DraftCell(view_, claim_.slot, cursor_); cell.has_value()) [[likely]] {
        ++drafts_;
        return *cell;
      }
      if (absl::Status s = AwaitCell(limit, reaped); !s.ok()) return s;
    }
  }

  void Drop(const DraftedCell& cell) noexcept {
    --drafts_;
    if (!forked_) DropDraft(view_, cell);
  }
  bool drafting() const noexcept { return drafts_ != 0; }
  // Runs `body`, which has the draft accepted, or says why not. If it throws, the draft is dropped,
  // unless it is the region's by then.
  template <typename Body>
  auto Offering(const DraftedCell& cell, Body&& body) -> decltype(body()) {
    const std::uint32_t held = drafts_;
    try {
      return body();
    } catch (...) {
      if (drafts_ == held) Drop(cell);
      throw;
    }
  }

  std::byte* PayloadOf(const DraftedCell& cell) const noexcept {
    return view_.PayloadOf(cell.index);
  }
  std::uint64_t state_bytes() const noexcept { return view_.geometry.state_bytes; }

  // `again`: if the region is not at `expected` the caller tries again, and reads no error.
  absl::StatusOr<Epoch> Accept(const DraftedCell& cell, std::size_t size, std::uint64_t token,
                               std::optional<Epoch> expected, Limit& limit, bool again) {
    refusal_ = Refusal::kAccepted;  // of the call before: says nothing of this one
    if (absl::Status s = Ready(); !s.ok()) return s;
    if (view_.durable) {
      // Before the tail CAS: after it, "accepted, outcome pending" is the only honest answer.
      if (absl::Status s = JournalReady(); !s.ok()) return s;
      if (options_.window != 0) {
        if (absl::Status s = AwaitWindow(limit); !s.ok()) return s;
      }
    }
    const std::uint64_t digest = Xxh64::Of(PayloadOf(cell), size);
    Acceptance accepted = detail::Accept(view_, claim_, cell, size, digest, token, expected);
    if (accepted.refusal == Refusal::kVoting) [[unlikely]] {
      do {
        if (absl::Status s = AwaitDecision(limit); !s.ok()) return s;
        accepted = detail::Accept(view_, claim_, cell, size, digest, token, expected);
      } while (accepted.refusal == Refusal::kVoting);
    }
    refusal_ = accepted.refusal;
    if (accepted.refusal == Refusal::kAccepted) [[likely]] {
      --drafts_;
      if (view_.durable) Announce(size);
      return accepted.at;
    }
    if (accepted.refusal == Refusal::kExpectedDiffers) {
      return again ? absl::AbortedError("") : ExpectedDiffers(*expected, accepted.at);
    }
    return Refused(accepted.refusal, accepted.at);
  }

  // Whether whoever has lost a race may try again.
  absl::Status MayGoOn(Limit& limit) {
    constexpr const char* kOthersFirst = "others were faster each time; nothing was changed";
    if (limit.Interrupted()) return WasInterrupted(kOthersFirst);
    if (!limit.deadline.never() && limit.deadline.Passed()) {
      return Because(Cause::kTimedOut, absl::DeadlineExceededError(kOthersFirst));
    }
    return absl::OkStatus();
  }

  // Until fewer than `window` epochs are accepted and not durable yet.
  absl::Status AwaitWindow(Limit& limit) {
    const Epoch tail = StateWord::Unpack(view_.control->tail.Load()).epoch;
    if (tail < HeadEpoch() + options_.window) return absl::OkStatus();
    absl::Status s = AwaitCommitted(tail - options_.window + 1, limit);
    if (s.ok()) return s;
    if (Details(s).cause == Cause::kPoisoned) return JournalFailed();
    const std::string why =
        absl::IsDeadlineExceeded(s) ? "" : absl::StrCat(": ", std::string(s.message()));
    return Reworded(s, absl::StrCat(options_.window,
                                    " transitions are under way, the window of this participant",
                                    why, "; nothing was changed"));
  }

  // As Accept, but the others decide. Blocks until they have; on success the transition is accepted
  // and, in a volatile region, visible. `ballot` says what is asked of them; its number is given
  // here.
  absl::StatusOr<Epoch> Agree(const DraftedCell& draft, std::size_t size, std::uint64_t token,
                              std::optional<Epoch> expected, Ballot ballot, Limit& limit,
                              bool again = false) {
    const std::uint32_t held = drafts_;
    const bool in_update = holds_tail_;
    proposed_ = false;
    try {
      return AgreeUnlessThrown(draft, size, token, expected, ballot, limit, again);
    } catch (...) {
      // The others decide without this proposer, who cannot tell what comes of it.
      if (!forked_ && !in_update) {
        WritesNoMore();
        slot_->own.Store(unpinned_, std::memory_order_release);
      }
      if (proposed_ && drafts_ == held) --drafts_;
      throw;
    }
  }

 private:
  absl::StatusOr<Epoch> AgreeUnlessThrown(const DraftedCell& draft, std::size_t size,
                                          std::uint64_t token, std::optional<Epoch> expected,
                                          Ballot ballot, Limit& limit, bool again) {
    draft_is_lost_ = false;
    refusal_ = Refusal::kAccepted;
    if (absl::Status s = Ready(); !s.ok()) return s;
    if (ballot.fence && pinned()) {
      return Refuse(
          Cause::kPinHeld,
          "a fenced transition would wait for the pin that its proposer holds: release it "
          "first; nothing was changed");
    }
    if (holds_tail_) return InUpdate();
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
    if (ballot.fence) WillWrite();
    const auto unguarded = [this](absl::Status status) {
      WritesNoMore();
      slot_->own.Store(unpinned_, std::memory_order_release);
      return status;
    };
    Acceptance accepted{};
    for (;;) {
      if (ballot.round != 0 &&
          GatherWord::Unpack(view_.control->gather.Load()).round != ballot.round) {
        return unguarded(
            Because(Cause::kGaveUp, absl::AbortedError("the collective round is over")));
      }
      accepted = detail::Accept(view_, claim_, draft, size, digest, token, expected, ballot);
      refusal_ = accepted.refusal;
      proposed_ = accepted.refusal == Refusal::kAccepted;
      if (proposed_) break;
      if (accepted.refusal == Refusal::kExpectedDiffers) {
        return unguarded(again ? absl::AbortedError("") : ExpectedDiffers(*expected, accepted.at));
      }
      if (accepted.refusal != Refusal::kVoting) {
        return unguarded(Refused(accepted.refusal, accepted.at));
      }
      // What is up for decision may wait for this contributor, who answers it by itself: refusal()
      // says so.
      if (ballot.round != 0) {
        return unguarded(
            Because(Cause::kBusy, absl::UnavailableError("another vote is undecided")));
      }
      if (absl::Status s = AwaitDecision(limit); !s.ok()) return unguarded(s);
    }
    VersionCell& cell = view_.cells[draft.index];
    const std::uint64_t voting = StateWord{Phase::kVoting, draft.index, accepted.at}.Pack();
    // To look meanwhile would only take away the lines that the voters need.
    if (ballot.voters && AnotherVotes()) SpinWhileTailIs(voting);
    // Its own deadline ends it, so there is no other; and this cannot fail.
    DriveUntil(limit, &cell, [&] {
      return OutcomeWord::Unpack(cell.outcome.Load()).decision != Decision::kUndecided &&
             view_.control->tail.Load() != voting;
    }).IgnoreError();
    if (forked_) return Status();  // guard and proposal are the parent's
    const OutcomeWord outcome = OutcomeWord::Unpack(cell.outcome.Load());
    if (outcome.decision < Decision::kCommitted || outcome.ballot != ballot.number) {
      // Tail may still name the cell: it must not be dropped, nor used again by this process.
      WritesNoMore();
      --drafts_;
      draft_is_lost_ = true;
      return With(
          absl::DataLossError(absl::StrCat(
              mapping_->path(), ": what epoch ", accepted.at,
              " was to become was overwritten while it was up for decision; its outcome is "
              "unknown")),
          {.cause = Cause::kDamaged, .outcome = Outcome::kUnknown, .accepted = accepted.at});
    }
    // Marked Retired by now: to drop the draft changes nothing.
    if (outcome.decision != Decision::kCommitted) {
      const bool own = outcome.cause == AbortCause::kWithdrawn && outcome.culprit == claim_.slot;
      if ((own || outcome.cause == AbortCause::kPoisoned) && !why_not_flushed_.ok()) {
        return unguarded(SayUnchanged(
            Reworded(why_not_flushed_, absl::StrCat("epoch ", accepted.at, " was taken back: ",
                                                    std::string(why_not_flushed_.message())))));
      }
      if (own && limit.yes) {
        return unguarded(WasInterrupted(
            absl::StrCat("epoch ", accepted.at,
                         " was taken back before it was agreed on; nothing was changed")));
      }
      return unguarded(WhyAborted(outcome, accepted.at,
                                  ballot.least_voters == kSomeVoter ? 1 : ballot.least_voters,
                                  ballot.expel));
    }
    --drafts_;
    slot_->own.Store(unpinned_, std::memory_order_release);
    return accepted.at;
  }

 public:
  // Of the last proposal: its words were damaged, and nobody may touch its cell.
  bool draft_is_lost() const noexcept { return draft_is_lost_; }
  // Why the last transition was not accepted, if it was not.
  Refusal refusal() const noexcept { return refusal_; }

  // The words for an abort; names the culprit, and what it said.
  // `expels`: whoever was late was to be expelled, unless that left too few.
  absl::Status WhyAborted(const OutcomeWord& outcome, Epoch epoch, std::uint32_t least_voters = 0,
                          bool expels = false) const {
    const bool known =
        outcome.cause != AbortCause::kNobody && outcome.culprit < view_.geometry.participants;
    const std::string who = known ? DescribeSlot(view_, outcome.culprit) : "somebody";
    const auto blame = [&](Cause cause, absl::Status status, std::string reason = {}) {
      return Because(cause, std::move(status),
                     CulpritsAt(view_, known ? outcome.culprit : kNoSlot, std::move(reason)));
    };
    constexpr const char* kUnchanged = "; nothing was changed";
    switch (outcome.cause) {
      case AbortCause::kNobody:
        return blame(Cause::kTooFewVoters,
                     absl::FailedPreconditionError(absl::StrCat(
                         "epoch ", epoch, " needs the agreement of at least ", least_voters,
                         least_voters == 1 ? " voter" : " voters", " (min_voters), and ",
                         outcome.culprit == 0 ? std::string("none is in")
                                              : absl::StrCat("only ", outcome.culprit, " accepted"),
                         kUnchanged)));
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
        absl::Status rejected =
            absl::AbortedError(absl::StrCat("epoch ", epoch, " was rejected by ", who,
                                            reason.empty() ? "" : ": ", reason, kUnchanged));
        return blame(Cause::kRejected, std::move(rejected), std::move(reason));
      }
      case AbortCause::kDigestDiffers:
        return blame(Cause::kOtherBytes, absl::AbortedError(absl::StrCat(
                                             "epoch ", epoch, ": ", who,
                                             " found other bytes than were drafted", kUnchanged)));
      case AbortCause::kDeadline:
        return blame(Cause::kTimedOut,
                     absl::DeadlineExceededError(absl::StrCat(
                         "epoch ", epoch, " was not agreed on in time: ",
                         known ? absl::StrCat(who, " did not answer, or did not let go of its pin")
                               : "earlier epochs were not on disk yet" + why_stalled_,
                         known && expels ? absl::StrCat("; without it fewer than ", least_voters,
                                                        " voters (min_voters) would be left, so "
                                                        "it was not expelled")
                                         : "",
                         kUnchanged)));
      case AbortCause::kPoisoned:
        // Nobody is to blame for it, whatever slot the word names.
        return Because(
            Cause::kPoisoned,
            absl::UnavailableError(absl::StrCat(
                "epoch ", epoch, ": the journal has failed, or nobody writes it", kUnchanged)));
      case AbortCause::kDied:
        return blame(Cause::kGone, absl::AbortedError(absl::StrCat(
                                       who, " died, left or was expelled meanwhile", kUnchanged)));
      case AbortCause::kTag:
        return blame(Cause::kOtherTag,
                     absl::AbortedError(absl::StrCat(who, " brought another tag", kUnchanged)));
      default:
        return blame(Cause::kGaveUp, absl::AbortedError(absl::StrCat(who, " gave up", kUnchanged)));
    }
  }

  absl::Status TooLarge(std::size_t size) const {
    return Because(Cause::kTooLarge,
                   absl::OutOfRangeError(
                       absl::StrCat("a state of ", size, " bytes does not fit: ", mapping_->path(),
                                    " was created for ", view_.geometry.state_bytes)));
  }
  absl::Status ExpectedDiffers(Epoch expected, Epoch found) const {
    return With(
        absl::AbortedError(absl::StrCat("expected epoch ", expected, ", but the region is at ",
                                        found, "; nothing was changed")),
        {.cause = Cause::kExpectedDiffers,
         .outcome = Outcome::kUnchanged,
         .expected = expected,
         .actual = found});
  }

 private:
  // There may be a free cell again. `reaped`: this was called before, and looked for the dead.
  [[gnu::noinline]] absl::Status AwaitCell(Limit& limit, bool& reaped) {
    const Epoch head = HeadEpoch();
    const StateWord tail = StateWord::Unpack(view_.control->tail.Load());
    // What is undecided may never become visible: nothing to wait for.
    if (view_.durable && tail.epoch - (tail.phase == Phase::kVoting ? 1 : 0) > head) {
      // Accepted versions wait for the disk: back-pressure, not exhaustion.
      const Deadline whole = limit.deadline;
      limit.deadline = std::min(whole, Deadline::After(kJournalPatience));
      absl::Status s = AwaitCommitted(head + 1, limit);
      limit.deadline = whole;
      if (s.ok()) return s;
      if (Details(s).cause == Cause::kPoisoned) return JournalFailed();
      return Reworded(s, absl::StrCat("no free version, and the journal does not move on: ",
                                      std::string(s.message()), "; nothing was changed"));
    }
    if (reaped) return NoVersions();
    ReapAll(*mapping_);
    reaped = true;
    return absl::OkStatus();
  }

  // Whether anybody but this participant has a say. Only words that rarely change are read.
  bool AnotherVotes() const noexcept {
    const std::uint32_t limit = view_.SlotLimit();
    for (std::uint32_t i = 0; i < limit; ++i) {
      const Slot& slot = view_.slots[i];
      if (i != claim_.slot && SlotWord::Unpack(slot.state.Load()).state == SlotState::kActive &&
          HasAVote(slot.flags.Load())) {
        return true;
      }
    }
    return false;
  }

  absl::Status NoVersions() const {
    std::string holders;
    std::vector<Culprit> culprits;
    std::size_t count = 0;
    const auto add = [&](const std::string& holder) {
      if (++count <= 5) absl::StrAppend(&holders, holders.empty() ? "" : ", ", holder);
    };
    for (std::uint32_t i = 0; i < view_.SlotLimit(); ++i) {
      const std::size_t before = count;
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
      for (const auto* guard : GuardsOf(slot)) {
        if (!view_.ValidCell(OwnedWord::Unpack(guard->Load()).number)) continue;
        add(absl::StrCat(who, " looks at a proposal or an update"));
        break;
      }
      if (drafted != 0) add(absl::StrCat(who, " drafts ", drafted));
      if (count > before && culprits.size() < kMostCulprits) {
        culprits.push_back(CulpritAt(view_, i));
      }
    }
    return Because(Cause::kNoVersion,
                   absl::ResourceExhaustedError(absl::StrCat(
                       "no free version among ", view_.geometry.versions, " in ", mapping_->path(),
                       ": ", holders.empty() ? "nobody holds them any more, try again" : holders)),
                   std::move(culprits));
  }

  std::uint32_t cursor_;
  std::uint32_t drafts_ = 0;
  Refusal refusal_ = Refusal::kAccepted;
  bool draft_is_lost_ = false;
  bool proposed_ = false;  // Agree's: tail names, or has named, its draft
};

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_PARTICIPANT_PARTICIPANT_CORE_H_
