// Journals that earlier versions of the format have left, kept as files: they stay readable, or are
// refused by name.
#include <sys/stat.h>

#include <cstring>
#include <filesystem>

#include "journal_test.h"

namespace epoch::test {
namespace {

namespace fs = std::filesystem;

class GoldenTest : public JournalTest {
 protected:
  // Puts the kept part of a segment into the journal's directory, with the zeros that it had.
  std::string Unpack(const std::string& golden) {
    Bytes bytes = ReadBytes(std::string(EPOCH_GOLDEN_DIR "/") + golden);
    journal::SegmentHeader header{};
    std::memcpy(&header, bytes.data(), sizeof header);
    bytes.resize(header.capacity_blocks * kBlockBytes);
    fs::create_directories(directory());
    const std::string path = journal::SegmentPath(directory(), header.journal, header.segment);
    WriteBytes(path, bytes);
    return path;
  }
};

struct Format {
  std::uint32_t major, minor;
};
class EarlierFormat : public GoldenTest, public testing::WithParamInterface<Format> {};
INSTANTIATE_TEST_SUITE_P(Version, EarlierFormat,
                         testing::Values(Format{1, 0}, Format{1, 1}, Format{2, 0}, Format{3, 0}),
                         [](const testing::TestParamInfo<Format>& suite) {
                           return std::to_string(suite.param.major) + "_" +
                                  std::to_string(suite.param.minor);
                         });

TEST_P(EarlierFormat, IsRead) {
  for (const std::string history : {"all", "latest"}) {
    SCOPED_TRACE(history);
    const auto [major, minor] = GetParam();
    Unpack("format-" + std::to_string(major) + "." + std::to_string(minor) + "-" + history +
           ".segment");
    absl::StatusOr<journal::SegmentScan> scan = journal::Preview(directory());
    ASSERT_OK(scan);
    EXPECT_EQ(scan->header.format_major, major);
    EXPECT_EQ(scan->header.format_minor, minor);
    EXPECT_EQ(scan->header.retain_epochs, 0u);
    EXPECT_EQ(scan->header.file, detail::FileIdentity{});
    EXPECT_EQ(scan->epoch, 5u);
    // Since 1.1 with the word at its end that this is all.
    EXPECT_EQ(scan->batches, major == 1 && minor == 0 ? 5u : 6u);
    EXPECT_FALSE(scan->sealed);
    // It goes on in a segment of the present format.
    RegionOptions options = Options();
    options.state_bytes = 9000;
    {
      absl::StatusOr<Region> region = Region::Restore(name(), options);
      ASSERT_OK(region);
      const absl::StatusOr<Snapshot> state = region->Read();
      ASSERT_OK(state);
      EXPECT_EQ(state->epoch, 5u);
      EXPECT_EQ(
          std::string(reinterpret_cast<const char*>(state->state.data()), state->state.size()),
          "the last of " + history);
      absl::StatusOr<Participant> self = Participant::Join(*region);
      ASSERT_OK(self);
      ASSERT_OK(self->Commit("more"));
    }
    const absl::StatusOr<journal::JournalScan> all = journal::ScanJournal(directory());
    ASSERT_OK(all);
    EXPECT_THAT(all->damage, testing::IsEmpty());
    ASSERT_EQ(all->segments.size(), 2u);
    EXPECT_EQ(all->segments.back().header.format_major, journal::kFormatMajor);
    EXPECT_EQ(all->segments.back().epoch, 6u);
    ASSERT_OK(Region::Unlink(name()));
    fs::remove_all(directory());
  }
}

TEST_F(GoldenTest, AFormatToComeIsRefusedByName) {
  const std::string path = Unpack("format-1.0-all.segment");
  const std::uint32_t major = journal::kFormatMajor + 1;
  Patch(path, offsetof(journal::SegmentHeader, format_major),
        reinterpret_cast<const std::byte*>(&major), sizeof major);
  const Bytes before = ReadBytes(path);
  EXPECT_FAILS(Region::Restore(name(), Options()), kUnimplemented,
               "journal format 4, this build speaks 1 to 3");
  EXPECT_EQ(ReadBytes(path), before);
}

}  // namespace
}  // namespace epoch::test
