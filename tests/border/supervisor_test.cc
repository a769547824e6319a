// The supervisor denies what it is told to, and nothing else.
#include "border/supervisor.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <thread>

#include "border/told.h"

namespace epoch::test {
namespace {

class SupervisorTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = WhyNotWatched(); !why.empty()) GTEST_SKIP() << why;
  }
};

// The error that openat gives, or 0.
int TryOpen() {
  const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  close(fd);
  return 0;
}

struct Errors {
  int before = -1, first = -1, second = -1, third = -1, after = -1;
};

TEST_F(SupervisorTest, the_nth_call_of_the_operation_is_denied_and_no_other) {
  const SharedPage<Errors> got;
  const Ending ending = RunWatched(
      [&] {
        got->before = TryOpen();
        BeginOperation();
        got->first = TryOpen();
        got->second = TryOpen();
        got->third = TryOpen();
        EndOperation();
        got->after = TryOpen();
      },
      {.calls = {SYS_openat},
       .denial = Denial{.call = SYS_openat, .error = ENFILE, .first = 2, .last = 2}});
  EXPECT_EQ(ending.code, 0);
  EXPECT_EQ(ending.denied, 1);
  EXPECT_EQ(ending.calls.at(SYS_openat), 3);
  EXPECT_EQ(got->before, 0);
  EXPECT_EQ(got->first, 0);
  EXPECT_EQ(got->second, ENFILE);
  EXPECT_EQ(got->third, 0);
  EXPECT_EQ(got->after, 0);
}

TEST_F(SupervisorTest, threads_and_children_are_denied_too) {
  const SharedPage<Errors> got;
  const Ending ending = RunWatched(
      [&] {
        BeginOperation();
        std::thread([&] { got->first = TryOpen(); }).join();
        const pid_t child = fork();
        if (child == 0) {
          got->second = TryOpen();
          _exit(0);
        }
        waitpid(child, nullptr, 0);
        EndOperation();
      },
      {.calls = {SYS_openat},
       .denial = Denial{.call = SYS_openat, .error = EACCES, .first = 1, .last = INT_MAX}});
  EXPECT_EQ(ending.code, 0);
  EXPECT_EQ(ending.denied, 2);
  EXPECT_EQ(got->first, EACCES);
  EXPECT_EQ(got->second, EACCES);
}

TEST_F(SupervisorTest, what_a_child_executes_is_not_the_operation) {
  const Ending ending = RunWatched(
      [] {
        BeginOperation();
        const pid_t child = fork();
        if (child == 0) {
          execl("/bin/sh", "sh", "-c", ": </dev/null", nullptr);
          _exit(1);
        }
        int status = 0;
        waitpid(child, &status, 0);
        EndOperation();
        _exit(WEXITSTATUS(status));
      },
      {.calls = {SYS_openat, SYS_execve},
       .denial = Denial{.call = SYS_openat, .error = EACCES, .first = 1, .last = INT_MAX}});
  EXPECT_EQ(ending.code, 0);
  EXPECT_EQ(ending.denied, 0);
  EXPECT_EQ(ending.calls.at(SYS_execve), 1);
}

TEST_F(SupervisorTest, an_end_by_a_signal_is_told) {
  const Ending ending = RunWatched([] { raise(SIGKILL); }, {.calls = {SYS_openat}});
  EXPECT_EQ(ending.code, -SIGKILL);
  EXPECT_FALSE(ending.hung);
}

}  // namespace
}  // namespace epoch::test
