// A batch: which versions it holds, and its bytes. Both are a pure function of the batch's frozen
// words and of immutable versions, so that every process arrives at the same ones.
#ifndef EPOCH_CORE_JOURNAL_BATCH_BATCH_H_
#define EPOCH_CORE_JOURNAL_BATCH_BATCH_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/journal/batch/ring.h"
#include "core/journal/format/format.h"
#include "epoch/detail/memory/layout.h"

namespace epoch::journal {

struct Piece {
  std::uint32_t cell;
  Epoch epoch;
  std::uint64_t length_bytes;
};

class BatchBuilder {
 public:
  BatchBuilder(const detail::RegionView& view, const detail::Superblock& super)
      : view_(view), super_(super), latest_(super.history == History::kLatest) {}

  // The versions after `from` up to the one in `cell`, oldest first; only the last for kLatest.
  // False if the cells have moved on: what was read is stale.
  bool Collect(std::uint32_t cell, Epoch last, Epoch from, std::vector<Piece>& pieces) const;

  // How many of them a batch takes: at least one, and no more than fit.
  static std::size_t Fitting(const std::vector<Piece>& pieces);
  static std::uint64_t BlocksOf(const std::vector<Piece>& pieces);

  // Writes the bytes of `batch`, which holds `pieces` and follows `before`, to `to`: `blocks`
  // blocks that begin at block number `first`. False if a version does not match its digest. What
  // is read may change meanwhile: the batch's words, looked at afterwards, tell whether it was
  // valid.
  bool Build(const BatchReading& batch, const BatchReading& before,
             const std::vector<Piece>& pieces, std::uint64_t first, std::uint64_t blocks,
             std::byte* to) const;

  // The seal of the segment in which `last` is the last batch, with that chain, for block number
  // `at`. Not read from the batch's cell: once the next segment is there, that may be recycled.
  void BuildSeal(const BatchReading& last, std::uint64_t chain, std::uint64_t at,
                 std::byte* to) const;

 private:
  BatchHeader HeaderOf(std::uint64_t segment, std::uint64_t first, std::uint64_t blocks) const;

  const detail::RegionView& view_;
  const detail::Superblock& super_;
  const bool latest_;
};

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_BATCH_BATCH_H_
