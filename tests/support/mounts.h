// Filesystems of a test's own, for a child in a mount namespace of its own (CLONE_NEWNS): they go
// with it. Each says whether there is one; a kernel or a container may not allow it.
#ifndef EPOCH_TESTS_SUPPORT_MOUNTS_H_
#define EPOCH_TESTS_SUPPORT_MOUNTS_H_

#include <sys/mount.h>

#include <cstdlib>
#include <string>

namespace epoch::test {

// What is mounted from here on is seen by nobody else.
inline bool MakeMountsPrivate() {
  return mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
}

// 4 MiB, which really run full.
inline bool MountSmallDisk(const std::string& mount_point) {
  return MakeMountsPrivate() && mount("small", mount_point.c_str(), "tmpfs", 0, "size=4m") == 0;
}

inline bool Shell(const std::string& command) {
  return std::system(("( " + command + " ) >/dev/null 2>&1").c_str()) == 0;
}

// A new filesystem in a file of 64 MiB, on a loop device. `type`: as mke2fs takes it, with more
// options of its behind it.
inline bool MakeImage(const std::string& image, const std::string& type) {
  return Shell("truncate -s 64M '" + image + "' && mke2fs -q -t " + type + " '" + image + "'");
}
inline bool MountImage(const std::string& image, const std::string& mount_point) {
  return Shell("mount -o loop '" + image + "' '" + mount_point + "'");
}

}  // namespace epoch::test

#endif  // EPOCH_TESTS_SUPPORT_MOUNTS_H_
