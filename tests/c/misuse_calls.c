/* Each misuse, and the code that comes of it. */
#include <stdlib.h>

#include "check.h"

#define MISUSE(call) FAILS(EPOCH_INVALID_ARGUMENT, EPOCH_CAUSE_INVALID, call)

/* Every call, with NULL for all that it is given. */
TEST(null_is_refused_by_every_call) {
  MISUSE(epoch_region_create(NULL, NULL, NULL, &err));
  MISUSE(epoch_region_open(NULL, NULL, NULL, &err));
  MISUSE(epoch_region_open_or_create(NULL, NULL, NULL, &err));
  MISUSE(epoch_region_restore(NULL, NULL, NULL, &err));
  MISUSE(epoch_region_unlink(NULL, &err));
  MISUSE(epoch_region_get_info(NULL, NULL, &err));
  MISUSE(epoch_region_epoch(NULL, NULL, &err));
  MISUSE(epoch_region_orphaned(NULL, NULL, &err));
  MISUSE(epoch_region_reap(NULL, NULL, &err));
  MISUSE(epoch_region_expel(NULL, 0, &err));
  MISUSE(epoch_region_read(NULL, NULL, &err));
  MISUSE(epoch_snapshot_get_info(NULL, NULL, &err));
  MISUSE(epoch_region_history(NULL, NULL, &err));
  MISUSE(epoch_history_oldest(NULL, NULL, &err));
  MISUSE(epoch_history_at(NULL, 0, NULL, &err));
  MISUSE(epoch_history_read(NULL, 0, 0, NULL, &err));
  MISUSE(epoch_history_reader_next(NULL, NULL, &err));
  MISUSE(epoch_region_stragglers(NULL, 0, NULL, &err));
  MISUSE(epoch_stragglers_at(NULL, 0, NULL, &err));
  MISUSE(epoch_participant_join(NULL, NULL, NULL, &err));
  MISUSE(epoch_participant_leave(NULL, &err));
  MISUSE(epoch_participant_rejoin(NULL, &err));
  MISUSE(epoch_participant_status(NULL, &err));
  MISUSE(epoch_participant_get_info(NULL, NULL, &err));
  MISUSE(epoch_participant_poll(NULL, NULL, &err));
  MISUSE(epoch_participant_acknowledge(NULL, 0, &err));
  MISUSE(epoch_participant_park(NULL, &err));
  MISUSE(epoch_participant_serve(NULL, NULL, &err));
  MISUSE(epoch_participant_pin(NULL, NULL, &err));
  MISUSE(epoch_participant_try_pin(NULL, NULL, NULL, &err));
  MISUSE(epoch_participant_draft(NULL, 0, NULL, NULL, &err));
  MISUSE(epoch_draft_data(NULL, NULL, NULL, &err));
  MISUSE(epoch_draft_capacity(NULL, NULL, &err));
  MISUSE(epoch_draft_resize(NULL, 0, &err));
  MISUSE(epoch_draft_assign(NULL, NULL, 0, &err));
  MISUSE(epoch_participant_commit(NULL, NULL, 0, NULL, NULL, &err));
  MISUSE(epoch_participant_commit_draft(NULL, NULL, NULL, NULL, &err));
  MISUSE(epoch_participant_propose(NULL, NULL, NULL, NULL, &err));
  MISUSE(epoch_participant_await_ticket(NULL, 0, NULL, NULL, &err));
  MISUSE(epoch_participant_await(NULL, 0, 0, NULL, NULL, &err));
  MISUSE(epoch_participant_update(NULL, NULL, NULL, NULL, NULL, &err));
  MISUSE(epoch_participant_propose_update(NULL, NULL, NULL, NULL, NULL, &err));
  MISUSE(epoch_participant_set_validator(NULL, NULL, NULL, &err));
  MISUSE(epoch_participant_vote(NULL, 0, EPOCH_ANSWER_ACCEPT, NULL, &err));
  MISUSE(epoch_participant_commit_collective(NULL, 0, NULL, 0, NULL, NULL, &err));
  MISUSE(epoch_contributions(NULL, 0, NULL, 0, NULL, &err));
  MISUSE(epoch_participant_listen(NULL, NULL, &err));
  MISUSE(epoch_listener_drain(NULL, &err));
  MISUSE(epoch_listener_stop(NULL, &err));
  MISUSE(epoch_rank_join(NULL, NULL, NULL, &err));
  MISUSE(epoch_rank_region_path(NULL, NULL, &err));
  MISUSE(epoch_rank_begin(NULL, 0, NULL, NULL, &err));
  MISUSE(epoch_step_directory(NULL, NULL, &err));
  MISUSE(epoch_step_path(NULL, NULL, NULL, &err));
  MISUSE(epoch_step_ready(NULL, NULL, &err));
  MISUSE(epoch_step_ready_all(NULL, &err));
  MISUSE(epoch_step_set_metadata(NULL, NULL, 0, &err));
  MISUSE(epoch_step_commit(NULL, NULL, NULL, &err));
  MISUSE(epoch_checkpoint_open_latest(NULL, NULL, &err));
  MISUSE(epoch_checkpoint_open_step(NULL, 0, NULL, &err));
  MISUSE(epoch_checkpoint_open_newest_good(NULL, NULL, NULL, &err));
  MISUSE(epoch_checkpoint_get_info(NULL, NULL, &err));
  MISUSE(epoch_checkpoint_shard(NULL, 0, NULL, &err));
  MISUSE(epoch_checkpoint_path(NULL, 0, NULL, NULL, &err));
  MISUSE(epoch_checkpoint_metadata(NULL, 0, NULL, NULL, &err));
  MISUSE(epoch_checkpoints_list(NULL, NULL, &err));
  MISUSE(epoch_checkpoints_prune(NULL, NULL, NULL, &err));
  MISUSE(epoch_checkpoints_clean_up(NULL, NULL, &err));
  MISUSE(epoch_checkpoints_verify(NULL, 0, NULL, &err));
  MISUSE(epoch_checkpoint_list_at(NULL, 0, 0, NULL, &err));
  /* As functions, too; and what the macros call. */
  MISUSE((epoch_participant_pin)(NULL, NULL, &err));
  MISUSE(epoch_participant_pin_slowly(NULL, NULL, NULL, &err));
  CHECK(epoch_pin_release(NULL) == EPOCH_INVALID_ARGUMENT);
  CHECK((epoch_pin_release)(NULL) == EPOCH_INVALID_ARGUMENT);
  CHECK(epoch_pin_release_slowly(NULL) == EPOCH_INVALID_ARGUMENT);
  epoch_participant_attend(NULL);
  CHECK(epoch_listener_fd(NULL) == -1);
  CHECK(epoch_stragglers_count(NULL) == 0 && epoch_checkpoint_shard_count(NULL) == 0);
  CHECK(epoch_checkpoint_list_count(NULL, 0) == 0);
  CHECK(epoch_checkpoint_list_text_count(NULL, 0) == 0);
  CHECK(epoch_checkpoint_list_text(NULL, 0, 0) == NULL);
  epoch_region_free(NULL);
  epoch_snapshot_free(NULL);
  epoch_history_free(NULL);
  epoch_history_reader_free(NULL);
  epoch_stragglers_free(NULL);
  epoch_participant_free(NULL);
  epoch_draft_free(NULL);
  epoch_listener_free(NULL);
  epoch_rank_free(NULL);
  epoch_step_free(NULL);
  epoch_checkpoint_free(NULL);
  epoch_checkpoint_list_free(NULL);
  epoch_error_free(NULL);
  epoch_string_free(NULL);
}

