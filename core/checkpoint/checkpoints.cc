// Checkpoints: listing, opening, pruning.
#include <fcntl.h>

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/folder.h"
#include "core/checkpoint/format.h"
#include "core/checkpoint/manifests.h"
#include "core/checkpoint/shard.h"
#include "epoch/checkpoint.h"
#include "epoch/detail/platform/blame.h"
#include "epoch/detail/platform/files.h"

namespace epoch {

using checkpoint::FolderLock;
using checkpoint::FolderName;
using checkpoint::Folders;
using checkpoint::Manifests;

namespace {

absl::StatusOr<Folders> FoldersOf(const std::string& directory) {
  absl::StatusOr<std::string> resolved = checkpoint::ResolveDirectory(directory);
  if (!resolved.ok()) return resolved.status();
  return Folders(*std::move(resolved));
}

FolderName NameOf(const Checkpoint& checkpoint) { return {checkpoint.step, checkpoint.attempt}; }

// Removes what is left of pruned folders, and stagings that nobody lives in. The caller has the
// lock.
absl::StatusOr<std::vector<std::string>> SweepStagings(const Folders& folders) {
  // First the folders, then the manifests: what became a checkpoint in between is known as one.
  const absl::StatusOr<std::vector<FolderName>> there = folders.List();
  if (!there.ok()) return there.status();
  const auto named = [&](const FolderName& folder) -> absl::StatusOr<bool> {
    const absl::StatusOr<Manifests> manifests = checkpoint::ReadManifests(folders);
    if (absl::IsNotFound(manifests.status())) return false;
    if (!manifests.ok()) return manifests.status();
    if (!manifests->damage.empty()) {
      return absl::DataLossError(absl::StrCat(manifests->damage.front(),
                                              "; as long as the journal is damaged, it cannot be "
                                              "told what is abandoned: nothing was removed"));
    }
    return std::any_of(manifests->checkpoints.begin(), manifests->checkpoints.end(),
                       [&](const Checkpoint& c) { return NameOf(c) == folder; });
  };
  folders.SweepNew();
  std::vector<std::string> removed;
  for (const FolderName& folder : *there) {
    const bool pruned = folders.IsPruned(folder);
    if (!pruned) {
      const absl::StatusOr<bool> kept = named(folder);
      if (!kept.ok()) return kept.status();
      if (*kept) continue;
    }
    const absl::Status gone = folders.Remove(folder, [&]() -> absl::StatusOr<bool> {
      if (pruned) return true;
      const absl::StatusOr<bool> kept = named(folder);
      if (!kept.ok()) return kept.status();
      return !*kept;
    });
    if (gone.ok()) removed.push_back(folders.PathOf(folder));
    if (!gone.ok() && !absl::IsFailedPrecondition(gone)) return gone;
  }
  return removed;
}

// The lists of ranks whose shards are not there yet.
std::vector<ShardList> NotLoaded(const Checkpoint& checkpoint) {
  std::set<std::uint32_t> loaded;
  for (const Shard& shard : checkpoint.shards) loaded.insert(shard.rank);
  std::vector<ShardList> lists;
  for (const ShardList& list : checkpoint.lists) {
    if (!loaded.contains(list.rank)) lists.push_back(list);
  }
  return lists;
}

absl::Status FirstOf(const std::vector<absl::Status>& problems) {
  if (problems.size() == 1) return problems.front();
  const absl::Status first(
      problems.front().code(),
      absl::StrCat(std::string(problems.front().message()), " (and ", problems.size() - 1,
                   " more: epochctl checkpoint verify lists them)"));
  const int error = detail::ErrnoOf(problems.front());
  return error == 0 ? first : detail::WithErrno(first, error);
}

}  // namespace

std::string HexOf(const ShardDigest& digest) { return detail::HexOf(digest); }

std::uint64_t Checkpoint::files() const {
  std::uint64_t sum = shards.size();
  for (const ShardList& list : NotLoaded(*this)) sum += list.files;
  return sum;
}

std::uint64_t Checkpoint::bytes() const {
  std::uint64_t sum = 0;
  for (const Shard& shard : shards) sum += shard.bytes;
  for (const ShardList& list : NotLoaded(*this)) sum += list.bytes;
  return sum;
}

std::string Checkpoint::DirectoryOf(std::uint32_t rank) const {
  return absl::StrCat(directory, "/", checkpoint::RankFolder(rank));
}

std::string Checkpoint::PathOf(const Shard& shard) const {
  return absl::StrCat(DirectoryOf(shard.rank), "/", shard.name);
}

OpenCheckpoint::OpenCheckpoint(Checkpoint info, std::shared_ptr<void> hold)
    : info_(std::move(info)), by_name_(info_.shards.size()), hold_(std::move(hold)) {
  std::iota(by_name_.begin(), by_name_.end(), std::size_t{0});
  std::sort(by_name_.begin(), by_name_.end(), [this](std::size_t a, std::size_t b) {
    return std::tie(info_.shards[a].rank, info_.shards[a].name) <
           std::tie(info_.shards[b].rank, info_.shards[b].name);
  });
}

std::string OpenCheckpoint::PathOf(std::uint32_t rank, std::string_view name) const {
  const auto found =
      std::lower_bound(by_name_.begin(), by_name_.end(), std::pair(rank, name),
                       [this](std::size_t i, const auto& key) {
                         const Shard& shard = info_.shards[i];
                         return std::pair(shard.rank, std::string_view(shard.name)) < key;
                       });
  if (found == by_name_.end()) return "";
  const Shard& shard = info_.shards[*found];
  return shard.rank == rank && shard.name == name ? info_.PathOf(shard) : "";
}

absl::StatusOr<CheckpointList> Checkpoints::List() const {
  const absl::StatusOr<Folders> folders = FoldersOf(directory_);
  if (!folders.ok()) return folders.status();
  // First the folders, then the manifests: else what becomes a checkpoint in between were neither.
  const absl::StatusOr<std::vector<FolderName>> there = folders->List();
  if (!there.ok()) return there.status();
  absl::StatusOr<Manifests> manifests = checkpoint::ReadManifests(*folders);
  if (!manifests.ok()) return manifests.status();
  const absl::StatusOr<std::vector<FolderName>> marks = folders->ListPruned();
  if (!marks.ok()) return marks.status();
  const std::set<FolderName> pruned(marks->begin(), marks->end());
  CheckpointList list;
  list.checkpoints = std::move(manifests->checkpoints);
  list.damage = std::move(manifests->damage);
  std::set<FolderName> named;
  for (Checkpoint& checkpoint : list.checkpoints) {
    checkpoint.pruned = pruned.contains(NameOf(checkpoint));
    named.insert(NameOf(checkpoint));
  }
  for (const FolderName& folder : *there) {
    if (named.contains(folder)) continue;
    list.stagings.push_back(
        {folder.step, folder.attempt, folders->PathOf(folder), folders->IsUsed(folder)});
  }
  return list;
}

absl::StatusOr<Checkpoint> Checkpoints::Latest() const {
  const absl::StatusOr<Folders> folders = FoldersOf(directory_);
  if (!folders.ok()) return folders.status();
  return checkpoint::ReadNewest(*folders, [&](const Checkpoint& checkpoint) {
    return !folders->IsPruned(NameOf(checkpoint));
  });
}

absl::StatusOr<Checkpoint> Checkpoints::Find(std::uint64_t step) const {
  const absl::StatusOr<CheckpointList> list = List();
  if (!list.ok()) return list.status();
  bool pruned = false;
  for (auto found = list->checkpoints.rbegin(); found != list->checkpoints.rend(); ++found) {
    if (found->step != step) continue;
    if (!found->pruned) return *found;
    pruned = true;
  }
  return absl::NotFoundError(absl::StrCat(directory_, ": ", pruned ? "the" : "no",
                                          " checkpoint of step ", step,
                                          pruned ? " was pruned" : ""));
}

std::vector<absl::Status> Checkpoints::Verify(const Checkpoint& checkpoint) const {
  return checkpoint::FindProblems(checkpoint, /*first_only=*/false);
}

absl::StatusOr<OpenCheckpoint> Checkpoints::Open(const Checkpoint& checkpoint) const {
  const Folders folders(detail::ParentOf(checkpoint.directory));
  if (folders.IsPruned(NameOf(checkpoint))) {
    return absl::NotFoundError(absl::StrCat(checkpoint.directory, ": the checkpoint of step ",
                                            checkpoint.step, " was pruned"));
  }
  absl::StatusOr<FolderLock> hold = folders.Hold(NameOf(checkpoint));
  if (!hold.ok()) return hold.status();
  Checkpoint whole;
  const std::vector<absl::Status> problems =
      checkpoint::FindProblems(checkpoint, /*first_only=*/true, &whole);
  if (!problems.empty()) return FirstOf(problems);
  return OpenCheckpoint(std::move(whole), std::make_shared<FolderLock>(*std::move(hold)));
}

absl::StatusOr<std::vector<Shard>> Checkpoints::ShardsOf(const Checkpoint& checkpoint) const {
  Checkpoint whole = checkpoint;
  std::vector<absl::Status> problems;
  checkpoint::LoadLists(whole, problems);
  if (!problems.empty()) return FirstOf(problems);
  return std::move(whole.shards);
}

absl::StatusOr<NewestGood> Checkpoints::OpenNewestGood() const {
  const absl::StatusOr<CheckpointList> list = List();
  if (!list.ok()) return list.status();
  std::vector<Checkpoint> damaged;
  std::vector<std::string> problems = list->damage;
  for (auto next = list->checkpoints.rbegin(); next != list->checkpoints.rend(); ++next) {
    if (next->pruned) continue;
    absl::StatusOr<OpenCheckpoint> opened = Open(*next);
    if (opened.ok()) {
      return NewestGood{*std::move(opened), std::move(damaged), std::move(problems)};
    }
    if (absl::IsNotFound(opened.status())) continue;  // pruned since
    // A read error says that the bytes cannot be had; anything else says nothing of them.
    if (!absl::IsDataLoss(opened.status()) &&
        (!absl::IsInternal(opened.status()) || detail::IsOwnTrouble(opened.status()))) {
      return opened.status();
    }
    problems.emplace_back(opened.status().message());
    damaged.push_back(*next);
  }
  if (problems.empty()) {
    return absl::NotFoundError(absl::StrCat(directory_, ": no checkpoint that was not pruned"));
  }
  return absl::DataLossError(
      absl::StrCat(directory_, " holds no good checkpoint: ", problems.front()));
}

absl::StatusOr<OpenCheckpoint> Checkpoints::OpenLatest() const {
  for (;;) {
    const absl::StatusOr<Checkpoint> latest = Latest();
    if (!latest.ok()) return latest.status();
    absl::StatusOr<OpenCheckpoint> opened = Open(*latest);
    // Pruned between the two: then there is a newer one, or none any more.
    if (!absl::IsNotFound(opened.status())) return opened;
  }
}

absl::StatusOr<PruneResult> Checkpoints::Prune(const PruneOptions& options) const {
  if (options.keep == 0) {
    return absl::InvalidArgumentError("keep is 0: at least one good checkpoint stays");
  }
  const absl::StatusOr<Folders> folders = FoldersOf(directory_);
  if (!folders.ok()) return folders.status();
  const absl::StatusOr<detail::Fd> alone = folders->LockPruning();
  if (!alone.ok()) return alone.status();
  const absl::StatusOr<CheckpointList> list = List();
  if (!list.ok()) return list.status();
  if (!list->damage.empty()) {
    return absl::DataLossError(absl::StrCat(list->damage.front(), "; nothing was removed"));
  }
  PruneResult result;
  std::vector<Checkpoint> doomed;
  for (auto next = list->checkpoints.rbegin(); next != list->checkpoints.rend(); ++next) {
    if (next->pruned) continue;
    if (result.kept.size() == options.keep) {
      doomed.push_back(*next);
      continue;
    }
    const std::vector<absl::Status> problems = Verify(*next);
    if (problems.empty()) {
      result.kept.push_back(*next);
      continue;
    }
    result.damaged.push_back(*next);
    for (const absl::Status& problem : problems) {
      // What could not be read may be good.
      if (!absl::IsDataLoss(problem)) {
        return absl::Status(
            problem.code(),
            absl::StrCat(std::string(problem.message()), "; so it cannot be told whether the ",
                         "checkpoint of step ", next->step, " is good: nothing was removed"));
      }
      result.problems.emplace_back(problem.message());
    }
  }
  if (result.kept.empty() && !result.damaged.empty()) {
    return absl::DataLossError(absl::StrCat(directory_, " holds no good checkpoint: ",
                                            result.problems.front(), "; nothing was removed"));
  }
  if (result.kept.size() < options.keep) doomed.clear();
  if (options.remove_damaged) {
    doomed.insert(doomed.begin(), result.damaged.begin(), result.damaged.end());
  }
  for (const Checkpoint& checkpoint : doomed) {
    absl::Status gone;
    if (!options.dry_run) {
      gone = folders->Remove(NameOf(checkpoint), [] { return true; });
    } else if (folders->IsUsed(NameOf(checkpoint))) {
      gone = absl::FailedPreconditionError("in use");
    }
    if (absl::IsFailedPrecondition(gone)) {
      result.in_use.push_back(checkpoint);
    } else if (!gone.ok()) {
      return gone;
    } else {
      result.removed.push_back(checkpoint);
    }
  }
  if (options.dry_run) return result;
  absl::StatusOr<std::vector<std::string>> cleaned = SweepStagings(*folders);
  if (!cleaned.ok()) return cleaned.status();
  result.cleaned = *std::move(cleaned);
  return result;
}

absl::StatusOr<std::vector<std::string>> Checkpoints::CleanUp() const {
  const absl::StatusOr<Folders> folders = FoldersOf(directory_);
  if (!folders.ok()) return folders.status();
  const absl::StatusOr<detail::Fd> alone = folders->LockPruning();
  if (!alone.ok()) return alone.status();
  return SweepStagings(*folders);
}

}  // namespace epoch
