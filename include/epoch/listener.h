// Listener: a thread that takes part for a participant whose own thread does something else. It
// answers votes, acknowledges what is committed, drives what is held up, reaps the dead, and makes
// a descriptor readable when there is something new.
//
// Without one no thread is ever started. It sleeps on the bell; while a vote or a fence is under
// way it looks every millisecond, otherwise 16 times a second.
//
// Thread safety: fd() and Drain() may be used by any thread; Stop and destruction belong to the
// participant's. The validator runs in the listener's thread.
//
// Signals: the thread blocks all of them, but those that a fault in itself raises, so that none is
// delivered there that the program blocks, or waits for, elsewhere. A validator that starts another
// program gives it a signal mask of its own.
#ifndef EPOCH_LISTENER_H_
#define EPOCH_LISTENER_H_

#include <sys/eventfd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "epoch/detail/participant/participant_core.h"

namespace epoch {

class Listener {
 public:
  Listener(Listener&&) noexcept = default;
  Listener& operator=(Listener&& other) noexcept {
    if (this == &other) return *this;
    Stop();
    state_ = std::move(other.state_);
    return *this;
  }
  ~Listener() { Stop(); }

  // An eventfd, for epoll and its kin: readable when an epoch was committed, or this participant
  // was expelled, since the last Drain(). Non-blocking. Closed with the listener: -1 after Stop,
  // and of a listener that was moved from.
  int fd() const { return state_ == nullptr ? -1 : state_->fd.get(); }
  // Makes the descriptor unreadable again. Look at the region after that, not before.
  void Drain() const {
    if (state_ == nullptr) return;
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = sys::read(fd(), &count, sizeof count);
  }

  // Ends the thread. Waits for a validator that is running. Idempotent.
  void Stop() {
    if (state_ == nullptr) return;
    // In a fork child there is no thread to wait for.
    if (state_->core.forked()) {
      static_cast<void>(state_->thread.release());  // a joinable one cannot be destroyed
      // Until here the participant could not rejoin, so its core is still the one that this refers
      // to.
      state_->core.set_listening(false);
      state_.reset();
      return;
    }
    state_->stop.store(true);
    detail::Control& control = *state_->core.mapping().view().control;
    detail::Arm(control);
    detail::Ring(control);
    state_->thread->join();
    state_->core.set_listening(false);
    state_.reset();
  }

 private:
  friend class Participant;

  struct State {
    State(detail::ParticipantCore& participant, detail::Fd eventfd_)
        : core(participant), fd(std::move(eventfd_)), told(participant.HeadEpoch()) {}
    detail::ParticipantCore& core;
    detail::Fd fd;
    Epoch told;  // the newest that the descriptor told of
    std::atomic<bool> stop{false};
    std::unique_ptr<seam::Thread> thread;
  };

  explicit Listener(std::unique_ptr<State> state) : state_(std::move(state)) {}

  static absl::StatusOr<Listener> Start(detail::ParticipantCore& core) {
    if (absl::Status s = core.Ready(); !s.ok()) return s;
    if (core.listening()) {
      return detail::Refuse(Cause::kBusy, "this participant has a listener already");
    }
    detail::Fd fd(sys::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (fd.get() < 0) return detail::ErrnoStatus(errno, "cannot make an eventfd");
    auto state = std::make_unique<State>(core, std::move(fd));
    // Whatever is thrown meanwhile, a participant without a listener does not say that it has one.
    struct Listening {
      explicit Listening(detail::ParticipantCore& of) : core(of) { core.set_listening(true); }
      Listening(const Listening&) = delete;
      Listening& operator=(const Listening&) = delete;
      ~Listening() {
        if (!starts) core.set_listening(false);
      }
      detail::ParticipantCore& core;
      bool starts = false;
    } listening(core);
    try {
      state->thread = std::make_unique<seam::Thread>([s = state.get()] { Run(*s); });
    } catch (const std::system_error& e) {
      return absl::ResourceExhaustedError(std::string("cannot start a thread: ") + e.what());
    }
    listening.starts = true;
    return Listener(std::move(state));
  }

  static void Run(State& state) {
    detail::Control& control = *state.core.mapping().view().control;
    constexpr std::int64_t kBusy_ns = 1'000'000, kIdle_ns = 64'000'000;
    bool told_expelled = false;
    std::int64_t reap_ns = 0;
    while (!state.stop.load()) {
      const std::uint32_t armed = detail::Arm(control);
      detail::Standing standing;
      try {
        standing = state.core.ListenOnce();
      } catch (const std::bad_alloc&) {
        // It holds nothing, and has voted for nothing: it is late, and looks again.
        if (!state.stop.load()) seam::FutexWait(&control.bell, armed, kBusy_ns);
        continue;
      }
      const Epoch head = state.core.HeadEpoch();
      const bool expelled = !state.core.active();
      if (head != state.told || (expelled && !told_expelled)) {
        state.told = head;
        told_expelled = expelled;
        const std::uint64_t one = 1;
        [[maybe_unused]] const ssize_t put = sys::write(state.fd.get(), &one, sizeof one);
      }
      const std::int64_t now_ns = seam::MonotonicNanos();
      if (now_ns >= reap_ns) {
        reap_ns = now_ns + kIdle_ns;
        try {
          detail::ReapAll(state.core.mapping());
        } catch (const std::bad_alloc&) {  // the next time, or somebody else
        }
      }
      if (state.stop.load() || standing.found == detail::Standing::Found::kFinished) continue;
      seam::FutexWait(&control.bell, armed, standing.waits() ? kBusy_ns : kIdle_ns);
    }
  }

  std::unique_ptr<State> state_;
};

}  // namespace epoch

#endif  // EPOCH_LISTENER_H_
