/* Epoch in C99: libepoch.so.0. docs/c.md tells how to build with it, and what stands for what in
 * C++.
 *
 *   epoch_region *region = NULL;
 *   epoch_participant *self = NULL;
 *   epoch_error *error = NULL;
 *   if (epoch_region_open_or_create("plan", NULL, &region, &error) != EPOCH_OK) ...
 *   if (epoch_participant_join(region, NULL, &self, &error) != EPOCH_OK) ...
 *   epoch_pin pin;
 *   if (epoch_participant_pin(self, &pin, &error) == EPOCH_OK) {
 *     read(pin.data, pin.size);
 *     epoch_pin_release(&pin);
 *   }
 *
 * Calls. Each that can fail returns a code, EPOCH_OK or why not. The last parameter, `epoch_error
 * **error`, may be NULL; otherwise it is always written: NULL, or an error that the caller frees.
 * What stood there before is not freed. A number or a struct is written only when the call
 * succeeds; a handle or a pin always: NULL, or a pin of nothing, when it fails. No C++ exception
 * comes out of a call, and no misuse that is named here ends the process.
 *
 * Misuse. NULL where something is needed, a handle that was freed (as long as no later one has
 * taken its place: some 16 of its kind), a draft of another participant, a value that is no
 * enumerator, a struct_size that cannot be: EPOCH_INVALID_ARGUMENT, cause EPOCH_CAUSE_INVALID. A
 * participant that is in a call already, of another thread or of the callback that calls:
 * EPOCH_FAILED_PRECONDITION, cause EPOCH_CAUSE_BUSY. A member `reserved` of options that is not 0:
 * EPOCH_INVALID_ARGUMENT, too. Nothing was changed by such a call. Any other
 * address than that of a handle, or of memory of the size that is said, is undefined, as everywhere
 * in C.
 *
 * Handles. Who is given one frees it, once, in any order, and in any thread: each keeps what it
 * needs. A participant keeps its region; a pin, a draft and a listener keep their participant. So
 * epoch_participant_free while one of them lives leaves the region when the last of them goes; to
 * leave at once, and be told what is still held, is epoch_participant_leave. epoch_*_free(NULL)
 * does nothing. Freeing never fails; what cannot be done at once, since its participant is in a
 * call just now, is done when that call returns. Whichever free or release is the last that kept a
 * participant, after its region was freed, too, closes the region: it may wait for what this
 * process has sent to the disk.
 *
 * Threads. A region, a history and results are used by any threads at a time. A participant with
 * its pins, drafts and listener, a rank with its steps, and a history reader are used by one thread
 * at a time, whichever it is: that is checked. epoch_participant_vote, epoch_listener_fd and
 * epoch_listener_drain may be called by any thread at any time. (A pin and its release pass no lock
 * where nothing is unusual, so two threads that pin at the same moment may both succeed, one after
 * the other; a pin while another thread is in a call is refused. Where the system takes
 * membarrier(2) away from a running process, a pin that is held then can be released, but no call
 * of another thread gets past it.)
 *
 * Callbacks (`interrupted`, validators, update functions) are called by the thread that is in the
 * call, or by the listener's. They may call anything but what takes the participant that they are
 * called for (that is EPOCH_CAUSE_BUSY); a validator also nothing that may wait for the validator
 * of another participant: epoch_participant_vote, _set_validator, _leave, _rejoin,
 * _commit_collective, epoch_listener_stop (EPOCH_CAUSE_BUSY, too). A transition in the same region would wait for the
 * very vote. They must return: no longjmp, no exception, no
 * pthread_exit; and a thread must not be cancelled while it is in a call. Calls are not
 * async-signal-safe: a signal handler sets a flag, which `interrupted` reports.
 *
 * fork. In the child every call on a participant of the parent, and on what belongs to it, is
 * EPOCH_FAILED_PRECONDITION, cause EPOCH_CAUSE_FORKED (epoch_listener_fd: -1), until
 * epoch_participant_rejoin has taken a slot for the child; that is refused until what was copied
 * with it is gone: epoch_pin_release, epoch_listener_stop and all frees work there, and leave the
 * parent alone. A rank of the parent likewise, for good. A participant that was in a call of
 * another thread at the fork stays so for good. Regions stay usable.
 *
 * Options and infos are structs whose first member, struct_size, is sizeof the struct, set by the
 * caller in both; all else zero is the default, as NULL for the whole struct is. Later versions
 * only add members at the end. Times are nanoseconds: 0 is the default of the call, EPOCH_NO_WAIT
 * not at all, EPOCH_FOREVER without end. Texts end with a zero. Flags are 0 or 1.
 *
 * Progress is that of the C++ calls (docs/concepts.md, "Who waits for whom"), behind a check of the
 * handle, which waits for nobody. A blocking call says so below.
 */
#ifndef EPOCH_C_H_
#define EPOCH_C_H_

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define EPOCH_API __attribute__((visibility("default")))
#else
#define EPOCH_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- codes and errors -------------------------------------------------------------------------
 */

