#include "border/conditions.h"

#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "absl/strings/str_cat.h"

namespace epoch::test {

namespace fs = std::filesystem;

std::string Unless(bool done, const std::string& what) {
  return done ? "" : absl::StrCat(what, ": ", std::strerror(errno));
}

std::string BecomeUser(uid_t user) {
  return Unless(setgroups(0, nullptr) == 0 && setresgid(user, user, user) == 0 &&
                    setresuid(user, user, user) == 0,
                "another user");
}

void GiveWorldTo(const World& world, uid_t user) {
  std::error_code error;
  lchown(world.directory().c_str(), user, user);
  for (fs::recursive_directory_iterator each(world.directory(), error), end; each != end;
       each.increment(error)) {
    lchown(each->path().c_str(), user, user);
  }
}

namespace {

// --- descriptors ---

Condition Closed(const std::string& name, std::vector<int> fds) {
  Condition condition{.name = name};
  condition.hindrance.impose = [fds](const World&) {
    for (const int fd : fds) close(fd);
    return std::string();
  };
  for (const int fd : fds) condition.hindrance.allows.mute |= fd == STDERR_FILENO;
  return condition;
}

// --- limits ---

Condition Limited(const std::string& name, int resource, rlim_t limit) {
  Condition condition{.name = absl::StrCat(name, " ", limit)};
  condition.hindrance.impose = [=](const World&) {
    const rlimit both{.rlim_cur = limit, .rlim_max = limit};
    return Unless(setrlimit(static_cast<__rlimit_resource>(resource), &both) == 0, "setrlimit");
  };
  return condition;
}

// As much as this process has, and so much more; of a program that is executed, so much in all.
Condition Memory(const std::string& name, int resource, std::string_view field, rlim_t more) {
  Condition condition{.name = absl::StrCat(name, " + ", more >> 10, " KiB")};
  condition.hindrance.allows.short_of_memory = true;
  condition.hindrance.impose = [=](const World&) {
    std::ifstream status("/proc/self/status");
    rlim_t limit = more;
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with(field)) limit += std::stoul(line.substr(field.size())) << 10;
    }
    const rlimit both{.rlim_cur = limit, .rlim_max = limit};
    return Unless(setrlimit(static_cast<__rlimit_resource>(resource), &both) == 0, "setrlimit");
  };
  return condition;
}

Condition FileSize(rlim_t limit, bool ignored) {
  Condition condition = Limited("file size", RLIMIT_FSIZE, limit);
  if (ignored) condition.name += ", SIGXFSZ ignored";
  condition.hindrance.allows.killed_by = ignored ? 0 : SIGXFSZ;
  condition.hindrance.allows.mute = true;  // standard error is a file here
  const auto limit_it = condition.hindrance.impose;
  condition.hindrance.impose = [=](const World& world) {
    signal(SIGXFSZ, ignored ? SIG_IGN : SIG_DFL);
    return limit_it(world);
  };
  return condition;
}

// --- signals ---

std::string SignalName(int number) { return absl::StrCat("SIG", sigabbrev_np(number)); }

Condition Ignored(int number) {
  Condition condition{.name = SignalName(number) + " ignored"};
  condition.hindrance.impose = [=](const World&) {
    return Unless(signal(number, SIG_IGN) != SIG_ERR, "signal");
  };
  return condition;
}

Condition Blocked(int number) {
  Condition condition{.name = (number == 0 ? "all signals" : SignalName(number)) + " blocked"};
  condition.hindrance.impose = [=](const World&) {
    sigset_t signals;
    sigfillset(&signals);
    if (number != 0) {
      sigemptyset(&signals);
      sigaddset(&signals, number);
    }
    return Unless(sigprocmask(SIG_BLOCK, &signals, nullptr) == 0, "sigprocmask");
  };
  return condition;
}

// --- users, groups and modes ---

// What the operation has made has the modes that were asked for, whatever the mask.
std::vector<std::string> WrongModes(const World& world) {
  std::vector<std::string> faults;
  std::error_code error;
  for (fs::recursive_directory_iterator each(world.directory(), error), end; each != end;
       each.increment(error)) {
    const std::string path = each->path();
    struct stat info {};
    // Shards are whoever's who writes them.
    const bool foreign = path == world.state_file() || path.ends_with("/model");
    if (foreign || lstat(path.c_str(), &info) != 0) continue;
    const mode_t wanted = S_ISDIR(info.st_mode) ? 0700 : 0600;
    if ((info.st_mode & 0777) != wanted) {
      faults.push_back(absl::StrCat(path, " has mode ", absl::Hex(info.st_mode & 0777)));
      break;  // there may be thousands
    }
  }
  return faults;
}

