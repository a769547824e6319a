// A participant's side of a vote: find the proposal, look at its bytes under a guard, answer once.
//
// Thread safety: all functions may be called from the participant's thread and from its listener's.
// A mutex lets one of them vote at a time; it is held while the validator runs, and nothing that
// must not wait takes it. Progress: blocking on the validator, nothing else.
// Invariant: a vote is final for its ballot. Before it a reject has its reason and digest written.
// Barrier K: the exchange that casts a vote publishes digest and reason; pairs with J in Driver.
#ifndef EPOCH_DETAIL_PARTICIPANT_VOTER_H_
#define EPOCH_DETAIL_PARTICIPANT_VOTER_H_

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "epoch/detail/platform/printable.h"
#include "epoch/detail/protocol/driver.h"
#include "epoch/details.h"
#include "epoch/vote.h"

namespace epoch::detail {

// The reason that `slot` gave with exactly this vote, as printable text; empty if it has voted
// again since.
inline std::string ReadReason(const Slot& slot, std::uint64_t vote) {
  if (slot.vote.Load() != vote) return {};
  std::string reason;
  for (std::size_t at = 0; at + 1 < kReasonBytes; ++at) {
    const std::uint64_t word = slot.reason[at / 8].Load(std::memory_order_relaxed);
    const char c = static_cast<char>(word >> (8 * (at % 8)));
    if (c == '\0') break;
    reason += c;
  }
  seam::AcquireFence();  // pairs with the release stores of the next reason
  return slot.vote.Load() == vote ? Shown(reason, ' ') : std::string();
}

class Voter {
 public:
  Voter(const Mapping& mapping, const SlotClaim& claim)
      : view_(mapping.view()), claim_(claim), slot_(view_.slots[claim.slot]), mapping_(mapping) {}

  void SetValidator(Validator validator) {
    const std::lock_guard lock(mutex_);
    // Not in place of the one that is running, and calls this.
    (busy_ ? next_validator_ : validator_) = std::move(validator);
    has_next_ = busy_;
  }

  // This is a fork child: another thread's lock is never released here, and the slot is the
  // parent's.
  void AfterForkInChild() noexcept {
    dead_.store(true, std::memory_order_relaxed);
    std::construct_at(&mutex_);
  }

  // The slot is about to go. Waits for another thread's answer: its guard and its vote would be the
  // next owner's.
  void Leave() noexcept {
    const std::lock_guard lock(mutex_);
    dead_.store(true, std::memory_order_relaxed);
  }

  // Whether tail has something up for decision that was not answered yet. Two loads.
  bool Asked() const noexcept {
    if (dead()) return false;
    const StateWord tail = StateWord::Unpack(view_.control->tail.Load());
    if (tail.phase != Phase::kVoting || !view_.ValidCell(tail.version)) return false;
    // All lines of a proposal at once, not one after the other; the first one to be written, too.
    const VersionCell& cell = view_.cells[tail.version];
    __builtin_prefetch(&cell.outcome, 1);
    __builtin_prefetch(&cell.round);
    __builtin_prefetch(view_.PayloadOf(tail.version));
    // Unguarded, so perhaps of another life of the cell: then it is looked at once too often.
    return cell.ballot.Load(std::memory_order_relaxed) != answered_.load(std::memory_order_relaxed);
  }

  // Answers what tail has up for decision, if this participant has a say and did not answer yet.
  // `guard` as for Driver. True: a vote was cast; the caller drives next, and rings if that is of
  // no avail (Helping::RingAfterVote).
  bool Answer(seam::Atomic<std::uint64_t>& guard) {
    if (!Asked()) return false;
    // Not waiting: the other thread is answering already.
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock() || busy_ || dead()) return false;
    Driver driver(mapping_, claim_, guard);
    std::uint64_t word = 0;
    if (!driver.Hold(view_.control->tail, Phase::kVoting, word)) return false;
    // However this ends: without memory for it nobody has voted, and another look may do it.
    struct Held {
      Voter& voter;
      Driver& driver;
      ~Held() {
        voter.quiet_ = false;
        // Dead: the validator forked, and this is the child. The guard is the parent's.
        if (!voter.dead()) driver.Release();
      }
    };
    bool cast = false;
    {
      const Held held{*this, driver};
      quiet_ = true;
      cast = AnswerHeld(StateWord::Unpack(word));
    }
    return cast && !dead();
  }

