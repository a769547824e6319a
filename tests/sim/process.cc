#include "tests/sim/process.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace epoch::sim {

using detail::SlotWord;
using detail::StateWord;

bool Process::Join() {
  std::optional<Region> region = stage_.Enter();
  if (!region.has_value()) return false;
  const bool voter = ((stage_.plan.voters >> number_) & 1) != 0;
  auto joined = Participant::Join(*region, {.name = "p", .voter = voter});
  if (!joined.ok()) {
    if (!absl::IsResourceExhausted(joined.status())) stage_.Fail(joined.status(), "join");
    return false;
  }
  member_ = new Member{*std::move(region), *std::move(joined), std::nullopt};
  member_->self.SetValidator([this](const Proposal& p) { return Judge(p); });
  newest_ = 0;
  put_off_.clear();
  return true;
}

void Process::JoinBeforehand() { Join(); }

void Process::End() {
  delete member_;
  member_ = nullptr;
}

void Process::Live() {
  if (number_ == stage_.plan.settings.processes) {
    // Forked: until the child closes what it inherited, its parent's locks live on.
    for (std::uint64_t i = stage_.engine.random().Below(40); i > 0; --i) {
      stage_.engine.Point("fork.inherited");
    }
    stage_.disk.CloseAllOf(number_);
  }
  if (stage_.plan.joined) {
    Work();
    return End();
  }
  for (int life = 0; life < 6 && !stage_.engine.violated() && !stage_.lost; ++life) {
    if (!Join()) return;
    CheckAcknowledged();
    const bool again = Work();
    End();
    if (!again) return;
  }
}

bool Process::Work() {
  const auto& operations = stage_.plan.operations[static_cast<std::size_t>(number_)];
  while (next_ < operations.size() && !stage_.engine.violated()) {
    const Op op = operations[next_];
    if (op.boot > stage_.boot) return false;
    ++next_;
    if (op.boot < stage_.boot) continue;
    stage_.engine.Trace("%s", NameOf(op.kind));
    reopen_ = op.kind == OpKind::kReopen;
    Operate(op);
    stage_.engine.Progressed();
    if (reopen_) return true;
  }
  return false;
}

void Process::Operate(const Op& op) {
  Random random(op.argument);
  Participant& self = member_->self;
  switch (op.kind) {
    case OpKind::kPin:
      return PinAndLook(random);
    case OpKind::kCommit:
      return CommitOne(std::nullopt, random);
    case OpKind::kCommitExpecting:
      return CommitOne(newest_, random);
    case OpKind::kUpdate:
    case OpKind::kProposeThenAwait:
      return UpdateOnce(random, op.kind == OpKind::kUpdate);
    case OpKind::kDropDraft: {
      auto draft = self.NewDraft(stage_.plan.state_bytes);
      stage_.engine.Point("drafting");
      return Tolerate(draft.status(), "draft");
    }
    case OpKind::kRead:
      return Read();
    case OpKind::kPark:
      return Tolerate(self.Park(), "park");
    case OpKind::kPoll:
      return Tolerate(self.Poll().status(), "poll");
    case OpKind::kReap:
      return Tolerate(member_->region.Reap().status(), "reap");
    case OpKind::kExpel:
      return ExpelSomebody(random);
    case OpKind::kRejoin:
      return Rejoin(random);
    case OpKind::kAwaitConverged:
      return AwaitConverged();
    case OpKind::kReopen:
      return;
    case OpKind::kVoted:
    case OpKind::kFenced:
    case OpKind::kVotedFenced:
      return CommitAgreed(op.kind, random);
    case OpKind::kVotedUpdate:
      return UpdateAgreed(random);
    case OpKind::kAnswerLater:
      return AnswerLater();
    case OpKind::kCollective:
      return CommitTogether(random);
    case OpKind::kListen:
      return Listen(random);
    case OpKind::kStartListener:
      return StartListener();
    case OpKind::kStopListener:
      return StopListener(random);
    case OpKind::kAwaitTold:
      return AwaitTold();
    case OpKind::kBusy:
      return BeBusy();
    case OpKind::kRemoveJournal:
      return RemoveJournal();
    case OpKind::kMoveJournal:
      return MoveJournal(random);
    case OpKind::kGoRound:
      return GoAround(static_cast<GoRound>(op.argument));
    default:
      return;  // of folders
  }
}

