// The batch ring: freezing, writing, helping, two batches in flight, out-of-order completion, poison.
//
// Three writers do whatever is there to do: freeze the next batch (one or two epochs), fix its hint,
// write any batch in flight, let head follow, poison. Meanwhile epochs 2 to EPOCHS are accepted into
// three cells that are used again once head has passed them. The ring has two slots, so batch s+1
// takes the slot of s-1 while s may be in flight. One writer may die at any access; a write that it
// has submitted lands later, or never. One write may fail. What is written is what was copied: no
// digest saves a wrong copy here. Left out: E (it follows from W and the E before, as H does from W);
// reading a slot's words is one access (the code reads twice until nothing has changed).
// Measured, all searches: 27 million states, 40 s; at most 1.1 GB.
//
// search safety -DEPOCHS=4
// search pairs -DPAIRS -DEPOCHS=4
// search poison -DFAILURES=1 -DEPOCHS=3 -DPAIRS
// search stopped -DWITH_STOPS -DFAILURES=1 -DEPOCHS=3 -DPAIRS
// property same_bytes (G9): whatever is written where something stands already is the same
// property durable (G7): head passes no epoch that is not on stable storage
// property in_order (G1): head goes up, and only over batches that follow each other
// property poison_final (G7): nothing of a failed batch, or behind it, becomes visible
// property hint_true (G7): a hint on disk names an epoch that was visible
// property end_states (G8): a dead or stopped writer's batch is finished by another
// progress all_durable -DEPOCHS=3 -DWITH_STOPS (G8): in the end all is durable, or poisoned
//
// planted COPY_NOT_REREAD -> same_bytes: W is not read again between copy and submit
// planted NEUTRAL_FREE_VALUE -> end_states: a done batch's word returns to "free"; a slow freezer hits it
// planted HINT_NOT_FROZEN -> same_bytes: each writer takes head as it sees it for the hint
// planted ACK_BEFORE_SYNC -> durable: Written is set when the write is submitted
// planted HEAD_OUT_OF_ORDER -> durable: head follows any batch that is Written
// planted MARK_NOT_EXACT -DFAILURES=1 -> poison_final: Written is set whatever W says by now
// planted FAILURE_FORGOTTEN -DFAILURES=1 -> poison_final: a write that failed is tried again
// planted NOBODY_HELPS -DWITH_STOPS -> end_states: only who froze a batch writes it
// planted NOBODY_FINISHES -DEPOCHS=3 -DWITH_STOPS -DPLANTED_NOBODY_HELPS -> all_durable: the same
#include "steps.h"

#ifndef EPOCHS
#define EPOCHS 5
#endif
#ifndef WRITERS
#define WRITERS 3
#endif
#define CELLS 3
#define ENDLESS 9

// W: state:2 | last epoch:4.   H: tag:4 | hint:4.   head: poisoned:1 | epoch:4.
#define FROZEN 1
#define WRITTEN 2
#define FAILED 3
#define W(state, last) ((state) << 4 | (last))
#define W_STATE(word) ((word) >> 4)
#define LAST(word) ((word) & 15)
#define H(tag, hint) ((tag) << 4 | (hint))
#define TAG(word) ((word) >> 4)
#define HINT(word) ((word) & 15)
#define POISONED 16
#define DONE (LAST(head) == EPOCHS || head >= POISONED)

// Batches 1 and 2 are done; they hold epochs 0 and 1.
byte w[2] = W(WRITTEN, 1);
byte h[2] = H(2, 0);
byte head = 1;
byte tail = 1;
byte cell[CELLS];         // the epoch whose bytes stand there
byte disk[EPOCHS + 1];    // stable; where epoch e stands: its bytes:4 | hint:4
#ifndef FAILURES
#define FAILURES 0
#endif
byte failures_left = FAILURES;
byte crashes_left = 0;
#ifdef WITH_STOPS
byte stops_left = 1;
#endif

byte failed_from = 15;  // ghost: the first epoch of a batch that failed
hidden byte P_same_bytes, P_durable, P_in_order, P_poison_final, P_hint_true;

#define ON_DISK(e) (e < 2 || LAST(disk[e]) == e)