/* The numbers are those of absl::StatusCode. README.md, "Errors", says what each means here. */
typedef enum epoch_code {
  EPOCH_OK = 0,
  EPOCH_CANCELLED = 1, /* `interrupted` said so */
  EPOCH_UNKNOWN = 2,
  EPOCH_INVALID_ARGUMENT = 3,
  EPOCH_DEADLINE_EXCEEDED = 4,
  EPOCH_NOT_FOUND = 5,
  EPOCH_ALREADY_EXISTS = 6,
  EPOCH_PERMISSION_DENIED = 7,
  EPOCH_RESOURCE_EXHAUSTED = 8, /* also: no memory for the call itself */
  EPOCH_FAILED_PRECONDITION = 9,
  EPOCH_ABORTED = 10,
  EPOCH_OUT_OF_RANGE = 11,
  EPOCH_UNIMPLEMENTED = 12,
  EPOCH_INTERNAL = 13,
  EPOCH_UNAVAILABLE = 14,
  EPOCH_DATA_LOSS = 15,
  EPOCH_NO_CHANGE = 100 /* only what an update's function returns */
} epoch_code;

/* Why. include/epoch/details.h says more of each. */
typedef enum epoch_cause {
  EPOCH_CAUSE_NONE = 0, /* code and message say all; the outcome counts for nothing */
  EPOCH_CAUSE_OTHER = 1,
  EPOCH_CAUSE_EXPECTED_DIFFERS = 2,
  EPOCH_CAUSE_REJECTED = 3,
  EPOCH_CAUSE_OTHER_BYTES = 4,
  EPOCH_CAUSE_TIMED_OUT = 5,
  EPOCH_CAUSE_INTERRUPTED = 6,
  EPOCH_CAUSE_TOO_FEW_VOTERS = 7,
  EPOCH_CAUSE_GONE = 8,
  EPOCH_CAUSE_OTHER_TAG = 9,
  EPOCH_CAUSE_GAVE_UP = 10,
  EPOCH_CAUSE_EXPELLED = 11,
  EPOCH_CAUSE_LEFT = 12,
  EPOCH_CAUSE_FORKED = 13,
  EPOCH_CAUSE_PIN_HELD = 14,
  EPOCH_CAUSE_BUSY = 15,
  EPOCH_CAUSE_NO_SLOT = 16,
  EPOCH_CAUSE_NO_VERSION = 17,
  EPOCH_CAUSE_NO_SPACE = 18,
  EPOCH_CAUSE_TOO_LARGE = 19,
  EPOCH_CAUSE_NO_WRITER = 20,
  EPOCH_CAUSE_POISONED = 21,
  EPOCH_CAUSE_SUPERSEDED = 22,
  EPOCH_CAUSE_DAMAGED = 23,
  EPOCH_CAUSE_DRAINING = 24,
  EPOCH_CAUSE_REPEATED = 25,
  EPOCH_CAUSE_READ_ONLY = 26,
  EPOCH_CAUSE_INVALID = 27,
  EPOCH_CAUSE_NOT_WRITTEN = 28,
  EPOCH_CAUSE_NO_CHANGE = 29,
  EPOCH_CAUSE_JOURNAL_AWAY = 30
} epoch_cause;

/* What became of the transition that the call was about. */
typedef enum epoch_outcome {
  EPOCH_OUTCOME_UNCHANGED = 0, /* nothing was accepted, and nothing will be: it may be repeated */
  EPOCH_OUTCOME_PENDING = 1,   /* accepted; becomes visible later: await it, do not repeat it */
  EPOCH_OUTCOME_UNKNOWN = 2    /* accepted, or may be; what became of it is known after recovery */
} epoch_outcome;

typedef struct epoch_error epoch_error;

/* A participant that had a part in an error. */
typedef struct epoch_culprit {
  size_t struct_size;
  uint64_t generation;
  uint64_t epoch;     /* pinned, or acknowledged last; if has_epoch */
  const char* name;   /* both texts live as long as the error */
  const char* reason; /* of a refusal; else empty */
  uint32_t slot;
  uint32_t pid; /* in its own pid namespace */
  uint32_t has_epoch;
  uint32_t reserved;
} epoch_culprit;

/* All of them take any error, and NULL, which is no error: EPOCH_OK, "", EPOCH_CAUSE_NONE, ... An
 * error is immutable: any threads. Wait-free. */
EPOCH_API epoch_code epoch_error_code(const epoch_error* error);
EPOCH_API const char* epoch_error_message(
    const epoch_error* error); /* lives as long as the error */
EPOCH_API epoch_cause epoch_error_cause(const epoch_error* error);
EPOCH_API epoch_outcome epoch_error_outcome(const epoch_error* error);
/* 1, and *epoch is written; or 0: the error says nothing of it. */
EPOCH_API int epoch_error_expected(const epoch_error* error, uint64_t* epoch);
EPOCH_API int epoch_error_actual(const epoch_error* error, uint64_t* epoch);
EPOCH_API int epoch_error_accepted(const epoch_error* error, uint64_t* epoch);
EPOCH_API int epoch_error_errno(const epoch_error* error); /* 0: it came from no system call */
EPOCH_API size_t epoch_error_culprit_count(const epoch_error* error); /* at most 8 */
/* EPOCH_OUT_OF_RANGE: there are not so many. */
EPOCH_API epoch_code epoch_error_culprit(const epoch_error* error, size_t index,
                                         epoch_culprit* culprit);
EPOCH_API void epoch_error_free(epoch_error* error);

/* "ABORTED", "EXPECTED_DIFFERS", ...; "?" for what this library does not know. Static. */
EPOCH_API const char* epoch_code_name(epoch_code code);
EPOCH_API const char* epoch_cause_name(epoch_cause cause);
/* "0.1.0": of the library that is loaded. Static. */
EPOCH_API const char* epoch_version(void);
/* Of a text that a call gave away, as epoch_step_path does. */
EPOCH_API void epoch_string_free(char* text);

