/* What the calls that make transitions have in common: their options, and drafts. */
#ifndef EPOCH_BINDINGS_PYTHON_TRANSITION_H_
#define EPOCH_BINDINGS_PYTHON_TRANSITION_H_

#include "border.h"

typedef struct commit_arguments {
  call is;
  epoch_commit_options options;
  PyObject* expected;
  int agree, fence;
  PyObject* min_voters;
} commit_arguments;

#define COMMIT_KEYWORDS \
  "expected", "token", "agree", "fence", "timeout", "min_voters", "on_straggler", "interrupt", NULL
#define COMMIT_FORMAT "$OO&ppO&OO&O&"
#define COMMIT_TARGETS(a)                                                                         \
  &(a)->expected, u64_or_none, &(a)->options.token, &(a)->agree, &(a)->fence, seconds_argument,   \
      &(a)->options.timeout_ns, &(a)->min_voters, straggler_argument, &(a)->options.on_straggler, \
      interrupt_argument, &(a)->is
/* After the arguments were parsed. -1: something was raised. */
int commit_prepare(commit_arguments* a);

/* What a call that made an epoch, or a ticket, came to. */
PyObject* epoch_number(call* is, epoch_code code, epoch_error* error, uint64_t epoch);
PyObject* ticket_of(call* is, epoch_code code, epoch_error* error, uint64_t epoch);

typedef struct draft_object {
  PyObject ob_base;
  epoch_draft* handle; /* NULL: freed */
  participant_object* owner;
  Py_ssize_t exports; /* views */
  bool leaving;       /* it is being committed: no view may begin */
} draft_object;

/* 0: no view of it is alive, through which somebody would write what others read. */
int draft_let(draft_object* self);
/* Commits it, or proposes it: `number` is its epoch. */
epoch_code draft_send(draft_object* self, commit_arguments* a, bool waits, uint64_t* number,
                      epoch_error** error);

#endif /* EPOCH_BINDINGS_PYTHON_TRANSITION_H_ */
