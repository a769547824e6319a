// The labelled points of the durable path, by the operation that passes them.
#ifndef EPOCH_TESTS_JOURNAL_CRASH_POINTS_H_
#define EPOCH_TESTS_JOURNAL_CRASH_POINTS_H_

#include <vector>

#include "support/passages.h"

namespace epoch::test {

struct CrashPoint : Passage {
  bool without_ring = false;  // no io_uring, so that no segment is prepared ahead
  bool beside = false;        // another process commits at the same time, and rolls now and then
};

// Committing, and rolling over a segment while doing so. Opening a region attaches to its journal,
// so points of that path are passed once before the first commit.
inline std::vector<CrashPoint> CommitPoints() {
  return {{{"draft.taken", 2}},
          {{"publish.before_tail", 3}},
          {{"publish.accepted", 1}},
          {{"publish.accepted", 5}},
          {{"reclaim.before_free", 1}},
          {{"journal.before_freeze", 2}},
          {{"journal.frozen", 1}},
          {{"journal.frozen", 9}},
          {{"journal.before_hint", 1}},
          {{"journal.before_hint", 10}},
          {{"journal.before_end", 1}},
          {{"journal.before_end", 6}},
          {{"journal.collected", 1}},
          {{"journal.collected", 6}},
          {{"journal.built", 1}},
          {{"journal.built", 6}},
          {{"journal.before_submit", 1}},
          {{"journal.before_submit", 8}},
          {{"journal.write", 2}},
          {{"journal.written", 1}},
          {{"journal.written", 7}},
          {{"journal.marked", 1}},
          {{"journal.marked", 8}},
          {{"segment.before_link", 1}},
          {{"segment.linked", 1}},
          {{"segment.linked", 2}},
          {{"journal.rolled", 1}},
          {{"attach.listed", 1}},
          {{"attach.locked", 1}},
          {{"journal.read", 1}},
          {{"uring.setup", 1}},
          {{"journal.ring_read", 1}},
          {{"journal.ring_read", 30}},
          // Where the next segment is made while a commit waits.
          {{"journal.allocate", 1}, true},
          {{"journal.prepare", 1}, true},
          {{"journal.prepare", 2}, true},
          {{"segment.synced", 1}, true},
          {{"segment.synced", 2}, true},
          {{"segment.before_link", 1}, true},
          {{"segment.linked", 1}, true},
          {{"segment.linked", 2}, true},
          {{"journal.rolled", 1}, true},
          {{"aftermath.sealed", 1}, true},
          // Where another has made it.
          {{"attach.listed", 2}, true, true},
          {{"attach.locked", 2}, true, true},
          {{"attach.locked", 2}, false, true},
          {{"journal.read", 2}, false, true}};
}

// Proposing without waiting, rolling on the way, and letting go of the region.
inline std::vector<CrashPoint> ProposePoints() {
  return {{{"uring.write", 1}},        {{"uring.write", 20}},     {{"uring.sync", 1}},
          {{"uring.submit", 1}},       {{"uring.submit", 30}},    {{"journal.before_submit", 3}},
          {{"journal.marked", 2}},     {{"spare.allocate", 1}},   {{"spare.zeros", 2}},
          {{"spare.synced", 1}},       {{"spare.linked", 1}},     {{"spare.named", 1}},
          {{"spare.opened", 1}},       {{"aftermath.sealed", 1}}, {{"aftermath.named", 1}},
          {{"journal.before_rest", 1}}};
}

// Making a durable region where nothing is yet.
inline std::vector<CrashPoint> CreatePoints() {
  return {{{"sweep.checked", 1}},          {{"journal_create.directory", 1}},
          {{"journal.allocate", 1}},       {{"journal.prepare", 1}},
          {{"segment.synced", 1}},         {{"segment.before_link", 1}},
          {{"segment.linked", 1}},         {{"journal_create.before_rename", 1}},
          {{"journal_create.renamed", 1}}, {{"create.allocate", 1}},
          {{"create.before_link", 1}},     {{"create.linked", 1}},
          {{"attach.locked", 1}}};
}

// Restoring one from its journal.
inline std::vector<CrashPoint> RestorePoints() {
  return {{{"restore.locked", 1}},       {{"journal.read", 1}},      {{"journal.read", 2}},
          {{"restore.written_anew", 1}}, {{"restore.scanned", 1}},   {{"journal.allocate", 1}},
          {{"journal.prepare", 2}},      {{"segment.synced", 1}},    {{"segment.before_link", 1}},
          {{"segment.linked", 1}},       {{"restore.published", 1}}, {{"create.allocate", 1}},
          {{"create.before_link", 1}},   {{"create.linked", 1}},     {{"attach.locked", 1}}};
}

// Restoring from one whose newest segment goes by its spare's name.
inline std::vector<CrashPoint> BegunPoints() {
  return {{{"restore.locked", 1}},
          {{"segment.linked", 1}},
          {{"restore.named", 1}},
          {{"restore.locked", 2}},
          {{"restore.scanned", 1}}};
}

}  // namespace epoch::test

#endif  // EPOCH_TESTS_JOURNAL_CRASH_POINTS_H_
