// Damaged, foreign and truncated regions (G12): an error that says what is wrong, never a crash.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <functional>
#include <random>

#include "cli/command.h"

namespace epoch::test {
namespace {

using detail::Control;
using detail::Slot;
using detail::Superblock;
using detail::VersionCell;
using testing::AnyOf;
using testing::Each;
using testing::HasSubstr;

constexpr std::size_t kControl = sizeof(Superblock);

class CliDamage : public SmallRegionTest {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(SmallRegionTest::SetUp());
    Participant self = Joined();
    for (const char* state : {"one", "two", "three"}) ASSERT_OK(self.Commit(state));
    const auto head = detail::StateWord::Unpack(region().mapping()->view().control->head.Load());
    const detail::Geometry& geometry = region().mapping()->view().geometry;
    slots_ = geometry.slots_offset;
    cell_ = geometry.cells_offset + head.version * sizeof(VersionCell);
    payload_ = geometry.payload_offset + head.version * geometry.payload_stride;
  }

  std::string ConditionInList() {
    const nlohmann::json json = CtlJson({"list"});
    for (const auto& row : json["regions"]) {
      if (row["name"] == name()) return row["condition"];
    }
    return "not listed";
  }
  // What check says, which must be that it is damaged.
  std::string Findings() {
    const Result result = Ctl({"check", name(), "-o", "json"});
    EXPECT_EQ(result.code, 5) << testing::PrintToString(result);
    const auto json = nlohmann::json::parse(result.out, nullptr, false);
    EXPECT_EQ(json["ok"], false);
    EXPECT_FALSE(json["findings"].empty());
    return json["findings"].dump();
  }
  void ExpectOpensRefuse(int code, const std::string& text) {
    for (const std::vector<std::string>& args :
         std::vector<std::vector<std::string>>{{"status", name()},
                                               {"get", name()},
                                               {"wait", name(), "--epoch", "0"},
                                               {"put", name(), "/dev/null"},
                                               {"reap", name()},
                                               {"expel", name(), "0"}}) {
      SCOPED_TRACE(testing::PrintToString(args));
      EXPECT_REFUSED(Ctl(args), code, text);
    }
  }

