#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/inspect/region_status.h"
#include "core/journal/segment/newest.h"
#include "core/journal/segment/spare.h"
#include "tools/epochctl/verbs.h"

namespace epoch::ctl {
namespace {

struct RemoveArgs {
  std::string region;
  bool force = false;
  bool with_journal = false;
  bool yes = false;
};

// The superblock of a region of any boot, if it is whole. Empty if not.
std::optional<detail::Superblock> ReadAnySuperblock(const std::string& path) {
  const detail::Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  detail::Superblock superblock{};
  if (!fd.ok() || pread(fd.get(), &superblock, sizeof superblock, 0) != sizeof superblock ||
      superblock.magic != detail::kRegionMagic) {
    return std::nullopt;
  }
  return superblock;
}

// Whether the region may go: it is one, and nobody lives in it. Whoever it belongs to: nothing that
// it says is taken on trust but what it is.
absl::Status CheckRemovable(const std::string& path) {
  const auto mapping =
      detail::Mapping::Open(path, /*read_only=*/true, /*check_words=*/false, /*trusted=*/true);
  const auto in_use = [&path](const std::string& by) {
    return absl::FailedPreconditionError(
        fmt::format("{} is in use by {}: they would go on in a region that nobody else can find; "
                    "end them first, or insist with --force",
                    path, by));
  };
  if (mapping.ok()) {
    std::string names;
    for (const inspect::ParticipantStatus& p : inspect::InspectRegion(**mapping).participants) {
      if (!p.alive) continue;
      names += fmt::format("{}\"{}\" (slot {}, pid {})", names.empty() ? "" : ", ", p.name, p.slot,
                           p.pid);
    }
    return names.empty() ? absl::OkStatus() : in_use(names);
  }
  const absl::Status& status = mapping.status();
  // Whatever is wrong with the file: the locks on it are the kernel's own word.
  const detail::Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (fd.ok() && detail::AnybodyIn(fd.get())) return in_use("living processes");
  if (absl::IsFailedPrecondition(status)) return absl::OkStatus();  // of an earlier boot, a copy
  if (!absl::IsDataLoss(status)) return status;
  // Damaged. A file in the place of a named region may go; any other has to look like one.
  if (detail::Mapping::IsNamed(path) || ReadAnySuperblock(path).has_value()) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      fmt::format("{} is not an Epoch region, so it stays (rm, if you mean it)", path));
}

// A journal that nobody can write to while this lives.
struct OwnedJournal {
  std::string directory;
  journal::Id journal;
  journal::OpenSegment newest;
};

absl::StatusOr<OwnedJournal> OwnJournal(const std::string& path) {
  const std::optional<detail::Superblock> superblock = ReadAnySuperblock(path);
  if (!superblock.has_value() || superblock->checksum != detail::SuperblockChecksum(*superblock) ||
      superblock->journal_path.back() != '\0') {
    return absl::DataLossError(fmt::format(
        "{}: the superblock is damaged, so it cannot say where its journal is; remove the region "
        "alone, and the journal's directory by hand",
        path));
  }
  if (superblock->durable == 0) {
    return absl::InvalidArgumentError(
        fmt::format("--with-journal: {} is volatile, it has no journal", path));
  }
  const detail::Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  const auto file = detail::IdentityOf(fd.get(), path);
  if (!file.ok()) return file.status();
  if (!detail::SameIdentity(superblock->file, *file)) {
    return absl::FailedPreconditionError(fmt::format(
        "--with-journal: {} is a copy of a region, and {} is the journal of the original; nothing "
        "was removed: leave out --with-journal",
        path, superblock->journal_path.data()));
  }
  OwnedJournal owned{superblock->journal_path.data(), superblock->journal, {}};
  auto newest = journal::LockNewest(owned.directory, absl::ZeroDuration());
  if (!newest.ok()) return newest.status();
  const auto header = journal::ReadSegmentHeader(newest->fd.get(), newest->path);
  if (header.ok() &&
      (header->journal != superblock->journal || header->incarnation != superblock->incarnation)) {
    return absl::FailedPreconditionError(fmt::format(
        "{} is the journal of another region by now (incarnation {}); nothing was removed: leave "
        "out --with-journal",
        owned.directory, detail::HexOf(header->incarnation)));
  }
  owned.newest = *std::move(newest);
  return owned;
}

absl::Status RemoveJournal(const OwnedJournal& owned) {
  // In the directory that the locked segment lies in, whatever stands under its path by now.
  const auto directory = journal::OpenDirectoryOf(owned.newest);
  if (!directory.ok()) return directory.status();
  const auto files = journal::ListSegmentsIn(directory->get(), owned.directory);
  if (!files.ok()) return files.status();
  for (const journal::SegmentFile& file : *files) {  // oldest first: what is left stays whole
    if (unlinkat(directory->get(), detail::NameIn(file.path).c_str(), 0) != 0 && errno != ENOENT) {
      return detail::ErrnoStatus(errno, "cannot remove " + file.path);
    }
  }
  journal::SweepSpares(directory->get(), owned.journal, journal::kMaxSegment);
  // Something else may lie there, too; then the directory stays.
  if (!journal::SameFile(directory->get(), owned.directory)) return absl::OkStatus();
  if (rmdir(owned.directory.c_str()) != 0 && errno != ENOTEMPTY && errno != EEXIST &&
      errno != EBUSY) {
    return detail::ErrnoStatus(errno, "cannot remove " + owned.directory);
  }
  return absl::OkStatus();
}

absl::Status Remove(Context& context, const RemoveArgs& given) {
  const absl::StatusOr<std::string> name = context.RegionOrDefault(given.region);
  if (!name.ok()) return name.status();
  const absl::StatusOr<std::string> path = detail::RegionPath(*name);
  if (!path.ok()) return path.status();
  if (given.with_journal && !given.yes) {
    return absl::InvalidArgumentError(
        "--with-journal destroys every state of the region for good: confirm it with --yes");
  }
  const absl::Status removable = CheckRemovable(*path);
  if (!removable.ok() && !(given.force && ReadAnySuperblock(*path).has_value())) return removable;
  std::optional<OwnedJournal> journal;
  if (given.with_journal) {
    auto owned = OwnJournal(*path);
    if (!owned.ok()) return owned.status();
    journal = *std::move(owned);
  }
  if (absl::Status s = Region::Unlink(*path); !s.ok()) return s;
  if (journal.has_value()) {
    if (absl::Status s = RemoveJournal(*journal); !s.ok()) return s;
  }
  if (context.json()) {
    nlohmann::ordered_json json = {{"schema", "epoch.rm/1"}, {"region", *path}};
    json["journal"] = journal.has_value() ? nlohmann::ordered_json(journal->directory) : nullptr;
    context.PrintJson(json);
  }
  return absl::OkStatus();
}

}  // namespace

void AddRemove(CLI::App& app, Context& context) {
  auto given = std::make_shared<RemoveArgs>();
  CLI::App* verb =
      context.AddVerb(app, "rm", "Removes a region that nobody is in", "epochctl rm config",
                      [&context, given] { return Remove(context, *given); });
  verb->add_option("REGION", given->region, "name or path")->type_name("");
  verb->add_flag("--force", given->force, "although it is in use, or of another layout");
  verb->add_flag("--with-journal", given->with_journal,
                 "its journal, too, which else stays: needs --yes");
  verb->add_flag("--yes", given->yes, "confirms --with-journal");
}

}  // namespace epoch::ctl
