// What tests of regions share: a fixture that owns a scratch region, and a count of who holds what.
#ifndef EPOCH_TESTS_SUPPORT_REGION_TEST_H_
#define EPOCH_TESTS_SUPPORT_REGION_TEST_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "epoch/epoch.h"
#include "support/checked_state.h"
#include "support/scratch.h"

namespace epoch::test {

inline absl::StatusCode CodeOf(const absl::Status& status) { return status.code(); }
template <typename T>
absl::StatusCode CodeOf(const absl::StatusOr<T>& result) {
  return result.status().code();
}
inline std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }
template <typename T>
std::string MessageOf(const absl::StatusOr<T>& result) {
  return MessageOf(result.status());
}
inline testing::AssertionResult IsOk(const absl::Status& status) {
  return status.ok() ? testing::AssertionSuccess()
                     : testing::AssertionFailure() << status.ToString();
}
template <typename T>
testing::AssertionResult IsOk(const absl::StatusOr<T>& result) {
  return IsOk(result.status());
}

#define EXPECT_OK(expression) EXPECT_TRUE(::epoch::test::IsOk(expression))
#define ASSERT_OK(expression) ASSERT_TRUE(::epoch::test::IsOk(expression))
// The code, and a substring of the message.
#define EXPECT_FAILS(expression, code_name, text)                                          \
  do {                                                                                     \
    const auto& result_of_expression = (expression);                                       \
    EXPECT_EQ(::epoch::test::CodeOf(result_of_expression), absl::StatusCode::code_name)    \
        << ::epoch::test::MessageOf(result_of_expression);                                 \
    EXPECT_THAT(::epoch::test::MessageOf(result_of_expression), testing::HasSubstr(text)); \
  } while (false)

struct CellCount {
  std::uint32_t free = 0, drafted = 0, published = 0, retired = 0, unknown = 0;
};

inline CellCount CountCells(const Region& region) {
  const detail::RegionView& view = region.mapping()->view();
  CellCount count;
  for (std::uint32_t i = 0; i < view.geometry.versions; ++i) {
    switch (detail::OwnerWord::Unpack(view.cells[i].owner.Load()).state) {
      case detail::CellState::kFree:
        ++count.free;
        break;
      case detail::CellState::kDrafted:
        ++count.drafted;
        break;
      case detail::CellState::kPublished:
        ++count.published;
        break;
      case detail::CellState::kRetired:
        ++count.retired;
        break;
      default:
        ++count.unknown;
    }
  }
  return count;
}

inline std::uint32_t CountSlots(const Region& region, detail::SlotState state) {
  const detail::RegionView& view = region.mapping()->view();
  std::uint32_t count = 0;
  for (std::uint32_t i = 0; i < view.geometry.participants; ++i) {
    count += detail::SlotWord::Unpack(view.slots[i].state.Load()).state == state ? 1 : 0;
  }
  return count;
}

// Whoever died is reaped, whatever is superseded reclaimed: then only head's version is in use, and
// only the slots of the living.
inline void ExpectNothingLeaked(const Region& region, std::uint32_t living) {
  const detail::RegionView& view = region.mapping()->view();
  ASSERT_OK(region.Reap());
  detail::Reclaim(view);
  const CellCount cells = CountCells(region);
  EXPECT_EQ(cells.free, view.geometry.versions - 1);
  EXPECT_EQ(cells.drafted, 0u);
  EXPECT_EQ(cells.published, 1u);
  EXPECT_EQ(cells.retired, 0u);
  EXPECT_EQ(CountSlots(region, detail::SlotState::kFree), view.geometry.participants - living);
  EXPECT_EQ(CountSlots(region, detail::SlotState::kActive), living);
}

class RegionTest : public testing::Test {
 protected:
  // Small enough that cells are recycled within a few commits.
  static constexpr std::uint32_t kParticipants = 8;
  static constexpr std::uint32_t kVersions = 8;

  static RegionOptions Small() {
    RegionOptions options;
    options.state_bytes = 256;
    options.participants = kParticipants;
    options.versions = kVersions;
    return options;
  }
  // Call once, within ASSERT_NO_FATAL_FAILURE or SetUp.
  void CreateRegion(const RegionOptions& options = Small()) {
    absl::StatusOr<Region> made = Region::Create(name_.name(), options);
    ASSERT_OK(made);
    region_ = *made;
  }
  Participant Joined(const std::string& name = "tester") {
    absl::StatusOr<Participant> joined = Participant::Join(*region_, {.name = name});
    if (!joined.ok()) {
      ADD_FAILURE() << joined.status().ToString();
      std::abort();
    }
    return *std::move(joined);
  }
  Region& region() { return *region_; }
  const std::string& name() const { return name_.name(); }
  std::string path() const { return name_.path(); }

  ScratchName name_;
  std::optional<Region> region_;
};

class SmallRegionTest : public RegionTest {
 protected:
  void SetUp() override { ASSERT_NO_FATAL_FAILURE(CreateRegion()); }
};

}  // namespace epoch::test

#endif  // EPOCH_TESTS_SUPPORT_REGION_TEST_H_
