// Faults that are known and not mended yet: printed, and no failure. The shorter the better.
#ifndef EPOCH_TESTS_BORDER_KNOWN_H_
#define EPOCH_TESTS_BORDER_KNOWN_H_

#include <string>
#include <vector>

namespace epoch::test {

// `row`, `detail` and `operation` as in the table, each empty for all; `fault` is a part of what is
// found, "it hangs" of what is not even tried.
struct KnownFault {
  std::string row, detail, operation, fault;
};

inline const std::vector<KnownFault>& KnownFaults() {
  static const std::vector<KnownFault> known = {};
  return known;
}

inline bool IsKnown(const std::string& row, const std::string& detail, const std::string& operation,
                    const std::string& fault) {
  for (const KnownFault& known : KnownFaults()) {
    if ((known.row.empty() || known.row == row) &&
        (known.detail.empty() || known.detail == detail) &&
        (known.operation.empty() || operation.find(known.operation) != std::string::npos) &&
        fault.find(known.fault) != std::string::npos) {
      return true;
    }
  }
  return false;
}

inline bool IsKnownToHang(const std::string& row, const std::string& detail,
                          const std::string& operation) {
  return IsKnown(row, detail, operation, "it hangs");
}

}  // namespace epoch::test

#endif  // EPOCH_TESTS_BORDER_KNOWN_H_
