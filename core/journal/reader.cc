#include "core/journal/reader.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "epoch/detail/digest.h"

namespace epoch::journal {
namespace {

using detail::ChainDigest;
using detail::ChainLink;
using detail::Digest;

bool AllZero(const std::byte* bytes, std::size_t size) {
  // Equal to itself one byte further on, and the first byte is zero: memcmp's speed.
  return bytes[0] == std::byte{0} && std::memcmp(bytes, bytes + 1, size - 1) == 0;
}

// The header of a batch if a valid one stands in `block`, of that journal, incarnation and segment,
// and at its own place.
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
    if (bytes_.data() == nullptr) {
      return absl::ResourceExhaustedError(absl::StrCat("no memory to read ", scan_.path));
    }
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

  absl::StatusOr<SegmentScan> Run() {
    if (absl::Status s = Begin(); !s.ok()) return s;
    if (const std::optional<BatchHeader> last = HeaderAt(blocks_ - 1); last.has_value()) {
      scan_.sealed = (last->flags & kBatchSeal) != 0;
    }
    std::uint64_t at = scan_.end_block;
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
        options_.on_damage(std::string(loss.message()));
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
    return std::move(scan_);
  }

 private:
  const std::byte* Block(std::uint64_t block) const { return bytes_.data() + block * kBlockBytes; }

  bool BlockOk(std::uint64_t block) const {
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

  std::optional<BatchHeader> HeaderAt(std::uint64_t block) const {
    return BatchHeaderIn(Block(block), scan_.header, scan_.header.segment, block);
  }

  // Empty if a whole, consistent batch stands at `block`; else what is wrong. A flaw that begins
  // with '!' is one that only damage explains.
  std::string CheckBatch(std::uint64_t block, BatchHeader& batch) {
    const std::optional<BatchHeader> found = HeaderAt(block);
    if (!found.has_value()) return "no batch header";
    batch = *found;
    const bool hint_only = (batch.flags & kBatchHintOnly) != 0;
    const bool latest = (batch.flags & kBatchLatest) != 0;
    if (batch.blocks == 0 || batch.blocks > blocks_ - block) return "!impossible batch length";
    if (batch.last_epoch > detail::kMaxEpoch) return "!impossible batch epochs";
    if (!resyncing_) {
      if (batch.previous_chain != scan_.chain) return "!the chain does not continue";
      if (!hint_only && batch.first_epoch != scan_.epoch + 1) return "!epochs do not continue";
    }
    if (hint_only ? batch.records != 0 || batch.last_epoch + 1 != batch.first_epoch
                  : batch.last_epoch < batch.first_epoch ||
                        batch.records != (latest ? 1 : batch.last_epoch - batch.first_epoch + 1)) {
      return "!impossible batch epochs";
    }
    for (std::uint64_t b = block; b < block + batch.blocks; ++b) {
      if (!BlockOk(b)) return absl::StrCat("incomplete batch: block ", b, " fails its CRC");
    }
    return CheckRecords(block, batch);
  }

  std::string CheckRecords(std::uint64_t block, const BatchHeader& batch) {
    records_.clear();
    const std::uint64_t limit = batch.blocks * kContentBytes;
    std::uint64_t offset = sizeof(BatchHeader);
    std::uint64_t chain = batch.previous_chain;
    std::uint64_t epoch = (batch.flags & kBatchLatest) != 0 ? batch.last_epoch : batch.first_epoch;
    for (std::uint64_t i = 0; i < batch.records; ++i, ++epoch) {
      RecordHeader r;
      if (limit - offset < sizeof r) return "!records run over the batch";
      Copy(block, offset, &r, sizeof r);
      offset += sizeof r;
      if (r.length_bytes > limit - offset) return "!a record runs over its batch";
      if (r.epoch != epoch) return "!a record has the wrong epoch";
      const ChainLink link{chain, r.epoch, r.length_bytes, r.digest, r.token, r.kind};
      // Of skipped versions the chain can not be computed; it is then tied by the header alone.
      if ((batch.flags & kBatchLatest) == 0 && ChainDigest(link) != r.chain) {
        return "!a record breaks the chain";
      }
      chain = r.chain;
      records_.push_back({r, offset});
      offset += Padded(r.length_bytes);
      if (offset > limit) return "!records run over the batch";
    }
    if (batch.records != 0 && chain != batch.chain) return "!the batch's chain digest is wrong";
    if (!records_.empty()) {
      const auto& [last, at] = records_.back();
      newest_.resize(last.length_bytes);
      Copy(block, at, newest_.data(), newest_.size());
      if (Digest(newest_) != last.digest) return "!the newest state fails its digest";
    }
    return "";
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
  }

  // OK: what follows was never acknowledged. Otherwise why not.
  absl::Status JudgeEnd(std::uint64_t at, const std::string& flaw) {
    if (flaw[0] == '!') {
      return Loss(at, absl::StrCat("acknowledged data is damaged: ", flaw.substr(1)));
    }
    const bool headless = !AllZero(Block(at), kSectorBytes) && !HeaderAt(at).has_value();
    // A proof of loss (a) says more than a damaged block (c), and no option overrides it.
    absl::Status block_damage;
    for (std::uint64_t b = at; b < blocks_; ++b) {
      if (AllZero(Block(b), kBlockBytes)) continue;
      const std::optional<BatchHeader> later = HeaderAt(b);
      if (!scan_.sealed || b != blocks_ - 1) scan_.torn = true;
      if (later.has_value() && later->durable_hint > scan_.epoch) {
        return Loss(at, absl::StrCat("epochs ", scan_.epoch + 1, " to ", later->durable_hint,
                                     " were acknowledged and are damaged: ", flaw,
                                     ", but a batch at offset ", b * kBlockBytes,
                                     " proves that they were durable"));
      }
      if (BlockOk(b) || !block_damage.ok()) continue;
      bool torn = false;
      for (std::size_t sector = 0; sector < kBlockBytes; sector += kSectorBytes) {
        torn = torn || AllZero(Block(b) + sector, kSectorBytes);
      }
      // A batch header lies in one sector, and sectors are written whole: at the place where one
      // belongs there is nothing, or a header that is valid.
      if (torn && !(headless && b == at)) continue;
      block_damage = Loss(b, absl::StrCat("block ", b,
                                          " is damaged, not torn (no sector of it is unwritten): "
                                          "an acknowledged epoch may be lost"));
    }
    if (!options_.ignore_block_damage || block_damage.ok()) return block_damage;
    if (options_.on_damage) options_.on_damage(std::string(block_damage.message()));
    return absl::OkStatus();
  }

  struct Located {
    RecordHeader header;
    std::uint64_t offset;
  };

  const int fd_;
  const ScanOptions& options_;
  SegmentScan scan_;
  std::uint64_t blocks_ = 0;
  AlignedBuffer bytes_;
  std::vector<Located> records_;
  std::vector<std::byte> newest_;
  bool resyncing_ = false;
};

}  // namespace

bool IsIdle(const SegmentScan& segment) {
  return segment.batches == 0 && !segment.torn && !segment.damaged && !segment.sealed;
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

absl::StatusOr<SegmentHeader> ReadBeginning(int fd, const std::string& path) {
  const ScanOptions options;
  Scanner scanner(fd, path, options);
  if (absl::Status s = scanner.Begin(); !s.ok()) return s;
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
