/* The old epochs of a durable region. A history keeps nothing of the region. */
#include "border.h"

typedef struct history_object {
  PyObject ob_base;
  epoch_history* handle;
} history_object;

typedef struct reader_object {
  PyObject ob_base;
  epoch_history_reader* handle;
} reader_object;

PyObject* history_of(region_object* region) {
  call is = {0};
  epoch_history* handle = NULL;
  epoch_error* error = NULL;
  epoch_code code;
  WAITING(&is, code, epoch_region_history(region->handle, &handle, &error));
  if (call_outcome(&is, code, error) != 0) return NULL;
  history_object* const self = NEW(history_object, history_type);
  if (self == NULL) {
    epoch_history_free(handle);
    return NULL;
  }
  self->handle = handle;
  return (PyObject*)self;
}

static void history_dealloc(PyObject* self) {
  epoch_history_free(((history_object*)self)->handle);
  give_back(self);
}

/* Frees the snapshot. */
static PyObject* past_of(epoch_snapshot* snapshot) {
  epoch_snapshot_info is = {.struct_size = sizeof is};
  epoch_error* error = NULL;
  PyObject* made = NULL;
  const epoch_code code = epoch_snapshot_get_info(snapshot, &is, &error);
  if (outcome(code, error) == 0) {
    made = made_of(
        past_class, "(KKy#KKNNN)", (unsigned long long)is.epoch, (unsigned long long)is.token,
        is.data == NULL ? "" : is.data, (Py_ssize_t)is.size, (unsigned long long)is.digest,
        (unsigned long long)is.chain, none_or_u64(is.has_proposer, is.proposer_slot),
        none_or_u64(is.has_proposer, is.proposer_generation), PyBool_FromLong(is.forced != 0));
  }
  epoch_snapshot_free(snapshot);
  return made;
}

static PyObject* history_oldest(PyObject* self, void* unused) {
  (void)unused;
  call is = {0};
  uint64_t epoch = 0;
  epoch_error* error = NULL;
  epoch_code code;
  WAITING(&is, code, epoch_history_oldest(((history_object*)self)->handle, &epoch, &error));
  return call_outcome(&is, code, error) != 0 ? NULL : PyLong_FromUnsignedLongLong(epoch);
}

static PyObject* history_at(PyObject* self, PyObject* args) {
  call is = {0};
  uint64_t epoch = 0;
  epoch_snapshot* snapshot = NULL;
  epoch_error* error = NULL;
  epoch_code code;
  if (!PyArg_ParseTuple(args, "O&:at", u64_argument, &epoch)) return NULL;
  WAITING(&is, code, epoch_history_at(((history_object*)self)->handle, epoch, &snapshot, &error));
  return call_outcome(&is, code, error) != 0 ? NULL : past_of(snapshot);
}

static PyObject* history_read(PyObject* self, PyObject* args, PyObject* kwargs) {
  static char* names[] = {"first", "last", NULL};
  call is = {0};
  uint64_t first = 0, last = 0;
  epoch_history_reader* handle = NULL;
  epoch_error* error = NULL;
  epoch_code code;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|O&:read", names, u64_argument, &first,
                                   u64_argument, &last)) {
    return NULL;
  }
  WAITING(&is, code,
          epoch_history_read(((history_object*)self)->handle, first, last, &handle, &error));
  if (call_outcome(&is, code, error) != 0) return NULL;
  reader_object* const reader = NEW(reader_object, reader_type);
  if (reader == NULL) {
    epoch_history_reader_free(handle);
    return NULL;
  }
  reader->handle = handle;
  return (PyObject*)reader;
}

static void reader_dealloc(PyObject* self) {
  epoch_history_reader_free(((reader_object*)self)->handle);
  give_back(self);
}

static PyObject* reader_iter(PyObject* self) {
  Py_INCREF(self);
  return self;
}

static PyObject* reader_next(PyObject* self) {
  call is = {0};
  epoch_snapshot* snapshot = NULL;
  epoch_error* error = NULL;
  epoch_code code;
  WAITING(&is, code, epoch_history_reader_next(((reader_object*)self)->handle, &snapshot, &error));
  if (call_outcome(&is, code, error) != 0 || snapshot == NULL) return NULL;
  return past_of(snapshot);
}

static PyMethodDef history_methods[] = {
    {"at", history_at, METH_VARARGS,
     PyDoc_STR("at($self, epoch, /)\n--\n\n"
               "One old epoch. NotFound: it is not kept; Invalid: it is not committed yet.")},
    {"read", METHOD(history_read), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("read($self, /, first, last=0)\n--\n\n"
               "The epochs that are kept, in order; without `last`, as far as is committed. The\n"
               "iterator goes on where it was, if more is committed later.")},
    {NULL, NULL, 0, NULL}};
static PyGetSetDef history_properties[] = {
    {"oldest", history_oldest, NULL, PyDoc_STR("The oldest epoch that is kept."), NULL},
    {NULL, NULL, NULL, NULL, NULL}};
static PyType_Slot history_slots[] = {
    {Py_tp_doc, PyDoc_STR("The old epochs of a durable region. Any threads. Blocking: on files.")},
    {Py_tp_dealloc, SLOT(history_dealloc)},
    {Py_tp_methods, history_methods},
    {Py_tp_getset, history_properties},
    {0, NULL}};
PyType_Spec history_spec = {.name = "epoch._epoch.History",
                            .basicsize = sizeof(history_object),
                            .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                            .slots = history_slots};

static PyType_Slot reader_slots[] = {
    {Py_tp_doc, PyDoc_STR("Old epochs, one after the other. One thread at a time.")},
    {Py_tp_dealloc, SLOT(reader_dealloc)},
    {Py_tp_iter, SLOT(reader_iter)},
    {Py_tp_iternext, SLOT(reader_next)},
    {0, NULL}};
PyType_Spec reader_spec = {.name = "epoch._epoch.HistoryReader",
                           .basicsize = sizeof(reader_object),
                           .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                           .slots = reader_slots};
