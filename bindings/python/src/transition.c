/* Transitions: commits, updates, collective commits, and waiting for them. */
#include "transition.h"

#include <stdlib.h>

/* In a ticket: of an update that changed nothing. A library that does not tell has no bit for it. */
#ifdef EPOCH_TICKET_UNCHANGED
static const uint64_t kUnchanged = EPOCH_TICKET_UNCHANGED;
#else
static const uint64_t kUnchanged = 0;
#endif

/* ---- options ----------------------------------------------------------------------------------
 */

int commit_prepare(commit_arguments* a) {
  epoch_commit_options* const options = &a->options;
  options->struct_size = sizeof *options;
  options->interrupted = call_interrupted;
  options->interrupted_user = &a->is;
  options->agreement = a->agree != 0 ? EPOCH_AGREE_ALL_VOTERS : EPOCH_AGREE_NONE;
  options->fence = a->fence != 0;
  if (a->expected != NULL && a->expected != Py_None) {
    if (u64_argument(a->expected, &options->expected) == 0) return -1;
    options->has_expected = 1;
  }
  if (a->min_voters != NULL && a->min_voters != Py_None) {
    uint32_t voters = 0;
    if (u32_argument(a->min_voters, &voters) == 0) return -1;
    options->min_voters = voters == 0          ? EPOCH_NO_VOTERS
                          : voters > INT32_MAX ? INT32_MAX
                                               : (int32_t)voters;
  }
  return 0;
}

PyObject* epoch_number(call* is, epoch_code code, epoch_error* error, uint64_t epoch) {
  if (call_outcome_of(is, code, error, (made_epoch){.epoch = epoch}) != 0) return NULL;
  return PyLong_FromUnsignedLongLong(epoch);
}
PyObject* ticket_of(call* is, epoch_code code, epoch_error* error, uint64_t epoch) {
  const bool unchanged = (epoch & kUnchanged) != 0;
  const made_epoch what = {.epoch = unchanged ? 0 : epoch, .pending = true};
  if (call_outcome_of(is, code, error, what) != 0) return NULL;
  return made_of(ticket_class, "(KN)", (unsigned long long)(epoch & ~kUnchanged),
                 PyBool_FromLong(unchanged));
}

/* ---- commits ----------------------------------------------------------------------------------
 */

PyObject* participant_commit(PyObject* self, PyObject* args, PyObject* kwargs) {
  static char* names[] = {"", COMMIT_KEYWORDS};
  commit_arguments a = {0};
  Py_buffer state = {0};
  uint64_t epoch = 0;
  epoch_error* error = NULL;
  epoch_code code;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*|" COMMIT_FORMAT ":commit", names, &state,
                                   COMMIT_TARGETS(&a))) {
    return NULL;
  }
  PyObject* made = NULL;
  if (commit_prepare(&a) == 0) {
    WAITING(&a.is, code,
            epoch_participant_commit(((participant_object*)self)->handle, state.buf,
                                     (size_t)state.len, &a.options, &epoch, &error));
    made = epoch_number(&a.is, code, error, epoch);
  }
  PyBuffer_Release(&state);
  return made;
}

/* Bytes, for which c.h has drafts only. */
static epoch_code propose_bytes(participant_object* self, commit_arguments* a,
                                const Py_buffer* state, uint64_t* ticket, epoch_error** error) {
  epoch_draft* draft = NULL;
  const epoch_wait_options wait = {.struct_size = sizeof wait,
                                   .timeout_ns = a->options.timeout_ns,
                                   .interrupted = call_interrupted,
                                   .interrupted_user = &a->is};
  epoch_code code;
  call_begin(&a->is);
  code = epoch_participant_draft(self->handle, (size_t)state->len, &wait, &draft, error);
  if (code == EPOCH_OK) {
    code = epoch_draft_assign(draft, state->buf, (size_t)state->len, error);
  }
  if (code == EPOCH_OK) {
    code = epoch_participant_propose(self->handle, draft, &a->options, ticket, error);
  }
  epoch_draft_free(draft);
  call_end(&a->is);
  return code;
}