/* ---- waiting ----------------------------------------------------------------------------------
 */

#define EPOCH_NO_WAIT INT64_C(-1)
#define EPOCH_FOREVER INT64_MAX

/* Asked about ten times a second by a call that waits, first after a tenth: not 0 ends the wait,
 * with EPOCH_CANCELLED. Not asked while the disk is written to, or a validator runs. */
typedef int (*epoch_interrupted)(void* user);

typedef struct epoch_wait_options {
  size_t struct_size;
  int64_t timeout_ns; /* default: forever, unless the call says otherwise */
  epoch_interrupted interrupted;
  void* interrupted_user;
} epoch_wait_options;

/* ---- regions ----------------------------------------------------------------------------------
 */

typedef struct epoch_region epoch_region;

typedef enum epoch_history_kept {
  EPOCH_HISTORY_DEFAULT = 0, /* as EPOCH_HISTORY_ALL */
  EPOCH_HISTORY_ALL = 1,     /* every epoch */
  EPOCH_HISTORY_LATEST = 2   /* the last one of each batch */
} epoch_history_kept;

typedef struct epoch_region_options {
  size_t struct_size;
  /* Geometry, of a region that is created. */
  uint64_t state_bytes;  /* largest state; default 64 KiB */
  uint32_t participants; /* slots, at most 4,096; default 64 */
  uint32_t versions;     /* 4 to 8,191; default 128 */
  const char* journal;   /* a directory: durable. Default: volatile */
  uint64_t segment_bytes;
  uint64_t retain_epochs;
  uint32_t retain_segments;
  int32_t history;            /* epoch_history_kept */
  int64_t restore_timeout_ns; /* default 10 s */
  epoch_interrupted interrupted;
  void* interrupted_user;
  uint32_t mode; /* permission bits; default 0600 */
  uint32_t ignore_block_damage;
  uint32_t read_only;
  uint32_t trust_other_owners;
} epoch_region_options;

/* As Region::Create, Open, OpenOrCreate and Restore (include/epoch/region.h, with their errors).
 * `name` is a name, or a path if it has a slash. The journal is compiled in. Blocking: on files,
 * and up to restore_timeout_ns. */
EPOCH_API epoch_code epoch_region_create(const char* name, const epoch_region_options* options,
                                         epoch_region** region, epoch_error** error);
EPOCH_API epoch_code epoch_region_open(const char* name, const epoch_region_options* options,
                                       epoch_region** region, epoch_error** error);
EPOCH_API epoch_code epoch_region_open_or_create(const char* name,
                                                 const epoch_region_options* options,
                                                 epoch_region** region, epoch_error** error);
EPOCH_API epoch_code epoch_region_restore(const char* name, const epoch_region_options* options,
                                          epoch_region** region, epoch_error** error);
EPOCH_API void epoch_region_free(epoch_region* region);
/* Removes the name; who is in the region stays in it. Errors: NOT_FOUND, PERMISSION_DENIED,
 * INVALID_ARGUMENT (not a region). */
EPOCH_API epoch_code epoch_region_unlink(const char* name, epoch_error** error);

typedef struct epoch_region_info {
  size_t struct_size;
  uint64_t state_bytes;
  /* These live as long as the handle. */
  const char* path;
  const char* journal;     /* where it lies, as this process sees it; empty: volatile */
  const char* incarnation; /* 32 hexadecimal digits */
  uint32_t durable;
  uint32_t journal_in_memory; /* what is committed does not outlive the machine's power */
} epoch_region_info;
EPOCH_API epoch_code epoch_region_get_info(epoch_region* region, epoch_region_info* info,
                                           epoch_error** error);

/* The committed epoch. Lock-free. */
EPOCH_API epoch_code epoch_region_epoch(epoch_region* region, uint64_t* epoch, epoch_error** error);
/* *orphaned: 1 if the name does not lead to this region any more. One system call. */
EPOCH_API epoch_code epoch_region_orphaned(epoch_region* region, int* orphaned,
                                           epoch_error** error);
/* Expels dead participants, and frees what they held; *reaped (may be NULL): how many. */
EPOCH_API epoch_code epoch_region_reap(epoch_region* region, uint32_t* reaped, epoch_error** error);
/* Takes a slot away from its participant, dead or alive. */
EPOCH_API epoch_code epoch_region_expel(epoch_region* region, uint32_t slot, epoch_error** error);

/* A copy of one committed state: of Region::Read, or from a journal. */
typedef struct epoch_snapshot epoch_snapshot;
typedef struct epoch_snapshot_info {
  size_t struct_size;
  uint64_t epoch;
  uint64_t token;
  const void* data; /* `size` bytes; live as long as the snapshot */
  size_t size;
  /* The rest is of one from a journal; else 0. */
  uint64_t digest; /* XXH64 of the state */
  uint64_t chain;
  uint64_t proposer_generation;
  uint64_t ballot;
  uint64_t segment;
  uint64_t block;
  uint32_t proposer_slot;
  uint32_t has_proposer;
  uint32_t forced;
  uint32_t reserved;
} epoch_snapshot_info;
EPOCH_API epoch_code epoch_snapshot_get_info(epoch_snapshot* snapshot, epoch_snapshot_info* info,
                                             epoch_error** error);
