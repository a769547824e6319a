// A place in a journal that is read back: on from batch to batch, and from segment to segment,
// while others write, roll and retire.
//
// Thread safety: external. Progress: reads files; waits for nobody.
// Invariants: what is committed is asked before the files are read, so it is in them. A batch
// counts only if it continues the chain from the segment's base on.
#ifndef EPOCH_CORE_JOURNAL_READ_PAST_CURSOR_H_
#define EPOCH_CORE_JOURNAL_READ_PAST_CURSOR_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/files/disk.h"
#include "core/journal/format/format.h"
#include "core/journal/read/batches.h"
#include "core/journal/read/begun.h"
#include "core/journal/read/past.h"
#include "core/journal/read/reader.h"
#include "core/journal/read/restore.h"
#include "core/journal/segment/segment.h"
#include "epoch/detail/platform/files.h"
#include "epoch/detail/platform/seam.h"
#include "epoch/history.h"

namespace epoch::journal {

// A place in the log, which moves on from batch to batch and from segment to segment.
class PastCursor final : public detail::HistoryCursor {
 public:
  // Owns a copy: a reader may outlive the history that it came from.
  PastCursor(const Past& past, Epoch from, Epoch to) : past_(past), from_(from), to_(to) {}

  // To the last segment that begins in front of `from_`.
  absl::Status Begin() {
    constexpr int kMostPasses = 1000;  // each one failed means that a segment was retired
    for (int pass = 0; pass < kMostPasses; ++pass) {
      const absl::StatusOr<std::vector<SegmentFile>> files = List();
      if (!files.ok()) return files.status();
      bool retired = false;
      absl::Status unreadable;
      for (auto file = files->rbegin(); file != files->rend(); ++file) {
        absl::StatusOr<OpenFile> opened = Open(file->path);
        if (absl::IsNotFound(opened.status())) {
          retired = true;
          break;
        }
        // Perhaps it is not needed; if it is, whoever comes to it says what is wrong with it.
        if (absl::IsDataLoss(opened.status())) {
          if (unreadable.ok()) unreadable = opened.status();
          continue;
        }
        if (!opened.ok()) return opened.status();
        if (opened->header.base_epoch < from_) {
          Enter(*std::move(opened));
          return absl::OkStatus();
        }
        if (std::next(file) != files->rend()) continue;
        if (!unreadable.ok()) return unreadable;
        if (opened->header.base_epoch > from_) return Retired(from_, opened->header.base_epoch);
        // The very state that the oldest segment begins with.
        Enter(*std::move(opened));
        base_due_ = true;
        return absl::OkStatus();
      }
      if (!retired) {
        return unreadable.ok() ? absl::DataLossError(
                                     absl::StrCat(past_.directory_, " holds no journal segments"))
                               : unreadable;
      }
    }
    return absl::UnavailableError(absl::StrCat(past_.directory_, ": its segments come and go"));
  }

  absl::StatusOr<std::optional<PastEpoch>> Next() override {
    try {
      return NextEpoch();
    } catch (const std::bad_alloc&) {
      return absl::ResourceExhaustedError(absl::StrCat("no memory for a state of ", file_.path));
    }
  }

  const SegmentHeader& segment() const { return file_.header; }
  // The newest epoch that it has come past, or to.
  Epoch epoch() const { return epoch_; }
  // The last one before the batch that was read last; it was kept, unless it is retired.
  Epoch before() const { return batch_.first_epoch - 1; }

 private:
  struct OpenFile {
    std::string path;
    detail::Fd fd;
    SegmentHeader header;
  };

  // --- segments ----------------------------------------------------------------------------------

  absl::StatusOr<std::vector<SegmentFile>> List() const {
    if (!past_.committed_) {
      absl::StatusOr<std::vector<SegmentFile>> files = ListWithBegun(past_.directory_);
      if (!absl::IsDataLoss(files.status())) return files;
    }
    return ListSegments(past_.directory_);
  }

