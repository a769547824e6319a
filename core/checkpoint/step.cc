#include "core/checkpoint/step.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/journal/segment/segment.h"
#include "epoch/detail/platform/blame.h"
#include "epoch/detail/platform/files.h"
#include "epoch/detail/platform/seam.h"

namespace epoch::checkpoint {

using detail::Fd;

absl::StatusOr<std::unique_ptr<StepState>> StepState::Begin(std::shared_ptr<RankState> rank,
                                                            const FolderName& folder) {
  std::unique_ptr<StepState> state(new StepState);
  const Folders& folders = rank->folders();
  const unsigned mode = rank->options().mode;
  absl::StatusOr<FolderLock> lock = folders.Use(folder, mode);
  if (!lock.ok()) return lock.status();
  state->lock_ = *std::move(lock);
  EPOCH_POINT("checkpoint.folder_locked");
  const std::string path = folders.PathOf(folder);
  state->directory_ = absl::StrCat(path, "/", RankFolder(rank->options().rank));
  if (absl::Status s = MakeFolder(state->directory_, {.mode = mode, .group = {}}); !s.ok())
    return s;
  // Whoever made the folders may have died before it synced their names.
  for (const std::string& names : {path, detail::ParentOf(path)}) {
    if (absl::Status s = journal::SyncDirectory(names); !s.ok()) return s;
  }
  absl::StatusOr<Fd> opened = OpenFolder(AT_FDCWD, state->directory_, state->directory_);
  if (!opened.ok()) return opened.status();
  state->opened_ = *std::move(opened);
  state->rank_ = std::move(rank);
  state->folder_ = folder;
  EPOCH_POINT("checkpoint.begun");
  return state;
}

absl::Status StepState::PartOrOver() const {
  if (!committed_.has_value()) return over_;
  return absl::FailedPreconditionError(
      absl::StrCat(directory_, " is part of a checkpoint already: begin another step"));
}

absl::Status StepState::Synced(absl::Status status) {
  if (absl::IsInternal(status) && detail::IsDevices(status, detail::Attempt::kSync)) {
    over_ = absl::FailedPreconditionError(absl::StrCat(
        directory_, ": this attempt is over, since a sync failed: begin the step again; it was: ",
        std::string(status.message())));
  }
  return status;
}

absl::Status StepState::Ready(std::string_view name) {
  if (absl::Status s = CheckShardName(name); !s.ok()) return s;
  if (absl::Status s = PartOrOver(); !s.ok()) return s;
  const std::string file(name), path = absl::StrCat(directory_, "/", file);
  ready_.erase(file);
  absl::StatusOr<ReadyShard> ready =
      MakeReady(opened_.get(), file, path, rank_->options().mode, &failed_);
  if (!ready.ok()) return ready.status();
  EPOCH_POINT("checkpoint.shard_synced");
  if (absl::Status s = Synced(SyncFolder(opened_.get(), directory_)); !s.ok()) return s;
  // The names on the way to it, if it lies deeper.
  if (absl::Status s = Synced(SyncFoldersTo(opened_.get(), file, path)); !s.ok()) return s;
  EPOCH_POINT("checkpoint.ready");
  ready->shard.rank = rank_->options().rank;
  ready_.insert_or_assign(file, Entry{next_order_++, *std::move(ready)});
  return absl::OkStatus();
}

absl::Status StepState::ReadyAll() {
  if (absl::Status s = PartOrOver(); !s.ok()) return s;
  const absl::StatusOr<std::vector<std::string>> files = FilesIn(opened_.get(), directory_);
  if (!files.ok()) return files.status();
  if (files->empty()) {
    return absl::FailedPreconditionError(absl::StrCat(directory_, " is empty"));
  }
  // What was ready, and is gone by now, is no part of it.
  std::erase_if(ready_, [&](const auto& known) {
    return !std::binary_search(files->begin(), files->end(), known.first);
  });
  // As Ready, but each folder is synced once.
  std::vector<ReadyShard> made;
  std::map<std::string, std::string> one_in;  // of each folder, a file
  for (const std::string& file : *files) {
    ready_.erase(file);
    absl::StatusOr<ReadyShard> ready = MakeReady(
        opened_.get(), file, absl::StrCat(directory_, "/", file), rank_->options().mode, &failed_);
    if (!ready.ok()) return ready.status();
    ready->shard.rank = rank_->options().rank;
    made.push_back(*std::move(ready));
    if (const std::size_t slash = file.rfind('/'); slash != std::string::npos) {
      one_in.emplace(file.substr(0, slash), file);
    }
  }
  EPOCH_POINT("checkpoint.shards_synced");
  if (absl::Status s = Synced(SyncFolder(opened_.get(), directory_)); !s.ok()) return s;
  for (const auto& [folder, file] : one_in) {
    const std::string path = absl::StrCat(directory_, "/", file);
    if (absl::Status s = Synced(SyncFoldersTo(opened_.get(), file, path)); !s.ok()) return s;
  }
  for (ReadyShard& ready : made) {
    const std::string name = ready.shard.name;
    ready_.insert_or_assign(name, Entry{next_order_++, std::move(ready)});
  }
  return absl::OkStatus();
}

absl::Status StepState::CheckFolder() const {
  if (ready_.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat(directory_, ": no shard is ready: call Ready for each, then Commit"));
  }
  std::vector<std::string_view> known;
  for (const auto& [name, entry] : ready_) {
    const std::string path = absl::StrCat(directory_, "/", name);
    struct stat info {};
    const absl::StatusOr<Fd> fd = OpenShard(opened_.get(), name, path, info);
    if (!fd.ok() || FingerprintOf(info) != entry.ready.fingerprint) {
      return absl::FailedPreconditionError(absl::StrCat(
          path, " was changed, or removed, after it was ready: call Ready for it again"));
    }
    known.push_back(name);
  }
  std::string stranger;
  const absl::Status looked =
      FindUnknown(opened_.get(), directory_, std::move(known), [&](const std::string& path) {
        if (stranger.empty()) stranger = path;
      });
  if (!looked.ok()) return looked;
  if (stranger.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(stranger, " is not ready: call Ready for it, or remove it, then Commit"));
}

