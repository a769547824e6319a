// What a region's bytes mean. Everything that two builds must agree on is here and in words.h.
//
//   0            4096          8192
//   +------------+-------------+----------------+-----------------+---------------------+
//   | Superblock | Control     | Slot x P       | VersionCell x V | payload stride x V  |
//   +------------+-------------+----------------+-----------------+---------------------+
//                                1024 bytes each  256 bytes each    state_bytes, rounded up to 128
//
// The superblock is written once, before the region gets its name. No pointers, only indices, and
// each is checked before use. Hot words stand alone on 128 bytes: x86 prefetches lines in pairs.
#ifndef EPOCH_DETAIL_MEMORY_LAYOUT_H_
#define EPOCH_DETAIL_MEMORY_LAYOUT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "epoch/detail/memory/words.h"
#include "epoch/detail/platform/digest.h"
#include "epoch/detail/platform/identity.h"
#include "epoch/detail/platform/seam.h"

namespace epoch::detail {

inline constexpr std::uint64_t kRegionMagic = 0x4e474552484f5045ull;  // "EPOHREGN", little-endian
inline constexpr std::uint32_t kLayoutMajor = 6;
inline constexpr std::uint32_t kLayoutMinor = 0;
// The algorithm is inlined into every program that uses a region, so builds of different ages share
// one. kProtocol counts the changes to it that leave the layout alone; kProtocolFloor is the oldest one
// that this build can share a region with. A region carries its maker's floor: older builds stay out,
// and so does one whose own floor is higher, since older ones may be in (COMPATIBILITY.md).
inline constexpr std::uint32_t kProtocol = 0;
inline constexpr std::uint32_t kProtocolFloor = 0;
enum class ProtocolFit { kFits, kTooOld, kTooNew };
constexpr ProtocolFit FitsProtocol(std::uint32_t region_floor, std::uint32_t protocol,
                                   std::uint32_t floor) {
  if (protocol < region_floor) return ProtocolFit::kTooOld;
  return region_floor < floor ? ProtocolFit::kTooNew : ProtocolFit::kFits;
}
static_assert(FitsProtocol(kProtocolFloor, kProtocol, kProtocolFloor) == ProtocolFit::kFits);
inline constexpr std::size_t kHotStride = 128;
inline constexpr std::size_t kPageBytes = 4096;
inline constexpr std::size_t kNameBytes = 64;  // with the terminating zero
inline constexpr std::size_t kReasonBytes = kMaxReasonBytes + 1;
inline constexpr std::size_t kJournalPathBytes = 1024;
inline constexpr int kMostBatchesInFlight = 8;
// Room for those in flight, and for those before them: what a batch follows is still there.
inline constexpr int kBatchRingSlots = 16;

// 4096 bytes. Fields up to `fingerprint` keep their place in every layout, so that any build can
// say what it met. `checksum` covers all bytes before it.
struct Superblock {
  std::uint64_t magic;
  std::uint32_t layout_major;
  std::uint32_t layout_minor;
  std::uint64_t fingerprint;
  Id incarnation;
  Id boot;  // /proc/sys/kernel/random/boot_id: a region does not outlive its boot; 0: not known
  std::uint64_t state_bytes;
  std::uint32_t participants;
  std::uint32_t versions;
  std::uint64_t slots_offset;
  std::uint64_t cells_offset;
  std::uint64_t payload_offset;
  std::uint64_t payload_stride;
  std::uint64_t total_bytes;
  std::int64_t created_unix_ns;
  std::uint32_t durable;  // 0 or 1
  History history;
  Id journal;
  std::uint64_t segment_bytes;
  std::uint32_t retain_segments;
  std::uint32_t protocol_floor;  // the oldest protocol that may be in it
  std::array<char, kJournalPathBytes> journal_path;
  std::uint64_t retain_epochs;
  FileIdentity file;  // of the file that this was written to: elsewhere it is a copy
  // How far the creator's time namespace had moved CLOCK_MONOTONIC: participants share deadlines.
  std::int64_t clock_offset_ns;
  std::uint64_t clock_offset_known;  // 0 or 1
  std::array<std::byte, 2848> padding;
  std::uint64_t checksum;
};
static_assert(sizeof(Superblock) == kPageBytes);
static_assert(offsetof(Superblock, fingerprint) == 16);
static_assert(offsetof(Superblock, file) == 1192);
static_assert(offsetof(Superblock, checksum) == kPageBytes - 8);

// One batch of the journal: three words, each only ever CASed from the exact value of batch s-16 to
// that of batch s, so there is no neutral value that a late CAS could hit.
struct alignas(kHotStride) BatchWords {
  seam::Atomic<std::uint64_t> w;  // state:2 | hint only:1 | version:13 | last epoch:48
  seam::Atomic<std::uint64_t> e;  // segment:24 | end block:40
  seam::Atomic<std::uint64_t> h;  // batch number:16 | durable hint:48
  // Advice, never trusted for correctness: slot + 1 of who froze it.
  seam::Atomic<std::uint64_t> writer;
};

inline constexpr std::uint64_t kDoors = 64;

struct Control {
  alignas(kHotStride) seam::Atomic<std::uint64_t> head;  // the epoch word
  alignas(kHotStride) seam::Atomic<std::uint64_t> tail;
  // Futex word: bit 0 says that somebody sleeps, the rest counts wake-ups (bell.h).
  alignas(kHotStride) seam::Atomic<std::uint32_t> bell;
  // Futex words like the bell, for those who wait for one epoch to be durable: door e mod 64 is
  // that of epoch e.
  alignas(kHotStride) seam::Atomic<std::uint32_t> doors[kDoors];
  // Slots from here on have never been taken; scans stop here. Only grows.
  alignas(kHotStride) seam::Atomic<std::uint32_t> slot_limit;
  alignas(kHotStride) seam::Atomic<std::uint64_t> ballot;  // the last one given out
  alignas(kHotStride) seam::Atomic<std::uint64_t> gather;  // the collective round
  // Advice, never trusted for correctness: who prepares the next segment {number:48, slot + 1:16},
  // recent commit latency, and the errno that keeps the next segment from being made.
  alignas(kHotStride) seam::Atomic<std::uint64_t> preparer;
  seam::Atomic<std::int64_t> flush_latency_ns;
  seam::Atomic<std::uint32_t> journal_stall_errno;
  // Twice the number of the newest segment whose directory entry is durable; plus 1 if that is so
  // by its own name, and not only by its spare's. Trusted: who finds its segment here syncs no
  // directory for it. Only grows.
  seam::Atomic<std::uint64_t> named_segment;
  alignas(kHotStride) BatchWords ring[kBatchRingSlots];
};
static_assert(sizeof(Control) <= kPageBytes);

enum SlotFlag : std::uint32_t {
  kSlotVoter = 1,
  kSlotParked = 2,
  kSlotFlushes = 4,  // promises to write the journal for others
  kSlotWrites = 8,   // is in a call that writes what it waits for: a fenced transition, perhaps
};

// 1024 bytes.
//
//     0 +--------------------------------------------------+
//       | state | flags | pid | start time | pid namespace |  written by join, expel, leave
//       | name[64]                                         |
//   128 +--------------------------------------------------+
//       | pin | ack | own | help | look | listen           |  written by the owner only
//   256 +--------------------------------------------------+
//       | vote | vote digest | tag | contribution length   |
//       | reason[128] | offer                              |
//   512 +--------------------------------------------------+
//       | contribution[256]                                |
//   768 +--------------------------------------------------+
struct alignas(1024) Slot {
  seam::Atomic<std::uint64_t> state;
  seam::Atomic<std::uint32_t> flags;
  seam::Atomic<std::uint32_t> pid;  // as seen by the owner, in its own pid namespace
  seam::Atomic<std::uint64_t> start_time_ticks;
  seam::Atomic<std::uint64_t> pid_namespace;
  seam::Atomic<std::uint64_t> name[kNameBytes / 8];

