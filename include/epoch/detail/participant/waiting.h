// How a participant waits: in slices, helping whatever it waits for.
//
// Progress: blocking, at most until the deadline that the caller gives.
#ifndef EPOCH_DETAIL_PARTICIPANT_WAITING_H_
#define EPOCH_DETAIL_PARTICIPANT_WAITING_H_

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "epoch/detail/memory/bell.h"
#include "epoch/detail/participant/helping.h"
#include "epoch/detail/platform/deadline.h"

namespace epoch::detail {

// How long to look at a vote before sleeping: about as long as a sleep and a wake-up take.
inline constexpr std::int64_t kSpin_ns = 30'000;
// Of those who wait for the journal, the ones whose turn is next look after its writer.
inline constexpr Epoch kWatchers = 3;

class Waiting : public Helping {
 public:
  // Waits until nothing is up for decision any more.
  absl::Status AwaitDecision(Limit& limit) {
    return DriveUntil(limit, nullptr, [&] {
      return StateWord::Unpack(view_.control->tail.Load()).phase != Phase::kVoting;
    });
  }

  // `own`: this participant's proposal, up for decision; then there is no error, and its own
  // deadline ends it, not the limit's. To be interrupted is to take it back, if it is not decided
  // yet.
  template <typename Done>
  absl::Status DriveUntil(Limit& limit, VersionCell* own, Done&& done) {
    // A death is noticed within 2 ms.
    Slices slices(own == nullptr ? limit.deadline : Deadline::Never(), 1'000'000, 1'000'000);
    int turns = 0;
    std::string& stalled = why_stalled_;
    stalled.clear();
    why_not_flushed_ = absl::OkStatus();
    for (bool spun = false;;) {
      const std::uint32_t armed = spun ? Arm(*view_.control) : 0;
      if (own != nullptr && done()) return absl::OkStatus();
      const std::uint64_t tail = view_.control->tail.Load();
      const Standing standing = Step();
      if (done()) return absl::OkStatus();
      if (standing.found == Standing::Found::kDamaged) {
        return Damaged(*mapping_, "what tail has up for a vote, or head is closed for, is damaged");
      }
      if (forked_) return Status();  // a validator forked, and this is the child
      if (own != nullptr && standing.found == Standing::Found::kNothing) {
        // Until it is decided tail names it: unless somebody has written over tail. (Loaded after
        // that look at tail: it was undecided all the while.)
        const OutcomeWord outcome = OutcomeWord::Unpack(own->outcome.Load());
        if (outcome.decision == Decision::kUndecided) {
          return Damaged(*mapping_, "tail does not name what is up for a vote");
        }
      }
      if (own == nullptr) {
        if (absl::Status s = Status(); !s.ok()) return s;
        if (standing.found == Standing::Found::kReader && standing.slot == claim_.slot) {
          return WaitsForItself("; nothing was changed");
        }
      }
      std::int64_t due_ns = INT64_MAX;
      if (limit.Interrupted(due_ns)) {
        if (own == nullptr) return WasInterrupted("a vote is undecided; nothing was changed");
        // Whatever it says: it is decided afterwards, and the next turn draws the consequences.
        DecideAborted(*own, own->ballot.Load(std::memory_order_relaxed), AbortCause::kWithdrawn,
                      claim_.slot);
        continue;
      }
      if (!standing.waits()) {
        // Something was finished, so look again. Words that never settle are damage.
        constexpr int kMostTurns = 1'000'000;
        if (own == nullptr && ++turns > kMostTurns) {
          return Damaged(*mapping_, "what tail has up for a vote never settles");
        }
        continue;
      }
      turns = 0;
      std::int64_t nanos = std::min(slices.Next(), due_ns);
      if (standing.found == Standing::Found::kDisk && view_.durable) {
        Flushing flushing = FlushOnce(nanos);
        if (!flushing.status.ok()) {
          if (own == nullptr) return SayUnchanged(flushing.status);
          // In the cell a cause that is true for all who read it; the words are the proposer's.
          const Cause cause = Details(flushing.status).cause;
          const bool everybodys = cause == Cause::kPoisoned || cause == Cause::kNoWriter;
          // (Of a journal that has failed the cell says enough.)
          if (cause != Cause::kPoisoned) why_not_flushed_ = flushing.status;
          DecideAborted(*own, own->ballot.Load(std::memory_order_relaxed),
                        everybodys ? AbortCause::kPoisoned : AbortCause::kWithdrawn,
                        everybodys ? 0 : claim_.slot);
        }
        if (!flushing.stalled.empty()) stalled = absl::StrCat(" (", flushing.stalled, ")");
        if (flushing.moved || !flushing.status.ok()) continue;
      }
      if (nanos <= 0) {
        if (done()) return absl::OkStatus();
        const bool disk = standing.found == Standing::Found::kDisk;
        return Because(Cause::kTimedOut,
                       absl::DeadlineExceededError(absl::StrCat(
                           "a vote is undecided: it waits for ",
                           disk ? "the disk" + stalled : DescribeSlot(view_, standing.slot),
                           "; nothing was changed")),
                       CulpritsAt(view_, disk ? kNoSlot : standing.slot));
      }
      if (!spun) {
        SpinWhileTailIs(tail);
        spun = true;
      } else {
        seam::FutexWait(&view_.control->bell, armed, nanos);
      }
    }
  }

