// All images of one seed: boot after boot, cut after cut.
#ifndef EPOCH_TESTS_IMAGES_CHECKER_H_
#define EPOCH_TESTS_IMAGES_CHECKER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace epoch::images {

// Ways in which an image is damaged.
enum DamageKind {
  kFlippedBit,
  kFlippedBits,
  kZeroSector,
  kZeroBlock,
  kZeroBlocks,
  kOtherHistory,
  kSwappedBlocks,
  kForeignSector,
  kNewestGone,
  kDamageKinds
};
const char* NameOf(DamageKind kind);

struct Tally {
  std::uint64_t images = 0;
  std::uint64_t lost = 0;
  std::uint64_t torn = 0;
  std::uint64_t undetected = 0;
  std::uint64_t damaged = 0;   // images with damage
  std::uint64_t reported = 0;  // of which recovery said so
  std::uint64_t cuts = 0;
  std::uint64_t boots = 0;
  std::uint64_t epochs = 0;    // acknowledged
  std::uint64_t segments = 0;  // made: created, rolled, restored
  std::array<std::uint64_t, kDamageKinds> undetected_by{};
  std::vector<std::uint64_t*> Words() {
    std::vector<std::uint64_t*> words{&images,   &lost, &torn,  &undetected, &damaged,
                                      &reported, &cuts, &boots, &epochs,     &segments};
    for (std::uint64_t& count : undetected_by) words.push_back(&count);
    return words;
  }
  void Add(Tally other) {
    const std::vector<std::uint64_t*> mine = Words(), theirs = other.Words();
    for (std::size_t i = 0; i < mine.size(); ++i) *mine[i] += *theirs[i];
  }
};

// `per_cut`: about how many images of a cut at which much is loose. `first`: what went wrong first.
Tally CheckSeed(std::uint64_t seed, std::uint64_t per_cut, std::string& first);

}  // namespace epoch::images

#endif  // EPOCH_TESTS_IMAGES_CHECKER_H_
