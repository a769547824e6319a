// Where the decisions of a run come from: a seed, and for small cases a script that is played
// through to its end.
#ifndef EPOCH_TESTS_SIM_RANDOM_H_
#define EPOCH_TESTS_SIM_RANDOM_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace epoch::sim {

// xorshift64*: small, fast, and the same everywhere.
class Random {
 public:
  explicit Random(std::uint64_t seed)
      : state_(seed * 0x9E3779B97F4A7C15ull + 0xD1B54A32D192ED03ull) {
    if (state_ == 0) state_ = 1;
    for (int i = 0; i < 4; ++i) Next();
  }
  std::uint64_t Next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545F4914F6CDD1Dull;
  }
  std::uint64_t Below(std::uint64_t n) { return (Next() >> 33) % n; }
  bool OneIn(std::uint64_t n) { return Below(n) == 0; }

 private:
  std::uint64_t state_;
};

// All ways through a run, one after the other: each decision among n is a digit, and the digits
// count up from the last one.
class Script {
 public:
  std::uint64_t Decide(std::uint64_t n) {
    if (at_ == digits_.size()) digits_.push_back({0, n});
    return digits_[at_++].value;
  }
  // To the next way; false when there is none.
  bool Advance() {
    at_ = 0;
    while (!digits_.empty() && digits_.back().value + 1 >= digits_.back().ways) digits_.pop_back();
    if (digits_.empty()) return false;
    ++digits_.back().value;
    return true;
  }

 private:
  struct Digit {
    std::uint64_t value, ways;
  };
  std::vector<Digit> digits_;
  std::size_t at_ = 0;
};

}  // namespace epoch::sim

#endif  // EPOCH_TESTS_SIM_RANDOM_H_
