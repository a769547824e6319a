// One participant's side of a collective commit.
//
//   1. offer: contribution, tag and length, then the word `offer` (generation, round)
//   2. all voters that are in have an offer for this round: the one in the lowest slot, or whoever
//      has waited, assembles them and proposes them, as a vote
//   3. each contributor answers: accept, if its own part is there and nobody is missing that it has
//      seen; it holds the proposal until that is decided
//   4. committed: the round ends with it. A death, another tag, a time-out: the round ends without.
//
// A round ends by one CAS on `gather`. It can end without a commit only through somebody who has
// not accepted its proposal, and without whom that cannot be committed: so never both.
//
// Thread safety: as Participant. Progress: blocking, at most until the time-out.
// Barriers:
//   L  the exchange of `offer` publishes the contribution; pairs with the load in Copy. A new one
//      is preceded by taking the old one back, so that a copy that met both is noticed.
#ifndef EPOCH_DETAIL_PARTICIPANT_GATHERING_H_
#define EPOCH_DETAIL_PARTICIPANT_GATHERING_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "epoch/detail/participant/participant_core.h"
#include "epoch/detail/platform/deadline.h"
#include "epoch/detail/protocol/collective.h"

namespace epoch::detail {

class Gathering {
 public:
  Gathering(ParticipantCore& core, std::uint64_t tag, std::span<const std::byte> contribution,
            const CollectiveOptions& options)
      : core_(core),
        view_(core.mapping().view()),
        claim_(core.claim()),
        slot_(view_.slots[claim_.slot]),
        tag_(tag),
        contribution_(contribution),
        options_(options),
        driver_(core.mapping(), claim_, core.own_guard()) {}

  absl::StatusOr<Epoch> Commit() {
    if (absl::Status s = Refusal(); !s.ok()) return s;
    limit_ = Limit::Of(options_);
    if (absl::Status s = NotYetCommitted(); !s.ok()) return s;
    Offer();
    if (round_ == 0 || round_ == kNone) {
      slot_.offer.Exchange(NoneOf(claim_.generation));
      return Damaged(core_.mapping(), "the collective round is damaged");
    }
    absl::StatusOr<Epoch> committed = GatherOrWithdraw();
    // A validator's child: guard, offer and round are the parent's.
    if (core_.forked()) return committed;
    TakeBack(committed.ok());
    if (!committed.ok() || !view_.durable) return committed;
    struct Writing {
      ParticipantCore& core;
      ~Writing() { core.WritesNoMore(); }
    } const writing{core_};
    if (options_.fence) core_.WillWrite();
    absl::Status s;
    do {  // however long it takes, so that all contributors end alike; unless nobody can write it
      s = core_.AwaitAccepted(*committed, limit_);
      limit_.deadline = Deadline::After(absl::Milliseconds(100));
    } while (absl::IsDeadlineExceeded(s) && view_.control->journal_stall_errno.Load() == 0);
    if (!s.ok()) return s;
    return committed;
  }

 private:
  // Whatever became of it here, the others are not to wait for this one; nor to go on with its
  // part, so the round ends before the offer does. (Who was expelled is not waited for.)
  void TakeBack(bool committed) noexcept {
    if (held_.has_value()) driver_.Release();
    if (!committed && core_.active()) {
      EndRound(view_, round_, AbortCause::kWithdrawn, claim_.slot);
    }
    slot_.offer.Exchange(NoneOf(claim_.generation));
  }
  absl::StatusOr<Epoch> GatherOrWithdraw() {
    try {
      return Gather();
    } catch (...) {  // no memory: as one that was interrupted
      if (!core_.forked()) TakeBack(false);
      throw;
    }
  }

  struct Held {
    std::uint32_t cell;
    std::uint64_t ballot;
    Epoch epoch;
    bool accepted;
  };

