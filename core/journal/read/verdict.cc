#include "core/journal/read/verdict.h"

#include <algorithm>

#include "epoch/detail/platform/check.h"

namespace epoch::journal {
namespace {

bool Answers(bool found, Asks asked) {
  return asked == Asks::kAny || found == (asked == Asks::kYes);
}

}  // namespace

bool EndCase::Matches(const Evidence& found) const {
  return Answers(found.unreadable, unreadable) && Answers(found.no_beginning, no_beginning) &&
         Answers(found.contradiction, contradiction) && Answers(found.proof, proof) &&
         Answers(found.damaged_block, damaged_block) &&
         Answers(found.newest_is_sealed, newest_is_sealed) && Answers(found.written, written);
}

std::span<const EndCase> EndCases() {
  constexpr Asks n = Asks::kNo, Y = Asks::kYes, any = Asks::kAny;
  // In the order in which evidence is looked for: what is found first says most.
  static constexpr EndCase kCases[] = {
      // clang-format off
      //                                  unreadable
      //                                  |    no beginning
      //                                  |    |    contradiction
      //                                  |    |    |    proof
      //                                  |    |    |    |    damaged block
      //                                  |    |    |    |    |    newest is sealed
      // label     end                loss |   |    |    |    |    |    written
      {"e",      End::kUnreadable,    true,  Y, any, any, any, any, any, any},
      {"d",      End::kNoBeginning,   true,  n,   Y, any, any, any, any, any},
      {"b",      End::kContradiction, true,  n,   n,   Y, any, any, any, any},
      {"a",      End::kProof,         true,  n,   n,   n,   Y, any, any, any},
      {"c",      End::kDamagedBlock,  true,  n,   n,   n,   n,   Y, any, any},
      {"sealed", End::kSealed,        true,  n,   n,   n,   n,   n,   Y, any},
      {"torn",   End::kTorn,          false, n,   n,   n,   n,   n,   n,   Y},
      {"whole",  End::kWhole,         false, n,   n,   n,   n,   n,   n,   n},
      // clang-format on
  };
  return kCases;
}

const EndCase& JudgeEnd(const Evidence& found) {
  const std::span<const EndCase> cases = EndCases();
  const auto row =
      std::find_if(cases.begin(), cases.end(), [&](const EndCase& c) { return c.Matches(found); });
  EPOCH_CHECK(row != cases.end(), "every end of a log is in the table");
  return *row;
}

}  // namespace epoch::journal
