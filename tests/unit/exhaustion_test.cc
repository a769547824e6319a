// Limits: running out is an error that names the holder, and the largest geometry works.
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "epoch/epoch.h"
#include "support/region_test.h"
#include "support/time_limits.h"

namespace epoch::test {
namespace {

using ExhaustionTest = SmallRegionTest;

TEST_F(ExhaustionTest, versions_used_up_by_drafts_name_the_drafter) {
  Participant hoarder = Joined("hoarder"), self = Joined("self");
  std::vector<Draft> drafts;
  for (std::uint32_t i = 0; i + 1 < kVersions; ++i) {
    auto draft = hoarder.NewDraft(std::size_t{1});
    ASSERT_OK(draft);
    drafts.push_back(*std::move(draft));
  }
  EXPECT_FAILS(self.Commit("x"), kResourceExhausted, "\"hoarder\" (slot 0");
  EXPECT_FAILS(self.Commit("x"), kResourceExhausted, "drafts 7");
  drafts.pop_back();
  EXPECT_OK(self.Commit("x"));
  EXPECT_OK(self.Commit("y"));
}

TEST_F(ExhaustionTest, versions_held_by_pins_name_the_readers_and_their_epochs) {
  Participant self = Joined("self");
  std::vector<Participant> readers;
  std::vector<Pin> pins;
  readers.reserve(kParticipants);
  for (std::uint32_t i = 0; i + 1 < kParticipants; ++i) {
    ASSERT_OK(Increment(self));
    readers.push_back(Joined("reader " + std::to_string(i)));
    pins.push_back(readers.back().Pin());
    ASSERT_EQ(pins.back().epoch(), i + 1);
  }
  absl::StatusOr<Epoch> last = 0;
  for (std::uint32_t i = 0; i < kVersions && last.ok(); ++i) last = Increment(self);
  EXPECT_FAILS(last, kResourceExhausted, "\"reader 0\" (slot 1");
  EXPECT_FAILS(last, kResourceExhausted, "epoch 1");
  for (std::size_t i = 0; i < pins.size(); ++i) EXPECT_EQ(ReadChecked(pins[i].state()), i + 1);
  pins.clear();
  for (std::uint32_t i = 0; i < 3 * kVersions; ++i) ASSERT_OK(Increment(self));
}

TEST_F(ExhaustionTest, slots_used_up_name_the_holders) {
  std::vector<Participant> all;
  for (std::uint32_t i = 0; i < kParticipants; ++i) {
    all.push_back(Joined("holder " + std::to_string(i)));
  }
  auto refused = Participant::Join(region(), {.name = "late"});
  EXPECT_FAILS(refused, kResourceExhausted, "all 8 participant slots");
  EXPECT_FAILS(refused, kResourceExhausted, "\"holder 0\" (slot 0");
  EXPECT_FAILS(refused, kResourceExhausted, "and 3 more");
  all.erase(all.begin() + 3);
  EXPECT_OK(Participant::Join(region(), {.name = "late"}));
}

TEST_F(RegionTest, smallest_region_works) {
  RegionOptions options;
  options.state_bytes = 1;
  options.participants = 1;
  options.versions = 4;
  ASSERT_NO_FATAL_FAILURE(CreateRegion(options));
  Participant self = Joined();
  for (int i = 0; i < 100; ++i) ASSERT_OK(self.Commit(i % 2 == 0 ? "a" : ""));
  EXPECT_EQ(region().epoch(), 100u);
  EXPECT_FAILS(Participant::Join(region()), kResourceExhausted, "tester");
}

TEST_F(RegionTest, region_of_4096_participants_takes_each_of_them) {
  RegionOptions options = Small();
  options.participants = 4096;
  ASSERT_NO_FATAL_FAILURE(CreateRegion(options));
  std::vector<Participant> all;
  all.reserve(4096);
  for (std::uint32_t i = 0; i < 4096; ++i) {
    auto joined = Participant::Join(region(), {.name = std::to_string(i)});
    ASSERT_OK(joined);
    ASSERT_EQ(joined->slot(), i);
    all.push_back(*std::move(joined));
  }
  EXPECT_FAILS(Participant::Join(region()), kResourceExhausted, "and 4091 more");
  ASSERT_OK(Increment(all.back()));
  EXPECT_EQ(region().Stragglers(1).size(), 4096u);
  for (Participant& participant : all) ASSERT_EQ(*participant.Poll(), 1u);
  EXPECT_OK(all.front().Await(1, Stage::kConverged, kLong));
  all.clear();
  ExpectNothingLeaked(region(), 0);
}

TEST_F(RegionTest, region_of_8191_versions_uses_each_of_them) {
  RegionOptions options = Small();
  options.versions = 8191;
  ASSERT_NO_FATAL_FAILURE(CreateRegion(options));
  Participant self = Joined();
  {
    std::vector<Draft> drafts;
    for (std::uint32_t i = 0; i < 8190; ++i) {
      auto draft = self.NewDraft(std::size_t{1});
      ASSERT_OK(draft);
      drafts.push_back(*std::move(draft));
    }
    EXPECT_FAILS(Increment(self), kResourceExhausted, "drafts 8190");
  }
  for (std::uint32_t i = 0; i < 9000; ++i) ASSERT_OK(Increment(self));
  EXPECT_EQ(ReadChecked(self.Pin().state()), 9000u);
  ExpectNothingLeaked(region(), 1);
}

}  // namespace
}  // namespace epoch::test
