// HotPin: the library's half of a pin that is inlined into programs (include/epoch/c_inline.h).
//
// There no gate is passed, so that a pin costs what it costs in C++. What keeps threads apart is
// the pin word itself: who has changed it from "none" has claimed it. In the order of the steps:
//
//   pin      claim the word (CAS); look at `calls`, whether somebody is inside, or pins are shut;
//            look whether head and slot are as they were; say `held` = this thread
//   release  held = 0; take `none`, if it is there; the word = none
//
// Whoever is inside of the gate meets such a thread as follows.
//
//   It has claimed, and does not hold yet, or is releasing (Found::kMidway). The one inside has
//     said so before it looked at the word, and the other looks at `calls` after its claim: so one
//     of the two sees the other. If it is the one inside, it leaves participant and region alone
//     (kBusy; what was freed, it leaves to the other, who finds the request at its end).
//   It holds. Then it is in no call, or in a release. If it is the same thread that asks now, its
//     pin is counted from now on, and released inside. If it is another, `none` is taken away
//     first, and all threads pass a barrier: the other has set held = 0 by then, and is midway, or
//     it finds that it may not.
//   It is about to claim, and was stopped just in front of that: nothing of it can be seen, and it
//     may go on at any time. So `word` is an address of its own: a second mapping of the page that
//     the slot is in. Before the slot, or the region, is given back, that page is replaced by an
//     empty one (Withdraw): whoever comes late meets a word that it does not expect. These empty
//     pages stay until 16 others were replaced; as a freed handle does.
//
// Thread safety: all functions are called inside of the gate, or in a fork child.
#ifndef EPOCH_CORE_C_HOT_PIN_H_
#define EPOCH_CORE_C_HOT_PIN_H_

#include <atomic>
#include <cstdint>

#include "epoch/c.h"
#include "epoch/participant.h"

namespace epoch::detail {

// What C++ keeps to itself, for all that stands on top of it here.
struct CAccess {
  static ParticipantCore& CoreOf(Participant& self) { return *self.core_; }
  // For a pin that this core holds already.
  static Pin PinOf(ParticipantCore& core) { return Pin(&core); }
};

}  // namespace epoch::detail

namespace epoch::c {

class HotPin {
 public:
  explicit HotPin(epoch_hot& words) noexcept : words_(words) { words_.word = &nothing_; }
  HotPin(const HotPin&) = delete;
  HotPin& operator=(const HotPin&) = delete;

  enum class Found { kNone, kTaken, kMidway };
  // Looks for a pin that was taken there. kTaken: it was found, and is the caller's to count from
  // now on. `counted`: there are pins that are counted; so none can have been taken there.
  Found Look(const detail::ParticipantCore& core, bool counted) noexcept;

  // Lets pins be taken there, as this one, which is held, and is this thread's from now on. False:
  // here that is not possible.
  bool Open(const detail::ParticipantCore& core) noexcept;
  // No further pin is taken there.
  void Close() noexcept;
  // Closed, and nothing found: nobody who was late gets to the slot from now on.
  void Withdraw(detail::ParticipantCore& core) noexcept;

  // Whether somebody may be on the way to a pin, where none is counted or held.
  bool MayBeClaimed(const detail::ParticipantCore& core) const noexcept {
    return page_ != nullptr && Claimed(core);
  }
  // A claim that came to nothing.
  static void GiveUp(const epoch_claim& claim) noexcept {
    std::uint64_t found = claim.announced;
    std::atomic_ref<std::uint64_t>(*claim.word)
        .compare_exchange_strong(found, claim.none, std::memory_order_seq_cst);
  }
  // Whether that claim still stands, and is on the word that it was meant for.
  bool Stands(const epoch_claim& claim, const detail::ParticipantCore& core) const noexcept {
    // (Whoever withdraws the page from it changes `word`.)
    return claim.word == words_.word && claim.announced == core.announcing().announced &&
           core.pinned();
  }

  // In a fork child, where no other thread is. True: a pin was held.
  bool AfterForkInChild() noexcept;

 private:
  bool Claimed(const detail::ParticipantCore& core) const noexcept;
  bool Map(void* word) noexcept;
  template <typename T>
  static std::atomic_ref<T> Word(T& word) noexcept {
    return std::atomic_ref<T>(word);
  }

  epoch_hot& words_;
  std::uint64_t nothing_ = 0;  // what `word` leads to while nothing can be pinned
  void* page_ = nullptr;       // the second mapping
  void* mapped_ = nullptr;     // of the page that this word is in
};

}  // namespace epoch::c

#endif  // EPOCH_CORE_C_HOT_PIN_H_
