// Proposals: propose, vote, fence, decide, abort, expel, and recycling their cells, access by access.
// For fence.pml, which says who does what. Volatile; every participant
// that finds a proposal may drive it. Its deadline may pass at any moment: `late` is a free choice.
//
// Cells are two: the version that head names, and one for proposals. So every proposal is in the
// cell of the one before, with the same epoch when that was aborted: tail and head then take the
// same words again, and only guards tell an old helper from a new one.

#ifndef CELLS
#define CELLS 2
#endif

byte tail = STATE(ACCEPTED, 0, 1);
byte head = STATE(OPEN, 0, 1);
byte owner[CELLS];
byte epoch_of[CELLS], ballot_of[CELLS], previous_of[CELLS];  // header
byte outcome[CELLS];
byte slot[N];   // state, generation
byte vote[N];   // generation, ballot, verdict
byte pin[N];
byte own[N], help[N];
bool alive[N];

// state:2 | generation:2.
#define SLOT(state, generation) ((state) << 2 | (generation))
#define SLOT_STATE(word) ((word) >> 2)
#define GENERATION(word) ((word) & 3)
#define JOINING 1
#define ACTIVE 2
#define EXPELLED 3

// ballot:4 | verdict:2.
#define OUTCOME(ballot, verdict) ((ballot) << 2 | (verdict))
#define UNDECIDED 0
#define COMMITTED 1
#define ABORTED 2

// generation:2 | ballot:4 | verdict:2. What a decider accepts for a vote of this slot.
#define VOTE(generation, ballot, verdict) ((generation) << 6 | (ballot) << 2 | (verdict))
#define ACCEPT 1
#define REJECT 2
#if defined(PLANTED_VOTE_WITHOUT_GENERATION)
#define VOTED(word, generation, ballot, verdict) (((word) & 63) == VOTE(0, ballot, verdict))
#elif defined(PLANTED_VOTE_WITHOUT_BALLOT)
#define VOTED(word, generation, ballot, verdict) (((word) & 195) == VOTE(generation, 0, verdict))
#else
#define VOTED(word, generation, ballot, verdict) ((word) == VOTE(generation, ballot, verdict))
#endif

// Ghosts: what the outside world knows.
byte ballots = 1;
byte visible_ballot[5];  // by epoch
byte finished;
hidden byte P_order, P_agreement, P_bilateral, P_fence, P_own_outcome, P_never_freed, P_no_leak;

#define GUARDED_BY(i, cell) (own[i] == (cell) || help[i] == (cell))
#define PINNED_BY(i, epoch) (pin[i] == (epoch))

// Three looks at three slots, each an access of its own. `hit`: somebody does.
inline look_for_guard() {
  hit = false;
  STEP(hit = GUARDED_BY(0, c));
  if :: !hit -> STEP(hit = GUARDED_BY(1, c)) :: else fi;
  if :: !hit -> STEP(hit = GUARDED_BY(2, c)) :: else fi
}

// A superseded version: by head, pins, guards. An aborted proposal: tail, guards, head, guards.
inline reclaim() {
  STEP(h = EPOCH(head));
  do
  :: c < CELLS ->
    STEP(o = owner[c];
         if
         :: CELL_STATE(o) == PUBLISHED && epoch_of[c] < h
         :: CELL_STATE(o) == RETIRED
         :: else -> o = 0
         fi);
    hit = false;
    if
    :: CELL_STATE(o) == PUBLISHED ->
      STEP(hit = PINNED_BY(0, epoch_of[c]));
      if :: !hit -> STEP(hit = PINNED_BY(1, epoch_of[c])) :: else fi;
      if :: !hit -> STEP(hit = PINNED_BY(2, epoch_of[c])) :: else fi;
      if :: !hit -> look_for_guard() :: else fi
    :: CELL_STATE(o) == RETIRED ->
      STEP(hit = (CELL(tail) == c));
#ifndef PLANTED_HEAD_THEN_GUARDS
      if :: !hit -> look_for_guard() :: else fi;
#endif
      if :: !hit -> STEP(hit = (CELL(head) == c)) :: else fi;
#ifndef PLANTED_GUARDS_THEN_HEAD
      if :: !hit -> look_for_guard() :: else fi
#endif
    :: else
    fi;
    if
    :: o != 0 && !hit ->
      STEP(CAS(owner[c], o, FREED(o));
           CHECK(never_freed, !ok || (c != CELL(tail) && c != CELL(head)));
           ok = false)
    :: else
    fi;
    o = 0; hit = false; c++
  :: else -> break
  od;
  c = 0; h = 0
}

