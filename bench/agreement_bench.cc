// What agreement costs: voted and fenced commits, takeover after a death, the scan for stragglers.
//
// The proposer is on one CPU, the others are on another. Beside each figure the same run measures
// what the machine itself takes: a cache line that goes to the other CPU and back, or a futex
// wake-up and its answer. A "trip" is one of those.
#include <benchmark/benchmark.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "bench/support.h"

namespace epoch::bench {
namespace {

constexpr std::size_t kStateBytes = 64;

std::vector<std::byte> Content() { return std::vector<std::byte>(kStateBytes, std::byte{7}); }

CommitOptions Voted(bool fence = false) {
  return {.agreement = Agreement::kAllVoters, .min_voters = 0, .fence = fence};
}

// --- a voter that spins --------------------------------------------------------------------------

enum Mode : std::uint32_t { kNone, kVotes, kEchoes };

// What the two CPUs pass to and fro.
struct Table {
  alignas(128) std::atomic<std::uint32_t> wanted{kNone};
  alignas(128) std::atomic<std::uint32_t> found{kNone};
  alignas(128) std::atomic<std::uint64_t> word{0};  // odd: it is the companion's turn

  void SwitchTo(Mode mode) {
    wanted.store(mode);
    while (found.load() != mode) seam::CpuRelax();
  }
  // One line, there and back.
  void Trip() {
    const std::uint64_t mine = word.load(std::memory_order_relaxed);
    word.store(mine + 1, std::memory_order_release);
    while (word.load(std::memory_order_acquire) != mine + 2) {
    }
  }
  void EchoOnce() {
    const std::uint64_t now = word.load(std::memory_order_acquire);
    if ((now & 1) != 0) word.store(now + 1, std::memory_order_release);
  }
};

class SpinningVoter {
 public:
  explicit SpinningVoter(const std::string& region)
      : voter_(region,
               [&](Participant& self) {
                 StayOnCpu(1);
                 for (;;) {
                   const std::uint32_t mode = table_->wanted.load();
                   table_->found.store(mode);
                   while (mode == kVotes && table_->wanted.load() == mode) Require(self.Poll());
                   while (mode == kEchoes && table_->wanted.load() == mode) table_->EchoOnce();
                 }
               },
               {.name = "voter", .voter = true}) {}

  // Nanoseconds of a trip, and then of each of `calls`; all in turns.
  double MeasureTrip(int count) {
    table_->SwitchTo(kEchoes);
    const double ns = Burst(count, [&] { table_->Trip(); });
    table_->SwitchTo(kVotes);
    return ns;
  }

