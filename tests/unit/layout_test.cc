// What two builds must agree on: sizes, places, limits.
#include "epoch/detail/memory/layout.h"

#include <gtest/gtest.h>

namespace epoch::detail {
namespace {

// Layout 6, for ever: a change of any of these needs a new layout number.
static_assert(kLayoutMajor == 6);
static_assert(sizeof(Superblock) == 4096 && sizeof(Slot) == 1024 && sizeof(VersionCell) == 256);
static_assert(offsetof(Superblock, magic) == 0 && offsetof(Superblock, layout_major) == 8);
static_assert(offsetof(Superblock, fingerprint) == 16 && offsetof(Superblock, checksum) == 4088);
static_assert(offsetof(Superblock, retain_segments) == 152);
static_assert(offsetof(Superblock, protocol_floor) == 156);
static_assert(offsetof(Superblock, retain_epochs) == 1184);
static_assert(offsetof(Superblock, file) == 1192 && sizeof(FileIdentity) == 32);
static_assert(offsetof(Superblock, clock_offset_ns) == 1224);
static_assert(offsetof(Superblock, clock_offset_known) == 1232);
static_assert(offsetof(Control, head) == 0 && offsetof(Control, tail) == 128);
static_assert(offsetof(Control, bell) == 256 && offsetof(Control, doors) == 384);
static_assert(offsetof(Control, slot_limit) == 640 && offsetof(Control, ring) == 1152);
static_assert(offsetof(Slot, pin) == 128 && offsetof(Slot, vote) == 256);
static_assert(offsetof(Slot, offer) == 416 && offsetof(Slot, contribution) == 512);
static_assert(offsetof(VersionCell, epoch) == 128);
static_assert(alignof(Control) == kHotStride && alignof(BatchWords) == kHotStride);

TEST(Layout, fingerprint_holds_every_struct_size) {
  const std::uint64_t word = LayoutFingerprint();
  EXPECT_EQ(word >> 48, sizeof(Superblock));
  EXPECT_EQ((word >> 32) & 0xffff, sizeof(Control));
  EXPECT_EQ((word >> 16) & 0xffff, sizeof(Slot));
  EXPECT_EQ((word >> 4) & 0xfff, sizeof(VersionCell));
  EXPECT_EQ(word & 0xf, 1u);
}

// A build of protocol 7 that can share a region with those of 5 and later.
TEST(Layout, builds_share_a_region_if_none_of_those_that_may_be_in_is_too_old_for_another) {
  const auto fits = [](std::uint32_t region_floor) { return FitsProtocol(region_floor, 7, 5); };
  EXPECT_EQ(fits(5), ProtocolFit::kFits);
  EXPECT_EQ(fits(6), ProtocolFit::kFits);  // made by a newer build: this one may come in still
  EXPECT_EQ(fits(7), ProtocolFit::kFits);
  EXPECT_EQ(fits(8), ProtocolFit::kTooOld);
  EXPECT_EQ(fits(4), ProtocolFit::kTooNew);  // builds of protocol 4 may be in
  EXPECT_EQ(fits(0), ProtocolFit::kTooNew);
}

TEST(Geometry, refuses_what_is_out_of_range) {
  EXPECT_TRUE(Geometry::For(1, 1, 4).has_value());
  EXPECT_TRUE(Geometry::For(std::uint64_t{1} << 40, kMaxParticipants, kMaxVersions).has_value());
  EXPECT_FALSE(Geometry::For(0, 1, 4).has_value());
  EXPECT_FALSE(Geometry::For((std::uint64_t{1} << 40) + 1, 1, 4).has_value());
  EXPECT_FALSE(Geometry::For(~std::uint64_t{0}, 1, 4).has_value());
  EXPECT_FALSE(Geometry::For(1, 0, 4).has_value());
  EXPECT_FALSE(Geometry::For(1, kMaxParticipants + 1, 4).has_value());
  EXPECT_FALSE(Geometry::For(1, 1, 3).has_value());
  EXPECT_FALSE(Geometry::For(1, 1, kMaxVersions + 1).has_value());
}

TEST(Geometry, parts_follow_each_other_without_overlap) {
  for (std::uint64_t state_bytes :
       {std::uint64_t{1}, std::uint64_t{127}, std::uint64_t{128}, std::uint64_t{129},
        std::uint64_t{65536}, std::uint64_t{1} << 40}) {
    for (std::uint32_t participants : {1u, 7u, kMaxParticipants}) {
      for (std::uint32_t versions : {4u, 129u, kMaxVersions}) {
        const auto g = Geometry::For(state_bytes, participants, versions);
        ASSERT_TRUE(g.has_value());
        EXPECT_GE(g->slots_offset, sizeof(Superblock) + sizeof(Control));
        EXPECT_GE(g->cells_offset, g->slots_offset + participants * sizeof(Slot));
        EXPECT_GE(g->payload_offset, g->cells_offset + versions * sizeof(VersionCell));
        EXPECT_GE(g->payload_stride, state_bytes);
        EXPECT_GE(g->total_bytes, g->payload_offset + g->payload_stride * versions);
        EXPECT_EQ(g->slots_offset % alignof(Slot), 0u);
        EXPECT_EQ(g->cells_offset % alignof(VersionCell), 0u);
        EXPECT_EQ(g->payload_offset % kPageBytes, 0u);
        EXPECT_EQ(g->payload_stride % kHotStride, 0u);
        EXPECT_EQ(g->total_bytes % kPageBytes, 0u);
      }
    }
  }
}

TEST(RegionView, slot_limit_never_exceeds_the_slots_there_are) {
  alignas(kHotStride) Control control{};
  RegionView view;
  view.control = &control;
  view.geometry = *Geometry::For(64, 5, 4);
  control.slot_limit.Store(3);
  EXPECT_EQ(view.SlotLimit(), 3u);
  control.slot_limit.Store(0xffffffffu);
  EXPECT_EQ(view.SlotLimit(), 5u);
}

TEST(Shape, kind_and_previous_cell_come_back) {
  const std::uint64_t shape = PackShape(VersionKind::kDelta, kMaxVersions);
  EXPECT_EQ(KindOf(shape), VersionKind::kDelta);
  EXPECT_EQ(PreviousCellOf(shape), kMaxVersions);
  EXPECT_FALSE(FenceOf(shape) || ExpelOf(shape) || VotersOf(shape));
}

TEST(Shape, each_flag_is_its_own) {
  for (int flags = 0; flags < 8; ++flags) {
    const bool fence = (flags & 1) != 0, expel = (flags & 2) != 0, voters = (flags & 4) != 0;
    const std::uint64_t shape = PackShape(VersionKind::kFullState, 77, fence, expel, voters);
    EXPECT_EQ(FenceOf(shape), fence);
    EXPECT_EQ(ExpelOf(shape), expel);
    EXPECT_EQ(VotersOf(shape), voters);
    EXPECT_EQ(KindOf(shape), VersionKind::kFullState);
    EXPECT_EQ(PreviousCellOf(shape), 77u);
  }
}

}  // namespace
}  // namespace epoch::detail
