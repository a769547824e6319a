// Checkpoints: stagings, shards, the manifest that makes them one, prune, clean-up, readers; power loss.
//
// Two ranks, each with a successor: who has died, or was taken over while it lived, has one. Each
// meets, uses the attempt's folder, writes its shard, makes it ready, contributes; then the next step.
// A tool prunes (keep 1) and cleans up, step by step, and again if it was killed. A reader opens the
// latest one. Meetings and manifests are collective commits, so one access each (collective.pml); what
// was accepted is on disk later, by whoever is there, or is lost with the power. A power loss kills all,
// and of names and data that were not synced each is there afterwards, or is not.
//
// Measured, all searches: 16 million states, 20 s; at most 1.7 GB.
//
// search crash
// search all_killed -DALL_KILLED -DCRASHES=3 -DSTEPS=1
// search power -DPOWER -DCRASHES=0
// search taken_over -DTAKE_OVER -DCRASHES=0
// search damage -DDAMAGE -DCRASHES=0
// property whole: each manifest on disk that was not pruned has its folder and all shards, as contributed
// property durable: what any rank was told of is on disk, whatever is lost
// property told_stays: it is not cleaned up; it is pruned only behind a newer good one
// property staging_kept: a folder that a living rank uses is not removed
// property let_in: nobody is let into a folder that a clean-up has marked: its name is never used again
// property reader_kept: nor one that a reader has opened
// property shown: what was shown as the latest is not cleaned up (unless a cleaner dies at its mark)
// property only_good: prune marks a good checkpoint only if a newer good one stays
// property end_states (G8): nobody waits for the dead, but for a successor when it meets
//
// planted READY_UNSYNCED -DPOWER -DCRASHES=0 -> whole: a shard is contributed before its data is synced
// planted SHARD_NAME_UNSYNCED -DPOWER -DCRASHES=0 -> whole: before its name is
// planted FOLDER_NAME_UNSYNCED -DPOWER -DCRASHES=0 -> whole: the names above it are never synced
// planted TOLD_BEFORE_DURABLE -DPOWER -DCRASHES=0 -> durable: told as soon as it is accepted
// planted MARK_UNSYNCED -DPOWER -DCRASHES=0 -> whole: files are removed under a mark that may be lost
// planted FILES_BEFORE_MARK -> whole: files go first
// planted SESSION_INHERITED -DTAKE_OVER -DCRASHES=0 -> whole: a successor goes on in the old attempt
// planted NO_USE_LOCK -> staging_kept: ranks do not lock what they use
// planted MARK_UNREAD -> let_in: a rank that came late does not look for the mark
// planted STALE_LIST -DPLANTED_NO_SECOND_LOOK -> told_stays: the manifests are not read again under the lock
// planted NO_SECOND_LOOK -DALL_KILLED -DCRASHES=2 -DSTEPS=1 -> shown: nor, only that, after the mark
// planted CLEANER_DIES -DALL_KILLED -DCRASHES=3 -DSTEPS=1 -> shown: it dies between the mark and that look, which is so in the code
// planted OPEN_UNLOCKED -> reader_kept: a reader does not lock what it reads
// planted UNVERIFIED_PRUNE -DDAMAGE -DCRASHES=0 -> only_good: prune counts what it did not verify
// planted DEATH_UNSEEN -> end_states: a commit waits for a contributor that died
#include "steps.h"
#undef STEP
#define STEP(...) \
  atomic { if :: !outage -> __VA_ARGS__ :: outage -> goto die :: crashes_left > 0 -> crashes_left--; goto die fi }
// The same for what has to be waited for. Each choice begins with ON.
#define ON !outage &&
#define WAIT(...) \
  atomic { if :: __VA_ARGS__ :: outage -> goto die :: crashes_left > 0 -> crashes_left--; goto die fi }

#define ATTEMPTS 3
#ifndef STEPS
#define STEPS 2
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#define READER 4
#define NOBODY 0

