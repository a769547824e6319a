// Durable regions from the command line: create, put, serve, log, check, recover, rm.
#include <signal.h>
#include <unistd.h>

#include <filesystem>

#include "cli/command.h"

namespace epoch::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr std::size_t kBlock = 4096;

class CliJournal : public testing::Test {
 protected:
  void SetUp() override { EXPECT_SUCCESS(Create({})); }

  Result Create(const std::vector<std::string>& more) {
    std::vector<std::string> args = {"create", name(),      "--state-bytes",
                                     "64KiB",  "--journal", journal()};
    args.insert(args.end(), more.begin(), more.end());
    return Ctl(args);
  }
  void Put(const std::string& state, const std::string& token = "0") {
    EXPECT_SUCCESS(Ctl({"put", name(), "-", "--token", token}, {.input = state}));
  }
  const std::string& name() const { return name_.name(); }
  std::string journal() const { return directory_ / "journal"; }
  std::vector<std::string> Segments() const {
    std::vector<std::string> paths;
    for (const auto& entry : std::filesystem::directory_iterator(journal())) {
      paths.push_back(entry.path());
    }
    std::sort(paths.begin(), paths.end());
    return paths;
  }
  // Where the n-th record's batch is, from the log itself.
  std::size_t OffsetOfRecord(std::size_t n) {
    return CtlJson({"log", journal()})["records"].at(n)["block"].get<std::size_t>() * kBlock;
  }
  void PoisonRegion() {
    auto region = Region::Open(name_.name());
    ASSERT_OK(region);
    detail::PoisonHead(region->mapping()->view());
  }

  ScratchDirectory directory_;
  ScratchName name_;
};

TEST_F(CliJournal, OneThatLiesElsewhereIsNamedToTheVerbsThatOpenARegion) {
  Put("old");
  const std::string elsewhere = directory_ / "elsewhere";
  std::filesystem::rename(journal(), elsewhere);
  EXPECT_REFUSED(Ctl({"put", name(), "-"}, {.input = "new"}), 6, "epochctl --journal");
  const nlohmann::json error =
      nlohmann::json::parse(Ctl({"-o", "json", "put", name(), "-"}, {.input = "new"}).err);
  EXPECT_EQ(error["error"]["cause"], "journal away");
  EXPECT_EQ(error["error"]["outcome"], "unchanged");
  EXPECT_SUCCESS(Ctl({"put", name(), "-", "--journal", elsewhere}, {.input = "new"}));
  EXPECT_EQ(Ctl({"get", name(), "--epoch", "1", "--journal", elsewhere}).out, "old");
  const std::vector<std::vector<std::string>> others = {{"serve", name(), "--duration", "1ms"},
                                                        {"wait", name(), "--epoch", "2"},
                                                        {"get", name()},
                                                        {"status", name()},
                                                        {"reap", name()},
                                                        {"expel", name(), "0"}};
  for (std::vector<std::string> words : others) {
    words.insert(words.end(), {"--journal", elsewhere});
    const Result result = Ctl(words);
    EXPECT_TRUE(words.front() == "expel" || result.code == 0) << words.front() << result.err;
    words.back() = directory_ / "nowhere";
    EXPECT_REFUSED(Ctl(words), 6, "has its journal in");
  }
}

