// Whether a bug is planted in this run. Included in front of everything that is compiled from the
// planted copy of the code, which asks at the place of each bug: Planted("NAME").
#ifndef EPOCH_TESTS_PLANTED_PLANTED_H_
#define EPOCH_TESTS_PLANTED_PLANTED_H_

#include <string_view>

namespace epoch {

// One or none; set before anything else runs.
inline std::string_view planted;

// Not constexpr, with a way out by std::is_constant_evaluated(): `const bool x = Planted("NAME")`
// would be tried as a constant first, and never be true.
inline bool Planted(std::string_view name) { return planted == name; }

}  // namespace epoch

#endif  // EPOCH_TESTS_PLANTED_PLANTED_H_
