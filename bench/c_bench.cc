// What the border costs: a pin through epoch/c.h beside one in C++, in turns. Prints medians.
//
// Both are inlined. The functions of the library (as a binding calls them) fill and empty a struct
// of the caller's; how much of what they cost is that, says the third column: a C++ pin behind two
// such calls.
#include <cstdio>
#include <vector>

#include "bench/support.h"
#include "epoch/c.h"
#include "epoch/epoch.h"

namespace epoch::bench {
namespace {

struct BehindACall {
  Participant* self;
  Pin pin;
  Epoch epoch;
  const void* data;
  std::size_t size;
};
[[gnu::noinline]] int Take(Participant* self, BehindACall* to, void** error) {
  to->pin = self->Pin();
  if (!to->pin.ok()) return 1;
  to->self = self;
  to->epoch = to->pin.epoch();
  to->data = to->pin.state().data();
  to->size = to->pin.state().size();
  if (error != nullptr) *error = nullptr;
  return 0;
}
[[gnu::noinline]] int Give(BehindACall* from) {
  from->pin.Release();
  from->self = nullptr;
  from->data = nullptr;
  from->size = 0;
  return 0;
}

template <typename T>
void Keep(const T& value) {
  asm volatile("" : : "r,m"(value) : "memory");
}
// Reads all of it, eight bytes at a time.
std::uint64_t Sum(const void* data, std::size_t size) {
  std::uint64_t sum = 0;
  for (std::size_t at = 0; at + 8 <= size; at += 8) {
    sum += *reinterpret_cast<const std::uint64_t*>(static_cast<const char*>(data) + at);
  }
  return sum;
}

// `read`: all of it, or only its epoch, as the compiler knows.
template <bool read>
void Compare(std::size_t bytes) {
  constexpr int kBurst = 2'000, kTurns = 301;
  const std::string name = "bench-" + std::to_string(getpid());
  Region region = Require(Region::Create(name, {.state_bytes = 1 << 20, .versions = 8}));
  Participant cpp = Require(Participant::Join(region));
  epoch_region* c_region = nullptr;
  epoch_participant* c = nullptr;
  if (epoch_region_open(name.c_str(), nullptr, &c_region, nullptr) != EPOCH_OK ||
      epoch_participant_join(c_region, nullptr, &c, nullptr) != EPOCH_OK) {
    std::abort();
  }
  Require(cpp.Commit(std::string(bytes, 'x')));
  std::vector<double> in_cpp, behind, in_c, calls, of_cpp, of_behind;
  BehindACall held{};
  for (int turn = 0; turn < kTurns; ++turn) {
    in_cpp.push_back(Burst(kBurst, [&] {
      const Pin pin = cpp.Pin();
      Keep(read ? Sum(pin.state().data(), pin.state().size()) : pin.epoch());
    }));
    behind.push_back(Burst(kBurst, [&] {
      if (Take(&cpp, &held, nullptr) != 0) std::abort();
      Keep(read ? Sum(held.data, held.size) : held.epoch);
      Give(&held);
    }));
    // The handle by value, as a program has it in a variable: where to find it is no part of a pin.
    in_c.push_back(Burst(kBurst, [&, c] {
      epoch_pin pin;
      if (epoch_participant_pin(c, &pin, nullptr) != EPOCH_OK) std::abort();
      Keep(read ? Sum(pin.data, pin.size) : pin.epoch);
      epoch_pin_release(&pin);
    }));
    calls.push_back(Burst(kBurst, [&, c] {
      epoch_pin pin;
      if ((epoch_participant_pin)(c, &pin, nullptr) != EPOCH_OK) std::abort();
      Keep(read ? Sum(pin.data, pin.size) : pin.epoch);
      (epoch_pin_release)(&pin);
    }));
    of_cpp.push_back(in_c.back() / in_cpp.back());
    of_behind.push_back(calls.back() / behind.back());
  }
  std::printf(
      "%-8s %7zu B   C++ %9.1f ns   C %9.1f ns: %.2f   by calls: C++ %9.1f ns   C %9.1f ns: "
      "%.2f\n",
      read ? "read" : "pin", read ? bytes : 0, Median(in_cpp), Median(in_c), Median(of_cpp),
      Median(behind), Median(calls), Median(of_behind));
  epoch_participant_free(c);
  epoch_region_free(c_region);
  Region::Unlink(name).IgnoreError();
}

}  // namespace
}  // namespace epoch::bench

int main() {
  epoch::bench::Compare<false>(64);
  for (const std::size_t bytes : {64, 1024, 4096, 65536}) epoch::bench::Compare<true>(bytes);
}
