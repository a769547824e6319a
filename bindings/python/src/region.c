/* Regions. */
#include "border.h"

typedef struct region_arguments {
  const char* name;
  PyObject* path;
  PyObject* journal;
  const char* history;
  int ignore_block_damage, read_only, trust_other_owners;
  call is;
  epoch_region_options options;
} region_arguments;

/* What _open can do with a name. */
static const struct {
  const char* how;
  epoch_code (*call)(const char*, const epoch_region_options*, epoch_region**, epoch_error**);
} openers[] = {{"create", epoch_region_create},
               {"open", epoch_region_open},
               {"open_or_create", epoch_region_open_or_create},
               {"restore", epoch_region_restore}};

static int fill_region_options(region_arguments* a) {
  epoch_region_options* const options = &a->options;
  options->struct_size = sizeof *options;
  options->journal = path_text(a->journal);
  options->interrupted = call_interrupted;
  options->interrupted_user = &a->is;
  options->ignore_block_damage = a->ignore_block_damage != 0;
  options->read_only = a->read_only != 0;
  options->trust_other_owners = a->trust_other_owners != 0;
  if (a->history != NULL) {
    const bool all = strcmp(a->history, "all") == 0;
    if (!all && strcmp(a->history, "latest") != 0) {
      raise_as("Invalid", "history is \"all\" or \"latest\"");
      return -1;
    }
    options->history = all ? EPOCH_HISTORY_ALL : EPOCH_HISTORY_LATEST;
  }
  return 0;
}

static PyObject* region_open(PyObject* class_of, PyObject* args, PyObject* kwargs) {
  static char* names[] = {"how",
                          "name",
                          "journal",
                          "state_bytes",
                          "participants",
                          "versions",
                          "history",
                          "segment_bytes",
                          "retain_epochs",
                          "retain_segments",
                          "timeout",
                          "mode",
                          "ignore_block_damage",
                          "read_only",
                          "trust_other_owners",
                          NULL};
  region_arguments a = {0};
  epoch_region_options* const o = &a.options;
  const char* how = NULL;
  region_object* self = NULL;
  epoch_region* handle = NULL;
  epoch_error* error = NULL;
  epoch_code code = EPOCH_INVALID_ARGUMENT;
  if (!PyArg_ParseTupleAndKeywords(
          args, kwargs, "sO&|$O&O&O&O&zO&O&O&O&O&ppp:open", names, &how, PyUnicode_FSConverter,
          &a.path, path_argument, &a.journal, u64_or_none, &o->state_bytes, u32_or_none,
          &o->participants, u32_or_none, &o->versions, &a.history, u64_or_none, &o->segment_bytes,
          u64_or_none, &o->retain_epochs, u32_or_none, &o->retain_segments, seconds_argument,
          &o->restore_timeout_ns, u32_or_none, &o->mode, &a.ignore_block_damage, &a.read_only,
          &a.trust_other_owners)) {
    return NULL;
  }
  if (fill_region_options(&a) != 0) goto done;
  for (size_t i = 0; i < sizeof openers / sizeof openers[0]; ++i) {
    if (strcmp(how, openers[i].how) != 0) continue;
    const char* const name = path_text(a.path);
    WAITING(&a.is, code, openers[i].call(name, o, &handle, &error));
    if (call_outcome(&a.is, code, error) != 0) goto done;
    self = NEW(region_object, class_of);
    if (self == NULL) goto done;
    self->read_only = a.read_only != 0;
    self->trust_other_owners = a.trust_other_owners != 0;
    self->handle = handle;
    handle = NULL;
    goto done;
  }
  raise_as("Invalid", "a region is opened, created or restored");
done:
  epoch_region_free(handle);
  Py_XDECREF(a.journal);
  Py_XDECREF(a.path);
  return (PyObject*)self;
}

/* Waits for what this process has sent to the disk, if it is the last that is left of it. */
static void region_dealloc(PyObject* self) {
  Py_BEGIN_ALLOW_THREADS;
  epoch_region_free(((region_object*)self)->handle);
  Py_END_ALLOW_THREADS;
  give_back(self);
}

/* ---- what it is -------------------------------------------------------------------------------
 */

static int region_info(PyObject* self, epoch_region_info* info) {
  epoch_error* error = NULL;
  info->struct_size = sizeof *info;
  const epoch_code code = epoch_region_get_info(((region_object*)self)->handle, info, &error);
  return outcome(code, error);
}

