// The old epochs of a durable region, read back from its journal.
//
//   auto history = region.History();                      // see Region::History
//   auto then = history->At(7);                           // one epoch
//   auto reader = history->Read(history->Oldest().value());
//   for (auto next = reader->Next(); next.ok() && next->has_value(); next = reader->Next()) ...
//
// With history=all every epoch is kept, with history=latest the last one of each batch; in both,
// from the oldest segment on that is not retired yet (Retention, docs/journal.md). Only what is
// committed is shown. All of it is verified: the checksum of each block, the digest of each state,
// and the chain from the beginning of a segment to the epoch.
//
// Nobody is disturbed: the journal's files are opened for reading; no slot is taken, no lock, and
// nothing is written. Segments may be retired meanwhile; the error says what is the oldest epoch
// that is still there.
#ifndef EPOCH_HISTORY_H_
#define EPOCH_HISTORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "epoch/types.h"

namespace epoch {

// One committed epoch, as the journal has it.
struct PastEpoch {
  // Who proposed it: a slot, and its generation then.
  struct Proposer {
    std::uint32_t slot = 0;
    std::uint64_t generation = 0;
  };

  Epoch epoch = 0;
  std::uint64_t token = 0;
  std::uint64_t digest = 0;  // XXH64 of the state
  std::uint64_t chain = 0;   // ties it to all epochs before
  // None of the state that the oldest segment begins with: its own record is gone, or there never
  // was one.
  std::optional<Proposer> proposer;
  std::uint64_t ballot = 0;   // of the vote on it; 0: nobody was asked
  bool forced = false;        // somebody was expelled for its sake
  std::uint64_t segment = 0;  // the file that it is in, by number
  std::uint64_t block = 0;    // where its batch begins in there, in blocks of 4,096 bytes
  std::vector<std::byte> state;
};

namespace detail {

// What the compiled journal does for the two classes below.
class HistoryCursor {
 public:
  virtual ~HistoryCursor() = default;
  virtual absl::StatusOr<std::optional<PastEpoch>> Next() = 0;
};
class HistorySource {
 public:
  virtual ~HistorySource() = default;
  virtual absl::StatusOr<Epoch> Oldest() const = 0;
  virtual absl::StatusOr<PastEpoch> At(Epoch epoch) const = 0;
  virtual absl::StatusOr<std::unique_ptr<HistoryCursor>> Read(Epoch from, Epoch to) const = 0;
};

}  // namespace detail

// Reads epochs one after the other. Holds one file open, and in memory one batch of the journal: at
// most 1 MiB, or one state if that is more.
//
// Thread safety: external. Progress: waits for nothing but reads of files.
class HistoryReader {
 public:
  explicit HistoryReader(std::unique_ptr<detail::HistoryCursor> cursor)
      : cursor_(std::move(cursor)) {}

  // The next epoch that is kept, in ascending order. None: no further one is committed yet, or the
  // last one that was asked for has been returned. Call it again when more is committed, and it
  // goes on there. Errors: NotFound (retired meanwhile, the oldest that is left is named), DataLoss
  // (damaged: what, where), Internal (a read error), ResourceExhausted (memory, descriptors),
  // PermissionDenied (also: belongs to another user). After an error the reader stays where it was.
  absl::StatusOr<std::optional<PastEpoch>> Next() { return cursor_->Next(); }

 private:
  std::unique_ptr<detail::HistoryCursor> cursor_;
};

// The old epochs of one region. Thread safety: all functions. Progress: as the reader's. Neither it
// nor a reader keeps the region: when the last handle and participant are gone, what was committed
// by then can still be read.
class EpochHistory {
 public:
  explicit EpochHistory(std::shared_ptr<const detail::HistorySource> source)
      : source_(std::move(source)) {}

  // The oldest epoch whose state is kept. Errors: as Next's, and NotFound if there is no such
  // directory (any more).
  absl::StatusOr<Epoch> Oldest() const { return source_->Oldest(); }

  // One epoch. Reads the header of each batch of its segment that is in front of it. Errors:
  // OutOfRange (not committed yet), NotFound (retired, or history=latest did not keep it: the
  // nearest that are kept are named), and as Next's.
  absl::StatusOr<PastEpoch> At(Epoch epoch) const { return source_->At(epoch); }

  // The epochs from `from` to `to` that are kept. `from` may be one that is not committed yet: to
  // follow a region, read from its epoch plus 1. Errors: NotFound (`from` is retired: begin at
  // Oldest()), and as Next's.
  absl::StatusOr<HistoryReader> Read(Epoch from, Epoch to = kMaxEpoch) const {
    auto cursor = source_->Read(from, to);
    if (!cursor.ok()) return cursor.status();
    return HistoryReader(*std::move(cursor));
  }

 private:
  std::shared_ptr<const detail::HistorySource> source_;
};

}  // namespace epoch

#endif  // EPOCH_HISTORY_H_
