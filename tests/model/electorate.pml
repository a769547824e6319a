// Voting: who must have accepted, who is heard, and what deaths and stops do to it.
//
// A proposer, a helper (voter in slot 1) and a voter (slot 2), who vote as they like. The voter may
// leave at any time; a joiner then takes its slot, with the next generation, and votes, too. Proposer
// and helper both drive: scan, expel, decide, finish. One process may die at any access; a deadline
// may have passed whenever somebody looks, and then the straggler is expelled (`EXPEL`) or the
// proposal aborted. `TWICE`: after an abort there is a second ballot, but nobody leaves or joins.
// `TIMELESS`: there is no deadline, so that only the kernel's word on deaths can help. `WITH_STOPS`:
// instead of a death, one process stops for ever. Cells are not recycled and nobody pins here.
// Measured, all searches: 21 million states, 24 s; at most 0.9 GB.
//
// search abort
// search expel -DEXPEL
// search twice -DTWICE
// search twice_expel -DTWICE -DEXPEL
// search timeless -DTIMELESS
// search stopped -DWITH_STOPS
// search stopped_expel -DWITH_STOPS -DEXPEL
// property bilateral (G5): every voter that was there when voting began and is Active when the outcome
// property newcomer (G5): a joiner that the decider did not count sees the proposal
// property heard (G5): a reject counts if its voter, alive, found itself Active afterwards
// property hidden (G5): tail accepts only what is Committed, and only aborts what is Aborted
// property forced (G5): what was committed over an expulsion for its sake says so
// property end_states (G8): the vote is decided, whoever died or stopped; nobody waits for ever
//
// planted TAIL_BEFORE_ACTIVE -> newcomer: a joiner reads tail before it is Active
// planted VOTE_WITHOUT_GENERATION -> bilateral: the slot's previous occupant accepts
// planted VOTE_WITHOUT_BALLOT -DTWICE -> bilateral: the vote on the attempt before counts
// planted VOTE_BEFORE_STATE -DEXPEL -> heard: the vote is read, then the voter rejects and is expelled
// planted NO_REREAD_AFTER_EXPEL -DEXPEL -> heard: an expelled straggler had answered meanwhile
// planted EXPELLED_UNHEARD -DEXPEL -> heard: another decider passes over the one just expelled
// planted FORCED_AT_DECISION -DEXPEL -> forced: the expeller dies, and another decides
// planted DEATHS_UNSEEN -DTIMELESS -> end_states: nobody asks the kernel who lives
// planted NO_DEADLINE -DWITH_STOPS -DTIMELESS -> end_states: a stopped voter holds up everyone
#include "steps.h"

#ifdef TWICE
#define BALLOTS 2
#else
#define BALLOTS 1
#endif

// tail: 0 is (Accepted, v, e); b is (Voting, p, e+1) of ballot b; 4 + b is (Accepted, p, e+1).
#define ACCEPTED(b) (4 + (b))
#define IS_VOTING(t) ((t) == 1 || (t) == 2)
#define VOTE(generation, ballot, accept) ((generation) << 3 | (ballot) << 1 | (accept))
// outcome
#define UNDECIDED 0
#define UNDECIDED_FORCED 1
#define COMMITTED 2
#define COMMITTED_FORCED 3
#define ABORTED 4
#define OPEN_YET(o) ((o) <= UNDECIDED_FORCED)
#define IS_COMMITTED(o) ((o) == COMMITTED || (o) == COMMITTED_FORCED)

byte tail;
byte outcome[3];
byte state[3];     // slots 1 and 2; the proposer's is no voter
byte vote[3];
bool locked[3];    // the slot's byte: drops with its owner's death
#ifdef WITH_STOPS
byte crashes_left = 0;
byte stops_left = 1;
#else
byte crashes_left = 1;
#endif
bool proposing = true;

// Ghosts: nothing in the protocol reads them.
byte electorate[3];       // state words at the moment when Voting became visible
byte seen[3];             // what the joiner's read of tail showed; NOT_READ before it
byte objector[3];         // ballot that the living owner of the slot rejected, Active afterwards
byte expelled_for;        // ballot for whose sake somebody living was expelled
#define NOT_READ 9
hidden byte P_bilateral, P_newcomer, P_heard, P_hidden, P_forced;

#define ACCEPTS(s, b) (vote[s] == VOTE(GENERATION_OF(state[s]), b, 1))
#define COUNTED(s, b) (state[s] != electorate[s] || STATE_OF(state[s]) != ACTIVE || ACCEPTS(s, b))
#define SEES(s, b) (STATE_OF(state[s]) != ACTIVE || state[s] == electorate[s] || ACCEPTS(s, b) || seen[s] >= b)

// What the deciding CAS on `outcome` means, checked at that very moment.
inline check_decision(b) {
  CHECK(bilateral, COUNTED(1, b) && COUNTED(2, b));
  CHECK(newcomer, SEES(1, b) && SEES(2, b));
  CHECK(heard, objector[1] != b && objector[2] != b);
  CHECK(forced, expelled_for != b || outcome[b] == COMMITTED_FORCED)
}