  // Until what this participant's call has had accepted is visible. Every error says that it is
  // accepted.
  absl::Status AwaitAccepted(Epoch epoch, Limit& limit) {
    absl::Status s = AwaitCommitted(epoch, limit, /*accepted=*/true);
    return s.ok() ? s : Pending(epoch, s);
  }

  // Until what this participant's call has read, and left as it is, is visible. What becomes of it
  // is another's; of this call there is nothing to pend.
  absl::Status AwaitRead(Epoch epoch, Limit& limit) {
    const absl::Status s = AwaitCommitted(epoch, limit, /*accepted=*/true);
    return s.ok() ? s : NothingChanged(epoch, s);
  }

  // Until the region has reached an epoch, whoever made it, or will.
  absl::Status AwaitEpoch(Epoch epoch, Limit& limit) {
    absl::Status s = AwaitCommitted(epoch, limit);
    if (s.ok()) return s;
    const StateWord tail = StateWord::Unpack(view_.control->tail.Load());
    const bool accepted = tail.epoch - (tail.phase == Phase::kVoting ? 1 : 0) >= epoch;
    return accepted ? Pending(epoch, s) : s;
  }

  // Waits; the errors are about the waiting, and say nothing of what becomes of the epoch.
  // `accepted`: the epoch is this participant's own transition. To be expelled changes nothing
  // about it any more; an error would say that nothing was changed, and be wrong.
  absl::Status AwaitCommitted(Epoch epoch, Limit& limit, bool accepted = false) {
    struct Written {
      Waiting* self;
      bool before;  // then the call that this is a part of ends it
      ~Written() {
        if (!before) self->WritesNoMore();
      }
    } const written{this, writes_};
    if (HeadEpoch() >= epoch) return absl::OkStatus();
    if (absl::Status s = Status(); !accepted && !s.ok()) return s;
    const Deadline deadline = limit.deadline;
    // Whoever writes the journal may die, and a batch takes much less than a millisecond.
    const std::int64_t first_ns = view_.durable ? 400'000 : 1'000'000;
    Slices slices(deadline, first_ns);
    Watch watch;
    std::string stalled;
    for (;;) {
      // What comes after this is not seen by Step, and is not slept through.
      const std::uint64_t seen = view_.control->tail.Load();
      const Standing standing = Step();
      const StateWord head = StateWord::Unpack(view_.control->head.Load());
      if (head.epoch >= epoch) return absl::OkStatus();
      if (head.phase == Phase::kPoisoned) {
        return With(
            absl::DataLossError(
                absl::StrCat("the journal failed: whether epoch ", epoch,
                             " is durable is unknown until recovery; head stays at ", head.epoch)),
            {.cause = Cause::kPoisoned, .outcome = Outcome::kUnchanged, .actual = head.epoch});
      }
      if (head.phase == Phase::kClosed) {
        WillWrite();
      } else if (!written.before) {
        WritesNoMore();  // of that fence; the next one is not to hang on this wait
      }
      std::int64_t nanos = slices.Next();
      const bool interrupted = limit.Interrupted(nanos);
      bool idle = true;
      const std::uint64_t tail_word = view_.control->tail.Load();
      if (standing.waits()) {
        if (standing.found == Standing::Found::kReader && standing.slot == claim_.slot) {
          return WaitsForItself();
        }
        nanos = std::min<std::int64_t>(nanos, 1'000'000);  // deaths and deadlines ring no bell
      }
      if (view_.durable && StateWord::Unpack(tail_word).epoch > head.epoch) {
        Flushing flushing = FlushOnce(nanos, epoch);
        if (!flushing.status.ok() && HeadEpoch() >= epoch) return absl::OkStatus();
        if (!flushing.status.ok()) return flushing.status;
        if (!flushing.stalled.empty()) stalled = absl::StrCat(" (", flushing.stalled, ")");
        if (flushing.moved && nanos > 0 && !interrupted) {
          slices = Slices(deadline, first_ns);
          continue;
        }
        idle = !flushing.busy;
        // Somebody has to notice soon that whoever writes is dead; not all who wait.
        if (flushing.busy && epoch <= head.epoch + kWatchers) {
          nanos = std::min(
              nanos, std::max({first_ns,
                               view_.control->flush_latency_ns.Load(std::memory_order_relaxed) / 2,
                               watch.StoodStill(head.Pack()) / 4}));
        }
      }
      if (nanos <= 0 || interrupted) {
        if (HeadEpoch() >= epoch) return absl::OkStatus();
        const std::string where =
            absl::StrCat("the region is at epoch ", head.epoch, ", not yet at ", epoch, stalled);
        return With(
            interrupted ? absl::CancelledError("interrupted: " + where)
                        : absl::DeadlineExceededError(where),
            {.cause = interrupted ? Cause::kInterrupted : Cause::kTimedOut,
             .outcome = Outcome::kUnchanged,
             .actual = head.epoch,
             .culprits = CulpritsAt(view_, standing.found == Standing::Found::kVoter ||
                                                   standing.found == Standing::Found::kReader
                                               ? standing.slot
                                               : kNoSlot)});
      }
      JournalPort* const port = view_.durable ? mapping_->port() : nullptr;
      if (port != nullptr && StateWord::Unpack(tail_word).epoch <= head.epoch) {
        port->Rest(claim_.slot);
      }
      if (accepted && port != nullptr && !standing.waits() && (!options_.voter || listening())) {
        // Nothing else has to wake it up; the rest is for the slices. Head moved since: a batch is
        // done, and it may be this one's turn to freeze the next.
        SleepAtUnless(DoorOf(*view_.control, epoch), nanos,
                      [&] { return view_.control->head.Load() != head.Pack(); });
        continue;
      }
      SleepUnless(*view_.control, nanos, [&] {
        if (view_.control->head.Load() != head.Pack()) return true;
        // While somebody writes, only a vote concerns this participant: whoever waits is asked,
        // too.
        const std::uint64_t now = view_.control->tail.Load();
        return now != seen && (idle || StateWord::Unpack(now).phase == Phase::kVoting);
      });
    }
  }

