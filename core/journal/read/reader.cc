#include "core/journal/read/reader.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <optional>

#include "absl/strings/str_cat.h"
#include "epoch/detail/platform/digest.h"

namespace epoch::journal {
namespace {

using detail::ChainDigest;
using detail::ChainLink;
using detail::Digest;

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
      std::string flaw = CheckBatch(at, batch);
      if (flaw.empty()) {
        Accept(at, batch);
        at = scan_.end_block = at + batch.blocks;
        continue;
      }
      absl::Status loss = JudgeEnd(at, flaw);
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
    if (proven_end_ != scan_.end_block) {
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
    std::uint32_t crc;
    std::memcpy(&crc, Block(block) + kContentBytes, sizeof crc);
    return crc == BlockCrc(scan_.header.journal, scan_.header.segment, block, Block(block));
  }

  void Copy(std::uint64_t batch, std::uint64_t offset, void* to, std::size_t size) const {
    CopyBatchContent(Block(batch), scan_.header.journal, scan_.header.segment, batch, offset, to,
                     size);
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
    for (std::uint64_t b = 1; b < scan_.end_block; ++b) {
      if (!BlockOk(b)) return Loss(b, absl::StrCat("the base state is damaged in block ", b));
    }
    scan_.state.resize(h.base_length_bytes);
    CopyContent(Block(1), 0, scan_.state.data(), scan_.state.size());
    if (Digest(scan_.state) != h.base_digest) return Loss(1, "the base state fails its digest");
    return absl::OkStatus();
  }

  std::optional<BatchHeader> HeaderAt(std::uint64_t block) {
    ++scan_.looks;
    return BatchHeaderIn(Block(block), scan_.header, scan_.header.segment, block);
  }
  bool IsZero(std::uint64_t block) {
    ++scan_.looks;
    return AllZero(Block(block), kBlockBytes);
  }

  // Empty if a whole, consistent batch stands at `block`; else what is wrong. A flaw that begins
  // with '!' is one that only damage explains.
  std::string CheckBatch(std::uint64_t block, BatchHeader& batch) {
    const std::optional<BatchHeader> found = HeaderAt(block);
    if (!found.has_value()) return "no batch header";
    batch = *found;
    const LogEnd end{scan_.epoch, scan_.chain};
    if (std::string flaw = HeaderFlaw(batch, block, blocks_, resyncing_ ? nullptr : &end);
        !flaw.empty()) {
      return flaw;
    }
    if (batch.last_epoch < scan_.epoch) return "!epochs go back";
    for (std::uint64_t b = block; b < block + batch.blocks; ++b) {
      // Headers behind damage may claim the same blocks, all of them: each is looked at for one.
      if (scan_.damaged && b != block && HeaderAt(b).has_value()) {
        return "!another batch begins within it";
      }
      if (!BlockOk(b)) return absl::StrCat("incomplete batch: block ", b, " fails its CRC");
    }
    std::string flaw = RecordsFlaw(Block(block), scan_.header, batch, records_);
    if (!flaw.empty() || records_.empty()) return flaw;
    const auto& [last, at] = records_.back();
    newest_.resize(last.length_bytes);
    Copy(block, at, newest_.data(), newest_.size());
    return Digest(newest_) == last.digest ? "" : "!the newest state fails its digest";
  }

