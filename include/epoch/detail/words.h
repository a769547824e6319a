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
//   |   generation:16   |            cell index (all ones: none)         |  own, help (guards)
//   +-------------------+------------------------------------------------+
//   | state |                        generation:61                       |  slot state
//   +-------+------------------------------------------------------------+
//
// One load yields number and location together; one CAS is a whole decision. No field value that
// the protocol writes makes a word zero, so zeroed memory is never mistaken for a valid word.
#ifndef EPOCH_DETAIL_WORDS_H_
#define EPOCH_DETAIL_WORDS_H_

#include <cstdint>

namespace epoch {

// Number of a committed state. Each epoch directly succeeds the one before it; 48 bits are used.
using Epoch = std::uint64_t;

namespace detail {

inline constexpr int kNumberBits = 48;
inline constexpr std::uint64_t kNumberMask = (std::uint64_t{1} << kNumberBits) - 1;
inline constexpr std::uint64_t kIndexMask = (1u << 13) - 1;
inline constexpr std::uint64_t kNone = kNumberMask;  // "no epoch" and "no cell"
// In a pin: it protects every version from its epoch on, not only that of its epoch.
inline constexpr std::uint64_t kPinsAllFrom = std::uint64_t{1} << 47;
inline constexpr Epoch kMaxEpoch = kPinsAllFrom - 1;
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

// What a pin word says.
struct PinReading {
  bool held;
  bool all_from;  // while a pin is being taken in a hurry of commits: also every later version
  Epoch epoch;

  static constexpr PinReading Of(std::uint64_t word) {
    const std::uint64_t number = word & kNumberMask;
    return {number != kNone, (number & kPinsAllFrom) != 0, number & (kPinsAllFrom - 1)};
  }
};

constexpr std::uint64_t NoneOf(std::uint64_t generation) {
  return OwnedWord{static_cast<std::uint16_t>(generation), kNone}.Pack();
}

}  // namespace detail
}  // namespace epoch

#endif  // EPOCH_DETAIL_WORDS_H_