EPOCH_API void epoch_snapshot_free(epoch_snapshot* snapshot);

/* A verified copy, without a slot; also of a region that is open read-only. Lock-free. Errors:
 * DATA_LOSS, UNAVAILABLE (it kept changing: join and pin), RESOURCE_EXHAUSTED (memory). */
EPOCH_API epoch_code epoch_region_read(epoch_region* region, epoch_snapshot** snapshot,
                                       epoch_error** error);

/* The old epochs of a durable region (include/epoch/history.h). A history keeps no region.
 * Blocking: on reads of files. */
typedef struct epoch_history epoch_history;
typedef struct epoch_history_reader epoch_history_reader;
EPOCH_API epoch_code epoch_region_history(epoch_region* region, epoch_history** history,
                                          epoch_error** error);
EPOCH_API epoch_code epoch_history_oldest(epoch_history* history, uint64_t* epoch,
                                          epoch_error** error);
/* Errors: OUT_OF_RANGE (not committed yet), NOT_FOUND (not kept), DATA_LOSS. */
EPOCH_API epoch_code epoch_history_at(epoch_history* history, uint64_t epoch,
                                      epoch_snapshot** snapshot, epoch_error** error);
/* `to`: the last one; 0: without end. */
EPOCH_API epoch_code epoch_history_read(epoch_history* history, uint64_t from, uint64_t to,
                                        epoch_history_reader** reader, epoch_error** error);
EPOCH_API void epoch_history_free(epoch_history* history);
/* The next epoch that is kept; *snapshot is NULL, with EPOCH_OK: none is committed yet. */
EPOCH_API epoch_code epoch_history_reader_next(epoch_history_reader* reader,
                                               epoch_snapshot** snapshot, epoch_error** error);
EPOCH_API void epoch_history_reader_free(epoch_history_reader* reader);

/* Who has not acknowledged an epoch. */
typedef enum epoch_condition {
  EPOCH_CONDITION_RUNNING = 0,
  EPOCH_CONDITION_STOPPED = 1,
  EPOCH_CONDITION_DEAD = 2,
  EPOCH_CONDITION_PARKED = 3
} epoch_condition;
typedef struct epoch_straggler {
  size_t struct_size;
  uint64_t generation;
  uint64_t acknowledged; /* if has_acknowledged */
  uint64_t pinned;       /* if has_pinned */
  const char* name;      /* lives as long as the list */
  uint32_t slot;
  uint32_t pid;
  uint32_t has_acknowledged;
  uint32_t has_pinned;
  int32_t condition; /* epoch_condition */
  uint32_t reserved;
} epoch_straggler;
typedef struct epoch_stragglers epoch_stragglers;
EPOCH_API epoch_code epoch_region_stragglers(epoch_region* region, uint64_t epoch,
                                             epoch_stragglers** stragglers, epoch_error** error);
EPOCH_API size_t epoch_stragglers_count(epoch_stragglers* stragglers);
EPOCH_API epoch_code epoch_stragglers_at(epoch_stragglers* stragglers, size_t index,
                                         epoch_straggler* straggler, epoch_error** error);
EPOCH_API void epoch_stragglers_free(epoch_stragglers* stragglers);

/* ---- participants -----------------------------------------------------------------------------
 */

typedef struct epoch_participant epoch_participant;

typedef struct epoch_join_options {
  size_t struct_size;
  const char* name; /* at most 63 bytes; default: none */
  uint32_t voter;
  uint32_t acknowledges_by_hand;
  uint32_t window; /* default: no limit but the versions */
  uint32_t reserved;
} epoch_join_options;

/* Takes a slot. Errors: RESOURCE_EXHAUSTED (all taken: by whom), INVALID_ARGUMENT (name too long),
 * PERMISSION_DENIED (region is open read-only). The region may be freed afterwards. */
EPOCH_API epoch_code epoch_participant_join(epoch_region* region, const epoch_join_options* options,
                                            epoch_participant** participant, epoch_error** error);
/* Leaves, as soon as no pin, draft or listener of it is left. Any thread, in callbacks, too. */
EPOCH_API void epoch_participant_free(epoch_participant* participant);
/* Leaves now. FAILED_PRECONDITION while a pin, a draft or a listener is left. The handle stays, to
 * rejoin. */
EPOCH_API epoch_code epoch_participant_leave(epoch_participant* participant, epoch_error** error);
/* Takes a new slot after an expulsion, a fork, or leaving. The validator stays. Errors: as join;
 * and FAILED_PRECONDITION as leave, and if the region is orphaned. */
EPOCH_API epoch_code epoch_participant_rejoin(epoch_participant* participant, epoch_error** error);
/* EPOCH_OK; or FAILED_PRECONDITION: expelled, left, or forked. */
EPOCH_API epoch_code epoch_participant_status(epoch_participant* participant, epoch_error** error);

typedef struct epoch_participant_info {
  size_t struct_size;
  uint64_t generation;
  const char* name; /* lives as long as the handle */
  uint32_t slot;
  uint32_t reserved;
} epoch_participant_info;
EPOCH_API epoch_code epoch_participant_get_info(epoch_participant* participant,
                                                epoch_participant_info* info, epoch_error** error);

/* Acknowledges what is committed, and answers a vote that waits for this voter. *epoch (may be
 * NULL): the committed one. */
