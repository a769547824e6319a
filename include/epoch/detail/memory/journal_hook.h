// The only door between the headers and the compiled journal (core/journal). Including
// epoch/journal.h installs an engine here; without one, durable regions can still be read,
// and committed to as long as some other process writes their journal.
#ifndef EPOCH_DETAIL_MEMORY_JOURNAL_HOOK_H_
#define EPOCH_DETAIL_MEMORY_JOURNAL_HOOK_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "epoch/detail/memory/bell.h"
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

// The W words of all batches, as they stood at one moment if that could be had: words never take a
// value twice, so two equal readings enclose one. False: others change them all the time, and
// whoever changes one looks again afterwards.
inline bool ReadBatchWords(const Control& control, std::array<std::uint64_t, kBatchRingSlots>& w) {
  const auto read = [&control](std::array<std::uint64_t, kBatchRingSlots>& to) {
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = control.ring[i].w.Load();
  };
  read(w);
  for (int attempt = 0; attempt < 100; ++attempt) {
    std::array<std::uint64_t, kBatchRingSlots> again;
    read(again);
    if (again == w) return true;
    w = again;
  }
  return false;
}

// Lets head follow what is durable, strictly in order. Anyone may call it, any number of times.
inline void AdvanceDurableHead(const RegionView& view) noexcept {
  for (bool moved = false;;) {
    std::uint64_t word = view.control->head.Load();
    const StateWord head = StateWord::Unpack(word);
    if (head.phase == Phase::kPoisoned) return;
    // A batch that ends beyond head holds what was accepted, and tail never goes back behind that.
    if (!moved && StateWord::Unpack(view.control->tail.Load()).epoch <= head.epoch) return;
    std::array<std::uint64_t, kBatchRingSlots> words;
    if (!ReadBatchWords(*view.control, words)) return;
    // The batch that begins behind head is the one with the lowest end beyond it: batches are
    // frozen in order, and their words stay until head has passed them.
    BatchW next{};
    Epoch frozen = head.epoch, oldest = head.epoch;
    for (const std::uint64_t candidate : words) {
      const BatchW w = BatchW::Unpack(candidate);
      // One without versions ends where its predecessor does, which it must not pass for.
      if (w.hint_only) continue;
      if (w.last < oldest) oldest = w.last;
      if (w.last > head.epoch && (next.last == 0 || w.last < next.last)) next = w;
      if (w.last > frozen) frozen = w.last;
    }
    if (next.state != BatchState::kWritten || !view.ValidCell(next.version)) {
      if (!moved) return;
      // There is room for another batch now: one of those who wait for it freezes it.
      const StateWord tail = StateWord::Unpack(view.control->tail.Load());
      if (tail.epoch > frozen) RingOneDoor(*view.control, frozen, tail.epoch);
      return;
    }
    // From the exact word that was read before the batches were. A closed head is no obstacle: what
    // was written had drained, or the fence was given up.
    if (view.control->head.CompareExchange(
            word, StateWord{Phase::kOpen, next.version, next.last}.Pack())) {
      // Some before it, too: who moved head there may have died before it rang. Not all, as further
      // on these are the doors of others, who would wake up in vain.
      constexpr Epoch kAgain = 16;
      if (head.epoch - oldest > kAgain) oldest = head.epoch - kAgain;
      RingDoors(*view.control, oldest, next.last);
      Ring(*view.control);
      moved = true;
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
    if (view.control->head.CompareExchange(word, head.Pack())) {
      RingAllDoors(*view.control);
      return;
    }
  }
}

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_MEMORY_JOURNAL_HOOK_H_
