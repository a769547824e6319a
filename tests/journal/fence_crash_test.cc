// A fenced transition of a durable region whose proposer, and writer, is gone between the decision
// and the moment in which it becomes visible. Head is closed then. Whoever wants to read does what
// is missing.
#include <signal.h>

#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "journal_test.h"
#include "support/child.h"
#include "support/passages.h"
#include "support/trap.h"

namespace epoch::test {
namespace {

// args: region, label, signal, "timed" or "untimed". Proposes a fenced state as epoch 1, and gets
// as far as the label.
ROLE(Fencer) {
  auto region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok(), region.status().ToString());
  auto me = Participant::Join(*region, {.name = "fencer"});
  ROLE_CHECK(me.ok(), me.status().ToString());
  const Trap trap(self.args.at(1), 1, std::stoi(self.args.at(2)));
  const bool timed = self.args.at(3) == "timed";
  const auto made = Advance(*me, kCheckedStateBytes,
                            {.fence = true, .timeout = timed ? kLong : absl::InfiniteDuration()});
  self.wire.Say(made.ok() ? absl::StrCat("committed ", *made) : made.status().ToString());
  return 0;
}

// args: region. Says what it pins; a process of its own, so that one who waits for ever is noticed.
ROLE(Reader) {
  auto region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok(), region.status().ToString());
  auto me = Participant::Join(*region, {.name = "reader"});
  ROLE_CHECK(me.ok(), me.status().ToString());
  self.wire.Say("joined");
  self.wire.Hear();
  const Pin pin = me->Pin();
  const bool whole = pin.ok() && ReadChecked(pin.state()) == pin.epoch();
  self.wire.Say(whole ? absl::StrCat("pinned ", pin.epoch()) : "refused");
  return 0;
}

class FencingTest : public JournalTest, public testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    auto made = Region::Create(name(), Options());
    ASSERT_OK(made);
    region_.emplace(*std::move(made));
    reader_ = std::make_unique<Child>("Reader", std::vector{name()});
    ASSERT_EQ(reader_->Hear(), "joined");
  }
  std::unique_ptr<Child> Fencer(int signal) {
    return std::make_unique<Child>(
        "Fencer", std::vector<std::string>{name(), GetParam(), absl::StrCat(signal), "untimed"});
  }
  void ExpectThatWhoPinsFinishesIt() {
    const auto head = detail::StateWord::Unpack(region_->mapping()->view().control->head.Load());
    ASSERT_EQ(head.phase, detail::Phase::kClosed);
    ASSERT_EQ(head.epoch, 0u) << "decided, and not visible";
    reader_->Say("pin");
    EXPECT_EQ(reader_->Hear(), "pinned 1");
    EXPECT_EQ(reader_->Wait(), 0);
    EXPECT_EQ(region_->epoch(), 1u);
  }

  std::optional<Region> region_;
  std::unique_ptr<Child> reader_;
};

class KilledFencing : public FencingTest {};
TEST_P(KilledFencing, WhoPinsFinishesIt) {
  const auto fencer = Fencer(SIGKILL);
  ASSERT_EQ(fencer->Wait(), -SIGKILL);
  ExpectNoDamage(name_.path());
  ASSERT_NO_FATAL_FAILURE(ExpectThatWhoPinsFinishesIt());
  ExpectNothingLeaked(*region_, 0);
  ExpectCompleteHistory(directory(), 1);
}

class StoppedFencing : public FencingTest {};
TEST_P(StoppedFencing, WhoPinsFinishesIt) {
  const auto fencer = Fencer(SIGSTOP);
  ASSERT_TRUE(fencer->AwaitStop());
  ExpectNoDamage(name_.path());
  ASSERT_NO_FATAL_FAILURE(ExpectThatWhoPinsFinishesIt());
  fencer->Continue();
  EXPECT_EQ(fencer->Hear(), "committed 1");
  EXPECT_EQ(fencer->Wait(), 0);
  ExpectNothingLeaked(*region_, 0);
  ExpectCompleteHistory(directory(), 1);
}

