// The checker as a program, and the logs as files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <string>
#include <utility>

#include "stress/log.h"
#include "stress/script.h"
#include "support/scratch.h"

namespace epoch::stress {
namespace {

using testing::HasSubstr;

void Write(Script& script, const std::string& directory) {
  for (const auto& [serial, records] : script.logs()) {
    LogWriter log(LogPath(directory, serial));
    for (const Record& record : records) log.Append(record);
  }
}

// What it prints, and its exit code.
std::pair<std::string, int> RunChecker(const std::string& directory) {
  FILE* const pipe = popen((EPOCH_HISTORY_CHECK " " + directory).c_str(), "re");
  std::string output;
  std::array<char, 512> part;
  while (std::fgets(part.data(), part.size(), pipe) != nullptr) output += part.data();
  const int status = pclose(pipe);
  return {output, WIFEXITED(status) ? WEXITSTATUS(status) : -1};
}

TEST(CheckerTest, sound_logs_end_with_code_0) {
  const test::ScratchDirectory directory;
  Script script;
  script.Start(1);
  script.Commit(1, 1, 101);
  Write(script, directory.path());
  const auto [output, code] = RunChecker(directory.path());
  EXPECT_EQ(code, 0) << output;
  EXPECT_THAT(output, HasSubstr("history: operations=1 transitions=1 "));
  EXPECT_THAT(output, HasSubstr("violations=0\n"));
}

TEST(CheckerTest, violations_are_told_with_processes_and_records_and_code_1) {
  const test::ScratchDirectory directory;
  Script script;
  script.Start(1);
  script.Commit(1, 1, 101);
  script.Commit(1, 2, 102);
  script.See(0, Kind::kRestored, 1, 101);
  // One file after the other: the driver's, which comes first, would be the older one.
  std::vector<Record> driver = std::exchange(script.logs()[0], {});
  script.logs().erase(0);
  Write(script, directory.path());
  LogWriter(LogPath(directory.path(), 0)).Append(driver.at(0));
  const auto [output, code] = RunChecker(directory.path());
  EXPECT_EQ(code, 1) << output;
  EXPECT_THAT(output, HasSubstr("violation: G7: restored at epoch 1 although 2 was acknowledged"));
  EXPECT_THAT(output, HasSubstr("process 1, record 7"));
  EXPECT_THAT(output, HasSubstr("violations=1\n"));
}

TEST(CheckerTest, logs_that_are_not_there_are_an_error) {
  EXPECT_EQ(RunChecker("/nowhere").second, 3);
}

TEST(LogTest, records_of_a_killed_process_are_all_there) {
  const test::ScratchDirectory directory;
  const std::string path = LogPath(directory.path(), 1);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    LogWriter log(path);
    for (std::uint64_t i = 0; i < 1000; ++i) log.Append({.kind = Kind::kDraft, .content = i});
    raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  const LogReader log(path);
  ASSERT_EQ(log.records().size(), 1000u);
  EXPECT_EQ(log.records().back().content, 999u);
}

}  // namespace
}  // namespace epoch::stress
