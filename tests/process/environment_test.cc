// What the system refuses: space, permission.
#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "epoch/epoch.h"
#include "support/child.h"
#include "support/files.h"
#include "support/refuse_calls.h"
#include "support/region_test.h"

namespace epoch::test {
namespace {

using EnvironmentTest = RegionTest;

fsblkcnt_t FreeBlocks(const char* path) {
  struct statfs info {};
  ROLE_CHECK(statfs(path, &info) == 0);
  return info.f_bfree;
}

// In a mount namespace of its own, where /dev/shm has a mebibyte.
ROLE(SmallShm) {
  ROLE_CHECK(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
  ROLE_CHECK(mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=1m") == 0);
  const auto free_before = FreeBlocks("/dev/shm");
  RegionOptions options;
  options.state_bytes = 1 << 20;
  options.versions = 4;
  for (auto create : {&Region::Create, &Region::OpenOrCreate}) {
    const absl::Status refused = create("big", options).status();
    ROLE_CHECK(absl::IsResourceExhausted(refused), refused.ToString());
    ROLE_CHECK(std::filesystem::is_empty("/dev/shm"));
    ROLE_CHECK(FreeBlocks("/dev/shm") == free_before, "space is not given back");
  }
  options.state_bytes = 1 << 10;
  auto region = Region::Create("small", options);
  ROLE_CHECK(region.ok(), region.status().ToString());
  auto me = Participant::Join(*region);
  ROLE_CHECK(me.ok());
  // Full to the last block: what is allocated already goes on working.
  const int fd = open("/dev/shm/filler", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  static const char block[4096] = {};
  while (write(fd, block, sizeof block) > 0) {
  }
  ROLE_CHECK(FreeBlocks("/dev/shm") == 0);
  for (int i = 0; i < 50; ++i) ROLE_CHECK(me->Commit(std::string(1024, 'x')).ok());
  self.wire.Say("fine");
  return 0;
}

TEST_F(EnvironmentTest, full_shared_memory_is_resource_exhausted_and_leaves_nothing) {
  if (!Child::CanIsolate(CLONE_NEWNS)) GTEST_SKIP() << "may not make mount namespaces";
  Child child("SmallShm", {}, CLONE_NEWNS);
  EXPECT_EQ(child.Hear(), "fine");
  EXPECT_EQ(child.Wait(), 0);
}

constexpr uid_t kNobody = 65534;

// args: private region, readable region, a directory that only root may write to.
ROLE(Nobody) {
  ROLE_CHECK(setgroups(0, nullptr) == 0);
  ROLE_CHECK(setresgid(kNobody, kNobody, kNobody) == 0 &&
             setresuid(kNobody, kNobody, kNobody) == 0);
  const std::string& hidden = self.args.at(0);
  const std::string& readable = self.args.at(1);
  RegionOptions inspect;
  inspect.read_only = true;
  for (const absl::Status& refused :
       {Region::Open(hidden).status(), Region::Open(hidden, inspect).status(),
        Region::OpenOrCreate(hidden).status(), Region::Unlink(hidden),
        Region::Open(readable).status(), Region::Unlink(readable),
        Region::Create(self.args.at(2) + "/region").status(),
        Region::OpenOrCreate(self.args.at(2) + "/region").status()}) {
    ROLE_CHECK(absl::IsPermissionDenied(refused), refused.ToString());
    ROLE_CHECK(refused.message().find('/') != absl::string_view::npos, "names what it is about");
  }
  const absl::Status for_writing = Region::Open(readable).status();
  ROLE_CHECK(for_writing.message().find("read_only") != absl::string_view::npos, "hints at it");
  auto region = Region::Open(readable, inspect);
  ROLE_CHECK(region.ok(), region.status().ToString());
  ROLE_CHECK(region->Read().ok());
  ROLE_CHECK(region->Stragglers(0).empty());
  ROLE_CHECK(region->Stragglers(1).size() == 1, "sees that others live, with no right to write");
  self.wire.Say("fine");
  return 0;
}

TEST_F(EnvironmentTest, without_permission_everything_is_permission_denied) {
  if (getuid() != 0) GTEST_SKIP() << "only root can become somebody else";
  ASSERT_NO_FATAL_FAILURE(CreateRegion());
  const ScratchName readable;
  RegionOptions options = Small();
  options.mode = 0644;
  auto open_region = Region::Create(readable.name(), options);
  ASSERT_OK(open_region);
  auto self = Participant::Join(*open_region);
  ASSERT_OK(self);
  const ScratchDirectory directory;
  ASSERT_EQ(chmod(directory.path().c_str(), 0755), 0);
  Child child("Nobody", {name(), readable.name(), directory.path()});
  EXPECT_EQ(child.Hear(), "fine");
  EXPECT_EQ(child.Wait(), 0);
}

// args: region, a file with another boot's id. In a mount namespace where the kernel's boot id is
// hidden behind that, as in many a container; then behind nothing readable.
ROLE(ToldAnotherBoot) {
  ROLE_CHECK(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
  constexpr char kBootId[] = "/proc/sys/kernel/random/boot_id";
  const auto used = [&self] {
    auto region = Region::Open(self.args.at(0));
    ROLE_CHECK(region.ok(), region.status().ToString());
    auto me = Participant::Join(*region);
    ROLE_CHECK(me.ok() && me->Commit("x").ok());
  };
  ROLE_CHECK(mount(self.args.at(1).c_str(), kBootId, nullptr, MS_BIND, nullptr) == 0);
  used();
  ROLE_CHECK(mount("/dev/null", kBootId, nullptr, MS_BIND, nullptr) == 0);
  used();
  // What is on a disk would outlive its boot, and nobody could tell.
  const auto made = Region::Create(self.args.at(1) + ".region");
  ROLE_CHECK(absl::IsFailedPrecondition(made.status()) || made.ok(), made.status().ToString());
  ROLE_CHECK(!made.ok() || detail::LiesInMemory(made->mapping()->probe_fd()));
  self.wire.Say("fine");
  return 0;
}

TEST_F(EnvironmentTest, another_boot_id_over_proc_is_no_other_boot) {
  if (!Child::CanIsolate(CLONE_NEWNS)) GTEST_SKIP() << "may not make mount namespaces";
  ASSERT_NO_FATAL_FAILURE(CreateRegion());
  const ScratchDirectory directory;
  WriteText(directory / "boot_id", "00000000-1111-2222-3333-444444444444\n");
  Child child("ToldAnotherBoot", {name(), directory / "boot_id"}, CLONE_NEWNS);
  EXPECT_EQ(child.Hear(), "fine");
  EXPECT_EQ(child.Wait(), 0);
}

// args: region, seconds. A child of it lives in a time namespace that is so far away. Says what
// becomes of its attempt to join, and to read.
ROLE(TimeTraveller) {
  if (unshare(0x80 /* CLONE_NEWTIME */) != 0) {
    self.wire.Say("refused");
    return 0;
  }
  WriteText("/proc/self/timens_offsets", "monotonic " + self.args.at(1) + " 0\n");
  const pid_t child = fork();
  if (child == 0) {
    auto region = Region::Open(self.args.at(0));
    ROLE_CHECK(region.ok(), region.status().ToString());
    self.wire.Say(Participant::Join(*region).status().ToString());
    self.wire.Say(region->Read().status().ToString());
    std::_Exit(0);
  }
  int status = 0;
  ROLE_CHECK(waitpid(child, &status, 0) == child && status == 0);
  return 0;
}

TEST_F(EnvironmentTest, who_has_another_monotonic_clock_can_not_join_but_read) {
  ASSERT_NO_FATAL_FAILURE(CreateRegion());
  for (const auto& [seconds, joins] : {std::pair{"1000", false}, std::pair{"0", true}}) {
    Child child("TimeTraveller", {name(), seconds});
    const std::string joined = child.Hear();
    if (joined == "refused") GTEST_SKIP() << "may not make time namespaces";
    EXPECT_THAT(joined, joins ? testing::Matcher<std::string>("OK")
                              : testing::HasSubstr("created in another time namespace"));
    EXPECT_EQ(child.Hear(), "OK");
    EXPECT_EQ(child.Wait(), 0);
  }
}

// args: region. Has joined before it gets into another time namespace: its child by the fork,
// itself by setns.
ROLE(TimeTravellerWhoHasJoined) {
  const auto join = [&self] {
    auto region = Region::Open(self.args.at(0));
    ROLE_CHECK(region.ok(), region.status().ToString());
    return Participant::Join(*region).status().ToString();
  };
  ROLE_CHECK(join() == "OK");
  if (unshare(0x80 /* CLONE_NEWTIME */) != 0) {
    self.wire.Say("refused");
    return 0;
  }
  WriteText("/proc/self/timens_offsets", "monotonic 1000 0\n");
  self.wire.Say(join());  // its own clock is what it was
  const pid_t child = fork();
  if (child == 0) {
    self.wire.Say(join());
    std::_Exit(0);
  }
  int status = 0;
  ROLE_CHECK(waitpid(child, &status, 0) == child && status == 0);
  self.wire.Say(join());
  // For who has no other thread, as a sanitizer's.
  const detail::Fd moved(open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC));
  ROLE_CHECK(moved.ok());
  self.wire.Say(setns(moved.get(), 0x80) == 0 ? join() : "may not");
  return 0;
}

TEST_F(EnvironmentTest, who_gets_another_monotonic_clock_after_a_join_can_not_join_again) {
  ASSERT_NO_FATAL_FAILURE(CreateRegion());
  Child child("TimeTravellerWhoHasJoined", {name()});
  const std::string joined = child.Hear();
  if (joined == "refused") GTEST_SKIP() << "may not make time namespaces";
  EXPECT_EQ(joined, "OK");
  constexpr char kRefused[] = "created in another time namespace";
  EXPECT_THAT(child.Hear(), testing::HasSubstr(kRefused)) << "the child";
  EXPECT_EQ(child.Hear(), "OK");
  EXPECT_THAT(child.Hear(), testing::AnyOf(testing::HasSubstr(kRefused), "may not"));
  EXPECT_EQ(child.Wait(), 0);
}

// args: region. What the slot says of who joins: this process, then a fork child, which may be in
// another pid namespace.
ROLE(JoinsThenForks) {
  auto region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok(), region.status().ToString());
  const auto joins = [&region] {
    auto me = Participant::Join(*region);
    ROLE_CHECK(me.ok(), me.status().ToString());
    const detail::Slot& slot = region->mapping()->view().slots[me->slot()];
    ROLE_CHECK(slot.pid.Load() == static_cast<std::uint32_t>(getpid()));
    ROLE_CHECK(slot.start_time_ticks.Load() == detail::StartTimeTicks());
    ROLE_CHECK(slot.pid_namespace.Load() == detail::PidNamespace());
    return slot.pid_namespace.Load();
  };
  const std::uint64_t own = joins();
  ROLE_CHECK(joins() == own);
  const bool elsewhere = unshare(CLONE_NEWPID) == 0;
  const pid_t child = fork();
  if (child == 0) {
    const std::uint64_t here = joins();
    ROLE_CHECK(joins() == here && (here != own) == elsewhere);
    std::_Exit(0);
  }
  int status = 0;
  ROLE_CHECK(waitpid(child, &status, 0) == child && status == 0);
  ROLE_CHECK(joins() == own);
  self.wire.Say("fine");
  // At once: to look for leaks takes a process, and a pid namespace whose first one has died has no
  // more.
  std::_Exit(0);
}

TEST_F(EnvironmentTest, a_fork_child_that_joins_is_not_taken_for_its_parent) {
  ASSERT_NO_FATAL_FAILURE(CreateRegion());
  Child child("JoinsThenForks", {name()});
  EXPECT_EQ(child.Hear(), "fine");
  EXPECT_EQ(child.Wait(), 0);
}

// args: region. Gives up its rights after joining, then forks.
ROLE(DropsRightsThenForks) {
  auto region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok());
  auto me = Participant::Join(*region);
  ROLE_CHECK(me.ok());
  ROLE_CHECK(setresuid(kNobody, kNobody, kNobody) == 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // the change of user cleared it
  if (fork() != 0) {
    for (;;) pause();
  }
  // The child cannot open the region for itself. What it opens next must not be taken for it.
  const int before = open("/dev/null", O_RDWR | O_CLOEXEC);
  self.wire.Say(me->Rejoin().ok() ? "joined" : "refused");
  me = absl::UnknownError("gone");
  region = absl::UnknownError("gone");
  ROLE_CHECK(fcntl(before, F_GETFD) >= 0, "a descriptor of somebody else was closed");
  self.wire.Say("fine");
  return 0;
}

TEST_F(EnvironmentTest, fork_child_that_may_not_open_the_region_touches_no_foreign_descriptor) {
  if (getuid() != 0) GTEST_SKIP() << "only root can become somebody else";
  ASSERT_NO_FATAL_FAILURE(CreateRegion());
  Child child("DropsRightsThenForks", {name()});
  EXPECT_EQ(child.Hear(), "refused");
  EXPECT_EQ(child.Hear(), "fine");
  EXPECT_EQ(*region().Reap(), 0u) << "the parent lives";
}

// args: region. Reads its signals from where it blocked them, as with a signalfd.
ROLE(BlocksAndListens) {
  auto region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok());
  auto me = Participant::Join(*region);
  ROLE_CHECK(me.ok());
  sigset_t before, mine, after;
  sigemptyset(&mine);
  for (const int signal : {SIGTERM, SIGUSR1, SIGALRM}) sigaddset(&mine, signal);
  auto listener = me->Listen();  // when it is not blocked yet
  ROLE_CHECK(listener.ok());
  ROLE_CHECK(pthread_sigmask(SIG_BLOCK, &mine, &before) == 0);
  for (const int signal : {SIGTERM, SIGUSR1, SIGALRM}) {
    ROLE_CHECK(kill(getpid(), signal) == 0);  // to the process: whoever does not block it has it
    int got = 0;
    ROLE_CHECK(sigwait(&mine, &got) == 0 && got == signal);
  }
  listener->Stop();
  // What the caller blocks is its own affair.
  listener = me->Listen();
  ROLE_CHECK(pthread_sigmask(SIG_SETMASK, &before, &after) == 0);
  ROLE_CHECK(sigismember(&after, SIGTERM) == 1 && sigismember(&after, SIGINT) == 0);
  self.wire.Say("fine");
  return 0;
}

TEST_F(EnvironmentTest, a_listener_takes_no_signal_of_its_program) {
  ASSERT_NO_FATAL_FAILURE(CreateRegion());
  Child child("BlocksAndListens", {name()});
  EXPECT_EQ(child.Hear(), "fine");
  EXPECT_EQ(child.Wait(), 0);
}

// args: region's path, its directory. Something is mounted over it: where the process was when it
// opened the region, and in a mount namespace that it has entered since.
ROLE(SeesOtherMounts) {
  ROLE_CHECK(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
  const std::string& directory = self.args.at(1);
  const auto cover = [&directory] {
    return mount("none", directory.c_str(), "tmpfs", 0, nullptr) == 0;
  };
  auto region = Region::Open(self.args.at(0));
  ROLE_CHECK(region.ok(), region.status().ToString());
  auto me = Participant::Join(*region);
  ROLE_CHECK(me.ok() && me->Leave().ok());
  ROLE_CHECK(cover() && region->orphaned(), "who opens it here, opens another");
  ROLE_CHECK(!me->Rejoin().ok());
  ROLE_CHECK(umount(directory.c_str()) == 0 && !region->orphaned());
  ROLE_CHECK(unshare(CLONE_NEWNS) == 0 && !region->orphaned());
  ROLE_CHECK(cover() && !region->orphaned(), "for the others it is where it was");
  const absl::Status rejoined = me->Rejoin();
  ROLE_CHECK(rejoined.ok(), rejoined.ToString());
  ROLE_CHECK(me->Commit("x").ok());
  // That nobody has a name for it any more is known everywhere.
  self.wire.Say("joined");
  self.wire.Hear();
  ROLE_CHECK(region->orphaned());
  self.wire.Say("fine");
  return 0;
}

TEST_F(EnvironmentTest, a_change_of_mount_namespace_orphans_no_region) {
  if (!Child::CanIsolate(CLONE_NEWNS)) GTEST_SKIP() << "may not make mount namespaces";
  const ScratchDirectory directory;
  const std::string path = directory / "region";
  const auto made = Region::Create(path, Small());
  ASSERT_OK(made);
  Child child("SeesOtherMounts", {path, directory.path()}, CLONE_NEWNS);
  EXPECT_EQ(child.Hear(), "joined");
  EXPECT_EQ(made->epoch(), 1u);
  EXPECT_FALSE(made->orphaned());
  ASSERT_OK(Region::Unlink(path));
  child.Say("removed");
  EXPECT_EQ(child.Hear(), "fine");
  EXPECT_EQ(child.Wait(), 0);
}

// args: two regions' names.
ROLE(WithoutGetrandom) {
  ROLE_CHECK(RefuseCalls({{SYS_getrandom, ENOSYS}}));
  const auto first = Region::Create(self.args.at(0)), second = Region::Create(self.args.at(1));
  ROLE_CHECK(first.ok() && second.ok(), first.status().ToString(), second.status().ToString());
  ROLE_CHECK(first->incarnation() != second->incarnation());
  ROLE_CHECK(first->incarnation() != detail::HexOf({}));
  self.wire.Say("fine");
  return 0;
}

TEST_F(EnvironmentTest, a_filter_that_does_not_know_getrandom_is_no_obstacle) {
  const ScratchName other;
  Child child("WithoutGetrandom", {name(), other.name()});
  EXPECT_EQ(child.Hear(), "fine");
  EXPECT_EQ(child.Wait(), 0);
}

}  // namespace
}  // namespace epoch::test
