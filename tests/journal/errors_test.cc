// What a caller is told: every row of the README's table of errors, each produced for real; that
// what is accepted is never hidden; that damaged words are found before anything is acknowledged
// over them.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <ostream>
#include <set>
#include <sstream>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "core/journal/read/restore.h"
#include "epoch/typed.h"
#include "journal_test.h"

namespace epoch::test {
namespace {

using absl::StatusCode;

// While it lives every passing of `label` fails with `error`; 0: nothing fails, they are counted.
class Denied {
 public:
  Denied(const char* label, int error) {
    label_ = label;
    error_ = error;
    passed_ = 0;
    seam::point_hook.store([](const char* at) -> int {
      if (label_ != at) return 0;
      ++passed_;
      return error_;
    });
  }
  Denied(const Denied&) = delete;
  Denied& operator=(const Denied&) = delete;
  ~Denied() { seam::point_hook.store(nullptr); }
  static int passed() { return passed_; }

 private:
  static inline std::string_view label_;
  static inline std::atomic<int> error_{0};
  static inline std::atomic<int> passed_{0};
};

// A region with two participants; durable, if it has a directory.
struct World {
  explicit World(const std::string& directory = "") : options(SmallDurable(directory)) {
    absl::StatusOr<Region> made = Region::Create(name.name(), options);
    EXPECT_OK(made);
    region = *std::move(made);
    self = *Participant::Join(*region, {.name = "self", .voter = true});
    other = *Participant::Join(*region, {.name = "other"});
  }
  // A voter that answers by a thread of its own.
  Listener& Voter(Answer answer) {
    voter = *Participant::Join(*region, {.name = "voter", .voter = true});
    voter->SetValidator([answer](const Proposal&) { return answer; });
    listener = *voter->Listen();
    return *listener;
  }
  // Until the next large state needs another segment.
  void FillSegment() {
    const std::uint64_t capacity = options.segment_bytes / kBlockBytes;
    for (;;) {
      const absl::StatusOr<journal::SegmentScan> scan = journal::Preview(options.journal);
      ASSERT_OK(scan);
      if (capacity - scan->end_block < journal::BlocksFor(kBigStateBytes)) return;
      ASSERT_OK(Advance(*self, kBigStateBytes));
    }
  }
  detail::Control& control() { return *region->mapping()->view().control; }

