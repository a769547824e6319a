// A daemon around one event loop: epoll over the listener's descriptor and a signalfd. It votes on
// each new rate limit, adopts what was committed, ends gracefully on SIGTERM, and after `kill -9`
// or a reboot begins again where the region, or its journal, stands.
//
//   service run REGION JOURNAL NAME     until SIGTERM or SIGINT
//   service set REGION RATE             proposes a rate to all that run
//   service demo                        starts three, changes rates, kills some, checks what they
//   say
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "epoch/epoch.h"
#include "epoch/journal.h"  // durable regions

namespace {

[[noreturn]] void Fail(const absl::Status& status) {
  std::fprintf(stderr, "service: %s\n", status.ToString().c_str());
  std::exit(1);
}
[[noreturn]] void Fail(const char* call) {
  std::fprintf(stderr, "service: %s: %s\n", call,
               std::error_code(errno, std::generic_category()).message().c_str());
  std::exit(1);
}
template <typename T>
T Require(absl::StatusOr<T> result) {
  if (!result.ok()) Fail(result.status());
  return *std::move(result);
}
void Require(const absl::Status& status) {
  if (!status.ok()) Fail(status);
}

std::optional<int> RateIn(std::string_view text) {
  int rate = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), rate);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return rate >= 1 && rate <= 1000 ? std::optional(rate) : std::nullopt;
}

// In the listener's thread, at any time: it looks at the proposal and at nothing else.
epoch::Answer Judge(const epoch::Proposal& proposal) {
  if (RateIn(proposal.text()).has_value()) return epoch::Answer::Accept();
  return epoch::Answer::Reject("a rate is a number from 1 to 1000");
}

// Both are made once, and closed by the end of the process.
int SignalsAsDescriptor() {
  sigset_t ending;
  sigemptyset(&ending);
  sigaddset(&ending, SIGTERM);
  sigaddset(&ending, SIGINT);
  // Blocked in this thread, and in those that it starts from now on: read below instead.
  if (sigprocmask(SIG_BLOCK, &ending, nullptr) != 0) Fail("sigprocmask");
  const int fd = signalfd(-1, &ending, SFD_CLOEXEC | SFD_NONBLOCK);
  if (fd < 0) Fail("signalfd");
  return fd;
}
void Watch(int loop, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) != 0) Fail("epoll_ctl");
}

int Run(const std::string& where, const std::string& journal, const std::string& name) {
  const int signals = SignalsAsDescriptor();
  const int loop = epoll_create1(EPOLL_CLOEXEC);
  if (loop < 0) Fail("epoll_create1");
  Watch(loop, signals);

  // Opens it; or restores it from the journal, if the machine was restarted; or creates both.
  const epoch::Region region =
      Require(epoch::Region::OpenOrCreate(where, {.state_bytes = 4096, .journal = journal}));
  // Who proposed a rate may wait until all have adopted it, so this says itself when it has.
  auto self = Require(epoch::Participant::Join(
      region, {.name = name, .voter = true, .acknowledges_by_hand = true}));
  self.SetValidator(Judge);
  std::optional<epoch::Listener> listener = Require(self.Listen());
  Watch(loop, listener->fd());

  std::optional<epoch::Epoch> adopted;
  const auto adopt = [&] {
    const epoch::Pin pin = self.Pin();
    if (!pin.ok() || adopted == pin.epoch()) return;
    // Epoch 0 is the empty state of a new region.
    std::printf("%s epoch %ju rate %d\n", name.c_str(), std::uintmax_t{pin.epoch()},
                RateIn(pin.text()).value_or(100));
    std::fflush(stdout);
    adopted = pin.epoch();
    self.Acknowledge(pin.epoch()).IgnoreError();
  };
  adopt();  // what was committed before the descriptor was there
  for (bool goes_on = true; goes_on;) {
    epoll_event event{};
    const int ready = epoll_wait(loop, &event, 1, -1);
    if (ready < 0 && errno != EINTR) Fail("epoll_wait");
    if (ready <= 0) continue;
    if (event.data.fd == signals) {
      goes_on = false;
    } else {
      listener->Drain();  // first; what is committed from now on makes it readable again
      if (!self.status().ok()) {
        // Expelled: this process was stopped for longer than others would wait. It is a new
        // participant from here on, and reads what it missed.
        listener.reset();  // closes its descriptor, which so leaves the loop
        Require(self.Rejoin());
        listener.emplace(Require(self.Listen()));
        Watch(loop, listener->fd());
        adopted.reset();
      }
      adopt();
    }
  }
  // A slot that is left is free at once; that of a process which just ended must first be noticed.
  listener->Stop();
  Require(self.Leave());
  std::printf("%s has left\n", name.c_str());
  return 0;
}

