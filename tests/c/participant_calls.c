/* Joining, leaving, pins, drafts; what keeps what alive. */
#include <pthread.h>

#include "check.h"

/* How many participants could still join. */
static int free_slots(epoch_region* region) {
  epoch_participant* taken[8];
  int count = 0;
  while (count < 8 && epoch_participant_join(region, NULL, &taken[count], NULL) == EPOCH_OK) {
    ++count;
  }
  for (int i = 0; i < count; ++i) epoch_participant_free(taken[i]);
  return count;
}

TEST(a_participant_tells_who_it_is_and_leaves) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  epoch_participant* self = join(region, "planner", 0);
  epoch_participant_info info = {.struct_size = sizeof info};
  uint64_t epoch = 9;
  OK(epoch_participant_get_info(self, &info, &err));
  CHECK(info.slot == 0 && info.generation == 1 && strcmp(info.name, "planner") == 0);
  OK(epoch_participant_status(self, &err));
  OK(epoch_participant_poll(self, &epoch, &err));
  CHECK(epoch == 0);
  OK(epoch_participant_park(self, &err));
  OK(epoch_participant_leave(self, &err));
  FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_LEFT, epoch_participant_status(self, &err));
  OK(epoch_participant_rejoin(self, &err));
  OK(epoch_participant_status(self, &err));
  OK(epoch_participant_get_info(self, &info, &err));
  CHECK(info.generation == 2 && strcmp(info.name, "planner") == 0);
  epoch_participant_free(self);
  CHECK(free_slots(region) == 8);
  epoch_region_free(region);
}

TEST(one_that_acknowledges_by_hand_says_what_it_has_adopted) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  const epoch_join_options by_hand = {.struct_size = sizeof by_hand, .acknowledges_by_hand = 1};
  const epoch_wait_options at_once = {.struct_size = sizeof at_once, .timeout_ns = EPOCH_NO_WAIT};
  epoch_participant *self = NULL, *other = join(region, "other", 0);
  epoch_culprit culprit = {.struct_size = sizeof culprit};
  epoch_pin pin;
  OK(epoch_participant_join(region, &by_hand, &self, &err));
  commit_text(other, "x");
  OK(epoch_participant_pin(self, &pin, &err));
  CHECK(epoch_pin_release(&pin) == EPOCH_OK);
  FAILS(EPOCH_DEADLINE_EXCEEDED, EPOCH_CAUSE_TIMED_OUT,
        epoch_participant_await(other, 1, EPOCH_STAGE_CONVERGED, &at_once, NULL, &err));
  CHECK(epoch_error_culprit_count(last()) == 1);
  CHECK(epoch_error_culprit(last(), 0, &culprit) == EPOCH_OK);
  CHECK(culprit.slot == 1 && culprit.has_epoch == 0 && culprit.pid != 0);
  CHECK(epoch_error_culprit(last(), 1, &culprit) == EPOCH_OUT_OF_RANGE);
  FAILS(EPOCH_OUT_OF_RANGE, EPOCH_CAUSE_INVALID, epoch_participant_acknowledge(self, 2, &err));
  OK(epoch_participant_acknowledge(self, 1, &err));
  OK(epoch_participant_await(other, 1, EPOCH_STAGE_CONVERGED, &at_once, NULL, &err));
  epoch_participant_free(self);
  epoch_participant_free(other);
  epoch_region_free(region);
}

TEST(pins_that_overlap_see_the_same_state) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  epoch_participant *self = join(region, "reader", 0), *other = join(region, "writer", 0);
  epoch_pin first, second;
  commit_text(other, "old");
  OK(epoch_participant_pin(self, &first, &err));
  commit_text(other, "new");
  OK(epoch_participant_try_pin(self, NULL, &second, &err));
  CHECK(first.epoch == 1 && pin_is(&first, "old") && second.epoch == 1 && pin_is(&second, "old"));
  CHECK(epoch_pin_release(&first) == EPOCH_OK);
  CHECK(first.participant == NULL && epoch_pin_release(&first) == EPOCH_FAILED_PRECONDITION);
  for (int i = 0; i < 20; ++i) commit_text(other, "newer");
  CHECK(pin_is(&second, "old"));
  FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_PIN_HELD, epoch_participant_leave(self, &err));
  FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_PIN_HELD, epoch_participant_rejoin(self, &err));
  FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_PIN_HELD, epoch_participant_park(self, &err));
  CHECK(epoch_pin_release(&second) == EPOCH_OK);
  OK(epoch_participant_pin(self, &first, &err));
  CHECK(first.epoch == 22 && pin_is(&first, "newer"));
  second = first; /* may be moved by assignment */
  CHECK(epoch_pin_release(&second) == EPOCH_OK);
  OK(epoch_participant_leave(self, &err));
  epoch_participant_free(self);
  epoch_participant_free(other);
  epoch_region_free(region);
}