TEST_F(CliJournal, PutIsDurableWithoutADaemon) {
  Put("first", "11");
  Put("second", "12");
  const nlohmann::json status = CtlJson({"status", name()});
  EXPECT_EQ(status["durable"], true);
  for (const char* field : {"backend", "segments", "bytes", "poisoned"}) {
    EXPECT_TRUE(status["journal"].contains(field)) << field;
  }
  EXPECT_EQ(status["journal"]["segments"], 1);
  EXPECT_EQ(status["journal"]["poisoned"], false);
  EXPECT_EQ(status["journal"]["superseded"], false);

  const nlohmann::json log = CtlJson({"log", journal()});
  ASSERT_EQ(log["records"].size(), 2u);
  EXPECT_EQ(log["records"][0]["epoch"], 1);
  EXPECT_EQ(log["records"][0]["bytes"], 5);
  EXPECT_EQ(log["records"][0]["token"], 11);
  EXPECT_EQ(log["records"][0]["proposer"]["slot"], 0);
  EXPECT_EQ(log["records"][0]["proposer"]["generation"], 1);
  EXPECT_EQ(log["records"][1]["digest"], CtlJson({"get", name()})["digest"]);
  EXPECT_TRUE(log["damage"].empty());
  const Result verified = Ctl({"log", journal(), "--verify"});
  EXPECT_SUCCESS(verified);
  EXPECT_THAT(verified.out, HasSubstr("sound: 2 records"));
  EXPECT_SUCCESS(Ctl({"check", journal()}));
  EXPECT_SUCCESS(Ctl({"check", name()}));
}

TEST_F(CliJournal, RecoverMakesTheRegionAnew) {
  for (const char* state : {"a", "b", "c"}) Put(state);
  EXPECT_REFUSED(Ctl({"recover", journal(), name()}), 6, "exists and is alive, at epoch 3");
  EXPECT_SUCCESS(Ctl({"rm", name()}));

  const nlohmann::json dry = CtlJson({"recover", journal(), name(), "--dry-run"});
  EXPECT_EQ(dry["epoch"], 3);
  EXPECT_EQ(dry["dry_run"], true);
  EXPECT_EQ(dry["cut"], false);
  EXPECT_EQ(Segments().size(), 1u);
  EXPECT_NE(access(name_.path().c_str(), F_OK), 0);

  const nlohmann::json recovered = CtlJson({"recover", journal(), name()});
  EXPECT_EQ(recovered["epoch"], 3);
  EXPECT_EQ(Ctl({"get", name()}).out, "c");
  Put("d");
  const nlohmann::json log = CtlJson({"log", journal(), "--segment", "2"});
  ASSERT_EQ(log["records"].size(), 1u);
  EXPECT_EQ(log["records"][0]["epoch"], 4);
  EXPECT_EQ(log["segments"][0]["recovered"], true);
  EXPECT_EQ(CtlJson({"log", journal()})["records"].size(), 4u);
  EXPECT_REFUSED(Ctl({"log", journal(), "--segment", "9"}), 3, "no segment 9");
}

TEST_F(CliJournal, RecoverTakesTheRegionFromTheEnvironment) {
  Put("a");
  EXPECT_SUCCESS(Ctl({"rm", name()}));
  EXPECT_SUCCESS(Ctl({"recover", journal()}, {.region = name()}));
  EXPECT_EQ(Ctl({"get", name()}).out, "a");
}

TEST_F(CliJournal, RecoverKeepsTheGeometryUnlessToldOtherwise) {
  Put(std::string(1000, 'x'));
  EXPECT_SUCCESS(Ctl({"rm", name()}));
  EXPECT_REFUSED(Ctl({"recover", journal(), name(), "--state-bytes", "999"}), 1,
                 "nothing was changed");
  EXPECT_SUCCESS(Ctl({"recover", journal(), name(), "--participants", "5"}));
  const nlohmann::json status = CtlJson({"status", name()});
  EXPECT_EQ(status["slots"], 5);
  EXPECT_EQ(status["state"]["capacity"], 65536);
}

TEST_F(CliJournal, APoisonedRegionIsReplaced) {
  Put("kept");
  ASSERT_NO_FATAL_FAILURE(PoisonRegion());
  EXPECT_EQ(CtlJson({"status", name()})["journal"]["poisoned"], true);
  EXPECT_EQ(Ctl({"get", name()}).out, "kept");
  EXPECT_REFUSED(Ctl({"put", name(), "-"}, {.input = "x"}), 1, "epochctl recover");
  EXPECT_REFUSED(Ctl({"wait", name(), "--epoch", "2"}), 5, "epochctl recover");
  EXPECT_THAT(Ctl({"check", name()}).out, HasSubstr("note: head: poisoned"));
  EXPECT_SUCCESS(Ctl({"recover", journal(), name()}));
  EXPECT_EQ(CtlJson({"status", name()})["phase"], "open");
  EXPECT_EQ(Ctl({"put", name(), "-"}, {.input = "x"}).out, "2\n");
}

