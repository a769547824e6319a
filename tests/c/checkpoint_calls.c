/* Checkpoints of two ranks. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"

static const char* checkpoints;

static void write_file(const char* path, const char* text) {
  FILE* const file = fopen(path, "we");
  CHECK(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}
static epoch_rank* join_rank(uint32_t number) {
  const epoch_rank_options options = {.struct_size = sizeof options, .rank = number, .world = 2};
  epoch_rank* rank = NULL;
  OK(epoch_rank_join(checkpoints, &options, &rank, &err));
  return rank;
}
static void make(epoch_rank* rank, uint64_t number, const char* text, int all) {
  epoch_step* step = NULL;
  const char* directory = NULL;
  char* path = NULL;
  OK(epoch_rank_begin(rank, number, NULL, &step, &err));
  OK(epoch_step_directory(step, &directory, &err));
  OK(epoch_step_path(step, "model.bin", &path, &err));
  CHECK(strncmp(path, directory, strlen(directory)) == 0);
  write_file(path, text);
  epoch_string_free(path);
  FAILS(EPOCH_NOT_FOUND, -1, epoch_step_ready(step, "other.bin", &err));
  if (all) {
    OK(epoch_step_ready_all(step, &err));
  } else {
    OK(epoch_step_ready(step, "model.bin", &err));
  }
  OK(epoch_step_set_metadata(step, text, strlen(text), &err));
  OK(epoch_step_commit(step, NULL, NULL, &err));
  epoch_step_free(step);
}
static void second_rank(const char* region, int in, int out) {
  (void)region, (void)in, (void)out;
  epoch_rank* const rank = join_rank(1);
  make(rank, 100, "one-1", 0);
  make(rank, 200, "two-1", 1);
  epoch_rank_free(rank);
}

TEST(two_ranks_make_checkpoints_that_are_read_listed_and_pruned) {
  checkpoints = scratch_directory();
  struct child other = begin(second_rank, "");
  epoch_rank* const rank = join_rank(0);
  epoch_checkpoint *open = NULL, *none = NULL;
  epoch_checkpoint_list* list = NULL;
  epoch_checkpoint_info info = {.struct_size = sizeof info};
  epoch_shard shard = {.struct_size = sizeof shard};
  const epoch_prune_options keep = {.struct_size = sizeof keep, .dry_run = 1};
  char *path = NULL, damaged[512];
  const char* where = NULL;
  const void* metadata = NULL;
  size_t size = 0;
  make(rank, 100, "one-0", 0);
  make(rank, 200, "two-0", 1);
  CHECK(end(&other) == 0);
  OK(epoch_rank_region_path(rank, &where, &err));
  CHECK(strstr(where, "checkpoints-") != NULL);
  epoch_rank_free(rank);

  OK(epoch_checkpoint_open_latest(checkpoints, &open, &err));
  OK(epoch_checkpoint_get_info(open, &info, &err));
  CHECK(info.step == 200 && info.world == 2 && info.files == 2 && info.bytes == 10);
  CHECK(epoch_checkpoint_shard_count(open) == 2);
  OK(epoch_checkpoint_shard(open, 1, &shard, &err));
  CHECK(shard.rank == 1 && shard.bytes == 5 && strcmp(shard.name, "model.bin") == 0);
  FAILS(EPOCH_OUT_OF_RANGE, -1, epoch_checkpoint_shard(open, 2, &shard, &err));
  OK(epoch_checkpoint_metadata(open, 1, &metadata, &size, &err));
  CHECK(size == 5 && memcmp(metadata, "two-1", 5) == 0);
  FAILS(EPOCH_OUT_OF_RANGE, -1, epoch_checkpoint_metadata(open, 2, &metadata, &size, &err));
  FAILS(EPOCH_NOT_FOUND, -1, epoch_checkpoint_path(open, 0, "none", &path, &err));
  CHECK(path == NULL);
  OK(epoch_checkpoint_path(open, 0, "model.bin", &path, &err));
  snprintf(damaged, sizeof damaged, "%s", path);
  epoch_string_free(path);
  epoch_checkpoint_free(open);

  OK(epoch_checkpoint_open_step(checkpoints, 100, &open, &err));
  epoch_checkpoint_free(open);
  FAILS(EPOCH_NOT_FOUND, -1, epoch_checkpoint_open_step(checkpoints, 300, &open, &err));
  OK(epoch_checkpoints_list(checkpoints, &list, &err));
  CHECK(epoch_checkpoint_list_count(list, EPOCH_LIST_ALL) == 2);
  CHECK(epoch_checkpoint_list_count(list, 99) == 0);
  OK(epoch_checkpoint_list_at(list, EPOCH_LIST_ALL, 0, &info, &err));
  CHECK(info.step == 100 && !info.pruned);
  FAILS(EPOCH_INVALID_ARGUMENT, EPOCH_CAUSE_INVALID,
        epoch_checkpoint_list_at(list, -1, 0, &info, &err));
  FAILS(EPOCH_OUT_OF_RANGE, -1, epoch_checkpoint_list_at(list, EPOCH_LIST_KEPT, 0, &info, &err));
  CHECK(epoch_checkpoint_list_text_count(list, EPOCH_TEXT_PROBLEMS) == 0);
  epoch_checkpoint_list_free(list);

  OK(epoch_checkpoints_prune(checkpoints, &keep, &list, &err));
  CHECK(epoch_checkpoint_list_count(list, EPOCH_LIST_KEPT) == 1);
  CHECK(epoch_checkpoint_list_count(list, EPOCH_LIST_REMOVED) == 1);
  epoch_checkpoint_list_free(list);

  write_file(damaged, "two-x");
  FAILS(EPOCH_DATA_LOSS, -1, epoch_checkpoint_open_latest(checkpoints, &none, &err));
  OK(epoch_checkpoints_verify(checkpoints, 200, &list, &err));
  CHECK(epoch_checkpoint_list_text_count(list, EPOCH_TEXT_PROBLEMS) == 1);
  epoch_checkpoint_list_free(list);
  OK(epoch_checkpoint_open_newest_good(checkpoints, &open, &list, &err));
  OK(epoch_checkpoint_get_info(open, &info, &err));
  CHECK(info.step == 100);
  CHECK(epoch_checkpoint_list_count(list, EPOCH_LIST_DAMAGED) == 1);
  CHECK(strstr(epoch_checkpoint_list_text(list, EPOCH_TEXT_PROBLEMS, 0), "model.bin") != NULL);
  CHECK(epoch_checkpoint_list_text(list, EPOCH_TEXT_PROBLEMS, 9) == NULL);
  CHECK(epoch_checkpoint_list_text(list, -3, 0) == NULL);
  epoch_checkpoint_list_free(list);
  epoch_checkpoint_free(open);
  OK(epoch_checkpoints_clean_up(checkpoints, &list, &err));
  CHECK(epoch_checkpoint_list_text_count(list, EPOCH_TEXT_CLEANED) == 0);
  epoch_checkpoint_list_free(list);
}

TEST(a_step_outlives_the_handle_of_its_rank) {
  checkpoints = scratch_directory();
  const epoch_wait_options at_once = {.struct_size = sizeof at_once, .timeout_ns = EPOCH_NO_WAIT};
  epoch_rank* rank = NULL;
  epoch_step *step = NULL, *again = NULL;
  const char* directory = NULL;
  OK(epoch_rank_join(checkpoints, NULL, &rank, &err)); /* a world of one */
  OK(epoch_rank_begin(rank, 1, NULL, &step, &err));
  epoch_rank_free(rank);
  FAILS(EPOCH_INVALID_ARGUMENT, EPOCH_CAUSE_INVALID,
        epoch_rank_begin(rank, 2, &at_once, &again, &err));
  OK(epoch_step_directory(step, &directory, &err));
  FAILS(EPOCH_FAILED_PRECONDITION, -1, epoch_step_commit(step, &at_once, NULL, &err));
  epoch_step_free(step);
  epoch_step_free(step);
  FAILS(EPOCH_INVALID_ARGUMENT, EPOCH_CAUSE_INVALID, epoch_step_ready_all(step, &err));
  rank = join_rank(0);
  FAILS(EPOCH_DEADLINE_EXCEEDED, -1, epoch_rank_begin(rank, 2, &at_once, &step, &err));
  CHECK(step == NULL);
  epoch_rank_free(rank);
  epoch_checkpoint* none = NULL;
  FAILS(EPOCH_NOT_FOUND, -1, epoch_checkpoint_open_latest("/nonexistent/here", &none, &err));
}
