// Hostile bytes: whatever stands in a region file, the answer is an error or the truth, never a
// crash, a hang or an access out of bounds. Everything is tried in child processes.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "epoch/epoch.h"
#include "support/child.h"
#include "support/files.h"
#include "support/region_test.h"
#include "support/time_limits.h"

namespace epoch::test {
namespace {

using detail::Superblock;

RegionOptions Inspect() {
  RegionOptions options;
  options.read_only = true;
  return options;
}

// args: path. Opens it every way there is; says the status, and uses what can be opened. A last
// "use" argument also joins, pins and commits: then an abort by EPOCH_CHECK is an answer, too.
ROLE(Prober) {
  const std::string& path = self.args.at(0);
  alarm(kLong_s);  // ends it if it hangs
  auto inspected = Region::Open(path, Inspect());
  auto opened = Region::Open(path);
  ROLE_CHECK(opened.status().code() == inspected.status().code(), "both ways say the same");
  self.wire.Say(opened.ok() ? "opened" : opened.status().ToString());
  for (auto* region : {&inspected, &opened}) {
    if (!region->ok()) continue;
    static_cast<void>((*region)->Read());
    static_cast<void>((*region)->Stragglers(~Epoch{0} >> 17));
    static_cast<void>((*region)->Reap());
    for (std::uint32_t i = 0; i < 10; ++i) static_cast<void>((*region)->Expel(i));
  }
  if (self.args.size() > 1 && opened.ok()) {
    auto me = Participant::Join(*opened, {.name = "prober"});
    if (me.ok()) {
      static_cast<void>(me->Commit("x", {.timeout = kSoon}));
      static_cast<void>(me->Poll());
      static_cast<void>(me->Await(1, Stage::kConverged, kSoon));
      if (auto pin = me->TryPin(); pin.ok()) {
        ROLE_CHECK(pin->state().size() <= opened->state_bytes());
      }
    }
  }
  return 0;
}

class HostileTest : public SmallRegionTest {
 protected:
  void SetUp() override {
    SmallRegionTest::SetUp();
    Participant self = Joined();
    for (int i = 0; i < 3; ++i) ASSERT_OK(Increment(self));
  }

  // What a prober says about the file as it is now.
  std::string Probe() {
    Child prober("Prober", {path()});
    const std::string answer = prober.Hear();
    EXPECT_EQ(prober.Wait(), 0) << answer;
    return answer;
  }

