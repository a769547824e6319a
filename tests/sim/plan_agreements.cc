// Plans about votes, fences, collective commits, listeners, and who is in.
#include <iterator>
#include <span>

#include "tests/sim/make_plan.h"

namespace epoch::sim {
namespace {

using Labels = std::span<const char* const>;

// What most of it is about.
enum class Subject { kVoters, kFences, kTogether };

OpKind AnyAgreement(Random& random, Subject subject) {
  using enum OpKind;
  static constexpr OpKind kOfVoters[] = {
      kVoted,  kVoted, kVoted, kVotedUpdate, kVotedFenced,     kCommit,    kUpdate,
      kPin,    kPoll,  kPoll,  kPoll,        kAnswerLater,     kPark,      kExpel,
      kRejoin, kReap,  kRead,  kListen,      kCommitExpecting, kDropDraft, kProposeThenAwait};
  static constexpr OpKind kOfFences[] = {kFenced, kFenced, kFenced, kVotedFenced,   kPin,    kPin,
                                         kPin,    kPin,    kPoll,   kCommit,        kUpdate, kExpel,
                                         kRejoin, kPark,   kRead,   kAwaitConverged};
  static constexpr OpKind kOfAll[] = {kCollective, kCollective, kCollective, kCollective,
                                      kCollective, kCollective, kPoll,       kVoted,
                                      kCommit,     kPin,        kExpel,      kRejoin,
                                      kListen,     kPark,       kVotedFenced};
  switch (subject) {
    case Subject::kVoters:
      return kOfVoters[random.Below(std::size(kOfVoters))];
    case Subject::kFences:
      return kOfFences[random.Below(std::size(kOfFences))];
    default:
      return kOfAll[random.Below(std::size(kOfAll))];
  }
}

}  // namespace

void VotesAndFences(Plan& plan, Random& random) {
  Settings& s = plan.settings;
  plan.agrees = true;
  plan.durable = random.OneIn(3);
  s.strategy = random.OneIn(3) ? Strategy::kPriorities : Strategy::kUniform;
  s.processes = 2 + static_cast<int>(random.Below(3));
  s.expected_steps = 400 + random.Below(plan.durable ? 5000 : 3000);
  plan.spare_slots = 4;
  plan.versions = static_cast<std::uint32_t>((plan.durable ? 7 : 5) + random.Below(4));
  plan.state_bytes = 256;
  if (plan.durable) {
    plan.boots = 1 + static_cast<int>(random.Below(2));
    plan.latest = random.OneIn(2);
    plan.retain_segments = static_cast<std::uint32_t>(random.Below(3));
    plan.spare_blocks = random.Below(6);
  }
  const auto subject = static_cast<Subject>(random.Below(3));
  const auto processes = static_cast<std::uint64_t>(s.processes);
  // Only voters contribute.
  plan.voters = static_cast<unsigned>(random.Below(std::uint64_t{1} << (processes + 1)) |
                                      (std::uint64_t{1} << random.Below(processes)));
  if (subject == Subject::kTogether) plan.voters |= 7;
  if (random.OneIn(2)) plan.reject_one_in = 2 + random.Below(6);
  if (random.OneIn(3)) plan.put_off_one_in = 2 + random.Below(4);
  plan.operations.resize(kMaxProcesses);
  for (int p = 0; p < s.processes + 1; ++p) {
    for (int boot = 0; boot < plan.boots; ++boot) {
      for (std::uint64_t i = 3 + random.Below(plan.durable ? 4 : 8); i > 0; --i) {
        OpKind kind = AnyAgreement(random, subject);
        if (plan.durable && kind == OpKind::kRejoin && random.OneIn(2)) kind = OpKind::kReopen;
        plan.operations[static_cast<std::size_t>(p)].push_back({kind, random.Next(), boot});
      }
    }
  }
  if (!random.OneIn(4)) AddFaults(plan, random);
  if (!s.forked_child) plan.operations[static_cast<std::size_t>(s.processes)].clear();
}

namespace {

void AddOperations(Plan& plan, Random& random, std::span<const OpKind> weighted,
                   std::uint64_t most) {
  plan.operations.resize(kMaxProcesses);
  for (int p = 0; p < plan.settings.processes; ++p) {
    for (std::uint64_t i = 4 + random.Below(most); i > 0; --i) {
      const OpKind kind = weighted[random.Below(weighted.size())];
      plan.operations[static_cast<std::size_t>(p)].push_back({kind, random.Next()});
    }
  }
}

// Each process stands still, or dies, at a few of these points.
void AddStops(Plan& plan, Random& random, Labels labels, std::uint64_t die_one_in) {
  for (int p = 0; p < plan.settings.processes; ++p) {
    for (std::uint64_t i = random.Below(3); i > 0; --i) {
      const FaultKind kind =
          random.OneIn(die_one_in) ? FaultKind::kCrashAtPoint : FaultKind::kStopAtPoint;
      plan.settings.faults.push_back(
          {kind, p, 1 + random.Below(4), 0, labels[random.Below(labels.size())]});
    }
  }
}

// Some plans leave certain functions, between two of their steps, for long.
void AddLingering(Plan& plan, Random& random, Labels functions) {
  if (random.OneIn(3)) return;
  plan.settings.lingers_in = functions[random.Below(functions.size())];
  plan.settings.linger_one_in = 2 + random.Below(12);
}

// Durable; all cells are drafted or pinned while a vote is undecided.
void Exhausted(Plan& plan, Random& random) {
  using enum OpKind;
  static constexpr OpKind kDrafting[] = {kVoted,     kVoted,     kVoted,     kVotedUpdate,
                                         kDropDraft, kDropDraft, kDropDraft, kDropDraft,
                                         kPin,       kPin,       kPoll};
  static constexpr const char* kPoints[] = {"drafting", "judging", "pinned", "draft.taken",
                                            "vote.own_guarded"};
  plan.durable = true;
  plan.settings.processes = 3 + static_cast<int>(random.Below(2));
  plan.versions = static_cast<std::uint32_t>(4 + random.Below(2));
  plan.voters = 7;
  AddOperations(plan, random, kDrafting, 5);
  AddStops(plan, random, kPoints, 20);
  AddStops(plan, random, kPoints, 20);
}

void Listeners(Plan& plan, Random& random) {
  using enum OpKind;
  static constexpr OpKind kBeside[] = {
      kPin,         kPin,          kPin,           kCommit,         kCommit,
      kUpdate,      kVoted,        kVoted,         kVotedUpdate,    kFenced,
      kVotedFenced, kCollective,   kCollective,    kPoll,           kPark,
      kRejoin,      kStopListener, kStartListener, kStartListener,  kAwaitTold,
      kBusy,        kBusy,         kAnswerLater,   kAwaitConverged, kAwaitConverged,
      kExpel,       kRead,         kDropDraft};
  Settings& s = plan.settings;
  VotesAndFences(plan, random);
  s.processes = 2 + static_cast<int>(random.Below(2));
  s.faults.clear();
  s.forked_child = false;
  for (int p = 0; p < kMaxProcesses; ++p) {
    auto& operations = plan.operations[static_cast<std::size_t>(p)];
    operations.clear();
    for (int boot = 0; p < s.processes && boot < plan.boots; ++boot) {
      if (!random.OneIn(4)) operations.push_back({kStartListener, 0, boot});
      for (std::uint64_t i = 3 + random.Below(8); i > 0; --i) {
        operations.push_back({kBeside[random.Below(std::size(kBeside))], random.Next(), boot});
      }
    }
  }
  if (!random.OneIn(4)) AddFaults(plan, random);
  static constexpr const char* kSlow[] = {"HeadEpoch(", "ListenOnce(", "AcknowledgeIn(",
                                          "Cast(",      "AnswerHeld(", "Hold("};
  AddLingering(plan, random, kSlow);
}

void Aborts(Plan& plan, Random& random) {
  using enum OpKind;
  static constexpr OpKind kGivenUp[] = {kFenced, kFenced, kVotedFenced, kVotedFenced, kVoted,
                                        kVoted,  kPin,    kPin,         kPoll,        kPoll,
                                        kCommit, kCommit, kUpdate,      kVotedUpdate, kDropDraft};
  static constexpr const char* kPoints[] = {
      "vote.guarded",  "vote.guarded",  "vote.before_close", "vote.before_close",
      "vote.closed",   "vote.decided",  "vote.marked",       "vote.before_reopen",
      "vote.reopened", "vote.finished", "vote.before_tail",  "reclaim.before_free_retired",
      "judging",       "vote.visible",  "publish.accepted",  "vote.before_commit"};
  Settings& s = plan.settings;
  plan.agrees = true;
  plan.durable = random.OneIn(8);
  s.processes = 2 + static_cast<int>(random.Below(3));
  s.expected_steps = 400 + random.Below(2000);
  plan.versions = static_cast<std::uint32_t>((plan.durable ? 6 : 4) + random.Below(3));
  plan.state_bytes = 256;
  plan.voters = static_cast<unsigned>(random.Below(16));
  plan.reject_one_in = random.Below(4);
  if (random.OneIn(3)) plan.put_off_one_in = 2;
  if (random.OneIn(5)) return Exhausted(plan, random);
  AddOperations(plan, random, kGivenUp, 12);
  AddStops(plan, random, kPoints, 8);
  static constexpr const char* kSlow[] = {"Abandoned(", "Abandoned(", "GuardSet(",     "Hold(",
                                          "Reopen(",    "HeldPin(",   "FindObstacle(", "Release("};
  AddLingering(plan, random, kSlow);
}

void Stragglers(Plan& plan, Random& random) {
  using enum OpKind;
  static constexpr OpKind kVoters[] = {kVoted, kVoted, kVoted,  kVotedUpdate, kVotedFenced,
                                       kPoll,  kPoll,  kPoll,   kExpel,       kExpel,
                                       kExpel, kExpel, kRejoin, kCommit,      kAnswerLater};
  static constexpr OpKind kContributors[] = {kCollective, kCollective, kCollective, kCollective,
                                             kCollective, kExpel,      kExpel,      kExpel,
                                             kPoll,       kRejoin,     kVoted};
  static constexpr const char* kPoints[] = {
      "vote.before_expel", "vote.before_expel", "vote.forced",         "vote.before_cast",
      "vote.cast",         "vote.validated",    "vote.before_commit",  "publish.accepted",
      "gather.offered",    "gather.offered",    "gather.before_offer", "judging"};
  Settings& s = plan.settings;
  plan.agrees = true;
  plan.durable = random.OneIn(6);
  s.processes = 3 + static_cast<int>(random.Below(2));
  s.expected_steps = 400 + random.Below(2000);
  plan.spare_slots = static_cast<int>(random.Below(3));
  plan.versions = static_cast<std::uint32_t>((plan.durable ? 6 : 5) + random.Below(3));
  plan.state_bytes = 256;
  plan.voters = 7;
  plan.reject_one_in = random.Below(5);
  if (random.OneIn(2)) plan.put_off_one_in = 2 + random.Below(2);
  if (random.OneIn(2)) {
    AddOperations(plan, random, kVoters, 10);
  } else {
    AddOperations(plan, random, kContributors, 8);
  }
  AddStops(plan, random, kPoints, 12);
  static constexpr const char* kSlow[] = {
      "MissingVote(", "Copy(", "Scan(", "MissingContributor(", "Cast(", "Offer(", "Abandoned("};
  AddLingering(plan, random, kSlow);
}

void Members(Plan& plan, Random& random) {
  using enum OpKind;
  static constexpr OpKind kChanging[] = {
      kRejoin, kRejoin,    kRejoin,    kCommit, kCommit, kAwaitConverged, kAwaitConverged, kReap,
      kReap,   kDropDraft, kDropDraft, kExpel,  kPin,    kPoll,           kUpdate};
  static constexpr const char* kPoints[] = {
      "join.active",         "join.filled", "join.joining",           "reap.found_dead",
      "reap.expelled",       "draft.taken", "reap.before_free_draft", "publish.before_mark",
      "publish.before_tail", "drafting",    "reap.before_free_slot",  "reclaim.before_free"};
  Settings& s = plan.settings;
  s.strategy = random.OneIn(3) ? Strategy::kPriorities : Strategy::kUniform;
  s.processes = 2 + static_cast<int>(random.Below(3));
  s.expected_steps = 200 + random.Below(1500);
  plan.spare_slots = static_cast<int>(random.Below(2));
  plan.versions = static_cast<std::uint32_t>(4 + random.Below(2));
  AddOperations(plan, random, kChanging, 14);
  if (!random.OneIn(3)) AddStops(plan, random, kPoints, 3);
  static constexpr const char* kSlow[] = {"MarkPublished(", "MarkPublished(", "FreeDraftsOf(",
                                          "FreeDraftsOf(",  "TryTakeSlot(",   "HelpAccepted(",
                                          "AcknowledgeIn(", "HeadEpoch("};
  AddLingering(plan, random, kSlow);
}

}  // namespace

bool MakeSpecial(Plan& plan, Mode mode, Random& random) {
  switch (mode) {
    case Mode::kListeners:
      Listeners(plan, random);
      return true;
    case Mode::kAborts:
      Aborts(plan, random);
      return true;
    case Mode::kStragglers:
      Stragglers(plan, random);
      return true;
    case Mode::kFolders:
      CheckpointFolders(plan, random);
      return true;
    case Mode::kMembers:
      Members(plan, random);
      return true;
    case Mode::kVanishes:
      JournalVanishes(plan, random);
      return true;
    default:
      return false;
  }
}

}  // namespace epoch::sim
