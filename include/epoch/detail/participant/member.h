// A participant's place in the region: its slot, what it says there about itself, and the ways out.
// The floors above it, each in a file: helping.h (what anybody does for what is under way),
// waiting.h, pinning.h (reading), participant_core.h (proposing; the whole).
//
// Thread safety: used by one thread; what the listener's thread uses says so.
#ifndef EPOCH_DETAIL_PARTICIPANT_MEMBER_H_
#define EPOCH_DETAIL_PARTICIPANT_MEMBER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "epoch/detail/memory/bell.h"
#include "epoch/detail/memory/mapping.h"
#include "epoch/detail/participant/explain.h"
#include "epoch/detail/platform/fork.h"
#include "epoch/detail/protocol/slots.h"
#include "epoch/options.h"

namespace epoch::detail {

struct PinnedState {
  Epoch epoch = 0;
  const std::byte* bytes = nullptr;
  std::size_t length = 0;
};

class Member : public ForkAware {
 public:
  absl::Status Status() const {
    if (forked_) {
      return Refuse(Cause::kForked,
                    "this participant belongs to the parent process: join anew after fork()");
    }
    if (left_) return Refuse(Cause::kLeft, "this participant has left the region");
    if (slot_->state.Load() != active_) {
      return Refuse(Cause::kExpelled,
                    absl::StrCat("expelled: slot ", claim_.slot, " was taken from \"",
                                 options_.name, "\"; rejoin to go on"));
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

  absl::Status AcknowledgeByHand(Epoch epoch) {
    if (absl::Status s = Ready(); !s.ok()) return s;
    if (const Epoch head = HeadEpoch(); epoch > head) {
      return With(absl::OutOfRangeError(
                      absl::StrCat("epoch ", epoch, " is not committed: the region is at ", head)),
                  {.cause = Cause::kInvalid, .outcome = Outcome::kUnchanged, .actual = head});
    }
    if (acknowledged_ == kNone || acknowledged_ < epoch) acknowledged_ = epoch;
    AcknowledgeIn(slot_->ack, epoch);
    return absl::OkStatus();
  }

  absl::Status Park() {
    if (absl::Status s = Status(); !s.ok()) return s;
    if (pinned()) {
      return Refuse(Cause::kPinHeld, "a participant that holds a pin cannot park");
    }
    parked_ = true;
    pinned_word_ = 0;
    slot_->flags.FetchOr(kSlotParked);
    Ring(*view_.control);
    return absl::OkStatus();
  }

  Epoch HeadEpoch() const noexcept { return StateWord::Unpack(view_.control->head.Load()).epoch; }
  // Only this participant writes its pin word. (Compared with what it announced, not with "none":
  // a scribbled word is no pin.)
  bool pinned() const noexcept { return slot_->pin.Load(std::memory_order_relaxed) == announced_; }
  const PinnedState& pinned_state() const noexcept { return pinned_; }
  bool active() const noexcept { return view_.slots[claim_.slot].state.Load() == active_; }
  bool forked() const noexcept { return forked_; }

  const Mapping& mapping() const noexcept { return *mapping_; }
  const SlotClaim& claim() const noexcept { return claim_; }
  const std::string& name() const noexcept { return options_.name; }

  void BeforeFork() noexcept override {
    // Not through slot_, which may belong to another thread's Leave().
    pin_at_fork_ = view_.slots[claim_.slot].pin.Load(std::memory_order_relaxed);
  }

 protected:
  Member(std::shared_ptr<Mapping> mapping, const JoinOptions& options, const SlotClaim& claim)
      : slot_(&mapping->view().slots[claim.slot]),
        active_(SlotWord{SlotState::kActive, claim.generation}.Pack()),
        unpinned_(NoneOf(claim.generation)),
        announced_(PinWord(0)),
        release_word_(unpinned_),
        view_(mapping->view()),
        mapping_(std::move(mapping)),
        options_(options),
        claim_(claim) {
    nowhere_.pin.Store(unpinned_);
  }
  ~Member() = default;

  std::uint64_t PinWord(std::uint64_t head_word) const noexcept {
    return (unpinned_ & ~kNumberMask) | (head_word & kNumberMask);
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

  void Unpark() noexcept {
    parked_ = false;
    SetFlags(slot_->flags.Load() & ~std::uint32_t{kSlotParked});
  }
  void SetFlags(std::uint32_t flags) noexcept { slot_->flags.Exchange(flags); }

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

  const std::shared_ptr<Mapping> mapping_;
  const JoinOptions options_;
  const SlotClaim claim_;
  bool forked_ = false;
  bool left_ = false;
  std::uint64_t pin_at_fork_ = 0;
  Slot nowhere_{};  // what slot_ points to when the shared slot is not ours (any more)
};

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_PARTICIPANT_MEMBER_H_
