/* Votes, collective commits, listeners, across processes. */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "check.h"

/* Accepts what begins with "good", refuses what begins with "bad", puts off what begins with
 * "later". */
struct judge {
  uint64_t ballot;
  uint64_t epoch;
  char proposer[64];
};
static int judges(void* user, const epoch_proposal* proposal, char* reason, size_t reason_size) {
  struct judge* const judge = (struct judge*)user;
  if (judge != NULL) {
    judge->ballot = proposal->ballot;
    judge->epoch = proposal->epoch;
    snprintf(judge->proposer, sizeof judge->proposer, "%s", proposal->proposer);
  }
  if (proposal->size >= 4 && memcmp(proposal->data, "good", 4) == 0) return EPOCH_ANSWER_ACCEPT;
  if (proposal->size >= 5 && memcmp(proposal->data, "later", 5) == 0) return EPOCH_ANSWER_LATER;
  if (proposal->size >= 3 && memcmp(proposal->data, "odd", 3) == 0) return 7;
  memset(reason, 'r', reason_size); /* without an end: it is cut */
  if (proposal->size >= 3 && memcmp(proposal->data, "bad", 3) == 0) {
    snprintf(reason, reason_size, "it is bad");
  }
  return EPOCH_ANSWER_REJECT;
}

/* Votes until it is told to end. */
static void votes(const char* region_name, int in, int out) {
  epoch_region* region = open_region(region_name);
  epoch_participant* self = join(region, "voter", 1);
  epoch_listener* listener = NULL;
  OK(epoch_participant_set_validator(self, judges, NULL, &err));
  OK(epoch_participant_listen(self, &listener, &err));
  say(out);
  hear(in);
  OK(epoch_listener_stop(listener, &err));
  epoch_listener_free(listener);
  OK(epoch_participant_leave(self, &err));
  epoch_participant_free(self);
  epoch_region_free(region);
}

static const epoch_commit_options agreed = {.struct_size = sizeof(epoch_commit_options),
                                            .agreement = EPOCH_AGREE_ALL_VOTERS};

TEST(a_voter_of_another_process_accepts_and_refuses_with_its_reason) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  struct child voter = begin(votes, name);
  epoch_participant* self = join(region, "proposer", 0);
  epoch_culprit culprit = {.struct_size = sizeof culprit};
  uint64_t epoch = 0;
  hear(voter.from);
  OK(epoch_participant_commit(self, "good", 4, &agreed, &epoch, &err));
  CHECK(epoch == 1);
  FAILS(EPOCH_ABORTED, EPOCH_CAUSE_REJECTED,
        epoch_participant_commit(self, "bad", 3, &agreed, &epoch, &err));
  CHECK(epoch_error_culprit_count(last()) == 1);
  CHECK(epoch_error_culprit(last(), 0, &culprit) == EPOCH_OK);
  CHECK(strcmp(culprit.name, "voter") == 0 && strcmp(culprit.reason, "it is bad") == 0);
  CHECK((pid_t)culprit.pid == voter.pid);
  FAILS(EPOCH_ABORTED, EPOCH_CAUSE_REJECTED,
        epoch_participant_commit(self, "odd", 3, &agreed, &epoch, &err));
  CHECK(strstr(epoch_error_message(last()), "returned 7") != NULL);
  FAILS(EPOCH_ABORTED, EPOCH_CAUSE_REJECTED,
        epoch_participant_commit(self, "x", 1, &agreed, &epoch, &err));
  CHECK(epoch_error_culprit(last(), 0, &culprit) == EPOCH_OK);
  CHECK(strlen(culprit.reason) == 127);
  say(voter.to);
  CHECK(end(&voter) == 0);
  FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_TOO_FEW_VOTERS,
        epoch_participant_commit(self, "good", 4, &agreed, &epoch, &err));
  epoch_commit_options alone = agreed;
  alone.min_voters = EPOCH_NO_VOTERS;
  OK(epoch_participant_commit(self, "good", 4, &alone, &epoch, &err));
  epoch_participant_free(self);
  epoch_region_free(region);
}

TEST(a_voter_that_is_killed_holds_up_nobody) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  struct child voter = begin(votes, name), other = begin(votes, name);
  epoch_participant* self = join(region, "proposer", 1);
  uint64_t epoch = 0;
  hear(voter.from);
  hear(other.from);
  kill_child(&voter);
  OK(epoch_participant_commit(self, "good", 4, &agreed, &epoch, &err));
  CHECK(epoch == 1);
  say(other.to);
  CHECK(end(&other) == 0);
  epoch_participant_free(self);
  epoch_region_free(region);
}

