/* Drafts: the next state, written in place in shared memory. */
#include "transition.h"

/* How long a draft waits for a version that the disk still needs, unless it is told otherwise. */
static const int64_t kDraftWithin_ns = INT64_C(10) * 1000 * 1000 * 1000;

PyObject* participant_draft(PyObject* owner, PyObject* args, PyObject* kwargs) {
  static char* names[] = {"size", "timeout", "interrupt", NULL};
  wait_arguments wait = {0};
  Py_ssize_t size = 0;
  epoch_draft* handle = NULL;
  epoch_error* error = NULL;
  epoch_code code;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n|$O&O&:draft", names, &size, seconds_argument,
                                   &wait.options.timeout_ns, interrupt_argument, &wait.is)) {
    return NULL;
  }
  if (size < 0) return raise_as("Invalid", "a draft has at least 0 bytes");
  wait_prepare(&wait);
  if (wait.options.timeout_ns == 0) wait.options.timeout_ns = kDraftWithin_ns;
  WAITING(&wait.is, code,
          epoch_participant_draft(((participant_object*)owner)->handle, (size_t)size, &wait.options,
                                  &handle, &error));
  draft_object* self = NULL;
  if (call_outcome(&wait.is, code, error) == 0) self = NEW(draft_object, draft_type);
  if (self == NULL) {
    epoch_draft_free(handle);
    return NULL;
  }
  Py_INCREF(owner);
  self->owner = (participant_object*)owner;
  self->handle = handle;
  return (PyObject*)self;
}

static void draft_dealloc(PyObject* object) {
  draft_object* const self = (draft_object*)object;
  PyObject_GC_UnTrack(object);
  epoch_draft_free(self->handle);
  Py_CLEAR(self->owner);
  give_back(object);
}
static int draft_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(((draft_object*)self)->owner);
  return 0;
}

static int draft_get_buffer(PyObject* object, Py_buffer* view, int flags) {
  draft_object* const self = (draft_object*)object;
  void* data = NULL;
  size_t size = 0;
  epoch_error* error = NULL;
  view->obj = NULL;
  if (self->leaving) {
    PyErr_SetString(PyExc_BufferError, "the draft is being committed");
    return -1;
  }
  const epoch_code code = epoch_draft_data(self->handle, &data, &size, &error);
  if (outcome(code, error) != 0) return -1;
  if (data == NULL) data = "";
  if (PyBuffer_FillInfo(view, object, data, (Py_ssize_t)size, 0, flags) != 0) return -1;
  ++self->exports;
  return 0;
}
static void draft_release_buffer(PyObject* object, Py_buffer* view) {
  (void)view;
  --((draft_object*)object)->exports;
}

/* Whoever writes through a view of it would write what others read. */
int draft_let(draft_object* self) {
  if (self->exports == 0) return 0;
  raise_as("PinHeld", "a view of this draft is alive (a memoryview, an array): drop it first");
  return -1;
}

static PyObject* draft_view(PyObject* self, PyObject* none) {
  (void)none;
  return PyMemoryView_FromObject(self);
}

static PyObject* draft_free(PyObject* object, PyObject* none) {
  (void)none;
  draft_object* const self = (draft_object*)object;
  if (draft_let(self) != 0) return NULL;
  epoch_draft* const handle = self->handle;
  self->handle = NULL;
  epoch_draft_free(handle);
  Py_RETURN_NONE;
}
static PyObject* draft_exit(PyObject* object, PyObject* args) {
  if (((draft_object*)object)->exports != 0 && raised_within(args)) Py_RETURN_NONE;
  return draft_free(object, NULL);
}

static PyObject* draft_resize(PyObject* object, PyObject* args) {
  draft_object* const self = (draft_object*)object;
  Py_ssize_t size = 0;
  epoch_error* error = NULL;
  if (!PyArg_ParseTuple(args, "n:resize", &size) || draft_let(self) != 0) return NULL;
  if (size < 0) return raise_as("Invalid", "a draft has at least 0 bytes");
  const epoch_code code = epoch_draft_resize(self->handle, (size_t)size, &error);
  if (outcome(code, error) != 0) return NULL;
  Py_RETURN_NONE;
}