TEST(no_error_is_an_error_of_nothing) {
  epoch_culprit culprit = {.struct_size = sizeof culprit};
  uint64_t epoch = 0;
  CHECK(epoch_error_code(NULL) == EPOCH_OK && epoch_error_message(NULL)[0] == '\0');
  CHECK(epoch_error_cause(NULL) == EPOCH_CAUSE_NONE && epoch_error_errno(NULL) == 0);
  CHECK(epoch_error_outcome(NULL) == EPOCH_OUTCOME_UNCHANGED);
  CHECK(!epoch_error_expected(NULL, &epoch) && !epoch_error_actual(NULL, &epoch));
  CHECK(!epoch_error_accepted(NULL, NULL) && epoch_error_culprit_count(NULL) == 0);
  CHECK(epoch_error_culprit(NULL, 0, &culprit) == EPOCH_OUT_OF_RANGE);
  CHECK(strcmp(epoch_code_name(EPOCH_DATA_LOSS), "DATA_LOSS") == 0);
  CHECK(strcmp(epoch_code_name(EPOCH_NO_CHANGE), "NO_CHANGE") == 0);
  CHECK(strcmp(epoch_code_name((epoch_code)-1), "?") == 0 &&
        strcmp(epoch_code_name((epoch_code)16), "?") == 0);
  CHECK(strcmp(epoch_cause_name(EPOCH_CAUSE_JOURNAL_AWAY), "JOURNAL_AWAY") == 0);
  CHECK(strcmp(epoch_cause_name((epoch_cause)-1), "?") == 0 &&
        strcmp(epoch_cause_name((epoch_cause)31), "?") == 0);
  CHECK(epoch_version()[0] >= '0' && epoch_version()[0] <= '9');
}

