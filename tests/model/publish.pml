// Publishing in a volatile region: accept, mark, help, reclaim and reap, with recycled cells.
//
// Three participants: one publishes three times, one publishes once, one helps and reclaims. Any of
// them may die at any access (one of them does, or none). Two cells for up to five epochs, so that
// every cell comes back while somebody may still look at its past. At the end a newcomer finds all
// but head's cell free. Nobody pins: see reclaim.pml.
// Measured, all searches: 1.1 million states.
//
// search safety
// property order (G1): head goes up one epoch at a time, to where tail is
// property agreement (G2): what head shows for an epoch is what was accepted for it
// property never_freed (G10): a cell that head or tail names is not freed
// property no_leak (G10): no death costs a cell
// property end_states (G8): nobody waits for the dead
//
// planted MARK_WITHOUT_REREAD -> agreement: a fresh draft in a recycled cell is marked Published
// planted NO_USE -> never_freed: a stale CAS hits the next use of a cell
#define N 3
#ifndef CELLS
#define CELLS 2
#endif
#include "model.h"
byte crashes_left = 1;
#include "publish.h"

proctype Publisher(byte me; byte turns) {
  LOCALS;
  do
  :: turns > 0 ->
    take_cell();
    if
    :: mine != NONE -> publish(NONE)
    :: else
    fi;
    FORGET;
    turns--
  :: else -> break
  od;
dead:
  finished++
}

proctype Helper(byte me) {
  LOCALS;
  STEP(t = tail);
  mark_published(t);
  help_head(t);
  reclaim();
dead:
  FORGET;
  finished++
}

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
    alive[0] = true; alive[1] = true; alive[2] = true; alive[N] = true;
    run Publisher(0, 3);
    run Publisher(1, 1);
    run Helper(2);
    run Newcomer(N)
  }
}
