/* Commits, proposals, updates, waiting. */
#include <pthread.h>
#include <stdlib.h>

#include "check.h"

TEST(a_commit_is_the_successor_of_what_was_expected_or_nothing) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  epoch_participant* self = join(region, "writer", 0);
  epoch_commit_options options = {.struct_size = sizeof options, .has_expected = 1};
  uint64_t epoch = 9, expected = 9, actual = 9, accepted = 9;
  OK(epoch_participant_commit(self, "a", 1, &options, &epoch, &err));
  CHECK(epoch == 1);
  FAILS(EPOCH_ABORTED, EPOCH_CAUSE_EXPECTED_DIFFERS,
        epoch_participant_commit(self, "b", 1, &options, &epoch, &err));
  CHECK(epoch == 1); /* results are written by who succeeds */
  CHECK(epoch_error_expected(last(), &expected) && expected == 0);
  CHECK(epoch_error_actual(last(), &actual) && actual == 1);
  CHECK(!epoch_error_accepted(last(), &accepted) && accepted == 9);
  CHECK(epoch_error_outcome(last()) == EPOCH_OUTCOME_UNCHANGED);
  CHECK(strstr(epoch_error_message(last()), "expected epoch 0") != NULL);
  /* Without that, and without an error, or a place for the number, to be told. */
  CHECK(epoch_participant_commit(self, NULL, 0, NULL, NULL, NULL) == EPOCH_OK);
  CHECK(epoch_participant_commit(self, "b", 1, &options, NULL, NULL) == EPOCH_ABORTED);
  epoch_participant_free(self);
  epoch_region_free(region);
}

static int yes(void* count) {
  ++*(int*)count;
  return 1;
}

TEST(a_wait_ends_with_its_time_or_when_it_is_interrupted) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  epoch_participant* self = join(region, "waiter", 0);
  int asked = 0;
  uint64_t reached = 9;
  const epoch_wait_options at_once = {.struct_size = sizeof at_once, .timeout_ns = EPOCH_NO_WAIT};
  const epoch_wait_options until_asked = {
      .struct_size = sizeof until_asked, .interrupted = yes, .interrupted_user = &asked};
  FAILS(EPOCH_DEADLINE_EXCEEDED, EPOCH_CAUSE_TIMED_OUT,
        epoch_participant_await(self, 1, EPOCH_STAGE_COMMITTED, &at_once, &reached, &err));
  FAILS(EPOCH_CANCELLED, EPOCH_CAUSE_INTERRUPTED,
        epoch_participant_await(self, 1, EPOCH_STAGE_COMMITTED, &until_asked, &reached, &err));
  CHECK(asked == 1 && reached == 9);
  commit_text(self, "x");
  commit_text(self, "y");
  OK(epoch_participant_await(self, 1, EPOCH_STAGE_COMMITTED, NULL, &reached, &err));
  CHECK(reached == 2);
  epoch_participant_free(self);
  epoch_region_free(region);
}

TEST(proposals_of_a_durable_region_become_visible_later) {
  const char *name = NULL, *journal = NULL;
  epoch_region* region = durable_region(&name, &journal);
  epoch_participant* self = join(region, "proposer", 0);
  uint64_t tickets[10], epoch = 0;
  epoch_pin pin;
  for (int i = 0; i < 10; ++i) {
    epoch_draft* draft = NULL;
    OK(epoch_participant_draft(self, 0, NULL, &draft, &err));
    OK(epoch_draft_assign(draft, &"abcdefghij"[i], 1, &err));
    OK(epoch_participant_propose(self, draft, NULL, &tickets[i], &err));
    CHECK(tickets[i] == (uint64_t)i + 1);
    epoch_draft_free(draft);
  }
  OK(epoch_participant_await_ticket(self, tickets[9], NULL, &epoch, &err));
  CHECK(epoch == 10);
  OK(epoch_participant_await_ticket(self, tickets[9], NULL, NULL, &err));
  OK(epoch_participant_pin(self, &pin, &err));
  CHECK(pin.epoch == 10 && pin_is(&pin, "j"));
  CHECK(epoch_pin_release(&pin) == EPOCH_OK);
  epoch_participant_free(self);
  epoch_region_free(region);
}

static int enough(void* count) { return --*(int*)count <= 0; }

