// One CAS on tail decides whose proposal comes next. Unvoted, that is e+1, and head follows.
// Voted or fenced, it is up for decision: driver.h.
//
//   1. draft a version (versions.h)                     killed here: the draft is reaped
//   2. load tail = (Accepted, u, e)
//   3. mark u Published, let head catch up (volatile)   so that nothing behind u can be lost
//   4. write the header: epoch e+1, previous u, chain
//   5. CAS tail -> (Accepted, v, e+1)                   the decision: killed after it, others go on
//   6. mark v Published; head -> (Open, v, e+1); ring   anyone may do these
//
// Thread safety: any number of processes. Progress: lock-free (a failed CAS means that another
// process's transition was accepted).
#ifndef EPOCH_DETAIL_PROTOCOL_ACCEPT_H_
#define EPOCH_DETAIL_PROTOCOL_ACCEPT_H_

#include <cstdint>
#include <optional>

#include "epoch/detail/memory/bell.h"
#include "epoch/detail/memory/layout.h"
#include "epoch/detail/platform/deadline.h"
#include "epoch/detail/protocol/head.h"
#include "epoch/detail/protocol/slots.h"
#include "epoch/detail/protocol/versions.h"

namespace epoch::detail {

enum class Refusal : std::uint8_t {
  kAccepted,
  kExpectedDiffers,  // `at` is the epoch that was found
  kVoting,           // a vote is undecided
  kExpelled,
  kDamaged,  // tail names a cell that does not exist
  kFull,     // epoch numbers are used up
};

// What is asked of others before a transition counts. Ballot 0: nothing.
struct Ballot {
  std::uint64_t number = 0;
  Deadline deadline = Deadline::OfWord(0);
  bool voters = false;             // all voters must accept
  std::uint32_t least_voters = 0;  // so many at least
  bool fence = false;              // all readers must let go
  bool expel = false;   // whoever does not in time is expelled, rather than the proposal aborted
  bool forced = false;  // somebody was expelled for it already
  std::uint64_t round = 0;  // of a collective commit
};

inline constexpr Ballot kNoBallot{};

struct Acceptance {
  Refusal refusal;
  Epoch at;  // the accepted epoch, or the one that stood in the way
};

// `payload_digest` is of the draft's final bytes. On success the cell belongs to the region: as its
// next state, or with a ballot, up for decision. Then it must be guarded by `own` beforehand.
inline Acceptance Accept(const RegionView& view, const SlotClaim& claim, const DraftedCell& draft,
                         std::uint64_t length_bytes, std::uint64_t payload_digest,
                         std::uint64_t token, std::optional<Epoch> expected,
                         const Ballot& ballot = kNoBallot) noexcept {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  const std::uint64_t active = SlotWord{SlotState::kActive, claim.generation}.Pack();
  VersionCell& cell = view.cells[draft.index];
  cell.length_bytes.Store(length_bytes, kRelaxed);
  cell.digest.Store(payload_digest, kRelaxed);
  cell.token.Store(token, kRelaxed);
  cell.ballot.Store(ballot.number, kRelaxed);
  cell.deadline_ns.Store(ballot.deadline.word(), kRelaxed);
  cell.round.Store(ballot.round, kRelaxed);
  const bool voted = ballot.number != 0;
  cell.outcome.Store(voted ? OutcomeWord{Decision::kUndecided, ballot.forced, AbortCause::kNobody,
                                         0, ballot.number}
                                 .Pack()
                           : 0,
                     kRelaxed);
  cell.proposer.Store(ProposerWord{claim.slot, claim.generation}.Pack(), kRelaxed);
  for (;;) {
    std::uint64_t tail_word = view.control->tail.Load();
    const StateWord tail = StateWord::Unpack(tail_word);
    if (!view.ValidCell(tail.version)) return {Refusal::kDamaged, tail.epoch};
    if (tail.phase != Phase::kAccepted) return {Refusal::kVoting, tail.epoch};
    if (expected.has_value() && tail.epoch != *expected) {
      return {Refusal::kExpectedDiffers, tail.epoch};
    }
    if (tail.epoch >= kMaxEpoch) return {Refusal::kFull, tail.epoch};
    MarkPublished(view, tail_word);
    if (!view.durable && !HelpHead(view, tail_word)) {
      if (view.control->tail.Load() == tail_word) return {Refusal::kDamaged, tail.epoch};
      continue;
    }
    // If tail moves on while these are read, they may be garbage; then the CAS fails.
    const ChainLink link{.previous_chain = view.cells[tail.version].chain.Load(kRelaxed),
                         .epoch = tail.epoch + 1,
                         .length_bytes = length_bytes,
                         .digest = payload_digest,
                         .token = token,
                         .kind = static_cast<std::uint64_t>(VersionKind::kFullState)};
    cell.epoch.Store(tail.epoch + 1, kRelaxed);
    cell.chain.Store(ChainDigest(link), kRelaxed);
    cell.shape.Store(!voted ? PackShape(VersionKind::kFullState, tail.version)
                            : PackShape(VersionKind::kFullState, tail.version, ballot.fence,
                                        ballot.expel, ballot.voters, ballot.least_voters),
                     kRelaxed);
    // After tail was loaded: once another epoch is committed after an expulsion, this CAS fails;
    // and if the expulsion is already visible, it is not even tried.
    if (view.slots[claim.slot].state.Load() != active) return {Refusal::kExpelled, tail.epoch};
    EPOCH_POINT("publish.before_tail");
    // The CAS publishes payload and header (release) to whoever loads tail or head (acquire).
    const Phase phase = voted ? Phase::kVoting : Phase::kAccepted;
    if (!view.control->tail.CompareExchange(tail_word,
                                            StateWord{phase, draft.index, tail.epoch + 1}.Pack())) {
      continue;
    }
    EPOCH_POINT("publish.accepted");
    if (voted) {
      Ring(*view.control);
      return {Refusal::kAccepted, tail.epoch + 1};
    }
    std::uint64_t owner = draft.owner;
    cell.owner.CompareExchange(owner, OwnerWord::Unpack(owner).With(CellState::kPublished));
    if (!view.durable) {
      HelpHead(view, StateWord{Phase::kAccepted, draft.index, tail.epoch + 1}.Pack());
    }
    return {Refusal::kAccepted, tail.epoch + 1};
  }
}

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_PROTOCOL_ACCEPT_H_
