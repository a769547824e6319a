// What epochctl inherits from whoever starts it, and what others put into names: neither may turn a
// verdict around, nor reach a terminal as it is.
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <memory>

#include "cli/command.h"
#include "support/child.h"
#include "support/refuse_calls.h"

namespace epoch::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// A participant named by any bytes, in a process of its own. Rejects with these bytes, if any.
ROLE(NamedVoter) {
  auto region = Region::Open(self.args.at(0));
  auto joined = Participant::Join(*region, {.name = self.args.at(1), .voter = true});
  if (!joined.ok()) return 1;
  const std::string reason = self.args.at(2);
  joined->SetValidator([&](const Proposal&) { return Answer::Reject(reason); });
  const auto listener = joined->Listen();
  self.wire.Say("in");
  self.wire.Hear();
  return listener.ok() ? 0 : 1;
}

void IgnoreChildren() { signal(SIGCHLD, SIG_IGN); }
void RefusePidfds() { RefuseCalls({{SYS_pidfd_open, EPERM}}); }
void CloseInput() { close(STDIN_FILENO); }
void CloseOutput() { close(STDOUT_FILENO); }
void CloseInputAndErrors() {
  close(STDIN_FILENO);
  close(STDERR_FILENO);
}
void CloseAll() {
  for (const int fd : {0, 1, 2}) close(fd);
}

class Surroundings : public SmallRegionTest {
 protected:
  std::unique_ptr<Command> Join(std::vector<std::string> more,
                                const std::function<void()>& inherits) {
    more.insert(more.begin(), {"join", name(), "--name", "web"});
    auto joined = std::make_unique<Command>(more, Setting{.inherits = inherits});
    EXPECT_TRUE(Await([&] { return CountSlots(region(), detail::SlotState::kActive) == 1; }));
    return joined;
  }
  Result Put(const std::string& text, std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"put", name(), "-"});
    return Ctl(more, {.input = text});
  }
  // All of a file that a command writes, and ends with this line.
  static std::string AwaitText(const std::string& file, const std::string& last) {
    EXPECT_TRUE(Await([&] { return ReadText(file).ends_with(last); })) << ReadText(file);
    return ReadText(file);
  }
  // Until it catches a signal, that ends it as it ends anything.
  static void AwaitCaught(pid_t pid, int number) {
    const std::string file = "/proc/" + std::to_string(pid) + "/status";
    EXPECT_TRUE(Await([&] {
      const std::string text = detail::ReadSmallFile(file.c_str());
      const std::size_t at = text.find("SigCgt:");
      if (at == std::string::npos) return false;
      return (std::stoull(text.substr(at + 8), nullptr, 16) >> (number - 1) & 1) != 0;
    }));
  }
  static bool Lives(const std::string& pid) {
    const char state = detail::ReadProcessStat(static_cast<std::uint32_t>(std::stoi(pid))).state;
    return state != '?' && state != 'Z';
  }

  ScratchDirectory directory_;
};

// --- an unknown exit status is never success ---

TEST_F(Surroundings, AnInheritedIgnoredSigchldAcceptsNothing) {
  for (const auto& [validator, reason] : {std::pair{"exit 1", "exit code 1"},
                                          {"kill -9 $$", "signal 9"},
                                          {"(exit 4) || exit 5", "5"}}) {
    const auto web = Join({"--validate", validator}, IgnoreChildren);
    EXPECT_REFUSED(Put("x", {"--agree", "--timeout", kLongText}), 6, reason);
    web->Signal(SIGTERM);
    EXPECT_EQ(web->Finish().code, 0);
    ASSERT_OK(region().Reap());
  }
}

TEST_F(Surroundings, AnInheritedIgnoredSigchldAcknowledgesNoFailedAdoption) {
  const std::string tried = directory_ / "tried";
  const auto web =
      Join({"--adopt", "grep -q good || { echo x >> " + tried + "; exit 1; }"}, IgnoreChildren);
  EXPECT_SUCCESS(Put("bad\n"));
  AwaitText(tried, "x\n");
  EXPECT_REFUSED(
      Ctl({"wait", name(), "--epoch", "1", "--for", "converged", "--timeout", kSoonText}), 7,
      "\"web\" (slot 0");
  EXPECT_SUCCESS(Put("good\n"));
  EXPECT_EQ(web->Hear(), "2");
}