  void Accept(std::uint64_t block, const BatchHeader& batch) {
    resyncing_ = false;
    ++scan_.batches;
    scan_.records += batch.records;
    if (options_.on_batch) options_.on_batch({batch, block * kBlockBytes});
    if (options_.on_record) {
      std::vector<std::byte> payload;
      for (const auto& [record, at] : records_) {
        payload.resize(record.length_bytes);
        Copy(block, at, payload.data(), payload.size());
        options_.on_record(
            {record, scan_.header.segment, block, Digest(payload) == record.digest, payload});
      }
    }
    if (!records_.empty()) {
      scan_.token = records_.back().header.token;
      scan_.state.swap(newest_);
    }
    scan_.epoch = batch.last_epoch;
    scan_.chain = batch.chain;
    // What it hints at was visible when it was frozen, so all up to there was durable. Nothing shows
    // that of a batch without records: its epoch is that of the one before it.
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
  absl::Status JudgeEnd(std::uint64_t at, const std::string& flaw) {
    if (flaw[0] == '!') {
      return Loss(at, absl::StrCat("acknowledged data is damaged: ", flaw.substr(1)));
    }
    if (!written_end_.has_value()) {
      written_end_ = blocks_ - (scan_.sealed ? 1 : 0);
      while (*written_end_ > at && IsZero(*written_end_ - 1)) --*written_end_;
    }
    if (*written_end_ > at) scan_.torn = true;
    // A proof of loss (a) says more than a damaged block (c), and no option overrides it.
    for (proof_ = std::max(proof_, at); proof_ < blocks_; ++proof_) {
      const std::optional<BatchHeader> later = HeaderAt(proof_);
      if (later.has_value() && later->durable_hint > scan_.epoch) {
        return Loss(at, absl::StrCat("epochs ", scan_.epoch + 1, " to ", later->durable_hint,
                                     " were acknowledged and are damaged: ", flaw,
                                     ", but a batch at offset ", proof_ * kBlockBytes,
                                     " proves that they were durable"));
      }
    }
    // A batch header lies in one sector, and sectors are written whole: at the place where one
    // belongs there is nothing, or a header that is valid.
    const bool headless =
        !AllZero(Block(at), kSectorBytes) && !HeaderAt(at).has_value() && !BlockOk(at);
    damage_ = std::max(damage_, at);
    while (!headless && damage_ < blocks_ && !IsDamaged(damage_)) ++damage_;
    const std::uint64_t damaged = headless ? at : damage_;
    if (damaged == blocks_) return absl::OkStatus();
    absl::Status block_damage =
        Loss(damaged, absl::StrCat("block ", damaged,
                                   " is damaged, not torn (no sector of it is unwritten): an "
                                   "acknowledged epoch may be lost"));
    if (!options_.ignore_block_damage) return block_damage;
    if (options_.on_damage) options_.on_damage(std::string(block_damage.message()));
    return absl::OkStatus();
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
  // How far JudgeEnd has looked: what is written ends here; the first proof of loss, and the first
  // damaged block, are not before these.
  std::optional<std::uint64_t> written_end_;
  std::uint64_t proof_ = 0, damage_ = 0;
};

}  // namespace

bool IsIdle(const SegmentScan& segment) {
  return segment.batches == 0 && !segment.torn && !segment.damaged && !segment.sealed;
}

bool TakesOver(const SegmentHeader& next, const SegmentHeader& before, std::uint64_t end_block,
               const LogEnd& end, bool idle) {
  if (next.journal != before.journal) return false;
  if (next.previous_segment == before.segment) {
    return next.previous_end_block == end_block && next.previous_last_epoch == end.epoch &&
           next.previous_chain == end.chain;
  }
  return idle && next.previous_segment == before.previous_segment &&
         next.previous_end_block == before.previous_end_block &&
         next.previous_last_epoch == before.previous_last_epoch &&
         next.previous_chain == before.previous_chain && next.base_epoch == before.base_epoch &&
         next.base_digest == before.base_digest;
}

std::optional<BatchHeader> BatchHeaderIn(const std::byte* block, const SegmentHeader& of,
                                         std::uint64_t segment, std::uint64_t number) {
  BatchHeader b;
  std::memcpy(&b, block, sizeof b);
  if (b.magic != kBatchMagic || b.crc != BatchHeaderCrc(b) || b.format_major != of.format_major ||
      b.journal != of.journal || b.incarnation != of.incarnation || b.segment != segment ||
      b.block != number) {
    return std::nullopt;
  }
  return b;
}

std::string HeaderFlaw(const BatchHeader& batch, std::uint64_t block, std::uint64_t capacity_blocks,
                       const LogEnd* end) {
  const bool hint_only = (batch.flags & kBatchHintOnly) != 0;
  const bool latest = (batch.flags & kBatchLatest) != 0;
  if (batch.blocks == 0 || batch.blocks > capacity_blocks - block)
    return "!impossible batch length";
  if (batch.last_epoch > kMaxEpoch) return "!impossible batch epochs";
  if (end != nullptr) {
    if (batch.previous_chain != end->chain) return "!the chain does not continue";
    if (batch.first_epoch != end->epoch + 1) return "!epochs do not continue";
  }
  if (hint_only ? batch.records != 0 || batch.last_epoch + 1 != batch.first_epoch
                : batch.last_epoch < batch.first_epoch ||
                      batch.records != (latest ? 1 : batch.last_epoch - batch.first_epoch + 1)) {
    return "!impossible batch epochs";
  }
  return "";
}

std::string RecordsFlaw(const std::byte* blocks, const SegmentHeader& of, const BatchHeader& batch,
                        std::vector<LocatedRecord>& records) {
  records.clear();
  const std::uint64_t limit = batch.blocks * kContentBytes;
  std::uint64_t offset = sizeof(BatchHeader);
  std::uint64_t chain = batch.previous_chain;
  std::uint64_t epoch = (batch.flags & kBatchLatest) != 0 ? batch.last_epoch : batch.first_epoch;
  for (std::uint64_t i = 0; i < batch.records; ++i, ++epoch) {
    RecordHeader r;
    if (limit - offset < sizeof r) return "!records run over the batch";
    CopyBatchContent(blocks, of.journal, of.segment, batch.block, offset, &r, sizeof r);
    offset += sizeof r;
    if (r.length_bytes > limit - offset) return "!a record runs over its batch";
    if (r.epoch != epoch) return "!a record has the wrong epoch";
    const ChainLink link{chain, r.epoch, r.length_bytes, r.digest, r.token, r.kind};
    // Of skipped versions the chain cannot be computed; it is then tied by the header alone.
    if ((batch.flags & kBatchLatest) == 0 && ChainDigest(link) != r.chain) {
      return "!a record breaks the chain";
    }
    chain = r.chain;
    records.push_back({r, offset});
    offset += Padded(r.length_bytes);
    if (offset > limit) return "!records run over the batch";
  }
  if (batch.records != 0 && chain != batch.chain) return "!the batch's chain digest is wrong";
  return "";
}

absl::Status CheckNewest(const SegmentScan& newest) {
  if (!newest.sealed) return absl::OkStatus();
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
