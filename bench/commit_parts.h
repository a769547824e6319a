// The parts of epoch_bench_commit. What each measures stands in its file.
#ifndef EPOCH_BENCH_COMMIT_PARTS_H_
#define EPOCH_BENCH_COMMIT_PARTS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/part.h"
#include "bench/report.h"
#include "bench/support.h"
#include "core/journal/format/format.h"
#include "epoch/journal.h"

namespace epoch::bench {

// A durable region of its own, with this process in it.
class DurableRegion {
 public:
  DurableRegion(const Places& places, const std::string& name, RegionOptions options)
      : path_(places.memory + "/" + name), region_([&] {
          options.journal = places.disk + "/" + name;
          return Require(Region::Create(path_, options));
        }()) {}
  ~DurableRegion() { Region::Unlink(path_).IgnoreError(); }
  DurableRegion(const DurableRegion&) = delete;
  DurableRegion& operator=(const DurableRegion&) = delete;

  const std::string& path() const { return path_; }
  Region& region() { return region_; }
  Participant Join() { return Require(Participant::Join(region_, {.name = "bench"})); }

 private:
  const std::string path_;
  Region region_;
};

// Blocks of the disk that one commit of `bytes` writes.
constexpr std::size_t BlocksOfCommit(std::size_t bytes) {
  return journal::BlocksFor(sizeof(journal::BatchHeader) + journal::RecordBytes(bytes));
}

// One call's nanoseconds.
template <typename Call>
double Timed(Call&& call) {
  const double start = NowNs();
  call();
  return NowNs() - start;
}

// A round does so much, or as much as fits in its time on a machine that is slow or busy.
class Allowance {
 public:
  Allowance(int turns, int least) : turns_(turns), least_(least) {}
  bool Next() {
    if (++taken_ > turns_) return false;
    return taken_ <= least_ || NowNs() < end_ns_;
  }

 private:
  static constexpr double kRoundNs = 300e6;
  const int turns_, least_;
  const double end_ns_ = NowNs() + kRoundNs;
  int taken_ = 0;
};

std::unique_ptr<Part> MakeSinglePart(const Places& places);
std::unique_ptr<Part> MakeGroupPart(const Places& places);
std::unique_ptr<Part> MakeAsyncPart(const Places& places);
std::unique_ptr<Part> MakePeersPart(const Places& places);
std::unique_ptr<Part> MakeRollPart(const Places& places);
std::unique_ptr<Part> MakeTakeoverPart(const Places& places);
std::unique_ptr<Part> MakeRecoveryPart(const Places& places);

// What a part's samples mean.
std::vector<Line> SingleLines(const Results& results);
std::vector<Line> GroupLines(const Results& results);
std::vector<Line> AsyncLines(const Results& results);
std::vector<Line> PeersLines(const Results& results);
std::vector<Line> RollLines(const Results& results);
std::vector<Line> TakeoverLines(const Results& results);
std::vector<Line> RecoveryLines(const Results& results);

}  // namespace epoch::bench

#endif  // EPOCH_BENCH_COMMIT_PARTS_H_