TEST_F(Surroundings, WithoutPidfdsCommandsRunToTheirEnd) {
  const auto web = Join({"--validate", "grep -q good", "--adopt", "cat > " + (directory_ / "out")},
                        RefusePidfds);
  EXPECT_EQ(Put("good", {"--agree", "--timeout", kLongText}).out, "1\n");
  EXPECT_EQ(web->Hear(), "1");
  EXPECT_EQ(ReadText(directory_ / "out"), "good");
  EXPECT_REFUSED(Put("bad", {"--agree", "--timeout", kLongText}), 6, "exit code 1");
}

TEST_F(Surroundings, WithoutMemoryFilesAVoteIsRejectedAndSaysWhy) {
  const auto web = Join({"--validate", "true"}, [] { RefuseCalls({{SYS_memfd_create, EPERM}}); });
  EXPECT_REFUSED(Put("x", {"--agree", "--timeout", kLongText}), 6, "cannot make a file");
}

TEST_F(Surroundings, AFileSizeLimitIsAnError) {
  const auto limited = [] {
    const rlimit limit{.rlim_cur = 4096, .rlim_max = 4096};
    setrlimit(RLIMIT_FSIZE, &limit);
    signal(SIGXFSZ, SIG_DFL);
  };
  EXPECT_SUCCESS(Put(std::string(200, 'x')));
  // Output that is a file, larger than may be written.
  const std::string out = directory_ / "out";
  WriteText(out, std::string(4096, 'o'));
  const Result get = Ctl({"get", name()}, {.output_file = out, .inherits = [&] {
                                             limited();
                                             lseek(STDOUT_FILENO, 0, SEEK_END);
                                           }});
  EXPECT_EQ(get.code, 1);
  EXPECT_THAT(get.err, HasSubstr("File too large"));
  // A command's input: the state, in a file without a name.
  const auto web = Join({"--validate", "true"}, [] {
    const rlimit limit{.rlim_cur = 100, .rlim_max = 100};
    setrlimit(RLIMIT_FSIZE, &limit);
    signal(SIGXFSZ, SIG_DFL);
  });
  EXPECT_REFUSED(Put(std::string(200, 'x'), {"--agree", "--timeout", kLongText}), 6,
                 "cannot keep the state");
}

// --- what a command gets back, and how it ends ---

TEST_F(Surroundings, CommandsGetTheSignalsThatTheToolWasStartedWith) {
  const std::string out = directory_ / "out";
  const auto web = Join({"--adopt", "exec grep -E '^Sig(Blk|Ign)' /proc/self/status > " + out}, [] {
    signal(SIGUSR1, SIG_IGN);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    sigprocmask(SIG_SETMASK, &blocked, nullptr);
  });
  EXPECT_SUCCESS(Put("x"));
  EXPECT_EQ(web->Hear(), "1");
  EXPECT_EQ(ReadText(out), "SigBlk:\t0000000000000800\nSigIgn:\t0000000000000200\n");
}

TEST_F(Surroundings, AnEnvironmentHasNoNameTwice) {
  const std::string out = directory_ / "out";
  const auto inherits = [] {
    setenv("EPOCH_NUMBER", "77", 1);
    setenv("EPOCH_PROPOSER", "mallory", 1);
    setenv("EPOCH_REGION", "/elsewhere", 1);
    setenv("KEPT", "kept", 1);
  };
  const std::string show =
      "env | grep -E '^(EPOCH_|KEPT)' | sort >> " + out + "; echo end >> " + out;
  const auto web = Join({"--validate", show, "--adopt", show}, inherits);
  EXPECT_SUCCESS(Put("x", {"--agree", "--timeout", kLongText, "--name", "ops"}));
  EXPECT_EQ(web->Hear(), "1");
  EXPECT_EQ(ReadText(out), "EPOCH_NUMBER=1\nEPOCH_PROPOSER=ops\nEPOCH_REGION=" + path() +
                               "\nKEPT=kept\nend\n"
                               "EPOCH_NUMBER=1\nEPOCH_REGION=" +
                               path() + "\nKEPT=kept\nend\n");
}

