/* The border: the interpreter's lock, signals, exceptions, arguments. */
#include "border.h"

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <unistd.h>

static PyObject* errors; /* epoch.errors */

/* The innermost call of this thread that has not returned. */
static _Thread_local call* innermost;
/* How many callbacks of this thread are under way that the gate knows of. */
static _Thread_local unsigned depth;

/* ---- the end of the interpreter ---------------------------------------------------------------
 */

/* Who may ask for the lock in a callback: the main thread always, as it is the one that ends the
 * interpreter; others until it ends; and who is in a callback then, until that returns. */
static struct {
  pthread_mutex_t lock;
  pthread_cond_t nobody;
  unsigned inside; /* threads */
  bool ending;
  pthread_t main;
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .nobody = PTHREAD_COND_INITIALIZER};

static bool in_main_thread(void) { return pthread_equal(pthread_self(), gate.main) != 0; }

static bool gate_enter(void) {
  /* It is waited for as it is. */
  if (depth != 0) {
    ++depth;
    return true;
  }
  pthread_mutex_lock(&gate.lock);
  const bool open = !gate.ending;
  if (open) ++gate.inside;
  pthread_mutex_unlock(&gate.lock);
  if (open) depth = 1;
  return open;
}
static void gate_leave(void) {
  if (--depth != 0) return;
  pthread_mutex_lock(&gate.lock);
  /* 0 already: this is a child, forked by this thread in its callback. */
  if (gate.inside != 0 && --gate.inside == 0) pthread_cond_broadcast(&gate.nobody);
  pthread_mutex_unlock(&gate.lock);
}

static PyObject* leave_python(PyObject* module, PyObject* none) {
  (void)module, (void)none;
  /* Those who are inside need the lock in order to leave. */
  Py_BEGIN_ALLOW_THREADS;
  pthread_mutex_lock(&gate.lock);
  gate.ending = true;
  while (gate.inside != (depth != 0 ? 1 : 0)) pthread_cond_wait(&gate.nobody, &gate.lock);
  pthread_mutex_unlock(&gate.lock);
  Py_END_ALLOW_THREADS;
  Py_RETURN_NONE;
}

/* The other threads are not here, and the one that is here is the main thread now. It may be in a
 * callback, which it counted as another thread. */
static PyObject* after_fork_in_child(PyObject* module, PyObject* none) {
  (void)module, (void)none;
  pthread_mutex_init(&gate.lock, NULL);
  pthread_cond_init(&gate.nobody, NULL);
  gate.inside = depth != 0 ? 1 : 0;
  gate.main = pthread_self();
  Py_RETURN_NONE;
}

static PyMethodDef hooks[] = {{"_leave_python", leave_python, METH_NOARGS, NULL},
                              {"_after_fork_in_child", after_fork_in_child, METH_NOARGS, NULL}};

/* ---- forks ------------------------------------------------------------------------------------
 */

/* Written by the only thread of a new process. */
static unsigned forks;
static void count_fork(void) { ++forks; }
unsigned border_forks(void) { return forks; }

/* ---- preparations -----------------------------------------------------------------------------
 */

/* `module.function(argument)`, or by a keyword. */
static int call_with(const char* name, const char* function, const char* keyword,
                     PyObject* argument) {
  PyObject* const module = PyImport_ImportModule(name);
  PyObject* const is = module == NULL ? NULL : PyObject_GetAttrString(module, function);
  PyObject* const args = keyword == NULL ? PyTuple_Pack(1, argument) : PyTuple_New(0);
  PyObject* const kwargs = keyword == NULL ? NULL : Py_BuildValue("{sO}", keyword, argument);
  PyObject* result = NULL;
  if (is != NULL && args != NULL && (keyword == NULL || kwargs != NULL)) {
    result = PyObject_Call(is, args, kwargs);
  }
  Py_XDECREF(kwargs);
  Py_XDECREF(args);
  Py_XDECREF(is);
  Py_XDECREF(module);
  Py_XDECREF(result);
  return result == NULL ? -1 : 0;
}

