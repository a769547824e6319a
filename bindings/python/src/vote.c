/* Votes, and the listener, in whose thread they may be cast. */
#include "border.h"

/* Text into a buffer, cut between two characters. */
static void put_text(const char* text, size_t length, char* to, size_t size) {
  if (length >= size) {
    length = size - 1;
    while (length != 0 && ((unsigned char)text[length] & 0xc0) == 0x80) --length;
  }
  memcpy(to, text, length);
  to[length] = '\0';
}

static void put_string(PyObject* text, char* to, size_t size) {
  PyObject* const bytes =
      text == NULL ? NULL : PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
  if (bytes != NULL) put_text(PyBytes_AsString(bytes), (size_t)PyBytes_Size(bytes), to, size);
  Py_XDECREF(bytes);
  PyErr_Clear();
}

/* "ValueError: no step", of what is raised, which stays raised. */
static void put_raised(char* to, size_t size) {
  PyObject *type = NULL, *value = NULL, *traceback = NULL;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  PyObject* const name = PyObject_GetAttrString(type, "__name__");
  PyObject* const said = value == NULL ? NULL : PyObject_Str(value);
  PyObject* const text = name == NULL || said == NULL
                             ? NULL
                             : PyUnicode_FromFormat("the validator raised %U: %U", name, said);
  put_text("the validator raised an exception", 33, to, size);
  if (text != NULL) put_string(text, to, size);
  Py_XDECREF(text);
  Py_XDECREF(said);
  Py_XDECREF(name);
  PyErr_Clear();
  PyErr_Restore(type, value, traceback);
}

/* 0: an answer was given. */
static int read_answer(PyObject* from, int* verdict, PyObject** reason) {
  const int is_one = PyObject_IsInstance(from, answer_class);
  if (is_one < 0) return -1;
  if (is_one == 0 || PyTuple_Size(from) != 2) {
    PyErr_Format(PyExc_TypeError, "%R is no answer: epoch.accept(), reject(reason), later()", from);
    return -1;
  }
  const long number = PyLong_AsLong(PyTuple_GetItem(from, 0));
  if (PyErr_Occurred() != NULL) return -1;
  *verdict = (int)number;
  *reason = PyTuple_GetItem(from, 1);
  if (PyUnicode_Check(*reason)) return 0;
  PyErr_SetString(PyExc_TypeError, "the reason of an answer is text");
  return -1;
}

static PyObject* proposal_of(const epoch_proposal* is) {
  return made_of(proposal_class, "(KKKNy#N)", (unsigned long long)is->epoch,
                 (unsigned long long)is->ballot, (unsigned long long)is->token,
                 text_of(is->proposer), is->data == NULL ? "" : is->data, (Py_ssize_t)is->size,
                 PyBool_FromLong(is->fence != 0));
}

static int ask(PyObject* validator, const epoch_proposal* is, char* reason, size_t size) {
  int verdict = EPOCH_ANSWER_REJECT;
  PyObject* words = NULL;
  PyObject* const proposal = proposal_of(is);
  PyObject* const answer =
      proposal == NULL ? NULL : PyObject_CallFunctionObjArgs(validator, proposal, NULL);
  if (answer != NULL && read_answer(answer, &verdict, &words) == 0) {
    put_string(words, reason, size);
  }
  Py_XDECREF(answer);
  Py_XDECREF(proposal);
  if (PyErr_Occurred() != NULL) {
    /* What it raises is a refusal, as others wait for the vote. */
    verdict = EPOCH_ANSWER_REJECT;
    put_raised(reason, size);
  }
  return verdict;
}

/* A KeyboardInterrupt, a SystemExit: of the call that the validator runs in. All else has nobody
 * who could handle it. */
static void report_raised(python* is, PyObject* validator) {
  if (PyErr_Occurred() == NULL) return;
  if (!PyErr_ExceptionMatches(PyExc_Exception) && python_keep_raised(is)) return;
  PyErr_WriteUnraisable(validator);
}

