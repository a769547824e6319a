// The demo's work: cut text into chunks, count the words of a chunk, and keep the running count in
// a flat state that can be merged, checked and compared.
//
//   CountHeader | one bit per chunk: folded in | entries, sorted by word: u32 count, u8 length,
//   word
#ifndef EPOCH_TOOLS_EPOCHCTL_DEMO_COUNT_H_
#define EPOCH_TOOLS_EPOCHCTL_DEMO_COUNT_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace epoch::ctl::demo {

using WordCounts = std::map<std::string, std::uint64_t, std::less<>>;

// A word is a run of ASCII letters and digits, in lower case, at most 63 bytes.
void CountWords(std::string_view text, WordCounts& counts);

// The text of all regular files in a directory, cut at white space into chunks of about
// `chunk_bytes`. Every process that does this gets the same chunks.
struct Input {
  std::string text;
  std::vector<std::string_view> chunks;
  std::size_t files = 0;
};
absl::StatusOr<Input> LoadInput(const std::string& directory, std::size_t chunk_bytes);

struct CountHeader {
  std::uint64_t chunks;   // how many there are
  std::uint64_t folds;    // transitions that folded a chunk in
  std::uint64_t words;    // sum of all counts
  std::uint64_t entries;  // distinct words
};

// A state as bytes. Empty bytes are the state before the first fold.
class CountState {
 public:
  // DataLoss if the bytes contradict themselves: a torn read would.
  static absl::StatusOr<CountState> Parse(std::span<const std::byte> bytes, std::uint64_t chunks);

  const CountHeader& header() const { return header_; }
  bool folded(std::uint64_t chunk) const {
    return !bitmap_.empty() && (bitmap_[chunk / 8] >> (chunk % 8) & std::byte{1}) != std::byte{0};
  }
  std::uint64_t chunks_folded() const { return chunks_folded_; }
  WordCounts Words() const;

  // The bytes of this state with `chunk` folded in.
  std::vector<std::byte> With(std::uint64_t chunk, const WordCounts& counts) const;

 private:
  CountHeader header_{};
  std::uint64_t chunks_folded_ = 0;
  std::span<const std::byte> bitmap_;
  std::span<const std::byte> entries_;
};

// The largest state that counting `total` in `chunks` chunks can need, bytes.
std::uint64_t StateBytesFor(const WordCounts& total, std::uint64_t chunks);

}  // namespace epoch::ctl::demo

#endif  // EPOCH_TOOLS_EPOCHCTL_DEMO_COUNT_H_
