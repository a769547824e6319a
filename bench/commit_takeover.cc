// A process is killed while its write is on its way to the disk; how long until another one's
// commit, begun at that moment, returns.
#include <unistd.h>

#include <random>

#include "bench/commit_parts.h"
#include "core/journal/batch/ring.h"

namespace epoch::bench {
namespace {

constexpr int kKillsPerRound = 15;
constexpr int kPlainPerRound = 30;
constexpr std::size_t kBytes = 64;

class TakeoverPart final : public Part {
 public:
  explicit TakeoverPart(const Places& places) {
    RegionOptions options;
    options.state_bytes = kBytes;
    options.retain_segments = 2;
    region_ = std::make_unique<DurableRegion>(places, "takeover", options);
    self_ = std::make_unique<Participant>(region_->Join());
  }

  void Round(Samples& samples) override {
    std::vector<double>& plain = samples["takeover.plain"];
    for (int i = 0; i < kPlainPerRound; ++i) plain.push_back(Timed([&] { Commit(); }));
    const double allowed = 2 * Median(plain) + 1e6;
    std::vector<double>& taken = samples["takeover"];
    std::vector<double>& share = samples["takeover.of_allowed"];
    // Some kills come too late: the write has ended. They do not count.
    for (Allowance kills(kKillsPerRound, 1); kills.Next();) {
      const double ns = KillAndCommit(2 * Median(plain) / 3);
      if (ns <= 0) continue;
      taken.push_back(ns);
      share.push_back(ns / allowed);
    }
  }

 private:
  void Commit() { Require(self_->Commit(content_).status()); }

  // Kills a writer up to `latest_ns` after its batch was frozen. 0 if the write had ended by then.
  double KillAndCommit(double latest_ns) {
    const pid_t victim = ForkHelper([&] {
      const Region region = Require(Region::Open(region_->path()));
      Participant self = Require(Participant::Join(region, {.name = "victim"}));
      for (;;) Require(self.Commit(content_).status());
    });
    detail::Control& control = *region_->region().mapping()->view().control;
    // Past its first commits, which set up what the later ones use.
    const Epoch first = region_->region().epoch();
    while (region_->region().epoch() < first + 5) usleep(20);
    const double delay_ns = std::uniform_real_distribution<double>(0, latest_ns)(random_);
    const auto newest = [&] { return journal::ReadRing(control).At(0).w; };
    std::uint64_t before = newest();
    std::uint64_t word = before;
    while (word == before || detail::BatchW::Unpack(word).state != detail::BatchState::kFrozen) {
      word = newest();
    }
    for (const double frozen = NowNs(); NowNs() < frozen + delay_ns;) {
    }
    const double start = NowNs();
    kill(victim, SIGKILL);
    const bool under_way = newest() == word;
    Commit();
    const double ns = NowNs() - start;
    KillHelper(victim);
    return under_way ? ns : 0;
  }

  std::mt19937_64 random_{1};
  const std::vector<std::byte> content_{kBytes, std::byte{7}};
  std::unique_ptr<DurableRegion> region_;
  std::unique_ptr<Participant> self_;
};

}  // namespace

std::unique_ptr<Part> MakeTakeoverPart(const Places& places) {
  return std::make_unique<TakeoverPart>(places);
}

std::vector<Line> TakeoverLines(const Results& results) {
  std::vector<Line> lines;
  if (!results.Has("takeover")) return lines;
  const auto absolute = [&](const char* series, const char* what, double share) {
    lines.push_back({std::string(series) + (share > 0.5 ? ".p99" : ".median"), what,
                     results.OfAll(series, share, 1e-3), "us", std::nullopt, ""});
  };
  absolute("takeover.plain", "a commit while nobody is killed", 0.5);
  absolute("takeover", "writer killed: until another's commit returns", 0.5);
  absolute("takeover", "  p99", 0.99);
  lines.push_back({"takeover.p50_of_allowed", "  p50, to two commits + 1 ms",
                   results.OfAll("takeover.of_allowed", 0.5), "x", Target{Target::Kind::kAtMost, 1},
                   ""});
  lines.push_back({"takeover.p99_of_allowed", "  p99, to two commits + 1 ms",
                   results.OfAll("takeover.of_allowed", 0.99), "x",
                   Target{Target::Kind::kAtMost, 1}, ""});
  return lines;
}

}  // namespace epoch::bench
