#include "core/journal/read/reader.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <optional>

#include "absl/strings/str_cat.h"
#include "core/journal/read/verdict.h"
#include "epoch/detail/platform/check.h"

namespace epoch::journal {
namespace {

bool AllZero(const std::byte* bytes, std::size_t size) {
  // Equal to itself one byte further on, and the first byte is zero: memcmp's speed.
  return bytes[0] == std::byte{0} && std::memcmp(bytes, bytes + 1, size - 1) == 0;
}

class Scanner {
 public:
  Scanner(int fd, const std::string& path, const ScanOptions& options)
      : fd_(fd), options_(options) {
    scan_.path = path;
  }

  // The header and the base.
  absl::Status Begin() {
    absl::StatusOr<SegmentHeader> header = ReadSegmentHeader(fd_, scan_.path);
    if (!header.ok()) return header.status();
    scan_.header = *header;
    blocks_ = scan_.header.capacity_blocks;
    bytes_ = AlignedBuffer(blocks_ * kBlockBytes);
    if (bytes_.data() == nullptr) return NoMemory();
    constexpr std::uint64_t kPieceBytes = std::uint64_t{4} << 20;
    for (std::uint64_t at = 0; at < bytes_.size(); at += kPieceBytes) {
      const auto part = static_cast<std::size_t>(std::min(kPieceBytes, bytes_.size() - at));
      if (absl::Status s = ReadExactly(fd_, bytes_.data() + at, part, at, scan_.path); !s.ok()) {
        return s;
      }
    }
    return ReadBase();
  }
  const SegmentHeader& header() const { return scan_.header; }
  AlignedBuffer Beginning() const { return CopyOf(0, scan_.end_block); }
  absl::Status NoMemory() const {
    return detail::ErrnoStatus(ENOMEM, absl::StrCat("no memory to read ", scan_.path));
  }

  absl::StatusOr<SegmentScan> Run() {
    if (absl::Status s = Begin(); !s.ok()) return s;
    if (const std::optional<BatchHeader> last = HeaderAt(blocks_ - 1); last.has_value()) {
      scan_.sealed = (last->flags & kBatchSeal) != 0;
    }
    std::uint64_t at = proven_end_ = scan_.end_block;
    while (at < blocks_ - (scan_.sealed ? 1 : 0)) {
      BatchHeader batch;
      const Flaw flaw = CheckBatch(at, batch);
      if (flaw.none()) {
        Accept(at, batch);
        at = scan_.end_block = at + batch.blocks;
        continue;
      }
      absl::Status loss = Judge(at, flaw);
      if (!loss.ok()) {
        if (!options_.on_damage) return loss;
        if (++findings_ <= kMostFindings) options_.on_damage(std::string(loss.message()));
        scan_.damaged = true;
        scan_.torn = false;
        // Go on with the next batch that stands where it says, for what can still be read.
        while (++at < blocks_ && !HeaderAt(at).has_value()) {
        }
        resyncing_ = at < blocks_;
        continue;
      }
      break;
    }
    if (findings_ > kMostFindings) {
      options_.on_damage(
          absl::StrCat(scan_.path, ": ", findings_ - kMostFindings, " more places are damaged"));
    }
    if (options_.keep_unproven && proven_end_ != scan_.end_block) {
      scan_.unproven = CopyOf(proven_end_, scan_.end_block);
      if (scan_.unproven.data() == nullptr) return NoMemory();
    }
    return std::move(scan_);
  }

 private:
  const std::byte* Block(std::uint64_t block) const { return bytes_.data() + block * kBlockBytes; }

  AlignedBuffer CopyOf(std::uint64_t from, std::uint64_t to) const {
    AlignedBuffer copy((to - from) * kBlockBytes);
    if (copy.data() != nullptr) std::memcpy(copy.data(), Block(from), copy.size());
    return copy;
  }

  bool BlockOk(std::uint64_t block) {
    ++scan_.looks;
    return BlockIsSound(scan_.header.journal, scan_.header.segment, block, Block(block));
  }

  absl::Status Loss(std::uint64_t block, const std::string& what) const {
    return absl::DataLossError(absl::StrCat(scan_.path, ": ", what, " (offset ",
                                            block * kBlockBytes, ", behind epoch ", scan_.epoch,
                                            ")"));
  }

  absl::Status ReadBase() {
    const SegmentHeader& h = scan_.header;
    scan_.epoch = h.base_epoch;
    scan_.chain = h.base_chain;
    scan_.token = h.base_token;
    scan_.end_block = 1 + BlocksFor(h.base_length_bytes);
    scan_.looks += scan_.end_block - 1;
    const Flaw flaw = CopyBase(Block(1), h, scan_.state);
    if (flaw.none()) return absl::OkStatus();
    if (flaw.kind != Flaw::Kind::kBlock) return Loss(1, "the base state fails its digest");
    return Loss(flaw.block, absl::StrCat("the base state is damaged in block ", flaw.block));
  }

