// Random choices of a stress run. Schedules are the kernel's: a seed repeats the choices only.
#ifndef EPOCH_TESTS_STRESS_RANDOM_H_
#define EPOCH_TESTS_STRESS_RANDOM_H_

#include <cstdint>
#include <random>

namespace epoch::stress {

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  std::uint64_t Next() { return engine_(); }
  std::uint64_t Below(std::uint64_t limit) { return engine_() % limit; }
  std::uint64_t Between(std::uint64_t low, std::uint64_t high) {
    return low + Below(high - low + 1);
  }
  bool OneIn(std::uint64_t n) { return Below(n) == 0; }

 private:
  std::mt19937_64 engine_;
};

}  // namespace epoch::stress

#endif  // EPOCH_TESTS_STRESS_RANDOM_H_
