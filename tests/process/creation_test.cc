// Racing creators: exactly one incarnation, never a half-made region.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "epoch/epoch.h"
#include "support/child.h"
#include "support/region_test.h"

namespace epoch::test {
namespace {

RegionOptions RaceOptions() {
  RegionOptions options;
  options.state_bytes = 64;
  options.participants = 2;
  options.versions = 4;
  return options;
}

// Hears "create NAME" or "open-or-create NAME"; says the incarnation, or the status.
ROLE(Creator) {
  for (;;) {
    const std::string line = self.wire.Hear();
    const auto space = line.find(' ');
    if (space == std::string::npos) return 0;
    const std::string name = line.substr(space + 1);
    auto region = line.starts_with("create") ? Region::Create(name, RaceOptions())
                                             : Region::OpenOrCreate(name, RaceOptions());
    self.wire.Say(region.ok() ? region->incarnation() : region.status().ToString());
  }
}

TEST(CreationRace, exactly_one_of_two_creators_wins) {
  Child a("Creator", {}), b("Creator", {});
  for (int round = 0; round < 300; ++round) {
    const ScratchName scratch;
    for (Child* child : {&a, &b}) child->Say("create " + scratch.name());
    const std::string from_a = a.Hear(), from_b = b.Hear();
    auto region = Region::Open(scratch.name());
    ASSERT_OK(region);
    const bool a_won = from_a == region->incarnation();
    ASSERT_NE(a_won, from_b == region->incarnation());
    ASSERT_THAT(a_won ? from_b : from_a, testing::StartsWith("ALREADY_EXISTS"));
  }
}

TEST(CreationRace, all_who_open_or_create_meet_in_one_incarnation) {
  Child a("Creator", {}), b("Creator", {}), c("Creator", {});
  for (int round = 0; round < 300; ++round) {
    const ScratchName scratch;
    for (Child* child : {&a, &b, &c}) child->Say("open-or-create " + scratch.name());
    const std::string incarnation = a.Hear();
    ASSERT_EQ(incarnation.size(), 32u) << incarnation;
    ASSERT_EQ(b.Hear(), incarnation);
    ASSERT_EQ(c.Hear(), incarnation);
  }
}

TEST(CreationRace, open_or_create_copes_with_a_name_that_comes_and_goes) {
  const ScratchName scratch;
  Child a("Creator", {});
  for (int round = 0; round < 300; ++round) {
    a.Say("open-or-create " + scratch.name());
    // Either of them may make it, and this one removes it under the other's hands.
    auto mine = Region::OpenOrCreate(scratch.name(), RaceOptions());
    ASSERT_OK(mine);
    static_cast<void>(Region::Unlink(scratch.name()));
    const std::string theirs = a.Hear();
    ASSERT_EQ(theirs.size(), 32u) << theirs;
    static_cast<void>(Region::Unlink(scratch.name()));
  }
  EXPECT_FALSE(std::filesystem::exists(scratch.path()));
}

}  // namespace
}  // namespace epoch::test
