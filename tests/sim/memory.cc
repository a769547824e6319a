#include "tests/sim/memory.h"

namespace epoch::sim {

void Memory::Store(int self, const void* at, std::uint64_t value, std::memory_order order) {
  Location& location = Find(at, 0);
  const auto me = static_cast<std::size_t>(self);
  ++clocks_[me][me];
  StoreRecord record{value, self, clocks_[me][me], {}};
  if (order != std::memory_order_relaxed) record.released = clocks_[me];
  location.stores.push_back(record);
  if (location.stores.size() > kHistory) {
    location.stores.erase(location.stores.begin());
    ++location.dropped;
  }
  const std::uint64_t newest = location.dropped + location.stores.size() - 1;
  location.seen[me] = newest;
  if (order == std::memory_order_seq_cst) location.last_seq_cst = newest;
}

void Memory::BeforeModify(int self, const void* at, std::uint64_t in_memory) {
  Location& location = Find(at, in_memory);
  const auto me = static_cast<std::size_t>(self);
  Learn(clocks_[me], location.stores.back().released);
  location.seen[me] = location.dropped + location.stores.size() - 1;
}

void Memory::AfterModify(int self, const void* at, std::uint64_t value) {
  Location& location = Find(at, value);
  // A read-modify-write continues the release sequence of what it read.
  const Clock before = location.stores.back().released;
  Store(self, at, value, std::memory_order_seq_cst);
  Learn(location.stores.back().released, before);
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
}

void Memory::Forget(const std::byte* base, std::size_t bytes) {
  const auto first = static_cast<std::size_t>(base - arena_) / 4;
  for (std::size_t word = first; word < std::min(first + bytes / 4, index_.size()); ++word) {
    index_[word] = -1;
  }
  plain_.erase(plain_.lower_bound(base), plain_.lower_bound(base + bytes));
}

}  // namespace epoch::sim
