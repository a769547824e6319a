/* Ranks, which write checkpoints together, and their steps. */
#include "border.h"

typedef struct rank_object {
  PyObject ob_base;
  epoch_rank* handle;
  PyObject* region_path;
} rank_object;

typedef struct step_object {
  PyObject ob_base;
  epoch_step* handle;
  uint64_t number;
  PyObject* directory;
} step_object;

/* What C says about a handle lives as long as that: it is read once, while nobody else has the
 * object yet, who might close it. 0; or -1, and something was raised. */
static int keep_path(PyObject** to, epoch_code code, const char* path, epoch_error* error) {
  if (outcome(code, error) != 0) return -1;
  *to = path_of(path);
  return *to == NULL ? -1 : 0;
}

/* ---- ranks ------------------------------------------------------------------------------------
 */

static PyObject* rank_join(PyObject* class_of, PyObject* args, PyObject* kwargs) {
  static char* names[] = {"directory", "rank",      "world",   "region",
                          "mode",      "take_over", "timeout", NULL};
  call is = {0};
  epoch_rank_options options = {
      .struct_size = sizeof options, .interrupted = call_interrupted, .interrupted_user = &is};
  PyObject *directory = NULL, *region = NULL;
  int take_over = 0;
  epoch_rank* handle = NULL;
  epoch_error* error = NULL;
  epoch_code code;
  if (!PyArg_ParseTupleAndKeywords(
          args, kwargs, "O&|$O&O&O&O&pO&:join", names, PyUnicode_FSConverter, &directory,
          u32_argument, &options.rank, u32_argument, &options.world, path_argument, &region,
          u32_or_none, &options.mode, &take_over, seconds_argument, &options.restore_timeout_ns)) {
    return NULL;
  }
  options.region = path_text(region);
  options.take_over = take_over != 0;
  const char* const folder = path_text(directory);
  WAITING(&is, code, epoch_rank_join(folder, &options, &handle, &error));
  rank_object* self = NULL;
  if (call_outcome(&is, code, error) == 0) self = NEW(rank_object, class_of);
  if (self == NULL) {
    epoch_rank_free(handle);
  } else {
    self->handle = handle;
    const char* path = NULL;
    code = epoch_rank_region_path(handle, &path, &error);
    if (keep_path(&self->region_path, code, path, error) != 0) Py_CLEAR(self);
  }
  Py_XDECREF(region);
  Py_DECREF(directory);
  return (PyObject*)self;
}

static PyObject* rank_close(PyObject* object, PyObject* none) {
  (void)none;
  rank_object* const self = (rank_object*)object;
  epoch_rank* const handle = self->handle;
  self->handle = NULL;
  Py_BEGIN_ALLOW_THREADS;
  epoch_rank_free(handle);
  Py_END_ALLOW_THREADS;
  Py_RETURN_NONE;
}
static PyObject* rank_exit(PyObject* self, PyObject* args) {
  (void)args;
  return rank_close(self, NULL);
}
static void rank_dealloc(PyObject* self) {
  PyObject* const none = rank_close(self, NULL);
  Py_DECREF(none);
  Py_CLEAR(((rank_object*)self)->region_path);
  give_back(self);
}

static PyObject* rank_region_path(PyObject* self, void* unused) {
  (void)unused;
  PyObject* const path = ((rank_object*)self)->region_path;
  Py_INCREF(path);
  return path;
}

static PyObject* rank_begin(PyObject* self, PyObject* args, PyObject* kwargs) {
  static char* names[] = {"step", "timeout", NULL};
  wait_arguments wait = {0};
  uint64_t number = 0;
  epoch_step* handle = NULL;
  epoch_error* error = NULL;
  epoch_code code;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|O&:begin", names, u64_argument, &number,
                                   seconds_argument, &wait.options.timeout_ns)) {
    return NULL;
  }
  wait_prepare(&wait);
  WAITING(&wait.is, code,
          epoch_rank_begin(((rank_object*)self)->handle, number, &wait.options, &handle, &error));
  step_object* step = NULL;
  if (call_outcome(&wait.is, code, error) == 0) step = NEW(step_object, step_type);
  if (step == NULL) {
    epoch_step_free(handle);
    return NULL;
  }
  step->handle = handle;
  step->number = number;
  const char* path = NULL;
  code = epoch_step_directory(handle, &path, &error);
  if (keep_path(&step->directory, code, path, error) != 0) Py_CLEAR(step);
  return (PyObject*)step;
}

/* ---- steps ------------------------------------------------------------------------------------
 */

static PyObject* step_close(PyObject* object, PyObject* none) {
  (void)none;
  step_object* const self = (step_object*)object;
  epoch_step* const handle = self->handle;
  self->handle = NULL;
  Py_BEGIN_ALLOW_THREADS;
  epoch_step_free(handle);
  Py_END_ALLOW_THREADS;
  Py_RETURN_NONE;
}
static PyObject* step_exit(PyObject* self, PyObject* args) {
  (void)args;
  return step_close(self, NULL);
}
static void step_dealloc(PyObject* self) {
  PyObject* const none = step_close(self, NULL);
  Py_DECREF(none);
  Py_CLEAR(((step_object*)self)->directory);
  give_back(self);
}

static PyObject* step_number(PyObject* self, void* unused) {
  (void)unused;
  return PyLong_FromUnsignedLongLong(((step_object*)self)->number);
}
static PyObject* step_directory(PyObject* self, void* unused) {
  (void)unused;
  PyObject* const path = ((step_object*)self)->directory;
  Py_INCREF(path);
  return path;
}

