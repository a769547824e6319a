#include "tests/sim/memory.h"

namespace epoch::sim {

void Memory::Store(int self, const void* at, std::uint64_t value, std::memory_order order) {
  Location& location = Find(at, 0);
  const auto me = static_cast<std::size_t>(self);
  ++clocks_[me][me];
  ++time_;
  const bool seq_cst = order == std::memory_order_seq_cst;
  StoreRecord record{value, self, clocks_[me][me], {}, time_, seq_cst};
  if (order != std::memory_order_relaxed) record.released = clocks_[me];
  location.stores.push_back(record);
  if (location.stores.size() > kHistory) {
    location.stores.erase(location.stores.begin());
    ++location.dropped;
  }
  const std::uint64_t newest = location.dropped + location.stores.size() - 1;
  location.seen[me] = newest;
  rechecks_[me].bell = nullptr;
  if (!seq_cst) return;
  location.last_seq_cst = newest;
  Settle(self);
}

void Memory::BeforeModify(int self, const void* at, std::uint64_t in_memory,
                          std::memory_order order) {
  Location& location = Find(at, in_memory);
  const auto me = static_cast<std::size_t>(self);
  location.seen[me] = location.dropped + location.stores.size() - 1;
  if (order == std::memory_order_relaxed) {
    late_[me] = late_loads_;
    Learn(fenced_[me], location.stores.back().released);
  } else {
    Learn(clocks_[me], location.stores.back().released);
    Settle(self);
  }
}

void Memory::AfterModify(int self, const void* at, std::uint64_t value, std::memory_order order) {
  Location& location = Find(at, value);
  // A read-modify-write continues the release sequence of what it read.
  const Clock before = location.stores.back().released;
  Store(self, at, value, order);
  Learn(location.stores.back().released, before);
}

std::uint64_t Memory::LastSeqCst(const Location& location, std::uint64_t until) {
  for (std::size_t i = location.stores.size(); i-- > 0;) {
    const StoreRecord& s = location.stores[i];
    if (s.seq_cst && s.time <= until) return location.dropped + i;
  }
  return location.dropped;
}

void Memory::BeginRecheck(int self, const void* bell) {
  Rechecking& recheck = rechecks_[static_cast<std::size_t>(self)];
  recheck.bell = bell;
  recheck.reads.clear();
}

void Memory::Recheck(int self, const Location& location, std::uint64_t store) {
  std::vector<Reread>& reads = rechecks_[static_cast<std::size_t>(self)].reads;
  const auto index = static_cast<std::size_t>(&location - locations_.data());
  for (Reread& read : reads) {
    if (read.location == index) {
      read.store = store;
      return;
    }
  }
  reads.push_back({index, store});
}

bool Memory::SleptThrough(int self, const void* bell) {
  const Rechecking& recheck = rechecks_[static_cast<std::size_t>(self)];
  if (recheck.bell != bell) return false;
  const Location& rung = Find(bell, 0);
  for (const Reread& read : recheck.reads) {
    const Location& location = locations_[read.location];
    for (std::size_t i = 0; i < location.stores.size(); ++i) {
      const StoreRecord& s = location.stores[i];
      if (location.dropped + i <= read.store || s.process < 0 || s.process == self) continue;
      if (s.time < rung.seen_even[static_cast<std::size_t>(s.process)]) return true;
    }
  }
  return false;
}

bool Memory::PlainWrite(int self, const void* at) {
  const auto me = static_cast<std::size_t>(self);
  Plain& plain = plain_[at];
  bool ordered = plain.writer < 0 || plain.writer == self ||
                 plain.stamp <= clocks_[me][static_cast<std::size_t>(plain.writer)];
  for (std::size_t i = 0; i < plain.reads.size(); ++i) {
    ordered = ordered && (i == me || plain.reads[i] <= clocks_[me][i]);
  }
  // The next store of this process is the first that can release it.
  plain = {self, clocks_[me][me] + 1, {}};
  return ordered;
}

bool Memory::PlainRead(int self, const void* at) {
  const auto me = static_cast<std::size_t>(self);
  Plain& plain = plain_[at];
  plain.reads[me] = clocks_[me][me] + 1;
  return plain.writer < 0 || plain.writer == self ||
         plain.stamp <= clocks_[me][static_cast<std::size_t>(plain.writer)];
}

void Memory::Restart(int self) {
  const auto me = static_cast<std::size_t>(self);
  const std::uint32_t own = clocks_[me][me];
  clocks_[me] = {};
  clocks_[me][me] = own + 1;
  fenced_[me] = {};
  rechecks_[me].bell = nullptr;
  Settle(self);
}

void Memory::Forget(const std::byte* base, std::size_t bytes) {
  const auto first = static_cast<std::size_t>(base - arena_) / 4;
  for (std::size_t word = first; word < std::min(first + bytes / 4, index_.size()); ++word) {
    index_[word] = -1;
  }
  plain_.erase(plain_.lower_bound(base), plain_.lower_bound(base + bytes));
}

}  // namespace epoch::sim