// For the simulator's check of itself. The engine ends what does not end here.
void Process::GoAround(GoRound how) {
  const detail::RegionView& view = member_->region.mapping()->view();
  Random random(number_);
  const std::int64_t end_ns = seam::MonotonicNanos() + 30'000'000'000;
  for (;;) {
    switch (how) {
      case GoRound::kRings: {
        const std::uint32_t armed = detail::Arm(*view.control);
        view.control->ballot.FetchAdd(1);
        { const auto dropped = member_->self.NewDraft(stage_.plan.state_bytes); }
        detail::Ring(*view.control);
        seam::FutexWait(&view.control->bell, armed, 1'000'000);
        break;
      }
      case GoRound::kSleeps:
      case GoRound::kLong:
        detail::SleepUnless(*view.control, 1'000'000, [] { return false; });
        if (how == GoRound::kLong && seam::MonotonicNanos() >= end_ns) return;
        break;
      case GoRound::kSpins:
        if (member_->region.epoch() > 0) return;
        seam::CpuRelax();
        break;
      case GoRound::kCommits:
        CommitOne(std::nullopt, random);
        break;
    }
  }
}

void Process::Read() {
  const auto snapshot = member_->region.Read();
  if (snapshot.ok()) {
    See(snapshot->epoch, snapshot->state, false);
  } else if (!absl::IsUnavailable(snapshot.status())) {
    stage_.Fail(snapshot.status(), "read");
  }
}

void Process::Rejoin(Random& random) {
  StopListener(random);
  if (random.OneIn(2)) Tolerate(member_->self.Leave(), "leave");
  const absl::Status s = member_->self.Rejoin();
  if (!s.ok() && !absl::IsResourceExhausted(s)) return stage_.Fail(s, "rejoin");
  if (s.ok()) CheckAcknowledged();
}

void Process::AwaitConverged() {
  const auto waited = member_->self.Await(newest_, epoch::Stage::kConverged, absl::Milliseconds(3));
  if (waited.ok()) {
    if (stage_.IsNewest(member_->region)) stage_.converged = std::max(stage_.converged, newest_);
    return;
  }
  if (!absl::IsDeadlineExceeded(waited.status())) Tolerate(waited.status(), "await");
}

void Process::PinAndLook(Random& random) {
  Participant& self = member_->self;
  const bool expelled = stage_.expelled.count({self.slot(), self.generation()}) != 0;
  Pin pin = self.Pin();
  if (!pin.ok()) return;
  Agreements& agreements = stage_.AgreementsOf(member_->region);
  agreements.Pinned(number_, self.slot(), self.generation(), pin.epoch());
  if (expelled) stage_.engine.Violation("G9: an expelled participant was not told");
  CheckConverged(pin.epoch(), "pinned");
  const Content first = See(pin.epoch(), pin.state(), true);
  for (std::uint64_t i = random.Below(random.OneIn(4) ? 60 : 6); i > 0; --i) {
    stage_.engine.Point("pinned");
    Content again;
    if (!Decode(pin.state(), again) || !(again == first)) {
      stage_.engine.Violation("G3: a pinned state changed");
    }
  }
  agreements.LetsGo(number_);
}

void Process::Fill(std::span<std::byte> to, const Content& content) {
  const std::vector<std::byte> bytes = Encode(content);
  std::memcpy(to.data(), bytes.data(), bytes.size());
  if (!stage_.memory.PlainWrite(stage_.engine.current(), to.data())) {
    stage_.engine.Violation("G3: a draft is written before an earlier reader has finished");
  }
}

std::uint64_t Process::SizeFor(Random& random) {
  const std::uint64_t most = stage_.plan.state_bytes;
  return random.OneIn(2) ? most : sizeof(Content) + random.Below(most - sizeof(Content));
}

void Process::CommitOne(std::optional<Epoch> expected, Random& random) {
  Participant& self = member_->self;
  const Content content =
      stage_.history.Draft(expected.value_or(Content::kUnconditional), 0, SizeFor(random));
  auto draft = self.NewDraft(content.bytes);
  if (!draft.ok()) return Tolerate(draft.status(), "draft");
  Fill(draft->bytes(), content);
  const CommitOptions options{.expected = expected, .timeout = Patience()};
  Committed(content, self.Commit(*std::move(draft), options));
}

