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

absl::Status Invalid(const std::string& what) {
  return detail::Because(Cause::kInvalid,
                         absl::InvalidArgumentError(
                             absl::StrCat(what, " is NULL, or was freed; nothing was changed")));
}
absl::Status Busy(const std::string& what) {
  return detail::Because(
      Cause::kBusy,
      absl::FailedPreconditionError(absl::StrCat(
          what,
          " is in a call already: of another thread, or the one that has called this callback. One "
          "thread at a time may use it, and a callback not at all; nothing was changed")));
}

// --- actors
// ----------------------------------------------------------------------------------------

absl::Status Actor::Enter(Kind wanted, const char* what) {
  if (!TryEnter()) [[unlikely]] {
    // Freed, and whoever is inside has not cleared it away yet: its caller must not try again.
    // Acquire: what this says of it is no older than what its freeing was seen by.
    if (wanted != Kind::kNone && kind.load(std::memory_order_acquire) != wanted) {
      return Invalid(what);
    }
    if (!gate.lost()) return Busy(what);
    return detail::Because(
        Cause::kForked,
        absl::FailedPreconditionError(absl::StrCat(
            what,
            " was in a call of another thread when this process was forked, and stays so: "
            "join anew; nothing was changed")));
  }
  const Kind is = kind.load(std::memory_order_relaxed);
  const bool open = wanted == Kind::kNone ? is != Kind::kNone : is == wanted;
  if (!open || InValidator()) [[unlikely]] {
    Exit(Pace::kBrief);
    return open ? Busy(what) : Invalid(what);
  }
  return absl::OkStatus();
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

void Actor::Attend(Pace pace) noexcept {
  bool left = false;
  if (InAnyValidator()) pace = Pace::kBrief;
  while (TryEnter()) {
    gate.TakeRequests();
    left = false;
    const bool gone = Sweep(pace, left);
    const bool again = gate.Exit();
    if (gone) {
      GiveBack();
      return;
    }
    if (!again) break;
  }
  if (!left) return;
  gate.Remind();
  if (kind.load(std::memory_order_relaxed) == Kind::kClosing) Delegate();
}

bool Actor::Sweep(Pace pace, bool& left) noexcept {
  Child* freed = freed_children.exchange(nullptr, std::memory_order_acq_rel);
  while (freed != nullptr) {
    Child* const next = freed->next_freed;
    if (pace == Pace::kBrief && freed->destroying_waits()) {
      freed->Push();
      left = true;
    } else {
      freed->DestroyBody();
      --children;
      freed->kind.store(Kind::kNone, std::memory_order_release);
      freed->GiveBack();
    }
    freed = next;
  }
  LetPins(freed_pins.exchange(0, std::memory_order_acq_rel));
  if (kind.load(std::memory_order_relaxed) != Kind::kClosing || children != 0 || !HoldsNothing()) {
    return false;
  }
  if (InAnyValidator()) {
    left = true;
    return false;
  }
  DestroyBody();
  kind.store(Kind::kNone, std::memory_order_release);
  return true;
}

void Actor::Free(Kind open) noexcept {
  Kind found = open;
  // Only the first one to free it does.
  if (!kind.compare_exchange_strong(found, Kind::kClosing, std::memory_order_acq_rel)) return;
  CallAttention(Pace::kMayWait);
}

void Actor::AfterForkInChild() noexcept {
  gate.AfterForkInChild(kind.load(std::memory_order_relaxed) != Kind::kNone);
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
  Push();
  owner->CallAttention(pace);
}

}  // namespace epoch::c