static int know_main_thread(void) {
  PyObject* const threading = PyImport_ImportModule("threading");
  PyObject* const main =
      threading == NULL ? NULL : PyObject_CallMethod(threading, "main_thread", NULL);
  PyObject* const ident = main == NULL ? NULL : PyObject_GetAttrString(main, "ident");
  /* What Python calls a thread's ident is its pthread_t, on Linux. */
  const unsigned long thread = ident == NULL ? 0 : PyLong_AsUnsignedLong(ident);
  Py_XDECREF(ident);
  Py_XDECREF(main);
  Py_XDECREF(threading);
  if (PyErr_Occurred() != NULL) return -1;
  gate.main = (pthread_t)thread;
  return 0;
}

int border_prepare(void) {
  static bool prepared;
  if (prepared) return 0;
  Py_XDECREF(errors); /* of an import that failed */
  errors = PyImport_ImportModule("epoch.errors");
  if (errors == NULL || know_main_thread() != 0) return -1;
  PyObject* const at_exit = PyCFunction_New(&hooks[0], NULL);
  PyObject* const at_fork = PyCFunction_New(&hooks[1], NULL);
  int status = -1;
  if (at_exit != NULL && at_fork != NULL && call_with("atexit", "register", NULL, at_exit) == 0 &&
      call_with("os", "register_at_fork", "after_in_child", at_fork) == 0) {
    status = pthread_atfork(NULL, NULL, count_fork) == 0 ? 0 : -1;
    if (status != 0) PyErr_NoMemory();
    prepared = true; /* the hooks are there */
  }
  Py_XDECREF(at_exit);
  Py_XDECREF(at_fork);
  return status;
}

/* ---- calls ------------------------------------------------------------------------------------
 */

void call_begin(call* is) {
  is->outer = innermost;
  innermost = is;
  is->thread = PyEval_SaveThread();
}
void call_end(call* is) {
  /* When the interpreter has ended, this ends the thread. It may: no frame of libepoch is below, as
   * a thread that is in a callback of one is waited for. */
  PyThreadState* const thread = is->thread;
  is->thread = NULL;
  innermost = is->outer;
  PyEval_RestoreThread(thread);
}

bool call_is_under_way(void) { return innermost != NULL; }

int call_interrupted(void* user) {
  call* const is = user;
  if (is->type != NULL || is->ended) return 1;
  if (is->interrupt != NULL && atomic_load(&((interrupt_object*)is->interrupt)->set) != 0) return 1;
  /* Python handles signals in its main thread only: to ask for the lock would be of no use. */
  if (!in_main_thread()) return 0;
  PyThreadState* const thread = is->thread;
  is->thread = NULL;
  PyEval_RestoreThread(thread);
  if (PyErr_CheckSignals() != 0) PyErr_Fetch(&is->type, &is->value, &is->traceback);
  is->thread = PyEval_SaveThread();
  return is->type != NULL;
}

/* ---- callbacks --------------------------------------------------------------------------------
 */

bool python_enter(python* is) {
  is->counted = !in_main_thread();
  if (is->counted && !gate_enter()) {
    if (innermost != NULL) innermost->ended = true;
    return false;
  }
  is->within = innermost != NULL && innermost->thread != NULL ? innermost : NULL;
  if (is->within != NULL) {
    PyThreadState* const thread = is->within->thread;
    is->within->thread = NULL;
    PyEval_RestoreThread(thread);
  } else {
    is->state = PyGILState_Ensure();
  }
  return true;
}
void python_leave(python* is) {
  if (is->within != NULL) {
    is->within->thread = PyEval_SaveThread();
  } else {
    PyGILState_Release(is->state);
  }
  if (is->counted) gate_leave();
}

bool python_keep_raised(python* is) {
  call* const within = is->within;
  /* What was raised first counts, as it is what ends the call. */
  if (within == NULL || within->type != NULL) return false;
  PyErr_Fetch(&within->type, &within->value, &within->traceback);
  return true;
}

/* ---- exceptions -------------------------------------------------------------------------------
 */

PyObject* raise_as(const char* name, const char* message) {
  PyObject* const is = PyObject_GetAttrString(errors, name);
  if (is != NULL) PyErr_SetString(is, message);
  Py_XDECREF(is);
  return NULL;
}

static const char* outcome_name(epoch_outcome is) {
  return is == EPOCH_OUTCOME_UNCHANGED ? "unchanged"
         : is == EPOCH_OUTCOME_PENDING ? "pending"
                                       : "unknown";
}

