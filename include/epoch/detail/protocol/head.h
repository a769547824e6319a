// The epoch word, and all that moves it but votes and fences (driver.h).
//
//   (Open, v, e) -> (Open, w, e+1)      volatile: HelpHead, once w is accepted
//   (Open, v, e) -> (Open, w, e+n)      durable: AdvanceDurableHead, once a batch is Written
//   any          -> (Poisoned, v, e)    PoisonHead, once the journal has failed a write; for good
//
// A fence closes head, (Open, v, e) -> (Closed, p, e), and opens it again; what moves it forward here
// takes a closed one as an open one. Each is one CAS from the exact word that was read, by whoever
// finds that it is due: killed or stopped before it, others do it; after it, they ring again.
//
// Thread safety: any number of processes. Progress: lock-free.
#ifndef EPOCH_DETAIL_PROTOCOL_HEAD_H_
#define EPOCH_DETAIL_PROTOCOL_HEAD_H_

#include <array>
#include <cstdint>

#include "epoch/detail/memory/bell.h"
#include "epoch/detail/memory/layout.h"
#include "epoch/detail/protocol/versions.h"

namespace epoch::detail {

// Volatile regions: lets head follow the tail word given. Idempotent; anyone may call it.
// Head is loaded after tail: if it is at e when tail was at (v, e+1), then v is e's one successor,
// and the CAS from the exact head word can only succeed while that is still so. A head closed at e
// had drained for v, or was closed late for a proposal that was aborted before v was accepted.
// It may be closed or opened late several times meanwhile, so one failed CAS proves nothing. False:
// head is not where tail is; nothing may be appended then, as head could not follow any more.
inline bool HelpHead(const RegionView& view, std::uint64_t tail_word) noexcept {
  const StateWord tail = StateWord::Unpack(tail_word);
  std::uint64_t word = view.control->head.Load();
  for (;;) {
    const StateWord head = StateWord::Unpack(word);
    if (tail.phase != Phase::kAccepted || head.phase == Phase::kPoisoned ||
        head.epoch + 1 != tail.epoch || !view.ValidCell(tail.version)) {
      return head.epoch >= tail.epoch;
    }
    EPOCH_POINT("publish.before_head");
    if (view.control->head.CompareExchange(
            word, StateWord{Phase::kOpen, tail.version, tail.epoch}.Pack())) {
      EPOCH_POINT("publish.before_ring");
      Ring(*view.control);
      return true;
    }
  }
}

// The W words of all batches, as they stood at one moment if that could be had: words never take a
// value twice, so two equal readings enclose one. False: others change them all the time, and
// whoever changes one looks again afterwards.
inline bool ReadBatchWords(const Control& control, std::array<std::uint64_t, kBatchRingSlots>& w) {
  const auto read = [&control](std::array<std::uint64_t, kBatchRingSlots>& to) {
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = control.ring[i].w.Load();
  };
  read(w);
  for (int attempt = 0; attempt < 100; ++attempt) {
    std::array<std::uint64_t, kBatchRingSlots> again;
    read(again);
    if (again == w) return true;
    w = again;
  }
  return false;
}

// Lets head follow what is durable, strictly in order. Anyone may call it, any number of times.
inline void AdvanceDurableHead(const RegionView& view) noexcept {
  for (bool moved = false;;) {
    std::uint64_t word = view.control->head.Load();
    const StateWord head = StateWord::Unpack(word);
    if (head.phase == Phase::kPoisoned) return;
    // A batch that ends beyond head holds what was accepted, and tail never goes back behind that.
    if (!moved && StateWord::Unpack(view.control->tail.Load()).epoch <= head.epoch) return;
    std::array<std::uint64_t, kBatchRingSlots> words;
    if (!ReadBatchWords(*view.control, words)) return;
    // The batch that begins behind head is the one with the lowest end beyond it: batches are
    // frozen in order, and their words stay until head has passed them.
    BatchW next{};
    Epoch frozen = head.epoch, oldest = head.epoch;
    for (const std::uint64_t candidate : words) {
      const BatchW w = BatchW::Unpack(candidate);
      // One without versions ends where its predecessor does, which it must not pass for.
      if (w.hint_only) continue;
      if (w.last < oldest) oldest = w.last;
      if (w.last > head.epoch && (next.last == 0 || w.last < next.last)) next = w;
      if (w.last > frozen) frozen = w.last;
    }
    if (next.state != BatchState::kWritten || !view.ValidCell(next.version)) {
      if (!moved) return;
      // There is room for another batch now: one of those who wait for it freezes it.
      const StateWord tail = StateWord::Unpack(view.control->tail.Load());
      if (tail.epoch > frozen) RingOneDoor(*view.control, frozen, tail.epoch);
      return;
    }
    // From the exact word that was read before the batches were. A closed head is no obstacle: what
    // was written had drained, or the fence was given up.
    if (view.control->head.CompareExchange(
            word, StateWord{Phase::kOpen, next.version, next.last}.Pack())) {
      // Some before it, too: who moved head there may have died before it rang. Not all, as further
      // on these are the doors of others, who would wake up in vain.
      constexpr Epoch kAgain = 16;
      if (head.epoch - oldest > kAgain) oldest = head.epoch - kAgain;
      RingDoors(*view.control, oldest, next.last);
      Ring(*view.control);
      moved = true;
    }
  }
}

// Makes head Poisoned if it is still exactly `word`.
inline bool PoisonHeadAt(const RegionView& view, std::uint64_t word) noexcept {
  StateWord head = StateWord::Unpack(word);
  head.version = CommittedCell(view, head);
  head.phase = Phase::kPoisoned;
  if (!view.control->head.CompareExchange(word, head.Pack())) return false;
  RingAllDoors(*view.control);
  return true;
}

// A journal that failed a write ends this incarnation: head stays readable and never moves again.
inline void PoisonHead(const RegionView& view) noexcept {
  std::uint64_t word = view.control->head.Load();
  for (;;) {
    StateWord head = StateWord::Unpack(word);
    if (head.phase == Phase::kPoisoned) return;
    head.version = CommittedCell(view, head);
    head.phase = Phase::kPoisoned;
    if (view.control->head.CompareExchange(word, head.Pack())) {
      RingAllDoors(*view.control);
      return;
    }
  }
}

// What can stand between an accepted version and its visibility, done by whoever finds it.
inline void HelpAccepted(const RegionView& view) noexcept {
  if (view.durable) {
    AdvanceDurableHead(view);
    return;
  }
  const std::uint64_t tail = view.control->tail.Load();
  MarkPublished(view, tail);
  HelpHead(view, tail);
}

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_PROTOCOL_HEAD_H_
