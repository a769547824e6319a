/* The module: its types, and what it takes from the package's own Python.
 *
 * What is static belongs to one interpreter, the main one, and to one load: others are refused.
 */
#include "border.h"

PyTypeObject *region_type, *participant_type, *pin_type, *draft_type, *listener_type, *history_type,
    *reader_type, *rank_type, *step_type, *checkpoint_type, *interrupt_type;
PyObject *answer_class, *proposal_class, *ticket_class, *snapshot_class, *past_class,
    *straggler_class, *contribution_class, *info_class, *shard_class;

/* ---- Interrupt --------------------------------------------------------------------------------
 */

static PyObject* interrupt_new(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
  static char* names[] = {NULL};
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":Interrupt", names)) return NULL;
  return PyType_GenericAlloc(type, 0);
}
static PyObject* interrupt_set(PyObject* self, PyObject* none) {
  (void)none;
  atomic_store(&((interrupt_object*)self)->set, 1);
  Py_RETURN_NONE;
}
static PyObject* interrupt_is_set(PyObject* self, void* unused) {
  (void)unused;
  return PyBool_FromLong(atomic_load(&((interrupt_object*)self)->set));
}
static PyMethodDef interrupt_methods[] = {
    {"set", interrupt_set, METH_NOARGS,
     PyDoc_STR("set($self, /)\n--\n\nEnds the calls that were given it. Any thread.")},
    {NULL, NULL, 0, NULL}};
static PyGetSetDef interrupt_properties[] = {
    {"is_set", interrupt_is_set, NULL, PyDoc_STR("Whether it was set."), NULL},
    {NULL, NULL, NULL, NULL, NULL}};
static PyType_Slot interrupt_slots[] = {
    {Py_tp_doc,
     PyDoc_STR("Ends a call that waits, from another thread: within a tenth of a second\n"
               "it raises Interrupted.")},
    {Py_tp_new, SLOT(interrupt_new)},
    {Py_tp_dealloc, SLOT(give_back)},
    {Py_tp_methods, interrupt_methods},
    {Py_tp_getset, interrupt_properties},
    {0, NULL}};
PyType_Spec interrupt_spec = {.name = "epoch._epoch.Interrupt",
                              .basicsize = sizeof(interrupt_object),
                              .flags = Py_TPFLAGS_DEFAULT,
                              .slots = interrupt_slots};

/* ---- functions --------------------------------------------------------------------------------
 */

static PyObject* module_unlink(PyObject* module, PyObject* name) {
  (void)module;
  call is = {0};
  PyObject* path = NULL;
  epoch_error* error = NULL;
  epoch_code code;
  if (PyUnicode_FSConverter(name, &path) == 0) return NULL;
  const char* const text = path_text(path);
  WAITING(&is, code, epoch_region_unlink(text, &error));
  Py_DECREF(path);
  if (call_outcome(&is, code, error) != 0) return NULL;
  Py_RETURN_NONE;
}

/* What a call of this module costs by itself; for the benchmark. */
static PyObject* module_nothing(PyObject* module, PyObject* none) {
  (void)module, (void)none;
  Py_RETURN_NONE;
}

static PyObject* module_waiting(PyObject* module, PyObject* none) {
  (void)module, (void)none;
  return PyBool_FromLong(call_is_under_way());
}

