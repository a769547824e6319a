// SIGKILL and SIGSTOP at every labelled point of the durable path.
#include <signal.h>

#include <algorithm>
#include <memory>
#include <set>

#include "crash_points.h"
#include "journal_test.h"
#include "support/child.h"
#include "support/refuse_calls.h"
#include "support/trap.h"

namespace epoch::test {
namespace {

using testing::HasSubstr;

constexpr int kManyCommits = 34;  // more than there are versions
constexpr int kMostCommits = 4000;
constexpr int kMoreCommits = 20;  // fills at least one segment

// Small and large states by turns, so that a segment is full after a few.
std::size_t SizeOf(int commit) { return commit % 2 == 1 ? kBigStateBytes : 500; }

// Opens, restores or creates the region, commits `count` times and says each epoch as soon as it
// is acknowledged. A signal strikes at the given point.
ROLE(Worker) {
  RegionOptions options = SmallDurable(self.args.at(1));
  options.history = self.args.at(2) == "all" ? History::kAll : History::kLatest;
  if (self.args.at(7) == "without_ring") ROLE_CHECK(RefuseIoUring());
  const Trap trap(self.args.at(3), std::stoi(self.args.at(4)), std::stoi(self.args.at(5)));
  absl::StatusOr<Region> region = Region::OpenOrCreate(self.args.at(0), options);
  ROLE_CHECK(region.ok(), region.status().ToString());
  absl::StatusOr<Participant> joined = Participant::Join(*region);
  ROLE_CHECK(joined.ok(), joined.status().ToString());
  // And more, if it depends on what others do when the point is passed.
  const int count = std::stoi(self.args.at(6));
  for (int i = 0; i < count || (!trap.sprung() && i < kMostCommits); ++i) {
    const absl::StatusOr<Epoch> made = Advance(*joined, SizeOf(i));
    ROLE_CHECK(made.ok(), made.status().ToString());
    self.wire.Say(std::to_string(*made));
  }
  self.wire.Say(trap.sprung() ? "done" : "missed");
  return 0;
}

std::string HistoryName(History history) { return history == History::kAll ? "all" : "latest"; }

std::string NameOf(const CrashPoint& point, History history) {
  return TestName(point) + (point.without_ring ? "_without_ring" : "") +
         (point.beside ? "_beside" : "") + "_" + HistoryName(history);
}

class CrashTest : public JournalTest,
                  public testing::WithParamInterface<std::tuple<CrashPoint, History>> {
 protected:
  const CrashPoint& point() const { return std::get<0>(GetParam()); }
  RegionOptions WithHistory() const {
    RegionOptions options = Options();
    options.history = std::get<1>(GetParam());
    return options;
  }
  std::unique_ptr<Child> Work(const CrashPoint& where, int signal, int count) const {
    return std::make_unique<Child>(
        "Worker",
        std::vector{name(), directory(), HistoryName(std::get<1>(GetParam())), where.label,
                    std::to_string(where.nth), std::to_string(signal), std::to_string(count),
                    std::string(point().without_ring ? "without_ring" : "with_ring")});
  }
  // One that nothing happens to, if the point asks for it.
  std::unique_ptr<Child> Beside() const {
    return point().beside ? Work({{"nowhere", 1}}, SIGKILL, 100'000) : nullptr;
  }
  // The last epoch that a worker which is gone said was acknowledged.
  static Epoch LastAcknowledged(Child& worker) {
    Epoch last = 0;
    for (std::string line = worker.Hear(); line != "<gone>"; line = worker.Hear()) {
      EXPECT_NE(line, "missed");
      if (line != "done" && line != "missed") last = std::stoull(line);
    }
    return last;
  }
  void GoOn(Region& region, int count = kMoreCommits) {
    absl::StatusOr<Participant> self = Participant::Join(region);
    ASSERT_OK(self);
    const Epoch start = region.epoch();
    for (int i = 0; i < count; ++i) ASSERT_OK(Advance(*self, SizeOf(i)));
    EXPECT_GE(region.epoch(), start + static_cast<Epoch>(count));
  }
  // Who lets go of the region finishes what it was about to remove.
  void ExpectSoundWithout(absl::StatusOr<Region>& region) {
    const Epoch last = region->epoch();
    region = absl::UnknownError("gone");
    ExpectSound(last);
  }
  void ExpectSound(Epoch last) {
    if (std::get<1>(GetParam()) == History::kAll) {
      ExpectCompleteHistory(directory(), last);
    } else {
      BatchesIn(directory());
      EXPECT_LE(SegmentsIn(directory()).size(), 3u) << "segments leak";
    }
  }
};

std::string ParamName(const testing::TestParamInfo<std::tuple<CrashPoint, History>>& suite) {
  return NameOf(std::get<0>(suite.param), std::get<1>(suite.param));
}
// Every point with the whole history; with the latest only, those that retire segments or come
// when several are gone.
std::vector<std::tuple<CrashPoint, History>> Cases(const std::vector<CrashPoint>& points) {
  std::vector<std::tuple<CrashPoint, History>> cases;
  for (const CrashPoint& point : points) {
    cases.emplace_back(point, History::kAll);
    if (point.nth > 4 || point.label.starts_with("segment.") || point.label == "journal.rolled" ||
        point.label == "attach.locked" || point.label == "restore.published") {
      cases.emplace_back(point, History::kLatest);
    }
  }
  return cases;
}

using KilledCommitting = CrashTest;
INSTANTIATE_TEST_SUITE_P(At, KilledCommitting, testing::ValuesIn(Cases(CommitPoints())), ParamName);

TEST_P(KilledCommitting, OthersGoOnInTheRegion) {
  absl::StatusOr<Region> region = Region::Create(name(), WithHistory());
  ASSERT_OK(region);
  const auto beside = Beside();
  const auto victim = Work(point(), SIGKILL, beside == nullptr ? kManyCommits : 400);
  ASSERT_EQ(victim->Wait(), -SIGKILL);
  if (beside != nullptr) beside->Kill();
  const Epoch acknowledged = LastAcknowledged(*victim);
  EXPECT_GE(region->epoch(), acknowledged);
  ExpectNoDamage(name_.path());
  ASSERT_NO_FATAL_FAILURE(GoOn(*region));
  ExpectState(*region, region->epoch());
  ExpectNothingLeaked(*region, 0);
  ExpectSoundWithout(region);
}

TEST_P(KilledCommitting, NothingAcknowledgedIsLostWhenAllDie) {
  // The victim makes the region; two more work beside it until it dies, then die, too.
  const CrashPoint never{{"nowhere", 1}};
  std::vector<std::unique_ptr<Child>> workers;
  ASSERT_OK(Region::Create(name(), WithHistory()));
  workers.push_back(Work(point(), SIGKILL, 400));
  workers.push_back(Work(never, SIGKILL, 100'000));
  workers.push_back(Work(never, SIGKILL, 100'000));
  ASSERT_EQ(workers[0]->Wait(), -SIGKILL);
  for (auto& worker : workers) worker->Kill();
  Epoch acknowledged = 0;
  for (auto& worker : workers) {
    acknowledged = std::max(acknowledged, LastAcknowledged(*worker));
  }
  Epoch visible = 0;
  {
    const absl::StatusOr<Region> dead = Region::Open(name(), {.read_only = true});
    ASSERT_OK(dead);
    visible = dead->epoch();
    ExpectNoDamage(name_.path());
  }
  ASSERT_OK(Region::Unlink(name()));
  for (int again = 0; again < 2; ++again) {
    absl::StatusOr<Region> region = Region::Restore(name(), WithHistory());
    ASSERT_OK(region);
    EXPECT_GE(region->epoch(), acknowledged);
    EXPECT_GE(region->epoch(), visible);
    ExpectState(*region, region->epoch());
    absl::StatusOr<Participant> self = Participant::Join(*region);
    ASSERT_OK(self);
    ASSERT_OK(Advance(*self));
    acknowledged = visible = region->epoch();
    ASSERT_OK(Region::Unlink(name()));
  }
  ExpectSound(visible);
}

using StoppedCommitting = CrashTest;
INSTANTIATE_TEST_SUITE_P(At, StoppedCommitting, testing::ValuesIn(Cases(CommitPoints())),
                         ParamName);

TEST_P(StoppedCommitting, OthersTakeOverAndTheResumedOneDoesNoHarm) {
  absl::StatusOr<Region> region = Region::Create(name(), WithHistory());
  ASSERT_OK(region);
  const auto beside = Beside();
  const int own = beside == nullptr ? kManyCommits : 400;
  const auto victim = Work(point(), SIGSTOP, own);
  ASSERT_TRUE(victim->AwaitStop());
  ExpectNoDamage(name_.path());
  if (beside != nullptr) beside->Kill();
  // Where it is about to copy versions: until every cell has been recycled.
  const int count = point().label == "journal.collected" ? 2 * kManyCommits : kMoreCommits;
  ASSERT_NO_FATAL_FAILURE(GoOn(*region, count));
  victim->Continue();
  ASSERT_EQ(victim->Wait(), 0);
  const Epoch last = region->epoch();
  EXPECT_EQ(LastAcknowledged(*victim), last);
  if (beside == nullptr) {
    EXPECT_EQ(last, static_cast<Epoch>(own + count));
  } else {
    // The other one may have been killed before its first commit.
    EXPECT_GE(last, static_cast<Epoch>(own + count));
  }
  ExpectState(*region, region->epoch());
  ExpectNothingLeaked(*region, 0);
  ExpectSoundWithout(region);
  ASSERT_OK(Region::Unlink(name()));
  ExpectRestores(WithHistory(), last);
}

// An earlier maker was killed, too.
class KilledCreating : public CrashTest {
 protected:
  void SetUp() override {
    const std::string left = scratch_ / ".journal.new-aaaaaa";
    ASSERT_TRUE(std::filesystem::create_directory(left));
    WriteText(left + "/epoch-12345678-00000001.segment", "rubbish");
  }
};
INSTANTIATE_TEST_SUITE_P(At, KilledCreating, testing::ValuesIn(Cases(CreatePoints())), ParamName);

TEST_P(KilledCreating, TheNextOneMakesTheRegion) {
  const auto victim = Work(point(), SIGKILL, 1);
  ASSERT_EQ(victim->Wait(), -SIGKILL);
  absl::StatusOr<Region> region = Region::OpenOrCreate(name(), WithHistory());
  ASSERT_OK(region);
  EXPECT_EQ(region->epoch(), 0u);
  ASSERT_NO_FATAL_FAILURE(GoOn(*region));
  EXPECT_EQ(region->epoch(), Epoch{kMoreCommits});
  ExpectSoundWithout(region);
  for (const auto& entry : std::filesystem::directory_iterator(scratch_.path())) {
    EXPECT_EQ(entry.path(), directory()) << "left behind";
  }
}

TEST_P(KilledCreating, AStoppedCreatorJoinsWhatOthersMade) {
  const auto victim = Work(point(), SIGSTOP, 2);
  ASSERT_TRUE(victim->AwaitStop());
  RegionOptions options = WithHistory();
  options.restore_timeout = absl::ZeroDuration();
  absl::StatusOr<Region> region = Region::OpenOrCreate(name(), options);
  // Either this one makes it, or the stopped one holds the journal: then it is named.
  if (!region.ok()) {
    EXPECT_FAILS(region, kFailedPrecondition, "pid " + std::to_string(victim->pid()));
  }
  victim->Continue();
  ASSERT_EQ(victim->Wait(), 0);
  region = Region::OpenOrCreate(name(), options);
  ASSERT_OK(region);
  EXPECT_EQ(region->epoch(), 2u);
  ASSERT_NO_FATAL_FAILURE(GoOn(*region));
  EXPECT_EQ(region->epoch(), Epoch{kMoreCommits + 2});
  ExpectSoundWithout(region);
  for (const auto& entry : std::filesystem::directory_iterator(scratch_.path())) {
    EXPECT_EQ(entry.path(), directory()) << "left behind";
  }
}

using KilledRestoring = CrashTest;
INSTANTIATE_TEST_SUITE_P(At, KilledRestoring, testing::ValuesIn(Cases(RestorePoints())), ParamName);

TEST_P(KilledRestoring, TheNextRestoreFindsTheSame) {
  ASSERT_NO_FATAL_FAILURE(WriteJournal({500, 40'000, 700}, WithHistory()));
  const auto victim = Work(point(), SIGKILL, 1);
  ASSERT_EQ(victim->Wait(), -SIGKILL);
  absl::StatusOr<Region> region = Region::OpenOrCreate(name(), WithHistory());
  ASSERT_OK(region);
  ExpectState(*region, 3);
  ASSERT_NO_FATAL_FAILURE(GoOn(*region));
  EXPECT_EQ(region->epoch(), Epoch{kMoreCommits + 3});
  ExpectSoundWithout(region);
}

TEST_P(KilledRestoring, AStoppedRestorerDoesNoHarm) {
  ASSERT_NO_FATAL_FAILURE(WriteJournal({500, 40'000, 700}, WithHistory()));
  const auto victim = Work(point(), SIGSTOP, 2);
  ASSERT_TRUE(victim->AwaitStop());
  RegionOptions options = WithHistory();
  options.restore_timeout = absl::ZeroDuration();
  absl::StatusOr<Region> region = Region::OpenOrCreate(name(), options);
  if (!region.ok()) {
    EXPECT_FAILS(region, kFailedPrecondition, "pid " + std::to_string(victim->pid()));
  }
  victim->Continue();
  ASSERT_EQ(victim->Wait(), 0);
  region = Region::OpenOrCreate(name(), options);
  ASSERT_OK(region);
  ExpectState(*region, 5);
  ASSERT_NO_FATAL_FAILURE(GoOn(*region));
  EXPECT_EQ(region->epoch(), Epoch{kMoreCommits + 5});
  ExpectSoundWithout(region);
}

// Opens an existing region, stopped on the way; says how it went.
ROLE(Opener) {
  const Trap trap(self.args.at(1), 1, SIGSTOP);
  self.wire.Say(Region::Open(self.args.at(0)).status().ToString());
  return trap.sprung() ? 0 : 1;
}

TEST_F(JournalTest, WhoSleepsThroughARestoreWhileAttachingIsRefused) {
  ASSERT_OK(Region::Create(name(), Options()));
  Child sleeper("Opener", {name(), "attach.listed"});
  ASSERT_TRUE(sleeper.AwaitStop());
  ASSERT_OK(Region::Unlink(name()));
  absl::StatusOr<Region> current = Region::Restore(name(), Options());
  ASSERT_OK(current);
  sleeper.Continue();
  EXPECT_THAT(sleeper.Hear(), HasSubstr("superseded"));
  EXPECT_EQ(sleeper.Wait(), 0);
}

// A point that is added to the journal is crashed at, or this says so.
TEST(CrashPoints, CoverEveryLabelOfTheJournal) {
  // Of one that only reads, and leaves nothing; and what is not passed by one that only proposes
  // (the border lets it fail: completions_test.cc).
  std::set<std::string> listed = {"past.end_seen", "uring.unlink"};
  for (const auto& points :
       {CommitPoints(), ProposePoints(), CreatePoints(), RestorePoints(), BegunPoints()}) {
    for (const CrashPoint& point : points) listed.insert(point.label);
  }
  int found = 0;
  std::vector<std::filesystem::path> files;
  for (const char* folder : {EPOCH_SOURCE_DIR "/core/files", EPOCH_SOURCE_DIR "/core/journal"}) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
  }
  for (const std::filesystem::path& file : files) {
    const std::string text = ReadText(file);
    for (const std::string macro : {"EPOCH_POINT(\"", "EPOCH_FAULT(\""}) {
      for (auto at = text.find(macro); at != std::string::npos; at = text.find(macro, at)) {
        at += macro.size();
        const std::string label = text.substr(at, text.find('"', at) - at);
        EXPECT_EQ(listed.count(label), 1u) << file << ": " << label;
        ++found;
      }
    }
  }
  EXPECT_GE(found, 20);
}

}  // namespace
}  // namespace epoch::test
