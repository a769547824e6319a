#include "tests/sim/engine.h"

#include <sys/mman.h>

#include <algorithm>
#include <boost/context/detail/fcontext.hpp>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

namespace epoch::sim {

namespace ctx = boost::context::detail;

Engine* Engine::active_ = nullptr;

namespace {

constexpr std::size_t kHistory = 6;  // stores kept per location

// Stacks are reused from run to run: a killed fiber's frames are simply forgotten.
std::byte* StackFor(int process) {
  static std::array<std::byte*, kMaxProcesses> stacks{};
  std::byte*& stack = stacks[static_cast<std::size_t>(process)];
  if (stack == nullptr) {
    void* memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    stack = static_cast<std::byte*>(memory);
  }
  return stack;
}

void Enter(ctx::transfer_t from) {
  // Set by SwitchTo just before the first jump into this fiber.
  auto* run = static_cast<std::function<void(ctx::transfer_t)>*>(from.data);
  (*run)(from);
  std::abort();  // a fiber never returns: it switches away for good
}

}  // namespace

Engine::Engine(const Settings& settings) : settings_(settings), random_(settings.seed) {
  // Some runs switch at almost every point, some rarely: both find bugs that the other misses.
  static constexpr std::uint64_t kRates[] = {2, 3, 5, 10, 30, 100};
  switch_one_in_ = kRates[random_.Below(6)];
  const auto place = [&](int count, std::vector<std::pair<std::uint64_t, int>>& at) {
    for (int i = 0; i < count; ++i) {
      at.emplace_back(
          1 + random_.Below(settings_.expected_steps),
          static_cast<int>(random_.Below(static_cast<std::uint64_t>(settings_.processes))));
    }
  };
  place(settings_.faults.crashes, crash_at_);
  place(settings_.faults.stops, stop_at_);
  active_ = this;
}

Engine::~Engine() { active_ = nullptr; }

void Engine::Share(void* base, std::size_t bytes) {
  base_ = static_cast<std::byte*>(base);
  bytes_ = bytes;
  index_.assign(bytes / 4, -1);
  locations_.clear();
  locations_.reserve(256);
}

void Engine::Violation(const std::string& what) {
  if (violation_.empty()) {
    violation_ =
        what + " (process " + std::to_string(current_) + ", step " + std::to_string(steps_) + ")";
  }
}

void Engine::Run(const Body& body) {
  body_ = &body;
  std::function<void(ctx::transfer_t)> enter = [this](ctx::transfer_t from) {
    // Whoever jumped here first is the main context or another fiber.
    if (previous_ < 0) {
      main_context_ = from.fctx;
    } else {
      processes_[static_cast<std::size_t>(previous_)].context = from.fctx;
    }
    (*body_)(current_);
    processes_[static_cast<std::size_t>(current_)].state = State::kEnded;
    LetAllGo(current_);
    SwitchAway();
  };
  entry_ = &enter;
  for (int i = 0; i < settings_.processes; ++i) {
    Process& process = processes_[static_cast<std::size_t>(i)];
    process.context = ctx::make_fcontext(StackFor(i) + kStackBytes, kStackBytes, Enter);
    process.clock[static_cast<std::size_t>(i)] = 1;
  }
  const int first = PickNext();
  if (first >= 0) SwitchTo(first);
}

void Engine::SwitchTo(int next) {
  if (next == current_) return;
  previous_ = current_;
  current_ = next;
  void* context = next < 0 ? main_context_ : processes_[static_cast<std::size_t>(next)].context;
  const ctx::transfer_t from = ctx::jump_fcontext(context, entry_);
  // Back here: someone else jumped; remember where it stands.
  if (previous_ < 0) {
    main_context_ = from.fctx;
  } else {
    processes_[static_cast<std::size_t>(previous_)].context = from.fctx;
  }
}

int Engine::PickNext() {
  for (;;) {
    int runnable[kMaxProcesses];
    int count = 0;
    std::int64_t earliest = INT64_MAX;
    bool stopped = false;
    for (int i = 0; i < settings_.processes; ++i) {
      Process& p = processes_[static_cast<std::size_t>(i)];
      if (p.state == State::kStopped && steps_ >= p.resume_step) p.state = State::kRunnable;
      if (p.state == State::kBlocked && now_ns_ >= p.wake_ns) p.state = State::kRunnable;
      if (p.state == State::kRunnable) runnable[count++] = i;
      if (p.state == State::kBlocked) earliest = std::min(earliest, p.wake_ns);
      stopped = stopped || p.state == State::kStopped;
    }
    if (count > 0) return runnable[random_.Below(static_cast<std::uint64_t>(count))];
    if (earliest != INT64_MAX) {
      now_ns_ = std::max(now_ns_, earliest);
      // Nobody else moves: a stopped process would be resumed some day.
      if (stopped && random_.OneIn(20)) steps_ += 100;
      continue;
    }
    if (!stopped) return -1;
    steps_ += 1000;
  }
}

void Engine::SwitchAway() { SwitchTo(PickNext()); }

void Engine::InjectFaults() {
  const auto due = [&](std::vector<std::pair<std::uint64_t, int>>& at) {
    for (std::size_t i = 0; i < at.size(); ++i) {
      if (at[i].first <= steps_ && at[i].second == current_) {
        at.erase(at.begin() + static_cast<std::ptrdiff_t>(i));
        return true;
      }
    }
    return false;
  };
  Process& self = processes_[static_cast<std::size_t>(current_)];
  if (!crash_at_.empty() && due(crash_at_)) {
    if (settings_.trace) std::fprintf(stderr, "%8lu p%d  KILLED\n", steps_, current_);
    self.state = State::kDead;
    if (settings_.faults.late_death && random_.OneIn(2)) {
      self.looks_alive_until = now_ns_ + static_cast<std::int64_t>(random_.Below(5'000'000));
    } else {
      LetAllGo(current_);
    }
    SwitchAway();  // for good
  }
  if (!stop_at_.empty() && due(stop_at_)) {
    if (settings_.trace) std::fprintf(stderr, "%8lu p%d  STOPPED\n", steps_, current_);
    self.state = State::kStopped;
    self.stopped_once = true;
    self.resume_step = steps_ + 200 + random_.Below(settings_.expected_steps * 2);
    SwitchAway();
    if (settings_.trace) std::fprintf(stderr, "%8lu p%d  RESUMED\n", steps_, current_);
  }
}

void Engine::Step() {
  if (current_ < 0) return;  // set-up and verdict run outside of the fibers
  ++steps_;
  now_ns_ += 20;
  if (steps_ > settings_.step_limit || violated()) {
    if (!violated()) Violation("no progress: step limit reached");
    // End the run here and now: no fiber is resumed.
    for (Process& p : processes_) p.state = State::kDead;
    SwitchTo(-1);
  }
  InjectFaults();
  if (random_.Below(switch_one_in_) == 0) {
    SwitchTo(PickNext());
  }
}

void Engine::Learn(Clock& clock, const Clock& other) {
  for (std::size_t i = 0; i < clock.size(); ++i) clock[i] = std::max(clock[i], other[i]);
}

Engine::Location* Engine::Find(const void* at, std::uint64_t in_memory) {
  const auto* p = static_cast<const std::byte*>(at);
  if (p < base_ || p >= base_ + bytes_) return nullptr;  // private to one process
  std::int32_t& index = index_[static_cast<std::size_t>(p - base_) / 4];
  if (index < 0) {
    index = static_cast<std::int32_t>(locations_.size());
    locations_.emplace_back();
    locations_.back().stores.push_back({in_memory, -1, 0, {}});
  }
  return &locations_[static_cast<std::size_t>(index)];
}

std::uint64_t Engine::Load(const void* at, std::uint64_t in_memory, std::memory_order order) {
  if (current_ < 0) return in_memory;
  Step();
  Location* location = Find(at, in_memory);
  // `in_memory` was read before the switch: private words are only written by this process.
  if (location == nullptr) return in_memory;
  const auto self = static_cast<std::size_t>(current_);
  Process& p = processes_[self];
  auto& stores = location->stores;
  const std::uint64_t newest = location->dropped + stores.size() - 1;
  std::uint64_t oldest = std::max(location->seen[self], location->dropped);
  for (std::uint64_t i = newest; i > oldest; --i) {
    const StoreRecord& s = stores[i - location->dropped];
    if (s.process >= 0 && s.stamp <= p.clock[static_cast<std::size_t>(s.process)]) {
      oldest = i;  // it happened before this load: nothing older may be read
      break;
    }
  }
  if (order == std::memory_order_seq_cst) oldest = std::max(oldest, location->last_seq_cst);
  std::uint64_t chosen = newest;
  if (oldest < newest && random_.OneIn(3)) chosen = oldest + random_.Below(newest - oldest + 1);
  const StoreRecord& s = stores[chosen - location->dropped];
  location->seen[self] = chosen;
  if (order != std::memory_order_relaxed) Learn(p.clock, s.released);
  if (settings_.trace) Trace(chosen == newest ? "load" : "load STALE", at, s.value);
  return s.value;
}

void Engine::Store(const void* at, std::uint64_t value, std::memory_order order) {
  if (current_ < 0) return;
  Location* location = Find(at, 0);
  if (location == nullptr) return;
  const auto self = static_cast<std::size_t>(current_);
  Process& p = processes_[self];
  ++p.clock[self];
  StoreRecord record{value, current_, p.clock[self], {}};
  if (order != std::memory_order_relaxed) record.released = p.clock;
  location->stores.push_back(record);
  if (location->stores.size() > kHistory) {
    location->stores.erase(location->stores.begin());
    ++location->dropped;
  }
  const std::uint64_t newest = location->dropped + location->stores.size() - 1;
  location->seen[self] = newest;
  if (order == std::memory_order_seq_cst) location->last_seq_cst = newest;
  if (settings_.trace) Trace("store", at, value);
}

void Engine::BeforeModify(const void* at, std::uint64_t in_memory) {
  if (current_ < 0) return;
  Location* location = Find(at, in_memory);
  if (location == nullptr) return;
  const auto self = static_cast<std::size_t>(current_);
  Learn(processes_[self].clock, location->stores.back().released);
  location->seen[self] = location->dropped + location->stores.size() - 1;
}

void Engine::AfterModify(const void* at, std::uint64_t value) {
  if (current_ < 0) return;
  Location* location = Find(at, value);
  if (location == nullptr) return;
  // A read-modify-write continues the release sequence of what it read.
  const Clock before = location->stores.back().released;
  Store(at, value, std::memory_order_seq_cst);
  Learn(location->stores.back().released, before);
}

void Engine::Point(const char* label) {
  if (current_ < 0) return;
  Step();
  if (settings_.trace) std::fprintf(stderr, "%8lu p%d  -- %s\n", steps_, current_, label);
}

std::int64_t Engine::Now() {
  Step();
  return now_ns_;
}

void Engine::Wait(const void* word, std::uint32_t, std::uint32_t expected, std::int64_t nanos) {
  if (current_ < 0) return;
  Step();
  Location* location = Find(word, expected);
  // The kernel reads the word itself, under its own lock: the newest value.
  if (location != nullptr && location->stores.back().value != expected) return;
  Process& p = processes_[static_cast<std::size_t>(current_)];
  p.state = State::kBlocked;
  p.waits_for = word;
  p.wake_ns = now_ns_ + nanos;
  SwitchAway();
}

void Engine::WakeAll(const void* word) {
  if (current_ < 0) return;
  Step();
  for (Process& p : processes_) {
    if (p.state != State::kBlocked || p.waits_for != word) continue;
    // A slow wake-up: the process is on its way, but not yet.
    p.wake_ns = random_.OneIn(4) ? std::min(p.wake_ns, now_ns_ + 50'000) : now_ns_;
  }
}

int Engine::LockByte(int fd, bool release, std::int64_t offset) {
  Step();
  const int process = current_ < 0 ? fd / 100 - 1 : current_;
  if (release) {
    LetGo(process, offset);
    return 0;
  }
  for (const auto& [byte, holder] : held_) {
    if (byte != offset) continue;
    if (holder == process) return 0;
    if (ByteHeldBy(holder)) return EAGAIN;
    LetGo(holder, byte);
    break;
  }
  std::erase_if(held_, [&](const auto& lock) { return lock.first == offset; });
  held_.emplace_back(offset, process);
  if (current_ >= 0) Learn(processes_[static_cast<std::size_t>(current_)].clock, let_go_[offset]);
  return 0;
}

void Engine::LetGo(int process, std::int64_t byte) {
  if (std::erase(held_, std::pair{byte, process}) == 0) return;
  Learn(let_go_[byte], processes_[static_cast<std::size_t>(process)].clock);
}

void Engine::LetAllGo(int process) {
  const auto locks = held_;
  for (const auto& [byte, holder] : locks) {
    if (holder == process) LetGo(process, byte);
  }
}

bool Engine::ByteHeldBy(int holder) {
  Process& p = processes_[static_cast<std::size_t>(holder)];
  return p.state != State::kDead || now_ns_ < p.looks_alive_until;
}

bool Engine::ByteHeld(int, std::int64_t offset) {
  Step();
  const auto locks = held_;
  for (const auto& [byte, holder] : locks) {
    if (byte != offset) continue;
    if (ByteHeldBy(holder)) return true;
    LetGo(holder, byte);  // its death is noticed now
  }
  if (current_ >= 0) Learn(processes_[static_cast<std::size_t>(current_)].clock, let_go_[offset]);
  return false;
}

void Engine::Trace(const char* what, const void* at, std::uint64_t value) {
  std::fprintf(stderr, "%8lu p%d  %-10s +%-6zd %016lx\n", steps_, current_, what,
               static_cast<const std::byte*>(at) - base_, value);
}

}  // namespace epoch::sim
