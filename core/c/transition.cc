// Transitions through C: drafts, commits, updates, collective commits, and waiting for them.
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/c/options.h"
#include "core/c/participant.h"
#include "epoch/collective.h"

using epoch::c::Call;
using epoch::c::InParticipant;
using epoch::c::Inside;
using epoch::c::Kind;
using epoch::c::Refused;
using epoch::c::Transition;

namespace epoch::c {
namespace {

// Runs `body` with the C++ draft: of an update's function in its thread, else inside.
template <typename Body>
epoch_code InDraft(epoch_draft* draft, epoch_error** error, Body&& body) {
  return Call(error, [&]() -> absl::Status {
    if (draft != nullptr && draft->kind.load(std::memory_order_acquire) == Kind::kLentDraft) {
      if (pthread_equal(draft->lent_to.load(std::memory_order_relaxed), pthread_self()) == 0) {
        return Busy(epoch_draft::kWhat);
      }
      // The function has forked, and this is the child: what is written is what the parent commits.
      if (draft->actor.load(std::memory_order_relaxed)->forked.load(std::memory_order_relaxed)) {
        return OfTheParent(epoch_draft::kWhat);
      }
      return body(*draft->lent);
    }
    const Inside inside(draft, Kind::kDraft, epoch_draft::kWhat, Pace::kBrief);
    if (!inside.ok()) return inside.status();
    return body(*draft->own);
  });
}

// A draft that an update's function may write to; of no use before and afterwards.
class LentDraft {
 public:
  explicit LentDraft(epoch_participant& participant) {
    Pool& pool = PoolOf<LentDraft>();
    cell_ = static_cast<epoch_draft*>(pool.TakeFree());
    if (cell_ == nullptr) {
      cell_ = new epoch_draft;
      pool.Add(cell_);
    }
    cell_->actor.store(&participant, std::memory_order_relaxed);
  }
  LentDraft(const LentDraft&) = delete;
  LentDraft& operator=(const LentDraft&) = delete;
  ~LentDraft() { PoolOf<LentDraft>().Give(cell_); }

  int Run(epoch_update_function function, void* user, const Current& current, Draft& next) {
    struct Back {
      epoch_draft& cell;
      ~Back() { cell.kind.store(Kind::kNone, std::memory_order_release); }
    } back{*cell_};
    cell_->lent = &next;
    cell_->lent_to.store(pthread_self(), std::memory_order_relaxed);
    cell_->kind.store(Kind::kLentDraft, std::memory_order_release);
    const epoch_current is{.epoch = current.epoch,
                           .token = current.token,
                           .data = current.state.data(),
                           .size = current.state.size()};
    return function(user, &is, cell_);
  }

 private:
  epoch_draft* cell_ = nullptr;
};

// A ticket is a number, and says in its highest bit what Ticket::unchanged says.
std::uint64_t NumberOf(const Ticket& ticket) {
  return ticket.epoch | (ticket.unchanged ? EPOCH_TICKET_UNCHANGED : 0);
}
Ticket TicketOf(std::uint64_t number) {
  return {.epoch = number & ~EPOCH_TICKET_UNCHANGED,
          .unchanged = (number & EPOCH_TICKET_UNCHANGED) != 0};
}

absl::Status Written(const absl::StatusOr<Epoch>& made, std::uint64_t* to) {
  if (made.ok() && to != nullptr) *to = *made;
  return made.status();
}
absl::Status Written(const absl::StatusOr<Ticket>& made, std::uint64_t* to) {
  if (made.ok() && to != nullptr) *to = NumberOf(*made);
  return made.status();
}

// `make` of the participant, the draft and the options, where these three fit together.
template <typename Make>
epoch_code WithDraft(epoch_participant* participant, epoch_draft* draft,
                     const epoch_commit_options* options, std::uint64_t* to, epoch_error** error,
                     Make&& make) {
  return Transition(error, [&] {
    return InParticipant(participant, [&](Participant& self) -> absl::Status {
      if (draft == nullptr) return Invalid(epoch_draft::kWhat);
      const Kind kind = draft->kind.load(std::memory_order_acquire);
      if (kind == Kind::kLentDraft) {
        return Refused("a draft of an update's function is committed by the update");
      }
      if (kind != Kind::kDraft) return Invalid(epoch_draft::kWhat);
      if (draft->actor.load(std::memory_order_relaxed) != participant) {
        return Refused("a draft of another participant");
      }
      EPOCH_C_TRY(is, CommitOptionsOf(options));
      return Written(make(self, *std::move(draft->own), *is), to);
    });
  });
}

template <typename Make>
epoch_code Updated(epoch_participant* participant, epoch_update_function function, void* user,
                   const epoch_commit_options* options, std::uint64_t* to, epoch_error** error,
                   Make&& make) {
  return Transition(error, [&] {
    return InParticipant(participant, [&](Participant& self) -> absl::Status {
      if (function == nullptr) return Refused("the function of the update is NULL");
      EPOCH_C_TRY(is, CommitOptionsOf(options));
      LentDraft lent(*participant);
      const auto run = [&](const Current& current, Draft& next) -> absl::Status {
        const int code = lent.Run(function, user, current, next);
        if (code == EPOCH_OK) return absl::OkStatus();
        if (code == EPOCH_NO_CHANGE) return NoChange();
        if (code < 0 || code > EPOCH_DATA_LOSS) {
          return Refused(
              absl::StrCat("the function of the update returned ", code, ", which is no code"));
        }
        return detail::Because(Cause::kOther,
                               absl::Status(static_cast<absl::StatusCode>(code),
                                            "the function of the update ended it; nothing was "
                                            "changed"));
      };
      return Written(make(self, run, *is), to);
    });
  });
}

}  // namespace
}  // namespace epoch::c

