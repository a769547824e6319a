// Many processes that each commit 64 bytes and wait for it, again and again. How many commits they
// get done together, and how long one of them takes, against one process alone in the same round.
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <random>

#include "bench/commit_parts.h"

namespace epoch::bench {
namespace {

constexpr int kMostProcesses = 64;
constexpr int kProcesses[] = {1, 2, 4, 8, 16, 32, 64};
constexpr double kBurstNs = 100e6;
constexpr std::size_t kMostSamples = 20'000;  // of one process in one burst

std::string Name(int processes) { return "group." + std::to_string(processes); }

struct Shared {
  double begin_ns = 0, end_ns = 0;
  std::array<std::atomic<std::size_t>, kMostProcesses> counts{};
  std::array<std::array<double, kMostSamples>, kMostProcesses> samples;
};

class GroupPart final : public Part {
 public:
  explicit GroupPart(const Places& places) {
    RegionOptions options;
    options.state_bytes = 64;
    options.participants = kMostProcesses + 1;
    options.versions = 256;
    options.retain_segments = 2;
    region_ = std::make_unique<DurableRegion>(places, "group", options);
    if (pipe(done_) != 0) std::abort();
    for (int i = 0; i < kMostProcesses; ++i) {
      int go[2];
      if (pipe(go) != 0) std::abort();
      pids_.push_back(ForkHelper([&, i] {
        close(go[1]);
        Work(i, go[0]);
      }));
      close(go[0]);
      go_.push_back(go[1]);
      AwaitDone(1);
    }
  }
  ~GroupPart() override {
    for (const pid_t pid : pids_) KillHelper(pid);
  }

  void Round(Samples& samples) override {
    std::vector<int> order(std::begin(kProcesses), std::end(kProcesses));
    std::shuffle(order.begin(), order.end(), random_);
    for (const int processes : order) Burst(processes, samples);
  }

 private:
  void Work(int me, int go) {
    const Region region = Require(Region::Open(region_->path()));
    Participant self = Require(Participant::Join(region, {.name = "committer"}));
    std::vector<std::byte> content(64, static_cast<std::byte>(me));
    Require(self.Commit(content).status());
    Done();
    for (char byte = 0; read(go, &byte, 1) == 1;) {
      const auto begin = static_cast<long>(shared_->begin_ns);
      const timespec when{.tv_sec = begin / 1'000'000'000, .tv_nsec = begin % 1'000'000'000};
      clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, nullptr);
      std::size_t count = 0;
      for (double now = NowNs(); now < shared_->end_ns && count < kMostSamples;) {
        Require(self.Commit(content).status());
        const double then = std::exchange(now, NowNs());
        shared_->samples[static_cast<std::size_t>(me)][count++] = now - then;
      }
      shared_->counts[static_cast<std::size_t>(me)] = count;
      Done();
    }
  }

  void Burst(int processes, Samples& samples) {
    shared_->begin_ns = NowNs() + 5e6;  // all are awake by then
    shared_->end_ns = shared_->begin_ns + kBurstNs;
    for (int i = 0; i < processes; ++i) {
      if (write(go_[static_cast<std::size_t>(i)], "g", 1) != 1) std::abort();
    }
    AwaitDone(processes);
    const double end_ns = NowNs();
    std::vector<double>& taken = samples[Name(processes)];
    for (std::size_t i = 0; i < static_cast<std::size_t>(processes); ++i) {
      const auto* from = shared_->samples[i].data();
      taken.insert(taken.end(), from, from + shared_->counts[i]);
    }
    const auto commits = static_cast<double>(taken.size());
    samples[Name(processes) + ".per_s"] = {commits / (end_ns - shared_->begin_ns) * 1e9};
  }

  void Done() {
    if (write(done_[1], "d", 1) != 1) std::abort();
  }
  void AwaitDone(int count) {
    for (char byte = 0; count > 0; --count) {
      if (read(done_[0], &byte, 1) != 1) std::abort();
    }
  }

  SharedPage<Shared> shared_;
  std::mt19937_64 random_{1};
  std::unique_ptr<DurableRegion> region_;
  int done_[2] = {-1, -1};
  std::vector<int> go_;
  std::vector<pid_t> pids_;
};

}  // namespace

std::unique_ptr<Part> MakeGroupPart(const Places& places) {
  return std::make_unique<GroupPart>(places);
}

std::vector<Line> GroupLines(const Results& results) {
  std::vector<Line> lines;
  if (!results.Has(Name(1))) return lines;
  for (const int processes : kProcesses) {
    const std::string name = Name(processes);
    const std::string count = std::to_string(processes);
    lines.push_back({name + ".per_s",
                     count + (processes == 1 ? " process" : " processes") + ", blocking, 64 B",
                     results.OfRounds(name + ".per_s"),
                     "/s",
                     {},
                     ""});
    lines.push_back({name + ".median", "  a commit", results.OfRounds(name, 1e-3), "us", {}, ""});
    lines.push_back({name + ".p99", "  p99", results.OfAll(name, 0.99, 1e-3), "us", {}, ""});
    if (processes == 1) continue;
    const bool counts = processes == 32;
    lines.push_back({name + ".rate_ratio", "  commits, to one process's",
                     results.RatioOfRounds(name + ".per_s", Name(1) + ".per_s"), "x",
                     counts ? std::optional(Target{Target::Kind::kAtLeast, 7}) : std::nullopt, ""});
    lines.push_back({name + ".p99_ratio", "  p99 to the median of one process",
                     results.RatioOfAll(name, 0.99, Name(1), 0.5), "x",
                     counts ? std::optional(Target{Target::Kind::kAtMost, 4}) : std::nullopt, ""});
  }
  return lines;
}

}  // namespace epoch::bench
