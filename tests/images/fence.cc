// The ownership fence on a real kernel: a process is killed while its write is on the way to a slow
// disk, and another one recovers at once. The restore has to wait until the write has landed; what
// lands later must not contradict what was recovered.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "core/journal/read/reader.h"
#include "core/journal/read/restore.h"
#include "core/journal/segment/segment.h"
#include "epoch/epoch.h"
#include "epoch/journal.h"
#include "tests/images/rig.h"
#include "tests/planted/plant.h"

namespace epoch::images {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::uint32_t kDelay_ms = 600;
constexpr std::uint64_t kDiskBytes = std::uint64_t{32} << 20;

void Commit(Participant& self, std::size_t size) {
  const absl::StatusOr<Epoch> made = self.Commit(std::string(size, 'x'));
  if (!made.ok()) Failed(made.status().ToString());
}

void Propose(Participant& self, std::size_t size) {
  absl::StatusOr<Draft> draft = self.NewDraft(size);
  if (!draft.ok()) Failed(draft.status().ToString());
  std::memset(draft->bytes().data(), 'x', size);
  const absl::StatusOr<Ticket> ticket = self.Propose(*std::move(draft));
  if (!ticket.ok()) Failed(ticket.status().ToString());
}

long Milliseconds(Clock::time_point since) {
  return static_cast<long>(
      std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - since).count());
}

// What a segment holds by itself.
journal::SegmentScan Scan(const std::string& path) {
  absl::StatusOr<journal::SegmentScan> scan = journal::ScanSegmentFile(path);
  if (!scan.ok()) Failed(scan.status().ToString());
  return *std::move(scan);
}

// 0: the fence holds. 1: it does not, and says how.
int Round(SlowDisk& disk, const std::string& scratch, const std::string& files, int round) {
  RegionOptions options;
  options.state_bytes = 64 * 1024;
  options.versions = 8;  // a process sends what it has proposed when it has taken a fourth of them
  options.segment_bytes =
      (journal::MinSegmentBlocks(options.state_bytes) + 20) * journal::kBlockBytes;
  options.journal = files + "/journal-" + std::to_string(round);
  const std::string name = scratch + "/region-" + std::to_string(round);
  const pid_t child = fork();
  if (child == 0) {
    absl::StatusOr<Region> region = Region::OpenOrCreate(name, options);
    if (!region.ok()) Failed(region.status().ToString());
    absl::StatusOr<Participant> self = Participant::Join(*region);
    if (!self.ok()) Failed(self.status().ToString());
    if (round == 0) std::printf("backend: %s\n", region->mapping()->port()->backend().c_str());
    std::fflush(nullptr);
    for (int i = 0; i < 3; ++i) Commit(*self, 100);
    sync();  // nothing but the write is on the way
    disk.control().delay_ms = kDelay_ms;
    // Proposed without waiting: it goes through io_uring.
    for (std::uint32_t i = 0; i < options.versions / 4; ++i) Propose(*self, 10'000);
    for (;;) pause();
  }
  disk.Await([&] { return disk.control().delay_ms != 0 && disk.control().under_way != 0; },
             {child});
  const auto submitted = Clock::now();
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  const long reaped_ms = Milliseconds(submitted);
  const bool in_flight = disk.control().under_way != 0;
  disk.control().delay_ms = 0;
  if (!Region::Unlink(name).ok()) Failed("no region to remove");

  absl::StatusOr<Region> restored = Region::Restore(name, options);
  if (!restored.ok()) Failed(restored.status().ToString());
  const long restored_ms = Milliseconds(submitted);
  const bool still_in_flight = disk.control().under_way != 0;
  disk.Await([&] { return disk.control().under_way == 0; });
  const absl::StatusOr<std::vector<journal::SegmentFile>> segments =
      journal::ListSegments(options.journal);
  if (!segments.ok() || segments->size() != 2) Failed("not two segments");
  const journal::SegmentScan older = Scan((*segments)[0].path);
  const journal::SegmentScan newer = Scan((*segments)[1].path);
  std::printf(
      "round %d: killed, gone after %ld ms with its write %s; restored after %ld ms: epoch "
      "%llu; the old segment ends at %llu\n",
      round, reaped_ms, in_flight ? "under way" : "done", restored_ms,
      static_cast<unsigned long long>(restored->epoch()),
      static_cast<unsigned long long>(older.epoch));
  std::fflush(nullptr);
  const bool contradicts = older.epoch != newer.header.previous_last_epoch ||
                           older.end_block != newer.header.previous_end_block;
  if (still_in_flight) std::printf("the restore did not wait for the write\n");
  if (contradicts) std::printf("what landed late contradicts what was recovered\n");
  std::fflush(stdout);
  // Without io_uring a process cannot be gone before its write is.
  if (!in_flight) return kLacking;
  return still_in_flight || contradicts ? 1 : 0;
}

int Main(const std::string& slow_disk) {
  return Isolated([&](const std::string& scratch) {
    SlowDisk disk(slow_disk, scratch + "/disk", kDiskBytes);
    LoopDevice device = AttachLoop(disk.file(), /*direct=*/true);
    if (RunProgram("mkfs.ext4", {"-q", "-F", "-E", "nodiscard,lazy_itable_init=0", device.path}) !=
        0) {
      Lacking("mkfs.ext4");
    }
    const std::string files = scratch + "/files";
    if (!MountExt4(device, files)) Failed("the new file system cannot be mounted");
    int worst = kLacking;
    for (int round = 0; round < 3; ++round) {
      const int code = Round(disk, scratch, files, round);
      if (code == 1 || worst == kLacking) worst = code;
    }
    if (worst == 0) {
      Unmount(files);
      disk.Stop();
    }
    std::printf("fence: %s\n", worst == 0          ? "holds"
                               : worst == kLacking ? "no write outlived its process"
                                                   : "BROKEN");
    return worst;
  });
}

}  // namespace
}  // namespace epoch::images

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3) return 1;
  if (argc == 3) epoch::Plant(argv[2]);
  return epoch::images::Main(argv[1]);
}
