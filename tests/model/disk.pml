// The journal's files: power loss, recovery, the end of the log, late writes, ownership.
//
// Two writers of the first incarnation write batches (an epoch each, two in flight) into segment 1;
// each may die at any access, with a write on its way that lands later or never. Restorers come at
// any moment, as if somebody had removed the region: they lock the newest segment, read it, make the
// next one, link it, sync its name, publish, and commit one epoch there. The power fails at any
// moments, up to twice: of the writes in flight each is gone, torn or whole; unsynced names are gone.
// In a run with `DAMAGE` an acknowledged batch is destroyed: with garbage, or with zeros where a later
// batch holds the proof. What is read under the lock is one access: nobody else can write there
// then. Attaching and rolling are not here.
// Measured: 2.5 million states, 3 s, 0.4 GB.
//
// With write-once segments alone, no property fails when the lock is on another file than the writes
// (LOCK_ON_OTHER_FILE): the late write then lands where nobody reads any more. The lock on the very
// description is the second line; `overwritten` shows what it saves when the first one is gone.
//
// search power -DLOSSES=2 -DCRASHES=2
// search damage -DLOSSES=2 -DCRASHES=1 -DDAMAGE
// property complete (G7): what is recovered contains everything that was ever visible
// property one_history (G2): no epoch is ever visible with two states
// property no_false_loss (G7): data loss is reported only where there was damage
// property write_once (G9): nothing is written over other bytes
// property durable (G7): what becomes visible is stable
// property end_states (G8): nobody waits for a lock whose holder is gone
//
// planted ACK_BEFORE_SYNC -> complete: visible as soon as the write is submitted
// planted APPEND_TO_OLD -> write_once: recovery goes on in the segment that it cut (and so reuses offsets)
// planted OFFSET_REUSED -DPLANTED_APPEND_TO_OLD -DNOT_WRITE_ONCE -> no_false_loss: what then follows is old
// planted DAMAGE_TAKEN_AS_TORN -DDAMAGE -> complete: the log ends at the first batch that is not whole
// planted HINTS_IGNORED -DDAMAGE -> complete: a later batch proves that the zeros were a batch, unheard
// planted WHOLE_IS_PROOF -> no_false_loss: a later whole batch counts as proof, whatever its hint
// planted NO_OWNERSHIP_LOCK -> one_history: a slow writer of the old incarnation goes on
// planted LOCK_ON_OTHER_FILE -DPLANTED_APPEND_TO_OLD -DNOT_WRITE_ONCE -DKILLED_ONLY -DBATCHES=1 -DLOSSES=0 -> overwritten: a dead one's write lands late
// planted PUBLISHED_BEFORE_NAME -> complete: the region is there before the segment's name is durable
#include "steps.h"
#undef STEP
// While the power is out, everybody who was there does nothing more.
#define STEP(...) \
  atomic { if :: !outage -> __VA_ARGS__ :: outage -> goto die :: crashes_left > 0 -> crashes_left--; goto die fi }

#define WRITERS 2
#define RESTORERS 2
#ifndef BATCHES
#define BATCHES 3    // of the first incarnation
#endif
#define PLACES 4     // per segment; place 0 is its header and base

// What stands at a place. A whole batch: incarnation:2 | incarnation of the epoch before:2 | hint:2.
#define ZEROS 0
#define GARBAGE 2
#define BATCH(incarnation, before, hint) (64 | (incarnation) << 4 | (before) << 2 | (hint))
#define IS_WHOLE(v) ((v) >= 64)
#define TORN(v) ((v) & 63)
#define SAME(v, u) (TORN(v) == TORN(u))
#define BY(v) (((v) >> 4) & 3)
#define BEFORE(v) (((v) >> 2) & 3)
#define HINT(v) ((v) & 3)
#define AT(segment, place) disk[((segment) - 1) * PLACES + (place)]

byte disk[3 * PLACES];          // stable
byte base[4], base_by[4];       // of each segment: epoch and who made it
byte linked = 1, name_synced = 1;
bool attached[WRITERS + RESTORERS];   // lives, and has the newest segment open
byte flying[WRITERS + RESTORERS];     // segment << 2 | place of a write on its way
byte what[WRITERS + RESTORERS];       // its bytes
byte lock_holder = 15;          // whoever restores
// The first incarnation's ring, in memory.
byte hint[BATCHES + 1] = 15;
bool written[BATCHES + 1];
byte head;
bool outage;
byte living = WRITERS;
#ifndef LOSSES
#define LOSSES 1
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
byte losses_left = LOSSES;
byte crashes_left = CRASHES;

