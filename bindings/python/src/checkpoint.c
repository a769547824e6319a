/* Checkpoints that were written: opened, listed, pruned. */
#include "border.h"

typedef struct checkpoint_object {
  PyObject ob_base;
  epoch_checkpoint* handle;
} checkpoint_object;

/* ---- what is there ----------------------------------------------------------------------------
 */

static PyObject* info_of(const epoch_checkpoint_info* is) {
  return made_of(info_class, "(KKKKKNIN)", (unsigned long long)is->step,
                 (unsigned long long)is->epoch, (unsigned long long)is->attempt,
                 (unsigned long long)is->files, (unsigned long long)is->bytes,
                 path_of(is->directory), is->world, PyBool_FromLong(is->pruned != 0));
}

static PyObject* infos_of(epoch_checkpoint_list* list, int part) {
  PyObject* all = PyList_New(0);
  const size_t count = epoch_checkpoint_list_count(list, part);
  for (size_t i = 0; all != NULL && i < count; ++i) {
    epoch_checkpoint_info is = {.struct_size = sizeof is};
    epoch_error* error = NULL;
    const epoch_code code = epoch_checkpoint_list_at(list, part, i, &is, &error);
    PyObject* const one = outcome(code, error) != 0 ? NULL : info_of(&is);
    const int added = one == NULL ? -1 : PyList_Append(all, one);
    Py_XDECREF(one);
    if (added != 0) Py_CLEAR(all);
  }
  return all;
}
static PyObject* texts_of(epoch_checkpoint_list* list, int kind) {
  PyObject* all = PyList_New(0);
  const size_t count = epoch_checkpoint_list_text_count(list, kind);
  for (size_t i = 0; all != NULL && i < count; ++i) {
    const char* const text = epoch_checkpoint_list_text(list, kind, i);
    PyObject* const one =
        kind == EPOCH_TEXT_PROBLEMS ? text_of(text == NULL ? "" : text) : path_of(text);
    const int added = one == NULL ? -1 : PyList_Append(all, one);
    Py_XDECREF(one);
    if (added != 0) Py_CLEAR(all);
  }
  return all;
}

static PyObject* checkpoint_of(epoch_checkpoint* handle) {
  checkpoint_object* const self = NEW(checkpoint_object, checkpoint_type);
  if (self == NULL) {
    epoch_checkpoint_free(handle);
  } else {
    self->handle = handle;
  }
  return (PyObject*)self;
}

/* (checkpoint, passed over, problems) */
PyObject* module_checkpoint_open(PyObject* module, PyObject* args, PyObject* kwargs) {
  static char* names[] = {"directory", "step", "good", NULL};
  (void)module;
  call is = {0};
  PyObject *directory = NULL, *wanted = Py_None;
  int good = 0;
  uint64_t step = 0;
  epoch_checkpoint* handle = NULL;
  epoch_checkpoint_list* passed_over = NULL;
  epoch_error* error = NULL;
  epoch_code code;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|$Op:open", names, PyUnicode_FSConverter,
                                   &directory, &wanted, &good)) {
    return NULL;
  }
  PyObject* result = NULL;
  if (u64_or_none(wanted, &step) == 0) goto done;
  const char* const folder = path_text(directory);
  call_begin(&is);
  code = wanted != Py_None ? epoch_checkpoint_open_step(folder, step, &handle, &error)
         : good != 0 ? epoch_checkpoint_open_newest_good(folder, &handle, &passed_over, &error)
                     : epoch_checkpoint_open_latest(folder, &handle, &error);
  call_end(&is);
  if (call_outcome(&is, code, error) == 0) {
    result =
        Py_BuildValue("(NNN)", checkpoint_of(handle), infos_of(passed_over, EPOCH_LIST_DAMAGED),
                      texts_of(passed_over, EPOCH_TEXT_PROBLEMS));
  }
  epoch_checkpoint_list_free(passed_over);
done:
  Py_DECREF(directory);
  return result;
}

static PyObject* checkpoint_close(PyObject* object, PyObject* none) {
  (void)none;
  checkpoint_object* const self = (checkpoint_object*)object;
  epoch_checkpoint_free(self->handle);
  self->handle = NULL;
  Py_RETURN_NONE;
}
static PyObject* checkpoint_exit(PyObject* self, PyObject* args) {
  (void)args;
  return checkpoint_close(self, NULL);
}
static void checkpoint_dealloc(PyObject* self) {
  epoch_checkpoint_free(((checkpoint_object*)self)->handle);
  give_back(self);
}

