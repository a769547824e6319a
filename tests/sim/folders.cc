#include "tests/sim/folders.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "epoch/detail/memory/layout.h"
#include "tests/sim/names.h"
#include "tests/sim/stage.h"

namespace epoch::sim {

namespace {

class FolderWorld {
 public:
  explicit FolderWorld(const Plan& plan) : stage_(plan) {
    for (int p = 0; p <= plan.settings.processes; ++p) processes_.emplace_back(stage_, p);
    stage_.disk.on_shm_link = [this](const std::string&, std::byte* memory) {
      detail::Superblock super;
      std::memcpy(&super, memory, sizeof super);
      const auto geometry =
          detail::Geometry::For(super.state_bytes, super.participants, super.versions);
      stage_.engine.Progressed();
      if (geometry.has_value()) {
        views_.push_back(detail::RegionView::At(memory, *geometry, super.durable != 0));
      }
    };
    stage_.engine.on_store = [this](const void* at, std::uint64_t value) {
      for (const detail::RegionView& view : views_) {
        if (naming::SaysHowFar(view, at)) stage_.engine.SaysHowFar(at, value);
      }
    };
    stage_.disk.on_unlink = [this](const std::string& path) { stage_.history.Unlinked(path); };
    stage_.engine.describe = [this](const void* at, std::uint64_t value) {
      for (std::size_t i = views_.size(); i-- > 0;) {
        const std::string name = naming::NameOfWord(views_[i], at, value);
        if (!name.empty()) return absl::StrCat("#", i, " ", name);
      }
      return absl::StrCat("new = ", value);
    };
  }

  Outcome Play() {
    Engine& engine = stage_.engine;
    const Plan& plan = stage_.plan;
    stage_.disk.MakeDirectory("/disk");  // is there
    for (stage_.boot = 0; stage_.boot < plan.boots && !engine.violated(); ++stage_.boot) {
      const bool power_lost =
          engine.Run([this](int process) { processes_[static_cast<std::size_t>(process)].Live(); });
      if (engine.violated()) break;
      engine.Settle();
      if (power_lost) {
        stage_.disk.PowerLoss(false);
        stage_.history.PowerLost();
      } else if (engine.random().OneIn(2)) {
        sys::unlink(kRegion);
      }
    }
    if (!engine.violated()) Finish();
    return {engine.steps(), stage_.history.newest(), engine.violation()};
  }

 private:
  void Finish() {
    Engine& engine = stage_.engine;
    stage_.last = true;
    stage_.before_last = stage_.history.newest();
    engine.NoMoreFaults();
    engine.Run([this](int process) { processes_[static_cast<std::size_t>(process)].Live(); });
    if (engine.violated()) return;
    engine.Settle();
    const Checkpoints checkpoints(kFolder);
    Random random(1);
    processes_.front().OpenLatest(random);
    const auto pruned = checkpoints.Prune();
    if (!pruned.ok()) return Fail(pruned.status(), "the last prune");
    const auto list = checkpoints.List();
    if (!list.ok()) return Fail(list.status(), "the last list");
    for (const Staging& staging : list->stagings) {
      engine.Violation(absl::StrCat("G10: a staging is left: ", staging.directory));
    }
    const auto left = std::count_if(list->checkpoints.begin(), list->checkpoints.end(),
                                    [](const Checkpoint& c) { return !c.pruned; });
    if (left != 1) engine.Violation(absl::StrCat("G10: ", left, " checkpoints are left"));
    std::size_t folders = 0;
    for (const std::string& name : stage_.disk.Names(kFolder)) {
      folders += absl::StartsWith(name, "step-") ? 1 : 0;
      if (absl::StartsWith(name, ".new-")) engine.Violation("G10: a new folder is left: " + name);
    }
    if (folders != 1) engine.Violation(absl::StrCat("G10: ", folders, " folders are left"));
  }
  void Fail(const absl::Status& status, const char* what) {
    stage_.engine.Violation(absl::StrCat("G8: ", what, ": ", status.ToString()));
  }

