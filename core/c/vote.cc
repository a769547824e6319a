// Votes through C.
#include "epoch/vote.h"

#include <pthread.h>

#include <atomic>
#include <shared_mutex>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/c/participant.h"

namespace epoch::c {
namespace {

// Asks a validator of C; in whichever thread, which calls nothing of that participant meanwhile.
Answer Ask(Actor& participant, epoch_validator validator, void* user, const Proposal& proposal) {
  const std::string proposer(proposal.proposer);
  const epoch_proposal is{.epoch = proposal.epoch,
                          .ballot = proposal.ballot,
                          .token = proposal.token,
                          .proposer = proposer.c_str(),
                          .data = proposal.state.data(),
                          .size = proposal.state.size(),
                          .fence = proposal.fence ? 1u : 0u,
                          .reserved = 0};
  char reason[kMaxReasonBytes + 1] = {};
  int answer = EPOCH_ANSWER_REJECT;
  {
    struct Validating {
      std::atomic<pthread_t>& thread;
      ~Validating() {
        thread.store(0, std::memory_order_relaxed);
        --Actor::validators_inside;
      }
    } validating{participant.validating};
    ++Actor::validators_inside;
    // Only this thread looks for itself there; one validator of a participant runs at a time.
    participant.validating.store(pthread_self(), std::memory_order_relaxed);
    answer = validator(user, &is, reason, sizeof reason);
  }
  reason[sizeof reason - 1] = '\0';
  switch (answer) {
    case EPOCH_ANSWER_ACCEPT:
      return Answer::Accept();
    case EPOCH_ANSWER_LATER:
      return Answer::Later();
    case EPOCH_ANSWER_REJECT:
      return Answer::Reject(reason);
    default:
      return Answer::Reject(absl::StrCat("the validator returned ", answer, ", no answer"));
  }
}

}  // namespace
}  // namespace epoch::c

epoch_code epoch_participant_set_validator(epoch_participant* participant,
                                           epoch_validator validator, void* user,
                                           epoch_error** error) {
  return epoch::c::Call(error, [&] {
    return epoch::c::InParticipant(participant, [&](epoch::Participant& self) {
      if (validator == nullptr) {
        self.SetValidator({});
      } else {
        self.SetValidator([participant, validator, user](const epoch::Proposal& proposal) {
          return epoch::c::Ask(*participant, validator, user, proposal);
        });
      }
      return absl::OkStatus();
    });
  });
}

epoch_code epoch_participant_vote(epoch_participant* participant, uint64_t ballot, int answer,
                                  const char* reason, epoch_error** error) {
  return epoch::c::Call(error, [&]() -> absl::Status {
    if (answer != EPOCH_ANSWER_ACCEPT && answer != EPOCH_ANSWER_REJECT) {
      return epoch::c::Refused(
          absl::StrCat("a vote of ", answer, ": EPOCH_ANSWER_ACCEPT or EPOCH_ANSWER_REJECT"));
    }
    if (participant == nullptr) return epoch::c::Invalid(epoch_participant::kWhat);
    if (participant->InValidator()) return epoch::c::Busy(epoch_participant::kWhat);
    const std::shared_lock lock(participant->voting);
    // What it stands for goes, and is replaced, only under that lock.
    if (participant->kind.load(std::memory_order_acquire) != epoch::c::Kind::kParticipant) {
      return epoch::c::Invalid(epoch_participant::kWhat);
    }
    return participant->self->Vote(ballot,
                                   answer == EPOCH_ANSWER_ACCEPT
                                       ? epoch::Answer::Accept()
                                       : epoch::Answer::Reject(reason == nullptr ? "" : reason));
  });
}