struct proposing {
  epoch_participant* self;
  const char* text;
  epoch_code code;
  epoch_cause cause;
  char message[256];
};
static void* proposes(void* user) {
  struct proposing* const is = (struct proposing*)user;
  epoch_error* error = NULL;
  is->code = epoch_participant_commit(is->self, is->text, strlen(is->text), &agreed, NULL, &error);
  is->cause = epoch_error_cause(error);
  snprintf(is->message, sizeof is->message, "%s", epoch_error_message(error));
  epoch_error_free(error);
  return NULL;
}

TEST(an_answer_may_come_later_and_from_another_thread) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  struct judge judge = {0, 0, ""};
  struct proposing proposing = {join(region, "proposer", 0), "later", EPOCH_OK, EPOCH_CAUSE_NONE,
                                ""};
  epoch_participant* voter = join(region, "voter", 1);
  pthread_t thread;
  OK(epoch_participant_set_validator(voter, judges, &judge, &err));
  for (int round = 0; round < 2; ++round) {
    judge.ballot = 0;
    CHECK(pthread_create(&thread, NULL, proposes, &proposing) == 0);
    while (judge.ballot == 0) OK(epoch_participant_poll(voter, NULL, &err));
    CHECK(strcmp(judge.proposer, "proposer") == 0 && judge.epoch == 1);
    FAILS(EPOCH_INVALID_ARGUMENT, EPOCH_CAUSE_INVALID,
          epoch_participant_vote(voter, judge.ballot, EPOCH_ANSWER_LATER, NULL, &err));
    FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_OTHER,
          epoch_participant_vote(voter, judge.ballot + 1, EPOCH_ANSWER_ACCEPT, NULL, &err));
    OK(epoch_participant_vote(voter, judge.ballot,
                              round == 0 ? EPOCH_ANSWER_REJECT : EPOCH_ANSWER_ACCEPT, "not yet",
                              &err));
    CHECK(pthread_join(thread, NULL) == 0);
    if (round == 0) {
      CHECK(proposing.code == EPOCH_ABORTED && proposing.cause == EPOCH_CAUSE_REJECTED);
      CHECK(strstr(proposing.message, "not yet") != NULL);
    } else {
      CHECK(proposing.code == EPOCH_OK);
    }
    FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_OTHER,
          epoch_participant_vote(voter, judge.ballot, EPOCH_ANSWER_ACCEPT, NULL, &err));
  }
  epoch_participant_free(voter);
  FAILS(EPOCH_INVALID_ARGUMENT, EPOCH_CAUSE_INVALID,
        epoch_participant_vote(voter, judge.ballot, EPOCH_ANSWER_ACCEPT, NULL, &err));
  epoch_participant_free(proposing.self);
  epoch_region_free(region);
}

/* A validator that does what it must not: with its own participant, and its listener. */
struct meddling {
  epoch_participant* self;
  epoch_listener* listener;
  int calls;
};
static int meddles(void* user, const epoch_proposal* proposal, char* reason, size_t reason_size) {
  struct meddling* const is = (struct meddling*)user;
  epoch_pin pin;
  (void)reason, (void)reason_size;
  FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_BUSY, epoch_participant_pin(is->self, &pin, &err));
  FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_BUSY, epoch_participant_poll(is->self, NULL, &err));
  FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_BUSY,
        epoch_participant_set_validator(is->self, NULL, NULL, &err));
  FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_BUSY,
        epoch_participant_vote(is->self, proposal->ballot, EPOCH_ANSWER_ACCEPT, NULL, &err));
  if (is->listener != NULL) {
    FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_BUSY, epoch_listener_stop(is->listener, &err));
    CHECK(epoch_listener_fd(is->listener) >= 0);
    OK(epoch_listener_drain(is->listener, &err));
    epoch_listener_free(is->listener); /* of the very thread that it would wait for */
  }
  forget_error();
  __atomic_add_fetch(&is->calls, 1, __ATOMIC_SEQ_CST); /* of two threads */
  return EPOCH_ANSWER_ACCEPT;
}

