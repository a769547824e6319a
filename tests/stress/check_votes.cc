// What must hold of agreement: G5, G6, and G9 for votes.
#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fmt/format.h"
#include "stress/checks.h"

namespace epoch::stress {
namespace {

// The first that was known of a content that is there.
struct Known {
  const Claim* claim = nullptr;
  std::int64_t time_ns = INT64_MAX;
};

std::unordered_map<std::uint64_t, Known> KnownOf(const History& history) {
  std::unordered_map<std::uint64_t, Known> known;
  for (const Claim& claim : history.claims) {
    const std::int64_t time_ns = history.At(claim.place).time_ns;
    Known& first = known[claim.content];
    if (first.claim == nullptr || time_ns < first.time_ns) first = {&claim, time_ns};
  }
  return known;
}

class Ballots {
 public:
  explicit Ballots(const History& history) : history_(history) {
    for (const auto& [member, as_logged] : history.members) {
      if (as_logged.voter) voters_[member.incarnation].push_back({&member, &as_logged});
    }
    for (const Expulsion& e : history.expulsions) {
      const Expulsion*& first = expulsions_.try_emplace(e.member, &e).first->second;
      if (e.time_ns < first->time_ns) first = &e;
    }
  }

  Violations Check() {
    for (const auto& [content, first] : KnownOf(history_)) {
      const auto draft = history_.drafts.find(content);
      if (draft == history_.drafts.end() || (draft->second.flags & kVoted) == 0) continue;
      for (const auto& [member, voter] : voters_[draft->second.member.incarnation]) {
        CheckVoter(content, draft->second, first, *member, *voter);
      }
    }
    CheckBallots();
    for (const Operated& o : history_.operations) {
      if (o.told_rejected && o.drafted) CheckRejecter(o);
    }
    return std::move(violations_);
  }

 private:
  // The vote of that participant on that content; the last one, if it put it off first.
  const Vote* VoteOf(const Membership& member, std::uint64_t content) const {
    const auto votes = history_.votes.find(content);
    if (votes == history_.votes.end()) return nullptr;
    const auto found = std::find_if(votes->second.rbegin(), votes->second.rend(),
                                    [&](const Vote& vote) { return vote.member == member; });
    return found == votes->second.rend() ? nullptr : &*found;
  }

  // `content` is there. Whoever was in all the while must have accepted it: it had joined before
  // the proposal was even drafted, and was served by the region after the decision was known.
  void CheckVoter(std::uint64_t content, const Drafted& draft, const Known& first,
                  const Membership& member, const Member& voter) {
    const std::int64_t began_ns = history_.At(draft.place).time_ns;
    if (member == draft.member || !voter.In(began_ns, first.time_ns)) return;
    const Vote* const vote = VoteOf(member, content);
    const std::vector<Place> places{first.claim->place, draft.place, voter.place};
    if (vote != nullptr && vote->voted == Voted::kReject) {
      Report("G5", "committed although a voter rejected it:", {first.claim->place, vote->place});
    } else if (MustReject(voter.place.serial, content)) {
      Report("G5", "committed although a voter must reject it:", places);
    } else if (vote == nullptr || vote->voted != Voted::kAccept) {
      Report("G5", "committed without the vote of one that was in all the while:", places);
    } else if (vote->time_ns > first.time_ns) {
      Report("G5", "committed before a voter had accepted it:", {first.claim->place, vote->place});
    } else if (vote->epoch != first.claim->epoch) {
      Report("G5", "accepted as another epoch:", {first.claim->place, vote->place});
    }
  }

  // What every vote must be, whatever became of it.
  void CheckBallots() {
    std::unordered_map<std::uint64_t, std::uint64_t> content_of;  // by incarnation and ballot
    for (const auto& [content, votes] : history_.votes) {
      const auto draft = history_.drafts.find(content);
      std::set<Membership> answered;
      for (const Vote& vote : votes) {
        const std::uint64_t key = vote.member.incarnation * 0x9E3779B97F4A7C15u + vote.ballot;
        if (content_of.try_emplace(key, content).first->second != content) {
          Report("G5", "one ballot, and two contents:", {vote.place});
        }
        if (vote.ballot != votes.front().ballot || vote.epoch != votes.front().epoch) {
          Report("G5", "one content, up for a vote twice:", {votes.front().place, vote.place});
        }
        if (draft != history_.drafts.end() && draft->second.digest != vote.digest) {
          Report("G5", "a voter was shown other bytes than were drafted:",
                 {draft->second.place, vote.place});
        }
        if (vote.voted == Voted::kLater) continue;
        if (!answered.insert(vote.member).second) {
          Report("G5", "a voter was asked twice:", {vote.place});
        }
        if ((vote.voted == Voted::kReject) != MustReject(vote.place.serial, content)) {
          Report("G5", "a vote that its voter never cast so:", {vote.place});
        }
      }
    }
  }

