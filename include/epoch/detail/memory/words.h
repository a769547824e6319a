// The 64-bit words of the protocol and how their fields are packed. Pure functions, no state.
//
//    63   61 60       48 47                                            0
//   +-------+-----------+------------------------------------------------+
//   | phase |  version  |                    epoch                       |  head, tail
//   +-------+-----------+------------------------------------------------+
//   | state |   slot    |                 use counter                    |  owner of a cell
//   +-------+-----------+------------------------------------------------+
//   |   generation:16   | all from:1 |     epoch:47 (all ones: none)     |  pin
//   |   generation:16   |            epoch (all ones: none)              |  ack
//   +-------------------+------------------------------------------------+
//   |   generation:16   |            cell index (all ones: none)         |  own, help, look, listen
//   +-------------------+------------------------------------------------+
//   | state |                        generation:61                       |  slot state
//   +-------+------------------------------------------------------------+
//   |      slot:16      |            generation (lower bits)             |  proposer
//   +-------------------+------------------------------------------------+
//
// One load yields number and location together; one CAS is a whole decision. No field value that
// the protocol writes makes a word zero, so zeroed memory is never mistaken for a valid word.
#ifndef EPOCH_DETAIL_MEMORY_WORDS_H_
#define EPOCH_DETAIL_MEMORY_WORDS_H_

#include <cstdint>

#include "epoch/types.h"

namespace epoch::detail {

inline constexpr int kNumberBits = 48;
inline constexpr std::uint64_t kNumberMask = (std::uint64_t{1} << kNumberBits) - 1;
inline constexpr std::uint64_t kIndexMask = (1u << 13) - 1;
inline constexpr std::uint64_t kNone = kNumberMask;  // "no epoch" and "no cell"
// In a pin: it protects every version from its epoch on, not only that of its epoch.
inline constexpr std::uint64_t kPinsAllFrom = std::uint64_t{1} << 47;
static_assert(kMaxEpoch == kPinsAllFrom - 1);
inline constexpr std::uint32_t kMaxParticipants = 4096;
inline constexpr std::uint32_t kMaxVersions = 8191;

enum class Phase : std::uint8_t {
  // tail
  kAccepted = 1,
  kVoting = 2,
  // head
  kOpen = 3,
  kClosed = 4,    // the fence of the named proposal drains readers of `epoch`
  kPoisoned = 5,  // readable; never advanced again in this incarnation
};

enum class CellState : std::uint8_t { kFree = 1, kDrafted = 2, kPublished = 3, kRetired = 4 };

enum class SlotState : std::uint8_t { kFree = 1, kJoining = 2, kActive = 3, kExpelled = 4 };

// Head or tail.
struct StateWord {
  Phase phase;
  std::uint32_t version;  // cell index
  Epoch epoch;

  static constexpr StateWord Unpack(std::uint64_t word) {
    return {static_cast<Phase>(word >> 61),
            static_cast<std::uint32_t>((word >> kNumberBits) & kIndexMask), word & kNumberMask};
  }
  constexpr std::uint64_t Pack() const {
    return (std::uint64_t{static_cast<std::uint8_t>(phase)} << 61) |
           (std::uint64_t{version} << kNumberBits) | epoch;
  }
};

// Who holds a cell. `use` counts how often the cell has been freed, so that a CAS prepared for an
// earlier life of the cell fails.
struct OwnerWord {
  CellState state;
  std::uint32_t slot;
  std::uint64_t use;

  static constexpr OwnerWord Unpack(std::uint64_t word) {
    return {static_cast<CellState>(word >> 61),
            static_cast<std::uint32_t>((word >> kNumberBits) & kIndexMask), word & kNumberMask};
  }
  constexpr std::uint64_t Pack() const {
    return (std::uint64_t{static_cast<std::uint8_t>(state)} << 61) |
           (std::uint64_t{slot} << kNumberBits) | use;
  }
  constexpr std::uint64_t With(CellState next) const { return OwnerWord{next, slot, use}.Pack(); }
  constexpr std::uint64_t Freed() const {
    return OwnerWord{CellState::kFree, 0, (use + 1) & kNumberMask}.Pack();
  }
};

struct SlotWord {
  SlotState state;
  std::uint64_t generation;

  static constexpr SlotWord Unpack(std::uint64_t word) {
    return {static_cast<SlotState>(word >> 61), word & ((std::uint64_t{1} << 61) - 1)};
  }
  constexpr std::uint64_t Pack() const {
    return (std::uint64_t{static_cast<std::uint8_t>(state)} << 61) | generation;
  }
};

// A word that a slot's owner writes: its generation and a number (pin, ack: epoch; guards: cell).
// Sixteen bits of generation suffice: a slot is reused only once its last owner is proven gone, so
// they guard against late *reapers*, not against late owners.
struct OwnedWord {
  std::uint16_t generation;
  std::uint64_t number;

