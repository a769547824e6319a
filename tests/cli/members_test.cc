// Who is in a region: status of the living, stopped and dead; reap, expel.
#include <signal.h>

#include "cli/command.h"
#include "support/child.h"

namespace epoch::test {
namespace {

using testing::HasSubstr;

// Joins the region, pins its state, and does as it is told.
ROLE(CliMember) {
  auto region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok());
  auto member = Participant::Join(*region, {.name = self.args.at(1)});
  ROLE_CHECK(member.ok());
  const Pin pin = member->Pin();
  self.wire.Say("joined");
  self.wire.Hear();
  return 0;
}

class CliMembers : public SmallRegionTest {
 protected:
  nlohmann::json Member(std::uint32_t slot) {
    const nlohmann::json json = CtlJson({"status", name()});
    for (const auto& p : json["participants"]) {
      if (p["slot"] == slot) return p;
    }
    return nlohmann::json::object();
  }
};

TEST_F(CliMembers, StatusShowsWhatEachHolds) {
  Participant reader = Joined("reader");
  auto voter = Participant::Join(region(), {.name = "voter", .voter = true});
  ASSERT_OK(voter);
  Participant writer = Joined("writer");
  ASSERT_OK(voter->Park());
  const Pin pin = reader.Pin();
  ASSERT_OK(writer.Commit("1"));
  ASSERT_OK(writer.Commit("2"));
  ASSERT_OK(writer.Poll());
  const nlohmann::json json = CtlJson({"status", name()});
  const auto& participants = json["participants"];
  ASSERT_EQ(participants.size(), 3u);
  EXPECT_EQ(participants[0]["name"], "reader");
  EXPECT_EQ(participants[0]["pid"], getpid());
  EXPECT_EQ(participants[0]["state"], "active");
  EXPECT_EQ(participants[0]["alive"], true);
  EXPECT_EQ(participants[0]["pin_epoch"], 0);
  EXPECT_EQ(participants[0]["ack_epoch"], 0);
  EXPECT_EQ(participants[0]["lag"], 2);
  EXPECT_EQ(participants[1]["voter"], true);
  EXPECT_EQ(participants[1]["parked"], true);
  EXPECT_EQ(participants[0]["condition"], "running");
  EXPECT_EQ(participants[1]["condition"], "parked");
  EXPECT_EQ(participants[2]["ack_epoch"], 2);
  EXPECT_TRUE(participants[2]["pin_epoch"].is_null());
  EXPECT_EQ(participants[2]["lag"], 0);
  ASSERT_EQ(json["stragglers"].size(), 1u);
  EXPECT_EQ(json["stragglers"][0]["name"], "reader");
  EXPECT_EQ(json["stragglers"][0]["condition"], "running");
  EXPECT_EQ(json["stragglers"][0]["pin_epoch"], 0);
  const auto& versions = json["versions"];
  EXPECT_EQ(versions["pinned"], 1);  // epoch 0, and neither of the later ones
  EXPECT_EQ(versions["total"], kVersions);
  EXPECT_EQ(versions["free"], kVersions - 3);
  const std::string text = Ctl({"status", name()}).out;
  EXPECT_THAT(text, HasSubstr("not acknowledged by 1 of 3"));
  EXPECT_THAT(text, HasSubstr("<- straggler"));
}

TEST_F(CliMembers, NamesDoNotDriveTheTerminal) {
  Participant self = Joined("\x1b]0;evil\a\xff");
  EXPECT_EQ(Member(0)["name"], "?]0;evil??");
  EXPECT_THAT(Ctl({"status", name()}).out, Not(HasSubstr("\x1b")));
}

TEST_F(CliMembers, AStoppedProcessIsAliveAndShownAsStopped) {
  Child child("CliMember", {name(), "sleepy"});
  ASSERT_EQ(child.Hear(), "joined");
  EXPECT_EQ(Member(0)["stopped"], false);
  child.Stop();
  const nlohmann::json member = Member(0);
  EXPECT_EQ(member["alive"], true);
  EXPECT_EQ(member["stopped"], true);
  EXPECT_EQ(member["condition"], "stopped");
  EXPECT_EQ(CtlJson({"reap", name()})["reaped"], 0);
  child.Continue();
}

TEST_F(CliMembers, TheDeadAreShownAndReaped) {
  Child child("CliMember", {name(), "mortal"});
  ASSERT_EQ(child.Hear(), "joined");
  const pid_t pid = child.pid();
  child.Kill();
  EXPECT_EQ(Member(0)["alive"], false);
  EXPECT_EQ(Member(0)["condition"], "dead");
  EXPECT_THAT(Ctl({"status", name()}).out, HasSubstr("dead"));
  const Result checked = Ctl({"check", name()});  // a death is no damage
  EXPECT_SUCCESS(checked);
  EXPECT_THAT(checked.out, HasSubstr("note: slot 0: its participant \"mortal\" is dead"));
  const nlohmann::json reaped = CtlJson({"reap", name()});
  EXPECT_EQ(reaped["reaped"], 1);
  EXPECT_EQ(reaped["dead"][0]["name"], "mortal");
  EXPECT_EQ(reaped["dead"][0]["pid"], pid);
  EXPECT_EQ(Ctl({"reap", name()}).out, "0 dead\n");
  ExpectNothingLeaked(region(), 0);
}

TEST_F(CliMembers, AnExpelledOneIsQuarantinedUntilItIsGone) {
  Child child("CliMember", {name(), "slow"});
  ASSERT_EQ(child.Hear(), "joined");
  Participant writer = Joined("writer");
  ASSERT_OK(writer.Commit("1"));
  const nlohmann::json expelled = CtlJson({"expel", name(), "0"});
  EXPECT_EQ(expelled["name"], "slow");
  EXPECT_EQ(expelled["alive"], true);
  const nlohmann::json json = CtlJson({"status", name()});
  EXPECT_EQ(json["participants"][0]["state"], "expelled");
  EXPECT_EQ(json["versions"]["quarantined"], 1);  // epoch 0, which it pins
  EXPECT_SUCCESS(Ctl({"check", name()}));
  child.Say("leave");
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_EQ(CtlJson({"status", name()})["versions"]["quarantined"], 0);
  EXPECT_EQ(CtlJson({"status", name()})["participants"].size(), 1u);
}

TEST_F(CliMembers, OnlyWhoIsThereCanBeExpelled) {
  EXPECT_REFUSED(Ctl({"expel", name(), "0"}), 6, "slot 0 has no participant");
  EXPECT_REFUSED(Ctl({"expel", name(), "8"}), 2, "the region has 8");
  EXPECT_REFUSED(Ctl({"expel", name(), "99999"}), 2, "0 to 4095");
}

TEST_F(CliMembers, FullRegionsNameWhoHoldsTheSlots) {
  std::vector<Participant> members;
  for (std::uint32_t i = 0; i < kParticipants; ++i) members.push_back(Joined("holder"));
  EXPECT_REFUSED(Ctl({"put", name(), "-"}, {.input = "x"}), 1, "\"holder\" (slot 0");
}

TEST_F(CliMembers, AVolatileRegionHasNothingToServe) {
  EXPECT_REFUSED(Ctl({"serve", name()}), 6, "volatile");
  ExpectNothingLeaked(region(), 0);
}

}  // namespace
}  // namespace epoch::test