EPOCH_API epoch_code epoch_participant_poll(epoch_participant* participant, uint64_t* epoch,
                                            epoch_error** error);
/* For one that joined with acknowledges_by_hand. OUT_OF_RANGE: not committed yet. */
EPOCH_API epoch_code epoch_participant_acknowledge(epoch_participant* participant, uint64_t epoch,
                                                   epoch_error** error);
/* Idle: nobody waits for it until its next pin, poll or commit. FAILED_PRECONDITION while it holds
 * a pin. */
EPOCH_API epoch_code epoch_participant_park(epoch_participant* participant, epoch_error** error);
/* Writes the journal for others, for timeout_ns or until `interrupted` says so: then EPOCH_OK.
 * Blocking. */
EPOCH_API epoch_code epoch_participant_serve(epoch_participant* participant,
                                             const epoch_wait_options* duration,
                                             epoch_error** error);

/* A hold on one state: until it is released `data` stays as it is. No memory is taken for it. It
 * may be moved by assignment, as long as one copy of it is released, once. */
typedef struct epoch_pin {
  epoch_participant* participant; /* NULL: of nothing, or released */
  uint64_t epoch;
  const void* data; /* `size` bytes of the region, read-only */
  size_t size;
} epoch_pin;

/* Pins what is committed, and acknowledges it. Pins of one participant that overlap see the same
 * state. Wait-free except while a fence drains: then blocking. Errors: FAILED_PRECONDITION as
 * status, DATA_LOSS (the region is damaged). */
EPOCH_API epoch_code epoch_participant_pin(epoch_participant* participant, epoch_pin* pin,
                                           epoch_error** error);
/* As pin, but waits for a fence only as long as `wait` allows; NULL: not at all. Errors: also
 * UNAVAILABLE, DEADLINE_EXCEEDED, CANCELLED: a fence drains still. */
EPOCH_API epoch_code epoch_participant_try_pin(epoch_participant* participant,
                                               const epoch_wait_options* wait, epoch_pin* pin,
                                               epoch_error** error);
/* Wait-free, unless it is the last of all (see "Handles" above). The pin is of nothing afterwards.
 * If the participant is in a call of another thread just now, its hold may go when that returns.
 * EPOCH_FAILED_PRECONDITION: it is of nothing already; or its participant holds no pin. */
EPOCH_API epoch_code epoch_pin_release(epoch_pin* pin);

/* A version under construction, in shared memory. Whoever makes one frees it, whether it was
 * committed or not; committed, it has no bytes and no room. */
typedef struct epoch_draft epoch_draft;

/* Errors: OUT_OF_RANGE, RESOURCE_EXHAUSTED (no free version: who holds them), FAILED_PRECONDITION.
 * Blocking in a durable region whose disk is behind; by default as long as that takes. */
EPOCH_API epoch_code epoch_participant_draft(epoch_participant* participant, size_t size,
                                             const epoch_wait_options* wait, epoch_draft** draft,
                                             epoch_error** error);
/* Where its bytes are, until it is resized, committed or freed. *size may be left out (NULL). */
EPOCH_API epoch_code epoch_draft_data(epoch_draft* draft, void** data, size_t* size,
                                      epoch_error** error);
EPOCH_API epoch_code epoch_draft_capacity(epoch_draft* draft, size_t* capacity,
                                          epoch_error** error);
/* New bytes are what an earlier version left there. OUT_OF_RANGE: larger than the region's states.
 */
EPOCH_API epoch_code epoch_draft_resize(epoch_draft* draft, size_t size, epoch_error** error);
EPOCH_API epoch_code epoch_draft_assign(epoch_draft* draft, const void* data, size_t size,
                                        epoch_error** error);
EPOCH_API void epoch_draft_free(epoch_draft* draft);

/* ---- transitions ------------------------------------------------------------------------------
 */

typedef enum epoch_agreement { EPOCH_AGREE_NONE = 0, EPOCH_AGREE_ALL_VOTERS = 1 } epoch_agreement;
typedef enum epoch_on_straggler {
  EPOCH_STRAGGLER_ABORT = 0,
  EPOCH_STRAGGLER_EXPEL = 1
} epoch_on_straggler;

#define EPOCH_NO_VOTERS (-1)

typedef struct epoch_commit_options {
  size_t struct_size;
  int64_t timeout_ns; /* until accepted, and as long again until visible; default: forever */
  epoch_interrupted interrupted;
  void* interrupted_user;
  uint64_t expected; /* if has_expected: only as the direct successor of this epoch */
  uint64_t token;    /* the application's own, kept with the state */
  uint32_t has_expected;
  int32_t agreement;    /* epoch_agreement */
  int32_t on_straggler; /* epoch_on_straggler */
  int32_t min_voters; /* so many must have accepted; EPOCH_NO_VOTERS: none need be in. Default: one;
                         or, with EPOCH_STRAGGLER_EXPEL, somebody was expelled for its sake */
  uint32_t fence;
  uint32_t reserved;
} epoch_commit_options;

/* Makes `data` the next state and waits until it is visible (durable, in a durable region). *epoch
 * (may be NULL): its number. Errors before it is accepted, EPOCH_OUTCOME_UNCHANGED: ABORTED
 * (expected differs; rejected), DEADLINE_EXCEEDED, CANCELLED, FAILED_PRECONDITION, UNAVAILABLE,
 * RESOURCE_EXHAUSTED, OUT_OF_RANGE. Behind it, EPOCH_OUTCOME_PENDING or EPOCH_OUTCOME_UNKNOWN:
 * DEADLINE_EXCEEDED, CANCELLED, UNAVAILABLE, DATA_LOSS. Lock-free in a volatile region; blocking
 * with agreement or a fence, and on the disk. */
