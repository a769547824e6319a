// Verbs that deal with who is in a region: serve, reap, expel.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "core/inspect/region_status.h"
#include "epoch/participant.h"
#include "tools/epochctl/process.h"
#include "tools/epochctl/verbs.h"

namespace epoch::ctl {
namespace {

using inspect::ParticipantStatus;

std::string Describe(const ParticipantStatus& p) {
  return fmt::format("\"{}\" (slot {}, pid {})", p.name, p.slot, p.pid);
}

nlohmann::ordered_json ToJson(const ParticipantStatus& p) {
  return {{"slot", p.slot}, {"generation", p.generation}, {"name", p.name}, {"pid", p.pid}};
}

absl::Status Reap(Context& context, const RegionArgs& given) {
  const absl::StatusOr<Region> region = context.Open(given);
  if (!region.ok()) return region.status();
  std::vector<ParticipantStatus> dead = inspect::InspectRegion(*region->mapping()).participants;
  std::erase_if(dead, [](const ParticipantStatus& p) { return p.alive; });
  const absl::StatusOr<std::uint32_t> reaped = region->Reap();
  if (!reaped.ok()) return reaped.status();
  if (context.json()) {
    nlohmann::ordered_json json = {{"schema", "epoch.reap/1"},
                                   {"region", region->path()},
                                   {"reaped", *reaped},
                                   {"dead", nlohmann::ordered_json::array()}};
    for (const ParticipantStatus& p : dead) json["dead"].push_back(ToJson(p));
    context.PrintJson(json);
    return absl::OkStatus();
  }
  context.Print(fmt::format("{} dead\n", *reaped));
  for (const ParticipantStatus& p : dead) context.Print(fmt::format("  {}\n", Describe(p)));
  return absl::OkStatus();
}

struct ExpelArgs : RegionArgs {
  std::string slot;
};

absl::Status Expel(Context& context, ExpelArgs given) {
  if (absl::Status s = context.ShiftIfDefault(given.region, given.slot, "SLOT"); !s.ok()) return s;
  const auto slot = ParseNumber("SLOT", given.slot, detail::kMaxParticipants - 1);
  if (!slot.ok()) return slot.status();
  const absl::StatusOr<Region> region = context.Open(given);
  if (!region.ok()) return region.status();
  ParticipantStatus expelled;
  for (const ParticipantStatus& p : inspect::InspectRegion(*region->mapping()).participants) {
    if (p.slot == *slot) expelled = p;
  }
  if (absl::Status s = region->Expel(static_cast<std::uint32_t>(*slot)); !s.ok()) return s;
  if (context.json()) {
    nlohmann::ordered_json json = {{"schema", "epoch.expel/1"}, {"region", region->path()}};
    json.update(ToJson(expelled));
    json["alive"] = expelled.alive;
    context.PrintJson(json);
  } else {
    context.Print(fmt::format(
        "expelled {}{}\n", Describe(expelled),
        expelled.alive ? "; it lives: what it holds stays in quarantine until it leaves" : ""));
  }
  return absl::OkStatus();
}

struct ServeArgs : RegionArgs {
  std::string duration = "inf", name = "epochctl serve";
};

absl::Status Serve(Context& context, const ServeArgs& given) {
  const auto duration = ParseDuration("--duration", given.duration);
  if (!duration.ok()) return duration.status();
  const absl::StatusOr<Region> region = context.Open(given);
  if (!region.ok()) return region.status();
  absl::StatusOr<Participant> self = Participant::Join(*region, {.name = given.name});
  if (!self.ok()) return self.status();
  CatchEndingSignals();
  absl::Status served =
      self->Serve(*duration, [&region] { return AskedToEnd() || Removed(*region); });
  if (!served.ok()) return served;
  if (!AskedToEnd() && Removed(*region)) {
    return absl::NotFoundError(
        fmt::format("{} was removed, or is another region by now", region->path()));
  }
  if (context.json()) {
    context.PrintJson({{"schema", "epoch.serve/1"},
                       {"region", region->path()},
                       {"epoch", region->epoch()},
                       {"interrupted", AskedToEnd()}});
  } else {
    context.Print(fmt::format("{}\n", region->epoch()));
  }
  return absl::OkStatus();
}

}  // namespace

void AddServe(CLI::App& app, Context& context) {
  auto given = std::make_shared<ServeArgs>();
  CLI::App* verb = context.AddVerb(app, "serve", "Writes the journal for participants that cannot",
                                   "epochctl serve config",
                                   [&context, given] { return Serve(context, *given); });
  given->AddTo(verb);
  verb->add_option("--duration", given->duration, "how long")
      ->type_name("DURATION")
      ->capture_default_str();
  verb->add_option("--name", given->name, "what the tools show")
      ->type_name("NAME")
      ->capture_default_str();
}

void AddReap(CLI::App& app, Context& context) {
  auto given = std::make_shared<RegionArgs>();
  given->AddTo(context.AddVerb(app, "reap", "Expels the dead and frees what they held",
                               "epochctl reap config",
                               [&context, given] { return Reap(context, *given); }));
}

void AddExpel(CLI::App& app, Context& context) {
  auto given = std::make_shared<ExpelArgs>();
  CLI::App* verb = context.AddVerb(app, "expel", "Takes a slot away from its participant",
                                   "epochctl expel config 3",
                                   [&context, given] { return Expel(context, *given); });
  given->AddTo(verb);
  verb->add_option("SLOT", given->slot, "number of the slot (epochctl status)")->type_name("");
}

}  // namespace epoch::ctl