// A version for each next epoch, in the cell of one that head has passed: as early as can be, which is
// the worst for those who still read that cell.
inline accept() {
  do
  :: tail < EPOCHS && cell[(tail + 1) % CELLS] < LAST(head) -> cell[(tail + 1) % CELLS] = tail + 1; tail++
  :: else -> break
  od
}

inline land(first, count, bytes1, bytes2, hint) {
  CHECK(same_bytes, disk[first] == 0 || disk[first] == (bytes1 | hint << 4));
  CHECK(same_bytes, bytes1 == first);
  disk[first] = bytes1 | hint << 4;
  if
  :: count == 2 ->
    CHECK(same_bytes, disk[first + 1] == 0 || disk[first + 1] == bytes2);
    CHECK(same_bytes, bytes2 == first + 1);
    disk[first + 1] = bytes2
  :: else
  fi
}

// Lets head follow the written batch `word`.
inline follow(word) {
  STEP(CAS(head, hd, LAST(word));
       if
       :: ok ->
         accept();
         CHECK(in_order, LAST(word) > hd);
         CHECK(durable, ON_DISK(LAST(word)) && ON_DISK(LAST(word) - 1) && ON_DISK(LAST(word) - 2));
         CHECK(poison_final, LAST(word) < failed_from)
       :: else
       fi)
#ifdef PLANTED_NEUTRAL_FREE_VALUE
  ;
  if
  :: ok -> STEP(CAS(w[k], word, 0))
  :: else
  fi
#endif
}

// Batch `word` of slot k: copy, look again, submit, mark. `first` is its first epoch.
inline write_batch(word) {
  STEP(bytes1 = cell[first % CELLS]);
  if
  :: LAST(word) > first -> STEP(bytes2 = cell[(first + 1) % CELLS])
  :: else
  fi;
#ifdef PLANTED_HINT_NOT_FROZEN
  STEP(hint = LAST(head));
#endif
#ifdef PLANTED_COPY_NOT_REREAD
  ok = true;
#else
  STEP(ok = (w[k] == word));
#endif
  if
  :: ok ->
#ifdef PLANTED_ACK_BEFORE_SYNC
    STEP(CAS(w[k], word, W(WRITTEN, LAST(word))));
#endif
    in_flight = true;  // with the next access: from here on a death does not take it back
    STEP(land(first, LAST(word) - first + 1, bytes1, bytes2, hint);
         in_flight = false
         :: failures_left > 0 -> failures_left--; in_flight = false; ok = false);
    if
    :: ok ->
#ifdef PLANTED_MARK_NOT_EXACT
      STEP(if
           :: LAST(w[k]) == LAST(word) -> w[k] = W(WRITTEN, LAST(word))
           :: else
           fi)
#else
      STEP(CAS(w[k], word, W(WRITTEN, LAST(word))))
#endif
    :: else ->
#ifdef PLANTED_FAILURE_FORGOTTEN
      if
      :: LAST(w[k]) == LAST(word) && W_STATE(w[k]) == FROZEN && failed_from > first -> failed_from = first
      :: else
      fi
#else
      STEP(CAS(w[k], word, W(FAILED, LAST(word)));
           if
           :: ok && failed_from > first -> failed_from = first
           :: else
           fi)
#endif
    fi
  :: else
  fi;
  in_flight = false; bytes1 = 0; bytes2 = 0; hint = 0; first = 0
}

#define IN_FLIGHT(word) (W_STATE(word) == FROZEN)
#ifdef PLANTED_NOBODY_HELPS
#define MAY_WRITE(word) (mine == (word))
#define KEEP_MINE mine = (ok -> W(FROZEN, t) : mine)
#else
#define MAY_WRITE(word) true
#define KEEP_MINE skip
#endif
#ifdef PLANTED_NEUTRAL_FREE_VALUE
#define REUSABLE(word) ((word) == 0)
#else
#define REUSABLE(word) (W_STATE(word) == WRITTEN && hd >= LAST(word))
#endif

