// A listener: a thread that acknowledges and answers beside its participant's own thread.
//
// Two threads of one participant share its slot: the owner pins, polls, looks at the descriptor, stops
// the listener, leaves; the listener looks, acknowledges, tells the descriptor, and sleeps on the bell.
// A publisher moves head and rings. One ballot is up from the start; the listener answers it, or puts it off, and the owner does. When
// the slot is free its next owner joins, and acknowledges. Nobody's sleep ends by itself here, so a
// wake-up that is lost is a wait for ever; in the code it costs a slice.
//
// Measured: 0.6 million states, 1 s.
//
// search safety
// property ack_seen (G6): acknowledged is at most what both threads have come to: no pin of an older epoch
//   is taken, or held, afterwards
// property never_back (G6): an acknowledgment is not taken back
// property after_leave (G9): nothing is written to the slot once it was left
// property one_answer (G5): a ballot gets one answer from the slot
// property end_states (G8): the listener ends when it is told to; whoever waits for the descriptor, and
//   looks after draining it, finds out about every change
//
// planted PIN_BEFORE_HEAD -> ack_seen: the listener looks for a pin, then reads head
// planted ACK_STORED -> never_back: it stores, rather than compares
// planted LEAVE_UNSTOPPED -> after_leave: the owner leaves while the listener runs
// planted STOP_WITHOUT_RING -> end_states: it is told to stop, not woken
// planted ARMED_LAST -> end_states: it looks, then says that it is about to sleep
// planted RING_BEFORE_CHANGE -> end_states: the publisher rings, then moves head
// planted LOOKED_BEFORE_DRAIN -> end_states: the owner looks at head, then drains
// planted REMEMBERS_LATER -> end_states: the listener remembers a later head than it told of
// planted TWO_ANSWERS -> one_answer: the owner does not leave it to the listener
#include "steps.h"
#undef STEP
// Threads of one process die together; what a death leaves is the slots' business.
#define STEP(...) atomic { __VA_ARGS__ }

#define LAST 3
#define NOT_PINNED 0
#define ASLEEP(word) ((word) & 1)

byte head = 1;
byte bell;                    // bit 0: somebody sleeps or is about to; above it, a count
byte pin = NOT_PINNED;
bool pinned;                  // announced; what it is of is known when head was read again
byte ack = 1;
byte generation = 1;
byte descriptor;
bool stop, listening = true;
bool mutex, answered, later;
// Ghosts.
byte answers;
byte looked = 1;              // the owner's last look at head after a drain
hidden byte P_ack_seen, P_never_back, P_after_leave, P_one_answer;

// To ring is to read the bell, then to CAS it clear: all that sleep find another word.
inline ring() {
  STEP(w = bell);
  do
  :: !ASLEEP(w) -> break
  :: else ->
    STEP(if
         :: bell == w -> bell = (w & 254) + 2; w = 0
         :: else -> w = bell
         fi)
  od;
  w = 0
}

inline acknowledge(epoch, by) {
  STEP(found = ack);
  do
  :: found >= epoch -> break
  :: else ->
    STEP(CHECK(after_leave, generation == by);
#ifdef PLANTED_ACK_STORED
         CHECK(never_back, ack <= epoch);
         ack = epoch; found = epoch;
#else
         if
         :: ack == found ->
           CHECK(never_back, ack <= epoch);
           // Whoever pins from now on reads head again; whoever has pinned is of this epoch, or is not there.
           CHECK(ack_seen, !pinned || pin == NOT_PINNED || pin >= epoch);
           ack = epoch; found = epoch
         :: else -> found = ack
         fi
#endif
        );
    break_if_done(epoch)
  od;
  found = 0
}
inline break_if_done(epoch) {
  if
  :: found >= epoch -> break
  :: else
  fi
}

