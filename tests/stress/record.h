// What a process of a stress run writes down about itself: one record before each operation, one
// after it, one for each state it drafted or saw. The driver keeps a log of the same form. All that
// the history checker knows comes from these.
//
// A record has 64 bytes; what its fields mean depends on its kind:
//
//   kind           epoch        content   digest  detail         counter  slot
//   kBegin         awaited      awaited   -       -              -        aimed at (expel)
//   kEnd           result       -         -       who rejected   -        that voter's
//   kDraft         expected     its id    yes     previous id    yes      -
//   kContribution  -            its id    yes     -              tag      -
//   kSeen, ...     yes          its id    yes     -              yes      -
//   kVote          to be        its id    yes     ballot         gener.   yes
//   kGathered      -            its id    yes     parts          tag      -
//   kPart          -            its id    yes     generation     -        yes
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
  kContribution,  // is about to be contributed
  kVote,          // is about to be cast: `code` is a Voted
  kGathered,      // a collective state that was seen; one kPart for each contribution follows
  kPart,
  kUnpinned,  // the outermost pin is about to be released
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
  kCollective,
  kVoteLater,
  kListen,
};

// `code` of kVote.
enum class Voted : std::uint16_t { kLater, kAccept, kReject };

// `flags`. Of a draft, a contribution and the operation that commits it:
constexpr std::uint32_t kVoted = 1;   // all voters must accept it
constexpr std::uint32_t kFenced = 2;  // all must have let go of earlier epochs
constexpr std::uint32_t kExpels = 4;  // whoever does not in time is expelled
// Of kJoined:
constexpr std::uint32_t kIsVoter = 8;
// Of kEnd: what the words of an error said.
constexpr std::uint32_t kToldUnchanged = 16;  // that nothing was changed
constexpr std::uint32_t kToldRejected = 32;   // who rejected it

// What is wrong with a region in which nobody is left.
enum class AuditFailure : std::uint16_t {
  kSlotNotFree,
  kCellNotFree,
  kNotRestored,
  kDamaged,
  kPending,
  kFilesLeft,  // in the journal's directory
  kUndecided,
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
  std::uint32_t flags = 0;
};
static_assert(sizeof(Record) == 64);

// How a voter judges a content: by chance, and so that others can tell how it had to.
constexpr bool MustReject(std::uint32_t serial, std::uint64_t content) {
  std::uint64_t mixed = (content ^ (std::uint64_t{serial} << 17)) * 0x9E3779B97F4A7C15u;
  mixed = (mixed ^ (mixed >> 29)) * 0xBF58476D1CE4E5B9u;
  return (mixed >> 40) % 64 == 0;
}

// Contents that nobody drafted: a collective commit put them together.
constexpr std::uint64_t kCollectiveContent = std::uint64_t{1} << 63;

const char* NameOf(Operation operation);

}  // namespace epoch::stress

#endif  // EPOCH_TESTS_STRESS_RECORD_H_
