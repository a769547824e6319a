// XXH64 (public specification: https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md), written
// here because the headers depend on nothing but Abseil and Boost. Checked against libxxhash in
// tests/unit/digest_test.cc. Not cryptographic: it detects damage and disagreement, not malice.
#ifndef EPOCH_DETAIL_PLATFORM_DIGEST_H_
#define EPOCH_DETAIL_PLATFORM_DIGEST_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "epoch/detail/platform/needs.h"

namespace epoch::detail {

static_assert(std::endian::native == std::endian::little, "Epoch speaks little-endian only");

class Xxh64 {
 public:
  static std::uint64_t Of(const void* data, std::size_t size, std::uint64_t seed = 0) noexcept {
    const auto* p = static_cast<const unsigned char*>(data);
    const unsigned char* const end = p + size;
    std::uint64_t h;
    if (size >= 32) {
      std::uint64_t a = seed + kP1 + kP2, b = seed + kP2, c = seed, d = seed - kP1;
      do {
        a = Round(a, Read64(p));
        b = Round(b, Read64(p + 8));
        c = Round(c, Read64(p + 16));
        d = Round(d, Read64(p + 24));
        p += 32;
      } while (end - p >= 32);
      h = MergeAll(a, b, c, d);
    } else {
      h = seed + kP5;
    }
    h += size;
    for (; end - p >= 8; p += 8) h = Tail(h, Read64(p));
    if (end - p >= 4) {
      h = std::rotl(h ^ (Read32(p) * kP1), 23) * kP2 + kP3;
      p += 4;
    }
    for (; p != end; ++p) h = std::rotl(h ^ (*p * kP5), 11) * kP1;
    return Avalanche(h);
  }

  // Of six words, in registers: as Of() for their 48 bytes.
  static constexpr std::uint64_t OfWords(std::uint64_t seed, std::uint64_t w0, std::uint64_t w1,
                                         std::uint64_t w2, std::uint64_t w3, std::uint64_t w4,
                                         std::uint64_t w5) noexcept {
    const std::uint64_t h = MergeAll(Round(seed + kP1 + kP2, w0), Round(seed + kP2, w1),
                                     Round(seed, w2), Round(seed - kP1, w3));
    return Avalanche(Tail(Tail(h + 48, w4), w5));
  }

 private:
  static constexpr std::uint64_t kP1 = 0x9E3779B185EBCA87u, kP2 = 0xC2B2AE3D27D4EB4Fu,
                                 kP3 = 0x165667B19E3779F9u, kP4 = 0x85EBCA77C2B2AE63u,
                                 kP5 = 0x27D4EB2F165667C5u;

  static std::uint64_t Read64(const unsigned char* p) noexcept {
    std::uint64_t v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  static std::uint64_t Read32(const unsigned char* p) noexcept {
    std::uint32_t v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  static constexpr std::uint64_t Round(std::uint64_t acc, std::uint64_t lane) noexcept {
    return std::rotl(acc + lane * kP2, 31) * kP1;
  }
  static constexpr std::uint64_t Merge(std::uint64_t h, std::uint64_t acc) noexcept {
    return (h ^ Round(0, acc)) * kP1 + kP4;
  }
  static constexpr std::uint64_t MergeAll(std::uint64_t a, std::uint64_t b, std::uint64_t c,
                                          std::uint64_t d) noexcept {
    const std::uint64_t h = std::rotl(a, 1) + std::rotl(b, 7) + std::rotl(c, 12) + std::rotl(d, 18);
    return Merge(Merge(Merge(Merge(h, a), b), c), d);
  }
  static constexpr std::uint64_t Tail(std::uint64_t h, std::uint64_t word) noexcept {
    return std::rotl(h ^ Round(0, word), 27) * kP1 + kP4;
  }
  static constexpr std::uint64_t Avalanche(std::uint64_t h) noexcept {
    h ^= h >> 33;
    h *= kP2;
    h ^= h >> 29;
    h *= kP3;
    return h ^ (h >> 32);
  }
};

inline std::uint64_t Digest(std::span<const std::byte> bytes) noexcept {
  return Xxh64::Of(bytes.data(), bytes.size());
}

// What a version adds to the chain that ties every accepted state to all states before it.
struct ChainLink {
  std::uint64_t previous_chain;
  std::uint64_t epoch;
  std::uint64_t length_bytes;
  std::uint64_t digest;
  std::uint64_t token;
  std::uint64_t kind;
};

// XXH64 of the link's words, the payload digest last: it is known last, and what comes before it is
// computed meanwhile.
constexpr std::uint64_t ChainDigest(const ChainLink& link) noexcept {
  return Xxh64::OfWords(0x45504f4348ull, link.previous_chain, link.epoch, link.length_bytes,
                        link.token, link.kind, link.digest);
}

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_PLATFORM_DIGEST_H_