  static constexpr OwnedWord Unpack(std::uint64_t word) {
    return {static_cast<std::uint16_t>(word >> kNumberBits), word & kNumberMask};
  }
  constexpr std::uint64_t Pack() const {
    return (std::uint64_t{generation} << kNumberBits) | number;
  }
};

// What became of a voted transition: the cell's `outcome` word, decided once, by CAS from the exact
// undecided word of that ballot. Zero: the version was published without a vote.
enum class Decision : std::uint8_t { kUndecided = 1, kCommitted = 2, kAborted = 3 };

enum class AbortCause : std::uint8_t {
  kNobody = 0,    // of a round: it was committed; of a proposal: too few voters, `culprit` many
  kRejected = 1,  // the culprit voted against it
  kDigestDiffers = 2,  // the culprit found other bytes than the proposer had drafted
  kDeadline = 3,       // the culprit did not answer, or did not let go of its pin, in time
  kPoisoned = 4,       // the journal failed
  kDied = 5,           // collective only: the culprit died, left or was expelled
  kTag = 6,            // collective only: the culprit brought another tag
  kWithdrawn = 7,      // the proposer took it back; collective: the culprit gave up
};

constexpr std::uint64_t kBallotMask = (std::uint64_t{1} << 45) - 1;

struct OutcomeWord {
  Decision decision;
  bool forced;  // somebody was expelled for its sake; set before that
  AbortCause cause;
  std::uint32_t culprit;  // slot
  std::uint64_t ballot;

  static constexpr OutcomeWord Unpack(std::uint64_t word) {
    return {static_cast<Decision>(word >> 62), ((word >> 61) & 1) != 0,
            static_cast<AbortCause>((word >> 58) & 7),
            static_cast<std::uint32_t>((word >> 45) & kIndexMask), word & kBallotMask};
  }
  constexpr std::uint64_t Pack() const {
    return (std::uint64_t{static_cast<std::uint8_t>(decision)} << 62) |
           (std::uint64_t{forced ? 1u : 0u} << 61) |
           (std::uint64_t{static_cast<std::uint8_t>(cause)} << 58) |
           (std::uint64_t{culprit} << 45) | (ballot & kBallotMask);
  }
};

enum class Verdict : std::uint8_t { kUnsaid = 0, kAccept = 1, kReject = 2 };

// A slot's answer. The generation keeps the vote of a slot's last owner from counting for the next.
struct VoteWord {
  std::uint16_t generation;
  Verdict verdict;
  std::uint64_t ballot;

  static constexpr VoteWord Unpack(std::uint64_t word) {
    return {static_cast<std::uint16_t>(word >> kNumberBits), static_cast<Verdict>((word >> 45) & 7),
            word & kBallotMask};
  }
  constexpr std::uint64_t Pack() const {
    return (std::uint64_t{generation} << kNumberBits) |
           (std::uint64_t{static_cast<std::uint8_t>(verdict)} << 45) | (ballot & kBallotMask);
  }
};

// Control's `gather`: the number of the collective round that contributions are for now, and how
// the round before it ended.
struct GatherWord {
  AbortCause cause;       // kNobody: it was committed, or there was none
  std::uint32_t culprit;  // slot
  std::uint64_t round;    // counts from 1

  static constexpr GatherWord Unpack(std::uint64_t word) {
    return {static_cast<AbortCause>(word >> 61),
            static_cast<std::uint32_t>((word >> kNumberBits) & kIndexMask), word & kNumberMask};
  }
  constexpr std::uint64_t Pack() const {
    return (std::uint64_t{static_cast<std::uint8_t>(cause)} << 61) |
           (std::uint64_t{culprit} << kNumberBits) | round;
  }
};

// Who proposed a version: a cell's `proposer`, and a record's in the journal.
struct ProposerWord {
  std::uint32_t slot;
  std::uint64_t generation;  // of 61 bits, the lower 48

  static constexpr ProposerWord Unpack(std::uint64_t word) {
    return {static_cast<std::uint32_t>(word >> kNumberBits), word & kNumberMask};
  }
  constexpr std::uint64_t Pack() const {
    return (std::uint64_t{slot} << kNumberBits) | (generation & kNumberMask);
  }
};

// The three words of a batch: core/journal/batch/ring.h says how they are frozen.
enum class BatchState : std::uint8_t { kFrozen = 1, kWritten = 2, kFailed = 3 };

// W: what the batch holds, by its last version.
struct BatchW {
  BatchState state;
  bool hint_only;
  std::uint32_t version;
  Epoch last;

  static constexpr BatchW Unpack(std::uint64_t word) {
    return {static_cast<BatchState>(word >> 62), ((word >> 61) & 1) != 0,
            static_cast<std::uint32_t>((word >> kNumberBits) & kIndexMask), word & kNumberMask};
  }
  constexpr std::uint64_t Pack() const {
    return (std::uint64_t{static_cast<std::uint8_t>(state)} << 62) |
           (std::uint64_t{hint_only ? 1u : 0u} << 61) | (std::uint64_t{version} << kNumberBits) |
           last;
  }
};

// E: where it ends.
struct BatchE {
  std::uint64_t segment;
  std::uint64_t end_block;

