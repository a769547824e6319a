// How the files are that a region and its journal are made of: the numbers of their descriptors,
// who may use them, and what a sweep leaves alone.
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <set>

#include "journal_test.h"
#include "support/child.h"
#include "support/trap.h"

namespace epoch::test {
namespace {

using testing::IsEmpty;

constexpr uid_t kSomebody = 65534;
constexpr gid_t kSomeGroup = 54321;

// --- descriptors ---------------------------------------------------------------------------------

// What exec does not close.
std::set<int> Inherited() {
  std::set<int> fds;
  for (int fd = 0; fd < 1000; ++fd) {
    if (const int flags = fcntl(fd, F_GETFD); flags >= 0 && (flags & FD_CLOEXEC) == 0) {
      fds.insert(fd);
    }
  }
  return fds;
}

// Whether the standard ones are as free as they were, and exec closes all that is new.
bool KeepsApart(const std::set<int>& before) {
  for (int fd = 0; fd < 3; ++fd) {
    if (fcntl(fd, F_GETFD) >= 0) return false;
  }
  if (Inherited() != before) return false;
  // Where a stray write would go to, and what it would read.
  char byte = 0;
  return write(1, "stray", 5) < 0 && read(0, &byte, 1) < 0 && errno == EBADF;
}

// args: region, journal.
ROLE(WithoutStandardFiles) {
  const RegionOptions options = SmallDurable(self.args.at(1));
  for (int fd = 0; fd < 3; ++fd) close(fd);
  const std::set<int> before = Inherited();
  const auto check = [&](const std::string& when, const absl::Status& status = absl::OkStatus()) {
    const bool good = status.ok() && KeepsApart(before);
    if (!good) self.wire.Say(when + ": " + status.ToString());
    return good;
  };
  {
    absl::StatusOr<Region> region = Region::OpenOrCreate(self.args.at(0), options);
    if (!check("open", region.status())) return 1;
    absl::StatusOr<Participant> joined = Participant::Join(*region);
    if (!check("join", joined.status())) return 1;
    absl::StatusOr<Listener> listener = joined->Listen();
    if (!check("listen", listener.status()) || listener->fd() < 3) return 1;
    for (int i = 0; i < 30; ++i) {
      if (!check("commit", Advance(*joined, kBigStateBytes).status())) return 1;
    }
    listener->Stop();
    const pid_t child = fork();
    if (child == 0) {
      const bool good = check("fork") && check("join", Participant::Join(*region).status());
      _exit(good ? 0 : 1);
    }
    int status = -1;
    if (waitpid(child, &status, 0) != child || status != 0) return 1;
    RegionOptions inspect;
    inspect.read_only = true;
    if (!check("inspect", Region::Open(self.args.at(0), inspect).status())) return 1;
  }
  if (!check("unlink", Region::Unlink(self.args.at(0)))) return 1;
  if (!check("restore", Region::Restore(self.args.at(0), options).status())) return 1;
  self.wire.Say("fine");
  return 0;
}

TEST_F(JournalTest, NoDescriptorIsAStandardOne) {
  Child child("WithoutStandardFiles", {name(), directory()});
  EXPECT_EQ(child.Hear(), "fine");
  EXPECT_EQ(child.Wait(), 0);
  ExpectCompleteHistory(directory(), 30);
}

TEST(StandardNumbers, AreGivenBackAsTheyWere) {
  EXPECT_GE(sys::StandardNumbersHeld::Above(dup(2)), 3);
  errno = ENOENT;
  EXPECT_EQ(sys::StandardNumbersHeld::Above(-1), -1);
  EXPECT_EQ(errno, ENOENT);
}

// A program may open a file of its own there while Epoch holds the number.
ROLE(PutsAFileInTheWay) {
  const detail::Fd file(memfd_create("of the program", MFD_CLOEXEC));
  for (int fd = 0; fd < 3; ++fd) close(fd);
  {
    const sys::StandardNumbersHeld held;
    ROLE_CHECK(fcntl(0, F_GETFD) >= 0 && fcntl(1, F_GETFD) >= 0 && fcntl(2, F_GETFD) >= 0);
    ROLE_CHECK(dup2(file.get(), 1) == 1);
    close(2);
    errno = ENOENT;
  }
  ROLE_CHECK(errno == ENOENT);
  ROLE_CHECK(fcntl(0, F_GETFD) < 0 && fcntl(2, F_GETFD) < 0);
  ROLE_CHECK(write(1, "text", 4) == 4, "the program's own file was closed");
  self.wire.Say("fine");
  return 0;
}

TEST(StandardNumbers, WhatAProgramPutsThereIsLeftAlone) {
  Child child("PutsAFileInTheWay", {});
  EXPECT_EQ(child.Hear(), "fine");
  EXPECT_EQ(child.Wait(), 0);
}

// --- permissions ---------------------------------------------------------------------------------

struct stat StatOf(const std::string& path) {
  struct stat info {};
  EXPECT_EQ(lstat(path.c_str(), &info), 0) << path << ": " << std::strerror(errno);
  return info;
}
unsigned ModeAt(const std::string& path) { return StatOf(path).st_mode & 07777u; }

class WithUmask {
 public:
  explicit WithUmask(mode_t mask) : before_(umask(mask)) {}
  ~WithUmask() { umask(before_); }