/* By the macros, by the functions, or by turns; at the second pin nothing is new any more. */
TEST(pins_by_macros_and_by_functions_are_the_same) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  epoch_participant *self = join(region, "reader", 0), *other = join(region, "writer", 0);
  for (int round = 0; round < 32; ++round) {
    char text[16];
    epoch_pin first, second;
    snprintf(text, sizeof text, "round %d", round);
    if (round % 4 < 2) commit_text(other, text);
    if (round % 4 >= 2) snprintf(text, sizeof text, "round %d", round / 4 * 4 + 1);
    if (round & 1) OK(epoch_participant_pin(self, &first, &err));
    if (!(round & 1)) OK((epoch_participant_pin)(self, &first, &err));
    if (round & 2) OK(epoch_participant_pin(self, &second, &err));
    if (!(round & 2)) OK(epoch_participant_pin_slowly(self, NULL, &second, &err));
    CHECK(pin_is(&first, text) && pin_is(&second, text) && first.epoch == second.epoch);
    FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_PIN_HELD, epoch_participant_park(self, &err));
    if (round & 4) CHECK(epoch_pin_release(&second) == EPOCH_OK);
    if (!(round & 4)) CHECK((epoch_pin_release)(&second) == EPOCH_OK);
    for (int i = 0; i < 9; ++i) commit_text(other, text);
    CHECK(pin_is(&first, text));
    CHECK(epoch_pin_release(&second) == EPOCH_FAILED_PRECONDITION);
    if (round & 8) CHECK(epoch_pin_release(&first) == EPOCH_OK);
    if (!(round & 8)) CHECK((epoch_pin_release)(&first) == EPOCH_OK);
    CHECK(first.participant == NULL && first.data == NULL && first.size == 0 && first.epoch == 0);
    if (round % 5 == 0) OK(epoch_participant_park(self, &err));
    if (round % 7 == 0) {
      OK(epoch_participant_leave(self, &err));
      FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_LEFT, epoch_participant_pin(self, &first, &err));
      OK(epoch_participant_rejoin(self, &err));
    }
    if (round % 11 == 0) {
      epoch_participant_info info = {.struct_size = sizeof info};
      OK(epoch_participant_get_info(self, &info, &err));
      OK(epoch_region_expel(region, info.slot, &err));
      FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_EXPELLED,
            epoch_participant_pin(self, &first, &err));
      OK(epoch_participant_rejoin(self, &err));
    }
  }
  epoch_participant_free(self);
  FAILS(EPOCH_INVALID_ARGUMENT, EPOCH_CAUSE_INVALID,
        epoch_participant_pin(self, &(epoch_pin){NULL, 0, NULL, 0}, &err));
  epoch_participant_free(other);
  CHECK(free_slots(region) == 8);
  epoch_region_free(region);
}

/* A participant goes from thread to thread, with a pin that is held: it is the same for all. */
struct relay {
  epoch_participant* self;
  epoch_pin pin;
};
static void* runs_on(void* user) {
  struct relay* const is = (struct relay*)user;
  epoch_pin mine;
  OK(epoch_participant_pin(is->self, &mine, &err));
  CHECK(pin_is(&mine, "pinned") && mine.epoch == is->pin.epoch);
  FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_PIN_HELD, epoch_participant_leave(is->self, &err));
  CHECK(epoch_pin_release(&is->pin) == EPOCH_OK);
  is->pin = mine;
  forget_error();
  return NULL;
}
static void* only_frees(void* user) {
  epoch_participant_free(((struct relay*)user)->self);
  return NULL;
}
static void in_a_thread(void* (*run)(void*), void* user) {
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, run, user) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
}

TEST(a_pin_is_handed_from_thread_to_thread) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  epoch_participant* other = join(region, "writer", 0);
  struct relay is = {join(region, "reader", 0), {NULL, 0, NULL, 0}};
  epoch_pin pin;
  commit_text(other, "pinned");
  for (int round = 0; round < 4; ++round) {
    OK(epoch_participant_pin(is.self, &is.pin, &err));
    for (int i = 0; i < 20; ++i) commit_text(other, "newer");
    for (int runner = 0; runner < 3; ++runner) in_a_thread(runs_on, &is);
    CHECK(pin_is(&is.pin, "pinned"));
    if (round == 3) break;
    CHECK(epoch_pin_release(&is.pin) == EPOCH_OK);
    OK(epoch_participant_pin(is.self, &pin, &err));
    CHECK(pin_is(&pin, "newer") && epoch_pin_release(&pin) == EPOCH_OK);
    commit_text(other, "pinned");
  }
  /* Freed by one, released by another: then it is gone. */
  in_a_thread(only_frees, &is);
  CHECK(free_slots(region) == 6);
  CHECK(epoch_pin_release(&is.pin) == EPOCH_OK);
  CHECK(free_slots(region) == 7);
  /* And one that pins and releases by itself, freed by another while it holds nothing. */
  is.self = join(region, "reader", 0);
  for (int i = 0; i < 3; ++i) {
    OK(epoch_participant_pin(is.self, &pin, &err));
    CHECK(epoch_pin_release(&pin) == EPOCH_OK);
  }
  in_a_thread(only_frees, &is);
  FAILS(EPOCH_INVALID_ARGUMENT, EPOCH_CAUSE_INVALID, epoch_participant_pin(is.self, &pin, &err));
  CHECK(free_slots(region) == 7);
  epoch_participant_free(other);
  epoch_region_free(region);
}

