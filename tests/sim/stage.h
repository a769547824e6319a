// What the processes of one run share: the machine, the plan, and what the checker knows.
#ifndef EPOCH_TESTS_SIM_STAGE_H_
#define EPOCH_TESTS_SIM_STAGE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "epoch/epoch.h"
#include "tests/sim/agreements.h"
#include "tests/sim/disk.h"
#include "tests/sim/history.h"
#include "tests/sim/plan.h"

namespace epoch::sim {

inline constexpr const char* kRegion = "/dev/shm/epoch.sim";
inline constexpr const char* kJournal = "/disk/journal";
inline constexpr std::size_t kArenaBytes = std::size_t{2} << 20;
// All memory that processes share.
std::byte* Arena();

// One life of the region, from its creation or restoration on.
struct Incarnation {
  std::byte* memory;
  detail::RegionView view;
  Epoch head;
  std::unique_ptr<Agreements> agreements;
};

struct Stage {
  explicit Stage(const Plan& the_plan);

  // Opens the region, as often as it takes. None: it cannot be opened, which may be a violation.
  std::optional<Region> Enter();

  bool IsNewest(const Region& region) const {
    return region.mapping()->view().control == incarnations.back().view.control;
  }
  // Of the region's incarnation.
  Agreements& AgreementsOf(const Region& region);

  void Fail(const absl::Status& status, const char* what);
  // Being expelled, or exhausted, is nobody's fault here; with a disk, neither is it to be told
  // that it failed. Anything else is.
  void Tolerate(const absl::Status& status, const char* what, bool& reopen);
  bool DiskFaulted() const;
  // The journal was removed.
  void JournalGone();
  // G7: no process may take it for durable. What was accepted before may have been written, and
  // looked for, by then.
  void CheckVisible(Epoch epoch);

  const Plan& plan;
  Memory memory;
  Engine engine;
  Disk disk;
  History history;
  RegionOptions options;
  std::vector<Incarnation> incarnations;
  // Slot and generation, and tail's epoch just after the expulsion.
  std::map<std::pair<std::uint32_t, std::uint64_t>, Epoch> expelled;
  Epoch converged = 0;
  int boot = 0;
  std::set<int> entered;         // the processes that have opened the region
  bool journal_touched = false;  // since somebody began to take it away
  bool journal_removed = false;  // for good
  bool lost = false;             // damage was reported, as it must be: the end of the run

 private:
  std::optional<Epoch> accepted_before_;  // the journal was removed
};

}  // namespace epoch::sim

#endif  // EPOCH_TESTS_SIM_STAGE_H_