  // Changes the superblock; with its checksum made right again, if `sealed`.
  void ChangeSuperblock(bool sealed, const std::function<void(Superblock&)>& change) {
    const int fd = open(path().c_str(), O_RDWR | O_CLOEXEC);
    Superblock s{};
    ASSERT_EQ(pread(fd, &s, sizeof s, 0), static_cast<ssize_t>(sizeof s));
    change(s);
    if (sealed) s.checksum = detail::SuperblockChecksum(s);
    ASSERT_EQ(pwrite(fd, &s, sizeof s, 0), static_cast<ssize_t>(sizeof s));
    close(fd);
  }
  detail::Control& control() { return *region().mapping()->view().control; }
  std::uint32_t HeadCell() { return detail::StateWord::Unpack(control().head.Load()).version; }
};

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

TEST_F(HostileTest, the_region_opens_while_nobody_touched_it) { EXPECT_EQ(Probe(), "opened"); }

TEST_F(HostileTest, truncated_files_of_every_kind_of_length_are_data_loss) {
  region_.reset();  // nobody has it mapped
  const auto whole = std::filesystem::file_size(path());
  for (std::uintmax_t length :
       {whole - 1, whole - 4096, whole / 2, std::uintmax_t{12288}, std::uintmax_t{8193},
        std::uintmax_t{8192}, std::uintmax_t{4097}, std::uintmax_t{4096}, std::uintmax_t{4095},
        std::uintmax_t{100}, std::uintmax_t{1}, std::uintmax_t{0}}) {
    std::filesystem::resize_file(path(), length);
    EXPECT_THAT(Probe(), AllOf(StartsWith("DATA_LOSS"), HasSubstr("truncated"))) << length;
  }
}

// args: path. Flips each bit pattern in each byte of the superblock, and opens.
ROLE(Flipper) {
  const int fd = open(self.args.at(0).c_str(), O_RDWR | O_CLOEXEC);
  for (off_t at = 0; at < static_cast<off_t>(sizeof(Superblock)); ++at) {
    unsigned char byte = 0;
    ROLE_CHECK(pread(fd, &byte, 1, at) == 1);
    for (int flip : {0x01, 0x80, 0xff}) {
      const auto flipped = static_cast<unsigned char>(byte ^ flip);
      ROLE_CHECK(pwrite(fd, &flipped, 1, at) == 1);
      const absl::Status status = Region::Open(self.args.at(0)).status();
      ROLE_CHECK(absl::IsDataLoss(status) || absl::IsUnimplemented(status), status.ToString(),
                 std::to_string(at));
    }
    ROLE_CHECK(pwrite(fd, &byte, 1, at) == 1);
  }
  self.wire.Say(Region::Open(self.args.at(0)).ok() ? "fine" : "not restored");
  return 0;
}

TEST_F(HostileTest, each_flipped_byte_of_the_superblock_is_noticed) {
  Child flipper("Flipper", {path()});
  EXPECT_EQ(flipper.Hear(), "fine");
  EXPECT_EQ(flipper.Wait(), 0);
}

TEST_F(HostileTest, foreign_files_are_named_as_such) {
  region_.reset();
  for (const std::string& content : {std::string(100'000, 'x'), std::string(100'000, '\0'),
                                     std::string("\x7f"
                                                 "ELF") +
                                         std::string(9000, '\1')}) {
    WriteText(path(), content);
    EXPECT_THAT(Probe(), AllOf(StartsWith("DATA_LOSS"), HasSubstr("not an Epoch region")));
  }
}

TEST_F(HostileTest, another_layout_is_unimplemented_and_both_are_named) {
  for (std::uint32_t layout : {0u, 1u, 2u, 4'000'000'000u}) {
    for (bool sealed : {false, true}) {
      ChangeSuperblock(sealed, [&](Superblock& s) { s.layout_major = layout; });
      EXPECT_THAT(Probe(),
                  AllOf(StartsWith("UNIMPLEMENTED"), HasSubstr("layout " + std::to_string(layout)),
                        HasSubstr("speaks " + std::to_string(detail::kLayoutMajor))));
    }
  }
}

TEST_F(HostileTest, a_build_with_other_structs_is_unimplemented_and_both_are_named) {
  ChangeSuperblock(true, [](Superblock& s) { s.fingerprint = 0xabcdef; });
  EXPECT_THAT(Probe(), AllOf(StartsWith("UNIMPLEMENTED"), HasSubstr("0000000000abcdef"),
                             HasSubstr("fingerprint")));
}

TEST_F(HostileTest, a_region_for_later_protocols_is_unimplemented_and_both_are_named) {
  ChangeSuperblock(true, [](Superblock& s) { s.protocol_floor = detail::kProtocol + 1; });
  EXPECT_THAT(Probe(), AllOf(StartsWith("UNIMPLEMENTED"),
                             HasSubstr("speak protocol " + std::to_string(detail::kProtocol + 1)),
                             HasSubstr("this build speaks " + std::to_string(detail::kProtocol))));
}

// Copies the region's file, holes left out, and opens the copy by its own name.
std::string ProbeCopy(const std::string& from, const std::string& to) {
  WriteText(to, ReadText(from));
  Child prober("Prober", {to});
  const std::string answer = prober.Hear();
  EXPECT_EQ(prober.Wait(), 0) << answer;
  return answer;
}

TEST_F(HostileTest, a_copy_of_a_region_is_refused_beside_it_elsewhere_and_in_its_place) {
  const ScratchName beside;
  const ScratchDirectory elsewhere;
  const auto copy = AllOf(StartsWith("FAILED_PRECONDITION"), HasSubstr("is a copy of a region"),
                          HasSubstr("recover it from its journal"));
  EXPECT_THAT(ProbeCopy(path(), beside.path()), copy);
  EXPECT_THAT(ProbeCopy(path(), elsewhere / "region"), copy);
  // Another name of the same file is no copy, and neither is a new name of it.
  std::filesystem::remove(beside.path());
  std::filesystem::create_hard_link(path(), beside.path());
  EXPECT_EQ(Probe(), "opened");
  std::filesystem::remove(path());
  EXPECT_THAT(ProbeCopy(beside.path(), path()), copy);
  std::filesystem::rename(beside.path(), path());
  EXPECT_EQ(Probe(), "opened");
}

TEST_F(HostileTest, of_an_identity_each_part_counts_that_is_known) {
  Superblock s{};
  std::memcpy(&s, ReadText(path()).data(), sizeof s);
  const detail::FileIdentity own = s.file;
  EXPECT_NE(own.inode, 0u);
  using Change = std::function<void(detail::FileIdentity&)>;
  const std::vector<std::pair<Change, bool>> changes = {
      {[](auto& f) { ++f.inode; }, false},      {[](auto& f) { ++f.volume; }, false},
      {[](auto& f) { ++f.filesystem; }, false}, {[](auto& f) { f.born_ns += 1000; }, false},
      {[](auto& f) { f.born_ns = 0; }, true},   {[](auto& f) { f.inode = 0; }, true}};
  for (std::size_t i = 0; i < changes.size(); ++i) {
    detail::FileIdentity other = own;
    changes[i].first(other);
    const bool unknown_birth = own.born_ns == 0 && i == 3;
    EXPECT_EQ(detail::SameIdentity(other, own), changes[i].second || unknown_birth) << i;
    EXPECT_EQ(detail::SameIdentity(own, other), changes[i].second || unknown_birth) << i;
  }
}

TEST_F(HostileTest, what_is_in_memory_is_of_this_boot_whatever_id_it_is_told) {
  ChangeSuperblock(true, [](Superblock& s) { s.boot[5] ^= 1; });
  EXPECT_EQ(Probe(), "opened");
  ChangeSuperblock(true, [](Superblock& s) { s.boot = {}; });
  EXPECT_EQ(Probe(), "opened");
}

TEST_F(HostileTest, a_region_on_a_disk_is_of_another_boot_unless_somebody_is_in_it) {
  const ScratchDirectory disk;
  const std::string file = disk / "region";
  const auto probe = [&file] {
    Child prober("Prober", {file});
    return prober.Hear();
  };
  std::optional<Region> region = *Region::Create(file, Small());
  if (detail::LiesInMemory(region->mapping()->probe_fd())) GTEST_SKIP() << "no disk to be had";
  EXPECT_EQ(probe(), "opened");
  const std::string sound = ReadText(file);
  const auto change = [&](const detail::Id& boot) {
    Superblock s{};
    std::memcpy(&s, sound.data(), sizeof s);
    s.boot = boot;
    s.checksum = detail::SuperblockChecksum(s);
    Patch(file, 0, reinterpret_cast<const std::byte*>(&s), sizeof s);
  };
  detail::Id other{};
  other.fill(7);
  absl::StatusOr<Participant> inhabitant = Participant::Join(*region);
  ASSERT_OK(inhabitant);
  for (const detail::Id& boot : {other, detail::Id{}}) {
    change(boot);
    EXPECT_EQ(probe(), "opened") << "the lock on it is of this boot";
  }
  inhabitant = absl::UnknownError("left");
  region.reset();
  change(other);
  EXPECT_THAT(probe(), AllOf(StartsWith("FAILED_PRECONDITION"), HasSubstr("an earlier boot")));
  change({});
  EXPECT_THAT(probe(), AllOf(StartsWith("FAILED_PRECONDITION"), HasSubstr("may belong to an")));
}

TEST_F(HostileTest, a_region_with_holes_is_refused_since_reading_would_fill_them) {
  region_.reset();
  const int fd = open(path().c_str(), O_RDWR | O_CLOEXEC);
  struct stat info {};
  ASSERT_EQ(fstat(fd, &info), 0);
  ASSERT_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, info.st_size - 4096, 4096),
            0);
  close(fd);
  EXPECT_THAT(Probe(), AllOf(StartsWith("DATA_LOSS"), HasSubstr("has holes")));
}

// args: path, uid. As Prober, with the rights of that user; then as one who trusts all owners.
ROLE(Distrustful) {
  const auto uid = static_cast<uid_t>(std::stoul(self.args.at(1)));
  ROLE_CHECK(setresuid(uid, uid, uid) == 0);
  for (const bool read_only : {false, true}) {
    RegionOptions options = {.read_only = read_only};
    self.wire.Say(Region::Open(self.args.at(0), options).status().ToString());
    options.trust_other_owners = true;
    self.wire.Say(Region::Open(self.args.at(0), options).status().ToString());
  }
  return 0;
}

TEST_F(HostileTest, a_region_of_another_user_is_refused_unless_an_option_trusts_all_owners) {
  if (getuid() != 0) GTEST_SKIP() << "only root can give files away";
  region_.reset();
  ASSERT_EQ(chmod(path().c_str(), 0666), 0);
  constexpr uid_t kSomebody = 40001, kSomebodyElse = 40002;
  for (const uid_t owner : {uid_t{0}, kSomebody}) {
    ASSERT_EQ(chown(path().c_str(), owner, 0), 0);
    for (const uid_t user : {uid_t{0}, kSomebody, kSomebodyElse}) {
      const bool fine = owner == 0 || owner == user;
      Child child("Distrustful", {path(), std::to_string(user)});
      for (int mode = 0; mode < 2; ++mode) {
        EXPECT_THAT(child.Hear(),
                    fine ? testing::Matcher<std::string>("OK")
                         : AllOf(StartsWith("PERMISSION_DENIED"), HasSubstr("belongs to user")))
            << "of " << owner << " for " << user;
        EXPECT_EQ(child.Hear(), "OK");
      }
      EXPECT_EQ(child.Wait(), 0);
    }
  }
}

TEST_F(HostileTest, who_may_only_read_can_not_make_the_dead_look_alive) {
  Child resident("Resident", {path()});
  ASSERT_EQ(resident.Hear(), "joined");
  const int fd = open(path().c_str(), O_RDONLY | O_CLOEXEC);
  for (int slot = 1; slot < static_cast<int>(kParticipants); ++slot) {
    // One that lives has its byte to itself.
    seam::SetByteLock(fd, seam::ByteLock::kShared, slot);
  }
  EXPECT_EQ(*region().Reap(), 0u);
  resident.Kill();
  seam::SetByteLock(fd, seam::ByteLock::kShared, 0);
  EXPECT_EQ(*region().Reap(), 1u);
  EXPECT_FALSE(detail::AnybodyIn(region().mapping()->probe_fd()));
  // A free slot whose byte is locked so cannot be taken: that is a limit, and is said.
  EXPECT_FAILS(Participant::Join(region()), kResourceExhausted, "only reads");
  close(fd);
  EXPECT_OK(Participant::Join(region()));
}

// args: path. Joins, and stays.
ROLE(Resident) {
  auto region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok(), region.status().ToString());
  auto me = Participant::Join(*region, {.name = "resident"});
  ROLE_CHECK(me.ok(), me.status().ToString());
  self.wire.Say("joined");
  self.wire.Hear();
  return 0;
}

