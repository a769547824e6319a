// Transitions that others have to agree to, from the shell: put --agree, --fence, --on-straggler,
// and what status shows meanwhile. The voters are real processes.
#include <signal.h>

#include "cli/command.h"
#include "support/child.h"

namespace epoch::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// args: region, name, "voter" or "reader", what it answers. Polls until it hears "end"; a reader
// holds a pin meanwhile.
ROLE(CliAgreeing) {
  auto region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok());
  const bool voter = self.args.at(2) == "voter";
  auto member = Participant::Join(*region, {.name = self.args.at(1), .voter = voter});
  ROLE_CHECK(member.ok());
  member->SetValidator([&](const Proposal&) {
    return self.args.at(3) == "accept" ? Answer::Accept() : Answer::Reject(self.args.at(3));
  });
  const Pin pin = voter ? Pin() : member->Pin();
  const auto listener = member->Listen();
  ROLE_CHECK(listener.ok());
  self.wire.Say("joined");
  self.wire.Hear();
  return 0;
}

class CliAgreement : public SmallRegionTest {
 protected:
  std::unique_ptr<Child> Member(const std::string& as, const std::string& member_name,
                                const std::string& answer = "accept") {
    auto child =
        std::make_unique<Child>("CliAgreeing", std::vector{name(), member_name, as, answer});
    EXPECT_EQ(child->Hear(), "joined");
    return child;
  }
  // A file for a put that runs beside the test.
  std::string State() {
    const std::string file = directory_ / "state";
    WriteText(file, "x");
    return file;
  }
  // Looks until the vote under way is as `wanted` has it.
  nlohmann::json AwaitVote(const std::function<bool(const nlohmann::json& vote)>& wanted) {
    nlohmann::json json;
    const bool seen = Await([&] {
      json = CtlJson({"status", name()});
      return json["vote"].is_object() && wanted(json["vote"]);
    });
    EXPECT_TRUE(seen) << "no such vote";
    return json;
  }

  ScratchDirectory directory_;
};

TEST_F(CliAgreement, AgreedByAllVotersItIsCommitted) {
  const auto a = Member("voter", "a"), b = Member("voter", "b");
  const Result put = Ctl({"put", name(), "-", "--agree"}, {.input = "x"});
  EXPECT_SUCCESS(put);
  EXPECT_EQ(put.out, "1\n");
  EXPECT_EQ(CtlJson({"status", name()})["forced"], false);
  EXPECT_TRUE(CtlJson({"status", name()})["vote"].is_null());
}

TEST_F(CliAgreement, ARefusalEndsWith6AndNamesTheVoterAndItsReason) {
  const auto a = Member("voter", "willing"), b = Member("voter", "critic", "port 80 is taken");
  const Result put = Ctl({"put", name(), "-", "--agree"}, {.input = "x"});
  EXPECT_REFUSED(put, 6, "port 80 is taken");
  EXPECT_THAT(put.err, HasSubstr("\"critic\" (slot 1, pid " + std::to_string(b->pid())));
  EXPECT_EQ(Ctl({"get", name()}).out, "");
  EXPECT_SUCCESS(Ctl({"put", name(), "-"}, {.input = "unasked"}));
}

TEST_F(CliAgreement, FewerVotersThanAskedForAreTooFew) {
  const auto a = Member("voter", "only");
  EXPECT_REFUSED(Ctl({"put", name(), "-", "--agree", "--min-voters", "2"}, {.input = "x"}), 6,
                 "nothing was changed");
  EXPECT_SUCCESS(Ctl({"put", name(), "-", "--agree", "--min-voters", "1"}, {.input = "x"}));
  EXPECT_REFUSED(Ctl({"put", name(), "-", "--min-voters", "2"}, {.input = "x"}), 2, "--agree");
  EXPECT_REFUSED(Ctl({"put", name(), "-", "--agree", "--min-voters", "all"}, {.input = "x"}), 2,
                 "a whole number");
}

TEST_F(CliAgreement, ATimeOutEndsWith7AndNamesTheStraggler) {
  // The straggler first: of those who are missing, the one in the lowest slot is named, and nobody
  // is so quick that the other is not among them.
  const auto a = Member("voter", "sleepy"), b = Member("voter", "quick");
  a->Stop();
  const Result put = Ctl({"put", name(), "-", "--agree", "--timeout", kSoonText}, {.input = "x"});
  EXPECT_REFUSED(put, 7, "\"sleepy\" (slot 0");
  EXPECT_THAT(put.err, HasSubstr("nothing was changed"));
  a->Continue();
  EXPECT_SUCCESS(Ctl({"put", name(), "-", "--agree", "--timeout", kLongText}, {.input = "x"}));
  EXPECT_EQ(region().epoch(), 1u);
}