  absl::StatusOr<OpenFile> Open(const std::string& path) const {
    OpenFile file{path, {}, {}};
    absl::StatusOr<detail::Fd> fd = OpenToRead(path);
    if (!fd.ok()) return fd.status();
    file.fd = *std::move(fd);
    if (absl::Status s = CheckOwners(past_.directory_, file.fd.get(), path, past_.trusted_);
        !s.ok()) {
      return s;
    }
    const absl::StatusOr<SegmentHeader> header = ReadSegmentHeader(file.fd.get(), path);
    if (!header.ok()) return header.status();
    file.header = *header;
    if (past_.journal_.has_value() && header->journal != *past_.journal_) {
      return absl::DataLossError(absl::StrCat(path, " belongs to journal ",
                                              detail::HexOf(header->journal), ", not to ",
                                              detail::HexOf(*past_.journal_)));
    }
    return file;
  }

  void Enter(OpenFile file) {
    file_ = std::move(file);
    at_ = 1 + BlocksFor(file_.header.base_length_bytes);
    epoch_ = file_.header.base_epoch;
    chain_ = file_.header.base_chain;
  }

  absl::Status Retired(Epoch wanted, Epoch oldest) const {
    return absl::NotFoundError(absl::StrCat(
        past_.directory_, ": epoch ", wanted,
        " is not kept any more: its segment was retired; the oldest epoch that is there is ",
        oldest));
  }

  enum class Ahead : std::uint8_t { kThere, kNone };

  // Goes on in the segment behind this one. `flaw`: why it does not go on in this one.
  absl::StatusOr<Ahead> EnterNext(const Flaw& flaw) {
    constexpr int kMostPasses = 1000;  // each one failed means that a segment was retired
    for (int pass = 0; pass < kMostPasses; ++pass) {
      const absl::StatusOr<std::vector<SegmentFile>> files = List();
      if (!files.ok()) return files.status();
      const auto file = std::find_if(
          files->begin(), files->end(),
          [this](const SegmentFile& candidate) { return candidate.number > file_.header.segment; });
      if (file == files->end()) return Ahead::kNone;
      absl::StatusOr<OpenFile> next = Open(file->path);
      if (absl::IsNotFound(next.status())) continue;
      if (!next.ok()) return next.status();
      const SegmentHeader& h = next->header;
      // Beyond what makes it the next one, it goes on from the very state that this one came to.
      const bool idle = at_ == 1 + BlocksFor(file_.header.base_length_bytes);
      if (TakesOver(h, file_.header, at_, {epoch_, chain_}, idle) && h.base_epoch == epoch_ &&
          h.base_chain == chain_) {
        Enter(*std::move(next));
        return Ahead::kThere;
      }
      if (file == files->begin() && h.base_epoch > epoch_) {
        return Retired(epoch_ + 1, h.base_epoch);
      }
      // Of a region that lives: this block may have been written, and the next segment begun, since
      // it was looked at. A segment with a successor changes no more, so one more look tells.
      if (!past_.committed_ && judged_ != std::pair(file_.header.segment, at_)) {
        judged_ = {file_.header.segment, at_};
        return Ahead::kNone;
      }
      return absl::DataLossError(
          absl::StrCat(file_.path, ": its log ends at block ", at_, ", epoch ", epoch_, " (",
                       flaw.Words(), "), but ", next->path, " takes over at block ",
                       h.previous_end_block, ", epoch ", h.previous_last_epoch));
    }
    return absl::UnavailableError(absl::StrCat(past_.directory_, ": its segments come and go"));
  }

  // --- batches -----------------------------------------------------------------------------------

  bool BlockOk(std::uint64_t block, const std::byte* bytes) const {
    return BlockIsSound(file_.header.journal, file_.header.segment, block, bytes);
  }

  // Room for so many blocks in the buffer, of which the first `kept` stay.
  absl::Status Reserve(std::uint64_t blocks, std::uint64_t kept = 0) {
    if (buffer_.size() >= blocks * kBlockBytes) return absl::OkStatus();
    AlignedBuffer larger(blocks * kBlockBytes);
    if (larger.data() == nullptr) {
      return absl::ResourceExhaustedError(absl::StrCat("no memory to read ", file_.path));
    }
    if (kept != 0) std::memcpy(larger.data(), buffer_.data(), kept * kBlockBytes);
    buffer_ = std::move(larger);
    return absl::OkStatus();
  }

