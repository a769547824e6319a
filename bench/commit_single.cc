// One durable commit at a time, and the raw writes that it could have been: in turns, in an order
// drawn anew each time, so that no one always follows the same other.
#include <algorithm>
#include <functional>
#include <random>

#include "bench/commit_parts.h"
#include "bench/raw_file.h"

namespace epoch::bench {
namespace {

constexpr int kTurnsPerRound = 100;
constexpr std::size_t kSizes[] = {64, 4096};

std::string RawName(RawWay way, std::size_t blocks) {
  return "raw." + std::to_string(blocks) + "." + NameOf(way);
}
std::string CommitName(std::size_t bytes) { return "single." + std::to_string(bytes); }

class SinglePart final : public Part {
 public:
  explicit SinglePart(const Places& places) {
    for (const std::size_t blocks : {std::size_t{1}, std::size_t{2}}) {
      for (const RawWay way : kRawWays) {
        const std::string name = RawName(way, blocks);
        std::string file = "raw." + std::to_string(files_.size());
        auto raw = std::make_unique<RawFile>(places.disk + "/" + file, way, blocks);
        if (!raw->ok()) continue;
        calls_.push_back({name, [file = raw.get()] { file->Write(); }});
        files_.push_back(std::move(raw));
      }
    }
    for (const std::size_t bytes : kSizes) {
      RegionOptions options;
      options.state_bytes = bytes;
      options.retain_segments = 2;
      regions_.push_back(std::make_unique<DurableRegion>(places, CommitName(bytes), options));
      participants_.push_back(std::make_unique<Participant>(regions_.back()->Join()));
      calls_.push_back({CommitName(bytes), [self = participants_.back().get(),
                                            content = std::vector<std::byte>(bytes, std::byte{7})] {
                          Require(self->Commit(content).status());
                        }});
    }
    Samples ignored;
    Round(ignored);
  }

  void Round(Samples& samples) override {
    for (Allowance turns(kTurnsPerRound, 5); turns.Next();) {
      std::shuffle(calls_.begin(), calls_.end(), random_);
      for (const auto& [name, call] : calls_) samples[name].push_back(Timed(call));
    }
  }

  Facts Describe() override {
    return {{"backend", regions_.front()->region().mapping()->port()->backend()}};
  }

 private:
  std::mt19937_64 random_{1};
  std::vector<std::unique_ptr<RawFile>> files_;
  std::vector<std::unique_ptr<DurableRegion>> regions_;
  std::vector<std::unique_ptr<Participant>> participants_;
  std::vector<std::pair<std::string, std::function<void()>>> calls_;
};

}  // namespace

std::unique_ptr<Part> MakeSinglePart(const Places& places) {
  return std::make_unique<SinglePart>(places);
}

std::vector<Line> SingleLines(const Results& results) {
  std::vector<Line> lines;
  const auto line = [&](const std::string& name, const std::string& what, const Figure& figure,
                        const std::string& unit, std::optional<Target> target = std::nullopt,
                        const std::string& beside = "") {
    lines.push_back({name, what, figure, unit, target, beside});
  };
  const auto absolute = [&](const std::string& series, const std::string& what) {
    if (!results.Has(series)) return;
    line(series + ".median", what, results.OfRounds(series, 1e-3), "us");
    line(series + ".p99", "  p99", results.OfAll(series, 0.99, 1e-3), "us");
  };
  for (const std::size_t blocks : {std::size_t{1}, std::size_t{2}}) {
    for (const RawWay way : kRawWays) {
      absolute(RawName(way, blocks), "raw " + std::to_string(4 * blocks) + " KiB, " + NameOf(way));
    }
  }
  for (const std::size_t bytes : kSizes) {
    const std::string commit = CommitName(bytes);
    if (!results.Has(commit)) continue;
    absolute(commit, "durable commit of " + std::to_string(bytes) + " B");
    for (std::size_t blocks = 1; blocks <= BlocksOfCommit(bytes); ++blocks) {
      std::vector<std::string> raw;
      for (const RawWay way : kRawWays) raw.push_back(RawName(way, blocks));
      const std::string best = results.Best(raw);
      if (best.empty()) continue;
      // The target speaks of the write that the journal makes.
      const bool counts = blocks == BlocksOfCommit(bytes);
      const std::string size = std::to_string(4 * blocks) + " KiB";
      const std::string name = commit + ".blocks" + std::to_string(blocks);
      line(name + ".median_ratio", "  to the best raw " + size, results.RatioOfRounds(commit, best),
           "x", counts ? std::optional(Target{Target::Kind::kAtMost, 1.05}) : std::nullopt,
           best.substr(6));
      line(name + ".p99_ratio", "  p99 to its p99", results.RatioOfAll(commit, 0.99, best, 0.99),
           "x", counts ? std::optional(Target{Target::Kind::kAtMost, 1.2}) : std::nullopt);
    }
  }
  return lines;
}

}  // namespace epoch::bench
