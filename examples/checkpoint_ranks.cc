// Ranks that are killed while they make checkpoints: this library's way beside the usual one, under
// the same kills.
//
//   checkpoint_ranks --crashes 1000 [--ranks 4] [--seed 1] [--directory DIR]
//
// The usual way: each rank writes step-N/rank-K, then rank 0, once all of them are there, writes
// the marker step-N/complete; the newest step with a marker is what a restart loads. Its careful
// variant writes to another name first and renames. All of them stop when one is killed, as a
// launcher would have it, and start again from the newest checkpoint.
//
// Every shard says in each of its blocks which step, rank and life of the job wrote it. A recovered
// state counts as incomplete if a shard is missing or torn, and as mixed if its shards are not all
// of one step and one life.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "epoch/checkpoint.h"
#include "epoch/region.h"

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBlocks = 64;  // of 4 KiB, written one by one

struct Block {
  std::uint64_t step, rank, life;
  std::array<char, 4096 - 24> filler;
};

struct Job {
  std::string directory;
  std::uint32_t ranks = 4;
  std::uint64_t life = 0;  // how often the job was started
  int began = -1;          // a pipe: a rank says that it begins to write
};

void SayBegan(const Job& job) { [[maybe_unused]] const ssize_t said = write(job.began, "b", 1); }

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "checkpoint_ranks: %s\n", what.c_str());
  std::exit(1);
}

void WriteShard(const std::string& path, const Job& job, std::uint32_t rank, std::uint64_t step) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) Fail("cannot create " + path);
  const Block block{step, rank, job.life, {}};
  for (std::size_t i = 0; i < kBlocks; ++i) {
    if (write(fd, &block, sizeof block) != sizeof block) Fail("cannot write " + path);
  }
  close(fd);
}

enum class Verdict { kWhole, kIncomplete, kMixed };

// `paths`: a shard of each rank. They must be whole, and of one step and one life.
Verdict Judge(const std::vector<std::string>& paths, std::uint64_t step) {
  std::optional<std::uint64_t> life;
  for (std::size_t rank = 0; rank < paths.size(); ++rank) {
    std::FILE* const file = std::fopen(paths[rank].c_str(), "rb");
    if (file == nullptr) return Verdict::kIncomplete;
    std::vector<Block> blocks(kBlocks + 1);
    const std::size_t got = std::fread(blocks.data(), sizeof(Block), blocks.size(), file);
    std::fclose(file);
    if (got != kBlocks) return Verdict::kIncomplete;
    for (std::size_t i = 0; i < got; ++i) {
      if (!life.has_value()) life = blocks[i].life;
      if (blocks[i].step != step || blocks[i].rank != rank || blocks[i].life != *life) {
        return Verdict::kMixed;
      }
    }
  }
  return Verdict::kWhole;
}

// --- ours ----------------------------------------------------------------------------------------

std::string RegionOf(const Job& job) { return job.directory + "/region"; }

std::optional<std::uint64_t> LatestOfOurs(const Job& job) {
  const auto latest = epoch::Checkpoints(job.directory).Latest();
  if (absl::IsNotFound(latest.status())) return std::nullopt;
  if (!latest.ok()) Fail(latest.status().ToString());
  return latest->step;
}

void RunOurs(const Job& job, std::uint32_t rank) {
  epoch::CheckpointOptions options;
  options.rank = rank;
  options.world = job.ranks;
  options.region = RegionOf(job);
  auto self = epoch::CheckpointRank::Join(job.directory, options);
  if (!self.ok()) Fail(self.status().ToString());
  for (;;) {
    const std::uint64_t step = LatestOfOurs(job).value_or(0) + 1;
    auto begun = self->Begin(step);
    if (absl::IsAborted(begun.status())) continue;  // a rank died, or had another step in mind
    if (!begun.ok()) Fail(begun.status().ToString());
    SayBegan(job);
    WriteShard(begun->PathOf("shard"), job, rank, step);
    if (const absl::Status s = begun->Ready("shard"); !s.ok()) Fail(s.ToString());
    const auto made = begun->Commit();
    if (!made.ok() && !absl::IsAborted(made.status())) Fail(made.status().ToString());
  }
}

