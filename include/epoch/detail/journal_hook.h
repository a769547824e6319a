// The only door between the headers and the compiled journal (core/journal). Including
// core/journal/journal.h installs an engine here; without one, durable regions can still be read,
// and committed to as long as some other process writes their journal.
#ifndef EPOCH_DETAIL_JOURNAL_HOOK_H_
#define EPOCH_DETAIL_JOURNAL_HOOK_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "epoch/detail/bell.h"
#include "epoch/detail/layout.h"
#include "epoch/options.h"

namespace epoch::detail {

class Mapping;

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
  std::uint64_t segment = 0;    // number of the segment that holds `state` as its base
  std::uint64_t end_block = 0;  // first free block in it
  Epoch epoch = 0;
  std::uint64_t chain = 0;
  std::uint64_t token = 0;
  std::vector<std::byte> state;
};

// One process's access to the journal of one region. Thread safety: all functions.
class JournalPort {
 public:
  enum class Progress {
    kIdle,   // nothing accepted waits for the disk
    kMoved,  // a batch became durable; look at head again
    kBusy,   // another process is writing: wait for the bell, at most `help_after_ns`
  };
  struct Outcome {
    Progress progress;
    std::int64_t help_after_ns = 0;
  };

  virtual ~JournalPort() = default;
  // Writes at most one batch. Blocks on the disk. Errors: DataLoss (poisoned), ResourceExhausted
  // (no room for the next segment; what is accepted stays pending), FailedPrecondition (the region
  // has been restored elsewhere; this mapping is history).
  virtual absl::StatusOr<Outcome> Flush(std::uint32_t slot, std::uint64_t generation) = 0;
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
  // Holds on to the region's newest segment for as long as the port lives.
  absl::StatusOr<std::unique_ptr<JournalPort>> (*attach)(const Mapping& mapping);
};

inline std::atomic<const JournalEngine*> journal_engine{nullptr};

// --- the batch ring's words, shared by writers (core) and by those who only follow head ---------

enum class BatchState : std::uint8_t { kFrozen = 1, kWritten = 2, kFailed = 3 };

struct BatchW {
  BatchState state;
  bool hint_only;
  std::uint32_t version;
  Epoch last;

  static constexpr BatchW Unpack(std::uint64_t word) {
    return {static_cast<BatchState>(word >> 62), ((word >> 61) & 1) != 0,
            static_cast<std::uint32_t>((word >> kNumberBits) & kIndexMask), word & kNumberMask};
  }
  constexpr std::uint64_t Pack() const {
    return (std::uint64_t{static_cast<std::uint8_t>(state)} << 62) |
           (std::uint64_t{hint_only ? 1u : 0u} << 61) | (std::uint64_t{version} << kNumberBits) |
           last;
  }
};

// Lets head follow what is durable. Anyone may call it, any number of times.
inline void AdvanceDurableHead(const RegionView& view) noexcept {
  for (const BatchWords& batch : view.control->ring) {
    const BatchW w = BatchW::Unpack(batch.w.Load());
    if (w.state != BatchState::kWritten || !view.ValidCell(w.version)) continue;
    std::uint64_t word = view.control->head.Load();
    const StateWord head = StateWord::Unpack(word);
    // One batch is in flight at a time, so a written batch beyond head directly follows head. A
    // closed head is no obstacle: what was written had drained, or the fence was given up.
    if (head.phase == Phase::kPoisoned || w.last <= head.epoch) continue;
    if (view.control->head.CompareExchange(word,
                                           StateWord{Phase::kOpen, w.version, w.last}.Pack())) {
      Ring(*view.control);
    }
  }
}

// A journal that failed a write ends this incarnation: head stays readable and never moves again.
inline void PoisonHead(const RegionView& view) noexcept {
  std::uint64_t word = view.control->head.Load();
  for (;;) {
    StateWord head = StateWord::Unpack(word);
    if (head.phase == Phase::kPoisoned) return;
    head.version = CommittedCell(view, head);
    head.phase = Phase::kPoisoned;
    if (view.control->head.CompareExchange(word, head.Pack())) return;
  }
}

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_JOURNAL_HOOK_H_
