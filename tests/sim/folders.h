// Checkpoint folders, played: ranks that stage shards, make them ready and commit their manifest
// together, readers, and whoever prunes and cleans up; deaths at any step, and power losses.
//
// What is held against them:
//   a checkpoint that is opened is whole, of one step and one attempt, and of what its ranks made
//   ready; it is none older than one that was acknowledged before, also after a power loss
//   nothing is removed from a folder in which a living rank works, or that a living reader has open
//   nothing is removed of a checkpoint unless a newer one is there
//   at the end all ranks can make one more; one pruning later, that one is all there is
#ifndef EPOCH_TESTS_SIM_FOLDERS_H_
#define EPOCH_TESTS_SIM_FOLDERS_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "epoch/checkpoint.h"
#include "tests/sim/disk.h"
#include "tests/sim/engine.h"
#include "tests/sim/history.h"
#include "tests/sim/memory.h"
#include "tests/sim/plan.h"
#include "tests/sim/world.h"

namespace epoch::sim {

inline constexpr const char* kFolder = "/disk/checkpoints";

class FolderHistory {
 public:
  explicit FolderHistory(Engine& engine) : engine_(engine) {}

  // The content of a shard that this rank is about to write there.
  Content NewShard(const std::string& folder, std::uint32_t rank, const std::string& name,
                   std::uint64_t bytes);
  void Ready(const Content& content) { shards_[content.id].ready = true; }
  // A rank works in it; a reader has it open.
  void Used(const std::string& folder, int process) { users_[folder].insert(process); }
  void Unused(const std::string& folder, int process) { users_[folder].erase(process); }
  void Committed(Epoch epoch, std::uint64_t step, const std::string& folder);
  // One that was opened, and what its files hold, in the order of its shards. `least`: the newest
  // that was acknowledged when the reader began to look.
  void Opened(const Checkpoint& checkpoint, const std::vector<std::vector<std::byte>>& files,
              Epoch least);
  void Unlinked(const std::string& path);
  void PowerLost() { users_.clear(); }

  Epoch newest() const { return committed_.empty() ? 0 : committed_.rbegin()->first; }

 private:
  struct ShardRecord {
    std::string folder;
    std::uint32_t rank;
    std::string name;
    Content content;
    bool ready = false;
  };
  struct CommittedRecord {
    std::uint64_t step;
    std::string folder;
  };

  Engine& engine_;
  std::uint64_t ids_ = 0;
  std::map<std::uint64_t, ShardRecord> shards_;
  std::map<Epoch, CommittedRecord> committed_;
  std::set<std::string> removed_;  // folders that have lost a shard
  std::map<std::string, std::set<int>> users_;
};

struct FolderStage {
  explicit FolderStage(const Plan& the_plan);

  // What nobody is to blame for here; anything else is a violation.
  void Tolerate(const absl::Status& status, const char* what);

  const Plan& plan;
  Memory memory;
  Engine engine;
  Disk disk;
  FolderHistory history;
  int boot = 0;
  bool last = false;  // the boot after all others, without faults
  Epoch before_last = 0;
};

class FolderProcess {
 public:
  FolderProcess(FolderStage& stage, int number) : stage_(stage), number_(number) {}

  void Live();
  // One more checkpoint, however often it has to try.
  void FinishOne();
  void OpenLatest(Random& random);

 private:
  void Operate(const Op& op);
  bool Join(std::uint32_t rank, bool take_over);
  bool MakeCheckpoint(Random& random, bool commits, absl::Duration timeout);
  bool WriteShard(CheckpointStep& step, const std::string& folder, Random& random,
                  const std::string& name);
  std::uint64_t NextStep();
  void Prune(Random& random);
  void Leave();

  FolderStage& stage_;
  const int number_;
  std::size_t next_ = 0;
  std::uint32_t rank_number_ = 0;
  // On the heap, and left there when the process is killed.
  CheckpointRank* rank_ = nullptr;
};

Outcome PlayFolders(const Plan& plan);

}  // namespace epoch::sim

#endif  // EPOCH_TESTS_SIM_FOLDERS_H_
