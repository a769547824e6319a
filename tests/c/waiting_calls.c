/* Who must not wait for whom: validators for each other, and a free for nobody. */
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "check.h"

static const epoch_commit_options all_agree = {.struct_size = sizeof(epoch_commit_options),
                                               .agreement = EPOCH_AGREE_ALL_VOTERS};

/* Validators of two participants that run at the same time, each in its listener's thread, and each
 * calls the other's participant: what might wait for the other is refused. */
struct pair {
  epoch_participant *self, *other;
  epoch_listener* listener_of_other;
  int in, out;
  int meets;
};
static int calls_the_other(void* user, const epoch_proposal* proposal, char* reason, size_t size) {
  struct pair* const is = (struct pair*)user;
  epoch_pin pin;
  (void)reason, (void)size;
  if (is->meets) {
    say(is->out);
    hear(is->in);
    FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_BUSY,
          epoch_participant_vote(is->other, proposal->ballot, EPOCH_ANSWER_ACCEPT, NULL, &err));
    FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_BUSY,
          epoch_participant_set_validator(is->other, NULL, NULL, &err));
    FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_BUSY, epoch_participant_leave(is->other, &err));
    FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_BUSY, epoch_participant_rejoin(is->other, &err));
    FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_BUSY,
          epoch_participant_commit_collective(is->other, 1, NULL, 0, NULL, NULL, &err));
    FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_BUSY,
          epoch_listener_stop(is->listener_of_other, &err));
    /* What waits for nobody goes on. */
    OK(epoch_participant_pin(is->other, &pin, &err));
    CHECK(epoch_pin_release(&pin) == EPOCH_OK);
    epoch_listener_free(is->listener_of_other);
    say(is->out);
    hear(is->in);
    forget_error();
  }
  return EPOCH_ANSWER_ACCEPT;
}

TEST(validators_never_wait_for_each_other) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  epoch_participant* proposer = join(region, "proposer", 0);
  int ab[2], ba[2];
  CHECK(pipe(ab) == 0 && pipe(ba) == 0);
  struct pair a = {join(region, "a", 1), NULL, NULL, ba[0], ab[1], 1};
  struct pair b = {join(region, "b", 1), a.self, NULL, ab[0], ba[1], 1};
  a.other = b.self;
  OK(epoch_participant_set_validator(a.self, calls_the_other, &a, &err));
  OK(epoch_participant_set_validator(b.self, calls_the_other, &b, &err));
  OK(epoch_participant_listen(a.self, &b.listener_of_other, &err));
  OK(epoch_participant_listen(b.self, &a.listener_of_other, &err));
  OK(epoch_participant_commit(proposer, "x", 1, &all_agree, NULL, &err));
  /* Their listeners end soon, whoever of them freed which. */
  while (epoch_participant_leave(a.self, NULL) != EPOCH_OK) sched_yield();
  while (epoch_participant_leave(b.self, NULL) != EPOCH_OK) sched_yield();
  epoch_participant_free(a.self);
  epoch_participant_free(b.self);
  epoch_participant_free(proposer);
  epoch_region_free(region);
}

/* A listener that is freed while a call of its participant is under way that is not to wait: it
 * ends all the same, without a further call. */
struct draining {
  epoch_participant* self;
  epoch_listener* listener;
};
static int frees_its_listener(void* user) {
  struct draining* const is = (struct draining*)user;
  epoch_listener_free(is->listener);
  return 1;
}
static int threads(void) {
  int count = 0;
  DIR* const tasks = opendir("/proc/self/task");
  CHECK(tasks != NULL);
  for (const struct dirent* each; (each = readdir(tasks)) != NULL;) count += each->d_name[0] != '.';
  closedir(tasks);
  return count;
}
static void* tells_its_number(void* user) {
  *(pid_t*)user = gettid();
  return NULL;
}
/* A sanitizer has threads of its own, from the first one on that a program begins. */
static int threads_of_others(void) {
  char path[64];
  pid_t first = 0;
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, tells_its_number, &first) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(snprintf(path, sizeof path, "/proc/self/task/%d", (int)first) > 0);
  while (access(path, F_OK) == 0) sched_yield();
  return threads();
}
static void* fences(void* user) {
  const epoch_commit_options fenced = {.struct_size = sizeof fenced, .fence = 1};
  CHECK(epoch_participant_commit((epoch_participant*)user, "x", 1, &fenced, NULL, NULL) ==
        EPOCH_OK);
  return NULL;
}

TEST(a_listener_that_is_freed_in_a_brief_call_ends_without_another) {
  const char* name = NULL;
  const int before = threads_of_others();
  epoch_region* region = small_region(&name);
  epoch_participant *reader = join(region, "reader", 0), *proposer = join(region, "proposer", 0);
  struct draining is = {join(region, "self", 0), NULL};
  const epoch_wait_options wait = {
      .struct_size = sizeof wait, .interrupted = frees_its_listener, .interrupted_user = &is};
  epoch_pin held, pin;
  pthread_t thread;
  epoch_code code = EPOCH_OK;
  OK(epoch_participant_listen(is.self, &is.listener, &err));
  OK(epoch_participant_pin(reader, &held, &err));
  CHECK(pthread_create(&thread, NULL, fences, proposer) == 0);
  while ((code = epoch_participant_try_pin(is.self, &wait, &pin, NULL)) == EPOCH_OK) {
    CHECK(epoch_pin_release(&pin) == EPOCH_OK); /* the fence has not begun */
  }
  CHECK(code == EPOCH_CANCELLED);
  CHECK(epoch_listener_fd(is.listener) == -1);
  CHECK(epoch_pin_release(&held) == EPOCH_OK);
  CHECK(pthread_join(thread, NULL) == 0);
  while (threads() != before) sched_yield();
  OK(epoch_participant_leave(is.self, &err)); /* at once */
  epoch_participant_free(is.self);
  epoch_participant_free(reader);
  epoch_participant_free(proposer);
  epoch_region_free(region);
}
