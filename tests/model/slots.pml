// Slots: join, leave, expel (the dead and the living), reap, join again; drafts and pins in between.
//
// Three participants want the one slot, and the one cell; each looks once, reaps what it finds dead,
// and if the slot is its own drafts, pins, looks again, and leaves. One of them may die at any
// access. A fourth process may expel whoever is Active, by policy, and then reaps, too. At the end
// one more reap must find everything free.
// Measured: 6.2 million states, 7 s, 0.7 GB.
//
// search safety
// property one_owner (G2): a slot has one owner at a time; nobody else takes or frees it while it lives
// property draft_kept (G10): a draft is freed only when its drafter is dead, or leaves
// property pin_kept (G3): so is a pin, even that of an expelled one who lives
// property clean (G10): a slot is free only when its drafts and pins are
// property no_leak (G10): no death costs a slot or a cell
// property end_states (G8): nobody waits
//
// planted LOCK_AFTER_FILL -> one_owner: the byte is locked after the slot was filled
// planted LOCK_TESTED_FIRST -> one_owner: a reaper tests the lock, then reads the state
// planted UNLOCK_FIRST -> one_owner: leave unlocks before the slot is free
// planted NO_SLOT_CHECK -> draft_kept: a late reaper frees the draft of the slot's next owner
// planted NO_USE -> draft_kept: so does one that checked, as the cell's word is the same again
// planted NO_GENERATION -> pin_kept: a late reaper clears the pin of the slot's next owner
// planted LIVING_DISMANTLED -> one_owner: who is expelled alive loses pins, drafts and slot at once
// planted SLOT_FREED_FIRST -> clean: the slot is free before its drafts are
#include "steps.h"

#define P 3
#define NOBODY 15
#define DRAFTED(word) ((word) & 1)
#ifdef PLANTED_NO_USE
#define FREED(word) 0
#else
#define FREED(word) ((word) + 1)   // use:7 | drafted:1
#endif
#ifdef PLANTED_NO_GENERATION
#define PIN(generation, held) (held)
#else
#define PIN(generation, held) ((generation) << 1 | (held))
#endif

byte state = SLOT(FREE, 0);
byte pin;
byte cell;
byte lock = NOBODY;
byte crashes_left = 1;
byte finished;
// Ghosts.
byte owner = NOBODY;      // who has taken the slot, lives, and has not begun to leave
byte drafter = NOBODY;
bool pinned;
hidden byte P_one_owner, P_draft_kept, P_pin_kept, P_clean, P_no_leak;

// Steps 4 to 6 of reap: takes everything from the expelled slot whose word is x.
inline dismantle(x) {
#ifdef PLANTED_SLOT_FREED_FIRST
  STEP(CAS(state, x, SLOT(FREE, GENERATION_OF(x)));
       CHECK(clean, !ok || (!DRAFTED(cell) && !(pin & 1))));
#endif
  STEP(o = cell);
  ok = true;
  if
  :: DRAFTED(o) ->
#ifndef PLANTED_NO_SLOT_CHECK
    STEP(ok = (state == x));
#endif
    if
    :: ok ->
      STEP(CAS(cell, o, FREED(o));
           CHECK(draft_kept, !ok || drafter == NOBODY || drafter == me);
           drafter = (ok -> NOBODY : drafter);
           ok = true)
    :: else
    fi
  :: else
  fi;
  if
  :: ok ->
    STEP(o = pin);
    if
    :: o == PIN(GENERATION_OF(x), 1) ->
      STEP(ok = (state == x));
      if
      :: ok ->
        STEP(CAS(pin, o, PIN(GENERATION_OF(x), 0));
             CHECK(pin_kept, !ok || !pinned || owner == me);
             pinned = (ok -> false : pinned))
      :: else
      fi
    :: else
    fi;
#ifndef PLANTED_SLOT_FREED_FIRST
    STEP(CAS(state, x, SLOT(FREE, GENERATION_OF(x)));
         CHECK(clean, !ok || (!DRAFTED(cell) && !(pin & 1)));
         CHECK(one_owner, !ok || owner == NOBODY || owner == me);
         owner = (ok -> NOBODY : owner))
#endif
  :: else
  fi;
  o = 0; ok = false
}