EPOCH_API epoch_code epoch_participant_commit(epoch_participant* participant, const void* data,
                                              size_t size, const epoch_commit_options* options,
                                              uint64_t* epoch, epoch_error** error);
/* The same with a draft, which is used up, unless the call was refused as misuse. */
EPOCH_API epoch_code epoch_participant_commit_draft(epoch_participant* participant,
                                                    epoch_draft* draft,
                                                    const epoch_commit_options* options,
                                                    uint64_t* epoch, epoch_error** error);
/* In a ticket of an update whose function said EPOCH_NO_CHANGE: the rest of it is the epoch that
 * the function was given, and waiting for it says nothing of a transition. */
#define EPOCH_TICKET_UNCHANGED (UINT64_C(1) << 63)

/* As commit_draft, without waiting for the disk: *ticket is its number, accepted, and visible
 * later. */
EPOCH_API epoch_code epoch_participant_propose(epoch_participant* participant, epoch_draft* draft,
                                               const epoch_commit_options* options,
                                               uint64_t* ticket, epoch_error** error);
/* Until what this participant proposed is visible, even if it was expelled meanwhile. May be called
 * again. *epoch (may be NULL): its number. Errors are EPOCH_OUTCOME_PENDING or _UNKNOWN; with
 * EPOCH_TICKET_UNCHANGED, EPOCH_OUTCOME_UNCHANGED. Blocking. */
EPOCH_API epoch_code epoch_participant_await_ticket(epoch_participant* participant, uint64_t ticket,
                                                    const epoch_wait_options* wait, uint64_t* epoch,
                                                    epoch_error** error);

typedef enum epoch_stage {
  EPOCH_STAGE_COMMITTED = 0, /* visible to all */
  EPOCH_STAGE_CONVERGED = 1  /* and acknowledged by every live participant that is not parked */
} epoch_stage;
/* Until the region has reached `epoch`, whoever makes it. *reached (may be NULL): the committed
 * epoch, which may be later. Blocking. */
EPOCH_API epoch_code epoch_participant_await(epoch_participant* participant, uint64_t epoch,
                                             int stage, const epoch_wait_options* wait,
                                             uint64_t* reached, epoch_error** error);

/* What an update's function is given: the newest accepted state. Valid until it returns. */
typedef struct epoch_current {
  uint64_t epoch;
  uint64_t token;
  const void* data;
  size_t size;
} epoch_current;
/* Writes the next state into `next` (epoch_draft_resize, _assign, _data; not freed, and of no use
 * afterwards) and returns EPOCH_OK; or EPOCH_NO_CHANGE; or another code, which ends the update with
 * nothing changed, and is what it returns. Called again whenever another transition came first. */
typedef int (*epoch_update_function)(void* user, const epoch_current* current, epoch_draft* next);
EPOCH_API epoch_code epoch_participant_update(epoch_participant* participant,
                                              epoch_update_function function, void* user,
                                              const epoch_commit_options* options, uint64_t* epoch,
                                              epoch_error** error);
EPOCH_API epoch_code epoch_participant_propose_update(epoch_participant* participant,
                                                      epoch_update_function function, void* user,
                                                      const epoch_commit_options* options,
                                                      uint64_t* ticket, epoch_error** error);

/* ---- votes ------------------------------------------------------------------------------------
 */

typedef struct epoch_proposal {
  uint64_t epoch;  /* what it would become */
  uint64_t ballot; /* names this attempt */
  uint64_t token;
  const char* proposer; /* its name */
  const void* data;     /* the proposal's own memory */
  size_t size;
  uint32_t fence;
  uint32_t reserved;
} epoch_proposal;

/* Anything else that a validator returns is a refusal. */
typedef enum epoch_answer {
  EPOCH_ANSWER_REJECT = 0,
  EPOCH_ANSWER_ACCEPT = 1,
  EPOCH_ANSWER_LATER = 2
} epoch_answer;

/* What it is given is valid until it returns. With EPOCH_ANSWER_REJECT it may write a text into
 * `reason`, of `reason_size` bytes with the zero. Called by the thread that polls or waits, or by
 * the listener's. */
typedef int (*epoch_validator)(void* user, const epoch_proposal* proposal, char* reason,
                               size_t reason_size);
/* NULL: accepts whatever is whole, as before the first call. `user` must live until another one is
 * set, or the participant is gone. */
EPOCH_API epoch_code epoch_participant_set_validator(epoch_participant* participant,
                                                     epoch_validator validator, void* user,
                                                     epoch_error** error);
/* The answer to a ballot for which the validator said EPOCH_ANSWER_LATER. `reason`: of
 * EPOCH_ANSWER_REJECT; may be NULL. Any thread; blocking on a validator that runs. Errors: ABORTED
 * (decided or answered already), FAILED_PRECONDITION. */
EPOCH_API epoch_code epoch_participant_vote(epoch_participant* participant, uint64_t ballot,
                                            int answer, const char* reason, epoch_error** error);

/* ---- collective commits -----------------------------------------------------------------------
 */

#define EPOCH_MAX_CONTRIBUTION_BYTES 256

