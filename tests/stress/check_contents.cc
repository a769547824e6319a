// What must hold of states: G2, G3, G4.
#include <algorithm>
#include <cstdint>
#include <tuple>
#include <unordered_map>

#include "fmt/format.h"
#include "stress/checks.h"

namespace epoch::stress {
namespace {

std::string Name(std::uint64_t content) {
  return fmt::format("{}.{}", content >> 32, content & UINT32_MAX);
}

// What is known about the content of each epoch.
class Chronicle {
 public:
  explicit Chronicle(const History& history) {
    for (const Claim& claim : history.claims) {
      if (claim.committed) committed_.try_emplace(claim.epoch, &claim);
      within_.try_emplace(Key(claim.incarnation, claim.epoch), &claim);
    }
  }
  // Committed by anybody, or null.
  const Claim* Committed(std::uint64_t epoch) const { return Find(committed_, epoch); }
  // Known in this incarnation, or null.
  const Claim* Within(std::uint64_t incarnation, std::uint64_t epoch) const {
    return Find(within_, Key(incarnation, epoch));
  }

 private:
  using Claims = std::unordered_map<std::uint64_t, const Claim*>;

  static std::uint64_t Key(std::uint64_t incarnation, std::uint64_t epoch) {
    return incarnation * 0x9E3779B97F4A7C15u + epoch;
  }
  static const Claim* Find(const Claims& claims, std::uint64_t key) {
    const auto found = claims.find(key);
    return found == claims.end() ? nullptr : found->second;
  }

  Claims committed_;
  Claims within_;
};

}  // namespace

Violations CheckAgreement(const History& history) {
  Violations violations;
  const Chronicle chronicle(history);
  std::unordered_map<std::uint64_t, const Claim*> first_of;  // by content
  for (const Claim& claim : history.claims) {
    for (const Claim* other : {claim.committed ? chronicle.Committed(claim.epoch) : nullptr,
                               chronicle.Within(claim.incarnation, claim.epoch)}) {
      if (other == nullptr || other->content == claim.content) continue;
      violations.push_back({"G2",
                            fmt::format("two contents of epoch {}: [{}], [{}]", claim.epoch,
                                        history.Tell(other->place), history.Tell(claim.place)),
                            {other->place, claim.place}});
      break;
    }
    const auto [first, fresh] = first_of.try_emplace(claim.content, &claim);
    if (!fresh && first->second->epoch != claim.epoch) {
      violations.push_back(
          {"G4",
           fmt::format("content {} under two epochs: [{}], [{}]", Name(claim.content),
                       history.Tell(first->second->place), history.Tell(claim.place)),
           {first->second->place, claim.place}});
    }
  }
  return violations;
}

Violations CheckSnapshots(const History& history) {
  Violations violations;
  const auto report = [&](const std::string& what, std::vector<Place> places) {
    std::string text = what;
    for (const Place place : places) text += fmt::format(" [{}]", history.Tell(place));
    violations.push_back({"G3", std::move(text), std::move(places)});
  };
  for (const Sighting& s : history.sightings) {
    if (s.same_as != Sighting::kNone) {
      const Sighting& before = history.sightings[s.same_as];
      if (std::tie(before.epoch, before.content, before.digest) !=
          std::tie(s.epoch, s.content, s.digest)) {
        report("a state changed while it was held:", {before.place, s.place});
      }
    }
    if (s.content == 0 && s.digest == 0) {
      if (s.epoch != 0) report("the empty state, but not at epoch 0:", {s.place});
      continue;
    }
    if ((s.content & kCollectiveContent) != 0) {
      // What it was put together from: CheckCollectives.
      if ((s.digest | kCollectiveContent) != s.content) report("torn:", {s.place});
      continue;
    }
    const auto draft = history.drafts.find(s.content);
    if (draft == history.drafts.end()) {
      report("nobody drafted this:", {s.place});
    } else if (draft->second.digest != s.digest || draft->second.counter != s.counter) {
      report(fmt::format("torn: it was drafted with digest {:016x}:", draft->second.digest),
             {s.place, draft->second.place});
    }
  }
  return violations;
}

Violations CheckSuccession(const History& history) {
  Violations violations;
  const auto report = [&](const std::string& what, std::vector<Place> places,
                          const char* rule = "G4") {
    std::string text = what;
    for (const Place place : places) text += fmt::format(" [{}]", history.Tell(place));
    violations.push_back({rule, std::move(text), std::move(places)});
  };
  const Chronicle chronicle(history);
  for (const Claim& claim : history.claims) {
    const auto found = history.drafts.find(claim.content);
    if (found == history.drafts.end()) continue;
    const Drafted& draft = found->second;
    if (draft.refused) {
      report(fmt::format("content {} was refused or dropped, and is there:", Name(claim.content)),
             {draft.refused_at, claim.place}, (draft.flags & kVoted) != 0 ? "G5" : "G4");
    }
    if (draft.expected != kNothing && claim.epoch != draft.expected + 1) {
      report(fmt::format("content {} was for the successor of epoch {}, and is epoch {}:",
                         Name(claim.content), draft.expected, claim.epoch),
             {draft.place, claim.place});
    }
    if (draft.previous == kNothing) continue;
    // Made from what an update was handed: that must be what came directly before it, and the
    // counter one more.
    const Claim* before = chronicle.Within(claim.incarnation, claim.epoch - 1);
    if (before == nullptr) before = chronicle.Committed(claim.epoch - 1);
    if (before != nullptr && before->content != draft.previous) {
      report(fmt::format("an update of content {} succeeds content {}: one is lost:",
                         Name(draft.previous), Name(before->content)),
             {before->place, claim.place});
    }
    const auto previous = history.drafts.find(draft.previous);
    const std::uint64_t counter = previous == history.drafts.end() ? 0 : previous->second.counter;
    if ((previous != history.drafts.end() || draft.previous == 0) && draft.counter != counter + 1) {
      report(fmt::format("an update counted {}, behind {}:", draft.counter, counter),
             {draft.place});
    }
  }
  return violations;
}

}  // namespace epoch::stress