int Set(const std::string& where, std::string_view rate) {
  const epoch::Region region = Require(epoch::Region::Open(where));
  auto self = Require(epoch::Participant::Join(region, {.name = "operator"}));
  const absl::StatusOr<epoch::Epoch> set =
      self.Commit(rate, {.agreement = epoch::Agreement::kAllVoters, .timeout = absl::Minutes(5)});
  if (!set.ok()) {
    std::fprintf(stderr, "service: %s\n", std::string(set.status().message()).c_str());
    return 1;
  }
  Require(self.Await(*set, epoch::Stage::kConverged, absl::Minutes(5)));
  return 0;
}

// --- the demonstration
// -----------------------------------------------------------------------------

// Three services, each a program of its own, and what they print.
class Fleet {
 public:
  Fleet(std::string where, std::string folder)
      : where_(std::move(where)), folder_(std::move(folder)), journal_(folder_ + "/journal") {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) Fail("pipe2");
    said_ = fdopen(ends[0], "r");
    to_ = ends[1];
  }
  ~Fleet() {
    for (const auto& [name, pid] : running_) kill(pid, SIGKILL);
    for (const auto& [name, pid] : running_) waitpid(pid, nullptr, 0);
    epoch::Region::Unlink(where_).IgnoreError();
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  Fleet(const Fleet&) = delete;
  Fleet& operator=(const Fleet&) = delete;

  void Start(const std::string& name) {
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid < 0) Fail("fork");
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent || dup2(to_, STDOUT_FILENO) < 0) _exit(1);
      execl("/proc/self/exe", "service", "run", where_.c_str(), journal_.c_str(), name.c_str(),
            nullptr);
      _exit(1);
    }
    running_[name] = pid;
  }
  // Its exit status as wait gives it.
  int End(const std::string& name, int signal) {
    int status = 0;
    kill(running_.at(name), signal);
    waitpid(running_.at(name), &status, 0);
    running_.erase(name);
    return status;
  }
  // Whether each of those that run says just this next, in any order.
  bool AllSay(const std::string& what) {
    for (std::size_t i = 0; i < running_.size(); ++i) {
      const std::string line = Next();
      const auto space = line.find(' ');
      if (!running_.contains(line.substr(0, space)) || line.substr(space + 1) != what) {
        std::fprintf(stderr, "service: heard \"%s\", awaited \"%s\"\n", line.c_str(), what.c_str());
        return false;
      }
    }
    std::printf("all %zu: %s\n", running_.size(), what.c_str());
    return true;
  }
  std::string Next() {
    char line[128];
    if (fgets(line, sizeof line, said_) == nullptr) return "";
    return std::string(line, std::string_view(line).find('\n'));
  }

 private:
  const std::string where_, folder_, journal_;
  std::map<std::string, pid_t> running_;
  FILE* said_ = nullptr;
  int to_ = -1;
};

bool Demo() {
  const std::string where = "service." + std::to_string(getpid());
  std::string folder = std::filesystem::temp_directory_path() / "service.XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) Fail("mkdtemp");
  Fleet fleet(where, folder);
  for (const char* name : {"a", "b", "c"}) fleet.Start(name);
  if (!fleet.AllSay("epoch 0 rate 100")) return false;
  if (Set(where, "250") != 0 || !fleet.AllSay("epoch 1 rate 250")) return false;
  if (Set(where, "fast") == 0) return false;  // refused, and nobody heard of it

  // One is killed. The others go on, and when it is back it has what it missed.
  fleet.End("b", SIGKILL);
  if (Set(where, "300") != 0 || !fleet.AllSay("epoch 2 rate 300")) return false;
  fleet.Start("b");
  if (fleet.Next() != "b epoch 2 rate 300") return false;
  std::puts("b is back, at epoch 2");

  // All are killed and the shared memory is gone, as after a power cut. The journal is not.
  for (const char* name : {"a", "b", "c"}) fleet.End(name, SIGKILL);
  Require(epoch::Region::Unlink(where));
  for (const char* name : {"a", "b", "c"}) fleet.Start(name);
  if (!fleet.AllSay("epoch 2 rate 300")) return false;

  // On SIGTERM they leave: no slot stays taken.
  for (const char* name : {"a", "b", "c"}) {
    if (fleet.End(name, SIGTERM) != 0) return false;
    if (fleet.Next() != std::string(name) + " has left") return false;
  }
  std::puts("all have left");
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view verb = argc > 1 ? argv[1] : "";
  if (verb == "run" && argc == 5) return Run(argv[2], argv[3], argv[4]);
  if (verb == "set" && argc == 4) return Set(argv[2], argv[3]);
  if (verb == "demo" && argc == 2) return Demo() ? 0 : 1;
  std::fputs("usage: service run REGION JOURNAL NAME | set REGION RATE | demo\n", stderr);
  return 2;
}
