// One order taken away while the code runs as it is: every atomic access and fence at the weakened
// site is played as relaxed. Which sites there are: sites.h.
#ifndef EPOCH_TESTS_SIM_WEAKENED_H_
#define EPOCH_TESTS_SIM_WEAKENED_H_

#include <atomic>
#include <cstdint>
#include <source_location>
#include <string_view>

namespace epoch::sim {

struct WeakenedSite {
  std::uint32_t first_line = UINT32_MAX;  // none
  std::uint32_t last_line = 0;
  std::string_view file{};  // below the root of the tree; outlives the run
  bool is_fence = false;
};
inline WeakenedSite weakened_site;

inline bool SomethingIsWeakened() { return weakened_site.last_line != 0; }
inline bool IsWeakened(const std::source_location& at) {
  return at.line() >= weakened_site.first_line && at.line() <= weakened_site.last_line &&
         std::string_view(at.file_name()).ends_with(weakened_site.file);
}
// Just above a fence that is missing: the plain reads that it would order are in between.
inline bool IsBeforeMissingFence(const std::source_location& at) {
  return weakened_site.is_fence && at.line() < weakened_site.first_line &&
         at.line() + 30 > weakened_site.first_line &&
         std::string_view(at.file_name()).ends_with(weakened_site.file);
}
inline std::memory_order OrderAt(const std::source_location& at, std::memory_order order) {
  return IsWeakened(at) ? std::memory_order_relaxed : order;
}

}  // namespace epoch::sim

#endif  // EPOCH_TESTS_SIM_WEAKENED_H_