// One ballot. The mutex is held while the validator runs; who does not get it goes on. It may say Later.
inline answer() {
  STEP(a = answered);
  if
  :: !a ->
    STEP(if :: !mutex -> mutex = true; a = true :: else fi);
    if
    :: a ->
      if
      :: STEP(answers++; CHECK(one_answer, answers <= 1); CHECK(after_leave, generation == 1))
      :: STEP(later = true)
      fi;
      STEP(answered = true);
      STEP(mutex = false)
    :: else
    fi
  :: else
  fi;
  a = false
}
// What was put off, by the owner's thread.
inline answer_later() {
  STEP(!mutex -> mutex = true);
  STEP(if :: later -> later = false; answers++; CHECK(one_answer, answers <= 1) :: else fi);
  STEP(mutex = false)
}

proctype Listener() {
  byte h, w, armed, found, told = 1;
  bool a;
  do
  :: STEP(a = stop);
    if
    :: a -> break
    :: else
    fi;
#ifndef PLANTED_ARMED_LAST
    STEP(bell = bell | 1; armed = bell);
#endif
    answer();
#ifdef PLANTED_PIN_BEFORE_HEAD
    STEP(a = (pinned || generation != 1));
    STEP(h = head);
#else
    STEP(h = head);
    STEP(a = (pinned || generation != 1));
#endif
    if
    :: !a -> acknowledge(h, 1)
    :: else
    fi;
    a = false;
#ifdef PLANTED_REMEMBERS_LATER
    STEP(if :: h != told -> descriptor = 1 :: else fi);
    STEP(told = head);
#else
    STEP(h = head);
    if
    :: h != told -> told = h; STEP(descriptor = 1)
    :: else
    fi;
#endif
    h = 0;
    STEP(a = stop);
    if
    :: a -> break
    :: else
    fi;
#ifdef PLANTED_ARMED_LAST
    STEP(bell = bell | 1; armed = bell);
#endif
    // The kernel compares, and sleeps, in one go.
    STEP(bell != armed);
    armed = 0
  od;
  a = false;
  atomic { listening = false; told = 0; armed = 0; h = 0 }
}

inline drain_and_look() {
#ifdef PLANTED_LOOKED_BEFORE_DRAIN
  STEP(looked = head);
  STEP(descriptor = 0)
#else
  STEP(descriptor = 0);
  STEP(looked = head)
#endif
}

proctype Owner() {
  byte h, w, found, turns;
  bool a;
  do
  :: turns == 2 -> break
  :: else ->
    if
    :: // Pin: announce, then read head again. It operates under what it has read until it lets go.
      STEP(pinned = true; pin = NOT_PINNED);
      STEP(pin = head; h = head; CHECK(ack_seen, ack <= pin));
      acknowledge(h, 1);
      STEP(CHECK(ack_seen, ack <= h));
      STEP(pinned = false; pin = NOT_PINNED);
      h = 0
    :: // Poll, which leaves the ballot to the listener, unless it was put off.
#ifdef PLANTED_TWO_ANSWERS
      answer();
#endif
      answer_later();
      STEP(h = head);
      acknowledge(h, 1);
      h = 0
    :: // Drains the descriptor, then looks.
      drain_and_look()
    fi;
    turns++
  od;
  // Waits on the descriptor for what it has not seen yet.
  do
  :: looked == LAST -> break
  :: else ->
    STEP(descriptor == 1);
    drain_and_look()
  od;
#ifdef PLANTED_LEAVE_UNSTOPPED
  STEP(generation = 2; ack = 0);
  STEP(stop = true);
  STEP(bell = bell | 1);
  ring();
#else
  STEP(stop = true);
#ifndef PLANTED_STOP_WITHOUT_RING
  STEP(bell = bell | 1);
  ring();
#endif
  STEP(!listening);
  STEP(generation = 2; ack = 0);
#endif
  // The slot's next owner.
  STEP(h = head);
  acknowledge(h, 2);
  h = 0; turns = 0
}

proctype Publisher() {
  byte w;
  do
  :: head == LAST -> break
  :: else ->
#ifdef PLANTED_RING_BEFORE_CHANGE
    ring();
    STEP(head++)
#else
    STEP(head++);
    ring()
#endif
  od
}

init {
  atomic {
    run Listener();
    run Owner();
    run Publisher()
  }
}