TEST_F(CliJournal, MissingJournalsAreToldFromEmptyOnes) {
  EXPECT_REFUSED(Ctl({"log", directory_ / "none"}), 3, "none");
  EXPECT_REFUSED(Ctl({"recover", directory_ / "none", name()}), 3, "none");
  std::filesystem::create_directory(directory_ / "empty");
  EXPECT_REFUSED(Ctl({"log", directory_ / "empty"}), 5, "no journal segments");
  EXPECT_REFUSED(Ctl({"check", directory_ / "empty"}), 5, "no journal segments");
  EXPECT_REFUSED(Ctl({"recover", directory_ / "empty", name()}), 5, "no journal segments");
  EXPECT_REFUSED(Create({}), 6, "exists already");
  EXPECT_SUCCESS(Ctl({"rm", name()}));
  EXPECT_REFUSED(Create({}), 6, "holds a journal already");
}

TEST_F(CliJournal, DamagedAcknowledgedDataIsReportedAndTheRestIsStillListed) {
  for (const char* state : {"one", "two", "three"}) Put(state);
  const std::size_t second = OffsetOfRecord(1);
  EXPECT_SUCCESS(Ctl({"rm", name()}));
  const std::string segment = Segments().at(0);
  Patch(segment, second + 200, "damage");
  const std::string before = ReadText(segment);

  const Result log = Ctl({"log", journal(), "-o", "json"});
  EXPECT_EQ(log.code, 5);
  const auto json = nlohmann::json::parse(log.out);
  ASSERT_EQ(json["records"].size(), 2u);
  EXPECT_EQ(json["records"][0]["epoch"], 1);
  EXPECT_EQ(json["records"][1]["epoch"], 3);
  EXPECT_FALSE(json["damage"].empty());
  const Result table = Ctl({"log", journal(), "--verify"});
  EXPECT_EQ(table.code, 5);
  EXPECT_THAT(table.out, HasSubstr("damaged"));
  EXPECT_THAT(table.out, Not(HasSubstr("never acknowledged")));
  EXPECT_EQ(Ctl({"check", journal()}).code, 5);
  EXPECT_REFUSED(Ctl({"recover", journal(), name(), "--dry-run"}), 5, "damaged");
  EXPECT_REFUSED(Ctl({"recover", journal(), name()}), 5, "damaged");
  EXPECT_TRUE(ReadText(segment) == before);
  EXPECT_EQ(Segments().size(), 1u);
}

