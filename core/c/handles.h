// What stands behind the handles of include/epoch/c.h: cells that outlive what they stand for.
//
// A C program may free in any order, from any thread, twice, and go on using what it freed. So the
// memory of a handle is never given back: a freed cell says of itself that it is free, and is taken
// again only when kQuarantine others of its kind were freed after it. What was taken and never
// handed out was not freed: it goes back to where it was. What a handle stands for (its body) is
// destroyed as usual.
//
//   Shared    a region, a result: any threads. A word counts who uses the body; the last one out
//             destroys it.
//   Actor     a participant, a rank: one thread at a time. Whoever calls is inside, and others are
//             turned away (kBusy); they, and callbacks of the one who is inside, may still free.
//   Child     a draft, a listener, a step: belongs to an actor, and is looked at only inside of it.
//
// Freeing an actor or a child never waits. Who cannot get inside leaves the work to the one who is
// (gate.h); what has to wait, and cannot be left to a call that may, gets a thread of its own.
//
// Every call of an actor passes Actor::Enter, and every error of it is made outside of the gate:
// there may be no memory for it.
//
// Thread safety: all functions. Progress: lock-free, but for the mutex around the free cells.
#ifndef EPOCH_CORE_C_HANDLES_H_
#define EPOCH_CORE_C_HANDLES_H_

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <shared_mutex>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "core/c/gate.h"
#include "epoch/details.h"

namespace epoch::c {

enum class Kind : std::uint32_t {
  kNone = 0,
  kRegion,
  kSnapshot,
  kHistory,
  kHistoryReader,
  kStragglers,
  kCheckpoint,
  kCheckpointList,
  kParticipant,
  kRank,
  kDraft,
  kLentDraft,  // to the function of an update
  kListener,
  kStep,
  kClosing,  // freed, and something of it is still there
};

// --- cells ---------------------------------------------------------------------------------------

struct Cell {
  Cell() = default;
  Cell(const Cell&) = delete;
  Cell& operator=(const Cell&) = delete;
  virtual ~Cell() = default;
  // In a fork child, before anything else runs there.
  virtual void AfterForkInChild() noexcept {}

  Cell* next_free = nullptr;
  Cell* next_of_all = nullptr;
};

// The cells of one kind.
class Pool {
 public:
  static constexpr std::size_t kQuarantine = 16;

  // Null: there is none that may be used again.
  Cell* TakeFree() noexcept;
  void Add(Cell* cell) noexcept;  // a new one
  void Give(Cell* cell) noexcept;
  // What was taken, or added, and nobody was told of.
  void PutBack(Cell* cell) noexcept;

 private:
  Cell* oldest_ = nullptr;
  Cell* newest_ = nullptr;
  std::size_t free_ = 0;
};

template <typename Handle>
Pool& PoolOf() {
  static Pool pool;
  return pool;
}
// Throws std::bad_alloc.
template <typename Handle>
Handle* TakeCell() {
  if (Cell* cell = PoolOf<Handle>().TakeFree()) return static_cast<Handle*>(cell);
  auto* made = new Handle;
  PoolOf<Handle>().Add(made);
  return made;
}

// --- errors of misuse ----------------------------------------------------------------------------

// `what` is NULL, freed, or otherwise none.
absl::Status Invalid(const std::string& what);
absl::Status Busy(const std::string& what);
absl::Status BusyInValidator(const std::string& what);
absl::Status OfTheParent(const std::string& what);

// --- shared handles ------------------------------------------------------------------------------

template <typename BodyType, Kind kKindOf>
struct Shared : Cell {
  using Body = BodyType;
  static constexpr Kind kKind = kKindOf;
  static constexpr std::uint64_t kOpen = std::uint64_t{static_cast<std::uint32_t>(kKindOf)} << 32;
  static constexpr std::uint64_t kUsers = 0xffff'ffff;

  // Its kind while the handle is open, and how many use the body; the handle itself is one of them.
  std::atomic<std::uint64_t> word{0};
  std::optional<Body> body;

