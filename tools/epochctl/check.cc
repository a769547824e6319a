#include <fmt/format.h>
#include <sys/stat.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "core/inspect/region_check.h"
#include "core/journal/read/survey.h"
#include "tools/epochctl/verbs.h"

namespace epoch::ctl {
namespace {

using inspect::Finding;

struct Verdict {
  std::vector<Finding> findings;
  std::string looked_at;  // "3 states, 64 KiB"
};

absl::StatusOr<Verdict> CheckJournal(const std::string& directory) {
  Verdict verdict;
  journal::ScanOptions options;
  options.on_record = [&](const journal::Record& record) {
    if (record.payload_ok) return;
    verdict.findings.push_back(
        {Finding::Severity::kDamage, fmt::format("segment {}", record.segment),
         fmt::format("the state of epoch {} (block {}) does not match its digest",
                     record.header.epoch, record.block)});
  };
  const auto scan = journal::ScanJournal(directory, options);
  if (!scan.ok()) return scan.status();
  for (const std::string& what : scan->damage) {
    verdict.findings.push_back({Finding::Severity::kDamage, "journal", what});
  }
  std::uint64_t records = 0;
  for (const journal::SegmentScan& segment : scan->segments) {
    records += segment.records;
    if (!segment.torn) continue;
    verdict.findings.push_back(
        {Finding::Severity::kNote, fmt::format("segment {}", segment.header.segment),
         fmt::format("a batch behind epoch {} is incomplete: it was never acknowledged",
                     segment.epoch)});
  }
  verdict.looked_at = fmt::format("{}, {}, {}", Count(scan->segments.size(), "segment"),
                                  Count(records, "record"), HumanBytes(scan->bytes));
  return verdict;
}

absl::StatusOr<Verdict> CheckRegion(const std::string& path) {
  const absl::StatusOr<inspect::CheckReport> report = inspect::CheckRegion(path);
  if (!report.ok()) return report.status();
  return Verdict{report->findings,
                 fmt::format("{}, {}", Count(report->states, "state"), HumanBytes(report->bytes))};
}

absl::Status Check(Context& context, const std::string& given) {
  const absl::StatusOr<std::string> name = context.RegionOrDefault(given);
  if (!name.ok()) return name.status();
  const absl::StatusOr<std::string> path = detail::RegionPath(*name);
  if (!path.ok()) return path.status();
  // A directory without a slash in its name is meant if there is no region of that name.
  struct stat info {};
  const auto is_directory = [&](const std::string& candidate) {
    return stat(candidate.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
  };
  std::string target = *path;
  bool journal = is_directory(target);
  if (!journal && stat(target.c_str(), &info) != 0 && is_directory(*name)) {
    target = *name;
    journal = true;
  }
  const absl::StatusOr<Verdict> verdict = journal ? CheckJournal(target) : CheckRegion(target);
  if (!verdict.ok()) return verdict.status();

  std::size_t damages = 0, of_journal = 0;
  for (const Finding& finding : verdict->findings) {
    if (finding.severity != Finding::Severity::kDamage) continue;
    ++damages;
    of_journal += finding.where == "journal" ? 1 : 0;
  }
  if (context.json()) {
    nlohmann::ordered_json json = {{"schema", "epoch.check/1"},
                                   {journal ? "journal" : "region", target},
                                   {"ok", damages == 0},
                                   {"checked", verdict->looked_at},
                                   {"findings", nlohmann::ordered_json::array()}};
    for (const Finding& finding : verdict->findings) {
      json["findings"].push_back(
          {{"severity", finding.severity == Finding::Severity::kDamage ? "damage" : "note"},
           {"where", finding.where},
           {"what", finding.what}});
    }
    context.PrintJson(json);
  } else {
    for (const Finding& finding : verdict->findings) {
      context.Print(fmt::format("{}: {}: {}\n",
                                finding.severity == Finding::Severity::kDamage ? "DAMAGE" : "note",
                                finding.where, Printable(finding.what)));
    }
    if (damages == 0) {
      context.Print(fmt::format("{}: sound ({})\n", Printable(target), verdict->looked_at));
    }
  }
  if (damages == 0) return absl::OkStatus();
  if (!journal && of_journal == damages) {
    return absl::DataLossError(fmt::format(
        "{} is whole, its journal is not: {}; keep the state (epochctl get) before the region goes",
        target, Count(damages, "finding")));
  }
  return absl::DataLossError(fmt::format(
      "{} is damaged: {}; {}", target, Count(damages, "finding"),
      journal ? "see what can be recovered: epochctl recover DIR REGION --dry-run"
              : "remove it (epochctl rm) and create it anew, or recover it from its journal"));
}

}  // namespace

void AddCheck(CLI::App& app, Context& context) {
  auto target = std::make_shared<std::string>();
  context
      .AddVerb(app, "check", "Looks for damage in a region or a journal",
               "epochctl check /var/lib/config/journal",
               [&context, target] { return Check(context, *target); })
      ->add_option("REGION|DIR", *target, "a region, or the directory of a journal")
      ->type_name("");
}

}  // namespace epoch::ctl
