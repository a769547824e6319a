// What tells one region, one life of it, one journal, one file from another.
#ifndef EPOCH_DETAIL_PLATFORM_IDENTITY_H_
#define EPOCH_DETAIL_PLATFORM_IDENTITY_H_

#include <array>
#include <cstdint>

#include "epoch/detail/platform/needs.h"

namespace epoch::detail {

using Id = std::array<std::uint8_t, 16>;

// Which file it is (files.h). Kept in the file, it tells that file from its copies.
struct FileIdentity {
  std::uint64_t inode;   // 0: not known
  std::int64_t born_ns;  // since 1970; 0: the filesystem does not say
  std::uint64_t volume;
  std::uint64_t filesystem;  // its magic number

  bool operator==(const FileIdentity&) const = default;
};
static_assert(sizeof(FileIdentity) == 32);

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_PLATFORM_IDENTITY_H_
