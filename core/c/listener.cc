// Listeners through C.
#include "epoch/listener.h"

#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>

#include "core/c/participant.h"
#include "epoch/c.h"
#include "epoch/detail/platform/seam.h"

struct epoch_listener final : epoch::c::Child {
  static constexpr const char* kWhat = "the listener";

  std::optional<epoch::Listener> listener;  // inside of the participant
  // Any thread looks at the descriptor, and empties it. It is taken away before the listener stops,
  // and nobody waits for anything with this lock.
  std::mutex descriptor;
  int fd = -1;

  // Freed, and a thread of its own waits for its end; then its end has come.
  std::atomic<bool> ending{false}, ended{false};

  void AfterForkInChild() noexcept override {
    std::construct_at(&descriptor);
    if (!ending.load(std::memory_order_relaxed) || ended.load(std::memory_order_relaxed)) return;
    // That thread is not here. Here there is nothing to wait for.
    ending.store(false, std::memory_order_relaxed);
    Push();
    actor.load(std::memory_order_relaxed)->gate.Remind();
  }
  bool OfTheParent() const noexcept {
    const epoch::c::Actor* const owner = actor.load(std::memory_order_acquire);
    return owner != nullptr && owner->forked.load(std::memory_order_relaxed);
  }
  void Hide() noexcept {
    const std::lock_guard lock(descriptor);
    fd = -1;
  }
  void DestroyBody() noexcept override {
    Hide();
    listener.reset();
    ending.store(false, std::memory_order_relaxed);
    ended.store(false, std::memory_order_relaxed);
  }
  bool destroying_waits() const noexcept override { return !ended.load(std::memory_order_acquire); }
  bool WaitElsewhere() noexcept override {
    Hide();
    ending.store(true, std::memory_order_relaxed);
    try {
      // Outside of the gate: the participant goes on meanwhile. It is kept by this child of its.
      epoch::seam::Thread([this] {
        listener->Stop();
        // Release: whoever destroys it finds it stopped.
        ended.store(true, std::memory_order_release);
        epoch::c::Actor* const owner = actor.load(std::memory_order_relaxed);
        Push();
        owner->CallAttention(epoch::c::Pace::kBrief);
      }).detach();
      return true;
    } catch (const std::exception&) {
      ending.store(false, std::memory_order_relaxed);
      return false;
    }
  }
  void GiveBack() noexcept override { epoch::c::PoolOf<epoch_listener>().Give(this); }
  void PutBack() noexcept override { epoch::c::PoolOf<epoch_listener>().PutBack(this); }
};

using epoch::c::Call;
using epoch::c::Kind;

epoch_code epoch_participant_listen(epoch_participant* participant, epoch_listener** listener,
                                    epoch_error** error) {
  if (listener != nullptr) *listener = nullptr;
  return Call(error, [&] {
    return epoch::c::InParticipant(participant, [&](epoch::Participant& self) -> absl::Status {
      if (listener == nullptr) return epoch::c::Refused("the place for the listener is NULL");
      epoch::c::NewChild<epoch_listener> made;
      absl::StatusOr<epoch::Listener> started = self.Listen();
      if (!started.ok()) return started.status();
      {
        const std::lock_guard lock(made->descriptor);
        made->listener.emplace(*std::move(started));
        made->fd = made->listener->fd();
      }
      *listener = made.Open(*participant, Kind::kListener);
      return absl::OkStatus();
    });
  });
}

int epoch_listener_fd(epoch_listener* listener) {
  if (listener == nullptr) return -1;
  const std::lock_guard lock(listener->descriptor);
  // Of the parent: what is emptied here the parent misses.
  if (listener->OfTheParent()) return -1;
  return listener->kind.load(std::memory_order_acquire) == Kind::kListener ? listener->fd : -1;
}

epoch_code epoch_listener_drain(epoch_listener* listener, epoch_error** error) {
  return Call(error, [&]() -> absl::Status {
    if (listener == nullptr) return epoch::c::Invalid(epoch_listener::kWhat);
    const std::lock_guard lock(listener->descriptor);
    if (listener->kind.load(std::memory_order_acquire) != Kind::kListener) {
      return epoch::c::Invalid(epoch_listener::kWhat);
    }
    if (listener->OfTheParent()) return epoch::c::OfTheParent(epoch_listener::kWhat);
    if (listener->fd >= 0) listener->listener->Drain();
    return absl::OkStatus();
  });
}

epoch_code epoch_listener_stop(epoch_listener* listener, epoch_error** error) {
  return Call(error, [&]() -> absl::Status {
    // In a fork child, too: there it ends nothing but what keeps the participant from rejoining.
    const epoch::c::Inside inside(listener, Kind::kListener, epoch_listener::kWhat,
                                  epoch::c::Pace::kForVoter, epoch::c::InChild::kGoesOn);
    if (!inside.ok()) return inside.status();
    listener->Hide();
    listener->listener->Stop();
    listener->ended.store(true, std::memory_order_release);  // to free it waits for nothing
    return absl::OkStatus();
  });
}

void epoch_listener_free(epoch_listener* listener) {
  if (listener != nullptr) listener->Free(Kind::kListener);
}