  alignas(kHotStride) seam::Atomic<std::uint64_t> pin;
  seam::Atomic<std::uint64_t> ack;
  // Guards: each keeps one cell from being recycled.
  seam::Atomic<std::uint64_t> own;     // the owner's own proposal, or the version it updates
  seam::Atomic<std::uint64_t> help;    // a proposal that it drives
  seam::Atomic<std::uint64_t> look;    // a proposal that it validates
  seam::Atomic<std::uint64_t> listen;  // the same two, in its listener's thread

  alignas(kHotStride) seam::Atomic<std::uint64_t> vote;
  seam::Atomic<std::uint64_t> vote_digest;
  seam::Atomic<std::uint64_t> tag;
  seam::Atomic<std::uint64_t> contribution_bytes;
  seam::Atomic<std::uint64_t> reason[kReasonBytes / 8];
  seam::Atomic<std::uint64_t> offer;  // generation:16 | collective round:48

  alignas(256) seam::Atomic<std::uint64_t> contribution[kMaxContributionBytes / 8];
};
// The words that carry the owner's generation, and that are "none" when it is gone.
inline std::array<seam::Atomic<std::uint64_t>*, 7> OwnedWordsOf(Slot& slot) {
  return {&slot.pin, &slot.ack, &slot.own, &slot.help, &slot.look, &slot.listen, &slot.offer};
}
// Those of them that keep a cell from being recycled (words.h).
inline std::array<const seam::Atomic<std::uint64_t>*, 4> GuardsOf(const Slot& slot) {
  return {&slot.own, &slot.help, &slot.look, &slot.listen};
}
// Whether transitions wait for the vote of a slot with these flags.
inline bool HasAVote(std::uint32_t flags) {
  return (flags & (kSlotVoter | kSlotParked)) == kSlotVoter;
}
static_assert(sizeof(Slot) == 1024);
static_assert(offsetof(Slot, pin) == 128 && offsetof(Slot, vote) == 256);
static_assert(offsetof(Slot, contribution) == 512);

// 256 bytes. The header words from `epoch` on are written by the drafter before the tail CAS and
// never change while the cell is published; they are atomics only because a reclaimer may look at
// a cell that is being recycled under it (it then loses its CAS on `owner`).
//
//     0 +--------------------------------------------------+
//       | owner | outcome                                  |
//   128 +--------------------------------------------------+
//       | epoch | ballot | length | digest | chain | token |
//       | proposer | shape | deadline | round              |
//   256 +--------------------------------------------------+
struct alignas(256) VersionCell {
  seam::Atomic<std::uint64_t> owner;
  seam::Atomic<std::uint64_t> outcome;