PyObject* participant_propose(PyObject* object, PyObject* args, PyObject* kwargs) {
  static char* names[] = {"", COMMIT_KEYWORDS};
  participant_object* const self = (participant_object*)object;
  commit_arguments a = {0};
  PyObject* state = NULL;
  uint64_t ticket = 0;
  epoch_error* error = NULL;
  epoch_code code;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|" COMMIT_FORMAT ":propose", names, &state,
                                   COMMIT_TARGETS(&a)) ||
      commit_prepare(&a) != 0) {
    return NULL;
  }
  if (PyObject_TypeCheck(state, draft_type)) {
    draft_object* const draft = (draft_object*)state;
    if (draft->owner != self) return raise_as("Invalid", "a draft of another participant");
    if (draft_let(draft) != 0) return NULL;
    code = draft_send(draft, &a, false, &ticket, &error);
  } else {
    Py_buffer bytes = {0};
    if (PyObject_GetBuffer(state, &bytes, PyBUF_SIMPLE) != 0) return NULL;
    code = propose_bytes(self, &a, &bytes, &ticket, &error);
    PyBuffer_Release(&bytes);
  }
  return ticket_of(&a.is, code, error, ticket);
}

/* ---- updates ----------------------------------------------------------------------------------
 */

/* What it returns goes into the draft. -1: something was raised. */
static int write_next(PyObject* next, epoch_draft* draft) {
  Py_buffer bytes = {0};
  epoch_error* error = NULL;
  if (PyObject_GetBuffer(next, &bytes, PyBUF_SIMPLE) != 0) return -1;
  const epoch_code code = epoch_draft_assign(draft, bytes.buf, (size_t)bytes.len, &error);
  PyBuffer_Release(&bytes);
  return outcome(code, error);
}

static int run_update(void* function, const epoch_current* current, epoch_draft* next) {
  python is;
  /* The interpreter ends: nothing is changed. */
  if (!python_enter(&is)) return EPOCH_CANCELLED;
  int code = EPOCH_CANCELLED;
  PyObject* const state = PyBytes_FromStringAndSize(current->data, (Py_ssize_t)current->size);
  PyObject* const epoch = PyLong_FromUnsignedLongLong(current->epoch);
  PyObject* result = NULL;
  if (state != NULL && epoch != NULL) {
    result = PyObject_CallFunctionObjArgs(function, state, epoch, NULL);
  }
  if (result == Py_None) {
    code = EPOCH_NO_CHANGE;
  } else if (result != NULL && write_next(result, next) == 0) {
    code = EPOCH_OK;
  }
  Py_XDECREF(result);
  Py_XDECREF(epoch);
  Py_XDECREF(state);
  /* It ends the call, which raises it: `code` is what the call would end with otherwise. */
  if (PyErr_Occurred() != NULL && !python_keep_raised(&is)) PyErr_WriteUnraisable(function);
  python_leave(&is);
  return code;
}

static int update_arguments(PyObject* args, PyObject* kwargs, commit_arguments* a,
                            PyObject** function) {
  static char* names[] = {"", COMMIT_KEYWORDS};
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|" COMMIT_FORMAT ":update", names, function,
                                   COMMIT_TARGETS(a)) ||
      commit_prepare(a) != 0) {
    return -1;
  }
  if (PyCallable_Check(*function)) return 0;
  PyErr_SetString(PyExc_TypeError, "an update is a function of a state and its epoch");
  return -1;
}

PyObject* participant_update(PyObject* self, PyObject* args, PyObject* kwargs) {
  commit_arguments a = {0};
  PyObject* function = NULL;
  uint64_t epoch = 0;
  epoch_error* error = NULL;
  epoch_code code;
  if (update_arguments(args, kwargs, &a, &function) != 0) return NULL;
  WAITING(&a.is, code,
          epoch_participant_update(((participant_object*)self)->handle, run_update, function,
                                   &a.options, &epoch, &error));
  return epoch_number(&a.is, code, error, epoch);
}

PyObject* participant_propose_update(PyObject* self, PyObject* args, PyObject* kwargs) {
  commit_arguments a = {0};
  PyObject* function = NULL;
  uint64_t ticket = 0;
  epoch_error* error = NULL;
  epoch_code code;
  if (update_arguments(args, kwargs, &a, &function) != 0) return NULL;
  WAITING(&a.is, code,
          epoch_participant_propose_update(((participant_object*)self)->handle, run_update,
                                           function, &a.options, &ticket, &error));
  return ticket_of(&a.is, code, error, ticket);
}

/* ---- waiting ----------------------------------------------------------------------------------
 */

