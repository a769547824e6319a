#include "tests/images/tree.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace epoch::images {

Tree::Tree() {
  Add(true, false);  // the root, number 0
  const int dev = Add(true, true);
  const int disk = Add(true, false);
  const int shm = Add(true, true);
  Change(0, "dev", "", dev);
  Change(0, "disk", "", disk);
  Change(dev, "shm", "", shm);
}

Tree::Place Tree::Find(std::string_view path) const {
  Place place{.node = 0, .parent = -1, .name = {}};
  for (std::size_t at = 0;;) {
    const std::size_t begin = path.find_first_not_of('/', at);
    if (begin == std::string_view::npos) return place;
    const std::size_t end = std::min(path.find('/', begin), path.size());
    place.parent = place.node;
    if (place.parent < 0 || !nodes_[static_cast<std::size_t>(place.parent)].directory) {
      return {};
    }
    place.name = std::string(path.substr(begin, end - begin));
    const auto& names = nodes_[static_cast<std::size_t>(place.parent)].names;
    const auto found = names.find(place.name);
    place.node = found == names.end() ? -1 : found->second;
    at = end;
  }
}

int Tree::Add(bool directory, bool shm) {
  Node& node = nodes_.emplace_back();
  node.directory = directory;
  node.shm = shm;
  if (!directory && !spare_.empty()) {
    node.bytes = std::move(spare_.back());
    spare_.pop_back();
    node.bytes.clear();
  }
  return count() - 1;
}

void Tree::AddUpTo(int node) {
  while (count() <= node) Add(false, false);
}

void Tree::Write(int node, std::size_t offset, std::span<const std::byte> bytes) {
  Node& file = at(node);
  const std::size_t end = offset + bytes.size();
  if (undoing_ && static_cast<std::size_t>(node) < nodes_before_) {
    const std::size_t there =
        offset < file.bytes.size() ? std::min(end, file.bytes.size()) - offset : 0;
    undo_.push_back({node, offset, file.bytes.size(), saved_.size(), there, {}, -1, false});
    const auto from = file.bytes.begin() + static_cast<std::ptrdiff_t>(there > 0 ? offset : 0);
    saved_.insert(saved_.end(), from, from + static_cast<std::ptrdiff_t>(there));
  }
  if (file.bytes.size() < end) file.bytes.resize(end);
  if (!bytes.empty()) std::memcpy(file.bytes.data() + offset, bytes.data(), bytes.size());
}

void Tree::Resize(int node, std::size_t size) {
  Node& file = at(node);
  if (file.bytes.size() >= size) return;
  if (undoing_ && static_cast<std::size_t>(node) < nodes_before_) {
    undo_.push_back({node, 0, file.bytes.size(), saved_.size(), 0, {}, -1, false});
  }
  file.bytes.resize(size);
}

void Tree::SetName(int directory, const std::string& name, int target) {
  auto& names = at(directory).names;
  const auto found = names.find(name);
  const int before = found == names.end() ? -1 : found->second;
  if (undoing_ && static_cast<std::size_t>(directory) < nodes_before_) {
    undo_.push_back({directory, 0, 0, 0, 0, name, before, true});
  }
  if (target < 0) {
    names.erase(name);
  } else {
    names[name] = target;
  }
}

void Tree::Change(int directory, const std::string& add, const std::string& remove, int target) {
  if (!remove.empty()) SetName(directory, remove, -1);
  if (!add.empty()) SetName(directory, add, target);
}

void Tree::Begin() {
  undoing_ = true;
  nodes_before_ = nodes_.size();
}

void Tree::Forget() {
  undoing_ = false;
  undo_.clear();
  saved_.clear();
}

void Tree::Rollback() {
  undoing_ = false;
  for (; !undo_.empty(); undo_.pop_back()) {
    const Undo& undo = undo_.back();
    Node& node = at(undo.node);
    if (undo.names) {
      if (undo.target_before < 0) {
        node.names.erase(undo.name);
      } else {
        node.names[undo.name] = undo.target_before;
      }
      continue;
    }
    if (undo.saved_bytes > 0) {
      std::memcpy(node.bytes.data() + undo.offset, saved_.data() + undo.saved_at, undo.saved_bytes);
    }
    node.bytes.resize(undo.size_before);
  }
  saved_.clear();
  while (nodes_.size() > nodes_before_) {
    if (nodes_.back().bytes.capacity() > 0) spare_.push_back(std::move(nodes_.back().bytes));
    nodes_.pop_back();
  }
}

}  // namespace epoch::images
