// What must hold of collective commits: all or nothing, for all alike.
#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fmt/format.h"
#include "stress/checks.h"

namespace epoch::stress {
namespace {

class Collectives {
 public:
  explicit Collectives(const History& history) : history_(history) {}

  Violations Check() {
    for (const Claim& claim : history_.claims) {
      if ((claim.content & kCollectiveContent) == 0) continue;
      const auto [first, fresh] = first_of_.try_emplace(claim.content, &claim);
      if (!fresh && TimeOf(claim.place) < TimeOf(first->second->place)) first->second = &claim;
    }
    for (const auto& [content, claim] : first_of_) {
      const auto gathered = history_.gathered.find(content);
      if (gathered == history_.gathered.end()) continue;
      if (gathered->second.count == kNothing) {
        Report("G3", "a collective state that does not add up:", {gathered->second.place});
      } else if (gathered->second.known()) {
        CheckParts(gathered->second, *claim);
        CheckVoters(gathered->second, *claim);
      }
    }
    CheckOutcomes();
    return std::move(violations_);
  }

 private:
  std::int64_t TimeOf(Place place) const { return history_.At(place).time_ns; }

  // Each part is what its slot's owner gave for that tag, and that one was told so.
  void CheckParts(const Gathered& gathered, const Claim& claim) {
    const Gathered::Part* before = nullptr;
    for (const Gathered::Part& part : gathered.parts) {
      if (before != nullptr && before->slot >= part.slot) {
        Report("G5", "parts that are not in slot order:", {gathered.place});
      }
      before = &part;
      const auto found = history_.contributions.find(part.content);
      if (found == history_.contributions.end()) {
        Report("G3", fmt::format("slot {} never gave this part:", part.slot), {gathered.place});
        continue;
      }
      const Contributed& given = found->second;
      if (given.digest != part.digest || given.member.slot != part.slot ||
          given.member.generation != part.generation) {
        Report("G3", "a part that is not what was given:", {gathered.place, given.place});
      }
      if (given.tag != gathered.tag) {
        Report("G5", "a part of another tag:", {gathered.place, given.place});
      }
      const auto [in, once] = in_.try_emplace(part.content, &claim);
      if (!once && in->second->content != claim.content) {
        Report("G5", "one contribution in two states:", {in->second->place, claim.place});
      }
      const Operated* const told = OperationOf(given);
      if (told == nullptr || !told->ended()) continue;
      if (!told->ok()) {
        Report("G5", "there, although a contributor was told that nothing was changed:",
               {claim.place, told->end});
      } else if (told->epoch != claim.epoch) {
        Report("G5", "there, but a contributor was told another epoch:", {claim.place, told->end});
      }
    }
  }

  // Whoever was in, from before the first gave its part, must have given one, too.
  void CheckVoters(const Gathered& gathered, const Claim& claim) {
    std::int64_t began_ns = INT64_MAX;
    const Contributed* first = nullptr;
    for (const Gathered::Part& part : gathered.parts) {
      const auto given = history_.contributions.find(part.content);
      if (given == history_.contributions.end()) continue;
      if (TimeOf(given->second.place) >= began_ns) continue;
      first = &given->second;
      began_ns = TimeOf(first->place);
    }
    if (first == nullptr) return;
    for (const auto& [member, voter] : history_.members) {
      if (!voter.voter || member.incarnation != first->member.incarnation ||
          !voter.In(began_ns, TimeOf(claim.place))) {
        continue;
      }
      const auto is_of = [&owner = member](const Gathered::Part& part) {
        return part.slot == owner.slot && part.generation == owner.generation;
      };
      const bool in = std::ranges::any_of(gathered.parts, is_of);
      if (!in) {
        Report("G5", "a contribution is missing:", {gathered.place, voter.place, claim.place});
      }
    }
  }

  // Whoever was told an epoch finds its part there.
  void CheckOutcomes() {
    std::unordered_map<std::uint64_t, const Claim*> known;  // by epoch
    for (const Claim& claim : history_.claims) {
      if (claim.committed) known.try_emplace(claim.epoch, &claim);
    }
    std::map<std::uint64_t, const Contributed*> tag_of;  // by epoch
    for (const auto& [content, given] : history_.contributions) {
      const Operated* const told = OperationOf(given);
      if (told == nullptr || !told->ok()) continue;
      const auto [other, fresh] = tag_of.try_emplace(told->epoch, &given);
      if (!fresh && other->second->tag != given.tag) {
        Report("G5", "two tags under one epoch:", {other->second->place, given.place});
      }
      const auto claim = known.find(told->epoch);
      if (claim == known.end()) continue;
      const auto gathered = history_.gathered.find(claim->second->content);
      if (gathered == history_.gathered.end()) {
        // Whoever saw it was killed before it had logged the parts; or it is no such state.
        if ((claim->second->content & kCollectiveContent) == 0) {
          Report("G2", "told to be a collective commit, and it is none:",
                 {told->end, claim->second->place});
        }
        continue;
      }
      const bool in =
          std::ranges::any_of(gathered->second.parts,
                              [&, id = content](const auto& part) { return part.content == id; });
      if (gathered->second.known() && !in) {
        Report("G5", "told to be committed, and not there:", {told->end, gathered->second.place});
      }
    }
  }

  const Operated* OperationOf(const Contributed& given) const {
    return given.operation == Sighting::kNone ? nullptr : &history_.operations[given.operation];
  }

  void Report(const char* rule, const std::string& what, std::vector<Place> places) {
    std::string text = what;
    for (const Place place : places) text += fmt::format(" [{}]", history_.Tell(place));
    violations_.push_back({rule, std::move(text), std::move(places)});
  }

  const History& history_;
  std::unordered_map<std::uint64_t, const Claim*> first_of_;  // by collective content
  std::unordered_map<std::uint64_t, const Claim*> in_;        // by contribution
  Violations violations_;
};

}  // namespace

Violations CheckCollectives(const History& history) { return Collectives(history).Check(); }

}  // namespace epoch::stress
