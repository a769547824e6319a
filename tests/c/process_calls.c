/* Death, expulsion, fork. */
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

/* Holds a pin and a draft until the end. */
static void holds(const char* region_name, int in, int out) {
  epoch_region* region = open_region(region_name);
  epoch_participant* self = join(region, "holder", 0);
  epoch_pin pin;
  epoch_draft* draft = NULL;
  uint64_t epoch = 0;
  OK(epoch_participant_pin(self, &pin, &err));
  OK(epoch_participant_draft(self, 8, NULL, &draft, &err));
  say(out);
  hear(in);
  FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_EXPELLED,
        epoch_participant_commit_draft(self, draft, NULL, &epoch, &err));
  FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_EXPELLED, epoch_participant_poll(self, NULL, &err));
  CHECK(pin_is(&pin, "held")); /* what it pins stays as it is */
  FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_PIN_HELD, epoch_participant_rejoin(self, &err));
  CHECK(epoch_pin_release(&pin) == EPOCH_OK);
  FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_EXPELLED, epoch_participant_pin(self, &pin, &err));
  CHECK(pin.participant == NULL && pin.data == NULL);
  epoch_draft_free(draft);
  OK(epoch_participant_rejoin(self, &err));
  OK(epoch_participant_pin(self, &pin, &err));
  CHECK(epoch_pin_release(&pin) == EPOCH_OK);
  epoch_participant_free(self);
  epoch_region_free(region);
}

TEST(what_a_killed_process_held_is_freed) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  epoch_participant* self = join(region, "survivor", 0);
  uint32_t reaped = 9;
  commit_text(self, "held");
  struct child holder = begin(holds, name);
  hear(holder.from);
  kill_child(&holder);
  OK(epoch_region_reap(region, &reaped, &err));
  CHECK(reaped == 1);
  for (int i = 0; i < 40; ++i) commit_text(self, "x");
  OK(epoch_region_reap(region, NULL, &err));
  epoch_participant_free(self);
  epoch_region_free(region);
}

TEST(an_expelled_process_is_told_and_may_rejoin) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  epoch_participant* self = join(region, "survivor", 0);
  commit_text(self, "held");
  struct child holder = begin(holds, name);
  hear(holder.from);
  OK(epoch_region_expel(region, 1, &err));
  for (int i = 0; i < 5; ++i) commit_text(self, "x");
  say(holder.to);
  CHECK(end(&holder) == 0);
  FAILS(EPOCH_INVALID_ARGUMENT, -1, epoch_region_expel(region, 99, &err));
  epoch_participant_free(self);
  epoch_region_free(region);
}

TEST(a_stopped_reader_is_expelled_for_a_fence) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  epoch_participant* self = join(region, "survivor", 0);
  epoch_commit_options fenced = {
      .struct_size = sizeof fenced, .fence = 1, .timeout_ns = 5 * 1000 * 1000};
  epoch_culprit culprit = {.struct_size = sizeof culprit};
  uint64_t epoch = 0;
  commit_text(self, "held");
  struct child holder = begin(holds, name);
  hear(holder.from);
  CHECK(kill(holder.pid, SIGSTOP) == 0);
  CHECK(waitpid(holder.pid, NULL, WUNTRACED) == holder.pid);
  FAILS(EPOCH_DEADLINE_EXCEEDED, EPOCH_CAUSE_TIMED_OUT,
        epoch_participant_commit(self, "x", 1, &fenced, &epoch, &err));
  CHECK(epoch_error_culprit(last(), 0, &culprit) == EPOCH_OK);
  CHECK(strcmp(culprit.name, "holder") == 0 && culprit.has_epoch && culprit.epoch == 1);
  fenced.on_straggler = EPOCH_STRAGGLER_EXPEL;
  OK(epoch_participant_commit(self, "x", 1, &fenced, &epoch, &err));
  say(holder.to);
  CHECK(kill(holder.pid, SIGCONT) == 0);
  CHECK(end(&holder) == 0);
  epoch_participant_free(self);
  epoch_region_free(region);
}

/* --- fork ----------------------------------------------------------------------------------------
 */

struct forked {
  epoch_region* region;
  epoch_participant* self;
  epoch_draft* draft;
  epoch_listener* listener;
  epoch_pin pin;
  const char* text;
  int stops;
};
static struct forked family;

