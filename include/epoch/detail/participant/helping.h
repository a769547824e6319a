// What a participant does for whatever is under way, its own or another's: answers votes, drives
// them, makes visible what was accepted, and writes the journal.
//
// Thread safety: ListenOnce is the listener's, the rest its participant's. Progress: no step waits,
// but for a validator or a write to the disk.
#ifndef EPOCH_DETAIL_PARTICIPANT_HELPING_H_
#define EPOCH_DETAIL_PARTICIPANT_HELPING_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "epoch/detail/participant/member.h"
#include "epoch/detail/participant/voter.h"
#include "epoch/detail/protocol/accept.h"
#include "epoch/detail/protocol/driver.h"

namespace epoch::detail {

// How much is proposed before it is sent on its way to the disk, if nobody waits for it.
inline constexpr std::size_t kSendAt_bytes = std::size_t{256} << 10;

class Helping : public Member {
 public:
  Voter& voter() noexcept { return voter_; }
  // The guards of this participant's thread, and of its listener's.
  seam::Atomic<std::uint64_t>& own_guard() noexcept { return view_.slots[claim_.slot].own; }
  seam::Atomic<std::uint64_t>& look_guard() noexcept { return view_.slots[claim_.slot].look; }
  seam::Atomic<std::uint64_t>& help_guard() noexcept { return view_.slots[claim_.slot].help; }
  seam::Atomic<std::uint64_t>& listen_guard() noexcept { return view_.slots[claim_.slot].listen; }

  // Its voter first: another thread may be about to answer by Participant::Vote.
  void Leave() noexcept {
    if (!forked_ && !left_) voter_.Leave();
    Member::Leave();
  }

  // This participant is in a call that writes the journal until its own fenced transition is in it:
  // whoever finds head closed for that, and cannot write, is not to give it up at its deadline,
  // which a writer that gets no processor may miss. Before the transition can be decided; not for
  // longer than the call, or readers would hang on one that never comes back.
  void WillWrite() noexcept {
    if (writes_ || !view_.durable || mapping_->port() == nullptr) return;
    writes_ = true;
    slot_->flags.FetchOr(kSlotWrites);
  }
  void WritesNoMore() noexcept {
    if (!writes_) [[likely]]
      return;
    writes_ = false;
    SetFlags(slot_->flags.Load() & ~std::uint32_t{kSlotWrites});
  }

  bool listening() const noexcept { return listening_.load(std::memory_order_relaxed); }
  void set_listening(bool listening) noexcept {
    listening_.store(listening, std::memory_order_relaxed);
  }

  // Does what this participant can do for what is under way: answer, drive, make visible.
  Standing Step() {
    HelpAccepted(view_);
    if (forked_ || left_) return {};
    if (view_.durable) ReapJournal();
    const bool cast = !listening() && voter_.Asked() && voter_.Answer(look_guard());
    const Standing standing = DriveOnce();
    if (cast) RingAfterVote(standing);
    return standing;
  }

  // The same, and acknowledging, for the listener's thread.
  Standing ListenOnce() {
    if (forked_) return {};
    if (view_.durable) ReapJournal();
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

 protected:
  Helping(std::shared_ptr<Mapping> mapping, const JoinOptions& options, const SlotClaim& claim)
      : Member(std::move(mapping), options, claim), voter_(*mapping_, claim_) {}
  ~Helping() = default;

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
      if (mapping_->port() != nullptr) mapping_->port()->Rest(claim_.slot);
      return standing;
    }
    if (std::exchange(stalled_at_, head) == head) {  // no progress for a slice
      mapping_->port()->Flush(claim_.slot, kMaxEpoch).IgnoreError();
    }
    return {Standing::Found::kDisk};
  }

  struct Flushing {
    absl::Status status;
    std::string stalled;  // the disk is full
    bool moved = false;   // a batch became durable
    bool busy = false;    // another writes
  };
  // Writes a batch of the journal, or sees who does. `nanos`: lowered to when help is due. What is
  // accepted behind `wanted` is left to those who wait for it. Unavailable: nobody writes, or this
  // process cannot.
  Flushing FlushOnce(std::int64_t& nanos, Epoch wanted = kMaxEpoch) {
    Flushing flushing;
    unsent_ = 0;
    unsent_bytes_ = 0;
    JournalPort* port = mapping_->port();
    if (port == nullptr) {
      if (!SomebodyFlushes(*mapping_)) {
        flushing.status =
            Because(Cause::kNoWriter, absl::UnavailableError("nobody writes the journal now"));
      }
      return flushing;
    }
    absl::StatusOr<JournalPort::Outcome> flushed = port->Flush(claim_.slot, wanted);
    if (flushed.ok()) {
      if (flushed->progress == JournalPort::Progress::kMoved) {
        flushing.moved = true;
      } else if (flushed->progress == JournalPort::Progress::kBusy) {
        nanos = std::min(nanos, flushed->help_after_ns);
        flushing.busy = true;
      }
    } else if (IsNoRoom(flushed.status())) {
      flushing.stalled = std::string(flushed.status().message());
    } else if (absl::IsResourceExhausted(flushed.status())) {
      flushing.status = absl::UnavailableError(
          absl::StrCat("this process cannot write the journal (",
                       std::string(flushed.status().message()), "), and others may"));
    } else {
      flushing.status = WhyNotFlushed(flushed.status());
    }
    return flushing;
  }

