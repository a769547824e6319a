#include <fmt/format.h>

#include <CLI/Option.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "epoch/journal.h"
#include "tools/epochctl/past_epoch.h"
#include "tools/epochctl/verbs.h"

namespace epoch::ctl {
namespace {

struct GetArgs : RegionArgs {
  std::string epoch;
  bool epoch_only = false;
};

// An old state, out of the journal.
absl::Status GetPast(Context& context, const Region& region, Epoch epoch) {
  const auto history = region.History();
  if (!history.ok()) return history.status();
  const absl::StatusOr<PastEpoch> past = history->At(epoch);
  if (!past.ok()) return past.status();
  if (context.json()) {
    nlohmann::ordered_json json = {{"schema", "epoch.get/1"}, {"region", region.path()}};
    AddPastEpoch(json, *past);
    context.PrintJson(json);
  } else {
    context.Print({reinterpret_cast<const char*>(past->state.data()), past->state.size()});
  }
  return absl::OkStatus();
}

absl::Status Get(Context& context, const GetArgs& given) {
  const absl::StatusOr<Region> region = context.Open(given, /*read_only=*/true);
  if (!region.ok()) return region.status();
  if (!given.epoch.empty()) {
    const auto epoch = ParseNumber("--epoch", given.epoch, kMaxEpoch);
    if (!epoch.ok()) return epoch.status();
    return GetPast(context, *region, *epoch);
  }
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
  given->AddTo(verb);
  CLI::Option* only = verb->add_flag("--epoch-only", given->epoch_only, "print the epoch instead");
  verb->add_option("--epoch", given->epoch,
                   "an old state, read back from the journal of a durable region")
      ->type_name("N")
      ->excludes(only);
}

}  // namespace epoch::ctl