/* Called by whichever thread polls or waits, or by the listener's. */
static int validate(void* user, const epoch_proposal* proposal, char* reason, size_t size) {
  python is;
  /* Nobody is there to ask: the vote goes with this process. */
  if (!python_enter(&is)) return EPOCH_ANSWER_LATER;
  int verdict = EPOCH_ANSWER_LATER;
  participant_object* const self = participant_by_id((uint64_t)(uintptr_t)user);
  if (self != NULL && self->validator != NULL) {
    Py_INCREF((PyObject*)self);
    PyObject* const validator = self->validator;
    Py_INCREF(validator); /* it may set another one, in another thread */
    verdict = ask(validator, proposal, reason, size);
    report_raised(&is, validator);
    Py_DECREF(validator);
    Py_DECREF((PyObject*)self);
  }
  python_leave(&is);
  return verdict;
}

PyObject* participant_set_validator(PyObject* object, PyObject* validator) {
  participant_object* const self = (participant_object*)object;
  call is = {0};
  epoch_error* error = NULL;
  epoch_code code;
  const bool any = validator != Py_None;
  if (any && !PyCallable_Check(validator)) {
    PyErr_SetString(PyExc_TypeError, "a validator is a function of a proposal, or None");
    return NULL;
  }
  /* Two threads would each put back, and drop, what the other has set. */
  if (self->setting) return raise_as("Busy", "another thread is setting the validator just now");
  self->setting = true;
  /* First, so that C does not ask one that is not there yet; the old one, if this fails. */
  PyObject* old = self->validator;
  Py_INCREF(validator);
  if (any) self->validator = validator;
  WAITING(&is, code,
          epoch_participant_set_validator(self->handle, any ? validate : NULL,
                                          (void*)(uintptr_t)self->id, &error));
  self->setting = false;
  const bool failed = call_outcome(&is, code, error) != 0;
  if (failed && any) {
    self->validator = old;
    old = validator;
  } else if (failed) {
    old = validator;
  } else if (!any) {
    self->validator = NULL;
    Py_DECREF(validator);
  }
  Py_XDECREF(old);
  if (failed) return NULL;
  Py_RETURN_NONE;
}

PyObject* participant_vote(PyObject* self, PyObject* args) {
  call is = {0};
  uint64_t ballot = 0;
  PyObject* answer = NULL;
  PyObject* words = NULL;
  int verdict = 0;
  char reason[512] = "";
  epoch_error* error = NULL;
  epoch_code code;
  if (!PyArg_ParseTuple(args, "O&O:vote", u64_argument, &ballot, &answer)) return NULL;
  if (read_answer(answer, &verdict, &words) != 0) return NULL;
  put_string(words, reason, sizeof reason);
  WAITING(
      &is, code,
      epoch_participant_vote(((participant_object*)self)->handle, ballot, verdict, reason, &error));
  if (call_outcome(&is, code, error) != 0) return NULL;
  Py_RETURN_NONE;
}

/* ---- listeners --------------------------------------------------------------------------------
 */

typedef struct listener_object {
  PyObject ob_base;
  epoch_listener* handle;
  participant_object* owner;
  PyObject* weak; /* references that do not keep it */
  unsigned forks; /* when it was started */
} listener_object;

PyObject* participant_listen(PyObject* owner, PyObject* none) {
  (void)none;
  call is = {0};
  epoch_listener* handle = NULL;
  epoch_error* error = NULL;
  epoch_code code;
  WAITING(&is, code,
          epoch_participant_listen(((participant_object*)owner)->handle, &handle, &error));
  listener_object* self = NULL;
  if (call_outcome(&is, code, error) == 0) self = NEW(listener_object, listener_type);
  if (self == NULL) {
    Py_BEGIN_ALLOW_THREADS;
    epoch_listener_free(handle);
    Py_END_ALLOW_THREADS;
    return NULL;
  }
  Py_INCREF(owner);
  self->owner = (participant_object*)owner;
  self->forks = border_forks();
  self->handle = handle;
  return (PyObject*)self;
}