  std::size_t slots_ = 0, cell_ = 0, payload_ = 0;
};

TEST_F(CliDamage, AnotherLayoutIsNamed) {
  Patch(path(), offsetof(Superblock, layout_major), std::string("\x07\0\0\0", 4));
  ExpectOpensRefuse(4, "region has layout 7, this build speaks 6");
  EXPECT_REFUSED(Ctl({"check", name()}), 4, "layout 7");
  EXPECT_EQ(ConditionInList(), "other layout");
  EXPECT_REFUSED(Ctl({"rm", name()}), 4, "layout 7");
  EXPECT_SUCCESS(Ctl({"rm", name(), "--force"}));
}

TEST_F(CliDamage, ADamagedSuperblockIsNoticed) {
  Patch(path(), offsetof(Superblock, state_bytes), BytesOf(1));
  ExpectOpensRefuse(5, "superblock checksum is wrong");
  EXPECT_EQ(ConditionInList(), "damaged");
  EXPECT_THAT(Findings(), HasSubstr("superblock"));
  EXPECT_SUCCESS(Ctl({"rm", name()}));
}

TEST_F(CliDamage, AForeignFileIsNoticed) {
  WriteText(path(), std::string(100'000, 'x'));
  ExpectOpensRefuse(5, "is not an Epoch region");
  EXPECT_EQ(ConditionInList(), "damaged");
  EXPECT_SUCCESS(Ctl({"rm", name()}));
}

TEST_F(CliDamage, ATruncatedFileIsNoticed) {
  for (const off_t size : {off_t{100'000}, off_t{9000}, off_t{4096}, off_t{100}, off_t{0}}) {
    if (struct stat info{}; stat(path().c_str(), &info) != 0 || info.st_size <= size) continue;
    ASSERT_EQ(truncate(path().c_str(), size), 0);
    ExpectOpensRefuse(5, "truncated");
    EXPECT_EQ(ConditionInList(), "damaged");
    EXPECT_THAT(Findings(), HasSubstr("truncated"));
  }
}

TEST_F(CliDamage, OtherKindsOfFilesDoNotHang) {
  for (const std::function<int()>& make :
       std::vector<std::function<int()>>{[&] { return mkfifo(path().c_str(), 0600); },
                                         [&] { return symlink("/dev/zero", path().c_str()); },
                                         [&] { return mkdir(path().c_str(), 0700); }}) {
    unlink(path().c_str());
    ASSERT_EQ(make(), 0);
    for (const char* verb : {"status", "get"}) EXPECT_EQ(Ctl({verb, name()}).code, 2);
    EXPECT_EQ(ConditionInList(), "damaged");
  }
  rmdir(path().c_str());
}

TEST_F(CliDamage, AnEarlierBootIsNoticed) {
  Superblock superblock{};
  const std::string bytes = ReadText(path());
  std::memcpy(&superblock, bytes.data(), sizeof superblock);
  superblock.boot.fill(7);
  superblock.checksum = detail::SuperblockChecksum(superblock);
  Patch(path(), 0, std::string(reinterpret_cast<const char*>(&superblock), sizeof superblock));
  EXPECT_SUCCESS(Ctl({"get", name()}));  // what is in memory is of this one
  const ScratchDirectory disk;
  const std::string old = disk / "region";
  {
    const auto made = Region::Create(old);
    ASSERT_OK(made);
    if (detail::LiesInMemory(made->mapping()->probe_fd())) GTEST_SKIP() << "no disk to be had";
    std::memcpy(&superblock, ReadText(old).data(), sizeof superblock);
    superblock.boot.fill(7);
    superblock.checksum = detail::SuperblockChecksum(superblock);
    auto inhabitant = Participant::Join(*made);
    ASSERT_OK(inhabitant);
    Patch(old, 0, std::string(reinterpret_cast<const char*>(&superblock), sizeof superblock));
    EXPECT_REFUSED(Ctl({"rm", old}), 6, "in use by");
  }
  EXPECT_REFUSED(Ctl({"get", old}), 6, "earlier boot");
  EXPECT_SUCCESS(Ctl({"rm", old}));
}

TEST_F(CliDamage, ACopyIsNamedAndGoesWithoutTheJournalOfTheOriginal) {
  const ScratchName copy;
  std::filesystem::copy_file(path(), copy.path());
  EXPECT_REFUSED(Ctl({"put", copy.name(), "-"}), 6, "is a copy of a region");
  EXPECT_SUCCESS(Ctl({"rm", copy.name()}));
  EXPECT_SUCCESS(Ctl({"get", name()}));
}

TEST_F(CliDamage, WhateverIsWrongWithItRemoveAsksWhoIsInIt) {
  const auto region = Region::Open(name());
  ASSERT_OK(region);
  const auto inhabitant = Participant::Join(*region);
  ASSERT_OK(inhabitant);
  Patch(path(), offsetof(Superblock, checksum), "XXXXXXXX");
  EXPECT_REFUSED(Ctl({"rm", name()}), 6, "in use by living processes");
  Patch(path(), offsetof(Superblock, layout_major), "\x09");
  EXPECT_REFUSED(Ctl({"rm", name()}), 6, "in use by living processes");
  EXPECT_SUCCESS(Ctl({"rm", "--force", name()}));
}

TEST_F(CliDamage, ADamagedStateIsNeverHandedOut) {
  Patch(path(), payload_, "X");
  EXPECT_REFUSED(Ctl({"get", name()}), 5, "epoch 3 does not match its digest");
  EXPECT_THAT(Findings(), HasSubstr("epoch 3 does not match its digest"));
}

TEST_F(CliDamage, AnImpossibleLengthIsNoticed) {
  Patch(path(), cell_ + offsetof(VersionCell, length_bytes), BytesOf(UINT64_MAX));
  EXPECT_REFUSED(Ctl({"get", name()}), 5, "impossible length");
  EXPECT_THAT(Findings(), HasSubstr("claims 18446744073709551615 bytes"));
}

TEST_F(CliDamage, ADamagedEpochWordIsNoticed) {
  for (const std::uint64_t word : {std::uint64_t{0}, ~std::uint64_t{0},
                                   detail::StateWord{detail::Phase::kOpen, kVersions, 3}.Pack()}) {
    Patch(path(), kControl, BytesOf(word));
    ExpectOpensRefuse(5, "the epoch word is damaged");
    EXPECT_EQ(ConditionInList(), "damaged");
    EXPECT_THAT(Findings(), HasSubstr("\"head\""));
  }
}

TEST_F(CliDamage, CheckNoticesEachBrokenRule) {
  const auto word = [](auto packed) { return BytesOf(packed.Pack()); };
  const struct {
    std::size_t offset;
    std::string bytes;
    std::string finding;
  } kDamages[] = {
      {kControl, word(detail::StateWord{detail::Phase::kOpen, 0, 9}), "beyond tail's 3"},
      {kControl + offsetof(Control, tail), word(detail::StateWord{detail::Phase::kAccepted, 0, 9}),
       "too far beyond head's 3"},
      {kControl + offsetof(Control, tail), BytesOf(0), "impossible phase"},
      {kControl + offsetof(Control, slot_limit), std::string("\xff\0\0\0", 4), "slot limit 255"},
      {kControl + offsetof(Control, slot_limit), std::string(4, '\0'), "beyond the slot limit"},
      {cell_ + offsetof(VersionCell, epoch), BytesOf(2), "is at epoch 3"},
      {cell_ + offsetof(VersionCell, chain), BytesOf(2), "not chained to epoch 2"},
      {cell_ + offsetof(VersionCell, shape), BytesOf(0), "unknown kind 0"},
      {cell_ + offsetof(VersionCell, shape), BytesOf((std::uint64_t{1} << 56) | 999),
       "follows version 999"},
      {cell_ + offsetof(VersionCell, ballot), BytesOf(77), "has ballot 77"},
      {cell_ + offsetof(VersionCell, round), BytesOf(77), "has collective round 77"},
      {slots_ + offsetof(Slot, vote), BytesOf(77), "has ballot 77"},
      {slots_ + offsetof(Slot, offer), word(detail::OwnedWord{2, 77}), "has collective round 77"},
      {cell_, BytesOf(0), "impossible state in owner word"},
      {cell_, word(detail::OwnerWord{detail::CellState::kFree, 0, 9}), "not published"},
      {cell_, word(detail::OwnerWord{detail::CellState::kDrafted, 4000, 9}), "by slot 4000"},
      {slots_, BytesOf(0), "impossible state"},
      {slots_ + offsetof(Slot, pin), word(detail::OwnedWord{2, 77}), "pin names epoch 77"},
      {slots_ + offsetof(Slot, pin), word(detail::OwnedWord{9, 1}), "pin is of generation 9"},
      {slots_ + offsetof(Slot, ack), word(detail::OwnedWord{2, 77}), "acknowledgment names epoch"},
      {slots_ + offsetof(Slot, own), word(detail::OwnedWord{2, 77}), "guard names version 77"},
      {slots_ + sizeof(Slot) + offsetof(Slot, pin), word(detail::OwnedWord{0, 1}),
       "is free, but holds a pin"},
  };
  Participant self = Joined("witness");
  const std::string sound = ReadText(path());
  ASSERT_EQ(Ctl({"check", name()}).code, 0);
  for (const auto& damage : kDamages) {
    SCOPED_TRACE(damage.finding);
    Patch(path(), damage.offset, damage.bytes);
    EXPECT_THAT(Findings(), HasSubstr(damage.finding));
    Patch(path(), damage.offset, sound.substr(damage.offset, damage.bytes.size()));
  }
  EXPECT_EQ(Ctl({"check", name()}).code, 0);
}

TEST_F(CliDamage, NoByteMakesInspectionCrashOrHang) {
  std::mt19937_64 random(20'240'601);
  const std::string sound = ReadText(path());
  const std::size_t interesting = payload_ + 64;
  for (int round = 0; round < 40; ++round) {
    std::string bytes = sound;
    for (std::uint64_t i = 0, changes = 1 + random() % 40; i < changes; ++i) {
      // Words rather than bytes: they get past the first comparison more often.
      const std::size_t at = kControl + random() % (interesting - kControl) / 8 * 8;
      const std::uint64_t word =
          random() % 3 == 0 ? ~std::uint64_t{0} >> (random() % 64) : random();
      bytes.replace(at, 8, BytesOf(word));
    }
    Patch(path(), 0, bytes);
    for (const std::vector<std::string>& args : std::vector<std::vector<std::string>>{
             {"status", name()},
             {"status", name(), "-o", "json"},
             {"get", name()},
             {"check", name()},
             {"wait", name(), "--epoch", "1", "--timeout", kSoonText}}) {
      const Result result = Ctl(args);
      EXPECT_THAT(result.code, testing::AllOf(testing::Ge(0), testing::Le(7)))
          << "round " << round << testing::PrintToString(args) << testing::PrintToString(result);
    }
  }
}

}  // namespace
}  // namespace epoch::test