TEST(a_validator_that_calls_its_participant_is_turned_away) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  struct meddling meddling = {join(region, "voter", 1), NULL, 0};
  struct proposing proposing = {join(region, "proposer", 0), "x", EPOCH_OK, EPOCH_CAUSE_NONE, ""};
  epoch_listener* again = NULL;
  pthread_t thread;
  OK(epoch_participant_set_validator(meddling.self, meddles, &meddling, &err));
  CHECK(pthread_create(&thread, NULL, proposes, &proposing) == 0);
  while (__atomic_load_n(&meddling.calls, __ATOMIC_SEQ_CST) == 0)
    OK(epoch_participant_poll(meddling.self, NULL, &err));
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(proposing.code == EPOCH_OK);

  OK(epoch_participant_listen(meddling.self, &meddling.listener, &err));
  FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_BUSY,
        epoch_participant_listen(meddling.self, &again, &err));
  CHECK(again == NULL);
  OK(epoch_participant_commit(proposing.self, "y", 1, &agreed, NULL, &err));
  CHECK(__atomic_load_n(&meddling.calls, __ATOMIC_SEQ_CST) == 2);
  /* It is freed by the participant's next call that may wait, and is gone then. */
  OK(epoch_participant_status(meddling.self, &err));
  FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_BUSY, epoch_participant_leave(meddling.self, &err));
  OK(epoch_participant_leave(meddling.self, &err));
  epoch_participant_free(meddling.self);
  epoch_participant_free(proposing.self);
  epoch_region_free(region);
}

/* A validator that waits for the thread that has called it off, as one does that wants an
 * interpreter's lock: no call waits for it that need not. */
struct waiting {
  epoch_participant* self;
  epoch_listener* listener;
  int asked[2], go_on[2];
};
static int waits(void* user, const epoch_proposal* proposal, char* reason, size_t reason_size) {
  struct waiting* const is = (struct waiting*)user;
  (void)proposal, (void)reason, (void)reason_size;
  epoch_listener_free(is->listener);
  say(is->asked[1]);
  hear(is->go_on[0]);
  return EPOCH_ANSWER_ACCEPT;
}

TEST(brief_calls_do_not_wait_for_a_validator_that_runs) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  struct waiting waiting = {join(region, "voter", 1), NULL, {-1, -1}, {-1, -1}};
  struct proposing proposing = {join(region, "proposer", 0), "x", EPOCH_OK, EPOCH_CAUSE_NONE, ""};
  epoch_participant_info info = {.struct_size = sizeof info};
  epoch_draft* draft = NULL;
  epoch_pin pin;
  size_t size = 0;
  pthread_t thread;
  CHECK(pipe(waiting.asked) == 0 && pipe(waiting.go_on) == 0);
  OK(epoch_participant_draft(waiting.self, 1, NULL, &draft, &err));
  OK(epoch_participant_set_validator(waiting.self, waits, &waiting, &err));
  OK(epoch_participant_listen(waiting.self, &waiting.listener, &err));
  CHECK(pthread_create(&thread, NULL, proposes, &proposing) == 0);
  hear(waiting.asked[0]);
  for (int i = 0; i < 3; ++i) {
    OK(epoch_participant_pin(waiting.self, &pin, &err));
    CHECK(epoch_pin_release(&pin) == EPOCH_OK);
    OK(epoch_participant_status(waiting.self, &err));
    OK(epoch_participant_get_info(waiting.self, &info, &err));
    OK(epoch_participant_acknowledge(waiting.self, 0, &err));
    if (i == 0) OK(epoch_draft_capacity(draft, &size, &err));
    if (i == 1) epoch_draft_free(draft);
  }
  say(waiting.go_on[1]);
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(proposing.code == EPOCH_OK);
  epoch_participant_free(waiting.self); /* this one may wait */
  epoch_participant* const again = join(region, "again", 0);
  OK(epoch_participant_get_info(again, &info, &err));
  CHECK(info.slot == 0);
  epoch_participant_free(again);
  epoch_participant_free(proposing.self);
  epoch_region_free(region);
}

/* The last handles of a participant go in a callback of its own listener's thread, as a collector
 * may have it. */
static int frees_all(void* user, const epoch_proposal* proposal, char* reason, size_t reason_size) {
  struct waiting* const is = (struct waiting*)user;
  (void)proposal, (void)reason, (void)reason_size;
  epoch_participant_free(is->self);
  epoch_listener_free(is->listener);
  return EPOCH_ANSWER_ACCEPT;
}

