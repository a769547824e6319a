/* What of epoch/c.h is compiled into programs: taking a pin and giving it back. Included by c.h.
 *
 * Switched off: the library opens nothing to it yet (core/c/hot_pin.cc), and only EPOCH_INLINE_PINS
 * defines the macros.
 *
 * epoch_participant_pin and epoch_pin_release are functions of the library; here they are macros,
 * too, for the same thing without a call where nothing is unusual: a participant that has pinned
 * before, a state that is still the one that it pinned last, nobody else in a call of it. All else
 * is left to the library. `(epoch_participant_pin)(...)` is the function; EPOCH_NO_INLINE, defined
 * before c.h is included, or a compiler that is neither gcc nor clang, takes the macros away.
 *
 * struct epoch_hot is what the library and these lines agree on; a program does nothing with it. It
 * stands EPOCH_HOT_OFFSET bytes into a participant. Its layout is part of the binary interface: it
 * grows at the end only, and a library that does without it leaves `expected` as EPOCH_HOT_CLOSED.
 *
 * Who may touch what. The pin word stands in the region. Whoever changes it from `expected` to
 * `announced` has claimed it, and all that describes the pin (head_word, epoch, data, size) stays
 * as it is until the claim is given up: that is what keeps threads apart here, so no lock is taken.
 * A claim counts only if nobody was in a call (EPOCH_HOT_INSIDE); and it is a pin when its thread
 * has said so in `held`. The same thread releases it here; others go through the library, which
 * takes it over. core/c/hot_pin.h is the other half of each of these steps, and has the argument.
 */
#ifndef EPOCH_C_INLINE_H_
#define EPOCH_C_INLINE_H_

#include <stddef.h>
#include <stdint.h>

#include "epoch/c.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EPOCH_HOT_OFFSET 64

typedef struct epoch_hot {
  uint64_t expected;    /* what the pin word is when a pin may be taken here; or CLOSED */
  uint64_t none;        /* what a release writes there; 0: it may not, here */
  uint64_t announced;   /* what a pin writes there */
  uint64_t head_word;   /* while the region's epoch word is this, the state is the one below */
  uint64_t* word;       /* the pin word; an address that stays good while a call is under way */
  const uint64_t* head; /* the region's epoch word */
  const uint64_t* slot_word; /* the slot's state */
  uint64_t active;           /* while it is this, the participant was not expelled */
  uint64_t epoch;
  const void* data;
  size_t size;
  uintptr_t held; /* the thread whose pin it is; 0: there is none that was taken here */
  uint64_t calls; /* bytes, that are written one by one: EPOCH_HOT_INSIDE, ... */
} epoch_hot;

#define EPOCH_HOT_CLOSED UINT64_MAX /* which no pin word is */

#define EPOCH_HOT_INSIDE 0xff          /* somebody is in a call of the participant */
#define EPOCH_HOT_VALIDATING 0xff00    /* a validator of the participant runs */
#define EPOCH_HOT_SHUT 0xff0000        /* no pin is taken here */
#define EPOCH_HOT_REQUESTED 0xff000000 /* something was freed: whoever leaves looks after it */
#define EPOCH_HOT_NO_PIN (EPOCH_HOT_INSIDE | EPOCH_HOT_VALIDATING | EPOCH_HOT_SHUT)

/* A claim that is none, or not yet: the library goes on from there. */
typedef struct epoch_claim {
  uint64_t* word;
  uint64_t announced;
  uint64_t none;
} epoch_claim;

/* `claim`: NULL: none was made. */
EPOCH_API epoch_code epoch_participant_pin_slowly(epoch_participant* participant,
                                                  const epoch_claim* claim, epoch_pin* pin,
                                                  epoch_error** error);
EPOCH_API epoch_code epoch_pin_release_slowly(epoch_pin* pin);
/* Does what was freed meanwhile. */
EPOCH_API void epoch_participant_attend(epoch_participant* participant);

#if defined(__GNUC__) && (defined(__x86_64__) || defined(__aarch64__))
#define EPOCH_HAS_INLINE 1

/* Differs between threads that live. Asked once for a pin and its release, where both are in one
 * function. (If a program moves the stack to another thread in between, that one acts for the
 * first, which is as good: one thread at a time.) */
static inline uintptr_t epoch_inline_thread(void) {
  uintptr_t thread;
#if defined(__x86_64__)
  __asm__("mov %%fs:0, %0" : "=r"(thread));
#else
  __asm__("mrs %0, tpidr_el0" : "=r"(thread));
#endif
  return thread;
}

static inline epoch_hot* epoch_inline_hot(epoch_participant* participant) {
  return (epoch_hot*)(void*)((char*)participant + EPOCH_HOT_OFFSET);
}

