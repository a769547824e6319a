#include "core/checkpoint/manifests.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/journal/read/begun.h"
#include "core/journal/read/survey.h"
#include "core/journal/segment/segment.h"
#include "epoch/collective.h"

namespace epoch::checkpoint {
namespace {

constexpr int kLooks = 20;

absl::Status NoCheckpoints(const Folders& folders) {
  return absl::NotFoundError(
      absl::StrCat(folders.ManifestsPath(), " is not there: no checkpoint was ever begun here"));
}

// The manifest in a record, nothing if ranks only met, or what is wrong with it.
absl::StatusOr<std::optional<Checkpoint>> ManifestIn(const Folders& folders,
                                                     const journal::Record& record) {
  const std::string where = absl::StrCat(folders.ManifestsPath(), ": epoch ", record.header.epoch);
  if (!record.payload_ok) return absl::DataLossError(absl::StrCat(where, " is damaged"));
  // Sound, but no rank's: somebody else has used the region. It says nothing of checkpoints.
  if (!ContributionsOf(record.payload).ok()) return std::nullopt;
  absl::StatusOr<std::vector<Part>> parts = PartsOf(record.payload);
  // Of a meeting nothing is kept but its epoch.
  if (parts.ok() && std::all_of(parts->begin(), parts->end(),
                                [](const Part& part) { return part.kind == Kind::kMeeting; })) {
    return std::nullopt;
  }
  if (parts.ok()) parts = Assemble(*std::move(parts));
  if (!parts.ok()) {
    return absl::Status(
        parts.status().code(),
        absl::StrCat(where, " is not a manifest: ", std::string(parts.status().message())));
  }
  return ToCheckpoint(folders, record.header.epoch, *parts);
}

absl::StatusOr<Manifests> ReadOnce(const Folders& folders) {
  Manifests manifests;
  journal::ScanOptions options;
  std::vector<std::string> wrong;
  options.on_record = [&](const journal::Record& record) {
    absl::StatusOr<std::optional<Checkpoint>> manifest = ManifestIn(folders, record);
    if (!manifest.ok()) {
      wrong.emplace_back(manifest.status().message());
    } else if (manifest->has_value()) {
      manifests.checkpoints.push_back(**std::move(manifest));
    }
  };
  absl::StatusOr<journal::JournalScan> scan =
      journal::ScanJournal(folders.ManifestsPath(), std::move(options));
  if (!scan.ok()) return scan.status();
  manifests.damage = std::move(scan->damage);
  manifests.damage.insert(manifests.damage.end(), wrong.begin(), wrong.end());
  return manifests;
}

// One segment, strictly: the newest accepted manifest in it, or nothing. `is_last`: there should be
// none behind it. `previous`: the number of the segment that it took over from.
absl::StatusOr<std::optional<Checkpoint>> NewestIn(
    const Folders& folders, const std::string& segment, bool is_last,
    const std::function<bool(const Checkpoint&)>& accept, std::uint64_t& previous) {
  std::optional<Checkpoint> newest;
  absl::Status wrong;
  journal::ScanOptions options;
  options.on_record = [&](const journal::Record& record) {
    absl::StatusOr<std::optional<Checkpoint>> manifest = ManifestIn(folders, record);
    if (!manifest.ok()) {
      wrong = manifest.status();
      return;
    }
    if (!manifest->has_value() || !accept(**manifest)) return;
    newest = **std::move(manifest);
    wrong = absl::OkStatus();  // older than this one: of no concern
  };
  const absl::StatusOr<journal::SegmentScan> scan = journal::ScanSegmentFile(segment, options);
  // Listed, and gone by now, or under another name: not that there is no such checkpoint.
  if (absl::IsNotFound(scan.status())) {
    return absl::AbortedError(std::string(scan.status().message()));
  }
  if (!scan.ok()) return scan.status();
  if (is_last) {
    if (absl::Status s = journal::CheckNewest(*scan); !s.ok()) return s;
  }
  if (!wrong.ok()) return wrong;
  previous = scan->header.previous_segment;
  return newest;
}

absl::StatusOr<Checkpoint> NewestOnce(const Folders& folders,
                                      const std::function<bool(const Checkpoint&)>& accept) {
  const absl::StatusOr<std::vector<journal::SegmentFile>> files =
      journal::ListWithBegun(folders.ManifestsPath());
  if (!files.ok()) return files.status();
  if (files->empty()) {
    return absl::DataLossError(absl::StrCat(folders.ManifestsPath(), " holds no segments"));
  }
  for (auto file = files->rbegin(); file != files->rend(); ++file) {
    std::uint64_t previous = 0;
    absl::StatusOr<std::optional<Checkpoint>> newest =
        NewestIn(folders, file->path, file == files->rbegin(), accept, previous);
    if (!newest.ok()) return newest.status();
    if (newest->has_value()) return **std::move(newest);
    // Numbers between may be missing: of segments that nothing was written to (journal.md).
    if (file + 1 != files->rend() && (file + 1)->number < previous) {
      return absl::DataLossError(
          absl::StrCat(folders.ManifestsPath(), ": segment ", previous, " is missing"));
    }
  }
  return absl::NotFoundError(
      absl::StrCat(folders.ManifestsPath(), ": no checkpoint that was not pruned"));
}

}  // namespace

Checkpoint ToCheckpoint(const Folders& folders, Epoch epoch, const std::vector<Part>& parts) {
  Checkpoint checkpoint;
  const Part& first = parts.front();
  checkpoint.step = first.step;
  checkpoint.epoch = epoch;
  checkpoint.attempt = first.attempt;
  checkpoint.world = first.world;
  checkpoint.directory = folders.PathOf({first.step, first.attempt});
  for (const Part& part : parts) {
    checkpoint.shards.insert(checkpoint.shards.end(), part.shards.begin(), part.shards.end());
    if (part.list.has_value()) checkpoint.lists.push_back(*part.list);
    checkpoint.metadata.push_back(part.metadata);
  }
  return checkpoint;
}

absl::StatusOr<Manifests> ReadManifests(const Folders& folders) {
  absl::StatusOr<Manifests> manifests = ReadOnce(folders);
  for (int look = 1; look < kLooks; ++look) {
    if (absl::IsNotFound(manifests.status())) return NoCheckpoints(folders);
    if (manifests.ok() && manifests->damage.empty()) return manifests;
    absl::StatusOr<Manifests> again = ReadOnce(folders);
    const bool same = again.ok() && manifests.ok() ? again->damage == manifests->damage
                                                   : again.status() == manifests.status();
    manifests = std::move(again);
    if (same) break;
  }
  return manifests;
}

absl::StatusOr<Checkpoint> ReadNewest(const Folders& folders,
                                      const std::function<bool(const Checkpoint&)>& accept) {
  absl::StatusOr<Checkpoint> newest = NewestOnce(folders, accept);
  const auto may_pass = [&] {
    return absl::IsDataLoss(newest.status()) || absl::IsAborted(newest.status());
  };
  for (int look = 1; look < kLooks && may_pass(); ++look) {
    const absl::Status before = newest.status();
    newest = NewestOnce(folders, accept);
    if (newest.status() == before) break;
  }
  // Not the checkpoint is missing, but all of them.
  if (absl::IsNotFound(newest.status()) &&
      absl::IsNotFound(journal::ListSegments(folders.ManifestsPath()).status())) {
    return NoCheckpoints(folders);
  }
  if (absl::IsDataLoss(newest.status())) {
    return absl::DataLossError(absl::StrCat(
        std::string(newest.status().message()),
        "; a newer checkpoint may be lost: epochctl checkpoint list shows what is left, and each "
        "can be opened by its step"));
  }
  return newest;
}

}  // namespace epoch::checkpoint
