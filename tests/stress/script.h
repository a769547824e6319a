// Logs made by hand, for tests of the checker: each call appends what a process would have logged,
// one tick of the clock apart.
#ifndef EPOCH_TESTS_STRESS_SCRIPT_H_
#define EPOCH_TESTS_STRESS_SCRIPT_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "stress/checks.h"
#include "stress/content.h"

namespace epoch::stress {

inline constexpr auto kAborted = absl::StatusCode::kAborted;

class Script {
 public:
  static constexpr std::uint64_t kIncarnation = 77;

  // The state with this id is known by it alone, so its digest can follow from it.
  static std::uint64_t DigestOfId(std::uint64_t id) { return id == 0 ? 0 : id * 31 + 5; }

  void Add(std::uint32_t serial, Record record) {
    record.time_ns = ++clock_;
    logs_[serial].push_back(record);
  }
  void Start(std::uint32_t serial, std::uint64_t incarnation = kIncarnation,
             std::uint32_t flags = 0) {
    Add(serial, {.kind = Kind::kOpened, .detail = incarnation});
    Join(serial, serial, 1, flags);
  }
  void Join(std::uint32_t serial, std::uint32_t slot, std::uint64_t generation,
            std::uint32_t flags = kIsVoter) {
    Add(serial, {.kind = Kind::kJoined, .detail = generation, .slot = slot, .flags = flags});
  }
  void Begin(std::uint32_t serial, Operation operation, Record about = {}) {
    about.kind = Kind::kBegin;
    about.operation = operation;
    Add(serial, about);
  }
  void End(std::uint32_t serial, Operation operation, std::uint64_t epoch,
           absl::StatusCode code = absl::StatusCode::kOk) {
    Add(serial, {.kind = Kind::kEnd,
                 .operation = operation,
                 .code = static_cast<std::uint16_t>(code),
                 .epoch = epoch});
  }
  void Draft(std::uint32_t serial, std::uint64_t id, std::uint64_t expected = kNothing,
             std::uint64_t previous = kNothing, std::uint64_t counter = 0,
             std::uint32_t flags = 0) {
    counters_[id] = counter;
    Add(serial, {.kind = Kind::kDraft,
                 .epoch = expected,
                 .content = id,
                 .digest = DigestOfId(id),
                 .detail = previous,
                 .counter = counter,
                 .flags = flags});
  }
  void See(std::uint32_t serial, Kind kind, std::uint64_t epoch, std::uint64_t id) {
    Add(serial, {.kind = kind,
                 .epoch = epoch,
                 .content = id,
                 .digest = DigestOfId(id),
                 .counter = counters_[id]});
  }

