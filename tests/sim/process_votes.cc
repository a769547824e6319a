// What a process does that others have to agree to.
#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/sim/process.h"

namespace epoch::sim {

namespace {

// Short ones pass while others are stopped, or merely slow.
absl::Duration SomeDeadline(Random& random) {
  if (random.OneIn(2)) return absl::Milliseconds(100);
  return absl::Microseconds(random.OneIn(2) ? random.Below(60) : random.Below(4000));
}

bool ChangedNothing(const absl::Status& status) {
  return absl::StrContains(status.message(), "nothing was changed");
}

}  // namespace

CommitOptions Process::AgreementOf(OpKind kind, Random& random) {
  CommitOptions options;
  if (kind != OpKind::kFenced) options.agreement = Agreement::kAllVoters;
  options.min_voters = 0;  // also when nobody else is in
  options.fence = kind != OpKind::kVoted && (kind != OpKind::kVotedUpdate || random.OneIn(4));
  options.on_straggler = random.OneIn(3) ? Straggler::kExpel : Straggler::kAbort;
  options.timeout = SomeDeadline(random);
  return options;
}

void Process::CommitAgreed(OpKind kind, Random& random) {
  Participant& self = member_->self;
  CommitOptions options = AgreementOf(kind, random);
  if (random.OneIn(4)) options.expected = newest_;
  const Content content =
      stage_.history.Draft(options.expected.value_or(Content::kUnconditional), 0, SizeFor(random));
  auto draft = self.NewDraft(content.bytes);
  if (!draft.ok()) return Tolerate(draft.status(), "draft");
  Fill(draft->bytes(), content);
  Agreed(content, self.Propose(*std::move(draft), options));
}

void Process::UpdateAgreed(Random& random) {
  const CommitOptions options = AgreementOf(OpKind::kVotedUpdate, random);
  Content content;
  int asked = 0;
  const auto update = [&](const Current& current, Draft& next) {
    // Each time another transition comes first; but a rejection ends it.
    if (++asked > 200) stage_.engine.Violation("G8: an update is proposed again and again");
    return Succeed(current, next, random, content);
  };
  Agreed(content, member_->self.ProposeUpdate(update, options));
}

void Process::Agreed(const Content& content, const absl::StatusOr<Ticket>& ticket) {
  if (ticket.ok()) {
    stage_.history.Accepted(ticket->epoch, content);
    return Committed(content, member_->self.Await(*ticket, Patience()));
  }
  const absl::Status& status = ticket.status();
  if (absl::IsDeadlineExceeded(status)) {
    if (!ChangedNothing(status)) return stage_.Fail(status, "G5: what of it is not said");
    if (content.id != 0) stage_.history.Refused(content);
    return;
  }
  Committed(content, status);
}

Answer Process::Judge(const Proposal& proposal) {
  stage_.engine.Point("judging");
  if (!stage_.memory.PlainRead(stage_.engine.current(), proposal.state.data())) {
    stage_.engine.Violation("G3: a proposal is read before it is written");
  }
  Content content;
  if (!Decode(proposal.state, content)) stage_.engine.Violation("G3: a torn proposal");
  const std::uint64_t digest = detail::Digest(proposal.state);
  const bool rejects = Rejects(stage_.plan, number_, digest);
  if (PutsOff(stage_.plan, number_, digest)) {
    put_off_.push_back({proposal.ballot, !rejects});
    return Answer::Later();
  }
  return rejects ? Answer::Reject("as it always does") : Answer::Accept();
}

void Process::AnswerLater() {
  for (const PutOff& late : std::exchange(put_off_, {})) {
    const Answer answer = late.accepts ? Answer::Accept() : Answer::Reject("after all");
    const absl::Status s = member_->self.Vote(late.ballot, answer);
    if (!absl::IsAborted(s)) Tolerate(s, "vote");
  }
}

void Process::CommitTogether(Random& random) {
  Participant& self = member_->self;
  const detail::Control& control = *member_->region.mapping()->view().control;
  std::uint64_t tag = detail::GatherWord::Unpack(control.gather.Peek()).round;
  if (random.OneIn(16)) tag += 1'000'000;  // another than all others bring
  CollectiveOptions options;
  options.timeout = SomeDeadline(random);
  options.on_straggler = random.OneIn(3) ? Straggler::kExpel : Straggler::kAbort;
  options.fence = random.OneIn(4);
  if (random.OneIn(8)) options.contributions = 2;
  const std::uint64_t part = stage_.history.Part(tag);
  const std::vector<std::byte> bytes = EncodePart(part, 8 + random.Below(25));
  const auto committed = self.CommitCollective(tag, bytes, options);
  if (committed.ok()) {
    stage_.history.Given(part, *committed);
    newest_ = std::max(newest_, *committed);
    return CheckNotExpelled(*committed);
  }
  const absl::Status& s = committed.status();
  for (const char* untrue : {"do not match", "other bytes", "no collective"}) {
    if (absl::StrContains(s.message(), untrue)) stage_.Fail(s, "G5: a sound round failed");
  }
  const bool firm = absl::IsAborted(s) || absl::IsDeadlineExceeded(s) || absl::IsAlreadyExists(s) ||
                    absl::IsFailedPrecondition(s) || absl::IsResourceExhausted(s) ||
                    absl::IsOutOfRange(s);
  if (firm) return stage_.history.Withheld(part);
  Tolerate(s, "collective");
}

void Process::Listen(Random& random) {
  auto core =
      detail::ParticipantCore::Join(member_->region.mapping(), {.name = "l", .voter = true});
  if (!core.ok()) return Tolerate(core.status(), "join");
  (*core)->voter().SetValidator([this](const Proposal& p) { return Judge(p); });
  const std::size_t put_off = put_off_.size();
  for (std::uint64_t i = 2 + random.Below(6); i > 0; --i) {
    const std::uint32_t armed = detail::Arm(*member_->region.mapping()->view().control);
    const detail::Standing standing = (*core)->ListenOnce();
    if (standing.found == detail::Standing::Found::kFinished) continue;
    seam::FutexWait(&member_->region.mapping()->view().control->bell, armed, 1'000'000);
  }
  put_off_.resize(put_off);  // not this participant's to answer
}

}  // namespace epoch::sim