  // The answer to a proposal for which the validator said Later.
  absl::Status AnswerLater(std::uint64_t ballot, const epoch::Answer& answer) {
    if (!answer.accepts() && !answer.rejects()) {
      return Because(Cause::kInvalid, absl::InvalidArgumentError("a vote is Accept or Reject"));
    }
    const std::lock_guard lock(mutex_);
    // Only under the mutex: a participant that leaves waits for it.
    if (dead()) {
      return Because(Cause::kLeft,
                     absl::FailedPreconditionError("this participant has left the region, or "
                                                   "belongs to the parent process"));
    }
    if (!Active()) {
      return Because(Cause::kExpelled,
                     absl::FailedPreconditionError(absl::StrCat(
                         "expelled: slot ", claim_.slot, " was taken away; rejoin to go on")));
    }
    if (busy_) {
      return Because(Cause::kBusy,
                     absl::FailedPreconditionError("a vote inside of a validator: return it"));
    }
    if (ballot != later_) {
      return Because(Cause::kOther,
                     absl::FailedPreconditionError(absl::StrCat(
                         "ballot ", ballot, " was not put off by this participant's validator")));
    }
    later_ = 0;
    // `look` is used under this mutex only.
    Driver driver(mapping_, claim_, slot_.look);
    std::uint64_t word = 0;
    const bool held = driver.Hold(view_.control->tail, Phase::kVoting, word);
    const std::uint32_t index = StateWord::Unpack(word).version;
    const bool current =
        held && view_.cells[index].ballot.Load(std::memory_order_relaxed) == ballot;
    const bool cast = current && Cast(view_.cells[index], ballot,
                                      answer.accepts() ? Verdict::kAccept : Verdict::kReject,
                                      later_digest_, answer.reason());
    if (held) driver.Release();
    if (cast) return absl::OkStatus();
    return Because(Cause::kOther,
                   absl::AbortedError(absl::StrCat(
                       "ballot ", ballot,
                       current ? ": it is decided or answered already, or this participant has left"
                               : " is decided already")));
  }

  // Also for a collective proposal, whose contributor answers by itself (gathering.h). The caller
  // holds the proposal, so that a reject can decide it at once. False: no vote was cast.
  bool Cast(VersionCell& cell, std::uint64_t ballot, Verdict verdict, std::uint64_t digest,
            std::string_view reason) {
    const std::lock_guard lock(mutex_);
    // Whoever left, was expelled or forked has no slot to write to.
    if (dead() || !Active()) return false;
    const auto generation = static_cast<std::uint16_t>(claim_.generation);
    // The proposal may have been decided while the caller looked at it, and the vote be that on the
    // next one by now, of the other thread. As long as it is not, tail stays with it.
    // In which order outcome and vote are loaded does not matter: whoever else in this process
    // votes has had the mutex, and nobody outside of it writes this slot's vote.
    const OutcomeWord outcome = OutcomeWord::Unpack(cell.outcome.Load());
    if (outcome.decision != Decision::kUndecided || outcome.ballot != (ballot & kBallotMask)) {
      return false;
    }
    // The listener may have answered while the other thread made up its mind, or the other way
    // round: somebody may have counted that vote.
    const VoteWord said = VoteWord::Unpack(slot_.vote.Load());
    if (said.generation == generation && said.ballot == (ballot & kBallotMask) &&
        (said.verdict == Verdict::kAccept || said.verdict == Verdict::kReject)) {
      answered_.store(ballot, std::memory_order_relaxed);
      return false;
    }
    if (verdict == Verdict::kReject) {
      // Takes the last vote back first: its reason is about to go.
      slot_.vote.Exchange(VoteWord{generation, Verdict::kUnsaid, ballot}.Pack());
      for (std::size_t word = 0; word < kReasonBytes / 8; ++word) {
        std::uint64_t packed = 0;
        for (std::size_t i = 0; i < 8; ++i) {
          const std::size_t at = word * 8 + i;
          if (at < reason.size() && at < kMaxReasonBytes) {
            packed |= std::uint64_t{static_cast<unsigned char>(reason[at])} << (8 * i);
          }
        }
        slot_.reason[word].Store(packed, std::memory_order_release);
      }
    }
    slot_.vote_digest.Store(digest, std::memory_order_relaxed);
    EPOCH_POINT("vote.before_cast");
    slot_.vote.Exchange(VoteWord{generation, verdict, ballot}.Pack());  // K
    EPOCH_POINT("vote.cast");
    answered_.store(ballot, std::memory_order_relaxed);
    // Whoever counts votes finds this one; but this participant may be gone by then.
    bool heard = true;
    if (verdict == Verdict::kReject &&
        !(Active() && DecideAborted(cell, ballot, AbortCause::kRejected, claim_.slot))) {
      // Another decided. If that was a commit, it did not count this voter, who came too late for
      // it.
      const OutcomeWord decided = OutcomeWord::Unpack(cell.outcome.Load());
      heard = decided.decision != Decision::kCommitted || decided.ballot != (ballot & kBallotMask);
    }
    if (!quiet_ || verdict == Verdict::kReject) Ring(*view_.control);
    return heard;
  }