byte crashes_left = CRASHES;
#ifdef POWER
byte losses_left = 1;
#endif
bool outage;
byte living;

// The region.
byte life[2] = 1;              // of each rank, the process that counts
bool dead[2];                  // that one is
bool meets[2];
byte gives[2];                 // the attempt that it contributes a manifest's part to
byte met;                      // the newest agreement
byte attempt[2];               // what a rank was told to use
// The disk, by attempt. 0: not there; 1: there, not synced; 2: synced.
byte folder[ATTEMPTS + 1];
byte rank_folder[2 * (ATTEMPTS + 1)];
byte shard[2 * (ATTEMPTS + 1)];  // 0; 1 written; 2 data synced; 3 name synced, too
byte writer[2 * (ATTEMPTS + 1)]; // ghost: which life wrote it last
byte mark[ATTEMPTS + 1];
byte manifest[ATTEMPTS + 1];     // 1: accepted in the region; 2: in the journal
byte named[2 * (ATTEMPTS + 1)];  // the lives whose shards it names
// Locks.
byte users[ATTEMPTS + 1];        // shared: ranks, by bit; a reader
bool removing[ATTEMPTS + 1];     // alone
// Ghosts.
byte uses[ATTEMPTS + 1];         // who lives and was let in
bool told[ATTEMPTS + 1], shown[ATTEMPTS + 1], opened[ATTEMPTS + 1], damaged[ATTEMPTS + 1], cut_short;
bool on_purpose[ATTEMPTS + 1];
hidden byte P_whole, P_durable, P_told_stays, P_staging_kept, P_let_in, P_reader_kept, P_shown, P_only_good;

#define OF(a, k) (2 * (a) + (k))
#define HAS(a, k) (rank_folder[OF(a, k)] && shard[OF(a, k)] && writer[OF(a, k)] == named[OF(a, k)])
#define GOOD(a) (manifest[a] == 2 && !mark[a] && folder[a] && HAS(a, 0) && HAS(a, 1) && !damaged[a])
#define SOUND(a) (manifest[a] != 2 || mark[a] || damaged[a] || GOOD(a))
#define ALL_SOUND (SOUND(1) && SOUND(2) && SOUND(3))
#define TOLD_SAFE(a) (!told[a] || manifest[a] == 2)

// What was accepted is written, by anyone, at any time.
inline flush(a) {
  manifest[a] = 2;
  CHECK(whole, SOUND(a))
}

inline enter() {
  uses[a] = uses[a] | who;
  CHECK(let_in, mark[a] == 0)
}

