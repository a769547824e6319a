// Shared by the models: words, and steps at which a process may die. Included, not run.
//
// Granularity. STEP is one access to shared memory (a load, a store, a CAS), with the local work
// that follows from it; between two STEPs anybody may run, for as long as they like. That is also
// what a stop is: a process that is not scheduled. Memory is sequentially consistent here; the
// simulator covers weaker orders.
//
// A crash is a step of its own: in place of any access a process may die (`crashes_left` bounds how
// many do). The kernel then drops its lock, which is all that the others can see of it.
//
// For progress, a stop must be for ever to matter: under fairness, or when we look for states in
// which nothing moves any more, a process may also stop at any access and stay (`stops_left`). It
// keeps its lock. Waiting is a guard that blocks. So "somebody live waits for ever" is either an
// end state that is not marked as one, or a cycle that a liveness claim finds.
//
// CHECK names the property that it belongs to; the name is part of spin's message.

#define DIE(i) alive[i] = false; crashes_left--; goto dead
#define STEP(...)                                                  \
  atomic {                                                         \
    if                                                             \
    :: true -> __VA_ARGS__                                         \
    :: crashes_left > 0 -> alive[me] = false; crashes_left--; goto dead \
    STOPPING                                                       \
    fi                                                             \
  }
#ifdef WITH_STOPS
#define STOPPING :: stops_left > 0 -> stops_left--; halted[me] = true; goto stop
#else
#define STOPPING
#endif

#define CHECK(name, condition) assert((P_##name) || (condition))

// Load and compare in one go, as a CAS does. The value is the exact word that was read before.
#define CAS(word, expected, desired) \
  if :: word == expected -> word = desired; ok = true :: else -> ok = false fi

// tail and head: phase:2 | cell:2 | epoch:4.
#define STATE(phase, cell, epoch) ((phase) << 6 | (cell) << 4 | (epoch))
#define PHASE(word) ((word) >> 6)
#define CELL(word) (((word) >> 4) & 3)
#define EPOCH(word) ((word) & 15)
#define ACCEPTED 0
#define VOTING 1
#define OPEN 0
#define CLOSED 1
#define POISONED 2

// owner of a cell: state:2 | slot:2 | use:4.
#define OWNER(state, slot, use) ((state) << 6 | (slot) << 4 | (use))
#define CELL_STATE(word) ((word) >> 6)
#define DRAFTER(word) (((word) >> 4) & 3)
#define USE(word) ((word) & 15)
#define FREE 0
#define DRAFTED 1
#define PUBLISHED 2
#define RETIRED 3
#define WITH_STATE(word, state) (((word) & 63) | (state) << 6)
#ifdef PLANTED_NO_USE
#define FREED(word) OWNER(FREE, 0, 0)
#else
#define FREED(word) OWNER(FREE, 0, USE(word) + 1)
#endif

#define NONE 255
