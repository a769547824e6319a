// Real processes that commit, are killed and restore, on an ext4 whose disk keeps a log.
#ifndef EPOCH_TESTS_IMAGES_EXT4_WORKLOAD_H_
#define EPOCH_TESTS_IMAGES_EXT4_WORKLOAD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "epoch/epoch.h"
#include "tests/images/tree.h"

namespace epoch::images {

inline constexpr std::uint64_t kDeviceBytes = std::uint64_t{24} << 20;

// A commit returned; the disk's log had `position` records then, or fewer.
struct Promise {
  std::uint64_t epoch;
  std::uint64_t position;
};

struct DeviceRecording {
  std::string log;  // path
  RegionOptions options;
  std::uint64_t begin = 0, end = 0;  // records between which images are of interest
  std::vector<Promise> promises;
  std::uint64_t kills = 0;
  std::uint64_t lives = 0;
};

// The state of an epoch: who commits it has no choice.
Bytes StateOf(std::uint64_t seed, std::uint64_t epoch);

// In `scratch`, within namespaces of its own. `journal` of the options is relative to the mount.
DeviceRecording PlayOnDevice(std::uint64_t seed, const std::string& slow_disk,
                             const std::string& scratch);

}  // namespace epoch::images

#endif  // EPOCH_TESTS_IMAGES_EXT4_WORKLOAD_H_
