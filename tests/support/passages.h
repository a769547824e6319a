// Places where a test kills or stops a process: the n-th time that it passes a labelled point.
#ifndef EPOCH_TESTS_SUPPORT_PASSAGES_H_
#define EPOCH_TESTS_SUPPORT_PASSAGES_H_

#include <algorithm>
#include <ostream>
#include <string>

namespace epoch::test {

// Suites that have to say more about the way there derive from it.
struct Passage {
  std::string label;
  int nth;  // which passing of it
};

inline std::ostream& operator<<(std::ostream& out, const Passage& p) {
  return out << p.label << " #" << p.nth;
}

// Of letters, digits and '_', as the name of a test is.
inline std::string TestName(std::string name) {
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}
inline std::string TestName(const Passage& p) {
  return TestName(p.label + "_" + std::to_string(p.nth));
}

}  // namespace epoch::test

#endif  // EPOCH_TESTS_SUPPORT_PASSAGES_H_
