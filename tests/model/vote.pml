// The vote: propose, answer, decide, abort and finish, with recycled proposals. Volatile, unfenced.
//
// Three participants, all of them voters. One proposes (twice: after an abort the next ballot has the
// same cell, epoch and words) and accepts its own. Two answer as they like, with the digest that they
// computed or with another one, and drive what they find; one of them may propose, too. Deadlines may
// have passed whenever somebody looks, with either policy; TIMELESS: there are none. CRASHES: one dies
// at any access. Joiners, leavers and generations: see electorate.pml.
//
// search ballots -DPROPOSALS=2
// search crash -DCRASHES=1
// search timeless -DCRASHES=1 -DTIMELESS
#ifndef N
#define N 3
#endif
#define VOTES
#include "model.h"
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef PROPOSALS
#define PROPOSALS 1
#endif
byte crashes_left = CRASHES;
#define PROPOSERS 1
#ifndef ANSWERS
#define ANSWERS 1
#endif
// Ghosts: by slot, the ballot that was accepted with the right digest; that was rejected while Active.
byte accepted[N], rejected[N];
byte over;  // proposers that are done, or dead
#if N > 2
#define ALL(what) (what(0) && what(1) && what(2))
#else
#define ALL(what) (what(0) && what(1))
#endif
#define IN_FAVOUR(i) ((SLOT_STATE(slot[i]) != ACTIVE || accepted[i] == b) && rejected[i] != b)
#define CHECK_DECISION CHECK(bilateral, ALL(IN_FAVOUR))
#define FENCE_HOLDS true
#define VOTE_ON_OWN \
  STEP(digest[me] = true); \
  STEP(vote[me] = VOTE(1, my_ballot, ACCEPT); accepted[me] = my_ballot)
#include "vote.h"

inline propose_some(turns) {
  do
  :: turns > 0 ->
    need_cell();
    if
    :: mine != NONE -> propose()
    :: else
    fi;
    turns--
  :: else -> break
  od
}

// Finds a proposal, looks at it under a guard, accepts or rejects it: once.
inline answer() {
#ifdef TIMELESS
  // Who lives answers: without a deadline all wait for it.
  STEP(if
       :: PHASE(tail) == VOTING && ballot_of[CELL(tail)] != answered -> f = tail
       :: over == PROPOSERS && PHASE(tail) != VOTING -> f = tail
       fi);
#else
  STEP(f = tail);
#endif
  if
  :: PHASE(f) == VOTING ->
    p = CELL(f);
    STEP(help[me] = p);
    STEP(ok = (tail == f));
    if
    :: ok ->
      STEP(b = ballot_of[p]);
      if
      :: answered == b -> verdict = 0
      :: answered != b -> verdict = ACCEPT; hit = true
      :: answered != b -> verdict = ACCEPT; hit = false
      :: answered != b -> verdict = REJECT
      fi;
      answered = b;
      if
      :: verdict == ACCEPT ->
#ifndef PLANTED_DIGEST_AFTER_VOTE
        STEP(digest[me] = hit);
#endif
        STEP(vote[me] = VOTE(1, b, ACCEPT);
             if
             :: hit -> accepted[me] = b
             :: !hit && SLOT_STATE(slot[me]) == ACTIVE -> rejected[me] = b
             :: else
             fi);
#ifdef PLANTED_DIGEST_AFTER_VOTE
        STEP(digest[me] = hit);
#endif
        hit = false
      :: verdict == REJECT ->
        STEP(vote[me] = VOTE(1, b, REJECT);
             if
             :: SLOT_STATE(slot[me]) == ACTIVE -> rejected[me] = b
             :: else
             fi)
      :: else
      fi;
      verdict = 0
    :: else
    fi;
    STEP(help[me] = NONE)
  :: else
  fi;
  f = 0; p = 0; b = 0; ok = false; hit = false
}

proctype Proposer(byte me; byte turns) {
  LOCALS;
  propose_some(turns);
dead:
  over++;
  finished++
}

proctype Voter(byte me; byte answers; byte turns) {
  LOCALS;
  byte answered;
  do
  :: answers > 0 ->
    answer();
    look();
    answers--
  :: else -> break
  od;
  answered = 0;
#ifdef BOTH_PROPOSE
  propose_some(turns);
#endif
dead:
  finished++
}

// After all the others.
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
    run Proposer(0, PROPOSALS);
    run Voter(1, ANSWERS, PROPOSALS);
#if N > 2
    run Voter(2, ANSWERS, 0);
#endif
    run Newcomer(1)
  }
}
