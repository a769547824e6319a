#include "stress/crew.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <iterator>
#include <system_error>
#include <utility>

#include "epoch/detail/platform/seam.h"
#include "stress/signals.h"

namespace epoch::stress {

Crew::Crew(std::string directory, std::vector<std::string> programs, std::string planted,
           LogWriter& log, Random& random, Tally& tally)
    : directory_(std::move(directory)),
      programs_(std::move(programs)),
      planted_(std::move(planted)),
      log_(log),
      random_(random),
      tally_(tally) {
  // What a killed one had forked is this process's to wait for: it may have taken a slot, too.
  prctl(PR_SET_CHILD_SUBREAPER, 1);
}

Crew::~Crew() { KillAll(); }

void Crew::Start(bool to_finish) {
  const std::uint32_t serial = ++serials_;
  const std::string& program = programs_[random_.Below(programs_.size())];
  const std::string number = std::to_string(serial);
  const std::string words = directory_ + "/words.txt";
  const char* const argv[] = {program.c_str(),
                              directory_.c_str(),
                              number.c_str(),
                              to_finish ? "finish" : "live",
                              planted_.empty() ? nullptr : planted_.c_str(),
                              nullptr};
  Log(Kind::kStarted, serial);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) throw std::system_error(errno, std::system_category(), "fork");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(4);
    UnblockSignalsButTerm();
    const int file = open(words.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    dup2(file, STDERR_FILENO);
    dup2(file, STDOUT_FILENO);
    execv(program.c_str(), const_cast<char* const*>(argv));
    _exit(5);
  }
  members_.emplace(pid, Member{.serial = serial});
}

void Crew::Log(Kind kind, std::uint32_t serial, std::uint64_t detail) {
  log_.Append({.kind = kind, .detail = detail, .slot = serial});
}

void Crew::Kill(pid_t pid, Member& member) {
  if (std::exchange(member.killed, true)) return;
  Log(Kind::kKilled, member.serial);
  kill(pid, SIGKILL);
  ++tally_.kills;
}

void Crew::MarkStopped(Member& member) {
  // Most for as long as a busy machine would take, some for much longer.
  const std::uint64_t how = random_.Below(100);
  const std::uint64_t micros = how < 85   ? random_.Between(200, 10'000)
                               : how < 98 ? random_.Between(10'000, 100'000)
                                          : random_.Between(100'000, 2'500'000);
  Log(Kind::kStopped, member.serial);
  member.resume_at_ns = seam::MonotonicNanos() + static_cast<std::int64_t>(micros) * 1000;
  ++tally_.stops;
}

void Crew::Resume(pid_t pid, Member& member) {
  member.resume_at_ns = 0;
  kill(pid, SIGCONT);
  Log(Kind::kResumed, member.serial);
}

void Crew::Disturb() {
  if (members_.empty()) return;
  auto& [pid, member] =
      *std::next(members_.begin(), static_cast<std::ptrdiff_t>(random_.Below(members_.size())));
  if (member.killed) return;
  if (random_.OneIn(3)) return Kill(pid, member);
  const auto stopped = std::ranges::count_if(
      members_, [](const auto& entry) { return entry.second.resume_at_ns != 0; });
  if (member.resume_at_ns != 0 || static_cast<std::size_t>(stopped) + 2 > members_.size()) return;
  MarkStopped(member);
  kill(pid, SIGSTOP);
}

std::int64_t Crew::NextResume() const {
  std::int64_t next = INT64_MAX;
  for (const auto& [pid, member] : members_) {
    if (member.resume_at_ns != 0) next = std::min(next, member.resume_at_ns);
  }
  return next;
}

void Crew::Tend() {
  Collect(false);
  const std::int64_t now = seam::MonotonicNanos();
  for (auto& [pid, member] : members_) {
    if (member.resume_at_ns != 0 && member.resume_at_ns <= now) Resume(pid, member);
  }
}

// `wait`: until no child is left.
void Crew::Collect(bool wait) {
  for (;;) {
    int status = 0;
    const pid_t pid = waitpid(-1, &status, WUNTRACED | (wait ? 0 : WNOHANG));
    if (pid < 0 && errno == EINTR) continue;
    if (pid <= 0) return;
    const auto found = members_.find(pid);
    if (found == members_.end()) continue;
    Member& member = found->second;
    if (WIFSTOPPED(status)) {
      if (!member.killed && member.resume_at_ns == 0) MarkStopped(member);  // by itself
    } else {
      // Killed itself: it has logged that it would.
      if (WIFSIGNALED(status) && !member.killed) ++tally_.kills;
      Log(Kind::kExited, member.serial, static_cast<std::uint64_t>(status));
      members_.erase(found);
    }
  }
}

void Crew::KillAll() {
  for (auto& [pid, member] : members_) Kill(pid, member);
  Collect(true);
}

void Crew::EndAll(std::int64_t patience_ns) {
  const std::int64_t deadline = seam::MonotonicNanos() + patience_ns;
  for (auto& [pid, member] : members_) kill(pid, SIGTERM);
  for (;;) {
    Collect(false);
    // Whoever has stopped itself meanwhile is resumed at once.
    for (auto& [pid, member] : members_) {
      if (member.resume_at_ns != 0) Resume(pid, member);
    }
    const std::int64_t now = seam::MonotonicNanos();
    if (members_.empty() || now >= deadline || !AwaitSignal(std::min(deadline, now + 50'000'000))) {
      break;
    }
  }
  for (auto& [pid, member] : members_) {
    if (seam::MonotonicNanos() >= deadline) Log(Kind::kHung, member.serial);
    kill(pid, SIGKILL);
  }
  Collect(true);
}

}  // namespace epoch::stress
