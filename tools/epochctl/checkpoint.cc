#include "epoch/checkpoint.h"

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "tools/epochctl/verbs.h"

namespace epoch::ctl {
namespace {

using Json = nlohmann::ordered_json;

struct CheckpointArgs {
  std::string directory, step, keep;
  bool verify = false, good = false, remove_damaged = false, dry_run = false;
};

Json ToJson(const Checkpoint& c) {
  Json shards = Json::array();
  for (const Shard& shard : c.shards) {
    shards.push_back({{"rank", shard.rank},
                      {"name", shard.name},
                      {"bytes", shard.bytes},
                      {"xxh3_128", HexOf(shard.digest)},
                      {"path", c.PathOf(shard)}});
  }
  Json lists = Json::array();
  for (const ShardList& list : c.lists) {
    lists.push_back({{"rank", list.rank},
                     {"files", list.files},
                     {"bytes", list.bytes},
                     {"xxh3_128", HexOf(list.digest)},
                     {"path", c.DirectoryOf(list.rank) + ".files"}});
  }
  return {{"step", c.step},           {"epoch", c.epoch},
          {"attempt", c.attempt},     {"world", c.world},
          {"files", c.files()},       {"bytes", c.bytes()},
          {"directory", c.directory}, {"pruned", c.pruned},
          {"metadata", c.metadata},   {"shards", std::move(shards)},
          {"lists", std::move(lists)}};
}

Json ToJson(const std::vector<Checkpoint>& checkpoints) {
  Json json = Json::array();
  for (const Checkpoint& c : checkpoints) json.push_back(ToJson(c));
  return json;
}

std::vector<std::string> RowOf(const Checkpoint& c, std::string note) {
  return {fmt::format("{}", c.step),    fmt::format("{}", c.epoch), fmt::format("{}", c.world),
          fmt::format("{}", c.files()), HumanBytes(c.bytes()),      std::move(note)};
}

Table CheckpointTable() {
  Table table(">>>>><");
  table.Row({"STEP", "EPOCH", "RANKS", "SHARDS", "SIZE", "STATE"});
  return table;
}

absl::Status DamagedJournal(Context& context, const CheckpointList& list,
                            const std::string& directory) {
  if (list.damage.empty()) return absl::OkStatus();
  for (const std::string& what : list.damage) context.Message(what);
  return absl::DataLossError(fmt::format(
      "the manifests of {} are damaged; what is listed can be read (verify --step)", directory));
}

absl::Status ListAll(Context& context, const CheckpointArgs& given) {
  const absl::StatusOr<CheckpointList> list = Checkpoints(given.directory).List();
  if (!list.ok()) return list.status();
  if (context.json()) {
    Json stagings = Json::array();
    for (const Staging& s : list->stagings) {
      stagings.push_back(
          {{"step", s.step}, {"attempt", s.attempt}, {"directory", s.directory}, {"live", s.live}});
    }
    context.PrintJson({{"schema", "epoch.checkpoint.list/1"},
                       {"directory", given.directory},
                       {"checkpoints", ToJson(list->checkpoints)},
                       {"stagings", std::move(stagings)},
                       {"damage", list->damage}});
  } else {
    Table table = CheckpointTable();
    std::size_t latest = list->checkpoints.size();
    for (std::size_t i = 0; i < list->checkpoints.size(); ++i) {
      if (!list->checkpoints[i].pruned) latest = i;
    }
    for (std::size_t i = 0; i < list->checkpoints.size(); ++i) {
      const Checkpoint& c = list->checkpoints[i];
      table.Row(RowOf(c, c.pruned ? "pruned" : i == latest ? "latest" : ""));
    }
    for (const Staging& s : list->stagings) {
      table.Row({fmt::format("{}", s.step), "-", "-", "-", "-",
                 s.live ? "being made" : "abandoned (prune removes it)"});
    }
    context.Print(table.Text());
  }
  return DamagedJournal(context, *list, given.directory);
}

absl::Status LatestGood(Context& context, const CheckpointArgs& given) {
  const absl::StatusOr<NewestGood> good = Checkpoints(given.directory).OpenNewestGood();
  if (!good.ok()) return good.status();
  const Checkpoint& found = good->checkpoint.info();
  for (const std::string& problem : good->problems) context.Message(problem);
  for (const Checkpoint& passed : good->damaged) {
    context.Message(fmt::format("step {} is damaged, and was passed over", passed.step));
  }
  if (context.json()) {
    Json json = {{"schema", "epoch.checkpoint.latest/1"}, {"verified", true}};
    json.update(ToJson(found));
    json["passed_over"] = ToJson(good->damaged);
    json["problems"] = good->problems;
    context.PrintJson(json);
  } else {
    context.Print(fmt::format("{}\n", Printable(found.directory)));
  }
  return absl::OkStatus();
}

absl::Status Latest(Context& context, const CheckpointArgs& given) {
  if (given.good) return LatestGood(context, given);
  const Checkpoints checkpoints(given.directory);
  const absl::StatusOr<Checkpoint> latest = checkpoints.Latest();
  if (!latest.ok()) return latest.status();
  if (given.verify) {
    const auto opened = checkpoints.Open(*latest);
    if (!opened.ok()) return opened.status();
  }
  if (context.json()) {
    Json json = {{"schema", "epoch.checkpoint.latest/1"}, {"verified", given.verify}};
    json.update(ToJson(*latest));
    context.PrintJson(json);
    return absl::OkStatus();
  }
  context.Print(fmt::format("{}\n", Printable(latest->directory)));
  return absl::OkStatus();
}

absl::Status Verify(Context& context, const CheckpointArgs& given) {
  const Checkpoints checkpoints(given.directory);
  std::optional<std::uint64_t> only;
  if (!given.step.empty()) {
    const auto step = ParseNumber("--step", given.step);
    if (!step.ok()) return step.status();
    only = *step;
  }
  const absl::StatusOr<CheckpointList> list = checkpoints.List();
  if (!list.ok()) return list.status();
  Json results = Json::array();
  Table table = CheckpointTable();
  std::vector<std::string> problems;
  absl::Status failed;  // what could not be read at all
  std::uint64_t verified = 0, damaged = 0;
  for (const Checkpoint& c : list->checkpoints) {
    if (c.pruned || (only.has_value() && c.step != *only)) continue;
    Json told = Json::array();
    for (const absl::Status& problem : checkpoints.Verify(c)) {
      if (!absl::IsDataLoss(problem)) failed = problem;
      told.push_back(std::string(problem.message()));
      problems.emplace_back(problem.message());
    }
    ++verified;
    damaged += told.empty() ? 0 : 1;
    table.Row(RowOf(
        c, told.empty() ? "good" : fmt::format("DAMAGED, {}", Count(told.size(), "problem"))));
    Json json = ToJson(c);
    json["good"] = told.empty();
    json["problems"] = std::move(told);
    results.push_back(std::move(json));
  }
  if (only.has_value() && verified == 0) return checkpoints.Find(*only).status();
  if (context.json()) {
    context.PrintJson({{"schema", "epoch.checkpoint.verify/1"},
                       {"directory", given.directory},
                       {"checkpoints", std::move(results)},
                       {"damage", list->damage}});
  } else {
    context.Print(table.Text());
  }
  for (const std::string& problem : problems) context.Message(problem);
  if (absl::Status s = DamagedJournal(context, *list, given.directory); !s.ok() && !only) return s;
  if (!failed.ok()) return failed;
  if (damaged == 0) return absl::OkStatus();
  return absl::DataLossError(
      fmt::format("{} of {} damaged; nothing was changed", damaged, Count(verified, "checkpoint")));
}

absl::Status Prune(Context& context, const CheckpointArgs& given) {
  PruneOptions options;
  const auto keep = ParseNumber("--keep", given.keep, UINT32_MAX);
  if (!keep.ok()) return keep.status();
  options.keep = static_cast<std::uint32_t>(*keep);
  options.remove_damaged = given.remove_damaged;
  options.dry_run = given.dry_run;
  const absl::StatusOr<PruneResult> result = Checkpoints(given.directory).Prune(options);
  if (!result.ok()) return result.status();
  if (context.json()) {
    context.PrintJson({{"schema", "epoch.checkpoint.prune/1"},
                       {"directory", given.directory},
                       {"dry_run", given.dry_run},
                       {"kept", ToJson(result->kept)},
                       {"removed", ToJson(result->removed)},
                       {"in_use", ToJson(result->in_use)},
                       {"damaged", ToJson(result->damaged)},
                       {"problems", result->problems},
                       {"cleaned", result->cleaned}});
  } else {
    Table table = CheckpointTable();
    for (const Checkpoint& c : result->kept) table.Row(RowOf(c, "kept: every digest verified"));
    for (const Checkpoint& c : result->in_use) table.Row(RowOf(c, "kept: in use"));
    if (!given.remove_damaged) {
      for (const Checkpoint& c : result->damaged) table.Row(RowOf(c, "DAMAGED, left alone"));
    }
    for (const Checkpoint& c : result->removed) {
      table.Row(RowOf(c, given.dry_run ? "would be removed" : "removed"));
    }
    context.Print(table.Text());
    for (const std::string& folder : result->cleaned) {
      context.Print(fmt::format("abandoned, removed: {}\n", Printable(folder)));
    }
  }
  for (const std::string& problem : result->problems) context.Message(problem);
  return absl::OkStatus();
}

}  // namespace

void AddCheckpoint(CLI::App& app, Context& context) {
  CLI::App* group = app.add_subcommand("checkpoint", "Lists, verifies and prunes checkpoints");
  group->require_subcommand(1);
  group->fallthrough();
  const auto add = [&](const char* name, const char* what, const std::string& arguments,
                       absl::Status (*work)(Context&, const CheckpointArgs&)) {
    auto given = std::make_shared<CheckpointArgs>();
    CLI::App* verb = context.AddVerb(
        *group, name, what, fmt::format("epochctl checkpoint {} /data/run7{}", name, arguments),
        [&context, given, work, name] {
          context.set_verb(fmt::format("checkpoint {}", name));
          return work(context, *given);
        });
    verb->add_option("DIR", given->directory, "directory of the checkpoints")
        ->type_name("")
        ->required();
    return std::pair(verb, given);
  };
  add("list", "Lists all checkpoints, and what is being made", "", ListAll);
  auto [latest, of_latest] =
      add("latest", "Prints the folder of the newest checkpoint", " --verify", Latest);
  latest->add_flag("--verify", of_latest->verify, "verify every digest first");
  latest->add_flag("--good", of_latest->good,
                   "the newest one that is good; damaged ones are named and passed over");
  auto [verify, of_verify] =
      add("verify", "Verifies every digest, and that nothing is missing", " --step 1200", Verify);
  verify->add_option("--step", of_verify->step, "only this one")->type_name("N");
  auto [prune, of_prune] =
      add("prune", "Removes old checkpoints, never the only good one", " --keep 3", Prune);
  prune->add_option("--keep", of_prune->keep, "so many good ones stay; they are verified first")
      ->type_name("N")
      ->required();
  prune->add_flag("--remove-damaged", of_prune->remove_damaged,
                  "also those that are found damaged on the way");
  prune->add_flag("--dry-run", of_prune->dry_run, "only say what would be removed");
}

}  // namespace epoch::ctl
