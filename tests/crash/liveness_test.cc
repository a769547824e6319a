// Who is alive, asked of hundreds of slots at once: the kernel's table of locks spares most
// questions and is never the reason to take somebody for dead.
#include "epoch/detail/memory/liveness.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "epoch/epoch.h"
#include "support/child.h"
#include "support/region_test.h"
#include "support/trap.h"

namespace epoch::test {
namespace {

using detail::HeldBytes;
using detail::HeldRange;

constexpr std::uint32_t kCrowd = 200;
constexpr int kLooks = 100;

// args: region, how many, "together" (one description for all of them) or "apart".
ROLE(Crowd) {
  const bool apart = self.args.at(2) == "apart";
  auto region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok(), region.status().ToString());
  std::vector<Participant> members;
  for (int i = 0; i < std::stoi(self.args.at(1)); ++i) {
    if (apart) region = Region::Open(self.args.at(0));
    auto member = Participant::Join(*region, {.name = "member"});
    ROLE_CHECK(member.ok(), member.status().ToString());
    members.push_back(*std::move(member));
  }
  self.wire.Say("joined");
  self.wire.Hear();
  return 0;
}

// args: region. Says whether the table shows its locks, and how many stragglers there are.
ROLE(Onlooker) {
  auto region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok(), region.status().ToString());
  std::uint32_t shown = 0;
  for (int look = 0; look < kLooks && shown < kCrowd * 9 / 10; ++look) {
    HeldBytes held(region->mapping()->probe_fd());
    for (std::uint32_t i = 0; i < HeldBytes::kAskedSingly; ++i) held.Shows(i);
    shown = 0;
    for (std::uint32_t i = 0; i < 3 * kCrowd; ++i) shown += held.Shows(i) ? 1u : 0u;
  }
  self.wire.Say(absl::StrCat(shown >= kCrowd * 9 / 10 ? "table read, " : "no evidence, ",
                             region->Stragglers(1).size(), " stragglers"));
  return 0;
}

class LivenessTest : public RegionTest {
 protected:
  void SetUp() override {
    RegionOptions options = Small();
    options.participants = 3 * kCrowd;
    ASSERT_NO_FATAL_FAILURE(CreateRegion(options));
  }
  std::unique_ptr<Child> Crowd(const std::string& how, const std::string& region) {
    auto crowd = std::make_unique<Child>("Crowd", std::vector{region, absl::StrCat(kCrowd), how});
    EXPECT_EQ(crowd->Hear(), "joined");
    return crowd;
  }
  std::unique_ptr<Child> Crowd(const std::string& how) { return Crowd(how, name()); }

  // Slots below `limit` of which the table gives evidence.
  std::set<std::uint32_t> Shown(HeldBytes& held) {
    for (std::uint32_t i = 0; i < HeldBytes::kAskedSingly; ++i) held.Shows(i);
    std::set<std::uint32_t> shown;
    for (std::uint32_t i = 0; i < 3 * kCrowd; ++i) {
      if (held.Shows(i)) shown.insert(i);
    }
    return shown;
  }
  std::set<std::uint32_t> Shown() {
    HeldBytes held(region().mapping()->probe_fd());
    return Shown(held);
  }
  // No other than `living`, and nearly all of them: if not in the first look, then in another. A
  // table that changes while it is read, by whoever else locks files on this machine, may skip
  // lines.
  void ExpectShown(const std::set<std::uint32_t>& living) {
    std::set<std::uint32_t> shown;
    for (int look = 0; look < kLooks; ++look) {
      shown = Shown();
      ASSERT_TRUE(std::includes(living.begin(), living.end(), shown.begin(), shown.end()));
      if (shown.size() >= living.size() * 9 / 10) return;
    }
    ADD_FAILURE() << "of " << living.size() << " only " << shown.size() << " were shown";
  }
  std::set<std::uint32_t> Stragglers() {
    std::set<std::uint32_t> slots;
    for (const StragglerStatus& straggler : region().Stragglers(1)) slots.insert(straggler.slot);
    return slots;
  }
  static std::set<std::uint32_t> Slots(std::uint32_t from, std::uint32_t to) {
    std::set<std::uint32_t> slots;
    for (; from < to; ++from) slots.insert(slots.end(), from);
    return slots;
  }
};

