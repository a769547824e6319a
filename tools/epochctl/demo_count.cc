#include "tools/epochctl/demo_count.h"

#include <algorithm>
#include <bit>
#include <cctype>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace epoch::ctl::demo {
namespace {

constexpr std::size_t kMaxWordBytes = 63;
constexpr std::size_t kEntryHeadBytes = 5;

std::uint64_t BitmapBytes(std::uint64_t chunks) { return (chunks + 63) / 64 * 8; }

struct Entry {
  std::uint32_t count;
  std::string_view word;
};

// The entry at the front of `bytes`, which is moved on. False if there is none, or half of one.
bool NextEntry(std::span<const std::byte>& bytes, Entry& entry) {
  if (bytes.size() < kEntryHeadBytes) return false;
  std::memcpy(&entry.count, bytes.data(), sizeof entry.count);
  const auto length = std::to_integer<std::size_t>(bytes[4]);
  if (length > bytes.size() - kEntryHeadBytes) return false;
  entry.word = {reinterpret_cast<const char*>(bytes.data()) + kEntryHeadBytes, length};
  bytes = bytes.subspan(kEntryHeadBytes + length);
  return true;
}

void AppendEntry(std::vector<std::byte>& out, std::string_view word, std::uint64_t count) {
  const auto count32 = static_cast<std::uint32_t>(count);
  const auto* head = reinterpret_cast<const std::byte*>(&count32);
  out.insert(out.end(), head, head + sizeof count32);
  out.push_back(static_cast<std::byte>(word.size()));
  const auto* text = reinterpret_cast<const std::byte*>(word.data());
  out.insert(out.end(), text, text + word.size());
}

}  // namespace

void CountWords(std::string_view text, WordCounts& counts) {
  std::string word;
  const auto finish = [&] {
    if (!word.empty()) ++counts[word];
    word.clear();
  };
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 128 && std::isalnum(byte) != 0) {
      if (word.size() < kMaxWordBytes) word += static_cast<char>(std::tolower(byte));
    } else {
      finish();
    }
  }
  finish();
}

absl::StatusOr<Input> LoadInput(const std::string& directory, std::size_t chunk_bytes) {
  std::error_code error;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    std::error_code ignored;
    if (entry.is_regular_file(ignored)) files.push_back(entry.path());
  }
  if (error) {
    return absl::NotFoundError(
        absl::StrCat("cannot read input directory ", directory, ": ", error.message()));
  }
  std::sort(files.begin(), files.end());
  Input input;
  for (const auto& path : files) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
      return absl::PermissionDeniedError(absl::StrCat("cannot read ", path.string()));
    }
    std::ostringstream read;
    read << file.rdbuf();
    input.text += read.str();
    input.text += '\n';
    ++input.files;
  }
  for (std::size_t at = 0; at < input.text.size();) {
    std::size_t end = std::min(at + chunk_bytes, input.text.size());
    while (end < input.text.size() &&
           std::isspace(static_cast<unsigned char>(input.text[end])) == 0) {
      ++end;
    }
    input.chunks.push_back(std::string_view(input.text).substr(at, end - at));
    at = end;
  }
  if (input.chunks.empty()) {
    return absl::NotFoundError(absl::StrCat(directory,
                                            " holds no text to count: name another "
                                            "directory with --input"));
  }
  return input;
}

absl::StatusOr<CountState> CountState::Parse(std::span<const std::byte> bytes,
                                             std::uint64_t chunks) {
  CountState state;
  state.header_.chunks = chunks;
  if (bytes.empty()) return state;
  const std::uint64_t bitmap_bytes = BitmapBytes(chunks);
  const auto torn = [](const char* what) {
    return absl::DataLossError(absl::StrCat("torn state: ", what));
  };
  if (bytes.size() < sizeof(CountHeader) + bitmap_bytes) return torn("too short");
  std::memcpy(&state.header_, bytes.data(), sizeof(CountHeader));
  if (state.header_.chunks != chunks) return torn("wrong number of chunks");
  state.bitmap_ = bytes.subspan(sizeof(CountHeader), bitmap_bytes);
  state.entries_ = bytes.subspan(sizeof(CountHeader) + bitmap_bytes);
  for (const std::byte b : state.bitmap_) {
    state.chunks_folded_ += static_cast<std::uint64_t>(std::popcount(std::to_integer<unsigned>(b)));
  }
  std::uint64_t words = 0, entries = 0;
  std::string_view before;
  Entry entry{};
  for (std::span<const std::byte> rest = state.entries_; !rest.empty(); ++entries) {
    if (!NextEntry(rest, entry)) return torn("half an entry");
    if (entries != 0 && entry.word <= before) return torn("words out of order");
    before = entry.word;
    words += entry.count;
  }
  if (words != state.header_.words) return torn("the counts do not add up");
  if (entries != state.header_.entries) return torn("wrong number of entries");
  return state;
}

WordCounts CountState::Words() const {
  WordCounts counts;
  Entry entry{};
  for (std::span<const std::byte> rest = entries_; NextEntry(rest, entry);) {
    counts.emplace(entry.word, entry.count);
  }
  return counts;
}

std::vector<std::byte> CountState::With(std::uint64_t chunk, const WordCounts& counts) const {
  CountHeader header = header_;
  ++header.folds;
  header.entries = 0;
  const std::uint64_t bitmap_bytes = BitmapBytes(header.chunks);
  std::vector<std::byte> out(sizeof header + bitmap_bytes);
  out.reserve(out.size() + entries_.size() + counts.size() * 16);
  if (!bitmap_.empty()) std::memcpy(out.data() + sizeof header, bitmap_.data(), bitmap_bytes);
  out[sizeof header + chunk / 8] |= std::byte{1} << (chunk % 8);
  // Both sides are sorted: merge.
  std::span<const std::byte> rest = entries_;
  Entry old{};
  bool have_old = NextEntry(rest, old);
  auto add = counts.begin();
  for (; have_old || add != counts.end(); ++header.entries) {
    if (add == counts.end() || (have_old && old.word < add->first)) {
      AppendEntry(out, old.word, old.count);
      have_old = NextEntry(rest, old);
    } else if (!have_old || add->first < old.word) {
      AppendEntry(out, add->first, add->second);
      header.words += add->second;
      ++add;
    } else {
      AppendEntry(out, old.word, old.count + add->second);
      header.words += add->second;
      have_old = NextEntry(rest, old);
      ++add;
    }
  }
  std::memcpy(out.data(), &header, sizeof header);
  return out;
}

std::uint64_t StateBytesFor(const WordCounts& total, std::uint64_t chunks) {
  std::uint64_t bytes = sizeof(CountHeader) + BitmapBytes(chunks);
  for (const auto& [word, count] : total) bytes += kEntryHeadBytes + word.size();
  return bytes;
}

}  // namespace epoch::ctl::demo