TEST(places_for_results_are_needed) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  epoch_participant* self = join(region, "x", 0);
  epoch_draft* draft = NULL;
  OK(epoch_participant_draft(self, 1, NULL, &draft, &err));
  MISUSE(epoch_region_open(name, NULL, NULL, &err));
  MISUSE(epoch_region_get_info(region, NULL, &err));
  MISUSE(epoch_region_epoch(region, NULL, &err));
  MISUSE(epoch_region_orphaned(region, NULL, &err));
  MISUSE(epoch_region_read(region, NULL, &err));
  MISUSE(epoch_region_history(region, NULL, &err));
  MISUSE(epoch_region_stragglers(region, 0, NULL, &err));
  MISUSE(epoch_participant_join(region, NULL, NULL, &err));
  MISUSE(epoch_participant_get_info(self, NULL, &err));
  MISUSE(epoch_participant_pin(self, NULL, &err));
  MISUSE(epoch_participant_try_pin(self, NULL, NULL, &err));
  MISUSE(epoch_participant_draft(self, 1, NULL, NULL, &err));
  MISUSE(epoch_participant_listen(self, NULL, &err));
  MISUSE(epoch_draft_data(draft, NULL, NULL, &err));
  MISUSE(epoch_draft_capacity(draft, NULL, &err));
  MISUSE(epoch_draft_assign(draft, NULL, 1, &err));
  MISUSE(epoch_participant_propose(self, draft, NULL, NULL, &err));
  MISUSE(epoch_participant_propose_update(self, NULL, NULL, NULL, NULL, &err));
  MISUSE(epoch_participant_update(self, NULL, NULL, NULL, NULL, &err));
  MISUSE(epoch_participant_commit(self, NULL, 1, NULL, NULL, &err));
  MISUSE(epoch_participant_commit_draft(self, NULL, NULL, NULL, &err));
  MISUSE(epoch_participant_commit_collective(self, 1, NULL, 1, NULL, NULL, &err));
  MISUSE(epoch_contributions("x", 1, NULL, 1, NULL, &err));
  OK(epoch_participant_status(self, &err));
  epoch_draft_free(draft);
  epoch_participant_free(self);
  epoch_region_free(region);
}

/* Options of a size, and with one byte more that is not zero. */
union later {
  epoch_commit_options options;
  unsigned char bytes[sizeof(epoch_commit_options) + 8];
};