typedef struct epoch_collective_options {
  size_t struct_size;
  int64_t timeout_ns;
  epoch_interrupted interrupted;
  void* interrupted_user;
  int32_t on_straggler;   /* epoch_on_straggler */
  uint32_t contributions; /* exactly so many; default: one of each voter that is in */
  uint32_t fence;
  uint32_t reserved;
} epoch_collective_options;

/* One part of a transition that all voters make together. Blocking. Errors:
 * Participant::CommitCollective. */
EPOCH_API epoch_code epoch_participant_commit_collective(epoch_participant* participant,
                                                         uint64_t tag, const void* data,
                                                         size_t size,
                                                         const epoch_collective_options* options,
                                                         uint64_t* epoch, epoch_error** error);

typedef struct epoch_contribution {
  const void* data; /* into the state */
  size_t size;
  uint32_t slot;
  uint32_t reserved;
} epoch_contribution;
/* The parts of a state that a collective commit has made, in slot order: the first `capacity` of
 * them, and *count, how many there are. DATA_LOSS: it is no such state. */
EPOCH_API epoch_code epoch_contributions(const void* state, size_t state_size,
                                         epoch_contribution* contributions, size_t capacity,
                                         size_t* count, epoch_error** error);

/* ---- listeners --------------------------------------------------------------------------------
 */

typedef struct epoch_listener epoch_listener;

/* Starts a thread that answers votes, acknowledges, and makes a descriptor readable when something
 * was committed, or this participant was expelled. It blocks all signals. Errors:
 * FAILED_PRECONDITION (there is one already; expelled), RESOURCE_EXHAUSTED. */
EPOCH_API epoch_code epoch_participant_listen(epoch_participant* participant,
                                              epoch_listener** listener, epoch_error** error);
/* For epoll and its kin; non-blocking, closed when the listener stops. -1: stopped, or no listener.
 */
EPOCH_API int epoch_listener_fd(epoch_listener* listener);
/* Makes it unreadable again. Look at the region after that, not before. */
EPOCH_API epoch_code epoch_listener_drain(epoch_listener* listener, epoch_error** error);
/* Ends the thread; waits for a validator that runs. Idempotent. */
EPOCH_API epoch_code epoch_listener_stop(epoch_listener* listener, epoch_error** error);
/* Stops it, too, and waits as that does; called while the participant is in a call, a thread of its
 * own waits instead; called by its own validator, it is done by the participant's next call that
 * may wait. */
EPOCH_API void epoch_listener_free(epoch_listener* listener);

/* ---- checkpoints (docs/checkpoints.md) --------------------------------------------------------
 */

typedef struct epoch_rank epoch_rank;
typedef struct epoch_step epoch_step;

typedef struct epoch_rank_options {
  size_t struct_size;
  uint32_t rank;              /* 0 to world - 1 */
  uint32_t world;             /* how many ranks; default 1 */
  const char* region;         /* default: a name made from the directory's identity */
  int64_t restore_timeout_ns; /* default 10 s */
  epoch_interrupted interrupted;
  void* interrupted_user;
  uint32_t mode; /* permission bits; default 0600 */
  uint32_t take_over;
} epoch_rank_options;

/* As CheckpointRank::Join (include/epoch/checkpoint.h). Blocking: on files. */
EPOCH_API epoch_code epoch_rank_join(const char* directory, const epoch_rank_options* options,
                                     epoch_rank** rank, epoch_error** error);
EPOCH_API void epoch_rank_free(epoch_rank* rank);
/* *path lives as long as the handle. */
EPOCH_API epoch_code epoch_rank_region_path(epoch_rank* rank, const char** path,
                                            epoch_error** error);
/* Begins an attempt at a step. Blocking, on the other ranks; default 10 minutes. */
EPOCH_API epoch_code epoch_rank_begin(epoch_rank* rank, uint64_t step,
                                      const epoch_wait_options* wait, epoch_step** attempt,
                                      epoch_error** error);
/* Freed without a commit, an attempt is abandoned. */
EPOCH_API void epoch_step_free(epoch_step* step);
/* This rank's own folder; *directory lives as long as the handle. */
EPOCH_API epoch_code epoch_step_directory(epoch_step* step, const char** directory,
                                          epoch_error** error);
/* *path: to be freed with epoch_string_free. */
EPOCH_API epoch_code epoch_step_path(epoch_step* step, const char* name, char** path,
                                     epoch_error** error);
/* The shard is complete: synced, its digest taken. Blocking on the disk. */
EPOCH_API epoch_code epoch_step_ready(epoch_step* step, const char* name, epoch_error** error);
EPOCH_API epoch_code epoch_step_ready_all(epoch_step* step, epoch_error** error);
/* At most 190 bytes, which the commit checks. */
EPOCH_API epoch_code epoch_step_set_metadata(epoch_step* step, const void* data, size_t size,
                                             epoch_error** error);
/* Makes the checkpoint, if all ranks do. *epoch (may be NULL): the manifest's. Blocking; default 10
 * minutes. */
EPOCH_API epoch_code epoch_step_commit(epoch_step* step, const epoch_wait_options* wait,
                                       uint64_t* epoch, epoch_error** error);