Condition Masked(mode_t mask, const char* octal) {
  Condition condition{.name = absl::StrCat("umask ", octal), .as_root = true};
  condition.hindrance.allows.user = kNobodyUser;
  condition.hindrance.ready = [](const World& world) { GiveWorldTo(world, kNobodyUser); };
  condition.hindrance.impose = [mask](const World&) {
    umask(mask);
    return BecomeUser(kNobodyUser);
  };
  condition.hindrance.look = WrongModes;
  return condition;
}

Condition ForeignGroup() {
  Condition condition{.name = "setgid parent directory", .as_root = true};
  condition.hindrance.ready = [](const World& world) {
    lchown(world.directory().c_str(), 0, kNobodyUser);
    chmod(world.directory().c_str(), 02770);
  };
  condition.hindrance.impose = [](const World&) { return std::string(); };
  condition.hindrance.look = [](const World& world) {
    std::vector<std::string> faults;
    // What was there before is not the operation's.
    if (world.ground() != Ground::kEmpty) return faults;
    std::error_code error;
    for (fs::recursive_directory_iterator each(world.directory(), error), end; each != end;
         each.increment(error)) {
      struct stat info {};
      if (each->path() == world.state_file() || lstat(each->path().c_str(), &info) != 0) continue;
      if (info.st_gid != kNobodyUser) {
        faults.push_back(absl::StrCat(each->path().string(), " has group ", info.st_gid));
      }
    }
    return faults;
  };
  return condition;
}

Condition Stranger() {
  Condition condition{.name = "another user's region", .as_root = true};
  condition.hindrance.impose = [](const World&) { return BecomeUser(kNobodyUser); };
  return condition;
}

Condition FewProcesses() {
  Condition condition = Limited("processes", RLIMIT_NPROC, 1);
  condition.as_root = true;  // whom it does not limit
  condition.hindrance.allows.user = kNobodyUser;
  condition.hindrance.ready = [](const World& world) { GiveWorldTo(world, kNobodyUser); };
  const auto limit_it = condition.hindrance.impose;
  condition.hindrance.impose = [=](const World& world) {
    const std::string why = limit_it(world);
    return why.empty() ? BecomeUser(kNobodyUser) : why;
  };
  return condition;
}

}  // namespace

std::vector<Condition> ProcessConditions() {
  std::vector<Condition> all = {
      Closed("standard input closed", {0}),
      Closed("standard output closed", {1}),
      Closed("standard error closed", {2}),
      Closed("standard descriptors closed", {0, 1, 2}),
      Limited("descriptors", RLIMIT_NOFILE, 3),
      Limited("descriptors", RLIMIT_NOFILE, 16),
      Limited("locked memory", RLIMIT_MEMLOCK, 0),
      Limited("core size", RLIMIT_CORE, 0),
      Limited("stack", RLIMIT_STACK, 256 << 10),
      Memory("address space", RLIMIT_AS, "VmSize:", 64 << 10),
      Memory("address space", RLIMIT_AS, "VmSize:", 16 << 20),
      Memory("data", RLIMIT_DATA, "VmData:", 64 << 10),
      Memory("data", RLIMIT_DATA, "VmData:", 1 << 20),
      FewProcesses(),
      Stranger(),
      ForeignGroup(),
      Masked(077, "077"),
      Masked(022, "022"),
      Masked(0777, "777"),
  };
  for (const rlim_t limit : {rlim_t{0}, rlim_t{4096}, rlim_t{1} << 20}) {
    for (const bool ignored : {false, true}) all.push_back(FileSize(limit, ignored));
  }
  for (const int number : {SIGCHLD, SIGXFSZ, SIGPIPE, SIGHUP, SIGINT, SIGTERM}) {
    all.push_back(Ignored(number));
    all.push_back(Blocked(number));
  }
  all.push_back(Blocked(0));
  return all;
}

}  // namespace epoch::test
