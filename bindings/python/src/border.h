/* The border between Python and epoch/c.h: who holds the interpreter's lock (the GIL), what ends a
 * wait, and what becomes of an error.
 *
 * A call that may wait gives the lock up (`call_begin`), and its callbacks take it again
 * (`python_enter`). What a callback raises is kept in the call, ends its wait, and is raised when
 * the call returns (`call_outcome`). A call that waits for nobody keeps the lock.
 *
 * Thread safety: with the lock, but for call_end, python_enter and call_interrupted.
 * Invariants: nothing of Python unwinds a frame of libepoch. So when the interpreter ends, the hook
 * `leave_python` waits until no other thread is in a callback, and lets none begin: a thread that
 * asked for the lock later would be ended by the interpreter where it stands. A thread that is in a
 * callback already may begin others within it, as the hook waits for all of it.
 */
#ifndef EPOCH_BINDINGS_PYTHON_BORDER_H_
#define EPOCH_BINDINGS_PYTHON_BORDER_H_

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <structmember.h>

#include "epoch/c.h"

/* ---- calls ------------------------------------------------------------------------------------
 */

typedef struct call {
  struct call* outer;                 /* of the same thread, which is in a callback of it */
  PyThreadState* thread;              /* while the lock is given up; else NULL */
  PyObject *type, *value, *traceback; /* raised in a callback; type NULL: nothing */
  PyObject* interrupt;                /* an Interrupt that the caller has given; or NULL */
  bool ended;                         /* a callback came too late: the interpreter was ending */
} call;

void call_begin(call* is);
void call_end(call* is);
/* Whether this thread is in one: in a callback of it, then. */
bool call_is_under_way(void);
/* Runs an expression without the lock. */
#define WAITING(is, code, expression) \
  do {                                \
    call_begin(is);                   \
    (code) = (expression);            \
    call_end(is);                     \
  } while (0)

/* For `interrupted` of c.h; its user pointer is the call. In the main thread it handles signals. */
int call_interrupted(void* is);
/* What a call has made when it succeeds: nothing that has to be known (epoch 0), an epoch that is
 * committed, or one that is accepted. */
typedef struct made_epoch {
  uint64_t epoch;
  bool pending;
} made_epoch;
/* 0; or -1, and a Python exception is set. Frees the error. What is raised in spite of something
 * that was made, or may have been, carries a note of it. */
int call_outcome(call* is, epoch_code code, epoch_error* error);
int call_outcome_of(call* is, epoch_code code, epoch_error* error, made_epoch what);
/* Of a call that kept the lock. */
int outcome(epoch_code code, epoch_error* error);

/* ---- callbacks --------------------------------------------------------------------------------
 */

typedef struct python {
  call* within; /* the call of this thread whose callback this is; NULL: of another thread */
  PyGILState_STATE state;
  bool counted;
} python;

/* Takes the lock. False: the interpreter is ending, and this thread must not touch it. */
bool python_enter(python* is);
void python_leave(python* is);
/* What is raised just now is raised by the call that this is a callback of. False: of none. */
bool python_keep_raised(python* is);

/* ---- exceptions -------------------------------------------------------------------------------
 */

/* Raises a class of epoch.errors. Returns NULL. */
PyObject* raise_as(const char* name, const char* message);

/* ---- arguments: converters for PyArg_Parse, "O&" -----------------------------------------------
 */

int seconds_argument(PyObject* from, void* nanos);       /* int64_t; None: 0 */
int u64_argument(PyObject* from, void* number);          /* uint64_t */
int u32_argument(PyObject* from, void* number);          /* uint32_t */
int u64_or_none(PyObject* from, void* number);           /* uint64_t; None: as it is */
int u32_or_none(PyObject* from, void* number);           /* uint32_t; None: as it is */
int path_argument(PyObject* from, void* bytes);          /* PyObject*; None: NULL */
int straggler_argument(PyObject* from, void* straggler); /* int32_t; "abort", "expel" */
int interrupt_argument(PyObject* from, void* is);        /* call; None */

const char* path_text(PyObject* bytes); /* NULL: NULL */

typedef struct wait_arguments {
  call is;
  epoch_wait_options options;
} wait_arguments;
/* `timeout=None`, after what the caller has. */
void wait_prepare(wait_arguments* wait);

/* ---- results ----------------------------------------------------------------------------------
 */

