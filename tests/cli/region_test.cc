// Verbs on sound regions: create, put, get, wait, list, status, check, rm.
#include <signal.h>
#include <sys/stat.h>

#include <numeric>

#include "cli/command.h"

namespace epoch::test {
namespace {

using testing::HasSubstr;

constexpr unsigned kNobody = 65534;

class CliRegion : public SmallRegionTest {};

TEST(CliCreate, MakesARegionOnceOnly) {
  const ScratchName name;
  const nlohmann::json json = CtlJson({"create", name.name(), "--state-bytes", "1KiB",
                                       "--participants", "3", "--versions", "7", "--mode", "640"});
  EXPECT_EQ(json["region"], name.path());
  EXPECT_EQ(json["state_bytes"], 1024);
  EXPECT_EQ(json["participants"], 3);
  EXPECT_EQ(json["versions"], 7);
  EXPECT_EQ(json["durable"], false);
  struct stat info {};
  ASSERT_EQ(stat(name.path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640u);
  EXPECT_REFUSED(Ctl({"create", name.name()}), 6, "exists already");
}

TEST(CliCreate, FailureLeavesNothingBehind) {
  const ScratchName name;
  const ScratchDirectory directory;
  EXPECT_EQ(Ctl({"create", name.name(), "--versions", "2", "--journal", directory / "j"}).code, 2);
  EXPECT_EQ(
      Ctl({"create", name.name(), "--segment-bytes", "4KiB", "--journal", directory / "j"}).code,
      2);
  EXPECT_EQ(Ctl({"create", directory / "no/such/region"}).code, 3);
  EXPECT_NE(access(name.path().c_str(), F_OK), 0);
  EXPECT_NE(access((directory / "j").c_str(), F_OK), 0);
}

TEST_F(CliRegion, PutThenGetGivesTheSameBytes) {
  std::string bytes(256, '\0');
  std::iota(bytes.begin(), bytes.end(), '\0');
  for (const std::string& state : {bytes, std::string(), std::string("\n")}) {
    EXPECT_SUCCESS(Ctl({"put", name(), "-"}, {.input = state}));
    const Result got = Ctl({"get", name()});
    EXPECT_SUCCESS(got);
    EXPECT_EQ(got.out, state);
  }
  EXPECT_EQ(Ctl({"get", name(), "--epoch-only"}).out, "3\n");
}

TEST_F(CliRegion, PutPrintsTheEpochAlone) {
  const ScratchDirectory directory;
  WriteText(directory / "state", "from a file");
  EXPECT_EQ(Ctl({"put", name(), directory / "state"}).out, "1\n");
  EXPECT_EQ(CtlJson({"put", name(), directory / "state"})["epoch"], 2);
  EXPECT_EQ(Ctl({"get", name()}).out, "from a file");
}

TEST_F(CliRegion, PutKeepsTheToken) {
  EXPECT_SUCCESS(Ctl({"put", name(), "-", "--token", "18446744073709551615"}, {.input = "x"}));
  const nlohmann::json json = CtlJson({"get", name()});
  EXPECT_EQ(json["token"], 18446744073709551615u);
  EXPECT_EQ(json["epoch"], 1);
  EXPECT_EQ(json["bytes"], 1);
  EXPECT_EQ(json["state_base64"], "eA==");
}

TEST_F(CliRegion, PutSucceedsOnlyBehindTheExpectedEpoch) {
  EXPECT_EQ(Ctl({"put", name(), "-", "--expect", "0"}, {.input = "a"}).out, "1\n");
  EXPECT_REFUSED(Ctl({"put", name(), "-", "--expect", "0"}, {.input = "b"}), 6,
                 "expected epoch 0, but the region is at 1");
  EXPECT_EQ(Ctl({"get", name()}).out, "a");
}

TEST_F(CliRegion, PutRefusesWhatDoesNotFit) {
  EXPECT_REFUSED(Ctl({"put", name(), "-"}, {.input = std::string(257, 'x')}), 1,
                 "more than 256 bytes");
  EXPECT_REFUSED(Ctl({"put", name(), "/no/such/file"}), 3, "/no/such/file");
  EXPECT_REFUSED(Ctl({"put", name(), "/"}), 2, "Is a directory");
  EXPECT_EQ(region().epoch(), 0u);
}

TEST_F(CliRegion, PutHoldsNoSlotWhileItWaitsForItsInput) {
  Command put({"put", name(), "-"}, {}, /*held_open=*/true);
  EXPECT_EQ(CountSlots(region(), detail::SlotState::kFree), kParticipants);
  put.Signal(SIGINT);
  EXPECT_EQ(put.Finish().code, -SIGINT);
  ExpectNothingLeaked(region(), 0);
}

TEST_F(CliRegion, WaitReturnsWhenTheEpochIsCommitted) {
  EXPECT_EQ(Ctl({"wait", name(), "--epoch", "0"}).out, "0\n");
  Command wait({"wait", name(), "--epoch", "2"});
  Participant self = Joined();
  ASSERT_OK(self.Commit("1"));
  ASSERT_OK(self.Commit("2"));
  const Result waited = wait.Finish();
  EXPECT_SUCCESS(waited);
  EXPECT_EQ(waited.out, "2\n");
  EXPECT_EQ(CtlJson({"wait", name(), "--epoch", "1"})["epoch"], 2);
}

TEST_F(CliRegion, WaitTimesOutNamingStragglers) {
  Participant planner = Joined("planner");
  Participant writer = Joined("writer");
  ASSERT_OK(writer.Commit("1"));
  ASSERT_OK(writer.Poll());
  EXPECT_REFUSED(Ctl({"wait", name(), "--epoch", "2", "--timeout", kSoonText}), 7,
                 "at epoch 1, not yet at 2");
  EXPECT_SUCCESS(Ctl({"wait", name(), "--epoch", "1", "--timeout", kSoonText}));
  EXPECT_REFUSED(
      Ctl({"wait", name(), "--epoch", "1", "--for", "converged", "--timeout", kSoonText}), 7,
      "\"planner\" (slot 0, pid " + std::to_string(getpid()) + ", at epoch 0)");
  Command wait({"wait", name(), "--epoch", "1", "--for", "converged"});
  ASSERT_OK(planner.Poll());
  EXPECT_EQ(wait.Finish().out, "1\n");
}

TEST_F(CliRegion, WaitEndsWhenTheRegionIsRemoved) {
  Command wait({"wait", name(), "--epoch", "9"});
  ASSERT_OK(Region::Unlink(name()));
  const Result waited = wait.Finish();
  EXPECT_REFUSED(waited, 3, name());
}

TEST_F(CliRegion, WaitCanBeInterrupted) {
  Command wait({"wait", name(), "--epoch", "9"});
  wait.Signal(SIGINT);
  const Result result = wait.Finish();
  // Before it has begun, or while it waits: then it says so.
  if (result.code != -SIGINT) {
    EXPECT_EQ(result.code, 1);
    EXPECT_THAT(result.err, HasSubstr("interrupted: "));
  }
}

TEST_F(CliRegion, ListShowsIt) {
  Participant self = Joined();
  ASSERT_OK(self.Commit("state"));
  const nlohmann::json json = CtlJson({"list"});
  bool found = false;
  for (const auto& row : json["regions"]) {
    if (row["name"] != name()) continue;
    found = true;
    EXPECT_EQ(row["path"], path());
    EXPECT_EQ(row["condition"], "ok");
    EXPECT_EQ(row["epoch"], 1);
    EXPECT_EQ(row["participants"], 1);
    EXPECT_EQ(row["durable"], false);
  }
  EXPECT_TRUE(found);
  EXPECT_THAT(Ctl({"list"}).out, HasSubstr(name()));
}

TEST_F(CliRegion, StatusHasEveryFieldOfTheContract) {
  Participant self = Joined();
  const nlohmann::json json = CtlJson({"status", name()});
  for (const char* field : {"epoch", "tail_epoch", "phase", "incarnation", "layout", "durable",
                            "journal", "participants", "versions", "stragglers", "forced"}) {
    EXPECT_TRUE(json.contains(field)) << field;
  }
  for (const char* field : {"slot", "generation", "name", "pid", "state", "alive", "voter",
                            "parked", "ack_epoch", "pin_epoch", "lag"}) {
    EXPECT_TRUE(json["participants"][0].contains(field)) << field;
  }
  for (const char* field : {"total", "free", "pinned", "quarantined"}) {
    EXPECT_TRUE(json["versions"].contains(field)) << field;
  }
  EXPECT_EQ(json["phase"], "open");
  EXPECT_EQ(json["incarnation"], region().incarnation());
  EXPECT_TRUE(json["journal"].is_null());
}

TEST_F(CliRegion, CheckFindsItSound) {
  Participant self = Joined();
  for (int i = 0; i < 20; ++i) ASSERT_OK(self.Commit("state " + std::to_string(i)));
  const Pin pin = self.Pin();
  ASSERT_OK(self.Commit("one more"));
  const nlohmann::json json = CtlJson({"check", name()});
  EXPECT_EQ(json["ok"], true);
  EXPECT_TRUE(json["findings"].empty());
  EXPECT_THAT(Ctl({"check", path()}).out, HasSubstr("sound"));
}

TEST_F(CliRegion, InspectionChangesNothing) {  // G11
  Participant self = Joined();
  ASSERT_OK(self.Commit("1"));
  const std::string before = ReadText(path());
  for (const std::vector<std::string>& args : std::vector<std::vector<std::string>>{
           {"status", name()},
           {"get", name()},
           {"list"},
           {"check", name()},
           {"wait", name(), "--epoch", "1"},
           {"wait", name(), "--epoch", "2", "--timeout", kSoonText},
           {"wait", name(), "--epoch", "1", "--for", "converged", "--timeout", kSoonText}}) {
    Ctl(args);
  }
  EXPECT_TRUE(ReadText(path()) == before);
}

TEST_F(CliRegion, RemoveRefusesWhileSomebodyIsInThere) {
  {
    Participant self = Joined("worker");
    EXPECT_REFUSED(Ctl({"rm", name()}), 6, "in use by \"worker\"");
    EXPECT_EQ(access(path().c_str(), F_OK), 0);
    EXPECT_SUCCESS(Ctl({"rm", name(), "--force"}));
  }
  EXPECT_NE(access(path().c_str(), F_OK), 0);
  EXPECT_REFUSED(Ctl({"rm", name()}), 3, "no region");
}

TEST_F(CliRegion, RemoveTakesTheNameAway) {
  EXPECT_SUCCESS(Ctl({"rm", name()}));
  EXPECT_NE(access(path().c_str(), F_OK), 0);
}

TEST_F(CliRegion, RemoveTouchesNoOtherFiles) {
  const ScratchDirectory directory;
  WriteText(directory / "letter", std::string(10'000, 'x'));
  EXPECT_REFUSED(Ctl({"rm", directory / "letter"}), 6, "is not an Epoch region");
  EXPECT_REFUSED(Ctl({"rm", directory / "letter", "--force"}), 6, "is not an Epoch region");
  EXPECT_EQ(Ctl({"rm", directory.path()}).code, 2);
  EXPECT_EQ(ReadText(directory / "letter").size(), 10'000u);
  EXPECT_REFUSED(Ctl({"rm", name(), "--with-journal", "--yes"}), 2, "has no journal");
  EXPECT_EQ(access(path().c_str(), F_OK), 0);
}

class CliPermission : public CliRegion {
 protected:
  void SetUp() override {
    CliRegion::SetUp();
    if (geteuid() != 0) GTEST_SKIP() << "only root can act as somebody else";
    if (Ctl({"version"}, {.as_user = kNobody}).code != 0) {
      GTEST_SKIP() << "others cannot run " << EPOCHCTL;
    }
  }
};

TEST_F(CliPermission, AClosedRegionIsForbidden) {
  for (const std::vector<std::string>& args :
       std::vector<std::vector<std::string>>{{"status", name()},
                                             {"get", name()},
                                             {"put", name(), "/dev/null"},
                                             {"reap", name()},
                                             {"check", name()},
                                             {"wait", name(), "--epoch", "0"},
                                             {"rm", name()}}) {
    SCOPED_TRACE(testing::PrintToString(args));
    EXPECT_REFUSED(Ctl(args, {.as_user = kNobody}), 3, "Permission denied");
  }
  const nlohmann::json list = CtlJson({"list"}, {.as_user = kNobody});
  for (const auto& row : list["regions"]) {
    if (row["name"] != name()) continue;
    EXPECT_EQ(row["condition"], "forbidden");
  }
}

TEST_F(CliPermission, ARegionOfAnotherUserIsTrustedIfAskedForAndRemovedAnyway) {
  ASSERT_EQ(chown(path().c_str(), kNobody, kNobody), 0);
  for (const std::vector<std::string>& args : std::vector<std::vector<std::string>>{
           {"status", name()}, {"get", name()}, {"put", name(), "/dev/null"}, {"reap", name()}}) {
    SCOPED_TRACE(testing::PrintToString(args));
    EXPECT_REFUSED(Ctl(args), 3, "belongs to user 65534");
    EXPECT_SUCCESS(Ctl(args, {.as_user = kNobody}));
    std::vector<std::string> trusting = args;
    trusting.push_back("--trust-other-owners");
    EXPECT_SUCCESS(Ctl(trusting));
  }
  EXPECT_SUCCESS(Ctl({"rm", name()}));
}

TEST_F(CliPermission, AReadableRegionCanBeInspectedByOthers) {
  ASSERT_EQ(chmod(path().c_str(), 0644), 0);
  Participant self = Joined();
  ASSERT_OK(self.Commit("for all"));
  EXPECT_EQ(Ctl({"get", name()}, {.as_user = kNobody}).out, "for all");
  EXPECT_SUCCESS(Ctl({"check", name()}, {.as_user = kNobody}));
  EXPECT_SUCCESS(Ctl({"wait", name(), "--epoch", "1"}, {.as_user = kNobody}));
  const nlohmann::json json = CtlJson({"status", name()}, {.as_user = kNobody});
  EXPECT_EQ(json["participants"][0]["alive"], true);
  EXPECT_REFUSED(Ctl({"put", name(), "/dev/null"}, {.as_user = kNobody}), 3, "Permission denied");
}

}  // namespace
}  // namespace epoch::test
