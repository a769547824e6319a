// Listeners through C.
#include "epoch/listener.h"

#include <memory>
#include <mutex>
#include <optional>

#include "core/c/participant.h"
#include "epoch/c.h"

struct epoch_listener final : epoch::c::Child {
  static constexpr const char* kWhat = "the listener";

  std::optional<epoch::Listener> listener;  // inside of the participant
  // Any thread looks at the descriptor, and empties it. It is taken away before the listener stops,
  // and nobody waits for anything with this lock.
  std::mutex descriptor;
  int fd = -1;

  void AfterForkInChild() noexcept override { std::construct_at(&descriptor); }
  void Hide() noexcept {
    const std::lock_guard lock(descriptor);
    fd = -1;
  }
  void DestroyBody() noexcept override {
    Hide();
    listener.reset();
  }
  bool destroying_waits() const noexcept override { return true; }
  void GiveBack() noexcept override { epoch::c::PoolOf<epoch_listener>().Give(this); }
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
  return listener->kind.load(std::memory_order_acquire) == Kind::kListener ? listener->fd : -1;
}

epoch_code epoch_listener_drain(epoch_listener* listener, epoch_error** error) {
  return Call(error, [&]() -> absl::Status {
    if (listener == nullptr) return epoch::c::Invalid(epoch_listener::kWhat);
    const std::lock_guard lock(listener->descriptor);
    if (listener->kind.load(std::memory_order_acquire) != Kind::kListener) {
      return epoch::c::Invalid(epoch_listener::kWhat);
    }
    if (listener->fd >= 0) listener->listener->Drain();
    return absl::OkStatus();
  });
}

epoch_code epoch_listener_stop(epoch_listener* listener, epoch_error** error) {
  return Call(error, [&]() -> absl::Status {
    const epoch::c::Inside inside(listener, Kind::kListener, epoch_listener::kWhat);
    if (!inside.ok()) return inside.status();
    listener->Hide();
    listener->listener->Stop();
    return absl::OkStatus();
  });
}

void epoch_listener_free(epoch_listener* listener) {
  if (listener != nullptr) listener->Free(Kind::kListener);
}
