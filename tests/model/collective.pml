// The collective commit: offers, assembling, answers, withdrawal, deaths, deadlines, what one is told.
//
// Three voters contribute. Each offers its part for the round that gather names, looks who is in, and
// when all have offered assembles and proposes, whoever comes first; each answers where it waits, drives,
// and leaves when it was told. A holder guards the proposal until it has read the outcome; a cell that
// no guard and not tail names may be anybody's next draft. Any deadline may pass at any moment: then it
// looks once more, and gives up or names whom it waits for. Two steps are never one, so a stop fits
// between any two; one that lasts for ever is a search of its own. Variants:
//   DEADLINE   slot 1 has one, slots 0 and 1 if slot 2 may stop for ever (WITH_STOPS)
//   LATE       slot 2 joins while the others are at it, and may vote before it contributes
//   SUCCESSOR  slot 2 has a next owner, who joins when the first one is gone
//   TWICE      slot 0 contributes again, in the next round, whatever it was told
//   TAGS       slot 1 brings another tag
//   EXPEL      stragglers are expelled at the deadline; or slot 2 is, from outside (POLICY)
// Not here: fences and journals (drain, ring), reaping by steps (slots), bytes (a part is a number), the
// patience that leaves proposing to the lowest slot. Two accesses are one where only a slot's owner
// could come between: its contribution and its offer; a scan's words of one slot.
// Measured, all searches: 98 million states, 2 minutes; at most 4.2 GB.
// Nothing fails if an offer carries no generation: each contributor looks for its own part.
//
// search death -DCRASHES=2
// search deadline -DDEADLINE -DCRASHES=0
// search stopped -DWITH_STOPS
// search late -DLATE -DDEADLINE -DCRASHES=0
// search late_death -DLATE
// search successor -DSUCCESSOR
// search twice -DTWICE
// search twice_deadline -DTWICE -DDEADLINE -DCRASHES=0
// search tags -DTAGS
// search expel -DEXPEL -DDEADLINE -DCRASHES=0
// search policy -DEXPEL -DPOLICY -DCRASHES=0
// property all_or_nothing (G5): nobody who is told that it failed has its part in what was decided
// property told (G5): whoever is told that it succeeded has its part in what was decided
// property whole (G5): what is decided has a part of everybody that any of its contributors saw
// property own_outcome (G5): the outcome read is that of the proposal answered
// property one_tag (G5): what is decided is of one tag
// property culprit (G5): who is blamed for a death is gone, for a silence had not answered in time,
//   for a withdrawal ended this very round
// property end_states (G8): everybody that lives is told, whoever died or stopped; nobody waits for ever
//
// planted TOLD_BY_ROUND -> all_or_nothing: an acceptor takes the round's end for its own answer
// planted ACCEPT_UNSEEN -DLATE -DCRASHES=0 -> told: a contributor accepts without looking for its own part
// planted DEAD_LEFT_OUT -> whole: a contributor that died is passed over
// planted NO_GUARD -DTWICE -> own_outcome: the cell is recycled before the outcome is read
// planted TAG_UNREAD -DTAGS -> one_tag: an offer counts whatever its tag
// planted DEATHS_UNSEEN -> end_states: contributors are waited for, not looked after
// planted BLAMED_BY_OLD_LOOK -DDEADLINE -DCRASHES=0 -> culprit: who is named was looked at before the deadline
// planted BLAMED_FOR_ANOTHER -DLATE -DCRASHES=0 -> culprit: the culprit of whatever round ended last
#include "steps.h"
#ifdef WITH_STOPS
// Any one may stop, so slot 2's: all do the same.
#undef STEP
#define STEP(...) atomic { if :: __VA_ARGS__ :: stops_left > 0 && me == 2 -> stops_left--; goto stop fi }
#elif defined(SUCCESSOR)
// The one that dies is the one that has a successor.
#undef STEP
#define STEP(...) atomic { if :: __VA_ARGS__ :: crashes_left > 0 && me == 2 -> crashes_left--; goto die fi }
#endif

#define N 3
#define NOBODY 3
#define CELLS 3
#if defined(WITH_STOPS)
#define HAS_DEADLINE (me != 2)
#elif defined(DEADLINE)
#define HAS_DEADLINE (me == 1)
#else
#define HAS_DEADLINE false
#endif
#ifndef CRASHES
#define CRASHES 1
#endif

