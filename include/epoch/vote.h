// What a voter is asked, and what it answers.
#ifndef EPOCH_VOTE_H_
#define EPOCH_VOTE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "epoch/types.h"

namespace epoch {

// A transition that is up for decision. `state` is the proposal's own memory, valid until the
// validator returns; its digest was found to be the proposer's.
struct Proposal {
  Epoch epoch = 0;           // what it would become
  std::uint64_t ballot = 0;  // names this attempt: epochs are tried again after an abort
  std::uint64_t token = 0;
  bool fence = false;
  std::string_view proposer;  // its name
  std::span<const std::byte> state;

  std::string_view text() const {
    return {reinterpret_cast<const char*>(state.data()), state.size()};
  }
};

class Answer {
 public:
  static Answer Accept() { return Answer(Kind::kAccept, {}); }
  static Answer Reject(std::string reason) { return Answer(Kind::kReject, std::move(reason)); }
  // The validator needs more time: Participant::Vote answers later, by ballot. The proposal waits
  // for that, at most until its deadline.
  static Answer Later() { return Answer(Kind::kLater, {}); }

  bool accepts() const { return kind_ == Kind::kAccept; }
  bool rejects() const { return kind_ == Kind::kReject; }
  const std::string& reason() const { return reason_; }

 private:
  enum class Kind { kAccept, kReject, kLater };
  Answer(Kind kind, std::string reason) : kind_(kind), reason_(std::move(reason)) {}

  Kind kind_;
  std::string reason_;
};

// Called by the thread that polls, waits or listens. It may look at anything, but may call nothing
// of its own participant.
using Validator = std::function<Answer(const Proposal&)>;

}  // namespace epoch

#endif  // EPOCH_VOTE_H_
