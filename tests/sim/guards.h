// What drivers rely on, watched at the very step: a cell that somebody guards is not recycled, and
// who commits has seen the accept of everybody whom it found in.
//   A guard counts from the load on that finds tail or head still naming its cell; a proposer's
//   own, from the step on at which tail names it. It ends with the word, or its process. Whom a
//   decider found in: an unparked voter, whose slot it read as Active before its vote.
#ifndef EPOCH_TESTS_SIM_GUARDS_H_
#define EPOCH_TESTS_SIM_GUARDS_H_

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>

#include "epoch/detail/memory/layout.h"
#include "tests/sim/engine.h"

namespace epoch::sim {

class Guards {
 public:
  Guards(const detail::RegionView& view, Engine& engine) : view_(view), engine_(engine) {}

  void Stored(const void* at, std::uint64_t value);
  void Loaded(const void* at, std::uint64_t value);

 private:
  struct Held {
    std::uint32_t cell;
    int thread;
    int process;
    bool confirmed;
  };

  void Confirm(std::uint64_t state_word);
  void Freed(std::uint32_t cell);

  const detail::RegionView& view_;
  Engine& engine_;
  std::map<const void*, Held> held_;  // by guard word
};

class Scans {
 public:
  Scans(const detail::RegionView& view, Engine& engine) : view_(view), engine_(engine) {}

  void Loaded(const void* at, std::uint64_t value);
  // Calls `visit(slot, generation)` for all whom the running thread found in, since it last looked
  // at an outcome.
  void ForEachFoundIn(
      const std::function<void(std::uint32_t slot, std::uint64_t generation)>& visit) const;

 private:
  struct Found {
    std::uint64_t state = 0;
    bool voted = false;  // its vote was read, behind the state
    std::optional<std::uint64_t> flags{};
  };

  const detail::RegionView& view_;
  Engine& engine_;
  std::array<std::map<std::uint32_t, Found>, kMaxThreads> found_{};  // by thread, slot
};

}  // namespace epoch::sim

#endif  // EPOCH_TESTS_SIM_GUARDS_H_
