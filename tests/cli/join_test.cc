// epochctl join: programs that take part without code.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "cli/command.h"
#include "support/child.h"
#include "tools/epochctl/shell.h"

namespace epoch::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class CliJoin : public SmallRegionTest {
 protected:
  std::unique_ptr<Command> Join(std::vector<std::string> more, const std::string& as = "web") {
    more.insert(more.begin(), {"join", name(), "--name", as});
    auto joined = std::make_unique<Command>(more);
    const bool there = Await([&] {
      const auto& view = region().mapping()->view();
      for (std::uint32_t i = 0; i < kParticipants; ++i) {
        if (detail::SlotWord::Unpack(view.slots[i].state.Load()).state ==
                detail::SlotState::kActive &&
            detail::ReadName(view.slots[i]) == as) {
          return true;
        }
      }
      return false;
    });
    EXPECT_TRUE(there) << "it does not join";
    return joined;
  }
  // Whether there is such a process, running.
  static bool Lives(const std::string& pid) {
    const char state = detail::ReadProcessStat(static_cast<std::uint32_t>(std::stoi(pid))).state;
    return state != '?' && state != 'Z';
  }
  // All lines of a file that a command writes, once there are so many.
  std::vector<std::string> AwaitLines(const std::string& file, std::size_t count) {
    std::vector<std::string> lines;
    const bool written = Await([&] {
      const std::string text = ReadText(file);
      lines.clear();
      for (std::size_t at = 0, end; (end = text.find('\n', at)) != std::string::npos;
           at = end + 1) {
        lines.push_back(text.substr(at, end - at));
      }
      return lines.size() >= count;
    });
    EXPECT_TRUE(written) << file << " has " << lines.size() << " lines";
    lines.resize(std::max(lines.size(), count));
    return lines;
  }
  Result Put(const std::string& text, std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"put", name(), "-"});
    return Ctl(more, {.input = text});
  }

  ScratchDirectory directory_;
};

TEST_F(CliJoin, AValidatorMakesItAVoterThatSeesTheProposedState) {
  const auto web = Join({"--validate", "grep -q good || { echo \"no good\" >&2; exit 1; }"});
  EXPECT_EQ(Put("good", {"--agree", "--timeout", kLongText}).out, "1\n");
  const Result put = Put("bad", {"--agree", "--timeout", kLongText});
  EXPECT_REFUSED(put, 6, "epoch 2 was rejected by \"web\" (slot 0");
  EXPECT_THAT(put.err, HasSubstr(": no good; nothing was changed"));
  EXPECT_EQ(web->Hear(), "1");
  web->Signal(SIGTERM);
  const Result ended = web->Finish();
  EXPECT_EQ(ended.code, 0);
  EXPECT_EQ(ended.out, "");
  EXPECT_THAT(ended.err, HasSubstr("epoch 2 of \"epochctl put\" refused: no good"));
  ExpectNothingLeaked(region(), 0);
}

TEST_F(CliJoin, ItsReasonIsCutAt120Bytes) {
  const auto web = Join({"--validate", "head -c 100000 /dev/zero | tr '\\0' r >&2; exit 3"});
  const Result put = Put("x", {"--agree", "--timeout", kLongText});
  EXPECT_REFUSED(put, 6, std::string(120, 'r') + ";");
  EXPECT_THAT(put.err, Not(HasSubstr(std::string(121, 'r'))));
}

TEST_F(CliJoin, WithoutAReasonTheExitCodeIsGiven) {
  const auto web = Join({"--validate", "exit 3"});
  EXPECT_REFUSED(Put("x", {"--agree", "--timeout", kLongText}), 6, "exit code 3 of exit 3");
}

TEST_F(CliJoin, CommandsAreToldWhatTheyAreRunFor) {
  const std::string out = directory_ / "out";
  const auto web =
      Join({"--validate", "echo $EPOCH_NUMBER $EPOCH_PROPOSER $EPOCH_REGION > " + out});
  EXPECT_SUCCESS(Put("x", {"--agree", "--timeout", kLongText, "--name", "ops"}));
  EXPECT_EQ(ReadText(out), "1 ops " + path() + "\n");
}

TEST_F(CliJoin, WithoutAValidatorItIsNotAsked) {
  const auto web = Join({});
  web->Stop();
  EXPECT_REFUSED(Put("x", {"--agree", "--timeout", kLongText}), 6, "none is in");
  EXPECT_SUCCESS(Put("x"));
  web->Signal(SIGCONT);
  EXPECT_EQ(web->Hear(), "1");
  EXPECT_SUCCESS(
      Ctl({"wait", name(), "--epoch", "1", "--for", "converged", "--timeout", kLongText}));
}

TEST_F(CliJoin, AdoptedIsWhatItsCommandHasTaken) {
  const std::string out = directory_ / "out";
  const auto web = Join({"--adopt", "cat > " + out});
  for (const std::string epoch : {"1", "2", "3"}) {
    EXPECT_EQ(Put("state " + epoch).out, epoch + "\n");
    EXPECT_EQ(web->Hear(), epoch);
    EXPECT_EQ(ReadText(out), "state " + epoch);
    EXPECT_SUCCESS(
        Ctl({"wait", name(), "--epoch", epoch, "--for", "converged", "--timeout", kLongText}));
  }
}