static inline epoch_code epoch_inline_pin(epoch_participant* participant, epoch_pin* pin,
                                          epoch_error** error) {
  epoch_claim claim;
  epoch_pin made;
  epoch_code code;
  if (__builtin_expect(participant != NULL && pin != NULL, 1)) {
    epoch_hot* const hot = epoch_inline_hot(participant);
    /* In this order, which is the opposite of how they are written. If another thread pins
     * meanwhile, head_word may be older than what is loaded after it, but not newer; then head is
     * not that any more. */
    uint64_t found = __atomic_load_n(&hot->expected, __ATOMIC_ACQUIRE);
    const uint64_t head_word = __atomic_load_n(&hot->head_word, __ATOMIC_ACQUIRE);
    const uint64_t announced = __atomic_load_n(&hot->announced, __ATOMIC_RELAXED);
    const uint64_t none = found;
    uint64_t* const word = __atomic_load_n(&hot->word, __ATOMIC_RELAXED);
    const uint64_t* const head = __atomic_load_n(&hot->head, __ATOMIC_RELAXED);
    const uint64_t* const slot_word = __atomic_load_n(&hot->slot_word, __ATOMIC_RELAXED);
    const uint64_t active = __atomic_load_n(&hot->active, __ATOMIC_RELAXED);
    const uintptr_t thread = epoch_inline_thread();
    /* Barrier A of docs/protocol.md: the pin is announced before head is looked at; and before
     * `calls` is, where whoever gets inside has said so before it looks at the pin word. */
    if (__builtin_expect(__atomic_compare_exchange_n(word, &found, announced, 0, __ATOMIC_SEQ_CST,
                                                     __ATOMIC_SEQ_CST),
                         1)) {
      /* `calls` first of all: if somebody is inside, the region itself may be on its way out. */
      if (__builtin_expect(
              (__atomic_load_n(&hot->calls, __ATOMIC_SEQ_CST) & EPOCH_HOT_NO_PIN) == 0 &&
                  /* As Pin() in include/epoch/detail/participant/pinning.h. */
                  __atomic_load_n(head, __ATOMIC_SEQ_CST) == head_word &&
                  __atomic_load_n(slot_word, __ATOMIC_SEQ_CST) == active,
              1)) {
        /* Nobody changes these while the claim stands. */
        pin->participant = participant;
        pin->epoch = hot->epoch;
        pin->data = hot->data;
        pin->size = hot->size;
        /* Release: whoever takes the pin over has seen the claim. */
        __atomic_store_n(&hot->held, thread, __ATOMIC_RELEASE);
        if (error != NULL) *error = NULL;
        return EPOCH_OK;
      }
      claim.word = word;
      claim.announced = announced;
      claim.none = none;
      code = epoch_participant_pin_slowly(participant, &claim, &made, error);
      *pin = made;
      return code;
    }
  }
  /* Through `made`, so that the caller's pin need not be in memory. */
  code = epoch_participant_pin_slowly(participant, NULL, pin == NULL ? NULL : &made, error);
  if (pin != NULL) *pin = made;
  return code;
}

static inline epoch_code epoch_inline_release(epoch_pin* pin) {
  epoch_pin given;
  uint64_t none;
  epoch_code code;
  if (__builtin_expect(pin != NULL && pin->participant != NULL, 1)) {
    epoch_participant* const participant = pin->participant;
    epoch_hot* const hot = epoch_inline_hot(participant);
    const uintptr_t thread = epoch_inline_thread();
    if (__builtin_expect(__atomic_load_n(&hot->held, __ATOMIC_RELAXED) == thread, 1)) {
      __atomic_store_n(&hot->held, (uintptr_t)0, __ATOMIC_RELAXED);
      /* Another thread that takes the pin over takes `none` away, has all threads pass a barrier,
       * and then looks at `held`: one of the two sees the other. */
      __atomic_signal_fence(__ATOMIC_SEQ_CST);
      none = __atomic_load_n(&hot->none, __ATOMIC_RELAXED);
      if (__builtin_expect(none != 0, 1)) {
        /* Release: what was read through the pin is read before its cell may be recycled. */
        __atomic_store_n(hot->word, none, __ATOMIC_RELEASE);
        /* Whoever has met this release half-way has left its work. Ordered by the barrier that it
         * has all threads pass (membarrier); only the compiler must not look earlier. */
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        pin->participant = NULL;
        pin->epoch = 0;
        pin->data = NULL;
        pin->size = 0;
        if (__builtin_expect(
                (__atomic_load_n(&hot->calls, __ATOMIC_RELAXED) & EPOCH_HOT_REQUESTED) != 0, 0)) {
          epoch_participant_attend(participant);
        }
        return EPOCH_OK;
      }
      __atomic_store_n(&hot->held, thread, __ATOMIC_RELAXED);
    }
  }
  if (pin == NULL) return epoch_pin_release_slowly(NULL);
  given = *pin;
  code = epoch_pin_release_slowly(&given);
  *pin = given;
  return code;
}

/* ThreadSanitizer goes by addresses, and the pin word has two. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define EPOCH_NO_INLINE 1
#endif
#endif
#if defined(EPOCH_INLINE_PINS) && !defined(EPOCH_NO_INLINE) && !defined(__SANITIZE_THREAD__)
#define epoch_participant_pin(...) epoch_inline_pin(__VA_ARGS__)
#define epoch_pin_release(...) epoch_inline_release(__VA_ARGS__)
#endif
#endif

#ifdef __cplusplus
}
#endif

#endif /* EPOCH_C_INLINE_H_ */
