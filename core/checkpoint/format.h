// What a rank contributes to a collective commit, and the names in a directory of checkpoints.
//
// A contribution, little-endian, at most kMaxContributionBytes:
//
//    0  1   format: 1
//    1  1   kind: 1 the ranks meet, 2 a rank's part of a manifest
//    2  2   zero
//    4  4   rank
//    8  4   world
//   12  8   step
//   20  8   attempt: the epoch of the collective commit by which these ranks last agreed. For a
//           meeting: the epoch that the rank saw
//   28  1   number of shards, then for each:  name length (1), name, bytes (8), XXH3-128 (16)
//       1   metadata length, then the metadata
//
// Format 2, of a manifest only, where the shards stand in a list; all before is as above:
//
//   28  4   how many shards
//   32  8   bytes of all shards
//   40  8   bytes of the list
//   48 16   XXH3-128 of the list
//   64  1   metadata length, then the metadata
//
// The list, text: "Epoch files, format 1", then a line for each shard, in the order in which they
// became ready: XXH3-128 as 32 digits, bytes in decimal, name.
//
// A directory of checkpoints:
//
//   checkpoints                  its identity: a line of text, and 32 hexadecimal digits
//   manifests/                   the journal whose collective states are the manifests
//   step-<12 digits>-<8 digits>/ a step and an attempt (more digits where needed)
//     ranks                      byte 0 is locked, shared, by everyone who uses the folder
//     rank-<4 digits>/           a rank's shards
//     rank-<4 digits>.files      their list, where the manifest has only its digest
//   .new-......                  such a folder, before it is locked and gets its name
//   pruned/step-...              an empty file: that folder was removed on purpose
#ifndef EPOCH_CORE_CHECKPOINT_FORMAT_H_
#define EPOCH_CORE_CHECKPOINT_FORMAT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "epoch/checkpoint.h"
#include "epoch/detail/memory/layout.h"

namespace epoch::checkpoint {

inline constexpr std::uint32_t kMaxWorld = 256;    // of one machine; bounds the region's size
inline constexpr std::size_t kMaxNameBytes = 100;  // of each part of a name
inline constexpr std::size_t kMaxPathBytes = 1023;
inline constexpr int kMaxDepth = 16;  // folders and file
// A list is read whole: these bound what somebody else's may cost.
inline constexpr std::uint64_t kMaxFiles = 100'000;
inline constexpr std::uint64_t kMaxListBytes = std::uint64_t{16} << 20;

enum class Kind : std::uint8_t { kMeeting = 1, kManifest = 2 };

struct Part {
  Kind kind = Kind::kMeeting;
  std::uint32_t rank = 0;
  std::uint32_t world = 0;
  std::uint64_t step = 0;
  Epoch attempt = 0;
  std::vector<Shard> shards;  // of a manifest only
  std::string metadata;
  std::optional<ShardList> list{};  // of a manifest only, in place of the shards
};

// Whether the shards' names are such as format 1 holds; whether they fit Encode says.
bool NamesArePlain(const std::vector<Shard>& shards);

// OutOfRange if it does not fit, saying by how much.
absl::StatusOr<std::vector<std::byte>> Encode(const Part& part);
// DataLoss; Unimplemented if it is of a later format.
absl::StatusOr<Part> Decode(std::span<const std::byte> bytes);

// The tag of the collective commit: the same in all ranks that may make it together.
std::uint64_t TagOf(const Part& part);

// Whether these parts are one whole: each rank of one world once, all of one step and attempt.
// DataLoss says what does not fit. In rank order.
absl::StatusOr<std::vector<Part>> Assemble(std::vector<Part> parts);

// The parts of a committed state, each by itself. DataLoss if it is no such state.
absl::StatusOr<std::vector<Part>> PartsOf(std::span<const std::byte> state);

// InvalidArgument unless a shard may be called so. None leads out of its folder.
absl::Status CheckShardName(std::string_view name);

// The list of these shards. ResourceExhausted: too many.
absl::StatusOr<std::string> ListText(const std::vector<Shard>& shards);
// The shards of rank `rank` in a list. DataLoss if it is none, word by word.
absl::StatusOr<std::vector<Shard>> ParseList(std::string_view text, std::uint32_t rank);

struct FolderName {
  std::uint64_t step = 0;
  Epoch attempt = 0;
  friend auto operator<=>(const FolderName&, const FolderName&) = default;
};
std::string NameOf(const FolderName& folder);
std::optional<FolderName> ParseFolderName(std::string_view name);
std::string RankFolder(std::uint32_t rank);
std::string ListFile(std::uint32_t rank);
std::string NewListFile(std::uint32_t rank);  // one that is about to replace another

inline constexpr std::string_view kIdentityFile = "checkpoints";
inline constexpr std::string_view kManifestsFolder = "manifests";
inline constexpr std::string_view kPrunedFolder = "pruned";
inline constexpr std::string_view kRanksFile = "ranks";
inline constexpr std::string_view kNewPrefix = ".new-";

}  // namespace epoch::checkpoint

#endif  // EPOCH_CORE_CHECKPOINT_FORMAT_H_
