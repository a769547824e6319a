#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "tools/epochctl/verbs.h"

namespace epoch::ctl {
namespace {

struct GetArgs {
  std::string region;
  bool epoch_only = false;
};

absl::Status Get(Context& context, const GetArgs& given) {
  const absl::StatusOr<std::string> name = context.RegionOrDefault(given.region);
  if (!name.ok()) return name.status();
  const absl::StatusOr<Region> region = Region::Open(*name, {.read_only = true});
  if (!region.ok()) return region.status();
  if (given.epoch_only) {
    if (context.json()) {
      context.PrintJson(
          {{"schema", "epoch.get/1"}, {"region", region->path()}, {"epoch", region->epoch()}});
    } else {
      context.Print(fmt::format("{}\n", region->epoch()));
    }
    return absl::OkStatus();
  }
  const absl::StatusOr<Snapshot> snapshot = region->Read();
  if (!snapshot.ok()) return snapshot.status();
  const std::string_view bytes(reinterpret_cast<const char*>(snapshot->state.data()),
                               snapshot->state.size());
  if (context.json()) {
    context.PrintJson({{"schema", "epoch.get/1"},
                       {"region", region->path()},
                       {"epoch", snapshot->epoch},
                       {"token", snapshot->token},
                       {"bytes", bytes.size()},
                       {"digest", fmt::format("{:016x}", detail::Digest(snapshot->state))},
                       {"state_base64", absl::Base64Escape({bytes.data(), bytes.size()})}});
  } else {
    context.Print(bytes);
  }
  return absl::OkStatus();
}

}  // namespace

void AddGet(CLI::App& app, Context& context) {
  auto given = std::make_shared<GetArgs>();
  CLI::App* verb = context.AddVerb(
      app, "get", "Writes the committed state, verified, to standard output",
      "epochctl get config > config.json", [&context, given] { return Get(context, *given); });
  verb->add_option("REGION", given->region, "name or path")->type_name("");
  verb->add_flag("--epoch-only", given->epoch_only, "print the epoch instead");
}

}  // namespace epoch::ctl
