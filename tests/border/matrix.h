// What came of every operation, as a table for docs/environment.md: which cases there are, the
// table written, and read again.
#ifndef EPOCH_TESTS_BORDER_MATRIX_H_
#define EPOCH_TESTS_BORDER_MATRIX_H_

#include <map>
#include <set>
#include <string>
#include <vector>

#include "border/supervisor.h"

namespace epoch::test {

// The cases of an operation that makes these calls: each call, with each of its errors, denied the
// first, the second, the fifth time, and always.
std::vector<Denial> DenialsFor(const std::map<int, int>& calls);

// "openat", "EACCES" and "#2", or "always".
std::string CallName(const Denial& denial);
std::string When(const Denial& denial);

// A row of it is a thing that stands in the way, such as a call; its details, such as errors, that
// have the same effect on all operations share a line.
class Matrix {
 public:
  using Outcomes = std::set<std::string>;

  void Add(const std::string& row, const std::string& detail, const std::string& operation,
           const std::string& outcome) {
    cells_[row][detail][operation].insert(outcome);
  }
  // Whether that is an outcome that the table knows.
  bool Has(const std::string& row, const std::string& detail, const std::string& operation,
           const std::string& outcome) const;

  // In Markdown. Every line: | `row` | `detail`, `detail` | outcome: operations; outcome: others |.
  std::string Text() const { return TextOf(false); }
  // The same, with all operations by name: to be put together with others.
  std::string FullText() const { return TextOf(true); }
  // What comes of anything, of any operation.
  Outcomes AllOutcomes() const;
  // The rows that are calls, and the others.
  Matrix Calls() const;
  Matrix Conditions() const;
  // All lines of that form in `document`.
  static Matrix Parse(const std::string& document);

 private:
  std::string TextOf(bool full) const;

  std::map<std::string, std::map<std::string, std::map<std::string, Outcomes>>> cells_;
};

}  // namespace epoch::test

#endif  // EPOCH_TESTS_BORDER_MATRIX_H_