absl::StatusOr<Part> StepState::PartOf(const WaitOptions& wait) {
  Part part{.kind = Kind::kManifest,
            .rank = rank_->options().rank,
            .world = rank_->options().world,
            .step = folder_.step,
            .attempt = folder_.attempt,
            .shards = {},
            .metadata = metadata_};
  std::vector<const Entry*> entries;
  for (const auto& [name, entry] : ready_) entries.push_back(&entry);
  std::sort(entries.begin(), entries.end(),
            [](const Entry* a, const Entry* b) { return a->order < b->order; });
  for (const Entry* entry : entries) part.shards.push_back(entry->ready.shard);
  if (NamesArePlain(part.shards) && Encode(part).ok()) return part;
  Part listed = part;
  listed.shards.clear();
  listed.list = ShardList{};
  // Metadata that is too long is no reason to write anything.
  if (absl::Status s = Encode(listed).status(); !s.ok()) return s;
  // A list that is there is of an earlier call, whose manifest others may have made by now.
  absl::StatusOr<ShardList> list =
      WriteList(detail::ParentOf(directory_), listed.rank, rank_->options().mode, part.shards,
                [&] { return rank_->CheckNotCommitted(folder_, wait); });
  if (!list.ok()) return Synced(list.status());
  listed.list = *list;
  return listed;
}

absl::StatusOr<Epoch> StepState::Commit(const WaitOptions& wait) {
  if (committed_.has_value()) return *committed_;
  if (!over_.ok()) return over_;
  if (absl::Status s = CheckFolder(); !s.ok()) return s;
  const absl::StatusOr<Part> part = PartOf(wait);
  if (!part.ok()) return part.status();
  const absl::StatusOr<Epoch> made = rank_->Commit(*part, wait);
  if (made.ok()) committed_ = *made;
  return made;
}

}  // namespace epoch::checkpoint

namespace epoch {

CheckpointStep::CheckpointStep(std::unique_ptr<checkpoint::StepState> state)
    : state_(std::move(state)) {}
CheckpointStep::CheckpointStep(CheckpointStep&&) noexcept = default;
CheckpointStep& CheckpointStep::operator=(CheckpointStep&&) noexcept = default;
CheckpointStep::~CheckpointStep() = default;

std::uint64_t CheckpointStep::step() const { return state_ == nullptr ? 0 : state_->step(); }
const std::string& CheckpointStep::directory() const {
  static const std::string none;
  return state_ == nullptr ? none : state_->directory();
}
std::string CheckpointStep::PathOf(std::string_view name) const {
  if (state_ == nullptr) return {};
  return absl::StrCat(state_->directory(), "/", std::string(name));
}
absl::Status CheckpointStep::Ready(std::string_view name) {
  return state_ == nullptr ? detail::MovedFrom("step") : detail::Unchanged(state_->Ready(name));
}
absl::Status CheckpointStep::ReadyAll() {
  return state_ == nullptr ? detail::MovedFrom("step") : detail::Unchanged(state_->ReadyAll());
}
void CheckpointStep::SetMetadata(std::string metadata) {
  if (state_ != nullptr) state_->set_metadata(std::move(metadata));
}
absl::StatusOr<Epoch> CheckpointStep::Commit(const WaitOptions& wait) {
  if (state_ == nullptr) return detail::MovedFrom("step");
  absl::StatusOr<Epoch> made = state_->Commit(wait);
  if (!made.ok()) return detail::Unchanged(made.status());
  return made;
}

}  // namespace epoch
