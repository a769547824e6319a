// A batch that is sound in itself and stands at its own place, but belongs to another history: what
// only the chain gives away.
#ifndef EPOCH_TESTS_IMAGES_FORGE_H_
#define EPOCH_TESTS_IMAGES_FORGE_H_

#include <cstdint>

#include "tests/images/tree.h"

namespace epoch::images {

struct Forged {
  std::uint64_t block = 0;
  Bytes blocks;  // empty: there is no batch
};
// In place of batch `number` of that segment, counted from the first and around.
Forged Forge(const Bytes& segment, std::uint64_t number);

}  // namespace epoch::images

#endif  // EPOCH_TESTS_IMAGES_FORGE_H_
