// The table that says what the end of a log means (docs/journal.md, "The end of the log").
#include "core/journal/read/verdict.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <iterator>
#include <set>
#include <string>

#include "core/journal/read/batches.h"

namespace epoch::test {
namespace {

using journal::End;
using journal::EndCase;
using journal::Evidence;
using journal::Flaw;

constexpr bool Evidence::*kEvidence[] = {&Evidence::unreadable,    &Evidence::no_beginning,
                                         &Evidence::contradiction, &Evidence::proof,
                                         &Evidence::damaged_block, &Evidence::newest_is_sealed,
                                         &Evidence::written};
static_assert(sizeof(Evidence) == std::size(kEvidence), "each piece of evidence is here");

TEST(VerdictTest, EachEndOfALogMatchesExactlyOneRow) {
  std::set<std::string> matched;
  for (unsigned bits = 0; bits < 1u << std::size(kEvidence); ++bits) {
    Evidence found;
    for (std::size_t i = 0; i < std::size(kEvidence); ++i) {
      found.*kEvidence[i] = (bits >> i & 1) != 0;
    }
    std::set<std::string> labels;
    for (const EndCase& row : journal::EndCases()) {
      if (row.Matches(found)) labels.insert(row.label);
    }
    ASSERT_EQ(labels.size(), 1u) << "evidence " << bits << ": " << testing::PrintToString(labels);
    EXPECT_EQ(journal::JudgeEnd(found).label, *labels.begin());
    matched.insert(*labels.begin());
  }
  EXPECT_THAT(matched, testing::ElementsAre("a", "b", "c", "d", "e", "sealed", "torn", "whole"));
  EXPECT_EQ(matched.size(), journal::EndCases().size()) << "each row is matched by something";
}

TEST(VerdictTest, WhatIsFoundFirstSaysMost) {
  // Each piece of evidence with all that come behind it, and none before.
  const End in_order[] = {End::kUnreadable,   End::kNoBeginning, End::kContradiction, End::kProof,
                          End::kDamagedBlock, End::kSealed,      End::kTorn};
  static_assert(std::size(in_order) == std::size(kEvidence));
  Evidence found;
  EXPECT_EQ(journal::JudgeEnd(found).end, End::kWhole);
  for (std::size_t i = std::size(in_order); i-- > 0;) {
    found.*kEvidence[i] = true;
    EXPECT_EQ(journal::JudgeEnd(found).end, in_order[i]);
  }
}

TEST(VerdictTest, OnlyWhatNobodyWasToldOfIsCut) {
  for (const EndCase& row : journal::EndCases()) {
    EXPECT_EQ(row.loss, row.end != End::kTorn && row.end != End::kWhole) << row.label;
  }
}

TEST(VerdictTest, EachFlawHasWordsOfItsOwn) {
  std::set<std::string> words;
  int torn = 0;
  const auto last = static_cast<int>(Flaw::Kind::kState);
  for (int kind = 0; kind <= last; ++kind) {
    const Flaw flaw{static_cast<Flaw::Kind>(kind), 7};
    EXPECT_NE(flaw.Words(), "unknown");
    words.insert(flaw.Words());
    if (!flaw.none() && !flaw.only_damage()) ++torn;
  }
  EXPECT_EQ(words.size(), static_cast<std::size_t>(last) + 1);
  EXPECT_EQ(torn, 3) << "no header, no room for one, a block that fails its CRC";
}

}  // namespace
}  // namespace epoch::test