  absl::Status Refusal() {
    if (absl::Status s = core_.Ready(); !s.ok()) return s;
    if ((slot_.flags.Load() & kSlotVoter) == 0) {
      return Refuse(Cause::kInvalid,
                    "only voters contribute to a collective commit: join with voter = true");
    }
    if (options_.fence && core_.pinned()) {
      return Refuse(
          Cause::kPinHeld,
          "a fenced transition would wait for the pin that this participant holds: release "
          "it first");
    }
    const std::uint64_t least = sizeof(GatheredHeader) + GatheredBytes(contribution_.size());
    if (contribution_.size() > kMaxContributionBytes) {
      return Because(Cause::kTooLarge, absl::OutOfRangeError(absl::StrCat(
                                           "a contribution of ", contribution_.size(),
                                           " bytes: at most ", kMaxContributionBytes)));
    }
    return least > view_.geometry.state_bytes ? core_.TooLarge(least) : absl::OkStatus();
  }

  // A repeated, or a late, contribution to what is committed already.
  absl::Status NotYetCommitted() {
    absl::StatusOr<TailState> newest = core_.HoldTail(limit_);
    if (!newest.ok()) return newest.status();
    GatheredHeader header{};
    if (newest->length >= sizeof header) std::memcpy(&header, newest->bytes, sizeof header);
    const Epoch epoch = newest->epoch;
    core_.ReleaseTail();
    if (header.magic != kGatheredMagic || header.tag != tag_) return absl::OkStatus();
    return With(absl::AlreadyExistsError(
                    absl::StrCat("tag ", tag_, " was committed already, as epoch ", epoch)),
                {.cause = Cause::kRepeated, .outcome = Outcome::kUnchanged, .actual = epoch});
  }

  // If the round ends meanwhile, Gather finds that, and says why: this offer may have been seen.
  void Offer() noexcept {
    round_ = GatherWord::Unpack(view_.control->gather.Load()).round;
    for (std::size_t word = 0; word * 8 < contribution_.size(); ++word) {
      std::uint64_t packed = 0;
      std::memcpy(&packed, contribution_.data() + word * 8,
                  std::min<std::size_t>(8, contribution_.size() - word * 8));
      slot_.contribution[word].Store(packed, std::memory_order_release);
    }
    slot_.tag.Store(tag_, std::memory_order_release);
    slot_.contribution_bytes.Store(contribution_.size(), std::memory_order_release);
    EPOCH_POINT("gather.before_offer");
    slot_.offer.Exchange(OfferWord(claim_.generation));  // L
    EPOCH_POINT("gather.offered");
    Ring(*view_.control);
  }
  std::uint64_t OfferWord(std::uint64_t generation) const {
    return OwnedWord{static_cast<std::uint16_t>(generation), round_ & kNumberMask}.Pack();
  }