// Frees the draft in cell c of the dead slot j, unless it is proposed: then it must be driven first.
inline free_draft() {
  STEP(hit = (CELL(tail) == c));
  if :: !hit -> look_for_guard() :: else fi;
  if :: !hit -> STEP(hit = (CELL(head) == c)) :: else fi;
  if :: !hit -> look_for_guard() :: else fi;
  if
  :: !hit ->
    STEP(CAS(owner[c], o, FREED(o));
         CHECK(never_freed, !ok || (c != CELL(tail) && c != CELL(head)));
         ok = false)
  :: else
  fi;
  hit = false
}

// Takes from the dead: their guards first, since a guard of the dead protects nobody, and would keep
// their own drafts, and each other's. Then drafts, then pins. (Slots taken again: slots.pml.)
inline reap() {
  do
  :: j < N ->
    STEP(hit = (!alive[j] && SLOT_STATE(slot[j]) != FREE));
    if
    :: hit ->
      STEP(slot[j] = SLOT(EXPELLED, GENERATION(slot[j])));
#ifndef PLANTED_GUARDS_CLEARED_LAST
      STEP(own[j] = NONE);
      STEP(help[j] = NONE);
#endif
      c = 0;
      do
      :: c < CELLS ->
        STEP(o = owner[c]);
        if
        :: CELL_STATE(o) == DRAFTED && DRAFTER(o) == j -> free_draft()
        :: else
        fi;
        o = 0; c++
      :: else -> break
      od;
      c = 0;
      STEP(pin[j] = NONE)
    :: else
    fi;
    hit = false; j++
  :: else -> break
  od;
  j = 0
}

// Marks j Expelled, from the exact word. The caller then looks at j again.
inline expel(word) {
  STEP(CAS(slot[j], word, SLOT(EXPELLED, GENERATION(word))); ok = false)
}

// Step 1: who has to vote is who is Active now that Voting is visible. State first, then vote: the
// vote of a slot's previous owner is never taken for the new one's.
inline count_votes() {
  do
  :: j < N ->
    STEP(s = slot[j]);
    if
    :: SLOT_STATE(s) == ACTIVE ->
      STEP(w = vote[j]);
      if
      :: VOTED(w, GENERATION(s), b, ACCEPT) -> j++
      :: !VOTED(w, GENERATION(s), b, ACCEPT) && VOTED(w, GENERATION(s), b, REJECT) -> verdict = ABORTED; break
      :: else ->
        STEP(if
             :: slot[j] != s || vote[j] != w -> hit = false
             :: !alive[j] -> hit = true
             :: true -> // late; by policy the straggler is expelled, or the proposal is aborted
               if
               :: true -> hit = true
               :: verdict = ABORTED
               fi
             fi);
        if
        :: verdict == ABORTED -> break
        :: verdict != ABORTED && hit ->
          expel(s);
          hit = false;
#ifdef PLANTED_STRAGGLER_NOT_REREAD
          j++
#else
          // It may have answered just before it was marked: a reject counts.
          STEP(w = vote[j]);
          if
          :: VOTED(w, GENERATION(s), b, REJECT) -> verdict = ABORTED; break
          :: else
          fi
#endif
        :: else
        fi
      fi;
      w = 0
    :: SLOT_STATE(s) == EXPELLED ->
      // Another decider may have marked it, and not have looked again yet.
#ifndef PLANTED_EXPELLED_NOT_ASKED
      STEP(w = vote[j]);
      if
      :: VOTED(w, GENERATION(s), b, REJECT) -> verdict = ABORTED; break
      :: else
      fi;
#endif
      w = 0; j++
    :: else -> j++
    fi
  :: else -> break
  od;
  j = 0; s = 0; w = 0; hit = false
}

