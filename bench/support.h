// What the benchmarks share: paired measurement, scratch regions, companion processes.
//
// The machines that this runs on are noisy, and change speed within a run. So a figure that is to
// be compared with another is measured in turns with it, burst by burst, and compared burst by
// burst.
#ifndef EPOCH_BENCH_SUPPORT_H_
#define EPOCH_BENCH_SUPPORT_H_

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <new>
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

// Keeps this thread on the `nth` CPU (from 0) of those that this process may use. Aborts if there
// is none: what is measured between two CPUs means nothing on one.
inline void StayOnCpu(int nth) {
  static const cpu_set_t allowed = [] {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) std::abort();
    return set;
  }();
  for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || nth-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0) std::abort();
    return;
  }
  std::fprintf(stderr, "epoch_bench: this needs another CPU\n");
  std::abort();
}

// A T on a page that this process shares with those that it forks.
template <typename T>
class SharedPage {
 public:
  SharedPage()
      : page_(mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {
    if (page_ == MAP_FAILED) std::abort();
    value_ = ::new (page_) T();
  }
  ~SharedPage() { munmap(page_, sizeof(T)); }
  SharedPage(const SharedPage&) = delete;
  SharedPage& operator=(const SharedPage&) = delete;

  T* operator->() const { return value_; }
  T& operator*() const { return *value_; }

 private:
  void* page_;
  T* value_ = nullptr;
};

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
  Companion(const std::string& name, Body&& body,
            const JoinOptions& options = {.name = "companion"}) {
    int ready[2];
    if (pipe(ready) != 0) std::abort();
    const pid_t parent = getpid();
    pid_ = fork();
    if (pid_ < 0) std::abort();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(1);
      Region region = Require(Region::Open(name));
      Participant self = Require(Participant::Join(region, options));
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

  pid_t pid() const { return pid_; }

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
