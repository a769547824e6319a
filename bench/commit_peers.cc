// The same value put into other stores, one synchronous put at a time, in turns with a commit of it
// and a raw write of as many blocks. A few in a row: nobody alternates between stores, and what one
// of them leaves to be flushed should not be on the account of the next.
#include <algorithm>
#include <cstring>
#include <functional>
#include <random>

#include "bench/commit_parts.h"
#include "bench/peers.h"
#include "bench/raw_file.h"

namespace epoch::bench {
namespace {

constexpr int kTurnsPerRound = 8;
constexpr int kRow = 6;  // puts of one store in a row
constexpr std::size_t kSizes[] = {64, 4000};
struct Rival {
  const char* name;
  std::vector<std::string> variants;
  double at_least;
};
const std::vector<Rival>& Rivals() {
  static const std::vector<Rival> rivals = {
      {"SQLite", {"SQLite"}, 1.4},
      {"LMDB", {"LMDB", "LMDB (MDB_WRITEMAP)"}, 2},
      {"RocksDB", {"RocksDB"}, 1.5},
  };
  return rivals;
}

std::string Name(std::size_t bytes, const std::string& who) {
  return "put." + std::to_string(bytes) + "." + who;
}

class PeersPart final : public Part {
 public:
  explicit PeersPart(const Places& places) {
    for (const std::size_t bytes : kSizes) {
      const std::string size = std::to_string(bytes);
      values_.push_back(std::make_unique<std::vector<std::byte>>(bytes, std::byte{7}));
      const std::vector<std::byte>* const value = values_.back().get();
      for (std::unique_ptr<Peer>& peer : OpenPeers(places.disk + "/peers-" + size, bytes)) {
        facts_[peer->name()] = peer->settings();
        calls_.push_back(
            {Name(bytes, peer->name()), [peer = peer.get(), value] { peer->Put(*value); }});
        peers_.push_back(std::move(peer));
      }
      raws_.push_back(std::make_unique<RawFile>(places.disk + "/peers-raw-" + size,
                                                RawWay::kDirectSync, BlocksOfCommit(bytes)));
      calls_.push_back({Name(bytes, "raw"), [raw = raws_.back().get()] { raw->Write(); }});
      RegionOptions options;
      options.state_bytes = bytes;
      options.retain_segments = 2;
      regions_.push_back(std::make_unique<DurableRegion>(places, "peers." + size, options));
      participants_.push_back(std::make_unique<Participant>(regions_.back()->Join()));
      calls_.push_back({Name(bytes, "Epoch"), [self = participants_.back().get(), value] {
                          Require(self->Commit(*value).status());
                        }});
    }
  }

  void Round(Samples& samples) override {
    for (Allowance turns(kTurnsPerRound, 5); turns.Next();) {
      std::shuffle(calls_.begin(), calls_.end(), random_);
      for (const auto& [name, call] : calls_) {
        for (int i = 0; i < kRow; ++i) {
          ++puts_;  // SQLite does not write what is there already
          for (auto& value : values_) std::memcpy(value->data(), &puts_, sizeof puts_);
          samples[name].push_back(Timed(call));
        }
      }
    }
  }

  Facts Describe() override { return facts_; }

 private:
  std::mt19937_64 random_{1};
  std::uint64_t puts_ = 0;
  Facts facts_;
  std::vector<std::unique_ptr<std::vector<std::byte>>> values_;
  std::vector<std::unique_ptr<Peer>> peers_;
  std::vector<std::unique_ptr<RawFile>> raws_;
  std::vector<std::unique_ptr<DurableRegion>> regions_;
  std::vector<std::unique_ptr<Participant>> participants_;
  std::vector<std::pair<std::string, std::function<void()>>> calls_;
};

}  // namespace

std::unique_ptr<Part> MakePeersPart(const Places& places) {
  return std::make_unique<PeersPart>(places);
}

std::vector<Line> PeersLines(const Results& results) {
  std::vector<Line> lines;
  for (const std::size_t bytes : kSizes) {
    const std::string epoch = Name(bytes, "Epoch");
    if (!results.Has(epoch)) continue;
    const auto absolute = [&](const std::string& series, const std::string& what) {
      lines.push_back(
          {series + ".median", what, results.OfRounds(series, 1e-3), "us", std::nullopt, ""});
      lines.push_back(
          {series + ".p99", "  p99", results.OfAll(series, 0.99, 1e-3), "us", std::nullopt, ""});
    };
    const std::string put = "put of " + std::to_string(bytes) + " B, ";
    absolute(Name(bytes, "raw"), put + "raw, O_DIRECT|O_DSYNC");
    absolute(epoch, put + "Epoch");
    for (const Rival& rival : Rivals()) {
      std::vector<std::string> variants;
      for (const std::string& variant : rival.variants) {
        if (!results.Has(Name(bytes, variant))) continue;
        variants.push_back(Name(bytes, variant));
        absolute(variants.back(), put + variant);
      }
      const std::string best = results.Best(variants);
      if (best.empty()) continue;
      lines.push_back({"put." + std::to_string(bytes) + "." + rival.name + ".ratio",
                       "  " + std::string(rival.name) + "'s to Epoch's",
                       results.RatioOfRounds(best, epoch), "x",
                       Target{Target::Kind::kAtLeast, rival.at_least},
                       variants.size() > 1 ? best.substr(best.rfind('.') + 1) : ""});
    }
  }
  return lines;
}

}  // namespace epoch::bench