TEST_F(Surroundings, KilledItLeavesNothingOfWhatItRan) {
  for (const char* option : {"--validate", "--adopt"}) {
    const std::string pids = directory_ / option;
    const auto web = Join({option, "sleep 1000 & echo $$ $! > " + pids + ".new; mv " + pids +
                                       ".new " + pids + "; wait"},
                          nullptr);
    WriteText(directory_ / "state", "x");
    std::vector<std::string> args = {"put", name(), directory_ / "state"};
    if (option == std::string("--validate")) args.push_back("--agree");
    Command put(args);
    const std::string both = AwaitText(pids, "\n");
    web->Signal(SIGKILL);
    EXPECT_EQ(web->Finish().code, -SIGKILL);
    const std::size_t space = both.find(' ');
    EXPECT_TRUE(Await([&] { return !Lives(both.substr(0, space)); })) << option;
    EXPECT_TRUE(Await([&] { return !Lives(both.substr(space + 1)); })) << option;
    put.Finish();  // with one voter less, or without any
    ASSERT_OK(region().Reap());
  }
}

TEST_F(Surroundings, IgnoredSignalsAreLeftAlone) {
  const auto ignore = [] {
    for (const int number : {SIGHUP, SIGINT, SIGQUIT}) signal(number, SIG_IGN);
  };
  const std::string durable = name() + "-durable";
  EXPECT_SUCCESS(Ctl({"create", durable, "--journal", directory_ / "journal"}));
  const auto web = Join({}, ignore);
  Command serve({"serve", durable}, {.inherits = ignore});
  const auto serving = [&] {
    return Ctl({"status", durable}).out.find("epochctl serve") != std::string::npos;
  };
  EXPECT_TRUE(Await(serving));
  for (const int number : {SIGHUP, SIGINT, SIGQUIT}) {
    web->Signal(number);
    serve.Signal(number);
  }
  EXPECT_SUCCESS(Put("x"));
  EXPECT_EQ(web->Hear(), "1");
  EXPECT_TRUE(serving());
  web->Signal(SIGTERM);
  serve.Signal(SIGTERM);
  EXPECT_EQ(web->Finish().code, 0);
  EXPECT_EQ(serve.Finish().code, 0);
  ASSERT_OK(Region::Unlink(durable));
}

TEST_F(Surroundings, AWaitThatIsInterruptedSaysHowFarItGot) {
  Child voter("NamedVoter", {name(), "reader", "no"});
  ASSERT_EQ(voter.Hear(), "in");
  EXPECT_SUCCESS(Put("x"));
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    Command wait({"wait", name(), "--epoch", "2"});
    AwaitCaught(wait.pid(), number);
    wait.Signal(number);
    EXPECT_REFUSED(wait.Finish(), 1, "is at epoch 1, not at 2 yet");
  }
}

TEST_F(Surroundings, APutThatIsInterruptedSaysWhatBecameOfIt) {
  Child voter("NamedVoter", {name(), "reader", "no"});
  ASSERT_EQ(voter.Hear(), "in");
  voter.Stop();
  WriteText(directory_ / "state", "x");
  Command put({"-o", "json", "put", name(), directory_ / "state", "--agree"});
  AwaitCaught(put.pid(), SIGINT);
  put.Signal(SIGINT);
  const Result ended = put.Finish();
  EXPECT_EQ(ended.code, 1);
  EXPECT_EQ(ended.out, "");
  const nlohmann::json error = ErrorJson(ended)["error"];
  EXPECT_EQ(error.value("code", ""), "CANCELLED");
  EXPECT_EQ(error.value("cause", ""), "interrupted");
  EXPECT_EQ(error.value("outcome", ""), "unchanged");
  voter.Continue();
  EXPECT_EQ(region().epoch(), 0u);
}

TEST_F(Surroundings, AnErrorNamesCauseOutcomeAndCulprits) {
  Child voter("NamedVoter", {name(), "reader", "too large"});
  ASSERT_EQ(voter.Hear(), "in");
  const Result refused =
      Ctl({"-o", "json", "put", name(), "-", "--agree", "--timeout", kLongText}, {.input = "x"});
  const nlohmann::json error = ErrorJson(refused)["error"];
  EXPECT_EQ(error.value("cause", ""), "rejected");
  EXPECT_EQ(error.value("outcome", ""), "unchanged");
  EXPECT_EQ(error["culprits"][0]["name"], "reader");
  EXPECT_EQ(error["culprits"][0]["reason"], "too large");
  const Result late = Ctl({"-o", "json", "put", name(), "-", "--expect", "7"}, {.input = "x"});
  EXPECT_EQ(ErrorJson(late)["error"]["expected"], 7);
  EXPECT_EQ(ErrorJson(late)["error"]["actual"], 0);
}

