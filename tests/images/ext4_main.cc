// Crash images of a whole ext4 with a journal on it: each is mounted and recovered by the code that
// ships.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "core/journal/read/reader.h"
#include "epoch/journal.h"
#include "tests/images/device_log.h"
#include "tests/images/ext4_workload.h"
#include "tests/images/rig.h"
#include "tests/planted/plant.h"
#include "tests/sim/random.h"

namespace epoch::images {
namespace {

using Clock = std::chrono::steady_clock;
using sim::Random;

// Of ext4; as long as two sectors.
constexpr std::uint64_t kSuperblockAt = 1024;

struct Options {
  std::uint64_t images = 200;
  std::uint64_t seconds = 1'000'000;
  std::uint64_t seed = 1;
  std::uint64_t per_recording = 400;
  unsigned jobs = 1;
  bool progress = false;
  std::string slow_disk, planted;
};

struct Tally {
  std::uint64_t images = 0, lost = 0, torn = 0, repaired = 0, recordings = 0, flushes = 0,
                promises = 0, kills = 0;
};
// Less than a pipe takes in one piece.
struct Report {
  Tally tally;
  char what[300];
};

// A file that stands for the device, and a mount of it.
class Image {
 public:
  explicit Image(const std::string& scratch)
      : file_(scratch + "/image"), at_(scratch + "/mounted"), region_(scratch + "/image-region") {
    fd_ = open(file_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd_ < 0 || ftruncate(fd_, kDeviceBytes) != 0) Failed("no room for an image");
    bytes_ = static_cast<std::byte*>(
        mmap(nullptr, kDeviceBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0));
  }

  void Set(const Bytes& stable) {
    for (std::size_t at = 0; at < kDeviceBytes; at += 4096) {
      if (std::memcmp(bytes_ + at, stable.data() + at, 4096) != 0) {
        std::memcpy(bytes_ + at, stable.data() + at, 4096);
      }
    }
  }
  void Put(const DeviceLog::Loose& sector) {
    std::memcpy(bytes_ + sector.offset, sector.bytes, kSector);
  }

  // Empty: as it should be.
  std::string Check(std::uint64_t seed, const RegionOptions& as, std::uint64_t promised,
                    bool anything, Tally& tally) {
    LoopDevice device = AttachLoop(file_, false);
    if (!MountExt4(device, at_)) {
      // The file system's own matter; what it repairs counts as what the crash left.
      ++tally.repaired;
      RunProgram("e2fsck", {"-fy", file_});
      device = AttachLoop(file_, false);
      if (!MountExt4(device, at_)) {
        ++tally.lost;
        return "ext4 cannot be mounted";
      }
    }
    RegionOptions options = as;
    options.participants = 1;
    options.versions = 4;
    options.journal = at_ + "/journal";
    options.restore_timeout = absl::Seconds(2);
    std::string wrong = CheckMounted(seed, options, promised, anything, tally);
    unlink(region_.c_str());
    Unmount(at_);
    return wrong;
  }

 private:
  std::string CheckMounted(std::uint64_t seed, const RegionOptions& options, std::uint64_t promised,
                           bool anything, Tally& tally) {
    Epoch before = 0;
    for (const char* which : {"the first recovery", "the second recovery"}) {
      unlink(region_.c_str());
      absl::StatusOr<Region> region = Region::Restore(region_, options);
      if (!region.ok()) {
        if (!anything && absl::IsNotFound(region.status())) return "";
        ++tally.lost;
        return std::string(which) + " refuses: " + region.status().ToString();
      }
      absl::StatusOr<Snapshot> found = region->Read();
      if (!found.ok()) {
        ++tally.torn;
        return found.status().ToString();
      }
      if (found->epoch > 0 ? found->state != StateOf(seed, found->epoch) : !found->state.empty()) {
        ++tally.torn;
        return "epoch " + std::to_string(found->epoch) + " has a state that nobody committed";
      }
      if (found->epoch < promised) {
        ++tally.lost;
        return "epoch " + std::to_string(promised) + " was acknowledged, but " + which +
               " ends at " + std::to_string(found->epoch);
      }
      if (which[4] == 's' && found->epoch != before) {
        ++tally.torn;
        return "the second recovery finds another epoch";
      }
      before = found->epoch;
    }
    return "";
  }

