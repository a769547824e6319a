// Whether a file that is open is still where it was: asked each time, and asked now and then.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "epoch/detail/platform/files.h"
#include "support/files.h"
#include "support/scratch.h"

namespace epoch::test {
namespace {

namespace fs = std::filesystem;
using detail::Whereabouts;
using Seen = Whereabouts::Seen;

class WhereaboutsTest : public testing::Test {
 protected:
  static constexpr std::int64_t kNow_ns = 1'000'000'000'000;

  void SetUp() override {
    WriteText(path_, "text");
    fd_ = detail::Fd(open(path_.c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_TRUE(fd_.ok());
    whereabouts_ = Whereabouts(fd_.get(), path_);
  }
  Seen Glance(std::int64_t after_ns = 0) {
    return whereabouts_.Glance(fd_.get(), kNow_ns + after_ns);
  }

  const ScratchDirectory scratch_;
  const std::string path_ = scratch_ / "file", away_ = scratch_ / "away";
  detail::Fd fd_;
  Whereabouts whereabouts_;
};

TEST_F(WhereaboutsTest, what_nobody_can_open_any_more_is_noticed_by_the_next_glance) {
  EXPECT_EQ(Glance(), Seen::kThere);
  EXPECT_EQ(Glance(), Seen::kThere);
  fs::remove(path_);
  EXPECT_EQ(Glance(), Seen::kGone);
  WriteText(path_, "another");
  EXPECT_EQ(Glance(), Seen::kGone);
}

TEST_F(WhereaboutsTest, what_was_replaced_is_noticed_by_the_next_glance) {
  WriteText(away_, "another");
  EXPECT_EQ(Glance(), Seen::kThere);
  fs::rename(away_, path_);
  EXPECT_EQ(Glance(), Seen::kGone);
}

TEST_F(WhereaboutsTest, what_was_moved_is_noticed_when_the_time_is_over) {
  EXPECT_EQ(Glance(), Seen::kThere);
  fs::rename(path_, away_);
  EXPECT_EQ(Glance(Whereabouts::kLookEvery_ns - 1), Seen::kThere);
  EXPECT_EQ(Glance(Whereabouts::kLookEvery_ns), Seen::kElsewhere);
  // From there on at once, and so is its return.
  EXPECT_EQ(Glance(Whereabouts::kLookEvery_ns), Seen::kElsewhere);
  fs::rename(away_, path_);
  EXPECT_EQ(Glance(Whereabouts::kLookEvery_ns), Seen::kThere);
}

TEST_F(WhereaboutsTest, what_was_moved_is_noticed_after_so_many_glances) {
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(Glance(), Seen::kThere);
    fs::rename(path_, away_);
    int more = 0;
    while (more < 2 * Whereabouts::kLookEvery && Glance() == Seen::kThere) ++more;
    EXPECT_EQ(more, Whereabouts::kLookEvery - 1);
    fs::rename(away_, path_);
  }
}

TEST_F(WhereaboutsTest, what_has_another_name_is_elsewhere_and_not_gone) {
  EXPECT_EQ(Glance(), Seen::kThere);
  fs::create_hard_link(path_, away_);
  fs::remove(path_);
  EXPECT_EQ(Glance(), Seen::kThere);
  EXPECT_EQ(Glance(Whereabouts::kLookEvery_ns), Seen::kElsewhere);
  fs::remove(away_);
  EXPECT_EQ(Glance(Whereabouts::kLookEvery_ns), Seen::kGone);
}

}  // namespace
}  // namespace epoch::test
