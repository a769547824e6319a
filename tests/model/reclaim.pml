// Pins and guards against reclaiming, in a volatile region with recycled cells.
//
// Three participants: a publisher (three plain publishes, each reclaiming when it needs a cell), an
// updater (guard on tail, then a publish with `expected`), a reader (a pin that is first announced
// for an old epoch). The reader or the updater may die, or not. Three cells for up to five epochs.
// All of a reader's or updater's time between two accesses is a stop.
// Measured, all searches: 7.5 million states.
//
// search safety
// property order (G1): head goes up one epoch at a time; a pin never finds it further back
// property snapshot (G3): what is read through a pin is what was committed, for as long as it is held
// property no_lost_update (G4): an update was computed from its direct predecessor
// property no_leak (G10): the pins, guards and drafts of the dead cost nothing
// property end_states (G8): nobody waits for the dead or the stopped
//
// planted APPEND_AHEAD -> order: two transitions ahead of head, which then cannot find the first
// planted PINS_BEFORE_HEAD -> snapshot: the reclaimer reads head after the pins
// planted PINS_IGNORED -> snapshot: the reclaimer frees what is pinned
// planted PIN_WITHOUT_REREAD -> snapshot: pinned after it was recycled
// planted GUARDS_IGNORED -> no_lost_update: the update's cell is recycled under it
// planted GUARD_WITHOUT_REREAD -> no_lost_update: guarded after it was recycled
#define N 3
#define CELLS 3
#define GUARDER 1
#define PINNER 2
#include "model.h"
byte crashes_left = 1;
#include "publish.h"

proctype Publisher() {
  byte me = 0, turns = 3;
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

proctype Updater() {
  byte me = GUARDER, read_epoch, read_value, tries = 1;
  LOCALS;
  do
  :: tries > 0 ->
    STEP(t = tail);
    do
    :: STEP(guard = CELL(t));
#ifdef PLANTED_GUARD_WITHOUT_REREAD
       break
#else
       STEP(if
            :: tail == t -> ok = true
            :: else -> t = tail; ok = false
            fi);
       if
       :: ok -> break
       :: else
       fi
#endif
    od;
    read_epoch = EPOCH(t);
    STEP(read_value = value_of[CELL(t)]);
    STEP(CHECK(no_lost_update, value_of[CELL(t)] == read_value);
         CHECK(no_lost_update, read_value == accepted_value[read_epoch]));
    if
    :: mine == NONE -> take_cell()
    :: else
    fi;
    if
    :: mine != NONE -> publish(read_epoch)
    :: else -> ok = true
    fi;
    STEP(guard = NONE);
    tries--;
    read_epoch = 0; read_value = 0;
    if
    :: ok -> break
    :: !ok && tries == 0 -> drop()
    :: else
    fi
  :: else -> break
  od;
dead:
  FORGET;
  finished++
}

proctype Reader() {
  byte me = PINNER, h, value, last = 1;
  STEP(pin = last);  // what is announced first may be an old epoch
  STEP(h = head);
  do
  :: EPOCH(h) == last -> break
  :: else ->
    CHECK(order, EPOCH(h) > last);
    last = EPOCH(h);
    STEP(pin = last);
#ifdef PLANTED_PIN_WITHOUT_REREAD
    break
#else
    STEP(h = head)
#endif
  od;
  STEP(value = value_of[CELL(h)]);
  STEP(CHECK(snapshot, value == visible_value[EPOCH(h)] && value_of[CELL(h)] == value));
  STEP(pin = NONE);
dead:
  finished++
}

proctype Newcomer() {
  byte me = N;
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
    run Publisher();
    run Updater();
    run Reader();
    run Newcomer()
  }
}