  // What this process sent on its way may be done; somebody waits for the word that it is.
  void ReapJournal() {
    if (JournalPort* const port = mapping_->port(); port != nullptr) port->Reap();
  }

  // Of what was accepted and nobody waits for, the disk gets its part while more is proposed.
  void Announce(std::size_t size) {
    JournalPort* const port = mapping_->port();
    if (port == nullptr) {
      Ring(*view_.control);  // whoever serves the journal may be asleep
      return;
    }
    constexpr std::size_t kOverhead_bytes = 100;  // of a record; what counts is roughly its share
    unsent_bytes_ += size + kOverhead_bytes;
    if (++unsent_ * 4 < view_.geometry.versions && unsent_bytes_ < kSendAt_bytes) return;
    unsent_ = 0;
    unsent_bytes_ = 0;
    port->Start(claim_.slot);
  }

  // What a port's error means for this participant. Unavailable is kept for: nobody writes.
  absl::Status WhyNotFlushed(const absl::Status& status) const {
    const bool poisoned = StateWord::Unpack(view_.control->head.Load()).phase == Phase::kPoisoned;
    if (Details(status).cause != Cause::kNone) return status;
    const Cause cause = absl::IsFailedPrecondition(status) ? Cause::kJournalAway
                        : !absl::IsDataLoss(status)        ? Cause::kOther
                        : poisoned                         ? Cause::kPoisoned
                                                           : Cause::kDamaged;
    return Because(cause, status);
  }

  absl::Status JournalFailed() const {
    return Because(Cause::kPoisoned,
                   absl::UnavailableError(absl::StrCat(
                       "the journal failed a write: ", mapping_->path(),
                       " is read-only until it is recovered (epochctl recover); nothing was "
                       "changed")));
  }

  absl::Status JournalReady() {
    if (StateWord::Unpack(view_.control->head.Load()).phase == Phase::kPoisoned) {
      return JournalFailed();
    }
    JournalPort* port = mapping_->port();
    if (port == nullptr) {
      if (SomebodyFlushes(*mapping_)) return absl::OkStatus();
      return Because(Cause::kNoWriter, absl::UnavailableError(
                                           "nobody writes the journal: link epoch::journal, or run "
                                           "a process that serves it; nothing was changed"));
    }
    if (view_.control->journal_stall_errno.Load(std::memory_order_relaxed) != 0) {
      // The disk was full. Try again; while it still is, take on nothing new.
      absl::StatusOr<JournalPort::Outcome> flushed = port->Flush(claim_.slot, kMaxEpoch);
      if (!flushed.ok()) {
        absl::Status why = absl::IsResourceExhausted(flushed.status())
                               ? Because(Cause::kNoSpace, flushed.status())
                               : WhyNotFlushed(flushed.status());
        return Reworded(why, absl::StrCat(std::string(why.message()), "; nothing was changed"));
      }
      if (flushed->progress == JournalPort::Progress::kIdle) {
        view_.control->journal_stall_errno.Store(0, std::memory_order_relaxed);  // a late report
      } else if (flushed->progress == JournalPort::Progress::kBusy &&
                 view_.control->journal_stall_errno.Load(std::memory_order_relaxed) != 0) {
        return Because(Cause::kNoSpace,
                       absl::ResourceExhaustedError(
                           "the disk is full: accepted transitions wait for room for the next "
                           "journal segment; nothing was changed"));
      }
    }
    return absl::OkStatus();
  }

  std::uint32_t unsent_ = 0;  // accepted since the journal was last looked after
  std::size_t unsent_bytes_ = 0;
  Voter voter_;
  std::atomic<bool> listening_{false};  // a listener answers votes
  std::uint64_t stalled_at_ = 0;        // the listener's: head when it last looked
  bool writes_ = false;                 // its slot says kSlotWrites
};

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_PARTICIPANT_HELPING_H_
