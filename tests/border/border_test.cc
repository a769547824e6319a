#include "border/border_test.h"

#include <unistd.h>

#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "support/files.h"

namespace epoch::test {
namespace {

const Matrix& Documented() {
  static const Matrix documented = Matrix::Parse(ReadText(EPOCH_ENVIRONMENT_MD));
  return documented;
}

}  // namespace

MemoryDirectory::MemoryDirectory()
    : path_("/dev/shm/epoch.test-" + std::to_string(getpid()) + "-border") {
  std::filesystem::create_directory(path_);
}

MemoryDirectory::~MemoryDirectory() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

void MatrixTest::SetUp() {
  if (const std::string why = WhyNotWatched(); !why.empty()) GTEST_SKIP() << why;
}

bool MatrixTest::Asked(const std::string& name) {
  const char* const only = getenv("EPOCH_BORDER_ONLY");
  return only == nullptr || name.find(only) != std::string::npos;
}

void MatrixTest::Record(const std::string& row, const std::string& detail, const std::string& when,
                        const Operation& operation, const Outcome& outcome) {
  const std::string name = absl::StrCat(detail, detail.empty() ? "" : " ", when);
  if (getenv("EPOCH_BORDER_ONLY") != nullptr) {
    std::cout << row << " " << name << ", " << operation.name << ": " << outcome.what << ": "
              << outcome.message << "\n";
  }
  for (const std::string& fault : outcome.faults) {
    const std::string what =
        absl::StrCat(operation.name, ", ", row, " -> ", outcome.what, ": ", fault);
    faults_[what].push_back(absl::StrCat(name, ": ", outcome.message));
  }
  if (!outcome.faults.empty() || !operation.steady) return;  // nothing for the document
  found_.Add(row, detail, operation.name, outcome.what);
  // For tools/border: which of the outcomes that are right comes of it may hang on how fast the
  // machine is, which a test must not.
  if (row != "nothing" && getenv("EPOCH_BORDER_COMPARE") != nullptr &&
      !Documented().Has(row, detail, operation.name, outcome.what)) {
    faults_[absl::StrCat(operation.name, ", ", row, ": docs/environment.md does not have \"",
                         outcome.what, "\"; tools/border --renew writes what is found")]
        .push_back(absl::StrCat(name, ": ", outcome.message));
  }
}

void MatrixTest::Conclude() {
  std::cout << found_.Text();
  const char* const results = getenv("EPOCH_BORDER_RESULTS");
  if (results != nullptr) std::ofstream(results, std::ios::app) << found_.FullText();
  ConcludeFaults();
}

void MatrixTest::ConcludeFaults() {
  for (const auto& [what, cases] : faults_) {
    ADD_FAILURE() << what << "\n  " << absl::StrJoin(cases, "\n  ");
  }
}

std::string WordsToName(std::string words) {
  for (char& c : words) {
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return words;
}

}  // namespace epoch::test
