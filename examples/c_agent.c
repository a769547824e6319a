/* An agent in C: it adds to a counter that processes share, and goes on after whatever may go
 * wrong.
 *
 *   c_agent REGION ROUNDS     adds one, ROUNDS times, and says where the counter stands
 *   c_agent REGION demo       three agents at a time, and whether any addition was lost; removes
 * the region
 *
 * cc c_agent.c $(pkg-config --cflags --libs epoch)
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "epoch/c.h"

static volatile sig_atomic_t ending;
static void end_soon(int signal) {
  (void)signal;
  ending = 1;
}
static int interrupted(void* user) {
  (void)user;
  return ending;
}

/* Says what went wrong, because of whom, and what became of it. */
static void complain(const char* what, const epoch_error* error) {
  fprintf(stderr, "c_agent: %s: %s: %s\n", what, epoch_code_name(epoch_error_code(error)),
          epoch_error_message(error));
  for (size_t i = 0; i < epoch_error_culprit_count(error); ++i) {
    epoch_culprit culprit = {.struct_size = sizeof culprit};
    if (epoch_error_culprit(error, i, &culprit) != EPOCH_OK) continue;
    fprintf(stderr, "c_agent:   slot %" PRIu32 ", pid %" PRIu32 ", \"%s\" %s\n", culprit.slot,
            culprit.pid, culprit.name, culprit.reason);
  }
}

static uint64_t value_of(const void* data, size_t size) {
  uint64_t value = 0;
  if (size == sizeof value) memcpy(&value, data, sizeof value); /* else: a new region */
  return value;
}

/* Called again whenever another process was faster. */
static int add_one(void* user, const epoch_current* current, epoch_draft* next) {
  const uint64_t value = value_of(current->data, current->size) + 1;
  (void)user;
  return (int)epoch_draft_assign(next, &value, sizeof value, NULL);
}

/* 1: go on. 0: end. */
static int add(epoch_participant* self) {
  const epoch_commit_options options = {.struct_size = sizeof options, .interrupted = interrupted};
  epoch_error* error = NULL;
  uint64_t epoch = 0;
  int goes_on = 1;
  if (epoch_participant_update(self, add_one, NULL, &options, &epoch, &error) == EPOCH_OK) return 1;
  complain("update", error);
  if (epoch_error_outcome(error) == EPOCH_OUTCOME_PENDING &&
      epoch_error_accepted(error, &epoch) != 0) {
    /* It has its number: to update again would add twice. */
    goes_on = epoch_participant_await_ticket(self, epoch, NULL, NULL, NULL) == EPOCH_OK;
  } else if (epoch_error_cause(error) == EPOCH_CAUSE_EXPELLED) {
    /* This process stood still for longer than others would wait. */
    goes_on = epoch_participant_rejoin(self, NULL) == EPOCH_OK && add(self);
  } else {
    goes_on = 0;
  }
  epoch_error_free(error);
  return goes_on && !ending;
}

static int run(const char* name, long rounds) {
  const epoch_region_options options = {.struct_size = sizeof options, .state_bytes = 4096};
  const epoch_join_options joining = {.struct_size = sizeof joining, .name = "c_agent"};
  epoch_region* region = NULL;
  epoch_participant* self = NULL;
  epoch_error* error = NULL;
  epoch_pin pin;
  int status = 1;
  if (epoch_region_open_or_create(name, &options, &region, &error) != EPOCH_OK ||
      epoch_participant_join(region, &joining, &self, &error) != EPOCH_OK) {
    complain(name, error);
    goto done;
  }
  while (rounds > 0 && add(self)) --rounds;
  if (epoch_participant_pin(self, &pin, &error) != EPOCH_OK) {
    complain("pin", error);
    goto done;
  }
  printf("epoch %" PRIu64 ", counter %" PRIu64 "\n", pin.epoch, value_of(pin.data, pin.size));
  epoch_pin_release(&pin);
  status = rounds != 0;
done: /* in any order; each of them may be NULL */
  epoch_error_free(error);
  epoch_region_free(region);
  epoch_participant_free(self);
  return status;
}

static int demo(const char* name) {
  enum { kAgents = 3, kRounds = 1000 };
  int status = 0;
  for (int i = 0; i < kAgents; ++i) {
    const pid_t pid = fork();
    if (pid == 0) exit(run(name, kRounds));
    status |= pid < 0;
  }
  for (int i = 0, ended = 0; i < kAgents; ++i) {
    if (wait(&ended) > 0) status |= ended;
  }
  status |= run(name, 0);
  epoch_region_unlink(name, NULL);
  return status != 0;
}

int main(int argc, char** argv) {
  const struct sigaction action = {.sa_handler = end_soon};
  if (argc != 3) {
    fprintf(stderr, "usage: c_agent REGION ROUNDS|demo\n");
    return 2;
  }
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  return strcmp(argv[2], "demo") == 0 ? demo(argv[1]) : run(argv[1], strtol(argv[2], NULL, 10));
}
