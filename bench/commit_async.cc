// One process that proposes without waiting, and awaits the last of many. Propose throttles itself
// when the region's versions run out. A burst of history `all`
// needs two or three new segments.
#include <algorithm>
#include <cstring>
#include <random>

#include "bench/commit_parts.h"

namespace epoch::bench {
namespace {

constexpr std::uint32_t kVersions[] = {128, 1024, 8000};
constexpr int kBurst = 250'000;  // 36 MB of records of 144 B
constexpr std::size_t kBytes = 64;

std::string Name(History history, std::uint32_t versions) {
  return std::string(history == History::kAll ? "async.all." : "async.latest.") +
         std::to_string(versions);
}

class AsyncPart final : public Part {
 public:
  explicit AsyncPart(const Places& places) {
    for (const History history : {History::kAll, History::kLatest}) {
      for (const std::uint32_t versions : kVersions) {
        RegionOptions options;
        options.state_bytes = kBytes;
        options.versions = versions;
        options.history = history;
        options.retain_segments = 2;
        Target target{Name(history, versions), nullptr, nullptr};
        target.region = std::make_unique<DurableRegion>(places, target.name, options);
        target.self = std::make_unique<Participant>(target.region->Join());
        targets_.push_back(std::move(target));
      }
    }
  }

  void Round(Samples& samples) override {
    std::shuffle(targets_.begin(), targets_.end(), random_);
    for (Target& target : targets_) {
      std::vector<std::byte> content(kBytes, std::byte{7});
      Ticket last;
      const double ns = Timed([&] {
        for (int i = 0; i < kBurst; ++i) {
          std::memcpy(content.data(), &i, sizeof i);
          last = Require(target.self->Propose(Require(target.self->NewDraft(content))));
        }
        Require(target.self->Await(last).status());
      });
      samples[target.name + ".per_s"] = {kBurst / ns * 1e9};
      samples[target.name + ".burst"] = {ns};
    }
  }

 private:
  struct Target {
    std::string name;
    std::unique_ptr<DurableRegion> region;
    std::unique_ptr<Participant> self;
  };
  std::mt19937_64 random_{1};
  std::vector<Target> targets_;
};

}  // namespace

std::unique_ptr<Part> MakeAsyncPart(const Places& places) {
  return std::make_unique<AsyncPart>(places);
}

std::vector<Line> AsyncLines(const Results& results) {
  std::vector<Line> lines;
  for (const History history : {History::kAll, History::kLatest}) {
    const std::string word = history == History::kAll ? "all" : "latest";
    std::string fastest;
    for (const std::uint32_t versions : kVersions) {
      const std::string series = Name(history, versions) + ".per_s";
      if (!results.Has(series)) continue;
      if (fastest.empty() || results.Median(series) > results.Median(fastest)) fastest = series;
      lines.push_back(
          {series,
           "asynchronous, 64 B, history " + word + ", " + std::to_string(versions) + " versions",
           results.OfRounds(series),
           "/s",
           {},
           ""});
    }
    if (fastest.empty()) continue;
    const double limit = history == History::kAll ? 500e3 : 1e6;
    lines.push_back({"async." + word + ".per_s", "  the fastest of them", results.OfRounds(fastest),
                     "/s", Target{Target::Kind::kAtLeast, limit}, ""});
  }
  return lines;
}

}  // namespace epoch::bench