  void Let() noexcept {
    if ((word.fetch_sub(1, std::memory_order_acq_rel) & kUsers) != 1) return;
    body.reset();
    PoolOf<Shared>().Give(this);
  }
};

template <typename Handle, typename... Args>
Handle* OpenShared(Args&&... args) {
  using Base = Shared<typename Handle::Body, Handle::kKind>;
  Base* taken = nullptr;
  if (Cell* cell = PoolOf<Base>().TakeFree()) {
    taken = static_cast<Base*>(cell);
  } else {
    taken = new Handle;
    PoolOf<Base>().Add(taken);
  }
  try {
    taken->body.emplace(std::forward<Args>(args)...);
  } catch (...) {
    taken->body.reset();
    PoolOf<Base>().PutBack(taken);
    throw;
  }
  // Release: who is handed the handle by other means than this word comes after the body anyway;
  // who uses a freed one meets all of the new one or none.
  taken->word.store(Base::kOpen | 1, std::memory_order_release);
  return static_cast<Handle*>(taken);
}

// Holds the body of a shared handle while it lives; empty if the handle is not open.
template <typename Handle>
class Use {
 public:
  explicit Use(Handle* handle) noexcept {
    if (handle == nullptr) return;
    std::uint64_t word = handle->word.load(std::memory_order_relaxed);
    do {
      if ((word & ~Handle::kUsers) != Handle::kOpen || (word & Handle::kUsers) == 0) return;
    } while (!handle->word.compare_exchange_weak(word, word + 1, std::memory_order_acquire,
                                                 std::memory_order_relaxed));
    handle_ = handle;
  }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;
  ~Use() {
    if (handle_ != nullptr) handle_->Let();
  }
  bool ok() const noexcept { return handle_ != nullptr; }
  typename Handle::Body& operator*() const noexcept { return *handle_->body; }
  typename Handle::Body* operator->() const noexcept { return &*handle_->body; }

 private:
  Handle* handle_ = nullptr;
};

template <typename Handle>
void FreeShared(Handle* handle) noexcept {
  if (handle == nullptr) return;
  std::uint64_t word = handle->word.load(std::memory_order_relaxed);
  do {
    if ((word & ~Handle::kUsers) != Handle::kOpen || (word & Handle::kUsers) == 0) return;
  } while (!handle->word.compare_exchange_weak(
      word, word & Handle::kUsers, std::memory_order_acq_rel, std::memory_order_relaxed));
  handle->Let();
}

// --- actors and their children -------------------------------------------------------------------

struct Child;

// Whether a call may wait, for a validator that runs, say. One that may not leaves undone what has
// to. kForVoter: it waits for another thread's validator of this participant, so it is none for a
// validator: two that wait for each other would do so for good.
enum class Pace { kBrief, kMayWait, kForVoter };
// What of a parent's actor is left to a fork child.
enum class InChild { kRefused, kGoesOn };

struct Actor : Cell {
  // Where programs expect it (c_inline.h). A rank has no pins; its gate is in there.
  alignas(EPOCH_HOT_OFFSET) epoch_hot hot{.expected = EPOCH_HOT_CLOSED,
                                          .none = 0,
                                          .announced = 0,
                                          .head_word = 0,
                                          .word = nullptr,
                                          .head = nullptr,
                                          .slot_word = nullptr,
                                          .active = 0,
                                          .epoch = 0,
                                          .data = nullptr,
                                          .size = 0,
                                          .held = 0,
                                          .calls = 0};
  Gate gate{hot};
  std::atomic<Kind> kind{Kind::kNone};  // written inside only, but by Free
  // It is the parent's, and this is a fork child.
  std::atomic<bool> forked{false};
  // The thread that is in a validator of this actor; 0: none. It may not be the one that is inside.
  std::atomic<pthread_t> validating{0};
  std::atomic<Child*> freed_children{nullptr};
  std::atomic<std::uint32_t> freed_pins{0};
  std::uint32_t children = 0;  // that are not gone; inside only

  // False: somebody is inside. No check whether it is open.
  bool TryEnter() noexcept { return gate.TryEnter(); }
  void Exit(Pace pace) noexcept {
    if (gate.Exit() != 0) [[unlikely]]
      Attend(pace);
  }
  enum class Entry { kInside, kInvalid, kBusy, kInValidator, kForked, kLost };
  // kInside: Exit() follows. `wanted`: kNone: whatever is open, or has been and is not gone.
  Entry Enter(Kind wanted, Pace pace, InChild in_child) noexcept;
  static absl::Status WhyNot(Entry entry, const char* what);
  bool InValidator() const noexcept {
    const pthread_t thread = validating.load(std::memory_order_relaxed);
    return thread != 0 && pthread_equal(thread, pthread_self()) != 0;
  }
  // Whether this thread runs a validator, of whichever participant: then it holds a lock of that one's
  // voter, so what takes locks of another's, or waits, is left to a thread that holds none. (Two
  // validators that free each other's participants would wait for each other.)
  static bool InAnyValidator() noexcept { return validators_inside != 0; }
  static inline thread_local int validators_inside = 0;

  // Something was freed: it is done here, or by whoever is inside, when it leaves.
  void CallAttention(Pace pace) noexcept;
  void Free(Kind open) noexcept;

  // What was freed is done, unless somebody is inside. False: that was so all the while.
  bool Attend(Pace pace) noexcept;
  // At the end of whatever has passed no gate, and somebody inside may have waited for.
  void AttendWhatIsAsked() noexcept;

  // For what is open already when others see it.
  void AwaitEntry() noexcept {
    while (!TryEnter()) sched_yield();  // a call with a freed handle, which goes at once
  }
  void AfterForkInChild() noexcept override;

