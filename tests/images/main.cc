// Crash images of the journal, in process: seeds are shared out among child processes.
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "tests/images/checker.h"
#include "tests/planted/plant.h"

namespace epoch::images {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kWordsBytes = 400;
struct Report {
  Tally tally;
  char first[kWordsBytes];
};

struct Job {
  pid_t pid;
  int pipe;
  std::uint64_t seed;
};

struct Options {
  std::uint64_t images = 50'000;
  std::uint64_t seconds = 1'000'000;
  std::uint64_t seed = 1;
  std::uint64_t seeds = 0;  // 0: as many as it takes
  std::uint64_t per_cut = 40;
  unsigned jobs = 1;
  bool progress = false;
  bool stop_at_first = false;
  std::string state, planted;
};

Job Start(std::uint64_t seed, std::uint64_t count, std::uint64_t per_cut) {
  int ends[2];
  if (pipe(ends) != 0) std::abort();
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    Report report{};
    std::string first;
    for (std::uint64_t s = seed; s < seed + count; ++s) {
      report.tally.Add(CheckSeed(s, per_cut, first));
    }
    std::strncpy(report.first, first.c_str(), kWordsBytes - 1);
    _exit(write(ends[1], &report, sizeof report) == sizeof report ? 0 : 1);
  }
  close(ends[1]);
  return {pid, ends[0], seed};
}

class Campaign {
 public:
  explicit Campaign(const Options& options) : options_(options), next_(options.seed) { Load(); }

  int Run() {
    const auto began = Clock::now();
    auto told = began;
    const std::uint64_t images_before = total_.images;
    const auto seconds = [&] {
      return std::chrono::duration<double>(Clock::now() - began).count();
    };
    std::vector<Job> jobs;
    std::uint64_t started = next_;
    for (;;) {
      const bool more = total_.images < options_.images &&
                        seconds() < static_cast<double>(options_.seconds) &&
                        (options_.seeds == 0 || started < options_.seed + options_.seeds) &&
                        !(options_.stop_at_first && total_.lost + total_.torn > 0);
      while (more && jobs.size() < options_.jobs) {
        jobs.push_back(Start(started, kSeedsPerJob, options_.per_cut));
        started += kSeedsPerJob;
      }
      if (jobs.empty()) break;
      Collect(jobs);
      if (options_.progress && Clock::now() - told > std::chrono::seconds(5)) {
        told = Clock::now();
        std::fprintf(stderr, "%8.0f s: %" PRIu64 " images, %.0f a second, next seed %" PRIu64 "\n",
                     seconds(), total_.images,
                     static_cast<double>(total_.images - images_before) / seconds(), next_);
      }
    }
    std::printf("seeds=%" PRIu64 " boots=%" PRIu64 " epochs=%" PRIu64 " segments=%" PRIu64
                " cuts=%" PRIu64 " damaged=%" PRIu64 " reported=%" PRIu64
                " images_per_second=%.0f\n",
                next_ - options_.seed, total_.boots, total_.epochs, total_.segments, total_.cuts,
                total_.damaged, total_.reported,
                static_cast<double>(total_.images - images_before) / seconds());
    for (int kind = 0; kind < kDamageKinds; ++kind) {
      const std::uint64_t count = total_.undetected_by[static_cast<std::size_t>(kind)];
      if (count == 0) continue;
      std::printf("undetected: %s: %" PRIu64 "\n", NameOf(static_cast<DamageKind>(kind)), count);
    }
    std::printf("crash-images: images=%" PRIu64 " lost=%" PRIu64 " torn=%" PRIu64
                " undetected=%" PRIu64 "\n",
                total_.images, total_.lost, total_.torn, total_.undetected);
    return total_.lost + total_.torn == 0 ? 0 : 1;
  }

 private:
  static constexpr std::uint64_t kSeedsPerJob = 4;

  // Waits for one of them to end. Results count in the order of the seeds, so that what has been
  // counted is all up to `next_`.
  void Collect(std::vector<Job>& jobs) {
    std::vector<pollfd> ends;
    for (const Job& job : jobs) ends.push_back({job.pipe, POLLIN, 0});
    poll(ends.data(), ends.size(), -1);
    for (std::size_t i = ends.size(); i-- > 0;) {
      if (ends[i].revents == 0) continue;
      Report report{};
      const bool whole = read(jobs[i].pipe, &report, sizeof report) == sizeof report;
      close(jobs[i].pipe);
      int status = 0;
      waitpid(jobs[i].pid, &status, 0);
      if (!whole) {
        report.tally.torn = 1;
        std::snprintf(report.first, kWordsBytes, "a process ended by itself (status %d)", status);
      }
      done_[jobs[i].seed] = report;
      jobs.erase(jobs.begin() + static_cast<std::ptrdiff_t>(i));
    }
    for (auto at = done_.find(next_); at != done_.end(); at = done_.find(next_)) {
      total_.Add(at->second.tally);
      if (at->second.first[0] != '\0') {
        std::printf("seeds from %" PRIu64 ": %s\n", at->first, at->second.first);
        std::fflush(stdout);
      }
      done_.erase(at);
      next_ += kSeedsPerJob;
      Save();
    }
  }

  // Its own words, as a line of them.
  void Load() {
    std::ifstream in(options_.state);
    std::uint64_t first = 0, next = 0;
    Tally t;
    if (options_.state.empty() || !(in >> first >> next) || first != options_.seed) return;
    for (std::uint64_t* word : t.Words()) in >> *word;
    if (!in) return;
    next_ = next;
    total_ = t;
  }
  void Save() {
    if (options_.state.empty()) return;
    const std::string beside = options_.state + ".new";
    std::ofstream out(beside);
    out << options_.seed << ' ' << next_;
    for (const std::uint64_t* word : total_.Words()) out << ' ' << *word;
    out << '\n';
    out.close();
    std::rename(beside.c_str(), options_.state.c_str());
  }

  const Options options_;
  std::uint64_t next_;  // all seeds before it are counted
  Tally total_;
  std::map<std::uint64_t, Report> done_;
};

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("Builds crash images of the journal and recovers each of them.");
  app.add_option("--images", options.images, "Stop when so many were checked");
  app.add_option("--seconds", options.seconds, "Stop after so long");
  app.add_option("--seed", options.seed, "The first seed");
  app.add_option("--seeds", options.seeds, "So many seeds and no more");
  app.add_option("--per-cut", options.per_cut, "About so many images at each cut");
  app.add_option("--jobs", options.jobs, "Processes at a time");
  app.add_option("--state", options.state, "Goes on where this file says");
  app.add_flag("--progress", options.progress, "A line on stderr now and then");
  app.add_flag("--stop-at-first", options.stop_at_first, "Stop when something is lost or torn");
  app.add_option("--plant", options.planted, "With this bug of tests/planted");
  CLI11_PARSE(app, argc, argv);
  Plant(options.planted);
  return Campaign(options).Run();
}

}  // namespace
}  // namespace epoch::images

int main(int argc, char** argv) { return epoch::images::Main(argc, argv); }
