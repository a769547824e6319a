#include "core/c/hot_pin.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>

#include "core/c/gate.h"

namespace epoch::c {
namespace {

#if defined(__SANITIZE_THREAD__)
#define EPOCH_C_HAS_HOT_PINS 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define EPOCH_C_HAS_HOT_PINS 0
#endif
#endif
#if !defined(EPOCH_C_HAS_HOT_PINS) && defined(EPOCH_HAS_INLINE)
#define EPOCH_C_HAS_HOT_PINS 1
#elif !defined(EPOCH_C_HAS_HOT_PINS)
#define EPOCH_C_HAS_HOT_PINS 0
#endif

#if EPOCH_C_HAS_HOT_PINS
std::uintptr_t ThisThread() noexcept { return epoch_inline_thread(); }
#else
std::uintptr_t ThisThread() noexcept { return 1; }
#endif

std::size_t PageBytes() noexcept {
  static const auto bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

// Empty pages stay for a while. Plain atomics: nothing that a fork could find locked.
void Retire(void* page) noexcept {
  constexpr std::size_t kKept = 16;
  static std::atomic<void*> kept[kKept];
  static std::atomic<std::size_t> next{0};
  void* const oldest = kept[next.fetch_add(1, std::memory_order_relaxed) % kKept].exchange(page);
  if (oldest != nullptr) munmap(oldest, PageBytes());
}

}  // namespace

bool HotPin::Claimed(const detail::ParticipantCore& core) const noexcept {
  const auto is = core.announcing();
  const std::uint64_t word = is.pin->Load();
  // Of this generation, whatever its epoch: one who was late may have announced an earlier one.
  return word != is.none && ((word ^ is.none) & ~detail::kNumberMask) == 0;
}

HotPin::Found HotPin::Look(const detail::ParticipantCore& core, bool counted) noexcept {
  const auto held = Word(words_.held);
  if (page_ == nullptr) return Found::kNone;
  if (counted) {
    // Of one that was taken over while its thread was about to release it.
    held.store(0, std::memory_order_relaxed);
    return Found::kNone;
  }
  std::uintptr_t by = held.load(std::memory_order_acquire);
  if (by != 0 && by != ThisThread()) {
    const auto none = Word(words_.none);
    const std::uint64_t before = none.exchange(0, std::memory_order_relaxed);
    if (!Gate::Barrier()) {
      // There was one when this was opened, and there is none any more. Its thread alone may give
      // it up.
      none.store(before, std::memory_order_relaxed);
      return Found::kMidway;
    }
    by = held.load(std::memory_order_acquire);
    // Else it stays so until the next pin: its thread may be about to look.
    if (by == 0) none.store(before, std::memory_order_relaxed);
  }
  if (by == 0) return Claimed(core) ? Found::kMidway : Found::kNone;
  held.store(0, std::memory_order_relaxed);
  return Found::kTaken;
}

// Not yet to be used by programs: a fence that is given up announces over a claim that another thread
// has just made, so both may believe that the pin is theirs; and a page that was withdrawn may be
// another slot's by the time that a thread which was stopped writes there. (Known to fall short,
// docs/hacking.md.) So nothing is ever opened, and every pin passes the gate.
constexpr bool kMayBeInlined = false;

bool HotPin::Open(const detail::ParticipantCore& core) noexcept {
  if (!kMayBeInlined) return false;
  if (EPOCH_C_HAS_HOT_PINS == 0 || !Gate::HasBarrier()) return false;
  const auto is = core.announcing();
  if (!Map(is.pin)) return false;
  constexpr auto kRelaxed = std::memory_order_relaxed;
  // Atomics of the seam are those of the standard here, so words.
  static_assert(sizeof *is.head == sizeof(std::uint64_t));
  Word(words_.none).store(is.none, kRelaxed);
  Word(words_.head).store(reinterpret_cast<const std::uint64_t*>(is.head), kRelaxed);
  Word(words_.slot_word).store(reinterpret_cast<const std::uint64_t*>(is.slot_state), kRelaxed);
  Word(words_.active).store(is.active, kRelaxed);
  Word(words_.epoch).store(is.state.epoch, kRelaxed);
  Word(words_.data).store(is.state.bytes, kRelaxed);
  Word(words_.size).store(is.state.length, kRelaxed);
  Word(words_.held).store(ThisThread(), std::memory_order_release);
  Word(words_.announced).store(is.announced, kRelaxed);
  // Release, all: who finds them finds all that is above.
  Word(words_.head_word).store(is.head_word, std::memory_order_release);
  Gate::ByteOf(words_, EPOCH_HOT_SHUT).store(0, std::memory_order_release);
  Word(words_.expected).store(is.none, std::memory_order_release);
  return true;
}

void HotPin::Close() noexcept {
  Word(words_.expected).store(EPOCH_HOT_CLOSED, std::memory_order_relaxed);
  // Who has loaded that before finds this after its claim; or its claim is found by who is inside.
  Gate::ByteOf(words_, EPOCH_HOT_SHUT).store(1, std::memory_order_relaxed);
}

bool HotPin::Map(void* word) noexcept {
  if (page_ != nullptr && mapped_ == word) return true;
  if (page_ != nullptr) return false;  // not withdrawn
  const std::uintptr_t at = reinterpret_cast<std::uintptr_t>(word) % PageBytes();
  // No old size: the new mapping is one more of the same page.
  void* const page = mremap(static_cast<std::byte*>(word) - at, 0, PageBytes(), MREMAP_MAYMOVE);
  if (page == MAP_FAILED) return false;
  page_ = page;
  mapped_ = word;
  Word(words_.word)
      .store(reinterpret_cast<std::uint64_t*>(static_cast<std::byte*>(page) + at),
             std::memory_order_relaxed);
  return true;
}

void HotPin::Withdraw(detail::ParticipantCore& core) noexcept {
  if (page_ == nullptr) return;
  Word(words_.word).store(&nothing_, std::memory_order_relaxed);
  // In one step: at no time is there nothing. All processors have forgotten the old page when this
  // returns. Without memory for it the page stays what it is, and the word there is of a generation
  // that does not come again.
  mmap(page_, PageBytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  // Somebody may have claimed just before that; it finds this thread inside, and cannot take it
  // back any more.
  if (!core.forked() && Claimed(core)) core.Unpin();
  Retire(page_);
  page_ = nullptr;
  mapped_ = nullptr;
}

bool HotPin::AfterForkInChild() noexcept {
  Close();
  return Word(words_.held).exchange(0, std::memory_order_relaxed) != 0;
}

}  // namespace epoch::c
