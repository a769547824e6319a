#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "core/inspect/region_status.h"
#include "tools/epochctl/verbs.h"

namespace epoch::ctl {
namespace {

struct CreateArgs {
  std::string region, journal;
  GeometryOptions geometry;
};

absl::Status Create(Context& context, const CreateArgs& given) {
  const absl::StatusOr<std::string> name = context.RegionOrDefault(given.region);
  if (!name.ok()) return name.status();
  RegionOptions options;
  if (absl::Status s = given.geometry.FillIn(options); !s.ok()) return s;
  options.journal = given.journal;
  const absl::StatusOr<Region> region = Region::Create(*name, options);
  if (!region.ok()) return region.status();

  const bool in_memory = region->journal_in_memory();
  if (in_memory) {
    context.Message(fmt::format(
        "the journal {} lies in memory: what is committed outlives the processes, but not a reboot",
        region->journal()));
  }
  const inspect::RegionStatus status = inspect::InspectRegion(*region->mapping());
  const detail::Geometry& geometry = status.geometry;
  if (context.json()) {
    nlohmann::ordered_json json = {{"schema", "epoch.create/1"},
                                   {"region", status.path},
                                   {"epoch", status.epoch},
                                   {"incarnation", status.incarnation},
                                   {"durable", status.durable},
                                   {"state_bytes", geometry.state_bytes},
                                   {"participants", geometry.participants},
                                   {"versions", geometry.versions},
                                   {"total_bytes", geometry.total_bytes}};
    if (status.durable) {
      json["journal"] = status.journal;
      json["journal_in_memory"] = in_memory;
    }
    context.PrintJson(json);
    return absl::OkStatus();
  }
  context.Print(fmt::format("{}: states up to {}, {}, {}, {} in all{}\n", Printable(status.path),
                            HumanBytes(geometry.state_bytes),
                            Count(geometry.participants, "participant"),
                            Count(geometry.versions, "version"), HumanBytes(geometry.total_bytes),
                            status.durable ? ", journal " + Printable(status.journal) : ""));
  return absl::OkStatus();
}

}  // namespace

void AddCreate(CLI::App& app, Context& context) {
  auto given = std::make_shared<CreateArgs>();
  CLI::App* verb = context.AddVerb(
      app, "create", "Makes a region, with --journal a durable one",
      "epochctl create config --state-bytes 64KiB --journal /var/lib/config/journal",
      [&context, given] { return Create(context, *given); });
  verb->add_option("REGION", given->region, "name or path")->type_name("");
  verb->add_option("--journal", given->journal, "directory of the journal: makes it durable")
      ->type_name("DIR");
  given->geometry.AddTo(verb, /*new_journal=*/true);
}

}  // namespace epoch::ctl
