#include "tools/epochctl/demo_crew.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "epoch/detail/platform/check.h"
#include "epoch/detail/platform/seam.h"
#include "tools/epochctl/process.h"

namespace epoch::ctl::demo {
namespace {

volatile sig_atomic_t interrupted_by = 0;
struct sigaction previous_int, previous_term;

}  // namespace

Interruptible::Interruptible() {
  sigaction(SIGINT, nullptr, &previous_int);
  sigaction(SIGTERM, nullptr, &previous_term);
  HandleEndingSignals([](int signal) { interrupted_by = signal; });
}
Interruptible::~Interruptible() {
  sigaction(SIGINT, &previous_int, nullptr);
  sigaction(SIGTERM, &previous_term, nullptr);
}
bool Interruptible::interrupted() { return interrupted_by != 0; }

Crew::Crew(AgentJob job, std::uint64_t seed, Progress progress)
    : job_(std::move(job)),
      random_(static_cast<std::minstd_rand::result_type>(seed)),
      progress_(std::move(progress)),
      agents_(job_.agents) {}

Crew::~Crew() { KillAll(); }

absl::Status Crew::Start(std::uint32_t index) {
  const std::vector<std::string> arguments = {"epochctl",       "demo",
                                              "--agent-index",  absl::StrCat(index),
                                              "--agents",       absl::StrCat(job_.agents),
                                              "--input",        job_.input,
                                              "--chunk-bytes",  absl::StrCat(job_.chunk_bytes),
                                              "--agent-region", job_.region,
                                              "--agent-file",   job_.naive_file,
                                              "--report-fd",    absl::StrCat(reports_in_.get())};
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return detail::ErrnoStatus(errno, "cannot start an agent");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // no agent outlives the demo
    if (getppid() != parent) _exit(1);
    fcntl(reports_in_.get(), F_SETFD, 0);
    RestoreInherited();
    execv("/proc/self/exe", argv.data());
    _exit(127);
  }
  agents_[index].pid = pid;
  agents_[index].ended = detail::Fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  return absl::OkStatus();  // without pidfd_open (seccomp) Run looks now and then
}

void Crew::ReadReports(Tally& tally) {
  Report reports[256];
  for (;;) {
    const ssize_t got = read(reports_.get(), reports, sizeof reports);
    if (got <= 0) return;  // EAGAIN: all read
    for (std::size_t i = 0; i < static_cast<std::size_t>(got) / sizeof(Report); ++i) {
      if (reports[i].kind == ReportKind::kTornRead) {
        ++tally.torn_reads;
        continue;
      }
      ++tally.acknowledged;
      tally.chunks.insert(reports[i].chunk);
      tally.latency_ns.push_back(reports[i].latency_ns);
    }
    progress_(tally);
  }
}

void Crew::KillOne(Tally& tally) {
  std::vector<std::uint32_t> alive;
  for (std::uint32_t i = 0; i < agents_.size(); ++i) {
    if (agents_[i].pid != 0 && killed_.count(i) == 0) alive.push_back(i);
  }
  if (alive.empty()) return;
  const std::uint32_t victim = alive[random_() % alive.size()];
  // Somewhere in the middle of what it is doing now, not right after a report.
  const std::int64_t until_ns =
      seam::MonotonicNanos() + static_cast<std::int64_t>(random_() % 400'000);
  while (seam::MonotonicNanos() < until_ns) seam::CpuRelax();
  kill(agents_[victim].pid, SIGKILL);
  killed_.insert(victim);
  ++tally.kills;
}

void Crew::KillAll() {
  for (Agent& agent : agents_) {
    if (agent.pid != 0) kill(agent.pid, SIGKILL);
  }
  for (Agent& agent : agents_) {
    if (agent.pid != 0) static_cast<void>(AwaitChild(agent.pid));
    agent = {};
  }
  killed_.clear();
}

absl::Status Crew::Reap(std::uint32_t index) {
  const std::optional<int> status = AwaitChild(agents_[index].pid);
  agents_[index] = {};
  const bool killed = status.has_value() && WIFSIGNALED(*status);
  if (killed_.erase(index) != 0 && killed) return Start(index);
  const ChildEnd ended = EndOf(status);
  if (ended.succeeded) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("agent ", index, " failed: ", ended.how));
}

absl::Status Crew::Run(std::vector<std::uint64_t> kill_at, std::uint64_t stop_at, Tally& tally) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return detail::ErrnoStatus(errno, "pipe");
  reports_ = detail::Fd(ends[0]);
  reports_in_ = detail::Fd(ends[1]);
  fcntl(reports_.get(), F_SETFL, O_NONBLOCK);
  for (std::uint32_t i = 0; i < job_.agents; ++i) {
    if (absl::Status s = Start(i); !s.ok()) return s;
  }
  std::size_t next_kill = 0;
  for (;;) {
    std::vector<pollfd> waiting = {{reports_.get(), POLLIN, 0}};
    std::vector<std::uint32_t> who;
    int look_again_ms = -1;
    for (std::uint32_t i = 0; i < agents_.size(); ++i) {
      if (agents_[i].pid == 0) continue;
      waiting.push_back({agents_[i].ended.get(), POLLIN, 0});
      who.push_back(i);
      if (!agents_[i].ended.ok()) look_again_ms = 5;
    }
    if (who.empty()) break;
    const int ready = poll(waiting.data(), waiting.size(), look_again_ms);
    if (Interruptible::interrupted()) return absl::CancelledError("interrupted");
    if (ready < 0) continue;
    ReadReports(tally);
    if (stop_at != 0 && tally.acknowledged >= stop_at) {
      KillAll();
      break;
    }
    while (next_kill < kill_at.size() && tally.acknowledged >= kill_at[next_kill]) {
      ++next_kill;
      KillOne(tally);
    }
    for (std::size_t i = 0; i < who.size(); ++i) {
      if ((waiting[i + 1].revents & POLLIN) == 0 &&
          (agents_[who[i]].ended.ok() || !ChildHasEnded(agents_[who[i]].pid))) {
        continue;
      }
      if (absl::Status s = Reap(who[i]); !s.ok()) return s;
    }
  }
  ReadReports(tally);
  return absl::OkStatus();
}

}  // namespace epoch::ctl::demo