// Step 3: nobody may be pinned. Whoever announces a pin from now on finds head Closed.
inline drain() {
  do
  :: j < N ->
    STEP(s = slot[j]);
    if
    :: SLOT_STATE(s) == ACTIVE ->
      STEP(hit = (pin[j] != NONE));
      if
      :: hit ->
        // Waits for the pin to go. Blocks if it must: an abort at the deadline takes the outcome.
        STEP(if
             :: pin[j] == NONE || slot[j] != s -> hit = false
             :: pin[j] != NONE && !alive[j] -> hit = true
             :: pin[j] != NONE && outcome[p] == OUTCOME(b, UNDECIDED) -> // late
               if
               :: true -> hit = true
               :: verdict = ABORTED
               fi
             fi);
        if
        :: verdict == ABORTED -> break
        :: verdict != ABORTED && hit -> expel(s)
        :: else
        fi;
        hit = false
      :: else -> j++
      fi
    :: else -> j++
    fi
  :: else -> break
  od;
  j = 0; s = 0; hit = false
}

#define DECIDE \
  STEP(CAS(outcome[p], x, OUTCOME(b, verdict)); \
       if :: ok && verdict == COMMITTED -> CHECK_DECISION :: else fi)
#define RETIRE STEP(o = owner[p]; if :: CELL_STATE(o) == DRAFTED -> owner[p] = WITH_STATE(o, RETIRED) :: else fi; o = 0)
#define SHOWN \
  if \
  :: ok -> \
    CHECK(order, EPOCH(head) == e); \
    CHECK(agreement, outcome[p] == OUTCOME(b, COMMITTED) && ballot_of[p] == b && visible_ballot[e] == 0); \
    visible_ballot[e] = b; \
    CHECK(fence, FENCE_HOLDS) \
  :: else \
  fi

// Sets x to the outcome, or leaves it Undecided when head has to be looked at again.
inline decide() {
  verdict = COMMITTED;
#ifdef FENCE
#ifdef PLANTED_DECIDED_BEFORE_DRAINED
  STEP(CAS(outcome[p], x, OUTCOME(b, verdict)); ok = false);
#endif
  if
  :: verdict == COMMITTED ->
    STEP(h = head);
    if
    :: h == STATE(OPEN, v, e - 1) ->
      STEP(CAS(head, h, STATE(CLOSED, p, e - 1)); h = STATE(CLOSED, p, e - 1))
    :: else -> ok = (h == STATE(CLOSED, p, e - 1))
    fi;
    h = 0;
#ifndef PLANTED_NO_DRAIN
    if
    :: ok -> drain()
    :: else
    fi
#endif
  :: else -> ok = true
  fi;
  if
  :: ok -> DECIDE
  :: else
  fi;
#else
  DECIDE;
#endif
  ok = false; verdict = 0;
  STEP(x = outcome[p])
}

// Steps 4 to 6: makes visible what was decided.
inline finish() {
  if
  :: x == OUTCOME(b, COMMITTED) ->
#ifdef DURABLE
    // Step 5: the record, or the certainty that nobody writes it until the deadline.
    STEP(if
         :: written -> ok = true
         :: !written -> ok = false
         fi);
    if
    :: !ok ->
      STEP(CAS(head, STATE(CLOSED, p, e - 1), STATE(GAVE_UP, v, e - 1)))
    :: else ->
#endif
#ifdef FENCE
    STEP(CAS(head, STATE(CLOSED, p, e - 1), STATE(OPEN, p, e)); SHOWN);
#else
    STEP(CAS(head, STATE(OPEN, v, e - 1), STATE(OPEN, p, e)); SHOWN);
#endif
#ifdef DURABLE
    STEP(ok = (PHASE(head) != POISONED));
    if
    :: ok ->
#endif
    // Guarded, so the cell is the proposal's still.
    STEP(o = owner[p]; if :: CELL_STATE(o) == DRAFTED -> owner[p] = WITH_STATE(o, PUBLISHED) :: else fi; o = 0);
    STEP(CAS(tail, STATE(VOTING, p, e), STATE(ACCEPTED, p, e)))
#ifdef DURABLE
    :: else
    fi
    fi
#endif
  :: x == OUTCOME(b, ABORTED) ->
#ifdef FENCE
    STEP(CAS(head, STATE(CLOSED, p, e - 1), STATE(OPEN, v, e - 1)));
#endif
    STEP(CAS(tail, STATE(VOTING, p, e), STATE(ACCEPTED, v, e - 1)));
    if
    :: ok -> RETIRE
    :: else
    fi
  :: else
  fi;
  ok = false
}

// p, and what its header says, which stays as it is while the cell is guarded.
inline drive_it() {
  STEP(b = ballot_of[p]; e = epoch_of[p]; v = previous_of[p]);
  STEP(x = outcome[p]);
  if
  :: x == OUTCOME(b, UNDECIDED) -> decide()
  :: else
  fi;
  finish();
  b = 0; e = 0; v = 0; x = 0
}