TEST(who_serves_a_journal_does_so_until_it_is_interrupted) {
  const char *name = NULL, *journal = NULL;
  epoch_region* region = durable_region(&name, &journal);
  epoch_participant* self = join(region, "server", 0);
  int left = 1;
  const epoch_wait_options until = {
      .struct_size = sizeof until, .interrupted = enough, .interrupted_user = &left};
  OK(epoch_participant_serve(self, &until, &err));
  const epoch_wait_options soon = {.struct_size = sizeof soon, .timeout_ns = 1};
  OK(epoch_participant_serve(self, &soon, &err));
  epoch_participant_free(self);
  epoch_region_free(region);
  region = small_region(&name);
  self = join(region, "server", 0);
  FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_INVALID, epoch_participant_serve(self, NULL, &err));
  epoch_participant_free(self);
  epoch_region_free(region);
}

/* --- updates -------------------------------------------------------------------------------------
 */

static int increment(void* user, const epoch_current* current, epoch_draft* next) {
  uint64_t count = 0;
  (void)user;
  if (current->size == sizeof count) memcpy(&count, current->data, sizeof count);
  ++count;
  return (int)epoch_draft_assign(next, &count, sizeof count, NULL);
}

static void adds_200(const char* region_name, int in, int out) {
  (void)in;
  epoch_region* region = open_region(region_name);
  epoch_participant* self = join(region, "adder", 0);
  for (int i = 0; i < 200; ++i) {
    OK(epoch_participant_update(self, increment, NULL, NULL, NULL, &err));
  }
  epoch_participant_free(self);
  epoch_region_free(region);
  say(out);
}

TEST(no_update_of_four_processes_is_lost) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  epoch_participant* self = join(region, "reader", 0);
  struct child children[4];
  epoch_pin pin;
  uint64_t count = 0;
  for (int i = 0; i < 4; ++i) children[i] = begin(adds_200, name);
  for (int i = 0; i < 4; ++i) hear(children[i].from);
  for (int i = 0; i < 4; ++i) CHECK(end(&children[i]) == 0);
  OK(epoch_participant_pin(self, &pin, &err));
  CHECK(pin.size == sizeof count);
  memcpy(&count, pin.data, sizeof count);
  CHECK(count == 800 && pin.epoch == 800);
  CHECK(epoch_pin_release(&pin) == EPOCH_OK);
  epoch_participant_free(self);
  epoch_region_free(region);
}

struct answer {
  int code;
  epoch_draft* kept;
};
static int answers(void* user, const epoch_current* current, epoch_draft* next) {
  struct answer* const answer = (struct answer*)user;
  (void)current;
  answer->kept = next;
  epoch_draft_free(next); /* it is lent: nothing */
  return answer->code;
}

TEST(an_updates_function_says_what_becomes_of_it) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  epoch_participant* self = join(region, "updater", 0);
  struct answer answer = {EPOCH_NO_CHANGE, NULL};
  void* data = NULL;
  size_t size = 0;
  uint64_t epoch = 9;
  commit_text(self, "x");
  OK(epoch_participant_update(self, answers, &answer, NULL, &epoch, &err));
  CHECK(epoch == 1);
  answer.code = EPOCH_OK; /* and wrote nothing */
  FAILS(EPOCH_INVALID_ARGUMENT, EPOCH_CAUSE_NOT_WRITTEN,
        epoch_participant_update(self, answers, &answer, NULL, &epoch, &err));
  answer.code = EPOCH_ABORTED;
  FAILS(EPOCH_ABORTED, EPOCH_CAUSE_OTHER,
        epoch_participant_update(self, answers, &answer, NULL, &epoch, &err));
  CHECK(epoch_error_outcome(last()) == EPOCH_OUTCOME_UNCHANGED);
  answer.code = 77;
  FAILS(EPOCH_INVALID_ARGUMENT, EPOCH_CAUSE_INVALID,
        epoch_participant_update(self, answers, &answer, NULL, &epoch, &err));
  answer.code = -1;
  FAILS(EPOCH_INVALID_ARGUMENT, EPOCH_CAUSE_INVALID,
        epoch_participant_propose_update(self, answers, &answer, NULL, &epoch, &err));
  /* What was lent is of no use afterwards. */
  FAILS(EPOCH_INVALID_ARGUMENT, EPOCH_CAUSE_INVALID,
        epoch_draft_data(answer.kept, &data, &size, &err));
  OK(epoch_participant_propose_update(self, increment, NULL, NULL, &epoch, &err));
  CHECK(epoch == 2);
  OK(epoch_participant_await_ticket(self, epoch, NULL, NULL, &err));
  /* A ticket of nothing says so, and may be waited for as any other. */
  answer.code = EPOCH_NO_CHANGE;
  OK(epoch_participant_propose_update(self, answers, &answer, NULL, &epoch, &err));
  CHECK(epoch == (2 | EPOCH_TICKET_UNCHANGED));
  OK(epoch_participant_await_ticket(self, epoch, NULL, &epoch, &err));
  CHECK(epoch == 2);
  epoch_participant_free(self);
  epoch_region_free(region);
}