proctype Rank(byte k; byte mine) {
  byte a, steps;
  bool ok, session;
  byte who = 1 << (mine - 1 + 2 * k);
end:
  atomic { !outage && (life[k] == mine) -> living++ };
#ifdef PLANTED_SESSION_INHERITED
  if
  :: mine == 2 && met > 0 && manifest[met] == 0 -> atomic { attempt[k] = met; session = true }
  :: else
  fi;
#endif
  do
  :: steps == STEPS -> break
  :: else ->
    // An attempt's number: that of the last commit, or of a meeting.
    if
    :: session
    :: else ->
      STEP(if :: life[k] == mine -> meets[k] = true :: else -> goto die fi);
      // Waits for the other, or its successor, as long as it takes.
end_meet:
      WAIT(ON (attempt[k] != 0 || life[k] != mine)
           :: ON meets[0] && meets[1] && met < ATTEMPTS && life[k] == mine ->
             met++; attempt[0] = met; attempt[1] = met; meets[0] = false; meets[1] = false
           :: ON meets[0] && meets[1] && met == ATTEMPTS -> goto die)  // enough for this model
    fi;
    STEP(if :: life[k] == mine -> a = attempt[k] :: else -> goto die fi);
    session = false;
    // Use: a name with a lock, or the lock alone; then no mark.
    WAIT(ON folder[a] == 0 -> folder[a] = 1; users[a] = users[a] | who
         :: ON folder[a] != 0 && !removing[a] -> users[a] = users[a] | who);
#ifdef PLANTED_NO_USE_LOCK
    STEP(users[a] = users[a] & ~who; ok = !mark[a]; if :: ok -> uses[a] = uses[a] | who :: else fi);
#elif defined(PLANTED_MARK_UNREAD)
    STEP(ok = true; enter());
#else
    STEP(ok = !mark[a]; if :: ok -> enter() :: else fi);
#endif
    if
    :: ok ->
      STEP(rank_folder[OF(a, k)] = (rank_folder[OF(a, k)] == 0 -> 1 : rank_folder[OF(a, k)]));
#ifndef PLANTED_FOLDER_NAME_UNSYNCED
      STEP(rank_folder[OF(a, k)] = 2);
      STEP(folder[a] = 2);
#endif
      STEP(shard[OF(a, k)] = 1; writer[OF(a, k)] = mine; CHECK(whole, SOUND(a)));
#ifndef PLANTED_READY_UNSYNCED
      STEP(shard[OF(a, k)] = 2);
#endif
#ifndef PLANTED_SHARD_NAME_UNSYNCED
      STEP(shard[OF(a, k)] = (shard[OF(a, k)] == 2 -> 3 : 1));
#endif
      STEP(if
           :: life[k] == mine -> gives[k] = a; ok = true
           :: else -> ok = false
           fi);
      if
      :: ok ->
        // Anyone assembles. Aborted when the other is gone, or asks for something else.
        WAIT(ON manifest[a] != 0
             :: ON manifest[a] == 0 && gives[0] == a && gives[1] == a ->
               manifest[a] = 1; named[OF(a, 0)] = life[0]; named[OF(a, 1)] = life[1];
               met = (met < ATTEMPTS -> met + 1 : met)
             :: ON manifest[a] == 0 && life[k] != mine -> ok = false
#ifndef PLANTED_DEATH_UNSEEN
             :: ON manifest[a] == 0 && (dead[1 - k] || meets[1 - k]) -> gives[k] = 0; ok = false
#endif
            );
        if
        :: ok ->
#ifdef PLANTED_TOLD_BEFORE_DURABLE
          STEP(told[a] = true);
#else
          STEP(if :: manifest[a] == 1 -> flush(a) :: else fi; told[a] = true);
#endif
          CHECK(durable, outage || TOLD_SAFE(a));
          CHECK(told_stays, !mark[a] || users[a] == 0 || GOOD(3) || GOOD(2))
        :: else
        fi
      :: else
      fi
    :: else
    fi;
    // The step is let go of.
    STEP(users[a] = users[a] & ~who; uses[a] = uses[a] & ~who;
         if
         :: life[k] == mine ->
           gives[k] = 0;
           session = (ok && met > a);
           attempt[k] = (session -> met : 0)
         :: else
         fi);
    a = 0; ok = false; steps++
  od;
  atomic { living--; if :: life[k] == mine -> dead[k] = true :: else fi; goto gone };
die:
  atomic {
    living--;
    users[a] = users[a] & ~who; uses[a] = uses[a] & ~who;
    if
    :: life[k] == mine -> meets[k] = false; gives[k] = 0; attempt[k] = 0; dead[k] = true
    :: else
    fi
  };
gone:
  atomic { a = 0; steps = 0; ok = false; session = false; who = 0 }
}

#ifdef PLANTED_CLEANER_DIES
#define CUT_SHORT false
#else
#define CUT_SHORT cut_short
#endif