static PyObject* culprits_of(const epoch_error* error) {
  const size_t count = epoch_error_culprit_count(error);
  PyObject* const all = PyList_New(0);
  for (size_t i = 0; all != NULL && i < count; ++i) {
    epoch_culprit is = {.struct_size = sizeof is};
    if (epoch_error_culprit(error, i, &is) != EPOCH_OK) continue;
    PyObject* const one =
        Py_BuildValue("(IKINNN)", is.slot, (unsigned long long)is.generation, is.pid,
                      text_of(is.name), text_of(is.reason), none_or_u64(is.has_epoch, is.epoch));
    const int added = one == NULL ? -1 : PyList_Append(all, one);
    Py_XDECREF(one);
    if (added != 0) {
      Py_DECREF(all);
      return NULL;
    }
  }
  return all;
}

/* The exception of an error, which is not freed. */
static PyObject* exception_of(const epoch_error* error, const char* before) {
  PyObject* const message = text_of(epoch_error_message(error));
  PyObject* const words = message == NULL ? NULL : PyUnicode_FromFormat("%s%U", before, message);
  Py_XDECREF(message);
  if (words == NULL) return NULL;
  uint64_t expected = 0, actual = 0, accepted = 0;
  const bool has_expected = epoch_error_expected(error, &expected) != 0;
  const bool has_actual = epoch_error_actual(error, &actual) != 0;
  const bool has_accepted = epoch_error_accepted(error, &accepted) != 0;
  return PyObject_CallMethod(
      errors, "of", "ssNsNNNiN", epoch_code_name(epoch_error_code(error)),
      epoch_cause_name(epoch_error_cause(error)), words, outcome_name(epoch_error_outcome(error)),
      none_or_u64(has_expected, expected), none_or_u64(has_actual, actual),
      none_or_u64(has_accepted, accepted), epoch_error_errno(error), culprits_of(error));
}

static int raise_error(epoch_error* error, const char* before) {
  PyObject* const is = exception_of(error, before);
  epoch_error_free(error);
  if (is != NULL) PyErr_SetObject((PyObject*)Py_TYPE(is), is);
  Py_XDECREF(is);
  return -1;
}
int outcome(epoch_code code, epoch_error* error) {
  return code == EPOCH_OK ? 0 : raise_error(error, "");
}

/* The error that a call came to, though something else was raised in it; or that it would have come
 * to, if it had been interrupted behind what it made. `note` tells what of it has to be known.
 * NULL: nothing, or it cannot be told. */
static PyObject* came_to(epoch_code code, const epoch_error* error, made_epoch what) {
  if (code != EPOCH_OK) return error == NULL ? NULL : exception_of(error, "");
  if (what.epoch == 0) return NULL;
  return PyObject_CallMethod(errors, what.pending ? "accepted" : "committed", "K",
                             (unsigned long long)what.epoch);
}

int call_outcome(call* is, epoch_code code, epoch_error* error) {
  return call_outcome_of(is, code, error, (made_epoch){0});
}
int call_outcome_of(call* is, epoch_code code, epoch_error* error, made_epoch what) {
  if (is->type == NULL) {
    if (code == EPOCH_OK || !is->ended) return outcome(code, error);
    return raise_error(error, "the interpreter is ending and calls no function any more: ");
  }
  PyObject* const error_itself = came_to(code, error, what);
  PyObject* const note =
      error_itself == NULL ? NULL : PyObject_CallMethod(errors, "note", "O", error_itself);
  if (note != NULL && note != Py_None) {
    PyErr_NormalizeException(&is->type, &is->value, &is->traceback);
    PyObject* const added = PyObject_CallMethod(is->value, "add_note", "O", note);
    Py_XDECREF(added);
    /* For programs: its outcome and its epoch. */
    Py_INCREF(error_itself);
    PyException_SetContext(is->value, error_itself);
  }
  Py_XDECREF(note);
  Py_XDECREF(error_itself);
  PyErr_Clear(); /* of a note that could not be added */
  epoch_error_free(error);
  PyErr_Restore(is->type, is->value, is->traceback);
  is->type = is->value = is->traceback = NULL;
  return -1;
}

/* ---- arguments --------------------------------------------------------------------------------
 */

