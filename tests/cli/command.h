// The real epochctl, run as a process.
#ifndef EPOCH_TESTS_CLI_COMMAND_H_
#define EPOCH_TESTS_CLI_COMMAND_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/types.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "epoch/epoch.h"
#include "support/files.h"
#include "support/region_test.h"
#include "support/time_limits.h"

namespace epoch::test {

struct Result {
  int code = -1;  // the exit code, or minus the signal that ended it
  std::string out, err;
};
void PrintTo(const Result& result, std::ostream* os);

struct Setting {
  std::string input{};         // standard input
  std::string region{};        // EPOCH_REGION
  std::string output_file{};   // standard output goes there
  bool output_closed = false;  // standard output is a pipe that nobody reads
  unsigned as_user = 0;        // run as that user id
  // Called in the child right before it becomes epochctl: what it inherits.
  std::function<void()> inherits{};
};

// A running epochctl. Killed with this object.
class Command {
 public:
  // `held_open`: standard input stays open, and silent, until the object goes.
  explicit Command(const std::vector<std::string>& args, const Setting& setting = {},
                   bool held_open = false);
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;
  ~Command();

  void Signal(int number) const;
  // Sends SIGSTOP and waits until it has taken effect.
  void Stop() const;
  pid_t pid() const { return pid_; }
  // The next line of its standard output, without its end; Finish returns what comes after it.
  // "<silent>" if there is none for as long as kLong, "<gone>" if there will be none.
  std::string Hear();
  // Reads all output and waits for the end; kills it after kLong of silence.
  Result Finish();

 private:
  pid_t pid_ = -1;
  std::string input_;
  std::string heard_;  // of the output, not handed out yet
  int in_ = -1, out_ = -1, err_ = -1;
};

// The JSON object on the only line of its stderr.
nlohmann::json ErrorJson(const Result& result);

inline Result Ctl(const std::vector<std::string>& args, const Setting& setting = {}) {
  return Command(args, setting).Finish();
}
// Runs it with -o json; fails the test unless it succeeds and answers with the verb's schema.
nlohmann::json CtlJson(std::vector<std::string> args, const Setting& setting = {});

inline std::string BytesOf(std::uint64_t word) {
  return std::string(reinterpret_cast<const char*>(&word), sizeof word);
}

// epochctl ended with `expected_code`, said `text` on stderr, and nothing on stdout.
#define EXPECT_REFUSED(result_of_run, expected_code, text)                     \
  do {                                                                         \
    const ::epoch::test::Result& refused = (result_of_run);                    \
    EXPECT_EQ(refused.code, expected_code) << testing::PrintToString(refused); \
    EXPECT_THAT(refused.err, testing::HasSubstr(text));                        \
    EXPECT_EQ(refused.out, "");                                                \
  } while (false)

// It succeeded, without a word on stderr.
#define EXPECT_SUCCESS(result_of_run)                                  \
  do {                                                                 \
    const ::epoch::test::Result& succeeded = (result_of_run);          \
    EXPECT_EQ(succeeded.code, 0) << testing::PrintToString(succeeded); \
    EXPECT_EQ(succeeded.err, "") << testing::PrintToString(succeeded); \
  } while (false)

}  // namespace epoch::test

#endif  // EPOCH_TESTS_CLI_COMMAND_H_
