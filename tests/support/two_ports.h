// A durable region that two processes use, played by one: each has a port to the journal of its
// own, as processes have, and a participant in it.
#ifndef EPOCH_TESTS_SUPPORT_TWO_PORTS_H_
#define EPOCH_TESTS_SUPPORT_TWO_PORTS_H_

#include <optional>
#include <string>

#include "epoch/epoch.h"
#include "support/region_test.h"

namespace epoch::test {

struct TwoPorts {
  // Creates the region. Call it within ASSERT_NO_FATAL_FAILURE or SetUp.
  void Start(const std::string& name, const RegionOptions& options) {
    absl::StatusOr<Region> made = Region::Create(name, options);
    ASSERT_OK(made);
    region.emplace(*std::move(made));
    absl::StatusOr<Region> opened = Region::Open(name);
    ASSERT_OK(opened);
    also.emplace(*std::move(opened));
    absl::StatusOr<Participant> first = Participant::Join(*region);
    ASSERT_OK(first);
    self.emplace(*std::move(first));
    absl::StatusOr<Participant> second = Participant::Join(*also);
    ASSERT_OK(second);
    other.emplace(*std::move(second));
  }
  void End() {
    self.reset();
    other.reset();
    also.reset();
    region.reset();
  }
  detail::Control& control() const { return *region->mapping()->view().control; }
  detail::Phase head_phase() const {
    return detail::StateWord::Unpack(control().head.Load()).phase;
  }

  std::optional<Region> region, also;
  std::optional<Participant> self, other;
};

}  // namespace epoch::test

#endif  // EPOCH_TESTS_SUPPORT_TWO_PORTS_H_
