// Version cells: every edge of their life, and what keeps a late CAS off a recycled one.
#include "epoch/detail/protocol/versions.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "support/region_test.h"

namespace epoch::test {
namespace {

using detail::CellState;
using detail::DraftCell;
using detail::DraftedCell;
using detail::OwnerWord;

class VersionsTest : public SmallRegionTest {
 protected:
  const detail::RegionView& view() { return region().mapping()->view(); }
  OwnerWord OwnerOf(std::uint32_t cell) {
    return OwnerWord::Unpack(view().cells[cell].owner.Load());
  }
  detail::StateWord Head() { return detail::StateWord::Unpack(view().control->head.Load()); }
};

TEST_F(VersionsTest, fresh_region_has_one_published_cell_that_head_and_tail_name) {
  const CellCount cells = CountCells(region());
  EXPECT_EQ(cells.free, kVersions - 1);
  EXPECT_EQ(cells.published, 1u);
  EXPECT_EQ(OwnerOf(Head().version).state, CellState::kPublished);
  EXPECT_EQ(detail::StateWord::Unpack(view().control->tail.Load()).version, Head().version);
}

TEST_F(VersionsTest, each_draft_takes_a_cell_of_its_own_until_none_is_left) {
  std::uint32_t cursor = 0;
  std::set<std::uint32_t> taken;
  for (std::uint32_t i = 0; i + 1 < kVersions; ++i) {
    const auto draft = DraftCell(view(), 3, cursor);
    ASSERT_TRUE(draft.has_value());
    EXPECT_TRUE(taken.insert(draft->index).second) << "cell " << draft->index << " twice";
    EXPECT_EQ(OwnerOf(draft->index).state, CellState::kDrafted);
    EXPECT_EQ(OwnerOf(draft->index).slot, 3u);
  }
  EXPECT_FALSE(taken.contains(Head().version));
  EXPECT_FALSE(DraftCell(view(), 3, cursor).has_value());
  EXPECT_EQ(CountCells(region()).drafted, kVersions - 1);
}

TEST_F(VersionsTest, dropped_draft_is_free_again_with_the_next_use) {
  std::uint32_t cursor = 0;
  const auto draft = DraftCell(view(), 0, cursor);
  ASSERT_TRUE(draft.has_value());
  detail::DropDraft(view(), *draft);
  EXPECT_EQ(OwnerOf(draft->index).state, CellState::kFree);
  EXPECT_EQ(OwnerOf(draft->index).use, OwnerWord::Unpack(draft->owner).use + 1);
}

TEST_F(VersionsTest, drop_prepared_for_an_earlier_life_of_the_cell_changes_nothing) {
  std::uint32_t cursor = 0;
  const auto first = DraftCell(view(), 2, cursor);
  ASSERT_TRUE(first.has_value());
  detail::DropDraft(view(), *first);
  cursor = first->index == 0 ? kVersions - 1 : first->index - 1;  // same cell, same slot again
  const auto second = DraftCell(view(), 2, cursor);
  ASSERT_TRUE(second.has_value());
  ASSERT_EQ(second->index, first->index);
  detail::DropDraft(view(), *first);
  EXPECT_EQ(view().cells[second->index].owner.Load(), second->owner);
}

TEST_F(VersionsTest, mark_published_is_for_the_cell_that_tail_names_now) {
  Participant self = Joined();
  const std::uint64_t stale = view().control->tail.Load();
  ASSERT_OK(Increment(self));
  ASSERT_EQ(detail::Reclaim(view()), 1u);
  // The cell that the stale tail word names is drafted anew: the late helper must leave it alone.
  std::uint32_t cursor = kVersions - 1;
  const auto draft = DraftCell(view(), 5, cursor);
  ASSERT_TRUE(draft.has_value());
  ASSERT_EQ(draft->index, detail::StateWord::Unpack(stale).version);
  detail::MarkPublished(view(), stale);
  EXPECT_EQ(OwnerOf(draft->index).state, CellState::kDrafted);
  detail::DropDraft(view(), *draft);
}

TEST_F(VersionsTest, mark_published_ignores_a_version_that_can_not_be) {
  detail::MarkPublished(view(), detail::StateWord{detail::Phase::kAccepted, kVersions, 3}.Pack());
  EXPECT_EQ(CountCells(region()).free, kVersions - 1);
}

TEST_F(VersionsTest, reclaim_frees_superseded_versions_and_never_head) {
  Participant self = Joined();
  for (int i = 0; i < 4; ++i) ASSERT_OK(Increment(self));
  const std::uint32_t head = Head().version;
  EXPECT_EQ(detail::Reclaim(view()), 4u);
  EXPECT_EQ(OwnerOf(head).state, CellState::kPublished);
  EXPECT_EQ(CountCells(region()).free, kVersions - 1);
  EXPECT_EQ(detail::Reclaim(view()), 0u);
}

TEST_F(VersionsTest, a_pin_protects_its_version_and_no_earlier_one) {
  Participant self = Joined();
  Participant reader = Joined("reader");
  ASSERT_OK(Increment(self));
  ASSERT_OK(Increment(self));
  Pin pin = reader.Pin();
  ASSERT_EQ(pin.epoch(), 2u);
  const OwnerWord pinned = OwnerOf(Head().version);
  const std::uint32_t cell = Head().version;
  ASSERT_OK(Increment(self));
  ASSERT_OK(Increment(self));
  EXPECT_GE(detail::Reclaim(view()), 2u) << "epochs 0 and 1";
  EXPECT_EQ(OwnerOf(cell).Pack(), pinned.Pack());
  EXPECT_EQ(ReadChecked(pin.state()), 2u);
  pin.Release();
  detail::Reclaim(view());
  EXPECT_EQ(CountCells(region()).free, kVersions - 1);
}

TEST_F(VersionsTest, a_guard_protects_the_cell_it_names) {
  Participant self = Joined();
  const std::uint32_t cell = Head().version;
  for (auto guard : {&detail::Slot::own, &detail::Slot::help}) {
    SCOPED_TRACE(guard == &detail::Slot::own ? "own" : "help");
    auto& word = view().slots[self.slot()].*guard;
    const std::uint32_t guarded = Head().version;
    const auto generation = static_cast<std::uint16_t>(self.generation());
    word.Store(detail::OwnedWord{generation, guarded}.Pack());
    ASSERT_OK(self.Commit("next"));  // not an update, which would use the guard itself
    detail::Reclaim(view());
    EXPECT_EQ(OwnerOf(guarded).state, CellState::kPublished);
    word.Store(detail::NoneOf(self.generation()));
    EXPECT_EQ(detail::Reclaim(view()), 1u);
  }
  EXPECT_EQ(OwnerOf(cell).state, CellState::kFree);
}

TEST_F(VersionsTest, drafts_of_an_expelled_slot_are_freed_only_while_it_is_that_expelled) {
  Participant self = Joined();
  auto draft = self.NewDraft(std::size_t{8});
  ASSERT_OK(draft);
  const std::uint64_t other_life =
      detail::SlotWord{detail::SlotState::kExpelled, self.generation() + 1}.Pack();
  EXPECT_FALSE(detail::FreeDraftsOf(view(), self.slot(), other_life));
  EXPECT_EQ(CountCells(region()).drafted, 1u);
}

TEST_F(VersionsTest, dropping_and_committing_account_for_every_cell) {
  Participant self = Joined();
  for (int round = 0; round < 100; ++round) {
    auto dropped = self.NewDraft(std::size_t{1});
    ASSERT_OK(dropped);
    ASSERT_OK(Increment(self));
    const CellCount cells = CountCells(region());
    ASSERT_EQ(cells.free + cells.drafted + cells.published, kVersions);
    ASSERT_EQ(cells.drafted, 1u);
  }
  ExpectNothingLeaked(region(), 1);
}

}  // namespace
}  // namespace epoch::test