  // Who is said to have rejected it did; and it was a participant then.
  void CheckRejecter(const Operated& o) {
    const auto votes = history_.votes.find(o.content);
    const Vote* rejected = nullptr;
    if (votes != history_.votes.end()) {
      for (const Vote& vote : votes->second) {
        if (vote.voted == Voted::kReject && vote.member.slot == o.rejecter_slot &&
            (o.rejecter == 0 || vote.place.serial == o.rejecter)) {
          rejected = &vote;
        }
      }
    }
    if (rejected == nullptr) {
      return Report("G5",
                    fmt::format("slot {} (process {}) is said to have rejected it:",
                                o.rejecter_slot, o.rejecter),
                    {o.end});
    }
    const auto expelled = expulsions_.find(rejected->member);
    const auto draft = history_.drafts.find(o.content);
    if (expelled != expulsions_.end() &&
        expelled->second->time_ns < history_.At(draft->second.place).time_ns) {
      Report("G9", "rejected by one that had been expelled before:",
             {o.end, rejected->place, expelled->second->place});
    }
  }

  void Report(const char* rule, const std::string& what, std::vector<Place> places) {
    std::string text = what;
    for (const Place place : places) text += fmt::format(" [{}]", history_.Tell(place));
    violations_.push_back({rule, std::move(text), std::move(places)});
  }

  const History& history_;
  std::map<std::uint64_t, std::vector<std::pair<const Membership*, const Member*>>> voters_;
  std::map<Membership, const Expulsion*> expulsions_;
  Violations violations_;
};

// Whether all that is known of a content says that it was fenced.
bool Fenced(const History& history, std::uint64_t content) {
  if (const auto draft = history.drafts.find(content); draft != history.drafts.end()) {
    return (draft->second.flags & kFenced) != 0;
  }
  const auto gathered = history.gathered.find(content);
  return gathered != history.gathered.end() && gathered->second.known() &&
         std::ranges::all_of(gathered->second.parts, [&](const Gathered::Part& part) {
           const auto given = history.contributions.find(part.content);
           return given != history.contributions.end() && (given->second.flags & kFenced) != 0;
         });
}

}  // namespace

Violations CheckVotes(const History& history) { return Ballots(history).Check(); }

Violations CheckFences(const History& history) {
  Violations violations;
  // By incarnation and epoch: the first that tells that it is visible; a later epoch tells, too.
  struct Visible {
    std::int64_t time_ns = INT64_MAX;
    Place place{};
    bool fenced = false;
  };
  std::map<std::uint64_t, std::map<std::uint64_t, Visible>> all;
  for (const Claim& claim : history.claims) {
    Visible& visible = all[claim.incarnation][claim.epoch];
    visible.fenced = visible.fenced || Fenced(history, claim.content);
    const std::int64_t time_ns = history.At(claim.place).time_ns;
    if (!claim.committed || time_ns >= visible.time_ns) continue;
    visible.time_ns = time_ns;
    visible.place = claim.place;
  }
  for (auto& [incarnation, epochs] : all) {
    Visible next;
    for (auto entry = epochs.rbegin(); entry != epochs.rend(); ++entry) {
      Visible& visible = entry->second;
      if (next.time_ns < visible.time_ns) {
        visible.time_ns = next.time_ns;
        visible.place = next.place;
      }
      next = visible;
    }
    std::erase_if(epochs, [](const auto& entry) { return !entry.second.fenced; });
  }
  for (const Held& pin : history.pins) {
    const auto& epochs = all[pin.member.incarnation];
    // The next fence is the one that was visible first.
    const auto next = epochs.upper_bound(pin.epoch);
    if (next == epochs.end() || next->second.time_ns >= pin.to_ns ||
        !history.SurelyActive(pin.member, next->second.time_ns)) {
      continue;
    }
    violations.push_back({"G6",
                          fmt::format("epoch {} is fenced, and visible although {} was pinned: "
                                      "[{}], [{}]",
                                      next->first, pin.epoch, history.Tell(next->second.place),
                                      history.Tell(pin.place)),
                          {next->second.place, pin.place}});
  }
  return violations;
}

}  // namespace epoch::stress
