// A program that knows Epoch's headers only: makes one commit, says how it went.
#include <cstdio>

#include "epoch/epoch.h"
#include "support/checked_state.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  absl::StatusOr<epoch::Region> region = epoch::Region::Open(argv[1]);
  if (!region.ok()) return std::printf("%s\n", region.status().ToString().c_str()), 0;
  absl::StatusOr<epoch::Participant> self = epoch::Participant::Join(*region);
  if (!self.ok()) return std::printf("%s\n", self.status().ToString().c_str()), 0;
  const absl::StatusOr<epoch::Epoch> made = epoch::test::Increment(*self);
  if (!made.ok()) return std::printf("%s\n", made.status().ToString().c_str()), 0;
  std::printf("committed %llu\n", static_cast<unsigned long long>(*made));
  return 0;
}
