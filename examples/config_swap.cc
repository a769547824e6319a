// A configuration that workers switch to together. Each of them reads a proposed one before it
// counts, and may refuse it; what all accept is adopted by all, and nobody works under the old one
// any more when the first works under the new one.
//
//   config_swap          starts three workers, proposes a few configurations, shows what becomes
//                        of them
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "epoch/epoch.h"

namespace {

constexpr int kWorkers = 3;

// What a worker reports when it has switched.
struct Report {
  int worker;
  epoch::Epoch epoch;
  int port;
};

[[noreturn]] void Fail(const absl::Status& status) {
  std::fprintf(stderr, "config_swap: %s\n", status.ToString().c_str());
  std::exit(1);
}
template <typename T>
T Require(absl::StatusOr<T> result) {
  if (!result.ok()) Fail(result.status());
  return *std::move(result);
}

// The validator: runs in every worker, on the proposal where it lies.
epoch::Answer Judge(const epoch::Proposal& proposal) {
  const auto config = nlohmann::json::parse(proposal.text(), nullptr, /*allow_exceptions=*/false);
  if (config.is_discarded()) return epoch::Answer::Reject("this is not JSON");
  const auto port = config.find("port");
  if (port == config.end()) return epoch::Answer::Reject("\"port\" is missing");
  if (!port->is_number_integer() || *port < 1 || *port > 65535) {
    return epoch::Answer::Reject("\"port\" is no port: " + port->dump());
  }
  return epoch::Answer::Accept();
}

// A process of its own: opens the region by its name, as any program would.
[[noreturn]] void Work(const std::string& name, int worker, int reports) {
  const epoch::Region region = Require(epoch::Region::Open(name));
  const std::string as = "worker " + std::to_string(worker);
  auto self = Require(epoch::Participant::Join(region, {.name = as, .voter = true}));
  self.SetValidator(Judge);
  Report report{.worker = worker, .epoch = 0, .port = 0};
  for (;;) {
    if (write(reports, &report, sizeof report) != sizeof report) std::exit(1);
    // Answers votes while it waits.
    Require(self.Await(report.epoch + 1, epoch::Stage::kCommitted));
    const epoch::Pin pin = self.Pin();
    report.epoch = pin.epoch();
    report.port = nlohmann::json::parse(pin.text())["port"];
  }
}

class Workers {
 public:
  explicit Workers(const std::string& name) : name_(name) {
    int ends[2];
    if (pipe(ends) != 0) std::abort();
    const pid_t parent = getpid();
    for (int worker = 0; worker < kWorkers; ++worker) {
      const pid_t pid = fork();
      if (pid < 0) std::abort();
      if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(1);
        close(ends[0]);
        Work(name, worker, ends[1]);
      }
      pids_.push_back(pid);
    }
    close(ends[1]);
    reports_ = ends[0];
  }
  ~Workers() {
    for (const pid_t pid : pids_) kill(pid, SIGKILL);
    for (const pid_t pid : pids_) waitpid(pid, nullptr, 0);
    epoch::Region::Unlink(name_).IgnoreError();
  }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Whether each of them reports exactly this.
  bool AllReport(epoch::Epoch epoch, int port) {
    for (int i = 0; i < kWorkers; ++i) {
      Report report{};
      if (read(reports_, &report, sizeof report) != sizeof report) return false;
      if (report.epoch != epoch || report.port != port) return false;
    }
    return true;
  }

 private:
  const std::string name_;
  std::vector<pid_t> pids_;
  int reports_ = -1;
};

}  // namespace

int main() {
  const std::string name = "config_swap." + std::to_string(getpid());
  const epoch::Region region = Require(epoch::Region::Create(name));
  Workers workers(name);
  if (!workers.AllReport(0, 0)) return 1;  // all are in
  auto self = Require(epoch::Participant::Join(region, {.name = "operator"}));
  const epoch::CommitOptions together = {
      .agreement = epoch::Agreement::kAllVoters, .fence = true, .timeout = absl::Minutes(5)};
  int good = 0, refused = 0;
  for (const char* proposed : {R"({"port": 8080})", R"({"port": 808)", R"({"prt": 8081})",
                               R"({"port": 80808})", R"({"port": 8081})"}) {
    const absl::StatusOr<epoch::Epoch> epoch = self.Commit(proposed, together);
    if (absl::IsAborted(epoch.status())) {
      ++refused;
      std::printf("%-15s refused: %s\n", proposed, std::string(epoch.status().message()).c_str());
      continue;
    }
    Require(self.Await(Require(epoch), epoch::Stage::kConverged, absl::Minutes(5)));
    const int port = nlohmann::json::parse(proposed)["port"];
    if (!workers.AllReport(*epoch, port)) return 1;
    ++good;
    std::printf("%-15s adopted: epoch %d, all %d workers use port %d\n", proposed,
                static_cast<int>(*epoch), kWorkers, port);
  }
  std::printf("%d adopted, %d refused; the region is at epoch %d\n", good, refused,
              static_cast<int>(region.epoch()));
  return good == 2 && refused == 3 && region.epoch() == 2 ? 0 : 1;
}
