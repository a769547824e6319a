// All images of one seed: boot after boot, cut after cut.
#ifndef EPOCH_TESTS_IMAGES_CHECKER_H_
#define EPOCH_TESTS_IMAGES_CHECKER_H_

#include <cstdint>
#include <string>

namespace epoch::images {

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
  void Add(const Tally& other) {
    images += other.images;
    lost += other.lost;
    torn += other.torn;
    undetected += other.undetected;
    damaged += other.damaged;
    reported += other.reported;
    cuts += other.cuts;
    boots += other.boots;
    epochs += other.epochs;
    segments += other.segments;
  }
};

// `per_cut`: about how many images of a cut at which much is loose. `first`: what went wrong first.
Tally CheckSeed(std::uint64_t seed, std::uint64_t per_cut, std::string& first);

}  // namespace epoch::images

#endif  // EPOCH_TESTS_IMAGES_CHECKER_H_