typedef struct epoch_checkpoint_info {
  size_t struct_size;
  uint64_t step;
  uint64_t epoch;   /* of the manifest */
  uint64_t attempt; /* with the step, the folder's name */
  uint64_t files;
  uint64_t bytes;
  const char* directory; /* lives as long as the handle that it was asked of */
  uint32_t world;
  uint32_t pruned;
} epoch_checkpoint_info;
typedef struct epoch_shard {
  size_t struct_size;
  const char* name; /* lives as long as the handle */
  uint64_t bytes;
  uint8_t digest[16]; /* XXH3-128, as xxhsum -H2 prints it */
  uint32_t rank;
  uint32_t reserved;
} epoch_shard;

/* A verified checkpoint; while it lives its files are not pruned. */
typedef struct epoch_checkpoint epoch_checkpoint;
typedef struct epoch_checkpoint_list epoch_checkpoint_list;

/* Reads and verifies every shard. Errors: NOT_FOUND, DATA_LOSS. */
EPOCH_API epoch_code epoch_checkpoint_open_latest(const char* directory,
                                                  epoch_checkpoint** checkpoint,
                                                  epoch_error** error);
EPOCH_API epoch_code epoch_checkpoint_open_step(const char* directory, uint64_t step,
                                                epoch_checkpoint** checkpoint, epoch_error** error);
/* The newest that is good. *passed_over (may be NULL): the damaged ones that were newer, and what
 * is wrong with them. */
EPOCH_API epoch_code epoch_checkpoint_open_newest_good(const char* directory,
                                                       epoch_checkpoint** checkpoint,
                                                       epoch_checkpoint_list** passed_over,
                                                       epoch_error** error);
EPOCH_API void epoch_checkpoint_free(epoch_checkpoint* checkpoint);
EPOCH_API epoch_code epoch_checkpoint_get_info(epoch_checkpoint* checkpoint,
                                               epoch_checkpoint_info* info, epoch_error** error);
EPOCH_API size_t epoch_checkpoint_shard_count(epoch_checkpoint* checkpoint);
EPOCH_API epoch_code epoch_checkpoint_shard(epoch_checkpoint* checkpoint, size_t index,
                                            epoch_shard* shard, epoch_error** error);
/* *path: to be freed with epoch_string_free. NOT_FOUND: there is no such shard. */
EPOCH_API epoch_code epoch_checkpoint_path(epoch_checkpoint* checkpoint, uint32_t rank,
                                           const char* name, char** path, epoch_error** error);
/* What that rank has set; *data lives as long as the handle. OUT_OF_RANGE: there is no such rank.
 */
EPOCH_API epoch_code epoch_checkpoint_metadata(epoch_checkpoint* checkpoint, uint32_t rank,
                                               const void** data, size_t* size,
                                               epoch_error** error);

typedef struct epoch_prune_options {
  size_t struct_size;
  uint32_t keep; /* so many good ones stay; default 1 */
  uint32_t remove_damaged;
  uint32_t dry_run;
  uint32_t reserved;
} epoch_prune_options;

/* What list and prune found. */
typedef enum epoch_list_part {
  EPOCH_LIST_ALL = 0, /* list: all, oldest first; the others are prune's, newest first */
  EPOCH_LIST_KEPT = 1,
  EPOCH_LIST_REMOVED = 2,
  EPOCH_LIST_IN_USE = 3,
  EPOCH_LIST_DAMAGED = 4 /* newest_good's, too */
} epoch_list_part;
typedef enum epoch_list_text {
  EPOCH_TEXT_PROBLEMS = 0, /* what is wrong with damaged ones, and with the journal of manifests */
  EPOCH_TEXT_STAGINGS = 1, /* folders that no manifest names, of dead ranks */
  EPOCH_TEXT_STAGINGS_LIVE = 2, /* those that a living rank works in */
  EPOCH_TEXT_CLEANED = 3        /* folders that were removed */
} epoch_list_text;

EPOCH_API epoch_code epoch_checkpoints_list(const char* directory, epoch_checkpoint_list** list,
                                            epoch_error** error);
/* Removes checkpoints that are older than the newest `keep` good ones, and cleans up. */
EPOCH_API epoch_code epoch_checkpoints_prune(const char* directory,
                                             const epoch_prune_options* options,
                                             epoch_checkpoint_list** list, epoch_error** error);
/* Removes abandoned stagings: EPOCH_TEXT_CLEANED. */
EPOCH_API epoch_code epoch_checkpoints_clean_up(const char* directory, epoch_checkpoint_list** list,
                                                epoch_error** error);
/* All problems of the newest checkpoint of that step that was not pruned: EPOCH_TEXT_PROBLEMS;
 * none: it is good. */
EPOCH_API epoch_code epoch_checkpoints_verify(const char* directory, uint64_t step,
                                              epoch_checkpoint_list** list, epoch_error** error);
EPOCH_API size_t epoch_checkpoint_list_count(epoch_checkpoint_list* list, int part);
EPOCH_API epoch_code epoch_checkpoint_list_at(epoch_checkpoint_list* list, int part, size_t index,
                                              epoch_checkpoint_info* info, epoch_error** error);
EPOCH_API size_t epoch_checkpoint_list_text_count(epoch_checkpoint_list* list, int kind);
/* NULL: there is none. Lives as long as the list. */
EPOCH_API const char* epoch_checkpoint_list_text(epoch_checkpoint_list* list, int kind,
                                                 size_t index);
EPOCH_API void epoch_checkpoint_list_free(epoch_checkpoint_list* list);

#ifdef __cplusplus
}
#endif

#include "epoch/c_inline.h"

#endif /* EPOCH_C_H_ */