 private:
  const mode_t before_;
};

// Rolls until there are two segments, and a spare of the third.
void CommitPastARoll(const std::string& name, const std::string& directory) {
  absl::StatusOr<Region> region = Region::Open(name);
  ASSERT_OK(region);
  absl::StatusOr<Participant> self = Participant::Join(*region);
  ASSERT_OK(self);
  while (SegmentsIn(directory).size() < 2) ASSERT_OK(Advance(*self, kBigStateBytes));
}

TEST_F(JournalTest, PermissionsAreSetWholeWhateverTheUmask) {
  for (const mode_t mask : {0u, 022u, 077u}) {
    const WithUmask with(mask);
    RegionOptions options = Options();
    options.mode = 0664;
    ASSERT_OK(Region::Create(name(), options));
    ASSERT_NO_FATAL_FAILURE(CommitPastARoll(name(), directory()));
    EXPECT_EQ(ModeAt(name_.path()), 0664u);
    EXPECT_EQ(ModeAt(directory()), 0775u);
    for (const std::string& segment : SegmentsIn(directory())) EXPECT_EQ(ModeAt(segment), 0664u);
    ASSERT_OK(Region::Unlink(name()));
    std::filesystem::remove_all(directory());
  }
}

TEST_F(JournalTest, AGroupThatAParentGivesIsKept) {
  if (geteuid() != 0) GTEST_SKIP() << "needs another group";
  ASSERT_EQ(chown(scratch_.path().c_str(), 0, kSomeGroup), 0);
  ASSERT_EQ(chmod(scratch_.path().c_str(), 02770), 0);
  RegionOptions options = Options();
  options.mode = 0660;
  ASSERT_OK(Region::Create(name(), options));
  ASSERT_NO_FATAL_FAILURE(CommitPastARoll(name(), directory()));
  EXPECT_EQ(ModeAt(directory()), 02770u);
  EXPECT_EQ(StatOf(directory()).st_gid, kSomeGroup);
  for (const std::string& segment : SegmentsIn(directory())) {
    EXPECT_EQ(StatOf(segment).st_gid, kSomeGroup);
    EXPECT_EQ(ModeAt(segment), 0660u);
  }
}

TEST_F(JournalTest, ARestoreKeepsModeAndGroupOfTheNewestSegment) {
  ASSERT_NO_FATAL_FAILURE(WriteJournal({500, 500}));
  const std::string newest = SegmentsIn(directory()).back();
  ASSERT_EQ(chmod(newest.c_str(), 0660), 0);
  const gid_t group = geteuid() == 0 ? kSomeGroup : getegid();
  ASSERT_EQ(chown(newest.c_str(), static_cast<uid_t>(-1), group), 0);
  ASSERT_OK(Region::Restore(name(), Options()));
  ASSERT_NO_FATAL_FAILURE(CommitPastARoll(name(), directory()));
  for (const std::string& path : {name_.path(), SegmentsIn(directory()).back()}) {
    EXPECT_EQ(ModeAt(path), 0660u);
    EXPECT_EQ(StatOf(path).st_gid, group);
  }
  // Asked for otherwise, the region is as asked.
  ASSERT_OK(Region::Unlink(name()));
  RegionOptions options = Options();
  // Also for what it would be without a word.
  for (const unsigned mode : {0640u, detail::kDefaultMode}) {
    options.mode = mode;
    ASSERT_OK(Region::Restore(name(), options));
    EXPECT_EQ(ModeAt(name_.path()), mode);
    ASSERT_OK(Region::Unlink(name()));
  }
}

// args: region, journal. May use them, and is not in their group.
ROLE(OutsideTheGroup) {
  ROLE_CHECK(setgroups(0, nullptr) == 0 && setgid(kSomebody) == 0 && setuid(kSomebody) == 0);
  CommitPastARoll(self.args.at(0), self.args.at(1));
  return testing::Test::HasFailure() ? 3 : 0;
}

TEST_F(JournalTest, WhoMayNotGiveTheGroupLetsNoOtherIn) {
  if (geteuid() != 0) GTEST_SKIP() << "needs a second user";
  RegionOptions options = Options();
  options.mode = 0676;
  ASSERT_OK(Region::Create(name(), options));
  ASSERT_EQ(chmod(scratch_.path().c_str(), 0755), 0);
  ASSERT_EQ(chmod(directory().c_str(), 0777), 0);
  ASSERT_EQ(chown(SegmentsIn(directory())[0].c_str(), 0, kSomeGroup), 0);
  Child child("OutsideTheGroup", {name(), directory()});
  EXPECT_EQ(child.Wait(), 0);
  const std::string made = SegmentsIn(directory()).back();
  EXPECT_EQ(StatOf(made).st_uid, kSomebody);
  EXPECT_EQ(ModeAt(made), 0666u) << "its own group may do no more than anybody";
}

// --- sweeps --------------------------------------------------------------------------------------

class SweepTest : public JournalTest {
 protected:
  // As a maker leaves it that is killed.
  std::string LeftBehind(const std::string& letters) const {
    const std::string path = scratch_ / (".journal.new-" + letters);
    std::filesystem::create_directory(path);
    WriteText(path + "/epoch-12345678-00000001.segment", "rubbish");
    return path;
  }
};

TEST_F(SweepTest, WhatTheDeadLeftGoesAndWhatIsAnotherUsersStays) {
  const std::string own = LeftBehind("aaaaaa"), theirs = LeftBehind("bbbbbb");
  const bool second_user = geteuid() == 0;
  if (second_user) {
    ASSERT_EQ(chown(theirs.c_str(), kSomebody, kSomebody), 0);
  }
  ASSERT_OK(Region::Create(name(), Options()));
  EXPECT_FALSE(std::filesystem::exists(own));
  EXPECT_EQ(std::filesystem::exists(theirs), second_user);
  ASSERT_OK(Region::Unlink(name()));
  const std::string again = LeftBehind("cccccc");
  ASSERT_OK(Region::Restore(name(), Options()));
  EXPECT_FALSE(std::filesystem::exists(again));
  EXPECT_EQ(std::filesystem::exists(theirs), second_user);
}

// A neighbour puts a link to something else in the place of what was looked at.
TEST_F(SweepTest, WhatWasCheckedIsWhatIsSwept) {
  const std::string left = LeftBehind("aaaaaa"), target = scratch_ / "another";
  std::filesystem::create_directory(target);
  WriteText(target + "/epoch-87654321-00000001.segment", "precious");
  const Trap trap("sweep.checked", 1, [&] {
    std::filesystem::rename(left, left + "-aside");
    std::filesystem::create_directory_symlink(target, left);
    return 0;
  });
  ASSERT_OK(Region::Create(name(), Options()));
  EXPECT_TRUE(trap.sprung());
  EXPECT_EQ(ReadText(target + "/epoch-87654321-00000001.segment"), "precious");
  EXPECT_TRUE(std::filesystem::is_symlink(left));
}

TEST_F(SweepTest, ADirectoryThatWasExchangedWhileItWasMadeIsNotTaken) {
  const Trap trap("journal_create.before_rename", 1, [&] {
    for (const auto& entry : std::filesystem::directory_iterator(scratch_.path())) {
      const std::filesystem::path path = entry.path();
      if (!path.filename().string().starts_with(".journal.new-")) continue;
      std::filesystem::rename(path, scratch_ / "aside");
      std::filesystem::create_directory(path);
      break;
    }
    return 0;
  });
  EXPECT_FAILS(Region::Create(name(), Options()), kFailedPrecondition, "somebody else put");
  EXPECT_TRUE(trap.sprung());
  EXPECT_FALSE(std::filesystem::exists(name_.path()));
}

}  // namespace
}  // namespace epoch::test
