// Without memory a call of the C interface is an error, wherever in it the memory is missing, and
// its handles are whole afterwards: each call is made again and again, and each time one allocation
// later fails, and in a second round all behind it, too.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <new>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "epoch/c.h"
#include "epoch/journal.h"
#include "support/region_test.h"
#include "support/scratch.h"

namespace epoch::test {
namespace {

// Of this thread: so many allocations still succeed. Negative: all do.
thread_local long memory_left = -1;
thread_local bool memory_stays_away = false;
thread_local bool memory_was_missed = false;
// Threads that are not the test's have none.
std::atomic<bool> no_memory_elsewhere{false};
std::atomic<int> missed_elsewhere{0};
thread_local bool is_the_tests = false;

bool MayAllocate() {
  if (!is_the_tests && no_memory_elsewhere.load(std::memory_order_relaxed)) {
    missed_elsewhere.fetch_add(1);
    return false;
  }
  if (memory_left < 0) return true;
  if (memory_left > 0) {
    --memory_left;
    return true;
  }
  memory_was_missed = true;
  if (!memory_stays_away) memory_left = -1;
  return false;
}

void* Allocate(std::size_t size, std::size_t alignment) {
  if (!MayAllocate()) throw std::bad_alloc();
  void* const memory =
      alignment <= alignof(std::max_align_t)
          ? std::malloc(size == 0 ? 1 : size)
          : std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace
}  // namespace epoch::test

// Of the whole program: all that a sanitizer has of its own, too.
void* operator new(std::size_t size) { return epoch::test::Allocate(size, 0); }
void* operator new[](std::size_t size) { return epoch::test::Allocate(size, 0); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return epoch::test::Allocate(size, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t size, std::align_val_t alignment) {
  return epoch::test::Allocate(size, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return epoch::test::MayAllocate() ? std::malloc(size == 0 ? 1 : size) : nullptr;
}
void* operator new[](std::size_t size, const std::nothrow_t& none) noexcept {
  return operator new(size, none);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace epoch::test {
namespace {

class COutOfMemory : public testing::Test {
 protected:
  void SetUp() override { is_the_tests = true; }
  void TearDown() override {
    memory_left = -1;
    no_memory_elsewhere.store(false);
    epoch_region_free(region_);
  }
  void Create(bool durable) {
    epoch_region_options options{};
    options.struct_size = sizeof options;
    options.state_bytes = 512;
    options.participants = 8;
    options.versions = durable ? 32 : 8;
    const std::string journal = directory_ / "journal";
    if (durable) options.journal = journal.c_str();
    ASSERT_EQ(epoch_region_create(name_.name().c_str(), &options, &region_, nullptr), EPOCH_OK);
    is_durable_ = durable;
  }
  epoch_participant* Join(bool voter = false) {
    epoch_join_options options{};
    options.struct_size = sizeof options;
    options.name = "a participant whose name is longer than what fits into a string";
    const std::string name(options.name, 60);
    options.name = name.c_str();
    options.voter = voter ? 1 : 0;
    epoch_participant* self = nullptr;
    EXPECT_EQ(epoch_participant_join(region_, &options, &self, nullptr), EPOCH_OK);
    return self;
  }
  std::uint64_t Tail() const {
    return detail::StateWord::Unpack(
               Region::Open(name_.name())->mapping()->view().control->tail.Load())
        .epoch;
  }

  using Work = std::function<epoch_code(epoch_participant*, epoch_error**)>;
  // Makes the call, each time with a participant of its own, until it misses nothing any more.
  void MakeIt(const char* what, const Work& work, bool voter = false) {
    for (const bool stays_away : {false, true}) {
      for (long after = 0;; ++after) {
        ASSERT_LT(after, 20'000) << what;
        epoch_participant* const self = Join(voter);
        ASSERT_NE(self, nullptr) << what << ", allocation " << after;
        const std::uint64_t before = Tail();
        epoch_error* error = nullptr;
        memory_was_missed = false;
        memory_stays_away = stays_away;
        memory_left = after;
        const epoch_code code = work(self, &error);
        memory_left = -1;
        EXPECT_EQ(code, epoch_error_code(error)) << what << ", allocation " << after;
        if (code != EPOCH_OK && epoch_error_outcome(error) == EPOCH_OUTCOME_UNCHANGED) {
          EXPECT_EQ(Tail(), before)
              << what << ", allocation " << after << ": " << epoch_error_message(error);
        }
        epoch_error_free(error);
        if (!memory_was_missed) {
          EXPECT_EQ(code, EPOCH_OK) << what;
        }
        // Nothing is left of it: it may leave, and come back, and work.
        EXPECT_EQ(epoch_participant_leave(self, &error), EPOCH_OK)
            << what << ", allocation " << after << ": " << epoch_error_message(error);
        EXPECT_EQ(epoch_participant_rejoin(self, nullptr), EPOCH_OK) << what;
        EXPECT_EQ(epoch_participant_commit(self, "whole", 5, nullptr, nullptr, &error), EPOCH_OK)
            << what << ", allocation " << after << ": " << epoch_error_message(error);
        epoch_participant_free(self);
        if (HasFailure() || !memory_was_missed) break;
      }
      if (HasFailure()) return;
    }
    ExpectNothingLeaked(Region::Open(name_.name()).value(), living_);
  }

  ScratchName name_;
  ScratchDirectory directory_;
  epoch_region* region_ = nullptr;
  bool is_durable_ = false;
  std::uint32_t living_ = 0;
};

int Next(void*, const epoch_current* current, epoch_draft* next) {
  return epoch_draft_assign(next, current->data, current->size, nullptr);
}
int Same(void*, const epoch_current*, epoch_draft*) { return EPOCH_NO_CHANGE; }

epoch_commit_options Voted(bool fence) {
  epoch_commit_options options{};
  options.struct_size = sizeof options;
  options.agreement = EPOCH_AGREE_ALL_VOTERS;
  options.min_voters = EPOCH_NO_VOTERS;
  options.fence = fence ? 1 : 0;
  return options;
}

class CTransitionsOutOfMemory : public COutOfMemory, public testing::WithParamInterface<bool> {};

TEST_P(CTransitionsOutOfMemory, are_errors_and_their_participant_goes_on) {
  Create(GetParam());
  MakeIt("commit", [](epoch_participant* self, epoch_error** error) {
    return epoch_participant_commit(self, "x", 1, nullptr, nullptr, error);
  });
  MakeIt("commit that is refused", [](epoch_participant* self, epoch_error** error) {
    epoch_commit_options options{};
    options.struct_size = sizeof options;
    options.has_expected = 1;
    options.expected = 1 << 20;
    const epoch_code code = epoch_participant_commit(self, "x", 1, &options, nullptr, error);
    if (code != EPOCH_ABORTED) return code;
    epoch_error_free(*error);
    *error = nullptr;
    return EPOCH_OK;
  });
  MakeIt("commit with a vote", [](epoch_participant* self, epoch_error** error) {
    const epoch_commit_options options = Voted(false);
    return epoch_participant_commit(self, "x", 1, &options, nullptr, error);
  });
  MakeIt("commit with a fence", [](epoch_participant* self, epoch_error** error) {
    const epoch_commit_options options = Voted(true);
    return epoch_participant_commit(self, "x", 1, &options, nullptr, error);
  });
  MakeIt("update", [](epoch_participant* self, epoch_error** error) {
    return epoch_participant_update(self, Next, nullptr, nullptr, nullptr, error);
  });
  MakeIt("update with a vote", [](epoch_participant* self, epoch_error** error) {
    const epoch_commit_options options = Voted(true);
    return epoch_participant_update(self, Next, nullptr, &options, nullptr, error);
  });
  MakeIt("update that changes nothing", [](epoch_participant* self, epoch_error** error) {
    return epoch_participant_update(self, Same, nullptr, nullptr, nullptr, error);
  });
  MakeIt("propose and await", [](epoch_participant* self, epoch_error** error) {
    std::uint64_t ticket = 0;
    const epoch_code code =
        epoch_participant_propose_update(self, Next, nullptr, nullptr, &ticket, error);
    return code != EPOCH_OK ? code
                            : epoch_participant_await_ticket(self, ticket, nullptr, nullptr, error);
  });
  MakeIt("draft and commit", [](epoch_participant* self, epoch_error** error) {
    epoch_draft* draft = nullptr;
    epoch_code code = epoch_participant_draft(self, 1, nullptr, &draft, error);
    if (code == EPOCH_OK) code = epoch_draft_assign(draft, "x", 1, error);
    if (code == EPOCH_OK) {
      code = epoch_participant_commit_draft(self, draft, nullptr, nullptr, error);
    }
    epoch_draft_free(draft);
    return code;
  });
  MakeIt(
      "collective commit",
      [tag = std::uint64_t{0}](epoch_participant* self, epoch_error** error) mutable {
        return epoch_participant_commit_collective(self, ++tag, "x", 1, nullptr, nullptr, error);
      },
      /*voter=*/true);
}
INSTANTIATE_TEST_SUITE_P(Regions, CTransitionsOutOfMemory, testing::Bool(),
                         [](const auto& each) { return each.param ? "durable" : "volatile"; });

TEST_F(COutOfMemory, a_draft_that_is_freed_without_memory_is_free) {
  Create(false);
  MakeIt("draft", [](epoch_participant* self, epoch_error** error) {
    epoch_draft* draft = nullptr;
    const epoch_code code = epoch_participant_draft(self, 1, nullptr, &draft, error);
    memory_left = 0;
    memory_stays_away = true;
    epoch_draft_free(draft);
    return code;
  });
}

TEST_F(COutOfMemory, calls_of_a_participant_are_errors_and_it_goes_on) {
  Create(false);
  epoch_participant* const other = Join();
  living_ = 1;
  const auto pins = [&](epoch_participant* self, epoch_error** error) {
    epoch_pin first{}, second{};
    epoch_code code = epoch_participant_pin(self, &first, error);
    if (code == EPOCH_OK) code = epoch_participant_pin(self, &second, error);
    epoch_pin_release(&first);
    epoch_pin_release(&second);
    return code;
  };
  MakeIt("pin", pins);
  MakeIt("listen", [](epoch_participant* self, epoch_error** error) {
    epoch_listener* listener = nullptr;
    const epoch_code code = epoch_participant_listen(self, &listener, error);
    memory_left = -1;
    epoch_listener_free(listener);
    return code;
  });
  MakeIt("set_validator", [](epoch_participant* self, epoch_error** error) {
    return epoch_participant_set_validator(
        self, [](void*, const epoch_proposal*, char*, std::size_t) -> int { return 1; }, nullptr,
        error);
  });
  MakeIt("poll, acknowledge, park, await", [&](epoch_participant* self, epoch_error** error) {
    epoch_code code = epoch_participant_poll(self, nullptr, error);
    if (code == EPOCH_OK) code = epoch_participant_acknowledge(self, 0, error);
    if (code == EPOCH_OK) code = epoch_participant_park(self, error);
    if (code == EPOCH_OK) {
      epoch_wait_options at_once{};
      at_once.struct_size = sizeof at_once;
      at_once.timeout_ns = EPOCH_NO_WAIT;
      code = epoch_participant_await(self, UINT32_MAX, EPOCH_STAGE_COMMITTED, &at_once, nullptr,
                                     error);
      if (code == EPOCH_DEADLINE_EXCEEDED) {
        epoch_error_free(*error);
        *error = nullptr;
        code = EPOCH_OK;
      }
    }
    return code;
  });
  MakeIt("leave and rejoin", [](epoch_participant* self, epoch_error** error) {
    const epoch_code code = epoch_participant_leave(self, error);
    return code != EPOCH_OK ? code : epoch_participant_rejoin(self, error);
  });
  MakeIt("misuse", [&](epoch_participant* self, epoch_error** error) {
    epoch_pin pin;
    epoch_code code = epoch_participant_pin(self, &pin, error);
    if (code != EPOCH_OK) return code;
    code = epoch_participant_leave(self, error);
    epoch_pin_release(&pin);
    if (code == EPOCH_RESOURCE_EXHAUSTED) return code;
    EXPECT_EQ(code, EPOCH_FAILED_PRECONDITION);
    epoch_error_free(*error);
    *error = nullptr;
    return EPOCH_OK;
  });
  epoch_participant_free(other);
}

TEST_F(COutOfMemory, a_join_or_a_region_that_does_not_come_to_be_leaves_nothing) {
  Create(false);
  MakeIt("join", [&](epoch_participant*, epoch_error** error) {
    epoch_participant* made = nullptr;
    const epoch_code code = epoch_participant_join(region_, nullptr, &made, error);
    EXPECT_EQ(made != nullptr, code == EPOCH_OK);
    memory_left = -1;
    epoch_participant_free(made);
    return code;
  });
  MakeIt("open, read, stragglers", [&](epoch_participant*, epoch_error** error) {
    epoch_region* region = nullptr;
    epoch_snapshot* snapshot = nullptr;
    epoch_stragglers* stragglers = nullptr;
    epoch_code code = epoch_region_open(name_.name().c_str(), nullptr, &region, error);
    if (code == EPOCH_OK) code = epoch_region_read(region, &snapshot, error);
    if (code == EPOCH_OK) code = epoch_region_stragglers(region, 1, &stragglers, error);
    epoch_stragglers_free(stragglers);
    epoch_snapshot_free(snapshot);
    epoch_region_free(region);
    return code;
  });
}

// A refusal that nobody has made, or the end of the process, is not what a listener without memory
// comes to. Its name is longer than what a string holds by itself, so it needs some to ask.
TEST_F(COutOfMemory, a_listener_is_late_and_votes_when_there_is_memory_again) {
  Create(false);
  epoch_participant* const voter = Join(/*voter=*/true);
  epoch_participant* const self = Join();
  epoch_listener* listener = nullptr;
  ASSERT_EQ(epoch_participant_set_validator(
                voter,
                [](void*, const epoch_proposal* proposal, char*, std::size_t) -> int {
                  return std::string_view(proposal->proposer).size() == 60 ? EPOCH_ANSWER_ACCEPT
                                                                           : EPOCH_ANSWER_REJECT;
                },
                nullptr, nullptr),
            EPOCH_OK);
  ASSERT_EQ(epoch_participant_listen(voter, &listener, nullptr), EPOCH_OK);
  epoch_commit_options options = Voted(false);
  options.min_voters = 1;
  options.interrupted = [](void*) -> int {
    if (missed_elsewhere.load() > 0) no_memory_elsewhere.store(false);
    return 0;
  };
  missed_elsewhere.store(0);
  no_memory_elsewhere.store(true);
  epoch_error* error = nullptr;
  EXPECT_EQ(epoch_participant_commit(self, "x", 1, &options, nullptr, &error), EPOCH_OK)
      << epoch_error_message(error);
  no_memory_elsewhere.store(false);
  EXPECT_GT(missed_elsewhere.load(), 0);
  epoch_listener_free(listener);
  epoch_participant_free(voter);
  epoch_participant_free(self);
  ExpectNothingLeaked(Region::Open(name_.name()).value(), 0);
}

// A reader that had no memory for an epoch gives it out the next time.
TEST_F(COutOfMemory, a_reader_of_old_epochs_skips_none) {
  Create(true);
  epoch_participant* const self = Join();
  for (int i = 0; i < 12; ++i) {
    const std::string text(static_cast<std::size_t>(i) * 20, 'x');
    ASSERT_EQ(epoch_participant_commit(self, text.data(), text.size(), nullptr, nullptr, nullptr),
              EPOCH_OK);
  }
  epoch_history* history = nullptr;
  ASSERT_EQ(epoch_region_history(region_, &history, nullptr), EPOCH_OK);
  for (const bool stays_away : {false, true}) {
    bool missed = true;
    for (long after = 0; missed; ++after) {
      missed = false;
      epoch_history_reader* reader = nullptr;
      ASSERT_EQ(epoch_history_read(history, 1, 0, &reader, nullptr), EPOCH_OK);
      std::vector<std::uint64_t> epochs;
      for (;;) {
        epoch_snapshot* snapshot = nullptr;
        memory_was_missed = false;
        memory_stays_away = stays_away;
        memory_left = after;
        const epoch_code code = epoch_history_reader_next(reader, &snapshot, nullptr);
        memory_left = -1;
        missed = missed || memory_was_missed;
        if (code == EPOCH_OK && snapshot == nullptr) break;
        if (code != EPOCH_OK) {
          ASSERT_EQ(code, EPOCH_RESOURCE_EXHAUSTED);
          ASSERT_EQ(epoch_history_reader_next(reader, &snapshot, nullptr), EPOCH_OK);
          if (snapshot == nullptr) break;
        }
        epoch_snapshot_info info{};
        info.struct_size = sizeof info;
        ASSERT_EQ(epoch_snapshot_get_info(snapshot, &info, nullptr), EPOCH_OK);
        epochs.push_back(info.epoch);
        EXPECT_EQ(info.size, (info.epoch - 1) * 20);
        epoch_snapshot_free(snapshot);
      }
      epoch_history_reader_free(reader);
      ASSERT_THAT(epochs, testing::ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12))
          << "allocation " << after;
    }
  }
  epoch_history_free(history);
  epoch_participant_free(self);
}

void WriteShard(const char* folder) {
  const int at = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
  const int file = openat(at, "shard", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  EXPECT_EQ(write(file, "x", 1), 1);
  close(file);
  close(at);
}

// Ranks write files: not at each allocation, but at more and more distant ones.
TEST_F(COutOfMemory, a_rank_ends_in_errors_and_another_takes_its_place) {
  for (const bool stays_away : {false, true}) {
    bool missed = true;
    std::uint64_t step = 1;
    for (long after = 0; missed; after += 1 + after / 4) {
      const std::string directory = directory_ / (stays_away ? "always" : "once");
      epoch_rank* rank = nullptr;
      epoch_step* attempt = nullptr;
      memory_was_missed = false;
      memory_stays_away = stays_away;
      memory_left = after;
      epoch_error* error = nullptr;
      epoch_code code = epoch_rank_join(directory.c_str(), nullptr, &rank, &error);
      if (code == EPOCH_OK) code = epoch_rank_begin(rank, ++step, nullptr, &attempt, &error);
      const char* folder = nullptr;
      if (code == EPOCH_OK) code = epoch_step_directory(attempt, &folder, &error);
      if (code == EPOCH_OK) WriteShard(folder);
      if (code == EPOCH_OK) code = epoch_step_ready_all(attempt, &error);
      if (code == EPOCH_OK) code = epoch_step_commit(attempt, nullptr, nullptr, &error);
      epoch_step_free(attempt);
      epoch_rank_free(rank);
      memory_left = -1;
      missed = memory_was_missed;
      EXPECT_TRUE(missed || code == EPOCH_OK) << epoch_error_message(error);
      epoch_error_free(error);
      if (HasFailure()) return;
    }
    epoch_checkpoint* checkpoint = nullptr;
    EXPECT_EQ(epoch_checkpoint_open_latest((directory_ / (stays_away ? "always" : "once")).c_str(),
                                           &checkpoint, nullptr),
              EPOCH_OK);
    epoch_checkpoint_free(checkpoint);
  }
}

}  // namespace
}  // namespace epoch::test
