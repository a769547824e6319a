// Commits across the end of a segment: whoever meets it has to see to the next one.
#include <algorithm>
#include <random>

#include "bench/commit_parts.h"
#include "core/journal/batch/ring.h"

namespace epoch::bench {
namespace {

struct Kind {
  const char* name;
  const char* what;
  std::size_t state_bytes;
  std::uint64_t segment_bytes;    // 0: the default
  int commits_per_round;          // more than a segment takes
  std::uint32_t retain_segments;  // 0: all
};
// With 64 B a commit in 510 meets a roll, with 64 KiB one in 240: so their p99.9 is a roll. Whether
// old segments are removed is a difference: to free one takes the filesystem milliseconds.
constexpr Kind kKinds[] = {
    {"roll.64", "commits of 64 B, segments of 2 MiB, all kept", 64, 2 << 20, 600, 0},
    {"roll.64.retired", "commits of 64 B, segments of 2 MiB, 2 kept", 64, 2 << 20, 600, 2},
    {"roll.65536", "commits of 64 KiB, segments of 16 MiB, all kept", 65536, 0, 260, 0},
    {"roll.65536.retired", "commits of 64 KiB, segments of 16 MiB, 2 kept", 65536, 0, 260, 2},
};

class RollPart final : public Part {
 public:
  explicit RollPart(const Places& places) {
    for (const Kind& kind : kKinds) {
      RegionOptions options;
      options.state_bytes = kind.state_bytes;
      options.segment_bytes = kind.segment_bytes;
      options.retain_segments = kind.retain_segments;
      regions_.push_back(std::make_unique<DurableRegion>(places, kind.name, options));
      participants_.push_back(std::make_unique<Participant>(regions_.back()->Join()));
    }
  }

  void Round(Samples& samples) override {
    for (std::size_t i = 0; i < std::size(kKinds); ++i) {
      const Kind& kind = kKinds[i];
      const std::vector<std::byte> content(kind.state_bytes, std::byte{7});
      std::vector<double> taken, met, none;
      std::uint64_t segment = Segment(*regions_[i]);
      for (int commit = 0; commit < kind.commits_per_round; ++commit) {
        taken.push_back(Timed([&] { Require(participants_[i]->Commit(content).status()); }));
        if (const std::uint64_t now = Segment(*regions_[i]); now != segment) {
          segment = now;
          met.push_back(taken.back());
        } else {
          none.push_back(taken.back());
        }
      }
      samples[kind.name] = std::move(taken);
      samples[std::string(kind.name) + ".met"] = std::move(met);
      samples[std::string(kind.name) + ".none"] = std::move(none);
    }
  }

 private:
  static std::uint64_t Segment(DurableRegion& region) {
    const journal::RingReading ring = journal::ReadRing(*region.region().mapping()->view().control);
    return journal::BatchE::Unpack(ring.At(0).e).segment;
  }

  std::vector<std::unique_ptr<DurableRegion>> regions_;
  std::vector<std::unique_ptr<Participant>> participants_;
};

}  // namespace

std::unique_ptr<Part> MakeRollPart(const Places& places) {
  return std::make_unique<RollPart>(places);
}

std::vector<Line> RollLines(const Results& results) {
  std::vector<Line> lines;
  for (const Kind& kind : kKinds) {
    const std::string all = kind.name;
    const std::string met = all + ".met", none = all + ".none";
    if (!results.Has(all)) continue;
    lines.push_back({all + ".median", kind.what, results.OfRounds(all, 1e-3), "us", {}, ""});
    lines.push_back(
        {met + ".median", "  that met a roll", results.OfAll(met, 0.5, 1e-3), "us", {}, ""});
    lines.push_back(
        {met + ".p99", "  that met a roll, p99", results.OfAll(met, 0.99, 1e-3), "us", {}, ""});
    lines.push_back({met + ".ratio",
                     "  that met a roll, to the median of all",
                     results.RatioOfAll(met, 0.5, all, 0.5),
                     "x",
                     {},
                     ""});
    lines.push_back({none + ".p999_ratio",
                     "  p99.9 of those that met none, to their median",
                     results.RatioOfAll(none, 0.999, none, 0.5),
                     "x",
                     {},
                     ""});
    lines.push_back({all + ".p999_ratio", "  p99.9 of all, to their median",
                     results.RatioOfAll(all, 0.999, all, 0.5), "x",
                     Target{Target::Kind::kAtMost, 3}, ""});
  }
  return lines;
}

}  // namespace epoch::bench
