// What happens in one run, apart from the schedule: who does what, which faults strike, what kind
// of region it is. Made from a seed; parts can be left out, to find the ones that a failure needs.
#ifndef EPOCH_TESTS_SIM_PLAN_H_
#define EPOCH_TESTS_SIM_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tests/sim/engine.h"

namespace epoch::sim {

enum class OpKind {
  kPin,
  kCommit,
  kCommitExpecting,
  kUpdate,
  kProposeThenAwait,
  kDropDraft,
  kRead,
  kPark,
  kPoll,
  kReap,
  kExpel,
  kRejoin,
  kAwaitConverged,
  kReopen,
  kVoted,
  kFenced,
  kVotedFenced,
  kVotedUpdate,
  kAnswerLater,  // to what the validator has put off
  kCollective,
  kListen,  // as a participant of its own
  kStartListener,
  kStopListener,
  kAwaitTold,  // by the listener's descriptor
  kBusy,       // for so long that its listener must have acknowledged
  // Of checkpoint folders.
  kCheckpoint,
  kAbandon,  // a step that was begun
  kOpenLatest,
  kPrune,
  kCleanUp,
  kList,
  // Of a journal that is in use.
  kRemoveJournal,
  kMoveJournal,  // away, and back later
  kGoRound,      // of no plan that a seed makes: what a run that gets no further does (`GoRound`)
};
// The argument of kGoRound.
enum class GoRound : std::uint64_t {
  kRings,    // rings the bell that it sleeps on, counts ballots, drafts and drops, for ever
  kSleeps,   // looks now and then, for ever
  kLong,     // the same, for 30 s
  kSpins,    // looks without a pause whether anything was committed
  kCommits,  // one commit after the other, for ever
};
const char* NameOf(OpKind kind);

struct Op {
  OpKind kind;
  std::uint64_t argument;
  int boot = 0;
};

struct Plan {
  std::uint64_t seed = 0;
  Settings settings;
  std::vector<std::vector<Op>> operations;  // by process

  std::uint32_t versions = 4;
  std::uint64_t state_bytes = 64;
  int spare_slots = 2;  // beyond one for each process
  bool joined = false;  // all are participants before the run begins
  bool agrees = false;  // kVotes
  unsigned voters = 0;  // bit p: process p joins as a voter
  std::uint64_t reject_one_in = 0, put_off_one_in = 0;  // what validators say; 0: never
  bool folders = false;                                 // kFolders
  int world = 1;                                        // kFolders: ranks
  // Durable regions only.
  bool durable = false;
  int boots = 1;  // the next one begins when all have ended, or the power was lost
  bool latest = false;
  std::uint32_t retain_segments = 0;
  std::uint64_t retain_epochs = 0;
  std::uint64_t spare_blocks = 0;  // of a segment, beyond what it must have
  bool tears = false;              // the disk tears sectors
  bool damages = false;            // one sector is overwritten before the last boot

  std::size_t size() const;
};

// kReaders: volatile, too; some only pin, or read, the others only commit, undisturbed. A pin is
// then often taken while head moves under it, and cells are recycled between one pin and the next.
// kWriters: durable; all only commit, and are stopped while they write the journal, until what they
// were about to write was written by others and recycled.
// kVotes: volatile or durable; most of what is committed is voted on, fenced, or collective.
// kListeners: the same, by processes with a listener, which is another thread.
// kAborts: few cells, proposals that are mostly given up, and drivers that stand still meanwhile.
// kStragglers: voters and contributors that are expelled just when they answer.
// kFolders: checkpoints of several ranks, in folders.h.
// kVanishes: durable; the journal's directory is removed, or moved away for a while, under those
// who write it. Of no mixed plan. kMembers: volatile; slots change hands while others converge,
// draft and reap.
enum class Mode {
  kMixed,
  kVolatile,
  kDurable,
  kReaders,
  kWriters,
  kVotes,
  kListeners,
  kAborts,
  kStragglers,
  kMembers,
  kFolders,
  kVanishes,
};

Plan PlanFor(std::uint64_t seed, Mode mode = Mode::kMixed);

// "p0: pin, commit; p1: update; faults: crash p1 at step 40".
std::string Describe(const Plan& plan);

// Which operations and faults are left of the plan that the seed makes, and with which schedule:
// "1234:p0=0,2,3:p1=1:f=0:s=99". Plain "1234" is all of it.
struct Reduction {
  std::uint64_t seed = 0;
  Mode mode = Mode::kMixed;
  std::uint64_t schedule = 0;  // 0: the plan's own
  std::vector<std::vector<int>> operations;
  std::vector<int> faults;
};
Reduction WholeOf(std::uint64_t seed, Mode mode);
Plan Apply(const Reduction& reduction);
std::string Format(const Reduction& reduction);
// False: not in that form.
bool Parse(const std::string& text, Mode mode, Reduction& reduction);

}  // namespace epoch::sim

#endif  // EPOCH_TESTS_SIM_PLAN_H_