enum { kPath, kJournal, kIncarnation, kStateBytes, kDurable, kJournalInMemory };
static PyObject* region_get(PyObject* self, void* which) {
  epoch_region_info info = {0};
  if (region_info(self, &info) != 0) return NULL;
  switch ((intptr_t)which) {
    case kPath:
      return path_of(info.path);
    case kJournal:
      if (info.durable == 0) Py_RETURN_NONE;
      return path_of(info.journal);
    case kIncarnation:
      return text_of(info.incarnation);
    case kStateBytes:
      return PyLong_FromUnsignedLongLong(info.state_bytes);
    case kDurable:
      return PyBool_FromLong(info.durable != 0);
    default:
      return PyBool_FromLong(info.journal_in_memory != 0);
  }
}

static PyObject* region_epoch(PyObject* self, void* unused) {
  (void)unused;
  uint64_t epoch = 0;
  epoch_error* error = NULL;
  const epoch_code code = epoch_region_epoch(((region_object*)self)->handle, &epoch, &error);
  return outcome(code, error) != 0 ? NULL : PyLong_FromUnsignedLongLong(epoch);
}

static PyObject* region_orphaned(PyObject* self, void* unused) {
  (void)unused;
  call is = {0};
  int orphaned = 0;
  epoch_error* error = NULL;
  epoch_code code;
  WAITING(&is, code, epoch_region_orphaned(((region_object*)self)->handle, &orphaned, &error));
  return call_outcome(&is, code, error) != 0 ? NULL : PyBool_FromLong(orphaned);
}

static PyObject* region_history(PyObject* self, void* unused) {
  (void)unused;
  return history_of((region_object*)self);
}

/* ---- what is done with it ---------------------------------------------------------------------
 */

static PyObject* region_read(PyObject* self, PyObject* none) {
  (void)none;
  call is = {0};
  epoch_snapshot* snapshot = NULL;
  epoch_snapshot_info info = {.struct_size = sizeof info};
  epoch_error* error = NULL;
  epoch_code code;
  WAITING(&is, code, epoch_region_read(((region_object*)self)->handle, &snapshot, &error));
  if (call_outcome(&is, code, error) != 0) return NULL;
  PyObject* made = NULL;
  code = epoch_snapshot_get_info(snapshot, &info, &error);
  if (outcome(code, error) == 0) {
    made = made_of(snapshot_class, "(KKy#)", (unsigned long long)info.epoch,
                   (unsigned long long)info.token, info.data == NULL ? "" : info.data,
                   (Py_ssize_t)info.size);
  }
  epoch_snapshot_free(snapshot);
  return made;
}

static PyObject* region_reap(PyObject* self, PyObject* none) {
  (void)none;
  call is = {0};
  uint32_t reaped = 0;
  epoch_error* error = NULL;
  epoch_code code;
  WAITING(&is, code, epoch_region_reap(((region_object*)self)->handle, &reaped, &error));
  return call_outcome(&is, code, error) != 0 ? NULL : PyLong_FromUnsignedLong(reaped);
}

static PyObject* region_expel(PyObject* self, PyObject* args) {
  call is = {0};
  uint32_t slot = 0;
  epoch_error* error = NULL;
  epoch_code code;
  if (!PyArg_ParseTuple(args, "O&:expel", u32_argument, &slot)) return NULL;
  WAITING(&is, code, epoch_region_expel(((region_object*)self)->handle, slot, &error));
  if (call_outcome(&is, code, error) != 0) return NULL;
  Py_RETURN_NONE;
}

static PyObject* straggler_of(const epoch_straggler* is) {
  static const char* conditions[] = {"running", "stopped", "dead", "parked"};
  const bool known = is->condition >= 0 && is->condition < 4;
  return made_of(straggler_class, "(IKINsNN)", is->slot, (unsigned long long)is->generation,
                 is->pid, text_of(is->name), known ? conditions[is->condition] : "?",
                 none_or_u64(is->has_acknowledged, is->acknowledged),
                 none_or_u64(is->has_pinned, is->pinned));
}

