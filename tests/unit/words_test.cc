// Packing: every field comes back as it went in, at its extremes, and disturbs no other.
#include "epoch/detail/memory/words.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace epoch::detail {
namespace {

const std::vector<std::uint64_t> kNumbers = {
    0, 1, 2, (std::uint64_t{1} << 32) - 1, std::uint64_t{1} << 32, kMaxEpoch, kNone};

TEST(StateWord, comes_back_as_packed) {
  for (auto phase :
       {Phase::kAccepted, Phase::kVoting, Phase::kOpen, Phase::kClosed, Phase::kPoisoned}) {
    for (std::uint32_t version : {0u, 1u, 4095u, kMaxVersions - 1, kMaxVersions}) {
      for (Epoch epoch : kNumbers) {
        const StateWord back = StateWord::Unpack(StateWord{phase, version, epoch}.Pack());
        EXPECT_EQ(back.phase, phase);
        EXPECT_EQ(back.version, version);
        EXPECT_EQ(back.epoch, epoch);
      }
    }
  }
}

TEST(OwnerWord, comes_back_as_packed) {
  for (auto state :
       {CellState::kFree, CellState::kDrafted, CellState::kPublished, CellState::kRetired}) {
    for (std::uint32_t slot : {0u, 1u, kMaxParticipants - 1, kMaxParticipants}) {
      for (std::uint64_t use : kNumbers) {
        const OwnerWord back = OwnerWord::Unpack(OwnerWord{state, slot, use}.Pack());
        EXPECT_EQ(back.state, state);
        EXPECT_EQ(back.slot, slot);
        EXPECT_EQ(back.use, use);
      }
    }
  }
}

TEST(OwnerWord, freeing_advances_the_use_counter_and_wraps) {
  const OwnerWord first{CellState::kPublished, 77, 5};
  const OwnerWord freed = OwnerWord::Unpack(first.Freed());
  EXPECT_EQ(freed.state, CellState::kFree);
  EXPECT_EQ(freed.use, 6u);
  const OwnerWord last{CellState::kDrafted, 4095, kNumberMask};
  const OwnerWord wrapped = OwnerWord::Unpack(last.Freed());
  EXPECT_EQ(wrapped.state, CellState::kFree);
  EXPECT_EQ(wrapped.use, 0u) << "the counter must not run into the slot's bits";
}

TEST(OwnerWord, with_changes_the_state_only) {
  const OwnerWord drafted{CellState::kDrafted, 4095, kNumberMask};
  const OwnerWord published = OwnerWord::Unpack(drafted.With(CellState::kPublished));
  EXPECT_EQ(published.state, CellState::kPublished);
  EXPECT_EQ(published.slot, drafted.slot);
  EXPECT_EQ(published.use, drafted.use);
}

TEST(SlotWord, comes_back_as_packed) {
  for (auto state :
       {SlotState::kFree, SlotState::kJoining, SlotState::kActive, SlotState::kExpelled}) {
    for (std::uint64_t generation : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{0x10000},
                                     (std::uint64_t{1} << 61) - 1}) {
      const SlotWord back = SlotWord::Unpack(SlotWord{state, generation}.Pack());
      EXPECT_EQ(back.state, state);
      EXPECT_EQ(back.generation, generation);
    }
  }
}

TEST(OwnedWord, comes_back_as_packed) {
  for (int each : {0, 1, 0x7fff, 0xffff}) {
    const auto generation = static_cast<std::uint16_t>(each);
    for (std::uint64_t number : kNumbers) {
      const OwnedWord back = OwnedWord::Unpack(OwnedWord{generation, number}.Pack());
      EXPECT_EQ(back.generation, generation);
      EXPECT_EQ(back.number, number);
    }
  }
}

TEST(OwnedWord, none_is_no_epoch_and_no_cell_in_any_generation) {
  for (std::uint64_t generation :
       {std::uint64_t{0}, std::uint64_t{65535}, std::uint64_t{65536}, std::uint64_t{1} << 40}) {
    const OwnedWord none = OwnedWord::Unpack(NoneOf(generation));
    EXPECT_EQ(none.generation, static_cast<std::uint16_t>(generation));
    EXPECT_GT(none.number, kMaxEpoch);
    EXPECT_GT(none.number, std::uint64_t{kMaxVersions});
  }
}

TEST(Words, zeroed_memory_is_no_valid_word) {
  EXPECT_EQ(static_cast<int>(StateWord::Unpack(0).phase), 0);
  EXPECT_NE((StateWord{Phase::kAccepted, 0, 0}.Pack()), 0u);
  EXPECT_NE((OwnerWord{CellState::kFree, 0, 0}.Pack()), 0u);
  EXPECT_NE((SlotWord{SlotState::kFree, 0}.Pack()), 0u);
  EXPECT_NE(NoneOf(0), 0u);
}

TEST(Words, phases_of_head_and_tail_are_told_apart) {
  std::set<std::uint64_t> words;
  for (auto phase :
       {Phase::kAccepted, Phase::kVoting, Phase::kOpen, Phase::kClosed, Phase::kPoisoned}) {
    words.insert(StateWord{phase, 3, 9}.Pack());
  }
  EXPECT_EQ(words.size(), 5u);
}

TEST(OutcomeWord, every_field_comes_back) {
  const OutcomeWord word{Decision::kAborted, true, AbortCause::kWithdrawn, kMaxParticipants,
                         kBallotMask};
  const OutcomeWord back = OutcomeWord::Unpack(word.Pack());
  EXPECT_EQ(back.decision, word.decision);
  EXPECT_TRUE(back.forced);
  EXPECT_EQ(back.cause, word.cause);
  EXPECT_EQ(back.culprit, word.culprit);
  EXPECT_EQ(back.ballot, word.ballot);
  EXPECT_FALSE(OutcomeWord::Unpack(0).forced) << "zero: published without a vote";
}

TEST(VoteWord, every_field_comes_back) {
  const VoteWord word{0xffff, Verdict::kReject, kBallotMask};
  const VoteWord back = VoteWord::Unpack(word.Pack());
  EXPECT_EQ(back.generation, word.generation);
  EXPECT_EQ(back.verdict, word.verdict);
  EXPECT_EQ(back.ballot, word.ballot);
}

TEST(GatherWord, every_field_comes_back) {
  const GatherWord word{AbortCause::kWithdrawn, kMaxParticipants, kNumberMask};
  const GatherWord back = GatherWord::Unpack(word.Pack());
  EXPECT_EQ(back.cause, word.cause);
  EXPECT_EQ(back.culprit, word.culprit);
  EXPECT_EQ(back.round, word.round);
}

}  // namespace
}  // namespace epoch::detail
