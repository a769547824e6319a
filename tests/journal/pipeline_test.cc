// Several batches on their way at once: of one process that does not wait, and of several.
#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "crash_points.h"
#include "journal_test.h"
#include "support/child.h"
#include "support/trap.h"

namespace epoch::test {
namespace {

class PipelineTest : public JournalTest {
 protected:
  Epoch TailOf(const Region& region) const {
    return detail::StateWord::Unpack(region.mapping()->view().control->tail.Load()).epoch;
  }
};

absl::StatusOr<Ticket> ProposeNext(Participant& self, Epoch epoch) {
  absl::StatusOr<Draft> draft = self.NewDraft(CheckedState(epoch));
  if (!draft.ok()) return draft.status();
  return self.Propose(*std::move(draft));
}

TEST_F(PipelineTest, WhatIsProposedGoesToDiskWhileMoreIsProposed) {
  constexpr Epoch kMany = 3000;
  absl::StatusOr<Region> region = Region::Create(name(), Options());
  ASSERT_OK(region);
  absl::StatusOr<Participant> self = Participant::Join(*region);
  ASSERT_OK(self);
  Ticket last;
  for (Epoch e = 1; e <= kMany; ++e) {
    const absl::StatusOr<Ticket> ticket = ProposeNext(*self, e);
    ASSERT_OK(ticket);
    last = *ticket;
  }
  // There are far fewer versions than that, so most of it is durable by now.
  EXPECT_GE(region->epoch() + Options().versions, kMany);
  ASSERT_OK(self->Await(last));
  ExpectState(*region, kMany);
  ExpectCompleteHistory(directory(), kMany);
}

TEST_F(PipelineTest, AFlushForWhatIsDurableHasNothingToDo) {
  absl::StatusOr<Region> region = Region::Create(name(), Options());
  ASSERT_OK(region);
  absl::StatusOr<Participant> self = Participant::Join(*region);
  ASSERT_OK(self);
  ASSERT_OK(self->Commit(CheckedState(1)));
  ASSERT_OK(ProposeNext(*self, 2));
  const auto done = region->mapping()->port()->Flush(self->slot(), 1);
  ASSERT_OK(done);
  EXPECT_EQ(done->progress, detail::JournalPort::Progress::kIdle);
  EXPECT_EQ(region->epoch(), 1u) << "what nobody waits for is left alone";
}

TEST_F(PipelineTest, AWindowBoundsWhatIsUnderWay) {
  constexpr std::uint32_t kWindow = 5;
  absl::StatusOr<Region> region = Region::Create(name(), Options());
  ASSERT_OK(region);
  absl::StatusOr<Participant> self = Participant::Join(*region, {.name = "w", .window = kWindow});
  ASSERT_OK(self);
  for (Epoch e = 1; e <= 200; ++e) {
    ASSERT_OK(ProposeNext(*self, e));
    ASSERT_LE(TailOf(*region) - region->epoch(), kWindow);
  }
}

// Who froze a batch stands still before it writes. Another's batch is on disk meanwhile, but not
// visible: head goes in order. Then the other writes the first one, too; and when its own writer
// goes on, it writes the same bytes again.
TEST_F(PipelineTest, HeadFollowsInOrderAndTheSlowAreHelped) {
  absl::StatusOr<Region> region = Region::Create(name(), Options());
  ASSERT_OK(region);
  absl::StatusOr<Region> again = Region::Open(name());  // a port of its own, as another process has
  ASSERT_OK(again);
  absl::StatusOr<Participant> slow = Participant::Join(*region), quick = Participant::Join(*again);
  ASSERT_OK(slow);
  ASSERT_OK(quick);
  std::atomic<bool> stands{false}, go{false};
  Epoch made = 0;
  {
    const Trap trap("journal.before_submit", 1, [&] {
      stands = true;
      stands.notify_all();
      go.wait(false);
      return 0;
    });
    std::thread first([&] { EXPECT_OK(slow->Commit(CheckedState(1))); });
    stands.wait(false);
    const absl::StatusOr<Ticket> ticket = ProposeNext(*quick, 2);
    EXPECT_OK(ticket);
    EXPECT_EQ(region->epoch(), 0u);
    if (ticket.ok()) {
      EXPECT_OK(quick->Await(*ticket));
      made = region->epoch();
    }
    go = true;
    go.notify_all();
    first.join();
  }
  EXPECT_EQ(made, 2u);
  ExpectState(*region, 2);
  for (Epoch e = 3; e <= 40; ++e) ASSERT_OK(quick->Commit(CheckedState(e)));
  ExpectCompleteHistory(directory(), 40);
}

ROLE(Proposer) {
  absl::StatusOr<Region> region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok(), region.status().ToString());
  absl::StatusOr<Participant> joined = Participant::Join(*region);
  ROLE_CHECK(joined.ok(), joined.status().ToString());
  self.wire.Say("ready");
  for (;;) {
    absl::StatusOr<Ticket> ticket = joined->ProposeUpdate([](const Current& current, Draft& next) {
      return next.Assign(CheckedState(current.epoch + 1));
    });
    ROLE_CHECK(ticket.ok(), ticket.status().ToString());
  }
}

TEST_F(PipelineTest, OthersGoOnWhenSomebodyDiesWithWritesUnderWay) {
  absl::StatusOr<Region> region = Region::Create(name(), Options());
  ASSERT_OK(region);
  absl::StatusOr<Participant> self = Participant::Join(*region);
  ASSERT_OK(self);
  for (int round = 0; round < 10; ++round) {
    const Epoch start = region->epoch();
    Child proposer("Proposer", std::vector<std::string>{name()});
    ASSERT_EQ(proposer.Hear(), "ready");
    ASSERT_OK(self->Await(start + 30, Stage::kCommitted, kLong));
    proposer.Kill();
    // All that it had accepted is finished by whoever waits for something behind it.
    const absl::StatusOr<Epoch> mine = self->Update([](const Current& current, Draft& next) {
      return next.Assign(CheckedState(current.epoch + 1));
    });
    ASSERT_OK(mine);
    ExpectState(*region, *mine);
  }
  ExpectCompleteHistory(directory(), region->epoch());
}

TEST_F(PipelineTest, NothingIsLostWhenAllDieWithWritesUnderWay) {
  Epoch visible = 0;
  for (int round = 0; round < 5; ++round) {
    absl::StatusOr<Region> region = Region::OpenOrCreate(name(), Options());
    ASSERT_OK(region);
    EXPECT_GE(region->epoch(), visible);
    if (region->epoch() > 0) ExpectState(*region, region->epoch());
    {
      std::vector<std::unique_ptr<Child>> proposers;
      for (int i = 0; i < 3; ++i) {
        proposers.push_back(std::make_unique<Child>("Proposer", std::vector<std::string>{name()}));
        ASSERT_EQ(proposers.back()->Hear(), "ready");
      }
      absl::StatusOr<Participant> self = Participant::Join(*region);
      ASSERT_OK(self);
      ASSERT_OK(self->Await(region->epoch() + 100, Stage::kCommitted, kLong));
      for (auto& proposer : proposers) proposer->Kill();
      visible = region->epoch();
    }
    ASSERT_OK(Region::Unlink(name()));
  }
  ExpectRestores(Options(), journal::Preview(directory())->epoch);
}

TEST_F(PipelineTest, ARingThatRefusesIsDoneWithout) {
  for (const char* label : {"uring.submit", "journal.write"}) {
    for (const int error : {EAGAIN, EINVAL, EOPNOTSUPP, ENOMEM, ECANCELED}) {
      SCOPED_TRACE(testing::Message() << label << " " << std::strerror(error));
      absl::StatusOr<Region> region = Region::Create(name(), Options());
      ASSERT_OK(region);
      if (!region->mapping()->port()->backend().starts_with("io_uring")) GTEST_SKIP();
      {
        absl::StatusOr<Participant> self = Participant::Join(*region);
        ASSERT_OK(self);
        const Trap trap(label, 1, [error] { return error; });
        Ticket last;
        for (Epoch e = 1; e <= 100; ++e) {
          const absl::StatusOr<Ticket> ticket = ProposeNext(*self, e);
          ASSERT_OK(ticket);
          last = *ticket;
        }
        ASSERT_OK(self->Await(last));
        EXPECT_TRUE(trap.sprung());
      }
      ExpectState(*region, 100);
      ExpectCompleteHistory(directory(), 100);
      ASSERT_OK(Region::Unlink(name()));
      region = absl::UnknownError("gone");
      std::filesystem::remove_all(directory());
    }
  }
}

// Nobody waits in Await: an event loop does, on the listener's descriptor.
TEST_F(PipelineTest, AnEventfdTellsWhatBecameDurable) {
  constexpr Epoch kMany = 300;
  absl::StatusOr<Region> region = Region::Create(name(), Options());
  ASSERT_OK(region);
  absl::StatusOr<Participant> self = Participant::Join(*region);
  ASSERT_OK(self);
  const absl::StatusOr<Listener> listener = self->Listen();
  ASSERT_OK(listener);
  for (Epoch e = 1; e <= kMany; ++e) ASSERT_OK(ProposeNext(*self, e));
  pollfd ready{.fd = listener->fd(), .events = POLLIN, .revents = 0};
  while (region->epoch() < kMany) {
    ASSERT_EQ(poll(&ready, 1, kLong_ms), 1) << "at epoch " << region->epoch();
    listener->Drain();
  }
  ExpectState(*region, kMany);
  ExpectCompleteHistory(directory(), kMany);
}

// Proposes without waiting, until two segments are full, waits for the last, and lets go. A signal
// strikes at the given point.
ROLE(Rusher) {
  constexpr Epoch kMany = 8000;
  const Trap trap(self.args.at(1), std::stoi(self.args.at(2)), SIGKILL);
  {
    absl::StatusOr<Region> region = Region::Open(self.args.at(0));
    ROLE_CHECK(region.ok(), region.status().ToString());
    absl::StatusOr<Participant> joined = Participant::Join(*region);
    ROLE_CHECK(joined.ok(), joined.status().ToString());
    Ticket last;
    for (Epoch e = 1; e <= kMany; ++e) {
      const absl::StatusOr<Ticket> ticket = ProposeNext(*joined, e);
      ROLE_CHECK(ticket.ok(), ticket.status().ToString());
      last = *ticket;
      const absl::Status prepared = AwaitSpare(*region, *joined);
      ROLE_CHECK(prepared.ok(), prepared.ToString());
    }
    const absl::StatusOr<Epoch> made = joined->Await(last);
    ROLE_CHECK(made.ok(), made.status().ToString());
  }
  self.wire.Say("missed");
  return 0;
}

class KilledProposing : public PipelineTest, public testing::WithParamInterface<CrashPoint> {};
INSTANTIATE_TEST_SUITE_P(At, KilledProposing, testing::ValuesIn(ProposePoints()),
                         [](const testing::TestParamInfo<CrashPoint>& at) {
                           return TestName(at.param);
                         });

TEST_P(KilledProposing, OthersGoOn) {
  Epoch visible = 0;
  {
    absl::StatusOr<Region> region = Region::Create(name(), Options());
    ASSERT_OK(region);
    if (!region->mapping()->port()->backend().starts_with("io_uring")) GTEST_SKIP();
  }
  Child rusher("Rusher", std::vector{name(), GetParam().label, std::to_string(GetParam().nth)});
  ASSERT_EQ(rusher.Wait(), -SIGKILL);
  {
    absl::StatusOr<Region> region = Region::Open(name());
    ASSERT_OK(region);
    absl::StatusOr<Participant> self = Participant::Join(*region);
    ASSERT_OK(self);
    for (int i = 0; i < 400; ++i) ASSERT_OK(Advance(*self));  // another segment
    visible = region->epoch();
    ExpectState(*region, visible);
    ExpectNothingLeaked(*region, 1);
  }
  ExpectCompleteHistory(directory(), visible);
  ASSERT_OK(Region::Unlink(name()));
  ExpectRestores(Options(), visible);
  for (const auto& entry : std::filesystem::directory_iterator(directory())) {
    EXPECT_EQ(entry.path().extension(), ".segment") << entry.path();
  }
}

}  // namespace
}  // namespace epoch::test