  const std::string file_, at_, region_;
  int fd_ = -1;
  std::byte* bytes_ = nullptr;
};

// The images of one seed.
Report CheckSeed(const Options& options, std::uint64_t seed, std::uint64_t images,
                 Clock::time_point until_when, const std::string& scratch, Image& image) {
  Report report{};
  Tally& tally = report.tally;
  DeviceRecording recording = PlayOnDevice(seed, options.slow_disk, scratch);
  std::sort(recording.promises.begin(), recording.promises.end(),
            [](const Promise& a, const Promise& b) { return a.position < b.position; });
  DeviceLog log(recording.log, kDeviceBytes);
  tally.recordings = 1;
  tally.promises = recording.promises.size();
  tally.kills = recording.kills;
  Random random(seed + 99);
  std::vector<std::uint64_t> positions;
  for (std::uint64_t i = 0; i < images; ++i) {
    positions.push_back(recording.begin + random.Below(recording.end - recording.begin));
  }
  std::sort(positions.begin(), positions.end());
  std::size_t next_promise = 0;
  std::uint64_t promised = 0;
  std::uint64_t last_cut = 0;
  for (const std::uint64_t position : positions) {
    if (Clock::now() > until_when || !log.NextFlush(position)) break;
    const std::uint64_t cut = log.position();
    if (cut >= recording.end) break;
    tally.flushes += cut != last_cut ? 1 : 0;
    last_cut = cut;
    for (; next_promise < recording.promises.size() &&
           recording.promises[next_promise].position <= cut;
         ++next_promise) {
      promised = std::max(promised, recording.promises[next_promise].epoch);
    }
    const std::vector<DeviceLog::Loose> loose = log.loose();
    image.Set(log.stable());
    const std::uint64_t way = random.Below(6);
    const std::uint64_t until = random.Below(loose.size() + 1);
    const std::uint64_t of = 2 + random.Below(6);
    std::uint64_t write = 0;
    bool kept = false;
    for (std::size_t i = 0; i < loose.size(); ++i) {
      // No mount survives a torn superblock, whatever lies on the device: its checksum is looked at
      // before ext4's journal is, and a device as small as this one has no copy of it.
      const bool tears_superblock =
          loose[i].offset == kSuperblockAt + kSector && loose[i].write == write;
      if (tears_superblock) {
        if (kept) image.Put(loose[i]);
        continue;
      }
      switch (way) {
        case 0:  // nothing
          break;
        case 1:
          kept = true;
          break;
        case 2:
          kept = i < until;
          break;
        case 3:  // writes as a whole
          if (loose[i].write != write) kept = random.OneIn(2);
          break;
        case 4:
          kept = random.OneIn(of);
          break;
        default:
          kept = !random.OneIn(of);
      }
      write = loose[i].write;
      if (kept) image.Put(loose[i]);
    }
    ++tally.images;
    const std::string wrong =
        image.Check(seed, recording.options, promised, next_promise > 0, tally);
    if (!wrong.empty() && report.what[0] == '\0') {
      std::snprintf(report.what, sizeof report.what,
                    "seed %" PRIu64 ", record %" PRIu64 ", way %" PRIu64 ": %s", seed, cut, way,
                    wrong.c_str());
    }
  }
  std::filesystem::remove_all(scratch + "/disk");
  return report;
}

int Work(const Options& options, unsigned job, int reports) {
  return Isolated([&](const std::string& scratch) {
    Image image(scratch);
    const std::uint64_t share = (options.images + options.jobs - 1) / options.jobs;
    std::uint64_t done = 0;
    const auto until_when = Clock::now() + std::chrono::seconds(options.seconds);
    for (std::uint64_t seed = options.seed + job; done < share && Clock::now() < until_when;
         seed += options.jobs) {
      const Report report = CheckSeed(options, seed, std::min(options.per_recording, share - done),
                                      until_when, scratch, image);
      done += report.tally.images;
      if (write(reports, &report, sizeof report) != sizeof report) return 1;
    }
    return 0;
  });
}

int Campaign(const Options& options) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return 2;
  std::vector<pid_t> jobs;
  for (unsigned job = 0; job < options.jobs; ++job) {
    jobs.push_back(fork());
    if (jobs.back() == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      close(ends[0]);
      _exit(Work(options, job, ends[1]));
    }
  }
  close(ends[1]);
  Tally total;
  const auto began = Clock::now();
  Report report;
  while (read(ends[0], &report, sizeof report) == sizeof report) {
    const Tally& t = report.tally;
    total.images += t.images;
    total.lost += t.lost;
    total.torn += t.torn;
    total.repaired += t.repaired;
    total.recordings += t.recordings;
    total.flushes += t.flushes;
    total.promises += t.promises;
    total.kills += t.kills;
    if (report.what[0] != '\0') std::printf("%s\n", report.what);
    std::fflush(stdout);
    const double seconds = std::chrono::duration<double>(Clock::now() - began).count();
    if (options.progress) {
      std::fprintf(stderr, "%8.0f s: %" PRIu64 " images, %.0f a second\n", seconds, total.images,
                   static_cast<double>(total.images) / seconds);
    }
  }
  int worst = 0;
  for (const pid_t job : jobs) {
    int status = 0;
    waitpid(job, &status, 0);
    worst = std::max(worst, WIFEXITED(status) ? WEXITSTATUS(status) : 4);
  }
  if (worst != 0) return worst;
  std::printf("ext4: recordings=%" PRIu64 " kills=%" PRIu64 " commits=%" PRIu64 " cuts=%" PRIu64
              " repaired=%" PRIu64 "\n",
              total.recordings, total.kills, total.promises, total.flushes, total.repaired);
  std::printf("crash-images: images=%" PRIu64 " lost=%" PRIu64 " torn=%" PRIu64 " undetected=0\n",
              total.images, total.lost, total.torn);
  return total.lost + total.torn == 0 ? 0 : 1;
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("Builds crash images of an ext4 with a journal on it, mounts and recovers each.");
  app.add_option("--images", options.images, "How many");
  app.add_option("--seconds", options.seconds, "Begin nothing new after so long");
  app.add_option("--seed", options.seed, "The first seed");
  app.add_option("--per-recording", options.per_recording, "Images of one recording");
  app.add_option("--jobs", options.jobs, "Processes at a time");
  app.add_option("--slow-disk", options.slow_disk, "The program epoch_slow_disk")->required();
  app.add_flag("--progress", options.progress, "A line on stderr now and then");
  app.add_option("--plant", options.planted, "With this bug of tests/planted");
  CLI11_PARSE(app, argc, argv);
  Plant(options.planted);
  return Campaign(options);
}

}  // namespace
}  // namespace epoch::images

int main(int argc, char** argv) { return epoch::images::Main(argc, argv); }
