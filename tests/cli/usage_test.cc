// The command line itself: help, usage errors, where output goes.
#include "cli/command.h"

namespace epoch::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

const std::vector<std::string> kVerbs = {"create", "list",  "status", "get",     "put",
                                         "wait",   "check", "log",    "recover", "join",
                                         "serve",  "reap",  "expel",  "rm",      "version"};

TEST(Usage, EveryVerbHasHelpWithAnExample) {
  const Result all = Ctl({"--help"});
  EXPECT_SUCCESS(all);
  for (const std::string& verb : kVerbs) {
    EXPECT_THAT(all.out, HasSubstr("\n  " + verb + " "));
    const Result help = Ctl({verb, "--help"});
    EXPECT_SUCCESS(help);
    EXPECT_THAT(help.out, HasSubstr("Example:\n  epochctl " + verb));
  }
}

TEST(Usage, MistakesAreExplainedWithExitCode2) {
  const struct {
    std::vector<std::string> args;
    std::string message;
  } kMistakes[] = {
      {{"statsu"}, "unknown verb \"statsu\", did you mean \"status\"?"},
      {{"-o", "table", "lst"}, "did you mean \"list\"?"},
      {{"xylophone"}, "unknown verb \"xylophone\"; all verbs"},
      {{"-o", "xml", "list"}, "xml"},
      {{"list", "-o"}, "-o"},
      {{"status", "--nonsense"}, "epochctl status: "},
      {{"get"}, "EPOCH_REGION"},
      {{"get", "a", "b"}, "epochctl get: "},
      {{"get", "no good"}, "letters, digits"},
      {{"put", "a"}, "FILE is missing"},
      {{"put", "a", "-", "--expect", "minus"}, "--expect \"minus\""},
      {{"put", "a", "-", "--expect", "-1"}, "--expect"},
      {{"put", "a", "-", "--timeout", "5"}, "a duration with a unit"},
      {{"put", "a", "-", "--timeout", "-5s"}, "--timeout"},
      {{"put", "a", "-", "--on-straggler", "kill"}, "abort or expel"},
      {{"put", "a", "-", "--on-straggler", "expel", "--timeout", "1s"}, "--agree or --fence"},
      {{"put", "a", "-", "--agree", "--on-straggler", "expel"}, "--timeout"},
      {{"join", "a"}, "--name is required"},
      {{"wait", "a"}, "--epoch"},
      {{"wait", "a", "--epoch", "1x"}, "--epoch \"1x\""},
      {{"wait", "a", "--epoch", "1", "--for", "ever"}, "committed or converged"},
      {{"create", "a", "--state-bytes", "64KB"}, "64KiB"},
      {{"create", "a", "--state-bytes", "99999999999999999999"}, "--state-bytes"},
      {{"create", "a", "--state-bytes", "18446744073709551615KiB"}, "--state-bytes"},
      {{"create", "a", "--state-bytes", "0"}, "geometry"},
      {{"create", "a", "--versions", "3"}, "versions 3"},
      {{"create", "a", "--participants", "5000"}, "participants 5000"},
      {{"create", "a", "--mode", "999"}, "--mode"},
      {{"create", "a", "--mode", "0444"}, "--mode"},
      {{"create", "a", "--history", "some"}, "--history"},
      {{"expel", "a"}, "SLOT is missing"},
      {{"expel", "a", "x"}, "SLOT \"x\""},
      {{"log"}, "DIR is required"},
      {{"rm", "a", "--with-journal"}, "--yes"},
  };
  for (const auto& mistake : kMistakes) {
    SCOPED_TRACE(testing::PrintToString(mistake.args));
    EXPECT_REFUSED(Ctl(mistake.args), 2, mistake.message);
  }
}

TEST(Usage, WithoutAVerbThereIsHelpOnStandardError) {
  const Result result = Ctl({});
  EXPECT_EQ(result.code, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("Exit codes"));
}

TEST(Usage, AnUnknownOptionIsOneLine) {
  for (const std::vector<std::string>& args : {std::vector<std::string>{"--nonsense"},
                                               {"-x"},
                                               {"--nonsense=1", "list"},
                                               {"-o", "table"}}) {
    const Result result = Ctl(args);
    EXPECT_EQ(result.code, 2);
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  }
  EXPECT_REFUSED(Ctl({"--nonsense"}), 2, "unknown option \"--nonsense\"; see epochctl --help");
}

TEST(Usage, HelpIsAVerb) {
  EXPECT_SUCCESS(Ctl({"help"}));
  EXPECT_EQ(Ctl({"help"}).out, Ctl({"--help"}).out);
  EXPECT_EQ(Ctl({"help", "put"}).out, Ctl({"put", "--help"}).out);
  EXPECT_EQ(Ctl({"help", "checkpoint", "latest"}).out, Ctl({"checkpoint", "latest", "--help"}).out);
  EXPECT_REFUSED(Ctl({"help", "pit"}), 2, "did you mean \"put\"?");
}

TEST(Usage, MessagesSayWhichVerbFailed) {
  const Result result = Ctl({"get", "test-no-such-region"});
  EXPECT_EQ(result.code, 3);
  EXPECT_THAT(result.err, AllOf(StartsWith("epochctl get: "), HasSubstr("epochctl list")));
}

TEST(Usage, MessagesDoNotDriveTheTerminal) {
  const Result result = Ctl({"get", "./\x1b[31mred"});
  EXPECT_EQ(result.code, 3);
  EXPECT_THAT(result.err, AllOf(HasSubstr("\\x1b[31mred"), Not(HasSubstr("\x1b"))));
}

TEST(Usage, VersionNamesWhatThisBuildSpeaks) {
  const nlohmann::json json = CtlJson({"version"});
  for (const char* field :
       {"version", "layout", "fingerprint", "journal_format", "backend", "io_uring"}) {
    EXPECT_TRUE(json.contains(field)) << field;
  }
  EXPECT_EQ(json["layout"], "6.0");
  EXPECT_SUCCESS(Ctl({"--version"}));
}

class Output : public SmallRegionTest {};

TEST_F(Output, AReaderThatGoesAwayIsNoCrash) {
  const Result result = Ctl({"status", name()}, {.output_closed = true});
  EXPECT_EQ(result.code, 1);
  EXPECT_EQ(result.err, "");
}

TEST_F(Output, AFullDiskIsReported) {
  EXPECT_REFUSED(Ctl({"status", name()}, {.output_file = "/dev/full"}), 1, "No space left");
}

TEST_F(Output, RegionsMayBeNamedLikeVerbsOrOptions) {
  EXPECT_REFUSED(Ctl({"get", "list"}), 3, "no region /dev/shm/epoch.list");
  EXPECT_REFUSED(Ctl({"get", "--", "--help"}), 3, "no region /dev/shm/epoch.--help");
  EXPECT_SUCCESS(Ctl({"put", "--", name(), "-"}, {.input = "x"}));
}

TEST_F(Output, TheEnvironmentNamesTheRegion) {
  EXPECT_SUCCESS(Ctl({"put", "-"}, {.input = "by default", .region = name()}));
  EXPECT_EQ(Ctl({"get"}, {.region = name()}).out, "by default");
  EXPECT_EQ(Ctl({"get", name()}, {.region = "test-another"}).out, "by default");
}

}  // namespace
}  // namespace epoch::test
