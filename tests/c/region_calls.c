/* Regions, copies of states, old epochs, who is behind. */
#include <stdlib.h>

#include "check.h"

TEST(a_region_is_created_once_and_opened_by_its_name) {
  const char* name = NULL;
  epoch_region *region = small_region(&name), *other = NULL;
  epoch_region_info info = {.struct_size = sizeof info};
  uint64_t epoch = 9;
  int orphaned = -1;
  FAILS(EPOCH_ALREADY_EXISTS, EPOCH_CAUSE_OTHER, epoch_region_create(name, NULL, &other, &err));
  CHECK(other == NULL);
  OK(epoch_region_open(name, NULL, &other, &err));
  OK(epoch_region_get_info(other, &info, &err));
  CHECK(info.state_bytes == 256 && !info.durable && !info.journal_in_memory);
  CHECK(strstr(info.path, name) != NULL && info.journal[0] == '\0');
  CHECK(strlen(info.incarnation) == 32);
  OK(epoch_region_epoch(other, &epoch, &err));
  CHECK(epoch == 0);
  OK(epoch_region_orphaned(region, &orphaned, &err));
  CHECK(orphaned == 0);
  OK(epoch_region_unlink(name, &err));
  OK(epoch_region_orphaned(region, &orphaned, &err));
  CHECK(orphaned == 1);
  FAILS(EPOCH_NOT_FOUND, -1, epoch_region_unlink(name, &err));
  CHECK(epoch_error_errno(last()) == 2);
  epoch_region_free(other);
  FAILS(EPOCH_NOT_FOUND, -1, epoch_region_open(name, NULL, &other, &err));
  CHECK(other == NULL);
  epoch_region_free(region);
}

TEST(defaults_are_those_of_cpp) {
  const char* const name = scratch_region();
  epoch_region* region = NULL;
  epoch_region_info info = {.struct_size = sizeof info};
  const epoch_region_options zeros = {.struct_size = sizeof zeros};
  OK(epoch_region_open_or_create(name, &zeros, &region, &err));
  OK(epoch_region_get_info(region, &info, &err));
  CHECK(info.state_bytes == 64 * 1024);
  epoch_region_free(region);
}

TEST(a_copy_of_the_state_takes_no_slot_and_outlives_the_region) {
  const char* name = NULL;
  epoch_region *region = small_region(&name), *reading = NULL;
  epoch_participant *self = join(region, "writer", 0), *none = NULL;
  const epoch_region_options read_only = {.struct_size = sizeof read_only, .read_only = 1};
  const epoch_commit_options options = {.struct_size = sizeof options, .token = 42};
  epoch_snapshot* snapshot = NULL;
  epoch_snapshot_info info = {.struct_size = sizeof info};
  OK(epoch_participant_commit(self, "whole", 5, &options, NULL, &err));
  OK(epoch_region_open(name, &read_only, &reading, &err));
  OK(epoch_region_read(reading, &snapshot, &err));
  FAILS(EPOCH_PERMISSION_DENIED, EPOCH_CAUSE_READ_ONLY,
        epoch_participant_join(reading, NULL, &none, &err));
  FAILS(EPOCH_PERMISSION_DENIED, -1, epoch_region_reap(reading, NULL, &err));
  FAILS(EPOCH_PERMISSION_DENIED, -1, epoch_region_expel(reading, 0, &err));
  epoch_region_free(reading);
  epoch_participant_free(self);
  epoch_region_free(region);
  OK(epoch_snapshot_get_info(snapshot, &info, &err));
  CHECK(info.epoch == 1 && info.token == 42 && info.size == 5);
  CHECK(memcmp(info.data, "whole", 5) == 0 && !info.has_proposer);
  epoch_snapshot_free(snapshot);
}

