// Many processes, one history: nothing lost, nothing torn, nobody goes back.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "epoch/epoch.h"
#include "support/child.h"
#include "support/puppet.h"
#include "support/region_test.h"

namespace epoch::test {
namespace {

// args: region, number of increments.
ROLE(Counter) {
  auto region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok(), region.status().ToString());
  auto me = Participant::Join(*region, {.name = "counter"});
  ROLE_CHECK(me.ok(), me.status().ToString());
  self.wire.Say("ready");
  ROLE_CHECK(self.wire.Hear() == "go");
  Epoch last = 0;
  for (int left = std::stoi(self.args.at(1)); left > 0; --left) {
    auto epoch = IncrementPatiently(*me);
    ROLE_CHECK(epoch.ok(), epoch.status().ToString());
    ROLE_CHECK(*epoch > last, "commits of one process are numbered in order");
    last = *epoch;
    ROLE_CHECK(region->epoch() >= last, "a commit that returned is visible");
  }
  self.wire.Say("done");
  return 0;
}

// args: region, epoch at which to stop. Looks at everything that passes by, pinned and unpinned.
ROLE(Observer) {
  const Epoch until = std::stoull(self.args.at(1));
  auto region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok(), region.status().ToString());
  auto inspector = Region::Open(self.args.at(0), {.read_only = true});
  ROLE_CHECK(inspector.ok(), inspector.status().ToString());
  auto me = Participant::Join(*region, {.name = "observer"});
  ROLE_CHECK(me.ok(), me.status().ToString());
  self.wire.Say("ready");
  for (Epoch last = 0; last < until;) {
    const Epoch before = region->epoch();
    {
      const Pin pin = me->Pin();
      ROLE_CHECK(pin.ok());
      ROLE_CHECK(pin.epoch() >= before && pin.epoch() >= last, "head went back");
      ROLE_CHECK(ReadChecked(pin.state()) == pin.epoch(), "torn or foreign state");
      last = pin.epoch();
    }
    auto snapshot = inspector->Read();
    if (absl::IsUnavailable(snapshot.status())) continue;
    ROLE_CHECK(snapshot.ok(), snapshot.status().ToString());
    ROLE_CHECK(snapshot->epoch >= last, "head went back for a reader without a slot");
    ROLE_CHECK(ReadChecked(snapshot->state) == snapshot->epoch, "torn or foreign snapshot");
  }
  self.wire.Say("done");
  return 0;
}

TEST_F(RegionTest, concurrent_updates_add_up_exactly_and_every_state_seen_is_whole) {
  constexpr int kCounters = 4;
  constexpr int kIncrements = 1500;
  RegionOptions options = Small();
  options.versions = 24;
  ASSERT_NO_FATAL_FAILURE(CreateRegion(options));
  std::vector<std::unique_ptr<Child>> children;
  for (int i = 0; i < kCounters; ++i) {
    children.push_back(
        std::make_unique<Child>("Counter", std::vector{name(), std::to_string(kIncrements)}));
  }
  for (int i = 0; i < 2; ++i) {
    children.push_back(std::make_unique<Child>(
        "Observer", std::vector{name(), std::to_string(kCounters * kIncrements)}));
  }
  for (auto& child : children) ASSERT_EQ(child->Hear(), "ready");
  for (auto& child : children) child->Say("go");
  for (auto& child : children) EXPECT_EQ(child->Hear(), "done");
  for (auto& child : children) EXPECT_EQ(child->Wait(), 0);
  EXPECT_EQ(region().epoch(), Epoch{kCounters * kIncrements});
  EXPECT_EQ(ReadChecked(region().Read()->state), std::uint64_t{kCounters * kIncrements});
  ExpectNothingLeaked(region(), 0);
}

TEST_F(RegionTest, of_rival_processes_that_expect_the_same_epoch_exactly_one_succeeds) {
  ASSERT_NO_FATAL_FAILURE(CreateRegion());
  Puppet a(name()), b(name());
  ASSERT_EQ(a.Do("join").substr(0, 2), "ok");
  ASSERT_EQ(b.Do("join").substr(0, 2), "ok");
  for (Epoch epoch = 0; epoch < 500; ++epoch) {
    const std::string command = "commit " + std::to_string(epoch);
    a.Say(command);
    b.Say(command);
    const std::string from_a = a.Hear(), from_b = b.Hear();
    const std::string won = "ok " + std::to_string(epoch + 1);
    ASSERT_EQ((from_a == won) + (from_b == won), 1) << from_a << " and " << from_b;
    ASSERT_THAT(from_a == won ? from_b : from_a, testing::StartsWith("ABORTED"));
  }
}

TEST_F(RegionTest, waiters_in_other_processes_are_woken_by_a_commit) {
  ASSERT_NO_FATAL_FAILURE(CreateRegion());
  Participant self = Joined();
  Puppet a(name()), b(name());
  for (Puppet* puppet : {&a, &b}) ASSERT_EQ(puppet->Do("join").substr(0, 2), "ok");
  for (Epoch epoch = 1; epoch <= 100; ++epoch) {
    for (Puppet* puppet : {&a, &b}) puppet->Say("await " + std::to_string(epoch));
    ASSERT_OK(Increment(self));
    for (Puppet* puppet : {&a, &b}) ASSERT_EQ(puppet->Hear(), "ok " + std::to_string(epoch));
  }
}

TEST_F(RegionTest, convergence_waits_for_the_living_and_not_for_the_dead) {
  ASSERT_NO_FATAL_FAILURE(CreateRegion());
  Participant self = Joined();
  Puppet living(name()), dying(name());
  ASSERT_EQ(living.Do("join living").substr(0, 2), "ok");
  ASSERT_EQ(dying.Do("join dying").substr(0, 2), "ok");
  ASSERT_OK(Increment(self));
  Puppet waiter(name());
  ASSERT_EQ(waiter.Do("join waiter").substr(0, 2), "ok");
  ASSERT_OK(self.Poll());
  EXPECT_EQ(region().Stragglers(1).size(), 2u);
  waiter.Say("converge 1");  // without a deadline
  dying.Kill();
  ASSERT_EQ(living.Do("poll"), "ok 1");
  EXPECT_EQ(waiter.Hear(), "ok 1");
  EXPECT_EQ(CountSlots(region(), detail::SlotState::kActive), 3u) << "the dead were reaped";
}

}  // namespace
}  // namespace epoch::test
