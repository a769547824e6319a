// Reading: pins, and the guard under which an update reads tail. See participant.h for what is
// promised, docs/protocol.md for why it holds.
//
// Progress: Pin is wait-free, except while a fence drains.
// Barriers:
//   A  Pin: the CAS that announces the pin is also the store-load barrier before head is re-read;
//      pairs with C in Reclaim (head before pins) and with the fence's drain scan.
//   E  PinSlowly: narrowing an announcement releases what was read before.
//   G  HoldTail: the exchange that announces the guard, before tail is re-read; pairs with C.
#ifndef EPOCH_DETAIL_PARTICIPANT_PINNING_H_
#define EPOCH_DETAIL_PARTICIPANT_PINNING_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "epoch/detail/participant/waiting.h"
#include "epoch/detail/platform/deadline.h"
#include "epoch/detail/protocol/accept.h"

namespace epoch::detail {

struct TailState {
  Epoch epoch;
  std::uint64_t token;
  const std::byte* bytes;
  std::size_t length;
};

class Pinning : public Waiting {
 public:
  // False: expelled, forked away, or (only if it may not wait) a fence drains.
  //
  // The fast path stores nothing but the slot's own word: that word is also the only record of
  // whether a pin is held, since every further store would have to drain before the next CAS.
  //
  // `limit`: of a pin that may not wait as long as it takes; null: it may. One that has passed: not
  // at all.
  [[gnu::always_inline]] bool Pin(Limit* limit = nullptr) {
    Slot* const slot = slot_;  // loaded once: the compiler may not do so across the CAS
    // Any epoch that head has had will do for the announcement: an older one protects more.
    std::uint64_t found = unpinned_;
    const bool mine = slot->pin.CompareExchange(found, announced_);
    if (__builtin_expect(!mine, 0)) return PinAgain(found);
    EPOCH_POINT("pin.announced");
    const std::uint64_t word = view_.control->head.Load();  // A
    if (__builtin_expect(word != pinned_word_, 0)) return PinSlowly(word, limit);
    // After the announcement: either the expeller sees the pin, or this sees the expulsion.
    if (__builtin_expect(slot->state.Load() != active_, 0)) return PinSlowly(word, limit);
    return true;
  }

  [[gnu::always_inline]] void Unpin() noexcept {
    const std::uint64_t word = release_word_;
    if (__builtin_expect(word == 0, 0)) return UnpinNested();
    // Release: what was read through the pin is read before the cell may be recycled.
    slot_->pin.Store(word, std::memory_order_release);
  }

  // For whoever pins by other means than Pin() (include/epoch/c_inline.h), as the fast path above
  // does: goes on where that has announced `announced_` and did not find what it wanted.
  bool PinAnnounced(Limit* limit) { return PinSlowly(view_.control->head.Load(), limit); }
  // What that needs to know; of a participant that holds a pin just now.
  struct Announcing {
    seam::Atomic<std::uint64_t>* pin;
    std::uint64_t none;       // what stands there when nothing is pinned
    std::uint64_t announced;  // what Pin writes there
    const seam::Atomic<std::uint64_t>* head;
    std::uint64_t head_word;  // while head is that, `state` is what is pinned
    const seam::Atomic<std::uint64_t>* slot_state;
    std::uint64_t active;
    PinnedState state;
  };
  Announcing announcing() const noexcept {
    return {&slot_->pin,  unpinned_,     announced_, &view_.control->head,
            pinned_word_, &slot_->state, active_,    pinned_};
  }
  std::uint32_t nested_pins() const noexcept { return nested_; }

  // Why the last Pin() returned false. As it was found then: the words may have changed since.
  absl::Status WhyUnpinned() const {
    if (absl::Status s = Status(); !s.ok()) return s;
    switch (unpinned_because_) {
      case Unpinned::kDrains:
        return Because(Cause::kDraining, absl::UnavailableError("a fence drains: try again"));
      case Unpinned::kTimedOut:
        return Because(Cause::kTimedOut,
                       absl::DeadlineExceededError("a fence drains, and took longer than this"));
      case Unpinned::kInterrupted:
        return WasInterrupted("a fence drains");
      case Unpinned::kJournal:
        return Because(
            Cause::kOther,
            absl::UnavailableError(absl::StrCat(
                "a fenced transition is on its way to a journal that this process cannot "
                "write: ",
                std::string(unpinned_status_.message()))));
      case Unpinned::kHead:
        return Damaged(*mapping_,
                       "the epoch word, the version that it names, or what it is closed "
                       "for, is damaged: remove the region (epochctl rm)");
      case Unpinned::kPinWord:
        break;
    }
    return Damaged(*mapping_, absl::StrCat("the pin word of slot ", claim_.slot,
                                           " was overwritten by somebody else"));
  }