byte visible[6];                // ghost: which incarnation's state of this epoch was seen
byte top;                       // ghost: the newest epoch ever visible
bool damaged;
hidden byte P_complete, P_one_history, P_no_false_loss, P_write_once, P_durable, P_overwritten;

inline become_visible(epoch, incarnation) {
  CHECK(one_history, visible[epoch] == 0 || visible[epoch] == incarnation);
  visible[epoch] = incarnation;
  top = (epoch > top -> epoch : top)
}

// The write of `i` reaches the disk as a whole.
inline land(i) {
  if
  :: flying[i] != 0 ->
#ifndef NOT_WRITE_ONCE
    CHECK(write_once, AT(flying[i] >> 2, flying[i] & 3) == ZEROS || SAME(AT(flying[i] >> 2, flying[i] & 3), what[i]) || damaged);
#endif
#ifdef KILLED_ONLY
    CHECK(overwritten, !IS_WHOLE(AT(flying[i] >> 2, flying[i] & 3)) || AT(flying[i] >> 2, flying[i] & 3) == what[i]);
#endif
    AT(flying[i] >> 2, flying[i] & 3) = what[i];
    flying[i] = 0; what[i] = 0
  :: else
  fi
}

// Killed: it lands when the disk gets to it, unless the power is gone before. The request holds on
// to the file's description meanwhile, and with it to the lock.
#define DYING(i) \
die: \
  atomic { \
    s = 0; v = 0; r = 0; by = 0; p = 0; hd = 0; attached[i] = false; living--; \
    if :: lock_holder == i -> lock_holder = 15 :: else fi; \
    if :: flying[i] == 0 -> goto gone :: else fi \
  }; \
  atomic { true -> land(i) }

proctype Writer(byte me) {
  byte s, v, hd, r, by, p;
  do
  :: STEP(hd = head);
    if
    :: hd >= BATCHES -> break
    :: else
    fi;
    if
    :: written[hd + 1] ->
      STEP(if
           :: head == hd ->
             head = hd + 1;
#ifndef PLANTED_ACK_BEFORE_SYNC
             CHECK(durable, damaged || IS_WHOLE(AT(1, hd + 1)));
#endif
             become_visible(hd + 1, 1)
           :: else
           fi)
    :: else ->
      // The next one, or the one after it; by its frozen words, the same for both writers.
      if
      :: s = hd + 1
      :: hd + 2 <= BATCHES -> s = hd + 2
      fi;
      STEP(if :: hint[s] == 15 -> hint[s] = hd :: else fi;
           v = BATCH(1, (s > 1 -> 1 : 0), hint[s]));
      STEP(if
           :: !written[s] -> flying[me] = 4 | s; what[me] = v
           :: else
           fi);
#ifdef PLANTED_ACK_BEFORE_SYNC
      STEP(written[s] = true);
      STEP(land(me))
#else
      if
      :: flying[me] != 0 ->
        STEP(land(me));
        STEP(written[s] = true)
      :: else
      fi
#endif
    fi;
    hd = 0; s = 0; v = 0
  od;
  // Done; it closes the segment.
  atomic { attached[me] = false; living--; hd = 0; goto gone };
  DYING(me);
gone:
  skip
}

#if defined(PLANTED_NO_OWNERSHIP_LOCK)
#define HELD (lock_holder != 15)
#elif defined(PLANTED_LOCK_ON_OTHER_FILE)
#define HELD (lock_holder != 15 || attached[0] || attached[1] || attached[2] || attached[3])
#else
#define HELD (lock_holder != 15 || attached[0] || attached[1] || attached[2] || attached[3] || \
              flying[0] != 0 || flying[1] != 0 || flying[2] != 0 || flying[3] != 0)
#endif