Verdict JudgeOurs(const Job& job) {
  const auto opened = epoch::Checkpoints(job.directory).OpenLatest();
  if (absl::IsNotFound(opened.status())) return Verdict::kWhole;  // nothing yet, and it says so
  if (!opened.ok()) {
    std::fprintf(stderr, "%s\n", opened.status().ToString().c_str());
    return Verdict::kIncomplete;
  }
  std::vector<std::string> paths;
  for (std::uint32_t rank = 0; rank < job.ranks; ++rank) {
    paths.push_back(opened->PathOf(rank, "shard"));
  }
  return Judge(paths, opened->info().step);
}

void TidyOurs(const Job& job) {
  epoch::PruneOptions keep;
  keep.keep = 2;
  const auto pruned = epoch::Checkpoints(job.directory).Prune(keep);
  if (!pruned.ok() && !absl::IsNotFound(pruned.status())) Fail(pruned.status().ToString());
}

// --- the usual way -------------------------------------------------------------------------------

std::string StepFolder(const Job& job, std::uint64_t step) {
  return job.directory + "/step-" + std::to_string(step);
}
std::string ShardOf(const Job& job, std::uint64_t step, std::uint32_t rank) {
  return StepFolder(job, step) + "/rank-" + std::to_string(rank);
}
std::string MarkerOf(const Job& job, std::uint64_t step) {
  return StepFolder(job, step) + "/complete";
}

std::optional<std::uint64_t> LatestOfNaive(const Job& job) {
  std::optional<std::uint64_t> latest;
  for (const auto& entry : fs::directory_iterator(job.directory)) {
    const std::string name = entry.path().filename();
    const std::uint64_t step = std::strtoull(name.c_str() + 5, nullptr, 10);
    if (fs::exists(MarkerOf(job, step)) && step > latest.value_or(0)) latest = step;
  }
  return latest;
}

