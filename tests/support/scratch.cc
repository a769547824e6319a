#include "support/scratch.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>

namespace epoch::test {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kRegionDirectory = "/dev/shm";
constexpr std::string_view kRegionPrefix = "epoch.test-";  // the pid follows
constexpr std::string_view kDirectoryPrefix = "epoch-test-";

std::string Unique() {
  static std::atomic<int> count{0};
  return std::to_string(getpid()) + "-" + std::to_string(count++);
}

void SweepIn(const fs::path& directory, std::string_view prefix) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with(prefix)) continue;
    const int pid = std::atoi(name.c_str() + prefix.size());
    if (pid > 0 && kill(pid, 0) != 0 && errno == ESRCH) fs::remove_all(entry.path(), error);
  }
}

}  // namespace

ScratchName::ScratchName() : name_("test-" + Unique()) {}
ScratchName::~ScratchName() { unlink(path().c_str()); }

ScratchDirectory::ScratchDirectory()
    : path_(fs::temp_directory_path() / (std::string(kDirectoryPrefix) + Unique())) {
  fs::create_directory(path_);
}
ScratchDirectory::~ScratchDirectory() {
  std::error_code error;
  fs::remove_all(path_, error);
}

void SweepLeftovers() {
  SweepIn(kRegionDirectory, kRegionPrefix);
  std::error_code error;
  SweepIn(fs::temp_directory_path(error), kDirectoryPrefix);
}

}  // namespace epoch::test