  std::optional<BatchHeader> HeaderAt(std::uint64_t block) {
    ++scan_.looks;
    return BatchHeaderIn(Block(block), scan_.header, scan_.header.segment, block);
  }
  bool IsZero(std::uint64_t block) {
    ++scan_.looks;
    return AllZero(Block(block), kBlockBytes);
  }

  // None if a whole, consistent batch stands at `block`.
  Flaw CheckBatch(std::uint64_t block, BatchHeader& batch) {
    const std::optional<BatchHeader> found = HeaderAt(block);
    if (!found.has_value()) return {Flaw::Kind::kNoHeader};
    batch = *found;
    const LogEnd end{scan_.epoch, scan_.chain};
    Flaw flaw = HeaderFlaw(batch, block, blocks_, resyncing_ ? nullptr : &end);
    if (!flaw.none()) return flaw;
    if (batch.last_epoch < scan_.epoch) return {Flaw::Kind::kBackwards};
    for (std::uint64_t b = block; b < block + batch.blocks; ++b) {
      // Headers behind damage may claim the same blocks, all of them: each is looked at for one.
      if (scan_.damaged && b != block && HeaderAt(b).has_value()) return {Flaw::Kind::kWithin};
      if (!BlockOk(b)) return {Flaw::Kind::kBlock, b};
    }
    flaw = RecordsFlaw(Block(block), scan_.header, batch, records_);
    if (!flaw.none() || records_.empty()) return flaw;
    const bool sound = CopyState(Block(block), scan_.header, block, records_.back(), newest_);
    return {sound ? Flaw::Kind::kNone : Flaw::Kind::kState};
  }

  void Accept(std::uint64_t block, const BatchHeader& batch) {
    resyncing_ = false;
    ++scan_.batches;
    scan_.records += batch.records;
    if (options_.on_batch) options_.on_batch({batch, block * kBlockBytes});
    if (options_.on_record) {
      std::vector<std::byte> payload;
      for (const LocatedRecord& record : records_) {
        const bool sound = CopyState(Block(block), scan_.header, block, record, payload);
        options_.on_record({record.header, scan_.header.segment, block, sound, payload});
      }
    }
    if (!records_.empty()) {
      scan_.token = records_.back().header.token;
      scan_.state.swap(newest_);
    }
    scan_.epoch = batch.last_epoch;
    scan_.chain = batch.chain;
    // What it hints at was visible when it was frozen, so all up to there was durable. Nothing
    // shows that of a batch without records: its epoch is that of the one before it.
    for (; !unproven_.empty() && unproven_.front().epoch <= batch.durable_hint;
         unproven_.pop_front()) {
      proven_end_ = unproven_.front().end_block;
    }
    if (batch.records != 0) unproven_.push_back({batch.last_epoch, block + batch.blocks});
  }

  // A block that no write that was torn leaves: not a good one, and with no sector of zeros.
  bool IsDamaged(std::uint64_t block) {
    if (IsZero(block) || BlockOk(block)) return false;
    for (std::size_t sector = 0; sector < kBlockBytes; sector += kSectorBytes) {
      if (AllZero(Block(block) + sector, kSectorBytes)) return false;
    }
    return true;
  }

  // OK: what follows was never acknowledged. Otherwise why not. From one call to the next `at`
  // grows, and the epoch never falls: what was not found in front of a place is not there later
  // either, so that all calls together look at each block once.
  absl::Status Judge(std::uint64_t at, const Flaw& flaw) {
    Evidence found;
    found.contradiction = flaw.only_damage();
    if (!found.contradiction) {
      found.written = IsWrittenFrom(at);
      // A proof of loss (a) says more than a damaged block (c), and no option overrides it.
      found.proof = FindProof(at);
    }
    std::uint64_t damaged = blocks_;
    if (!found.contradiction && !found.proof) {
      damaged = FindDamage(at);
      found.damaged_block = damaged != blocks_ && !options_.ignore_block_damage;
    }
    absl::Status block_damage;
    if (damaged != blocks_) {
      block_damage = Loss(damaged, absl::StrCat("block ", damaged,
                                                " is damaged, not torn (no sector of it is "
                                                "unwritten): an acknowledged epoch may be lost"));
    }
    const EndCase& verdict = JudgeEnd(found);
    scan_.torn = verdict.end == End::kTorn;
    switch (verdict.end) {
      case End::kContradiction:
        return Loss(at, absl::StrCat("acknowledged data is damaged: ", flaw.Words()));
      case End::kProof:
        return Loss(at, absl::StrCat("epochs ", scan_.epoch + 1, " to ", proof_hint_,
                                     " were acknowledged and are damaged: ", flaw.Words(),
                                     ", but a batch at offset ", proof_ * kBlockBytes,
                                     " proves that they were durable"));
      case End::kDamagedBlock:
        return block_damage;
      default:
        if (!block_damage.ok() && options_.on_damage) {
          options_.on_damage(std::string(block_damage.message()));
        }
        return absl::OkStatus();
    }
  }

