#include "core/files/filesystem.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <climits>
#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "epoch/detail/platform/files.h"

namespace epoch::journal {
namespace {

constexpr std::uint32_t kExt4Magic = 0xef53;  // of ext2 and ext3, too

// Of a device that this process may read: the feature bit in the superblock. Its layout:
// https://docs.kernel.org/filesystems/ext4/super.html
bool HasFastCommitFeature(const std::string& device) {
  const detail::Fd fd(sys::open(device.c_str(), O_RDONLY | O_CLOEXEC));
  std::byte block[1024];
  if (!fd.ok() || sys::pread(fd.get(), block, sizeof block, 1024) != sizeof block) return false;
  std::uint16_t magic;
  std::uint32_t compatible;
  std::memcpy(&magic, block + 0x38, sizeof magic);
  std::memcpy(&compatible, block + 0x5c, sizeof compatible);
  constexpr std::uint32_t kFastCommit = 0x400;
  return magic == kExt4Magic && (compatible & kFastCommit) != 0;
}

}  // namespace

bool SaysFastCommits(const std::string& options, const std::string& fc_info) {
  bool forced = false, goes_on = false;
  for (const auto option : absl::StrSplit(options, absl::ByAnyChar(" \n,"))) {
    if (option == "fast_commit") return true;
    forced = forced || option == "fc_debug_force";
    goes_on = goes_on || option == "errors=continue";
  }
  // How kernels with ext4's debugging built in show it. Before Linux commit e3645d72f886 they
  // showed errors=continue so, too: then it says nothing.
  if (forced && !goes_on) return true;
  for (const auto line : absl::StrSplit(fc_info, '\n')) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    std::uint64_t count = 0;
    if (words.size() == 2 && words[1] == "commits" && absl::SimpleAtoi(words[0], &count)) {
      return count > 0;
    }
  }
  return false;
}

// Fast commits are refused for what they have missed: file actions during a full commit (Linux
// commit bdc8a53a6f2f, "ext4: fast commit may miss file actions"), and more of the kind before and
// after.
absl::Status CheckFilesystem(int fd, const std::string& directory) {
  if (absl::Status s = detail::RefuseNetworkFilesystem(fd, directory); !s.ok()) return s;
  struct statfs filesystem {};
  struct stat file {};
  if (sys::fstatfs(fd, &filesystem) != 0 || sys::fstat(fd, &file) != 0) {
    return detail::ErrnoStatus(errno, directory);
  }
  if (static_cast<std::uint32_t>(filesystem.f_type) != kExt4Magic) return absl::OkStatus();
  char link[PATH_MAX];
  const std::string number =
      absl::StrCat("/sys/dev/block/", major(file.st_dev), ":", minor(file.st_dev));
  if (sys::realpath(number.c_str(), link) == nullptr) return absl::OkStatus();
  const std::string device = std::string(link).substr(std::string(link).rfind('/') + 1);
  const std::string says = absl::StrCat("/proc/fs/ext4/", device, "/");
  if (!SaysFastCommits(detail::ReadSmallFile(absl::StrCat(says, "options").c_str()),
                       detail::ReadSmallFile(absl::StrCat(says, "fc_info").c_str())) &&
      !HasFastCommitFeature(absl::StrCat("/dev/", device))) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      directory, " lies on an ext4 with fast_commit (", device,
      "), which has lost synced names and sizes in power cuts; a journal needs an ext4 without it: "
      "unmount it, then tune2fs -O ^fast_commit /dev/",
      device));
}

}  // namespace epoch::journal
