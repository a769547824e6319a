// Every kind of damage is reported, by name, and nothing is loaded.
#include <sys/stat.h>

#include <cstring>

#include "checkpoint_test.h"
#include "core/journal/segment/segment.h"
#include "core/journal/segment/spare.h"

namespace epoch::test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

// Two checkpoints of two ranks, steps 10 and 20, of shards of one size.
class CheckpointDamage : public CheckpointTest {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(MakeAndLeave(2, {10, 20}));
    shard_ = ShardPath(20, 1);
    folder_ = fs::path(shard_).parent_path().parent_path();
  }
  // Opening the latest is refused with words that name the culprit; the one before is still good.
  void ExpectRefused(const std::string& named, const std::string& what) {
    const auto opened = checkpoints().OpenLatest();
    EXPECT_FAILS(opened, kDataLoss, named);
    EXPECT_THAT(MessageOf(opened), HasSubstr(what));
    EXPECT_EQ(LatestInfo().step, 20u) << "never an older one in silence";
    const std::vector<absl::Status> problems = checkpoints().Verify(LatestInfo());
    ASSERT_FALSE(problems.empty());
    EXPECT_THAT(MessageOf(problems.front()), HasSubstr(named));
    const absl::StatusOr<Checkpoint> before = checkpoints().Find(10);
    ASSERT_OK(before);
    EXPECT_OK(checkpoints().Open(*before));
  }

  std::string shard_;
  std::string folder_;
};

TEST_F(CheckpointDamage, AMissingShardIsNamed) {
  fs::remove(shard_);
  ExpectRefused(shard_, "is missing; the manifest of step 20");
}

TEST_F(CheckpointDamage, AMissingRankIsNamed) {
  fs::remove_all(fs::path(shard_).parent_path());
  ExpectRefused(shard_, "is missing");
}

TEST_F(CheckpointDamage, AnAlteredByteIsNoticedWhereverItIs) {
  const std::string text = ReadText(shard_);
  for (const std::size_t at : {std::size_t{0}, text.size() / 2, text.size() - 1}) {
    std::string altered = text;
    altered[at] = static_cast<char>(altered[at] ^ 1);
    WriteText(shard_, altered);
    ExpectRefused(shard_, "was altered");
  }
  WriteText(shard_, text);
  ExpectLatest(20, 2);
}

TEST_F(CheckpointDamage, ATruncatedOrExtendedShardIsNoticed) {
  const std::string text = ReadText(shard_);
  WriteText(shard_, text.substr(0, text.size() - 1));
  ExpectRefused(shard_, "truncated");
  WriteText(shard_, "");
  ExpectRefused(shard_, "has 0 bytes");
  WriteText(shard_, text + "x");
  ExpectRefused(shard_, "extended");
}

TEST_F(CheckpointDamage, ShardsSwappedBetweenStepsAreNoticed) {
  const std::string other = ShardPath(10, 1);
  const std::string text = ReadText(shard_), older = ReadText(other);
  ASSERT_EQ(text.size(), older.size());
  WriteText(shard_, older);
  ExpectRefused(shard_, "of another checkpoint");
  WriteText(other, text);
  EXPECT_FAILS(checkpoints().Open(*checkpoints().Find(10)), kDataLoss, other);
}

TEST_F(CheckpointDamage, ShardsSwappedBetweenRanksAreNoticed) {
  const std::string other = ShardPath(20, 0);
  const std::string text = ReadText(shard_), first = ReadText(other);
  WriteText(shard_, first);
  WriteText(other, text);
  ExpectRefused(other, "of another checkpoint");
  EXPECT_EQ(checkpoints().Verify(LatestInfo()).size(), 2u);
}

TEST_F(CheckpointDamage, WhatNoManifestNamesIsNoticed) {
  const std::string more = fs::path(shard_).parent_path() / "more.bin";
  WriteText(more, "x");
  ExpectRefused(more, "is not named by the manifest");
  fs::remove(more);
  const std::string rank = folder_ + "/rank-0002";
  fs::create_directory(rank);
  ExpectRefused(rank, "is not named by the manifest");
  fs::remove(rank);
  ExpectLatest(20, 2);
}

TEST_F(CheckpointDamage, WhatIsNoFileIsNeverReadOrWaitedFor) {
  const std::string text = ReadText(shard_);
  fs::remove(shard_);
  ASSERT_EQ(mkfifo(shard_.c_str(), 0600), 0);
  ExpectRefused(shard_, "is not a regular file");
  fs::remove(shard_);
  WriteText(scratch_ / "elsewhere", text);
  fs::create_symlink(scratch_ / "elsewhere", shard_);
  ExpectRefused(shard_, "is a symbolic link");
}

TEST_F(CheckpointDamage, AFolderThatIsGoneWithoutAMarkIsNoticed) {
  fs::remove_all(folder_);
  ExpectRefused(folder_, "is missing, and was not pruned");
}

