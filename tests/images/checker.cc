#include "tests/images/checker.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "core/journal/format/format.h"
#include "tests/images/forge.h"
#include "tests/images/judge.h"
#include "tests/images/timeline.h"

namespace epoch::images {

namespace {

using journal::kBlockBytes;

// The newest segment's file; -1: none.
int NewestSegment(const Tree& tree) {
  const int directory = tree.Find(kJournal).node;
  if (directory < 0) return -1;
  int newest = -1;
  for (const auto& [name, node] : tree.at(directory).names) {
    if (name.ends_with(kSegmentSuffix)) newest = node;  // by number, as they are by name
  }
  return newest;
}

class Checker {
 public:
  Checker(std::uint64_t seed, std::uint64_t per_cut, std::string& first)
      : seed_(seed), per_cut_(per_cut), random_(seed * 2 + 1), first_(first) {}

  Tally Run() {
    Recording recording = Play(seed_);
    for (std::uint64_t boot = 0;; ++boot) {
      ++tally_.boots;
      tally_.epochs += recording.acknowledged.epoch - recording.acknowledged_before.epoch;
      tally_.segments += static_cast<std::uint64_t>(
          std::count_if(recording.log.begin(), recording.log.end(), [](const Entry& entry) {
            return entry.kind == Entry::kName && entry.add.ends_with(kSegmentSuffix);
          }));
      boot_ = boot;
      if (!recording.broken.empty()) {
        ++tally_.lost;
        Say(recording.broken);
        break;
      }
      std::optional<std::pair<Tree, Acknowledged>> next = CheckBoot(recording);
      if (boot == 2 || !next.has_value() || random_.OneIn(3)) break;
      recording = PlayOn(seed_ * 3 + boot + 1, recording, next->first, next->second);
    }
    return tally_;
  }

 private:
  void Say(const std::string& what) {
    if (!first_.empty()) return;
    first_ = "seed " + std::to_string(seed_) + ", boot " + std::to_string(boot_) + ", cut " +
             std::to_string(cut_) + ", " + kind_ + ": " + what;
  }

  // Returns one of the images, for the next boot to go on with.
  std::optional<std::pair<Tree, Acknowledged>> CheckBoot(const Recording& recording) {
    Timeline timeline(recording);
    Disk disk(timeline.stable(), nullptr, seed_ + 5);
    std::optional<std::pair<Tree, Acknowledged>> next;
    std::uint64_t candidates = 0;
    for (cut_ = 0; timeline.Next(); ++cut_) {
      ++tally_.cuts;
      CheckCut(recording, timeline, disk);
      if (!random_.OneIn(++candidates)) continue;
      // Whatever subset: a tree of its own.
      timeline.stable().Begin();
      for (const Piece& piece : timeline.loose()) {
        if (random_.OneIn(2)) timeline.Apply(piece);
      }
      next.emplace(timeline.stable(), timeline.acknowledged());
      next->first.Forget();
      timeline.stable().Rollback();
    }
    return next;
  }

  // One image, of the pieces for which `keep` holds.
  template <typename Keep>
  void Check(const char* kind, const Recording& recording, Timeline& timeline, Disk& disk,
             const Keep& keep, bool damaged = false) {
    kind_ = kind;
    Tree& tree = timeline.stable();
    tree.Begin();
    const std::vector<Piece>& loose = timeline.loose();
    for (std::size_t i = 0; i < loose.size(); ++i) {
      if (keep(i)) timeline.Apply(loose[i]);
    }
    Damage damage;
    if (damaged) Spoil(tree, damage);
    if (!damaged || !damage.what.empty()) {
      ++tally_.images;
      tally_.damaged += damaged ? 1 : 0;
      if (damaged) kind_ = damage.what;
      const Judgement judgement = Judge(recording, timeline.acknowledged(), damage);
      switch (judgement.verdict) {
        case Verdict::kGood:
          break;
        case Verdict::kReported:
          ++tally_.reported;
          break;
        case Verdict::kUndetected:
          ++tally_.undetected;
          ++tally_.undetected_by[damage_kind_];
          break;
        case Verdict::kLost:
          ++tally_.lost;
          Say(judgement.why);
          break;
        case Verdict::kTorn:
          ++tally_.torn;
          Say(judgement.why);
      }
    }
    disk.Reset();
    tree.Rollback();
  }

  void CheckCut(const Recording& recording, Timeline& timeline, Disk& disk) {
    const std::size_t count = timeline.loose().size();
    const auto check = [&](const char* kind, const auto& keep) {
      Check(kind, recording, timeline, disk, keep);
    };
    constexpr std::size_t kAllSubsetsUpTo = 4;
    if (count <= kAllSubsetsUpTo) {
      for (std::uint64_t subset = 0; subset < (std::uint64_t{1} << count); ++subset) {
        check("a subset", [&](std::size_t i) { return ((subset >> i) & 1) != 0; });
      }
    } else {
      check("nothing kept", [](std::size_t) { return false; });
      check("all kept", [](std::size_t) { return true; });
      for (std::uint64_t i = 0; i < per_cut_ / 4; ++i) {
        const std::size_t kept = random_.Below(count + 1);
        check("a prefix", [&](std::size_t at) { return at < kept; });
        const std::size_t other = random_.Below(count);
        check("all but one", [&](std::size_t at) { return at != other; });
        const std::uint64_t of = 2 + random_.Below(6);
        check("few", [&](std::size_t) { return random_.OneIn(of); });
        check("many", [&](std::size_t) { return !random_.OneIn(of); });
      }
    }
    for (std::uint64_t i = 0; i < per_cut_ / 4; ++i) {
      const bool all = random_.OneIn(2);
      Check(
          "damage", recording, timeline, disk, [&](std::size_t) { return all; }, true);
    }
  }