// --- descriptors ---

TEST_F(Surroundings, ClosedStandardInputIsNoState) {
  EXPECT_SUCCESS(Put("state"));
  EXPECT_REFUSED(Ctl({"put", name(), "-"}, {.inherits = CloseInput}), 2,
                 "standard input is closed");
  EXPECT_REFUSED(Ctl({"put", name(), "/dev/stdin"}, {.inherits = CloseInput}), 2, "/dev/stdin");
  EXPECT_EQ(Ctl({"get", name()}).out, "state");
}

TEST_F(Surroundings, ClosedStandardOutputIsAnError) {
  EXPECT_SUCCESS(Put("state"));
  EXPECT_REFUSED(Ctl({"get", name()}, {.inherits = CloseOutput}), 1,
                 "cannot write to standard output");
}

TEST_F(Surroundings, NothingThatIsOpenedLandsOnStandardDescriptors) {
  WriteText(directory_ / "state", "state");
  EXPECT_EQ(Ctl({"put", name(), directory_ / "state"}, {.inherits = CloseAll}).code, 1);
  EXPECT_EQ(Ctl({"status", name()}, {.inherits = CloseAll}).code, 1);
  EXPECT_EQ(Ctl({"get", "test-no-such-region"}, {.inherits = CloseAll}).code, 3);
  EXPECT_EQ(Ctl({"get", name()}).out, "state");
  EXPECT_SUCCESS(Ctl({"check", name()}));
}

TEST_F(Surroundings, CommandsWithClosedDescriptorsHaveWorkingOnes) {
  const auto web = Join({"--validate", "echo out; grep -q good || { echo no >&2; exit 1; }"},
                        CloseInputAndErrors);
  EXPECT_SUCCESS(Put("good", {"--agree", "--timeout", kLongText}));
  EXPECT_REFUSED(Put("bad", {"--agree", "--timeout", kLongText}), 6, ": no;");
}

// --- nothing foreign reaches a terminal unescaped ---

TEST(Printable, OnlyCharactersOfUtf8ThatDriveNothingAreShown) {
  for (const std::string shown : {"plan", "pl\xc3\xa4n", "\xe8\xa8\x88", "\xf0\x9f\x98\x80",
                                  "a\xe2\x80\x8d"
                                  "b",
                                  "e\xcc\x81"}) {
    EXPECT_EQ(detail::Shown(shown, '?'), shown);
  }
  for (const std::string hidden :
       {"\x01", "\x7f", "\n", "\xc2\x9b", "\xc2\xad", "\xe2\x80\xae", "\xe2\x80\xa8",
        "\xe2\x81\xa6", "\xef\xbb\xbf", "\xf3\xa0\x81\x81", "\xd8\x9c",
        // No UTF-8: cut short, overlong, a surrogate, beyond the last character, stray bytes.
        "\xc3", "\xe8\xa8", "\xc0\x8a", "\xe0\x80\x8a", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\x80",
        "\xff", "\xf0\x80\x80\x8a"}) {
    EXPECT_EQ(detail::Shown("a" + hidden + "b", '?'), "a" + std::string(hidden.size(), '?') + "b");
  }
}

constexpr char kHostile[] = "pl\xc3\xa4n\x1b[2J\n\xc2\x9b\xe2\x80\xae\xff";