TEST_F(CheckpointDamage, ADamagedManifestIsNotPassedOver) {
  // The last batch but one, which a later batch proves to have been acknowledged.
  MakeAndLeave(2, {30});
  std::string segment;
  for (const auto& entry : fs::directory_iterator(directory() + "/manifests")) {
    segment = entry.path();
  }
  std::string bytes = ReadText(segment);
  const std::size_t damaged = bytes.find("EPOCHBAT", 3 * 4096);
  ASSERT_NE(damaged, std::string::npos);
  const std::string before = bytes;
  for (std::size_t i = 0; i < 300; ++i) bytes[damaged + 200 + i] ^= 0x55;
  WriteText(segment, bytes);
  EXPECT_FAILS(checkpoints().Latest(), kDataLoss, "a newer checkpoint may be lost");
  EXPECT_FAILS(checkpoints().OpenLatest(), kDataLoss, segment);
  const absl::StatusOr<CheckpointList> list = checkpoints().List();
  ASSERT_OK(list);
  EXPECT_FALSE(list->damage.empty());
  // What can still be read can be opened, by its step.
  ASSERT_FALSE(list->checkpoints.empty());
  EXPECT_OK(checkpoints().Open(list->checkpoints.back()));
  EXPECT_FAILS(checkpoints().Prune(), kDataLoss, "nothing was removed");
  EXPECT_EQ(CountFolders(), 3u);
  WriteText(segment, before);
  ExpectLatest(30, 2);
}

TEST_F(CheckpointDamage, ManifestsThatAreAllGoneAreNoNewDirectory) {
  for (const auto& entry : fs::directory_iterator(directory() + "/manifests")) {
    fs::remove(entry.path());
  }
  EXPECT_FAILS(checkpoints().Latest(), kDataLoss, "manifests");
  EXPECT_FAILS(checkpoints().List(), kDataLoss, "manifests");
  EXPECT_FAILS(checkpoints().Prune(), kDataLoss, "manifests");
  EXPECT_FAILS(checkpoints().CleanUp(), kDataLoss, "manifests");
  EXPECT_EQ(CountFolders(), 2u);
}

// Makes the second segment the first one's successor within one incarnation, under its spare's
// name: as a power cut leaves it that came before its own name was durable.
void LoseTheNameOf(const journal::SegmentFile& second, const journal::SegmentFile& first,
                   const std::string& directory) {
  std::string bytes = ReadText(second.path);
  auto* const data = reinterpret_cast<std::byte*>(bytes.data());
  journal::SegmentHeader before, header;
  const std::string first_bytes = ReadText(first.path);
  std::memcpy(&before, first_bytes.data(), sizeof before);
  std::memcpy(&header, data, sizeof header);
  header.incarnation = before.incarnation;
  std::memcpy(data, &header, sizeof header);
  for (std::uint64_t block = 0; block < bytes.size() / journal::kBlockBytes; ++block) {
    std::byte* const at = data + block * journal::kBlockBytes;
    journal::BatchHeader batch;
    std::memcpy(&batch, at, sizeof batch);
    if (batch.magic == journal::kBatchMagic) {
      batch.incarnation = before.incarnation;
      batch.crc = journal::BatchHeaderCrc(batch);
      std::memcpy(at, &batch, sizeof batch);
    } else if (block != 0) {
      continue;
    }
    const std::uint32_t crc = journal::BlockCrc(header.journal, header.segment, block, at);
    std::memcpy(at + journal::kContentBytes, &crc, sizeof crc);
  }
  WriteText(journal::SparePath(directory, header.journal, second.number), bytes);
  fs::remove(second.path);
}

TEST_F(CheckpointTest, TheLatestIsFoundInASegmentThatGoesByItsSparesName) {
  for (const std::uint64_t step : {10u, 20u}) {
    ASSERT_NO_FATAL_FAILURE(MakeAndLeave(2, {step}));
    ASSERT_OK(Region::Unlink(region()));
  }
  const std::string manifests = directory() + "/manifests";
  const absl::StatusOr<std::vector<journal::SegmentFile>> files = journal::ListSegments(manifests);
  ASSERT_OK(files);
  ASSERT_EQ(files->size(), 2u);
  LoseTheNameOf((*files)[1], (*files)[0], manifests);
  ExpectLatest(20, 2);
  const absl::StatusOr<CheckpointList> list = checkpoints().List();
  ASSERT_OK(list);
  EXPECT_THAT(list->damage, IsEmpty());
  EXPECT_EQ(list->checkpoints.size(), 2u);
  // And it is where the next ones begin.
  ASSERT_NO_FATAL_FAILURE(MakeAndLeave(2, {30}));
  ExpectLatest(30, 2);
  EXPECT_OK(checkpoints().Find(20).status());
}

}  // namespace
}  // namespace epoch::test
