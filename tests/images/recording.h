// What a workload left: all that reached its disk, in order, and what was promised when.
#ifndef EPOCH_TESTS_IMAGES_RECORDING_H_
#define EPOCH_TESTS_IMAGES_RECORDING_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tests/images/disk.h"
#include "tests/images/tree.h"

namespace epoch::images {

inline constexpr const char* kRegion = "/dev/shm/epoch.images";
inline constexpr const char* kJournal = "/disk/journal";
inline constexpr const char* kSegmentSuffix = ".segment";

struct Version {
  std::uint64_t chain = 0;
  std::uint64_t token = 0;
  Bytes state;
};
// The accepted order of one incarnation, from epoch 0 on: what it started from, and what it added.
using Order = std::vector<Version>;

struct Setup {
  std::uint64_t state_bytes = 0;
  std::uint64_t segment_bytes = 0;
  bool latest = false;
  std::uint32_t retain_segments = 0;
  std::uint64_t retain_epochs = 0;
};

struct Recording {
  Setup setup;
  Tree before;  // stable when the power came
  Log log;
  std::vector<Order> incarnations;  // of this boot and those before it
  Acknowledged acknowledged_before{};
  Acknowledged acknowledged{};  // at the end
  std::string broken;           // not empty: a guarantee did not hold while it was played
};

// Plays processes that commit, die and restore. With `before`: in the next boot, on `stable`, which
// a power loss left of it.
Recording Play(std::uint64_t seed);
Recording PlayOn(std::uint64_t seed, const Recording& before, const Tree& stable,
                 const Acknowledged& acknowledged);

// What the code that ships makes of the tree that the active Disk has.
struct Recovered {
  bool ok = false;
  bool no_journal = false;  // NotFound: there is none
  bool reported = false;    // an error that says that acknowledged data is damaged, or unreadable
  std::string message;
  std::uint64_t epoch = 0;
  Version version;
};
Recovered Recover(const Setup& setup);
// Takes the region's name away, as a power loss would.
void ForgetRegion();

}  // namespace epoch::images

#endif  // EPOCH_TESTS_IMAGES_RECORDING_H_
