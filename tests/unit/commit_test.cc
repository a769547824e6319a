// Committing: order, expectations, drafts, updates, tokens, tickets.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "epoch/epoch.h"
#include "support/region_test.h"

namespace epoch::test {
namespace {

using CommitTest = SmallRegionTest;

TEST_F(CommitTest, epochs_are_contiguous_and_each_state_is_the_one_committed) {
  Participant self = Joined();
  for (Epoch epoch = 1; epoch <= 100; ++epoch) {
    const std::string text = "state " + std::to_string(epoch);
    auto committed = self.Commit(text);
    ASSERT_OK(committed);
    ASSERT_EQ(*committed, epoch);
    const Pin pin = self.Pin();
    ASSERT_EQ(pin.epoch(), epoch);
    ASSERT_EQ(pin.text(), text);
  }
}

TEST_F(CommitTest, empty_and_full_states_are_states) {
  Participant self = Joined();
  ASSERT_OK(self.Commit(""));
  EXPECT_TRUE(self.Pin().state().empty());
  EXPECT_EQ(self.Pin().epoch(), 1u);
  const std::string full(256, 'f');
  ASSERT_OK(self.Commit(full));
  EXPECT_EQ(self.Pin().text(), full);
}

TEST_F(CommitTest, state_above_the_limit_is_out_of_range) {
  Participant self = Joined();
  EXPECT_FAILS(self.Commit(std::string(257, 'x')), kOutOfRange, "257");
  EXPECT_FAILS(self.NewDraft(std::size_t{257}), kOutOfRange, "256");
  EXPECT_FAILS(self.NewDraft(~std::size_t{0}), kOutOfRange, "does not fit");
  EXPECT_EQ(region().epoch(), 0u);
  ExpectNothingLeaked(region(), 1);
}

TEST_F(CommitTest, expected_epoch_that_differs_aborts_and_changes_nothing) {
  Participant self = Joined();
  ASSERT_OK(self.Commit("one"));
  for (Epoch wrong : {Epoch{0}, Epoch{2}, kMaxEpoch}) {
    EXPECT_FAILS(self.Commit("other", {.expected = wrong}), kAborted,
                 "expected epoch " + std::to_string(wrong) + ", but the region is at 1");
  }
  EXPECT_EQ(region().epoch(), 1u);
  EXPECT_EQ(self.Pin().text(), "one");
  EXPECT_EQ(CountCells(region()).drafted, 0u);
  EXPECT_EQ(*self.Commit("two", {.expected = 1}), 2u);
}

TEST_F(CommitTest, of_two_commits_that_expect_the_same_epoch_one_succeeds) {
  Participant a = Joined("a"), b = Joined("b");
  auto from_a = a.NewDraft(std::as_bytes(std::span("a", 1)));
  auto from_b = b.NewDraft(std::as_bytes(std::span("b", 1)));
  ASSERT_OK(from_a);
  ASSERT_OK(from_b);
  EXPECT_EQ(*b.Commit(*std::move(from_b), {.expected = 0}), 1u);
  EXPECT_FAILS(a.Commit(*std::move(from_a), {.expected = 0}), kAborted, "expected epoch 0");
  EXPECT_EQ(a.Pin().text(), "b");
  ExpectNothingLeaked(region(), 2);
}

TEST_F(CommitTest, token_belongs_to_its_version) {
  Participant self = Joined();
  ASSERT_OK(self.Commit("x", {.token = 42}));
  EXPECT_EQ(region().Read()->token, 42u);
  ASSERT_OK(self.Commit("y"));
  EXPECT_EQ(region().Read()->token, 0u);
  ASSERT_OK(self.Commit("z", {.token = ~std::uint64_t{0}}));
  std::uint64_t seen = 0;
  ASSERT_OK(self.Update([&](const Current& current, Draft&) {
    seen = current.token;
    return NoChange();
  }));
  EXPECT_EQ(seen, ~std::uint64_t{0});
}

TEST_F(CommitTest, draft_is_written_in_place_and_resized_within_its_cell) {
  Participant self = Joined();
  auto draft = self.NewDraft(std::size_t{4});
  ASSERT_OK(draft);
  EXPECT_EQ(draft->capacity(), 256u);
  ASSERT_OK(draft->Resize(256));
  EXPECT_EQ(draft->bytes().size(), 256u);
  EXPECT_FAILS(draft->Resize(257), kOutOfRange, "257");
  EXPECT_EQ(draft->size(), 256u) << "a refused resize changes nothing";
  const std::vector<std::byte> tooLarge(300);
  EXPECT_FAILS(draft->Assign(tooLarge), kOutOfRange, "300");
  ASSERT_OK(draft->Resize(3));
  std::ranges::copy(std::as_bytes(std::span("abc", 3)), draft->bytes().begin());
  ASSERT_OK(self.Commit(*std::move(draft)));
  EXPECT_EQ(self.Pin().text(), "abc");
}

TEST_F(CommitTest, draft_moves_and_is_dropped_once) {
  Participant self = Joined();
  {
    auto first = self.NewDraft(std::size_t{1});
    auto second = self.NewDraft(std::size_t{2});
    ASSERT_OK(first);
    ASSERT_OK(second);
    EXPECT_EQ(CountCells(region()).drafted, 2u);
    Draft moved = *std::move(first);
    moved = *std::move(second);
    EXPECT_EQ(moved.size(), 2u);
    EXPECT_EQ(CountCells(region()).drafted, 1u) << "assignment drops what was there";
  }
  EXPECT_EQ(CountCells(region()).drafted, 0u);
}

TEST_F(CommitTest, update_counts_without_losing_any) {
  Participant a = Joined("a"), b = Joined("b");
  for (int i = 0; i < 200; ++i) {
    ASSERT_OK(Increment(a));
    ASSERT_OK(Increment(b));
  }
  EXPECT_EQ(region().epoch(), 400u);
  EXPECT_EQ(ReadChecked(a.Pin().state()), 400u);
}

TEST_F(CommitTest, update_retries_when_another_commit_came_first) {
  Participant self = Joined(), rival = Joined("rival");
  int calls = 0;
  auto epoch = self.Update([&](const Current& current, Draft& next) {
    if (++calls <= 3) {
      EXPECT_OK(rival.Commit("rival " + std::to_string(calls)));
    }
    return next.Assign(current.state);
  });
  ASSERT_OK(epoch);
  EXPECT_EQ(calls, 4);
  EXPECT_EQ(*epoch, 4u);
  EXPECT_EQ(self.Pin().text(), "rival 3") << "built on the state that it directly succeeds";
}

TEST_F(CommitTest, update_that_fails_changes_nothing) {
  Participant self = Joined();
  EXPECT_FAILS(
      self.Update([](const Current&, Draft&) { return absl::InvalidArgumentError("not today"); }),
      kInvalidArgument, "not today");
  EXPECT_EQ(region().epoch(), 0u);
  EXPECT_FALSE(self.Poll().value() != 0);
  ExpectNothingLeaked(region(), 1);
}

TEST_F(CommitTest, update_with_an_expected_epoch_that_differs_never_calls_the_function) {
  Participant self = Joined();
  bool called = false;
  const auto touch = [&](const Current&, Draft& next) {
    called = true;
    return next.Assign("x");
  };
  EXPECT_FAILS(self.Update(touch, {.expected = 7}), kAborted, "expected epoch 7");
  EXPECT_FALSE(called);
  EXPECT_OK(self.Update(touch, {.expected = 0}));
  EXPECT_TRUE(called);
}

TEST_F(CommitTest, update_works_while_an_older_state_is_pinned) {
  Participant self = Joined();
  ASSERT_OK(Increment(self));
  const Pin old = self.Pin();
  ASSERT_OK(Increment(self));
  ASSERT_OK(Increment(self));
  EXPECT_EQ(old.epoch(), 1u);
  EXPECT_EQ(ReadChecked(old.state()), 1u);
  EXPECT_EQ(region().epoch(), 3u);
}

TEST_F(CommitTest, proposals_are_numbered_at_once_and_awaited_later) {
  Participant self = Joined();
  std::vector<Ticket> tickets;
  for (int i = 0; i < 5; ++i) {
    auto draft = self.NewDraft(CheckedState(static_cast<std::uint64_t>(i) + 1));
    ASSERT_OK(draft);
    auto ticket = self.Propose(*std::move(draft));
    ASSERT_OK(ticket);
    tickets.push_back(*ticket);
  }
  for (std::size_t i = 0; i < tickets.size(); ++i) {
    EXPECT_EQ(tickets[i].epoch, i + 1);
    EXPECT_EQ(*self.Await(tickets[i]), i + 1);
  }
}

TEST_F(CommitTest, versions_are_chained_each_to_its_predecessor) {
  Participant self = Joined();
  const auto& view = region().mapping()->view();
  const auto head_cell = [&]() -> detail::VersionCell& {
    return view.cells[detail::StateWord::Unpack(view.control->head.Load()).version];
  };
  std::uint64_t chain = head_cell().chain.Load();
  for (Epoch epoch = 1; epoch <= 20; ++epoch) {
    const auto state = CheckedState(epoch);
    ASSERT_OK(self.Commit(state, {.token = epoch * 3}));
    chain = detail::ChainDigest({.previous_chain = chain,
                                 .epoch = epoch,
                                 .length_bytes = state.size(),
                                 .digest = detail::Digest(state),
                                 .token = epoch * 3,
                                 .kind = 1});
    ASSERT_EQ(head_cell().chain.Load(), chain);
    ASSERT_EQ(head_cell().epoch.Load(), epoch);
    ASSERT_EQ(detail::ProposerWord::Unpack(head_cell().proposer.Load()).slot, self.slot());
  }
}

TEST_F(CommitTest, last_epoch_number_is_an_error_not_a_wrap) {
  Participant self = Joined();
  auto& control = *region().mapping()->view().control;
  const auto head = detail::StateWord::Unpack(control.head.Load());
  control.tail.Store(detail::StateWord{detail::Phase::kAccepted, head.version, kMaxEpoch}.Pack());
  control.head.Store(detail::StateWord{detail::Phase::kOpen, head.version, kMaxEpoch}.Pack());
  EXPECT_FAILS(self.Commit("x"), kOutOfRange, "used up");
  EXPECT_EQ(region().epoch(), kMaxEpoch);
}

TEST_F(CommitTest, a_vote_on_what_is_no_proposal_is_damage) {
  Participant self = Joined();
  auto& control = *region().mapping()->view().control;
  const auto tail = detail::StateWord::Unpack(control.tail.Load());
  control.tail.Store(detail::StateWord{detail::Phase::kVoting, tail.version, 1}.Pack());
  EXPECT_FAILS(self.Commit("x"), kDataLoss, "damaged");
  EXPECT_FAILS(Increment(self), kDataLoss, "damaged");
  EXPECT_EQ(region().epoch(), 0u);
}

TEST_F(CommitTest, a_head_closed_for_no_proposal_is_damage) {
  Participant self = Joined();
  auto& control = *region().mapping()->view().control;
  const auto head = detail::StateWord::Unpack(control.head.Load());
  control.head.Store(detail::StateWord{detail::Phase::kClosed, head.version + 1, 0}.Pack());
  EXPECT_FALSE(self.Pin().ok());
  EXPECT_OK(self.status());
}

TEST_F(RegionTest, states_of_64_mebibytes_work) {
  RegionOptions options = Small();
  options.state_bytes = std::uint64_t{64} << 20;
  options.versions = 4;
  ASSERT_NO_FATAL_FAILURE(CreateRegion(options));
  Participant self = Joined();
  for (std::uint64_t value = 1; value <= 3; ++value) {
    auto draft = self.NewDraft(options.state_bytes);
    ASSERT_OK(draft);
    std::ranges::fill(draft->bytes(), static_cast<std::byte>(value));
    draft->bytes().back() = std::byte{0xee};
    ASSERT_OK(self.Commit(*std::move(draft)));
  }
  const Pin pin = self.Pin();
  ASSERT_EQ(pin.state().size(), options.state_bytes);
  EXPECT_EQ(pin.state().back(), std::byte{0xee});
  EXPECT_EQ(std::ranges::count(pin.state(), std::byte{3}),
            static_cast<std::ptrdiff_t>(options.state_bytes - 1));
  auto snapshot = region().Read();
  ASSERT_OK(snapshot);
  EXPECT_TRUE(std::ranges::equal(snapshot->state, pin.state()));
}

}  // namespace
}  // namespace epoch::test
