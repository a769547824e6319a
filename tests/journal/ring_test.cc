// The batch ring: what is the newest batch, whatever happens meanwhile.
#include "core/journal/batch/ring.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>

#include "support/trap.h"

namespace epoch::journal {
namespace {

// The three words of batch `s`, as the writers leave them.
void PutBatch(Control& control, std::uint64_t s, BatchState state = BatchState::kWritten) {
  detail::BatchWords& words = control.ring[s % detail::kBatchRingSlots];
  words.w.Store(BatchW{state, false, static_cast<std::uint32_t>(s % 5), s}.Pack());
  words.e.Store(BatchE{1, s + 1}.Pack());
  words.h.Store(BatchH{static_cast<std::uint16_t>(s), s}.Pack());
}

TEST(Ring, FindsTheNewestBatchAcrossTheWrapOfTags) {
  auto control = std::make_unique<Control>();
  const std::uint64_t wrap = std::uint64_t{1} << 16;
  for (std::uint64_t s = wrap - 40; s < wrap - 24; ++s) PutBatch(*control, s);
  for (std::uint64_t s = wrap - 24; s < wrap + 24; ++s) {
    PutBatch(*control, s);
    const RingReading ring = ReadRing(*control);
    for (int back = 0; back < detail::kBatchRingSlots - 1; ++back) {
      ASSERT_EQ(BatchW::Unpack(ring.At(-back).w).last, s - static_cast<std::uint64_t>(back));
    }
    ASSERT_EQ(BatchW::Unpack(ring.At(1).w).last, s - 15);
    ASSERT_EQ(&ring.WordsAt(*control, 0), &control->ring[s % 16]);
    ASSERT_EQ(&ring.WordsAt(*control, 1), &control->ring[(s + 1) % 16]);
    ASSERT_FALSE(IsSuccessor(ring.At(1).w, ring.At(0).w));
    ASSERT_TRUE(EndIsKnown(ring.At(0).e, ring.At(-1).e));
    ASSERT_EQ(ring.InFlight(s), 0);
    ASSERT_EQ(ring.InFlight(s - 3), 3);
    ASSERT_EQ(ring.InFlight(s - 9), detail::kMostBatchesInFlight);
  }
}

TEST(Ring, SeesAFrozenSuccessorBeforeItHasAHint) {
  auto control = std::make_unique<Control>();
  for (std::uint64_t s = 16; s < 32; ++s) PutBatch(*control, s);
  control->ring[0].w.Store(BatchW{BatchState::kFrozen, false, 1, 32}.Pack());
  const RingReading ring = ReadRing(*control);
  EXPECT_EQ(ring.NewestW().last, 31u);
  EXPECT_TRUE(IsSuccessor(ring.At(1).w, ring.At(0).w));
  // Its end is not known until E has left what it was sixteen batches ago.
  control->ring[0].h.Store(BatchH{32, 31}.Pack());
  const RingReading hinted = ReadRing(*control);
  EXPECT_EQ(hinted.NewestW().last, 32u);
  EXPECT_FALSE(EndIsKnown(hinted.At(0).e, hinted.At(-1).e));
}

// A process is stopped in the middle of a reading, for exactly as long as the ring takes to come
// round. What it had read then fits none of the batches that it finds now.
TEST(Ring, AReadingThatWasStoppedForAWholeRoundIsBegunAnew) {
  auto control = std::make_unique<Control>();
  for (std::uint64_t s = 16; s < 32; ++s) PutBatch(*control, s);
  for (const bool hinted : {false, true}) {
    const std::uint64_t base = hinted ? 80 : 31;
    for (std::uint64_t s = base - 15; s <= base; ++s) PutBatch(*control, s);
    const std::uint64_t now = base + 16;
    const test::Trap trap("journal.ring_read", 1, [&] {
      for (std::uint64_t s = base + 1; s < now; ++s) PutBatch(*control, s);
      // The next one is frozen; its end is not known yet.
      detail::BatchWords& words = control->ring[now % detail::kBatchRingSlots];
      words.w.Store(BatchW{BatchState::kFrozen, false, 1, now}.Pack());
      if (hinted) words.h.Store(BatchH{static_cast<std::uint16_t>(now), now - 1}.Pack());
      return 0;
    });
    const RingReading ring = ReadRing(*control);
    EXPECT_TRUE(trap.sprung());
    EXPECT_EQ(ring.NewestW().last, hinted ? now : now - 1);
    EXPECT_EQ(BatchW::Unpack(ring.At(-1).w).last, hinted ? now - 1 : now - 2);
    EXPECT_EQ(EndIsKnown(ring.At(0).e, ring.At(-1).e), !hinted);
  }
}

TEST(Ring, AnOverwrittenRingIsReadInBoundedTime) {
  auto control = std::make_unique<Control>();
  for (std::uint64_t i = 0; i < detail::kBatchRingSlots; ++i) {
    control->ring[i].h.Store(BatchH{static_cast<std::uint16_t>(i * 9001), 1}.Pack());
  }
  const RingReading ring = ReadRing(*control);
  EXPECT_GE(ring.newest, 0);
  EXPECT_LT(ring.newest, detail::kBatchRingSlots);
}

}  // namespace
}  // namespace epoch::journal
