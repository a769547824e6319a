// The operations of an agent that make new states.
#include <cstring>

#include "stress/agent.h"
#include "stress/content.h"

namespace epoch::stress {

void Agent::Commit() {
  const CommitOptions how = ChooseHow();
  const Drafted draft = MakeDraft(kNothing, kNothing, 0, how);
  Do(Operation::kCommit, {.flags = FlagsOf(how)}, [&] { return self_->Commit(draft.bytes, how); });
}

// As the successor of the state seen last, whether that is the newest or not.
void Agent::CommitExpecting() {
  CommitOptions how = ChooseHow();
  how.expected = seen_;
  const Drafted draft = MakeDraft(seen_, kNothing, 0, how);
  Do(Operation::kCommitExpecting, {.flags = FlagsOf(how)},
     [&] { return self_->Commit(draft.bytes, how); });
}

// The draft is held for a while first: its owner may be expelled meanwhile, or be the last one who
// could free the versions that others need.
void Agent::CommitHeldDraft() {
  const bool expecting = random_.OneIn(2);
  CommitOptions how = ChooseHow();
  if (expecting) how.expected = seen_;
  const Drafted made = MakeDraft(expecting ? seen_ : kNothing, kNothing, 0, how);
  auto draft = Logged(Operation::kNewDraft, {}, [&] { return self_->NewDraft(made.bytes.size()); });
  if (!draft.ok()) return;
  const std::size_t half = made.bytes.size() / 2;
  std::memcpy(draft->bytes().data(), made.bytes.data(), half);
  Hold();
  std::memcpy(draft->bytes().data() + half, made.bytes.data() + half, made.bytes.size() - half);
  Do(expecting ? Operation::kCommitExpecting : Operation::kCommit, {.flags = FlagsOf(how)},
     [&] { return self_->Commit(*std::move(draft), how); });
}

void Agent::DropDraft() {
  const Drafted made = MakeDraft(kNothing, kNothing, 0, {});
  Do(Operation::kDropDraft, {}, [&] {
    const absl::StatusOr<epoch::Draft> draft = self_->NewDraft(made.bytes);
    Hold();
    return draft.status();
  });
}

absl::Status Agent::DraftUpdate(const Current& current, epoch::Draft& next,
                                const CommitOptions& how) {
  Look(Kind::kSeenAccepted, current.epoch, current.state);
  const Record before = Describe(Kind::kSeen, current.state);
  Hold();
  const Drafted made = MakeDraft(current.epoch, before.content, before.counter + 1, how);
  Look(Kind::kSeenAgain, current.epoch, current.state);
  return next.Assign(made.bytes);
}

void Agent::Update() {
  const CommitOptions how = ChooseHow();
  const auto draft = [&](const Current& current, epoch::Draft& next) {
    return DraftUpdate(current, next, how);
  };
  Do(Operation::kUpdate, {.flags = FlagsOf(how)}, [&] { return self_->Update(draft, how); });
}

std::optional<Ticket> Agent::Propose(std::uint64_t& id) {
  absl::StatusOr<Ticket> ticket = absl::UnknownError("");
  const CommitOptions how = ChooseHow();
  const auto update = [&](const Current& current, epoch::Draft& next) {
    absl::Status s = DraftUpdate(current, next, how);
    id = ContentId(serial_, drafted_);
    return s;
  };
  if (random_.OneIn(2)) {
    ticket = Logged(Operation::kProposeUpdate, {.flags = FlagsOf(how)},
                    [&] { return self_->ProposeUpdate(update, how); });
  } else {
    const Drafted made = MakeDraft(kNothing, kNothing, 0, how);
    id = made.id;
    const auto propose = [&]() -> absl::StatusOr<Ticket> {
      absl::StatusOr<epoch::Draft> draft = self_->NewDraft(made.bytes);
      if (!draft.ok()) return draft.status();
      return self_->Propose(*std::move(draft), how);
    };
    ticket = Logged(Operation::kPropose, {.flags = FlagsOf(how)}, propose);
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
