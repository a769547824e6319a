// The fence against pins, the dead, the stopped, the expelled, and a journal that fails.
//
// One fenced proposal from epoch 1 to 2, its votes in. Two drivers, and a reader who pins twice and
// drives as well when it finds head Closed. Two processes may die at any access, or (`WITH_STOPS`) one
// stops there for ever. A deadline may have passed whenever somebody looks: by then the pinned are
// expelled (`EXPEL`) or the proposal is aborted. `DURABLE`: between decision and head the journal
// writes, or fails, or has no writer until the deadline. `TIMELESS`: no deadline, only deaths. Cells are not recycled here (fence.pml).
// Measured, all searches: 2.3 million states, 4 s; 0.3 GB.
//
// search abort
// search expel -DEXPEL
// search durable -DDURABLE
// search durable_expel -DDURABLE -DEXPEL
// search timeless -DTIMELESS
// search stopped -DWITH_STOPS
// search stopped_expel -DWITH_STOPS -DEXPEL -DDURABLE
// property fence (G6): nobody Active and alive operates under epoch 1 once epoch 2 is visible
// property decided (G5): head moves on only after Committed, and reopens only after Aborted
// property poisoned (G7): once head was poisoned, epoch 2 never becomes visible in this incarnation
// property forced (G6): a fence that passed over somebody expelled for its sake says so
// property end_states (G8): a fence over dead, stopped or expelled readers ends; no reader waits for ever
// progress settled -DEXPEL -DWITH_STOPS (G8): the fence ends
//
// planted PIN_WITHOUT_REREAD -> fence: head is read before the pin is announced
// planted NO_DRAIN -> fence: decided as soon as head is Closed
// planted DECIDED_BEFORE_DRAINED -> fence: who decides drains afterwards, but another sees Committed
// planted POISONED_REOPENED -DDURABLE -> poisoned: a stale driver closes again, another's success opens 2
// planted POISONED_PINNED -DDURABLE -DPLANTED_POISONED_REOPENED -> fence: the same, under a reader's pin
// planted FORCED_AT_DECISION -DEXPEL -> forced: who expelled is not who decides
// planted DEAD_KEEP_PINS -DTIMELESS -> end_states: nobody reaps
// planted EXPELLED_WAITED_FOR -DEXPEL -DWITH_STOPS -> settled: the drain waits for expelled pins, too
// planted LATE_CLOSE_LEFT -> end_states: only drivers reopen a head closed late for what was aborted
#include "steps.h"

// head: the epoch that is visible, and whether the fence has it Closed or the journal Poisoned.
#define OPEN 1
#define CLOSED 2
#define NEXT 3
#define POISONED 4
// outcome
#define UNDECIDED 0
#define UNDECIDED_FORCED 1
#define COMMITTED 2
#define COMMITTED_FORCED 3
#define ABORTED 4
#define IS_COMMITTED(o) ((o) == COMMITTED || (o) == COMMITTED_FORCED)
#define NONE 0

#define READERS 1
byte head = OPEN;
byte outcome = UNDECIDED;
byte state[READERS] = SLOT(ACTIVE, 1);
bool locked[READERS] = true;
byte pin[READERS];
bool written;       // the journal has it
#ifdef WITH_STOPS
byte crashes_left = 0;
byte stops_left = 1;
#else
byte crashes_left = 2;
#endif

byte operates[READERS];  // ghost: the epoch of a settled pin
bool ended;              // ghost: somebody gave up on the journal, and head shows it
bool expelled_for;       // ghost: somebody living was expelled for this fence
hidden byte P_fence, P_decided, P_poisoned, P_forced;

#define BEHIND(i) (operates[i] == 1 && state[i] == SLOT(ACTIVE, 1) && locked[i])

#ifdef PLANTED_POISONED_PINNED
#define CHECK_POISONED(condition) skip  // go on to what comes of it
#else
#define CHECK_POISONED(condition) CHECK(poisoned, condition)
#endif

inline move_head(from, to) {
  STEP(CAS(head, from, to);
       if
       :: ok ->
         CHECK(decided, to != NEXT || IS_COMMITTED(outcome));
         CHECK(decided, to != OPEN || outcome == ABORTED || gave_up);
         CHECK(fence, to != NEXT || !BEHIND(0));
         CHECK_POISONED(to != NEXT || !ended);
         ended = ended || to == POISONED || gave_up;
         CHECK(forced, to != NEXT || !expelled_for || outcome == COMMITTED_FORCED)
       :: else
       fi)
}

#ifdef PLANTED_EXPELLED_WAITED_FOR
#define HOLDS_UP(i) (pin[i] == 1)
#else
#define HOLDS_UP(i) (pin[i] == 1 && STATE_OF(state[i]) == ACTIVE)
#endif

