#include "border/world.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "core/journal/format/format.h"
#include "core/journal/segment/segment.h"
#include "epoch/checkpoint.h"
#include "epoch/collective.h"
#include "epoch/journal.h"
#include "support/checked_state.h"
#include "support/files.h"
#include "support/region_test.h"

namespace epoch::test {
namespace {

namespace fs = std::filesystem;

std::string UniqueName() {
  static std::atomic<int> count{0};
  return "w" + std::to_string(getpid()) + "-" + std::to_string(count++);
}

// Each number, decimal or hexadecimal, and what mkdtemp makes up, as "N".
std::string WithoutNumbers(std::string text) {
  constexpr std::string_view kMadeUp = ".new-";
  if (const std::size_t at = text.find(kMadeUp); at != std::string::npos) {
    text.replace(at + kMadeUp.size(), 6, "0");
  }
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find_first_not_of("0123456789abcdef", at), text.size());
    const std::string run = text.substr(at, end - at);
    const bool number = run.find_first_of("0123456789") != std::string::npos || run.size() >= 6;
    result += number ? "N" : run;
    if (end < text.size()) result += text[end];
    at = end + 1;
  }
  return result;
}

// Whatever it is told: that is the first rank's doing.
void BeSecondRank(const std::string& directory, const std::string& region,
                  const std::atomic<bool>& ends) {
  CheckpointOptions options = CheckpointsOf(region, 1, 2);
  const WaitOptions wait{.timeout = kPairPatience, .interrupted = [&] { return ends.load(); }};
  options.interrupted = wait.interrupted;
  absl::StatusOr<CheckpointRank> rank = CheckpointRank::Join(directory, options);
  if (!rank.ok()) return;
  absl::StatusOr<CheckpointStep> step = rank->Begin(4, wait);
  if (!step.ok()) return;
  std::ofstream(step->PathOf("model")) << "another shard of 4";
  if (step->Ready("model").ok()) step->Commit(wait).IgnoreError();
}

void Must(const absl::Status& status) { EPOCH_CHECK(status.ok(), status.ToString().c_str()); }

}  // namespace

RegionOptions World::Options(bool durable) const {
  RegionOptions options;
  options.state_bytes = 64 * 1024;
  options.participants = 8;
  options.versions = 8;
  if (durable) {
    options.journal = journal();
    options.segment_bytes = journal::MinSegmentBlocks(options.state_bytes) * journal::kBlockBytes;
    options.restore_timeout = absl::Seconds(1);
    options.retain_segments = 1;  // so that whoever rolls has something to remove
  }
  return options;
}

World::World(const std::string& parent, Ground ground)
    : directory_(parent + "/" + UniqueName()), ground_(ground) {
  fs::create_directory(directory_);
  WriteBytes(state_file(), CheckedState(kGroundEpoch + 1));
  if (ground == Ground::kVolatile || durable()) {
    absl::StatusOr<Region> made = Region::OpenOrCreate(region(), Options(durable()));
    Must(made.status());
    absl::StatusOr<Participant> self = Participant::Join(*made, {.name = "ground"});
    Must(self.status());
    for (Epoch epoch = 0; epoch < kGroundEpoch; ++epoch) Must(Increment(*self).status());
  }
  if (ground == Ground::kJournal) Must(Region::Unlink(region()));
  if (ground == Ground::kCheckpoints) {
    absl::StatusOr<CheckpointRank> rank =
        CheckpointRank::Join(checkpoints(), CheckpointsOf(region()));
    Must(rank.status());
    for (std::uint64_t number = 1; number <= 3; ++number) {
      absl::StatusOr<CheckpointStep> step = rank->Begin(number);
      Must(step.status());
      std::ofstream(step->PathOf("model")) << "shard of " << number;
      Must(step->Ready("model"));
      Must(step->Commit().status());
    }
  }
}

World::~World() {
  RemoveNeighbour();
  std::error_code error;
  fs::remove_all(directory_, error);
}

void World::AddNeighbour() {
  absl::StatusOr<Region> opened = Region::Open(region());
  Must(opened.status());
  absl::StatusOr<Participant> self =
      Participant::Join(*opened, {.name = "neighbour", .voter = true});
  Must(self.status());
  neighbour_ = std::make_unique<Neighbour>(Neighbour{*opened, *std::move(self)});
}

void World::Look() {
  if (neighbour_ != nullptr) neighbour_->self.Poll().IgnoreError();
}

void World::Ask(pid_t process) {
  if (neighbour_ == nullptr || asking_.joinable()) return;
  if (CountSlots(neighbour_->region, detail::SlotState::kActive) < 2) return;
  asking_ = std::thread([this, process] {
    CommitOptions options;
    options.agreement = Agreement::kAllVoters;
    options.timeout = absl::Seconds(1);
    const absl::StatusOr<Epoch> epoch =
        neighbour_->self.Commit(CheckedState(kGroundEpoch + 1), options);
    if (epoch.ok()) {
      added_ = 1;
      neighbour_->self.Await(*epoch, Stage::kConverged, options.timeout).IgnoreError();
    }
    kill(process, SIGTERM);
    kill(process, SIGINT);  // it may have been told to ignore the other
  });
}

void World::Pair() {
  if (asking_.joinable()) return;
  if (ground_ == Ground::kCheckpoints) {
    asking_ = std::thread([this] { BeSecondRank(checkpoints(), region(), ends_); });
    return;
  }
  if (neighbour_ == nullptr || CountSlots(neighbour_->region, detail::SlotState::kActive) < 2) {
    return;
  }
  asking_ = std::thread([this] {
    CollectiveOptions options;
    options.timeout = kPairPatience;
    options.contributions = 2;
    // What is committed it is told.
    options.interrupted = [this] { return ends_ && neighbour_->region.epoch() == kGroundEpoch; };
    const absl::StatusOr<Epoch> epoch =
        neighbour_->self.CommitCollective(kPairTag, "its part", options);
    if (epoch.ok()) added_ = 1;
  });
}

void World::RemoveNeighbour() {
  ends_ = true;
  if (asking_.joinable()) asking_.join();
  neighbour_.reset();
}

void World::AddDead() {
  const pid_t pid = fork();
  EPOCH_CHECK(pid >= 0, "fork");
  if (pid == 0) {
    absl::StatusOr<Region> opened = Region::Open(region());
    absl::StatusOr<Participant> self = Participant::Join(*opened, {.name = "dead"});
    const Pin pin = self->Pin();
    const absl::StatusOr<Draft> draft = self->NewDraft(10);
    kill(getpid(), SIGKILL);
  }
  waitpid(pid, nullptr, 0);
}

std::vector<std::string> World::Names() const {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::recursive_directory_iterator each(directory_, error), end; each != end;
       each.increment(error)) {
    names.push_back(WithoutNumbers(fs::relative(each->path(), directory_, error).string()));
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace epoch::test
