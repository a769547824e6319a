// Typed state and containers inside a version.
#include "epoch/typed.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <array>
#include <boost/container/map.hpp>
#include <boost/container/string.hpp>
#include <boost/container/vector.hpp>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "epoch/container.h"
#include "epoch/epoch.h"
#include "support/region_test.h"

namespace epoch::test {
namespace {

struct Limits {
  double speed_m_s = 1.5;
  std::uint32_t retries = 3;
  std::uint32_t version = 1;
  bool operator==(const Limits&) const = default;
};
struct NoDefault {
  explicit NoDefault(int given) : value(given) {}
  int value;
};
struct alignas(128) Aligned {
  std::uint8_t bytes[128];
};
struct alignas(256) OverAligned {
  std::uint8_t bytes[256];
};

static_assert(Shareable<Limits> && Shareable<int> && Shareable<NoDefault> && Shareable<Aligned>);
static_assert(Shareable<std::array<double, 4>>);
static_assert(!Shareable<std::string> && !Shareable<std::vector<int>>);
static_assert(!Shareable<int*> && !Shareable<int&> && !Shareable<const int>);
static_assert(!Shareable<OverAligned>);
template <typename T>
concept TakesTemporaryPin = requires(Participant& p) {
  Value<T>(p.Pin());
};
static_assert(!TakesTemporaryPin<int>, "the result would point to what is no longer held");

using TypedTest = SmallRegionTest;

TEST_F(TypedTest, the_empty_state_of_a_new_region_is_not_a_value) {
  Participant self = Joined();
  const Pin pin = self.Pin();
  ASSERT_EQ(pin.epoch(), 0u);
  EXPECT_FAILS(Value<Limits>(pin), kNotFound, "epoch 0");
  const Pin none;
  EXPECT_FAILS(Value<Limits>(none), kFailedPrecondition, "empty");
}

TEST_F(TypedTest, a_committed_value_is_read_in_place) {
  Participant self = Joined();
  const Limits limits{.speed_m_s = 2.25, .retries = 9, .version = 7};
  const auto epoch = CommitValue(self, limits, {.expected = 0, .token = 5});
  ASSERT_OK(epoch);
  EXPECT_EQ(*epoch, 1u);
  const Pin pin = self.Pin();
  const auto value = Value<Limits>(pin);
  ASSERT_OK(value);
  EXPECT_EQ(**value, limits);
  EXPECT_EQ(static_cast<const void*>(*value), pin.state().data());
  EXPECT_FAILS(CommitValue(self, limits, {.expected = 0}), kAborted, "expected epoch 0");
}

TEST_F(TypedTest, a_value_of_another_size_is_refused_and_nothing_changes) {
  Participant self = Joined();
  ASSERT_OK(CommitValue(self, std::uint64_t{1}));
  const Pin pin = self.Pin();
  EXPECT_FAILS(Value<std::uint32_t>(pin), kFailedPrecondition, "8 bytes");
  int calls = 0;
  EXPECT_FAILS(UpdateValue<Limits>(self, [&](Limits&) { ++calls; }), kFailedPrecondition, "has 16");
  EXPECT_EQ(calls, 0);
  EXPECT_EQ(region().epoch(), 1u);
}

TEST_F(TypedTest, the_first_update_starts_from_the_default_value) {
  Participant self = Joined();
  ASSERT_OK(UpdateValue<Limits>(self, [](Limits& limits) {
    EXPECT_EQ(limits, Limits());
    limits.retries = 4;
  }));
  const Pin pin = self.Pin();
  EXPECT_EQ(**Value<Limits>(pin), (Limits{.retries = 4}));
}

TEST_F(TypedTest, without_a_default_value_the_first_update_finds_nothing) {
  Participant self = Joined();
  const auto twice = [](NoDefault& number) { number.value *= 2; };
  EXPECT_FAILS(UpdateValue<NoDefault>(self, twice), kNotFound, "no value");
  ASSERT_OK(CommitValue(self, NoDefault(21)));
  ASSERT_OK(UpdateValue<NoDefault>(self, twice));
  const Pin pin = self.Pin();
  EXPECT_EQ((*Value<NoDefault>(pin))->value, 42);
}

TEST_F(TypedTest, an_error_of_the_function_ends_the_update_with_nothing_changed) {
  Participant self = Joined();
  ASSERT_OK(CommitValue(self, 7));
  const auto refuse = [](int& value) {
    value = 8;
    return absl::InvalidArgumentError("eight is refused");
  };
  EXPECT_FAILS(UpdateValue<int>(self, refuse), kInvalidArgument, "eight is refused");
  EXPECT_EQ(region().epoch(), 1u);
  const Pin pin = self.Pin();
  EXPECT_EQ(**Value<int>(pin), 7);
}

TEST_F(TypedTest, updates_that_race_are_all_counted) {
  Participant self = Joined(), other = Joined("other");
  int calls = 0;
  ASSERT_OK(UpdateValue<int>(self, [&](int& value) {
    if (++calls == 1) {
      EXPECT_OK(UpdateValue<int>(other, [](int& v) { v += 10; }));
    }
    ++value;
  }));
  EXPECT_EQ(calls, 2) << "the first try lost to the other's";
  const Pin pin = self.Pin();
  EXPECT_EQ(**Value<int>(pin), 11);
}

TEST_F(TypedTest, a_value_larger_than_the_region_is_out_of_range) {
  Participant self = Joined();
  using Large = std::array<std::uint8_t, 257>;
  EXPECT_FAILS(CommitValue(self, Large{}), kOutOfRange, "257");
  EXPECT_FAILS(UpdateValue<Large>(self, [](Large&) {}), kOutOfRange, "257");
}

TEST_F(TypedTest, every_cell_is_aligned_for_the_most_aligned_type) {
  Participant self = Joined();
  for (std::uint32_t i = 0; i < 2 * kVersions; ++i) {
    ASSERT_OK(UpdateValue<Aligned>(self, [](Aligned& value) { ++value.bytes[0]; }));
    const Pin pin = self.Pin();
    const auto value = Value<Aligned>(pin);
    ASSERT_OK(value);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(*value) % alignof(Aligned), 0u);
    EXPECT_EQ((*value)->bytes[0], i + 1);
  }
}

using Text = boost::container::basic_string<char, std::char_traits<char>, ContainerAllocator<char>>;
using Numbers = boost::container::vector<int, ContainerAllocator<int>>;
using Words =
    boost::container::map<Text, int, std::less<>, ContainerAllocator<std::pair<const Text, int>>>;

class ContainerTest : public RegionTest {
 protected:
  void SetUp() override {
    RegionOptions options = Small();
    options.state_bytes = 16 * 1024 + 8;  // no multiple of Boost's alignment
    ASSERT_NO_FATAL_FAILURE(CreateRegion(options));
  }
  static void Put(Words& words, const std::string& word, int count) {
    words.insert_or_assign(Text(word.c_str(), words.get_allocator()), count);
  }
};

TEST_F(ContainerTest, the_empty_state_of_a_new_region_is_not_a_container) {
  Participant self = Joined();
  const Pin pin = self.Pin();
  EXPECT_FAILS(Container<Numbers>(pin), kNotFound, "epoch 0");
  const Pin none;
  EXPECT_FAILS(Container<Numbers>(none), kFailedPrecondition, "empty");
}

TEST_F(ContainerTest, an_update_starts_from_the_previous_container_at_any_address) {
  Participant self = Joined();
  for (int i = 0; i < 100; ++i) {
    ASSERT_OK(UpdateContainer<Numbers>(self, [&](Numbers& numbers) { numbers.push_back(i); }));
  }
  // Another mapping of the region: other addresses.
  const auto again = Region::Open(name());
  ASSERT_OK(again);
  auto reader = Participant::Join(*again, {.name = "reader"});
  ASSERT_OK(reader);
  const Pin pin = reader->Pin();
  const auto numbers = Container<Numbers>(pin);
  ASSERT_OK(numbers);
  ASSERT_EQ((*numbers)->size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ((**numbers)[static_cast<std::size_t>(i)], i);
}

TEST_F(ContainerTest, agrees_with_a_standard_map_through_random_changes) {
  Participant self = Joined();
  std::map<std::string, int> model;
  std::mt19937 random(17);
  for (int step = 0; step < 400; ++step) {
    // Long enough to be allocated on their own.
    const std::string word = "a word of some length " + std::to_string(random() % 60);
    const int count = static_cast<int>(random() % 1000);
    const bool erase = random() % 3 == 0;
    ASSERT_OK(UpdateContainer<Words>(self, [&](Words& words) {
      if (erase) {
        words.erase(Text(word.c_str(), words.get_allocator()));
      } else {
        Put(words, word, count);
      }
    }));
    if (erase) {
      model.erase(word);
    } else {
      model[word] = count;
    }
    const Pin pin = self.Pin();
    const auto words = Container<Words>(pin);
    ASSERT_OK(words);
    ASSERT_EQ((*words)->size(), model.size());
    auto expected = model.begin();
    for (const auto& [text, value] : **words) {
      EXPECT_EQ(text.c_str(), expected->first);
      EXPECT_EQ(value, (expected++)->second);
    }
  }
}

TEST_F(ContainerTest, reading_writes_nothing) {
  Participant self = Joined();
  ASSERT_OK(UpdateContainer<Words>(self, [](Words& words) {
    for (int i = 0; i < 50; ++i) Put(words, "a word of some length " + std::to_string(i), i);
  }));
  const auto snapshot = region().Read();
  ASSERT_OK(snapshot);
  // A write to these pages would be a SIGSEGV.
  constexpr std::size_t kBytes = 32 * 1024;
  void* const pages =
      mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(pages, MAP_FAILED);
  std::memcpy(pages, snapshot->state.data(), snapshot->state.size());
  ASSERT_EQ(mprotect(pages, kBytes, PROT_READ), 0);
  const auto words =
      ContainerIn<Words>({static_cast<const std::byte*>(pages), snapshot->state.size()});
  ASSERT_OK(words);
  int sum = 0;
  for (const auto& [text, value] : **words) sum += value;
  EXPECT_EQ(sum, 50 * 49 / 2);
  EXPECT_EQ((*words)->begin()->first, "a word of some length 0");
  munmap(pages, kBytes);
}

TEST_F(ContainerTest, the_state_is_as_long_as_the_memory_in_use) {
  Participant self = Joined();
  const auto size = [&] { return self.Pin().state().size(); };
  ASSERT_OK(UpdateContainer<Numbers>(self, [](Numbers& n) { n.resize(10); }));
  const std::size_t small = size();
  EXPECT_LT(small, 1024u);
  ASSERT_OK(UpdateContainer<Numbers>(self, [](Numbers& n) { n.resize(2000); }));
  EXPECT_GT(size(), 8000u);
  ASSERT_OK(UpdateContainer<Numbers>(self, [](Numbers& n) {
    n.resize(10);
    n.shrink_to_fit();
  }));
  EXPECT_LE(size(), small + 256);
}

TEST_F(ContainerTest, growing_past_the_region_is_out_of_range_and_changes_nothing) {
  Participant self = Joined();
  const auto push = [](Numbers& numbers) {
    numbers.insert(numbers.end(), 16, 1);
    numbers.shrink_to_fit();
  };
  // To the very brink, in small steps: each leaves a different rest of the segment.
  absl::StatusOr<Epoch> grown = Epoch{0};
  std::size_t size = 0;
  while ((grown = UpdateContainer<Numbers>(self, push)).ok()) {
    size += 16;
    const Pin pin = self.Pin();
    const auto numbers = Container<Numbers>(pin);
    ASSERT_OK(numbers);
    ASSERT_EQ((*numbers)->size(), size);
    ASSERT_LT(size, 16u * 1024);
  }
  EXPECT_FAILS(grown, kOutOfRange, "16392 bytes");
  EXPECT_GT(size, 1000u);
  EXPECT_EQ(region().epoch(), size / 16);
  const auto reserve = [](Numbers& numbers) { numbers.reserve(numbers.max_size() + 1); };
  EXPECT_FAILS(UpdateContainer<Numbers>(self, reserve), kOutOfRange, "does not fit");
  // Emptying makes room again.
  ASSERT_OK(UpdateContainer<Numbers>(self, [](Numbers& n) {
    n.clear();
    n.shrink_to_fit();
  }));
  ASSERT_OK(UpdateContainer<Numbers>(self, push));
}

TEST_F(ContainerTest, survives_every_rest_of_room_behind_the_memory_in_use) {
  Participant self = Joined();
  // From a size that does not fit downwards: the room left behind the memory in use takes every
  // multiple of 16 bytes, from none on.
  int fitted = 0;
  for (std::size_t bytes = 16 * 1024; fitted < 64; bytes -= 16) {
    const auto filled = UpdateContainer<Numbers>(self, [&](Numbers& numbers) {
      numbers.clear();
      numbers.shrink_to_fit();
      numbers.reserve(bytes / sizeof(int));
      numbers.push_back(fitted);
    });
    if (!filled.ok()) {
      EXPECT_FAILS(filled, kOutOfRange, "does not fit");
      ASSERT_EQ(fitted, 0) << bytes << " bytes do not fit, but more did";
      continue;
    }
    ++fitted;
    // The rest is joined to the segment again; the next round allocates from it.
    ASSERT_OK(
        UpdateContainer<Numbers>(self, [](Numbers& numbers) { numbers.push_back(numbers[0]); }));
    const Pin pin = self.Pin();
    const auto numbers = Container<Numbers>(pin);
    ASSERT_OK(numbers);
    EXPECT_THAT(**numbers, testing::ElementsAre(fitted - 1, fitted - 1));
  }
}

TEST_F(ContainerTest, an_error_or_exception_of_the_function_changes_nothing) {
  Participant self = Joined();
  ASSERT_OK(UpdateContainer<Numbers>(self, [](Numbers& n) { n.push_back(1); }));
  EXPECT_FAILS(UpdateContainer<Numbers>(self,
                                        [](Numbers& n) {
                                          n.clear();
                                          return absl::CancelledError("not today");
                                        }),
               kCancelled, "not today");
  const auto fail = [](Numbers& n) {
    n.clear();
    throw std::runtime_error("thrown");
  };
  EXPECT_THROW(static_cast<void>(UpdateContainer<Numbers>(self, fail)), std::runtime_error);
  EXPECT_EQ(region().epoch(), 1u);
  {
    const Pin pin = self.Pin();
    EXPECT_EQ((*Container<Numbers>(pin))->size(), 1u);
  }
  ExpectNothingLeaked(region(), 1);
}

TEST_F(ContainerTest, a_region_too_small_for_any_container_says_so) {
  RegionOptions options = Small();
  options.state_bytes = 96;
  ScratchName name;
  auto tiny = Region::Create(name.name(), options);
  ASSERT_OK(tiny);
  auto self = Participant::Join(*tiny, {.name = "tester"});
  ASSERT_OK(self);
  EXPECT_FAILS(UpdateContainer<Numbers>(*self, [](Numbers&) {}), kOutOfRange, "96 bytes");
}

TEST_F(ContainerTest, foreign_and_damaged_headers_are_refused) {
  Participant self = Joined();
  ASSERT_OK(UpdateContainer<Numbers>(self, [](Numbers& n) { n.resize(100); }));
  const Snapshot good = *region().Read();
  ASSERT_OK(ContainerIn<Numbers>(good.state));
  EXPECT_FAILS(ContainerIn<Words>(good.state), kFailedPrecondition, "something else");
  EXPECT_FAILS(ContainerIn<Numbers>(std::span(good.state).first(40)), kFailedPrecondition,
               "not a container");
  EXPECT_FAILS(ContainerIn<Numbers>(std::span(good.state).first(good.state.size() - 16)), kDataLoss,
               "length");
  EXPECT_FAILS(ContainerIn<Numbers>(std::span(good.state).subspan(8)), kInvalidArgument, "aligned");
  // Every bit of the header that is in use, and Boost's own idea of the size.
  using Header = detail::ContainerHeader;
  for (std::size_t at = 0; at < offsetof(Header, reserved); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::vector<std::byte> bad = good.state;
      bad[at] ^= std::byte{1} << bit;
      const auto opened = ContainerIn<Numbers>(bad);
      // A flipped root offset may still lie inside: the header has no checksum of its own.
      const bool may_pass = at / 8 == offsetof(Header, root_offset) / 8;
      EXPECT_TRUE(!opened.ok() || may_pass) << "byte " << at << " bit " << bit;
    }
  }
  ASSERT_OK(self.Commit("text"));
  const Pin pin = self.Pin();
  EXPECT_FAILS(Container<Numbers>(pin), kFailedPrecondition, "not a container");
  EXPECT_FAILS(UpdateContainer<Numbers>(self, [](Numbers&) {}), kFailedPrecondition,
               "not a container");
  EXPECT_EQ(region().epoch(), 2u);
}

}  // namespace
}  // namespace epoch::test
