// One process: joins, does what the plan says, and holds what it is told against the guarantees.
#ifndef EPOCH_TESTS_SIM_PROCESS_H_
#define EPOCH_TESTS_SIM_PROCESS_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "tests/sim/stage.h"

namespace epoch::sim {

class Process {
 public:
  Process(Stage& stage, int number) : stage_(stage), number_(number) {}

  // A fiber's body: life after life, until nothing is left to do in this boot.
  void Live();
  // Is a participant before the run begins; Live goes on from there.
  void JoinBeforehand();

 private:
  struct Member {
    Region region;
    Participant self;
    std::optional<Listener> listener{};  // ends before its participant does
  };
  struct PutOff {
    std::uint64_t ballot;
    bool accepts;  // in the end
  };

  // Until there is nothing left to do (false), or the region has to be opened anew (true).
  bool Work();
  void Operate(const Op& op);
  // False: it could not.
  bool Join();
  // Its objects go, in good order.
  void End();

  // process.cc
  void PinAndLook(Random& random);
  void CommitOne(std::optional<Epoch> expected, Random& random);
  void UpdateOnce(Random& random, bool wait);
  void GoAround(GoRound how);
  void Read();
  void Rejoin(Random& random);
  void ExpelSomebody(Random& random);
  void AwaitConverged();
  // Fills a draft. Its bytes are written after everybody's last read of that cell.
  void Fill(std::span<std::byte> to, const Content& content);
  // The function of an update. Leaves in `content` what it drafted last.
  absl::Status Succeed(const Current& current, Draft& next, Random& random, Content& content);
  std::uint64_t SizeFor(Random& random);
  absl::Duration Patience() const;
  void Committed(const Content& content, const absl::StatusOr<Epoch>& result);
  void CheckNotExpelled(Epoch committed);
  void CheckAcknowledged();
  void CheckConverged(Epoch epoch, const char* what);
  Content See(Epoch epoch, std::span<const std::byte> bytes, bool in_place);
  void Tolerate(const absl::Status& status, const char* what) {
    stage_.Tolerate(status, what, reopen_);
  }

  // process_vanishes.cc
  bool AwaitEverybody();  // to have opened the region; false: not all have
  void RemoveJournal();
  void MoveJournal(Random& random);

  // process_votes.cc
  static CommitOptions AgreementOf(OpKind kind, Random& random);
  void CommitAgreed(OpKind kind, Random& random);
  void UpdateAgreed(Random& random);
  void Agreed(const Content& content, const absl::StatusOr<Ticket>& ticket);
  void CommitTogether(Random& random);
  void AnswerLater();
  // What this process says to proposals of others.
  Answer Judge(const Proposal& proposal);
  // Another participant of this process, which does nothing but listen for a while.
  void Listen(Random& random);

  // process_listener.cc
  void StartListener();
  void StopListener(Random& random);
  void AwaitTold();
  void BeBusy();

  Stage& stage_;
  const int number_;
  std::size_t next_ = 0;  // operation
  // On the heap, and left there when the process is killed: nobody cleans up after it.
  Member* member_ = nullptr;
  Epoch newest_ = 0;     // G1: seen by this participant
  bool reopen_ = false;  // the region must be opened anew
  std::vector<PutOff> put_off_;
};

}  // namespace epoch::sim

#endif  // EPOCH_TESTS_SIM_PROCESS_H_
