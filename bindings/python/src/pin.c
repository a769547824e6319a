/* Pins: a hold on one state, which is read in place through the buffer protocol.
 *
 * The lock is kept: to pin waits for nobody, but for a fence that drains. Then the lock is given
 * up, as the pin that the fence waits for may be one of this process.
 *
 * Invariant: while `exports` is not 0 the pin holds its state, whatever is called.
 */
#include "border.h"

typedef struct pin_object {
  PyObject ob_base;
  epoch_pin pin;
  participant_object* owner; /* NULL: of one that waits to be used again */
  uint64_t epoch;            /* also after the release */
  uint64_t token;
  bool has_token;
  unsigned forks;     /* when it was pinned */
  Py_ssize_t exports; /* views */
} pin_object;

/* Objects that were given back. With the lock. */
enum { kSpare = 32 };
static pin_object* spare[kSpare];
static int spares;

static pin_object* take_pin(participant_object* owner) {
  pin_object* self = NULL;
  if (spares != 0) {
    self = spare[--spares];
    PyObject_Init((PyObject*)self, pin_type);
    PyObject_GC_Track(self);
  } else {
    self = NEW(pin_object, pin_type);
    if (self == NULL) return NULL;
  }
  Py_INCREF((PyObject*)owner);
  self->owner = owner;
  return self;
}

static void let_go(pin_object* self) {
  if (self->pin.participant == NULL) return;
  epoch_pin_release(&self->pin);
  --self->owner->pins;
}

static void pin_dealloc(PyObject* object) {
  pin_object* const self = (pin_object*)object;
  PyObject_GC_UnTrack(object);
  let_go(self);
  participant_object* const owner = self->owner;
  self->owner = NULL;
  self->has_token = false;
  if (spares != kSpare) {
    spare[spares++] = self;
    Py_DECREF((PyObject*)pin_type);
  } else {
    give_back(object);
  }
  Py_XDECREF((PyObject*)owner);
}

static int pin_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT((PyObject*)((pin_object*)self)->owner);
  return 0;
}

static PyObject* pinned(pin_object* self) {
  self->epoch = self->pin.epoch;
  self->forks = border_forks();
  ++self->owner->pins;
  return (PyObject*)self;
}

/* Waits for a fence. Gives the object back if that fails. */
static PyObject* pin_slowly(pin_object* self, wait_arguments* wait) {
  epoch_error* error = NULL;
  epoch_code code;
  wait_prepare(wait);
  WAITING(&wait->is, code,
          epoch_participant_try_pin(self->owner->handle, &wait->options, &self->pin, &error));
  /* It may be pinned, and yet there is an interrupt to raise: the object holds it. */
  if (code == EPOCH_OK) pinned(self);
  if (call_outcome(&wait->is, code, error) == 0) return (PyObject*)self;
  Py_DECREF(self);
  return NULL;
}

PyObject* participant_pin(PyObject* object, PyObject* none) {
  (void)none;
  participant_object* const owner = (participant_object*)object;
  pin_object* const self = take_pin(owner);
  if (self == NULL) return NULL;
  const epoch_code code = epoch_participant_try_pin(owner->handle, NULL, &self->pin, NULL);
  if (code == EPOCH_OK) return pinned(self);
  /* A fence, or an error, which says what it is when it is asked again. */
  wait_arguments wait = {0};
  return pin_slowly(self, &wait);
}

PyObject* participant_try_pin(PyObject* object, PyObject* args, PyObject* kwargs) {
  static char* names[] = {"timeout", NULL};
  wait_arguments wait = {.options = {.timeout_ns = EPOCH_NO_WAIT}};
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O&:try_pin", names, seconds_argument,
                                   &wait.options.timeout_ns)) {
    return NULL;
  }
  pin_object* const self = take_pin((participant_object*)object);
  if (self == NULL) return NULL;
  if (wait.options.timeout_ns != EPOCH_NO_WAIT) return pin_slowly(self, &wait);
  epoch_error* error = NULL;
  const epoch_code code = epoch_participant_try_pin(self->owner->handle, NULL, &self->pin, &error);
  if (outcome(code, error) == 0) return pinned(self);
  Py_DECREF(self);
  return NULL;
}

/* ---- what it shows ----------------------------------------------------------------------------
 */

static int pin_get_buffer(PyObject* object, Py_buffer* view, int flags) {
  pin_object* const self = (pin_object*)object;
  if (self->pin.participant == NULL) {
    view->obj = NULL;
    PyErr_SetString(PyExc_BufferError, "the pin was released");
    return -1;
  }
  if (self->forks != border_forks()) {
    view->obj = NULL;
    raise_as("Forked",
             "the pin is the parent process's, and holds nothing for this one: rejoin, then pin");
    return -1;
  }
  void* const data = self->pin.data == NULL ? "" : (void*)(uintptr_t)self->pin.data;
  if (PyBuffer_FillInfo(view, object, data, (Py_ssize_t)self->pin.size, 1, flags) != 0) return -1;
  ++self->exports;
  return 0;
}
static void pin_release_buffer(PyObject* object, Py_buffer* view) {
  (void)view;
  --((pin_object*)object)->exports;
}