TEST_F(CliJournal, ATornTailIsCutAndSaidSo) {
  Put("kept");
  Put(std::string(20'000, 'x'));  // several blocks
  const std::size_t last = OffsetOfRecord(1);
  EXPECT_SUCCESS(Ctl({"rm", name()}));
  Patch(Segments().at(0), last + 3 * kBlock, std::string(kBlock, '\0'));
  // As if its writer had been killed, before it left evidence that it is durable.
  Patch(Segments().at(0), last + 5 * kBlock, std::string(kBlock, '\0'));
  const nlohmann::json dry = CtlJson({"recover", journal(), name(), "--dry-run"});
  EXPECT_EQ(dry["epoch"], 1);
  EXPECT_EQ(dry["cut"], true);
  EXPECT_EQ(dry["cut_offset"], last);
  EXPECT_THAT(Ctl({"check", journal()}).out, HasSubstr("note: segment 1"));
  const Result recovered = Ctl({"recover", journal(), name()});
  EXPECT_SUCCESS(recovered);
  EXPECT_THAT(recovered.out, HasSubstr("never acknowledged"));
  EXPECT_EQ(Ctl({"get", name()}).out, "kept");
}

TEST_F(CliJournal, ServeWritesForThoseWhoCanNot) {
  // This test program has no compiled journal.
  auto region = Region::Open(name());
  ASSERT_OK(region);
  auto self = Participant::Join(*region, {.name = "light"});
  ASSERT_OK(self);
  EXPECT_FAILS(self->Commit("x"), kUnavailable, "nobody writes the journal");
  Command serve({"serve", name()});
  absl::StatusOr<Epoch> committed = self->Commit("served");
  while (absl::IsUnavailable(committed.status())) committed = self->Commit("served");
  ASSERT_OK(committed);
  const auto participants = CtlJson({"status", name()})["participants"];
  EXPECT_EQ(participants[1]["name"], "epochctl serve");
  EXPECT_EQ(participants[1]["flushes"], true);
  serve.Signal(SIGTERM);
  const Result served = serve.Finish();
  EXPECT_SUCCESS(served);
  EXPECT_EQ(served.out, "1\n");
  EXPECT_EQ(CtlJson({"status", name()})["participants"].size(), 1u);
  EXPECT_EQ(CtlJson({"log", journal()})["records"].size(), 1u);
}

TEST_F(CliJournal, RemoveKeepsTheJournalUnlessToldTwice) {
  Put("a");
  EXPECT_REFUSED(Ctl({"rm", name(), "--with-journal"}), 2, "--yes");
  EXPECT_EQ(access(name_.path().c_str(), F_OK), 0);
  // What was prepared for the next segment goes, too.
  std::string spare = Segments().at(0);
  spare.replace(spare.size() - std::string("1.segment").size(), std::string::npos, "2.spare");
  std::filesystem::copy_file(Segments().at(0), spare);
  EXPECT_SUCCESS(Ctl({"rm", name(), "--with-journal", "--yes"}));
  EXPECT_NE(access(name_.path().c_str(), F_OK), 0);
  EXPECT_NE(access(journal().c_str(), F_OK), 0);
}

TEST_F(CliJournal, CheckOfARegionLooksAtItsJournal) {
  Put("one");
  EXPECT_SUCCESS(Ctl({"check", name()}));
  const std::string away = directory_ / "away";
  std::filesystem::rename(journal(), away);
  Result missing = Ctl({"check", name()});
  EXPECT_EQ(missing.code, 5);
  EXPECT_THAT(missing.out, HasSubstr("DAMAGE: journal: is not there"));
  EXPECT_THAT(missing.err,
              HasSubstr("its journal is not: 1 finding; keep the state (epochctl get)"));
  std::filesystem::copy(away, journal());
  missing = Ctl({"check", name()});
  EXPECT_EQ(missing.code, 5);
  EXPECT_THAT(missing.out, HasSubstr("is a copy of this region's journal"));
  std::filesystem::remove_all(journal());
  std::filesystem::rename(away, journal());
  EXPECT_SUCCESS(Ctl({"check", name()}));
}

TEST_F(CliJournal, ACopyDoesNotTakeTheJournalOfTheOriginalAlong) {
  const ScratchName copy;
  std::filesystem::copy_file(name_.path(), copy.path());
  EXPECT_REFUSED(Ctl({"rm", copy.name(), "--with-journal", "--yes"}), 6, "journal of the original");
  EXPECT_EQ(Segments().size(), 1u);
  EXPECT_SUCCESS(Ctl({"rm", copy.name()}));
}

TEST_F(CliJournal, AJournalInMemoryIsSaidToBe) {
  EXPECT_EQ(CtlJson({"status", name()})["journal"]["in_memory"], false);
  const ScratchName other;
  const std::string journal = other.path() + ".journal";
  const Result made = Ctl({"create", other.name(), "--journal", journal});
  EXPECT_EQ(made.code, 0);
  EXPECT_THAT(made.err, HasSubstr("lies in memory"));
  EXPECT_EQ(CtlJson({"status", other.name()})["journal"]["in_memory"], true);
  EXPECT_THAT(Ctl({"status", other.name()}).out, HasSubstr("in memory: lost at a reboot"));
  std::filesystem::remove_all(journal);
}

TEST_F(CliJournal, AJournalThatIsAnothersByNowStays) {
  Put("a");
  const ScratchName heir;
  EXPECT_SUCCESS(Ctl({"recover", journal(), heir.name()}));
  EXPECT_EQ(CtlJson({"status", name()})["journal"]["superseded"], true);
  EXPECT_REFUSED(Ctl({"put", name(), "-"}, {.input = "x"}), 6, "superseded");
  EXPECT_REFUSED(Ctl({"rm", name(), "--with-journal", "--yes"}), 6, "another region");
  EXPECT_SUCCESS(Ctl({"rm", name()}));
  EXPECT_EQ(Ctl({"put", heir.name(), "-"}, {.input = "b"}).out, "2\n");
}

TEST_F(CliJournal, LatestHistoryRecoversToo) {
  const ScratchName latest;
  const ScratchDirectory directory;
  EXPECT_SUCCESS(
      Ctl({"create", latest.name(), "--journal", directory / "j", "--history", "latest"}));
  for (const char* state : {"a", "b"}) Ctl({"put", latest.name(), "-"}, {.input = state});
  EXPECT_EQ(CtlJson({"status", latest.name()})["journal"]["history"], "latest");
  EXPECT_SUCCESS(Ctl({"rm", latest.name()}));
  EXPECT_SUCCESS(Ctl({"recover", directory / "j", latest.name()}));
  EXPECT_EQ(Ctl({"get", latest.name()}).out, "b");
}

TEST_F(CliJournal, KeepsAsMuchAsItIsTold) {
  const ScratchName keeping;
  const ScratchDirectory directory;
  EXPECT_REFUSED(
      Ctl({"create", keeping.name(), "--journal", directory / "j", "--retain-epochs", "x"}), 2,
      "--retain-epochs \"x\"");
  EXPECT_SUCCESS(Ctl({"create", keeping.name(), "--journal", directory / "j", "--retain-segments",
                      "3", "--retain-epochs", "5000000000"}));
  for (int life = 0; life < 2; ++life) {
    const auto journal = CtlJson({"status", keeping.name()})["journal"];
    EXPECT_EQ(journal["retain_segments"], 3);
    EXPECT_EQ(journal["retain_epochs"], 5'000'000'000);
    EXPECT_SUCCESS(Ctl({"rm", keeping.name()}));
    EXPECT_SUCCESS(Ctl({"recover", directory / "j", keeping.name()}));
  }
}

TEST_F(CliJournal, AReaderThatLeavesEndsALongLogQuietly) {
  for (int i = 0; i < 3; ++i) Put("state");
  const Result result = Ctl({"log", journal()}, {.output_closed = true});
  EXPECT_EQ(result.code, 1);
  EXPECT_EQ(result.err, "");
}

// K5: the verdict of a dry run is that of the real one, in the same words.
TEST_F(CliJournal, ADryRunSaysWhatTheRealOneSays) {
  const auto both = [&](const std::vector<std::string>& more, int code) {
    std::vector<std::string> args = {"recover", journal(), name(), "--timeout", kSoonText};
    args.insert(args.end(), more.begin(), more.end());
    const Result real = Ctl(args);
    args.emplace_back("--dry-run");
    const std::size_t segments = Segments().size();
    const Result dry = Ctl(args);
    EXPECT_EQ(real.code, code) << testing::PrintToString(real);
    EXPECT_EQ(dry.code, code) << testing::PrintToString(dry);
    EXPECT_EQ(dry.err, real.err);
    EXPECT_EQ(dry.out, "");
    EXPECT_EQ(Segments().size(), segments);
    return real.err;
  };
  Put("a");
  EXPECT_THAT(both({}, 6), HasSubstr("exists and is alive, at epoch 1"));
  Command serve({"serve", name()});
  ASSERT_TRUE(Await([&] { return CtlJson({"status", name()})["participants"].size() == 1; }));
  EXPECT_THAT(both({}, 6), HasSubstr("exists and is alive, at epoch 1"));
  serve.Stop();
  ASSERT_NO_FATAL_FAILURE(PoisonRegion());
  EXPECT_THAT(both({}, 6), HasSubstr("is still attached to by"));
  EXPECT_SUCCESS(Ctl({"rm", name(), "--force"}));
  EXPECT_THAT(both({}, 6), HasSubstr("is still attached to by"));
  serve.Signal(SIGKILL);
  serve.Finish();
  EXPECT_THAT(both({"--versions", "2"}, 2), HasSubstr("versions 2 (4 to"));
  EXPECT_THAT(both({"--segment-bytes", "4096"}, 2), HasSubstr("is too small"));
  // Something else has the name, or there is no room for it.
  WriteText(name_.path(), "not a region");
  EXPECT_THAT(both({}, 6), HasSubstr("exists"));
  std::filesystem::remove(name_.path());
  EXPECT_EQ(CtlJson({"recover", journal(), name(), "--dry-run"})["epoch"], 1);
  EXPECT_SUCCESS(Ctl({"recover", journal(), name()}));
}

// K10: old epochs are read back, by region and by directory.
TEST_F(CliJournal, OldEpochsAreReadBack) {
  Put("one", "11");
  Put("two\n", "12");
  Put(std::string("three\x1b[0m\0", 11), "13");
  for (int life = 0; life < 2; ++life) {
    EXPECT_EQ(Ctl({"get", name(), "--epoch", "1"}).out, "one");
    EXPECT_EQ(Ctl({"get", name(), "--epoch", "2"}).out, "two\n");
    EXPECT_EQ(Ctl({"get", name(), "--epoch", "0"}).out, "");
    const nlohmann::json json = CtlJson({"get", name(), "--epoch", "2"});
    EXPECT_EQ(json["epoch"], 2);
    EXPECT_EQ(json["token"], 12);
    EXPECT_EQ(json["bytes"], 4);
    EXPECT_EQ(json["state_base64"], "dHdvCg==");
    EXPECT_EQ(json["segment"], 1);
    EXPECT_EQ(json["proposer"]["slot"], 0);
    EXPECT_EQ(json["ballot"], nullptr);
    EXPECT_EQ(json["digest"], CtlJson({"log", journal()})["records"][1]["digest"]);
    for (const std::string& of : {name(), journal()}) {
      const Result shown = Ctl({"log", of, "--show", "2"});
      EXPECT_SUCCESS(shown);
      EXPECT_THAT(shown.out, AllOf(HasSubstr("epoch     2\n"), HasSubstr("token 12"),
                                   HasSubstr("slot 0, generation 2"), HasSubstr("\n\ntwo\n")));
      EXPECT_EQ(CtlJson({"log", of, "--show", "3"})["record"]["token"], 13);
      // Nothing of a state drives the terminal.
      EXPECT_THAT(Ctl({"log", of, "--show", "3"}).out,
                  AllOf(HasSubstr("three"), Not(HasSubstr("\x1b"))));
      EXPECT_EQ(CtlJson({"log", of})["records"].size(), 3u);
    }
    EXPECT_REFUSED(Ctl({"get", name(), "--epoch", "4"}), 1, "the region is at 3");
    EXPECT_REFUSED(Ctl({"log", journal(), "--show", "4"}), 1, "ends at epoch 3");
    EXPECT_REFUSED(Ctl({"get", name(), "--epoch", "x"}), 2, "--epoch \"x\"");
    EXPECT_EQ(Ctl({"get", name(), "--epoch", "1", "--epoch-only"}).code, 2);
    EXPECT_SUCCESS(Ctl({"rm", name()}));
    EXPECT_SUCCESS(Ctl({"recover", journal(), name()}));
  }
  const ScratchName brief;
  EXPECT_SUCCESS(Ctl({"create", brief.name()}));
  EXPECT_REFUSED(Ctl({"get", brief.name(), "--epoch", "0"}), 6, "is volatile");
  EXPECT_REFUSED(Ctl({"log", brief.name()}), 6, "is volatile");
  // This test program has no compiled journal.
  auto region = Region::Open(name());
  ASSERT_OK(region);
  EXPECT_FAILS(region->History(), kFailedPrecondition, "needs the compiled journal");
}

TEST_F(CliJournal, AnOldEpochIsRecoveredIntoANewRegionAndJournal) {
  for (const char* state : {"one", "two", "three"}) Put(state, "7");
  const std::string before = ReadText(Segments().at(0));
  const ScratchName then;
  const std::string fork = directory_ / "fork";
  EXPECT_REFUSED(Ctl({"recover", journal(), then.name(), "--epoch", "2"}), 2, "--journal DIR");
  EXPECT_REFUSED(Ctl({"recover", journal(), then.name(), "--journal", fork}), 2, "--epoch");
  for (const char* dry : {"--dry-run", ""}) {
    const auto recover = [&](const std::string& region, const std::string& epoch,
                             const std::string& to) {
      std::vector<std::string> args = {"recover", journal(),   region, "--epoch",
                                       epoch,     "--journal", to};
      if (*dry != '\0') args.emplace_back(dry);
      return Ctl(args);
    };
    EXPECT_REFUSED(recover(name(), "2", fork), 6, "exists");
    EXPECT_REFUSED(recover(then.name(), "9", fork), 1, "there is no epoch 9");
    // The old journal is never cut.
    EXPECT_REFUSED(recover(then.name(), "2", journal()), 6, "holds a journal already");
    EXPECT_SUCCESS(recover(then.name(), "2", fork));
    EXPECT_EQ(access(fork.c_str(), F_OK) == 0, *dry == '\0');
    EXPECT_EQ(access(then.path().c_str(), F_OK) == 0, *dry == '\0');
  }
  EXPECT_EQ(Ctl({"get", then.name()}).out, "two");
  EXPECT_EQ(CtlJson({"status", then.name()})["epoch"], 2);
  EXPECT_EQ(CtlJson({"status", then.name()})["state"]["token"], 7);
  EXPECT_EQ(CtlJson({"status", then.name()})["state"]["capacity"], 65536);
  // Both go on, each with its own epoch 3.
  EXPECT_EQ(Ctl({"put", then.name(), "-"}, {.input = "other"}).out, "3\n");
  EXPECT_EQ(Ctl({"get", then.name(), "--epoch", "2"}).out, "two");
  EXPECT_SUCCESS(Ctl({"check", then.name()}));
  EXPECT_SUCCESS(Ctl({"check", fork}));
  EXPECT_SUCCESS(Ctl({"rm", then.name()}));
  EXPECT_SUCCESS(Ctl({"recover", fork, then.name()}));
  EXPECT_EQ(Ctl({"get", then.name()}).out, "other");
  EXPECT_EQ(Segments().size(), 1u);
  EXPECT_TRUE(ReadText(Segments().at(0)) == before);
  EXPECT_EQ(Ctl({"put", name(), "-"}, {.input = "four"}).out, "4\n");
}

// K11: a check of a region looks at where its batches end, and its journal.
TEST_F(CliJournal, AnEndThatIsNotTheJournalsIsFound) {
  for (const char* state : {"a", "b", "c"}) Put(state);
  std::size_t newest = 0;
  std::uint64_t word = 0;
  {
    const auto region = Region::Open(name(), {.read_only = true});
    ASSERT_OK(region);
    const detail::Control& control = *region->mapping()->view().control;
    for (std::size_t i = 0; i < detail::kBatchRingSlots; ++i) {
      if (control.ring[i].e.Load() > word) {
        word = control.ring[i].e.Load();
        newest = i;
      }
    }
  }
  const std::size_t at = sizeof(detail::Superblock) + offsetof(detail::Control, ring) +
                         newest * sizeof(detail::BatchWords) + offsetof(detail::BatchWords, e);
  Patch(name_.path(), at, BytesOf(word - 2));
  const Result found = Ctl({"check", name()});
  EXPECT_EQ(found.code, 5);
  EXPECT_THAT(found.out, HasSubstr("DAMAGE: batch slot"));
  Patch(name_.path(), at, BytesOf(word));
  EXPECT_SUCCESS(Ctl({"check", name()}));
}

}  // namespace
}  // namespace epoch::test
