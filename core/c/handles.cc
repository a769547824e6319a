#include "core/c/handles.h"

#include <exception>
#include <memory>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "epoch/detail/platform/seam.h"

namespace epoch::c {
namespace {

// One for all pools: it is held for a few instructions, and taken across fork(), so that the child
// finds the lists whole. Nothing else is taken while it is held.
class Cells {
 public:
  static Cells& Get() {
    // Never destroyed: handles may outlive static destruction.
    static Cells* const cells = [] {
      auto* made = new Cells;
      pthread_atfork([] { Get().mutex.lock(); }, [] { Get().mutex.unlock(); },
                     [] {
                       for (Cell* cell = Get().all; cell != nullptr; cell = cell->next_of_all) {
                         cell->AfterForkInChild();
                       }
                       Get().mutex.unlock();
                     });
      return made;
    }();
    return *cells;
  }
  std::mutex mutex;
  Cell* all = nullptr;
};

// When the library is loaded: a fork while this is made would leave it half made in the child.
[[maybe_unused]] const Cells& cells_at_load = Cells::Get();

}  // namespace

Cell* Pool::TakeFree() noexcept {
  const std::lock_guard lock(Cells::Get().mutex);
  if (free_ <= kQuarantine) return nullptr;
  --free_;
  return std::exchange(oldest_, oldest_->next_free);
}

void Pool::Add(Cell* cell) noexcept {
  const std::lock_guard lock(Cells::Get().mutex);
  cell->next_of_all = std::exchange(Cells::Get().all, cell);
}

void Pool::Give(Cell* cell) noexcept {
  const std::lock_guard lock(Cells::Get().mutex);
  cell->next_free = nullptr;
  (free_++ == 0 ? oldest_ : newest_->next_free) = cell;
  newest_ = cell;
}

void Pool::PutBack(Cell* cell) noexcept {
  const std::lock_guard lock(Cells::Get().mutex);
  cell->next_free = oldest_;
  oldest_ = cell;
  if (free_++ == 0) newest_ = cell;
}

// --- errors of misuse ----------------------------------------------------------------------------

namespace {

absl::Status NotNow(Cause cause, const std::string& what, const char* why) {
  return detail::Because(
      cause, absl::FailedPreconditionError(absl::StrCat(what, why, "; nothing was changed")));
}

}  // namespace

absl::Status Invalid(const std::string& what) {
  return detail::Because(Cause::kInvalid,
                         absl::InvalidArgumentError(
                             absl::StrCat(what, " is NULL, or was freed; nothing was changed")));
}
absl::Status Busy(const std::string& what) {
  return NotNow(
      Cause::kBusy, what,
      " is in a call already: of another thread, or the one that has called this callback. One "
      "thread at a time may use it, and a callback not at all");
}
absl::Status BusyInValidator(const std::string& what) {
  return NotNow(
      Cause::kBusy, what,
      ": this call may wait for a validator, and is made by one, so two might wait for each other. "
      "Make it when the validator has returned");
}
absl::Status OfTheParent(const std::string& what) {
  return NotNow(Cause::kForked, what,
                " belongs to the parent process: in a fork child a participant rejoins, or the "
                "child joins anew");
}

// --- actors --------------------------------------------------------------------------------------

Actor::Entry Actor::Enter(Kind wanted, Pace pace, InChild in_child) noexcept {
  if (!TryEnter()) [[unlikely]] {
    // Freed, and whoever is inside has not cleared it away yet: its caller must not try again.
    // Acquire: what this says of it is no older than what its freeing was seen by.
    if (wanted != Kind::kNone && kind.load(std::memory_order_acquire) != wanted) {
      return Entry::kInvalid;
    }
    return gate.lost() ? Entry::kLost : Entry::kBusy;
  }
  const Kind is = kind.load(std::memory_order_relaxed);
  const bool open = wanted == Kind::kNone ? is != Kind::kNone : is == wanted;
  Entry entry = Entry::kInside;
  if (!open) [[unlikely]] {
    entry = Entry::kInvalid;
  } else if (InValidator()) [[unlikely]] {
    entry = Entry::kBusy;
  } else if (pace == Pace::kForVoter && InAnyValidator()) [[unlikely]] {
    entry = Entry::kInValidator;
  } else if (in_child == InChild::kRefused && forked.load(std::memory_order_relaxed)) [[unlikely]] {
    entry = Entry::kForked;
  }
  if (entry != Entry::kInside) [[unlikely]]
    Exit(Pace::kBrief);
  return entry;
}

absl::Status Actor::WhyNot(Entry entry, const char* what) {
  switch (entry) {
    case Entry::kInvalid:
      return Invalid(what);
    case Entry::kInValidator:
      return BusyInValidator(what);
    case Entry::kForked:
      return OfTheParent(what);
    case Entry::kLost:
      return NotNow(Cause::kForked, what,
                    " was in a call of another thread when this process was forked, and stays so: "
                    "join anew");
    default:
      return Busy(what);
  }
}

void Actor::CallAttention(Pace pace) noexcept {
  gate.Request();
  if (!InValidator()) {
    Attend(pace);
  } else if (kind.load(std::memory_order_relaxed) == Kind::kClosing) {
    // A validator must not end the thread that it runs in, and a next call, which else would do it,
    // does not come any more.
    Delegate();
  }
}

// To a thread of its own, which may wait. If there is none to be had, what was freed stays.
void Actor::Delegate() noexcept {
  try {
    seam::Thread([this] { Attend(Pace::kMayWait); }).detach();
  } catch (const std::exception&) {
  }
}

bool Actor::Attend(Pace pace) noexcept {
  bool got_in = false;
  Swept swept = Swept::kDone;
  if (InAnyValidator()) pace = Pace::kBrief;
  while (TryEnter()) {
    got_in = true;
    gate.TakeRequests();
    swept = Sweep(pace);
    const unsigned char again = gate.Exit();
    if (swept == Swept::kGone) {
      GiveBack();
      return true;
    }
    // The thread that is midway has not looked yet; or it has, and was turned away: then it asked.
    if (again == 0 || (swept == Swept::kMidway && again == Gate::kLeft)) break;
  }
  if (swept != Swept::kLeft) return got_in;
  gate.Remind();
  if (kind.load(std::memory_order_relaxed) == Kind::kClosing) Delegate();
  return true;
}

void Actor::AttendWhatIsAsked() noexcept {
  if (!gate.requests()) return;
  if (!Attend(Pace::kBrief)) CallAttention(Pace::kBrief);
}

Actor::Swept Actor::Sweep(Pace pace) noexcept {
  bool left = false;
  Child* freed = freed_children.exchange(nullptr, std::memory_order_acq_rel);
  while (freed != nullptr) {
    Child* const next = freed->next_freed;
    if (pace == Pace::kBrief && freed->destroying_waits()) {
      // Not left to a next call, which may be long in coming; unless it was the very validator that
      // is to be waited for.
      if (freed->freed_in_validator || !freed->WaitElsewhere()) {
        freed->Push();
        left = true;
      }
    } else {
      freed->DestroyBody();
      --children;
      freed->kind.store(Kind::kNone, std::memory_order_release);
      freed->GiveBack();
    }
    freed = next;
  }
  LetPins(freed_pins.exchange(0, std::memory_order_acq_rel));
  const Swept so_far = left ? Swept::kLeft : Swept::kDone;
  if (kind.load(std::memory_order_relaxed) != Kind::kClosing || children != 0) return so_far;
  Holding holding = HoldsWhat();
  if (holding == Holding::kMidway) {
    // That thread looks for a request at its end. It has been there already, or it finds this one.
    gate.Request(Gate::kLeft);
    holding = HoldsWhat();
    if (holding == Holding::kMidway) return Swept::kMidway;
  }
  if (holding == Holding::kSomething) return so_far;
  if (InAnyValidator()) return Swept::kLeft;
  DestroyBody();
  forked.store(false, std::memory_order_relaxed);
  kind.store(Kind::kNone, std::memory_order_release);
  return Swept::kGone;
}

void Actor::Free(Kind open) noexcept {
  Kind found = open;
  // Only the first one to free it does.
  if (!kind.compare_exchange_strong(found, Kind::kClosing, std::memory_order_acq_rel)) return;
  CallAttention(Pace::kMayWait);
}

void Actor::AfterForkInChild() noexcept {
  const bool used = kind.load(std::memory_order_relaxed) != Kind::kNone;
  gate.AfterForkInChild(used);
  forked.store(used, std::memory_order_relaxed);
}

void Child::Push() noexcept {
  Actor* const owner = actor.load(std::memory_order_relaxed);
  // Nobody takes from the list but all at once, so there is no ABA.
  next_freed = owner->freed_children.load(std::memory_order_relaxed);
  while (!owner->freed_children.compare_exchange_weak(next_freed, this, std::memory_order_release,
                                                      std::memory_order_relaxed)) {
  }
}

void Child::Free(Kind open) noexcept {
  Kind found = open;
  if (!kind.compare_exchange_strong(found, Kind::kClosing, std::memory_order_acq_rel)) return;
  Actor* const owner = actor.load(std::memory_order_relaxed);
  const Pace pace = destroying_waits() ? Pace::kMayWait : Pace::kBrief;
  freed_in_validator = owner->InValidator();
  Push();
  owner->CallAttention(pace);
}

}  // namespace epoch::c
