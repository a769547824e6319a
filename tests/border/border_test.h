// What the tests of both matrices share: a directory in memory, what was found so far, and the
// document that has to say it.
#ifndef EPOCH_TESTS_BORDER_BORDER_TEST_H_
#define EPOCH_TESTS_BORDER_BORDER_TEST_H_

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "border/case.h"
#include "border/matrix.h"

namespace epoch::test {

// A directory in memory, where a case takes milliseconds. What a killed test leaves of it is swept
// as regions are (support/scratch.h).
class MemoryDirectory {
 public:
  MemoryDirectory();
  MemoryDirectory(const MemoryDirectory&) = delete;
  MemoryDirectory& operator=(const MemoryDirectory&) = delete;
  ~MemoryDirectory();
  const std::string& path() const { return path_; }

 private:
  const std::string path_;
};

class MatrixTest : public testing::Test {
 protected:
  void SetUp() override;

  const std::string& memory() const { return memory_.path(); }
  // Whether EPOCH_BORDER_ONLY asks for it, or for nothing in particular.
  static bool Asked(const std::string& name);

  // What came of a case: a row and a detail of the table; `when` is for whoever looks for a fault.
  void Record(const std::string& row, const std::string& detail, const std::string& when,
              const Operation& operation, const Outcome& outcome);
  // Fails for each fault, and for each outcome that docs/environment.md does not have. Writes what
  // it found to EPOCH_BORDER_RESULTS.
  void Conclude();
  void ConcludeFaults();

 private:
  const MemoryDirectory memory_;
  Matrix found_;
  std::map<std::string, std::vector<std::string>> faults_;
};

// As the name of a test.
std::string WordsToName(std::string words);

}  // namespace epoch::test

#endif  // EPOCH_TESTS_BORDER_BORDER_TEST_H_