TEST(HeldRangeTest, only_locks_that_a_description_holds_are_read_from_the_table) {
  const auto range = HeldRange::Of("17: OFDLCK ADVISORY  WRITE -1 00:1b:56680 62 63");
  ASSERT_TRUE(range.has_value());
  EXPECT_EQ(range->device_major, 0u);
  EXPECT_EQ(range->device_minor, 0x1bu);
  EXPECT_EQ(range->inode, 56680u);
  EXPECT_EQ(range->first, 62u);
  EXPECT_EQ(range->last, 63u);
  EXPECT_EQ(HeldRange::Of("1: OFDLCK ADVISORY  WRITE 77 103:02:9 5 EOF")->last, UINT64_MAX);
  for (const char* line :
       {"", "17:", "17: OFDLCK ADVISORY  READ  -1 00:1b:56680 62 63",
        "17: -> OFDLCK ADVISORY  WRITE -1 00:1b:56680 62 63",
        "17: POSIX  ADVISORY  WRITE 812 00:1b:56680 62 63",
        "17: FLOCK  ADVISORY  WRITE 812 00:1b:56680 0 EOF",
        "17: OFDLCK ADVISORY  WRITE -1 <none>:0 62 63", "17: OFDLCK ADVISORY  WRITE -1",
        "17: OFDLCK ADVISORY  WRITE -1 00:1b:56680 62", "17: OFDLCK ADVISORY  WRITE -1 00:1b: 1 2",
        "17: OFDLCK ADVISORY  WRITE -1 00:1b:56680 62 63x"}) {
    EXPECT_FALSE(HeldRange::Of(line).has_value()) << line;
  }
}

TEST_F(LivenessTest, the_table_shows_the_living_and_none_of_the_dead) {
  const auto together = Crowd("together");
  const auto victims = Crowd("apart");
  const auto apart = Crowd("apart");
  ExpectShown(Slots(0, 3 * kCrowd));
  EXPECT_EQ(Stragglers(), Slots(0, 3 * kCrowd));
  victims->Kill();
  std::set<std::uint32_t> living = Slots(0, kCrowd);
  living.merge(Slots(2 * kCrowd, 3 * kCrowd));
  ExpectShown(living);
  EXPECT_EQ(Stragglers(), living);
  // Which has expelled them, too.
  EXPECT_EQ(*region().Reap(), 0u);
  EXPECT_EQ(CountSlots(region(), detail::SlotState::kFree), kCrowd);
}

TEST_F(LivenessTest, reap_finds_the_dead_among_hundreds) {
  const auto first = Crowd("apart");
  const auto second = Crowd("together");
  second->Kill();
  const Trap trap("liveness.table", 1, [] { return 0; });
  EXPECT_EQ(*region().Reap(), kCrowd);
  EXPECT_TRUE(trap.sprung());
  EXPECT_EQ(CountSlots(region(), detail::SlotState::kActive), kCrowd);
}

TEST_F(LivenessTest, without_a_table_each_slot_is_asked) {
  const auto first = Crowd("together");
  const auto second = Crowd("apart");
  second->Kill();
  {
    const Trap trap("liveness.table", 1, [] { return EACCES; });
    EXPECT_EQ(Stragglers(), Slots(0, kCrowd));
    EXPECT_TRUE(trap.sprung());
  }
  const Trap trap("liveness.table", 1, [] { return EACCES; });
  EXPECT_TRUE(Shown().empty());
}

TEST_F(LivenessTest, evidence_is_of_one_call) {
  const auto first = Crowd("apart");
  HeldBytes held(region().mapping()->probe_fd());
  const std::set<std::uint32_t> shown = Shown(held);
  ASSERT_FALSE(shown.empty());
  first->Kill();
  EXPECT_EQ(Shown(held), shown) << "a snapshot does not change";
  EXPECT_TRUE(Stragglers().empty()) << "and the next call takes its own";
}

TEST_F(LivenessTest, a_slot_taken_again_is_alive_again) {
  const auto first = Crowd("apart");
  first->Kill();
  ASSERT_EQ(*region().Reap(), kCrowd);
  EXPECT_TRUE(Shown().empty());
  const auto second = Crowd("apart");
  ExpectShown(Slots(0, kCrowd));
  for (const StragglerStatus& straggler : region().Stragglers(1)) {
    EXPECT_EQ(straggler.generation, 2u) << straggler.slot;
  }
}

TEST_F(LivenessTest, locks_of_another_region_are_no_evidence) {
  const ScratchName other;
  RegionOptions options = Small();
  options.participants = 3 * kCrowd;
  ASSERT_OK(Region::Create(other.name(), options));
  const auto there = Crowd("apart", other.name());
  const auto here = Crowd("apart");
  here->Kill();
  EXPECT_TRUE(Shown().empty());
  EXPECT_TRUE(Stragglers().empty());
}

TEST_F(LivenessTest, a_process_in_another_pid_namespace_sees_the_same) {
  constexpr int kIsolated = CLONE_NEWPID | CLONE_NEWUSER;
  if (!Child::CanIsolate(kIsolated)) GTEST_SKIP() << "no namespaces here";
  const auto crowd = Crowd("apart");
  const auto dead = Crowd("together");
  dead->Kill();
  Child onlooker("Onlooker", {name()}, kIsolated);
  EXPECT_EQ(onlooker.Hear(), absl::StrCat("table read, ", kCrowd, " stragglers"));
  EXPECT_EQ(onlooker.Wait(), 0);
}

}  // namespace
}  // namespace epoch::test