/* --- who is inside -------------------------------------------------------------------------------
 */

struct inside {
  epoch_participant* self;
  epoch_draft* draft;
  epoch_draft* lent;
  epoch_listener* listener;
  epoch_pin pin;
  int frees;
};

/* All calls on a participant that is in a call. */
static void all_are_turned_away(struct inside* is) {
  epoch_participant* const self = is->self;
  epoch_pin pin;
  epoch_draft* draft = NULL;
  epoch_listener* listener = NULL;
  void* data = NULL;
  size_t size = 0;
  uint64_t epoch = 0;
  epoch_participant_info info = {.struct_size = sizeof info};
#define BUSY(call) FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_BUSY, call)
  BUSY(epoch_participant_leave(self, &err));
  BUSY(epoch_participant_rejoin(self, &err));
  BUSY(epoch_participant_status(self, &err));
  BUSY(epoch_participant_get_info(self, &info, &err));
  BUSY(epoch_participant_poll(self, NULL, &err));
  BUSY(epoch_participant_acknowledge(self, 0, &err));
  BUSY(epoch_participant_park(self, &err));
  BUSY(epoch_participant_serve(self, NULL, &err));
  BUSY(epoch_participant_pin(self, &pin, &err));
  CHECK(pin.participant == NULL);
  BUSY(epoch_participant_try_pin(self, NULL, &pin, &err));
  BUSY(epoch_participant_draft(self, 1, NULL, &draft, &err));
  BUSY(epoch_draft_data(is->draft, &data, &size, &err));
  BUSY(epoch_draft_resize(is->draft, 1, &err));
  BUSY(epoch_participant_commit(self, "x", 1, NULL, NULL, &err));
  BUSY(epoch_participant_commit_draft(self, is->draft, NULL, NULL, &err));
  BUSY(epoch_participant_propose(self, is->draft, NULL, &epoch, &err));
  BUSY(epoch_participant_update(self, increment, NULL, NULL, NULL, &err));
  BUSY(epoch_participant_await_ticket(self, 1, NULL, NULL, &err));
  BUSY(epoch_participant_await(self, 1, EPOCH_STAGE_COMMITTED, NULL, NULL, &err));
  BUSY(epoch_participant_set_validator(self, NULL, NULL, &err));
  BUSY(epoch_participant_commit_collective(self, 1, NULL, 0, NULL, NULL, &err));
  BUSY(epoch_participant_listen(self, &listener, &err));
  if (is->listener != NULL) BUSY(epoch_listener_stop(is->listener, &err));
}
static void* in_another_thread(void* user) {
  struct inside* const is = (struct inside*)user;
  void* data = NULL;
  size_t size = 0;
  all_are_turned_away(is);
  /* Nor is what is lent to the thread that is inside. */
  if (is->lent != NULL) BUSY(epoch_draft_data(is->lent, &data, &size, &err));
  if (is->frees) {
    /* These never fail, and are done when the call returns. */
    epoch_draft_free(is->draft);
    CHECK(epoch_pin_release(&is->pin) == EPOCH_OK);
    epoch_listener_free(is->listener);
    epoch_participant_free(is->self);
  }
  forget_error();
  return NULL;
}
static void from_another_thread(struct inside* is) {
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, in_another_thread, is) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
}
static int waits_while_others_call(void* user) {
  all_are_turned_away((struct inside*)user);
  from_another_thread((struct inside*)user);
  return 1;
}
static int updates_while_others_call(void* user, const epoch_current* current, epoch_draft* next) {
  struct inside* const is = (struct inside*)user;
  (void)current;
  is->lent = next;
  all_are_turned_away(is);
  from_another_thread(is);
  OK(epoch_draft_assign(next, "done", 4, &err));
  return EPOCH_OK;
}

TEST(a_participant_that_is_in_a_call_takes_no_other) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  struct inside is = {.self = join(region, "inside", 0)};
  epoch_wait_options wait = {
      .struct_size = sizeof wait, .interrupted = waits_while_others_call, .interrupted_user = &is};
  epoch_pin pin;
  OK(epoch_participant_draft(is.self, 1, NULL, &is.draft, &err));
  FAILS(EPOCH_CANCELLED, EPOCH_CAUSE_INTERRUPTED,
        epoch_participant_await(is.self, 1, EPOCH_STAGE_COMMITTED, &wait, NULL, &err));
  OK(epoch_participant_update(is.self, updates_while_others_call, &is, NULL, NULL, &err));
  OK(epoch_participant_pin(is.self, &pin, &err));
  CHECK(pin_is(&pin, "done"));
  CHECK(epoch_pin_release(&pin) == EPOCH_OK);
  epoch_draft_free(is.draft);
  epoch_participant_free(is.self);
  epoch_region_free(region);
}