/* All calls on what is the parent's. */
static void all_are_the_parents(struct forked* is) {
  epoch_participant* const self = is->self;
  epoch_participant_info info = {.struct_size = sizeof info};
  epoch_listener* listener = NULL;
  epoch_draft* draft = NULL;
  epoch_pin pin;
  void* data = NULL;
  size_t size = 0;
  uint64_t ticket = 0;
#define FORKED(call) FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_FORKED, call)
  FORKED(epoch_participant_leave(self, &err));
  FORKED(epoch_participant_status(self, &err));
  FORKED(epoch_participant_get_info(self, &info, &err));
  FORKED(epoch_participant_poll(self, NULL, &err));
  FORKED(epoch_participant_acknowledge(self, 0, &err));
  FORKED(epoch_participant_park(self, &err));
  FORKED(epoch_participant_serve(self, NULL, &err));
  FORKED(epoch_participant_pin(self, &pin, &err));
  CHECK(pin.participant == NULL);
  FORKED(epoch_participant_try_pin(self, NULL, &pin, &err));
  FORKED(epoch_participant_draft(self, 1, NULL, &draft, &err));
  FORKED(epoch_participant_commit(self, "x", 1, NULL, NULL, &err));
  FORKED(epoch_participant_commit_draft(self, is->draft, NULL, NULL, &err));
  FORKED(epoch_participant_propose(self, is->draft, NULL, &ticket, &err));
  FORKED(epoch_participant_update(self, NULL, NULL, NULL, NULL, &err));
  FORKED(epoch_participant_propose_update(self, NULL, NULL, NULL, &ticket, &err));
  FORKED(epoch_participant_await_ticket(self, 0, NULL, NULL, &err));
  FORKED(epoch_participant_await(self, 0, EPOCH_STAGE_COMMITTED, NULL, NULL, &err));
  FORKED(epoch_participant_set_validator(self, NULL, NULL, &err));
  FORKED(epoch_participant_vote(self, 1, EPOCH_ANSWER_ACCEPT, NULL, &err));
  FORKED(epoch_participant_commit_collective(self, 1, NULL, 0, NULL, NULL, &err));
  FORKED(epoch_participant_listen(self, &listener, &err));
  /* What is written there is what the parent commits; what is read there, what it waits for. */
  FORKED(epoch_draft_data(is->draft, &data, &size, &err));
  FORKED(epoch_draft_capacity(is->draft, &size, &err));
  FORKED(epoch_draft_resize(is->draft, 1, &err));
  FORKED(epoch_draft_assign(is->draft, "x", 1, &err));
  FORKED(epoch_listener_drain(is->listener, &err));
  CHECK(epoch_listener_fd(is->listener) == -1);
}

static void goes_on_in_the_child(const char* region_name, int in, int out) {
  epoch_participant* const self = family.self;
  (void)region_name, (void)in;
  all_are_the_parents(&family);
  /* Each thing that was copied along keeps it from rejoining. */
  FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_PIN_HELD, epoch_participant_rejoin(self, &err));
  CHECK(epoch_pin_release(&family.pin) == EPOCH_OK);
  FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_BUSY, epoch_participant_rejoin(self, &err));
  epoch_draft_free(family.draft);
  FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_BUSY, epoch_participant_rejoin(self, &err));
  if (family.stops) OK(epoch_listener_stop(family.listener, &err));
  if (!family.stops) epoch_listener_free(family.listener);
  OK(epoch_participant_rejoin(self, &err));
  if (family.stops) epoch_listener_free(family.listener);
  for (int i = 0; i < 3; ++i) {
    epoch_pin pin;
    OK(epoch_participant_pin(self, &pin, &err));
    CHECK(pin_is(&pin, i == 0 ? family.text : "child's"));
    CHECK(epoch_pin_release(&pin) == EPOCH_OK);
    if (i == 0) commit_text(self, "child's");
  }
  epoch_participant_free(self);
  epoch_region_free(family.region);
  say(out);
}

