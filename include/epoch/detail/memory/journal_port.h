// The only door between the headers and the compiled journal (core/journal). Including
// epoch/journal.h installs an engine here; without one, durable regions can still be read,
// and committed to as long as some other process writes their journal.
#ifndef EPOCH_DETAIL_MEMORY_JOURNAL_PORT_H_
#define EPOCH_DETAIL_MEMORY_JOURNAL_PORT_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "epoch/detail/memory/layout.h"
#include "epoch/detail/platform/files.h"
#include "epoch/options.h"

namespace epoch::detail {

class Mapping;
class HistorySource;  // epoch/history.h

// What a new incarnation of a region starts from. While it lives it owns the journal: nobody else
// can restore from it. It is destroyed after the region has got its name.
struct JournalSeed {
  virtual ~JournalSeed() = default;

  // Gives the journal its name, or the new segment in it, durably; called when the region is
  // complete but for its own name. Nothing has changed before, and nothing does if it fails.
  virtual absl::Status Publish() { return absl::OkStatus(); }

  Id journal{};
  Id incarnation{};
  std::string directory;  // absolute
  History history = History::kAll;
  std::uint64_t segment_bytes = 0;
  std::uint32_t retain_segments = 0;
  std::uint64_t retain_epochs = 0;
  std::uint64_t segment = 0;    // number of the segment that holds `state` as its base
  std::uint64_t end_block = 0;  // first free block in it
  Epoch epoch = 0;
  std::uint64_t chain = 0;
  std::uint64_t token = 0;
  std::vector<std::byte> state;
  std::optional<Access> access;  // of the journal that it is made from
};

// One process's access to the journal of one region. Thread safety: all functions.
class JournalPort {
 public:
  enum class Progress {
    kIdle,   // nothing accepted waits for the disk
    kMoved,  // a batch became durable; look at head again
    kBusy,   // others write: wait until head moves, at most `help_after_ns`
  };
  struct Outcome {
    Progress progress;
    std::int64_t help_after_ns = 0;
  };

  virtual ~JournalPort() = default;
  // Writes at most one batch, and waits until it is on disk. Freezes one, of all that is accepted,
  // if `wanted` is in none yet; writes one of others when its own writer is dead or slow. Errors:
  // DataLoss (poisoned), FailedPrecondition (the region has been restored elsewhere; this mapping
  // is history). Any other is this process's: it has no room (ResourceExhausted) or no right to
  // write; what is accepted stays pending, for a process that can write it.
  virtual absl::StatusOr<Outcome> Flush(std::uint32_t slot, Epoch wanted) = 0;
  // Hands what is accepted to the disk, if that needs no waiting. Never blocks on the disk.
  virtual void Start(std::uint32_t slot) = 0;
  // Takes note of what Start has handed to the disk and is done. Never blocks.
  virtual void Reap() = 0;
  // For who has nothing to do: after a while, leaves evidence on disk of what was committed last.
  virtual void Rest(std::uint32_t slot) = 0;
  // "io_uring" or "pwritev2", with "+buffered" where the filesystem refuses O_DIRECT.
  virtual std::string backend() const = 0;
};

struct JournalEngine {
  // AlreadyExists if the directory holds a journal.
  absl::StatusOr<std::unique_ptr<JournalSeed>> (*create)(const RegionOptions& options,
                                                         bool explicitly);
  // NotFound if there is no such directory; AlreadyExists if the region turns out to exist once
  // the journal is locked; DataLoss, never an older state, if acknowledged data is damaged.
  absl::StatusOr<std::unique_ptr<JournalSeed>> (*restore)(const RegionOptions& options,
                                                          const std::string& region_path);
  // Holds on to the region's newest segment, in mapping.journal_directory(), for as long as the
  // port lives. NotFound: there is no such directory. FailedPrecondition: superseded; another
  // journal is there, or a copy of the right one.
  absl::StatusOr<std::unique_ptr<JournalPort>> (*attach)(const Mapping& mapping);
  // The old epochs of a durable region.
  absl::StatusOr<std::unique_ptr<HistorySource>> (*history)(
      const std::shared_ptr<const Mapping>& mapping);
};

inline std::atomic<const JournalEngine*> journal_engine{nullptr};

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_MEMORY_JOURNAL_PORT_H_