TEST_F(CliAgreement, AnExpelledStragglerForcesTheEpochForEver) {
  const auto a = Member("voter", "sleepy");
  a->Stop();
  const Result put =
      Ctl({"put", name(), "-", "--agree", "--timeout", kSoonText, "--on-straggler", "expel"},
          {.input = "x"});
  EXPECT_EQ(put.code, 0);
  EXPECT_EQ(put.out, "1\n");
  EXPECT_THAT(put.err, HasSubstr("epoch 1 was forced"));
  const nlohmann::json json = CtlJson({"status", name()});
  EXPECT_EQ(json["forced"], true);
  EXPECT_EQ(json["participants"][0]["state"], "expelled");
  EXPECT_THAT(Ctl({"status", name()}).out, HasSubstr(", forced"));
  a->Continue();
  EXPECT_SUCCESS(Ctl({"put", name(), "-"}, {.input = "y"}));
  EXPECT_EQ(CtlJson({"status", name()})["forced"], false) << "of this epoch it is not true";
}

TEST_F(CliAgreement, AStragglerIsNotExpelledUnlessAskedFor) {
  const auto a = Member("voter", "sleepy");
  a->Stop();
  EXPECT_REFUSED(
      Ctl({"put", name(), "-", "--agree", "--timeout", kSoonText, "--on-straggler", "abort"},
          {.input = "x"}),
      7, "sleepy");
  EXPECT_EQ(CtlJson({"status", name()})["participants"][0]["state"], "active");
  a->Continue();
}

TEST_F(CliAgreement, AFenceWaitsForReadersAndNamesThem) {
  const auto reader = Member("reader", "reader");
  EXPECT_REFUSED(Ctl({"put", name(), "-", "--fence", "--timeout", kSoonText}, {.input = "x"}), 7,
                 "\"reader\" (slot 0");
  Command put({"put", name(), State(), "--fence"});
  const nlohmann::json json =
      AwaitVote([](const nlohmann::json& vote) { return vote["waits_for"].size() == 1; });
  EXPECT_EQ(json["phase"], "closed");
  EXPECT_EQ(json["vote"]["fence"], true);
  EXPECT_EQ(json["vote"]["draining"], true);
  EXPECT_EQ(json["vote"]["agree"], false);
  EXPECT_EQ(json["vote"]["waits_for"][0]["name"], "reader");
  EXPECT_TRUE(json["vote"]["left_ms"].is_null()) << "no deadline";
  EXPECT_EQ(json["stragglers"].size(), 0u) << "it is where all others are";
  EXPECT_THAT(Ctl({"status", name()}).out, HasSubstr("<- holds up the fence"));
  reader->Say("end");
  EXPECT_EQ(put.Finish().out, "1\n");
}

TEST_F(CliAgreement, AFenceMayExpelAReader) {
  const auto reader = Member("reader", "reader");
  EXPECT_EQ(Ctl({"put", name(), "-", "--fence", "--timeout", kSoonText, "--on-straggler", "expel"},
                {.input = "x"})
                .out,
            "1\n");
  EXPECT_EQ(CtlJson({"status", name()})["versions"]["quarantined"], 1);
}

TEST_F(CliAgreement, StatusShowsWhoHasNotVotedAndInWhichConditionItIs) {
  const auto a = Member("voter", "quick"), b = Member("voter", "sleepy");
  b->Stop();
  Command put({"put", name(), State(), "--agree", "--timeout", kLongText, "--token", "9"});
  const nlohmann::json json =
      AwaitVote([](const nlohmann::json& vote) { return vote["waits_for"].size() == 1; });
  EXPECT_EQ(json["epoch"], 0);
  EXPECT_EQ(json["tail_phase"], "voting");
  const auto& vote = json["vote"];
  EXPECT_EQ(vote["epoch"], 1);
  EXPECT_EQ(vote["token"], 9);
  EXPECT_EQ(vote["agree"], true);
  EXPECT_EQ(vote["fence"], false);
  EXPECT_EQ(vote["on_straggler"], "abort");
  EXPECT_EQ(vote["waits_for"][0]["name"], "sleepy");
  EXPECT_GT(vote["left_ms"], 0);
  EXPECT_LE(vote["left_ms"], kLong_ms);
  EXPECT_EQ(json["participants"][1]["condition"], "stopped");
  const std::string text = Ctl({"status", name()}).out;
  EXPECT_THAT(text, AllOf(HasSubstr("epoch 1, proposed by epochctl put (slot 2), waits for 1"),
                          HasSubstr("<- has not voted"), HasSubstr("active, stopped, voter")));
  b->Continue();
  EXPECT_EQ(put.Finish().out, "1\n");
}