TEST(a_struct_size_that_cannot_be_is_refused) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  epoch_participant* self = join(region, "x", 0);
  const size_t sizes[] = {0, 1, sizeof(epoch_commit_options) - 1, 4097, (size_t)-1};
  union later later = {.options = {.struct_size = sizeof later}};
  epoch_participant_info info = {.struct_size = 0};
  struct {
    epoch_participant_info info;
    uint64_t more;
  } longer = {.info = {.struct_size = sizeof longer}, .more = 7};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; ++i) {
    const epoch_commit_options commit = {.struct_size = sizes[i]};
    MISUSE(epoch_participant_commit(self, "x", 1, &commit, NULL, &err));
    info.struct_size = sizes[i];
    if (sizes[i] < sizeof info || sizes[i] > 4096) {
      MISUSE(epoch_participant_get_info(self, &info, &err));
    }
  }
  const epoch_region_options region_options = {.struct_size = 8};
  const epoch_join_options join_options = {.struct_size = 8};
  const epoch_wait_options wait_options = {.struct_size = 8};
  const epoch_collective_options collective = {.struct_size = 8};
  const epoch_rank_options rank_options = {.struct_size = 8};
  const epoch_prune_options prune = {.struct_size = 8};
  epoch_region* other = NULL;
  epoch_participant* none = NULL;
  epoch_rank* rank = NULL;
  epoch_checkpoint_list* list = NULL;
  epoch_pin pin;
  MISUSE(epoch_region_open(name, &region_options, &other, &err));
  MISUSE(epoch_participant_join(region, &join_options, &none, &err));
  MISUSE(epoch_participant_try_pin(self, &wait_options, &pin, &err));
  MISUSE(epoch_participant_commit_collective(self, 1, NULL, 0, &collective, NULL, &err));
  MISUSE(epoch_rank_join("/tmp/x", &rank_options, &rank, &err));
  MISUSE(epoch_checkpoints_prune("/tmp/x", &prune, &list, &err));
  /* Of a later version that asks for nothing new, and for something. */
  OK(epoch_participant_commit(self, "x", 1, &later.options, NULL, &err));
  later.bytes[sizeof later - 1] = 1;
  MISUSE(epoch_participant_commit(self, "x", 1, &later.options, NULL, &err));
  CHECK(strstr(epoch_error_message(last()), "does not know") != NULL);
  OK(epoch_participant_get_info(self, &longer.info, &err));
  CHECK(longer.info.struct_size == sizeof longer && longer.more == 0);
  epoch_participant_free(self);
  epoch_region_free(region);
}

TEST(what_is_reserved_is_0) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  const epoch_join_options joining = {.struct_size = sizeof joining, .reserved = 1};
  const epoch_commit_options commit = {.struct_size = sizeof commit, .reserved = 1};
  const epoch_collective_options collective = {.struct_size = sizeof collective, .reserved = 1};
  const epoch_prune_options prune = {.struct_size = sizeof prune, .reserved = 1};
  epoch_participant *self = join(region, "x", 1), *none = NULL;
  epoch_checkpoint_list* list = NULL;
  uint64_t epoch = 9;
  MISUSE(epoch_participant_join(region, &joining, &none, &err));
  MISUSE(epoch_participant_commit(self, "x", 1, &commit, NULL, &err));
  CHECK(strstr(epoch_error_message(last()), "reserved") != NULL);
  MISUSE(epoch_participant_commit_collective(self, 1, NULL, 0, &collective, NULL, &err));
  MISUSE(epoch_checkpoints_prune("/tmp/x", &prune, &list, &err));
  OK(epoch_region_epoch(region, &epoch, &err));
  CHECK(epoch == 0);
  epoch_participant_free(self);
  epoch_region_free(region);
}

