// Weak memory by vector clocks: a load may return any store that C++ happens-before still allows,
// not only the newest.
//
// C++'s model with one simplification: modification order is execution order. Loads that are not
// seq_cst may be stale; seq_cst ones are not older than the last seq_cst store to that word;
// read-modify-writes read the newest. An acquire fence turns the relaxed loads before it into
// acquire loads. Where loads may be late, a relaxed load may come after loads that follow it in the
// program: a seq_cst load behind one may be as old as the process's last access with an order.
// Plain bytes are not modelled as stale; instead their accesses are checked for
// races (`PlainRead`, `PlainWrite`).
#ifndef EPOCH_TESTS_SIM_MEMORY_H_
#define EPOCH_TESTS_SIM_MEMORY_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "tests/sim/random.h"

namespace epoch::sim {

inline constexpr int kMaxProcesses = 6;
// The threads of all processes: a main one each, numbered as its process, and a few more.
inline constexpr int kMaxThreads = 10;

using Clock = std::array<std::uint32_t, kMaxThreads>;

inline void Learn(Clock& clock, const Clock& other) {
  for (std::size_t i = 0; i < clock.size(); ++i) clock[i] = std::max(clock[i], other[i]);
}

class Memory {
 public:
  // How one load among several allowed ones is chosen: the number of stores that it may return,
  // the newest being the last. Returns an index below that.
  using Choose = std::function<std::uint64_t(std::uint64_t allowed)>;

  // `arena`: all memory that processes may share.
  Memory(const std::byte* arena, std::size_t bytes) : arena_(arena), bytes_(bytes) {
    locations_.reserve(512);
  }

  // --- atomics; `self` is the thread -------------------------------------------------------------
  bool Shared(const void* at) const {
    const auto* p = static_cast<const std::byte*>(at);
    return p >= arena_ && p < arena_ + bytes_;
  }
  // `decides`: the code asks for an order, so that what it reads may decide whether it sleeps.
  template <typename ChooseFn>
  std::uint64_t Load(int self, const void* at, std::uint64_t in_memory, std::memory_order order,
                     bool decides, bool& stale, ChooseFn&& choose) {
    Location& location = Find(at, in_memory);
    const auto me = static_cast<std::size_t>(self);
    Clock& clock = clocks_[me];
    const auto& stores = location.stores;
    const std::uint64_t newest = location.dropped + stores.size() - 1;
    std::uint64_t oldest = std::max(location.seen[me], location.dropped);
    for (std::uint64_t i = newest; i > oldest; --i) {
      const StoreRecord& s = stores[i - location.dropped];
      if (s.process >= 0 && s.stamp <= clock[static_cast<std::size_t>(s.process)]) {
        oldest = i;  // it happened before this load: nothing older may be read
        break;
      }
    }
    ++time_;
    if (order == std::memory_order_seq_cst) {
      oldest =
          std::max(oldest, late_[me] ? LastSeqCst(location, floor_[me]) : location.last_seq_cst);
    }
    const std::uint64_t chosen = oldest == newest ? newest : oldest + choose(newest - oldest + 1);
    stale = chosen != newest;
    const StoreRecord& s = stores[chosen - location.dropped];
    location.seen[me] = chosen;
    if ((s.value & 1) == 0) location.seen_even[me] = time_;
    if (decides && rechecks_[me].bell != nullptr) Recheck(self, location, chosen);
    if (order == std::memory_order_relaxed) {
      late_[me] = late_loads_;
      Learn(fenced_[me], s.released);
    } else {
      // Behind a late load this one may come as early as what it saw.
      floor_[me] = late_[me] ? std::max(floor_[me], s.time) : time_;
      Learn(clock, s.released);
    }
    return s.value;
  }
  // The word as it is before its first tracked store.
  void BeforeStore(const void* at, std::uint64_t in_memory) { Find(at, in_memory); }
  void Store(int self, const void* at, std::uint64_t value, std::memory_order order);
  void BeforeModify(int self, const void* at, std::uint64_t in_memory, std::memory_order order);
  void AfterModify(int self, const void* at, std::uint64_t value, std::memory_order order);
  void AcquireFence(int self) {
    Learn(clocks_[static_cast<std::size_t>(self)], fenced_[static_cast<std::size_t>(self)]);
    Settle(self);
  }
  // Where a fence is missing: the plain reads before it may come after the loads behind it.
  void PlainReadsAreLate(int self) { late_[static_cast<std::size_t>(self)] = late_loads_; }
  void LateLoads(bool on) { late_loads_ = on; }
  std::uint64_t time() const { return time_; }
  // Whether a look of `self` at something may come before what was done at `time`.
  bool MayComeBefore(int self, std::uint64_t time) const {
    const auto me = static_cast<std::size_t>(self);
    return late_[me] && floor_[me] < time;
  }
  // What the kernel reads for a futex call: the newest.
  std::uint64_t Newest(const void* at, std::uint64_t in_memory) {
    return Find(at, in_memory).stores.back().value;
  }

