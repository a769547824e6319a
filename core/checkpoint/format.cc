#include "core/checkpoint/format.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <set>

#include "absl/strings/str_cat.h"
#include "epoch/collective.h"
#include "epoch/detail/platform/digest.h"
#include "epoch/detail/platform/printable.h"
#include "epoch/options.h"

namespace epoch::checkpoint {
namespace {

constexpr std::uint8_t kFormat = 1;
constexpr std::uint8_t kListFormat = 2;
constexpr std::size_t kFixedBytes = 28;
constexpr std::size_t kListedBytes = 4 + 8 + 8 + 16;
constexpr std::size_t kShardBytes = 1 + 8 + 16;  // and its name

class Writer {
 public:
  template <typename T>
  void Number(T value) {
    const auto* bytes = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), bytes, bytes + sizeof value);
  }
  void Text(std::string_view text) {
    Number(static_cast<std::uint8_t>(text.size()));
    const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
    bytes_.insert(bytes_.end(), bytes, bytes + text.size());
  }
  std::vector<std::byte> Take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

// Reads what Writer wrote; once it has run out of bytes, everything is zero.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : left_(bytes) {}
  template <typename T>
  T Number() {
    T value{};
    if (Take(sizeof value)) std::memcpy(&value, taken_.data(), sizeof value);
    return value;
  }
  std::string Text() {
    const auto size = Number<std::uint8_t>();
    if (!Take(size)) return "";
    return {reinterpret_cast<const char*>(taken_.data()), size};
  }
  bool ran_out() const { return ran_out_; }
  bool at_end() const { return !ran_out_ && left_.empty(); }

 private:
  bool Take(std::size_t size) {
    ran_out_ = ran_out_ || size > left_.size();
    if (ran_out_) return false;
    taken_ = left_.first(size);
    left_ = left_.subspan(size);
    return true;
  }

  std::span<const std::byte> left_;
  std::span<const std::byte> taken_;
  bool ran_out_ = false;
};

std::string Padded(std::uint64_t number, std::size_t digits) {
  const std::string text = std::to_string(number);
  return text.size() >= digits ? text : std::string(digits - text.size(), '0') + text;
}

// All of `text` as a number that Padded(number, digits) would write.
std::optional<std::uint64_t> ParsePadded(std::string_view text, std::size_t digits) {
  std::uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc{} || stop != end || Padded(number, digits) != text) return std::nullopt;
  return number;
}

constexpr std::string_view kFolderPrefix = "step-";
constexpr std::size_t kStepDigits = 12;
constexpr std::size_t kAttemptDigits = 8;
constexpr std::size_t kRankDigits = 4;

constexpr std::string_view kListLine = "Epoch files, format 1\n";

bool IsDigitOrLetter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// What format 1 calls a name, now and in builds before format 2.
bool IsPlainName(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes && name.front() != '.' &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return IsDigitOrLetter(c) || c == '.' || c == '_' || c == '-'; });
}

// The text up to `end`, which is cut off with it; nothing if there is no end.
std::optional<std::string_view> CutTo(std::string_view& text, char end) {
  const std::size_t at = text.find(end);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view cut = text.substr(0, at);
  text.remove_prefix(at + 1);
  return cut;
}

std::optional<ShardDigest> ParseDigest(std::string_view hex) {
  ShardDigest digest{};
  if (hex.size() != 2 * digest.size()) return std::nullopt;
  for (std::size_t i = 0; i < hex.size(); ++i) {
    const std::size_t value = std::string_view("0123456789abcdef").find(hex[i]);
    if (value == std::string_view::npos) return std::nullopt;
    digest[i / 2] = static_cast<std::uint8_t>((digest[i / 2] << 4 | static_cast<int>(value)));
  }
  return digest;
}

}  // namespace

bool NamesArePlain(const std::vector<Shard>& shards) {
  return std::all_of(shards.begin(), shards.end(),
                     [](const Shard& shard) { return IsPlainName(shard.name); });
}