TEST(values_that_are_none_of_those_that_there_are_are_refused) {
  const char* name = NULL;
  epoch_region *region = small_region(&name), *other = NULL;
  epoch_participant *self = join(region, "x", 1), *none = NULL;
  epoch_commit_options commit = {.struct_size = sizeof commit};
  epoch_collective_options collective = {.struct_size = sizeof collective};
  epoch_region_options options = {.struct_size = sizeof options};
  epoch_join_options joining = {.struct_size = sizeof joining};
  epoch_wait_options wait = {.struct_size = sizeof wait, .timeout_ns = -2};
  char long_name[65];
  memset(long_name, 'n', 64);
  long_name[64] = '\0';
#define WITH(options, member, value, call) \
  do {                                     \
    options.member = value;                \
    MISUSE(call);                          \
    memset(&options, 0, sizeof options);   \
    options.struct_size = sizeof options;  \
  } while (0)
  WITH(commit, agreement, 2, epoch_participant_commit(self, "x", 1, &commit, NULL, &err));
  WITH(commit, agreement, -1, epoch_participant_commit(self, "x", 1, &commit, NULL, &err));
  WITH(commit, on_straggler, 2, epoch_participant_commit(self, "x", 1, &commit, NULL, &err));
  WITH(commit, min_voters, -2, epoch_participant_commit(self, "x", 1, &commit, NULL, &err));
  WITH(commit, fence, 2, epoch_participant_commit(self, "x", 1, &commit, NULL, &err));
  WITH(commit, has_expected, 9, epoch_participant_commit(self, "x", 1, &commit, NULL, &err));
  WITH(commit, timeout_ns, -7, epoch_participant_commit(self, "x", 1, &commit, NULL, &err));
  WITH(collective, on_straggler, 7,
       epoch_participant_commit_collective(self, 1, NULL, 0, &collective, NULL, &err));
  WITH(options, history, 3, epoch_region_open(name, &options, &other, &err));
  WITH(options, read_only, 2, epoch_region_open(name, &options, &other, &err));
  WITH(options, restore_timeout_ns, INT64_MIN, epoch_region_open(name, &options, &other, &err));
  WITH(joining, voter, 3, epoch_participant_join(region, &joining, &none, &err));
  WITH(joining, name, long_name, epoch_participant_join(region, &joining, &none, &err));
  MISUSE(epoch_participant_await(self, 1, 2, NULL, NULL, &err));
  MISUSE(epoch_participant_await(self, 1, EPOCH_STAGE_COMMITTED, &wait, NULL, &err));
  MISUSE(epoch_participant_vote(self, 1, 5, NULL, &err));
  FAILS(EPOCH_INVALID_ARGUMENT, -1, epoch_region_open("", NULL, &other, &err));
  FAILS(EPOCH_INVALID_ARGUMENT, -1, epoch_region_restore(name, &options, &other, &err));
  FAILS(EPOCH_OUT_OF_RANGE, EPOCH_CAUSE_TOO_LARGE,
        epoch_participant_commit_collective(self, 1, long_name, (size_t)-1, NULL, NULL, &err));
  epoch_participant_free(self);
  epoch_region_free(region);
}

TEST(what_was_freed_is_refused) {
  const char *name = NULL, *journal = NULL;
  epoch_region* region = durable_region(&name, &journal);
  epoch_participant *self = join(region, "x", 0), *none = NULL;
  epoch_history* history = NULL;
  epoch_history_reader* reader = NULL;
  epoch_snapshot* snapshot = NULL;
  epoch_stragglers* list = NULL;
  epoch_draft* draft = NULL;
  epoch_snapshot_info info = {.struct_size = sizeof info};
  epoch_straggler straggler = {.struct_size = sizeof straggler};
  epoch_pin pin;
  uint64_t epoch = 0;
  OK(epoch_region_history(region, &history, &err));
  OK(epoch_history_read(history, 0, 0, &reader, &err));
  OK(epoch_region_read(region, &snapshot, &err));
  OK(epoch_region_stragglers(region, 0, &list, &err));
  OK(epoch_participant_draft(self, 1, NULL, &draft, &err));
  for (int twice = 0; twice < 2; ++twice) {
    epoch_snapshot_free(snapshot);
    epoch_stragglers_free(list);
    epoch_history_reader_free(reader);
    epoch_history_free(history);
    epoch_region_free(region);
    epoch_draft_free(draft);
    epoch_participant_free(self);
  }
  MISUSE(epoch_snapshot_get_info(snapshot, &info, &err));
  MISUSE(epoch_stragglers_at(list, 0, &straggler, &err));
  CHECK(epoch_stragglers_count(list) == 0);
  MISUSE(epoch_history_reader_next(reader, &snapshot, &err));
  MISUSE(epoch_history_oldest(history, &epoch, &err));
  MISUSE(epoch_region_epoch(region, &epoch, &err));
  MISUSE(epoch_participant_join(region, NULL, &none, &err));
  MISUSE(epoch_participant_pin(self, &pin, &err));
  MISUSE(epoch_draft_resize(draft, 1, &err));
}

