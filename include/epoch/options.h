// Plain option structs of the public interface.
#ifndef EPOCH_OPTIONS_H_
#define EPOCH_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "epoch/detail/layout.h"

namespace epoch {

using detail::History;

struct RegionOptions {
  // Geometry; used when the region is created, ignored when it is opened.
  std::uint64_t state_bytes = 64 * 1024;  // largest state, bytes
  std::uint32_t participants = 64;        // slots, at most 4,096
  std::uint32_t versions = 128;           // cells, 4 to 8,191: one per state that may be in use at
                                          // once (head, pinned, drafted, waiting for the disk)
  unsigned mode = 0600;                   // permission bits of the region and the journal files

  // A directory makes the region durable. Needs the compiled part (core/journal/journal.h).
  std::string journal{};
  History history = History::kAll;
  std::uint64_t segment_bytes = 0;    // size of a journal file; 0: 16 MiB or what a state needs
  std::uint32_t retain_segments = 0;  // older segments to keep; 0: all (kAll), one (kLatest)
  // How long to wait for processes that still hold the journal, before restoring from it.
  absl::Duration restore_timeout = absl::Seconds(10);

  // Restore although a block behind the last good batch is damaged in a way that no crash explains:
  // an acknowledged epoch may be lost.
  bool ignore_block_damage = false;

  bool read_only = false;  // map read-only: inspection; such a process can not join
};

struct JoinOptions {
  std::string name{};  // shown by the tools, at most 63 bytes
  bool voter = false;  // counts in voted transitions
};

struct CommitOptions {
  // Commit only as the direct successor of this epoch; otherwise succeed whatever is newest.
  std::optional<Epoch> expected = std::nullopt;
  // How long to wait for the commit to become visible. When it passes in a durable region the
  // state may already be accepted: the error says so.
  absl::Duration timeout = absl::InfiniteDuration();
  std::uint64_t token = 0;  // the application's own tag, kept in the version and the journal
};

enum class Stage {
  kCommitted,  // head has reached the epoch: visible to all, durable if the region is
  kConverged,  // and every live participant that is not parked has acknowledged it
};

}  // namespace epoch

#endif  // EPOCH_OPTIONS_H_