TEST_F(HostileTest, well_sealed_nonsense_in_the_geometry_is_data_loss) {
  const std::vector<std::function<void(Superblock&)>> changes = {
      [](Superblock& s) { s.state_bytes = 0; },
      [](Superblock& s) { s.state_bytes = ~std::uint64_t{0}; },
      [](Superblock& s) { s.state_bytes += 128; },
      [](Superblock& s) { s.participants = 0; },
      [](Superblock& s) { s.participants = 0xffffffffu; },
      [](Superblock& s) { ++s.participants; },
      [](Superblock& s) { s.versions = 3; },
      [](Superblock& s) { s.versions = 0xffffffffu; },
      [](Superblock& s) { s.slots_offset -= 1024; },
      [](Superblock& s) { s.cells_offset = ~std::uint64_t{0}; },
      [](Superblock& s) { s.payload_offset += 4096; },
      [](Superblock& s) { s.payload_stride = 0; },
      [](Superblock& s) { s.total_bytes = 0; },
      [](Superblock& s) { s.durable = 2; },
      [](Superblock& s) { s.journal_path.fill('j'); },
  };
  const int fd = open(path().c_str(), O_RDONLY | O_CLOEXEC);
  Superblock intact{};
  ASSERT_EQ(pread(fd, &intact, sizeof intact, 0), static_cast<ssize_t>(sizeof intact));
  close(fd);
  for (std::size_t i = 0; i < changes.size(); ++i) {
    ChangeSuperblock(true, [&](Superblock& s) {
      s = intact;
      changes[i](s);
    });
    EXPECT_THAT(Probe(), StartsWith("DATA_LOSS")) << "change " << i;
  }
  // A larger geometry that is consistent in itself, in a file that is too small for it.
  ChangeSuperblock(true, [&](Superblock& s) {
    s = intact;
    const auto g = detail::Geometry::For(s.state_bytes, s.participants, 8191);
    s.versions = g->versions;
    s.payload_offset = g->payload_offset;
    s.total_bytes = g->total_bytes;
  });
  EXPECT_THAT(Probe(), AllOf(StartsWith("DATA_LOSS"), HasSubstr("truncated")));
}