  absl::Status AwaitConverged(Epoch epoch, Limit& limit) {
    if (pinned()) {
      return Refuse(
          Cause::kPinHeld,
          "waiting for convergence while holding a pin would wait for oneself: release it first");
    }
    if (options_.acknowledges_by_hand && (acknowledged_ == kNone || acknowledged_ < epoch)) {
      return Refuse(
          Cause::kBusy,
          "waiting for convergence before having acknowledged by hand would wait for oneself");
    }
    if (absl::Status s = AwaitEpoch(epoch, limit); !s.ok()) return s;
    Slices slices(limit.deadline, 1'000'000, 2'000'000);  // a death is noticed within 2 ms
    const auto converged = [&] {
      bool behind = false;
      ForEachStraggler(*mapping_, epoch, [&](std::uint32_t) { return !(behind = true); });
      return !behind;
    };
    for (;;) {
      if (absl::StatusOr<Epoch> polled = Poll(); !polled.ok()) return polled.status();
      if (converged()) return absl::OkStatus();
      std::int64_t nanos = slices.Next();
      const bool interrupted = limit.Interrupted(nanos);
      if (nanos <= 0 || interrupted) {
        const std::string what = absl::StrCat(interrupted ? "interrupted: " : "", "epoch ", epoch,
                                              " is committed, but not acknowledged by ",
                                              NameStragglers(*mapping_, epoch));
        return With(interrupted ? absl::CancelledError(what) : absl::DeadlineExceededError(what),
                    {.cause = interrupted ? Cause::kInterrupted : Cause::kTimedOut,
                     .outcome = Outcome::kUnchanged,
                     .actual = HeadEpoch(),
                     .culprits = StragglersAsCulprits(*mapping_, epoch)});
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

  absl::Status Serve(absl::Duration duration, absl::FunctionRef<bool()> stop) {
    if (absl::Status s = Status(); !s.ok()) return s;
    if (!view_.durable) {
      return Refuse(Cause::kInvalid, "the region is volatile: there is no journal to serve");
    }
    if (mapping_->port() == nullptr) {
      return Refuse(Cause::kNoWriter, "this program has no compiled journal: link epoch::journal");
    }
    const Deadline deadline = Deadline::After(duration);
    // Raised once for the whole time: between two looks at `stop` others must still count on it.
    slot_->flags.FetchOr(kSlotFlushes);
    struct Flushes {
      Waiting* self;
      ~Flushes() { self->SetFlags(self->slot_->flags.Load() & ~std::uint32_t{kSlotFlushes}); }
    };
    absl::Status s;
    const Flushes flushes{this};
    do {
      const absl::Duration left = absl::Nanoseconds(deadline.Left_ns());
      Limit limit(Deadline::After(std::min(left, absl::Milliseconds(100))));
      s = AwaitCommitted(kMaxEpoch, limit);
    } while (absl::IsDeadlineExceeded(s) && !stop() && !deadline.Passed());
    return absl::IsDeadlineExceeded(s) ? absl::OkStatus() : s;
  }

 protected:
  using Helping::Helping;
  ~Waiting() = default;

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

  // Of the last vote that this participant proposed: why it could not get to the disk what the vote
  // waited for; OK if that did not end it. And what the disk lacked, if it only took its time.
  absl::Status why_not_flushed_;
  std::string why_stalled_;

 private:
  // How long head has stood still, as far as whoever looks after a writer has seen. A quarter of
  // that between two looks: a batch is written by others long before that matters, unless it opens
  // a segment, for which they wait 100 ms longer. To look 250 times meanwhile shows nothing more.
  class Watch {
   public:
    std::int64_t StoodStill(std::uint64_t head) noexcept {
      const std::int64_t now = seam::MonotonicNanos();
      if (head != head_) {
        head_ = head;
        since_ns_ = now;
      }
      return now - since_ns_;
    }

   private:
    std::uint64_t head_ = 0;  // none yet: no phase is 0
    std::int64_t since_ns_ = 0;
  };
};

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_PARTICIPANT_WAITING_H_
