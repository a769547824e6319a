// What must hold of processes: G8, G9, G10.
#include <algorithm>
#include <cstdint>
#include <map>
#include <unordered_set>

#include "absl/status/status.h"
#include "fmt/format.h"
#include "stress/checks.h"

namespace epoch::stress {
namespace {

constexpr std::uint16_t Code(absl::StatusCode code) { return static_cast<std::uint16_t>(code); }

// Whether a sound operation may end so in a run in which processes die, stop and are expelled,
// while nothing is damaged and no disk fails.
bool MayEndWith(const Operated& operated, std::uint16_t code) {
  const Operation operation = operated.operation;
  if (code == 0) return true;
  // Others have a say, or are late.
  const bool asked = (operated.flags & (kVoted | kFenced)) != 0;
  if (asked && (code == Code(absl::StatusCode::kAborted) ||
                code == Code(absl::StatusCode::kDeadlineExceeded))) {
    return true;
  }
  if (operation == Operation::kCollective && (code == Code(absl::StatusCode::kAlreadyExists) ||
                                              code == Code(absl::StatusCode::kOutOfRange))) {
    return true;
  }
  if (operation == Operation::kVoteLater) {
    return code == Code(absl::StatusCode::kAborted) ||
           code == Code(absl::StatusCode::kFailedPrecondition);
  }
  const bool joins = operation == Operation::kJoin || operation == Operation::kRejoin;
  if (code == Code(absl::StatusCode::kFailedPrecondition)) {
    // A leave or rejoin is the way out of an expulsion; a copy needs no slot.
    return !joins && operation != Operation::kLeave && operation != Operation::kReap &&
           operation != Operation::kRead;
  }
  if (code == Code(absl::StatusCode::kResourceExhausted)) return joins || MakesState(operation);
  if (code == Code(absl::StatusCode::kAborted)) return operation == Operation::kCommitExpecting;
  if (code == Code(absl::StatusCode::kDeadlineExceeded)) {
    return operation == Operation::kAwaitCommitted || operation == Operation::kAwaitConverged;
  }
  // Kept changing under the copy; restoring, while another restores. Expelled while it waited for an
  // epoch that was accepted.
  if (code == Code(absl::StatusCode::kUnavailable)) {
    return operation == Operation::kRead || operation == Operation::kOpen ||
           operation == Operation::kAwaitCommitted || operation == Operation::kAwaitConverged;
  }
  return false;
}

}  // namespace

Violations CheckProgress(const History& history) {
  Violations violations;
  for (const Operated& o : history.operations) {
    if (o.ended()) {
      if (MayEndWith(o, o.code)) continue;
      violations.push_back(
          {"G8", fmt::format("an end that nothing explains: [{}]", history.Tell(o.end)), {o.end}});
      continue;
    }
    const auto fate = history.fates.find(o.begin.serial);
    const bool killed = fate != history.fates.end() && fate->second.killed_ns != INT64_MAX;
    if (killed && !fate->second.hung) continue;
    violations.push_back(
        {"G8", fmt::format("never ended: [{}]", history.Tell(o.begin)), {o.begin}});
  }
  for (const auto& [serial, fate] : history.fates) {
    if (fate.hung) {
      violations.push_back({"G8", fmt::format("process {} did not end when told to", serial), {}});
      continue;
    }
    const bool by_sigkill = (fate.wait_status & 0x7f) == 9 && fate.killed_ns != INT64_MAX;
    if (!fate.exited || fate.wait_status == 0 || by_sigkill) continue;
    violations.push_back({"G8",
                          fmt::format("process {} crashed: wait status {:#x}; see words.txt",
                                      serial, fate.wait_status),
                          {}});
  }
  return violations;
}

Violations CheckExpulsions(const History& history) {
  std::map<Membership, const Expulsion*> first;
  for (const Expulsion& e : history.expulsions) {
    const Expulsion*& known = first.try_emplace(e.member, &e).first->second;
    if (e.tail < known->tail || e.time_ns < known->time_ns) known = &e;
  }
  Violations violations;
  for (const Operated& o : history.operations) {
    if (!o.ok() || !NeedsSlot(o.operation)) continue;
    const auto expelled = first.find(o.member);
    if (expelled == first.end() || o.begin_ns <= expelled->second->time_ns) continue;
    violations.push_back({"G9",
                          fmt::format("an expelled participant was served: [{}] ... [{}], [{}]",
                                      history.Tell(o.begin), history.Tell(o.end),
                                      history.Tell(expelled->second->place)),
                          {o.begin, o.end, expelled->second->place}});
  }
  // Whoever was expelled with tail at e can have made e+1 meanwhile, and nothing later.
  for (const Claim& claim : history.claims) {
    const auto draft = history.drafts.find(claim.content);
    if (draft == history.drafts.end()) continue;
    const auto expelled = first.find(draft->second.member);
    if (expelled == first.end() || claim.epoch <= expelled->second->tail + 1) continue;
    violations.push_back(
        {"G9",
         fmt::format("epoch {} is of an expelled participant: [{}], [{}], [{}]", claim.epoch,
                     history.Tell(draft->second.place), history.Tell(claim.place),
                     history.Tell(expelled->second->place)),
         {draft->second.place, claim.place, expelled->second->place}});
  }
  return violations;
}

Violations CheckAudits(const History& history) {
  Violations violations;
  for (const Place place : history.audit_failures) {
    const Record& record = history.At(place);
    const char* what = "";
    const char* rule = "G10";
    switch (static_cast<AuditFailure>(record.code)) {
      case AuditFailure::kSlotNotFree:
        what = "a slot is not free although nobody lives";
        break;
      case AuditFailure::kCellNotFree:
        what = "a version is not free although nobody holds it";
        break;
      case AuditFailure::kFilesLeft:
        what = "the journal has more files than it is to keep";
        break;
      case AuditFailure::kDamaged:
        what = "the region is damaged; see stderr";
        break;
      case AuditFailure::kUndecided:
        what = "what was up for a vote was not decided";
        rule = "G8";
        break;
      case AuditFailure::kPending:
        what = "what was accepted did not become visible";
        rule = "G8";
        break;
      case AuditFailure::kNotRestored:
        what = "the region could not be restored; see stderr";
        rule = "G7";
        break;
    }
    violations.push_back({rule, fmt::format("{}: [{}]", what, history.Tell(place)), {place}});
  }
  return violations;
}

Violations CheckAll(const History& history) {
  Violations all;
  for (const auto check : {CheckOrder, CheckAgreement, CheckSnapshots, CheckSuccession,
                           CheckDurability, CheckProgress, CheckExpulsions, CheckAudits,
                           CheckConvergence, CheckVotes, CheckFences, CheckCollectives}) {
    Violations found = check(history);
    all.insert(all.end(), found.begin(), found.end());
  }
  return all;
}

Figures FiguresOf(const History& history) {
  Figures figures{.operations = history.operations.size()};
  std::unordered_set<std::uint64_t> voted;
  for (const Claim& claim : history.claims) {
    if (!claim.committed) continue;
    figures.transitions = std::max(figures.transitions, claim.epoch);
    const auto draft = history.drafts.find(claim.content);
    if ((claim.content & kCollectiveContent) != 0 ||
        (draft != history.drafts.end() && (draft->second.flags & kVoted) != 0)) {
      voted.insert(claim.epoch);
    }
  }
  figures.voted = voted.size();
  for (const Operated& o : history.operations) {
    if (!o.ended()) continue;
    std::int64_t took = o.end_ns - o.begin_ns;
    if (took <= figures.longest_ns) continue;
    if (const auto fate = history.fates.find(o.begin.serial); fate != history.fates.end()) {
      for (const auto& [from, to] : fate->second.stops) {
        took -= std::max<std::int64_t>(0, std::min(to, o.end_ns) - std::max(from, o.begin_ns));
      }
    }
    if (took <= figures.longest_ns) continue;
    figures.longest_ns = took;
    figures.longest = o.end;
  }
  return figures;
}

}  // namespace epoch::stress