TEST_F(HostileTest, an_epoch_word_that_can_not_be_is_data_loss) {
  using detail::Phase;
  using detail::StateWord;
  const std::uint64_t head = control().head.Load(), tail = control().tail.Load();
  const Epoch epoch = StateWord::Unpack(head).epoch;
  for (std::uint64_t word :
       {StateWord{Phase::kOpen, kVersions, epoch}.Pack(),
        StateWord{Phase::kOpen, 8191, epoch}.Pack(), StateWord{Phase::kAccepted, 0, epoch}.Pack(),
        StateWord{Phase::kOpen, HeadCell(), epoch + 1}.Pack(), std::uint64_t{0},
        ~std::uint64_t{0}}) {
    control().head.Store(word);
    EXPECT_THAT(Probe(), AllOf(StartsWith("DATA_LOSS"), HasSubstr("epoch word")))
        << std::hex << word;
  }
  control().head.Store(head);
  for (std::uint64_t word : {StateWord{Phase::kAccepted, kVersions, epoch}.Pack(),
                             StateWord{Phase::kOpen, 0, epoch}.Pack(),
                             StateWord{Phase::kAccepted, HeadCell(), epoch - 1}.Pack(),
                             std::uint64_t{0}, ~std::uint64_t{0}}) {
    control().tail.Store(word);
    EXPECT_THAT(Probe(), AllOf(StartsWith("DATA_LOSS"), HasSubstr("epoch word")))
        << std::hex << word;
  }
  control().tail.Store(tail);
  EXPECT_EQ(Probe(), "opened");
}

