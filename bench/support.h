// What the benchmarks share: paired measurement, scratch regions, companion processes.
//
// The machines that this runs on are noisy, and change speed within a run. So a figure that is to
// be compared with another is measured in turns with it, burst by burst, and compared burst by
// burst.
#ifndef EPOCH_BENCH_SUPPORT_H_
#define EPOCH_BENCH_SUPPORT_H_

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "epoch/epoch.h"

namespace epoch::bench {

inline double NowNs() {
  return static_cast<double>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                 std::chrono::steady_clock::now().time_since_epoch())
                                 .count());
}

// The value below which `share` of the samples lie.
inline double Quantile(std::vector<double> samples, double share) {
  if (samples.empty()) return 0;
  const auto at = static_cast<std::ptrdiff_t>(share * static_cast<double>(samples.size() - 1));
  std::nth_element(samples.begin(), samples.begin() + at, samples.end());
  return samples[static_cast<std::size_t>(at)];
}
inline double Median(std::vector<double> samples) { return Quantile(std::move(samples), 0.5); }

// Nanoseconds per call of `call`, over a burst of `count`. Not inlined, so that a burst is compiled
// alike wherever it is measured.
template <typename Call>
[[gnu::noinline]] double Burst(int count, Call&& call) {
  const double start = NowNs();
  for (int i = 0; i < count; ++i) call();
  return (NowNs() - start) / count;
}

inline void Require(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "epoch_bench: %s\n", status.ToString().c_str());
  std::abort();
}
template <typename T>
T Require(absl::StatusOr<T> result) {
  Require(result.status());
  return *std::move(result);
}

// A region that is removed again.
class ScratchRegion {
 public:
  explicit ScratchRegion(const RegionOptions& options = {})
      : name_("bench." + std::to_string(getpid())),
        region_(Require(Region::Create(name_, options))) {}
  ~ScratchRegion() { Region::Unlink(name_).IgnoreError(); }
  ScratchRegion(const ScratchRegion&) = delete;
  ScratchRegion& operator=(const ScratchRegion&) = delete;

  const std::string& name() const { return name_; }
  Region& region() { return region_; }
  Participant Join(const std::string& name) {
    return Require(Participant::Join(region_, {.name = name}));
  }

 private:
  const std::string name_;
  Region region_;
};

// A process beside this one that joins `name` and runs `body(participant)` until it is killed.
class Companion {
 public:
  template <typename Body>
  Companion(const std::string& name, Body&& body) {
    int ready[2];
    if (pipe(ready) != 0) std::abort();
    const pid_t parent = getpid();
    pid_ = fork();
    if (pid_ < 0) std::abort();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(1);
      Region region = Require(Region::Open(name));
      Participant self = Require(Participant::Join(region, {.name = "companion"}));
      if (write(ready[1], "r", 1) != 1) _exit(1);
      body(self);
      _exit(0);
    }
    close(ready[1]);
    char byte = 0;
    if (read(ready[0], &byte, 1) != 1) std::abort();
    close(ready[0]);
  }
  ~Companion() { Stop(); }
  Companion(const Companion&) = delete;
  Companion& operator=(const Companion&) = delete;

  // Kills it. Returns the CPU time that it has used in its life, seconds.
  double Stop() {
    if (pid_ <= 0) return 0;
    kill(pid_, SIGKILL);
    struct rusage usage {};
    wait4(std::exchange(pid_, -1), nullptr, 0, &usage);
    const auto seconds = [](const timeval& t) {
      return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
  }

 private:
  pid_t pid_ = -1;
};

}  // namespace epoch::bench

#endif  // EPOCH_BENCH_SUPPORT_H_