// Nobody that could write the journal is left.
class UnwrittenFence : public JournalTest {
 protected:
  void Decide(const std::string& timed) {
    ASSERT_OK(Region::Create(name(), Options()));
    Child fencer("Fencer", {name(), "vote.finished", absl::StrCat(SIGKILL), timed});
    ASSERT_EQ(fencer.Wait(), -SIGKILL);
    auto opened = Region::Open(name());
    ASSERT_OK(opened);
    region_.emplace(*std::move(opened));
    region_->mapping()->set_port(nullptr);  // as in a program that knows the headers only
    auto self = Participant::Join(*region_, {.name = "reader"});
    ASSERT_OK(self);
    self_.emplace(*std::move(self));
    EXPECT_EQ(head_phase(), detail::Phase::kClosed);
  }
  detail::Phase head_phase() const {
    return detail::StateWord::Unpack(region_->mapping()->view().control->head.Load()).phase;
  }
  std::optional<Region> region_;
  std::optional<Participant> self_;
};

TEST_F(UnwrittenFence, WithoutATimeOutStaysClosedUntilSomebodyWrites) {
  ASSERT_NO_FATAL_FAILURE(Decide("untimed"));
  for (int i = 0; i < 10; ++i) EXPECT_FAILS(self_->TryPin(), kUnavailable, "fence");
  EXPECT_EQ(head_phase(), detail::Phase::kClosed);
  Child writer("Reader", {name()});
  ASSERT_EQ(writer.Hear(), "joined");
  writer.Say("pin");
  EXPECT_EQ(writer.Hear(), "pinned 1");
  EXPECT_EQ(self_->Pin().epoch(), 1u);
}

TEST_F(UnwrittenFence, IsReadableAgainAfterItsTimeOutAndPoisoned) {
  ASSERT_NO_FATAL_FAILURE(Decide("timed"));
  EXPECT_FAILS(self_->TryPin(), kUnavailable, "fence");
  EXPECT_EQ(head_phase(), detail::Phase::kClosed) << "it has its time-out still before it";
  // As if that had passed.
  const detail::RegionView& view = region_->mapping()->view();
  const auto head = detail::StateWord::Unpack(view.control->head.Load());
  EXPECT_GT(view.cells[head.version].deadline_ns.Load(), seam::MonotonicNanos());
  view.cells[head.version].deadline_ns.Store(1);
  const Pin pin = self_->Pin();  // waits for it
  ASSERT_TRUE(pin.ok());
  EXPECT_EQ(pin.epoch(), 0u);
  EXPECT_EQ(head_phase(), detail::Phase::kPoisoned);
}

// The writer lives, and gets no processor for longer than the fence's time-out: in a call of its
// own that has frozen nothing yet, or at a batch that it writes for somebody else.
class SlowFence : public UnwrittenFence {
 protected:
  void SetUp() override {
    auto made = Region::Create(name(), Options());
    ASSERT_OK(made);
    region_.emplace(*std::move(made));
    auto proposer = Participant::Join(*region_, {.name = "proposer"});
    ASSERT_OK(proposer);
    self_.emplace(*std::move(proposer));
    auto opened = Region::Open(name());
    ASSERT_OK(opened);
    headers_only_.emplace(*std::move(opened));
    headers_only_->mapping()->set_port(nullptr);
    auto reader = Participant::Join(*headers_only_, {.name = "reader"});
    ASSERT_OK(reader);
    reader_.emplace(*std::move(reader));
  }
  // As if the time-out had passed, a reader looks that could not write.
  void LookLate() {
    const detail::RegionView& view = region_->mapping()->view();
    const auto head = detail::StateWord::Unpack(view.control->head.Load());
    ASSERT_EQ(head.phase, detail::Phase::kClosed);
    view.cells[head.version].deadline_ns.Store(1);
    EXPECT_OK(reader_->Poll());
  }
  CommitOptions Fenced() const { return {.fence = true, .timeout = kLong}; }
  absl::StatusOr<Ticket> Proposed() {
    absl::StatusOr<Draft> draft = self_->NewDraft(CheckedState(1));
    if (!draft.ok()) return draft.status();
    return self_->Propose(*std::move(draft), Fenced());
  }

