/* Participants: joining and leaving, and what they say about themselves. */
#include "border.h"

/* All that live, so that a validator that C calls by a number finds its own. With the lock. */
static participant_object* all;
static uint64_t last_id;

participant_object* participant_by_id(uint64_t id) {
  participant_object* is = all;
  while (is != NULL && is->id != id) is = is->next;
  return is;
}

static void enlist(participant_object* self) {
  self->id = ++last_id;
  self->previous = NULL;
  self->next = all;
  if (all != NULL) all->previous = self;
  all = self;
}
static void delist(participant_object* self) {
  if (self->id == 0) return;
  if (self->next != NULL) self->next->previous = self->previous;
  if (self->previous != NULL) {
    self->previous->next = self->next;
  } else {
    all = self->next;
  }
  self->id = 0;
}

/* 0; or -1, and something was raised. */
static int look_at_itself(participant_object* self) {
  epoch_participant_info info = {.struct_size = sizeof info};
  epoch_error* error = NULL;
  const epoch_code code = epoch_participant_get_info(self->handle, &info, &error);
  if (outcome(code, error) != 0) return -1;
  PyObject* const name = text_of(info.name);
  if (name == NULL) return -1;
  Py_XDECREF(self->name);
  self->name = name;
  self->slot = info.slot;
  self->generation = info.generation;
  return 0;
}

/* ---- coming and going -------------------------------------------------------------------------
 */

static PyObject* participant_join(PyObject* class_of, PyObject* args, PyObject* kwargs) {
  static char* names[] = {"region", "name", "voter", "acknowledges_by_hand", "window", NULL};
  call is = {0};
  PyObject* region = NULL;
  int voter = 0, by_hand = 0;
  epoch_join_options options = {.struct_size = sizeof options};
  epoch_participant* handle = NULL;
  epoch_error* error = NULL;
  epoch_code code;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!s|$ppO&:join", names, region_type, &region,
                                   &options.name, &voter, &by_hand, u32_argument,
                                   &options.window)) {
    return NULL;
  }
  options.voter = voter != 0;
  options.acknowledges_by_hand = by_hand != 0;
  WAITING(&is, code,
          epoch_participant_join(((region_object*)region)->handle, &options, &handle, &error));
  participant_object* self = NULL;
  if (call_outcome(&is, code, error) == 0) self = NEW(participant_object, class_of);
  if (self == NULL) {
    epoch_participant_free(handle);
    return NULL;
  }
  Py_INCREF(region);
  self->region = (region_object*)region;
  self->handle = handle;
  enlist(self);
  if (look_at_itself(self) == 0) return (PyObject*)self;
  Py_DECREF((PyObject*)self);
  return NULL;
}

static void participant_dealloc(PyObject* object) {
  participant_object* const self = (participant_object*)object;
  PyObject_GC_UnTrack(object);
  delist(self);
  Py_CLEAR(self->validator);
  epoch_participant* const handle = self->handle;
  self->handle = NULL;
  Py_BEGIN_ALLOW_THREADS;
  epoch_participant_free(handle);
  Py_END_ALLOW_THREADS;
  Py_CLEAR(self->region);
  Py_CLEAR(self->name);
  give_back(object);
}

static int participant_traverse(PyObject* object, visitproc visit, void* arg) {
  participant_object* const self = (participant_object*)object;
  Py_VISIT(Py_TYPE(object));
  Py_VISIT(self->region);
  Py_VISIT(self->validator);
  return 0;
}
/* Its validator is what may lead back to it. */
static int participant_clear(PyObject* object) {
  Py_CLEAR(((participant_object*)object)->validator);
  return 0;
}

/* Calls that take a participant, and give nothing back. */
static PyObject* simple(PyObject* self, epoch_code (*of)(epoch_participant*, epoch_error**)) {
  call is = {0};
  epoch_error* error = NULL;
  epoch_code code;
  WAITING(&is, code, of(((participant_object*)self)->handle, &error));
  if (call_outcome(&is, code, error) != 0) return NULL;
  Py_RETURN_NONE;
}
static PyObject* brief(PyObject* self, epoch_code (*of)(epoch_participant*, epoch_error**)) {
  epoch_error* error = NULL;
  const epoch_code code = of(((participant_object*)self)->handle, &error);
  if (outcome(code, error) != 0) return NULL;
  Py_RETURN_NONE;
}