  // Whether anything but zeros stands at `at` or behind it.
  bool IsWrittenFrom(std::uint64_t at) {
    if (!written_end_.has_value()) {
      written_end_ = blocks_ - (scan_.sealed ? 1 : 0);
      while (*written_end_ > at && IsZero(*written_end_ - 1)) --*written_end_;
    }
    return *written_end_ > at;
  }
  // Whether a batch from `at` on hints at more than was read: `proof_` and its hint.
  bool FindProof(std::uint64_t at) {
    for (proof_ = std::max(proof_, at); proof_ < blocks_; ++proof_) {
      const std::optional<BatchHeader> later = HeaderAt(proof_);
      if (!later.has_value() || later->durable_hint <= scan_.epoch) continue;
      proof_hint_ = later->durable_hint;
      return true;
    }
    return false;
  }
  // The first block from `at` on that no torn write leaves; behind the last one if there is none.
  std::uint64_t FindDamage(std::uint64_t at) {
    // A batch header lies in one sector, and sectors are written whole: at the place where one
    // belongs there is nothing, or a header that is valid.
    const bool headless = !AllZero(Block(at), kSectorBytes) && !HeaderAt(at).has_value();
    damage_ = std::max(damage_, at);
    while (!headless && damage_ < blocks_ && !IsDamaged(damage_)) ++damage_;
    return headless ? at : damage_;
  }

  static constexpr std::uint64_t kMostFindings = 100;

  const int fd_;
  const ScanOptions& options_;
  SegmentScan scan_;
  std::uint64_t blocks_ = 0;
  AlignedBuffer bytes_;
  std::vector<LocatedRecord> records_;
  std::vector<std::byte> newest_;
  // The versions that no batch behind them proves, at most as many as may be in flight at a time,
  // and where what is proven ends.
  struct Unproven {
    Epoch epoch;
    std::uint64_t end_block;
  };
  std::deque<Unproven> unproven_;
  std::uint64_t proven_end_ = 0;
  bool resyncing_ = false;
  std::uint64_t findings_ = 0;
  // How far Judge has looked: what is written ends here; the first proof of loss, and the first
  // damaged block, are not before these.
  std::optional<std::uint64_t> written_end_;
  std::uint64_t proof_ = 0, damage_ = 0;
  Epoch proof_hint_ = 0;
};

}  // namespace

bool IsIdle(const SegmentScan& segment) {
  return segment.batches == 0 && !segment.torn && !segment.damaged && !segment.sealed;
}

absl::Status CheckNewest(const SegmentScan& newest) {
  Evidence found;
  found.newest_is_sealed = newest.sealed;
  if (JudgeEnd(found).end != End::kSealed) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      newest.path, " is not the newest segment: it says that segment ", newest.header.segment + 1,
      " took over behind epoch ", newest.epoch, ", and that file is gone"));
}

absl::StatusOr<SegmentScan> ScanSegment(int fd, const std::string& path,
                                        const ScanOptions& options) {
  return Scanner(fd, path, options).Run();
}

absl::StatusOr<SegmentHeader> ReadBeginning(int fd, const std::string& path, AlignedBuffer* bytes) {
  const ScanOptions options;
  Scanner scanner(fd, path, options);
  if (absl::Status s = scanner.Begin(); !s.ok()) return s;
  if (bytes != nullptr) {
    *bytes = scanner.Beginning();
    if (bytes->data() == nullptr) return scanner.NoMemory();
  }
  return scanner.header();
}

absl::StatusOr<bool> HoldsBatches(int fd, const std::string& path, const SegmentHeader& like,
                                  std::uint64_t number, std::uint64_t size_bytes) {
  const std::uint64_t blocks = size_bytes / kBlockBytes;
  constexpr std::uint64_t kPieceBlocks = 256;
  const AlignedBuffer piece(kPieceBlocks * kBlockBytes);
  if (piece.data() == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory to read ", path));
  }
  for (std::uint64_t first = 0; first < blocks; first += kPieceBlocks) {
    const std::uint64_t count = std::min(kPieceBlocks, blocks - first);
    if (absl::Status s =
            ReadExactly(fd, piece.data(), count * kBlockBytes, first * kBlockBytes, path);
        !s.ok()) {
      return s;
    }
    for (std::uint64_t i = 0; i < count; ++i) {
      if (BatchHeaderIn(piece.data() + i * kBlockBytes, like, number, first + i)) return true;
    }
  }
  return false;
}

absl::StatusOr<SegmentScan> ScanSegmentFile(const std::string& path, const ScanOptions& options) {
  const absl::StatusOr<detail::Fd> fd = OpenToRead(path);
  if (!fd.ok()) return fd.status();
  return ScanSegment(fd->get(), path, options);
}

}  // namespace epoch::journal