static PyObject* draft_capacity(PyObject* self, void* unused) {
  (void)unused;
  size_t capacity = 0;
  epoch_error* error = NULL;
  const epoch_code code = epoch_draft_capacity(((draft_object*)self)->handle, &capacity, &error);
  return outcome(code, error) != 0 ? NULL : PyLong_FromSize_t(capacity);
}

static Py_ssize_t draft_length(PyObject* self) {
  void* data = NULL;
  size_t size = 0;
  epoch_error* error = NULL;
  const epoch_code code = epoch_draft_data(((draft_object*)self)->handle, &data, &size, &error);
  return outcome(code, error) != 0 ? -1 : (Py_ssize_t)size;
}
/* Of no bytes, too. */
static int draft_true(PyObject* self) { return ((draft_object*)self)->handle != NULL; }

/* Commits it, or proposes it: `number` is its epoch. */
epoch_code draft_send(draft_object* self, commit_arguments* a, bool waits, uint64_t* number,
                      epoch_error** error) {
  epoch_code code;
  epoch_participant* const owner = self->owner->handle;
  self->leaving = true;
  if (waits) {
    WAITING(&a->is, code,
            epoch_participant_commit_draft(owner, self->handle, &a->options, number, error));
  } else {
    WAITING(&a->is, code,
            epoch_participant_propose(owner, self->handle, &a->options, number, error));
  }
  self->leaving = false;
  return code;
}

static PyObject* draft_commit(PyObject* object, PyObject* args, PyObject* kwargs) {
  static char* names[] = {COMMIT_KEYWORDS};
  draft_object* const self = (draft_object*)object;
  commit_arguments a = {0};
  uint64_t epoch = 0;
  epoch_error* error = NULL;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|" COMMIT_FORMAT ":commit", names,
                                   COMMIT_TARGETS(&a)) ||
      commit_prepare(&a) != 0 || draft_let(self) != 0) {
    return NULL;
  }
  const epoch_code code = draft_send(self, &a, true, &epoch, &error);
  return epoch_number(&a.is, code, error, epoch);
}

static PyMethodDef methods[] = {
    {"commit", METHOD(draft_commit), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("commit($self, /, **options)\n--\n\n"
               "As Participant.commit. The draft is used up, unless the call was refused as\n"
               "misuse. PinHeld while a view of it lives.")},
    {"resize", draft_resize, METH_VARARGS,
     PyDoc_STR("resize($self, size, /)\n--\n\n"
               "New bytes are what an earlier version left there.")},
    {"view", draft_view, METH_NOARGS,
     PyDoc_STR("view($self, /)\n--\n\nmemoryview(draft): to be written, in place.")},
    {"free", draft_free, METH_NOARGS,
     PyDoc_STR("free($self, /)\n--\n\nDrops it. Once more does nothing.")},
    {"__enter__", itself, METH_NOARGS, NULL},
    {"__exit__", draft_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}};
static PyGetSetDef properties[] = {
    {"capacity", draft_capacity, NULL, PyDoc_STR("The largest state, in bytes."), NULL},
    {NULL, NULL, NULL, NULL, NULL}};
static PyType_Slot slots[] = {
    {Py_tp_doc, PyDoc_STR("The next state, in shared memory: a buffer to be written.")},
    {Py_tp_dealloc, SLOT(draft_dealloc)},
    {Py_tp_traverse, SLOT(draft_traverse)},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {Py_sq_length, SLOT(draft_length)},
    {Py_nb_bool, SLOT(draft_true)},
    {Py_bf_getbuffer, SLOT(draft_get_buffer)},
    {Py_bf_releasebuffer, SLOT(draft_release_buffer)},
    {0, NULL}};
PyType_Spec draft_spec = {
    .name = "epoch._epoch.Draft",
    .basicsize = sizeof(draft_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots};
