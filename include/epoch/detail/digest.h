// XXH64 (public specification: https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md), written
// here because the headers depend on nothing but Abseil and Boost. Checked against libxxhash in
// tests/unit/digest_test.cc. Not cryptographic: it detects damage and disagreement, not malice.
#ifndef EPOCH_DETAIL_DIGEST_H_
#define EPOCH_DETAIL_DIGEST_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

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
      h = std::rotl(a, 1) + std::rotl(b, 7) + std::rotl(c, 12) + std::rotl(d, 18);
      h = Merge(Merge(Merge(Merge(h, a), b), c), d);
    } else {
      h = seed + kP5;
    }
    h += size;
    for (; end - p >= 8; p += 8) h = std::rotl(h ^ Round(0, Read64(p)), 27) * kP1 + kP4;
    if (end - p >= 4) {
      h = std::rotl(h ^ (Read32(p) * kP1), 23) * kP2 + kP3;
      p += 4;
    }
    for (; p != end; ++p) h = std::rotl(h ^ (*p * kP5), 11) * kP1;
    h ^= h >> 33;
    h *= kP2;
    h ^= h >> 29;
    h *= kP3;
    return h ^ (h >> 32);
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
static_assert(sizeof(ChainLink) == 48);

inline std::uint64_t ChainDigest(const ChainLink& link) noexcept {
  return Xxh64::Of(&link, sizeof link, 0x45504f4348ull);
}

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_DIGEST_H_
