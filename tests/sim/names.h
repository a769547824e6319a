// Names and values of a region's words, for traces: "head = Open v2 e7", "slot[1].pin = e7".
#ifndef EPOCH_TESTS_SIM_NAMES_H_
#define EPOCH_TESTS_SIM_NAMES_H_

#include <cstdint>
#include <string>

#include "epoch/detail/layout.h"

namespace epoch::sim::naming {

// Empty if `at` is no word of this region.
std::string NameOfWord(const detail::RegionView& view, const void* at, std::uint64_t value);

}  // namespace epoch::sim::naming

#endif  // EPOCH_TESTS_SIM_NAMES_H_
