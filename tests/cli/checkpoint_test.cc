// Checkpoints from the command line: list, latest, verify, prune.
#include "epoch/checkpoint.h"

#include <filesystem>

#include "cli/command.h"

namespace epoch::test {
namespace {

using testing::HasSubstr;

// A program of its own, since it has the compiled journal.
class CliCheckpoint : public testing::Test {
 protected:
  void SetUp() override {
    CheckpointOptions options;
    options.region = name_.name();
    absl::StatusOr<CheckpointRank> rank = CheckpointRank::Join(directory(), options);
    ASSERT_OK(rank);
    for (const std::uint64_t step : {10u, 20u, 30u}) {
      absl::StatusOr<CheckpointStep> begun = rank->Begin(step);
      ASSERT_OK(begun);
      WriteText(begun->PathOf("model.bin"), "weights of step " + std::to_string(step));
      ASSERT_OK(begun->Ready("model.bin"));
      begun->SetMetadata("loss 0.5");
      ASSERT_OK(begun->Commit());
    }
  }
  std::string directory() const { return scratch_ / "run7"; }
  std::string ShardOf(std::uint64_t step) const {
    const absl::StatusOr<Checkpoint> found = Checkpoints(directory()).Find(step);
    EXPECT_OK(found);
    return found.ok() ? found->PathOf(found->shards.at(0)) : "";
  }
  // With -o json; the exit code must be `code`.
  nlohmann::json Json(const std::string& verb, std::vector<std::string> args, int code = 0) const {
    args.insert(args.begin(), {"-o", "json", "checkpoint", verb});
    const Result result = Ctl(args);
    EXPECT_EQ(result.code, code) << testing::PrintToString(result);
    nlohmann::json json = nlohmann::json::parse(result.out, nullptr, /*allow_exceptions=*/false);
    EXPECT_TRUE(json.is_object()) << result.out;
    EXPECT_EQ(json.value("schema", ""), "epoch.checkpoint." + verb + "/1");
    return json;
  }

