#include "tests/images/judge.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "core/journal/format/format.h"

namespace epoch::images {

namespace {

using journal::BatchHeader;
using journal::kBlockBytes;
using journal::SegmentHeader;

std::optional<BatchHeader> HeaderAt(const Bytes& segment, const SegmentHeader& of,
                                    std::uint64_t block) {
  BatchHeader header;
  std::memcpy(&header, segment.data() + block * kBlockBytes, sizeof header);
  if (header.magic != journal::kBatchMagic || header.crc != journal::BatchHeaderCrc(header) ||
      header.journal != of.journal || header.incarnation != of.incarnation ||
      header.segment != of.segment || header.block != block) {
    return std::nullopt;
  }
  return header;
}

bool BlockOk(const Bytes& segment, const SegmentHeader& of, std::uint64_t block) {
  const std::byte* at = segment.data() + block * kBlockBytes;
  std::uint32_t crc;
  std::memcpy(&crc, at + journal::kContentBytes, sizeof crc);
  return crc == journal::BlockCrc(of.journal, of.segment, block, at);
}

// The incarnation whose order the recovered state belongs to; null: none.
const Order* OrderOf(const Recording& recording, const Recovered& found) {
  const auto& all = recording.incarnations;
  for (auto order = all.rbegin(); order != all.rend(); ++order) {
    if (order->size() <= found.epoch) continue;
    const Version& version = (*order)[found.epoch];
    // The chain digest ties it to all before it.
    if (version.chain == found.version.chain && version.token == found.version.token &&
        version.state == found.version.state) {
      return &*order;
    }
  }
  // A journal that was made, and its maker died before there was a region.
  static const Order* const origin = new Order(1);
  const Version& first = found.version;
  return found.epoch == 0 && first.chain == 0 && first.state.empty() ? origin : nullptr;
}

}  // namespace

bool AllZero(const std::byte* at, std::size_t size) {
  return at[0] == std::byte{0} && std::memcmp(at, at + 1, size - 1) == 0;
}

bool CutIsDocumented(const Bytes& before, const Bytes& after, std::uint64_t epoch) {
  SegmentHeader of;
  std::memcpy(&of, before.data(), sizeof of);
  const std::uint64_t blocks = before.size() / kBlockBytes;
  // Where the log of the image ends: at its first batch that is not as it was.
  std::uint64_t cut = 1 + journal::BlocksFor(of.base_length_bytes);
  while (cut < blocks) {
    const std::optional<BatchHeader> batch = HeaderAt(before, of, cut);
    if (!batch.has_value() || batch->blocks == 0 || batch->blocks > blocks - cut) break;
    const std::size_t at = cut * kBlockBytes;
    if (std::memcmp(before.data() + at, after.data() + at, batch->blocks * kBlockBytes) != 0) break;
    cut += batch->blocks;
  }
  for (std::uint64_t block = cut; block < blocks; ++block) {
    const std::byte* at = after.data() + block * kBlockBytes;
    const std::optional<BatchHeader> header = HeaderAt(after, of, block);
    if (header.has_value() && header->durable_hint > epoch) return false;
    if (AllZero(at, kBlockBytes) || BlockOk(after, of, block)) continue;
    bool unwritten = false;
    for (std::size_t sector = 0; sector < kBlockBytes; sector += kSector) {
      unwritten = unwritten || AllZero(at + sector, kSector);
    }
    if (!unwritten) return false;
    if (block == cut && !AllZero(at, kSector) && !header.has_value()) return false;
  }
  return true;
}

Judgement Judge(const Recording& recording, const Acknowledged& acknowledged,
                const Damage& damage) {
  const bool damaged = !damage.what.empty();
  Recovered found = Recover(recording.setup);
  if (!found.ok) {
    if (found.no_journal && acknowledged.incarnation < 0) return {Verdict::kGood, ""};
    if (damaged && found.reported) return {Verdict::kReported, ""};
    return {Verdict::kLost, "recovery refuses: " + found.message};
  }
  const Order* order = OrderOf(recording, found);
  if (order == nullptr) {
    return {Verdict::kTorn, "epoch " + std::to_string(found.epoch) +
                                " is recovered with a state that was never accepted"};
  }
  ForgetRegion();
  const Recovered again = Recover(recording.setup);
  if (!again.ok || again.epoch != found.epoch || again.version.chain != found.version.chain ||
      again.version.state != found.version.state) {
    return {Verdict::kTorn,
            "the second recovery gives " +
                (again.ok ? "epoch " + std::to_string(again.epoch) : again.message) +
                " after epoch " + std::to_string(found.epoch)};
  }
  if (acknowledged.incarnation < 0) return {Verdict::kGood, ""};
  const Order& promised =
      recording.incarnations[static_cast<std::size_t>(acknowledged.incarnation)];
  if (found.epoch >= acknowledged.epoch &&
      (*order)[acknowledged.epoch].chain == promised[acknowledged.epoch].chain) {
    return {Verdict::kGood, ""};
  }
  if (damage.newest_gone ||
      (damaged && CutIsDocumented(damage.before, damage.after, found.epoch))) {
    return {Verdict::kUndetected, ""};
  }
  return {Verdict::kLost, "epoch " + std::to_string(acknowledged.epoch) +
                              " was acknowledged, but recovery ends at " +
                              std::to_string(found.epoch)};
}

}  // namespace epoch::images