  alignas(kHotStride) seam::Atomic<std::uint64_t> epoch;
  seam::Atomic<std::uint64_t> ballot;
  seam::Atomic<std::uint64_t> length_bytes;
  seam::Atomic<std::uint64_t> digest;
  seam::Atomic<std::uint64_t> chain;
  seam::Atomic<std::uint64_t> token;
  seam::Atomic<std::uint64_t> proposer;  // slot:16 | generation:48
  // kind:8 | fence:1 | 0:5 | voters:1 | expel:1 | 0:3 | least voters:13 | previous:32
  seam::Atomic<std::uint64_t> shape;
  seam::Atomic<std::int64_t> deadline_ns;  // of the vote, a Deadline's word
  seam::Atomic<std::uint64_t> round;       // of a collective proposal; 0: it is none
};
static_assert(sizeof(VersionCell) == 256);
static_assert(offsetof(VersionCell, epoch) == 128);

// What a version's payload is. A delta to its predecessor is foreseen by the format.
enum class VersionKind : std::uint8_t { kFullState = 1, kDelta = 2 };

// Of the least number of voters: at least one must have accepted, or have been expelled for its
// sake.
inline constexpr std::uint32_t kSomeVoter = kIndexMask;

constexpr std::uint64_t PackShape(VersionKind kind, std::uint64_t previous_cell, bool fence = false,
                                  bool expel = false, bool voters = false,
                                  std::uint32_t least_voters = 0) {
  // More than there can be is asked for in vain, whatever the number.
  const std::uint64_t least = least_voters < kIndexMask ? least_voters : kIndexMask;
  return (std::uint64_t{static_cast<std::uint8_t>(kind)} << 56) |
         (std::uint64_t{fence ? 1u : 0u} << 55) | (std::uint64_t{voters ? 1u : 0u} << 49) |
         (std::uint64_t{expel ? 1u : 0u} << 48) | (least << 32) | previous_cell;
}
constexpr std::uint32_t LeastVotersOf(std::uint64_t shape) {
  return static_cast<std::uint32_t>((shape >> 32) & kIndexMask);
}
constexpr bool FenceOf(std::uint64_t shape) { return ((shape >> 55) & 1) != 0; }
constexpr bool ExpelOf(std::uint64_t shape) { return ((shape >> 48) & 1) != 0; }
constexpr bool VotersOf(std::uint64_t shape) { return ((shape >> 49) & 1) != 0; }
constexpr VersionKind KindOf(std::uint64_t shape) { return static_cast<VersionKind>(shape >> 56); }
constexpr std::uint32_t PreviousCellOf(std::uint64_t shape) {
  return static_cast<std::uint32_t>(shape & 0xffffffffu);
}

// Two builds that disagree on any of these refuse each other by this word.
constexpr std::uint64_t LayoutFingerprint() {
  return (std::uint64_t{sizeof(Superblock)} << 48) | (std::uint64_t{sizeof(Control)} << 32) |
         (std::uint64_t{sizeof(Slot)} << 16) | (std::uint64_t{sizeof(VersionCell)} << 4) |
         0x1u;  // little-endian
}

struct Geometry {
  std::uint64_t state_bytes = 0;
  std::uint32_t participants = 0;
  std::uint32_t versions = 0;
  std::uint64_t slots_offset = 0;
  std::uint64_t cells_offset = 0;
  std::uint64_t payload_offset = 0;
  std::uint64_t payload_stride = 0;
  std::uint64_t total_bytes = 0;