// --- drafts
// ----------------------------------------------------------------------------------------

epoch_code epoch_participant_draft(epoch_participant* participant, size_t size,
                                   const epoch_wait_options* wait, epoch_draft** draft,
                                   epoch_error** error) {
  if (draft != nullptr) *draft = nullptr;
  return Call(error, [&] {
    return InParticipant(participant, [&](epoch::Participant& self) -> absl::Status {
      if (draft == nullptr) return Refused("the place for the draft is NULL");
      EPOCH_C_TRY(is, epoch::c::WaitOf(wait));
      epoch::c::NewChild<epoch_draft> made;
      EPOCH_C_TRY(drafted, self.NewDraft(size, *is));
      made->own.emplace(*std::move(drafted));
      *draft = made.Open(*participant, Kind::kDraft);
      return absl::OkStatus();
    });
  });
}

epoch_code epoch_draft_data(epoch_draft* draft, void** data, size_t* size, epoch_error** error) {
  return epoch::c::InDraft(draft, error, [&](epoch::Draft& is) {
    if (data == nullptr) return Refused("the place for the address is NULL");
    const std::span<std::byte> bytes = is.bytes();
    *data = bytes.data();
    if (size != nullptr) *size = bytes.size();
    return absl::OkStatus();
  });
}
epoch_code epoch_draft_capacity(epoch_draft* draft, size_t* capacity, epoch_error** error) {
  return epoch::c::InDraft(draft, error, [&](const epoch::Draft& is) {
    if (capacity == nullptr) return Refused("the place for the capacity is NULL");
    *capacity = is.capacity();
    return absl::OkStatus();
  });
}
epoch_code epoch_draft_resize(epoch_draft* draft, size_t size, epoch_error** error) {
  return epoch::c::InDraft(draft, error, [&](epoch::Draft& is) { return is.Resize(size); });
}
epoch_code epoch_draft_assign(epoch_draft* draft, const void* data, size_t size,
                              epoch_error** error) {
  return epoch::c::InDraft(draft, error, [&](epoch::Draft& is) -> absl::Status {
    EPOCH_C_TRY(bytes, epoch::c::BytesOf(data, size));
    return is.Assign(*bytes);
  });
}
void epoch_draft_free(epoch_draft* draft) {
  if (draft != nullptr) draft->Free(Kind::kDraft);
}

// --- commits
// ---------------------------------------------------------------------------------------

epoch_code epoch_participant_commit(epoch_participant* participant, const void* data, size_t size,
                                    const epoch_commit_options* options, uint64_t* epoch,
                                    epoch_error** error) {
  return Transition(error, [&] {
    return InParticipant(participant, [&](epoch::Participant& self) -> absl::Status {
      EPOCH_C_TRY(bytes, epoch::c::BytesOf(data, size));
      EPOCH_C_TRY(is, epoch::c::CommitOptionsOf(options));
      return epoch::c::Written(self.Commit(*bytes, *is), epoch);
    });
  });
}
epoch_code epoch_participant_commit_draft(epoch_participant* participant, epoch_draft* draft,
                                          const epoch_commit_options* options, uint64_t* epoch,
                                          epoch_error** error) {
  return epoch::c::WithDraft(
      participant, draft, options, epoch, error,
      [](epoch::Participant& self, epoch::Draft&& is, const epoch::CommitOptions& with) {
        return self.Commit(std::move(is), with);
      });
}
epoch_code epoch_participant_propose(epoch_participant* participant, epoch_draft* draft,
                                     const epoch_commit_options* options, uint64_t* ticket,
                                     epoch_error** error) {
  // A number that nobody is told is one that nobody can wait for.
  if (ticket == nullptr) {
    return Call(error, [] { return Refused("the place for the ticket is NULL"); });
  }
  return epoch::c::WithDraft(
      participant, draft, options, ticket, error,
      [](epoch::Participant& self, epoch::Draft&& is, const epoch::CommitOptions& with) {
        return self.Propose(std::move(is), with);
      });
}