absl::StatusOr<std::vector<std::byte>> Encode(const Part& part) {
  std::size_t size = kFixedBytes + 1 + part.metadata.size();
  size += part.list.has_value() ? kListedBytes : 1;
  for (const Shard& shard : part.shards) size += kShardBytes + shard.name.size();
  if (size > kMaxContributionBytes) {
    return absl::OutOfRangeError(
        absl::StrCat("rank ", part.rank, ": ", part.shards.size(), " shards with their names, and ",
                     part.metadata.size(), " bytes of metadata, are ", size - kMaxContributionBytes,
                     " bytes more than a manifest has room for: make the metadata a shard"));
  }
  Writer writer;
  writer.Number(part.list.has_value() ? kListFormat : kFormat);
  writer.Number(part.kind);
  writer.Number(std::uint16_t{0});
  writer.Number(part.rank);
  writer.Number(part.world);
  writer.Number(part.step);
  writer.Number(part.attempt);
  if (part.list.has_value()) {
    writer.Number(static_cast<std::uint32_t>(part.list->files));
    writer.Number(part.list->bytes);
    writer.Number(part.list->list_bytes);
    writer.Number(part.list->digest);
  } else {
    writer.Number(static_cast<std::uint8_t>(part.shards.size()));
    for (const Shard& shard : part.shards) {
      writer.Text(shard.name);
      writer.Number(shard.bytes);
      writer.Number(shard.digest);
    }
  }
  writer.Text(part.metadata);
  return writer.Take();
}

absl::StatusOr<Part> Decode(std::span<const std::byte> bytes) {
  Reader reader(bytes);
  const auto format = reader.Number<std::uint8_t>();
  if (!bytes.empty() && format > kListFormat) {
    return absl::UnimplementedError(absl::StrCat("the manifest has format ", int{format},
                                                 ", this build speaks ", int{kListFormat}));
  }
  Part part;
  part.kind = reader.Number<Kind>();
  const auto zero = reader.Number<std::uint16_t>();
  part.rank = reader.Number<std::uint32_t>();
  part.world = reader.Number<std::uint32_t>();
  part.step = reader.Number<std::uint64_t>();
  part.attempt = reader.Number<std::uint64_t>();
  if (format == kListFormat) {
    ShardList list;
    list.rank = part.rank;
    list.files = reader.Number<std::uint32_t>();
    list.bytes = reader.Number<std::uint64_t>();
    list.list_bytes = reader.Number<std::uint64_t>();
    list.digest = reader.Number<ShardDigest>();
    if (part.kind != Kind::kManifest || list.files == 0 || list.files > kMaxFiles ||
        list.list_bytes > kMaxListBytes) {
      return absl::DataLossError("no list of shards");
    }
    part.list = list;
  } else {
    const auto shards = reader.Number<std::uint8_t>();
    for (int i = 0; i < shards && !reader.ran_out(); ++i) {
      Shard shard;
      shard.rank = part.rank;
      shard.name = reader.Text();
      shard.bytes = reader.Number<std::uint64_t>();
      shard.digest = reader.Number<ShardDigest>();
      // Names become paths: whoever wrote this, none leads out of the folder.
      if (!IsPlainName(shard.name)) return absl::DataLossError("no name of a shard");
      part.shards.push_back(std::move(shard));
    }
  }
  part.metadata = reader.Text();
  if (!reader.at_end() || (format != kFormat && format != kListFormat) || zero != 0 ||
      (part.kind != Kind::kMeeting && part.kind != Kind::kManifest) || part.world == 0 ||
      part.world > kMaxWorld || part.rank >= part.world) {
    return absl::DataLossError("no contribution of a rank");
  }
  return part;
}

absl::StatusOr<std::string> ListText(const std::vector<Shard>& shards) {
  std::string text(kListLine);
  for (const Shard& shard : shards) {
    absl::StrAppend(&text, HexOf(shard.digest), " ", shard.bytes, " ", shard.name, "\n");
  }
  if (shards.size() > kMaxFiles || text.size() > kMaxListBytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        shards.size(), " files with their names, ", text.size(), " bytes: a rank has at most ",
        kMaxFiles, " files and ", kMaxListBytes, " bytes of names; use fewer, larger files"));
  }
  return text;
}

absl::StatusOr<std::vector<Shard>> ParseList(std::string_view text, std::uint32_t rank) {
  const auto damaged = [] { return absl::DataLossError("it is not a list of shards"); };
  if (!text.starts_with(kListLine)) return damaged();
  text.remove_prefix(kListLine.size());
  std::vector<Shard> shards;
  std::set<std::string_view> names;
  while (!text.empty()) {
    std::optional<std::string_view> line = CutTo(text, '\n');
    if (!line.has_value()) return damaged();
    const auto digest = CutTo(*line, ' '), bytes = CutTo(*line, ' ');
    if (!digest.has_value() || !bytes.has_value()) return damaged();
    const std::optional<ShardDigest> read = ParseDigest(*digest);
    const std::optional<std::uint64_t> size = ParsePadded(*bytes, 1);
    if (!read.has_value() || !size.has_value() || !CheckShardName(*line).ok() ||
        !names.insert(*line).second || shards.size() >= kMaxFiles) {
      return damaged();
    }
    shards.push_back({rank, std::string(*line), *size, *read});
  }
  return shards;
}