// Takes the slot from its dead owner, or finishes what another began.
inline reap(s) {
  STEP(st = state[s]);  // D: before the lock is tested
  if
  :: STATE_OF(st) != FREE ->
    STEP(ok = !locked[s]);
    if
    :: ok && STATE_OF(st) != EXPELLED ->
      STEP(CAS(state[s], st, SLOT(EXPELLED, GENERATION_OF(st))));
      if
      :: ok -> st = SLOT(EXPELLED, GENERATION_OF(st))
      :: else
      fi
    :: else
    fi;
    if
    :: ok && STATE_OF(st) == EXPELLED -> STEP(CAS(state[s], st, SLOT(FREE, GENERATION_OF(st))))
    :: else
    fi
  :: else
  fi
}

#ifdef PLANTED_VOTE_WITHOUT_GENERATION
#define IS_FOR(v, st, b) (((v) & 6) == (b) << 1)
#else
#ifdef PLANTED_VOTE_WITHOUT_BALLOT
#define IS_FOR(v, st, b) ((v) >> 3 == GENERATION_OF(st) && ((v) & 6) != 0)
#else
#define IS_FOR(v, st, b) ((v) >> 1 == (VOTE(GENERATION_OF(st), b, 0) >> 1))
#endif
#endif
#ifdef PLANTED_EXPELLED_UNHEARD
#define HEEDED(st) (STATE_OF(st) == ACTIVE)
#else
// An Expelled slot, too: its owner may have answered before it was expelled, and lives perhaps.
#define HEEDED(st) (STATE_OF(st) == ACTIVE || STATE_OF(st) == EXPELLED)
#endif

#ifdef PLANTED_DEATHS_UNSEEN
#define OWNER_DIED(s) false
#else
#define OWNER_DIED(s) !locked[s]
#endif

// Where the scan goes on, or why not.
#define RESTART 8
#define REFUSED 9
#define LOOK_AGAIN 254
#define LATE 255

