// Every condition that a process may inherit, or find around it, x every operation, judged as a
// call that is denied.
//
// The gate runs a part of the cases, always the same; `whatever...` all of them (label "all").
#include "border/conditions.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "border/border_test.h"
#include "border/case.h"

namespace epoch::test {
namespace {

// Of the operations under a condition the gate runs one in so many.
constexpr std::size_t kConditionStride = 8;

const std::vector<Condition>& AllConditions() {
  static const std::vector<Condition> all = [] {
    std::vector<Condition> conditions = ProcessConditions();
    const std::vector<Condition> more = SurroundingConditions();
    conditions.insert(conditions.end(), more.begin(), more.end());
    return conditions;
  }();
  return all;
}

class ConditionTest : public MatrixTest, public testing::WithParamInterface<std::size_t> {
 protected:
  const Condition& condition() const { return AllConditions().at(GetParam()); }

  void RunCases(std::size_t stride) {
    if (condition().as_root && geteuid() != 0) GTEST_SKIP() << "only root can impose it";
    std::string parent = memory();
    if (!condition().memory_size.empty()) {
      // Of this process's own: it goes with it.
      parent += "/small";
      ASSERT_EQ(mkdir(parent.c_str(), 0755), 0);
      ASSERT_EQ(unshare(CLONE_NEWNS), 0);
      ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
      ASSERT_EQ(
          mount("tmpfs", parent.c_str(), "tmpfs", 0, ("size=" + condition().memory_size).c_str()),
          0);
    }
    const std::vector<Operation>& all = AllOperations();
    // Not the same ones under each condition.
    for (std::size_t i = GetParam() % stride; i < all.size(); i += stride) {
      if (!Asked(all[i].name)) continue;
      if (condition().of_its_own && (all[i].makes || all[i].copies)) continue;
      const Outcome outcome = RunCase(parent, all[i], condition().hindrance);
      if (!outcome.not_imposed.empty()) {
        ASSERT_EQ(umount2(parent.c_str(), MNT_DETACH) == 0 || condition().memory_size.empty(),
                  true);
        GTEST_SKIP() << outcome.not_imposed;
      }
      Record(condition().name, "", "", all[i], outcome);
    }
    if (!condition().memory_size.empty()) umount2(parent.c_str(), MNT_DETACH);
    Conclude();
  }
};

TEST_P(ConditionTest, a_sample_of_operations_has_its_own_trouble) { RunCases(kConditionStride); }

TEST_P(ConditionTest, whatever_is_done_has_its_own_trouble) { RunCases(1); }

INSTANTIATE_TEST_SUITE_P(Border, ConditionTest,
                         testing::Range(std::size_t{0}, AllConditions().size()),
                         [](const auto& of) {
                           return WordsToName(AllConditions()[of.param].name);
                         });

}  // namespace
}  // namespace epoch::test