epoch_code epoch_participant_update(epoch_participant* participant, epoch_update_function function,
                                    void* user, const epoch_commit_options* options,
                                    uint64_t* epoch, epoch_error** error) {
  return epoch::c::Updated(participant, function, user, options, epoch, error,
                           [](epoch::Participant& self, const auto& run,
                              const epoch::CommitOptions& with) { return self.Update(run, with); });
}
epoch_code epoch_participant_propose_update(epoch_participant* participant,
                                            epoch_update_function function, void* user,
                                            const epoch_commit_options* options, uint64_t* ticket,
                                            epoch_error** error) {
  if (ticket == nullptr) {
    return Call(error, [] { return Refused("the place for the ticket is NULL"); });
  }
  return epoch::c::Updated(
      participant, function, user, options, ticket, error,
      [](epoch::Participant& self, const auto& run, const epoch::CommitOptions& with) {
        return self.ProposeUpdate(run, with);
      });
}

epoch_code epoch_participant_await_ticket(epoch_participant* participant, uint64_t ticket,
                                          const epoch_wait_options* wait, uint64_t* epoch,
                                          epoch_error** error) {
  return Transition(error, [&] {
    return InParticipant(participant, [&](epoch::Participant& self) -> absl::Status {
      EPOCH_C_TRY(is, epoch::c::WaitOf(wait));
      return epoch::c::Written(self.Await(epoch::c::TicketOf(ticket), *is), epoch);
    });
  });
}
epoch_code epoch_participant_await(epoch_participant* participant, uint64_t epoch, int stage,
                                   const epoch_wait_options* wait, uint64_t* reached,
                                   epoch_error** error) {
  return Call(error, [&] {
    return InParticipant(participant, [&](epoch::Participant& self) -> absl::Status {
      if (stage != EPOCH_STAGE_COMMITTED && stage != EPOCH_STAGE_CONVERGED) {
        return Refused(absl::StrCat("stage is ", stage, ", which is none of them"));
      }
      EPOCH_C_TRY(is, epoch::c::WaitOf(wait));
      return epoch::c::Written(self.Await(epoch,
                                          stage == EPOCH_STAGE_CONVERGED ? epoch::Stage::kConverged
                                                                         : epoch::Stage::kCommitted,
                                          *is),
                               reached);
    });
  });
}

// --- collective commits
// ----------------------------------------------------------------------------

epoch_code epoch_participant_commit_collective(epoch_participant* participant, uint64_t tag,
                                               const void* data, size_t size,
                                               const epoch_collective_options* options,
                                               uint64_t* epoch, epoch_error** error) {
  return Transition(error, [&] {
    return InParticipant(
        participant,
        [&](epoch::Participant& self) -> absl::Status {
          EPOCH_C_TRY(bytes, epoch::c::BytesOf(data, size));
          EPOCH_C_TRY(is, epoch::c::CollectiveOptionsOf(options));
          return epoch::c::Written(self.CommitCollective(tag, *bytes, *is), epoch);
        },
        epoch::c::Pace::kForVoter);
  });
}

epoch_code epoch_contributions(const void* state, size_t state_size,
                               epoch_contribution* contributions, size_t capacity, size_t* count,
                               epoch_error** error) {
  return Call(error, [&]() -> absl::Status {
    if (count == nullptr) return Refused("the place for the count is NULL");
    if (contributions == nullptr && capacity != 0) {
      return Refused("the place for the contributions is NULL");
    }
    EPOCH_C_TRY(bytes, epoch::c::BytesOf(state, state_size));
    EPOCH_C_TRY(parts, epoch::ContributionsOf(*bytes));
    for (std::size_t i = 0; i < parts->size() && i < capacity; ++i) {
      contributions[i] = {.data = (*parts)[i].bytes.data(),
                          .size = (*parts)[i].bytes.size(),
                          .slot = (*parts)[i].slot,
                          .reserved = 0};
    }
    *count = parts->size();
    return absl::OkStatus();
  });
}