// Drives ballot b to its end. Anyone may; each step is a CAS that only one succeeds with.
inline drive(b) {
  s = 1; again = false;
  do
  :: STEP(o = outcome[b]);
    if
    :: !OPEN_YET(o) -> break
    :: else
    fi;
    s = 1;
    do
    :: s > 2 -> break
    :: else ->
#ifdef PLANTED_VOTE_BEFORE_STATE
      STEP(v = vote[s]);
      STEP(st = state[s]);
#else
      STEP(st = state[s]);
      STEP(v = vote[s]);
#endif
      if
      :: HEEDED(st) && IS_FOR(v, st, b) && (v & 1) ->
        CHECK(bilateral, v == VOTE(GENERATION_OF(st), b, 1));  // by this very owner, on this very ballot
        s++
      :: HEEDED(st) && IS_FOR(v, st, b) && !(v & 1) -> s = REFUSED; break
      :: STATE_OF(st) != ACTIVE && !(HEEDED(st) && IS_FOR(v, st, b)) -> s++
      :: STATE_OF(st) == ACTIVE && !IS_FOR(v, st, b) ->
        // Wait for it: until it answers, is gone, or the deadline passes.
        STEP(atomic { OWNER_DIED(s) -> again = true }
             :: atomic { vote[s] != v || state[s] != st || !OPEN_YET(outcome[b]) -> again = false; v = LOOK_AGAIN }
#ifndef TIMELESS
             :: v = LATE
#endif
            );
        if
        :: v == LOOK_AGAIN -> s = RESTART; break
        :: v == LATE ->
#ifdef EXPEL
#ifndef PLANTED_FORCED_AT_DECISION
          // Before the expulsion, so that whoever decides after it decides with it.
          STEP(CAS(outcome[b], UNDECIDED, UNDECIDED_FORCED));
#else
          forcing = true;
#endif
          STEP(CAS(state[s], st, SLOT(EXPELLED, GENERATION_OF(st)));
               if
               :: ok && locked[s] -> expelled_for = b
               :: else
               fi);
#ifdef PLANTED_NO_REREAD_AFTER_EXPEL
          s++
#else
          s = RESTART; break
#endif
#else
          s = REFUSED; break
#endif
        :: else -> reap(s); s = RESTART; break
        fi
      fi
    od;
    v = 0; st = 0; again = false;
    if
    :: s == RESTART -> s = 1
    :: s == REFUSED -> STEP(CAS(outcome[b], o, ABORTED)); s = 1
    :: else ->
#ifdef PLANTED_FORCED_AT_DECISION
      STEP(CAS(outcome[b], o, (forcing -> COMMITTED_FORCED : COMMITTED));
#else
      STEP(CAS(outcome[b], o, o + 2);
#endif
           if
           :: ok -> check_decision(b)
           :: else
           fi);
      s = 1
    fi
  od;
  // Finish: tail follows the outcome.
  if
  :: IS_COMMITTED(o) ->
    STEP(CAS(tail, b, ACCEPTED(b));
         if
         :: ok -> CHECK(hidden, IS_COMMITTED(outcome[b]))
         :: else
         fi)
  :: else ->
    STEP(CAS(tail, b, 0);
         if
         :: ok -> CHECK(hidden, outcome[b] == ABORTED)
         :: else
         fi)
  fi;
  s = 0; o = 0; ok = false
}

// Votes on b, then looks whether it still counts.
inline cast(slot, word, b) {
  STEP(vote[slot] = VOTE(GENERATION_OF(word), b, 1)
       :: vote[slot] = VOTE(GENERATION_OF(word), b, 0));
  STEP(ok = (state[slot] == word);
       if
       :: ok && !(vote[slot] & 1) && OPEN_YET(outcome[b]) && word == electorate[slot] -> objector[slot] = b
       :: else
       fi)
}

#define LOCALS byte s, st, v, o; bool ok, again, forcing
#define FORGET s = 0; st = 0; v = 0; o = 0; ok = false; again = false; forcing = false

proctype Proposer() {
  byte b = 1;
  LOCALS;
  do
  :: b > BALLOTS -> break
  :: else ->
    // The only proposer: its CAS on tail does not fail. The outcome is fresh with the cell.
    STEP(tail == 0 -> tail = b; electorate[1] = state[1]; electorate[2] = state[2]);
    drive(b);
    if
    :: tail == ACCEPTED(b) -> break
    :: else -> b++
    fi
  od;
  goto gone;
die:
  skip;
#ifdef WITH_STOPS
  goto gone;
stop:
  skip;
#endif
gone:
  atomic { proposing = false; b = 0; FORGET }
}

#define QUIET (!proposing && !IS_VOTING(tail))

proctype Helper() {
  byte b;
  LOCALS;
  do
  :: STEP(QUIET -> b = NOT_READ :: IS_VOTING(tail) -> b = tail);
    if
    :: b == NOT_READ -> break
    :: else
    fi;
    if
    :: vote[1] >> 1 != VOTE(1, b, 0) >> 1 -> cast(1, SLOT(ACTIVE, 1), b)
    :: else
    fi;
    drive(b)
  od;
  goto gone;
die:
  atomic { locked[1] = false; objector[1] = 0 }
#ifdef WITH_STOPS
  goto gone;
stop:
  skip;
#endif
gone:
  atomic { b = 0; FORGET }
}

proctype Voter() {
  byte b;
  LOCALS;
  do
  :: STEP(QUIET -> b = NOT_READ
          :: IS_VOTING(tail) && tail != b -> b = tail
#ifndef TWICE
          :: b = NOT_READ  // leaves
#endif
         );
    if
    :: b == NOT_READ -> break
    :: else -> cast(2, SLOT(ACTIVE, 1), b)
    fi
  od;
  // Leave: through Expelled, unlock last.
  STEP(objector[2] = 0; CAS(state[2], SLOT(ACTIVE, 1), SLOT(EXPELLED, 1)));
  STEP(CAS(state[2], SLOT(EXPELLED, 1), SLOT(FREE, 1)));
  STEP(locked[2] = false);
  goto gone;
die:
  atomic { locked[2] = false; objector[2] = 0 }
#ifdef WITH_STOPS
  goto gone;
stop:
  skip;
#endif
gone:
  atomic { b = 0; FORGET }
}

proctype Joiner() {
  byte b;
  bool held;
  LOCALS;
  STEP(QUIET -> goto gone
       :: !locked[2] && STATE_OF(state[2]) == FREE -> locked[2] = true; held = true);
  STEP(st = state[2]);
  if
  :: STATE_OF(st) != FREE -> STEP(locked[2] = false); goto gone
  :: else
  fi;
  STEP(CAS(state[2], st, SLOT(JOINING, 2)));
  // Either this, or the generation in the vote: both is one more than needed, so the model has
  // the weaker one alone.
#ifdef PLANTED_TAIL_BEFORE_ACTIVE
  STEP(seen[2] = tail; b = tail);
  STEP(CAS(state[2], SLOT(JOINING, 2), SLOT(ACTIVE, 2)));
#else
  STEP(CAS(state[2], SLOT(JOINING, 2), SLOT(ACTIVE, 2)));
  STEP(seen[2] = tail; b = tail);
#endif
  do
  :: IS_VOTING(b) -> cast(2, SLOT(ACTIVE, 2), b); break
  :: else -> break
  od;
  // One more, if there is one.
  STEP(QUIET -> b = NOT_READ :: IS_VOTING(tail) && tail != b -> b = tail);
  if
  :: b != NOT_READ -> cast(2, SLOT(ACTIVE, 2), b)
  :: else
  fi;
  goto gone;
die:
  atomic {
    if
    :: held -> locked[2] = false; objector[2] = 0
    :: else
    fi
  }
#ifdef WITH_STOPS
  goto gone;
stop:
  skip;
#endif
gone:
  atomic { b = 0; held = false; FORGET }
}

init {
  atomic {
    state[1] = SLOT(ACTIVE, 1);
    state[2] = SLOT(ACTIVE, 1);
    locked[1] = true;
    locked[2] = true;
    seen[1] = NOT_READ;
    seen[2] = NOT_READ;
    run Proposer();
    run Helper();
    run Voter();
#ifndef TWICE
    run Joiner()
#endif
  }
}