#define LOOK_AGAIN 1
#define DEAD 2
#define LATE 3
// Waits until reader i is not pinned any more, one way or another. `late`: aborted, or expelled.
inline drain(i) {
  do
  :: STEP(if
          :: pin[i] != 1 -> go_on = true
          :: else -> go_on = false
          fi);
    if
    :: go_on -> break
    :: else
    fi;
    STEP(st = state[i]);
#ifndef PLANTED_EXPELLED_WAITED_FOR
    if
    :: STATE_OF(st) == EXPELLED -> break
    :: else
    fi;
#endif
    STEP(!HOLDS_UP(i) || outcome > UNDECIDED_FORCED -> what = LOOK_AGAIN
#ifndef PLANTED_DEAD_KEEP_PINS
         :: !locked[i] -> what = DEAD
#endif
#ifndef TIMELESS
         :: what = LATE
#endif
        );
    if
    :: what == DEAD ->
      // Expel and dismantle (slots.pml).
      STEP(CAS(state[i], st, SLOT(EXPELLED, 1)));
      STEP(pin[i] = NONE)
    :: what == LATE ->
#ifdef EXPEL
#ifdef PLANTED_FORCED_AT_DECISION
      forcing = true;
#else
      STEP(CAS(outcome, UNDECIDED, UNDECIDED_FORCED));
#endif
      STEP(CAS(state[i], st, SLOT(EXPELLED, 1));
           if
           :: ok && locked[i] && !(outcome >= COMMITTED) -> expelled_for = true
           :: else
           fi)
#else
      STEP(CAS(outcome, UNDECIDED, ABORTED));
      break
#endif
    :: else ->
      if
      :: outcome > UNDECIDED_FORCED -> break
      :: else
      fi
    fi
  od;
  what = 0; st = 0; go_on = false
}

// Drives the proposal, whoever finds it, until head stands where the outcome wants it.
inline drive() {
  do
  :: STEP(o = outcome);
    if
    :: o == ABORTED -> move_head(CLOSED, OPEN); break
    :: IS_COMMITTED(o) ->
#ifdef DURABLE
      STEP(what = written :: written = true; what = 1 :: what = 2);
      if
      :: what == 2 ->
        // Failed, or nobody to write it until the deadline: others may still think that it worked.
#ifdef PLANTED_POISONED_REOPENED
        gave_up = true;
        move_head(CLOSED, OPEN)
#else
        move_head(CLOSED, POISONED)
#endif
      :: what == 1 -> move_head(CLOSED, NEXT)
      :: else -> move_head(CLOSED, POISONED)
      fi;
      what = 0;
#else
      move_head(CLOSED, NEXT);
#endif
      break
    :: else ->
      move_head(OPEN, CLOSED);
#ifdef PLANTED_DECIDED_BEFORE_DRAINED
      STEP(CAS(outcome, o, o + 2); what = ok);
      if
      :: what == 1 -> what = 0; drain(0)
      :: else -> what = 0
      fi
#else
#ifndef PLANTED_NO_DRAIN
      drain(0);
#endif
#ifdef PLANTED_FORCED_AT_DECISION
      STEP(CAS(outcome, o, (forcing -> COMMITTED_FORCED : COMMITTED)))
#else
      STEP(CAS(outcome, o, o + 2))
#endif
#endif
    fi
  od;
  o = 0; ok = false; gave_up = false
}

#define LOCALS byte o, st, what; bool ok, go_on, forcing, gave_up
#define FORGET o = 0; st = 0; what = 0; ok = false; go_on = false; forcing = false; gave_up = false

proctype Driver() {
  LOCALS;
  drive();
  goto gone;
die:
  skip;
#ifdef WITH_STOPS
stop:
  skip;
#endif
gone:
  atomic { FORGET }
}

proctype Reader(byte me) {
  LOCALS;
  byte h, turns = 2, last = 1;
  do
  :: turns == 0 -> break
  :: else ->
#ifdef PLANTED_PIN_WITHOUT_REREAD
    STEP(h = head);
    STEP(pin[me] = last);
#else
    STEP(pin[me] = last);
    STEP(h = head);
#endif
    if
    :: h == CLOSED ->
      STEP(pin[me] = NONE);
#ifdef PLANTED_LATE_CLOSE_LEFT
      STEP(head != CLOSED)
#else
      drive()
#endif
    :: h == NEXT && last == 1 -> last = 2  // announce that one
    :: else ->
      STEP(ok = (state[me] == SLOT(ACTIVE, 1));
           if
           :: ok -> operates[me] = last; CHECK(fence, last == 2 || head != NEXT)
           :: else
           fi);
      STEP(pin[me] = NONE; operates[me] = NONE);
      turns = (ok -> turns - 1 : 0)  // expelled: it has learnt it
    fi;
    h = 0; ok = false
  od;
  goto gone;
die:
  atomic { locked[me] = false };
#ifdef WITH_STOPS
  goto gone;
stop:
  skip;
#endif
gone:
  atomic { FORGET; h = 0; turns = 0; last = 0 }
}

ltl settled { <> (head == NEXT || head == POISONED || outcome == ABORTED) }

init {
  atomic {
    run Driver();
    run Driver();
    run Reader(0)
  }
}
