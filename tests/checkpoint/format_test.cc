// Contributions, folder names, and what is refused.
#include "core/checkpoint/format.h"

#include "support/region_test.h"

namespace epoch::test {
namespace {

using checkpoint::Kind;
using checkpoint::Part;

Part Sample(std::uint32_t rank = 1) {
  Part part;
  part.kind = Kind::kManifest;
  part.rank = rank;
  part.world = 3;
  part.step = 1200;
  part.attempt = 7;
  part.shards = {{rank, "model.bin", 4'000'000'000, {1, 2, 3}}, {rank, "optimizer.bin", 0, {9}}};
  part.metadata = "loss 0.25";
  return part;
}

std::vector<std::byte> Encoded(const Part& part) {
  absl::StatusOr<std::vector<std::byte>> bytes = checkpoint::Encode(part);
  EXPECT_OK(bytes);
  return bytes.ok() ? *bytes : std::vector<std::byte>{};
}

TEST(CheckpointFormat, APartComesBackAsItWas) {
  const absl::StatusOr<Part> back = checkpoint::Decode(Encoded(Sample()));
  ASSERT_OK(back);
  EXPECT_EQ(back->rank, 1u);
  EXPECT_EQ(back->world, 3u);
  EXPECT_EQ(back->step, 1200u);
  EXPECT_EQ(back->attempt, 7u);
  EXPECT_EQ(back->metadata, "loss 0.25");
  ASSERT_EQ(back->shards.size(), 2u);
  EXPECT_EQ(back->shards[0].name, "model.bin");
  EXPECT_EQ(back->shards[0].rank, 1u);
  EXPECT_EQ(back->shards[0].bytes, 4'000'000'000u);
  EXPECT_EQ(back->shards[0].digest, (ShardDigest{1, 2, 3}));
  EXPECT_EQ(back->shards[1].name, "optimizer.bin");
}

TEST(CheckpointFormat, NoTruncatedOrExtendedPartIsTaken) {
  std::vector<std::byte> bytes = Encoded(Sample());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FAILS(checkpoint::Decode(std::span(bytes).first(size)), kDataLoss, "");
  }
  bytes.push_back(std::byte{0});
  EXPECT_FAILS(checkpoint::Decode(bytes), kDataLoss, "");
}

TEST(CheckpointFormat, NoChangedByteLeadsOutOfTheFolder) {
  const std::vector<std::byte> bytes = Encoded(Sample());
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    for (const int value : {0x00, 0x2e, 0x2f, 0xff}) {
      std::vector<std::byte> changed = bytes;
      changed[i] = static_cast<std::byte>(value);
      const absl::StatusOr<Part> part = checkpoint::Decode(changed);
      if (!part.ok()) continue;
      EXPECT_LT(part->rank, part->world);
      for (const Shard& shard : part->shards) EXPECT_OK(checkpoint::CheckShardName(shard.name));
    }
  }
}

TEST(CheckpointFormat, ALaterFormatIsNamed) {
  std::vector<std::byte> bytes = Encoded(Sample());
  bytes[0] = std::byte{3};
  EXPECT_FAILS(checkpoint::Decode(bytes), kUnimplemented, "format 3, this build speaks 2");
}

// Written by builds that knew no lists: what they wrote stays readable, byte for byte.
TEST(CheckpointFormat, TheFirstFormatIsReadAndWrittenAsEver) {
  const std::string golden =
      "010200000100000003000000b0040000000000000700000000000000"
      "02096d6f64656c2e62696e00286bee0000000001020300000000000000000000000000"
      "0d6f7074696d697a65722e62696e000000000000000009000000000000000000000000000000"
      "096c6f737320302e3235";
  std::string hex;
  for (const std::byte byte : Encoded(Sample())) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    hex += kDigits[std::to_integer<unsigned>(byte) >> 4];
    hex += kDigits[std::to_integer<unsigned>(byte) & 15];
  }
  EXPECT_EQ(hex, golden);
}

Part ListedSample() {
  Part part = Sample();
  part.shards.clear();
  part.list = ShardList{1, 70'000, 5'000'000'000, 1'000'000, {7, 8}};
  part.metadata = std::string(191, 'm');
  return part;
}

TEST(CheckpointFormat, AListsDigestComesBackAsItWas) {
  const std::vector<std::byte> bytes = Encoded(ListedSample());
  EXPECT_EQ(bytes.size(), kMaxContributionBytes);
  const absl::StatusOr<Part> back = checkpoint::Decode(bytes);
  ASSERT_OK(back);
  EXPECT_EQ(back->list, ListedSample().list);
  EXPECT_EQ(back->metadata.size(), 191u);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FAILS(checkpoint::Decode(std::span(bytes).first(size)), kDataLoss, "");
  }
  Part part = ListedSample();
  part.metadata += "m";
  EXPECT_FAILS(checkpoint::Encode(part), kOutOfRange, "make the metadata a shard");
}

TEST(CheckpointFormat, AListThatIsTooLargeToReadIsRefused) {
  for (const auto& change : std::vector<std::function<void(ShardList&)>>{
           [](ShardList& list) { list.files = 0; },
           [](ShardList& list) { list.files = checkpoint::kMaxFiles + 1; },
           [](ShardList& list) { list.list_bytes = checkpoint::kMaxListBytes + 1; }}) {
    Part part = ListedSample();
    change(*part.list);
    EXPECT_FAILS(checkpoint::Decode(Encoded(part)), kDataLoss, "no list");
  }
}

TEST(CheckpointFormat, AListIsReadWordByWord) {
  const std::vector<Shard> shards = {{1, "d/.metadata", 12, {0xab}}, {1, "model.bin", 0, {}}};
  const absl::StatusOr<std::string> text = checkpoint::ListText(shards);
  ASSERT_OK(text);
  EXPECT_EQ(*text, "Epoch files, format 1\nab000000000000000000000000000000 12 d/.metadata\n" +
                       std::string(32, '0') + " 0 model.bin\n");
  const auto back = checkpoint::ParseList(*text, 1);
  ASSERT_OK(back);
  EXPECT_EQ(*back, shards);
  const std::string line = "ab000000000000000000000000000000 12 model.bin\n",
                    begin = "Epoch files, format 1\n";
  for (const std::string& wrong :
       {std::string(), std::string("Epoch files, format 2\n"), begin + line + line,
        begin + line.substr(1), begin + "x" + line.substr(1), begin + line.substr(0, 40),
        begin + "ab000000000000000000000000000000 012 a\n",
        begin + "ab000000000000000000000000000000 12 ../a\n",
        begin + "ab000000000000000000000000000000 12 /a\n",
        begin + "ab000000000000000000000000000000 12 \n",
        begin + "ab000000000000000000000000000000 -1 a\n", begin + "\n"}) {
    SCOPED_TRACE(wrong);
    EXPECT_FAILS(checkpoint::ParseList(wrong, 1), kDataLoss, "not a list");
  }
}

TEST(CheckpointFormat, WhatDoesNotFitIsToldByHowMuch) {
  Part part = Sample();
  part.metadata = std::string(300, 'x');
  EXPECT_FAILS(checkpoint::Encode(part), kOutOfRange, "bytes more than a manifest has room for");
  part.metadata.clear();
  for (int i = 0; i < 9; ++i) part.shards.push_back({1, absl::StrCat("shard-", i), 1, {}});
  EXPECT_FAILS(checkpoint::Encode(part), kOutOfRange, "11 shards");
}

TEST(CheckpointFormat, AMixIsRefusedWhateverDiffers) {
  const auto assemble = [](const std::function<void(Part&)>& change) {
    std::vector<Part> parts = {Sample(2), Sample(0), Sample(1)};
    change(parts[1]);
    return checkpoint::Assemble(std::move(parts));
  };
  const auto whole = assemble([](Part&) {});
  ASSERT_OK(whole);
  EXPECT_EQ((*whole)[0].rank, 0u);
  EXPECT_EQ((*whole)[2].rank, 2u);
  EXPECT_FAILS(assemble([](Part& p) { p.step = 1100; }), kDataLoss,
               "a mix: rank 0 is in step 1100");
  EXPECT_FAILS(assemble([](Part& p) { p.attempt = 6; }), kDataLoss, "attempt 6");
  EXPECT_FAILS(assemble([](Part& p) { p.kind = Kind::kMeeting; }), kDataLoss, "a mix");
  EXPECT_FAILS(assemble([](Part& p) { p.world = 4; }), kDataLoss, "a mix");
  EXPECT_FAILS(assemble([](Part& p) { p.rank = 2; }), kDataLoss, "two processes have rank 2");
  EXPECT_FAILS(assemble([](Part& p) { p.shards[1].name = "model.bin"; }), kDataLoss, "twice");
  EXPECT_FAILS(checkpoint::Assemble({Sample(0), Sample(1)}), kDataLoss, "a world of 3");
  EXPECT_FAILS(checkpoint::Assemble({}), kDataLoss, "nobody");
}

TEST(CheckpointFormat, TagsDifferWhereverTheAgreementDoes) {
  const std::uint64_t tag = checkpoint::TagOf(Sample(0));
  EXPECT_EQ(tag, checkpoint::TagOf(Sample(1)));
  Part other = Sample();
  other.shards.clear();
  EXPECT_EQ(tag, checkpoint::TagOf(other));
  other = Sample();
  other.step = 1201;
  EXPECT_NE(tag, checkpoint::TagOf(other));
  other = Sample();
  other.attempt = 8;
  EXPECT_NE(tag, checkpoint::TagOf(other));
  other = Sample();
  other.kind = Kind::kMeeting;
  EXPECT_NE(tag, checkpoint::TagOf(other));
  other = Sample();
  other.world = 4;
  EXPECT_NE(tag, checkpoint::TagOf(other));
}

TEST(CheckpointFormat, FolderNamesAreReadBackExactly) {
  for (const checkpoint::FolderName folder :
       {checkpoint::FolderName{0, 0}, checkpoint::FolderName{1200, 7},
        checkpoint::FolderName{UINT64_MAX, UINT64_MAX}}) {
    EXPECT_EQ(checkpoint::ParseFolderName(checkpoint::NameOf(folder)), folder);
  }
  EXPECT_EQ(checkpoint::NameOf({1200, 7}), "step-000000001200-00000007");
  for (const char* name : {"", "step-", "step-1-7", "step-000000001200", "step-000000001200-",
                           "step-000000001200-00000007x", "step-000000001200-00000007-1",
                           "step-0000000001200-00000007", "step--00000000001-00000007",
                           "step-99999999999999999999999-00000007", "rank-0001"}) {
    EXPECT_EQ(checkpoint::ParseFolderName(name), std::nullopt) << name;
  }
}

TEST(CheckpointFormat, ShardNamesStayInTheirFolder) {
  for (const std::string& name :
       {std::string("model.bin"), std::string("a"), std::string("rank-7_of_8.safetensors"),
        std::string(".metadata"), std::string("sub/dir/file"), std::string("layer=3/0,1@x"),
        std::string("...")}) {
    EXPECT_OK(checkpoint::CheckShardName(name));
  }
  std::string deep = "0";
  for (int i = 1; i < checkpoint::kMaxDepth; ++i) deep += "/0";
  EXPECT_OK(checkpoint::CheckShardName(deep));
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."), std::string("../x"),
        std::string("a/../b"), std::string("a/./b"), std::string("a//b"), std::string("a/"),
        deep + "/0", std::string(1024, 'a'), std::string("/etc/passwd"), std::string("a b"),
        std::string("a\nb"), std::string("a\0b", 3), std::string(101, 'a'),
        std::string("\xc3\xa4")}) {
    EXPECT_FAILS(checkpoint::CheckShardName(name), kInvalidArgument, "use letters, digits");
  }
}

}  // namespace
}  // namespace epoch::test
