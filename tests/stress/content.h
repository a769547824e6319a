// The states of a stress run. Each says who made it from what; the rest is filler that no two
// states share, so that a mixed or torn one has a digest that no draft had.
//
//   | id | previous id | counter | filler derived from the id ...
//
// The id is the serial number of the process that drafted it, and a count: unique in a run.
// `counter` is that of the state it was made from, plus one; 0 if it was made from none.
//
// Contributions to collective commits look the same. What is put together from them has no id but
// the digest of all its bytes; since no two contributions are the same, no two such states are.
#ifndef EPOCH_TESTS_STRESS_CONTENT_H_
#define EPOCH_TESTS_STRESS_CONTENT_H_

#include <xxhash.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "epoch/collective.h"
#include "stress/record.h"

namespace epoch::stress {

struct ContentHead {
  std::uint64_t id = 0;
  std::uint64_t previous = kNothing;
  std::uint64_t counter = 0;
};

constexpr std::uint64_t ContentId(std::uint32_t serial, std::uint32_t count) {
  return (std::uint64_t{serial} << 32) | count;
}

inline std::vector<std::byte> MakeContent(const ContentHead& head, std::size_t size) {
  std::vector<std::byte> bytes(std::max(size, sizeof head));
  std::memcpy(bytes.data(), &head, sizeof head);
  std::uint64_t filler = head.id;
  for (std::size_t at = sizeof head; at < bytes.size(); at += 8) {
    filler = filler * 6364136223846793005u + 1442695040888963407u;
    std::memcpy(bytes.data() + at, &filler, std::min<std::size_t>(8, bytes.size() - at));
  }
  return bytes;
}

inline std::uint64_t DigestOf(std::span<const std::byte> bytes) {
  return bytes.empty() ? 0 : XXH3_64bits(bytes.data(), bytes.size());
}

// The head of a state that was put together, if this looks like one.
inline std::optional<detail::GatheredHeader> GatheredHeaderOf(std::span<const std::byte> bytes) {
  detail::GatheredHeader header{};
  if (bytes.size() < sizeof header) return std::nullopt;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.magic != detail::kGatheredMagic) return std::nullopt;
  return header;
}

// A record's fields about a state, of any bytes.
inline Record Describe(Kind kind, std::span<const std::byte> bytes) {
  Record record{.kind = kind, .digest = DigestOf(bytes)};
  if (bytes.empty()) return record;
  if (GatheredHeaderOf(bytes).has_value()) {
    record.content = record.digest | kCollectiveContent;
    record.detail = kNothing;
    return record;
  }
  ContentHead head{.id = kNothing};  // nobody's
  if (bytes.size() >= sizeof head) std::memcpy(&head, bytes.data(), sizeof head);
  record.content = head.id;
  record.detail = head.previous;
  record.counter = head.counter;
  return record;
}

}  // namespace epoch::stress

#endif  // EPOCH_TESTS_STRESS_CONTENT_H_
