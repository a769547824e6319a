/* Runs the tests that are named, or all. --list names them. */
#include <errno.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

__thread epoch_error* err;
static __thread epoch_error* last_error;
static struct test* tests;
static pid_t tester;
static char regions[16][64];
static char directories[16][256];
static int region_count, directory_count;

void add_test(struct test* test) {
  test->next = tests;
  tests = test;
}

static int remove_one(const char* path, const struct stat* info, int type, struct FTW* walk) {
  (void)info, (void)type, (void)walk;
  return remove(path);
}
static void clean_up(void) {
  if (getpid() != tester) return;
  for (int i = 0; i < region_count; ++i) epoch_region_unlink(regions[i], NULL);
  for (int i = 0; i < directory_count; ++i) {
    nftw(directories[i], remove_one, 16, FTW_DEPTH | FTW_PHYS);
  }
}

void fail(const char* file, int line, const char* what, const char* why) {
  fprintf(stderr, "%s:%d: %s: %s\n", file, line, what, why);
  fflush(stderr);
  clean_up();
  _exit(1);
}

void expect(const char* file, int line, const char* call, epoch_code is, epoch_code wanted,
            int cause) {
  char why[1024];
  epoch_error_free(last_error);
  last_error = err;
  if (is != wanted || (cause >= 0 && (int)epoch_error_cause(err) != cause)) {
    snprintf(why, sizeof why, "is %s, cause %s: \"%s\"; wanted %s, cause %s", epoch_code_name(is),
             epoch_cause_name(epoch_error_cause(err)), epoch_error_message(err),
             epoch_code_name(wanted), cause < 0 ? "any" : epoch_cause_name((epoch_cause)cause));
    fail(file, line, call, why);
  }
  if ((is == EPOCH_OK) != (err == NULL)) fail(file, line, call, "code and error differ");
  if (is != EPOCH_OK && epoch_error_code(err) != is) fail(file, line, call, "another code inside");
  err = NULL;
}
const epoch_error* last(void) { return last_error; }
void forget_error(void) {
  epoch_error_free(last_error);
  last_error = NULL;
}

const char* scratch_region(void) {
  char* const name = regions[region_count++];
  snprintf(name, sizeof regions[0], "c-%d-%d", (int)getpid(), region_count);
  return name;
}
const char* scratch_directory(void) {
  const char* const where = getenv("TMPDIR");
  char* const path = directories[directory_count++];
  snprintf(path, sizeof directories[0], "%s/epoch-c-XXXXXX", where == NULL ? "/var/tmp" : where);
  CHECK(mkdtemp(path) != NULL);
  return path;
}

epoch_region* small_region(const char** name) {
  const epoch_region_options options = {
      .struct_size = sizeof options, .state_bytes = 256, .participants = 8, .versions = 8};
  epoch_region* region = NULL;
  *name = scratch_region();
  OK(epoch_region_create(*name, &options, &region, &err));
  return region;
}
epoch_region* durable_region(const char** name, const char** journal) {
  static char path[300];
  epoch_region_options options = {.struct_size = sizeof options, .state_bytes = 256};
  epoch_region* region = NULL;
  *name = scratch_region();
  snprintf(path, sizeof path, "%s/journal", scratch_directory());
  *journal = path;
  options.journal = path;
  OK(epoch_region_open_or_create(*name, &options, &region, &err));
  return region;
}
epoch_participant* join(epoch_region* region, const char* name, int voter) {
  const epoch_join_options options = {
      .struct_size = sizeof options, .name = name, .voter = voter ? 1u : 0u};
  epoch_participant* self = NULL;
  OK(epoch_participant_join(region, &options, &self, &err));
  return self;
}
epoch_region* open_region(const char* name) {
  epoch_region* region = NULL;
  OK(epoch_region_open(name, NULL, &region, &err));
  return region;
}
uint64_t commit_text(epoch_participant* self, const char* text) {
  uint64_t epoch = 0;
  OK(epoch_participant_commit(self, text, strlen(text), NULL, &epoch, &err));
  return epoch;
}
int pin_is(const epoch_pin* pin, const char* text) {
  return pin->size == strlen(text) && memcmp(pin->data, text, pin->size) == 0;
}

struct child begin(role run, const char* region) {
  struct child child = {0, -1, -1};
  int in[2], out[2];
  CHECK(pipe(in) == 0 && pipe(out) == 0);
  fflush(NULL);
  const pid_t parent = getpid();
  child.pid = fork();
  CHECK(child.pid >= 0);
  if (child.pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(4);
    close(in[1]);
    close(out[0]);
    run(region, in[0], out[1]);
    _exit(0);
  }
  close(in[0]);
  close(out[1]);
  child.to = in[1];
  child.from = out[0];
  return child;
}
void say(int fd) { CHECK(write(fd, "x", 1) == 1); }
void hear(int fd) {
  char byte = 0;
  ssize_t got = 0;
  struct pollfd readable = {.fd = fd, .events = POLLIN, .revents = 0};
  do {
    CHECK(poll(&readable, 1, 15 * 60 * 1000) != 0);
    got = read(fd, &byte, 1);
  } while (got < 0 && errno == EINTR);
  if (got != 1) fail(__FILE__, __LINE__, "the other process", "is gone");
}
int end(struct child* child) {
  int status = 0;
  close(child->to);
  close(child->from);
  while (waitpid(child->pid, &status, 0) < 0) CHECK(errno == EINTR);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}
void kill_child(struct child* child) {
  CHECK(kill(child->pid, SIGKILL) == 0);
  CHECK(end(child) == -SIGKILL);
}

int main(int argc, char** argv) {
  int failed = 0;
  tester = getpid();
  atexit(clean_up);
  signal(SIGPIPE, SIG_IGN);
  for (const struct test* test = tests; test != NULL; test = test->next) {
    int asked = argc < 2;
    for (int i = 1; i < argc; ++i) asked |= strcmp(argv[i], test->name) == 0;
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
      printf("%s\n", test->name);
      continue;
    }
    if (!asked) continue;
    /* In a process of its own: a check ends it, and what it made goes with it. */
    fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
      tester = getpid();
      test->run();
      forget_error();
      exit(0);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    const int good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    printf("%s %s\n", good ? "ok    " : "FAILED", test->name);
    failed += !good;
  }
  return failed != 0;
}
