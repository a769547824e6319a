// Whole files, in one call.
#ifndef EPOCH_TESTS_SUPPORT_FILES_H_
#define EPOCH_TESTS_SUPPORT_FILES_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

namespace epoch::test {

using Bytes = std::vector<std::byte>;

// False: it cannot be read. (A file of /proc, or a pipe, has no size: not for those.)
template <typename Container>
bool ReadInto(const std::string& path, Container& to) {
  to.clear();
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  struct stat info {};
  bool good = fstat(fd, &info) == 0;
  if (good) to.resize(static_cast<std::size_t>(info.st_size));
  std::size_t done = 0;
  while (good && done < to.size()) {
    const ssize_t got = read(fd, to.data() + done, to.size() - done);
    if (got == 0) break;  // shorter by now
    good = got > 0 || errno == EINTR;
    if (got > 0) done += static_cast<std::size_t>(got);
  }
  to.resize(done);
  close(fd);
  return good;
}

// Empty if it is not there.
inline std::string ReadText(const std::string& path) {
  std::string text;
  static_cast<void>(ReadInto(path, text));
  return text;
}
inline Bytes ReadBytes(const std::string& path) {
  Bytes bytes;
  EXPECT_TRUE(ReadInto(path, bytes)) << path << ": " << std::strerror(errno);
  return bytes;
}

// In place of what was there.
inline void WriteWhole(const std::string& path, const void* bytes, std::size_t size) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  std::size_t done = 0;
  while (fd >= 0 && done < size) {
    const ssize_t wrote = write(fd, static_cast<const char*>(bytes) + done, size - done);
    if (wrote < 0 && errno != EINTR) break;
    if (wrote > 0) done += static_cast<std::size_t>(wrote);
  }
  EXPECT_TRUE(fd >= 0 && done == size) << path << ": " << std::strerror(errno);
  if (fd >= 0) close(fd);
}
inline void WriteText(const std::string& path, const std::string& text) {
  WriteWhole(path, text.data(), text.size());
}
inline void WriteBytes(const std::string& path, const Bytes& bytes) {
  WriteWhole(path, bytes.data(), bytes.size());
}

// Changes bytes in place: a file is damaged, not replaced.
inline void Patch(const std::string& path, std::size_t offset, const void* bytes,
                  std::size_t size) {
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  EXPECT_EQ(pwrite(fd, bytes, size, static_cast<off_t>(offset)), static_cast<ssize_t>(size))
      << path << ": " << std::strerror(errno);
  if (fd >= 0) close(fd);
}
inline void Patch(const std::string& path, std::size_t offset, const std::string& bytes) {
  Patch(path, offset, bytes.data(), bytes.size());
}

}  // namespace epoch::test

#endif  // EPOCH_TESTS_SUPPORT_FILES_H_