  ScratchName name;
  RegionOptions options;
  std::optional<Region> region;
  std::optional<Participant> self, other, voter;
  std::optional<Listener> listener;
};

const CommitOptions kAsked{.agreement = Agreement::kAllVoters, .timeout = kLong};
const Interrupted kAlready = [] { return true; };

struct Row {
  const char* what;
  StatusCode code;
  Cause cause;
  Outcome outcome;
  const char* culprit;  // its name, if there is one
  std::function<absl::Status(World&)> produce;
};

// In a world of their own each; those with a fault stand in a durable one.
const Row kVolatileRows[] = {
    {"expected differs", StatusCode::kAborted, Cause::kExpectedDiffers, Outcome::kUnchanged,
     nullptr,
     [](World& w) {
       const auto made = w.self->Commit("x", {.expected = 7});
       EXPECT_EQ(Details(made).expected, Epoch{7});
       EXPECT_EQ(Details(made).actual, Epoch{0});
       return made.status();
     }},
    {"rejected", StatusCode::kAborted, Cause::kRejected, Outcome::kUnchanged, "voter",
     [](World& w) {
       w.Voter(Answer::Reject("not this one"));
       const auto made = w.other->Commit("x", kAsked);
       EXPECT_EQ(Details(made).culprits.at(0).reason, "not this one");
       EXPECT_EQ(Details(made).culprits.at(0).pid, static_cast<std::uint32_t>(getpid()));
       EXPECT_EQ(Details(made).culprits.at(0).slot, w.voter->slot());
       EXPECT_EQ(Details(made).culprits.at(0).generation, w.voter->generation());
       return made.status();
     }},
    {"another tag", StatusCode::kAborted, Cause::kOtherTag, Outcome::kUnchanged, "",
     [](World& w) {
       Participant second = *Participant::Join(*w.region, {.name = "second", .voter = true});
       std::thread its([&] { EXPECT_FAILS(second.CommitCollective(2, "x"), kAborted, "tag"); });
       const auto made = w.self->CommitCollective(1, "x");
       its.join();
       return made.status();
     }},
    {"interrupted vote", StatusCode::kCancelled, Cause::kInterrupted, Outcome::kUnchanged, nullptr,
     [](World& w) {
       CommitOptions options = kAsked;
       options.interrupted = kAlready;
       return w.other->Commit("x", options).status();  // self does not answer
     }},
    {"vote in time", StatusCode::kDeadlineExceeded, Cause::kTimedOut, Outcome::kUnchanged, "self",
     [](World& w) {
       CommitOptions options = kAsked;
       options.timeout = kSoon;
       return w.other->Commit("x", options).status();
     }},
    {"fence in time", StatusCode::kDeadlineExceeded, Cause::kTimedOut, Outcome::kUnchanged, "self",
     [](World& w) {
       const Pin pin = w.self->Pin();
       const auto made = w.other->Commit("x", {.fence = true, .timeout = kSoon});
       EXPECT_EQ(Details(made).culprits.at(0).epoch, Epoch{0});
       return made.status();
     }},
    {"part in time", StatusCode::kDeadlineExceeded, Cause::kTimedOut, Outcome::kUnchanged, "idle",
     [](World& w) {
       Participant idle = *Participant::Join(*w.region, {.name = "idle", .voter = true});
       return w.self->CommitCollective(1, "x", {.timeout = kSoon}).status();
     }},
    {"not converged", StatusCode::kDeadlineExceeded, Cause::kTimedOut, Outcome::kUnchanged, "other",
     [](World& w) {
       EXPECT_OK(w.self->Commit("x"));
       return w.self->Await(1, Stage::kConverged, kSoon).status();
     }},
    {"expelled", StatusCode::kFailedPrecondition, Cause::kExpelled, Outcome::kUnchanged, nullptr,
     [](World& w) {
       EXPECT_OK(w.region->Expel(w.self->slot()));
       return w.self->Commit("x").status();
     }},
    {"left", StatusCode::kFailedPrecondition, Cause::kLeft, Outcome::kUnchanged, nullptr,
     [](World& w) {
       EXPECT_OK(w.self->Leave());
       return w.self->Commit("x").status();
     }},
    {"too few voters", StatusCode::kFailedPrecondition, Cause::kTooFewVoters, Outcome::kUnchanged,
     nullptr,
     [](World& w) {
       EXPECT_OK(w.self->Park());
       return w.other->Commit("x", kAsked).status();
     }},
    {"a pin is held", StatusCode::kFailedPrecondition, Cause::kPinHeld, Outcome::kUnchanged,
     nullptr,
     [](World& w) {
       const Pin pin = w.self->Pin();
       return w.self->Commit("x", {.fence = true}).status();
     }},
    {"no free version", StatusCode::kResourceExhausted, Cause::kNoVersion, Outcome::kUnchanged,
     "self",
     [](World& w) {
       std::vector<Draft> drafts;
       for (;;) {
         auto draft = w.self->NewDraft(1);
         if (!draft.ok()) return draft.status();
         drafts.push_back(*std::move(draft));
       }
     }},
    {"no free slot", StatusCode::kResourceExhausted, Cause::kNoSlot, Outcome::kUnchanged, "self",
     [](World& w) {
       std::vector<Participant> crowd;
       for (;;) {
         auto joined = Participant::Join(*w.region, {.name = "crowd"});
         if (!joined.ok()) return joined.status();
         crowd.push_back(*std::move(joined));
       }
     }},
    {"too large", StatusCode::kOutOfRange, Cause::kTooLarge, Outcome::kUnchanged, nullptr,
     [](World& w) { return w.self->NewDraft(w.options.state_bytes + 1).status(); }},
    {"a fence drains", StatusCode::kUnavailable, Cause::kDraining, Outcome::kUnchanged, nullptr,
     [](World& w) {
       Participant late = *Participant::Join(*w.region, {.name = "late"});
       Pin pin = w.self->Pin();
       std::thread fence([&] { EXPECT_OK(w.other->Commit("x", {.fence = true})); });
       EXPECT_TRUE(Await([&] {
         return detail::StateWord::Unpack(w.control().head.Load()).phase == detail::Phase::kClosed;
       }));
       const absl::Status status = late.TryPin().status();
       pin.Release();
       fence.join();
       return status;
     }},
    {"damage", StatusCode::kDataLoss, Cause::kDamaged, Outcome::kUnchanged, nullptr,
     [](World& w) {
       const std::uint64_t head = w.control().head.Load();
       w.control().head.Store(detail::StateWord{detail::Phase::kOpen, 8000, 1}.Pack());
       const absl::Status status = w.self->TryPin().status();
       w.control().head.Store(head);
       return status;
     }},
    {"no value yet", StatusCode::kNotFound, Cause::kOther, Outcome::kUnchanged, nullptr,
     [](World& w) {
       const Pin pin = w.self->Pin();
       return Value<int>(pin).status();
     }},
    {"repeated tag", StatusCode::kAlreadyExists, Cause::kRepeated, Outcome::kUnchanged, nullptr,
     [](World& w) {
       EXPECT_OK(w.self->CommitCollective(1, "x"));
       return w.self->CommitCollective(1, "x").status();
     }},
    {"read-only", StatusCode::kPermissionDenied, Cause::kReadOnly, Outcome::kUnchanged, nullptr,
     [](World& w) {
       return Participant::Join(*Region::Open(w.name.name(), {.read_only = true})).status();
     }},
    {"name too long", StatusCode::kInvalidArgument, Cause::kInvalid, Outcome::kUnchanged, nullptr,
     [](World& w) {
       return Participant::Join(*w.region, {.name = std::string(64, 'n')}).status();
     }},
    {"not written", StatusCode::kInvalidArgument, Cause::kNotWritten, Outcome::kUnchanged, nullptr,
     [](World& w) {
       return w.self->Update([](const Current&, Draft&) { return absl::OkStatus(); }).status();
     }},
};

// What fails on the way to the disk. `journal.prepare` is passed when a segment is made.
absl::Status AtARoll(World& w, int error, const CommitOptions& options = {}) {
  w.FillSegment();
  const Epoch before = w.region->epoch();
  const Denied fault("journal.prepare", error);
  const auto made = Advance(*w.self, kBigStateBytes, options);
  EXPECT_GT(Denied::passed(), 0);
  EXPECT_EQ(Details(made).accepted, before + 1);
  return made.status();
}

const Row kDurableRows[] = {
    {"permission at a roll", StatusCode::kUnavailable, Cause::kOther, Outcome::kPending, nullptr,
     [](World& w) { return AtARoll(w, EACCES); }},
    {"not found at a roll", StatusCode::kUnavailable, Cause::kJournalAway, Outcome::kPending,
     nullptr, [](World& w) { return AtARoll(w, ENOENT); }},
    {"internal at a roll", StatusCode::kUnavailable, Cause::kOther, Outcome::kPending, nullptr,
     [](World& w) { return AtARoll(w, ENXIO); }},
    {"full disk at a roll, in time", StatusCode::kDeadlineExceeded, Cause::kTimedOut,
     Outcome::kPending, nullptr, [](World& w) { return AtARoll(w, ENOSPC, {.timeout = kSoon}); }},
    {"interrupted at a roll", StatusCode::kCancelled, Cause::kInterrupted, Outcome::kPending,
     nullptr, [](World& w) { return AtARoll(w, ENOSPC, {.interrupted = kAlready}); }},
    {"permission at a roll, voted", StatusCode::kUnavailable, Cause::kOther, Outcome::kPending,
     nullptr, [](World& w) { return AtARoll(w, EACCES, kAsked); }},
    {"permission at a roll, fenced", StatusCode::kUnavailable, Cause::kOther, Outcome::kPending,
     nullptr, [](World& w) { return AtARoll(w, EACCES, {.fence = true}); }},
    {"interrupted at a roll, collective", StatusCode::kCancelled, Cause::kInterrupted,
     Outcome::kPending, nullptr,
     [](World& w) {
       w.FillSegment();
       // Small states until the next one does not fit, so that the collective one has to roll.
       const Denied fault("journal.prepare", ENOSPC);
       absl::StatusOr<Epoch> made;
       for (std::uint64_t tag = 1; made.ok() || tag == 1; ++tag) {
         made = w.self->CommitCollective(tag, std::string(250, 'p'), {.interrupted = kAlready});
       }
       return made.status();
     }},
    {"full disk afterwards", StatusCode::kResourceExhausted, Cause::kNoSpace, Outcome::kUnchanged,
     nullptr,
     [](World& w) {
       AtARoll(w, ENOSPC, {.timeout = kSoon}).IgnoreError();
       const Denied fault("journal.prepare", ENOSPC);
       return w.self->Commit("x").status();
     }},
    {"a failed write", StatusCode::kDataLoss, Cause::kPoisoned, Outcome::kUnknown, nullptr,
     [](World& w) {
       const Denied fault("journal.write", EIO);
       return Advance(*w.self).status();
     }},
    {"a failed write, voted", StatusCode::kDataLoss, Cause::kPoisoned, Outcome::kUnknown, nullptr,
     [](World& w) {
       const Denied fault("journal.write", EIO);
       return Advance(*w.self, kCheckedStateBytes, kAsked).status();
     }},
    {"a failed write, for those who wait", StatusCode::kDataLoss, Cause::kPoisoned,
     Outcome::kUnknown, nullptr,
     [](World& w) {
       const Denied fault("journal.write", EIO);
       Advance(*w.self).IgnoreError();
       return w.other->Await(1, Stage::kCommitted).status();
     }},
    {"poisoned", StatusCode::kUnavailable, Cause::kPoisoned, Outcome::kUnchanged, nullptr,
     [](World& w) {
       const Denied fault("journal.write", EIO);
       Advance(*w.self).IgnoreError();
       return w.self->Commit("x").status();
     }},
    {"nobody writes", StatusCode::kUnavailable, Cause::kNoWriter, Outcome::kUnchanged, nullptr,
     [](World& w) {
       w.region->mapping()->set_port(nullptr);
       return w.self->Commit("x").status();
     }},
    {"nobody writes any more", StatusCode::kUnavailable, Cause::kNoWriter, Outcome::kPending,
     nullptr,
     [](World& w) {
       const auto ticket = w.self->Propose(*w.self->NewDraft(CheckedState(1)));
       EXPECT_OK(ticket);
       w.region->mapping()->set_port(nullptr);
       return w.self->Await(*ticket, kLong).status();
     }},
    {"nobody writes any more, for those who wait", StatusCode::kUnavailable, Cause::kNoWriter,
     Outcome::kPending, nullptr,
     [](World& w) {
       EXPECT_OK(w.self->Propose(*w.self->NewDraft(CheckedState(1))));
       w.region->mapping()->set_port(nullptr);
       return w.other->Await(1, Stage::kCommitted, kLong).status();
     }},
};

class ErrorsTest : public JournalTest {
 protected:
  void Expect(const Row& row, World& world) {
    SCOPED_TRACE(row.what);
    const absl::Status status = row.produce(world);
    const ErrorDetails details = Details(status);
    EXPECT_EQ(status.code(), row.code) << status.ToString();
    EXPECT_EQ(details.cause, row.cause) << status.ToString();
    EXPECT_EQ(details.outcome, row.outcome) << status.ToString();
    EXPECT_EQ(details.accepted.has_value(), row.outcome != Outcome::kUnchanged);
    const std::string message(status.message());
    if (row.outcome != Outcome::kUnchanged) {
      EXPECT_THAT(message, testing::StartsWith(absl::StrCat("epoch ", details.accepted.value_or(0),
                                                            " is accepted, its outcome pending")));
      EXPECT_THAT(message, testing::Not(testing::HasSubstr("nothing was changed")));
    }
    if (row.culprit != nullptr) {
      EXPECT_FALSE(details.culprits.empty());
      if (*row.culprit != '\0' && !details.culprits.empty()) {
        EXPECT_EQ(details.culprits[0].name, row.culprit);
      }
    }
    produced_.insert({absl::StatusCodeToString(row.code), row.outcome});
  }

