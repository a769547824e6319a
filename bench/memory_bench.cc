// Costs in memory. Counters are medians, in nanoseconds unless the name says otherwise.
#include <benchmark/benchmark.h>
#include <sched.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "bench/support.h"

namespace epoch::bench {
namespace {

constexpr int kBurst = 2'000;

// A word on a page that is shared between processes, as a slot's pin word is.
class SharedWord {
 public:
  SharedWord() { word_->store(1); }

  // The least that an announcement can be: lock cmpxchg, then a release store.
  void CasAndStore() {
    std::uint64_t expected = 1;
    bool swapped = word_->compare_exchange_strong(expected, 2);
    benchmark::DoNotOptimize(swapped);
    word_->store(1, std::memory_order_release);
  }
  void Cas() {
    std::uint64_t expected = word_->load(std::memory_order_relaxed);
    bool swapped = word_->compare_exchange_strong(expected, expected ^ 2);
    benchmark::DoNotOptimize(swapped);
  }

 private:
  SharedPage<std::atomic<std::uint64_t>> word_;
};

// Bursts of `ours` and of `baseline` in turns; reports both medians and that of the ratios.
template <typename Ours, typename Baseline>
void InTurns(benchmark::State& state, const char* baseline_name, int count, Ours&& ours,
             Baseline&& baseline) {
  std::vector<double> ours_ns, baseline_ns, ratios;
  for (auto _ : state) {
    baseline_ns.push_back(Burst(kBurst, baseline));
    ours_ns.push_back(Burst(count, ours));
    ratios.push_back(ours_ns.back() / baseline_ns.back());
    state.SetIterationTime(1e-9 * ours_ns.back());
  }
  state.counters["ns"] = Median(ours_ns);
  state.counters[baseline_name] = Median(baseline_ns);
  state.counters["ratio"] = Median(ratios);
}

constexpr int kTurns = 501;

void PinUnpin(benchmark::State& state) {
  ScratchRegion scratch;
  Participant self = scratch.Join("bench");
  SharedWord word;
  InTurns(
      state, "bare_ns", kBurst,
      [&] {
        Pin pin = self.Pin();
        Epoch epoch = pin.epoch();
        benchmark::DoNotOptimize(epoch);
      },
      [&] { word.CasAndStore(); });
}
BENCHMARK(PinUnpin)->Iterations(kTurns)->UseManualTime();

// The same while another process pins and unpins, too. It costs no more, since a pin writes nothing
// but its own slot's line; what two processes write in common would cost 100 ns.
void PinUnpinBesideReader(benchmark::State& state) {
  ScratchRegion scratch;
  Participant self = scratch.Join("bench");
  Companion beside(scratch.name(), [](Participant& companion) {
    for (;;) companion.Pin().Release();
  });
  SharedWord word;
  InTurns(
      state, "bare_ns", kBurst,
      [&] {
        Pin pin = self.Pin();
        Epoch epoch = pin.epoch();
        benchmark::DoNotOptimize(epoch);
      },
      [&] { word.CasAndStore(); });
}
BENCHMARK(PinUnpinBesideReader)->Iterations(kTurns)->UseManualTime();

[[gnu::noinline]] void ReadAll(std::span<const std::byte> from) {
  std::uint64_t total = 0;
  for (std::size_t at = 0; at + 8 <= from.size(); at += 8) {
    std::uint64_t word;
    std::memcpy(&word, from.data() + at, sizeof word);
    total += word;
  }
  benchmark::DoNotOptimize(total);
}

// The whole state is read under the pin; the baseline reads as much private memory.
void PinnedRead(benchmark::State& state) {
  const auto bytes = static_cast<std::size_t>(state.range(0));
  RegionOptions options;
  options.state_bytes = bytes;
  options.versions = 8;
  ScratchRegion scratch(options);
  Participant self = scratch.Join("bench");
  const std::vector<std::byte> content(bytes, std::byte{7});
  Require(self.Commit(content));
  const int count = static_cast<int>(std::max<std::size_t>(1, 200'000 / bytes));
  std::vector<double> ours_ns, own_ns;
  for (auto _ : state) {
    own_ns.push_back(Burst(count, [&] { ReadAll(content); }));
    ours_ns.push_back(Burst(count, [&] {
      const Pin pin = self.Pin();
      ReadAll(pin.state());
    }));
    state.SetIterationTime(1e-9 * ours_ns.back());
  }
  state.counters["ns"] = Median(ours_ns);
  state.counters["private_ns"] = Median(own_ns);
}
BENCHMARK(PinnedRead)->Arg(64)->Arg(4096)->Arg(1 << 20)->Iterations(101)->UseManualTime();

void PublishInTurns(benchmark::State& state, ScratchRegion& scratch, std::size_t bytes) {
  Participant self = scratch.Join("bench");
  const std::vector<std::byte> content(bytes, std::byte{7});
  SharedWord word;
  InTurns(
      state, "cas_ns", 500,
      [&] {
        for (;;) {
          const absl::Status s = self.Commit(content).status();
          if (s.ok()) return;
          // A reader that lost its CPU while it held a pin: let it go on.
          if (!absl::IsResourceExhausted(s)) Require(s);
          sched_yield();
        }
      },
      [&] { word.Cas(); });
}

void Publish(benchmark::State& state) {
  ScratchRegion scratch;
  PublishInTurns(state, scratch, static_cast<std::size_t>(state.range(0)));
}
BENCHMARK(Publish)->Arg(64)->Arg(4096)->Arg(65536)->Iterations(201)->UseManualTime();

// Another process pins, reads and unpins without a pause: head's and the version's lines travel.
void PublishToSpinningReader(benchmark::State& state) {
  ScratchRegion scratch;
  Companion reader(scratch.name(), [](Participant& self) {
    for (;;) {
      const Pin pin = self.Pin();
      benchmark::DoNotOptimize(pin.state().data());
    }
  });
  PublishInTurns(state, scratch, 64);
}
BENCHMARK(PublishToSpinningReader)->Iterations(51)->UseManualTime();

// Another process sleeps on the bell until the next epoch is committed, again and again: a publish
// that finds it asleep pays for the system call that wakes it.
void PublishToWaitingReader(benchmark::State& state) {
  ScratchRegion scratch;
  Companion reader(scratch.name(), [&](Participant& self) {
    for (;;) Require(self.Await(scratch.region().epoch() + 1, Stage::kCommitted));
  });
  PublishInTurns(state, scratch, 64);
}
BENCHMARK(PublishToWaitingReader)->Iterations(51)->UseManualTime();

void Update64(benchmark::State& state) {
  ScratchRegion scratch;
  Participant self = scratch.Join("bench");
  Require(self.Commit(std::vector<std::byte>(64)));
  SharedWord word;
  InTurns(
      state, "cas_ns", 500,
      [&] {
        Require(self.Update([](const Current& current, Draft& next) {
                      return next.Assign(current.state);
                    })
                    .status());
      },
      [&] { word.Cas(); });
}
BENCHMARK(Update64)->Iterations(201)->UseManualTime();

void RegionOpen(benchmark::State& state) {
  ScratchRegion scratch;
  std::vector<double> samples;
  for (auto _ : state) {
    const double start = NowNs();
    const Region opened = Require(Region::Open(scratch.name()));
    Epoch epoch = opened.epoch();
    benchmark::DoNotOptimize(epoch);
    samples.push_back(NowNs() - start);
  }
  state.counters["ns"] = Median(samples);
  state.counters["p99_ns"] = Quantile(samples, 0.99);
}
BENCHMARK(RegionOpen)->Iterations(301);

void RegionCreate(benchmark::State& state) {
  std::vector<double> samples;
  for (auto _ : state) {
    const double start = NowNs();
    ScratchRegion scratch;
    samples.push_back(NowNs() - start);
  }
  state.counters["ns"] = Median(samples);
}
BENCHMARK(RegionCreate)->Iterations(31);

void JoinLeave(benchmark::State& state) {
  ScratchRegion scratch;
  std::vector<double> samples;
  for (auto _ : state) {
    const double start = NowNs();
    Participant self = scratch.Join("bench");
    Require(self.Leave());
    samples.push_back(NowNs() - start);
  }
  state.counters["ns"] = Median(samples);
}
BENCHMARK(JoinLeave)->Iterations(301);

// CPU time of a process that has joined and does nothing, and of one that waits for a commit which
// does not come; microseconds per second.
void IdleCpu(benchmark::State& state) {
  const bool waits = state.range(0) != 0;
  const auto used = [&](unsigned seconds) {
    ScratchRegion scratch;
    Companion idle(scratch.name(), [&](Participant& self) {
      if (waits) Require(self.Await(1'000'000, Stage::kCommitted));
      for (;;) pause();
    });
    sleep(seconds);
    return idle.Stop();
  };
  for (auto _ : state) {
    const double once = used(0);  // what starting and joining costs
    state.counters["us_per_s"] = std::max(0.0, (used(3) - once) / 3 * 1e6);
  }
}
BENCHMARK(IdleCpu)->ArgName("waits")->Arg(0)->Arg(1)->Iterations(1);

}  // namespace
}  // namespace epoch::bench

BENCHMARK_MAIN();