PyObject* participant_await(PyObject* self, PyObject* args, PyObject* kwargs) {
  static char* names[] = {"", "stage", "timeout", "interrupt", NULL};
  epoch_participant* const handle = ((participant_object*)self)->handle;
  wait_arguments wait = {0};
  PyObject* what = NULL;
  const char* stage = "committed";
  uint64_t epoch = 0, reached = 0;
  epoch_error* error = NULL;
  epoch_code code;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|sO&$O&:await_", names, &what, &stage,
                                   seconds_argument, &wait.options.timeout_ns, interrupt_argument,
                                   &wait.is)) {
    return NULL;
  }
  wait_prepare(&wait);
  const bool converged = strcmp(stage, "converged") == 0;
  if (!converged && strcmp(stage, "committed") != 0) {
    return raise_as("Invalid", "a stage is \"committed\" or \"converged\"");
  }
  const int is_ticket = PyObject_IsInstance(what, ticket_class);
  if (is_ticket < 0) return NULL;
  if (u64_argument(is_ticket ? PyTuple_GetItem(what, 0) : what, &epoch) == 0) return NULL;
  const int unchanged = is_ticket ? PyObject_IsTrue(PyTuple_GetItem(what, 1)) : 0;
  if (unchanged < 0) return NULL;
  call_begin(&wait.is);
  code = EPOCH_OK;
  if (is_ticket) {
    code = epoch_participant_await_ticket(handle, unchanged ? epoch | kUnchanged : epoch,
                                          &wait.options, &reached, &error);
  }
  if (code == EPOCH_OK && (!is_ticket || converged)) {
    code = epoch_participant_await(handle, epoch,
                                   converged ? EPOCH_STAGE_CONVERGED : EPOCH_STAGE_COMMITTED,
                                   &wait.options, &reached, &error);
  }
  call_end(&wait.is);
  if (call_outcome(&wait.is, code, error) != 0) return NULL;
  return PyLong_FromUnsignedLongLong(reached);
}

/* ---- collective commits -----------------------------------------------------------------------
 */

PyObject* participant_commit_collective(PyObject* self, PyObject* args, PyObject* kwargs) {
  static char* names[] = {"",          "",  "contributions", "fence", "timeout", "on_straggler",
                          "interrupt", NULL};
  call is = {0};
  epoch_collective_options options = {
      .struct_size = sizeof options, .interrupted = call_interrupted, .interrupted_user = &is};
  uint64_t tag = 0, epoch = 0;
  int fence = 0;
  Py_buffer data = {0};
  epoch_error* error = NULL;
  epoch_code code;
  if (!PyArg_ParseTupleAndKeywords(
          args, kwargs, "O&y*|$O&pO&O&O&:commit_collective", names, u64_argument, &tag, &data,
          u32_argument, &options.contributions, &fence, seconds_argument, &options.timeout_ns,
          straggler_argument, &options.on_straggler, interrupt_argument, &is)) {
    return NULL;
  }
  options.fence = fence != 0;
  WAITING(&is, code,
          epoch_participant_commit_collective(((participant_object*)self)->handle, tag, data.buf,
                                              (size_t)data.len, &options, &epoch, &error));
  PyBuffer_Release(&data);
  return epoch_number(&is, code, error, epoch);
}

PyObject* module_contributions(PyObject* module, PyObject* state) {
  (void)module;
  Py_buffer bytes = {0};
  epoch_contribution* parts = NULL;
  size_t capacity = 0, count = 0;
  epoch_error* error = NULL;
  PyObject* all = NULL;
  if (PyObject_GetBuffer(state, &bytes, PyBUF_SIMPLE) != 0) return NULL;
  epoch_code code = epoch_contributions(bytes.buf, (size_t)bytes.len, NULL, 0, &capacity, &error);
  if (outcome(code, error) != 0) goto done;
  parts = calloc(capacity + 1, sizeof *parts);
  if (parts == NULL) {
    PyErr_NoMemory();
    goto done;
  }
  code = epoch_contributions(bytes.buf, (size_t)bytes.len, parts, capacity, &count, &error);
  if (outcome(code, error) != 0) goto done;
  /* Who shares the memory may have written more of them into it meanwhile. */
  if (count > capacity) count = capacity;
  all = PyList_New(0);
  for (size_t i = 0; all != NULL && i < count; ++i) {
    PyObject* const one = made_of(contribution_class, "(Iy#)", parts[i].slot, parts[i].data,
                                  (Py_ssize_t)parts[i].size);
    const int added = one == NULL ? -1 : PyList_Append(all, one);
    Py_XDECREF(one);
    if (added != 0) Py_CLEAR(all);
  }
done:
  free(parts);
  PyBuffer_Release(&bytes);
  return all;
}