/* Also while a call with it is under way, which clears it away only when it ends. */
static int frees_and_asks(void* user, const epoch_current* current, epoch_draft* next) {
  epoch_participant* const self = (epoch_participant*)user;
  (void)current, (void)next;
  FAILS(EPOCH_FAILED_PRECONDITION, EPOCH_CAUSE_BUSY, epoch_participant_status(self, &err));
  epoch_participant_free(self);
  MISUSE(epoch_participant_status(self, &err));
  return 1;
}

TEST(what_was_freed_within_its_own_call_is_refused_at_once) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  epoch_participant* self = join(region, "x", 0);
  CHECK(epoch_participant_update(self, frees_and_asks, self, NULL, NULL, NULL) != EPOCH_OK);
  MISUSE(epoch_participant_status(self, &err));
  epoch_region_free(region);
}

static int writes_something(void* user, const epoch_current* current, epoch_draft* next) {
  (void)user, (void)current;
  return (int)epoch_draft_assign(next, "x", 1, NULL);
}

/* A freed handle gets older by 16 others that are freed after it, and by nothing else. */
TEST(only_frees_make_a_freed_handle_older) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  epoch_participant* self = join(region, "x", 0);
  epoch_draft *draft = NULL, *freed = NULL, *another = NULL, *drafts[16];
  for (int i = 0; i < 40; ++i) {
    OK(epoch_participant_draft(self, 1, NULL, &freed, &err));
    epoch_draft_free(freed);
  }
  for (int i = 0; i < 40; ++i) {
    OK(epoch_participant_update(self, writes_something, NULL, NULL, NULL, &err));
    FAILS(EPOCH_OUT_OF_RANGE, -1, epoch_participant_draft(self, 257, NULL, &another, &err));
    OK(epoch_participant_draft(self, 1, NULL, &draft, &err));
    CHECK(draft != freed);
    MISUSE(epoch_draft_resize(freed, 1, &err));
    OK(epoch_participant_commit_draft(self, draft, NULL, NULL, &err));
    if (i < 16) drafts[i] = draft; /* not freed yet */
    if (i >= 16) break;
  }
  epoch_draft_free(draft);
  for (int i = 0; i < 16; ++i) {
    MISUSE(epoch_draft_resize(freed, 1, &err));
    epoch_draft_free(drafts[i]);
  }
  epoch_participant_free(self);
  epoch_region_free(region);
}

/* Handles are used again, behind others; whatever is done with them the accounts stay right. */
TEST(many_handles_come_and_go) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  for (int round = 0; round < 300; ++round) {
    epoch_participant* self = join(region, "x", 0);
    epoch_draft* drafts[3];
    epoch_pin pin;
    for (int i = 0; i < 3; ++i) OK(epoch_participant_draft(self, 1, NULL, &drafts[i], &err));
    OK(epoch_participant_pin(self, &pin, &err));
    if (round % 2 == 0) epoch_participant_free(self);
    for (int i = 0; i < 3; ++i) epoch_draft_free(drafts[(i + round) % 3]);
    CHECK(epoch_pin_release(&pin) == EPOCH_OK);
    if (round % 2 != 0) epoch_participant_free(self);
    epoch_region* other = open_region(name);
    epoch_region_free(other);
  }
  epoch_region_free(region);
}