 private:
  SharedPage<Table> table_;
  Companion voter_;
};

constexpr int kBurst = 200;

// Published without asking, with a voter that only looks on; voted; voted and fenced.
void VotedCommit(benchmark::State& state) {
  StayOnCpu(0);
  ScratchRegion scratch;
  Participant self = scratch.Join("bench");
  SpinningVoter voter(scratch.name());
  const std::vector<std::byte> content = Content();
  std::vector<double> trip, plain, voted, fenced, ratio, added;
  for (auto _ : state) {
    trip.push_back(voter.MeasureTrip(10 * kBurst));
    plain.push_back(Burst(kBurst, [&] { Require(self.Commit(content)); }));
    voted.push_back(Burst(kBurst, [&] { Require(self.Commit(content, Voted())); }));
    fenced.push_back(Burst(kBurst, [&] { Require(self.Commit(content, Voted(true))); }));
    ratio.push_back(voted.back() / trip.back());
    added.push_back((fenced.back() - voted.back()) / trip.back());
    state.SetIterationTime(1e-9 * voted.back());
  }
  state.counters["trip_ns"] = Median(trip);
  state.counters["plain_ns"] = Median(plain);
  state.counters["ns"] = Median(voted);
  state.counters["fenced_ns"] = Median(fenced);
  state.counters["trips"] = Median(ratio);
  state.counters["fence_adds_trips"] = Median(added);
}
BENCHMARK(VotedCommit)->Iterations(201)->UseManualTime();

// --- voters that sleep ---------------------------------------------------------------------------

struct Sleepers {
  alignas(128) seam::Atomic<std::uint32_t> call;    // counts calls; they sleep on it
  alignas(128) seam::Atomic<std::uint32_t> answer;  // counts answers; the caller sleeps on it
};

// A bare futex round trip to all of `count`: woken at once, they answer each with a wake-up.
void CallAll(Sleepers& sleepers, std::uint32_t count) {
  const std::uint32_t until = sleepers.answer.Load() + count;
  sleepers.call.FetchAdd(1);
  seam::FutexWakeAll(&sleepers.call);
  for (std::uint32_t now = sleepers.answer.Load(); now != until; now = sleepers.answer.Load()) {
    seam::FutexWait(&sleepers.answer, now, 1'000'000'000);
  }
}

// Voters in processes of their own whose listeners sleep on the bell. The same processes answer the
// bare calls.
void SleepingVoters(benchmark::State& state) {
  StayOnCpu(0);
  const auto count = static_cast<std::uint32_t>(state.range(0));
  ScratchRegion scratch;
  Participant self = scratch.Join("bench");
  SharedPage<Sleepers> sleepers;
  std::vector<std::unique_ptr<Companion>> voters;
  for (std::uint32_t i = 0; i < count; ++i) {
    voters.push_back(std::make_unique<Companion>(
        scratch.name(),
        [&](Participant& voter) {
          StayOnCpu(1);
          const Listener listener = Require(voter.Listen());
          std::uint32_t seen = 0;
          for (;;) {
            seam::FutexWait(&sleepers->call, seen, 1'000'000'000);
            if (sleepers->call.Load() == seen) continue;
            ++seen;
            sleepers->answer.FetchAdd(1);
            seam::FutexWakeAll(&sleepers->answer);
          }
        },
        JoinOptions{.name = "voter", .voter = true}));
  }
  const std::vector<std::byte> content = Content();
  std::vector<double> call, voted, ratio;
  const auto asleep = [] { usleep(1'000); };  // all of them are, by then
  for (auto _ : state) {
    asleep();
    call.push_back(Burst(1, [&] { CallAll(*sleepers, count); }));
    asleep();
    voted.push_back(Burst(1, [&] { Require(self.Commit(content, Voted())); }));
    ratio.push_back(voted.back() / call.back());
    state.SetIterationTime(1e-9 * voted.back());
  }
  state.counters["futex_us"] = Median(call) / 1e3;
  state.counters["us"] = Median(voted) / 1e3;
  state.counters["p99_us"] = Quantile(voted, 0.99) / 1e3;
  state.counters["ratio"] = Median(ratio);
}
BENCHMARK(SleepingVoters)->ArgName("voters")->Arg(1)->Arg(4)->Iterations(401)->UseManualTime();

// --- takeover ------------------------------------------------------------------------------------

// The proposer is killed while its proposal is undecided; two listeners go on. How long from the
// kill to the decision. silent:0: the listeners' validators take a while, and their votes are all
// that is missing. silent:1: the proposer's process owes the vote of a second participant, so that
// its death has to be noticed first.
void Takeover(benchmark::State& state) {
  StayOnCpu(0);
  const bool silent = state.range(0) != 0;
  ScratchRegion scratch;
  std::vector<std::unique_ptr<Companion>> voters;
  for (int i = 0; i < 2; ++i) {
    voters.push_back(std::make_unique<Companion>(
        scratch.name(),
        [&](Participant& voter) {
          StayOnCpu(1);
          voter.SetValidator([&](const Proposal&) {
            if (!silent) seam::SleepFor(400'000);
            return Answer::Accept();
          });
          const Listener listener = Require(voter.Listen());
          for (;;) pause();
        },
        JoinOptions{.name = "voter", .voter = true}));
  }
  std::minstd_rand random(1);
  std::vector<double> taken_us;
  for (auto _ : state) {
    const Epoch before = scratch.region().epoch();
    const auto undecided = [&] {
      return detail::StateWord::Unpack(scratch.region().mapping()->view().control->tail.Load())
                 .phase == detail::Phase::kVoting;
    };
    Companion proposer(scratch.name(), [&](Participant& self) {
      StayOnCpu(1);
      const Participant second =
          Require(Participant::Join(scratch.region(), {.name = "silent", .voter = silent}));
      Require(self.Commit(Content(), Voted()));
      for (;;) pause();
    });
    while (!undecided() && scratch.region().epoch() == before) seam::CpuRelax();
    const double at = NowNs() + static_cast<double>(random() % 200'000);
    while (NowNs() < at) seam::CpuRelax();
    const bool in_time = undecided();
    const double start = NowNs();
    kill(proposer.pid(), SIGKILL);
    while (undecided()) seam::CpuRelax();
    const double us = (NowNs() - start) / 1e3;
    proposer.Stop();
    state.SetIterationTime(1e-6 * us);
    if (in_time) taken_us.push_back(us);
    if (scratch.region().epoch() != before + 1) std::abort();  // who is dead needs no consent
  }
  state.counters["p50_us"] = Median(taken_us);
  state.counters["p99_us"] = Quantile(taken_us, 0.99);
  state.counters["max_us"] = Quantile(taken_us, 1);
  state.counters["kills"] = static_cast<double>(taken_us.size());  // that came before the decision
}
BENCHMARK(Takeover)->ArgName("silent")->Arg(0)->Arg(1)->Iterations(301)->UseManualTime();

// --- who is behind -------------------------------------------------------------------------------

// `live` participants in a region of 4,096 slots, each with an open file description of its own, as
// processes have. Nobody behind: what each look of Await(kConverged) costs. All behind: the first
// straggler ends a look; Stragglers() describes them all.
void Scan(benchmark::State& state) {
  const auto live = static_cast<std::size_t>(state.range(0));
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  RegionOptions options;
  options.state_bytes = 64;
  options.participants = 4096;
  ScratchRegion scratch(options);
  std::vector<Participant> members;
  for (std::size_t i = 0; i + 1 < live; ++i) {
    const Region opened = Require(Region::Open(scratch.name()));
    members.push_back(Require(Participant::Join(opened, {.name = "member"})));
  }
  Participant self = scratch.Join("bench");
  std::vector<double> converged_ns, first_ns, all_ns;
  for (auto _ : state) {
    const Epoch epoch = Require(self.Commit(Content()));
    Require(self.Poll());
    first_ns.push_back(Burst(1, [&] {
      if (self.Await(epoch, Stage::kConverged, absl::ZeroDuration()).ok() && live > 1) std::abort();
    }));
    all_ns.push_back(Burst(1, [&] {
      if (scratch.region().Stragglers(epoch).size() != live - 1) std::abort();
    }));
    for (Participant& member : members) Require(member.Poll());
    converged_ns.push_back(
        Burst(10, [&] { Require(self.Await(epoch, Stage::kConverged, absl::ZeroDuration())); }));
    state.SetIterationTime(1e-9 * all_ns.back());
  }
  state.counters["converged_ns_each"] = Median(converged_ns) / static_cast<double>(live);
  state.counters["converged_us"] = Median(converged_ns) / 1e3;
  state.counters["timeout_us"] = Median(first_ns) / 1e3;
  state.counters["stragglers_us"] = Median(all_ns) / 1e3;
  state.counters["stragglers_us_each"] = Median(all_ns) / 1e3 / static_cast<double>(live);
}
BENCHMARK(Scan)->ArgName("live")->Arg(64)->Arg(512)->Arg(4096)->Iterations(15)->UseManualTime();

}  // namespace
}  // namespace epoch::bench

BENCHMARK_MAIN();