TEST_F(Surroundings, NamesAndReasonsAreShownWithoutWhatDrivesATerminal) {
  Child voter("NamedVoter", {name(), kHostile, kHostile});
  ASSERT_EQ(voter.Hear(), "in");
  const Result put = Put("x", {"--agree", "--timeout", kLongText});
  EXPECT_EQ(put.code, 6);
  EXPECT_THAT(put.err, AllOf(HasSubstr("\"pl\xc3\xa4n?[2J"), HasSubstr(": pl\xc3\xa4n")));
  const Result json =
      Ctl({"-o", "json", "put", name(), "-", "--agree", "--timeout", kLongText}, {.input = "x"});
  EXPECT_THAT(ErrorJson(json)["error"].value("message", ""), HasSubstr("pl\xc3\xa4n"));
  const Result status = Ctl({"status", name()});
  EXPECT_THAT(status.out, HasSubstr("pl\xc3\xa4n"));
  const Result status_json = Ctl({"-o", "json", "status", name()});
  EXPECT_THAT(status_json.out, HasSubstr("pl\xc3\xa4n"));
  for (const Result& result : {put, json, status, status_json}) {
    for (const char* bad : {"\x1b", "\xc2\x9b", "\xe2\x80\xae", "\xff"}) {
      EXPECT_THAT(result.out + result.err, Not(HasSubstr(bad)));
    }
  }
}

TEST_F(Surroundings, ANewlineInAFileNameForgesNoLineOfTheList) {
  const std::string forged = std::string(detail::kRegionDirectory) + "/epoch.test-\nbank" +
                             std::to_string(getpid()) + "  7 1 \x1b[32m\xe2\x80\xae\xff";
  WriteText(forged, "x");
  const Result table = Ctl({"list"});
  const Result json = Ctl({"-o", "json", "list"});
  std::filesystem::remove(forged);
  EXPECT_THAT(table.out, AllOf(HasSubstr("test-\\nbank"), HasSubstr("\\x1b[32m\\u202e\\xff"),
                               Not(HasSubstr("\nbank"))));
  const auto parsed = nlohmann::json::parse(json.out, nullptr, false);
  ASSERT_TRUE(parsed.is_object()) << json.out;
  bool found = false;
  for (const auto& row : parsed["regions"]) {
    found = found || row["name"] == "test-\nbank" + std::to_string(getpid()) +
                                        "  7 1 \x1b[32m\xe2\x80\xae\\xff";
  }
  EXPECT_TRUE(found) << json.out;
  EXPECT_THAT(table.out + json.out, AllOf(Not(HasSubstr("\x1b")), Not(HasSubstr("\xe2\x80\xae")),
                                          Not(HasSubstr("\xff"))));
}

// --- errors under -o json are JSON ---

TEST_F(Surroundings, ErrorsUnderJsonAreJson) {
  const struct {
    std::vector<std::string> args;
    int exit_code;
    std::string code, verb, message;
  } kErrors[] = {
      {{"-o", "json", "get", "test-no-such-region"}, 3, "NOT_FOUND", "get", "no region"},
      {{"put", name(), "-", "--expect", "9", "-o", "json"}, 6, "ABORTED", "put", "epoch 9"},
      {{"put", name(), "-", "--expect", "x", "--output=json"}, 2, "INVALID_ARGUMENT", "put", "x"},
      {{"-o", "json", "statsu"}, 2, "INVALID_ARGUMENT", "", "did you mean \"status\"?"},
      {{"--nonsense", "-o", "json"}, 2, "INVALID_ARGUMENT", "", "--nonsense"},
      {{"-o", "json"}, 2, "INVALID_ARGUMENT", "", "which verb?"},
      {{"status", "--nonsense", "-ojson"}, 2, "INVALID_ARGUMENT", "status", "--nonsense"},
      {{"wait", name(), "--epoch", "9", "--timeout", kSoonText, "-o", "json"},
       7,
       "DEADLINE_EXCEEDED",
       "wait",
       "9"},
  };
  for (const auto& error : kErrors) {
    SCOPED_TRACE(testing::PrintToString(error.args));
    const Result result = Ctl(error.args, {.input = "x"});
    EXPECT_EQ(result.code, error.exit_code);
    EXPECT_EQ(result.out, "");
    const nlohmann::json json = ErrorJson(result);
    EXPECT_EQ(json.value("schema", ""), "epoch.error/1");
    EXPECT_EQ(json.value("verb", "none"), error.verb);
    EXPECT_EQ(json["error"].value("code", ""), error.code);
    EXPECT_EQ(json["error"].value("exit_code", 0), error.exit_code);
    EXPECT_THAT(json["error"].value("message", ""), HasSubstr(error.message));
  }
}

}  // namespace
}  // namespace epoch::test
