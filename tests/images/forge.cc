#include "tests/images/forge.h"

#include <cstring>
#include <vector>

#include "core/journal/format/format.h"
#include "epoch/detail/platform/digest.h"

namespace epoch::images {

namespace {

using journal::BatchHeader;
using journal::kBlockBytes;
using journal::RecordHeader;
using journal::SegmentHeader;

BatchHeader BatchAt(const Bytes& segment, std::uint64_t block) {
  BatchHeader batch;
  std::memcpy(&batch, segment.data() + block * kBlockBytes, sizeof batch);
  return batch;
}

}  // namespace

Forged Forge(const Bytes& segment, std::uint64_t number) {
  SegmentHeader of;
  std::memcpy(&of, segment.data(), sizeof of);
  const std::uint64_t capacity = segment.size() / kBlockBytes;
  std::vector<std::uint64_t> places;
  for (std::uint64_t at = 1 + journal::BlocksFor(of.base_length_bytes); at < capacity;) {
    const BatchHeader batch = BatchAt(segment, at);
    if (batch.magic != journal::kBatchMagic || batch.crc != journal::BatchHeaderCrc(batch) ||
        batch.blocks == 0 || batch.blocks > capacity - at) {
      break;
    }
    if (batch.records > 0) places.push_back(at);
    at += batch.blocks;
  }
  if (places.empty()) return {};
  Forged forged;
  forged.block = places[number % places.size()];
  BatchHeader batch = BatchAt(segment, forged.block);
  const std::byte* const from = segment.data() + forged.block * kBlockBytes;
  const std::uint64_t limit = batch.blocks * journal::kContentBytes;
  // Its predecessor was another one; all else follows from that.
  batch.previous_chain ^= 0x5eed;
  std::vector<std::pair<RecordHeader, Bytes>> records;
  std::uint64_t offset = sizeof batch;
  std::uint64_t chain = batch.previous_chain;
  for (std::uint64_t i = 0; i < batch.records; ++i) {
    RecordHeader record;
    if (limit - offset < sizeof record) return {};  // torn
    journal::CopyBatchContent(from, of.journal, of.segment, forged.block, offset, &record,
                              sizeof record);
    offset += sizeof record;
    if (record.length_bytes > limit - offset) return {};
    Bytes payload(record.length_bytes);
    journal::CopyBatchContent(from, of.journal, of.segment, forged.block, offset, payload.data(),
                              payload.size());
    offset += journal::Padded(record.length_bytes);
    if (offset > limit) return {};
    if (!payload.empty()) payload.front() ^= std::byte{1};
    record.digest = detail::Digest(payload);
    record.chain = detail::ChainDigest(
        {chain, record.epoch, record.length_bytes, record.digest, record.token, record.kind});
    chain = record.chain;
    records.emplace_back(record, std::move(payload));
  }
  batch.chain = chain;
  batch.crc = journal::BatchHeaderCrc(batch);
  forged.blocks.resize(batch.blocks * kBlockBytes);
  journal::BlockWriter writer(forged.blocks.data(), of.journal, of.segment, forged.block);
  writer.Append(&batch, sizeof batch);
  for (const auto& [record, payload] : records) {
    writer.Append(&record, sizeof record);
    writer.Append(payload.data(), payload.size());
    writer.Skip(journal::Padded(payload.size()) - payload.size());
  }
  writer.FinishBatch();
  return forged;
}

}  // namespace epoch::images