TEST(what_is_freed_while_its_participant_is_in_a_call_goes_when_that_returns) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  struct inside is = {.self = join(region, "inside", 0), .frees = 1};
  epoch_wait_options wait = {
      .struct_size = sizeof wait, .interrupted = waits_while_others_call, .interrupted_user = &is};
  epoch_stragglers* list = NULL;
  OK(epoch_participant_draft(is.self, 1, NULL, &is.draft, &err));
  OK(epoch_participant_pin(is.self, &is.pin, &err));
  OK(epoch_participant_listen(is.self, &is.listener, &err));
  FAILS(EPOCH_CANCELLED, EPOCH_CAUSE_INTERRUPTED,
        epoch_participant_await(is.self, 1, EPOCH_STAGE_COMMITTED, &wait, NULL, &err));
  FAILS(EPOCH_INVALID_ARGUMENT, EPOCH_CAUSE_INVALID, epoch_participant_status(is.self, &err));
  CHECK(epoch_listener_fd(is.listener) == -1);
  epoch_participant* const other = join(region, "other", 0);
  epoch_participant_info info = {.struct_size = sizeof info};
  OK(epoch_participant_get_info(other, &info, &err));
  CHECK(info.slot == 0); /* it has left */
  OK(epoch_region_stragglers(region, 1, &list, &err));
  CHECK(epoch_stragglers_count(list) == 1);
  epoch_stragglers_free(list);
  epoch_participant_free(other);
  epoch_region_free(region);
}

/* Threads that take turns by themselves: each is in, or is told that another is. */
struct turns {
  epoch_participant* self;
  int stop;
};
static void* takes_turns(void* user) {
  struct turns* const turns = (struct turns*)user;
  for (int done = 0; done < 300;) {
    epoch_pin pin;
    epoch_error* error = NULL;
    epoch_code code = epoch_participant_pin(turns->self, &pin, &error);
    if (code == EPOCH_OK) {
      const uint64_t epoch = pin.epoch;
      uint64_t count = 0;
      if (pin.size == sizeof count) memcpy(&count, pin.data, sizeof count);
      CHECK(count == epoch);
      CHECK(epoch_pin_release(&pin) == EPOCH_OK);
    } else {
      CHECK(epoch_error_cause(error) == EPOCH_CAUSE_BUSY);
      epoch_error_free(error);
    }
    code = epoch_participant_update(turns->self, increment, NULL, NULL, NULL, &error);
    if (code != EPOCH_OK) {
      CHECK(epoch_error_cause(error) == EPOCH_CAUSE_BUSY);
      epoch_error_free(error);
    } else {
      ++done;
    }
  }
  return NULL;
}

TEST(threads_that_share_a_participant_are_told_and_nothing_else_happens) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  struct turns turns = {join(region, "shared", 0), 0};
  pthread_t threads[3];
  uint64_t epoch = 0;
  for (int i = 0; i < 3; ++i) {
    CHECK(pthread_create(&threads[i], NULL, takes_turns, &turns) == 0);
  }
  for (int i = 0; i < 3; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  OK(epoch_region_epoch(region, &epoch, &err));
  CHECK(epoch == 900);
  OK(epoch_participant_leave(turns.self, &err)); /* no pin was lost */
  epoch_participant_free(turns.self);
  epoch_region_free(region);
}

/* Handles of any thread: freed by one while others use them. */
static void* reads_until_freed(void* user) {
  uint64_t epoch = 0;
  epoch_error* error = NULL;
  while (epoch_region_epoch((epoch_region*)user, &epoch, &error) == EPOCH_OK) {
  }
  CHECK(epoch_error_code(error) == EPOCH_INVALID_ARGUMENT);
  epoch_error_free(error);
  return NULL;
}

TEST(a_region_may_be_freed_while_others_use_it) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  pthread_t threads[2];
  uint64_t epoch = 0;
  for (int i = 0; i < 2; ++i) {
    CHECK(pthread_create(&threads[i], NULL, reads_until_freed, region) == 0);
  }
  for (int i = 0; i < 100; ++i) OK(epoch_region_epoch(region, &epoch, &err));
  epoch_region_free(region);
  for (int i = 0; i < 2; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
}