// The end of the log: r is the last epoch that counts, by who made it, p where its batch stands.
inline scan(segment) {
  r = base[segment]; by = base_by[segment]; p = 1;
  do
  :: p < PLACES && IS_WHOLE(AT(segment, p)) && BEFORE(AT(segment, p)) == by ->
    r++; by = BY(AT(segment, p));
    CHECK(one_history, visible[r] == 0 || visible[r] == by);
    p++
  :: else -> break
  od;
  hd = 0;  // data loss?
  s = p;
  if
  :: p < PLACES && IS_WHOLE(AT(segment, p)) -> hd = 1  // b: whole, at its place, and does not continue the chain
  :: else
  fi;
#ifndef PLANTED_DAMAGE_TAKEN_AS_TORN
  do
  :: s < PLACES ->
    if
    :: AT(segment, s) == GARBAGE -> hd = 1               // c: no sector of it is unwritten
#ifndef PLANTED_HINTS_IGNORED
#ifdef PLANTED_WHOLE_IS_PROOF
    :: IS_WHOLE(AT(segment, s)) -> hd = 1
#else
    :: IS_WHOLE(AT(segment, s)) && HINT(AT(segment, s)) > r -> hd = 1  // a: what is missing was visible
#endif
#endif
    :: else
    fi;
    s++
  :: else -> break
  od;
#endif
  s = 0
}

proctype Restorer(byte me) {
  byte s, v, hd, r, by, p;
  atomic { !outage && !HELD -> living++; lock_holder = me };
  STEP(v = linked; scan(v);
       if
       :: hd == 1 -> CHECK(no_false_loss, damaged)
       :: else -> CHECK(complete, r >= top)
       fi);
  if
  :: hd == 1 || v == 3 -> STEP(lock_holder = 15; living--); goto gone
  :: else
  fi;
#ifdef PLANTED_APPEND_TO_OLD
  s = p;
#else
  // Segment n+1: written and synced before it has a name.
  STEP(base[v + 1] = r; base_by[v + 1] = by);
#ifdef PLANTED_PUBLISHED_BEFORE_NAME
  STEP(linked = v + 1);
#else
  STEP(linked = v + 1);
  STEP(name_synced = v + 1);
#endif
  v = v + 1; s = 1;
#endif
  // The region is there. Commit one epoch: the state is this incarnation's own.
  STEP(lock_holder = 15; attached[me] = true; r++);
  if
  :: s < PLACES && r < 6 ->
    STEP(flying[me] = v << 2 | s; what[me] = BATCH(me, by, r - 1));
    STEP(land(me));
    STEP(become_visible(r, me))
  :: else
  fi;
  atomic { attached[me] = false; living--; goto gone };
  DYING(me);
  goto gone;
gone:
  atomic { s = 0; v = 0; hd = 0; r = 0; by = 0; p = 0 }
}

// Power loss, and damage to what was acknowledged.
proctype World() {
  byte i, p;
end:
  do
  :: atomic {
       losses_left > 0 ->
       losses_left--;
       outage = true;
       i = 0;
       do
       :: i < WRITERS + RESTORERS ->
         if
         :: flying[i] != 0 ->
           if
           :: land(i)
           :: flying[i] != 0 ->
             if
             :: AT(flying[i] >> 2, flying[i] & 3) == ZEROS -> AT(flying[i] >> 2, flying[i] & 3) = TORN(what[i])
             :: else
             fi
           :: true
           fi;
           flying[i] = 0; what[i] = 0
         :: else
         fi;
         attached[i] = false;
         i++
       :: else -> break
       od;
       i = 0;
       // A file without a durable name is gone, with what is in it.
       if
       :: linked > name_synced ->
         for (p : 1 .. PLACES - 1) { AT(linked, p) = ZEROS }
         p = 0
       :: else
       fi;
       linked = name_synced
     };
     atomic { living == 0 -> outage = false; lock_holder = 15 }
#ifdef DAMAGE
  :: atomic {
       !damaged && head > 0 && linked == 1 ->
       if :: p = 1 :: p = 2 :: p = 3 fi;
       if
       :: p <= head && IS_WHOLE(AT(1, p)) ->
         damaged = true;
         if
         :: AT(1, p) = GARBAGE
         :: p < 3 && IS_WHOLE(AT(1, p + 1)) && HINT(AT(1, p + 1)) >= p -> AT(1, p) = ZEROS
         fi
       :: else
       fi;
       p = 0
     }
#endif
  od
}

init {
  atomic {
    byte i;
    for (i : 0 .. WRITERS - 1) { attached[i] = true; run Writer(i) }
    for (i : WRITERS .. WRITERS + RESTORERS - 1) { run Restorer(i) }
    i = 0;
    run World()
  }
}
