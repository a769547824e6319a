// The checker of what others have to agree to: votes, fences, collective commits. It watches the
// words of one incarnation and judges each decision at the very step at which it is made.
//   G5 a vote commits only if every voter that was in since before it began has accepted that
//      ballot and digest, nobody's reject is overridden, and an abort has a cause that is true
//   G6 a fence is passed only when nobody who lives and is in holds a pin of an earlier epoch, and
//      nobody pins one afterwards
//   A vote is final; a ballot is decided once; a collective round is committed once.
//   Nobody acknowledges a later epoch than its participant pins. (Guards, and whom a decider has to
//   hear: guards.h.)
// Whoever joins, or ends its parking, while a vote is under way may be counted or not.
#ifndef EPOCH_TESTS_SIM_AGREEMENTS_H_
#define EPOCH_TESTS_SIM_AGREEMENTS_H_

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "epoch/detail/memory/layout.h"
#include "tests/sim/guards.h"
#include "tests/sim/history.h"
#include "tests/sim/plan.h"

namespace epoch::sim {

// What the validator of a process says to the bytes with this digest: always the same.
bool Rejects(const Plan& plan, int process, std::uint64_t digest);
bool PutsOff(const Plan& plan, int process, std::uint64_t digest);

class Agreements {
 public:
  Agreements(const Plan& plan, const detail::RegionView& view, Engine& engine, History& history);

  // After each store to shared memory.
  void Stored(const void* at, std::uint64_t value);
  // After each load, with what it returned.
  void Loaded(const void* at, std::uint64_t value);
  // A process holds a pin, or is about to let go of it.
  void Pinned(int process, std::uint32_t slot, std::uint64_t generation, Epoch epoch);
  void LetsGo(int process) { held_[static_cast<std::size_t>(process)].held = false; }

 private:
  static constexpr std::uint64_t kNever = ~std::uint64_t{0};

  struct Vote {
    detail::Verdict verdict;
    std::uint64_t digest;
    std::int64_t at_ns;
    bool counts;  // of a voter that was in before the vote began, and is
  };
  using Voter = std::pair<std::uint32_t, std::uint16_t>;  // slot, generation
  struct Ballot {
    std::uint64_t begun;  // step
    detail::Decision decision = detail::Decision::kUndecided;
    std::map<Voter, Vote> votes{};
  };
  struct Held {
    bool held = false;
    std::uint32_t slot = 0;
    std::uint64_t generation = 0;
    Epoch epoch = 0;
  };

  void Violation(const std::string& what);
  void TailMoved(const detail::StateWord& tail);
  void HeadMoved(const detail::StateWord& head);
  void MembershipChanged(std::uint32_t slot);
  void Voted(std::uint32_t slot, const detail::VoteWord& vote);
  void Acknowledged(std::uint32_t slot, const detail::OwnedWord& ack);
  void Offered(std::uint32_t slot, const detail::OwnedWord& offer);
  void Decided(std::uint32_t cell, const detail::OutcomeWord& outcome);
  void PutTogether(std::uint32_t cell);
  void Committed(std::uint32_t cell, const Ballot& ballot);
  void Aborted(std::uint32_t cell, const detail::OutcomeWord& outcome, const Ballot& ballot);
  void CommittedTogether(std::uint32_t cell, const Ballot& ballot);
  void CheckNobodyIsLeftOut(std::uint32_t cell);
  bool Carries(std::uint32_t slot, const detail::VoteWord& vote) const;
  // Everybody has let go of what is before `fenced`.
  void Drained(Epoch fenced);
  bool IsIn(const Held& held) const;
  std::span<const std::byte> StateOf(std::uint32_t cell) const;
  static bool IsProposer(const detail::VersionCell& cell, std::uint32_t slot,
                         std::uint64_t generation);
  std::size_t ProcessIn(std::uint32_t slot) const;
  Voter OwnerOf(std::uint32_t slot) const;
  std::string ReasonOf(std::uint32_t slot) const;

  const Plan& plan_;
  const detail::RegionView view_;
  Engine& engine_;
  History& history_;
  std::vector<std::uint64_t> since_;         // by slot: the step at which it began to count
  std::map<std::uint64_t, Ballot> ballots_;  // since they were put up
  // By process: whose parts it has seen since it offered its own.
  std::array<std::set<Voter>, kMaxProcesses> seen_{};
  std::set<std::uint64_t> rounds_;  // that ended with a commit
  std::vector<Epoch> fenced_;       // committed
  std::array<Held, kMaxProcesses> held_{};
  Epoch head_ = 0;
  Guards guards_;
  Scans scans_;
};

}  // namespace epoch::sim

#endif  // EPOCH_TESTS_SIM_AGREEMENTS_H_
