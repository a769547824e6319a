#include "tests/sim/agreements.h"

#include <algorithm>
#include <cstddef>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "epoch/detail/protocol/collective.h"

namespace epoch::sim {

using detail::AbortCause;
using detail::Decision;
using detail::OutcomeWord;
using detail::Slot;
using detail::SlotState;
using detail::SlotWord;
using detail::StateWord;
using detail::Verdict;
using detail::VersionCell;
using detail::VoteWord;

namespace {

std::uint64_t Mixed(std::uint64_t a, int process, std::uint64_t b) {
  return Random(a ^ (static_cast<std::uint64_t>(process + 1) * 0x9E3779B97F4A7C15ull) ^ b).Next();
}

std::uint64_t IndexOf(const void* at, const void* base, std::size_t size) {
  return static_cast<std::uint64_t>(static_cast<const std::byte*>(at) -
                                    static_cast<const std::byte*>(base)) /
         size;
}

}  // namespace

bool Rejects(const Plan& plan, int process, std::uint64_t digest) {
  return plan.reject_one_in != 0 && Mixed(digest, process, 1) % plan.reject_one_in == 0;
}
bool PutsOff(const Plan& plan, int process, std::uint64_t digest) {
  return plan.put_off_one_in != 0 && Mixed(digest, process, 2) % plan.put_off_one_in == 0;
}

Agreements::Agreements(const Plan& plan, const detail::RegionView& view, Engine& engine,
                       History& history)
    : plan_(plan),
      view_(view),
      engine_(engine),
      history_(history),
      since_(view.geometry.participants, kNever),
      head_(StateWord::Unpack(view.control->head.Peek()).epoch),
      guards_(view_, engine),
      scans_(view_, engine) {}

void Agreements::Violation(const std::string& what) { engine_.Violation(what); }

void Agreements::Stored(const void* at, std::uint64_t value) {
  const detail::Control& control = *view_.control;
  if (plan_.agrees) guards_.Stored(at, value);
  if (at == &control.head) return HeadMoved(StateWord::Unpack(value));
  if (at == &control.tail) return TailMoved(StateWord::Unpack(value));
  if (at >= view_.cells && at < view_.cells + view_.geometry.versions) {
    const auto i = static_cast<std::uint32_t>(IndexOf(at, view_.cells, sizeof(VersionCell)));
    if (at == &view_.cells[i].outcome) Decided(i, OutcomeWord::Unpack(value));
    return;
  }
  if (at >= view_.slots && at < view_.slots + view_.geometry.participants) {
    const auto i = static_cast<std::uint32_t>(IndexOf(at, view_.slots, sizeof(Slot)));
    const Slot& slot = view_.slots[i];
    if (at == &slot.state || at == &slot.flags) return MembershipChanged(i);
    if (at == &slot.vote) return Voted(i, VoteWord::Unpack(value));
    if (at == &slot.offer) return Offered(i, detail::OwnedWord::Unpack(value));
    if (at == &slot.ack) return Acknowledged(i, detail::OwnedWord::Unpack(value));
  }
}

void Agreements::MembershipChanged(std::uint32_t slot) {
  const bool counts =
      SlotWord::Unpack(view_.slots[slot].state.Peek()).state == SlotState::kActive &&
      (view_.slots[slot].flags.Peek() & (detail::kSlotVoter | detail::kSlotParked)) ==
          detail::kSlotVoter;
  if (!counts) {
    since_[slot] = kNever;
  } else if (since_[slot] == kNever) {
    since_[slot] = engine_.steps();
  }
}

std::span<const std::byte> Agreements::StateOf(std::uint32_t cell) const {
  return {view_.PayloadOf(cell),
          std::min(view_.cells[cell].length_bytes.Peek(), view_.geometry.state_bytes)};
}

bool Agreements::IsProposer(const VersionCell& cell, std::uint32_t slot, std::uint64_t generation) {
  return cell.proposer.Peek() ==
         ((std::uint64_t{slot} << detail::kNumberBits) | (generation & detail::kNumberMask));
}

Agreements::Voter Agreements::OwnerOf(std::uint32_t slot) const {
  const SlotWord state = SlotWord::Unpack(view_.slots[slot].state.Peek());
  return {slot, static_cast<std::uint16_t>(state.generation)};
}

std::string Agreements::ReasonOf(std::uint32_t slot) const {
  std::string reason;
  for (std::size_t at = 0; at < detail::kReasonBytes; ++at) {
    const auto c = static_cast<char>(view_.slots[slot].reason[at / 8].Peek() >> (8 * (at % 8)));
    if (c == '\0') break;
    reason += c;
  }
  return reason;
}

void Agreements::TailMoved(const StateWord& tail) {
  if (tail.phase != detail::Phase::kVoting) return;
  const VersionCell& cell = view_.cells[tail.version];
  const std::uint64_t ballot = cell.ballot.Peek() & detail::kBallotMask;
  if (!ballots_.try_emplace(ballot, Ballot{engine_.steps()}).second) {
    Violation(absl::StrCat("G5: ballot ", ballot, " is put up twice"));
  }
  if (cell.round.Peek() != 0) history_.Gathered(StateOf(tail.version));
}

// A proposal is about to be put up: its process has just filled the draft.
void Agreements::PutTogether(std::uint32_t cell) {
  const StateWord tail = StateWord::Unpack(view_.control->tail.Peek());
  if (view_.cells[cell].round.Peek() == 0) return;  // the process has said so by itself
  if (tail.phase == detail::Phase::kVoting && tail.version == cell) return;
  if (!engine_.memory().PlainWrite(engine_.current(), view_.PayloadOf(cell))) {
    Violation("G3: a collective draft is written before an earlier reader has finished");
  }
}

void Agreements::Voted(std::uint32_t slot, const VoteWord& vote) {
  if (vote.verdict == Verdict::kUnsaid) return;
  const auto found = ballots_.find(vote.ballot);
  if (found == ballots_.end()) return Violation("G5: a vote for a ballot that nobody put up");
  Ballot& ballot = found->second;
  const SlotWord state = SlotWord::Unpack(view_.slots[slot].state.Peek());
  const bool counts = state.state == SlotState::kActive &&
                      static_cast<std::uint16_t>(state.generation) == vote.generation &&
                      since_[slot] <= ballot.begun;
  const Vote cast{vote.verdict, view_.slots[slot].vote_digest.Peek(), engine_.now_ns(), counts};
  const auto [said, fresh] = ballot.votes.try_emplace({slot, vote.generation}, cast);
  if (!fresh && said->second.verdict != vote.verdict) {
    Violation(absl::StrCat("G5: slot ", slot, " changes its vote on ballot ", vote.ballot));
  }
  if (vote.verdict == Verdict::kReject) {
    const std::string reason = ReasonOf(slot);
    // Nobody damages anything here.
    bool untrue = absl::StrContains(reason, "do not match") ||
                  absl::StrContains(reason, "impossible") ||
                  absl::StrContains(reason, "no collective");
    if (absl::StrContains(reason, "does not carry")) untrue = Carries(slot, vote);
    if (untrue) Violation(absl::StrCat("G5: a sound proposal is rejected: ", reason));
    return;
  }
  // A contributor answers for what it gave, by another rule.
  const StateWord tail = StateWord::Unpack(view_.control->tail.Peek());
  const VersionCell& cell = view_.cells[tail.version];
  if (tail.phase != detail::Phase::kVoting ||
      (cell.ballot.Peek() & detail::kBallotMask) != vote.ballot || cell.round.Peek() != 0) {
    return;
  }
  if (Rejects(plan_, engine_.process(), cell.digest.Peek())) {
    Violation(absl::StrCat("G5: slot ", slot, " accepts what its validator rejects"));
  }
}

// Whether what is up for decision, by that ballot, holds a part of the voter.
bool Agreements::Carries(std::uint32_t slot, const VoteWord& vote) const {
  const StateWord tail = StateWord::Unpack(view_.control->tail.Peek());
  const VersionCell& cell = view_.cells[tail.version];
  bool carries = false;
  if ((cell.ballot.Peek() & detail::kBallotMask) != vote.ballot) return false;
  detail::ForEachContribution(StateOf(tail.version), [&](const detail::GatheredPart& part) {
    carries = carries ||
              (part.slot == slot && static_cast<std::uint16_t>(part.generation) == vote.generation);
    return true;
  });
  return carries;
}

void Agreements::Decided(std::uint32_t cell, const OutcomeWord& outcome) {
  if (outcome.decision == Decision::kUndecided) return PutTogether(cell);
  if (outcome.decision != Decision::kCommitted && outcome.decision != Decision::kAborted) return;
  const auto found = ballots_.find(outcome.ballot);
  if (found == ballots_.end()) return Violation("G5: a ballot is decided that nobody put up");
  Ballot& ballot = found->second;
  if (ballot.decision != Decision::kUndecided) {
    Violation(absl::StrCat("G5: ballot ", outcome.ballot, " is decided twice"));
  }
  ballot.decision = outcome.decision;
  if (outcome.decision == Decision::kCommitted) {
    Committed(cell, ballot);
  } else {
    Aborted(cell, outcome, ballot);
  }
}

void Agreements::Committed(std::uint32_t index, const Ballot& ballot) {
  const VersionCell& cell = view_.cells[index];
  const std::uint64_t shape = cell.shape.Peek();
  const Epoch epoch = cell.epoch.Peek();
  for (std::uint32_t i = 0; detail::VotersOf(shape) && i < view_.geometry.participants; ++i) {
    const SlotWord state = SlotWord::Unpack(view_.slots[i].state.Peek());
    if (since_[i] > ballot.begun || IsProposer(cell, i, state.generation)) continue;
    const auto vote = ballot.votes.find(OwnerOf(i));
    if (vote == ballot.votes.end() || vote->second.verdict != Verdict::kAccept ||
        vote->second.digest != cell.digest.Peek()) {
      Violation(absl::StrCat("G5: epoch ", epoch, " is committed, and slot ", i,
                             ", which is in, has not accepted it"));
    }
  }
  scans_.ForEachFoundIn([&](std::uint32_t slot, std::uint64_t generation) {
    const auto vote = ballot.votes.find({slot, static_cast<std::uint16_t>(generation)});
    const bool accepted = vote != ballot.votes.end() && vote->second.verdict == Verdict::kAccept;
    if (accepted || IsProposer(cell, slot, generation)) return;
    Violation(absl::StrCat("G5: epoch ", epoch, " is committed by who found slot ", slot,
                           " in, and not its accept"));
  });
  for (const auto& [voter, vote] : ballot.votes) {
    if (vote.verdict == Verdict::kReject && vote.counts) {
      Violation(absl::StrCat("G5: epoch ", epoch, " is committed, and slot ", voter.first,
                             " had rejected it"));
    }
  }
  Content content;
  if (!Decode(StateOf(index), content)) Violation("G3: a torn state is committed");
  history_.Accepted(epoch, content);
  if (cell.round.Peek() != 0) {
    CommittedTogether(index, ballot);
    CheckNobodyIsLeftOut(index);
  }
  if (detail::FenceOf(shape)) {
    fenced_.push_back(epoch);
    Drained(epoch);
  }
}

void Agreements::CommittedTogether(std::uint32_t index, const Ballot& ballot) {
  const VersionCell& cell = view_.cells[index];
  const std::uint64_t round = cell.round.Peek();
  if (!rounds_.insert(round).second) {
    Violation(absl::StrCat("G5: round ", round, " is committed twice"));
  }
  detail::ForEachContribution(StateOf(index), [&](const detail::GatheredPart& part) {
    const auto vote = ballot.votes.find({part.slot, static_cast<std::uint16_t>(part.generation)});
    const bool accepted = vote != ballot.votes.end() && vote->second.verdict == Verdict::kAccept;
    if (!accepted && !IsProposer(cell, part.slot, part.generation)) {
      Violation(absl::StrCat("G5: round ", round, " is committed, and the contributor in slot ",
                             part.slot, " has not accepted it"));
    }
    return true;
  });
}

void Agreements::Offered(std::uint32_t slot, const detail::OwnedWord& offer) {
  if (offer.number == detail::kNone) return;
  seen_[static_cast<std::size_t>(engine_.process())] = {{slot, offer.generation}};
}

void Agreements::Loaded(const void* at, std::uint64_t value) {
  guards_.Loaded(at, value);
  scans_.Loaded(at, value);
  if (at < view_.slots || at >= view_.slots + view_.geometry.participants) return;
  const auto i = static_cast<std::uint32_t>(IndexOf(at, view_.slots, sizeof(Slot)));
  const auto offer = detail::OwnedWord::Unpack(value);
  const auto gather = detail::GatherWord::Unpack(view_.control->gather.Peek());
  if (at != &view_.slots[i].offer || offer.number != gather.round || since_[i] == kNever) return;
  seen_[static_cast<std::size_t>(engine_.process())].insert({i, offer.generation});
}

// Whom the proposer has met is in it, dead or not; only who was expelled for its sake is passed
// over.
void Agreements::CheckNobodyIsLeftOut(std::uint32_t index) {
  const VersionCell& cell = view_.cells[index];
  if (OutcomeWord::Unpack(cell.outcome.Peek()).forced) return;
  std::set<Voter> parts;
  std::size_t proposer = seen_.size();
  detail::ForEachContribution(StateOf(index), [&](const detail::GatheredPart& part) {
    const Voter voter{part.slot, static_cast<std::uint16_t>(part.generation)};
    parts.insert(voter);
    if (IsProposer(cell, part.slot, part.generation)) proposer = ProcessIn(part.slot);
    return true;
  });
  if (proposer == seen_.size()) return;
  for (const Voter& voter : seen_[proposer]) {
    if (parts.count(voter) != 0) continue;
    Violation(absl::StrCat("G5: round ", cell.round.Peek(), " leaves out slot ", voter.first));
  }
}

// `seen_.size()`: nobody lives there.
std::size_t Agreements::ProcessIn(std::uint32_t slot) const {
  const std::uint32_t pid = view_.slots[slot].pid.Peek();
  return pid >= 1000 && pid - 1000 < seen_.size() ? pid - 1000 : seen_.size();
}

void Agreements::Aborted(std::uint32_t index, const OutcomeWord& outcome, const Ballot& ballot) {
  const VersionCell& cell = view_.cells[index];
  Content content;
  if (Decode(StateOf(index), content) && content.id != 0) history_.Refused(content);
  const auto said = [&](Verdict verdict, std::int64_t before_ns, std::optional<Voter> voter) {
    return std::any_of(ballot.votes.begin(), ballot.votes.end(), [&](const auto& vote) {
      return vote.first.first == outcome.culprit && vote.second.verdict == verdict &&
             vote.second.at_ns < before_ns && (!voter.has_value() || vote.first == *voter);
    });
  };
  const std::int64_t deadline_ns = cell.deadline_ns.Peek();
  switch (outcome.cause) {
    case AbortCause::kRejected:
      if (!said(Verdict::kReject, INT64_MAX, std::nullopt)) {
        Violation(absl::StrCat("G5: slot ", outcome.culprit, " is said to have rejected"));
      }
      return;
    case AbortCause::kDigestDiffers:
      return Violation("G5: sound bytes are said to differ from what was drafted");
    case AbortCause::kDeadline:
      if (cell.round.Peek() != 0) return;  // ended by whoever's own time was up
      if (engine_.now_ns() < deadline_ns) Violation("G5: a vote is given up before its deadline");
      if (outcome.culprit >= view_.geometry.participants) return;  // it was the disk
      // Where loads may be late, the second look may come before the vote, whatever the clock said.
      if (!detail::FenceOf(cell.shape.Peek()) && !plan_.settings.late_loads &&
          said(Verdict::kAccept, deadline_ns, OwnerOf(outcome.culprit))) {
        Violation(absl::StrCat("G5: slot ", outcome.culprit,
                               " is said to have been late, and had answered in time"));
      }
      return;
    default:
      return;
  }
}

void Agreements::HeadMoved(const StateWord& head) {
  if (head.epoch <= head_) return;
  for (const Epoch fenced : fenced_) {
    if (fenced > head_ && fenced <= head.epoch) Drained(fenced);
  }
  head_ = head.epoch;
  const OutcomeWord outcome = OutcomeWord::Unpack(view_.cells[head.version].outcome.Peek());
  if (outcome.decision == Decision{0}) return;  // not voted on
  if (outcome.decision != Decision::kCommitted) {
    Violation(absl::StrCat("G5: epoch ", head.epoch, " is visible, and was not agreed on"));
  }
  Content content;
  if (!Decode(StateOf(head.version), content)) return Violation("G3: a torn state is visible");
  history_.Visible(head.epoch, content);
}

void Agreements::Acknowledged(std::uint32_t slot, const detail::OwnedWord& ack) {
  if (ack.number == detail::kNone) return;
  for (const Held& held : held_) {
    if (held.slot != slot || static_cast<std::uint16_t>(held.generation) != ack.generation ||
        !IsIn(held) || ack.number <= held.epoch) {
      continue;
    }
    Violation(absl::StrCat("G6: slot ", slot, " acknowledges epoch ", ack.number,
                           " behind the back of its pin of ", held.epoch));
  }
}

bool Agreements::IsIn(const Held& held) const {
  return held.held && view_.slots[held.slot].state.Peek() ==
                          SlotWord{SlotState::kActive, held.generation}.Pack();
}

void Agreements::Drained(Epoch fenced) {
  for (std::size_t process = 0; process < held_.size(); ++process) {
    const Held& held = held_[process];
    if (!IsIn(held) || held.epoch >= fenced || engine_.dead(static_cast<int>(process))) continue;
    Violation(absl::StrCat("G6: the fence of epoch ", fenced, " is passed while process ", process,
                           " holds a pin of epoch ", held.epoch));
  }
}

void Agreements::Pinned(int process, std::uint32_t slot, std::uint64_t generation, Epoch epoch) {
  Held& held = held_[static_cast<std::size_t>(process)];
  held = {true, slot, generation, epoch};
  if (!IsIn(held)) return;
  for (const Epoch fenced : fenced_) {
    if (fenced <= head_ && epoch < fenced) {
      Violation(absl::StrCat("G6: epoch ", epoch, " is pinned after the fence of epoch ", fenced));
    }
  }
}

}  // namespace epoch::sim