PyObject* text_of(const char* text); /* bytes that are not UTF-8 are escaped */
PyObject* path_of(const char* path);
PyObject* none_or_u64(bool given, uint64_t number);
/* A class of epoch.types, of its fields: `format` as of Py_BuildValue, in parentheses. */
PyObject* made_of(PyObject* class_of, const char* format, ...);

/* ---- types ------------------------------------------------------------------------------------
 */

#define METHOD(function) ((PyCFunction)(void (*)(void))(function))
#define SLOT(function) ((void*)(function))

/* An object of a class, empty but for its type. */
#define NEW(type, class_of) ((type*)PyType_GenericAlloc((PyTypeObject*)(class_of), 0))
/* The end of each dealloc. */
void give_back(PyObject* self);
/* `__enter__`, and `__iter__` of an iterator. */
PyObject* itself(PyObject* self, PyObject* none);
/* Whether an exception is on its way, by the arguments of `__exit__`. */
bool raised_within(PyObject* args);

typedef struct region_object {
  PyObject ob_base;
  epoch_region* handle;
  bool read_only;
  bool trust_other_owners;
} region_object;

typedef struct participant_object {
  PyObject ob_base;
  epoch_participant* handle;
  region_object* region;
  PyObject* validator; /* or NULL */
  bool setting;        /* a thread is setting the validator, without the lock */
  uint64_t id;         /* what its validator is called by in C; never used again */
  Py_ssize_t pins;     /* Pin objects that hold something */
  /* As it has joined, or rejoined: callbacks of its calls, which may not ask C, want to know. */
  PyObject* name;
  uint64_t generation;
  uint32_t slot;
  struct participant_object *next, *previous;
} participant_object;

typedef struct interrupt_object {
  PyObject ob_base;
  atomic_int set;
} interrupt_object;

/* Made by module.c, and kept for good. */
extern PyTypeObject *region_type, *participant_type, *pin_type, *draft_type, *listener_type,
    *history_type, *reader_type, *rank_type, *step_type, *checkpoint_type, *interrupt_type;
/* Of epoch.types. */
extern PyObject *answer_class, *proposal_class, *ticket_class, *snapshot_class, *past_class,
    *straggler_class, *contribution_class, *info_class, *shard_class;

extern PyType_Spec region_spec, participant_spec, pin_spec, draft_spec, listener_spec, history_spec,
    reader_spec, rank_spec, step_spec, checkpoint_spec, interrupt_spec;

PyObject* history_of(region_object* region);

PyObject* participant_pin(PyObject* self, PyObject* none);
PyObject* participant_try_pin(PyObject* self, PyObject* args, PyObject* kwargs);

PyObject* participant_draft(PyObject* self, PyObject* args, PyObject* kwargs);
PyObject* participant_commit(PyObject* self, PyObject* args, PyObject* kwargs);
PyObject* participant_propose(PyObject* self, PyObject* args, PyObject* kwargs);
PyObject* participant_update(PyObject* self, PyObject* args, PyObject* kwargs);
PyObject* participant_propose_update(PyObject* self, PyObject* args, PyObject* kwargs);
PyObject* participant_await(PyObject* self, PyObject* args, PyObject* kwargs);
PyObject* participant_commit_collective(PyObject* self, PyObject* args, PyObject* kwargs);

PyObject* participant_set_validator(PyObject* self, PyObject* validator);
PyObject* participant_vote(PyObject* self, PyObject* args);
PyObject* participant_listen(PyObject* self, PyObject* none);
/* By the id that its validator was set with; NULL: it is gone. Borrowed. */
participant_object* participant_by_id(uint64_t id);

PyObject* module_contributions(PyObject* module, PyObject* state);
PyObject* module_checkpoint_open(PyObject* module, PyObject* args, PyObject* kwargs);
PyObject* module_checkpoints_list(PyObject* module, PyObject* directory);
PyObject* module_checkpoints_prune(PyObject* module, PyObject* args, PyObject* kwargs);
PyObject* module_checkpoints_clean_up(PyObject* module, PyObject* directory);
PyObject* module_checkpoints_verify(PyObject* module, PyObject* args);

/* 0; or -1 with an exception. What border.c needs of Python, and the hooks of exit and fork. Once
 * more does nothing. */
int border_prepare(void);
/* How many forks there were between the first process and this one. */
unsigned border_forks(void);

#endif /* EPOCH_BINDINGS_PYTHON_BORDER_H_ */
