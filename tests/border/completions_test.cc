// Every completion of io_uring that fails x every errno that it may fail with, and a part that was
// written, x every operation of the library: judged as a call that is denied.
//
// The gate runs a part of the cases, always the same; `whatever...` all of them (label "all").
#include "border/completions.h"

#include <gtest/gtest.h>

#include <map>

#include "border/border_test.h"
#include "border/errnos.h"
#include "support/time_limits.h"

namespace epoch::test {
namespace {

// Of the cases of an operation the gate runs one in so many.
constexpr std::size_t kCompletionStride = 17;

class CompletionTest : public MatrixTest, public testing::WithParamInterface<std::string> {
 protected:
  const Operation& operation() const { return OperationNamed(GetParam()); }

  void RunCases(std::size_t stride) {
    const std::vector<Denial> denials = DenialsFor(CompletionsOf(memory(), operation()));
    for (std::size_t i = 0; i < denials.size(); i += stride) {
      const Denial& denial = denials[i];
      if (!Asked(CallName(denial) + " " + ErrnoName(denial.error))) continue;
      const Outcome outcome = RunUncompleted(memory(), operation(), denial);
      if (outcome.ending.denied == 0) continue;  // the caller was faster than the ring
      Record(CallName(denial), ErrnoName(denial.error), When(denial), operation(), outcome);
    }
    Conclude();
  }
};

// Those of the library that write a journal, by whatever way comes.
std::vector<std::string> WritingNames() {
  std::vector<std::string> names;
  for (const Operation& each : AllOperations()) {
    const bool writes = each.durable || each.ground == Ground::kDurable ||
                        each.ground == Ground::kJournal || each.ground == Ground::kCheckpoints;
    if (writes && each.verb.empty() && !each.ringless) names.push_back(each.name);
  }
  return names;
}

TEST_P(CompletionTest, a_sample_of_what_fails_in_the_ring_is_its_own_trouble) {
  RunCases(kCompletionStride);
}

TEST_P(CompletionTest, whatever_fails_in_the_ring_is_its_own_trouble) { RunCases(1); }

INSTANTIATE_TEST_SUITE_P(Border, CompletionTest, testing::ValuesIn(WritingNames()),
                         [](const auto& of) { return WordsToName(of.param); });

class CompletionKinds : public MatrixTest {};

TEST_F(CompletionKinds, each_kind_of_entry_is_made_by_some_operation) {
  // How far the ring gets while the operation lasts hangs on the machine: so as often as it takes.
  std::map<int, int> all;
  EXPECT_TRUE(Await([&] {
    for (const char* name : {"propose several durable", "roll durable"}) {
      for (const auto& [kind, count] : CompletionsOf(memory(), OperationNamed(name))) {
        all[kind] += count;
      }
    }
    return all[kRingWrite] > 0 && all[kRingSync] > 0 && all[kRingUnlink] > 0;
  })) << all[kRingWrite]
      << " writes, " << all[kRingSync] << " syncs, " << all[kRingUnlink] << " unlinks";
}

}  // namespace
}  // namespace epoch::test