proctype Writer(byte turns) {
  byte n, k;       // slot of the newest batch that has its hint; slot at hand
  byte wn, wo, hn, ho, hd, t, first, hint, bytes1, bytes2, mine;
  bool ok, in_flight, before;
  do
  :: STEP(// all four words as they stood at one moment
         n = (TAG(h[0]) > TAG(h[1]) -> 0 : 1);
         wn = w[n]; wo = w[1 - n]; hn = h[n]; ho = h[1 - n];
         before = (LAST(wo) < LAST(wn)));  // the other slot holds s-1, not s+1 already
    STEP(hd = head; t = tail);  // tail only grows: an older one is as good
    if
    :: turns == 0 || LAST(hd) == EPOCHS || hd >= POISONED -> break
    :: else
    fi;
    if
    // s+1 is frozen and has no hint yet.
    :: !before && ho < hn && wo != 0 ->
      STEP(CAS(h[1 - n], ho, H(TAG(hn) + 1, LAST(hd)));
           CHECK(hint_true, !ok || LAST(hd) <= LAST(head)))
    :: W_STATE(wn) == FAILED || (before && W_STATE(wo) == FAILED) ->
      STEP(CAS(head, hd, POISONED | hd))
    // Written, and head stands right before it.
    :: before && W_STATE(wo) == WRITTEN && LAST(wo) > hd -> k = 1 - n; follow(wo)
#ifdef PLANTED_HEAD_OUT_OF_ORDER
    :: W_STATE(wn) == WRITTEN && LAST(wn) > hd -> k = n; follow(wn)
#else
    :: W_STATE(wn) == WRITTEN && LAST(wn) > hd && (!before || hd >= LAST(wo)) -> k = n; follow(wn)
#endif
    // In flight. If the slot of the batch before was used again, head stands at its end.
    :: before && IN_FLIGHT(wo) && LAST(wo) > hd && MAY_WRITE(wo) ->
      k = 1 - n; first = hd + 1; hint = HINT(ho); write_batch(wo)
    :: IN_FLIGHT(wn) && LAST(wn) > hd && MAY_WRITE(wn) ->
      k = n; first = (before && wo != 0 -> LAST(wo) + 1 : hd + 1); hint = HINT(hn); write_batch(wn)
    // Room for s+1: the slot of s-1, which head has passed.
    :: (before || wo == 0) && REUSABLE(wo) && W_STATE(wn) != FAILED && t > (wn == 0 -> hd : LAST(wn)) ->
      first = (wn == 0 -> hd : LAST(wn)) + 1;
      if
      :: t = first
#ifdef PAIRS
      :: t > first -> t = first + 1
#endif
      fi;
      STEP(CAS(w[1 - n], wo, W(FROZEN, t)); KEEP_MINE);
      first = 0
    // Nothing to be done until somebody else has done something.
    :: else -> STEP(w[1 - n] != wo || w[n] != wn || h[1 - n] != ho || head != hd)
    fi;
    turns = (turns == ENDLESS -> turns : turns - 1);
    ok = false; k = 0; t = 0; wn = 0; wo = 0; hn = 0; ho = 0; hd = 0; n = 0; before = false
  od;
  goto gone;
#ifdef WITH_STOPS
die:
  goto gone;
stop:
  // What it has submitted lands all the same, or never does.
  atomic {
    if
    :: in_flight -> land(first, LAST(w[k]) - first + 1, bytes1, bytes2, hint)
    :: true
    fi
  }
#else
die:
  skip;
#endif
gone:
  atomic {
    turns = 0; n = 0; k = 0; wn = 0; wo = 0; hn = 0; ho = 0; hd = 0; t = 0; first = 0; hint = 0; bytes1 = 0;
    bytes2 = 0; mine = 0; ok = false; in_flight = false; before = false
  }
}

ltl all_durable { <> DONE }

init {
  atomic {
#ifdef PLANTED_NEUTRAL_FREE_VALUE
    w[0] = 0;  // both done, both free
#else
    w[1] = W(WRITTEN, 0);
#endif
    h[1] = H(1, 0);
    cell[1] = 1;
    run Writer(ENDLESS);
    run Writer(ENDLESS);
#if WRITERS == 3
    run Writer(1);
#endif
    accept()
  }
}
