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

TEST_F(HostileTest, a_region_of_another_boot_is_refused) {
  ChangeSuperblock(true, [](Superblock& s) { s.boot[5] ^= 1; });
  EXPECT_THAT(Probe(), AllOf(StartsWith("FAILED_PRECONDITION"), HasSubstr("earlier boot")));
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
  control().head.Store(head);
  Child prober("Prober", {path(), "use"});
  EXPECT_EQ(prober.Hear(), "opened");
  EXPECT_EQ(prober.Wait(), 0);
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
