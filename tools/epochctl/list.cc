#include <dirent.h>
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/inspect/region_status.h"
#include "tools/epochctl/verbs.h"

namespace epoch::ctl {
namespace {

struct RegionEntry {
  std::string name, path;
  std::string condition = "ok";
  std::string reason{};
  std::optional<inspect::RegionStatus> status{};
};

std::string ConditionOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kPermissionDenied:
      return "forbidden";
    case absl::StatusCode::kUnimplemented:
      return "other layout";
    case absl::StatusCode::kFailedPrecondition:
      return "stale";
    default:
      return "damaged";
  }
}

absl::StatusOr<std::vector<RegionEntry>> FindRegions() {
  const std::string directory(detail::kRegionDirectory);
  DIR* const opened = opendir(directory.c_str());
  if (opened == nullptr) return detail::ErrnoStatus(errno, "cannot list " + directory);
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(opened, closedir);
  std::vector<RegionEntry> entries;
  while (const dirent* file = readdir(dir.get())) {
    const std::string_view name = file->d_name;
    if (!name.starts_with(detail::kRegionPrefix)) continue;
    RegionEntry entry{.name = std::string(name.substr(detail::kRegionPrefix.size())),
                      .path = JoinPath(directory, name)};
    const auto region = Region::Open(entry.path, {.read_only = true});
    if (absl::IsNotFound(region.status())) continue;  // removed since
    if (region.ok()) {
      entry.status = inspect::InspectRegion(*region->mapping());
      if (entry.status->poisoned()) {
        entry.condition = "poisoned";
        entry.reason = "the journal failed a write: recover the region from it";
      }
    } else {
      entry.condition = ConditionOf(region.status());
      entry.reason = std::string(region.status().message());
    }
    entries.push_back(std::move(entry));
  }
  std::sort(entries.begin(), entries.end(),
            [](const RegionEntry& a, const RegionEntry& b) { return a.name < b.name; });
  return entries;
}

absl::Status List(Context& context) {
  const absl::StatusOr<std::vector<RegionEntry>> entries = FindRegions();
  if (!entries.ok()) return entries.status();
  if (context.json()) {
    nlohmann::ordered_json json = {{"schema", "epoch.list/1"},
                                   {"regions", nlohmann::ordered_json::array()}};
    for (const RegionEntry& entry : *entries) {
      nlohmann::ordered_json row = {
          {"name", entry.name}, {"path", entry.path}, {"condition", entry.condition},
          {"reason", nullptr},  {"epoch", nullptr},   {"participants", nullptr},
          {"durable", nullptr}};
      if (!entry.reason.empty()) row["reason"] = entry.reason;
      if (entry.status.has_value()) {
        row["epoch"] = entry.status->epoch;
        row["participants"] = entry.status->participants.size();
        row["durable"] = entry.status->durable;
      }
      json["regions"].push_back(std::move(row));
    }
    context.PrintJson(json);
    return absl::OkStatus();
  }
  if (entries->empty()) {
    context.Message("no regions (make one: epochctl create NAME)");
    return absl::OkStatus();
  }
  Table table("<>>><");
  table.Row({"REGION", "EPOCH", "PARTICIPANTS", "STATE", "KIND"});
  for (const RegionEntry& entry : *entries) {
    if (!entry.status.has_value()) {
      table.Row({Printable(entry.name), "-", "-", "-",
                 fmt::format("{}: {}", entry.condition, Printable(entry.reason))});
      continue;
    }
    const inspect::RegionStatus& status = *entry.status;
    table.Row({Printable(entry.name), fmt::format("{}", status.epoch),
               fmt::format("{}", status.participants.size()), HumanBytes(status.length_bytes),
               fmt::format("{}{}", status.durable ? "durable" : "volatile",
                           status.poisoned() ? ", poisoned" : "")});
  }
  context.Print(table.Text());
  return absl::OkStatus();
}

}  // namespace

void AddList(CLI::App& app, Context& context) {
  context.AddVerb(app, "list", "Lists the regions of this machine", "epochctl list -o json",
                  [&context] { return List(context); });
}

}  // namespace epoch::ctl