  // Changes the newest segment as no power loss does.
  void Spoil(Tree& tree, Damage& damage) {
    const int node = NewestSegment(tree);
    if (node < 0 || tree.at(node).bytes.size() < 2 * kBlockBytes) return;
    if (random_.OneIn(40)) {
      const int directory = tree.Find(kJournal).node;
      const auto& names = tree.at(directory).names;
      const std::string newest = std::prev(names.end())->first;
      if (names.size() < 2 || !newest.ends_with(kSegmentSuffix)) return;
      tree.Change(directory, "", newest, -1);
      damage_kind_ = kNewestGone;
      damage.what = NameOf(damage_kind_);
      damage.newest_gone = true;
      return;
    }
    damage.before = tree.at(node).bytes;
    const Bytes& bytes = damage.before;
    std::size_t used = bytes.size();
    while (used > kBlockBytes && AllZero(bytes.data() + used - kBlockBytes, kBlockBytes)) {
      used -= kBlockBytes;
    }
    const std::size_t blocks = std::min(used / kBlockBytes + 1, bytes.size() / kBlockBytes);
    // The end of the log is where it matters, and where it can go unnoticed.
    const std::size_t block = random_.OneIn(2)
                                  ? random_.Below(blocks)
                                  : blocks - 1 - random_.Below(std::min<std::size_t>(blocks, 4));
    const std::size_t sector = block * kBlockBytes + random_.Below(kBlockBytes / kSector) * kSector;
    const Bytes zeros(3 * kBlockBytes);
    damage_kind_ = static_cast<DamageKind>(random_.Below(kNewestGone));
    const auto write = [&](std::size_t at, std::span<const std::byte> with) {
      const std::size_t room = bytes.size() - at;
      tree.Write(node, at, with.first(std::min(with.size(), room)));
    };
    switch (damage_kind_) {
      case kFlippedBit: {
        const std::size_t at = sector + random_.Below(kSector);
        const std::byte flipped = bytes[at] ^ static_cast<std::byte>(1u << random_.Below(8));
        write(at, {&flipped, 1});
        break;
      }
      case kFlippedBits: {
        Bytes noise(bytes.begin() + static_cast<std::ptrdiff_t>(sector),
                    bytes.begin() + static_cast<std::ptrdiff_t>(sector + kSector));
        for (std::byte& b : noise) b ^= static_cast<std::byte>(random_.Below(256));
        write(sector, noise);
        break;
      }
      case kZeroSector:
        write(sector, std::span(zeros).first(kSector));
        break;
      case kZeroBlock:
        write(block * kBlockBytes, std::span(zeros).first(kBlockBytes));
        break;
      case kZeroBlocks:
        write(block * kBlockBytes, std::span(zeros).first((2 + random_.Below(2)) * kBlockBytes));
        break;
      case kOtherHistory: {
        const Forged forged = Forge(bytes, random_.Next() % 64);
        write(forged.block * kBlockBytes, forged.blocks);
        break;
      }
      case kSwappedBlocks: {
        const std::size_t other = random_.Below(blocks);
        write(block * kBlockBytes, std::span(bytes).subspan(other * kBlockBytes, kBlockBytes));
        write(other * kBlockBytes, std::span(bytes).subspan(block * kBlockBytes, kBlockBytes));
        break;
      }
      default: {
        const std::size_t other = random_.Below(blocks * kBlockBytes / kSector) * kSector;
        write(sector, std::span(bytes).subspan(other, kSector));
      }
    }
    if (tree.at(node).bytes == damage.before) return;
    damage.after = tree.at(node).bytes;
    damage.what = NameOf(damage_kind_);
  }

  const std::uint64_t seed_;
  const std::uint64_t per_cut_;
  Random random_;
  std::string& first_;
  Tally tally_;
  std::uint64_t boot_ = 0;
  std::uint64_t cut_ = 0;
  std::string kind_;
  DamageKind damage_kind_ = kFlippedBit;
};

}  // namespace

const char* NameOf(DamageKind kind) {
  switch (kind) {
    case kFlippedBit:
      return "a flipped bit";
    case kFlippedBits:
      return "flipped bits";
    case kZeroSector:
      return "a sector of zeros";
    case kZeroBlock:
      return "a block of zeros";
    case kZeroBlocks:
      return "blocks of zeros";
    case kOtherHistory:
      return "a batch of another history";
    case kSwappedBlocks:
      return "swapped blocks";
    case kForeignSector:
      return "a sector from elsewhere";
    case kNewestGone:
      return "the newest segment's file gone";
    default:
      return "?";
  }
}

Tally CheckSeed(std::uint64_t seed, std::uint64_t per_cut, std::string& first) {
  return Checker(seed, per_cut, first).Run();
}

}  // namespace epoch::images
