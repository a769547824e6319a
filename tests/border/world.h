// What an operation finds: a directory with a region, a journal or checkpoints in it, all of it in
// memory, and a neighbour who is in the region, too.
//
// Every state that was committed to it is a checked one, whose value is its epoch.
#ifndef EPOCH_TESTS_BORDER_WORLD_H_
#define EPOCH_TESTS_BORDER_WORLD_H_

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "epoch/checkpoint.h"
#include "epoch/epoch.h"

namespace epoch::test {

enum class Ground {
  kEmpty,        // nothing yet
  kVolatile,     // a region
  kDurable,      // a region and its journal
  kJournal,      // a journal whose region is gone
  kCheckpoints,  // three checkpoints of one rank
};

// Of a rank that meets the others in `region`.
inline CheckpointOptions CheckpointsOf(const std::string& region, std::uint32_t rank = 0,
                                       std::uint32_t world = 1) {
  CheckpointOptions options;
  options.rank = rank;
  options.world = world;
  options.region = region;
  options.restore_timeout = absl::Seconds(1);
  return options;
}

inline constexpr Epoch kGroundEpoch = 3;      // of a region as it is found
inline constexpr Epoch kPastEpoch = 2;        // one of those before
inline constexpr std::uint64_t kPairTag = 7;  // of a collective commit of two
// Nobody waits longer for the other one.
inline constexpr absl::Duration kPairPatience = absl::Seconds(3);

class World {
 public:
  // Under `parent`, a directory in memory.
  World(const std::string& parent, Ground ground);
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World();

  Ground ground() const { return ground_; }
  bool durable() const { return ground_ == Ground::kDurable || ground_ == Ground::kJournal; }
  const std::string& directory() const { return directory_; }
  std::string region() const { return directory_ + "/region"; }
  std::string journal() const { return directory_ + "/journal"; }
  std::string checkpoints() const { return directory_ + "/checkpoints"; }
  // What an old epoch is recovered into.
  std::string copy() const { return directory_ + "/copy"; }
  std::string copied() const { return directory_ + "/copied"; }
  // The state that follows what is found, in a file.
  std::string state_file() const { return directory_ + "/state"; }
  // To make that region, or to open it.
  RegionOptions Options(bool durable) const;

  // Somebody else joins as a voter; it answers whenever it is asked to Look.
  void AddNeighbour();
  void Look();
  // When somebody else has joined, the neighbour proposes to it in a thread of its own, and then
  // sends SIGTERM to `process`. Once; instead of Look.
  void Ask(pid_t process);
  // The neighbour gives its part of a collective commit, or is the second rank of two at step 4, in
  // a thread of its own. Once; instead of Look.
  void Pair();
  // Ends the asking, or the pairing, too.
  void RemoveNeighbour();
  // How many epochs the neighbour was told that it has added.
  Epoch added() const { return added_; }
  // Somebody joins, pins, drafts, and dies.
  void AddDead();

  // The names of all that is in the directory, with every number in them as "N", sorted.
  std::vector<std::string> Names() const;

 private:
  struct Neighbour {
    Region region;
    Participant self;
  };

  const std::string directory_;
  const Ground ground_;
  std::unique_ptr<Neighbour> neighbour_;
  std::thread asking_;
  std::atomic<bool> ends_{false};  // nobody is there any more for the neighbour to wait for
  Epoch added_ = 0;
};

}  // namespace epoch::test

#endif  // EPOCH_TESTS_BORDER_WORLD_H_