  // "what changed", by code, as the README's table has it.
  static std::map<std::string, std::string> ReadmesRows() {
    const std::map<std::string, std::string> names = {{"Aborted", "ABORTED"},
                                                      {"Cancelled", "CANCELLED"},
                                                      {"DeadlineExceeded", "DEADLINE_EXCEEDED"},
                                                      {"FailedPrecondition", "FAILED_PRECONDITION"},
                                                      {"ResourceExhausted", "RESOURCE_EXHAUSTED"},
                                                      {"OutOfRange", "OUT_OF_RANGE"},
                                                      {"Unavailable", "UNAVAILABLE"},
                                                      {"DataLoss", "DATA_LOSS"},
                                                      {"NotFound", "NOT_FOUND"},
                                                      {"AlreadyExists", "ALREADY_EXISTS"},
                                                      {"PermissionDenied", "PERMISSION_DENIED"},
                                                      {"InvalidArgument", "INVALID_ARGUMENT"},
                                                      {"Unimplemented", "UNIMPLEMENTED"},
                                                      {"Internal", "INTERNAL"}};
    std::map<std::string, std::string> rows;
    std::ifstream readme(EPOCH_SOURCE_DIR "/README.md");
    bool within = false;
    for (std::string line; std::getline(readme, line);) {
      if (line.rfind("## ", 0) == 0) within = line == "## Errors";
      if (!within || line.rfind("| `", 0) != 0) continue;
      const std::size_t codes = line.find(" | "), changed = line.rfind(" | ");
      std::stringstream cell(line.substr(2, codes - 2));
      for (std::string code; cell >> code;) {
        code.erase(0, code.find('`') + 1);
        code.erase(code.find('`'));
        EXPECT_TRUE(names.contains(code)) << code;
        if (names.contains(code)) rows[names.at(code)] = line.substr(changed + 3);
      }
    }
    return rows;
  }