  FolderStage stage_;
  std::vector<FolderProcess> processes_;
  std::vector<detail::RegionView> views_;
};

std::string FolderOf(const std::string& path) {
  const std::string prefix = absl::StrCat(kFolder, "/step-");
  if (!absl::StartsWith(path, prefix)) return "";
  return path.substr(0, path.find('/', prefix.size()));
}

}  // namespace

Outcome PlayFolders(const Plan& plan) { return FolderWorld(plan).Play(); }

FolderStage::FolderStage(const Plan& the_plan)
    : plan(the_plan),
      memory(Arena(), kArenaBytes),
      engine(the_plan.settings, memory),
      disk(engine, Arena(), kArenaBytes),
      history(engine) {}

void FolderStage::Tolerate(const absl::Status& status, const char* what) {
  if (status.ok()) return;
  engine.Trace("%s: %s", what, status.ToString().c_str());
  switch (status.code()) {
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAlreadyExists:
      return;
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kResourceExhausted:
      if (std::any_of(plan.settings.faults.begin(), plan.settings.faults.end(),
                      [](const Fault& f) { return f.kind == FaultKind::kDisk; })) {
        return;
      }
      break;
    default:
      break;
  }
  engine.Violation(absl::StrCat(what, ": ", status.ToString()));
}

Content FolderHistory::NewShard(const std::string& folder, std::uint32_t rank,
                                const std::string& name, std::uint64_t bytes) {
  const Content content{++ids_, Content::kUnconditional, rank, bytes};
  shards_[content.id] = {folder, rank, name, content};
  return content;
}

void FolderHistory::Committed(Epoch epoch, std::uint64_t step, const std::string& folder) {
  const auto [known, fresh] = committed_.try_emplace(epoch, CommittedRecord{step, folder});
  if (!fresh && known->second.folder != folder) {
    engine_.Violation(absl::StrCat("G2: two checkpoints are epoch ", epoch));
  }
  if (fresh && removed_.count(folder) != 0) {
    engine_.Violation(absl::StrCat("a checkpoint was swept as a staging: ", folder));
  }
}

void FolderHistory::Opened(const Checkpoint& checkpoint,
                           const std::vector<std::vector<std::byte>>& files, Epoch least) {
  if (checkpoint.epoch < least) {
    engine_.Violation(absl::StrCat("G7: checkpoint ", least, " was acknowledged, ",
                                   checkpoint.epoch, " is the latest"));
  }
  std::set<std::uint32_t> ranks;
  for (std::size_t i = 0; i < files.size(); ++i) {
    const Shard& shard = checkpoint.shards[i];
    ranks.insert(shard.rank);
    Content content;
    if (!Decode(files[i], content) || content.id == 0) {
      engine_.Violation(absl::StrCat("a torn shard: ", checkpoint.PathOf(shard)));
      return;
    }
    const auto known = shards_.find(content.id);
    if (known == shards_.end() || !known->second.ready || !(known->second.content == content) ||
        known->second.folder != checkpoint.directory || known->second.rank != shard.rank ||
        known->second.name != shard.name) {
      engine_.Violation(absl::StrCat("a shard that its rank never made ready for this attempt: ",
                                     checkpoint.PathOf(shard)));
    }
  }
  if (ranks.size() != checkpoint.world) {
    engine_.Violation(
        absl::StrCat("a checkpoint of ", ranks.size(), " ranks of ", checkpoint.world));
  }
  Committed(checkpoint.epoch, checkpoint.step, checkpoint.directory);
}

void FolderHistory::Unlinked(const std::string& path) {
  const std::string folder = FolderOf(path);
  if (folder.empty()) return;
  for (const int user : users_[folder]) {
    if (engine_.dead(user)) continue;
    engine_.Violation(absl::StrCat(path, " is removed while process ", user, " uses it"));
  }
  if (absl::EndsWith(path, "/ranks")) return;
  removed_.insert(folder);
  for (auto at = committed_.begin(); at != committed_.end(); ++at) {
    if (at->second.folder != folder) continue;
    const bool newer = std::any_of(std::next(at), committed_.end(), [&](const auto& later) {
      return removed_.count(later.second.folder) == 0;
    });
    if (!newer) engine_.Violation(absl::StrCat("the only good checkpoint is removed: ", path));
  }
}

}  // namespace epoch::sim
