#include "border/matrix.h"

#include <algorithm>
#include <climits>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "border/errnos.h"

namespace epoch::test {
namespace {

constexpr char kOthers[] = "all others";
constexpr char kAll[] = "all";
constexpr char kOr[] = " or ";

std::vector<std::string> Split(const std::string& text, const std::string& at) {
  std::vector<std::string> parts = absl::StrSplit(text, at);
  for (std::string& part : parts) absl::StripAsciiWhitespace(&part);
  return parts;
}

std::string Quoted(const std::string& name) {
  return name.empty() ? "" : absl::StrCat("`", name, "`");
}
std::string Unquoted(std::string text) {
  text.erase(std::remove(text.begin(), text.end(), '`'), text.end());
  return text;
}

// "PermissionDenied: create, open; as if nothing: all others".
std::string Summary(const std::map<std::string, Matrix::Outcomes>& by_operation, bool full) {
  std::map<std::string, std::vector<std::string>> by_outcome;
  for (const auto& [operation, outcomes] : by_operation) {
    by_outcome[absl::StrJoin(outcomes, kOr)].push_back(operation);
  }
  if (by_outcome.size() == 1 && !full) return absl::StrCat(by_outcome.begin()->first, ": ", kAll);
  const auto most = std::max_element(
      by_outcome.begin(), by_outcome.end(),
      [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
  std::vector<std::string> parts;
  for (const auto& [outcome, operations] : by_outcome) {
    if (outcome == most->first && !full) continue;
    parts.push_back(absl::StrCat(outcome, ": ", absl::StrJoin(operations, ", ")));
  }
  if (!full) parts.push_back(absl::StrCat(most->first, ": ", kOthers));
  return absl::StrJoin(parts, "; ");
}

}  // namespace

std::vector<Denial> DenialsFor(const std::map<int, int>& calls) {
  std::vector<Denial> denials;
  for (const auto& [call, count] : calls) {
    const CallRow* row = RowOf(call);
    if (row == nullptr) continue;  // another test says so
    for (const int error : row->errors) {
      for (const int nth : {1, 2, 5}) {
        if (nth <= count) denials.push_back({call, error, nth, nth});
      }
      if (!IsPassing(error)) denials.push_back({call, error, 1, INT_MAX});
    }
  }
  return denials;
}

std::string CallName(const Denial& denial) { return RowOf(denial.call)->name; }

std::string When(const Denial& denial) {
  return denial.last == INT_MAX ? "always" : absl::StrCat("#", denial.first);
}

Matrix::Outcomes Matrix::AllOutcomes() const {
  Outcomes all;
  for (const auto& [row, details] : cells_) {
    for (const auto& [detail, operations] : details) {
      for (const auto& [operation, outcomes] : operations) {
        all.insert(outcomes.begin(), outcomes.end());
      }
    }
  }
  return all;
}

Matrix Matrix::Calls() const {
  Matrix calls = *this;
  std::erase_if(calls.cells_, [](const auto& row) { return RowOf(row.first) == nullptr; });
  return calls;
}

Matrix Matrix::Conditions() const {
  Matrix conditions = *this;
  std::erase_if(conditions.cells_, [](const auto& row) { return RowOf(row.first) != nullptr; });
  return conditions;
}

bool Matrix::Has(const std::string& row, const std::string& detail, const std::string& operation,
                 const std::string& outcome) const {
  const auto details = cells_.find(row);
  if (details == cells_.end()) return false;
  const auto operations = details->second.find(detail);
  if (operations == details->second.end()) return false;
  for (const std::string& name : {operation, std::string(kOthers), std::string(kAll)}) {
    const auto outcomes = operations->second.find(name);
    if (outcomes != operations->second.end()) return outcomes->second.contains(outcome);
  }
  return false;
}

std::string Matrix::TextOf(bool full) const {
  std::string text;
  for (const auto& [row, details] : cells_) {
    std::map<std::string, std::vector<std::string>> alike;  // by what came of it
    for (const auto& [detail, operations] : details) {
      alike[Summary(operations, full)].push_back(Quoted(detail));
    }
    for (const auto& [summary, names] : alike) {
      absl::StrAppend(&text, "| ", Quoted(row), " | ", absl::StrJoin(names, ", "), " | ", summary,
                      " |\n");
    }
  }
  return text;
}

Matrix Matrix::Parse(const std::string& document) {
  Matrix matrix;
  for (const std::string& line : Split(document, "\n")) {
    const std::vector<std::string> columns = Split(line, "|");
    if (columns.size() != 5 || !columns[1].starts_with('`')) continue;
    for (const std::string& detail : Split(columns[2], ",")) {
      for (const std::string& part : Split(columns[3], ";")) {
        const std::vector<std::string> sides = Split(part, ": ");
        if (sides.size() != 2) continue;
        for (const std::string& operation : Split(sides[1], ",")) {
          for (const std::string& outcome : Split(sides[0], kOr)) {
            matrix.Add(Unquoted(columns[1]), Unquoted(detail), operation, outcome);
          }
        }
      }
    }
  }
  return matrix;
}

}  // namespace epoch::test
