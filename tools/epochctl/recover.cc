#include <fcntl.h>
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "core/inspect/region_status.h"
#include "core/journal/read/past.h"
#include "core/journal/read/restore.h"
#include "epoch/journal.h"
#include "tools/epochctl/verbs.h"

namespace epoch::ctl {
namespace {

using Json = nlohmann::ordered_json;

struct RecoverArgs {
  std::string directory, region, timeout, epoch, journal;
  GeometryOptions geometry;
  bool dry_run = false;
  bool ignore_block_damage = false;
};

// Who is in the way: the region is there already.
absl::Status Explain(const absl::Status& refused, const std::string& region_path) {
  const auto mapping = detail::Mapping::Open(region_path, /*read_only=*/true);
  if (!absl::IsAlreadyExists(refused) || !mapping.ok()) return refused;
  const inspect::RegionStatus status = inspect::InspectRegion(**mapping);
  if (!status.poisoned()) {
    return absl::AlreadyExistsError(
        fmt::format("{} exists and is alive, at epoch {}: open it; there is nothing to recover",
                    region_path, status.epoch));
  }
  std::string names;
  for (const inspect::ParticipantStatus& p : status.participants) {
    if (!p.alive) continue;
    names += fmt::format("{}\"{}\" (pid {})", names.empty() ? "" : ", ", p.name, p.pid);
  }
  return absl::FailedPreconditionError(
      fmt::format("{} is poisoned, and its journal still in use by {}: end them, then recover "
                  "again",
                  region_path, names.empty() ? "a process that has it open" : names));
}

// What the journal yields, and what is done with the rest of it.
struct Plan {
  journal::SegmentScan scan;
  RegionOptions options;
  std::string region_path;
};

// The options of the incarnation that wrote a segment, so that one that goes on from it is like it.
void GeometryOf(const journal::SegmentHeader& header, const GeometryOptions& given,
                RegionOptions& options) {
  options.state_bytes = header.state_bytes;
  options.participants = header.participants;
  options.versions = header.versions;
  // The old size, unless larger states may not fit into it.
  if (given.state_bytes.empty()) {
    options.segment_bytes = header.capacity_blocks * journal::kBlockBytes;
  }
}

absl::StatusOr<Plan> MakePlan(const Context& context, const RecoverArgs& given) {
  Plan plan;
  const absl::StatusOr<std::string> name = context.RegionOrDefault(given.region);
  if (!name.ok()) return name.status();
  absl::StatusOr<std::string> path = detail::RegionPath(*name);
  if (!path.ok()) return path.status();
  plan.region_path = *std::move(path);
  auto scan = journal::Preview(given.directory, given.ignore_block_damage);
  if (!scan.ok()) return scan.status();
  plan.scan = *std::move(scan);

  const journal::SegmentHeader& header = plan.scan.header;
  RegionOptions& options = plan.options;
  GeometryOf(header, given.geometry, options);
  if (absl::Status s = given.geometry.FillIn(options); !s.ok()) return s;
  if (plan.scan.state.size() > options.state_bytes) {
    return absl::OutOfRangeError(fmt::format(
        "the state of epoch {} has {} bytes, more than --state-bytes {}; nothing was changed",
        plan.scan.epoch, plan.scan.state.size(), options.state_bytes));
  }
  options.journal = given.directory;
  options.ignore_block_damage = given.ignore_block_damage;
  if (!given.timeout.empty()) {
    const auto timeout = ParseDuration("--timeout", given.timeout);
    if (!timeout.ok()) return timeout.status();
    options.restore_timeout = *timeout;
  }
  return plan;
}

void ReportPlan(Context& context, const Plan& plan, const Region* region) {
  const journal::SegmentScan& scan = plan.scan;
  const Epoch epoch = region == nullptr ? scan.epoch : region->epoch();
  if (context.json()) {
    Json json = {
        {"schema", "epoch.recover/1"},
        {"region", plan.region_path},
        {"journal", plan.options.journal},
        {"dry_run", region == nullptr},
        {"epoch", epoch},
        {"bytes", scan.state.size()},
        {"digest", fmt::format("{:016x}", detail::Digest(scan.state))},
        {"token", scan.token},
        {"segment", scan.header.segment},
        {"cut", scan.torn},
        {"cut_offset", scan.torn ? Json(scan.end_block * journal::kBlockBytes) : Json(nullptr)},
        {"incarnation", region == nullptr ? Json(nullptr) : Json(region->incarnation())}};
    context.PrintJson(json);
    return;
  }
  context.Print(fmt::format("epoch {} {} {} (segment {}, state of {}, digest {:016x}, token {})\n",
                            epoch, region == nullptr ? "would be recovered into" : "recovered into",
                            Printable(plan.region_path), scan.header.segment,
                            HumanBytes(scan.state.size()), detail::Digest(scan.state), scan.token));
  if (scan.torn) {
    context.Print(fmt::format(
        "cut at offset {}: the batch behind epoch {} is incomplete and was never acknowledged\n",
        scan.end_block * journal::kBlockBytes, scan.epoch));
  }
}

// A new region, with a new journal, that begins with an old epoch. The old journal is only read:
// what came after that epoch stays in it, and its region may live on.
absl::Status RecoverPast(Context& context, const RecoverArgs& given) {
  if (given.journal.empty()) {
    return absl::InvalidArgumentError(
        "--epoch needs --journal DIR, for the journal of the new region: the old one is not cut");
  }
  if (given.ignore_block_damage || !given.timeout.empty()) {
    return absl::InvalidArgumentError(
        "--epoch only reads what is sound, and waits for nobody: --ignore-block-damage and "
        "--timeout do not go with it");
  }
  const auto epoch = ParseNumber("--epoch", given.epoch, kMaxEpoch);
  if (!epoch.ok()) return epoch.status();
  const absl::StatusOr<std::string> name = context.RegionOrDefault(given.region);
  if (!name.ok()) return name.status();
  const absl::StatusOr<std::string> path = detail::RegionPath(*name);
  if (!path.ok()) return path.status();
  absl::StatusOr<journal::Past::Found> found = journal::Past(given.directory).Find(*epoch);
  if (!found.ok()) return found.status();
  const journal::SegmentHeader& header = found->segment;
  RegionOptions options;
  GeometryOf(header, given.geometry, options);
  options.history = header.history;
  options.retain_segments = header.retain_segments;
  options.retain_epochs = header.retain_epochs;
  options.journal = given.journal;
  // As a restore would give it.
  if (const auto files = journal::ListSegments(given.directory); files.ok() && !files->empty()) {
    struct stat info {};
    if (stat(files->back().path.c_str(), &info) == 0) options.mode = (info.st_mode & 0777) | 0600;
  }
  if (absl::Status s = given.geometry.FillIn(options); !s.ok()) return s;
  if (faccessat(AT_FDCWD, path->c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
    return absl::AlreadyExistsError(
        fmt::format("region {} exists: choose another name for the old epoch", *path));
  }
  if (!detail::Geometry::For(options.state_bytes, options.participants, options.versions)) {
    detail::JournalSeed none;
    return detail::Mapping::Build(*path, options, none);
  }
  const PastEpoch& past = found->past;
  auto seed = journal::CreateFrom(options, /*explicitly=*/true,
                                  {past.epoch, past.chain, past.token, past.state});
  if (!seed.ok()) return seed.status();
  std::string incarnation;
  if (!given.dry_run) {
    if (absl::Status s = detail::Mapping::Build(*path, options, **seed); !s.ok()) return s;
    seed->reset();
    const absl::StatusOr<Region> region = Region::Open(*path);
    if (!region.ok()) return region.status();
    incarnation = region->incarnation();
  }
  if (context.json()) {
    Json json = {{"schema", "epoch.recover/1"},
                 {"region", *path},
                 {"journal", given.journal},
                 {"from_journal", given.directory},
                 {"dry_run", given.dry_run},
                 {"epoch", past.epoch},
                 {"bytes", past.state.size()},
                 {"digest", fmt::format("{:016x}", past.digest)},
                 {"token", past.token},
                 {"segment", past.segment},
                 {"cut", false},
                 {"cut_offset", nullptr},
                 {"incarnation", given.dry_run ? Json(nullptr) : Json(incarnation)}};
    context.PrintJson(json);
    return absl::OkStatus();
  }
  context.Print(fmt::format(
      "epoch {} {} {}, with a new journal in {} (segment {} of {}, state of {}, digest {:016x}, "
      "token {})\n",
      past.epoch, given.dry_run ? "would be recovered into" : "recovered into", Printable(*path),
      Printable(given.journal), past.segment, Printable(given.directory),
      HumanBytes(past.state.size()), past.digest, past.token));
  return absl::OkStatus();
}

absl::Status Recover(Context& context, const RecoverArgs& given) {
  if (!given.epoch.empty()) return RecoverPast(context, given);
  if (!given.journal.empty()) {
    return absl::InvalidArgumentError(
        "--journal goes with --epoch: without it the region goes on with the journal in DIR");
  }
  absl::StatusOr<Plan> plan = MakePlan(context, given);
  if (!plan.ok()) return plan.status();
  if (given.dry_run) {
    absl::StatusOr<journal::SegmentScan> scan = journal::Rehearse(plan->options, plan->region_path);
    if (!scan.ok()) return Explain(scan.status(), plan->region_path);
    plan->scan = *std::move(scan);
    ReportPlan(context, *plan, nullptr);
    return absl::OkStatus();
  }
  const absl::StatusOr<Region> region = Region::Restore(plan->region_path, plan->options);
  if (!region.ok()) return Explain(region.status(), plan->region_path);
  ReportPlan(context, *plan, &*region);
  return absl::OkStatus();
}

}  // namespace

void AddRecover(CLI::App& app, Context& context) {
  auto given = std::make_shared<RecoverArgs>();
  CLI::App* verb = context.AddVerb(app, "recover", "Makes a region anew from its journal",
                                   "epochctl recover /var/lib/config/journal config",
                                   [&context, given] { return Recover(context, *given); });
  verb->add_option("DIR", given->directory, "directory of the journal")->type_name("")->required();
  verb->add_option("REGION", given->region, "name or path of the region to make")->type_name("");
  verb->add_flag("--dry-run", given->dry_run,
                 "only say what would be recovered, or why it could not be");
  verb->add_option("--epoch", given->epoch,
                   "make a new region from this old epoch; DIR is only read")
      ->type_name("N");
  verb->add_option("--journal", given->journal, "with --epoch: directory of the new journal")
      ->type_name("DIR");
  verb->add_flag("--ignore-block-damage", given->ignore_block_damage,
                 "go on past a damaged block: an acknowledged epoch may be lost");
  verb->add_option("--timeout", given->timeout,
                   "how long to wait for processes that still hold the journal (default 10s)")
      ->type_name("DURATION");
  given->geometry.AddTo(verb, /*new_journal=*/false);
}

}  // namespace epoch::ctl