TEST(what_is_left_of_a_freed_participant_keeps_it) {
  const char* name = NULL;
  /* Each order of frees: the pin, the draft or the listener goes last. */
  for (int order = 0; order < 3; ++order) {
    epoch_region* region = small_region(&name);
    epoch_participant* self = join(region, "kept", 0);
    epoch_draft* draft = NULL;
    epoch_listener* listener = NULL;
    epoch_pin pin;
    void* data = NULL;
    size_t size = 0;
    commit_text(self, "pinned");
    OK(epoch_participant_pin(self, &pin, &err));
    OK(epoch_participant_draft(self, 4, NULL, &draft, &err));
    OK(epoch_participant_listen(self, &listener, &err));
    epoch_region_free(region);
    epoch_participant_free(self);
    epoch_participant_free(self); /* again: nothing */
    FAILS(EPOCH_INVALID_ARGUMENT, EPOCH_CAUSE_INVALID, epoch_participant_status(self, &err));
    region = open_region(name);
    for (int i = 0; i < 3; ++i) {
      CHECK(free_slots(region) == 7);
      switch ((order + i) % 3) {
        case 0:
          CHECK(pin_is(&pin, "pinned"));
          CHECK(epoch_pin_release(&pin) == EPOCH_OK);
          break;
        case 1:
          OK(epoch_draft_data(draft, &data, &size, &err));
          CHECK(size == 4);
          memcpy(data, "gone", 4);
          epoch_draft_free(draft);
          epoch_draft_free(draft);
          FAILS(EPOCH_INVALID_ARGUMENT, EPOCH_CAUSE_INVALID,
                epoch_draft_data(draft, &data, &size, &err));
          break;
        default:
          CHECK(epoch_listener_fd(listener) >= 3);
          epoch_listener_free(listener);
          epoch_listener_free(listener);
          CHECK(epoch_listener_fd(listener) == -1);
      }
    }
    CHECK(free_slots(region) == 8);
    epoch_region_free(region);
  }
}

TEST(a_draft_is_written_in_place_and_used_up_by_its_commit) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  epoch_participant *self = join(region, "writer", 0), *other = join(region, "other", 0);
  epoch_draft* draft = NULL;
  epoch_pin pin;
  void* data = NULL;
  size_t size = 0;
  uint64_t epoch = 0;
  OK(epoch_participant_draft(self, 3, NULL, &draft, &err));
  OK(epoch_draft_capacity(draft, &size, &err));
  CHECK(size == 256);
  FAILS(EPOCH_OUT_OF_RANGE, EPOCH_CAUSE_TOO_LARGE, epoch_draft_resize(draft, 257, &err));
  OK(epoch_draft_resize(draft, 6, &err));
  OK(epoch_draft_data(draft, &data, &size, &err));
  CHECK(size == 6);
  memcpy(data, "placed", 6);
  FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_BUSY, epoch_participant_leave(self, &err));
  FAILS(EPOCH_INVALID_ARGUMENT, EPOCH_CAUSE_INVALID,
        epoch_participant_commit_draft(other, draft, NULL, &epoch, &err));
  OK(epoch_participant_commit_draft(self, draft, NULL, &epoch, &err));
  CHECK(epoch == 1);
  OK(epoch_draft_data(draft, &data, &size, &err));
  CHECK(data == NULL && size == 0);
  FAILS(EPOCH_FAILED_PRECONDITION, -1,
        epoch_participant_commit_draft(self, draft, NULL, &epoch, &err));
  FAILS(EPOCH_FAILED_PRECONDITION, -1, epoch_draft_resize(draft, 1, &err));
  OK(epoch_participant_leave(self, &err)); /* it holds nothing any more */
  epoch_draft_free(draft);
  OK(epoch_participant_draft(other, 0, NULL, &draft, &err));
  OK(epoch_draft_assign(draft, "copied", 6, &err));
  OK(epoch_participant_commit_draft(other, draft, NULL, NULL, &err));
  OK(epoch_participant_pin(other, &pin, &err));
  CHECK(pin_is(&pin, "copied"));
  CHECK(epoch_pin_release(&pin) == EPOCH_OK);
  FAILS(EPOCH_OUT_OF_RANGE, EPOCH_CAUSE_TOO_LARGE,
        epoch_participant_draft(other, 257, NULL, &draft, &err));
  CHECK(draft == NULL);
  epoch_participant_free(other);
  epoch_participant_free(self);
  epoch_region_free(region);
}
