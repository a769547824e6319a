// What stands behind the handles of a participant, and of what belongs to it.
#ifndef EPOCH_CORE_C_PARTICIPANT_H_
#define EPOCH_CORE_C_PARTICIPANT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <utility>

#include "core/c/error.h"
#include "core/c/handles.h"
#include "core/c/hot_pin.h"
#include "epoch/c.h"
#include "epoch/participant.h"

struct epoch_participant final : epoch::c::Actor {
  static constexpr const char* kWhat = "the participant";

  // Inside of the gate, but for what says otherwise.
  std::optional<epoch::Participant> self;
  std::string name;  // as long as the handle: that of `self` goes when it rejoins
  // All pins see the same state, so one of C++ stands for all of C that are counted. One that was
  // taken by c_inline.h is not, until somebody inside meets it: Settle().
  epoch::c::HotPin hot_pin{hot};
  std::uint32_t pins = 0;
  epoch::Pin pin;
  // Held shared by votes of any thread, alone by what takes away or replaces what they use. Never
  // while something is waited for that waits for it: no callback runs under it.
  std::shared_mutex voting;

  epoch::detail::ParticipantCore& core() noexcept { return epoch::detail::CAccess::CoreOf(*self); }

  // Counts what was taken by c_inline.h. First thing in whatever goes by `pins`. False: another
  // thread is about to take a pin, or to release one.
  bool Settle() noexcept {
    epoch::detail::ParticipantCore& is = core();
    if (is.forked()) {
      // What another thread was about to pin at the fork nobody releases.
      if (pins == 0 && is.pinned()) is.Unpin();
      return true;
    }
    const auto found = hot_pin.Look(is, pins != 0);
    if (found == epoch::c::HotPin::Found::kTaken) {
      pins = 1;
      pin = epoch::detail::CAccess::PinOf(is);
    }
    return found != epoch::c::HotPin::Found::kMidway;
  }
  // The same, and no further one is taken there: before the slot changes hands. False: as above.
  bool SettleForGood() noexcept {
    hot_pin.Close();
    return Settle();
  }

  void AfterForkInChild() noexcept override {
    Actor::AfterForkInChild();
    std::construct_at(&voting);  // who held it is not here
    if (!InValidator()) {
      validating.store(0, std::memory_order_relaxed);
      epoch::c::Gate::ByteOf(hot, EPOCH_HOT_VALIDATING).store(0, std::memory_order_relaxed);
    }
    if (hot_pin.AfterForkInChild() && pins == 0 && self.has_value()) {
      pins = 1;
      pin = epoch::detail::CAccess::PinOf(core());
    }
  }

 protected:
  Holding HoldsWhat() noexcept override {
    if (!SettleForGood()) return Holding::kMidway;
    return pins == 0 ? Holding::kNothing : Holding::kSomething;
  }
  void LetPins(std::uint32_t count) noexcept override {
    if (count == 0 || !self.has_value()) return;  // of one that is gone: released twice
    Settle();
    if (pins == 0) return;
    pins -= count < pins ? count : pins;
    if (pins == 0) pin.Release();
  }
  void DestroyBody() noexcept override {
    hot_pin.Withdraw(core());
    const std::lock_guard lock(voting);
    self.reset();
  }
  void GiveBack() noexcept override { epoch::c::PoolOf<epoch_participant>().Give(this); }
};

struct epoch_draft final : epoch::c::Child {
  static constexpr const char* kWhat = "the draft";

  std::optional<epoch::Draft> own;  // inside of the participant
  // Of an update's function: used by the thread that is in it. Such cells are a kind of their own,
  // so that an update does not make those that were freed any older.
  epoch::Draft* lent = nullptr;
  std::atomic<pthread_t> lent_to{0};

  void DestroyBody() noexcept override { own.reset(); }
  void GiveBack() noexcept override { epoch::c::PoolOf<epoch_draft>().Give(this); }
  void PutBack() noexcept override { epoch::c::PoolOf<epoch_draft>().PutBack(this); }
};

namespace epoch::c {

// Runs `body` with the C++ participant, inside.
template <typename Body>
absl::Status InParticipant(epoch_participant* participant, Body&& body, Pace pace = Pace::kMayWait,
                           InChild in_child = InChild::kRefused) {
  const Inside inside(participant, Kind::kParticipant, epoch_participant::kWhat, pace, in_child);
  if (!inside.ok()) return inside.status();
  return body(*participant->self);
}
// The same in a call that waits for nobody.
template <typename Body>
absl::Status Briefly(epoch_participant* participant, Body&& body) {
  return InParticipant(participant, std::forward<Body>(body), Pace::kBrief);
}

}  // namespace epoch::c

#endif  // EPOCH_CORE_C_PARTICIPANT_H_