int seconds_argument(PyObject* from, void* to) {
  int64_t* const nanos = to;
  if (from == Py_None) {
    *nanos = 0;
    return 1;
  }
  const double seconds = PyFloat_AsDouble(from);
  if (seconds == -1.0 && PyErr_Occurred() != NULL) return 0;
  if (isnan(seconds) || seconds < 0) {
    raise_as("Invalid", "a timeout is a number of seconds from 0, or None");
    return 0;
  }
  const double most = 9.2e9; /* seconds: 292 years */
  *nanos = seconds > most ? EPOCH_FOREVER : (int64_t)(seconds * 1e9);
  if (*nanos == 0) *nanos = seconds == 0 ? EPOCH_NO_WAIT : 1;
  return 1;
}

int u64_argument(PyObject* from, void* to) {
  PyObject* const number = PyNumber_Index(from);
  if (number == NULL) return 0;
  const unsigned long long is = PyLong_AsUnsignedLongLong(number);
  Py_DECREF(number);
  if (PyErr_Occurred() != NULL) {
    PyErr_Clear();
    raise_as("Invalid", "the number is not between 0 and 2**64 - 1");
    return 0;
  }
  *(uint64_t*)to = is;
  return 1;
}
int u32_argument(PyObject* from, void* to) {
  uint64_t is = 0;
  if (u64_argument(from, &is) == 0) return 0;
  if (is > UINT32_MAX) {
    raise_as("Invalid", "the number is not between 0 and 2**32 - 1");
    return 0;
  }
  *(uint32_t*)to = (uint32_t)is;
  return 1;
}
int u64_or_none(PyObject* from, void* to) { return from == Py_None ? 1 : u64_argument(from, to); }
int u32_or_none(PyObject* from, void* to) { return from == Py_None ? 1 : u32_argument(from, to); }
int path_argument(PyObject* from, void* to) {
  if (from != Py_None) return PyUnicode_FSConverter(from, to);
  *(PyObject**)to = NULL;
  return 1;
}
const char* path_text(PyObject* bytes) { return bytes == NULL ? NULL : PyBytes_AsString(bytes); }

static int is_text(PyObject* from, const char* text) {
  return PyUnicode_Check(from) && PyUnicode_CompareWithASCIIString(from, text) == 0;
}
int straggler_argument(PyObject* from, void* to) {
  if (is_text(from, "abort") || is_text(from, "expel")) {
    *(int32_t*)to = is_text(from, "expel") ? EPOCH_STRAGGLER_EXPEL : EPOCH_STRAGGLER_ABORT;
    return 1;
  }
  raise_as("Invalid", "on_straggler is \"abort\" or \"expel\"");
  return 0;
}
int interrupt_argument(PyObject* from, void* to) {
  call* const is = to;
  is->interrupt = NULL;
  if (from == Py_None) return 1;
  if (!PyObject_TypeCheck(from, interrupt_type)) {
    PyErr_SetString(PyExc_TypeError, "interrupt is an epoch.Interrupt or None");
    return 0;
  }
  is->interrupt = from;
  return 1;
}

void wait_prepare(wait_arguments* wait) {
  wait->options.struct_size = sizeof wait->options;
  wait->options.interrupted = call_interrupted;
  wait->options.interrupted_user = &wait->is;
}

/* ---- results ----------------------------------------------------------------------------------
 */

PyObject* text_of(const char* text) {
  return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "backslashreplace");
}
PyObject* path_of(const char* path) { return PyUnicode_DecodeFSDefault(path); }
PyObject* none_or_u64(bool given, uint64_t number) {
  if (!given) Py_RETURN_NONE;
  return PyLong_FromUnsignedLongLong(number);
}
PyObject* made_of(PyObject* class_of, const char* format, ...) {
  va_list fields;
  va_start(fields, format);
  PyObject* const args = Py_VaBuildValue(format, fields);
  va_end(fields);
  if (args == NULL) return NULL;
  PyObject* const made = PyObject_Call(class_of, args, NULL);
  Py_DECREF(args);
  return made;
}

void give_back(PyObject* self) {
  PyTypeObject* const type = Py_TYPE(self);
  const freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
  release(self);
  Py_DECREF(type);
}

PyObject* itself(PyObject* self, PyObject* none) {
  (void)none;
  Py_INCREF(self);
  return self;
}

bool raised_within(PyObject* args) {
  return PyTuple_Size(args) > 0 && PyTuple_GetItem(args, 0) != Py_None;
}