 private:
  bool dead() const noexcept { return dead_.load(std::memory_order_relaxed); }
  bool Active() const noexcept {
    return slot_.state.Load() == SlotWord{SlotState::kActive, claim_.generation}.Pack();
  }

  bool AnswerHeld(const StateWord& tail) {
    constexpr auto kRelaxed = std::memory_order_relaxed;
    VersionCell& cell = view_.cells[tail.version];
    const std::uint64_t ballot = cell.ballot.Load(kRelaxed);
    const std::uint64_t shape = cell.shape.Load(kRelaxed);
    const std::uint64_t length = cell.length_bytes.Load(kRelaxed);
    const std::uint64_t proposer = cell.proposer.Load(kRelaxed);
    const std::uint64_t mine = ProposerWord{claim_.slot, claim_.generation}.Pack();
    const std::uint32_t flags = slot_.flags.Load();
    if (OutcomeWord::Unpack(cell.outcome.Load()).decision != Decision::kUndecided) return false;
    if (!VotersOf(shape) || (flags & kSlotVoter) == 0 || proposer == mine || !Active()) {
      answered_.store(ballot, kRelaxed);  // nobody waits for this one
      return false;
    }
    if ((flags & kSlotParked) != 0) return false;
    if (const std::uint64_t round = cell.round.Load(kRelaxed); round != 0) {
      // A contributor answers where it waits, as it knows what it gave.
      if (OwnedWord::Unpack(slot_.offer.Load()).number == round) return false;
      if (GatherWord::Unpack(view_.control->gather.Load()).round != round) {
        return Cast(cell, ballot, Verdict::kReject, 0, "the collective round is over");
      }
    }
    // Its bytes first: a validator should not have to expect what nobody proposed.
    if (length > view_.geometry.state_bytes) {
      return Cast(cell, ballot, Verdict::kReject, 0, "the proposal claims an impossible length");
    }
    const std::span<const std::byte> state(view_.PayloadOf(tail.version), length);
    const std::uint64_t digest = Digest(state);
    if (digest != cell.digest.Load(kRelaxed)) {
      return Cast(cell, ballot, Verdict::kReject, digest,
                  "the proposal's bytes do not match its digest");
    }
    epoch::Answer answer = epoch::Answer::Accept();
    if (validator_) {
      const std::uint32_t slot = ProposerWord::Unpack(proposer).slot;
      const std::string name =
          slot < view_.geometry.participants ? ReadName(view_.slots[slot]) : std::string();
      answer = Ask({.epoch = tail.epoch,
                    .ballot = ballot,
                    .token = cell.token.Load(kRelaxed),
                    .fence = FenceOf(shape),
                    .proposer = name,
                    .state = state});
    }
    EPOCH_POINT("vote.validated");
    if (!answer.accepts() && !answer.rejects()) {
      later_ = ballot;
      later_digest_ = digest;
      answered_.store(ballot, kRelaxed);
      return false;
    }
    return Cast(cell, ballot, answer.accepts() ? Verdict::kAccept : Verdict::kReject, digest,
                answer.reason());
  }

  epoch::Answer Ask(const Proposal& proposal) {
    struct Busy {
      Voter& voter;
      ~Busy() {
        voter.busy_ = false;
        if (std::exchange(voter.has_next_, false)) {
          voter.validator_ = std::move(voter.next_validator_);
        }
      }
    } const busy{*this};
    busy_ = true;
    try {
      return validator_(proposal);
    } catch (const std::exception& e) {
      return epoch::Answer::Reject(absl::StrCat("the validator threw: ", e.what()));
    } catch (...) {
      return epoch::Answer::Reject("the validator threw something");
    }
  }

  const RegionView& view_;
  const SlotClaim& claim_;
  Slot& slot_;
  const Mapping& mapping_;
  seam::RecursiveMutex mutex_;  // a validator may call back, and is turned away
  Validator validator_, next_validator_;
  bool has_next_ = false;
  // Written under the mutex, but for a fork child; Asked reads it without. Plain std::atomic: of
  // this process alone.
  std::atomic<bool> dead_{false};
  bool busy_ = false;   // a validator that calls back
  bool quiet_ = false;  // Answer casts, whose caller counts
  // What needs no further look. Plain std::atomic: of this process alone.
  std::atomic<std::uint64_t> answered_{0};
  std::uint64_t later_ = 0;
  std::uint64_t later_digest_ = 0;
};

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_PARTICIPANT_VOTER_H_
