// A rank, its successor, or somebody who reads, prunes and cleans up.
#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "epoch/detail/platform/files.h"
#include "tests/sim/folders.h"
#include "tests/sim/stage.h"

namespace epoch::sim {
namespace {

absl::Duration SomeTimeout(Random& random) {
  return absl::Milliseconds(random.OneIn(2) ? 500 : 1 + random.Below(60));
}

std::optional<std::vector<std::byte>> ReadWhole(const std::string& path) {
  const detail::Fd fd(sys::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.ok()) return std::nullopt;
  std::vector<std::byte> bytes(8192);
  const ssize_t got = sys::pread(fd.get(), bytes.data(), bytes.size(), 0);
  if (got < 0) return std::nullopt;
  bytes.resize(static_cast<std::size_t>(got));
  return bytes;
}

}  // namespace

void FolderProcess::Live() {
  rank_ = nullptr;  // whatever it had in another life
  if (stage_.last) {
    if (number_ < stage_.plan.world) FinishOne();
    return Leave();
  }
  const auto& operations = stage_.plan.operations[static_cast<std::size_t>(number_)];
  for (next_ = 0; next_ < operations.size() && !stage_.engine.violated(); ++next_) {
    const Op& op = operations[next_];
    if (op.boot != stage_.boot) continue;
    stage_.engine.Trace("%s", NameOf(op.kind));
    Operate(op);
    stage_.engine.Progressed();
  }
  Leave();
}

void FolderProcess::Leave() {
  delete rank_;
  rank_ = nullptr;
}

void FolderProcess::Operate(const Op& op) {
  Random random(op.argument);
  const auto world = static_cast<std::uint64_t>(stage_.plan.world);
  switch (op.kind) {
    case OpKind::kCheckpoint:
    case OpKind::kAbandon:
      if (rank_ == nullptr) {
        // Whoever is no rank from the start takes the place of one.
        const bool takes_over = number_ >= stage_.plan.world;
        const auto rank = static_cast<std::uint32_t>(
            takes_over ? random.Below(world) : static_cast<std::uint64_t>(number_));
        if (!Join(rank, takes_over)) return;
      }
      MakeCheckpoint(random, op.kind == OpKind::kCheckpoint, SomeTimeout(random));
      return;
    case OpKind::kReopen:
      return Leave();
    case OpKind::kOpenLatest:
      return OpenLatest(random);
    case OpKind::kPrune:
      return Prune(random);
    case OpKind::kCleanUp: {
      const auto cleaned = Checkpoints(kFolder).CleanUp();
      if (!absl::IsNotFound(cleaned.status())) stage_.Tolerate(cleaned.status(), "clean up");
      return;
    }
    default: {
      const auto list = Checkpoints(kFolder).List();
      if (!absl::IsNotFound(list.status())) stage_.Tolerate(list.status(), "list");
      if (!list.ok() || list->damage.empty()) return;
      stage_.engine.Violation("G7: nothing was damaged, but a list says " + list->damage.front());
    }
  }
}

bool FolderProcess::Join(std::uint32_t rank, bool take_over) {
  CheckpointOptions options;
  options.rank = rank;
  options.world = static_cast<std::uint32_t>(stage_.plan.world);
  options.region = kRegion;
  options.take_over = take_over;
  options.restore_timeout = absl::Milliseconds(20);
  auto joined = CheckpointRank::Join(kFolder, options);
  if (!joined.ok()) {
    stage_.Tolerate(joined.status(), "join");
    return false;
  }
  rank_number_ = rank;
  rank_ = new CheckpointRank(*std::move(joined));
  return true;
}

std::uint64_t FolderProcess::NextStep() {
  const auto latest = Checkpoints(kFolder).Latest();
  if (latest.ok()) return latest->step + 1;
  if (!absl::IsNotFound(latest.status())) stage_.Tolerate(latest.status(), "latest");
  return 1;
}

bool FolderProcess::WriteShard(CheckpointStep& step, const std::string& folder, Random& random,
                               const std::string& name) {
  const std::uint64_t bytes = sizeof(Content) + random.Below(1500);
  const Content content = stage_.history.NewShard(folder, rank_number_, name, bytes);
  const std::vector<std::byte> encoded = Encode(content);
  const detail::Fd fd(
      sys::open(step.PathOf(name).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd.ok()) {
    stage_.engine.Violation("a folder is gone in which its rank works: " + folder);
    return false;
  }
  const std::size_t half = encoded.size() / 2;
  sys::pwrite(fd.get(), encoded.data(), half, 0);
  stage_.engine.Point("writing a shard");
  sys::pwrite(fd.get(), encoded.data() + half, encoded.size() - half,
              static_cast<std::int64_t>(half));
  const absl::Status ready = step.Ready(name);
  if (ready.ok()) stage_.history.Ready(content);
  stage_.Tolerate(ready, "ready");
  return ready.ok();
}

bool FolderProcess::MakeCheckpoint(Random& random, bool commits, absl::Duration timeout) {
  auto begun = rank_->Begin(NextStep(), timeout);
  if (!begun.ok()) {
    stage_.Tolerate(begun.status(), "begin");
    return false;
  }
  CheckpointStep step = *std::move(begun);
  const std::string folder = detail::ParentOf(step.directory());
  stage_.history.Used(folder, number_);
  bool good = WriteShard(step, folder, random, "a");
  if (good && random.OneIn(4)) good = WriteShard(step, folder, random, "b");
  if (good && random.OneIn(8)) good = WriteShard(step, folder, random, "a");  // in its place
  for (int attempt = 0; good && commits && attempt < 3; ++attempt) {
    const auto committed = step.Commit(timeout);
    if (committed.ok()) {
      stage_.history.Committed(*committed, step.step(), folder);
      stage_.history.Unused(folder, number_);
      return true;
    }
    stage_.Tolerate(committed.status(), "commit");
    if (!absl::IsDeadlineExceeded(committed.status())) break;
  }
  stage_.history.Unused(folder, number_);
  return false;
}

void FolderProcess::OpenLatest(Random& random) {
  const Epoch least = stage_.history.newest();
  const auto opened = Checkpoints(kFolder).OpenLatest();
  if (!opened.ok()) {
    const bool none = absl::IsNotFound(opened.status()) && least == 0;
    if (!none && !absl::IsUnavailable(opened.status())) {
      stage_.engine.Violation(absl::StrCat("G7: checkpoint ", least,
                                           " was acknowledged: ", opened.status().ToString()));
    }
    return;
  }
  const Checkpoint& info = opened->info();
  stage_.history.Used(info.directory, number_);
  for (int look = 0; look < 2; ++look) {
    std::vector<std::vector<std::byte>> files;
    for (const Shard& shard : info.shards) {
      auto bytes = ReadWhole(opened->PathOf(shard.rank, shard.name));
      if (!bytes.has_value()) {
        stage_.engine.Violation("an open checkpoint loses " + info.PathOf(shard));
        return;
      }
      files.push_back(*std::move(bytes));
    }
    stage_.history.Opened(info, files, least);
    for (std::uint64_t i = random.Below(20); i > 0; --i) stage_.engine.Point("reading");
  }
  stage_.history.Unused(info.directory, number_);
}

void FolderProcess::Prune(Random& random) {
  const Epoch least = stage_.history.newest();
  const auto pruned =
      Checkpoints(kFolder).Prune({.keep = 1 + static_cast<std::uint32_t>(random.Below(2))});
  if (absl::IsNotFound(pruned.status()) && least == 0) return;
  stage_.Tolerate(pruned.status(), "prune");
  if (pruned.ok() && pruned->kept.empty() && least != 0) {
    stage_.engine.Violation("a prune finds no good checkpoint");
  }
  for (std::size_t i = 0; pruned.ok() && i < pruned->problems.size(); ++i) {
    stage_.engine.Violation("G7: nothing was damaged, but a prune says " + pruned->problems[i]);
  }
}

void FolderProcess::FinishOne() {
  Random random(static_cast<std::uint64_t>(number_) + 1);
  for (int attempt = 0; attempt < 40 && !stage_.engine.violated(); ++attempt) {
    stage_.engine.Progressed();
    if (rank_ == nullptr && !Join(static_cast<std::uint32_t>(number_), true)) {
      seam::SleepFor(30'000'000);
      continue;
    }
    if (MakeCheckpoint(random, true, absl::Milliseconds(500))) return;
    // The others have made one, and perhaps this one was not told.
    const auto latest = Checkpoints(kFolder).Latest();
    if (latest.ok() && latest->epoch > stage_.before_last) return;
    if (random.OneIn(4)) Leave();
  }
  stage_.engine.Violation("G8: the ranks cannot make a checkpoint any more");
}

}  // namespace epoch::sim