TEST(a_validator_may_free_its_participant_and_the_slot_is_free_soon) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  struct waiting waiting = {join(region, "voter", 1), NULL, {-1, -1}, {-1, -1}};
  epoch_participant *proposer = join(region, "proposer", 0), *others[8] = {NULL};
  int joined = 0;
  OK(epoch_participant_set_validator(waiting.self, frees_all, &waiting, &err));
  OK(epoch_participant_listen(waiting.self, &waiting.listener, &err));
  OK(epoch_participant_commit(proposer, "x", 1, &agreed, NULL, &err));
  /* Its slot is the eighth. */
  while (joined < 7) {
    if (epoch_participant_join(region, NULL, &others[joined], NULL) == EPOCH_OK) {
      ++joined;
    } else {
      sched_yield();
    }
  }
  FAILS(EPOCH_INVALID_ARGUMENT, EPOCH_CAUSE_INVALID, epoch_participant_status(waiting.self, &err));
  for (int i = 0; i < joined; ++i) epoch_participant_free(others[i]);
  epoch_participant_free(proposer);
  epoch_region_free(region);
}

TEST(a_listener_makes_its_descriptor_readable) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  epoch_participant *self = join(region, "loop", 0), *other = join(region, "writer", 0);
  epoch_listener* listener = NULL;
  OK(epoch_participant_listen(self, &listener, &err));
  struct pollfd readable = {.fd = epoch_listener_fd(listener), .events = POLLIN, .revents = 0};
  CHECK(poll(&readable, 1, 0) == 0);
  for (int round = 1; round <= 3; ++round) {
    commit_text(other, "x");
    CHECK(poll(&readable, 1, 15 * 60 * 1000) == 1);
    OK(epoch_listener_drain(listener, &err));
    CHECK(poll(&readable, 1, 0) == 0);
  }
  OK(epoch_participant_await(other, 3, EPOCH_STAGE_CONVERGED, NULL, NULL, &err));
  FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_BUSY, epoch_participant_leave(self, &err));
  OK(epoch_listener_stop(listener, &err));
  OK(epoch_listener_stop(listener, &err));
  CHECK(epoch_listener_fd(listener) == -1);
  OK(epoch_listener_drain(listener, &err));
  OK(epoch_participant_leave(self, &err));
  epoch_listener_free(listener);
  epoch_participant_free(self);
  epoch_participant_free(other);
  epoch_region_free(region);
}

/* --- collective commits --------------------------------------------------------------------------
 */

static void contributes(const char* region_name, int in, int out) {
  const epoch_collective_options both = {.struct_size = sizeof both, .contributions = 2};
  epoch_region* region = open_region(region_name);
  epoch_participant* self = join(region, "second", 1);
  say(out);
  hear(in);
  OK(epoch_participant_commit_collective(self, 12, "right", 5, &both, NULL, &err));
  epoch_participant_free(self);
  epoch_region_free(region);
}

TEST(a_collective_commit_puts_the_parts_of_processes_together) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  const epoch_collective_options both = {.struct_size = sizeof both, .contributions = 2};
  const epoch_collective_options now = {
      .struct_size = sizeof now, .contributions = 2, .timeout_ns = EPOCH_NO_WAIT};
  epoch_participant* self = join(region, "first", 1);
  struct child other = begin(contributes, name);
  epoch_contribution parts[2];
  epoch_pin pin;
  size_t count = 0;
  uint64_t epoch = 0;
  hear(other.from);
  FAILS(EPOCH_DEADLINE_EXCEEDED, EPOCH_CAUSE_TIMED_OUT,
        epoch_participant_commit_collective(self, 12, "left", 4, &now, &epoch, &err));
  say(other.to);
  OK(epoch_participant_commit_collective(self, 12, "left", 4, &both, &epoch, &err));
  CHECK(epoch == 1);
  CHECK(end(&other) == 0);
  OK(epoch_participant_pin(self, &pin, &err));
  OK(epoch_contributions(pin.data, pin.size, NULL, 0, &count, &err));
  CHECK(count == 2);
  OK(epoch_contributions(pin.data, pin.size, parts, 2, &count, &err));
  CHECK(parts[0].slot == 0 && parts[0].size == 4 && memcmp(parts[0].data, "left", 4) == 0);
  CHECK(parts[1].slot == 1 && parts[1].size == 5 && memcmp(parts[1].data, "right", 5) == 0);
  FAILS(EPOCH_DATA_LOSS, -1, epoch_contributions("xyz", 3, parts, 2, &count, &err));
  CHECK(epoch_pin_release(&pin) == EPOCH_OK);
  FAILS(EPOCH_ALREADY_EXISTS, EPOCH_CAUSE_REPEATED,
        epoch_participant_commit_collective(self, 12, "left", 4, NULL, &epoch, &err));
  epoch_participant_free(self);
  epoch_region_free(region);
}