  ScratchDirectory scratch_;
  ScratchName name_;
};

TEST_F(CliCheckpoint, ListShowsStepsSizesAndWhichIsTheLatest) {
  const Result listed = Ctl({"checkpoint", "list", directory()});
  EXPECT_SUCCESS(listed);
  EXPECT_THAT(listed.out, HasSubstr("STEP  EPOCH  RANKS  SHARDS  SIZE  STATE"));
  EXPECT_THAT(listed.out, HasSubstr("30      4      1       1  18 B  latest"));
  const nlohmann::json json = Json("list", {directory()});
  ASSERT_EQ(json["checkpoints"].size(), 3u);
  const nlohmann::json& first = json["checkpoints"][0];
  EXPECT_EQ(first["step"], 10);
  EXPECT_EQ(first["world"], 1);
  EXPECT_EQ(first["pruned"], false);
  EXPECT_EQ(first["metadata"][0], "loss 0.5");
  EXPECT_EQ(first["shards"][0]["name"], "model.bin");
  EXPECT_EQ(first["shards"][0]["path"], ShardOf(10));
  EXPECT_EQ(first["shards"][0]["xxh3_128"].get<std::string>().size(), 32u);
  EXPECT_TRUE(json["stagings"].empty());
  EXPECT_TRUE(json["damage"].empty());
}

TEST_F(CliCheckpoint, LatestPrintsTheFolderAlone) {
  const std::string folder =
      std::filesystem::path(ShardOf(30)).parent_path().parent_path().string();
  const Result latest = Ctl({"checkpoint", "latest", directory()});
  EXPECT_SUCCESS(latest);
  EXPECT_EQ(latest.out, folder + "\n");
  const nlohmann::json json = Json("latest", {directory(), "--verify"});
  EXPECT_EQ(json["step"], 30);
  EXPECT_EQ(json["verified"], true);
  EXPECT_EQ(json["directory"], folder);
}

TEST_F(CliCheckpoint, DamageIsExitCodeFiveAndNamed) {
  EXPECT_SUCCESS(Ctl({"checkpoint", "verify", directory()}));
  const std::string shard = ShardOf(30);
  WriteText(shard, "weights of step 31");
  EXPECT_REFUSED(Ctl({"checkpoint", "latest", directory(), "--verify"}), 5, shard);
  const Result verified = Ctl({"checkpoint", "verify", directory()});
  EXPECT_EQ(verified.code, 5);
  EXPECT_THAT(verified.err, HasSubstr(shard));
  EXPECT_THAT(verified.err, HasSubstr("1 of 3 checkpoints damaged"));
  EXPECT_THAT(verified.out, HasSubstr("DAMAGED, 1 problem"));
  const nlohmann::json json = Json("verify", {directory()}, 5);
  EXPECT_EQ(json["checkpoints"][0]["good"], true);
  EXPECT_EQ(json["checkpoints"][2]["good"], false);
  EXPECT_EQ(json["checkpoints"][2]["problems"].size(), 1u);
  EXPECT_SUCCESS(Ctl({"checkpoint", "verify", directory(), "--step", "20"}));
  EXPECT_EQ(Ctl({"checkpoint", "verify", directory(), "--step", "30"}).code, 5);
  EXPECT_REFUSED(Ctl({"checkpoint", "verify", directory(), "--step", "31"}), 3, "step 31");
}

TEST_F(CliCheckpoint, PruneKeepsWhatIsGoodAndSaysSo) {
  const nlohmann::json dry = Json("prune", {directory(), "--keep", "1", "--dry-run"});
  EXPECT_EQ(dry["removed"].size(), 2u);
  EXPECT_EQ(dry["dry_run"], true);
  WriteText(ShardOf(30), "damaged");
  const nlohmann::json json = Json("prune", {directory(), "--keep", "1"});
  EXPECT_EQ(json["kept"][0]["step"], 20);
  EXPECT_EQ(json["removed"][0]["step"], 10);
  EXPECT_EQ(json["damaged"][0]["step"], 30);
  EXPECT_REFUSED(Ctl({"checkpoint", "latest", directory(), "--verify"}), 5, "step-");
  const Result harder =
      Ctl({"checkpoint", "prune", directory(), "--keep", "1", "--remove-damaged"});
  EXPECT_EQ(harder.code, 0) << testing::PrintToString(harder);
  EXPECT_EQ(Json("latest", {directory(), "--verify"})["step"], 20);
  WriteText(ShardOf(20), "damaged");
  EXPECT_REFUSED(Ctl({"checkpoint", "prune", directory(), "--keep", "1"}), 5, "no good checkpoint");
  EXPECT_REFUSED(Ctl({"checkpoint", "prune", directory(), "--keep", "0"}), 2, "at least one");
}

TEST_F(CliCheckpoint, TheNewestGoodOneIsTheLatestWithoutDamage) {
  const auto folder_of = [&](std::uint64_t step) {
    return std::filesystem::path(ShardOf(step)).parent_path().parent_path().string();
  };
  const Result sound = Ctl({"checkpoint", "latest", directory(), "--good"});
  EXPECT_SUCCESS(sound);
  EXPECT_EQ(sound.out, folder_of(30) + "\n");
  WriteText(ShardOf(30), "weights of step 31");
  const Result good = Ctl({"checkpoint", "latest", directory(), "--good"});
  EXPECT_EQ(good.code, 0);
  EXPECT_EQ(good.out, folder_of(20) + "\n");
  EXPECT_THAT(good.err, HasSubstr(ShardOf(30)));
  EXPECT_THAT(good.err, HasSubstr("step 30 is damaged, and was passed over"));
  const nlohmann::json json = Json("latest", {directory(), "--good"});
  EXPECT_EQ(json["step"], 20);
  EXPECT_EQ(json["verified"], true);
  EXPECT_EQ(json["passed_over"][0]["step"], 30);
  EXPECT_EQ(json["problems"].size(), 1u);
  for (const std::uint64_t step : {10u, 20u}) WriteText(ShardOf(step), "damaged");
  EXPECT_REFUSED(Ctl({"checkpoint", "latest", directory(), "--good"}), 5, "no good checkpoint");
}

TEST_F(CliCheckpoint, AShardOfManyFilesCountsThem) {
  {
    CheckpointOptions options;
    options.region = name_.name();
    absl::StatusOr<CheckpointRank> rank = CheckpointRank::Join(directory(), options);
    ASSERT_OK(rank);
    absl::StatusOr<CheckpointStep> step = rank->Begin(40);
    ASSERT_OK(step);
    std::filesystem::create_directory(step->PathOf("d"));
    for (int i = 0; i < 9; ++i) WriteText(step->PathOf("d/" + std::to_string(i)), "x");
    ASSERT_OK(step->ReadyAll());
    ASSERT_OK(step->Commit());
  }
  EXPECT_THAT(Ctl({"checkpoint", "list", directory()}).out,
              HasSubstr("40      6      1       9   9 B"));
  const nlohmann::json listed = Json("list", {directory()})["checkpoints"][3];
  EXPECT_EQ(listed["files"], 9);
  EXPECT_EQ(listed["lists"][0]["files"], 9);
  EXPECT_TRUE(std::filesystem::exists(listed["lists"][0]["path"].get<std::string>()));
  EXPECT_EQ(Json("latest", {directory(), "--good"})["shards"].size(), 9u);
  EXPECT_SUCCESS(Ctl({"checkpoint", "verify", directory()}));
}

TEST_F(CliCheckpoint, WhatIsNotThereIsExitCodeThree) {
  for (const char* verb : {"list", "latest", "verify"}) {
    EXPECT_REFUSED(Ctl({"checkpoint", verb, scratch_ / "none"}), 3, "none is not there");
    EXPECT_REFUSED(Ctl({"checkpoint", verb, scratch_.path()}), 3, "no checkpoint was ever begun");
  }
  EXPECT_REFUSED(Ctl({"checkpoint", "prune", scratch_ / "none", "--keep", "1"}), 3, "not there");
  EXPECT_EQ(Ctl({"checkpoint"}).code, 2);
  EXPECT_EQ(Ctl({"checkpoint", "lst", directory()}).code, 2);
  EXPECT_EQ(Ctl({"checkpoint", "prune", directory()}).code, 2);
  EXPECT_SUCCESS(Ctl({"checkpoint", "prune", "--help"}));
}

}  // namespace
}  // namespace epoch::test