// gather: round, and how the one before ended.
#define GATHER(round, cause, culprit) ((round) << 5 | (cause) << 2 | (culprit))
#define ROUND(word) ((word) >> 5)
#define CAUSE(word) (((word) >> 2) & 7)
#define CULPRIT(word) ((word) & 3)
#define COMMITTING 0
#define DIED 1
#define SILENCE 2
#define TAG 3
#define WITHDRAWN 4
#define REJECTED 5
// outcome: ballot:3 | decision:2 | cause:3 | culprit:2, which fits a short.
#define OUTCOME(ballot, decision) ((ballot) << 7 | (decision) << 5)
#define ABORTED_BY(cause, culprit) (2 << 5 | (cause) << 2 | (culprit))
#define DECISION(word) (((word) >> 5) & 3)
#define BALLOT(word) ((word) >> 7)
#define COMMITTED 1
#define ABORTED 2
#define VOTE(generation, ballot, verdict) ((generation) << 6 | (ballot) << 2 | (verdict))
#define ACCEPT 1
#define REJECT 2
#define PART(generation, content) ((generation) << 2 | (content))
#define OFFER(generation, round) ((generation) << 2 | (round))
// tail: epoch, whether it is up for decision, the cell.
#define TAIL(epoch, voting, cell) ((epoch) << 3 | (voting) << 2 | (cell))
#define VOTING(word) (((word) >> 2) & 1)
#define CELL(word) ((word) & 3)
#define EPOCH(word) ((word) >> 3)

byte gather = GATHER(1, 0, NOBODY);
byte tail;
byte state[N];
bool locked[N];
byte offer[N];
byte content[N];        // what the slot gives, one number
bool other_tag[N];
byte vote[N];
byte guard[N] = NOBODY;
// A proposal's header and payload.
short outcome[CELLS];
byte round_of[CELLS];
byte proposer_of[CELLS];
byte previous_of[CELLS];
byte part[CELLS * N];
byte ballots;
#ifdef WITH_STOPS
byte crashes_left = 0;
byte stops_left = 1;
#else
byte crashes_left = CRASHES;
#endif

// Ghosts.
byte decided[N];        // the slot's last part that was decided Committed
byte failed[N];         // the last part whose owner was told that it failed
byte seen_by[N];        // whom the slot had seen when it agreed
hidden byte P_all_or_nothing, P_told, P_whole, P_own_outcome, P_one_tag, P_culprit;

#define SEEN(mask, j) (((mask) >> (2 * (j))) & 3)
#define WITH_SEEN(mask, j, generation) (((mask) & ~(3 << (2 * (j)))) | (generation) << (2 * (j)))
#define IS_THERE(j, generation) (state[j] == SLOT(ACTIVE, generation) && locked[j])
#define P(c, j) part[(c) * N + (j)]
#define BY(p) ((p) >> 2)
#define HAS_SEEN(c, i, j) (P(c, i) == 0 || SEEN(seen_by[i], j) == 0 || SEEN(seen_by[i], j) == BY(P(c, j)))
#define WHOLE(c, i) (HAS_SEEN(c, i, 0) && HAS_SEEN(c, i, 1) && HAS_SEEN(c, i, 2))
#define NOT_FAILED(c, j) (P(c, j) == 0 || failed[j] != P(c, j))
#define ONE_TAG(c) (P(c, 0) == 0 || P(c, 1) == 0 || other_tag[0] == other_tag[1])

#define TAKEN(c) (CELL(tail) == c || \
                  (guard[0] == c && locked[0]) || (guard[1] == c && locked[1]) || (guard[2] == c && locked[2]))

// Takes from a dead owner what it held (slots.pml has the steps).
#define REAP(j) \
  if \
  :: STATE_OF(state[j]) != FREE && !locked[j] -> \
    state[j] = SLOT(FREE, GENERATION_OF(state[j])); offer[j] = 0; guard[j] = NOBODY \
  :: else \
  fi

// One CAS, from whatever gather holds of this round.
#define END_ROUND(round, cause, culprit) \
  if :: ROUND(gather) == (round) -> gather = GATHER((round) + 1, cause, culprit) :: else fi

