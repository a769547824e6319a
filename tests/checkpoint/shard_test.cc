// Digests of files, and what is no shard.
#include "core/checkpoint/shard.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "checkpoint_test.h"

namespace epoch::test {
namespace {

class ShardTest : public testing::Test {
 protected:
  absl::StatusOr<checkpoint::ReadyShard> Ready(const std::string& name) const {
    const detail::Fd folder(open(scratch_.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return checkpoint::MakeReady(folder.get(), name, scratch_ / name);
  }
  ScratchDirectory scratch_;
};

TEST_F(ShardTest, TheDigestIsWhatXxhsumPrints) {
  // "xxhsum -H2" of a file that holds "epoch".
  WriteText(scratch_ / "a", "epoch");
  const auto ready = Ready("a");
  ASSERT_OK(ready);
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits("epoch", 5));
  EXPECT_TRUE(std::equal(ready->shard.digest.begin(), ready->shard.digest.end(),
                         std::begin(canonical.digest)));
  EXPECT_EQ(HexOf(ready->shard.digest).size(), 32u);
  EXPECT_EQ(ready->shard.bytes, 5u);
}

TEST_F(ShardTest, AnySizeIsReadWhole) {
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{1}, std::size_t{4096}, (std::size_t{1} << 20) - 1,
        std::size_t{1} << 20, (std::size_t{3} << 20) + 17}) {
    std::string text(size, 'x');
    for (std::size_t i = 0; i < size; i += 1000) text[i] = static_cast<char>(i / 1000);
    WriteText(scratch_ / "a", text);
    const auto ready = Ready("a");
    ASSERT_OK(ready);
    EXPECT_EQ(ready->shard.bytes, size);
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(text.data(), size));
    EXPECT_TRUE(std::equal(ready->shard.digest.begin(), ready->shard.digest.end(),
                           std::begin(canonical.digest)));
  }
}

TEST_F(ShardTest, WhatIsNoRegularFileIsRefusedWithoutWaiting) {
  EXPECT_FAILS(Ready("none"), kNotFound, "none");
  ASSERT_EQ(mkfifo((scratch_ / "fifo").c_str(), 0600), 0);
  EXPECT_FAILS(Ready("fifo"), kInvalidArgument, "not a regular file");
  fs::create_directory(scratch_ / "folder");
  EXPECT_FAILS(Ready("folder"), kInvalidArgument, "not a regular file");
  WriteText(scratch_ / "target", "x");
  fs::create_symlink(scratch_ / "target", scratch_ / "link");
  EXPECT_FAILS(Ready("link"), kInvalidArgument, "symbolic link");
}

}  // namespace
}  // namespace epoch::test
