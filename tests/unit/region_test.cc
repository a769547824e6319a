// Regions: making, opening, naming, removing, and the errors on the way. Corrupted ones: crash/.
#include "epoch/region.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "support/child.h"
#include "support/region_test.h"

namespace epoch::test {
namespace {

TEST_F(RegionTest, created_region_is_empty_at_epoch_0_and_opens) {
  CreateRegion();
  EXPECT_EQ(region().epoch(), 0u);
  EXPECT_EQ(region().state_bytes(), 256u);
  EXPECT_FALSE(region().durable());
  EXPECT_EQ(region().path(), path());
  auto opened = Region::Open(name());
  ASSERT_OK(opened);
  EXPECT_EQ(opened->incarnation(), region().incarnation());
  auto snapshot = opened->Read();
  ASSERT_OK(snapshot);
  EXPECT_EQ(snapshot->epoch, 0u);
  EXPECT_TRUE(snapshot->state.empty());
}

TEST_F(RegionTest, incarnations_differ) {
  CreateRegion();
  const std::string first = region().incarnation();
  EXPECT_EQ(first.size(), 32u);
  ASSERT_OK(Region::Unlink(name()));
  CreateRegion();
  EXPECT_NE(region().incarnation(), first);
}

TEST_F(RegionTest, second_create_is_refused_and_leaves_the_first_alone) {
  CreateRegion();
  EXPECT_FAILS(Region::Create(name(), Small()), kAlreadyExists, path());
  EXPECT_EQ(Region::Open(name())->incarnation(), region().incarnation());
}

TEST_F(RegionTest, open_or_create_makes_it_once) {
  auto first = Region::OpenOrCreate(name(), Small());
  ASSERT_OK(first);
  auto second = Region::OpenOrCreate(name(), Small());
  ASSERT_OK(second);
  EXPECT_EQ(first->incarnation(), second->incarnation());
}

TEST_F(RegionTest, open_and_unlink_of_nothing_are_not_found) {
  EXPECT_FAILS(Region::Open(name()), kNotFound, path());
  EXPECT_FAILS(Region::Unlink(name()), kNotFound, path());
  EXPECT_FAILS(Region::Open("/nowhere/at/all"), kNotFound, "/nowhere/at/all");
  EXPECT_FAILS(Region::Create("/nowhere/at/all"), kNotFound, "/nowhere/at");
}

TEST_F(RegionTest, bad_names_are_invalid_everywhere) {
  for (const std::string& bad :
       {std::string(), std::string("a b"), std::string("a\nb"), std::string("\xc3\xa4"),
        std::string("a\0b", 3), std::string(201, 'a'), std::string("/dev/shm/x\0y", 12)}) {
    SCOPED_TRACE(testing::PrintToString(bad));
    EXPECT_FAILS(Region::Create(bad), kInvalidArgument, "name");
    EXPECT_FAILS(Region::Open(bad), kInvalidArgument, "name");
    EXPECT_FAILS(Region::OpenOrCreate(bad), kInvalidArgument, "name");
    EXPECT_FAILS(Region::Unlink(bad), kInvalidArgument, "name");
  }
}

TEST_F(RegionTest, names_of_every_allowed_character_work) {
  const std::string odd = name() + ".A-z_0..9";
  ASSERT_OK(Region::Create(odd, Small()));
  EXPECT_OK(Region::Unlink(odd));
}

TEST_F(RegionTest, a_path_with_a_slash_is_taken_as_it_is) {
  const ScratchDirectory directory;
  const std::string file = directory / "plain region";
  ASSERT_OK(Region::Create(file, Small()));
  EXPECT_TRUE(std::filesystem::is_regular_file(file));
  EXPECT_OK(Region::Open(file));
  const std::string relative = std::filesystem::relative(file);
  ASSERT_NE(relative.find('/'), std::string::npos);
  EXPECT_OK(Region::Open(relative));
  EXPECT_OK(Region::Unlink(file));
  EXPECT_FALSE(std::filesystem::exists(file));
}

TEST_F(RegionTest, a_path_too_long_for_the_kernel_is_invalid) {
  EXPECT_FAILS(Region::Create("/dev/shm/" + std::string(300, 'x')), kInvalidArgument, "xxx");
  EXPECT_FAILS(Region::Open("/dev/shm/" + std::string(300, 'x')), kInvalidArgument, "xxx");
}

TEST_F(RegionTest, geometry_out_of_range_is_invalid_and_leaves_nothing) {
  const auto refused = [&](auto&& change) {
    RegionOptions options = Small();
    change(options);
    EXPECT_FAILS(Region::Create(name(), options), kInvalidArgument, "geometry");
    EXPECT_FAILS(Region::OpenOrCreate(name(), options), kInvalidArgument, "geometry");
    EXPECT_FALSE(std::filesystem::exists(path()));
  };
  refused([](RegionOptions& o) { o.state_bytes = 0; });
  refused([](RegionOptions& o) { o.state_bytes = (std::uint64_t{1} << 40) + 1; });
  refused([](RegionOptions& o) { o.participants = 0; });
  refused([](RegionOptions& o) { o.participants = 4097; });
  refused([](RegionOptions& o) { o.versions = 3; });
  refused([](RegionOptions& o) { o.versions = 8192; });
}

TEST_F(RegionTest, geometry_is_the_creators) {
  CreateRegion();
  RegionOptions other = Small();
  other.state_bytes = 100'000;
  auto opened = Region::OpenOrCreate(name(), other);
  ASSERT_OK(opened);
  EXPECT_EQ(opened->state_bytes(), 256u);
}

TEST_F(RegionTest, mode_bits_are_exact_whatever_the_umask) {
  const mode_t before = umask(077);
  for (unsigned mode : {0600u, 0640u, 0666u}) {
    RegionOptions options = Small();
    options.mode = mode;
    CreateRegion(options);
    struct stat info {};
    ASSERT_EQ(stat(path().c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777u, mode);
    ASSERT_OK(Region::Unlink(name()));
  }
  umask(before);
}

TEST_F(RegionTest, region_larger_than_its_filesystem_is_resource_exhausted_and_leaves_nothing) {
  RegionOptions options = Small();
  options.state_bytes = std::uint64_t{1} << 40;
  options.versions = 8191;
  EXPECT_FAILS(Region::Create(name(), options), kResourceExhausted, "allocate");
  EXPECT_FALSE(std::filesystem::exists(path()));
  // The largest file that the filesystem can have may be smaller still.
  const ScratchDirectory directory;
  EXPECT_FAILS(Region::Create(directory / "huge", options), kResourceExhausted, "allocate");
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
}

TEST_F(RegionTest, things_that_are_no_regular_file_are_refused) {
  const ScratchDirectory directory;
  EXPECT_FAILS(Region::Open(directory.path()), kInvalidArgument, directory.path());
  EXPECT_FAILS(Region::Open(directory.path(), {.read_only = true}), kInvalidArgument,
               "not a regular file");
  EXPECT_FAILS(Region::Open("/dev/null"), kInvalidArgument, "not a regular file");
  CreateRegion();
  const std::string link = directory / "link";
  ASSERT_EQ(symlink(path().c_str(), link.c_str()), 0);
  EXPECT_FAILS(Region::Open(link), kInvalidArgument, link);
  const std::string dangling = directory / "dangling";
  ASSERT_EQ(symlink("/nowhere", dangling.c_str()), 0);
  EXPECT_FAILS(Region::OpenOrCreate(dangling, Small()), kInvalidArgument, dangling);
}

ROLE(OpenFifo) {
  auto opened = Region::Open(self.args.at(0), {.read_only = true});
  self.wire.Say(opened.ok() ? "opened" : opened.status().ToString());
  return 0;
}

TEST_F(RegionTest, a_fifo_is_refused_without_waiting_for_a_writer) {
  const ScratchDirectory directory;
  const std::string fifo = directory / "fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  Child child("OpenFifo", {fifo});
  EXPECT_THAT(child.Hear(), testing::HasSubstr("not a regular file"));
}

TEST_F(RegionTest, unlinked_region_lives_on_for_those_who_have_it) {
  CreateRegion();
  Participant self = Joined();
  ASSERT_OK(Region::Unlink(name()));
  EXPECT_FAILS(Region::Open(name()), kNotFound, path());
  EXPECT_OK(Increment(self));
  EXPECT_OK(Increment(self));
  EXPECT_EQ(region().epoch(), 2u);
}

TEST_F(RegionTest, a_removed_replaced_or_renamed_region_is_orphaned_and_none_rejoins_it) {
  CreateRegion();
  Participant self = Joined();
  EXPECT_FALSE(region().orphaned());
  ASSERT_OK(self.Leave());
  ASSERT_OK(self.Rejoin());
  const ScratchName elsewhere;
  std::filesystem::rename(path(), elsewhere.path());
  EXPECT_TRUE(region().orphaned());
  EXPECT_FAILS(self.Rejoin(), kFailedPrecondition, "was removed, or is another region by now");
  std::filesystem::rename(elsewhere.path(), path());
  EXPECT_FALSE(region().orphaned());
  ASSERT_OK(Region::Unlink(name()));
  EXPECT_TRUE(region().orphaned());
  const Region orphan = region();
  CreateRegion();
  EXPECT_TRUE(orphan.orphaned());
  EXPECT_FALSE(region().orphaned());
  EXPECT_FAILS(self.Rejoin(), kFailedPrecondition, path());
  EXPECT_OK(Increment(self));  // whoever is in goes on, as it was never told
}

TEST_F(RegionTest, a_relative_path_is_not_orphaned_by_a_change_of_directory) {
  const ScratchDirectory directory;
  const std::string before = std::filesystem::current_path();
  std::filesystem::current_path(directory.path());
  const auto made = Region::Create("./region", Small());
  std::filesystem::current_path(before);
  ASSERT_OK(made);
  EXPECT_FALSE(made->orphaned());
}

TEST_F(RegionTest, unlink_removes_regions_and_nothing_else) {
  const ScratchDirectory directory;
  const std::string file = directory / "file", fifo = directory / "fifo";
  std::ofstream(file) << "precious, and longer than eight bytes";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  for (const std::string& other : {file, fifo, directory.path()}) {
    EXPECT_FAILS(Region::Unlink(other), kInvalidArgument, "is not an Epoch region");
    EXPECT_TRUE(std::filesystem::exists(other));
  }
  const std::string link = directory / "link";
  CreateRegion();
  ASSERT_EQ(symlink(path().c_str(), link.c_str()), 0);
  EXPECT_FAILS(Region::Unlink(link), kInvalidArgument, link);
  // In the place of a named region nothing else belongs.
  ASSERT_OK(Region::Unlink(name()));
  std::ofstream(path()) << "damaged beyond recognition";
  EXPECT_OK(Region::Unlink(name()));
  // What can still be told to be a region is one.
  ASSERT_OK(Region::Create(directory / "region", Small()));
  std::filesystem::resize_file(directory / "region", 100);
  EXPECT_OK(Region::Unlink(directory / "region"));
}

TEST_F(RegionTest, what_is_no_region_is_called_that) {
  EXPECT_FAILS(Region::Create("/dev/null"), kInvalidArgument, "not a region but a device");
  EXPECT_FAILS(Region::Create("/etc/passwd"), kAlreadyExists, "is not a region");
  EXPECT_FAILS(Region::Open("/etc/passwd"), kDataLoss, "is not an Epoch region");
  const ScratchDirectory directory;
  const std::string dangling = directory / "dangling";
  ASSERT_EQ(symlink("/nowhere", dangling.c_str()), 0);
  EXPECT_FAILS(Region::Create(dangling, Small()), kInvalidArgument, "a link");
}

TEST_F(RegionTest, a_volatile_region_is_not_taken_for_one_with_a_journal) {
  CreateRegion();
  const ScratchDirectory directory;
  RegionOptions options = Small();
  options.journal = directory.path();
  EXPECT_FAILS(Region::OpenOrCreate(name(), options), kFailedPrecondition, "is a volatile region");
  EXPECT_FAILS(Region::Open(name(), options), kFailedPrecondition, directory.path());
  options.read_only = true;
  EXPECT_FAILS(Region::Open(name(), options), kFailedPrecondition, "is a volatile region");
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
  EXPECT_EQ(region().journal(), "");
  EXPECT_FALSE(region().journal_in_memory());
}

TEST_F(RegionTest, mapping_lives_until_the_last_participant_is_gone) {
  CreateRegion();
  Participant self = Joined();
  region_.reset();
  EXPECT_OK(Increment(self));
  EXPECT_EQ(self.Pin().epoch(), 1u);
}

TEST_F(RegionTest, read_only_handle_sees_everything_and_changes_nothing) {
  CreateRegion();
  Participant self = Joined("writer");
  auto inspector = Region::Open(name(), {.read_only = true});
  ASSERT_OK(inspector);
  ASSERT_OK(self.Commit("seen", {.token = 9}));
  EXPECT_EQ(inspector->epoch(), 1u);
  auto snapshot = inspector->Read();
  ASSERT_OK(snapshot);
  EXPECT_EQ(snapshot->epoch, 1u);
  EXPECT_EQ(snapshot->token, 9u);
  EXPECT_EQ(
      std::string(reinterpret_cast<const char*>(snapshot->state.data()), snapshot->state.size()),
      "seen");
  ASSERT_EQ(inspector->Stragglers(1).size(), 1u);
  EXPECT_EQ(inspector->Stragglers(1)[0].name, "writer");
  EXPECT_FAILS(Participant::Join(*inspector), kPermissionDenied, "read-only");
  EXPECT_FAILS(inspector->Reap(), kPermissionDenied, "read-only");
  EXPECT_FAILS(inspector->Expel(0), kPermissionDenied, "read-only");
  EXPECT_OK(self.status());
}

TEST_F(RegionTest, durable_region_without_the_compiled_journal_is_refused_and_leaves_nothing) {
  const ScratchDirectory directory;
  RegionOptions options = Small();
  options.journal = directory.path();
  EXPECT_FAILS(Region::Create(name(), options), kFailedPrecondition, "epoch::journal");
  EXPECT_FAILS(Region::OpenOrCreate(name(), options), kFailedPrecondition, "epoch::journal");
  EXPECT_FAILS(Region::Restore(name(), options), kFailedPrecondition, "epoch::journal");
  EXPECT_FALSE(std::filesystem::exists(path()));
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
}

TEST_F(RegionTest, read_reports_a_damaged_state) {
  CreateRegion();
  Participant self = Joined();
  ASSERT_OK(self.Commit("precious"));
  const auto& view = region().mapping()->view();
  const auto head = detail::StateWord::Unpack(view.control->head.Load());
  view.PayloadOf(head.version)[3] ^= std::byte{1};
  EXPECT_FAILS(region().Read(), kDataLoss, "digest");
  view.PayloadOf(head.version)[3] ^= std::byte{1};
  EXPECT_OK(region().Read());
  view.cells[head.version].length_bytes.Store(~std::uint64_t{0});
  EXPECT_FAILS(region().Read(), kDataLoss, "impossible length");
}

}  // namespace
}  // namespace epoch::test