inline reap() {
#ifdef PLANTED_LOCK_TESTED_FIRST
  STEP(ok = (lock == NOBODY));
  STEP(st = state);
#else
  STEP(st = state);  // D: before the lock is tested
  STEP(ok = (lock == NOBODY));
#endif
#ifdef PLANTED_LIVING_DISMANTLED
  if
  :: STATE_OF(st) == EXPELLED -> ok = true
  :: else
  fi;
#endif
  if
  :: ok && STATE_OF(st) != FREE ->
    if
    :: STATE_OF(st) != EXPELLED ->
      STEP(CAS(state, st, SLOT(EXPELLED, GENERATION_OF(st)));
           CHECK(one_owner, !ok || owner == NOBODY));
      st = SLOT(EXPELLED, GENERATION_OF(st))
    :: else
    fi;
    if
    :: ok -> dismantle(st)
    :: else
    fi
  :: else
  fi;
  st = 0; ok = false
}

inline take_lock() {
  STEP(if
       :: lock == NOBODY -> lock = me; ok = true
       :: else -> ok = false
       fi)
}

proctype Participant(byte me) {
  byte st, o, g;
  bool ok;
  STEP(st = state);
  if
  :: STATE_OF(st) != FREE -> reap()
  :: else
  fi;
#ifndef PLANTED_LOCK_AFTER_FILL
  take_lock();
  if
  :: !ok -> goto gone
  :: else
  fi;
#endif
  STEP(st = state);
  if
  :: STATE_OF(st) != FREE ->
    STEP(lock = (lock == me -> NOBODY : lock));
    goto gone
  :: else
  fi;
  g = GENERATION_OF(st) + 1;
  STEP(CAS(state, st, SLOT(JOINING, g));
       if
       :: ok -> CHECK(one_owner, owner == NOBODY); owner = me
       :: else
       fi);
  if
  :: !ok -> STEP(lock = (lock == me -> NOBODY : lock)); goto gone
  :: else
  fi;
  STEP(pin = PIN(g, 0));
#ifdef PLANTED_LOCK_AFTER_FILL
  take_lock();
#endif
  STEP(CAS(state, SLOT(JOINING, g), SLOT(ACTIVE, g)); CHECK(one_owner, ok));
  // Draft, if the cell is free.
  STEP(o = cell);
  if
  :: !DRAFTED(o) ->
    STEP(CAS(cell, o, o + 1);
         if
         :: ok -> CHECK(draft_kept, drafter == NOBODY); drafter = me
         :: else
         fi)
  :: else
  fi;
  // Pin; then see whether the slot is still this one's.
  STEP(CAS(pin, PIN(g, 0), PIN(g, 1)); pinned = ok);
  if
  :: ok ->
    STEP(ok = (state == SLOT(ACTIVE, g)));
    STEP(CHECK(pin_kept, pin == PIN(g, 1)); pin = PIN(g, 0); pinned = false)
  :: else
  fi;
  // Leave.
  STEP(CAS(state, SLOT(ACTIVE, g), SLOT(EXPELLED, g)));
#ifdef PLANTED_UNLOCK_FIRST
  STEP(lock = (lock == me -> NOBODY : lock));
#endif
  dismantle(SLOT(EXPELLED, g));
#ifndef PLANTED_UNLOCK_FIRST
  STEP(lock = (lock == me -> NOBODY : lock));
#endif
  goto gone;
die:
  atomic {
    lock = (lock == me -> NOBODY : lock);
    if
    :: owner == me -> owner = NOBODY; pinned = false
    :: else
    fi;
    drafter = (drafter == me -> NOBODY : drafter)
  }
gone:
  atomic { st = 0; o = 0; g = 0; ok = false; finished++ }
}

// Expels the living, and reaps the dead.
proctype Reaper() {
  byte me = P, st, o;
  bool ok;
  STEP(st = state);
  if
  :: STATE_OF(st) == ACTIVE -> STEP(CAS(state, st, SLOT(EXPELLED, GENERATION_OF(st))))
  :: else
  fi;
  reap();
  goto gone;
die:
  skip;
gone:
  atomic { st = 0; o = 0; ok = false; finished++ }
}

proctype Last() {
  byte me = P + 1, st, o;
  bool ok;
  atomic {
    finished == P + 1;
    crashes_left = 0;
    reap();
    CHECK(no_leak, STATE_OF(state) == FREE && lock == NOBODY && !DRAFTED(cell) && !(pin & 1))
  }
die:
  skip
}

init {
  atomic {
    run Participant(0);
    run Participant(1);
    run Participant(2);
    run Reaper();
    run Last()
  }
}
