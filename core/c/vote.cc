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
  // No memory is taken here: without it this would be a refusal. Names are shorter.
  char proposer[detail::kNameBytes] = {};
  proposal.proposer.copy(proposer, sizeof proposer - 1);
  const epoch_proposal is{.epoch = proposal.epoch,
                          .ballot = proposal.ballot,
                          .token = proposal.token,
                          .proposer = proposer,
                          .data = proposal.state.data(),
                          .size = proposal.state.size(),
                          .fence = proposal.fence ? 1u : 0u,
                          .reserved = 0};
  char reason[kMaxReasonBytes + 1] = {};
  int answer = EPOCH_ANSWER_REJECT;
  {
    struct Validating {
      Actor& participant;
      ~Validating() {
        Set(0);
        --Actor::validators_inside;
      }
      // Only this thread looks for itself there; one validator of a participant runs at a time.
      void Set(pthread_t thread) const noexcept {
        participant.validating.store(thread, std::memory_order_relaxed);
        Gate::ByteOf(participant.hot, EPOCH_HOT_VALIDATING)
            .store(thread != 0 ? 1 : 0, std::memory_order_relaxed);
      }
    } validating{participant};
    ++Actor::validators_inside;
    validating.Set(pthread_self());
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
    return epoch::c::InParticipant(
        participant,
        [&](epoch::Participant& self) {
          if (validator == nullptr) {
            self.SetValidator({});
          } else {
            self.SetValidator([participant, validator, user](const epoch::Proposal& proposal) {
              return epoch::c::Ask(*participant, validator, user, proposal);
            });
          }
          return absl::OkStatus();
        },
        epoch::c::Pace::kForVoter);
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
    if (epoch::c::Actor::InAnyValidator()) {
      return epoch::c::BusyInValidator(epoch_participant::kWhat);
    }
    const std::shared_lock lock(participant->voting);
    // What it stands for goes, and is replaced, only under that lock.
    if (participant->kind.load(std::memory_order_acquire) != epoch::c::Kind::kParticipant) {
      return epoch::c::Invalid(epoch_participant::kWhat);
    }
    if (participant->forked.load(std::memory_order_relaxed)) {
      return epoch::c::OfTheParent(epoch_participant::kWhat);
    }
    return participant->self->Vote(ballot,
                                   answer == EPOCH_ANSWER_ACCEPT
                                       ? epoch::Answer::Accept()
                                       : epoch::Answer::Reject(reason == nullptr ? "" : reason));
  });
}
