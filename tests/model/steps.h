// Shared by slots, vote, proposal, fence, ring and disk: what a step, a death and a stop are.
//
// STEP is one access to shared memory (a load, a store, a CAS) with the local work that follows from
// it. Between two STEPs anybody may run, for as long as they like: that is a process that is stopped
// and goes on. Memory is sequentially consistent; weaker orders are the simulator's business.
//
// In place of any access a process may die (`crashes_left`): it jumps to its label `die`, where the
// kernel drops its locks; nothing else of it changes, and that is all the others can see. Where
// progress is asked for, it may also stop there for ever (`stops_left`, label `stop`): the same, but
// the locks stay. Both forget the locals, so that equal futures are one state.
//
// Waiting is a guard that blocks until what is waited for may have changed. So "somebody who lives
// waits for ever" is an end state in which a process is not at its end, and spin reports those
// (`end_states`); as everyone's loops are bounded, no other way of not getting on is left.
//
// CHECK names the property it belongs to, in spin's message.

#define CHECK(name, condition) assert((P_##name) || (condition))
#ifdef WITH_STOPS
#define STEP(...) \
  atomic { if :: __VA_ARGS__ :: crashes_left > 0 -> crashes_left--; goto die :: stops_left > 0 -> stops_left--; goto stop fi }
#else
#define STEP(...) atomic { if :: __VA_ARGS__ :: crashes_left > 0 -> crashes_left--; goto die fi }
#endif

// As the processor does it: compare with the exact word that was read before, and store, in one go.
#define CAS(word, expected, desired) \
  if :: word == expected -> word = desired; ok = true :: else -> ok = false fi

// Life of a slot: state:2, generation above.
#define FREE 0
#define JOINING 1
#define ACTIVE 2
#define EXPELLED 3
#define SLOT(state, generation) ((generation) << 2 | (state))
#define STATE_OF(word) ((word) & 3)
#define GENERATION_OF(word) ((word) >> 2)