void RunNaive(const Job& job, std::uint32_t rank, bool careful) {
  for (std::uint64_t step = LatestOfNaive(job).value_or(0) + 1;; ++step) {
    std::error_code ignored;
    fs::create_directory(StepFolder(job, step), ignored);
    const std::string path = ShardOf(job, step, rank);
    const std::string first = careful ? path + ".tmp" : path;
    SayBegan(job);
    WriteShard(first, job, rank, step);
    if (careful) fs::rename(first, path);
    if (rank == 0) {
      for (std::uint32_t other = 0; other < job.ranks;) {
        if (fs::exists(ShardOf(job, step, other))) {
          ++other;
        } else {
          sched_yield();
        }
      }
      close(open(MarkerOf(job, step).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    }
    // The ranks of a training job are in step: nobody goes on before the checkpoint is complete.
    while (!fs::exists(MarkerOf(job, step))) sched_yield();
  }
}

Verdict JudgeNaive(const Job& job) {
  const auto latest = LatestOfNaive(job);
  if (!latest.has_value()) return Verdict::kWhole;
  std::vector<std::string> paths;
  for (std::uint32_t rank = 0; rank < job.ranks; ++rank) {
    paths.push_back(ShardOf(job, *latest, rank));
  }
  return Judge(paths, *latest);
}

void TidyNaive(const Job& job) {
  const std::uint64_t latest = LatestOfNaive(job).value_or(0);
  for (const auto& entry : fs::directory_iterator(job.directory)) {
    const std::string name = entry.path().filename();
    if (std::strtoull(name.c_str() + 5, nullptr, 10) + 1 < latest) fs::remove_all(entry.path());
  }
}

// --- crashes -------------------------------------------------------------------------------------

struct Way {
  std::string name;
  std::function<void(const Job&, std::uint32_t)> run;
  std::function<Verdict(const Job&)> judge;
  std::function<void(const Job&)> tidy;
  std::function<std::optional<std::uint64_t>(const Job&)> latest;
  Job job;
  std::uint64_t incomplete = 0, mixed = 0, made = 0;
};

struct Crash {
  std::uint32_t victim;
  bool early;  // `after` counts from the start of the processes, else from the first shard's
  std::chrono::microseconds after;
  std::chrono::microseconds until_all;  // from then until the rest is ended
};

void Pause(std::chrono::microseconds time) { usleep(static_cast<useconds_t>(time.count())); }

// One life of the job: all ranks start, one is killed, then the others.
void Live(Way& way, const Crash& crash) {
  ++way.job.life;
  const std::uint64_t before = way.latest(way.job).value_or(0);
  int pipe_ends[2];
  if (pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK) != 0) Fail("cannot make a pipe");
  way.job.began = pipe_ends[1];
  const pid_t parent = getpid();
  std::vector<pid_t> ranks;
  for (std::uint32_t rank = 0; rank < way.job.ranks; ++rank) {
    const pid_t pid = fork();
    if (pid < 0) Fail("cannot fork");
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(1);
      way.run(way.job, rank);
      _exit(0);
    }
    ranks.push_back(pid);
  }
  if (!crash.early) {
    pollfd began{.fd = pipe_ends[0], .events = POLLIN, .revents = 0};
    poll(&began, 1, 10'000);
  }
  Pause(crash.after);
  for (const int end : pipe_ends) close(end);
  kill(ranks[crash.victim], SIGKILL);
  Pause(crash.until_all);
  for (const pid_t pid : ranks) kill(pid, SIGKILL);
  for (const pid_t pid : ranks) {
    int status = 0;
    waitpid(pid, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0) Fail("a rank failed");
  }
  const Verdict verdict = way.judge(way.job);
  way.made += way.latest(way.job).value_or(0) - before;
  way.incomplete += verdict == Verdict::kIncomplete ? 1 : 0;
  way.mixed += verdict == Verdict::kMixed ? 1 : 0;
  if (verdict != Verdict::kWhole) {
    // What is broken is not carried into the next life: a person would remove it, too.
    fs::remove_all(way.job.directory);
    fs::create_directory(way.job.directory);
  } else if (way.job.life % 20 == 0) {
    way.tidy(way.job);
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t crashes = 1000, seed = 1;
  Job job;
  std::string base = fs::temp_directory_path();
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view option = argv[i];
    if (option == "--crashes") crashes = std::strtoull(argv[i + 1], nullptr, 10);
    if (option == "--ranks") job.ranks = static_cast<std::uint32_t>(std::atoi(argv[i + 1]));
    if (option == "--seed") seed = std::strtoull(argv[i + 1], nullptr, 10);
    if (option == "--directory") base = argv[i + 1];
  }
  if (argc % 2 == 0 || crashes == 0 || job.ranks == 0 || job.ranks > 64) {
    std::fprintf(stderr,
                 "usage: checkpoint_ranks [--crashes N] [--ranks 1..64] [--seed N] "
                 "[--directory DIR]\n");
    return 2;
  }
  base += "/checkpoint-ranks-" + std::to_string(getpid());
  fs::create_directories(base);
  std::array<Way, 3> ways = {
      Way{"ours", RunOurs, JudgeOurs, TidyOurs, LatestOfOurs, job},
      Way{"naive", [](const Job& j, std::uint32_t r) { RunNaive(j, r, false); }, JudgeNaive,
          TidyNaive, LatestOfNaive, job},
      Way{"careful", [](const Job& j, std::uint32_t r) { RunNaive(j, r, true); }, JudgeNaive,
          TidyNaive, LatestOfNaive, job}};
  for (Way& way : ways) {
    way.job.directory = base + "/" + way.name;
    fs::create_directory(way.job.directory);
  }
  std::mt19937_64 random(seed);
  for (std::uint64_t i = 0; i < crashes; ++i) {
    const bool early = random() % 4 == 0;
    const Crash crash{static_cast<std::uint32_t>(random() % job.ranks), early,
                      std::chrono::microseconds(random() % (early ? 100'000 : 150'000)),
                      std::chrono::microseconds(random() % 3'000)};
    for (Way& way : ways) Live(way, crash);
  }
  std::printf("checkpoint-ranks: crashes=%llu", static_cast<unsigned long long>(crashes));
  for (const Way& way : ways) {
    std::printf(" %s_mixed=%llu", way.name.c_str(),
                static_cast<unsigned long long>(way.incomplete + way.mixed));
  }
  std::printf("\n");
  for (const Way& way : ways) {
    std::printf("  %-8s %llu checkpoints made; recovered: %llu incomplete, %llu of several lives\n",
                way.name.c_str(), static_cast<unsigned long long>(way.made),
                static_cast<unsigned long long>(way.incomplete),
                static_cast<unsigned long long>(way.mixed));
  }
  const bool clean = ways[0].incomplete + ways[0].mixed == 0;
  fs::remove_all(base);
  return clean ? 0 : 1;
}
