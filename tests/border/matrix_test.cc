// Every system call that Epoch's programs make x every errno that it may give x every operation:
// success as if nothing had been, a documented error with the region healthy for the others, or
// poison where the device itself failed.
//
// The gate runs a part of the cases, always the same; `whatever...` all of them (label "all").
#include "border/matrix.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "border/border_test.h"
#include "border/case.h"
#include "border/errnos.h"
#include "support/files.h"

namespace epoch::test {
namespace {

// Of the cases of an operation the gate runs one in so many.
constexpr std::size_t kDenialStride = 17;

class DenialTest : public MatrixTest, public testing::WithParamInterface<std::string> {
 protected:
  const Operation& operation() const { return OperationNamed(GetParam()); }

  void RunCases(std::size_t stride) {
    const std::vector<Denial> denials = DenialsFor(CallsOf(memory(), operation()));
    for (std::size_t i = 0; i < denials.size(); i += stride) {
      const Denial& denial = denials[i];
      if (!Asked(CallName(denial) + " " + ErrnoName(denial.error))) continue;
      const Outcome outcome = RunDenied(memory(), operation(), denial);
      if (outcome.ending.denied == 0) continue;  // another thread was faster: not made this time
      Record(CallName(denial), ErrnoName(denial.error), When(denial), operation(), outcome);
    }
    Conclude();
  }
};

std::vector<std::string> OperationNames() {
  std::vector<std::string> names;
  for (const Operation& operation : AllOperations()) names.push_back(operation.name);
  return names;
}

TEST_P(DenialTest, undenied_an_operation_succeeds_and_makes_calls_of_the_table_only) {
  const Outcome outcome = RunCase(memory(), operation());
  Record("nothing", "", "", operation(), outcome);
  EXPECT_EQ(outcome.what, "as if nothing") << outcome.message;
  for (const auto& [call, count] : outcome.ending.calls) {
    EXPECT_NE(RowOf(call), nullptr)
        << "call " << call << " (" << count << " times) is not in errnos.cc";
  }
  ConcludeFaults();
}

TEST_P(DenialTest, a_sample_of_what_is_denied_is_its_own_trouble) { RunCases(kDenialStride); }

TEST_P(DenialTest, whatever_is_denied_is_its_own_trouble) { RunCases(1); }

INSTANTIATE_TEST_SUITE_P(Border, DenialTest, testing::ValuesIn(OperationNames()),
                         [](const auto& of) { return WordsToName(of.param); });

// What strace(1) sees of epochctl: calls that the supervisor does not would be denied to nobody.
class StraceTest : public DenialTest {};

TEST_P(StraceTest, strace_sees_no_call_that_the_table_lacks) {
  if (std::system("strace -V >/dev/null 2>&1") != 0) GTEST_SKIP() << "no strace here";
  World world(memory(), operation().ground);
  if (operation().verb.front() == "expel") world.AddNeighbour();  // who votes for nobody here
  const std::string trace = memory() + "/trace";
  std::string command = "strace -f -qq -o " + trace + " " EPOCHCTL;
  for (const std::string& word : WordsOf(operation(), world)) command += " '" + word + "'";
  // Refused: nobody votes.
  const int expected = operation().name == "epochctl put agreed" ? 6 : 0;
  const int ended = std::system((command + " >/dev/null").c_str());
  ASSERT_TRUE(WIFEXITED(ended) && WEXITSTATUS(ended) == expected) << command;
  // Lines are "PID name(arguments) = result".
  std::ifstream lines(trace);
  std::size_t calls = 0;
  for (std::string pid, rest; lines >> pid && std::getline(lines >> std::ws, rest);) {
    const std::string name = rest.substr(0, rest.find('('));
    const bool call = name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_0123456789") == name.npos;
    if (!call || name == "exit_group" || name == "exit") continue;  // "--- SIGCHLD", "<... resumed"
    ++calls;
    EXPECT_NE(RowOf(name), nullptr) << rest;
  }
  EXPECT_GT(calls, 10u);
}

std::vector<std::string> VerbNames() {
  std::vector<std::string> names;
  for (const Operation& operation : AllOperations()) {
    // One that is asked waits for that.
    if (!operation.verb.empty() && !operation.asked) names.push_back(operation.name);
  }
  return names;
}

INSTANTIATE_TEST_SUITE_P(Border, StraceTest, testing::ValuesIn(VerbNames()),
                         [](const auto& of) { return WordsToName(of.param); });

// The codes of the README's table of errors: what is quoted in the first column of its lines.
std::set<std::string> ReadmeCodes() {
  std::set<std::string> codes;
  const std::vector<std::string> lines = absl::StrSplit(ReadText(EPOCH_README_MD), '\n');
  for (const std::string& line : lines) {
    if (!line.starts_with("| `")) continue;
    const std::vector<std::string> parts = absl::StrSplit(line.substr(0, line.find('|', 1)), '`');
    for (std::size_t i = 1; i < parts.size(); i += 2) codes.insert(parts[i]);
  }
  return codes;
}

TEST(BorderDocument, what_goes_wrong_has_a_code_of_the_readme) {
  std::set<std::string> allowed = ReadmeCodes();
  ASSERT_TRUE(allowed.contains("DeadlineExceeded"));
  for (const char* other : {"as if nothing", "std::bad_alloc", "not started", "signal 25"})
    allowed.insert(other);
  for (int code = 1; code <= 7; ++code) allowed.insert(absl::StrCat("exit ", code));
  const Matrix documented = Matrix::Parse(ReadText(EPOCH_ENVIRONMENT_MD));
  for (const std::string& outcome : documented.AllOutcomes()) {
    const std::string code = outcome.substr(0, outcome.find(", poisoned"));
    EXPECT_TRUE(allowed.contains(code)) << outcome;
  }
}

// `demo` is a show of its own, which runs the others.
TEST(BorderOperations, every_verb_of_epochctl_is_one) {
  const MemoryDirectory memory;
  const std::string help = memory.path() + "/help";
  ASSERT_EQ(std::system((EPOCHCTL " --help >" + help).c_str()), 0);
  std::ifstream lines(help);
  bool listed = false;
  std::size_t verbs = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("Subcommands:")) listed = true;
    if (line.empty()) listed = false;
    if (!listed || !line.starts_with("  ")) continue;
    const std::string verb = line.substr(2, line.find(' ', 2) - 2);
    const std::vector<Operation>& all = AllOperations();
    const bool there = std::any_of(all.begin(), all.end(), [&](const Operation& each) {
      return !each.verb.empty() && each.verb.front() == verb;
    });
    EXPECT_TRUE(there || verb == "demo") << "operations.cc has no epochctl " << verb;
    ++verbs;
  }
  EXPECT_GT(verbs, 10u);
}

