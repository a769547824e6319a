#include "stress/round.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "epoch/epoch.h"
#include "epoch/journal.h"
#include "stress/audit.h"
#include "stress/content.h"
#include "stress/signals.h"

namespace epoch::stress {
namespace {

constexpr std::int64_t kMillisecond = 1'000'000;
constexpr std::int64_t kPatience = 12'000 * kMillisecond;  // longer than any timeout of Epoch's own

// Few versions and few slots for what the processes want: cells are recycled all the time, and some
// calls find nothing left.
RegionOptions RandomGeometry(Random& random, unsigned processes) {
  RegionOptions options;
  constexpr std::uint64_t kSizes[] = {64, 200, 1000, 4096, 20'000};
  options.state_bytes = kSizes[random.Below(std::size(kSizes))];
  options.participants = static_cast<std::uint32_t>(random.OneIn(4) ? std::max(2u, processes - 2)
                                                                    : processes + random.Below(4));
  options.versions = static_cast<std::uint32_t>(
      random.OneIn(2) ? random.Between(4, 7) : random.Between(processes + 2, 3 * processes));
  return options;
}

}  // namespace

Round::Round(Plan plan, std::uint64_t seed, Crew::Tally& tally, std::function<void()> progress)
    : plan_(std::move(plan)), random_(seed), tally_(tally), progress_(std::move(progress)) {
  spec_.region = plan_.region;
  spec_.seed = random_.Next() >> 32;
  spec_.crowded = plan_.voted;
  // Votes slow down everything else, so that what is plain is hardly ever tried hard: in turn.
  spec_.asked_percent = plan_.voted ? 94 : random_.OneIn(2) ? 45 : 8;
  spec_.options = RandomGeometry(random_, plan_.processes);
  // All are drafting while they wait for a vote.
  if (plan_.voted) spec_.options.versions += plan_.processes;
  if (plan_.journal.empty()) return;
  spec_.options.journal = plan_.journal;
  spec_.options.state_bytes = std::min<std::uint64_t>(spec_.options.state_bytes, 4096);
  spec_.options.history = random_.OneIn(2) ? History::kAll : History::kLatest;
  // Small files, hardly larger than one batch may be, so that there are many; not all kept.
  spec_.options.segment_bytes = random_.Between(1152, 2048) << 10;
  spec_.options.retain_segments = 2;
}

bool Round::Play(Verdict& verdict) {
  std::filesystem::create_directories(plan_.directory);
  spec_.Save(plan_.directory);
  {
    LogWriter log(LogPath(plan_.directory, 0));
    Crew crew(plan_.directory, plan_.programs, plan_.planted, log, random_, tally_);
    for (unsigned i = 0; i < plan_.processes; ++i) crew.Start();
    if (!Disturbances(crew, log)) return false;
    crew.EndAll(kPatience);
    if (Interruption() != 0) return false;
    crew.Start(/*to_finish=*/true);
    while (crew.size() != 0 && AwaitSignal(seam::MonotonicNanos() + 20 * kMillisecond)) {
      crew.Tend();
      if (seam::MonotonicNanos() > plan_.until_ns + 3 * kPatience / 2) crew.EndAll(0);
    }
    if (Interruption() != 0) return false;
    crew.KillAll();
    Audit(spec_, /*quiet=*/true, log);
  }
  Region::Unlink(plan_.region).IgnoreError();
  return Judge(verdict);
}

bool Round::Disturbances(Crew& crew, LogWriter& log) {
  std::int64_t now = seam::MonotonicNanos();
  std::int64_t next_signal = now;
  std::int64_t next_massacre =
      now + static_cast<std::int64_t>(random_.Between(300, 1500)) * kMillisecond;
  // Each signal to a voter may hold up all until a deadline: fewer, so that votes get through.
  const std::uint64_t most_us = plan_.voted ? 150'000 : 25'000;
  while (now < plan_.until_ns) {
    if (!AwaitSignal(std::min({plan_.until_ns, next_signal, next_massacre, crew.NextResume()}))) {
      return false;
    }
    crew.Tend();
    while (crew.size() < plan_.processes) crew.Start();
    now = seam::MonotonicNanos();
    if (now >= next_signal) {
      crew.Disturb();
      next_signal = now + static_cast<std::int64_t>(random_.Between(100, most_us)) * 1000;
    }
    if (now >= next_massacre) {
      KillEverybody(crew, log);
      now = seam::MonotonicNanos();
      next_massacre = now + static_cast<std::int64_t>(random_.Between(300, 2000)) * kMillisecond;
    }
    progress_();
  }
  return true;
}

void Round::KillEverybody(Crew& crew, LogWriter& log) {
  crew.KillAll();
  const bool lost = !plan_.journal.empty() && !random_.OneIn(4);
  // The auditor decides what is up for a vote: sometimes the region is lost before that.
  if (!lost || random_.OneIn(2)) Audit(spec_, /*quiet=*/false, log);
  if (lost) Restore(crew, log);
}

void Round::Restore(Crew& crew, LogWriter& log) {
  Region::Unlink(plan_.region).IgnoreError();
  if (random_.OneIn(2)) {  // by whichever process comes first
    for (unsigned i = 0; i < plan_.processes; ++i) crew.Start();
    return;
  }
  const absl::StatusOr<Region> region = Region::OpenOrCreate(plan_.region, spec_.options);
  const absl::StatusOr<Snapshot> snapshot =
      region.ok() ? region->Read() : absl::StatusOr<Snapshot>(region.status());
  if (!snapshot.ok()) {
    std::fprintf(stderr, "restore: %s\n", snapshot.status().ToString().c_str());
    log.Append({.kind = Kind::kAuditFailed,
                .code = static_cast<std::uint16_t>(AuditFailure::kNotRestored)});
    return;
  }
  Record record = Describe(Kind::kRestored, snapshot->state);
  record.epoch = snapshot->epoch;
  log.Append(record);
}

// Runs the checker on the logs, and takes its last line apart.
bool Round::Judge(Verdict& verdict) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw std::system_error(errno, std::system_category(), "pipe2");
  std::fflush(stdout);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) throw std::system_error(errno, std::system_category(), "fork");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(4);
    UnblockSignals();
    dup2(ends[1], STDOUT_FILENO);
    execl(plan_.checker.c_str(), plan_.checker.c_str(), plan_.directory.c_str(), nullptr);
    _exit(5);
  }
  close(ends[1]);
  FILE* const out = fdopen(ends[0], "r");
  Verdict found;
  bool summed_up = false;
  char line[4096];
  while (std::fgets(line, sizeof line, out) != nullptr) {
    summed_up = std::sscanf(line,
                            "history: operations=%lu transitions=%lu voted=%lu longest_ms=%lf "
                            "violations=%lu",
                            &found.operations, &found.transitions, &found.voted, &found.longest_ms,
                            &found.violations) == 5;
    if (!summed_up) std::fputs(line, stdout);
  }
  std::fclose(out);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!summed_up || (status != 0) != (found.violations != 0)) {
    std::printf("violation: the checker itself failed (wait status %d)\n", status);
    found.violations = std::max<std::uint64_t>(found.violations, 1);
  }
  verdict.operations += found.operations;
  verdict.transitions += found.transitions;
  verdict.voted += found.voted;
  verdict.violations += found.violations;
  verdict.longest_ms = std::max(verdict.longest_ms, found.longest_ms);
  return true;
}

}  // namespace epoch::stress