static PyObject* checkpoint_info(PyObject* self, void* unused) {
  (void)unused;
  epoch_checkpoint_info is = {.struct_size = sizeof is};
  epoch_error* error = NULL;
  const epoch_code code =
      epoch_checkpoint_get_info(((checkpoint_object*)self)->handle, &is, &error);
  return outcome(code, error) != 0 ? NULL : info_of(&is);
}

static PyObject* checkpoint_shards(PyObject* self, void* unused) {
  (void)unused;
  epoch_checkpoint* const handle = ((checkpoint_object*)self)->handle;
  const size_t count = epoch_checkpoint_shard_count(handle);
  PyObject* all = PyList_New(0);
  for (size_t i = 0; all != NULL && i < count; ++i) {
    epoch_shard is = {.struct_size = sizeof is};
    epoch_error* error = NULL;
    const epoch_code code = epoch_checkpoint_shard(handle, i, &is, &error);
    PyObject* const one = outcome(code, error) != 0
                              ? NULL
                              : made_of(shard_class, "(INKy#)", is.rank, path_of(is.name),
                                        (unsigned long long)is.bytes, (const char*)is.digest,
                                        (Py_ssize_t)sizeof is.digest);
    const int added = one == NULL ? -1 : PyList_Append(all, one);
    Py_XDECREF(one);
    if (added != 0) Py_CLEAR(all);
  }
  return all;
}

static PyObject* checkpoint_path(PyObject* self, PyObject* args) {
  uint32_t rank = 0;
  PyObject* name = NULL;
  char* text = NULL;
  epoch_error* error = NULL;
  if (!PyArg_ParseTuple(args, "O&O&:path", u32_argument, &rank, PyUnicode_FSConverter, &name)) {
    return NULL;
  }
  const epoch_code code = epoch_checkpoint_path(((checkpoint_object*)self)->handle, rank,
                                                path_text(name), &text, &error);
  Py_DECREF(name);
  PyObject* const path = outcome(code, error) != 0 ? NULL : path_of(text);
  epoch_string_free(text);
  return path;
}

static PyObject* checkpoint_metadata(PyObject* self, PyObject* args) {
  uint32_t rank = 0;
  const void* data = NULL;
  size_t size = 0;
  epoch_error* error = NULL;
  if (!PyArg_ParseTuple(args, "O&:metadata", u32_argument, &rank)) return NULL;
  const epoch_code code =
      epoch_checkpoint_metadata(((checkpoint_object*)self)->handle, rank, &data, &size, &error);
  if (outcome(code, error) != 0) return NULL;
  return PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
}

/* ---- folders of checkpoints -------------------------------------------------------------------
 */

typedef epoch_code (*list_call)(const char*, epoch_checkpoint_list**, epoch_error**);

/* Frees the list. */
static PyObject* listed(PyObject* made, epoch_checkpoint_list* list) {
  epoch_checkpoint_list_free(list);
  return made;
}

static epoch_checkpoint_list* list_of(PyObject* directory, list_call of) {
  call is = {0};
  PyObject* path = NULL;
  epoch_checkpoint_list* list = NULL;
  epoch_error* error = NULL;
  epoch_code code;
  if (PyUnicode_FSConverter(directory, &path) == 0) return NULL;
  const char* const folder = path_text(path);
  WAITING(&is, code, of(folder, &list, &error));
  Py_DECREF(path);
  return call_outcome(&is, code, error) != 0 ? NULL : list;
}

/* (checkpoints, damage, stagings, live stagings) */
PyObject* module_checkpoints_list(PyObject* module, PyObject* directory) {
  (void)module;
  epoch_checkpoint_list* const list = list_of(directory, epoch_checkpoints_list);
  if (list == NULL) return NULL;
  return listed(
      Py_BuildValue("(NNNN)", infos_of(list, EPOCH_LIST_ALL), texts_of(list, EPOCH_TEXT_PROBLEMS),
                    texts_of(list, EPOCH_TEXT_STAGINGS), texts_of(list, EPOCH_TEXT_STAGINGS_LIVE)),
      list);
}