static PyObject* participant_leave(PyObject* self, PyObject* none) {
  (void)none;
  return simple(self, epoch_participant_leave);
}
static PyObject* participant_rejoin(PyObject* self, PyObject* none) {
  (void)none;
  PyObject* const done = simple(self, epoch_participant_rejoin);
  if (done != NULL && look_at_itself((participant_object*)self) != 0) {
    Py_DECREF(done);
    return NULL;
  }
  return done;
}
static PyObject* participant_check(PyObject* self, PyObject* none) {
  (void)none;
  return brief(self, epoch_participant_status);
}
static PyObject* participant_park(PyObject* self, PyObject* none) {
  (void)none;
  return brief(self, epoch_participant_park);
}

static PyObject* participant_poll(PyObject* self, PyObject* none) {
  (void)none;
  call is = {0};
  uint64_t epoch = 0;
  epoch_error* error = NULL;
  epoch_code code;
  WAITING(&is, code, epoch_participant_poll(((participant_object*)self)->handle, &epoch, &error));
  return call_outcome(&is, code, error) != 0 ? NULL : PyLong_FromUnsignedLongLong(epoch);
}

static PyObject* participant_acknowledge(PyObject* self, PyObject* args) {
  uint64_t epoch = 0;
  epoch_error* error = NULL;
  if (!PyArg_ParseTuple(args, "O&:acknowledge", u64_argument, &epoch)) return NULL;
  const epoch_code code =
      epoch_participant_acknowledge(((participant_object*)self)->handle, epoch, &error);
  if (outcome(code, error) != 0) return NULL;
  Py_RETURN_NONE;
}

static PyObject* participant_serve(PyObject* self, PyObject* args, PyObject* kwargs) {
  static char* names[] = {"timeout", "interrupt", NULL};
  wait_arguments wait = {0};
  epoch_error* error = NULL;
  epoch_code code;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O&$O&:serve", names, seconds_argument,
                                   &wait.options.timeout_ns, interrupt_argument, &wait.is)) {
    return NULL;
  }
  wait_prepare(&wait);
  WAITING(&wait.is, code,
          epoch_participant_serve(((participant_object*)self)->handle, &wait.options, &error));
  if (call_outcome(&wait.is, code, error) != 0) return NULL;
  Py_RETURN_NONE;
}

/* ---- what it is -------------------------------------------------------------------------------
 */

static PyObject* participant_name(PyObject* self, void* unused) {
  (void)unused;
  PyObject* const name = ((participant_object*)self)->name;
  Py_INCREF(name);
  return name;
}
static PyObject* participant_slot(PyObject* self, void* unused) {
  (void)unused;
  return PyLong_FromUnsignedLong(((participant_object*)self)->slot);
}
static PyObject* participant_generation(PyObject* self, void* unused) {
  (void)unused;
  return PyLong_FromUnsignedLongLong(((participant_object*)self)->generation);
}
static PyObject* participant_region(PyObject* self, void* unused) {
  (void)unused;
  PyObject* const region = (PyObject*)((participant_object*)self)->region;
  Py_INCREF(region);
  return region;
}
static PyObject* participant_pins(PyObject* self, void* unused) {
  (void)unused;
  return PyLong_FromSsize_t(((participant_object*)self)->pins);
}

