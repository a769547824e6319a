#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/inspect/region_status.h"
#include "core/journal/read/begun.h"
#include "core/journal/read/past.h"
#include "core/journal/read/survey.h"
#include "epoch/journal.h"
#include "tools/epochctl/past_epoch.h"
#include "tools/epochctl/verbs.h"

namespace epoch::ctl {
namespace {

using Json = nlohmann::ordered_json;

struct LogArgs {
  std::string directory, segment, show;
  bool verify = false;
};

constexpr std::string_view kHeading =
    "     EPOCH      BYTES  DIGEST                 TOKEN  PROPOSER  SEGMENT     BLOCK\n";

std::string ToText(const journal::Record& r) {
  return fmt::format("{:>10} {:>10}  {:016x}  {:>10}  {:>8}  {:>7}  {:>8}{}\n", r.header.epoch,
                     r.header.length_bytes, r.header.digest, r.header.token,
                     fmt::format("{}/{}", r.slot(), r.generation()), r.segment, r.block,
                     r.payload_ok ? "" : "  DAMAGED");
}

Json ToJson(const journal::Record& r) {
  return {{"epoch", r.header.epoch},
          {"bytes", r.header.length_bytes},
          {"digest", fmt::format("{:016x}", r.header.digest)},
          {"token", r.header.token},
          {"proposer", {{"slot", r.slot()}, {"generation", r.generation()}}},
          {"segment", r.segment},
          {"block", r.block},
          {"sound", r.payload_ok}};
}

Json ToJson(const journal::SegmentScan& s) {
  return {{"segment", s.header.segment},
          {"path", s.path},
          {"incarnation", detail::HexOf(s.header.incarnation)},
          {"history", inspect::NameOf(s.header.history)},
          {"recovered", s.header.recovered != 0},
          {"base_epoch", s.header.base_epoch},
          {"last_epoch", s.epoch},
          {"batches", s.batches},
          {"records", s.records},
          {"used_bytes", s.end_block * journal::kBlockBytes},
          {"bytes", s.header.capacity_blocks * journal::kBlockBytes},
          {"torn", s.torn},
          {"damaged", s.damaged}};
}

std::string ToText(const std::vector<journal::SegmentScan>& segments) {
  Table table(">>>>>><");
  table.Row({"SEGMENT", "BASE", "LAST", "BATCHES", "RECORDS", "USED", ""});
  for (const journal::SegmentScan& s : segments) {
    table.Row({fmt::format("{}", s.header.segment), fmt::format("{}", s.header.base_epoch),
               fmt::format("{}", s.epoch), fmt::format("{}", s.batches),
               fmt::format("{}", s.records), HumanBytes(s.end_block * journal::kBlockBytes),
               fmt::format("{}{}", s.header.recovered != 0 ? "made by a recovery " : "",
                           s.damaged ? "damaged"
                           : s.torn  ? "torn tail (never acknowledged)"
                                     : "")});
  }
  return table.Text();
}

// One segment's part of the journal, scanned as far as it can be read.
absl::StatusOr<journal::JournalScan> ScanOne(const std::string& directory, std::uint64_t number,
                                             journal::ScanOptions options) {
  const auto files = journal::ListWithBegun(directory);
  if (!files.ok()) return files.status();
  for (const journal::SegmentFile& file : *files) {
    if (file.number != number) continue;
    journal::JournalScan scan;
    scan.bytes = file.bytes;
    options.on_damage = [&scan](const std::string& what) { scan.damage.push_back(what); };
    auto segment = journal::ScanSegmentFile(file.path, options);
    if (!segment.ok()) return segment.status();
    scan.segments.push_back(*std::move(segment));
    return scan;
  }
  return absl::NotFoundError(
      fmt::format("{} has no segment {} (it has {} segments; epochctl log "
                  "{} --verify lists them)",
                  directory, number, files->size(), directory));
}

// The region that was given in place of a directory.
absl::StatusOr<std::optional<Region>> GivenRegion(const std::string& given) {
  struct stat info {};
  if (stat(given.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) return std::nullopt;
  absl::StatusOr<Region> region = Region::Open(given, {.read_only = true});
  // Then it is said that there is no such directory.
  if (absl::IsNotFound(region.status())) return std::nullopt;
  if (!region.ok()) return region.status();
  // That it is durable, and this program can read its journal.
  if (const auto history = region->History(); !history.ok()) return history.status();
  return *std::move(region);
}

absl::Status Show(Context& context, const std::string& directory, const Region* region,
                  const std::string& wanted) {
  const auto epoch = ParseNumber("--show", wanted, kMaxEpoch);
  if (!epoch.ok()) return epoch.status();
  const EpochHistory history = region != nullptr
                                   ? *region->History()
                                   : EpochHistory(std::make_shared<journal::Past>(directory));
  const absl::StatusOr<PastEpoch> past = history.At(*epoch);
  if (!past.ok()) return past.status();
  if (context.json()) {
    Json record = Json::object();
    AddPastEpoch(record, *past);
    context.PrintJson({{"schema", "epoch.log/1"}, {"journal", directory}, {"record", record}});
    return absl::OkStatus();
  }
  constexpr std::size_t kMostShown_bytes = 4096;
  const std::string_view state(reinterpret_cast<const char*>(past->state.data()),
                               past->state.size());
  context.Print(PastEpochText(*past));
  // Line by line: what else is in it may not touch the terminal.
  if (!state.empty()) {
    const absl::string_view begin(state.data(), std::min(state.size(), kMostShown_bytes));
    context.Print("\n" + absl::StrJoin(absl::StrSplit(begin, '\n'), "\n",
                                       [](std::string* out, absl::string_view line) {
                                         *out += Printable({line.data(), line.size()});
                                       }));
  }
  if (!state.empty() && state.back() != '\n') context.Print("\n");
  if (state.size() > kMostShown_bytes) {
    context.Print(fmt::format("... {} in all; -o json has them\n", HumanBytes(state.size())));
  }
  return absl::OkStatus();
}

absl::Status Log(Context& context, LogArgs given) {
  const auto region = GivenRegion(given.directory);
  if (!region.ok()) return region.status();
  if (region->has_value()) {
    given.directory = (*region)->journal();
  }
  if (!given.show.empty()) {
    return Show(context, given.directory, region->has_value() ? &**region : nullptr, given.show);
  }
  std::optional<std::uint64_t> only;
  if (!given.segment.empty()) {
    const auto number = ParseNumber("--segment", given.segment, journal::kMaxSegment);
    if (!number.ok()) return number.status();
    only = *number;
  }
  const bool list = !given.verify;
  std::uint64_t records = 0, failed = 0;
  journal::ScanOptions options;
  // Printed as they are read: a journal may be larger than memory.
  options.on_record = [&](const journal::Record& record) {
    failed += record.payload_ok ? 0 : 1;
    if (list && context.json()) {
      context.Print(
          fmt::format("{}\n    {}", records == 0 ? "" : ",", JsonText(ToJson(record), -1)));
    } else if (list) {
      context.Print(ToText(record));
    }
    ++records;
  };
  if (context.json()) {
    context.Print(
        fmt::format("{{\n  \"schema\": \"epoch.log/1\",\n  \"journal\": {},\n  \"records\": [",
                    JsonText(Json(given.directory), -1)));
  } else if (list) {
    context.Print(kHeading);
  }
  const auto scan = only.has_value() ? ScanOne(given.directory, *only, options)
                                     : journal::ScanJournal(given.directory, options);
  if (!scan.ok()) {
    context.DropOutput();
    return scan.status();
  }
  std::vector<std::string> damage = scan->damage;
  if (failed != 0) {
    damage.push_back(fmt::format("{} not as its digest says", Count(failed, "state")));
  }
  if (context.json()) {
    Json segments = Json::array();
    for (const journal::SegmentScan& segment : scan->segments) segments.push_back(ToJson(segment));
    context.Print(fmt::format("{}],\n  \"segments\": {},\n  \"damage\": {}\n}}\n",
                              list && records != 0 ? "\n  " : "", JsonText(segments, -1),
                              JsonText(Json(damage), -1)));
  } else if (given.verify) {
    context.Print(ToText(scan->segments));
    if (damage.empty()) {
      context.Print(
          fmt::format("sound: {} in {}, every checksum, digest and link of the chain "
                      "verified\n",
                      Count(records, "record"), HumanBytes(scan->bytes)));
    }
  }
  if (damage.empty()) return absl::OkStatus();
  for (const std::string& what : damage) context.Message(what);
  return absl::DataLossError(fmt::format(
      "{} is damaged; nothing was changed (what can be recovered: epochctl recover DIR REGION "
      "--dry-run)",
      given.directory));
}

}  // namespace

void AddLog(CLI::App& app, Context& context) {
  auto given = std::make_shared<LogArgs>();
  CLI::App* verb =
      context.AddVerb(app, "log", "Lists what a journal holds, as far as it can be read",
                      "epochctl log /var/lib/config/journal --verify",
                      [&context, given] { return Log(context, *given); });
  verb->add_option("DIR", given->directory, "directory of the journal, or its region")
      ->type_name("")
      ->required();
  CLI::Option* verify = verb->add_flag(
      "--verify", given->verify, "check every checksum, digest and link, and sum up by segment");
  CLI::Option* segment =
      verb->add_option("--segment", given->segment, "only this one")->type_name("N");
  verb->add_option("--show", given->show, "only this epoch: what is known of it, and its state")
      ->type_name("EPOCH")
      ->excludes(verify)
      ->excludes(segment);
}

}  // namespace epoch::ctl