PyObject* module_checkpoints_clean_up(PyObject* module, PyObject* directory) {
  (void)module;
  epoch_checkpoint_list* const list = list_of(directory, epoch_checkpoints_clean_up);
  return list == NULL ? NULL : listed(texts_of(list, EPOCH_TEXT_CLEANED), list);
}

PyObject* module_checkpoints_verify(PyObject* module, PyObject* args) {
  (void)module;
  call is = {0};
  PyObject* directory = NULL;
  uint64_t step = 0;
  epoch_checkpoint_list* list = NULL;
  epoch_error* error = NULL;
  epoch_code code;
  if (!PyArg_ParseTuple(args, "O&O&:verify", PyUnicode_FSConverter, &directory, u64_argument,
                        &step)) {
    return NULL;
  }
  const char* const folder = path_text(directory);
  WAITING(&is, code, epoch_checkpoints_verify(folder, step, &list, &error));
  Py_DECREF(directory);
  if (call_outcome(&is, code, error) != 0) return NULL;
  return listed(texts_of(list, EPOCH_TEXT_PROBLEMS), list);
}

/* (kept, removed, in use, damaged, problems, cleaned) */
PyObject* module_checkpoints_prune(PyObject* module, PyObject* args, PyObject* kwargs) {
  static char* names[] = {"directory", "keep", "remove_damaged", "dry_run", NULL};
  (void)module;
  call is = {0};
  epoch_prune_options options = {.struct_size = sizeof options, .keep = 1};
  PyObject* directory = NULL;
  int remove_damaged = 0, dry_run = 0;
  epoch_checkpoint_list* list = NULL;
  epoch_error* error = NULL;
  epoch_code code;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|$O&pp:prune", names, PyUnicode_FSConverter,
                                   &directory, u32_argument, &options.keep, &remove_damaged,
                                   &dry_run)) {
    return NULL;
  }
  options.remove_damaged = remove_damaged != 0;
  options.dry_run = dry_run != 0;
  const char* const folder = path_text(directory);
  if (options.keep == 0) {
    Py_DECREF(directory);
    return raise_as("Invalid", "at least one checkpoint is kept");
  }
  WAITING(&is, code, epoch_checkpoints_prune(folder, &options, &list, &error));
  Py_DECREF(directory);
  if (call_outcome(&is, code, error) != 0) return NULL;
  return listed(
      Py_BuildValue("(NNNNNN)", infos_of(list, EPOCH_LIST_KEPT), infos_of(list, EPOCH_LIST_REMOVED),
                    infos_of(list, EPOCH_LIST_IN_USE), infos_of(list, EPOCH_LIST_DAMAGED),
                    texts_of(list, EPOCH_TEXT_PROBLEMS), texts_of(list, EPOCH_TEXT_CLEANED)),
      list);
}

/* ---- types ------------------------------------------------------------------------------------
 */

static PyMethodDef checkpoint_methods[] = {
    {"path", checkpoint_path, METH_VARARGS,
     PyDoc_STR("path($self, rank, name, /)\n--\n\n"
               "Where that shard is. NotFound: there is no such shard.")},
    {"metadata", checkpoint_metadata, METH_VARARGS,
     PyDoc_STR("metadata($self, rank, /)\n--\n\nWhat that rank has set.")},
    {"close", checkpoint_close, METH_NOARGS,
     PyDoc_STR("close($self, /)\n--\n\nFrom now on its files may be pruned.")},
    {"__enter__", itself, METH_NOARGS, NULL},
    {"__exit__", checkpoint_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}};
static PyGetSetDef checkpoint_properties[] = {
    {"info", checkpoint_info, NULL, PyDoc_STR("What its manifest says."), NULL},
    {"shards", checkpoint_shards, NULL, PyDoc_STR("Its files, by rank."), NULL},
    {NULL, NULL, NULL, NULL, NULL}};
static PyType_Slot checkpoint_slots[] = {
    {Py_tp_doc, PyDoc_STR("A verified checkpoint; while it lives its files are not pruned.")},
    {Py_tp_dealloc, SLOT(checkpoint_dealloc)},
    {Py_tp_methods, checkpoint_methods},
    {Py_tp_getset, checkpoint_properties},
    {0, NULL}};
PyType_Spec checkpoint_spec = {.name = "epoch._epoch.Checkpoint",
                               .basicsize = sizeof(checkpoint_object),
                               .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                               .slots = checkpoint_slots};
