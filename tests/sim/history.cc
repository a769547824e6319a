#include "tests/sim/history.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace epoch::sim {
namespace {

std::uint64_t Filler(std::uint64_t id, std::size_t word) {
  return (id + 1) * 0x9E3779B97F4A7C15ull + word;
}

}  // namespace

std::vector<std::byte> Encode(const Content& content) {
  std::vector<std::byte> bytes(std::max<std::size_t>(content.bytes, sizeof content));
  std::memcpy(bytes.data(), &content, sizeof content);
  for (std::size_t at = sizeof content; at < bytes.size(); at += 8) {
    const std::uint64_t word = Filler(content.id, at);
    std::memcpy(bytes.data() + at, &word, std::min<std::size_t>(8, bytes.size() - at));
  }
  return bytes;
}

bool Decode(std::span<const std::byte> bytes, Content& content) {
  content = {};
  if (bytes.empty()) return true;
  if (bytes.size() < sizeof content) return false;
  std::memcpy(&content, bytes.data(), sizeof content);
  if (content.bytes != bytes.size()) return false;
  for (std::size_t at = sizeof content; at < bytes.size(); at += 8) {
    const std::uint64_t word = Filler(content.id, at);
    if (std::memcmp(bytes.data() + at, &word, std::min<std::size_t>(8, bytes.size() - at)) != 0) {
      return false;
    }
  }
  return true;
}

Content History::Draft(std::uint64_t based_on, std::uint64_t counter, std::uint64_t bytes) {
  const Content content{++ids_, based_on, counter, bytes};
  drafts_[content.id] = content;
  return content;
}

void History::Check(Epoch epoch, const Content& content) {
  if (content.id == 0) {
    if (epoch != 0) violation_(absl::StrCat("G3: the initial state under epoch ", epoch));
    return;
  }
  const auto draft = drafts_.find(content.id);
  if (draft == drafts_.end() || !(draft->second == content)) violation_("G3: nobody wrote this");
  if (refused_.count(content.id) != 0) violation_("G4: a refused state became visible");
  if (content.based_on != Content::kUnconditional && content.based_on + 1 != epoch) {
    violation_(absl::StrCat("G4: epoch ", epoch, " is not the direct successor of ",
                            content.based_on, ", which it was based on"));
  }
}

void History::Accepted(Epoch epoch, const Content& content) {
  Check(epoch, content);
  const auto visible = visible_.find(epoch);
  if (visible != visible_.end() && !(visible->second == content)) {
    violation_(absl::StrCat("G2: two states under epoch ", epoch));
  }
  const auto [known, fresh] = accepted_.try_emplace(epoch, content);
  if (!fresh && !(known->second == content)) {
    violation_(absl::StrCat("G2: two states accepted as epoch ", epoch));
  }
}

void History::Visible(Epoch epoch, const Content& content) {
  Accepted(epoch, content);
  visible_.try_emplace(epoch, content);
  HeadMoved(epoch);
}

void History::Restored(Epoch epoch, std::span<const std::byte> bytes) {
  if (epoch < visible_max_) {
    violation_(absl::StrCat("G7: epoch ", visible_max_, " was visible, recovery found ", epoch));
    return;
  }
  Content content;
  if (!Decode(bytes, content)) violation_("G7: a torn state was recovered");
  Visible(epoch, content);
  accepted_.erase(accepted_.upper_bound(epoch), accepted_.end());
}

void History::Recorded(Epoch epoch, std::span<const std::byte> bytes) {
  Content content;
  if (!Decode(bytes, content)) violation_("G7: a torn state in the journal");
  if (epoch <= visible_max_) Accepted(epoch, content);
}

}  // namespace epoch::sim
