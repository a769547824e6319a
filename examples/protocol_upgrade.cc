// Upgrading a protocol that has no place for two versions at once: worker processes speak the
// version that the region says, each message under a pin, and the region is switched back and forth
// under them. With a fence the new version becomes visible only when nobody speaks the old one.
//
//   protocol_upgrade [UPGRADES]     that many with a fence, then as many without (default 200)
//
// Epoch is not its own witness: the workers enter and leave a board in memory of its own, which
// counts who speaks what, and so sees every message that begins while another version is spoken.
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include "epoch/epoch.h"
#include "epoch/typed.h"

namespace {

constexpr int kWorkers = 4;

struct Board {
  // How many speak version 1 (low half) and version 2 (high half): one word, so that entering and
  // seeing who else is there is one step.
  std::atomic<std::uint64_t> speaking{0};
  std::atomic<std::uint64_t> messages{0};
  std::atomic<std::uint64_t> overlaps{0};  // messages begun while the other version was spoken
  std::atomic<bool> end{false};

  void Enter(int version) {
    const std::uint64_t before = speaking.fetch_add(One(version));
    const std::uint64_t others = version == 1 ? before >> 32 : before & 0xffffffffu;
    messages.fetch_add(1);
    if (others != 0) overlaps.fetch_add(1);
  }
  void Leave(int version) { speaking.fetch_sub(One(version)); }

 private:
  static std::uint64_t One(int version) { return version == 1 ? 1 : std::uint64_t{1} << 32; }
};

[[noreturn]] void Fail(const absl::Status& status) {
  std::fprintf(stderr, "protocol_upgrade: %s\n", status.ToString().c_str());
  std::exit(1);
}
template <typename T>
T Require(absl::StatusOr<T> result) {
  if (!result.ok()) Fail(result.status());
  return *std::move(result);
}

void Speak(int microseconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(microseconds);
  while (std::chrono::steady_clock::now() < end) {
  }
}

[[noreturn]] void Work(const std::string& name, int worker, Board& board) {
  const epoch::Region region = Require(epoch::Region::Open(name));
  const std::string as = "worker " + std::to_string(worker);
  auto self = Require(epoch::Participant::Join(region, {.name = as}));
  while (!board.end.load()) {
    const epoch::Pin pin = self.Pin();  // for as long as the message takes
    if (!pin.ok()) Fail(self.status());
    const int version = *Require(epoch::Value<int>(pin));
    board.Enter(version);
    Speak(20 + 10 * worker);
    board.Leave(version);
  }
  _exit(0);
}

struct Outcome {
  std::uint64_t messages = 0, overlaps = 0;
  double median_us = 0;  // of an upgrade
};

Outcome Upgrade(int upgrades, bool fence) {
  const std::string name = "protocol_upgrade." + std::to_string(getpid());
  const epoch::Region region = Require(epoch::Region::Create(name));
  auto self = Require(epoch::Participant::Join(region, {.name = "operator"}));
  Require(epoch::CommitValue(self, 1));
  void* const page =
      mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) std::abort();
  Board& board = *::new (page) Board;
  std::vector<pid_t> pids;
  const pid_t parent = getpid();
  for (int worker = 0; worker < kWorkers; ++worker) {
    const pid_t pid = fork();
    if (pid < 0) std::abort();
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(1);
      Work(name, worker, board);
    }
    pids.push_back(pid);
  }
  while (board.messages.load() < 100) usleep(1000);  // all in full swing
  std::vector<double> took_us;
  absl::Status failed;
  for (int i = 0; i < upgrades && failed.ok(); ++i) {
    const auto start = std::chrono::steady_clock::now();
    failed = epoch::UpdateValue<int>(self, [](int& version) { version = 3 - version; },
                                     {.fence = fence, .timeout = absl::Minutes(5)})
                 .status();
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
    took_us.push_back(took.count());
    usleep(500);  // so that the new version is spoken for a while
  }
  board.end.store(true);
  bool all_well = true;
  for (const pid_t pid : pids) {
    int status = 0;
    all_well = waitpid(pid, &status, 0) == pid && status == 0 && all_well;
  }
  epoch::Region::Unlink(name).IgnoreError();
  const Outcome outcome{board.messages.load(), board.overlaps.load(), 0};
  munmap(page, sizeof(Board));
  if (!failed.ok()) Fail(failed);
  if (!all_well) Fail(absl::InternalError("a worker failed"));
  std::nth_element(took_us.begin(), took_us.begin() + upgrades / 2, took_us.end());
  return {outcome.messages, outcome.overlaps, took_us[static_cast<std::size_t>(upgrades) / 2]};
}

}  // namespace

int main(int argc, char** argv) {
  const int upgrades = argc > 1 ? std::atoi(argv[1]) : 200;
  if (argc > 2 || upgrades < 1) {
    std::fprintf(stderr, "usage: protocol_upgrade [UPGRADES]\n");
    return 2;
  }
  bool overlapped = false;
  for (const bool fence : {true, false}) {
    const Outcome outcome = Upgrade(upgrades, fence);
    std::printf("%s: %d upgrades, %d workers, %ju messages, %ju overlaps, median %.0f us each\n",
                fence ? "fenced" : "unfenced", upgrades, kWorkers, std::uintmax_t{outcome.messages},
                std::uintmax_t{outcome.overlaps}, outcome.median_us);
    if (fence) overlapped = outcome.overlaps != 0;
  }
  return overlapped ? 1 : 0;
}