// For tools/border: EPOCH_BORDER_FOUND is all that the tests have found, put together by it.
TEST(BorderDocument, whatever_was_found_is_written_into_the_document) {
  const char* const found = getenv("EPOCH_BORDER_FOUND");
  if (found == nullptr) GTEST_SKIP() << "tools/border --renew asks for it";
  const Matrix matrix = Matrix::Parse(ReadText(found));
  std::string document = ReadText(EPOCH_ENVIRONMENT_MD);
  for (const auto& [mark, text] : {std::pair{"calls", matrix.Calls().Text()},
                                   std::pair{"conditions", matrix.Conditions().Text()}}) {
    const std::string begin = absl::StrCat("<!-- ", mark, " -->\n");
    const std::string end = absl::StrCat("<!-- end of ", mark, " -->");
    const std::size_t from = document.find(begin), to = document.find(end);
    ASSERT_NE(from, std::string::npos) << begin;
    ASSERT_NE(to, std::string::npos) << end;
    const std::string head = mark == std::string("calls")
                                 ? "| call | error | outcome: operations |\n|---|---|---|\n"
                                 : "| condition | | outcome: operations |\n|---|---|---|\n";
    document.replace(from + begin.size(), to - from - begin.size(), head + text);
  }
  WriteText(EPOCH_ENVIRONMENT_MD, document);
}

}  // namespace
}  // namespace epoch::test
