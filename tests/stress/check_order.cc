// What must hold of epochs over time: G1, G7, and convergence.
#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>

#include "fmt/format.h"
#include "stress/checks.h"

namespace epoch::stress {
namespace {

// What one operation tells about head (or, before it is visible, about tail).
struct Observation {
  std::int64_t begin_ns;
  std::int64_t end_ns;
  std::uint64_t epoch;
  Place begin{}, end{};
  std::uint64_t incarnation;
  bool made = false;    // the epoch was made between begin and end: it is above all seen before
  bool visible = true;  // whoever begins later sees it
  bool current = true;  // read between begin and end; otherwise it may be older
};

std::optional<Observation> ObservationOf(const Operated& o) {
  Observation seen{.begin_ns = o.begin_ns,
                   .end_ns = o.end_ns,
                   .epoch = o.epoch,
                   .begin = o.begin,
                   .end = o.end,
                   .incarnation = o.member.incarnation};
  switch (o.operation) {
    case Operation::kPin:
    case Operation::kPoll:
    case Operation::kRead:
    case Operation::kAwaitCommitted:
    case Operation::kAwaitConverged:
      return seen;
    case Operation::kCommit:
    case Operation::kCommitExpecting:
    case Operation::kUpdate:
    case Operation::kCollective:
      seen.made = true;
      return seen;
    case Operation::kPropose:
    case Operation::kProposeUpdate:
      seen.made = true;
      seen.visible = false;
      return seen;
    case Operation::kAwaitTicket:
      seen.current = false;
      return seen;
    default:
      return std::nullopt;
  }
}

std::vector<Observation> Observe(const History& history) {
  std::vector<Observation> all;
  for (const Operated& o : history.operations) {
    if (!o.ok()) continue;
    if (const auto seen = ObservationOf(o); seen.has_value()) all.push_back(*seen);
  }
  for (const Sighting& s : history.sightings) {
    if (s.kind != Kind::kSeenAccepted || s.operation == Sighting::kNone) continue;
    const Operated& o = history.operations[s.operation];
    all.push_back({.begin_ns = o.begin_ns,
                   .end_ns = history.At(s.place).time_ns,
                   .epoch = s.epoch,
                   .begin = o.begin,
                   .end = s.place,
                   .incarnation = o.member.incarnation,
                   .visible = false});
  }
  return all;
}

bool TooOld(const Observation& seen, std::uint64_t before) {
  return seen.made ? seen.epoch <= before : seen.epoch < before;
}

Violation WentBack(const History& history, const Observation& seen, const Observation& before) {
  return {seen.incarnation == before.incarnation ? "G1" : "G7",
          fmt::format("epoch {} although {} was visible before: [{}] ... [{}]; before: [{}]",
                      seen.epoch, before.epoch, history.Tell(seen.begin), history.Tell(seen.end),
                      history.Tell(before.end)),
          {seen.begin, seen.end, before.end}};
}

}  // namespace

Violations CheckOrder(const History& history) {
  Violations violations;
  std::vector<Observation> all = Observe(history);
  // Within one process the records' order tells, whatever the clock says.
  std::map<std::uint32_t, const Observation*> newest_of;
  std::ranges::sort(all, {},
                    [](const Observation& o) { return std::pair(o.end.serial, o.end.index); });
  for (const Observation& seen : all) {
    const Observation*& newest = newest_of[seen.end.serial];
    if (newest != nullptr && seen.current && TooOld(seen, newest->epoch)) {
      violations.push_back(WentBack(history, seen, *newest));
    }
    if (seen.visible && (newest == nullptr || seen.epoch > newest->epoch)) newest = &seen;
  }
  // Between processes: whatever had ended before this one began.
  std::vector<const Observation*> by_begin, by_end;
  for (const Observation& seen : all) {
    if (seen.current) by_begin.push_back(&seen);
    if (seen.visible) by_end.push_back(&seen);
  }
  std::ranges::sort(by_begin, {}, &Observation::begin_ns);
  std::ranges::sort(by_end, {}, &Observation::end_ns);
  const Observation* newest = nullptr;
  auto ended = by_end.begin();
  for (const Observation* seen : by_begin) {
    for (; ended != by_end.end() && (*ended)->end_ns < seen->begin_ns; ++ended) {
      if (newest == nullptr || (*ended)->epoch > newest->epoch) newest = *ended;
    }
    if (newest != nullptr && newest->end.serial != seen->end.serial &&
        TooOld(*seen, newest->epoch)) {
      violations.push_back(WentBack(history, *seen, *newest));
    }
  }
  for (const Operated& o : history.operations) {
    const bool awaits =
        o.operation == Operation::kAwaitCommitted || o.operation == Operation::kAwaitConverged;
    if (awaits && o.ok() && o.epoch < o.about) {
      violations.push_back({"G1",
                            fmt::format("awaited epoch {}, was told that it is reached at {}: [{}]",
                                        o.about, o.epoch, history.Tell(o.end)),
                            {o.end}});
    }
  }
  return violations;
}

Violations CheckDurability(const History& history) {
  Violations violations;
  for (const Restored& restored : history.restores) {
    const Claim* newest = nullptr;
    for (const Claim& claim : history.claims) {
      if (!claim.committed || history.At(claim.place).time_ns >= restored.time_ns) continue;
      if (newest == nullptr || claim.epoch > newest->epoch) newest = &claim;
    }
    if (newest == nullptr || newest->epoch <= restored.epoch) continue;
    violations.push_back(
        {"G7",
         fmt::format("restored at epoch {} although {} was acknowledged: [{}], [{}]",
                     restored.epoch, newest->epoch, history.Tell(newest->place),
                     history.Tell(restored.place)),
         {newest->place, restored.place}});
  }
  return violations;
}

Violations CheckConvergence(const History& history) {
  Violations violations;
  std::vector<const Operated*> awaits, expulsions;
  std::int64_t first_policy_ns = INT64_MAX;
  for (const Operated& o : history.operations) {
    if (o.operation == Operation::kAwaitConverged && o.ok()) awaits.push_back(&o);
    if (o.operation == Operation::kExpel) expulsions.push_back(&o);
    if ((o.flags & kExpels) != 0) first_policy_ns = std::min(first_policy_ns, o.begin_ns);
  }
  // Whoever is expelled is not waited for. Whoever was expelled before it asked for its pin got
  // none, and an expulsion aimed at one owner of a slot may hit a later one.
  const auto may_be_expelled = [&](const Held& pin, const Operated& await) {
    // By a vote or a fence, which nobody logs.
    if (first_policy_ns < await.end_ns && !history.SurelyActive(pin.member, await.end_ns)) {
      return true;
    }
    return std::ranges::any_of(expulsions, [&](const Operated* o) {
      const Record& aim = history.At(o->begin);
      return o->member.incarnation == pin.member.incarnation && aim.slot == pin.member.slot &&
             aim.detail <= pin.member.generation && o->end_ns > pin.begun_ns &&
             o->begin_ns < await.end_ns;
    });
  };
  std::ranges::sort(awaits, {}, &Operated::begin_ns);
  for (const Held& pin : history.pins) {
    auto await = std::ranges::upper_bound(awaits, pin.from_ns, {},
                                          [](const Operated* o) { return o->begin_ns; });
    for (; await != awaits.end() && (*await)->begin_ns < pin.to_ns; ++await) {
      const Operated& o = **await;
      if (o.end_ns >= pin.to_ns || o.about <= pin.epoch ||
          o.member.incarnation != pin.member.incarnation || may_be_expelled(pin, o)) {
        continue;
      }
      violations.push_back(
          {"convergence",
           fmt::format("epoch {} converged although {} was pinned all the while: [{}], [{}]",
                       o.about, pin.epoch, history.Tell(o.end), history.Tell(pin.place)),
           {o.end, pin.place}});
    }
  }
  return violations;
}

}  // namespace epoch::stress