absl::Status Process::Succeed(const Current& current, Draft& next, Random& random,
                              Content& content) {
  Content before;
  if (!Decode(current.state, before)) stage_.engine.Violation("G3: a torn accepted state");
  if (!stage_.memory.PlainRead(stage_.engine.current(), current.state.data())) {
    stage_.engine.Violation("G3: a state is read before it is written");
  }
  stage_.history.Accepted(current.epoch, before);
  content = stage_.history.Draft(current.epoch, before.counter + 1, SizeFor(random));
  stage_.engine.Point("updating");
  if (absl::Status s = next.Resize(content.bytes); !s.ok()) return s;
  Fill(next.bytes(), content);
  return absl::OkStatus();
}

void Process::UpdateOnce(Random& random, bool wait) {
  Participant& self = member_->self;
  Content content;
  const CommitOptions options{.timeout = Patience()};
  const auto update = [&](const Current& current, Draft& next) {
    return Succeed(current, next, random, content);
  };
  if (wait) return Committed(content, self.Update(update, options));
  const auto ticket = self.ProposeUpdate(update, options);
  if (!ticket.ok()) return Committed(content, ticket.status());
  stage_.history.Accepted(ticket->epoch, content);
  Committed(content, self.Await(*ticket, Patience()));
}

// Volatile commits need no patience; a disk may keep one waiting for ever.
absl::Duration Process::Patience() const {
  return stage_.plan.durable ? absl::Seconds(30) : absl::InfiniteDuration();
}

void Process::Committed(const Content& content, const absl::StatusOr<Epoch>& result) {
  if (!result.ok()) {
    // These say that nothing was changed.
    const absl::Status& status = result.status();
    const bool refused = absl::IsAborted(status) || absl::IsFailedPrecondition(status) ||
                         absl::IsResourceExhausted(status);
    if (refused && content.id != 0) stage_.history.Refused(content);
    if (!absl::IsAborted(status)) Tolerate(status, "commit");
    return;
  }
  stage_.history.Visible(*result, content);
  newest_ = std::max(newest_, *result);  // its own commit is visible to it from now on
  CheckNotExpelled(*result);
}

void Process::CheckNotExpelled(Epoch committed) {
  const Participant& self = member_->self;
  const auto expelled = stage_.expelled.find({self.slot(), self.generation()});
  if (expelled != stage_.expelled.end() && committed > expelled->second + 1) {
    stage_.engine.Violation("G9: an expelled participant committed after another epoch was");
  }
}

void Process::ExpelSomebody(Random& random) {
  if (random.OneIn(2)) return;
  const Region& region = member_->region;
  const auto slot = static_cast<std::uint32_t>(
      random.Below(static_cast<std::uint64_t>(stage_.plan.settings.processes)));
  if (slot == member_->self.slot()) return;
  const detail::RegionView& view = region.mapping()->view();
  const std::uint64_t generation = SlotWord::Unpack(view.slots[slot].state.Load()).generation;
  if (!region.Expel(slot).ok()) return;
  if (SlotWord::Unpack(view.slots[slot].state.Load()).generation != generation) return;
  const Epoch tail = StateWord::Unpack(view.control->tail.Load()).epoch;
  if (stage_.IsNewest(region)) stage_.expelled.try_emplace({slot, generation}, tail);
}

// Whoever is in the region operates under an epoch no older than one that has converged.
void Process::CheckAcknowledged() {
  const auto& slot = member_->region.mapping()->view().slots[member_->self.slot()];
  CheckConverged(detail::OwnedWord::Unpack(slot.ack.Peek()).number, "joined");
}

void Process::CheckConverged(Epoch epoch, const char* what) {
  if (!stage_.IsNewest(member_->region)) return;
  const Participant& self = member_->self;
  const auto state =
      SlotWord::Unpack(member_->region.mapping()->view().slots[self.slot()].state.Peek());
  if (state.state != detail::SlotState::kActive || state.generation != self.generation()) return;
  if (epoch < stage_.converged) {
    stage_.engine.Violation(absl::StrCat("G6: ", what, " under epoch ", epoch,
                                         " after convergence on ", stage_.converged));
  }
}

Content Process::See(Epoch epoch, std::span<const std::byte> bytes, bool in_place) {
  if (epoch < newest_) stage_.engine.Violation("G1: head went back");
  newest_ = epoch;
  Content content;
  if (!Decode(bytes, content)) {
    stage_.engine.Violation("G3: a torn state");
    return content;
  }
  if (in_place && !stage_.memory.PlainRead(stage_.engine.current(), bytes.data())) {
    stage_.engine.Violation("G3: a state is read before it is written");
  }
  stage_.history.Visible(epoch, content);
  return content;
}

}  // namespace epoch::sim
