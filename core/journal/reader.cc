#include "core/journal/reader.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>

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

class Scanner {
 public:
  Scanner(int fd, const std::string& path, const ScanOptions& options)
      : fd_(fd), options_(options) {
    scan_.path = path;
  }

  absl::StatusOr<SegmentScan> Run() {
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
    if (absl::Status s = ReadBase(); !s.ok()) return s;
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

  // A batch header that is valid, of this journal, incarnation and segment, and at its own place.
  std::optional<BatchHeader> HeaderAt(std::uint64_t block) const {
    BatchHeader b;
    std::memcpy(&b, Block(block), sizeof b);
    const SegmentHeader& h = scan_.header;
    if (b.magic != kBatchMagic || b.crc != BatchHeaderCrc(b) || b.format_major != kFormatMajor ||
        b.journal != h.journal || b.incarnation != h.incarnation || b.segment != h.segment ||
        b.block != block) {
      return std::nullopt;
    }
    return b;
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

absl::StatusOr<SegmentScan> ScanSegmentFile(const std::string& path, const ScanOptions& options) {
  const detail::Fd fd(sys::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd.ok()) return detail::ErrnoStatus(errno, absl::StrCat("can not open ", path));
  return ScanSegment(fd.get(), path, options);
}

absl::StatusOr<JournalScan> ScanJournal(const std::string& directory, ScanOptions options) {
  absl::StatusOr<std::vector<SegmentFile>> files = ListSegments(directory);
  if (!files.ok()) return files.status();
  if (files->empty()) {
    return absl::DataLossError(absl::StrCat(directory, " holds no journal segments"));
  }
  JournalScan journal;
  const auto outer = options.on_damage;
  options.on_damage = [&](const std::string& what) {
    journal.damage.push_back(what);
    if (outer) outer(what);
  };
  for (const SegmentFile& file : *files) {
    journal.bytes += file.bytes;
    absl::StatusOr<SegmentScan> scan = ScanSegmentFile(file.path, options);
    if (!scan.ok()) {
      options.on_damage(std::string(scan.status().message()));
      continue;
    }
    const SegmentHeader& h = scan->header;
    if (h.segment != file.number) {
      options.on_damage(absl::StrCat(file.path, ": holds segment ", h.segment));
    }
    if (!journal.segments.empty()) {
      SegmentScan& before = journal.segments.back();
      if (h.previous_segment != before.header.segment || h.journal != before.header.journal ||
          h.previous_end_block != before.end_block || h.previous_last_epoch != before.epoch ||
          h.previous_chain != before.chain) {
        options.on_damage(absl::StrCat(
            file.path, ": takes over from segment ", h.previous_segment, " at epoch ",
            h.previous_last_epoch, ", block ", h.previous_end_block, ", but segment ",
            before.header.segment, " ends at epoch ", before.epoch, ", block ", before.end_block));
      }
      before.state.clear();
      before.state.shrink_to_fit();
    }
    journal.segments.push_back(*std::move(scan));
  }
  if (!journal.segments.empty()) {
    if (absl::Status s = CheckNewest(journal.segments.back()); !s.ok()) {
      options.on_damage(std::string(s.message()));
    }
  }
  if (journal.segments.empty()) {
    return absl::DataLossError(absl::StrCat(directory, ": no segment can be read: ",
                                            journal.damage.empty() ? "" : journal.damage.front()));
  }
  return journal;
}

}  // namespace epoch::journal
