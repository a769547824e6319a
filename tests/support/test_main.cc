#include <gmock/gmock.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <string>
#include <vector>

#include "support/child.h"
#include "support/scratch.h"

namespace {

// Nothing that a test started outlives it: neither its children, nor those of a child that is gone.
class NobodyLeftBehind : public testing::EmptyTestEventListener {
 public:
  NobodyLeftBehind() { prctl(PR_SET_CHILD_SUBREAPER, 1); }

 private:
  void OnTestEnd(const testing::TestInfo&) override {
    for (;;) {
      const pid_t ended = waitpid(-1, nullptr, WNOHANG);
      if (ended < 0 && errno != EINTR) return;  // there is none
      if (ended != 0) continue;
      const std::vector<int> children = Children();
      if (children.empty()) return;  // this kernel does not tell
      for (const int child : children) {
        kill(child, SIGKILL);
        waitpid(child, nullptr, 0);
      }
    }
  }
  static std::vector<int> Children() {
    std::vector<int> children;
    const std::string self = std::to_string(getpid());
    std::ifstream list("/proc/self/task/" + self + "/children");
    for (int child = 0; list >> child;) children.push_back(child);
    return children;
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (const int code = epoch::test::RunRole(argc, argv); code >= 0) return code;
  testing::InitGoogleMock(&argc, argv);
  epoch::test::SweepLeftovers();
  testing::UnitTest::GetInstance()->listeners().Append(new NobodyLeftBehind);
  return RUN_ALL_TESTS();
}