  bool operator==(const Geometry&) const = default;

  // Empty when a count is out of range or the sum does not fit in a file.
  static std::optional<Geometry> For(std::uint64_t state_bytes, std::uint32_t participants,
                                     std::uint32_t versions) {
    constexpr std::uint64_t kMaxStateBytes = std::uint64_t{1} << 40;
    if (state_bytes == 0 || state_bytes > kMaxStateBytes || participants == 0 ||
        participants > kMaxParticipants || versions < 4 || versions > kMaxVersions) {
      return std::nullopt;
    }
    Geometry g;
    g.state_bytes = state_bytes;
    g.participants = participants;
    g.versions = versions;
    g.slots_offset = sizeof(Superblock) + kPageBytes;
    g.cells_offset = g.slots_offset + std::uint64_t{participants} * sizeof(Slot);
    g.payload_offset = g.cells_offset + std::uint64_t{versions} * sizeof(VersionCell);
    g.payload_offset = (g.payload_offset + kPageBytes - 1) / kPageBytes * kPageBytes;
    g.payload_stride = (state_bytes + kHotStride - 1) / kHotStride * kHotStride;
    g.total_bytes = g.payload_offset + g.payload_stride * versions;
    g.total_bytes = (g.total_bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
    return g;
  }
};

// A mapped region: where its parts are in this process. Copied freely; owns nothing.
struct RegionView {
  Control* control = nullptr;
  Slot* slots = nullptr;
  VersionCell* cells = nullptr;
  std::byte* payload = nullptr;
  Geometry geometry;
  bool durable = false;

  static RegionView At(std::byte* base, const Geometry& geometry, bool durable) {
    return {.control = reinterpret_cast<Control*>(base + sizeof(Superblock)),
            .slots = reinterpret_cast<Slot*>(base + geometry.slots_offset),
            .cells = reinterpret_cast<VersionCell*>(base + geometry.cells_offset),
            .payload = base + geometry.payload_offset,
            .geometry = geometry,
            .durable = durable};
  }
  bool ValidCell(std::uint64_t index) const { return index < geometry.versions; }
  std::byte* PayloadOf(std::uint32_t cell) const {
    return payload + std::uint64_t{cell} * geometry.payload_stride;
  }
  // How many slots a scan must look at; never more than exist, whatever the shared word says.
  std::uint32_t SlotLimit() const {
    const std::uint32_t limit = control->slot_limit.Load();
    return limit < geometry.participants ? limit : geometry.participants;
  }
};

// The cell of the committed version. A closed head names the proposal whose fence drains; that
// one's predecessor is what everybody still reads. Right as long as head is that word.
inline std::uint32_t CommittedCell(const RegionView& view, const StateWord& head) {
  if (head.phase != Phase::kClosed || !view.ValidCell(head.version)) return head.version;
  return PreviousCellOf(view.cells[head.version].shape.Load(std::memory_order_relaxed));
}

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_MEMORY_LAYOUT_H_