static PyObject* pin_release(PyObject* object, PyObject* none) {
  (void)none;
  pin_object* const self = (pin_object*)object;
  if (self->exports != 0) {
    return raise_as("PinHeld",
                    "a view of this pin is alive (a memoryview, an array): drop it, then release "
                    "the pin");
  }
  let_go(self);
  Py_RETURN_NONE;
}

/* An exception that is on its way is not replaced: the pin goes with its last view. */
static PyObject* pin_exit(PyObject* object, PyObject* args) {
  if (((pin_object*)object)->exports != 0 && raised_within(args)) Py_RETURN_NONE;
  return pin_release(object, NULL);
}

static PyObject* pin_bytes(PyObject* self, PyObject* none) {
  (void)none;
  return PyBytes_FromObject(self);
}
static PyObject* pin_view(PyObject* self, PyObject* none) {
  (void)none;
  return PyMemoryView_FromObject(self);
}

static PyObject* pin_epoch(PyObject* self, void* unused) {
  (void)unused;
  return PyLong_FromUnsignedLongLong(((pin_object*)self)->epoch);
}

/* The token of an epoch: of a copy of the committed state, if that is still the one; else of the
 * journal, if there is one. c.h has no call for it. */
static int find_token(participant_object* owner, uint64_t epoch, uint64_t* token, call* is) {
  epoch_region* const region = owner->region->handle;
  epoch_snapshot* snapshot = NULL;
  epoch_history* history = NULL;
  epoch_snapshot_info info = {.struct_size = sizeof info};
  epoch_error* error = NULL;
  epoch_code code;
  WAITING(is, code, epoch_region_read(region, &snapshot, &error));
  if (call_outcome(is, code, error) != 0) return -1;
  code = epoch_snapshot_get_info(snapshot, &info, &error);
  epoch_snapshot_free(snapshot);
  snapshot = NULL;
  if (outcome(code, error) != 0) return -1;
  *token = info.token;
  if (info.epoch == epoch) return 0;
  WAITING(is, code, epoch_region_history(region, &history, NULL));
  if (code == EPOCH_OK) {
    WAITING(is, code, epoch_history_at(history, epoch, &snapshot, NULL));
    epoch_history_free(history);
  }
  if (code == EPOCH_OK) code = epoch_snapshot_get_info(snapshot, &info, NULL);
  epoch_snapshot_free(snapshot);
  if (code != EPOCH_OK) {
    raise_as("NotFound",
             "the token of a state that another one has followed meanwhile, and that is in no "
             "journal: ask for it when the pin is taken");
    return -1;
  }
  *token = info.token;
  return 0;
}

static PyObject* pin_token(PyObject* object, void* unused) {
  (void)unused;
  pin_object* const self = (pin_object*)object;
  if (!self->has_token) {
    call is = {0};
    if (find_token(self->owner, self->epoch, &self->token, &is) != 0) return NULL;
    self->has_token = true;
  }
  return PyLong_FromUnsignedLongLong(self->token);
}

static PyObject* pin_released(PyObject* self, void* unused) {
  (void)unused;
  return PyBool_FromLong(((pin_object*)self)->pin.participant == NULL);
}

static Py_ssize_t pin_length(PyObject* self) { return (Py_ssize_t)((pin_object*)self)->pin.size; }
/* Of no bytes, too. */
static int pin_true(PyObject* self) { return ((pin_object*)self)->pin.participant != NULL; }

static PyMethodDef methods[] = {
    {"release", pin_release, METH_NOARGS,
     PyDoc_STR("release($self, /)\n--\n\n"
               "Gives the hold up; once more does nothing. PinHeld while a view of it lives.\n"
               "Wait-free.")},
    {"view", pin_view, METH_NOARGS,
     PyDoc_STR("view($self, /)\n--\n\nmemoryview(pin): read-only, in place.")},
    {"__bytes__", pin_bytes, METH_NOARGS, PyDoc_STR("__bytes__($self, /)\n--\n\nA copy.")},
    {"__enter__", itself, METH_NOARGS, NULL},
    {"__exit__", pin_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}};
static PyGetSetDef properties[] = {
    {"epoch", pin_epoch, NULL, PyDoc_STR("Which state it is."), NULL},
    {"token", pin_token, NULL,
     PyDoc_STR("The application's own number. It costs a copy of the state: ask once, while no\n"
               "other state has followed."),
     NULL},
    {"released", pin_released, NULL, PyDoc_STR("Whether it holds nothing any more."), NULL},
    {NULL, NULL, NULL, NULL, NULL}};
static PyType_Slot slots[] = {
    {Py_tp_doc, PyDoc_STR("A hold on one state: its bytes, in place and read-only, as a buffer.")},
    {Py_tp_dealloc, SLOT(pin_dealloc)},
    {Py_tp_traverse, SLOT(pin_traverse)},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {Py_sq_length, SLOT(pin_length)},
    {Py_nb_bool, SLOT(pin_true)},
    {Py_bf_getbuffer, SLOT(pin_get_buffer)},
    {Py_bf_releasebuffer, SLOT(pin_release_buffer)},
    {0, NULL}};
PyType_Spec pin_spec = {
    .name = "epoch._epoch.Pin",
    .basicsize = sizeof(pin_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots};
