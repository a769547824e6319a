#include "tests/images/ext4_workload.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>

#include "core/journal/format/format.h"
#include "epoch/journal.h"
#include "tests/images/rig.h"
#include "tests/sim/random.h"

namespace epoch::images {

namespace {

using sim::Random;

// A life's, at most, in the disk's log, before its processes are killed.
constexpr std::uint64_t kRecords = 8000;

// What the processes are told, where all of them can write it down.
struct Notes {
  static constexpr std::uint64_t kMost = 200'000;
  std::atomic<std::uint64_t> count;
  struct Note {
    std::atomic<std::uint64_t> epoch, position;  // position + 1; 0: not yet
  } notes[kMost];
};

[[noreturn]] void Commit(std::uint64_t seed, const std::string& region_path,
                         const RegionOptions& options, SlowDiskControl& control, Notes& notes) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (;;) {
    absl::StatusOr<Region> region = Region::OpenOrCreate(region_path, options);
    if (!region.ok()) {
      if (absl::IsDataLoss(region.status())) Failed("open: " + region.status().ToString());
      continue;  // another one restores
    }
    absl::StatusOr<Participant> self = Participant::Join(*region);
    if (!self.ok()) Failed("join: " + self.status().ToString());
    for (;;) {
      const absl::StatusOr<Epoch> made =
          self->Update([&](const Current& current, Draft& next) -> absl::Status {
            return next.Assign(StateOf(seed, current.epoch + 1));
          });
      if (!made.ok()) Failed("commit: " + made.status().ToString());
      const std::uint64_t position = control.position.load();
      const std::uint64_t index = notes.count.fetch_add(1);
      if (index >= Notes::kMost) Failed("too many commits");
      notes.notes[index].epoch.store(*made);
      notes.notes[index].position.store(position + 1);
    }
  }
}

}  // namespace

Bytes StateOf(std::uint64_t seed, std::uint64_t epoch) {
  Random random(seed * 1'000'003 + epoch);
  const std::size_t size = random.OneIn(2) ? random.Below(400) : random.Below(12'000);
  Bytes state(size);
  const bool zeros = random.OneIn(4);
  for (std::size_t i = 0; i < size; i += 8) {
    const std::uint64_t word = i == 0 ? epoch : zeros ? 0 : random.Next();
    std::memcpy(state.data() + i, &word, std::min<std::size_t>(8, size - i));
  }
  return state;
}

DeviceRecording PlayOnDevice(std::uint64_t seed, const std::string& slow_disk,
                             const std::string& scratch) {
  Random random(seed);
  DeviceRecording recording;
  RegionOptions& options = recording.options;
  options.state_bytes = 12'000;
  options.participants = 8;
  options.versions = 32;
  options.segment_bytes =
      (journal::MinSegmentBlocks(options.state_bytes) + random.Below(100)) * journal::kBlockBytes;
  options.history = random.OneIn(3) ? History::kLatest : History::kAll;
  options.retain_segments = 1 + static_cast<std::uint32_t>(random.Below(3));

  SlowDisk disk(slow_disk, scratch + "/disk", kDeviceBytes);
  LoopDevice device = AttachLoop(disk.file(), /*direct=*/true);
  if (RunProgram("mkfs.ext4", {"-q", "-F", "-b", "4096", "-J", "size=4", "-N", "128", "-m", "0",
                               "-E", "nodiscard,lazy_itable_init=0", device.path}) != 0) {
    Lacking("mkfs.ext4");
  }
  const std::string files = scratch + "/files";
  if (!MountExt4(device, files)) Failed("the new file system cannot be mounted");
  options.journal = files + "/journal";
  const std::string region = scratch + "/region";
  auto* notes = static_cast<Notes*>(mmap(nullptr, sizeof(Notes), PROT_READ | PROT_WRITE,
                                         MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (notes == MAP_FAILED) Failed("no memory");
  sync();
  recording.begin = disk.control().position.load();
  recording.lives = 2 + random.Below(3);
  for (std::uint64_t life = 0; life < recording.lives; ++life) {
    disk.control().delay_ms = random.OneIn(3) ? 1 : 0;
    std::vector<pid_t> writers;
    for (std::uint64_t i = 1 + random.Below(4); i > 0; --i) {
      const pid_t pid = fork();
      if (pid == 0) Commit(seed, region, options, disk.control(), *notes);
      writers.push_back(pid);
    }
    const auto go_on = [&](std::uint64_t records) {
      const std::uint64_t until = disk.control().position + records;
      disk.Await([&] { return disk.control().position >= until; }, writers);
    };
    go_on(200 + random.Below(kRecords));
    while (!writers.empty()) {
      const pid_t pid = writers.front();
      writers.erase(writers.begin());
      kill(pid, SIGKILL);
      ++recording.kills;
      int status = 0;
      waitpid(pid, &status, 0);
      if (WIFEXITED(status)) Failed("a committing process ended by itself");
      if (!writers.empty() && random.OneIn(2)) go_on(random.Below(kRecords / 10));
    }
    // Often it has to be restored, else it is opened as it is.
    if (!random.OneIn(4)) unlink(region.c_str());
  }
  unlink(region.c_str());
  recording.end = disk.control().position.load();
  disk.control().delay_ms = 0;
  Unmount(files);
  disk.Stop();
  recording.log = disk.log();
  for (std::uint64_t i = 0; i < notes->count.load(); ++i) {
    const std::uint64_t position = notes->notes[i].position.load();
    if (position != 0) recording.promises.push_back({notes->notes[i].epoch.load(), position - 1});
  }
  munmap(notes, sizeof(Notes));
  return recording;
}

}  // namespace epoch::images
