/* Threads that do anything with handles of each other: use, make and free them, in callbacks, too.
 * Whatever comes first, each call ends with a code, no hold is lost, and none is left. */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "check.h"

enum { kPlaces = 8, kThreads = 4, kCalls = 3000, kSlots = 40 };

/* Handles that somebody has made; may be freed by now, and used again for another. */
static epoch_region* storm_region;
static epoch_participant* storm_participants[kPlaces];
static epoch_draft* storm_drafts[kPlaces];
static epoch_listener* storm_listeners[kPlaces];

#define GET(places) __atomic_load_n(&(places)[at], __ATOMIC_SEQ_CST)
#define PUT(places, handle) __atomic_exchange_n(&(places)[at], handle, __ATOMIC_SEQ_CST)

static int storm_update(void* user, const epoch_current* current, epoch_draft* next) {
  uint64_t count = 0;
  (void)user;
  if (current->size == sizeof count) memcpy(&count, current->data, sizeof count);
  ++count;
  return (int)epoch_draft_assign(next, &count, sizeof count, NULL);
}
static int storm_judge(void* user, const epoch_proposal* proposal, char* reason, size_t size) {
  const size_t at = (size_t)(uintptr_t)user;
  epoch_pin pin;
  (void)proposal, (void)reason, (void)size;
  epoch_draft_free(GET(storm_drafts));
  epoch_listener_free(GET(storm_listeners));
  /* Its own is busy; it may be another's by now. */
  if (epoch_participant_pin(GET(storm_participants), &pin, NULL) == EPOCH_OK) {
    CHECK(epoch_pin_release(&pin) == EPOCH_OK);
  }
  return EPOCH_ANSWER_ACCEPT;
}

static void storm_join(size_t at) {
  const epoch_join_options voter = {.struct_size = sizeof voter, .name = "storm", .voter = 1};
  epoch_participant* made = NULL;
  if (epoch_participant_join(storm_region, &voter, &made, NULL) != EPOCH_OK) return;
  epoch_participant_set_validator(made, storm_judge, (void*)(uintptr_t)at, NULL);
  epoch_participant_free(PUT(storm_participants, made));
}

static void* storm(void* seed) {
  const epoch_commit_options voted = {.struct_size = sizeof voted,
                                      .agreement = EPOCH_AGREE_ALL_VOTERS,
                                      .min_voters = EPOCH_NO_VOTERS,
                                      .timeout_ns = 2000000};
  unsigned next = (unsigned)(uintptr_t)seed;
  for (int call = 0; call < kCalls; ++call) {
    const size_t at = (size_t)rand_r(&next) % kPlaces;
    epoch_participant* const self = GET(storm_participants);
    epoch_draft* draft = NULL;
    epoch_listener* listener = NULL;
    epoch_error* error = NULL;
    epoch_pin pin;
    uint64_t number = 0;
    switch (rand_r(&next) % 14) {
      case 0:
        storm_join(at);
        break;
      case 1:
        epoch_participant_draft(self, sizeof number, NULL, &draft, &error);
        if (draft != NULL) epoch_draft_free(PUT(storm_drafts, draft));
        break;
      case 2:
        epoch_draft_free(GET(storm_drafts));
        break;
      case 3:
        epoch_participant_propose(self, GET(storm_drafts), NULL, &number, &error);
        break;
      case 4:
        if (epoch_participant_pin(self, &pin, &error) == EPOCH_OK) {
          CHECK(pin.size == 0 || pin.size == sizeof number);
          if (call % 4 == 0) sched_yield();
          CHECK(epoch_pin_release(&pin) == EPOCH_OK);
        }
        break;
      case 5:
        epoch_participant_listen(self, &listener, &error);
        if (listener != NULL) epoch_listener_free(PUT(storm_listeners, listener));
        break;
      case 6:
        epoch_listener_free(GET(storm_listeners));
        break;
      case 7:
        epoch_listener_fd(GET(storm_listeners));
        epoch_listener_drain(GET(storm_listeners), &error);
        break;
      case 8:
        epoch_listener_stop(GET(storm_listeners), &error);
        break;
      case 9:
        epoch_participant_update(self, storm_update, NULL, NULL, NULL, &error);
        break;
      case 10:
        epoch_participant_free(self);
        break;
      case 11:
        epoch_participant_commit(self, &number, sizeof number, &voted, NULL, &error);
        break;
      case 12:
        epoch_participant_vote(self, (uint64_t)rand_r(&next) % 1000, EPOCH_ANSWER_ACCEPT, NULL,
                               &error);
        break;
      default:
        epoch_participant_poll(self, NULL, &error);
    }
    CHECK(epoch_error_code(error) != EPOCH_INTERNAL && epoch_error_code(error) != EPOCH_DATA_LOSS);
    epoch_error_free(error);
  }
  return NULL;
}

TEST(in_a_storm_of_calls_and_frees_nothing_is_lost_and_nothing_left) {
  const epoch_region_options options = {
      .struct_size = sizeof options, .state_bytes = 64, .participants = kSlots, .versions = 200};
  pthread_t threads[kThreads];
  OK(epoch_region_create(scratch_region(), &options, &storm_region, &err));
  for (size_t at = 0; at < kPlaces; ++at) storm_join(at);
  for (uintptr_t i = 0; i < kThreads; ++i) {
    CHECK(pthread_create(&threads[i], NULL, storm, (void*)(i + 1)) == 0);
  }
  for (int i = 0; i < kThreads; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  for (size_t at = 0; at < kPlaces; ++at) {
    epoch_draft_free(GET(storm_drafts));
    epoch_listener_free(GET(storm_listeners));
    epoch_participant_free(GET(storm_participants));
  }
  /* What was freed in callbacks of a listener goes soon. */
  for (int joined = 0; joined < kSlots;) {
    epoch_participant* other = NULL;
    if (epoch_participant_join(storm_region, NULL, &other, NULL) == EPOCH_OK) {
      ++joined;
    } else {
      sched_yield();
    }
  }
  epoch_region_free(storm_region);
}
