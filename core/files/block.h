// The unit of all that is read and written past the page cache.
#ifndef EPOCH_CORE_FILES_BLOCK_H_
#define EPOCH_CORE_FILES_BLOCK_H_

#include <cstddef>

namespace epoch::journal {

inline constexpr std::size_t kBlockBytes = 4096;

}  // namespace epoch::journal

#endif  // EPOCH_CORE_FILES_BLOCK_H_
