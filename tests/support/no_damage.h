// For tests that have the compiled part: whoever checks the region finds no damage, whatever died,
// stands still or goes on in it.
#ifndef EPOCH_TESTS_SUPPORT_NO_DAMAGE_H_
#define EPOCH_TESTS_SUPPORT_NO_DAMAGE_H_

#include <gtest/gtest.h>

#include <string>

#include "core/inspect/region_check.h"

namespace epoch::test {

inline void ExpectNoDamage(const std::string& path) {
  const absl::StatusOr<inspect::CheckReport> report = inspect::CheckRegion(path);
  ASSERT_TRUE(report.ok()) << report.status().ToString();
  for (const inspect::Finding& finding : report->findings) {
    EXPECT_NE(finding.severity, inspect::Finding::Severity::kDamage)
        << finding.where << ": " << finding.what;
  }
}

}  // namespace epoch::test

#endif  // EPOCH_TESTS_SUPPORT_NO_DAMAGE_H_