std::uint64_t TagOf(const Part& part) {
  return detail::Xxh64::OfWords(0x434b5054u, kFormat, static_cast<std::uint64_t>(part.kind),
                                part.world, part.step, part.attempt, 0);
}

absl::StatusOr<std::vector<Part>> Assemble(std::vector<Part> parts) {
  if (parts.empty()) return absl::DataLossError("nobody contributed");
  std::stable_sort(parts.begin(), parts.end(),
                   [](const Part& a, const Part& b) { return a.rank < b.rank; });
  const Part& first = parts.front();
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const Part& part = parts[i];
    if (part.kind != first.kind || part.step != first.step || part.attempt != first.attempt ||
        part.world != first.world) {
      return absl::DataLossError(absl::StrCat(
          "a mix: rank ", first.rank, " is in step ", first.step, ", attempt ", first.attempt,
          ", rank ", part.rank, " in step ", part.step, ", attempt ", part.attempt));
    }
    if (i > 0 && part.rank == parts[i - 1].rank) {
      return absl::DataLossError(absl::StrCat("two processes have rank ", part.rank));
    }
    for (std::size_t s = 0; s < part.shards.size(); ++s) {
      for (std::size_t t = 0; t < s; ++t) {
        if (part.shards[s].name != part.shards[t].name) continue;
        return absl::DataLossError(
            absl::StrCat("rank ", part.rank, " names ", part.shards[s].name, " twice"));
      }
    }
  }
  if (parts.size() != first.world) {
    return absl::DataLossError(
        absl::StrCat(parts.size(), " ranks contributed to a world of ", first.world));
  }
  return parts;
}

absl::StatusOr<std::vector<Part>> PartsOf(std::span<const std::byte> state) {
  const absl::StatusOr<std::vector<Contribution>> contributions = ContributionsOf(state);
  if (!contributions.ok()) return contributions.status();
  std::vector<Part> parts;
  for (const Contribution& contribution : *contributions) {
    absl::StatusOr<Part> part = Decode(contribution.bytes);
    if (!part.ok()) return part.status();
    parts.push_back(*std::move(part));
  }
  return parts;
}

absl::Status CheckShardName(std::string_view name) {
  const std::string_view whole = name;
  const auto refuse = [&](std::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat(
        "shard name \"", detail::Shown(whole.substr(0, kMaxNameBytes), '?'), "\" ",
        std::string(why), ": use letters, digits and . _ - = + , @ % :, in folders if need be; ",
        "each part at most ", kMaxNameBytes, " bytes, all of it at most ", kMaxPathBytes, " and ",
        kMaxDepth, " deep"));
  };
  if (name.empty()) return refuse("is empty");
  if (name.size() > kMaxPathBytes) return refuse("is too long");
  int depth = 0;
  for (bool last = false; !last;) {
    const std::size_t slash = name.find('/');
    const std::string_view part = name.substr(0, slash);
    last = slash == std::string_view::npos;
    name.remove_prefix(last ? 0 : slash + 1);
    if (part.empty() || part == "." || part == "..") return refuse("leads elsewhere");
    if (part.size() > kMaxNameBytes) return refuse("is too long");
    if (++depth > kMaxDepth) return refuse("is too deep");
    for (const char c : part) {
      const bool plain =
          IsDigitOrLetter(c) || std::string_view("._-=+,@%:").find(c) != std::string_view::npos;
      if (!plain) return refuse("holds other characters");
    }
  }
  return absl::OkStatus();
}

std::string NameOf(const FolderName& folder) {
  return absl::StrCat(std::string(kFolderPrefix), Padded(folder.step, kStepDigits), "-",
                      Padded(folder.attempt, kAttemptDigits));
}

std::optional<FolderName> ParseFolderName(std::string_view name) {
  if (!name.starts_with(kFolderPrefix)) return std::nullopt;
  name.remove_prefix(kFolderPrefix.size());
  const auto dash = name.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  const auto step = ParsePadded(name.substr(0, dash), kStepDigits);
  const auto attempt = ParsePadded(name.substr(dash + 1), kAttemptDigits);
  if (!step.has_value() || !attempt.has_value()) return std::nullopt;
  return FolderName{*step, *attempt};
}

std::string RankFolder(std::uint32_t rank) {
  return absl::StrCat("rank-", Padded(rank, kRankDigits));
}

std::string ListFile(std::uint32_t rank) { return absl::StrCat(RankFolder(rank), ".files"); }

std::string NewListFile(std::uint32_t rank) { return absl::StrCat(ListFile(rank), ".new"); }

}  // namespace epoch::checkpoint