  // --- bells
  // `self` has set the sleepers' bit of `bell`: what it reads until its next store decides whether
  // it sleeps.
  void BeginRecheck(int self, const void* bell);
  // Nobody rang, though: one of the words it read then was changed by a process that looked at the
  // bell afterwards, and saw no sleeper. In sequentially consistent order that cannot be.
  bool SleptThrough(int self, const void* bell);

  // --- synchronisation through the kernel (locks, names)
  // ------------------------------------------
  void Release(int self, Clock& into) {
    const auto me = static_cast<std::size_t>(self);
    ++clocks_[me][me];  // covers the plain accesses since the last store
    Learn(into, clocks_[me]);
    Settle(self);
  }
  void Acquire(int self, const Clock& from) {
    Learn(clocks_[static_cast<std::size_t>(self)], from);
    Settle(self);
  }

  // --- plain bytes
  // --------------------------------------------------------------------------------- False: a
  // race. The read is not ordered behind the write, or the write not behind all reads.
  bool PlainWrite(int self, const void* at);
  bool PlainRead(int self, const void* at);

  // A new process takes the place of a dead one: it knows nothing yet.
  void Restart(int self);
  // The words in [base, base + bytes) are new; nothing of the old ones is known.
  void Forget(const std::byte* base, std::size_t bytes);

 private:
  static constexpr std::size_t kHistory = 6;  // stores kept per location

  struct StoreRecord {
    std::uint64_t value;
    int process;          // -1: before the run
    std::uint32_t stamp;  // of the storing process's clock
    Clock released;       // what an acquire load of it learns
    std::uint64_t time;
    bool seq_cst;
  };
  struct Location {
    std::vector<StoreRecord> stores;
    std::uint64_t dropped = 0;                      // older stores no longer kept
    std::array<std::uint64_t, kMaxThreads> seen{};  // index of the newest store each one knows
    std::uint64_t last_seq_cst = 0;
    std::array<std::uint64_t, kMaxThreads> seen_even{};  // when each one last read an even value
  };
  struct Reread {
    std::size_t location;
    std::uint64_t store;
  };
  struct Rechecking {
    const void* bell = nullptr;  // none
    std::vector<Reread> reads{};
  };
  struct Plain {
    int writer = -1;
    std::uint32_t stamp = 0;
    Clock reads{};  // by process: stamp of its last read
  };

  Location& Find(const void* at, std::uint64_t in_memory) {
    const auto word = static_cast<std::size_t>(static_cast<const std::byte*>(at) - arena_) / 4;
    if (word >= index_.size()) index_.resize(word + 4096, -1);
    std::int32_t& index = index_[word];
    if (index < 0) {
      index = static_cast<std::int32_t>(locations_.size());
      locations_.emplace_back();
      locations_.back().stores.reserve(kHistory + 1);
      locations_.back().stores.push_back({in_memory, -1, 0, {}, 0, true});
    }
    return locations_[static_cast<std::size_t>(index)];
  }

  void Recheck(int self, const Location& location, std::uint64_t store);
  static std::uint64_t LastSeqCst(const Location& location, std::uint64_t until);
  // No load of `self` from here on comes before this.
  void Settle(int self) {
    late_[static_cast<std::size_t>(self)] = false;
    floor_[static_cast<std::size_t>(self)] = time_;
  }

  const std::byte* arena_;
  std::size_t bytes_;
  std::uint64_t time_ = 0;
  bool late_loads_ = false;
  std::vector<std::int32_t> index_;  // by word: into locations_, or -1
  std::vector<Location> locations_;
  std::array<Clock, kMaxThreads> clocks_{};
  std::array<Clock, kMaxThreads> fenced_{};  // what relaxed loads have seen: for the next fence
  std::array<bool, kMaxThreads> late_{};     // a relaxed load may still be under way
  std::array<std::uint64_t, kMaxThreads> floor_{};  // ...but loads come after this time
  std::array<Rechecking, kMaxThreads> rechecks_{};
  std::map<const void*, Plain> plain_;
};

}  // namespace epoch::sim

#endif  // EPOCH_TESTS_SIM_MEMORY_H_
