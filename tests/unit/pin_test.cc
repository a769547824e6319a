// Pins: one whole (epoch, state) pair for as long as it is held.
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <utility>

#include "epoch/epoch.h"
#include "support/region_test.h"
#include "support/time_limits.h"

namespace epoch::test {
namespace {

using PinTest = SmallRegionTest;

TEST_F(PinTest, nested_pins_see_what_the_outermost_sees) {
  Participant self = Joined(), writer = Joined("writer");
  ASSERT_OK(writer.Commit("first"));
  Pin outer = self.Pin();
  ASSERT_OK(writer.Commit("second"));
  Pin inner = self.Pin();
  EXPECT_EQ(inner.epoch(), 1u);
  EXPECT_EQ(inner.text(), "first");
  outer.Release();
  EXPECT_FALSE(outer.ok());
  EXPECT_EQ(outer.epoch(), 0u);
  EXPECT_TRUE(outer.state().empty());
  EXPECT_EQ(inner.text(), "first") << "the inner one holds on";
  inner.Release();
  EXPECT_EQ(self.Pin().text(), "second");
}

TEST_F(PinTest, survives_unchanged_while_ten_thousand_commits_pass) {
  // Each pin is held while the writer goes twice through all cells, or until it could only go on by
  // taking back the pinned one.
  Participant reader = Joined("reader"), writer = Joined("writer");
  ASSERT_OK(Increment(writer));
  while (region().epoch() < 10'000) {
    const Epoch base = region().epoch();
    const Pin pin = reader.Pin();
    const std::byte* const bytes = pin.state().data();
    const auto before = CheckedState(base);
    absl::StatusOr<Epoch> last = base;
    for (std::uint32_t i = 0; i < 2 * kVersions && last.ok(); ++i) last = Increment(writer);
    ASSERT_TRUE(last.ok() || absl::IsResourceExhausted(last.status()));
    ASSERT_EQ(pin.epoch(), base);
    ASSERT_EQ(pin.state().data(), bytes);
    ASSERT_TRUE(std::ranges::equal(pin.state(), before));
  }
}

TEST_F(PinTest, moves_and_releases_once) {
  Participant self = Joined();
  ASSERT_OK(self.Commit("x"));
  Pin a = self.Pin();
  Pin b = std::move(a);
  EXPECT_FALSE(a.ok());  // NOLINT(bugprone-use-after-move)
  EXPECT_TRUE(b.ok());
  Pin c = self.Pin();
  c = std::move(b);
  EXPECT_EQ(c.text(), "x");
  c.Release();
  c.Release();
  EXPECT_OK(self.Leave()) << "nothing is held any more";
}

TEST_F(PinTest, default_pin_is_empty) {
  const Pin pin;
  EXPECT_FALSE(pin);
  EXPECT_EQ(pin.epoch(), 0u);
  EXPECT_TRUE(pin.text().empty());
}

TEST_F(PinTest, try_pin_gives_the_same_as_pin) {
  Participant self = Joined();
  ASSERT_OK(self.Commit("x"));
  auto pin = self.TryPin();
  ASSERT_OK(pin);
  EXPECT_EQ(pin->text(), "x");
  EXPECT_EQ(pin->epoch(), 1u);
}

TEST_F(PinTest, while_a_fence_drains_try_pin_is_unavailable_and_holds_nothing) {
  Participant self = Joined(), reader = Joined("reader"), proposer = Joined("proposer");
  ASSERT_OK(self.Commit("x"));
  auto& control = *region().mapping()->view().control;
  Pin pin = reader.Pin();
  std::thread fence([&] { EXPECT_OK(proposer.Commit("y", {.fence = true})); });
  EXPECT_TRUE(Await([&] {
    return detail::StateWord::Unpack(control.head.Load()).phase == detail::Phase::kClosed;
  }));
  EXPECT_FAILS(self.TryPin(), kUnavailable, "fence");
  const auto& slot = region().mapping()->view().slots[self.slot()];
  EXPECT_EQ(slot.pin.Load(), detail::NoneOf(self.generation())) << "the fence waits for this";
  pin.Release();
  fence.join();
  EXPECT_EQ((*self.TryPin()).text(), "y");
}

TEST_F(PinTest, poisoned_head_stays_readable) {
  Participant self = Joined();
  ASSERT_OK(self.Commit("x"));
  auto& control = *region().mapping()->view().control;
  auto head = detail::StateWord::Unpack(control.head.Load());
  head.phase = detail::Phase::kPoisoned;
  control.head.Store(head.Pack());
  EXPECT_EQ(self.Pin().text(), "x");
  EXPECT_OK(region().Read());
}

TEST_F(PinTest, expelled_holder_keeps_reading_what_it_pinned) {
  Participant self = Joined(), writer = Joined("writer");
  ASSERT_OK(Increment(writer));
  const Pin pin = self.Pin();
  ASSERT_OK(region().Expel(self.slot()));
  for (std::uint32_t i = 0; i < kVersions - 3; ++i) ASSERT_OK(Increment(writer));
  ASSERT_OK(region().Reap());
  detail::Reclaim(region().mapping()->view());
  EXPECT_EQ(ReadChecked(pin.state()), 1u) << "quarantined while its holder lives";
  const Pin nested = self.Pin();
  EXPECT_EQ(nested.epoch(), 1u);
}

TEST_F(PinTest, a_pin_with_state_of_every_length_reads_exactly_that_length) {
  Participant self = Joined();
  for (std::size_t size = 0; size <= 256; ++size) {
    ASSERT_OK(self.Commit(std::string(size, static_cast<char>('a' + size % 26))));
    const Pin pin = self.Pin();
    ASSERT_EQ(pin.text(), std::string(size, static_cast<char>('a' + size % 26)));
  }
}

}  // namespace
}  // namespace epoch::test