  // The newest accepted state, protected by a guard until ReleaseTail. Lock-free: tail moves on
  // under it only when another's transition was accepted. While a vote is undecided: blocking.
  absl::StatusOr<TailState> HoldTail(Limit& limit) {
    if (holds_tail_) return InUpdate();
    std::uint64_t word = view_.control->tail.Load();
    StateWord tail{};
    for (;;) {
      tail = StateWord::Unpack(word);
      if (tail.phase == Phase::kVoting) {
        ReleaseTail();
        if (absl::Status s = AwaitDecision(limit); !s.ok()) return s;
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

 protected:
  using Waiting::Waiting;
  ~Pinning() = default;

  absl::Status Refused(Refusal refusal, Epoch at) const {
    switch (refusal) {
      case Refusal::kExpelled:
        return Status();
      case Refusal::kFull:
        return Because(Cause::kOther, absl::OutOfRangeError("epoch numbers are used up"));
      default:
        return Damaged(*mapping_, absl::StrCat("the tail word is damaged at epoch ", at));
    }
  }

  static absl::Status InUpdate() {
    return Refuse(
        Cause::kBusy,
        "this participant is in an update already. Its function may pin, but not propose; "
        "and a participant belongs to one thread at a time: each thread joins on its own; "
        "nothing was changed");
  }

  bool holds_tail_ = false;

 private:
  // False if what shared memory says cannot be: it is checked before it is used.
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
    if (forked_ || found != announced_) return NotPinned(Unpinned::kPinWord);
    ++nested_;
    release_word_ = 0;
    return true;
  }
  [[gnu::noinline]] void UnpinNested() noexcept {
    if (--nested_ == 0) release_word_ = unpinned_;
  }

  // Announced already; something is not as the fast path wants it.
  // Throws std::bad_alloc, with nothing announced, where a fence waits for the disk.
  [[gnu::noinline]] bool PinSlowly(std::uint64_t word, Limit* limit) {
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
    constexpr int kMostTurns = 1'000'000;
    int turns = 0;
    for (int attempt = 0;; ++attempt) {
      if (StateWord::Unpack(word).phase == Phase::kClosed) {
        slot_->pin.Store(unpinned_);  // withdraw: the fence waits for exactly this
        Ring(*view_.control);
        if (slot_->state.Load() != active_) return false;  // and Status() says why
        // Whoever finds head closed drives: who closed it may be dead.
        HelpAccepted(view_);
        const Standing standing = DriveOnce();
        if (standing.found == Standing::Found::kDamaged) return NotPinned(Unpinned::kHead);
        std::int64_t nanos = 1'000'000;
        if (limit != nullptr) {
          const bool at_once = limit->deadline.at_once(), over = limit->deadline.Passed();
          if (over || limit->Interrupted(nanos)) {
            word = view_.control->head.Load();
            if (StateWord::Unpack(word).phase == Phase::kClosed) {
              return NotPinned(at_once ? Unpinned::kDrains
                               : over  ? Unpinned::kTimedOut
                                       : Unpinned::kInterrupted);
            }
            attempt = -1;
            continue;
          }
        }
        if (standing.found == Standing::Found::kDisk && view_.durable) {
          // Unavailable: nobody writes the journal now; at the proposal's deadline that is final.
          const Flushing flushing = FlushOnce(nanos);
          if (!flushing.status.ok() && !absl::IsUnavailable(flushing.status) &&
              !absl::IsDataLoss(flushing.status)) {
            unpinned_status_ = flushing.status;
            return NotPinned(Unpinned::kJournal);
          }
        }
        if (standing.waits()) {
          turns = 0;
          SleepUnless(*view_.control, nanos, [&] { return view_.control->head.Load() != word; });
        } else if (++turns > kMostTurns) {
          return NotPinned(Unpinned::kHead);  // it never settles
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
      return NotPinned(Unpinned::kHead);
    }
    Acknowledge(StateWord::Unpack(word).epoch);
    return true;
  }

  enum class Unpinned : std::uint8_t {
    kDrains,  // a fence, and it might not wait
    kTimedOut,
    kInterrupted,
    kJournal,  // what the fence waits for this process cannot write
    kHead,
    kPinWord,
  };
  bool NotPinned(Unpinned because) noexcept {
    unpinned_because_ = because;
    return false;
  }

  Unpinned unpinned_because_ = Unpinned::kPinWord;
  absl::Status unpinned_status_;
};

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_PARTICIPANT_PINNING_H_