static PyObject* region_stragglers(PyObject* self, PyObject* args) {
  call is = {0};
  uint64_t epoch = 0;
  PyObject* wanted = Py_None;
  epoch_stragglers* list = NULL;
  epoch_error* error = NULL;
  epoch_region* const region = ((region_object*)self)->handle;
  epoch_code code;
  if (!PyArg_ParseTuple(args, "|O:stragglers", &wanted)) return NULL;
  if (wanted == Py_None) {
    code = epoch_region_epoch(region, &epoch, &error);
    if (outcome(code, error) != 0) return NULL;
  } else if (u64_argument(wanted, &epoch) == 0) {
    return NULL;
  }
  WAITING(&is, code, epoch_region_stragglers(region, epoch, &list, &error));
  if (call_outcome(&is, code, error) != 0) return NULL;
  PyObject* const all = PyList_New(0);
  const size_t count = epoch_stragglers_count(list);
  bool whole = all != NULL;
  for (size_t i = 0; whole && i < count; ++i) {
    epoch_straggler one = {.struct_size = sizeof one};
    code = epoch_stragglers_at(list, i, &one, &error);
    PyObject* const made = outcome(code, error) != 0 ? NULL : straggler_of(&one);
    whole = made != NULL && PyList_Append(all, made) == 0;
    Py_XDECREF(made);
  }
  epoch_stragglers_free(list);
  if (whole) return all;
  Py_XDECREF(all);
  return NULL;
}

static PyMethodDef methods[] = {
    {"_open", METHOD(region_open), METH_VARARGS | METH_KEYWORDS | METH_CLASS,
     PyDoc_STR("_open($type, how, name, /, **options)\n--\n\n"
               "What epoch.open, create and restore do. Blocking: on files.")},
    {"read", region_read, METH_NOARGS,
     PyDoc_STR("read($self, /)\n--\n\n"
               "A verified copy of the committed state, without a slot. Lock-free.")},
    {"reap", region_reap, METH_NOARGS,
     PyDoc_STR("reap($self, /)\n--\n\n"
               "Expels dead participants, and frees what they held. Returns how many.")},
    {"expel", region_expel, METH_VARARGS,
     PyDoc_STR("expel($self, slot, /)\n--\n\n"
               "Takes a slot away from its participant, dead or alive.")},
    {"stragglers", region_stragglers, METH_VARARGS,
     PyDoc_STR("stragglers($self, epoch=None, /)\n--\n\n"
               "Who has not acknowledged an epoch; None: the committed one.")},
    {NULL, NULL, 0, NULL}};

static PyGetSetDef properties[] = {
    {"epoch", region_epoch, NULL, PyDoc_STR("The committed epoch. Lock-free."), NULL},
    {"path", region_get, NULL, PyDoc_STR("The region's file."), (void*)kPath},
    {"journal", region_get, NULL,
     PyDoc_STR("Where the journal lies, as this process sees it; None: volatile."),
     (void*)kJournal},
    {"incarnation", region_get, NULL, PyDoc_STR("32 hexadecimal digits."), (void*)kIncarnation},
    {"state_bytes", region_get, NULL, PyDoc_STR("The largest state, in bytes."),
     (void*)kStateBytes},
    {"durable", region_get, NULL, PyDoc_STR("Whether it has a journal."), (void*)kDurable},
    {"journal_in_memory", region_get, NULL,
     PyDoc_STR("Whether what is committed is lost with the machine's power."),
     (void*)kJournalInMemory},
    {"orphaned", region_orphaned, NULL,
     PyDoc_STR("Whether the name does not lead to this region any more. One system call."), NULL},
    {"history", region_history, NULL, PyDoc_STR("The old epochs of a durable region."), NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyMemberDef members[] = {
    {"read_only", T_BOOL, offsetof(region_object, read_only), READONLY,
     PyDoc_STR("Whether it was opened to look only.")},
    {"trust_other_owners", T_BOOL, offsetof(region_object, trust_other_owners), READONLY,
     PyDoc_STR("Whether files of other users were accepted.")},
    {NULL, 0, 0, 0, NULL}};

static PyType_Slot slots[] = {
    {Py_tp_doc, PyDoc_STR("A region that is mapped. Any threads. Pickled, it is its path.")},
    {Py_tp_dealloc, SLOT(region_dealloc)},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {Py_tp_members, members},
    {0, NULL}};
PyType_Spec region_spec = {
    .name = "epoch._epoch.Region",
    .basicsize = sizeof(region_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots};
