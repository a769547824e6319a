#include <fmt/format.h>
#include <time.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "core/inspect/region_status.h"
#include "epoch/detail/participant/participant_core.h"
#include "epoch/detail/platform/deadline.h"
#include "tools/epochctl/process.h"
#include "tools/epochctl/verbs.h"

namespace epoch::ctl {
namespace {

struct WaitArgs : RegionArgs {
  std::string epoch, timeout = "inf", stage = "committed";
};

std::string NamesOf(const std::vector<StragglerStatus>& stragglers) {
  std::string names;
  for (const StragglerStatus& s : stragglers) {
    names += fmt::format(
        "{}\"{}\" (slot {}, pid {}, {}{}{})", names.empty() ? "" : ", ", s.name, s.slot, s.pid,
        s.acknowledged.has_value() ? fmt::format("at epoch {}", *s.acknowledged)
                                   : std::string("nothing acknowledged yet"),
        s.condition == Condition::kRunning ? std::string()
                                           : fmt::format(", {}", inspect::NameOf(s.condition)),
        s.pinned.has_value() ? fmt::format(", pins epoch {}", *s.pinned) : "");
  }
  return names;
}

void SleepFor(std::int64_t nanos) {
  const timespec pause{.tv_sec = nanos / 1'000'000'000, .tv_nsec = nanos % 1'000'000'000};
  nanosleep(&pause, nullptr);
}

// The region is only read. A reader cannot ask the bell to ring (bell.h: that takes a store), so
// it looks again and again: at first every 20 us, in the end every 5 ms.
absl::StatusOr<Epoch> Await(const Region& region, Epoch epoch, bool converged,
                            absl::Duration timeout) {
  const detail::RegionView& view = region.mapping()->view();
  detail::Slices slices(detail::Deadline::After(timeout), 20'000, 5'000'000);
  for (;;) {
    const auto head = detail::StateWord::Unpack(view.control->head.Load());
    std::vector<StragglerStatus> stragglers;
    if (head.epoch >= epoch) {
      if (converged) stragglers = region.Stragglers(epoch);
      if (stragglers.empty()) return head.epoch;
    } else if (head.phase == detail::Phase::kPoisoned) {
      return absl::DataLossError(
          fmt::format("{} is at epoch {} and will never reach {}: its journal failed a write; "
                      "recover it (epochctl recover)",
                      region.path(), head.epoch, epoch));
    }
    if (AskedToEnd()) {
      return absl::CancelledError(
          fmt::format("interrupted: {} is at epoch {}, {}", region.path(), head.epoch,
                      head.epoch < epoch ? fmt::format("not at {} yet", epoch)
                                         : "not acknowledged by " + NamesOf(stragglers)));
    }
    if (Removed(region)) {
      return absl::NotFoundError(
          fmt::format("{} was removed while waiting, at epoch {}", region.path(), head.epoch));
    }
    const std::int64_t nanos = slices.Next();
    if (nanos <= 0) {
      if (head.epoch >= epoch) {
        return absl::DeadlineExceededError(fmt::format(
            "epoch {} is committed, but not acknowledged by {}", epoch, NamesOf(stragglers)));
      }
      const Epoch tail = detail::StateWord::Unpack(view.control->tail.Load()).epoch;
      return absl::DeadlineExceededError(
          fmt::format("{} is at epoch {}, not yet at {}{}", region.path(), head.epoch, epoch,
                      tail >= epoch ? ", which is accepted: its outcome is pending" : ""));
    }
    SleepFor(nanos);
  }
}

absl::Status Wait(Context& context, const WaitArgs& given) {
  const auto epoch = ParseNumber("--epoch", given.epoch, kMaxEpoch);
  if (!epoch.ok()) return epoch.status();
  const auto timeout = ParseDuration("--timeout", given.timeout);
  if (!timeout.ok()) return timeout.status();
  if (given.stage != "committed" && given.stage != "converged") {
    return absl::InvalidArgumentError(
        fmt::format("--for \"{}\": committed or converged", given.stage));
  }
  const absl::StatusOr<Region> region = context.Open(given, /*read_only=*/true);
  if (!region.ok()) return region.status();
  CatchEndingSignals();
  const absl::StatusOr<Epoch> reached =
      Await(*region, *epoch, given.stage == "converged", *timeout);
  if (!reached.ok()) return reached.status();
  if (context.json()) {
    context.PrintJson({{"schema", "epoch.wait/1"},
                       {"region", region->path()},
                       {"epoch", *reached},
                       {"stage", given.stage}});
  } else {
    context.Print(fmt::format("{}\n", *reached));
  }
  return absl::OkStatus();
}

}  // namespace

void AddWait(CLI::App& app, Context& context) {
  auto given = std::make_shared<WaitArgs>();
  CLI::App* verb = context.AddVerb(app, "wait", "Waits until a region has reached an epoch",
                                   "epochctl wait config --epoch 42 --for converged --timeout 2s",
                                   [&context, given] { return Wait(context, *given); });
  given->AddTo(verb);
  verb->add_option("--epoch", given->epoch, "the epoch to wait for")
      ->type_name("EPOCH")
      ->required();
  verb->add_option("--for", given->stage,
                   "committed: visible to all; converged: acknowledged by all")
      ->type_name("STAGE")
      ->capture_default_str();
  verb->add_option("--timeout", given->timeout, "give up with exit code 7")
      ->type_name("DURATION")
      ->capture_default_str();
}

}  // namespace epoch::ctl