static void a_child_rejoins(int stops) {
  const char* name = NULL;
  epoch_pin pin;
  family.stops = stops;
  family.text = "parent's";
  family.region = small_region(&name);
  family.self = join(family.region, "parent", 0);
  commit_text(family.self, "parent's");
  OK(epoch_participant_pin(family.self, &family.pin, &err));
  OK(epoch_participant_draft(family.self, 1, NULL, &family.draft, &err));
  OK(epoch_participant_listen(family.self, &family.listener, &err));
  struct child child = begin(goes_on_in_the_child, name);
  hear(child.from);
  CHECK(end(&child) == 0);
  CHECK(pin_is(&family.pin, "parent's"));
  OK(epoch_participant_status(family.self, &err));
  CHECK(epoch_pin_release(&family.pin) == EPOCH_OK);
  OK(epoch_participant_pin(family.self, &pin, &err));
  CHECK(pin_is(&pin, "child's"));
  CHECK(epoch_pin_release(&pin) == EPOCH_OK);
  epoch_draft_free(family.draft);
  epoch_listener_free(family.listener);
  epoch_participant_free(family.self);
  epoch_region_free(family.region);
}
TEST(a_fork_child_has_none_of_its_parents_and_may_rejoin) { a_child_rejoins(0); }
TEST(or_when_it_has_stopped_its_listener) { a_child_rejoins(1); }

/* Forks in the middle of a call, in a callback of it. */
static pid_t child_of_update = -1;
static int finds_it_busy(void* user, const epoch_current* current, epoch_draft* next) {
  (void)current;
  FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_BUSY,
        epoch_participant_status((epoch_participant*)user, &err));
  return (int)epoch_draft_assign(next, "of the child", 12, NULL);
}
static int forks(void* user, const epoch_current* current, epoch_draft* next) {
  (void)user, (void)current;
  if (child_of_update < 0) { /* not again, if the child's commit comes first */
    child_of_update = fork();
    CHECK(child_of_update >= 0);
  }
  /* The child is told that it is the parent's. */
  return (int)epoch_draft_assign(next, "forked", 6, NULL);
}
TEST(a_fork_in_an_update_leaves_the_parent_alone) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  epoch_participant* self = join(region, "parent", 0);
  const pid_t parent = getpid();
  uint64_t epoch = 0;
  int status = -1;
  epoch_error* error = NULL;
  const epoch_code code = epoch_participant_update(self, forks, NULL, NULL, &epoch, &error);
  if (getpid() != parent) {
    CHECK(code == EPOCH_FAILED_PRECONDITION);
    epoch_error_free(error);
    OK(epoch_participant_rejoin(self, &err));
    /* Who is turned away from here on is told why: not because of that fork. */
    OK(epoch_participant_update(self, finds_it_busy, self, NULL, NULL, &err));
    epoch_participant_free(self);
    _exit(0);
  }
  CHECK(code == EPOCH_OK);
  CHECK(waitpid(child_of_update, &status, 0) == child_of_update && status == 0);
  commit_text(self, "x");
  OK(epoch_region_epoch(region, &epoch, &err));
  CHECK(epoch == 3);
  epoch_participant_free(self);
  epoch_region_free(region);
}

/* Another thread is inside while this one forks: in the child nobody ever leaves. */
static int forks_elsewhere(void* user) {
  say(((int*)user)[0]);
  hear(((int*)user)[1]);
  return 1;
}
static void* waits_meanwhile(void* user) {
  const epoch_wait_options wait = {
      .struct_size = sizeof wait, .interrupted = forks_elsewhere, .interrupted_user = user};
  epoch_participant_await(family.self, 9, EPOCH_STAGE_COMMITTED, &wait, NULL, NULL);
  return NULL;
}
static void finds_it_lost(const char* region_name, int in, int out) {
  (void)region_name, (void)in;
  epoch_pin pin;
  FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_FORKED,
        epoch_participant_pin(family.self, &pin, &err));
  FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_FORKED, epoch_participant_rejoin(family.self, &err));
  epoch_participant_free(family.self);
  epoch_participant* const own = join(family.region, "child", 0);
  commit_text(own, "x");
  epoch_participant_free(own);
  say(out);
}
TEST(a_participant_that_another_thread_was_in_at_a_fork_is_lost_to_the_child) {
  const char* name = NULL;
  int reached[2], go_on[2], ends[2];
  pthread_t thread;
  family.region = small_region(&name);
  family.self = join(family.region, "parent", 0);
  CHECK(pipe(reached) == 0 && pipe(go_on) == 0);
  ends[0] = reached[1];
  ends[1] = go_on[0];
  CHECK(pthread_create(&thread, NULL, waits_meanwhile, ends) == 0);
  hear(reached[0]);
  struct child child = begin(finds_it_lost, name);
  hear(child.from);
  CHECK(end(&child) == 0);
  say(go_on[1]);
  CHECK(pthread_join(thread, NULL) == 0);
  OK(epoch_participant_status(family.self, &err));
  epoch_participant_free(family.self);
  epoch_region_free(family.region);
}
