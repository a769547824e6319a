#include "tests/images/timeline.h"

#include <algorithm>
#include <set>

namespace epoch::images {

Timeline::Timeline(const Recording& recording)
    : recording_(recording),
      stable_(recording.before),
      acknowledged_(recording.acknowledged_before) {}

void Timeline::ApplyEntry(const Entry& entry) {
  switch (entry.kind) {
    case Entry::kWrite:
      return stable_.Write(entry.node, entry.offset, entry.bytes);
    case Entry::kSize:
      return stable_.Resize(entry.node, entry.offset);
    default:
      return stable_.Change(entry.node, entry.add, entry.remove, entry.target);
  }
}

void Timeline::Apply(const Piece& piece) {
  const Entry& entry = recording_.log[piece.entry];
  if (entry.kind != Entry::kWrite) return ApplyEntry(entry);
  stable_.Write(entry.node, entry.offset + piece.offset,
                std::span(entry.bytes).subspan(piece.offset, piece.size));
}

void Timeline::Flush(const Entry& flush) {
  std::erase_if(pending_, [&](std::size_t index) {
    const Entry& entry = recording_.log[index];
    const bool covered = flush.kind == Entry::kLanded
                             ? index == flush.of
                             : index < flush.of && entry.node == flush.node && !entry.under_way;
    if (covered) ApplyEntry(entry);
    return covered;
  });
}

void Timeline::FindLoose() {
  // A file without a name is gone with its last process.
  std::set<int> named;
  for (int node = 0; node < stable_.count(); ++node) {
    for (const auto& [name, target] : stable_.at(node).names) named.insert(target);
  }
  for (const std::size_t index : pending_) {
    const Entry& entry = recording_.log[index];
    if (entry.kind == Entry::kName && !entry.add.empty()) named.insert(entry.target);
  }
  loose_.clear();
  for (const std::size_t index : pending_) {
    const Entry& entry = recording_.log[index];
    if (entry.kind == Entry::kName) {
      loose_.push_back({index, 0, 0});
    } else if (named.contains(entry.node)) {
      if (entry.kind == Entry::kSize) {
        loose_.push_back({index, 0, 0});
        continue;
      }
      for (std::size_t at = 0; at < entry.bytes.size(); at += kSector) {
        loose_.push_back({index, at, std::min(kSector, entry.bytes.size() - at)});
      }
    }
  }
}

bool Timeline::Next() {
  const Log& log = recording_.log;
  if (flush_is_due_) {
    Flush(log[next_]);
    ++next_;
    flush_is_due_ = false;
  }
  if (ended_) return false;
  for (; next_ < log.size(); ++next_) {
    const Entry& entry = log[next_];
    if (entry.kind == Entry::kLanded || entry.kind == Entry::kSynced ||
        entry.kind == Entry::kNamesSynced) {
      flush_is_due_ = true;
      acknowledged_ = entry.acknowledged;
      FindLoose();
      return true;
    }
    pending_.push_back(next_);
    stable_.AddUpTo(entry.node);
    if (entry.kind == Entry::kName) {
      stable_.AddUpTo(entry.target);
      stable_.at(entry.target).directory = entry.directory;
    }
  }
  ended_ = true;
  acknowledged_ = recording_.acknowledged;
  FindLoose();
  return true;
}

}  // namespace epoch::images