static PyObject* step_path(PyObject* self, PyObject* args) {
  call is = {0};
  PyObject* name = NULL;
  char* text = NULL;
  epoch_error* error = NULL;
  epoch_code code;
  if (!PyArg_ParseTuple(args, "O&:path", PyUnicode_FSConverter, &name)) return NULL;
  const char* const shard = path_text(name);
  WAITING(&is, code, epoch_step_path(((step_object*)self)->handle, shard, &text, &error));
  Py_DECREF(name);
  PyObject* const path = call_outcome(&is, code, error) != 0 ? NULL : path_of(text);
  epoch_string_free(text);
  return path;
}

static PyObject* step_ready(PyObject* self, PyObject* args) {
  epoch_step* const handle = ((step_object*)self)->handle;
  call is = {0};
  PyObject* name = NULL;
  epoch_error* error = NULL;
  epoch_code code;
  if (!PyArg_ParseTuple(args, "|O&:ready", path_argument, &name)) return NULL;
  const char* const shard = path_text(name);
  WAITING(&is, code,
          shard == NULL ? epoch_step_ready_all(handle, &error)
                        : epoch_step_ready(handle, shard, &error));
  Py_XDECREF(name);
  if (call_outcome(&is, code, error) != 0) return NULL;
  Py_RETURN_NONE;
}

static PyObject* step_set_metadata(PyObject* self, PyObject* data) {
  call is = {0};
  Py_buffer bytes = {0};
  epoch_error* error = NULL;
  epoch_code code;
  if (PyObject_GetBuffer(data, &bytes, PyBUF_SIMPLE) != 0) return NULL;
  WAITING(
      &is, code,
      epoch_step_set_metadata(((step_object*)self)->handle, bytes.buf, (size_t)bytes.len, &error));
  PyBuffer_Release(&bytes);
  if (call_outcome(&is, code, error) != 0) return NULL;
  Py_RETURN_NONE;
}

static PyObject* step_commit(PyObject* self, PyObject* args, PyObject* kwargs) {
  static char* names[] = {"timeout", NULL};
  wait_arguments wait = {0};
  uint64_t epoch = 0;
  epoch_error* error = NULL;
  epoch_code code;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O&:commit", names, seconds_argument,
                                   &wait.options.timeout_ns)) {
    return NULL;
  }
  wait_prepare(&wait);
  WAITING(&wait.is, code,
          epoch_step_commit(((step_object*)self)->handle, &wait.options, &epoch, &error));
  if (call_outcome_of(&wait.is, code, error, (made_epoch){.epoch = epoch}) != 0) return NULL;
  return PyLong_FromUnsignedLongLong(epoch);
}

/* ---- types ------------------------------------------------------------------------------------
 */

static PyMethodDef rank_methods[] = {
    {"_join", METHOD(rank_join), METH_VARARGS | METH_KEYWORDS | METH_CLASS,
     PyDoc_STR("_join($type, directory, /, **options)\n--\n\nWhat Rank does.")},
    {"begin", METHOD(rank_begin), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("begin($self, /, step, timeout=None)\n--\n\n"
               "Begins an attempt at a step, with the other ranks; by default within 10 minutes.")},
    {"close", rank_close, METH_NOARGS,
     PyDoc_STR("close($self, /)\n--\n\nLeaves, when its steps are gone.")},
    {"__enter__", itself, METH_NOARGS, NULL},
    {"__exit__", rank_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}};
static PyGetSetDef rank_properties[] = {
    {"region_path", rank_region_path, NULL, PyDoc_STR("The region that the ranks meet in."), NULL},
    {NULL, NULL, NULL, NULL, NULL}};
static PyType_Slot rank_slots[] = {
    {Py_tp_doc, PyDoc_STR("One rank of those that make checkpoints. One thread at a time.")},
    {Py_tp_dealloc, SLOT(rank_dealloc)},
    {Py_tp_methods, rank_methods},
    {Py_tp_getset, rank_properties},
    {0, NULL}};
PyType_Spec rank_spec = {
    .name = "epoch._epoch.Rank",
    .basicsize = sizeof(rank_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = rank_slots};

static PyMethodDef step_methods[] = {
    {"path", step_path, METH_VARARGS,
     PyDoc_STR("path($self, name, /)\n--\n\nWhere that shard is to be written.")},
    {"ready", step_ready, METH_VARARGS,
     PyDoc_STR("ready($self, name=None, /)\n--\n\n"
               "The shard is complete: syncs it, and takes its digest; None: all files that are\n"
               "there. Blocking on the disk.")},
    {"set_metadata", step_set_metadata, METH_O,
     PyDoc_STR("set_metadata($self, data, /)\n--\n\nAt most 190 bytes.")},
    {"commit", METHOD(step_commit), METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("commit($self, /, timeout=None)\n--\n\n"
               "Makes the checkpoint, if all ranks do; by default within 10 minutes. Returns the\n"
               "manifest's epoch.")},
    {"close", step_close, METH_NOARGS,
     PyDoc_STR("close($self, /)\n--\n\nAbandons it, unless it was committed.")},
    {"__enter__", itself, METH_NOARGS, NULL},
    {"__exit__", step_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}};
static PyGetSetDef step_properties[] = {
    {"number", step_number, NULL, PyDoc_STR("Which step it is."), NULL},
    {"directory", step_directory, NULL, PyDoc_STR("This rank's own folder."), NULL},
    {NULL, NULL, NULL, NULL, NULL}};
static PyType_Slot step_slots[] = {
    {Py_tp_doc, PyDoc_STR("One rank's attempt at one step. One thread at a time.")},
    {Py_tp_dealloc, SLOT(step_dealloc)},
    {Py_tp_methods, step_methods},
    {Py_tp_getset, step_properties},
    {0, NULL}};
PyType_Spec step_spec = {.name = "epoch._epoch.Step",
                         .basicsize = sizeof(step_object),
                         .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                         .slots = step_slots};
