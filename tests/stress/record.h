// What a process of a stress run writes down about itself: one record before each operation, one
// after it, one for each state it drafted or saw. The driver keeps a log of the same form. All that
// the history checker knows comes from these.
//
// A record has 64 bytes; what its fields mean depends on its kind:
//
//   kind           epoch        content   digest  detail         counter  slot
//   kBegin         awaited      awaited   -       -              -        aimed at (expel)
//   kEnd           result       -         -       -              -        -
//   kDraft         expected     its id    yes     previous id    yes      -
//   kSeen, ...     yes          its id    yes     -              yes      -
//   kOpened        -            -         -       incarnation    -        -
//   kJoined        -            -         -       generation     -        yes
//   kExpelled      tail after   -         -       generation     -        yes
//   kRaised        -            -         -       signal         -        -
//   driver: kStarted, kKilled, kStopped, kResumed, kExited, kHung: `slot` is the process's serial
//   number; kExited: `detail` is its wait status; kRestored: as kSeen; kAuditFailed: `code` is an
//   AuditFailure, `slot` the index, `detail` what was found.
#ifndef EPOCH_TESTS_STRESS_RECORD_H_
#define EPOCH_TESTS_STRESS_RECORD_H_

#include <cstdint>

namespace epoch::stress {

enum class Kind : std::uint32_t {
  kNone = 0,  // the end of the log
  kBegin,
  kEnd,
  kDraft,
  kSeen,          // committed state, looked at under a pin or copied
  kSeenAccepted,  // accepted state, handed to an update: not visible yet, perhaps
  kSeenAgain,     // the state of the record before of these kinds, looked at once more
  kUnpinned,      // the outermost pin is about to be released
  kOpened,
  kJoined,
  kExpelled,
  kRaised,  // is about to send itself a signal
  kStarted,
  kKilled,
  kStopped,
  kResumed,
  kExited,
  kHung,
  kRestored,
  kAuditFailed,
};

enum class Operation : std::uint16_t {
  kNone,
  kOpen,
  kJoin,
  kPin,
  kPinNested,
  kCommit,
  kCommitExpecting,
  kUpdate,
  kPropose,
  kProposeUpdate,
  kAwaitTicket,
  kAwaitCommitted,
  kAwaitConverged,
  kPark,
  kPoll,
  kPollPinned,
  kLeave,
  kRejoin,
  kExpel,
  kReap,
  kNewDraft,
  kDropDraft,
  kFork,
  kRead,
};

// What is wrong with a region in which nobody is left.
enum class AuditFailure : std::uint16_t {
  kSlotNotFree,
  kCellNotFree,
  kNotRestored,
  kDamaged,
  kPending,
  kFilesLeft,  // in the journal's directory
};

constexpr std::uint64_t kNothing = ~std::uint64_t{0};  // no expected epoch, no previous content

struct Record {
  Kind kind = Kind::kNone;  // written last
  Operation operation = Operation::kNone;
  std::uint16_t code = 0;    // absl::StatusCode of kEnd
  std::int64_t time_ns = 0;  // CLOCK_MONOTONIC
  std::uint64_t epoch = 0;
  std::uint64_t content = 0;  // the id of a state; 0: the empty one that a region starts with
  std::uint64_t digest = 0;   // XXH3 of all its bytes
  std::uint64_t detail = 0;
  std::uint64_t counter = 0;
  std::uint32_t slot = 0;
  std::uint32_t reserved = 0;
};
static_assert(sizeof(Record) == 64);

const char* NameOf(Operation operation);

}  // namespace epoch::stress

#endif  // EPOCH_TESTS_STRESS_RECORD_H_
