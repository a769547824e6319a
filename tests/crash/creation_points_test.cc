// A creator is killed, stopped or refused at every point: never a half-made region, never a file
// left behind.
#include <gtest/gtest.h>
#include <signal.h>

#include <cerrno>
#include <filesystem>
#include <string>

#include "epoch/epoch.h"
#include "support/child.h"
#include "support/passages.h"
#include "support/region_test.h"
#include "support/trap.h"

namespace epoch::test {
namespace {

RegionOptions Tiny() {
  RegionOptions options;
  options.state_bytes = 256;
  options.participants = 4;
  options.versions = 4;
  return options;
}

// args: path, label, signal.
ROLE(DoomedCreator) {
  const Trap trap(self.args.at(1), 1, std::stoi(self.args.at(2)));
  auto region = Region::Create(self.args.at(0), Tiny());
  self.wire.Say(region.ok() ? region->incarnation() : region.status().ToString());
  return 0;
}

class CreationPointsTest : public testing::TestWithParam<const char*> {
 protected:
  bool Linked() const { return GetParam() == std::string("create.linked"); }
  const ScratchDirectory directory_;
  const std::string path_ = directory_ / "region";
};

TEST_P(CreationPointsTest, killed_there_leaves_all_or_nothing) {
  Child creator("DoomedCreator", {path_, GetParam(), std::to_string(SIGKILL)});
  ASSERT_EQ(creator.Wait(), -SIGKILL) << GetParam() << " was never passed";
  if (Linked()) {
    EXPECT_OK(Region::Open(path_));
  } else {
    EXPECT_TRUE(std::filesystem::is_empty(directory_.path()));
  }
  auto region = Region::OpenOrCreate(path_, Tiny());
  ASSERT_OK(region);
  auto self = Participant::Join(*region);
  ASSERT_OK(self);
  EXPECT_OK(Increment(*self));
}

TEST_P(CreationPointsTest, stopped_there_delays_nobody_and_loses_or_has_won) {
  Child creator("DoomedCreator", {path_, GetParam(), std::to_string(SIGSTOP)});
  ASSERT_TRUE(creator.AwaitStop()) << GetParam() << " was never passed";
  auto region = Region::OpenOrCreate(path_, Tiny());
  ASSERT_OK(region);
  creator.Continue();
  const std::string answer = creator.Hear();
  if (Linked()) {
    EXPECT_EQ(answer, region->incarnation());
  } else {
    EXPECT_THAT(answer, testing::StartsWith("ALREADY_EXISTS"));
  }
  EXPECT_EQ(Region::Open(path_)->incarnation(), region->incarnation());
}

INSTANTIATE_TEST_SUITE_P(At, CreationPointsTest,
                         testing::Values("create.allocate", "create.before_link", "create.linked"),
                         [](const auto& suite) { return TestName(std::string(suite.param)); });

TEST(CreationFault, no_space_is_resource_exhausted_and_leaves_nothing) {
  const ScratchDirectory directory;
  for (int error : {ENOSPC, EDQUOT, EFBIG}) {
    const Trap trap("create.allocate", 1, [error] { return error; });
    EXPECT_FAILS(Region::Create(directory / "region", Tiny()), kResourceExhausted, "allocate");
    EXPECT_TRUE(trap.sprung());
    EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
  }
}

TEST(CreationFault, a_signal_during_allocation_does_not_fail_the_creation) {
  const ScratchDirectory directory;
  const Trap trap("create.allocate", 1, [] { return EINTR; });
  EXPECT_OK(Region::Create(directory / "region", Tiny()));
  EXPECT_TRUE(trap.sprung());
}

}  // namespace
}  // namespace epoch::test