 protected:
  // Inside.
  // kMidway: another thread is about to hold something, or not any more (hot_pin.h).
  enum class Holding { kNothing, kSomething, kMidway };
  virtual Holding HoldsWhat() noexcept { return Holding::kNothing; }
  virtual void LetPins(std::uint32_t) noexcept {}
  virtual void DestroyBody() noexcept = 0;
  virtual void GiveBack() noexcept = 0;

 private:
  enum class Swept {
    kDone,
    kGone,    // nothing is left of the actor, which was freed
    kLeft,    // something is, for a call that may wait
    kMidway,  // something is, for the thread that is midway
  };
  Swept Sweep(Pace pace) noexcept;
  void Delegate() noexcept;
};

struct Child : Cell {
  std::atomic<Kind> kind{Kind::kNone};
  std::atomic<Actor*> actor{nullptr};  // of a cell, so it may always be looked at
  Child* next_freed = nullptr;
  // By the validator that destroying it would wait for: which then is a later call's.
  bool freed_in_validator = false;

  void Free(Kind open) noexcept;
  // Inside of the actor.
  virtual void DestroyBody() noexcept = 0;
  virtual bool destroying_waits() const noexcept { return false; }
  // In a thread of its own, which pushes it again when the rest does not wait any more. False:
  // there is no thread to be had.
  virtual bool WaitElsewhere() noexcept { return false; }
  virtual void GiveBack() noexcept = 0;
  virtual void PutBack() noexcept = 0;
  void Push() noexcept;  // to what was freed
};

// A cell for a new child of `actor`, which the caller is inside of. What is never opened goes back.
template <typename Handle>
class NewChild {
 public:
  NewChild() : cell_(TakeCell<Handle>()) {}
  NewChild(const NewChild&) = delete;
  NewChild& operator=(const NewChild&) = delete;
  ~NewChild() {
    if (cell_ != nullptr) cell_->PutBack();
  }
  Handle* operator->() const { return cell_; }
  Handle* Open(Actor& actor, Kind kind) {
    ++actor.children;
    cell_->actor.store(&actor, std::memory_order_relaxed);
    // Release: whoever finds this kind finds its actor.
    cell_->kind.store(kind, std::memory_order_release);
    return std::exchange(cell_, nullptr);
  }

 private:
  Handle* cell_;
};

// Inside of an actor while it lives.
class Inside {
 public:
  Inside(Actor* actor, Kind wanted, const char* what, Pace pace = Pace::kMayWait,
         InChild in_child = InChild::kRefused)
      : held_{.pace = pace} {
    const Actor::Entry entry =
        actor == nullptr ? Actor::Entry::kInvalid : actor->Enter(wanted, pace, in_child);
    if (entry == Actor::Entry::kInside) {
      held_.actor = actor;
    } else {
      status_ = Actor::WhyNot(entry, what);
    }
  }
  // Of the actor of a child that is open.
  Inside(Child* child, Kind wanted, const char* what, Pace pace = Pace::kMayWait,
         InChild in_child = InChild::kRefused)
      : held_{.pace = pace} {
    const Actor::Entry entry = EnterFor(child, wanted, in_child);
    if (entry != Actor::Entry::kInside) status_ = Actor::WhyNot(entry, what);
  }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;
  bool ok() const { return status_.ok(); }
  const absl::Status& status() const { return status_; }

 private:
  // Leaves, also if the error of a constructor throws.
  struct Held {
    Pace pace;
    Actor* actor = nullptr;
    ~Held() {
      if (actor != nullptr) actor->Exit(pace);
    }
  };

  Actor::Entry EnterFor(Child* child, Kind wanted, InChild in_child) noexcept {
    Actor* const actor = child == nullptr ? nullptr : child->actor.load(std::memory_order_acquire);
    if (actor == nullptr || child->kind.load(std::memory_order_acquire) != wanted) {
      return Actor::Entry::kInvalid;
    }
    // The actor may have been freed: its children keep it.
    const Actor::Entry entry = actor->Enter(Kind::kNone, held_.pace, in_child);
    if (entry != Actor::Entry::kInside) return entry;
    // Acquire: pairs with Open(), whose kind says that actor and body are there. The cell may have
    // been freed, and opened for this actor or another, since it was looked at: what is found in it
    // from here on is of the kind that is found here.
    if (child->kind.load(std::memory_order_acquire) != wanted ||
        child->actor.load(std::memory_order_relaxed) != actor) {
      actor->Exit(held_.pace);
      return Actor::Entry::kInvalid;
    }
    held_.actor = actor;
    return entry;
  }

  Held held_;
  absl::Status status_;
};

}  // namespace epoch::c

#endif  // EPOCH_CORE_C_HANDLES_H_