TEST_F(CliAgreement, StragglersAreShownWithWhatTheyPinAndWhetherTheyRun) {
  const auto reader = Member("reader", "reader");
  reader->Stop();
  EXPECT_SUCCESS(Ctl({"put", name(), "-"}, {.input = "x"}));
  const auto stragglers = region().Stragglers(1);
  ASSERT_EQ(stragglers.size(), 1u);
  EXPECT_EQ(stragglers[0].condition, Condition::kStopped);
  EXPECT_EQ(stragglers[0].pinned, 0u);
  const nlohmann::json json = CtlJson({"status", name()});
  EXPECT_EQ(json["stragglers"][0]["condition"], "stopped");
  EXPECT_EQ(json["stragglers"][0]["pin_epoch"], 0);
  EXPECT_REFUSED(
      Ctl({"wait", name(), "--epoch", "1", "--for", "converged", "--timeout", kSoonText}), 7,
      "at epoch 0, stopped, pins epoch 0)");
  reader->Kill();
  EXPECT_EQ(CtlJson({"status", name()})["participants"][0]["condition"], "dead");
  EXPECT_SUCCESS(
      Ctl({"wait", name(), "--epoch", "1", "--for", "converged", "--timeout", kLongText}));
}

TEST_F(CliAgreement, ADeadProposerLeavesNoVoteBehind) {
  const auto a = Member("voter", "sleepy");
  a->Stop();
  {
    Command put({"put", name(), State(), "--agree"});
    AwaitVote([](const nlohmann::json&) { return true; });
    put.Signal(SIGKILL);
    EXPECT_EQ(put.Finish().code, -SIGKILL);
  }
  a->Continue();  // it votes, and what has all votes is committed, whoever proposed it
  EXPECT_SUCCESS(Ctl({"wait", name(), "--epoch", "1", "--timeout", kLongText}));
  EXPECT_EQ(Ctl({"get", name()}).out, "x");
}

// K8: README's example. A refused proposal is nobody's, and its proposer's slot is free again.
TEST_F(CliAgreement, ARefusedVoteIsNoDamage) {
  Command reviewer({"join", name(), "--name", "reviewer", "--validate",
                    "grep -q step || { echo \"no step\" >&2; exit 1; }"});
  ASSERT_TRUE(Await([&] { return CtlJson({"status", name()})["participants"].size() == 1; }));
  EXPECT_EQ(Ctl({"put", name(), "-"}, {.input = "{\"step\": 1}"}).out, "1\n");
  for (int round = 0; round < 3; ++round) {
    EXPECT_REFUSED(Ctl({"put", name(), "-", "--agree"}, {.input = "{}"}), 6, "no step");
    const Result check = Ctl({"check", name()});
    EXPECT_SUCCESS(check);
    EXPECT_THAT(check.out, HasSubstr("sound"));
    const nlohmann::json versions = CtlJson({"status", name()})["versions"];
    EXPECT_EQ(versions["drafted"], 0);
    EXPECT_EQ(versions["superseded"].get<int>() + versions["free"].get<int>() +
                  versions["guarded"].get<int>() + 1,
              versions["total"]);
  }
  reviewer.Signal(SIGTERM);
  reviewer.Finish();
  EXPECT_SUCCESS(Ctl({"check", name()}));
  EXPECT_EQ(CtlJson({"status", name()})["versions"]["guarded"], 0);
  // One that says that it was refused, and was not.
  detail::RegionView view = region().mapping()->view();
  for (std::uint32_t i = 0; i < view.geometry.versions; ++i) {
    const auto owner = detail::OwnerWord::Unpack(view.cells[i].owner.Load());
    if (owner.state == detail::CellState::kRetired) {
      view.cells[i].outcome.Store(0);
      EXPECT_EQ(Ctl({"check", name()}).code, 5);
    }
  }
}

}  // namespace
}  // namespace epoch::test
