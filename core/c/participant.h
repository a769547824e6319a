// What stands behind the handles of a participant, and of what belongs to it.
#ifndef EPOCH_CORE_C_PARTICIPANT_H_
#define EPOCH_CORE_C_PARTICIPANT_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <utility>

#include "core/c/error.h"
#include "core/c/handles.h"
#include "epoch/c.h"
#include "epoch/participant.h"

struct epoch_participant final : epoch::c::Actor {
  static constexpr const char* kWhat = "the participant";

  // Inside of the gate, but for what says otherwise.
  std::optional<epoch::Participant> self;
  std::string name;  // as long as the handle: that of `self` goes when it rejoins
  // All pins see the same state, so one of C++ stands for all of C.
  std::uint32_t pins = 0;
  epoch::Pin pin;
  // Held shared by votes of any thread, alone by what takes away or replaces what they use. Never
  // while something is waited for that waits for it: no callback runs under it.
  std::shared_mutex voting;

  void AfterForkInChild() noexcept override {
    Actor::AfterForkInChild();
    std::construct_at(&voting);  // who held it is not here
    if (!InValidator()) validating.store(0, std::memory_order_relaxed);
  }

 protected:
  bool HoldsNothing() const noexcept override { return pins == 0; }
  void LetPins(std::uint32_t count) noexcept override {
    if (pins == 0) return;
    pins -= count < pins ? count : pins;
    if (pins == 0) pin.Release();
  }
  void DestroyBody() noexcept override {
    const std::lock_guard lock(voting);
    self.reset();
  }
  void GiveBack() noexcept override { epoch::c::PoolOf<epoch_participant>().Give(this); }
};

struct epoch_draft final : epoch::c::Child {
  static constexpr const char* kWhat = "the draft";

  std::optional<epoch::Draft> own;  // inside of the participant
  // Of an update's function: used by the thread that is in it.
  epoch::Draft* lent = nullptr;
  std::atomic<pthread_t> lent_to{0};

  void DestroyBody() noexcept override { own.reset(); }
  void GiveBack() noexcept override { epoch::c::PoolOf<epoch_draft>().Give(this); }
};

namespace epoch::c {

// Runs `body` with the C++ participant, inside.
template <typename Body>
absl::Status InParticipant(epoch_participant* participant, Body&& body,
                           Pace pace = Pace::kMayWait) {
  const Inside inside(participant, Kind::kParticipant, epoch_participant::kWhat, pace);
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