  std::set<std::pair<std::string, Outcome>> produced_;
};

TEST_F(ErrorsTest, EveryErrorOfTheTableSaysWhatBecameOfTheTransition) {
  for (const Row& row : kVolatileRows) {
    World world;
    Expect(row, world);
  }
  for (const Row& row : kDurableRows) {
    const ScratchDirectory scratch;
    World world(scratch / "journal");
    Expect(row, world);
  }
  {
    // A child of fork().
    World world;
    const pid_t child = fork();
    if (child == 0) {
      const absl::Status status = world.self->Commit("x").status();
      _exit(absl::IsFailedPrecondition(status) && Details(status).cause == Cause::kForked ? 0 : 1);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  {
    // Another layout, and an earlier boot: of a file, so nothing but code and words.
    World world;
    detail::Superblock s = world.region->mapping()->superblock();
    const auto with = [&](const std::function<void(detail::Superblock&)>& change) {
      detail::Superblock changed = s;
      change(changed);
      changed.checksum = detail::SuperblockChecksum(changed);
      Patch(world.name.path(), 0, reinterpret_cast<const std::byte*>(&changed), sizeof changed);
      return Region::Open(world.name.name()).status();
    };
    EXPECT_FAILS(with([](detail::Superblock& c) { ++c.layout_major; }), kUnimplemented, "layout");
    produced_.insert({"UNIMPLEMENTED", Outcome::kUnchanged});
  }

  {
    const ScratchDirectory scratch;
    const World world(scratch / "journal");
    const Denied unreadable("journal.read", EIO);
    EXPECT_FAILS(journal::Preview(scratch / "journal"), kInternal, "read error");
    produced_.insert({"INTERNAL", Outcome::kUnchanged});
  }

  const std::map<std::string, std::string> rows = ReadmesRows();
  EXPECT_EQ(rows.size(), 14u);
  for (const auto& [code, changed] : rows) {
    for (const Outcome outcome : {Outcome::kUnchanged, Outcome::kPending, Outcome::kUnknown}) {
      const char* const word = outcome == Outcome::kUnchanged ? "nothing"
                               : outcome == Outcome::kPending ? "pending"
                                                              : "unknown";
      const bool listed = changed.find(word) != std::string::npos;
      // (Unknown under Unavailable: of a region whose journal went on elsewhere; by Details'
      // tests.)
      if (outcome == Outcome::kUnknown && code == "UNAVAILABLE") continue;
      EXPECT_EQ(produced_.contains({code, outcome}), listed) << code << ": " << word;
    }
  }
}

// The error that hid it made a caller try again, and that made two of one.
TEST_F(ErrorsTest, AnUpdateThatIsAcceptedAndNotOnDiskCountsOnce) {
  World world(directory());
  const absl::Status status = AtARoll(world, EACCES);
  const ErrorDetails details = Details(status);
  ASSERT_EQ(details.outcome, Outcome::kPending);
  // The disk is back: to wait for it is what is left to do.
  const auto made = world.self->Await(Ticket{*details.accepted});
  ASSERT_OK(made);
  ExpectState(*world.region, *made);
  EXPECT_EQ(world.region->epoch(), *details.accepted);
  ExpectCompleteHistory(directory(), *made);
}

TEST_F(ErrorsTest, ARestoreThatWaitsCanBeInterrupted) {
  World world(directory());
  ASSERT_OK(Advance(*world.self));
  ASSERT_OK(Region::Unlink(world.name.name()));
  RegionOptions options = world.options;
  int asked = 0;
  options.interrupted = [&] { return ++asked == 2; };
  EXPECT_FAILS(Region::Restore(name(), options), kCancelled, "interrupted");
  EXPECT_EQ(asked, 2);
  EXPECT_OK(Advance(*world.self)) << "it lives";
}

TEST_F(ErrorsTest, ADraftThatWaitsForTheDiskCanBeInterrupted) {
  World world(directory());
  ASSERT_NO_FATAL_FAILURE(world.FillSegment());
  const Denied fault("journal.prepare", ENOSPC);
  absl::Status status;
  while (status.ok()) {
    auto draft = world.self->NewDraft(kBigStateBytes, {.interrupted = kAlready});
    status = draft.ok() ? world.self->Propose(*std::move(draft)).status() : draft.status();
  }
  // (Proposals are refused once the disk is known to be full; drafts wait for the versions.)
  if (!absl::IsCancelled(status)) {
    EXPECT_FAILS(status, kResourceExhausted, "nothing was changed");
    return;
  }
  EXPECT_EQ(Details(status).cause, Cause::kInterrupted);
  EXPECT_EQ(Details(status).outcome, Outcome::kUnchanged);
}

// --- words that somebody has written over --------------------------------------------------------

TEST_F(ErrorsTest, ADamagedTagIsFoundAtOnce) {
  World world(directory());
  for (int i = 0; i < 3; ++i) ASSERT_OK(Advance(*world.self));
  auto& words = world.control().ring[7].h;
  const std::uint64_t was = words.Load();
  words.Store(was ^ (std::uint64_t{1} << 60));
  {
    const Denied counted("journal.ring_read", 0);
    const auto made =
        Advance(*world.self, kCheckedStateBytes, {.timeout = absl::Milliseconds(100)});
    EXPECT_FAILS(made, kDataLoss, "the batch ring or the epoch word is damaged");
    EXPECT_LE(Denied::passed(), 20) << "bounds of retries multiply";
    EXPECT_EQ(Details(made).cause, Cause::kDamaged);
    EXPECT_EQ(Details(made).accepted, Epoch{4});
  }
  words.Store(was);
  ASSERT_OK(world.self->Await(4, Stage::kCommitted));
  ExpectCompleteHistory(directory(), 4);
}

struct Altered {
  std::uint32_t versions;  // few: those of older batches are recycled, and only the disk can tell
  bool afresh;             // by a process that has written nothing yet
  History history;
};

std::ostream& operator<<(std::ostream& out, const Altered& a) {
  return out << a.versions << (a.afresh ? " afresh" : "")
             << (a.history == History::kLatest ? " latest" : "");
}

class AlteredEndTest : public JournalTest, public testing::WithParamInterface<Altered> {};

TEST_P(AlteredEndTest, IsFoundBeforeAnythingIsAcknowledgedOverIt) {
  RegionOptions options = Options();
  options.versions = GetParam().versions;
  options.history = GetParam().history;
  absl::StatusOr<Region> region = Region::Create(name(), options);
  ASSERT_OK(region);
  absl::StatusOr<Participant> self = Participant::Join(*region);
  ASSERT_OK(self);
  detail::Control& control = *region->mapping()->view().control;
  Epoch epoch = 0;
  for (const std::size_t size : {std::size_t{100}, std::size_t{9000}, std::size_t{0}}) {
    for (const int delta : {-5, -2, -1, 1, 2, 300}) {
      SCOPED_TRACE(absl::StrCat("size ", size, ", delta ", delta));
      const std::size_t bytes = size == 0 ? kCheckedStateBytes : size;
      // Also what an incarnation begins with, before it has a batch.
      for (int i = 0; size != 0 && i < 4; ++i) {
        ASSERT_OK(Advance(*self, bytes));
        ++epoch;
      }
      const journal::RingReading ring = journal::ReadRing(control);
      auto& words = ring.WordsAt(control, 0).e;
      const std::uint64_t was = words.Load();
      words.Store(was + static_cast<std::uint64_t>(static_cast<std::int64_t>(delta)));
      absl::StatusOr<Region> also = Region::Open(name());
      ASSERT_OK(also);
      absl::StatusOr<Participant> fresh = Participant::Join(*also);
      ASSERT_OK(fresh);
      Participant& writer = GetParam().afresh ? *fresh : *self;
      const auto made = Advance(writer, bytes);
      EXPECT_FAILS(made, kDataLoss, "damaged");
      EXPECT_EQ(Details(made).accepted, epoch + 1);
      EXPECT_EQ(region->epoch(), epoch) << "nothing is acknowledged";
      // Put right, it goes on: nothing was written in the wrong place, nor handed on.
      words.Store(was);
      ASSERT_OK(self->Await(++epoch, Stage::kCommitted));
    }
  }
  ASSERT_OK(Region::Unlink(name()));
  self = absl::UnknownError("gone");
  region = absl::UnknownError("gone");
  ExpectRestores(options, epoch);
}

INSTANTIATE_TEST_SUITE_P(, AlteredEndTest,
                         testing::Values(Altered{32, false, History::kAll},
                                         Altered{32, true, History::kAll},
                                         Altered{4, false, History::kAll},
                                         Altered{4, true, History::kAll},
                                         Altered{4, true, History::kLatest}));

TEST_F(ErrorsTest, AnAlteredEndIsFoundBeforeASegmentIsBegunThatSaysSo) {
  World world(directory());
  ASSERT_NO_FATAL_FAILURE(world.FillSegment());
  const Epoch epoch = world.region->epoch();
  const std::size_t segments = SegmentsIn(directory()).size();
  const journal::RingReading ring = journal::ReadRing(world.control());
  auto& words = ring.WordsAt(world.control(), 0).e;
  const std::uint64_t was = words.Load();
  words.Store(was - 2);
  EXPECT_FAILS(Advance(*world.self, kBigStateBytes), kDataLoss, "damaged");
  EXPECT_EQ(SegmentsIn(directory()).size(), segments);
  words.Store(was);
  ASSERT_OK(world.self->Await(epoch + 1, Stage::kCommitted));
  ExpectCompleteHistory(directory(), epoch + 1);
}

}  // namespace
}  // namespace epoch::test