// Drives the proposal that `f`, a word of head (Closed) or of tail (Voting), names.
inline help_it(word) {
  p = CELL(f);
#ifdef PLANTED_NO_HELP_GUARD
  ok = true;
#else
  STEP(help[me] = p);
  STEP(ok = (word == f));
#endif
  f = 0;
  if
  :: ok -> ok = false; drive_it()
  :: else
  fi;
  p = 0;
  STEP(help[me] = NONE)
}

// One look at head, then at tail, as every wait and poll does.
inline look() {
  STEP(f = head);
  if
  :: PHASE(f) == CLOSED -> help_it(head)
  :: else ->
    STEP(f = tail);
    if
    :: PHASE(f) == VOTING -> help_it(tail)
    :: else -> f = 0
    fi
  fi
}

inline take_cell() {
  STEP(if
       :: CELL_STATE(owner[0]) == FREE -> mine = 0
       :: CELL_STATE(owner[0]) != FREE && CELL_STATE(owner[1]) == FREE -> mine = 1
       :: else
       fi;
       if
       :: mine != NONE ->
         owner[mine] = OWNER(DRAFTED, me, USE(owner[mine]));
         drafted = owner[mine]
       :: else
       fi)
}

// When everything is at rest: helps, reaps, reclaims. Then every cell is free but head's.
inline take_stock() {
  look();
  look();
  reap();
  reclaim();
  CHECK(order, PHASE(head) == OPEN || PHASE(head) == POISONED);
  CHECK(no_leak, CELL_STATE(owner[0]) == FREE || CELL(head) == 0 || PHASE(head) == POISONED);
  CHECK(no_leak, CELL_STATE(owner[1]) == FREE || CELL(head) == 1 || PHASE(head) == POISONED)
}

// Takes a cell in one way or another; none, and mine is NONE: ResourceExhausted.
inline need_cell() {
  take_cell();
  if
  :: mine == NONE -> look(); reap(); reclaim(); take_cell()
  :: else
  fi
}

// With a cell in `mine`. `verdict` is what the proposer learned; 0 if it was never proposed.
inline propose() {
  f = ballots;
  STEP(ballots++; ballot_of[mine] = f; outcome[mine] = OUTCOME(f, UNDECIDED));  // its own cell still
  my_ballot = f;
  f = 0;
#ifndef PLANTED_NO_OWN_GUARD
  STEP(own[me] = mine);
#endif
  do
  :: look();
    STEP(f = tail);
    if
    :: PHASE(f) == ACCEPTED ->
      STEP(hit = (PHASE(head) == POISONED));
      if
      :: hit -> hit = false; break
      :: else
      fi;
      STEP(epoch_of[mine] = EPOCH(f) + 1; previous_of[mine] = CELL(f);
           CAS(tail, f, STATE(VOTING, mine, EPOCH(f) + 1)));
      if
      :: ok -> ok = false; f = 0; break
      :: else
      fi
    :: else
    fi;
    f = 0
  od;
  f = 0;
  do
  :: STEP(x = outcome[mine];
          if
          :: x == OUTCOME(my_ballot, UNDECIDED) -> x = 0
          :: else
          fi;
          CHECK(own_outcome, x == 0 || (x >> 2) == my_ballot));
    if
    :: x != 0 -> break
    :: else -> x = 0
    fi;
    VOTE_ON_OWN;
    p = mine;
    drive_it();
    p = 0;
    STEP(hit = (PHASE(head) == POISONED || PHASE(head) == CLOSED));
    if
    :: hit -> hit = false; look()
    :: else
    fi
  od;
  // Known. What is left is done by whoever finds it, this one included.
  verdict = x & 3;
  p = mine; b = my_ballot;
  STEP(e = epoch_of[mine]; v = previous_of[mine]);
  finish();
#ifndef PLANTED_NOT_RETIRED_BY_PROPOSER
  if
  :: verdict == ABORTED -> RETIRE
  :: else
  fi;
#endif
  STEP(own[me] = NONE);
  p = 0; b = 0; e = 0; v = 0; x = 0; verdict = 0; my_ballot = 0; mine = NONE; drafted = 0
}

#define LOCALS byte f, p, b, e, v, x, j, s, w, h, c, o, verdict, mine = NONE, drafted, my_ballot; bool ok, hit
