// How long a call may wait: moments compare, and only those that must look at the clock.
#include "epoch/detail/platform/deadline.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>

#include "absl/time/time.h"

namespace epoch::test {
namespace {

using detail::Deadline;
using detail::Limit;
using detail::Slices;

constexpr absl::Duration kLong = absl::Hours(1'000'000);

TEST(DeadlineTest, never_is_the_latest_and_at_once_has_passed) {
  EXPECT_TRUE(Deadline::Never().never());
  EXPECT_FALSE(Deadline::Never().Passed());
  EXPECT_TRUE(Deadline::AtOnce().at_once());
  EXPECT_TRUE(Deadline::AtOnce().Passed());
  EXPECT_LE(Deadline::AtOnce().Left_ns(), 0);
  EXPECT_LT(Deadline::AtOnce(), Deadline::After(absl::ZeroDuration()));
  EXPECT_LT(Deadline::After(kLong), Deadline::Never());
  EXPECT_EQ(std::min(Deadline::Never(), Deadline::AtOnce()), Deadline::AtOnce());
}

TEST(DeadlineTest, a_duration_counts_from_now_whatever_it_is) {
  EXPECT_TRUE(Deadline::After(absl::InfiniteDuration()).never());
  EXPECT_TRUE(Deadline::After(absl::ZeroDuration()).Passed());
  EXPECT_TRUE(Deadline::After(-kLong).Passed());
  EXPECT_TRUE(Deadline::After(-absl::InfiniteDuration()).Passed());
  EXPECT_FALSE(Deadline::After(kLong).Passed());
  EXPECT_GT(Deadline::After(kLong).Left_ns(), 0);
  EXPECT_TRUE(Deadline::After(absl::Nanoseconds(INT64_MAX)).never()) << "rather than wrap around";
}

TEST(DeadlineTest, a_word_is_read_back_as_it_was_written) {
  const Deadline deadline = Deadline::After(kLong);
  EXPECT_EQ(Deadline::OfWord(deadline.word()), deadline);
  EXPECT_TRUE(Deadline::OfWord(Deadline::Never().word()).never());
}

TEST(DeadlineTest, slices_grow_and_end_with_it) {
  Slices slices(Deadline::Never(), 10, 35);
  EXPECT_EQ(slices.Next(), 10);
  EXPECT_EQ(slices.Next(), 20);
  EXPECT_EQ(slices.Next(), 35);
  EXPECT_EQ(slices.Next(), 35);
  EXPECT_EQ(Slices(Deadline::AtOnce()).Next(), 0);
  EXPECT_EQ(Slices(Deadline::After(absl::ZeroDuration())).Next(), 0);
}

TEST(DeadlineTest, nobody_who_may_not_interrupt_is_asked) {
  std::int64_t nanos = 7;
  EXPECT_FALSE(Limit().Interrupted());
  EXPECT_FALSE(Limit().Interrupted(nanos));
  EXPECT_EQ(nanos, 7);
  EXPECT_TRUE(Limit().deadline.never());
  const std::function<bool()> nobody;
  EXPECT_FALSE(Limit(Deadline::Never(), &nobody).Interrupted());
}

TEST(DeadlineTest, whoever_may_interrupt_is_asked_when_that_is_due) {
  int asked = 0;
  const std::function<bool()> yes = [&asked] { return ++asked > 0; };
  Limit limit(Deadline::Never(), &yes);
  std::int64_t nanos = INT64_MAX;
  EXPECT_FALSE(limit.Interrupted(nanos)) << "it has only begun to wait";
  EXPECT_EQ(asked, 0);
  EXPECT_LE(nanos, 100'000'000) << "it sleeps no longer than until then";
  limit.due_ns = 1;  // long ago
  EXPECT_TRUE(limit.Interrupted(nanos));
  EXPECT_TRUE(limit.Interrupted(nanos)) << "for the rest of the call";
  EXPECT_EQ(asked, 1);
}

}  // namespace
}  // namespace epoch::test