  static constexpr BatchE Unpack(std::uint64_t word) {
    return {word >> 40, word & ((std::uint64_t{1} << 40) - 1)};
  }
  constexpr std::uint64_t Pack() const { return (segment << 40) | end_block; }
};

// H: the newest epoch that was known to be visible, and which batch the slot is of.
struct BatchH {
  std::uint16_t tag;
  Epoch hint;

  static constexpr BatchH Unpack(std::uint64_t word) {
    return {static_cast<std::uint16_t>(word >> kNumberBits), word & kNumberMask};
  }
  constexpr std::uint64_t Pack() const { return (std::uint64_t{tag} << kNumberBits) | hint; }
};

// What a pin word says.
struct PinReading {
  bool held;
  bool all_from;  // a pin that is taken while commits keep moving head: also every later version
  Epoch epoch;

  static constexpr PinReading Of(std::uint64_t word) {
    const std::uint64_t number = word & kNumberMask;
    return {number != kNone, (number & kPinsAllFrom) != 0, number & (kPinsAllFrom - 1)};
  }
};

constexpr std::uint64_t NoneOf(std::uint64_t generation) {
  return OwnedWord{static_cast<std::uint16_t>(generation), kNone}.Pack();
}

// What is packed is what is unpacked, with every field at its largest.
namespace round_trips {

constexpr StateWord kState{Phase::kPoisoned, kIndexMask, kMaxEpoch};
static_assert(StateWord::Unpack(kState.Pack()).phase == kState.phase &&
              StateWord::Unpack(kState.Pack()).version == kState.version &&
              StateWord::Unpack(kState.Pack()).epoch == kState.epoch);
constexpr OwnerWord kOwner{CellState::kRetired, kMaxParticipants - 1, kNumberMask};
static_assert(OwnerWord::Unpack(kOwner.Pack()).state == kOwner.state &&
              OwnerWord::Unpack(kOwner.Pack()).slot == kOwner.slot &&
              OwnerWord::Unpack(kOwner.Pack()).use == kOwner.use);
constexpr SlotWord kSlot{SlotState::kExpelled, (std::uint64_t{1} << 61) - 1};
static_assert(SlotWord::Unpack(kSlot.Pack()).state == kSlot.state &&
              SlotWord::Unpack(kSlot.Pack()).generation == kSlot.generation);
constexpr OwnedWord kOwned{0xffff, kNone};
static_assert(OwnedWord::Unpack(kOwned.Pack()).generation == kOwned.generation &&
              OwnedWord::Unpack(kOwned.Pack()).number == kOwned.number);
constexpr OutcomeWord kOutcome{Decision::kAborted, true, AbortCause::kWithdrawn,
                               kMaxParticipants - 1, kBallotMask};
static_assert(OutcomeWord::Unpack(kOutcome.Pack()).decision == kOutcome.decision &&
              OutcomeWord::Unpack(kOutcome.Pack()).forced &&
              OutcomeWord::Unpack(kOutcome.Pack()).cause == kOutcome.cause &&
              OutcomeWord::Unpack(kOutcome.Pack()).culprit == kOutcome.culprit &&
              OutcomeWord::Unpack(kOutcome.Pack()).ballot == kOutcome.ballot);
constexpr VoteWord kVote{0xffff, Verdict::kReject, kBallotMask};
static_assert(VoteWord::Unpack(kVote.Pack()).generation == kVote.generation &&
              VoteWord::Unpack(kVote.Pack()).verdict == kVote.verdict &&
              VoteWord::Unpack(kVote.Pack()).ballot == kVote.ballot);
constexpr GatherWord kGather{AbortCause::kWithdrawn, kMaxParticipants - 1, kNumberMask};
static_assert(GatherWord::Unpack(kGather.Pack()).cause == kGather.cause &&
              GatherWord::Unpack(kGather.Pack()).culprit == kGather.culprit &&
              GatherWord::Unpack(kGather.Pack()).round == kGather.round);
constexpr ProposerWord kProposer{kMaxParticipants - 1, kNumberMask};
static_assert(ProposerWord::Unpack(kProposer.Pack()).slot == kProposer.slot &&
              ProposerWord::Unpack(kProposer.Pack()).generation == kProposer.generation);
constexpr BatchW kW{BatchState::kFailed, true, kIndexMask, kMaxEpoch};
static_assert(BatchW::Unpack(kW.Pack()).state == kW.state && BatchW::Unpack(kW.Pack()).hint_only &&
              BatchW::Unpack(kW.Pack()).version == kW.version &&
              BatchW::Unpack(kW.Pack()).last == kW.last);
constexpr BatchE kE{(std::uint64_t{1} << 24) - 1, (std::uint64_t{1} << 40) - 1};
static_assert(BatchE::Unpack(kE.Pack()).segment == kE.segment &&
              BatchE::Unpack(kE.Pack()).end_block == kE.end_block);
constexpr BatchH kH{0xffff, kMaxEpoch};
static_assert(BatchH::Unpack(kH.Pack()).tag == kH.tag && BatchH::Unpack(kH.Pack()).hint == kH.hint);

}  // namespace round_trips

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_MEMORY_WORDS_H_