// Who has yet to offer, or to answer, as the deadline passes: only those may be named.
#define NO_OFFER(j) (offer[j] != OFFER(GENERATION_OF(state[j]), r))
#define NO_ANSWER(j) ((vote[j] >> 2) != (VOTE(GENERATION_OF(state[j]), BALLOT(outcome[c]), 0) >> 2))
#define OWED(what) (what(0) | what(1) << 1 | what(2) << 2)

// Drives the proposal in c, which this process guards: one look at all that is needed, and what
// follows from it. Leaves in m whom it waits for.
#ifdef EXPEL
#define KNOWN(j) false
#else
#define KNOWN(j) (j == me && answered == BALLOT(o))  // its own answer stands already
#endif
inline drive() {
  m = NOBODY; x = 0;
  STEP(o = outcome[c]);
  if
  :: DECISION(o) == 0 ->
    STEP(g = gather);
    if
    :: ROUND(g) != round_of[c] ->
#ifdef PLANTED_BLAMED_FOR_ANOTHER
      x = ABORTED_BY(WITHDRAWN, CULPRIT(g));
#else
      // Of another round than this one, or of a round that was committed, nobody is to blame.
      x = ABORTED_BY(WITHDRAWN, (ROUND(g) == round_of[c] + 1 && CAUSE(g) != COMMITTING -> CULPRIT(g) : NOBODY));
#endif
      wrong = (CULPRIT(x) != NOBODY && (ROUND(g) != round_of[c] + 1 || CAUSE(g) == COMMITTING))
    :: else
    fi;
    g = 0; j = 0;
    do
    :: j == N || x != 0 || m != NOBODY -> break
    :: j < N && x == 0 && m == NOBODY && (KNOWN(j) || j == proposer_of[c]) -> j++
    :: else ->
#ifdef EXPEL
      STEP(s = state[j]);
      STEP(v = vote[j];
#else
      STEP(s = state[j]; v = vote[j];
#endif
           if
           :: P(c, j) == 0 && STATE_OF(s) != ACTIVE && STATE_OF(s) != EXPELLED -> v = 0; j++
           :: else ->
             if
             :: v == VOTE((P(c, j) -> BY(P(c, j)) : GENERATION_OF(s)), BALLOT(o), ACCEPT) -> v = 0; j++
             :: v == VOTE((P(c, j) -> BY(P(c, j)) : GENERATION_OF(s)), BALLOT(o), REJECT) -> x = ABORTED_BY(REJECTED, j)
             :: else ->
               if
               :: P(c, j) == 0 && STATE_OF(s) == EXPELLED -> v = 0; j++
               :: else -> m = j
               fi
             fi
           fi);
      if
      :: m != NOBODY ->
#ifndef PLANTED_DEATHS_UNSEEN
        STEP(if
             :: locked[m] && STATE_OF(s) == ACTIVE && (P(c, m) == 0 || BY(P(c, m)) == GENERATION_OF(s))
             :: else ->
               if
               :: P(c, m) != 0 ->
                 x = ABORTED_BY(DIED, m);
                 CHECK(culprit, !IS_THERE(m, BY(P(c, m))))
               :: else -> REAP(m)
               fi;
               m = NOBODY
             fi)
#else
        skip
#endif
      :: else
      fi;
      if
      :: m == NOBODY -> s = 0; v = 0
      :: else
      fi
    od;
    j = 0;
    if
    :: x == 0 && m != NOBODY && late -> x = ABORTED_BY(SILENCE, m)
    :: else
    fi;
    if
    :: x != 0 ->
      STEP(if
           :: outcome[c] == o ->
             outcome[c] = o | x;
             CHECK(culprit, !wrong && (CAUSE(x) != SILENCE || ((owed >> CULPRIT(x)) & 1)))
           :: else
           fi;
           o = outcome[c]);
      m = NOBODY; wrong = false
    :: x == 0 && m == NOBODY ->
      STEP(if
           :: outcome[c] == o ->
             outcome[c] = OUTCOME(BALLOT(o), COMMITTED);
             CHECK(whole, WHOLE(c, 0) && WHOLE(c, 1) && WHOLE(c, 2));
             CHECK(all_or_nothing, NOT_FAILED(c, 0) && NOT_FAILED(c, 1) && NOT_FAILED(c, 2));
             CHECK(one_tag, ONE_TAG(c));
             if :: P(c, 0) -> decided[0] = P(c, 0) :: else fi;
             if :: P(c, 1) -> decided[1] = P(c, 1) :: else fi;
             if :: P(c, 2) -> decided[2] = P(c, 2) :: else fi
           :: else
           fi;
           o = outcome[c])
    :: else
    fi;
    x = 0
  :: else
  fi;
  // What follows from a decision; anyone repeats it.
  if
  :: DECISION(o) != 0 ->
    s = 0; v = 0;
    STEP(END_ROUND(round_of[c], (DECISION(o) == COMMITTED -> COMMITTING : CAUSE(o)), CULPRIT(o)));
    STEP(if
         :: VOTING(tail) && CELL(tail) == c ->
           tail = (DECISION(o) == COMMITTED -> TAIL(EPOCH(tail) + 1, 0, c) : TAIL(EPOCH(tail), 0, previous_of[c]))
         :: else
         fi)
  :: else
  fi
}

// Drives until it is decided, then reads what became of it.
inline await_outcome() {
  do
  :: drive();
    if
    :: DECISION(o) != 0 -> break
    :: else ->
      if
      :: m != NOBODY ->
        STEP(outcome[c] != o || ROUND(gather) != round_of[c] || vote[m] != v || state[m] != s || !locked[m]
#ifdef PLANTED_DEATHS_UNSEEN
             && false
#endif
             :: HAS_DEADLINE -> late = true; owed = OWED(NO_ANSWER)
            );
#ifdef PLANTED_BLAMED_BY_OLD_LOOK
        if
        :: late ->
          STEP(if
               :: outcome[c] == o ->
                 outcome[c] = o | ABORTED_BY(SILENCE, m);
                 CHECK(culprit, (owed >> m) & 1)
               :: else
               fi)
        :: else
        fi;
#endif
        s = 0; v = 0; m = NOBODY
      :: else
      fi
    fi
  od;
  late = false; owed = 0; m = NOBODY;
  STEP(CHECK(own_outcome, BALLOT(outcome[c]) == b); o = DECISION(outcome[c]); guard[me] = NOBODY)
}

#ifdef PLANTED_DEATHS_UNSEEN
#define UNSEEN_DEATHS true
#else
#define UNSEEN_DEATHS false
#endif
#ifdef PLANTED_DEAD_LEFT_OUT
#define LEAVES_OUT true
#else
#define LEAVES_OUT false
#endif
#ifdef PLANTED_TAG_UNREAD
#define SAME_TAG(j) true
#else
#define SAME_TAG(j) (other_tag[j] == other_tag[me])
#endif
#ifdef EXPEL
// Expelled, and lives.
#define KEPT(j) (PASSED_OVER(j) -> 0 : SEEN(seen, j) << (2 * (j)))
#define PASSED_OVER(j) (state[j] == SLOT(EXPELLED, SEEN(seen, j)) && locked[j])
#else
#define PASSED_OVER(j) false
#endif

// Who is in, and has offered. ok: all of them. Ends the round if it cannot succeed any more.
inline scan() {
  j = 0; in = 1 << me; m = NOBODY; ok = true;
  do
  :: j == N -> break
  :: j == me -> j++
  :: else ->
    // A slot's state, its lock, its offer and tag: only its owner changes them in a way that matters.
    STEP(s = state[j];
         if
         :: STATE_OF(s) == ACTIVE && (SEEN(seen, j) == 0 || SEEN(seen, j) == GENERATION_OF(s)) ->
           if
           :: locked[j] || UNSEEN_DEATHS ->
             seen = WITH_SEEN(seen, j, GENERATION_OF(s));
             if
             :: offer[j] != OFFER(GENERATION_OF(s), r) -> ok = false; m = (m == NOBODY -> j : m)
             :: offer[j] == OFFER(GENERATION_OF(s), r) && (SAME_TAG(j)) -> in = in | 1 << j
             :: else -> ok = false; x = TAG
             fi
           :: else -> REAP(j); ok = ok && LEAVES_OUT; x = (LEAVES_OUT -> 0 : DIED)
           fi
         :: else ->
           if
           :: SEEN(seen, j) != 0 && !PASSED_OVER(j) -> ok = ok && LEAVES_OUT; x = (LEAVES_OUT -> 0 : DIED)
           :: SEEN(seen, j) != 0 && PASSED_OVER(j) -> seen = WITH_SEEN(seen, j, 0)
           :: else
           fi
         fi);
    if
    :: x != 0 ->
      STEP(CHECK(culprit, x == TAG || !IS_THERE(j, (SEEN(seen, j) -> SEEN(seen, j) : GENERATION_OF(s))));
           END_ROUND(r, x, j));
      m = NOBODY; x = 0; s = 0; break
    :: else
    fi;
    s = 0; j++
  od;
  j = 0;
}

// A copy of what j offers for this round; the offer is looked at before and after.
inline copy(j, to) {
  if
  :: ok && ((in >> j) & 1) ->
    if
    :: j == me -> to = PART(generation, turn)
    :: else ->
#ifdef TWICE
      STEP(ok = (offer[j] == OFFER(SEEN(seen, j), r)));
      if
      :: ok ->
        STEP(to = PART(SEEN(seen, j), content[j]));
        STEP(ok = (offer[j] == OFFER(SEEN(seen, j), r)))
      :: else
      fi
#else
      STEP(ok = (offer[j] == OFFER(SEEN(seen, j), r)); to = PART(SEEN(seen, j), content[j]))
#endif
    fi
  :: else
  fi
}

#define SEES_NEWS(j) (j != me && SEEN(seen, j) != 0 && (state[j] != SLOT(ACTIVE, SEEN(seen, j)) || !locked[j]))
#define HAS_OFFERED(j) (j == me || STATE_OF(state[j]) != ACTIVE || !NO_OFFER(j))
#define ALL_IN (HAS_OFFERED(0) && HAS_OFFERED(1) && HAS_OFFERED(2))
#ifdef PLANTED_DEATHS_UNSEEN
#define NEWS (ROUND(gather) != r || ASKED || ALL_IN)
#else
#define NEWS (ROUND(gather) != r || ASKED || ALL_IN || SEES_NEWS(0) || SEES_NEWS(1) || SEES_NEWS(2))
#endif
#define ASKED (VOTING(tail) && BALLOT(outcome[CELL(tail)]) != answered)

// The proposal that tail names, guarded: c. Or none: NOBODY.
inline hold() {
  STEP(g = tail);
  do
  :: !VOTING(g) || BALLOT(outcome[CELL(g)]) == answered -> c = NOBODY; break
  :: else ->
    c = CELL(g);
#ifdef PLANTED_NO_GUARD
    STEP(g = tail);
    break
#else
    STEP(guard[me] = c);
    STEP(x = (tail == g); g = tail);
    if
    :: x -> break
    :: else
    fi
#endif
  od;
  g = 0; x = 0
}

// What is wrong with a proposal of this round: its payload stands still under the guard.
#define MINE(c) (P(c, me) == PART(generation, turn))
#define CARRIES(c, j) (SEEN(seen, j) == 0 || SEEN(seen, j) == BY(P(c, j)))
#ifdef EXPEL
#define MISSES(c, j) ((!CARRIES(c, j)) && (state[j] != SLOT(EXPELLED, SEEN(seen, j)) || !locked[j]))
#else
#define MISSES(c, j) (!CARRIES(c, j))
#endif
#if defined(PLANTED_ACCEPT_UNSEEN)
#define SOUND(c) (! MISSES(c, 0) && ! MISSES(c, 1) && ! MISSES(c, 2))
#elif defined(PLANTED_DEAD_LEFT_OUT)
#define SOUND(c) MINE(c)
#else
#define SOUND(c) (MINE(c) && ! MISSES(c, 0) && ! MISSES(c, 1) && ! MISSES(c, 2))
#endif

inline cast(accepts) {
#ifdef EXPEL
  STEP(x = (state[me] == SLOT(ACTIVE, generation)));
#else
  x = 1;
#endif
  if
  :: x ->
    STEP(vote[me] = VOTE(generation, b, (accepts -> ACCEPT : REJECT));
         if :: accepts -> seen_by[me] = seen :: else fi);
    if
    :: !accepts -> STEP(if :: outcome[c] == OUTCOME(b, 0) -> outcome[c] = outcome[c] | ABORTED_BY(REJECTED, me) :: else fi)
    :: else
    fi
  :: else
  fi;
  x = 0
}

#ifdef TWICE
#define LEAVE ; if :: me != 0 || turn == 2 -> state[me] = SLOT(FREE, generation); locked[me] = false :: else fi
#else
#define LEAVE ; state[me] = SLOT(FREE, generation); locked[me] = false
#endif
inline commit_collectively() {
  // Offer: contribution and tag, then the offer itself.
  STEP(r = ROUND(gather));
  STEP(content[me] = turn; offer[me] = OFFER(generation, r));
  told = 0;
  do
  :: told != 0 -> break
  :: else ->
    hold();
    if
    :: c != NOBODY ->
      b = BALLOT(outcome[c]); late = false; owed = 0;
      if
      :: round_of[c] != r ->
        // None of its business, but in its way.
        drive();
        if
        :: DECISION(o) == 0 && m != NOBODY -> STEP(outcome[c] != o || vote[m] != v || state[m] != s || !locked[m] || ROUND(gather) != round_of[c])
        :: else
        fi;
        s = 0; v = 0; m = NOBODY; o = 0;
        STEP(guard[me] = NOBODY)
      :: else ->
#ifdef EXPEL
        STEP(ok = SOUND(c); seen = KEPT(0) | KEPT(1) | KEPT(2));
        STEP(ok = ok && state[me] == SLOT(ACTIVE, generation));
#else
        ok = SOUND(c);
#endif
        answered = b;
        cast(ok);
#ifdef PLANTED_TOLD_BY_ROUND
        STEP(if :: ROUND(gather) != r && CAUSE(gather) != COMMITTING -> told = ABORTED :: else fi);
        if
        :: told == 0 ->
#endif
        await_outcome();
        told = (o == COMMITTED && ok -> COMMITTED : ABORTED);
        o = 0
#ifdef PLANTED_TOLD_BY_ROUND
        :: else
        fi
#endif
      fi;
      b = 0; c = NOBODY; ok = false
    :: else ->
#ifdef EXPEL
      STEP(if :: state[me] != SLOT(ACTIVE, generation) -> told = ABORTED :: else fi);
#endif
      STEP(if :: ROUND(gather) != r -> told = ABORTED :: else fi);
      if
      :: told == 0 ->
        scan();
        if
        :: ok ->
          late = false; owed = 0;
          copy(0, d0); copy(1, d1); copy(2, d2);
          in = 0;
          if
          :: ok ->
            STEP(if :: ROUND(gather) != r -> told = ABORTED :: else fi);
            if
            :: told == 0 ->
              // The tail CAS; its own draft is guarded before.
              STEP(if
#ifdef EXPEL
                   :: state[me] != SLOT(ACTIVE, generation) -> told = ABORTED
#endif
                   :: !VOTING(tail) && !TAKEN(0) -> c = 0
                   :: !VOTING(tail) && TAKEN(0) && !TAKEN(1) -> c = 1
                   :: !VOTING(tail) && TAKEN(0) && TAKEN(1) && !TAKEN(2) -> c = 2
                   :: !VOTING(tail) && TAKEN(0) && TAKEN(1) && TAKEN(2) -> told = ABORTED  // no cell
                   :: VOTING(tail)  // cancelled: look again
                   fi;
                   if
                   :: c != NOBODY ->
                     ballots++; b = ballots;
                     outcome[c] = OUTCOME(b, 0); round_of[c] = r; proposer_of[c] = me; previous_of[c] = CELL(tail);
                     P(c, 0) = d0; P(c, 1) = d1; P(c, 2) = d2;
                     guard[me] = c; seen_by[me] = seen;
                     tail = TAIL(EPOCH(tail), 1, c)
                   :: else
                   fi);
              d0 = 0; d1 = 0; d2 = 0;
              if
              :: c != NOBODY ->
                await_outcome();
                told = o; o = 0;
                b = 0; c = NOBODY
              :: else
              fi
            :: else
            fi
          :: else
          fi;
          d0 = 0; d1 = 0; d2 = 0
        :: else ->
          in = 0;
          if
          :: late && m != NOBODY ->
#ifdef EXPEL
            STEP(x = (offer[m] == OFFER(GENERATION_OF(state[m]), r)));
            if
            :: x == 0 -> STEP(CAS(state[m], SLOT(ACTIVE, SEEN(seen, m)), SLOT(EXPELLED, SEEN(seen, m))));
              seen = WITH_SEEN(seen, m, 0)
            :: else
            fi;
            x = 0
#else
            STEP(if
                 :: ROUND(gather) == r ->
                   CHECK(culprit, (owed >> m) & 1);
                   gather = GATHER(r + 1, SILENCE, m)
                 :: else
                 fi)
#endif
            ;
            late = false; owed = 0
          :: late && m == NOBODY ->
            STEP(END_ROUND(r, SILENCE, NOBODY));
            late = false; owed = 0
          :: else ->
            STEP(NEWS
                 :: HAS_DEADLINE -> late = true; owed = OWED(NO_OFFER)
                );
#ifdef PLANTED_BLAMED_BY_OLD_LOOK
            if
            :: late && m != NOBODY ->
              STEP(if
                   :: ROUND(gather) == r ->
                     CHECK(culprit, (owed >> m) & 1);
                     gather = GATHER(r + 1, SILENCE, m)
                   :: else
                   fi);
              late = false; owed = 0
            :: else
            fi
#endif
          fi
        fi;
        m = NOBODY; ok = false
      :: else
      fi
    fi
  od;
  if
  :: told == COMMITTED ->
    CHECK(told, decided[me] == PART(generation, turn))
  :: else ->
    // The round ends before the offer does; who was expelled is not waited for.
    STEP(failed[me] = PART(generation, turn);
         CHECK(all_or_nothing, decided[me] != PART(generation, turn));
#ifdef EXPEL
         if
         :: state[me] == SLOT(ACTIVE, generation) -> END_ROUND(r, WITHDRAWN, me)
         :: else
         fi
#else
         END_ROUND(r, WITHDRAWN, me)
#endif
        )
  fi;
  STEP(offer[me] = 0 LEAVE);
  r = 0; seen = 0; told = 0; answered = 0
}

proctype Contributor(byte me; byte generation) {
  byte r, c = NOBODY, b, g, j, m = NOBODY, s, v, in, seen, owed, told, answered, d0, d1, d2, turn;
  short o, x;
  bool ok, late, wrong;
#if defined(SUCCESSOR) || defined(LATE)
  if
  :: generation == 2 ->
    // Takes the slot from the last owner, who may be dead, or had none.
end:
    atomic {
      !locked[me] ->
      REAP(me);
      locked[me] = true;
      state[me] = SLOT(ACTIVE, generation)
    };
#ifdef LATE
    // As any voter it may answer what it finds, before it contributes itself.
    if
    :: true
    :: hold();
      if
      :: c != NOBODY ->
        b = BALLOT(outcome[c]); answered = b;
        STEP(if :: ROUND(gather) == round_of[c] -> ok = true :: else -> ok = false fi);
        cast(ok);
        STEP(guard[me] = NOBODY);
        b = 0; c = NOBODY; ok = false
      :: else
      fi
    fi;
#endif
    skip
  :: else
  fi;
#endif
  turn = (generation == 2 -> 3 : 1);
  commit_collectively();
#ifdef TWICE
  if
  :: me == 0 -> turn = 2; commit_collectively()
  :: else
  fi;
#endif
  goto gone;
die:
  locked[me] = false;
#ifdef WITH_STOPS
  goto gone;
stop:
  skip;
#endif
gone:
  atomic {
    r = 0; c = NOBODY; b = 0; g = 0; j = 0; m = NOBODY; s = 0; v = 0; in = 0; seen = 0; owed = 0; told = 0;
    answered = 0; d0 = 0; d1 = 0; d2 = 0; turn = 0; o = 0; x = 0; ok = false; late = false; wrong = false
  }
}

#ifdef POLICY
// Somebody's policy, at any moment. Any one will do.
proctype Policy() {
end:
  atomic { state[2] == SLOT(ACTIVE, 1) -> state[2] = SLOT(EXPELLED, 1) }
}
#endif

init {
  atomic {
    byte i;
    for (i : 0 .. N - 1) {
#ifdef LATE
      if
      :: i < 2 ->
#endif
      state[i] = SLOT(ACTIVE, 1); locked[i] = true;
      run Contributor(i, 1)
#ifdef LATE
      :: else
      fi
#endif
    }
    i = 0;
#if defined(SUCCESSOR) || defined(LATE)
    run Contributor(2, 2);
#endif
#ifdef TAGS
    other_tag[1] = true;
#endif
#ifdef POLICY
    run Policy()
#endif
  }
}