TEST_F(CliJoin, ItAdoptsWhatItFindsWhenItComes) {
  EXPECT_SUCCESS(Put("before"));
  const std::string out = directory_ / "out";
  const auto web = Join({"-o", "json", "--adopt", "cat > " + out});
  const nlohmann::json line = nlohmann::json::parse(web->Hear(), nullptr, false);
  EXPECT_EQ(line.value("schema", ""), "epoch.join/1");
  EXPECT_EQ(line.value("epoch", 0), 1);
  EXPECT_EQ(ReadText(out), "before");
}

TEST_F(CliJoin, WhatCouldNotBeAdoptedIsNotAcknowledged) {
  const std::string tried = directory_ / "tried";
  const auto web =
      Join({"--adopt", "read state; echo $state >> " + tried + "; test $state = good"});
  EXPECT_SUCCESS(Put("bad\n"));
  AwaitLines(tried, 1);
  EXPECT_REFUSED(
      Ctl({"wait", name(), "--epoch", "1", "--for", "converged", "--timeout", kSoonText}), 7,
      "\"web\" (slot 0");
  EXPECT_SUCCESS(Put("good\n"));
  EXPECT_EQ(web->Hear(), "2");
  EXPECT_SUCCESS(
      Ctl({"wait", name(), "--epoch", "2", "--for", "converged", "--timeout", kLongText}));
  web->Signal(SIGINT);
  const Result ended = web->Finish();
  EXPECT_EQ(ended.code, 0);
  EXPECT_THAT(ended.err, HasSubstr("epoch 1 was not adopted: exit code 1 of read state"));
}

TEST_F(CliJoin, ALongAdoptionHoldsUpNoVoteButAFence) {
  const std::string started = directory_ / "started", gate = directory_ / "gate";
  ASSERT_EQ(mkfifo(gate.c_str(), 0600), 0);
  const auto web =
      Join({"--validate", "true", "--adopt", "echo $EPOCH_NUMBER >> " + started + "; cat " + gate});
  EXPECT_SUCCESS(Put("1"));
  AwaitLines(started, 1);
  EXPECT_SUCCESS(Put("2", {"--agree", "--timeout", kLongText}));
  EXPECT_REFUSED(Put("3", {"--fence", "--timeout", kSoonText}), 7, "\"web\" (slot 0");
  EXPECT_REFUSED(
      Ctl({"wait", name(), "--epoch", "1", "--for", "converged", "--timeout", kSoonText}), 7,
      "pins epoch 1");
  WriteText(gate, "go on");
  EXPECT_EQ(web->Hear(), "1");
  EXPECT_THAT(AwaitLines(started, 2), testing::ElementsAre("1", "2"));
  WriteText(gate, "go on");
  EXPECT_EQ(web->Hear(), "2");
  EXPECT_SUCCESS(Put("3", {"--fence", "--timeout", kLongText}));
  // To the end, so that no command is left behind.
  EXPECT_THAT(AwaitLines(started, 3), testing::ElementsAre("1", "2", "3"));
  WriteText(gate, "go on");
  EXPECT_EQ(web->Hear(), "3");
  web->Signal(SIGTERM);
  EXPECT_EQ(web->Finish().code, 0);
}

TEST_F(CliJoin, EndingItEndsWhatItRuns) {
  const std::string pids = directory_ / "pids";
  const auto web = Join({"--adopt", "echo $$ > " + pids + "; sleep 1000 & echo $! >> " + pids +
                                        "; wait; echo not here"});
  EXPECT_SUCCESS(Put("x"));
  const auto running = AwaitLines(pids, 2);
  web->Signal(SIGTERM);
  const Result ended = web->Finish();
  EXPECT_EQ(ended.code, 0);
  EXPECT_EQ(ended.out, "") << "not adopted";
  // What the shell had started is signalled, too; nobody but init waits for it.
  for (const std::string& pid : running) EXPECT_TRUE(Await([&] { return !Lives(pid); }));
  ExpectNothingLeaked(region(), 0);
}

TEST_F(CliJoin, KillingItKillsWhatItRuns) {
  const std::string pids = directory_ / "pids";
  const auto web = Join({"--adopt", "echo $$ > " + pids + "; exec sleep 1000"});
  EXPECT_SUCCESS(Put("x"));
  const auto running = AwaitLines(pids, 1);
  web->Signal(SIGKILL);
  EXPECT_EQ(web->Finish().code, -SIGKILL);
  EXPECT_TRUE(Await([&] { return !Lives(running.at(0)); }));
}

TEST_F(CliJoin, AVoteIsDecidedWithoutAVoterThatLeaves) {
  const std::string started = directory_ / "started";
  const auto web = Join({"--validate", "echo x > " + started + "; exec sleep 1000"});
  WriteText(directory_ / "state", "x");
  Command put({"put", name(), directory_ / "state", "--agree"});
  AwaitLines(started, 1);
  web->Signal(SIGTERM);
  EXPECT_EQ(web->Finish().code, 0);
  EXPECT_REFUSED(put.Finish(), 6, "none is in");  // it was the only one
}