TEST_F(HostileTest, an_impossible_length_of_the_committed_state_is_data_loss) {
  auto& length = region().mapping()->view().cells[HeadCell()].length_bytes;
  for (std::uint64_t bad : {std::uint64_t{257}, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
    length.Store(bad);
    EXPECT_THAT(Probe(), AllOf(StartsWith("DATA_LOSS"), HasSubstr("length")));
  }
}

TEST_F(HostileTest, garbage_in_slot_limit_is_harmless) {
  for (std::uint32_t limit : {0xffffffffu, kParticipants + 1, 0x80000000u}) {
    control().slot_limit.Store(limit);
    EXPECT_EQ(Probe(), "opened");
    Participant self = Joined();
    EXPECT_OK(Increment(self));
    EXPECT_OK(region().Reap());
  }
}

TEST_F(HostileTest, an_epoch_word_damaged_after_the_open_stops_the_pin_with_a_message) {
  Participant self = Joined();
  const std::uint64_t head = control().head.Load();
  control().head.Store(detail::StateWord{detail::Phase::kOpen, 8000, 99}.Pack());
  EXPECT_FAILS(region().Read(), kDataLoss, "names version 8000");
  EXPECT_FALSE(self.Pin().ok());
  EXPECT_FAILS(self.TryPin(), kDataLoss, "the epoch word");
  control().head.Store(head);
  EXPECT_OK(self.TryPin());
}

TEST_F(HostileTest, random_damage_anywhere_ends_in_an_answer) {
  const auto& view = region().mapping()->view();
  auto* const base = reinterpret_cast<std::byte*>(view.control);
  const std::size_t size = static_cast<std::size_t>(view.payload - base);
  const std::vector<std::byte> intact(base, base + size);
  int opened = 0;
  for (unsigned seed = 1; seed <= 150; ++seed) {
    std::memcpy(base, intact.data(), size);
    std::mt19937_64 random(seed);
    for (auto changes = 1 + random() % 200; changes > 0; --changes) {
      const std::size_t at = random() % (size / 8) * 8;
      // Near what is there, near a limit, or anything.
      std::uint64_t word = random();
      if (random() % 2 == 0) std::memcpy(&word, base + at, 8);
      if (random() % 2 == 0) word ^= std::uint64_t{1} << (random() % 64);
      std::memcpy(base + at, &word, 8);
    }
    Child prober("Prober", {path(), "use"});
    const std::string answer = prober.Hear();
    const int result = prober.Wait();
    ASSERT_TRUE(result == 0 || result == -SIGABRT) << "seed " << seed << ": " << result;
    opened += answer == "opened" ? 1 : 0;
  }
  EXPECT_GT(opened, 10) << "damage that Open notices is not all there is to survive";
}

}  // namespace
}  // namespace epoch::test
