// What tests of checkpoints share: a scratch directory, shards that are a function of step, rank
// and run, and ranks as threads.
#ifndef EPOCH_TESTS_CHECKPOINT_CHECKPOINT_TEST_H_
#define EPOCH_TESTS_CHECKPOINT_CHECKPOINT_TEST_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "epoch/checkpoint.h"
#include "epoch/region.h"
#include "support/files.h"
#include "support/region_test.h"
#include "support/scratch.h"
#include "support/time_limits.h"

namespace epoch::test {

namespace fs = std::filesystem;

// Ends with its own description, so that whoever reads it can tell torn from whole, and whose it
// is.
inline std::string ShardText(std::uint64_t step, std::uint32_t rank, const std::string& run = "r") {
  std::string text(40'000, static_cast<char>('a' + (step * 7 + rank) % 26));
  return text + absl::StrCat("|", step, "|", rank, "|", run, "|");
}

class CheckpointTest : public testing::Test {
 protected:
  std::string directory() const { return scratch_ / "checkpoints"; }
  Checkpoints checkpoints() const { return Checkpoints(directory()); }
  const std::string& region() const { return name_.name(); }

  CheckpointOptions Options(std::uint32_t rank, std::uint32_t world) const {
    CheckpointOptions options;
    options.rank = rank;
    options.world = world;
    options.region = region();
    options.restore_timeout = kLong;
    return options;
  }
  // Ends the test's process if it cannot.
  CheckpointRank Joined(std::uint32_t rank, std::uint32_t world) const {
    absl::StatusOr<CheckpointRank> joined = CheckpointRank::Join(directory(), Options(rank, world));
    if (!joined.ok()) {
      ADD_FAILURE() << joined.status().ToString();
      std::abort();
    }
    return *std::move(joined);
  }
  std::vector<CheckpointRank> JoinAll(std::uint32_t world) const {
    std::vector<CheckpointRank> ranks;
    for (std::uint32_t rank = 0; rank < world; ++rank) ranks.push_back(Joined(rank, world));
    return ranks;
  }

  // Runs `work(rank)` in a thread for each rank. The results, by rank.
  template <typename Result>
  static std::vector<Result> InParallel(std::uint32_t world,
                                        const std::function<Result(std::uint32_t)>& work) {
    static_assert(!std::is_same_v<Result, bool>, "bits are not for several threads");
    std::vector<Result> results(world);
    std::vector<std::thread> threads;
    for (std::uint32_t rank = 0; rank < world; ++rank) {
      threads.emplace_back([&, rank] { results[rank] = work(rank); });
    }
    for (std::thread& thread : threads) thread.join();
    return results;
  }

  // Begin, write, Ready, Commit: one rank's checkpoint.
  static absl::StatusOr<Epoch> MakeOne(CheckpointRank& rank, std::uint32_t number,
                                       std::uint64_t step, const std::string& run = "r") {
    absl::StatusOr<CheckpointStep> begun = rank.Begin(step, kLong);
    if (!begun.ok()) return begun.status();
    WriteText(begun->PathOf("model.bin"), ShardText(step, number, run));
    if (absl::Status s = begun->Ready("model.bin"); !s.ok()) return s;
    begun->SetMetadata(absl::StrCat("loss of rank ", number));
    return begun->Commit(kLong);
  }
  // All ranks make checkpoints of these steps, one after the other.
  void Make(std::vector<CheckpointRank>& ranks, const std::vector<std::uint64_t>& steps) const {
    for (const std::uint64_t step : steps) {
      const auto made = InParallel<absl::StatusOr<Epoch>>(
          static_cast<std::uint32_t>(ranks.size()),
          [&](std::uint32_t rank) { return MakeOne(ranks[rank], rank, step); });
      for (const auto& epoch : made) {
        ASSERT_OK(epoch);
        EXPECT_EQ(*epoch, *made[0]);
      }
    }
  }
  void MakeAndLeave(std::uint32_t world, const std::vector<std::uint64_t>& steps) const {
    std::vector<CheckpointRank> ranks = JoinAll(world);
    Make(ranks, steps);
  }

  // The latest one is of that step, verified, and each shard is what its rank wrote.
  void ExpectLatest(std::uint64_t step, std::uint32_t world, const std::string& run = "r") const {
    const absl::StatusOr<OpenCheckpoint> opened = checkpoints().OpenLatest();
    ASSERT_OK(opened);
    EXPECT_EQ(opened->info().step, step);
    EXPECT_EQ(opened->info().world, world);
    ASSERT_EQ(opened->info().shards.size(), world);
    for (std::uint32_t rank = 0; rank < world; ++rank) {
      EXPECT_TRUE(ReadText(opened->PathOf(rank, "model.bin")) == ShardText(step, rank, run))
          << "rank " << rank;
    }
  }
  Checkpoint LatestInfo() const {
    absl::StatusOr<Checkpoint> latest = checkpoints().Latest();
    EXPECT_OK(latest);
    return latest.ok() ? *latest : Checkpoint{};
  }
  std::string ShardPath(std::uint64_t step, std::uint32_t rank) const {
    const absl::StatusOr<Checkpoint> found = checkpoints().Find(step);
    EXPECT_OK(found);
    return found.ok() ? found->PathOf({.rank = rank, .name = "model.bin", .bytes = 0, .digest = {}})
                      : "";
  }
  // Folders of steps that are there, whatever they are.
  std::size_t CountFolders() const {
    std::size_t count = 0;
    for (const auto& entry : fs::directory_iterator(directory())) {
      count += entry.path().filename().string().starts_with("step-") ? 1 : 0;
    }
    return count;
  }

  ScratchDirectory scratch_;
  ScratchName name_;
};

}  // namespace epoch::test

#endif  // EPOCH_TESTS_CHECKPOINT_CHECKPOINT_TEST_H_
