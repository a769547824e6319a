#include "core/journal/roll.h"

namespace epoch::journal {

SegmentHeader NextSegment(const detail::RegionView& view, const detail::Superblock& super,
                          const BatchW& last, const BatchE& end, std::vector<std::byte>& base) {
  const detail::VersionCell& cell = view.cells[last.version];
  SegmentHeader header{};
  header.magic = kSegmentMagic;
  header.format_major = kFormatMajor;
  header.format_minor = kFormatMinor;
  header.journal = super.journal;
  header.incarnation = super.incarnation;
  header.segment = end.segment + 1;
  header.block_bytes = kBlockBytes;
  header.history = super.history;
  header.capacity_blocks = super.segment_bytes / kBlockBytes;
  header.base_epoch = last.last;
  header.base_length_bytes = cell.length_bytes.Load(kRelaxed);
  header.base_digest = cell.digest.Load(kRelaxed);
  header.base_chain = cell.chain.Load(kRelaxed);
  header.base_token = cell.token.Load(kRelaxed);
  header.previous_segment = end.segment;
  header.previous_end_block = end.end_block;
  header.previous_last_epoch = last.last;
  header.previous_chain = header.base_chain;
  header.retain_segments = super.retain_segments;
  header.state_bytes = view.geometry.state_bytes;
  header.participants = view.geometry.participants;
  header.versions = view.geometry.versions;
  base.clear();
  if (header.base_length_bytes <= view.geometry.state_bytes) {
    const std::byte* const payload = view.PayloadOf(last.version);
    base.assign(payload, payload + header.base_length_bytes);
  }
  return header;
}

}  // namespace epoch::journal