TEST_F(CliJoin, AValidatorThatHangsIsEndedWithTheVote) {
  const std::string pids = directory_ / "pids";
  const auto web = Join({"--validate", "test -e " + pids + " || { echo $$ > " + pids + ".new; mv " +
                                           pids + ".new " + pids + "; exec sleep 1000; }"});
  do {  // until the validator was begun before the vote was over
    EXPECT_REFUSED(Put("x", {"--agree", "--timeout", "300ms"}), 7, "\"web\" (slot 0");
  } while (ReadText(pids).empty() && !HasFailure());
  EXPECT_SUCCESS(Put("y", {"--agree", "--timeout", kLongText}));
  EXPECT_FALSE(Lives(AwaitLines(pids, 1).at(0)));
}

TEST_F(CliJoin, OnceExpelledItEndsWith6) {
  const auto web = Join({"--validate", "true"});
  web->Stop();
  EXPECT_EQ(Put("x", {"--agree", "--timeout", kSoonText, "--on-straggler", "expel"}).out, "1\n");
  web->Signal(SIGCONT);
  const Result ended = web->Finish();
  EXPECT_EQ(ended.code, 6);
  EXPECT_THAT(ended.err, HasSubstr("expelled"));
}

TEST_F(CliJoin, AnAbandonedRegionEndsIt) {
  const auto web = Join({});
  ASSERT_OK(Region::Unlink(name()));
  EXPECT_REFUSED(web->Finish(), 3, "was removed");
}

TEST_F(CliJoin, ARegionMadeAnewUnderItsNameIsFollowed) {
  const auto web = Join({"--validate", "true", "--adopt", "cat >> " + (directory_ / "adopted")});
  EXPECT_SUCCESS(Put("old", {"--agree", "--timeout", kLongText}));
  EXPECT_EQ(web->Hear(), "1");
  // At once: there is no moment at which nothing has the name.
  const std::string next = name() + "-next";
  EXPECT_SUCCESS(Ctl({"create", next}));
  const std::string path = region().path();
  ASSERT_EQ(rename((path + "-next").c_str(), path.c_str()), 0);
  // Refused until it is in: then nobody votes.
  const bool followed = Await([&] {
    return Put("new", {"--agree", "--timeout", kLongText}).code == 0;
  });
  EXPECT_TRUE(followed);
  EXPECT_EQ(web->Hear(), "1");
  EXPECT_EQ(ReadText(directory_ / "adopted"), "oldnew");
  web->Signal(SIGTERM);
  const Result ended = web->Finish();
  EXPECT_EQ(ended.code, 0);
  EXPECT_THAT(ended.err, HasSubstr("taking part in the new one"));
}

// It is not in the way of whoever restores the region from its journal, which nobody may be at then.
TEST_F(CliJoin, ADurableRegionThatIsRecoveredIsFollowed) {
  const ScratchName durable;
  const std::string journal = directory_ / "journal";
  EXPECT_SUCCESS(Ctl({"create", durable.name(), "--journal", journal}));
  Command web({"join", durable.name(), "--name", "web"});
  EXPECT_SUCCESS(Ctl({"put", durable.name(), "-"}, {.input = "old"}));
  EXPECT_EQ(web.Hear(), "1");
  EXPECT_SUCCESS(Ctl({"rm", durable.name(), "--force"}));
  EXPECT_SUCCESS(Ctl({"recover", journal, durable.name()}));
  EXPECT_SUCCESS(Ctl({"put", durable.name(), "-"}, {.input = "new"}));
  if (HasFailure()) return;
  std::string heard = web.Hear();
  if (heard == "1") heard = web.Hear();
  EXPECT_EQ(heard, "2");
  web.Signal(SIGTERM);
  const Result ended = web.Finish();
  EXPECT_EQ(ended.code, 0);
  EXPECT_THAT(ended.err, HasSubstr("taking part in the new one"));
}

TEST_F(CliJoin, AReaderOfItsOutputThatGoesAwayEndsIt) {
  Command web({"join", name(), "--name", "web"}, {.output_closed = true});
  EXPECT_SUCCESS(Put("x"));
  EXPECT_EQ(web.Finish().code, 1);
}

TEST_F(CliJoin, WhatCanNotJoinIsToldWhy) {
  EXPECT_REFUSED(Ctl({"join", "test-no-such-region", "--name", "web"}), 3, "no region");
  EXPECT_REFUSED(Ctl({"join", name(), "--name", std::string(64, 'n')}), 2, "63 bytes");
}

// A command that talks faster than it is read: whoever listens has to look at other things, too.
TEST(Shell, WhatIsSaidWithoutAnEndIsReadToABound) {
  const detail::Fd endless(open("/dev/zero", O_RDONLY | O_CLOEXEC));
  std::string said;
  ctl::ReadReady(endless.get(), 100, said);
  EXPECT_EQ(said, std::string(100, '\0'));
}

}  // namespace
}  // namespace epoch::test