static PyMethodDef methods[] = {
    {"_join", METHOD(participant_join), METH_VARARGS | METH_KEYWORDS | METH_CLASS,
     PyDoc_STR("_join($type, region, name, /, **options)\n--\n\nWhat Region.join does.")},
    {"leave", participant_leave, METH_NOARGS,
     PyDoc_STR("leave($self, /)\n--\n\n"
               "Leaves now. PinHeld or Busy while a pin, a draft or a listener is left.")},
    {"rejoin", participant_rejoin, METH_NOARGS,
     PyDoc_STR("rejoin($self, /)\n--\n\n"
               "Takes a new slot after an expulsion, a fork, or leaving. The validator stays.")},
    {"check", participant_check, METH_NOARGS,
     PyDoc_STR("check($self, /)\n--\n\n"
               "Raises Expelled, Left or Forked if it is not in the region. Wait-free.")},
    {"poll", participant_poll, METH_NOARGS,
     PyDoc_STR("poll($self, /)\n--\n\n"
               "Acknowledges what is committed, and answers a vote. Returns the epoch.")},
    {"acknowledge", participant_acknowledge, METH_VARARGS,
     PyDoc_STR("acknowledge($self, epoch, /)\n--\n\n"
               "For one that joined with acknowledges_by_hand: it has adopted the epoch.")},
    {"park", participant_park, METH_NOARGS,
     PyDoc_STR("park($self, /)\n--\n\n"
               "Idle: nobody waits for it until its next pin, poll or commit.")},
    {"serve", METHOD(participant_serve), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("serve($self, /, timeout=None, *, interrupt=None)\n--\n\n"
               "Writes the journal for others, so many seconds or until it is interrupted.")},
    {"pin", participant_pin, METH_NOARGS,
     PyDoc_STR("pin($self, /)\n--\n\n"
               "Pins what is committed, and acknowledges it. Wait-free, but for a fence that\n"
               "drains: then it waits.")},
    {"try_pin", METHOD(participant_try_pin), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("try_pin($self, /, timeout=0)\n--\n\n"
               "As pin, but waits for a fence only so many seconds. Busy, DeadlineExceeded: it\n"
               "drains still.")},
    {"draft", METHOD(participant_draft), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("draft($self, /, size, *, timeout=None, interrupt=None)\n--\n\n"
               "The next state, to be written in place; by default at most 10 seconds for a free\n"
               "version.")},
    {"commit", METHOD(participant_commit), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("commit($self, state, /, **options)\n--\n\n"
               "Makes `state` the next state and waits until it is visible. Returns its epoch.")},
    {"propose", METHOD(participant_propose), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR(
         "propose($self, state, /, **options)\n--\n\n"
         "As commit, of bytes or of a draft, without waiting for the disk. Returns a ticket.")},
    {"update", METHOD(participant_update), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("update($self, function, /, **options)\n--\n\n"
               "Commits function(state, epoch) as the successor of that state; called again if\n"
               "another transition came first. None: no change.")},
    {"propose_update", METHOD(participant_propose_update), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("propose_update($self, function, /, **options)\n--\n\n"
               "As update, without waiting for the disk. Returns a ticket.")},
    {"await_", METHOD(participant_await), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("await_($self, what, /, stage='committed', timeout=None, *, interrupt=None)\n--\n\n"
               "Until a ticket is visible, or the region has reached an epoch.")},
    {"commit_collective", METHOD(participant_commit_collective), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("commit_collective($self, tag, data, /, **options)\n--\n\n"
               "One part of a transition that all voters make together. Returns its epoch.")},
    {"set_validator", participant_set_validator, METH_O,
     PyDoc_STR("set_validator($self, validator, /)\n--\n\n"
               "What this voter says to proposals of others; None: accepts them.")},
    {"vote", participant_vote, METH_VARARGS,
     PyDoc_STR("vote($self, ballot, answer, /)\n--\n\n"
               "The answer to a ballot for which the validator said later(). Any thread.")},
    {"listen", participant_listen, METH_NOARGS,
     PyDoc_STR("listen($self, /)\n--\n\n"
               "Starts a thread that answers votes, acknowledges, and makes a descriptor readable\n"
               "when something was committed.")},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef properties[] = {
    {"name", participant_name, NULL, PyDoc_STR("As it joined."), NULL},
    {"slot", participant_slot, NULL, PyDoc_STR("Its slot."), NULL},
    {"generation", participant_generation, NULL,
     PyDoc_STR("How often the slot has been taken: who it is, with the slot."), NULL},
    {"region", participant_region, NULL, PyDoc_STR("Where it is in."), NULL},
    {"pins", participant_pins, NULL, PyDoc_STR("How many of its pins hold something."), NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot slots[] = {
    {Py_tp_doc, PyDoc_STR("An actor in a region. One thread at a time, whichever: else Busy.")},
    {Py_tp_dealloc, SLOT(participant_dealloc)},
    {Py_tp_traverse, SLOT(participant_traverse)},
    {Py_tp_clear, SLOT(participant_clear)},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {0, NULL}};
PyType_Spec participant_spec = {.name = "epoch._epoch.Participant",
                                .basicsize = sizeof(participant_object),
                                .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE |
                                         Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                .slots = slots};