// Marks, then removes what is in a. `cleaning`: only if no manifest names it.
inline remove_folder(cleaning) {
  STEP(if :: users[a] == 0 && !removing[a] -> removing[a] = true; locked = true :: else fi);
  if
  :: locked ->
#ifndef PLANTED_STALE_LIST
    STEP(if :: cleaning && manifest[a] == 2 && !pruned -> locked = false; removing[a] = false :: else fi);
#endif
    if
    :: locked ->
#ifdef PLANTED_FILES_BEFORE_MARK
      remove_files(cleaning);
#endif
      marking = true;
      STEP(CHECK(only_good, cleaning || !GOOD(a) || vouched);
           on_purpose[a] = (on_purpose[a] || !cleaning);
           if :: mark[a] == 0 -> mark[a] = 1 :: else fi);
#ifndef PLANTED_MARK_UNSYNCED
      STEP(mark[a] = 2);
#endif
#ifndef PLANTED_NO_SECOND_LOOK
      STEP(if :: cleaning && manifest[a] == 2 && !pruned -> mark[a] = 0; locked = false; removing[a] = false :: else fi);
#endif
      marking = false;
      if
      :: locked ->
#ifndef PLANTED_FILES_BEFORE_MARK
        remove_files(cleaning);
#endif
        STEP(removing[a] = false; locked = false)
      :: else
      fi
    :: else
    fi
  :: else
  fi
}
inline remove_files(cleaning) {
  STEP(CHECK(staging_kept, uses[a] == 0);
       CHECK(reader_kept, !opened[a]);
       CHECK(told_stays, !(cleaning && told[a]) || on_purpose[a]);
       CHECK(shown, !(cleaning && shown[a]) || on_purpose[a] || CUT_SHORT);
       shard[OF(a, 0)] = 0; rank_folder[OF(a, 0)] = 0; CHECK(whole, SOUND(a)));
  STEP(shard[OF(a, 1)] = 0; rank_folder[OF(a, 1)] = 0);
  STEP(folder[a] = 0)
}

proctype Tool() {
  byte a, kept, runs;
  bool locked, pruned, marking;
  bool vouched;  // ghost: what is kept was good when it was counted
again:
  atomic { !outage -> living++ };
  // Prune: newest first; one good one stays, older ones go.
  a = ATTEMPTS;
  do
  :: a == 0 -> break
  :: else ->
    STEP(if
         :: manifest[a] == 2 && !mark[a] ->
#ifdef PLANTED_UNVERIFIED_PRUNE
           if :: kept == 0 -> kept = a; vouched = GOOD(a) :: else -> pruned = true fi
#else
           if :: kept == 0 && GOOD(a) -> kept = a; vouched = true :: kept == 0 && !GOOD(a) :: else -> pruned = true fi
#endif
         :: else
         fi);
    if
    :: pruned -> pruned = false; remove_folder(false)
    :: else
    fi;
    a--
  od;
  kept = 0; vouched = false;
  // Clean up: list the folders, then look for their manifests.
  a = 1;
  do
  :: a > ATTEMPTS -> break
  :: else ->
    STEP(if
         :: folder[a] == 0 -> locked = false
         :: folder[a] != 0 && mark[a] != 0 -> pruned = true; locked = true
         :: else -> locked = (manifest[a] != 2)
         fi);
    if
    :: locked -> locked = false; remove_folder(true)
    :: else
    fi;
    pruned = false; locked = false; a++
  od;
  atomic { living--; a = 0; goto gone };
die:
  atomic {
    living--;
    if :: locked -> removing[a] = false :: else fi;
    cut_short = cut_short || marking;
    a = 0; kept = 0; vouched = false; locked = false; pruned = false; marking = false; runs++
  };
  if
  :: runs < 2 -> goto again
  :: else
  fi;
gone:
  runs = 0
}

