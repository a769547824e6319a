/* What the tests of the C interface share: checks that end the program, scratch names, children. */
#ifndef EPOCH_TESTS_C_CHECK_H_
#define EPOCH_TESTS_C_CHECK_H_

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#include "epoch/c.h"

/* TEST(its_name_is_a_sentence) { ... }: main.c runs those that it is asked for. */
#define TEST(name)                                            \
  static void name(void);                                     \
  __attribute__((constructor)) static void add_##name(void) { \
    static struct test test = {#name, name, NULL};            \
    add_test(&test);                                          \
  }                                                           \
  static void name(void)

struct test {
  const char* name;
  void (*run)(void);
  struct test* next;
};
void add_test(struct test* test);

/* The error of the last call in OK or FAILS. Threads have one of their own. */
extern __thread epoch_error* err;

/* Whether the call, which is given &err, has ended like that; says why not, and ends the program.
 */
#define OK(call) expect(__FILE__, __LINE__, #call, (call), EPOCH_OK, -1)
#define FAILS(code, cause, call) expect(__FILE__, __LINE__, #call, (call), code, cause)
#define CHECK(condition) ((condition) ? (void)0 : fail(__FILE__, __LINE__, #condition, "is not so"))
void expect(const char* file, int line, const char* call, epoch_code is, epoch_code wanted,
            int cause);
void fail(const char* file, int line, const char* what, const char* why);
/* Of the error of the last FAILS, which is freed by the next one. */
const epoch_error* last(void);
void forget_error(void); /* at the end of a thread */

/* "c-PID-N" of this process's test; removed at the end of the program. */
const char* scratch_region(void);
/* An empty directory, removed at the end. */
const char* scratch_directory(void);

/* Small enough that versions are used again soon. */
epoch_region* small_region(const char** name);
epoch_region* durable_region(const char** name, const char** journal);
epoch_participant* join(epoch_region* region, const char* name, int voter);
epoch_region* open_region(const char* name);
uint64_t commit_text(epoch_participant* self, const char* text);
int pin_is(const epoch_pin* pin, const char* text);

/* A process that does one thing and is killed at the end of this one, at the latest. */
struct child {
  pid_t pid;
  int to;
  int from;
};
typedef void (*role)(const char* region, int in, int out);
struct child begin(role run, const char* region);
void say(int fd);       /* one byte */
void hear(int fd);      /* waits for one */
int end(struct child*); /* waits for the end: exit code, or minus the signal */
void kill_child(struct child*);

#endif /* EPOCH_TESTS_C_CHECK_H_ */