  // Reads blocks from number `first` on into the buffer, from its block `at` on; there is room.
  absl::Status ReadBlocks(std::uint64_t first, std::uint64_t blocks, std::uint64_t at = 0) {
    return ReadExactly(file_.fd.get(), buffer_.data() + at * kBlockBytes, blocks * kBlockBytes,
                       first * kBlockBytes, file_.path);
  }

  // The header of the batch at `at_`; its first block is in the buffer then. Else `flaw` is why
  // there is none.
  absl::StatusOr<std::optional<BatchHeader>> ReadHeader(Flaw& flaw) {
    if (at_ >= file_.header.capacity_blocks) {
      flaw = {Flaw::Kind::kFull};
      return std::nullopt;
    }
    if (absl::Status s = Reserve(1); !s.ok()) return s;
    if (absl::Status s = ReadBlocks(at_, 1); !s.ok()) return s;
    const std::optional<BatchHeader> batch =
        BatchHeaderIn(buffer_.data(), file_.header, file_.header.segment, at_);
    const LogEnd end{epoch_, chain_};
    if (!batch.has_value()) {
      flaw = {Flaw::Kind::kNoHeader};
    } else if ((batch->flags & kBatchSeal) != 0) {
      flaw = {Flaw::Kind::kFull};
    } else if (!BlockOk(at_, buffer_.data())) {
      flaw = {Flaw::Kind::kBlock, at_};
    } else {
      flaw = HeaderFlaw(*batch, at_, file_.header.capacity_blocks, &end);
    }
    return flaw.none() ? batch : std::nullopt;
  }

  // The rest of the batch whose first block is in the buffer. `flaw`: why it does not count.
  absl::Status ReadRecords(const BatchHeader& batch, Flaw& flaw) {
    if (absl::Status s = Reserve(batch.blocks, 1); !s.ok()) return s;
    // In pieces: what is not there need not be read to the end of what it claims.
    constexpr std::uint64_t kPieceBlocks = 256;
    for (std::uint64_t i = 1; i < batch.blocks;) {
      const std::uint64_t end = std::min(i + kPieceBlocks, batch.blocks);
      if (absl::Status s = ReadBlocks(at_ + i, end - i, i); !s.ok()) return s;
      for (; i < end; ++i) {
        if (BlockOk(at_ + i, buffer_.data() + i * kBlockBytes)) continue;
        flaw = {Flaw::Kind::kBlock, at_ + i};
        return absl::OkStatus();
      }
    }
    flaw = RecordsFlaw(buffer_.data(), file_.header, batch, records_);
    if (!flaw.none()) records_.clear();
    return absl::OkStatus();
  }

  // Reads the next batch that holds an epoch from `from_` on, if one is committed.
  absl::StatusOr<Ahead> Load() {
    records_.clear();
    next_ = 0;
    for (int stalls = 0;;) {
      // Before the files: what is committed by then is in them.
      const Epoch committed = past_.committed_ ? past_.committed_() : kMaxEpoch;
      if (epoch_ >= committed || epoch_ >= to_) return Ahead::kNone;
      Flaw flaw;
      const absl::StatusOr<std::optional<BatchHeader>> batch = ReadHeader(flaw);
      if (!batch.ok()) return batch.status();
      if (batch->has_value()) {
        // Head passes a batch as a whole.
        if ((*batch)->last_epoch > committed) return Ahead::kNone;
        const bool wanted = (*batch)->records != 0 && (*batch)->last_epoch >= from_;
        if (wanted) {
          try {
            if (absl::Status s = ReadRecords(**batch, flaw); !s.ok()) return s;
          } catch (...) {  // no memory for all of them: none is given out, and it is read again
            records_.clear();
            throw;
          }
        }
        if (flaw.none()) {
          batch_ = **batch;
          at_ += batch_.blocks;
          epoch_ = batch_.last_epoch;
          chain_ = batch_.chain;
          if (wanted) return Ahead::kThere;
          continue;
        }
      }
      // Here this segment's log ends, or is damaged.
      EPOCH_POINT("past.end_seen");
      const absl::StatusOr<Ahead> entered = EnterNext(flaw);
      if (!entered.ok()) return entered.status();
      if (*entered == Ahead::kThere) continue;
      if (past_.committed_) {
        return absl::DataLossError(absl::StrCat(file_.path, ": epochs ", epoch_ + 1, " to ",
                                                committed, " are committed, and cannot be read: ",
                                                flaw.Words(), " (offset ", at_ * kBlockBytes, ")"));
      }
      // As recovery judges the end.
      const absl::StatusOr<SegmentScan> end = Preview(past_.directory_);
      if (!end.ok()) return end.status();
      if (epoch_ >= end->epoch) return Ahead::kNone;
      constexpr int kMostStalls = 10;  // it was being written
      if (++stalls == kMostStalls) {
        return absl::DataLossError(absl::StrCat(file_.path, ": its log ends behind epoch ", epoch_,
                                                ", the journal at ", end->epoch, ": ",
                                                flaw.Words()));
      }
    }
  }

