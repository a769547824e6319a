// The batch ring: what is the newest batch, whatever happens meanwhile.
#include "core/journal/ring.h"

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
  for (std::uint64_t s = wrap - 20; s < wrap - 12; ++s) PutBatch(*control, s);
  for (std::uint64_t s = wrap - 12; s < wrap + 12; ++s) {
    PutBatch(*control, s);
    const RingReading ring = ReadRing(*control);
    ASSERT_EQ(BatchW::Unpack(ring.newest.w).last, s);
    ASSERT_EQ(BatchW::Unpack(ring.before.w).last, s - 1);
    ASSERT_EQ(BatchW::Unpack(ring.next.w).last, s - 7);
    ASSERT_EQ(ring.newest_words, &control->ring[s % 8]);
    ASSERT_EQ(ring.next_words, &control->ring[(s + 1) % 8]);
    ASSERT_FALSE(IsSuccessor(ring.next.w, ring.newest.w));
    ASSERT_TRUE(EndIsKnown(ring.newest.e, ring.before.e));
  }
}

TEST(Ring, SeesAFrozenSuccessorBeforeItHasAHint) {
  auto control = std::make_unique<Control>();
  for (std::uint64_t s = 8; s < 16; ++s) PutBatch(*control, s);
  control->ring[0].w.Store(BatchW{BatchState::kFrozen, false, 1, 16}.Pack());
  const RingReading ring = ReadRing(*control);
  EXPECT_EQ(BatchW::Unpack(ring.newest.w).last, 15u);
  EXPECT_TRUE(IsSuccessor(ring.next.w, ring.newest.w));
  // Its end is not known until E has left what it was eight batches ago.
  control->ring[0].h.Store(BatchH{16, 15}.Pack());
  const RingReading hinted = ReadRing(*control);
  EXPECT_EQ(BatchW::Unpack(hinted.newest.w).last, 16u);
  EXPECT_FALSE(EndIsKnown(hinted.newest.e, hinted.before.e));
}

// A process is stopped in the middle of a reading, for exactly as long as the ring takes to come
// round. What it had read then fits none of the batches that it finds now.
TEST(Ring, AReadingThatWasStoppedForAWholeRoundIsBegunAnew) {
  auto control = std::make_unique<Control>();
  for (std::uint64_t s = 8; s < 16; ++s) PutBatch(*control, s);
  for (const bool hinted : {false, true}) {
    const std::uint64_t base = hinted ? 40 : 15;
    for (std::uint64_t s = base - 7; s <= base; ++s) PutBatch(*control, s);
    const std::uint64_t now = base + 8;
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
    EXPECT_EQ(BatchW::Unpack(ring.newest.w).last, hinted ? now : now - 1);
    EXPECT_EQ(BatchW::Unpack(ring.before.w).last, hinted ? now - 1 : now - 2);
    EXPECT_EQ(EndIsKnown(ring.newest.e, ring.before.e), !hinted);
  }
}

TEST(Ring, AnOverwrittenRingIsReadInBoundedTime) {
  auto control = std::make_unique<Control>();
  for (std::uint64_t i = 0; i < detail::kBatchRingSlots; ++i) {
    control->ring[i].h.Store(BatchH{static_cast<std::uint16_t>(i * 9001), 1}.Pack());
  }
  const RingReading ring = ReadRing(*control);
  EXPECT_GE(ring.newest_words, &control->ring[0]);
  EXPECT_LE(ring.newest_words, &control->ring[detail::kBatchRingSlots - 1]);
}

}  // namespace
}  // namespace epoch::journal