  absl::StatusOr<Epoch> Gather() {
    Slices slices(limit_.deadline, 1'000'000, 1'000'000);
    for (int waits = 0;; ++waits) {
      const std::uint32_t armed = Arm(*view_.control);
      standing_ = core_.Step();
      if (core_.forked()) return core_.Status();  // a validator forked, and this is the child
      AnswerOwn();
      if (held_.has_value()) {
        standing_ = core_.Step();
        const OutcomeWord outcome = OutcomeWord::Unpack(view_.cells[held_->cell].outcome.Load());
        if (outcome.ballot != (held_->ballot & kBallotMask)) {
          return Overwritten();
        }
        if (outcome.decision == Decision::kCommitted) {
          core_.Step();  // the one who decided may be dead
          if (held_->accepted) return held_->epoch;
          if (absl::Status s = core_.Ready(); !s.ok()) return s;
          return Because(Cause::kGaveUp,
                         absl::AbortedError(absl::StrCat("the collective commit of tag ", tag_,
                                                         " was made without this participant")));
        }
        if (outcome.decision == Decision::kAborted) {
          core_.Step();
          return Explained(outcome.cause, outcome.culprit, core_.WhyAborted(outcome, held_->epoch));
        }
        // Until it is decided tail names it, and there is somebody to wait for. (The outcome was
        // loaded after that look: it was undecided all the while.)
        if (standing_.found == Standing::Found::kDamaged ||
            standing_.found == Standing::Found::kNothing) {
          return Overwritten();
        }
      } else {
        if (absl::Status s = core_.Ready(); !s.ok()) return s;
        const GatherWord gather = GatherWord::Unpack(view_.control->gather.Load());
        if (gather.round != round_) return Ended(gather);
        complete_ = Scan();
        if (complete_) {
          const bool first = in_.front().slot == claim_.slot;
          if (first || waits >= kPatience) {
            std::optional<absl::StatusOr<Epoch>> proposed = Propose();
            if (proposed.has_value()) return *std::move(proposed);
          }
        }
      }
      std::int64_t nanos = slices.Next();
      if (limit_.Interrupted(nanos)) Withdraw();
      if (nanos <= 0) TimeOut(slices);
      seam::FutexWait(&view_.control->bell, armed, std::max<std::int64_t>(nanos, 50'000));
    }
  }

  // Who is in, and whether all of them have offered. Ends the round if it cannot succeed any more.
  bool Scan() {
    in_.clear();
    missing_.reset();
    const std::uint32_t limit = view_.SlotLimit();
    HeldBytes held(core_.mapping().probe_fd());
    for (std::uint32_t i = 0; i < limit; ++i) {
      const Slot& slot = view_.slots[i];
      const SlotWord state = SlotWord::Unpack(slot.state.Load());
      const std::uint32_t flags = slot.flags.Load();
      const auto seen = seen_.find(i);
      const bool same = seen != seen_.end() && seen->second == state.generation;
      const bool counts = state.state == SlotState::kActive && HasAVote(flags);
      if (counts && (seen == seen_.end() || same)) {
        if (!held.Alive(i)) {
          ReapSlot(core_.mapping(), i);
          return End(AbortCause::kDied, i);
        }
        seen_[i] = state.generation;
        if (slot.offer.Load() != OfferWord(state.generation)) {
          if (!missing_.has_value()) missing_ = i;
        } else if (slot.tag.Load(std::memory_order_relaxed) != tag_) {
          return End(AbortCause::kTag, i);
        } else {
          in_.push_back({.slot = i, .bytes = 0, .generation = state.generation});
        }
      } else if (seen != seen_.end()) {
        if (!PassedOver(i, seen->second)) return End(AbortCause::kDied, i);
        seen_.erase(seen);
        forced_ = true;
      }
    }
    if (missing_.has_value() || in_.empty()) return false;
    return options_.contributions == 0 || in_.size() == options_.contributions;
  }
  // Expelled by somebody's policy, and alive: then they go on without it.
  bool PassedOver(std::uint32_t slot, std::uint64_t generation) const noexcept {
    return options_.on_straggler == Straggler::kExpel &&
           view_.slots[slot].state.Load() == SlotWord{SlotState::kExpelled, generation}.Pack() &&
           OwnerAlive(core_.mapping().probe_fd(), slot);
  }
  bool End(AbortCause cause, std::uint32_t culprit) noexcept {
    EndRound(view_, round_, cause, culprit);
    return false;
  }

  // A copy of what the slot offers for this round. False: it does not any more.
  bool Copy(GatheredPart& part, std::vector<std::byte>& to) const {
    const Slot& slot = view_.slots[part.slot];
    if (slot.offer.Load() != OfferWord(part.generation)) return false;  // L
    const std::uint64_t bytes = slot.contribution_bytes.Load(std::memory_order_relaxed);
    if (bytes > kMaxContributionBytes) return false;
    part.bytes = static_cast<std::uint32_t>(bytes);
    const std::size_t at = to.size();
    to.resize(at + GatheredBytes(bytes));
    std::memcpy(to.data() + at, &part, sizeof part);
    for (std::size_t word = 0; word * 8 < bytes; ++word) {
      const std::uint64_t packed = slot.contribution[word].Load(std::memory_order_relaxed);
      std::memcpy(to.data() + at + sizeof part + word * 8, &packed, 8);
    }
    seam::AcquireFence();
    return slot.offer.Load() == OfferWord(part.generation);  // L
  }

  // Nothing: look again.
  std::optional<absl::StatusOr<Epoch>> Propose() {
    const GatheredHeader header{kGatheredMagic, tag_, in_.size()};
    std::vector<std::byte> state(sizeof header);
    std::memcpy(state.data(), &header, sizeof header);
    for (GatheredPart& part : in_) {
      if (!Copy(part, state)) return std::nullopt;
    }
    if (state.size() > view_.geometry.state_bytes) return core_.TooLarge(state.size());
    // Those who were waited for to the last moment still have to answer.
    limit_.deadline = std::max(limit_.deadline, Deadline::After(kGrace));
    absl::StatusOr<DraftedCell> draft = core_.NewDraft(state.size(), limit_);
    if (!draft.ok()) return draft.status();
    std::memcpy(core_.PayloadOf(*draft), state.data(), state.size());
    absl::StatusOr<Epoch> agreed = core_.Offering(*draft, [&] {
      return core_.Agree(*draft, state.size(), tag_, std::nullopt,
                         {.deadline = limit_.deadline,
                          .voters = true,
                          .fence = options_.fence,
                          .forced = forced_,
                          .round = round_},
                         limit_);
    });
    if (agreed.ok() || core_.draft_is_lost()) return agreed;
    core_.Drop(*draft);
    if (core_.refusal() == Refusal::kVoting) return std::nullopt;  // another vote comes first
    if (absl::IsCancelled(agreed.status())) return agreed;
    // Another's proposal for this round may have been decided while this one waited for its turn.
    const GatherWord gather = GatherWord::Unpack(view_.control->gather.Load());
    if (gather.round == round_ + 1) {
      return Explained(gather.cause, gather.culprit, agreed.status());
    }
    return agreed;
  }

  // Answers the proposal of this round, once, and keeps it guarded until it is decided.
  void AnswerOwn() {
    if (held_.has_value() || !core_.voter().Asked()) return;
    std::uint64_t word = 0;
    if (!driver_.Hold(view_.control->tail, Phase::kVoting, word)) return;
    const StateWord tail = StateWord::Unpack(word);
    VersionCell& cell = view_.cells[tail.version];
    if (cell.round.Load(std::memory_order_relaxed) != round_) return driver_.Release();
    const std::uint64_t ballot = cell.ballot.Load(std::memory_order_relaxed);
    std::uint64_t digest = 0;
    std::string wrong = FaultOf(tail.version, cell, digest);
    // Up for decision already: if it is expelled from here on, that comes no later than this epoch.
    if (!core_.active()) wrong = "this contributor was expelled";
    held_ = Held{tail.version, ballot, tail.epoch, wrong.empty()};
    // Before its vote, without which this is not committed: its proposer may have come later.
    if (forced_ && wrong.empty()) MarkForced(cell, ballot);
    core_.voter().Cast(cell, ballot, wrong.empty() ? Verdict::kAccept : Verdict::kReject, digest,
                       wrong);
  }

  static void MarkForced(VersionCell& cell, std::uint64_t ballot) noexcept {
    std::uint64_t word = cell.outcome.Load();
    for (;;) {
      OutcomeWord outcome = OutcomeWord::Unpack(word);
      if (outcome.decision != Decision::kUndecided || outcome.ballot != (ballot & kBallotMask) ||
          std::exchange(outcome.forced, true) ||
          cell.outcome.CompareExchange(word, outcome.Pack())) {
        return;
      }
    }
  }

  // What is wrong with a proposal of this round; empty: nothing.
  std::string FaultOf(std::uint32_t proposal, const VersionCell& cell,
                      std::uint64_t& digest) const {
    const std::uint64_t length = cell.length_bytes.Load(std::memory_order_relaxed);
    if (length > view_.geometry.state_bytes) return "the proposal claims an impossible length";
    const std::span<const std::byte> state(view_.PayloadOf(proposal), length);
    digest = Digest(state);
    if (digest != cell.digest.Load(std::memory_order_relaxed)) {
      return "the proposal's bytes do not match its digest";
    }
    if (cell.token.Load(std::memory_order_relaxed) != tag_) return "it is of another tag";
    auto unseen = seen_;
    bool mine = false;
    const bool whole =
        ForEachContribution(state, [&](const GatheredPart& part, std::span<const std::byte> bytes) {
          const auto seen = unseen.find(part.slot);
          if (seen != unseen.end() && seen->second == part.generation) unseen.erase(seen);
          if (part.slot == claim_.slot && part.generation == claim_.generation) {
            mine =
                std::equal(bytes.begin(), bytes.end(), contribution_.begin(), contribution_.end());
          }
          return true;
        });
    if (!whole) return "it is not a collective state";
    if (!mine) return "it does not carry what this participant gave";
    for (const auto& [slot, generation] : unseen) {
      if (!PassedOver(slot, generation)) {
        return absl::StrCat("it leaves out ", DescribeSlot(view_, slot));
      }
    }
    return {};
  }

  void TimeOut(Slices& slices) {
    // Whoever was found missing may have answered since, and in time.
    if (held_.has_value()) {
      standing_ = core_.Step();
      if (!standing_.waits()) return;
      // Accepted already, so it may still be committed; or be decided against, once, for all.
      DecideAborted(view_.cells[held_->cell], held_->ballot, AbortCause::kDeadline,
                    standing_.waits() ? standing_.slot : claim_.slot);
      return;
    }
    if (missing_.has_value() && options_.on_straggler != Straggler::kExpel) {
      const Slot& slot = view_.slots[*missing_];
      if (slot.offer.Load() == OfferWord(SlotWord::Unpack(slot.state.Load()).generation) &&
          !std::exchange(looked_again_, true)) {
        slices = Slices(Deadline::After(kGrace), 1'000'000, 1'000'000);
        return;
      }
    }
    if (options_.on_straggler == Straggler::kExpel && missing_.has_value()) {
      const std::uint32_t straggler = *missing_;
      // It may have offered just now.
      const SlotWord state = SlotWord::Unpack(view_.slots[straggler].state.Load());
      const bool offered = view_.slots[straggler].offer.Load() == OfferWord(state.generation);
      // Without all that are missing those must be left that were asked for: nobody is expelled in
      // vain. (Those who were found missing may have offered since: so, once more.)
      const bool enough = options_.contributions == 0 || in_.size() == options_.contributions;
      if (!offered && !enough && !std::exchange(looked_again_, true)) {
        slices = Slices(Deadline::After(kGrace), 1'000'000, 1'000'000);
        return;
      }
      // Or others have expelled it at this very moment.
      if (offered || (enough && (ExpelSlot(core_.mapping(), straggler).ok() ||
                                 view_.slots[straggler].state.Load() != state.Pack()))) {
        if (!offered) seen_.erase(straggler);
        forced_ = forced_ || !offered;
        slices = Slices(Deadline::After(kGrace), 1'000'000, 1'000'000);
        return;
      }
    }
    if (complete_ && !std::exchange(graced_, true)) {
      slices = Slices(Deadline::After(kGrace), 1'000'000, 1'000'000);  // it is about to be proposed
      return;
    }
    EndRound(view_, round_, AbortCause::kDeadline, missing_.value_or(kNoSlot));
  }

  // Interrupted. Ends the round, or the proposal that this one has accepted, unless that is
  // decided: then the next look says so. Again and again until it is over: each try is one CAS at
  // most.
  void Withdraw() noexcept {
    if (held_.has_value()) {
      DecideAborted(view_.cells[held_->cell], held_->ballot, AbortCause::kWithdrawn, claim_.slot);
    } else {
      EndRound(view_, round_, AbortCause::kWithdrawn, claim_.slot);
    }
  }

  absl::Status Overwritten() const {
    return With(absl::DataLossError(
                    absl::StrCat(core_.mapping().path(), ": the outcome of ballot ", held_->ballot,
                                 ", or the word that names it, was overwritten: whether epoch ",
                                 held_->epoch, " was committed is unknown")),
                {.cause = Cause::kDamaged, .outcome = Outcome::kUnknown, .accepted = held_->epoch});
  }

  absl::Status Ended(const GatherWord& gather) const {
    if (gather.round != round_ + 1) {
      return Because(Cause::kGaveUp,
                     absl::AbortedError(absl::StrCat(
                         "the collective commit of tag ", tag_,
                         " was given up while this participant stood still; nothing was changed")));
    }
    if (gather.cause == AbortCause::kNobody) {
      return Because(
          Cause::kRepeated,
          absl::AlreadyExistsError(
              "the collective round was committed without this participant: it came too late"));
    }
    return Explained(gather.cause, gather.culprit,
                     core_.WhyAborted({.decision = Decision::kAborted,
                                       .forced = false,
                                       .cause = gather.cause,
                                       .culprit = gather.culprit,
                                       .ballot = 0},
                                      core_.HeadEpoch() + 1));
  }

  absl::Status Explained(AbortCause cause, std::uint32_t culprit, const absl::Status& why) const {
    const std::string what = absl::StrCat("the collective commit of tag ", tag_, " failed: ");
    const bool known = culprit < view_.geometry.participants;
    const std::string who = known ? DescribeSlot(view_, culprit) : "somebody";
    switch (cause) {
      case AbortCause::kDeadline: {
        return Because(Cause::kTimedOut,
                       absl::DeadlineExceededError(absl::StrCat(
                           what,
                           !known && options_.contributions != 0
                               ? absl::StrCat("only ", in_.size(), " of ", options_.contributions,
                                              " contributions came")
                               : absl::StrCat(who, " did not contribute"),
                           " in time; nothing was changed")),
                       CulpritsAt(view_, culprit));
      }
      case AbortCause::kTag: {
        const std::uint64_t other = known ? view_.slots[culprit].tag.Load() : 0;
        return Because(
            Cause::kOtherTag,
            absl::AbortedError(absl::StrCat(
                what, who, " brought ", other != tag_ ? absl::StrCat("tag ", other) : "this tag",
                other != tag_ ? "" : " while others brought another", "; nothing was changed")),
            CulpritsAt(view_, culprit));
      }
      default:
        if (cause == AbortCause::kWithdrawn && culprit == claim_.slot && limit_.yes) {
          return WasInterrupted(
              absl::StrCat("the collective commit of tag ", tag_,
                           " was given up for all contributors; nothing was changed"));
        }
        return Reworded(why, absl::StrCat(what, std::string(why.message())));
    }
  }

  // Slices of a millisecond for which the one in the lowest slot may take its time.
  static constexpr int kPatience = 3;
  // After the time-out, for what only has to be proposed and answered.
  static inline const absl::Duration kGrace = absl::Milliseconds(20);

  ParticipantCore& core_;
  const RegionView& view_;
  const SlotClaim& claim_;
  Slot& slot_;
  const std::uint64_t tag_;
  const std::span<const std::byte> contribution_;
  const CollectiveOptions options_;
  Driver driver_;
  Limit limit_;
  std::uint64_t round_ = 0;
  std::map<std::uint32_t, std::uint64_t> seen_;  // slot, generation: who was in meanwhile
  std::vector<GatheredPart> in_;                 // those with an offer
  std::optional<std::uint32_t> missing_;         // one without
  Standing standing_;
  std::optional<Held> held_;  // the proposal that this one has answered
  bool complete_ = false;     // all that is needed has been offered
  bool graced_ = false;
  bool looked_again_ = false;
  bool forced_ = false;
};

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_PARTICIPANT_GATHERING_H_
