// The digest against libxxhash, which has its own code.
#include "epoch/detail/platform/digest.h"

#include <gtest/gtest.h>
#include <xxhash.h>

#include <random>
#include <set>
#include <vector>

namespace epoch::detail {
namespace {

std::vector<unsigned char> RandomBytes(std::size_t size, std::mt19937_64& random) {
  std::vector<unsigned char> bytes(size);
  for (auto& byte : bytes) byte = static_cast<unsigned char>(random());
  return bytes;
}

TEST(Xxh64, agrees_with_libxxhash_at_every_small_size) {
  std::mt19937_64 random(1);
  const auto bytes = RandomBytes(301, random);
  for (std::size_t size = 0; size <= 300; ++size) {
    for (std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{1}, ~std::uint64_t{0}}) {
      ASSERT_EQ(Xxh64::Of(bytes.data(), size, seed), XXH64(bytes.data(), size, seed))
          << "size " << size << " seed " << seed;
    }
  }
}

TEST(Xxh64, agrees_with_libxxhash_on_random_sizes_seeds_and_alignments) {
  std::mt19937_64 random(2);
  const auto bytes = RandomBytes(1 << 17, random);
  for (int round = 0; round < 300; ++round) {
    const std::size_t offset = random() % 64;
    const std::size_t size = random() % (bytes.size() - offset);
    const std::uint64_t seed = random();
    ASSERT_EQ(Xxh64::Of(bytes.data() + offset, size, seed),
              XXH64(bytes.data() + offset, size, seed))
        << "offset " << offset << " size " << size;
  }
}

TEST(Xxh64, agrees_on_no_bytes_at_no_address) {
  EXPECT_EQ(Xxh64::Of(nullptr, 0), XXH64(nullptr, 0, 0));
  EXPECT_EQ(Digest({}), XXH64(nullptr, 0, 0));
}

TEST(ChainDigest, depends_on_every_field) {
  const ChainLink base{1, 2, 3, 4, 5, 6};
  std::set<std::uint64_t> digests{ChainDigest(base)};
  for (auto field : {&ChainLink::previous_chain, &ChainLink::epoch, &ChainLink::length_bytes,
                     &ChainLink::digest, &ChainLink::token, &ChainLink::kind}) {
    ChainLink changed = base;
    changed.*field ^= 1;
    digests.insert(ChainDigest(changed));
  }
  EXPECT_EQ(digests.size(), 7u);
}

}  // namespace
}  // namespace epoch::detail
