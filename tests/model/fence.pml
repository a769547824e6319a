// The fence: closing head, draining, deciding, aborting, reopening, with recycled proposals.
//
// Three participants: a proposer (one or two fenced transitions), a helper (looks once or twice), a
// reader (a pin; helps when it finds head Closed). Nobody votes here. At the end a newcomer
// helps, reaps and reclaims.
// Measured, all searches: 15 million states.
//
// search recycled -DPROPOSALS=2
// search crash -DCRASHES=1
// property order (G1): head goes up one epoch at a time
// property agreement (G2, G5): what becomes visible is a proposal that was decided Committed, once
// property fence (G6): then no live participant holds a pin to an earlier epoch
// property own_outcome (G5): a proposer learns the outcome of its own ballot
// property never_freed (G10): a cell that head or tail names is not freed
// property no_leak (G10): no death and no abort costs a cell
// property end_states (G8): a fence over a dead reader drains after its expulsion; nobody waits for a
//   dead driver
// Not checked yet: stops for ever (WITH_STOPS), the journal's part (DURABLE).
//
// planted NO_DRAIN -> fence: head opened while somebody is pinned
// planted NO_HELP_GUARD -DPROPOSALS=2 -> never_freed: an old helper's CAS hits the next proposal
// planted GUARDS_THEN_HEAD -DPROPOSALS=2 -> never_freed: tail, guards, head, without the second look at guards
// planted GUARDS_CLEARED_LAST -DCRASHES=1 -> no_leak: a dead proposer's guard keeps its own draft
#ifndef N
#define N 3
#endif
#define FENCE
#if N > 2
#define PINNER 2
#endif
#include "model.h"
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef PROPOSALS
#define PROPOSALS 1
#endif
byte crashes_left = CRASHES;
byte operates[N];  // the epoch of a settled pin, or 0
#define VOTE_ON_OWN skip
#define CHECK_DECISION skip
#define BEHIND(i) (operates[i] != 0 && operates[i] < e && SLOT_STATE(slot[i]) == ACTIVE && alive[i])
#define FENCE_HOLDS (!BEHIND(0) && !BEHIND(1) && !BEHIND(N - 1))
#include "proposal.h"

proctype Proposer(byte me) {
  LOCALS;
  byte turns = PROPOSALS;
  do
  :: turns > 0 ->
    need_cell();
    if
    :: mine != NONE -> propose()
    :: else
    fi;
    turns--
  :: else -> break
  od;
dead:
  finished++
}

proctype Helper(byte me) {
  LOCALS;
  look();
#ifdef BOTH_PROPOSE
  need_cell();
  if
  :: mine != NONE -> propose()
  :: else
  fi;
#else
  look();
#endif
dead:
  finished++
}

proctype Reader(byte me) {
  LOCALS;
  do
  :: STEP(f = head);
    if
    :: PHASE(f) == CLOSED -> look()
    :: else ->
      STEP(pin[me] = EPOCH(f));
      STEP(if
           :: head == f && SLOT_STATE(slot[me]) == ACTIVE -> operates[me] = EPOCH(f); ok = true
           :: else -> ok = false
           fi);
      f = 0;
      if
      :: ok -> break
      :: else -> STEP(pin[me] = NONE)
      fi
    fi
  od;
  STEP(pin[me] = NONE; operates[me] = 0);
dead:
  finished++
}

// After all the others. In the reader's slot, for which all that it does is to announce a guard.
proctype Newcomer(byte me) {
  LOCALS;
  atomic {
    finished == N;
    crashes_left = 0;
    take_stock()
  }
dead:
  skip
}

init {
  atomic {
    owner[0] = OWNER(PUBLISHED, 0, 0);
    epoch_of[0] = 1;
    byte i;
    for (i : 0 .. N - 1) {
      slot[i] = SLOT(ACTIVE, 1); alive[i] = true;
      pin[i] = NONE; own[i] = NONE; help[i] = NONE
    }
    run Proposer(0);
    run Helper(1);
#if N > 2
    run Reader(2);
#endif
    run Newcomer(N - 1)
  }
}