  std::optional<Region> headers_only_;
  std::optional<Participant> reader_;
};

TEST_F(SlowFence, IsNotGivenUpWhileItsProposerIsAboutToWrite) {
  for (const char* label : {"vote.finished", "journal.before_freeze", "journal.before_submit"}) {
    SCOPED_TRACE(label);
    const Epoch before = region_->epoch();
    const Trap trap(label, 1, [this] {
      LookLate();
      EXPECT_EQ(head_phase(), detail::Phase::kClosed);
      return 0;
    });
    EXPECT_OK(Advance(*self_, kCheckedStateBytes, Fenced()));
    EXPECT_TRUE(trap.sprung());
    EXPECT_EQ(region_->epoch(), before + 1);
  }
  ExpectCompleteHistory(directory(), 3);
}

TEST_F(SlowFence, IsNotGivenUpWhileSomebodyWaitsForItAndMayWrite) {
  ASSERT_OK(Proposed());
  auto waiting = Participant::Join(*region_, {.name = "waiting"});
  ASSERT_OK(waiting);
  const Trap trap("journal.before_freeze", 1, [this] {
    LookLate();
    EXPECT_EQ(head_phase(), detail::Phase::kClosed);
    return 0;
  });
  EXPECT_OK(waiting->Await(1, Stage::kCommitted, kLong));
  EXPECT_TRUE(trap.sprung());
}

TEST_F(SlowFence, IsNotGivenUpWhileSomebodyWritesIt) {
  ASSERT_OK(Proposed());
  const Trap trap("journal.before_submit", 1, [this] {
    LookLate();
    EXPECT_EQ(head_phase(), detail::Phase::kClosed);
    return 0;
  });
  // By whoever tends the journal, and waits for nothing.
  EXPECT_OK(region_->mapping()->port()->Flush(self_->slot(), 1));
  EXPECT_TRUE(trap.sprung());
  EXPECT_EQ(region_->epoch(), 1u);
}

TEST_F(SlowFence, IsGivenUpWhenItsProposerDoesNotComeBackForIt) {
  ASSERT_OK(Proposed());
  ASSERT_NO_FATAL_FAILURE(LookLate());
  EXPECT_EQ(head_phase(), detail::Phase::kPoisoned);
}

// Whoever was about to give it up, and slept, finds a head that has moved on.
TEST_F(SlowFence, OnlyTheVeryHeadThatWasLookedAtIsGivenUp) {
  ASSERT_OK(Proposed());
  const Trap trap("vote.before_poison", 1, [this] {
    EXPECT_OK(self_->Await(Ticket{1}, kLong));
    EXPECT_OK(Advance(*self_, kCheckedStateBytes));
    return 0;
  });
  ASSERT_NO_FATAL_FAILURE(LookLate());
  EXPECT_TRUE(trap.sprung());
  EXPECT_EQ(head_phase(), detail::Phase::kOpen);
  EXPECT_OK(Advance(*self_, kCheckedStateBytes));
  EXPECT_EQ(region_->epoch(), 3u);
}

std::string NameOfLabel(const testing::TestParamInfo<const char*>& suite) {
  return TestName(suite.param);
}
const auto kFencingLabels =
    testing::Values("vote.finished", "journal.frozen", "journal.written", "journal.marked");
INSTANTIATE_TEST_SUITE_P(At, KilledFencing, kFencingLabels, NameOfLabel);
INSTANTIATE_TEST_SUITE_P(At, StoppedFencing, kFencingLabels, NameOfLabel);

}  // namespace
}  // namespace epoch::test
