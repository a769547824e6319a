#include "tests/sim/plan.h"

#include <algorithm>
#include <cstdlib>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace epoch::sim {
namespace {

const char* NameOf(FaultKind kind) {
  switch (kind) {
    case FaultKind::kCrash:
      return "crash";
    case FaultKind::kCrashAtPoint:
      return "crash at point";
    case FaultKind::kStop:
      return "stop";
    case FaultKind::kStopAtPoint:
      return "stop at point";
    case FaultKind::kFork:
      return "fork";
    case FaultKind::kPowerLoss:
      return "power loss";
    case FaultKind::kDisk:
      return "disk fault";
  }
  return "";
}

}  // namespace

const char* NameOf(OpKind kind) {
  static constexpr const char* kNames[] = {"pin",
                                           "commit",
                                           "commit-expecting",
                                           "update",
                                           "propose-await",
                                           "drop-draft",
                                           "read",
                                           "park",
                                           "poll",
                                           "reap",
                                           "expel",
                                           "rejoin",
                                           "converge",
                                           "reopen",
                                           "voted",
                                           "fenced",
                                           "voted-fenced",
                                           "voted-update",
                                           "answer-later",
                                           "collective",
                                           "listen",
                                           "start-listener",
                                           "stop-listener",
                                           "await-told",
                                           "busy",
                                           "checkpoint",
                                           "abandon",
                                           "open-latest",
                                           "prune",
                                           "clean-up",
                                           "list",
                                           "remove-journal",
                                           "move-journal",
                                           "go-round"};
  return kNames[static_cast<std::size_t>(kind)];
}

std::size_t Plan::size() const {
  std::size_t count = settings.faults.size();
  for (const auto& operation : operations) count += operation.size();
  return count;
}

std::string Describe(const Plan& plan) {
  std::string text = absl::StrCat(
      plan.durable ? "durable" : "volatile", " region, ", plan.settings.processes, " processes, ",
      plan.versions, " versions of ", plan.state_bytes, " bytes, ",
      plan.settings.strategy == Strategy::kPriorities ? "priorities" : "uniform", "\n");
  if (plan.durable) {
    absl::StrAppend(&text, "  ", plan.boots, " boots, history ", plan.latest ? "latest" : "all",
                    ", retain ", plan.retain_segments, " segments, ", plan.retain_epochs, " epochs",
                    plan.tears ? ", sectors tear" : "", plan.damages ? ", a sector is damaged" : "",
                    "\n");
  }
  if (plan.voters != 0) {
    absl::StrAppend(&text, "  validators reject one in ", plan.reject_one_in, ", put off one in ",
                    plan.put_off_one_in, "\n");
  }
  for (std::size_t p = 0; p < plan.operations.size(); ++p) {
    if (plan.operations[p].empty()) continue;
    absl::StrAppend(&text, "  p", p, ((plan.voters >> p) & 1) != 0 ? " (votes):" : ":");
    int boot = 0;
    for (const Op& op : plan.operations[p]) {
      for (; boot < op.boot; ++boot) absl::StrAppend(&text, " |");
      absl::StrAppend(&text, " ", NameOf(op.kind));
    }
    absl::StrAppend(&text, "\n");
  }
  for (const Fault& f : plan.settings.faults) {
    absl::StrAppend(&text, "  ", NameOf(f.kind), " ", f.kind == FaultKind::kDisk ? "kind " : "p",
                    f.kind == FaultKind::kDisk ? static_cast<int>(f.what) : f.process, " at ", f.at,
                    f.label != nullptr ? " " : "", f.label != nullptr ? f.label : "", "\n");
  }
  return text;
}

Reduction WholeOf(std::uint64_t seed, Mode mode) {
  const Plan plan = PlanFor(seed, mode);
  Reduction whole{seed, mode, 0, {}, {}};
  for (const auto& operations : plan.operations) {
    whole.operations.emplace_back();
    for (std::size_t i = 0; i < operations.size(); ++i) {
      whole.operations.back().push_back(static_cast<int>(i));
    }
  }
  for (std::size_t i = 0; i < plan.settings.faults.size(); ++i) {
    whole.faults.push_back(static_cast<int>(i));
  }
  return whole;
}

Plan Apply(const Reduction& reduction) {
  Plan plan = PlanFor(reduction.seed, reduction.mode);
  if (reduction.schedule != 0) plan.settings.schedule = reduction.schedule;
  const auto keep = [](const auto& all, const std::vector<int>& which) {
    std::decay_t<decltype(all)> kept;
    for (const int i : which) {
      if (i >= 0 && static_cast<std::size_t>(i) < all.size()) {
        kept.push_back(all[static_cast<std::size_t>(i)]);
      }
    }
    return kept;
  };
  for (std::size_t p = 0; p < plan.operations.size(); ++p) {
    plan.operations[p] =
        keep(plan.operations[p],
             p < reduction.operations.size() ? reduction.operations[p] : std::vector<int>{});
  }
  plan.settings.faults = keep(plan.settings.faults, reduction.faults);
  return plan;
}

std::string Format(const Reduction& reduction) {
  std::string text = absl::StrCat(reduction.seed);
  for (std::size_t p = 0; p < reduction.operations.size(); ++p) {
    if (reduction.operations[p].empty()) continue;
    absl::StrAppend(&text, ":p", p, "=", absl::StrJoin(reduction.operations[p], ","));
  }
  if (!reduction.faults.empty()) {
    absl::StrAppend(&text, ":f=", absl::StrJoin(reduction.faults, ","));
  }
  if (reduction.schedule != 0) absl::StrAppend(&text, ":s=", reduction.schedule);
  return text;
}

bool Parse(const std::string& text, Mode mode, Reduction& reduction) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  std::uint64_t seed = 0;
  if (!absl::SimpleAtoi(parts[0], &seed)) return false;
  reduction = WholeOf(seed, mode);
  if (parts.size() == 1) return true;
  for (auto& operations : reduction.operations) operations.clear();
  reduction.faults.clear();
  for (std::size_t i = 1; i < parts.size(); ++i) {
    const std::pair<std::string, std::string> item =
        absl::StrSplit(parts[i], absl::MaxSplits('=', 1));
    if (item.first == "s") {
      if (!absl::SimpleAtoi(item.second, &reduction.schedule)) return false;
      continue;
    }
    std::vector<int> numbers;
    for (const auto& number : absl::StrSplit(item.second, ',')) {
      int value = 0;
      if (!absl::SimpleAtoi(number, &value)) return false;
      numbers.push_back(value);
    }
    std::size_t process = 0;
    if (item.first == "f") {
      reduction.faults = numbers;
    } else if (item.first.size() == 2 && item.first[0] == 'p' &&
               absl::SimpleAtoi(item.first.substr(1), &process) &&
               process < reduction.operations.size()) {
      reduction.operations[process] = numbers;
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace epoch::sim
