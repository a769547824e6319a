// What a collective commit puts together: the parts of all contributors, in slot order, as one
// state.
//
//     0 +----------------------------------+
//       | magic | tag | parts              |
//    24 +----------------------------------+
//       | slot:32 | bytes:32 | generation  |  for each part, then its bytes, padded to 8
//       | ...                              |
//       +----------------------------------+
//
// Nothing read from it is used before it is checked.
#ifndef EPOCH_DETAIL_PROTOCOL_COLLECTIVE_H_
#define EPOCH_DETAIL_PROTOCOL_COLLECTIVE_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "epoch/detail/memory/layout.h"

namespace epoch::detail {

inline constexpr std::uint64_t kGatheredMagic = 0x4c4f43'48434f5045ull;  // "EPOCHCOL", cut to eight

struct GatheredHeader {
  std::uint64_t magic;
  std::uint64_t tag;
  std::uint64_t parts;
};

struct GatheredPart {
  std::uint32_t slot;
  std::uint32_t bytes;
  std::uint64_t generation;
};
static_assert(sizeof(GatheredHeader) == 24 && sizeof(GatheredPart) == 16);

constexpr std::uint64_t GatheredBytes(std::uint64_t bytes) {
  return sizeof(GatheredPart) + ((bytes + 7) & ~std::uint64_t{7});
}

// Calls `visit(part, bytes)` or `visit(part)` for each part until it returns false. False: these
// bytes are no collective state, or one that does not add up; some parts may have been visited.
template <typename Visit>
bool ForEachContribution(std::span<const std::byte> state, Visit&& visit) {
  GatheredHeader header;
  if (state.size() < sizeof header) return false;
  std::memcpy(&header, state.data(), sizeof header);
  if (header.magic != kGatheredMagic) return false;
  std::uint64_t at = sizeof header;
  for (std::uint64_t i = 0; i < header.parts; ++i) {
    GatheredPart part;
    if (state.size() - at < sizeof part) return false;
    std::memcpy(&part, state.data() + at, sizeof part);
    if (part.bytes > kMaxContributionBytes || state.size() - at < GatheredBytes(part.bytes)) {
      return false;
    }
    if constexpr (std::is_invocable_v<Visit, const GatheredPart&, std::span<const std::byte>>) {
      if (!visit(part, state.subspan(at + sizeof part, part.bytes))) return true;
    } else {
      if (!visit(part)) return true;
    }
    at += GatheredBytes(part.bytes);
  }
  return at == state.size();
}

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_PROTOCOL_COLLECTIVE_H_