  // --- epochs ------------------------------------------------------------------------------------

  absl::StatusOr<std::optional<PastEpoch>> NextEpoch() {
    if (base_due_) {
      absl::StatusOr<PastEpoch> base = ReadBase();
      if (!base.ok()) return base.status();
      base_due_ = false;
      return *std::move(base);
    }
    for (;;) {
      while (next_ < records_.size()) {
        const LocatedRecord& record = records_[next_];
        if (record.header.epoch > to_) return std::nullopt;
        if (record.header.epoch >= from_) {
          absl::StatusOr<PastEpoch> past = ReadRecord(record);
          if (!past.ok()) return past.status();
          ++next_;
          return *std::move(past);
        }
        ++next_;
      }
      const absl::StatusOr<Ahead> loaded = Load();
      if (!loaded.ok()) return loaded.status();
      if (*loaded == Ahead::kNone) return std::nullopt;
    }
  }

  absl::StatusOr<PastEpoch> ReadRecord(const LocatedRecord& record) const {
    const RecordHeader& r = record.header;
    PastEpoch past;
    past.epoch = r.epoch;
    past.token = r.token;
    past.digest = r.digest;
    past.chain = r.chain;
    const auto proposer = detail::ProposerWord::Unpack(r.proposer);
    past.proposer = PastEpoch::Proposer{proposer.slot, proposer.generation};
    past.ballot = r.ballot;
    past.forced = r.outcome != 0 && detail::OutcomeWord::Unpack(r.outcome).forced;
    past.segment = file_.header.segment;
    past.block = batch_.block;
    if (!CopyState(buffer_.data(), file_.header, batch_.block, record, past.state)) {
      return absl::DataLossError(absl::StrCat(file_.path, ": the state of epoch ", r.epoch,
                                              " does not match its digest (offset ",
                                              batch_.block * kBlockBytes, ")"));
    }
    return past;
  }

  absl::StatusOr<PastEpoch> ReadBase() {
    const SegmentHeader& h = file_.header;
    PastEpoch past;
    past.epoch = h.base_epoch;
    past.token = h.base_token;
    past.digest = h.base_digest;
    past.chain = h.base_chain;
    past.segment = h.segment;
    past.block = 1;
    const std::uint64_t blocks = BlocksFor(h.base_length_bytes);
    if (absl::Status s = Reserve(blocks); !s.ok()) return s;
    if (absl::Status s = ReadBlocks(1, blocks); !s.ok()) return s;
    if (!CopyBase(buffer_.data(), h, past.state).none()) {
      return absl::DataLossError(
          absl::StrCat(file_.path, ": the base state, of epoch ", h.base_epoch, ", is damaged"));
    }
    return past;
  }

  const Past past_;
  const Epoch from_, to_;
  OpenFile file_;
  std::uint64_t at_ = 0;  // the block where the next batch stands
  Epoch epoch_ = 0;       // the last one in front of it
  std::uint64_t chain_ = 0;
  bool base_due_ = false;  // what the segment begins with is what comes next
  std::pair<std::uint64_t, std::uint64_t> judged_{};  // segment and block, not to be waited for
  AlignedBuffer buffer_;
  BatchHeader batch_{};  // the one whose records these are
  std::vector<LocatedRecord> records_;
  std::size_t next_ = 0;
};

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_READ_PAST_CURSOR_H_
