// A journal of 1 GiB of committed states of 64 KiB, in the page cache: to read and verify all of
// it, and to restore a region from it. The latter reads the newest segment alone, since each begins
// with a full state.
#include <cstring>

#include "bench/commit_parts.h"
#include "core/journal/read/survey.h"

namespace epoch::bench {
namespace {

constexpr std::size_t kBytes = 64 << 10;
constexpr std::size_t kStates = (std::size_t{1} << 30) / kBytes;
constexpr int kRoundsApart = 6;  // a full read takes long

class RecoveryPart final : public Part {
 public:
  explicit RecoveryPart(const Places& places) : path_(places.memory + "/recovery") {
    options_.state_bytes = kBytes;
    options_.journal = places.disk + "/recovery";
    const Region region = Require(Region::Create(path_, options_));
    Participant self = Require(Participant::Join(region, {.name = "bench"}));
    std::vector<std::byte> content(kBytes, std::byte{7});
    Ticket last;
    for (std::size_t i = 0; i < kStates; ++i) {
      std::memcpy(content.data(), &i, sizeof i);
      last = Require(self.Propose(Require(self.NewDraft(content))));
    }
    Require(self.Await(last).status());
  }
  ~RecoveryPart() override { Region::Unlink(path_).IgnoreError(); }

  void Round(Samples& samples) override {
    if (rounds_++ == 0) Verify();  // into the page cache
    if (rounds_ % kRoundsApart != 1) return;
    double bytes = 0;
    const double verify_ns = Timed([&] { bytes = Verify(); });
    samples["recovery.verify.GB_per_s"] = {bytes / verify_ns};
    Require(Region::Unlink(path_));
    const double restore_ns = Timed([&] {
      const Region region = Require(Region::Restore(path_, options_));
      if (region.epoch() != kStates) std::abort();
    });
    samples["recovery.restore"] = {restore_ns};
    samples["recovery.restore.GB_per_s"] = {bytes / restore_ns};
  }

 private:
  // Reads and checks the whole journal. Returns how many bytes of it are in use.
  double Verify() {
    std::uint64_t states = 0;
    journal::ScanOptions options;
    options.on_record = [&](const journal::Record& record) { states += record.payload_ok ? 1 : 0; };
    const journal::JournalScan scan = Require(journal::ScanJournal(options_.journal, options));
    if (!scan.damage.empty() || states != kStates) std::abort();
    double blocks = 0;
    for (const auto& segment : scan.segments) blocks += static_cast<double>(segment.end_block);
    return blocks * journal::kBlockBytes;
  }

  const std::string path_;
  RegionOptions options_;
  int rounds_ = 0;
};

}  // namespace

std::unique_ptr<Part> MakeRecoveryPart(const Places& places) {
  return std::make_unique<RecoveryPart>(places);
}

std::vector<Line> RecoveryLines(const Results& results) {
  if (!results.Has("recovery.restore")) return {};
  const Target target{Target::Kind::kAtLeast, 1};
  return {
      {"recovery.verify", "1 GiB read and verified", results.OfRounds("recovery.verify.GB_per_s"),
       "GB/s", target, ""},
      {"recovery.restore_ms", "region restored from it", results.OfRounds("recovery.restore", 1e-6),
       "ms", std::nullopt, "reads the newest segment"},
      {"recovery.restore", "  the whole journal, to that time",
       results.OfRounds("recovery.restore.GB_per_s"), "GB/s", target, ""}};
}

}  // namespace epoch::bench