/* Waits for a validator that runs, which needs the lock. */
static void listener_free(listener_object* self) {
  epoch_listener* const handle = self->handle;
  self->handle = NULL;
  Py_BEGIN_ALLOW_THREADS;
  epoch_listener_free(handle);
  Py_END_ALLOW_THREADS;
}

static void listener_dealloc(PyObject* object) {
  listener_object* const self = (listener_object*)object;
  PyObject_GC_UnTrack(object);
  PyObject_ClearWeakRefs(object);
  listener_free(self);
  Py_CLEAR(self->owner);
  give_back(object);
}
static int listener_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT((PyObject*)((listener_object*)self)->owner);
  return 0;
}

/* In a fork child its thread is not there, and its descriptor is the parent's as well: what is read
 * from it the parent never sees. 0: it is of this process. */
static int listener_here(PyObject* self) {
  if (((listener_object*)self)->forks == border_forks()) return 0;
  raise_as("Forked", "the listener is the parent process's: rejoin, then listen in this one");
  return -1;
}

static PyObject* listener_fileno(PyObject* self, PyObject* none) {
  (void)none;
  if (listener_here(self) != 0) return NULL;
  const int fd = epoch_listener_fd(((listener_object*)self)->handle);
  if (fd < 0) return raise_as("Invalid", "the listener was stopped");
  return PyLong_FromLong(fd);
}
static PyObject* listener_drain(PyObject* self, PyObject* none) {
  (void)none;
  if (listener_here(self) != 0) return NULL;
  epoch_error* error = NULL;
  const epoch_code code = epoch_listener_drain(((listener_object*)self)->handle, &error);
  if (outcome(code, error) != 0) return NULL;
  Py_RETURN_NONE;
}
static PyObject* listener_stop(PyObject* object, PyObject* none) {
  (void)none;
  listener_object* const self = (listener_object*)object;
  if (self->handle == NULL) Py_RETURN_NONE;
  call is = {0};
  epoch_error* error = NULL;
  epoch_code code;
  WAITING(&is, code, epoch_listener_stop(self->handle, &error));
  if (call_outcome(&is, code, error) != 0) return NULL;
  listener_free(self); /* so that its participant has none any more */
  Py_RETURN_NONE;
}
static PyObject* listener_exit(PyObject* self, PyObject* args) {
  (void)args;
  return listener_stop(self, NULL);
}
static PyObject* listener_running(PyObject* object, void* unused) {
  (void)unused;
  listener_object* const self = (listener_object*)object;
  return PyBool_FromLong(self->forks == border_forks() && epoch_listener_fd(self->handle) >= 0);
}

static PyMethodDef methods[] = {
    {"fileno", listener_fileno, METH_NOARGS,
     PyDoc_STR("fileno($self, /)\n--\n\n"
               "Readable when something was committed, or this participant was expelled.")},
    {"drain", listener_drain, METH_NOARGS,
     PyDoc_STR("drain($self, /)\n--\n\n"
               "Makes it unreadable again. Look at the region after that, not before.")},
    {"stop", listener_stop, METH_NOARGS,
     PyDoc_STR("stop($self, /)\n--\n\n"
               "Ends the thread; waits for a validator that runs. Once more does nothing.")},
    {"__enter__", itself, METH_NOARGS, NULL},
    {"__exit__", listener_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}};
static PyGetSetDef properties[] = {
    {"running", listener_running, NULL,
     PyDoc_STR("Whether it was not stopped, nor left behind by a fork."), NULL},
    {NULL, NULL, NULL, NULL, NULL}};
static PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(listener_object, weak), READONLY, NULL},
    {NULL, 0, 0, 0, NULL}};
static PyType_Slot slots[] = {
    {Py_tp_members, members},
    {Py_tp_doc, PyDoc_STR("A thread that takes part while its participant does something else.")},
    {Py_tp_dealloc, SLOT(listener_dealloc)},
    {Py_tp_traverse, SLOT(listener_traverse)},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {0, NULL}};
PyType_Spec listener_spec = {
    .name = "epoch._epoch.Listener",
    .basicsize = sizeof(listener_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots};