static PyMethodDef functions[] = {
    {"unlink", module_unlink, METH_O,
     PyDoc_STR("unlink($module, name, /)\n--\n\n"
               "Removes a region's name; who is in the region stays in it.")},
    {"contributions", module_contributions, METH_O,
     PyDoc_STR("contributions($module, state, /)\n--\n\n"
               "The parts of a state that a collective commit has made, in slot order.")},
    {"checkpoint_open", METHOD(module_checkpoint_open), METH_VARARGS | METH_KEYWORDS, NULL},
    {"checkpoints_list", module_checkpoints_list, METH_O, NULL},
    {"checkpoints_prune", METHOD(module_checkpoints_prune), METH_VARARGS | METH_KEYWORDS, NULL},
    {"checkpoints_clean_up", module_checkpoints_clean_up, METH_O, NULL},
    {"checkpoints_verify", module_checkpoints_verify, METH_VARARGS, NULL},
    {"_nothing", module_nothing, METH_NOARGS, PyDoc_STR("_nothing($module, /)\n--\n\n")},
    {"_waiting", module_waiting, METH_NOARGS,
     PyDoc_STR("_waiting($module, /)\n--\n\n"
               "Whether this is a callback, or a signal handler, of a call of this thread.")},
    {NULL, NULL, 0, NULL}};

static const struct {
  PyTypeObject** to;
  PyType_Spec* of;
  const char* name;
} types[] = {{&region_type, &region_spec, "Region"},
             {&participant_type, &participant_spec, "Participant"},
             {&pin_type, &pin_spec, "Pin"},
             {&draft_type, &draft_spec, "Draft"},
             {&listener_type, &listener_spec, "Listener"},
             {&history_type, &history_spec, "History"},
             {&reader_type, &reader_spec, "HistoryReader"},
             {&rank_type, &rank_spec, "Rank"},
             {&step_type, &step_spec, "Step"},
             {&checkpoint_type, &checkpoint_spec, "Checkpoint"},
             {&interrupt_type, &interrupt_spec, "Interrupt"}};

static const struct {
  PyObject** to;
  const char* name;
} classes[] = {{&answer_class, "Answer"},
               {&proposal_class, "Proposal"},
               {&ticket_class, "Ticket"},
               {&snapshot_class, "Snapshot"},
               {&past_class, "PastEpoch"},
               {&straggler_class, "Straggler"},
               {&contribution_class, "Contribution"},
               {&info_class, "CheckpointInfo"},
               {&shard_class, "Shard"}};

static bool loaded;

static int module_exec(PyObject* module) {
  if (PyInterpreterState_GetID(PyInterpreterState_Get()) != 0) {
    PyErr_SetString(PyExc_ImportError,
                    "epoch cannot be imported in a subinterpreter: use a process instead");
    return -1;
  }
  if (loaded) {
    PyErr_SetString(PyExc_ImportError,
                    "epoch._epoch is loaded in this process already and cannot be loaded again: "
                    "leave it in sys.modules, or start another process");
    return -1;
  }
  PyObject* const plain = PyImport_ImportModule("epoch.types");
  if (plain == NULL) return -1;
  for (size_t i = 0; i < sizeof classes / sizeof classes[0]; ++i) {
    Py_XDECREF(*classes[i].to); /* of a load that failed */
    *classes[i].to = PyObject_GetAttrString(plain, classes[i].name);
    if (*classes[i].to == NULL) break;
  }
  Py_DECREF(plain);
  if (PyErr_Occurred() != NULL || border_prepare() != 0) return -1;
  for (size_t i = 0; i < sizeof types / sizeof types[0]; ++i) {
    PyObject* const type = PyType_FromModuleAndSpec(module, types[i].of, NULL);
    if (type == NULL || PyModule_AddObjectRef(module, types[i].name, type) != 0) return -1;
    Py_XDECREF((PyObject*)*types[i].to);
    *types[i].to = (PyTypeObject*)type;
  }
  if (PyModule_AddStringConstant(module, "version", epoch_version()) != 0) return -1;
  loaded = true;
  return 0;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, SLOT(module_exec)}, {0, NULL}};
static PyModuleDef definition = {.m_base = PyModuleDef_HEAD_INIT,
                                 .m_name = "epoch._epoch",
                                 .m_doc = PyDoc_STR("epoch/c.h for Python; see the package epoch."),
                                 .m_methods = functions,
                                 .m_slots = module_slots};

PyMODINIT_FUNC PyInit__epoch(void) { return PyModuleDef_Init(&definition); }
