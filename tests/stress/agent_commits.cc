// The operations of an agent that make new states.
#include <cstring>

#include "stress/agent.h"
#include "stress/content.h"

namespace epoch::stress {

void Agent::Commit() {
  const Drafted draft = MakeDraft(kNothing, kNothing, 0);
  Do(Operation::kCommit, {}, [&] { return self_->Commit(draft.bytes); });
}

// As the successor of the state seen last, whether that is the newest or not.
void Agent::CommitExpecting() {
  const Epoch expected = seen_;
  const Drafted draft = MakeDraft(expected, kNothing, 0);
  Do(Operation::kCommitExpecting, {},
     [&] { return self_->Commit(draft.bytes, {.expected = expected}); });
}

// The draft is held for a while first: its owner may be expelled meanwhile, or be the last one who
// could free the versions that others need.
void Agent::CommitHeldDraft() {
  const bool expecting = random_.OneIn(2);
  const Drafted made = MakeDraft(expecting ? seen_ : kNothing, kNothing, 0);
  auto draft = Logged(Operation::kNewDraft, {}, [&] { return self_->NewDraft(made.bytes.size()); });
  if (!draft.ok()) return;
  const std::size_t half = made.bytes.size() / 2;
  std::memcpy(draft->bytes().data(), made.bytes.data(), half);
  Hold();
  std::memcpy(draft->bytes().data() + half, made.bytes.data() + half, made.bytes.size() - half);
  CommitOptions options;
  if (expecting) options.expected = seen_;
  Do(expecting ? Operation::kCommitExpecting : Operation::kCommit, {},
     [&] { return self_->Commit(*std::move(draft), options); });
}

void Agent::DropDraft() {
  const Drafted made = MakeDraft(kNothing, kNothing, 0);
  Do(Operation::kDropDraft, {}, [&] {
    const absl::StatusOr<epoch::Draft> draft = self_->NewDraft(made.bytes);
    Hold();
    return draft.status();
  });
}

absl::Status Agent::DraftUpdate(const Current& current, epoch::Draft& next) {
  Look(Kind::kSeenAccepted, current.epoch, current.state);
  const Record before = Describe(Kind::kSeen, current.state);
  Hold();
  const Drafted made = MakeDraft(current.epoch, before.content, before.counter + 1);
  Look(Kind::kSeenAgain, current.epoch, current.state);
  return next.Assign(made.bytes);
}

void Agent::Update() {
  const auto draft = [&](const Current& current, epoch::Draft& next) {
    return DraftUpdate(current, next);
  };
  Do(Operation::kUpdate, {}, [&] { return self_->Update(draft); });
}

std::optional<Ticket> Agent::Propose(std::uint64_t& id) {
  absl::StatusOr<Ticket> ticket = absl::UnknownError("");
  if (random_.OneIn(2)) {
    ticket = Logged(Operation::kProposeUpdate, {}, [&] {
      return self_->ProposeUpdate([&](const Current& current, epoch::Draft& next) {
        absl::Status s = DraftUpdate(current, next);
        id = ContentId(serial_, drafted_);
        return s;
      });
    });
  } else {
    const Drafted made = MakeDraft(kNothing, kNothing, 0);
    id = made.id;
    ticket = Logged(Operation::kPropose, {}, [&]() -> absl::StatusOr<Ticket> {
      absl::StatusOr<epoch::Draft> draft = self_->NewDraft(made.bytes);
      if (!draft.ok()) return draft.status();
      return self_->Propose(*std::move(draft));
    });
  }
  if (!ticket.ok()) return std::nullopt;
  return *ticket;
}

// A few under way at once, then the waiting.
void Agent::ProposeSome() {
  struct Proposed {
    Ticket ticket;
    std::uint64_t id;
  };
  std::vector<Proposed> proposed;
  for (std::uint64_t count = random_.Between(1, 4); count > 0; --count) {
    std::uint64_t id = 0;
    const std::optional<Ticket> ticket = Propose(id);
    if (!ticket.has_value()) break;
    proposed.push_back({*ticket, id});
  }
  if (random_.OneIn(4)) return;  // somebody will finish them
  for (const Proposed& p : proposed) {
    Do(Operation::kAwaitTicket, {.epoch = p.ticket.epoch, .content = p.id},
       [&] { return self_->Await(p.ticket); });
  }
}

}  // namespace epoch::stress