TEST(a_durable_region_is_restored_and_its_old_epochs_are_read_back) {
  const char *name = NULL, *journal = NULL;
  epoch_region *region = durable_region(&name, &journal), *again = NULL;
  epoch_participant* self = join(region, "writer", 0);
  epoch_history* history = NULL;
  epoch_history_reader* reader = NULL;
  epoch_snapshot* past = NULL;
  epoch_snapshot_info info = {.struct_size = sizeof info};
  epoch_region_info about = {.struct_size = sizeof about};
  uint64_t epoch = 9;
  commit_text(self, "one");
  commit_text(self, "two");
  commit_text(self, "three");
  OK(epoch_region_get_info(region, &about, &err));
  CHECK(about.durable && strstr(about.journal, "journal") != NULL);
  OK(epoch_region_history(region, &history, &err));
  epoch_participant_free(self);
  epoch_region_free(region); /* a history keeps none */
  OK(epoch_history_oldest(history, &epoch, &err));
  CHECK(epoch == 0);
  OK(epoch_history_at(history, 2, &past, &err));
  OK(epoch_snapshot_get_info(past, &info, &err));
  CHECK(info.epoch == 2 && info.size == 3 && memcmp(info.data, "two", 3) == 0);
  CHECK(info.has_proposer && info.digest != 0);
  epoch_snapshot_free(past);
  FAILS(EPOCH_OUT_OF_RANGE, -1, epoch_history_at(history, 4, &past, &err));
  CHECK(past == NULL);
  OK(epoch_history_read(history, 1, 0, &reader, &err));
  epoch_history_free(history); /* nor does a reader keep that */
  for (uint64_t wanted = 1; wanted <= 3; ++wanted) {
    OK(epoch_history_reader_next(reader, &past, &err));
    CHECK(past != NULL);
    OK(epoch_snapshot_get_info(past, &info, &err));
    CHECK(info.epoch == wanted);
    epoch_snapshot_free(past);
  }
  OK(epoch_history_reader_next(reader, &past, &err));
  CHECK(past == NULL);
  epoch_history_reader_free(reader);

  OK(epoch_region_unlink(name, &err));
  const epoch_region_options options = {
      .struct_size = sizeof options, .state_bytes = 256, .journal = journal};
  OK(epoch_region_restore(name, &options, &again, &err));
  OK(epoch_region_epoch(again, &epoch, &err));
  CHECK(epoch == 3);
  epoch_region_free(again);
}

TEST(a_volatile_region_has_no_history) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  epoch_history* history = (epoch_history*)&name;
  FAILS(EPOCH_FAILED_PRECONDITION, -1, epoch_region_history(region, &history, &err));
  CHECK(history == NULL);
  epoch_region_free(region);
}

TEST(who_is_behind_is_told_by_name) {
  const char* name = NULL;
  epoch_region* region = small_region(&name);
  epoch_participant *self = join(region, "ahead", 0), *other = join(region, "behind", 0);
  epoch_stragglers* list = NULL;
  epoch_straggler straggler = {.struct_size = sizeof straggler};
  epoch_pin pin;
  uint64_t epoch = 0;
  OK(epoch_participant_pin(other, &pin, &err));
  epoch = commit_text(self, "x");
  OK(epoch_participant_poll(self, NULL, &err));
  OK(epoch_region_stragglers(region, epoch, &list, &err));
  CHECK(epoch_stragglers_count(list) == 1);
  OK(epoch_stragglers_at(list, 0, &straggler, &err));
  CHECK(strcmp(straggler.name, "behind") == 0 && straggler.slot == 1);
  CHECK(straggler.has_acknowledged && straggler.acknowledged == 0);
  CHECK(straggler.has_pinned && straggler.pinned == 0);
  CHECK(straggler.condition == EPOCH_CONDITION_RUNNING);
  FAILS(EPOCH_OUT_OF_RANGE, -1, epoch_stragglers_at(list, 1, &straggler, &err));
  epoch_stragglers_free(list);
  CHECK(epoch_pin_release(&pin) == EPOCH_OK);
  epoch_participant_free(other);
  epoch_participant_free(self);
  epoch_region_free(region);
}