proctype Reader() {
  byte a;
  bool ok;
  atomic { !outage -> living++ };
  do
  :: STEP(a = (manifest[3] == 2 && !mark[3] -> 3 : (manifest[2] == 2 && !mark[2] -> 2 : (manifest[1] == 2 && !mark[1] -> 1 : 0)));
          shown[a] = (a != 0));
    if
    :: a == 0 -> break
    :: else
    fi;
#ifndef PLANTED_OPEN_UNLOCKED
    WAIT(ON !removing[a] -> users[a] = users[a] | 1 << READER; ok = true
         :: ON removing[a] && mark[a] != 0);
#else
    ok = true;
#endif
    if
    :: ok -> STEP(ok = !mark[a])
    :: else
    fi;
    if
    :: ok ->
      // Each shard, by its digest.
      STEP(ok = HAS(a, 0));
      STEP(ok = ok && HAS(a, 1); CHECK(whole, ok || damaged[a]); opened[a] = ok);
      STEP(opened[a] = false; users[a] = users[a] & ~(1 << READER));
      break
    :: else -> STEP(users[a] = users[a] & ~(1 << READER))
    fi;
    a = 0
  od;
  goto out;
die:
  skip;
out:
  atomic { opened[a] = false; users[a] = users[a] & ~(1 << READER); living--; a = 0; ok = false }
}

#if defined(ALL_KILLED)
#define TAKES_OVER(k) false
#elif defined(TAKE_OVER)
#define TAKES_OVER(k) (dead[k] || (k) == 1)
#else
#define TAKES_OVER(k) dead[k]
#endif

// Deaths are noticed, others start in the place of the dead; what was accepted gets to the disk.
proctype World() {
  byte a, k;
end:
  do
  :: atomic { !outage && life[0] == 1 && TAKES_OVER(0) -> life[0] = 2; dead[0] = false; meets[0] = false; gives[0] = 0; attempt[0] = 0 }
  :: atomic { !outage && life[1] == 1 && TAKES_OVER(1) -> life[1] = 2; dead[1] = false; meets[1] = false; gives[1] = 0; attempt[1] = 0 }
  :: atomic { !outage && manifest[1] == 1 -> flush(1) }
  :: atomic { !outage && manifest[2] == 1 -> flush(2) }
  :: atomic { !outage && manifest[3] == 1 -> flush(3) }
#ifdef DAMAGE
  :: atomic { !damaged[1] && !damaged[2] && !damaged[3] && manifest[1] == 2 -> damaged[1] = true }
  :: atomic { !damaged[1] && !damaged[2] && !damaged[3] && manifest[2] == 2 -> damaged[2] = true }
#endif
#ifdef POWER
  :: atomic {
       losses_left > 0 ->
       losses_left--;
       outage = true;
       a = 1;
       do
       :: a > ATTEMPTS -> break
       :: else ->
         // Written, or on its way, or not yet.
         if
         :: manifest[a] == 1 -> if :: manifest[a] = 0 :: manifest[a] = 2 fi
         :: else
         fi;
         if :: mark[a] == 1 -> mark[a] = 0 :: true fi;
         if :: folder[a] == 1 -> folder[a] = 0 :: true fi;
         k = 0;
         do
         :: k == 2 -> break
         :: else ->
           if :: rank_folder[OF(a, k)] == 1 || folder[a] == 0 -> rank_folder[OF(a, k)] = 0 :: folder[a] != 0 fi;
           if
           :: (shard[OF(a, k)] != 3 && shard[OF(a, k)] != 0) || rank_folder[OF(a, k)] == 0 -> shard[OF(a, k)] = 0
           :: rank_folder[OF(a, k)] != 0
           fi;
           k++
         od;
         CHECK(whole, SOUND(a));
         CHECK(durable, TOLD_SAFE(a));
         a++
       od;
       a = 0; k = 0
     };
     atomic {
       living == 0 ->
       outage = false; met = (met < ATTEMPTS -> met : ATTEMPTS);
       removing[1] = false; removing[2] = false; removing[3] = false
     }
#endif
  od
}

init {
  atomic {
    run Rank(0, 1);
    run Rank(1, 1);
#ifndef ALL_KILLED
    run Rank(0, 2);
    run Rank(1, 2);
#endif
    run Tool();
#if !defined(POWER) && !defined(TAKE_OVER)
    run Reader();
#endif
    run World()
  }
}