  // Whole operations.
  void Commit(std::uint32_t serial, std::uint64_t epoch, std::uint64_t id,
              absl::StatusCode code = absl::StatusCode::kOk) {
    Draft(serial, id);
    Begin(serial, Operation::kCommit);
    End(serial, Operation::kCommit, epoch, code);
  }
  void CommitExpecting(std::uint32_t serial, std::uint64_t expected, std::uint64_t epoch,
                       std::uint64_t id, absl::StatusCode code = absl::StatusCode::kOk) {
    Draft(serial, id, expected);
    Begin(serial, Operation::kCommitExpecting);
    End(serial, Operation::kCommitExpecting, epoch, code);
  }
  void Update(std::uint32_t serial, std::uint64_t seen, std::uint64_t previous, std::uint64_t id,
              std::uint64_t counter) {
    Begin(serial, Operation::kUpdate);
    See(serial, Kind::kSeenAccepted, seen, previous);
    Draft(serial, id, seen, previous, counter);
    End(serial, Operation::kUpdate, seen + 1);
  }
  // Up for a vote, from here to Decided.
  void Propose(std::uint32_t serial, std::uint64_t id, std::uint32_t flags = kVoted) {
    Draft(serial, id, kNothing, kNothing, 0, flags);
    Begin(serial, Operation::kCommit, {.flags = flags});
  }
  void Decided(std::uint32_t serial, std::uint64_t epoch) {
    End(serial, Operation::kCommit, epoch);
  }
  void Refused(std::uint32_t serial, absl::StatusCode code, std::uint32_t flags = kToldUnchanged,
               std::uint32_t rejecter = 0) {
    Add(serial, {.kind = Kind::kEnd,
                 .operation = Operation::kCommit,
                 .code = static_cast<std::uint16_t>(code),
                 .detail = rejecter,
                 .slot = rejecter,
                 .flags = flags});
  }
  // Under ballot 1000 + content, and as the owner of the slot of the same number.
  void Vote(std::uint32_t serial, std::uint64_t epoch, std::uint64_t id,
            Voted voted = Voted::kAccept, std::uint64_t generation = 1) {
    Add(serial, {.kind = Kind::kVote,
                 .code = static_cast<std::uint16_t>(voted),
                 .epoch = epoch,
                 .content = id,
                 .digest = DigestOfId(id),
                 .detail = 1000 + id,
                 .counter = generation,
                 .slot = serial});
  }
  // What shows that its participant has its slot still.
  void Poll(std::uint32_t serial, std::uint64_t epoch) {
    Begin(serial, Operation::kPoll);
    End(serial, Operation::kPoll, epoch);
  }
  // Gives `id`, from here to Gathered (or Scattered).
  void Contribute(std::uint32_t serial, std::uint64_t id, std::uint64_t tag,
                  std::uint32_t flags = kVoted) {
    Add(serial, {.kind = Kind::kContribution,
                 .content = id,
                 .digest = DigestOfId(id),
                 .counter = tag,
                 .flags = flags});
    Begin(serial, Operation::kCollective, {.content = id, .flags = flags});
  }
  void Gathered(std::uint32_t serial, std::uint64_t epoch,
                absl::StatusCode code = absl::StatusCode::kOk) {
    End(serial, Operation::kCollective, epoch, code);
  }
  // Looks at a collective state, made of these: what the owner of slot N gave, for each N.
  void LookAtParts(std::uint32_t serial, std::uint64_t epoch, std::uint64_t tag,
                   const std::vector<std::pair<std::uint32_t, std::uint64_t>>& parts) {
    std::uint64_t content = tag;
    for (const auto& [slot, id] : parts) content = content * 31 + id;
    content |= kCollectiveContent;
    Begin(serial, Operation::kPin);
    End(serial, Operation::kPin, epoch);
    Record state{.kind = Kind::kSeen, .epoch = epoch, .content = content, .digest = content};
    Add(serial, state);
    state.kind = Kind::kGathered;
    state.detail = parts.size();
    state.counter = tag;
    Add(serial, state);
    for (const auto& [slot, id] : parts) {
      Add(serial, {.kind = Kind::kPart,
                   .content = id,
                   .digest = DigestOfId(id),
                   .detail = 1,
                   .slot = slot});
    }
    Unpin(serial);
  }
  // Leaves the pin held.
  void Pin(std::uint32_t serial, std::uint64_t epoch, std::uint64_t id) {
    Begin(serial, Operation::kPin);
    End(serial, Operation::kPin, epoch);
    See(serial, Kind::kSeen, epoch, id);
  }
  void Unpin(std::uint32_t serial) { Add(serial, {.kind = Kind::kUnpinned}); }
  void Look(std::uint32_t serial, std::uint64_t epoch, std::uint64_t id) {
    Pin(serial, epoch, id);
    Unpin(serial);
  }
  void Driver(Kind kind, std::uint32_t serial, std::uint64_t detail = 0) {
    Add(0, {.kind = kind, .detail = detail, .slot = serial});
  }

  History history() const {
    History::Logs logs;
    for (const auto& [serial, records] : logs_) logs[serial] = records;
    return History::Of(logs);
  }
  // The rules that the history breaks.
  std::set<std::string> Broken() const {
    std::set<std::string> rules;
    for (const Violation& violation : CheckAll(history())) rules.insert(violation.rule);
    return rules;
  }
  std::map<std::uint32_t, std::vector<Record>>& logs() { return logs_; }

 private:
  std::int64_t clock_ = 0;
  std::map<std::uint32_t, std::vector<Record>> logs_;
  std::map<std::uint64_t, std::uint64_t> counters_;
};

}  // namespace epoch::stress

#endif  // EPOCH_TESTS_STRESS_SCRIPT_H_
