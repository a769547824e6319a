// Which older segments stay: by their number, by the epochs that they hold.
#include "core/journal/segment/retention.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <filesystem>

#include "journal_test.h"

namespace epoch::test {
namespace {

namespace fs = std::filesystem;

class RetentionTest : public JournalTest, public testing::WithParamInterface<History> {
 protected:
  RegionOptions Keeping(std::uint32_t segments, std::uint64_t epochs) const {
    RegionOptions options = Options();
    options.history = GetParam();
    options.retain_segments = segments;
    options.retain_epochs = epochs;
    return options;
  }
  // Commits so many states, of which a few fill a segment.
  void Write(const RegionOptions& options, std::size_t states) {
    ASSERT_NO_FATAL_FAILURE(
        WriteJournal(std::vector<std::size_t>(states, kBigStateBytes), options));
  }
  // More of them, by another process, as it were.
  void WriteMore(std::size_t states) {
    absl::StatusOr<Region> region = Region::Restore(name(), Options());
    ASSERT_OK(region);
    absl::StatusOr<Participant> self = Participant::Join(*region);
    ASSERT_OK(self);
    for (std::size_t i = 0; i < states; ++i) ASSERT_OK(Advance(*self, kBigStateBytes));
    ASSERT_OK(Region::Unlink(name()));
  }
  std::vector<journal::SegmentHeader> Headers() {
    std::vector<journal::SegmentHeader> headers;
    for (const std::string& path : SegmentsIn(directory())) {
      const Bytes bytes = ReadBytes(path);
      std::memcpy(&headers.emplace_back(), bytes.data(), sizeof(journal::SegmentHeader));
    }
    return headers;
  }
  // No segment is there that need not be, and none is missing.
  void ExpectKept(std::uint64_t segments, std::uint64_t epochs) {
    const std::vector<journal::SegmentHeader> headers = Headers();
    ASSERT_FALSE(headers.empty());
    for (std::size_t i = 1; i < headers.size(); ++i) {
      EXPECT_EQ(headers[i].segment, headers[i - 1].segment + 1);
    }
    const journal::SegmentHeader& newest = headers.back();
    ASSERT_GT(headers.front().segment, 1u);
    const bool by_number = headers.front().segment + segments >= newest.segment;
    // The first one that stays ends where the second begins, behind the last epoch that may go.
    const bool by_epochs =
        epochs != 0 && headers.size() > 1 && headers[1].base_epoch + epochs > newest.base_epoch;
    EXPECT_TRUE(by_number || by_epochs) << headers.front().segment;
    // And what went had to.
    EXPECT_GE(newest.segment - headers.front().segment, segments);
    EXPECT_LE(headers.front().base_epoch + epochs, newest.base_epoch);
  }
  // Then nobody can remove it.
  static bool SetImmutable(const std::string& path, bool immutable) {
    const detail::Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    int flags = 0;
    if (!fd.ok() || ioctl(fd.get(), FS_IOC_GETFLAGS, &flags) != 0) return false;
    flags = immutable ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
    return ioctl(fd.get(), FS_IOC_SETFLAGS, &flags) == 0;
  }
  std::string PathOf(const journal::SegmentHeader& header) const {
    return journal::SegmentPath(directory(), header.journal, header.segment);
  }
};
INSTANTIATE_TEST_SUITE_P(History, RetentionTest, testing::Values(History::kAll, History::kLatest),
                         [](const auto& suite) {
                           return suite.param == History::kAll ? "all" : "latest";
                         });

TEST_P(RetentionTest, KeepsTheSegmentsThatHoldTheLastEpochs) {
  ASSERT_NO_FATAL_FAILURE(Write(Keeping(0, 7), 30));
  ExpectKept(0, 7);
  EXPECT_GT(Headers().size(), 2u);
  EXPECT_EQ(Headers().back().retain_segments, 0u);
  BatchesIn(directory());
  // The journal knows it by itself: who restores need not say so again.
  ASSERT_NO_FATAL_FAILURE(WriteMore(1));
  EXPECT_EQ(Headers().back().retain_epochs, 7u);
  ExpectKept(0, 7);
  ASSERT_NO_FATAL_FAILURE(WriteMore(20));
  ExpectKept(0, 7);
  BatchesIn(directory());
  ExpectRestores(Options(), 51);
}

TEST_P(RetentionTest, KeepsWhatEitherRuleAsksFor) {
  ASSERT_NO_FATAL_FAILURE(Write(Keeping(4, 1), 30));
  EXPECT_EQ(Headers().size(), 5u);
  ExpectKept(4, 1);
  fs::remove_all(directory());
  ASSERT_NO_FATAL_FAILURE(Write(Keeping(1, 12), 30));
  EXPECT_GT(Headers().size(), 3u);
  ExpectKept(1, 12);
}

TEST_P(RetentionTest, MoreEpochsThanThereAreKeepAll) {
  ASSERT_NO_FATAL_FAILURE(Write(Keeping(1, UINT64_MAX), 30));
  EXPECT_EQ(Headers().front().segment, 1u);
  EXPECT_GT(Headers().size(), 4u);
}

// Who is late with a name can put a segment there that is older than all others by far.
TEST_P(RetentionTest, ASegmentThatComesBackGoesAgain) {
  ASSERT_NO_FATAL_FAILURE(Write(Keeping(0, 5), 4));
  const journal::SegmentHeader first = Headers().front();
  ASSERT_EQ(first.segment, 1u);
  const Bytes bytes = ReadBytes(PathOf(first));
  ASSERT_NO_FATAL_FAILURE(WriteMore(20));
  ASSERT_FALSE(fs::exists(PathOf(first)));
  WriteBytes(PathOf(first), bytes);
  ASSERT_NO_FATAL_FAILURE(WriteMore(1));
  EXPECT_FALSE(fs::exists(PathOf(first)));
  ExpectKept(0, 5);
}

// Where it would end is then read from the one behind it.
TEST_P(RetentionTest, ADamagedHeaderKeepsNothingForEver) {
  ASSERT_NO_FATAL_FAILURE(Write(Keeping(0, 19), 40));
  const std::vector<journal::SegmentHeader> before = Headers();
  ASSERT_GT(before.size(), 3u);
  const std::byte damage{0xff};
  Patch(PathOf(before[1]), 100, &damage, 1);
  ASSERT_NO_FATAL_FAILURE(WriteMore(40));
  EXPECT_FALSE(fs::exists(PathOf(before[0])));
  EXPECT_FALSE(fs::exists(PathOf(before[1])));
  ExpectKept(0, 19);
}

TEST_P(RetentionTest, WhatCanNotBeRemovedKeepsAllBehindIt) {
  ASSERT_NO_FATAL_FAILURE(Write(Keeping(2, 0), 12));
  const std::vector<journal::SegmentHeader> before = Headers();
  ASSERT_EQ(before.front().segment, 1u);
  ASSERT_GT(before.size(), 1u);
  const std::string first = PathOf(before.front());
  if (!SetImmutable(first, true)) GTEST_SKIP() << "no immutable files here, or not root";
  WriteMore(20);
  const std::vector<journal::SegmentHeader> stuck = Headers();
  ASSERT_TRUE(SetImmutable(first, false));
  ASSERT_FALSE(HasFatalFailure());
  EXPECT_EQ(stuck.size(), stuck.back().segment);
  ASSERT_NO_FATAL_FAILURE(WriteMore(1));
  ExpectKept(2, 0);
}

// By now the directory is a copy of the journal, from before. Who was late must not sweep there.
TEST_P(RetentionTest, AnOlderCopyInItsPlaceIsNotTouched) {
  const fs::path there = directory(), copy = there.parent_path() / "copy",
                 aside = there.parent_path() / "aside";
  ASSERT_NO_FATAL_FAILURE(Write(Keeping(1, 0), 12));
  fs::copy(there, copy);
  const std::vector<std::string> before = SegmentsIn(directory());
  ASSERT_EQ(before.size(), 2u);
  {
    absl::StatusOr<Region> region = Region::Restore(name(), Options());
    ASSERT_OK(region);
    absl::StatusOr<Participant> self = Participant::Join(*region);
    ASSERT_OK(self);
    const auto newest = [&] { return journal::ListSegments(directory())->back().number; };
    const std::uint64_t until = newest() + 4;
    while (newest() < until) ASSERT_OK(Advance(*self, kBigStateBytes));
    fs::rename(there, aside);
    fs::rename(copy, there);
    ASSERT_OK(Region::Unlink(name()));
  }  // whoever leaves finishes what follows its last roll
  const std::vector<std::string> left = SegmentsIn(directory());
  fs::remove_all(there);
  fs::rename(aside, there);
  EXPECT_EQ(left, before);
}

}  // namespace
}  // namespace epoch::test
