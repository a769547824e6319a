// One process of a stress run: joins the region, does random operations in it, and logs each of
// them before and after. It judges nothing.
#ifndef EPOCH_TESTS_STRESS_AGENT_H_
#define EPOCH_TESTS_STRESS_AGENT_H_

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "epoch/epoch.h"
#include "stress/log.h"
#include "stress/random.h"
#include "stress/spec.h"

namespace epoch::stress {

// In the reason for a reject, before the serial number of whom it is of.
inline constexpr char kReasonMark[] = "the whim of process ";

class Agent {
 public:
  Agent(const std::string& directory, std::uint32_t serial);

  // Until the driver says SIGTERM, or the agent has had enough.
  void Live();
  // Commits once and leaves: makes visible whatever the others left accepted.
  void Finish();

 private:
  struct Drafted {
    std::uint64_t id;
    std::vector<std::byte> bytes;
  };

  void OpenRegion();
  void JoinRegion();
  void LeaveRegion();
  void Operate();

  // Each is one operation, or a few that belong together.
  void PinAndLook(int depth);
  void WhilePinned(int depth);
  void Commit();
  void CommitExpecting();
  void CommitHeldDraft();
  void DropDraft();
  void Update();
  void ProposeSome();
  void AwaitSomething();
  void ParkOrPoll();
  void LeaveOrRejoin();
  void ExpelSomebody();
  void ForkChild();
  void ReadCopy();

  // agent_votes.cc.
  CommitOptions ChooseHow();
  void TakePartInVotes();
  Answer Validate(const Proposal& proposal, std::uint32_t slot, std::uint64_t generation);
  void AnswerPutOff();
  bool CollectIfItIsTime();
  void Collect(std::uint64_t tag);
  void LookAtParts(std::uint64_t content, std::span<const std::byte> bytes);
  void StartListening();
  void StopListening() { listener_.reset(); }

  Drafted MakeDraft(std::uint64_t expected, std::uint64_t previous, std::uint64_t counter,
                    const CommitOptions& how);
  absl::Status DraftUpdate(const Current& current, epoch::Draft& next, const CommitOptions& how);
  std::optional<Ticket> Propose(std::uint64_t& id);
  void Look(Kind kind, Epoch epoch, std::span<const std::byte> bytes);
  void Hold();
  [[noreturn]] void ForkedAway();

  void Begin(Operation operation, Record about = {});
  void End(Operation operation, const absl::Status& status, Epoch epoch = 0);
  // Runs `call` between the two records, and puts things right after an expulsion.
  template <typename Call>
  auto Logged(Operation operation, const Record& about, Call&& call) {
    Begin(operation, about);
    auto result = std::forward<Call>(call)();
    if constexpr (std::is_same_v<decltype(result), absl::Status>) {
      End(operation, result);
    } else {
      Epoch epoch = 0;
      if constexpr (std::is_same_v<decltype(result), absl::StatusOr<Epoch>>) {
        if (result.ok()) epoch = *result;
      } else if constexpr (std::is_same_v<decltype(result), absl::StatusOr<Ticket>>) {
        if (result.ok()) epoch = result->epoch;
      }
      End(operation, result.status(), epoch);
      if (epoch > seen_) seen_ = epoch;
    }
    return result;
  }

  // The same, when the log is all that matters.
  template <typename Call>
  void Do(Operation operation, const Record& about, Call&& call) {
    static_cast<void>(Logged(operation, about, std::forward<Call>(call)));
  }

  struct PutOff {
    std::uint64_t ballot;
    Record vote;
  };

  const std::uint32_t serial_;
  const Spec spec_;
  Random random_;
  LogWriter log_;
  // The validator's, which may run in the listener's thread; the mutex guards what it puts off.
  Random whims_;
  std::mutex put_off_mutex_;
  std::vector<PutOff> put_off_;
  std::optional<Region> region_;
  std::optional<Participant> self_;
  std::optional<Listener> listener_;
  std::uint32_t drafted_ = 0;  // counts ids
  Epoch seen_ = 0;             // the newest that this process knows to be committed or accepted
  bool expelled_ = false;
  bool pinned_ = false;
  unsigned mix_ = 0;  // which operations this one likes best
  bool voter_ = false;
  bool listens_ = false;
  std::uint64_t collected_ = 0;  // the last tag that this one contributed to
  std::uint64_t parts_of_ = 0;   // the collective state whose parts were logged last
};

// How a state that is committed so is to be described.
inline std::uint32_t FlagsOf(const CommitOptions& how) {
  return (how.agreement == Agreement::kAllVoters ? kVoted : 0) | (how.fence ? kFenced : 0) |
         (how.on_straggler == Straggler::kExpel ? kExpels : 0);
}

// Whether the driver has asked to end.
bool ToldToEnd();

}  // namespace epoch::stress

#endif  // EPOCH_TESTS_STRESS_AGENT_H_
