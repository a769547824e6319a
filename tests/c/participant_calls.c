/* Joining, leaving, pins, drafts; what keeps what alive. */
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
