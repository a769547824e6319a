#include "tests/sim/history.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "epoch/detail/protocol/collective.h"

namespace epoch::sim {
namespace {

std::uint64_t Filler(std::uint64_t id, std::size_t word) {
  return (id + 1) * 0x9E3779B97F4A7C15ull + word;
}

// Of contents that are collective states.
constexpr std::uint64_t kCollectiveBit = std::uint64_t{1} << 63;

bool Filled(std::span<const std::byte> bytes, std::size_t from, std::uint64_t id) {
  for (std::size_t at = from; at < bytes.size(); at += 8) {
    const std::uint64_t word = Filler(id, at);
    if (std::memcmp(bytes.data() + at, &word, std::min<std::size_t>(8, bytes.size() - at)) != 0) {
      return false;
    }
  }
  return true;
}

void Fill(std::span<std::byte> bytes, std::size_t from, std::uint64_t id) {
  for (std::size_t at = from; at < bytes.size(); at += 8) {
    const std::uint64_t word = Filler(id, at);
    std::memcpy(bytes.data() + at, &word, std::min<std::size_t>(8, bytes.size() - at));
  }
}

// Whole, and in the order of slots. Appends the ids of its parts.
bool DecodeCollective(std::span<const std::byte> bytes, Content& content,
                      std::vector<std::uint64_t>* ids) {
  std::uint64_t sum = 0;
  std::int64_t last = -1;
  bool sound = true;
  const bool whole = detail::ForEachContribution(
      bytes, [&](const detail::GatheredPart& part, std::span<const std::byte> given) {
        std::uint64_t id = 0;
        sound = sound && given.size() >= sizeof id && static_cast<std::int64_t>(part.slot) > last;
        if (!sound) return false;
        std::memcpy(&id, given.data(), sizeof id);
        sound = Filled(given, sizeof id, id);
        last = part.slot;
        for (const std::uint64_t word : {id, std::uint64_t{part.slot}, part.generation}) {
          sum = (sum ^ word) * 0x9E3779B97F4A7C15ull;
          sum ^= sum >> 32;
        }
        if (ids != nullptr) ids->push_back(id);
        return sound;
      });
  content.id = sum | kCollectiveBit;
  content.based_on = Content::kUnconditional;
  content.bytes = bytes.size();
  return whole && sound;
}

bool IsCollective(std::span<const std::byte> bytes) {
  return bytes.size() >= sizeof detail::kGatheredMagic &&
         std::memcmp(bytes.data(), &detail::kGatheredMagic, sizeof detail::kGatheredMagic) == 0;
}

}  // namespace

std::vector<std::byte> Encode(const Content& content) {
  std::vector<std::byte> bytes(std::max<std::size_t>(content.bytes, sizeof content));
  std::memcpy(bytes.data(), &content, sizeof content);
  Fill(bytes, sizeof content, content.id);
  return bytes;
}

bool Decode(std::span<const std::byte> bytes, Content& content) {
  content = {};
  if (bytes.empty()) return true;
  if (IsCollective(bytes)) return DecodeCollective(bytes, content, nullptr);
  if (bytes.size() < sizeof content) return false;
  std::memcpy(&content, bytes.data(), sizeof content);
  return content.bytes == bytes.size() && Filled(bytes, sizeof content, content.id);
}

std::vector<std::byte> EncodePart(std::uint64_t id, std::uint64_t size) {
  std::vector<std::byte> bytes(std::max<std::size_t>(size, sizeof id));
  std::memcpy(bytes.data(), &id, sizeof id);
  Fill(bytes, sizeof id, id);
  return bytes;
}

Content History::Draft(std::uint64_t based_on, std::uint64_t counter, std::uint64_t bytes) {
  const Content content{++ids_, based_on, counter, bytes};
  drafts_[content.id] = content;
  return content;
}

void History::Refused(const Content& content) {
  refused_.insert(content.id);
  if (appeared_.count(content.id) != 0) violation_("G4: a state that was seen is refused");
}

std::uint64_t History::Part(std::uint64_t tag) {
  parts_[++ids_] = {tag};
  return ids_;
}

void History::Gathered(std::span<const std::byte> state) {
  Content content;
  std::vector<std::uint64_t> ids;
  detail::GatheredHeader header{};
  if (!DecodeCollective(state, content, &ids)) return violation_("G5: a torn collective state");
  std::memcpy(&header, state.data(), sizeof header);
  for (const std::uint64_t id : ids) {
    const auto part = parts_.find(id);
    if (part == parts_.end()) return violation_("G5: a part that nobody gave");
    if (part->second.tag != header.tag) violation_("G5: a part of another tag is gathered");
  }
  gathered_[content.id] = std::move(ids);
}

void History::Given(std::uint64_t part, Epoch epoch) {
  if (parts_[part].epoch == epoch) return;
  violation_(absl::StrCat("G5: a contributor is told epoch ", epoch, ", where its part is not"));
}

void History::Withheld(std::uint64_t part) {
  parts_[part].withheld = true;
  if (parts_[part].epoch == 0) return;
  violation_(
      absl::StrCat("G5: a contributor is told that nothing was changed, and its part is in "
                   "epoch ",
                   parts_[part].epoch));
}

void History::CheckParts(Epoch epoch, const Content& content) {
  const auto gathered = gathered_.find(content.id);
  if (gathered == gathered_.end()) return violation_("G3: nobody wrote this");
  for (const std::uint64_t id : gathered->second) {
    PartRecord& part = parts_[id];
    if (part.withheld) violation_("G5: a part appears that was withheld");
    if (part.epoch != 0 && part.epoch != epoch) violation_("G5: a part appears in two epochs");
    part.epoch = epoch;
  }
}

void History::Check(Epoch epoch, const Content& content) {
  if (content.id == 0) {
    if (epoch != 0) violation_(absl::StrCat("G3: the initial state under epoch ", epoch));
    return;
  }
  if (refused_.count(content.id) != 0) violation_("G4: a refused state became visible");
  if ((content.id & kCollectiveBit) != 0) return CheckParts(epoch, content);
  const auto draft = drafts_.find(content.id);
  if (draft == drafts_.end() || !(draft->second == content)) violation_("G3: nobody wrote this");
  if (content.based_on != Content::kUnconditional && content.based_on + 1 != epoch) {
    violation_(absl::StrCat("G4: epoch ", epoch, " is not the direct successor of ",
                            content.based_on, ", which it was based on"));
  }
}

void History::Accepted(Epoch epoch, const Content& content) {
  Check(epoch, content);
  appeared_.insert(content.id);
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
