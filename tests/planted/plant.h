// Choosing a bug by its name, for the mains of the programs that have them all.
#ifndef EPOCH_TESTS_PLANTED_PLANT_H_
#define EPOCH_TESTS_PLANTED_PLANT_H_

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "tests/planted/planted.h"

namespace epoch {

// `name` outlives the run; none if it is empty. Ends the process if there is no such bug.
inline void Plant(std::string_view name) {
  static constexpr std::string_view kNames[] = {
#include "planted_names.inc"
  };
  planted = name;
  for (const std::string_view known : kNames) {
    if (name == known || name.empty()) return;
  }
  std::fprintf(stderr, "no bug \"%.*s\" is planted: see tests/planted\n",
               static_cast<int>(name.size()), name.data());
  std::exit(2);
}

}  // namespace epoch

#endif  // EPOCH_TESTS_PLANTED_PLANT_H_
