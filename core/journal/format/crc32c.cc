#include "core/journal/format/crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace epoch::journal {
namespace {

constexpr std::uint32_t kPolynomial = 0x82f63b78;  // bits reversed

using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

constexpr Tables MakeTables() {
  Tables tables{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    tables[0][i] = crc;
  }
  for (std::size_t t = 1; t < 8; ++t) {
    for (std::size_t i = 0; i < 256; ++i) {
      tables[t][i] = (tables[t - 1][i] >> 8) ^ tables[0][tables[t - 1][i] & 0xff];
    }
  }
  return tables;
}
constexpr Tables kTables = MakeTables();

#if defined(__x86_64__)
// The instruction takes three cycles, and a new one can begin in each: three parts of the data side
// by side. A block's content is three of these and a word and a half.
constexpr std::size_t kPartBytes = 1360;

// x^(bits - 33) modulo the polynomial, bits reversed: the product without carries of this and a
// checksum, taken as eight more bytes of data, is the checksum behind `bits` zeros. (The product is
// one bit short of 64, and the instruction multiplies by x^32.)
constexpr std::uint32_t BehindZeros(std::size_t bits) {
  std::uint32_t power = 0x8000'0000;
  for (std::size_t i = 33; i < bits; ++i)
    power = (power >> 1) ^ ((power & 1) != 0 ? kPolynomial : 0);
  return power;
}
constexpr std::uint32_t kBehindOne = BehindZeros(8 * kPartBytes);
constexpr std::uint32_t kBehindTwo = BehindZeros(16 * kPartBytes);

std::uint64_t WordAt(const unsigned char* p) {
  std::uint64_t word;
  std::memcpy(&word, p, sizeof word);
  return word;
}

__attribute__((target("sse4.2,pclmul"))) std::uint64_t Multiply(std::uint64_t crc,
                                                                std::uint32_t by) {
  const __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128(static_cast<long long>(crc)),
                                               _mm_cvtsi32_si128(static_cast<int>(by)), 0);
  return _mm_crc32_u64(0, static_cast<std::uint64_t>(_mm_cvtsi128_si64(product)));
}

__attribute__((target("sse4.2,pclmul"))) std::uint32_t Crc32cHardware(const void* data,
                                                                      std::size_t size,
                                                                      std::uint32_t crc) {
  const auto* p = static_cast<const unsigned char*>(data);
  std::uint64_t state = static_cast<std::uint32_t>(~crc);
  for (; size >= 3 * kPartBytes; size -= 3 * kPartBytes, p += 3 * kPartBytes) {
    std::uint64_t second = 0, third = 0;
    for (std::size_t at = 0; at < kPartBytes; at += 8) {
      state = _mm_crc32_u64(state, WordAt(p + at));
      second = _mm_crc32_u64(second, WordAt(p + kPartBytes + at));
      third = _mm_crc32_u64(third, WordAt(p + 2 * kPartBytes + at));
    }
    state = Multiply(state, kBehindTwo) ^ Multiply(second, kBehindOne) ^ third;
  }
  for (; size >= 8; size -= 8, p += 8) state = _mm_crc32_u64(state, WordAt(p));
  auto low = static_cast<std::uint32_t>(state);
  for (; size > 0; --size, ++p) low = _mm_crc32_u8(low, *p);
  return ~low;
}
#endif

}  // namespace

std::uint32_t Crc32cPortable(const void* data, std::size_t size, std::uint32_t crc) {
  const auto* p = static_cast<const unsigned char*>(data);
  crc = ~crc;
  for (; size >= 8; size -= 8, p += 8) {
    std::uint64_t word;
    std::memcpy(&word, p, sizeof word);
    word ^= crc;
    crc = 0;
    for (std::size_t byte = 0; byte < 8; ++byte)
      crc ^= kTables[7 - byte][(word >> (8 * byte)) & 0xff];
  }
  for (; size > 0; --size, ++p) crc = (crc >> 8) ^ kTables[0][(crc ^ *p) & 0xff];
  return ~crc;
}

std::uint32_t Crc32c(const void* data, std::size_t size, std::uint32_t crc) {
#if defined(__x86_64__)
  static const bool hardware =
      __builtin_cpu_supports("sse4.2") != 0 && __builtin_cpu_supports("pclmul") != 0;
  if (hardware) return Crc32cHardware(data, size, crc);
#endif
  return Crc32cPortable(data, size, crc);
}

}  // namespace epoch::journal
