#include "tests/sim/engine.h"

#include <sys/mman.h>

#include <algorithm>
#include <boost/context/detail/fcontext.hpp>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace epoch::sim {

namespace ctx = boost::context::detail;

Engine* Engine::active_ = nullptr;

namespace {

// Stacks are reused from run to run: a killed fiber's frames are simply forgotten.
std::byte* StackFor(int thread) {
  static std::array<std::byte*, kMaxThreads> stacks{};
  std::byte*& stack = stacks[static_cast<std::size_t>(thread)];
  if (stack == nullptr) {
    void* memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    stack = static_cast<std::byte*>(memory);
  }
  return stack;
}

constexpr std::int64_t kPoint_ns = 20;

void Enter(ctx::transfer_t from) {
  // Set by SwitchTo just before the first jump into this fiber.
  auto* run = static_cast<std::function<void(ctx::transfer_t)>*>(from.data);
  (*run)(from);
  std::abort();  // a fiber never returns: it switches away for good
}

}  // namespace

Engine::Engine(const Settings& settings, Memory& memory)
    : settings_(settings), memory_(memory), random_(settings.schedule), faults_(settings.faults) {
  // Some runs switch at almost every point, some rarely: both find bugs that the other misses.
  static constexpr std::uint64_t kRates[] = {2, 3, 5, 10, 30, 100};
  switch_one_in_ = kRates[random_.Below(6)];
  if (settings_.strategy == Strategy::kPriorities) {
    for (int i = 0; i < kMaxProcesses; ++i) At(i).priority = 2'000'000 + random_.Below(1000);
    const std::uint64_t depth = 1 + random_.Below(4);
    for (std::uint64_t i = 0; i < depth; ++i) {
      change_at_.push_back(1 + random_.Below(settings_.expected_steps));
    }
    std::sort(change_at_.begin(), change_at_.end(), std::greater<>());
  }
  for (int i = 0; i < kMaxThreads; ++i) At(i).process = i < kMaxProcesses ? i : -1;
  preemptions_left_ = settings_.preemptions;
  stale_left_ = settings_.stale_loads;
  crashes_left_ = settings_.crashes;
  memory_.LateLoads(settings_.late_loads);
  active_ = this;
}

Engine::~Engine() { active_ = nullptr; }

void Engine::Violation(const std::string& what) {
  if (!violation_.empty()) return;
  violation_ =
      what + " (process " + std::to_string(process()) + ", step " + std::to_string(steps_) + ")";
  Trace("VIOLATION %s", what.c_str());
}

void Engine::Begin(int thread, int process) {
  Thread& p = At(thread);
  const std::uint64_t priority = p.priority;
  p = {};
  p.priority = priority;
  p.state = State::kRunnable;
  p.process = process;
  p.context = ctx::make_fcontext(StackFor(thread) + kStackBytes, kStackBytes, Enter);
  memory_.Restart(thread);
}

bool Engine::Spawn(std::function<void()> body) {
  if (current_ < 0) return false;
  for (int i = kMaxProcesses; i < kMaxThreads; ++i) {
    if (At(i).state == State::kRunnable) continue;
    At(i).priority = 2'000'000 + random_.Below(1000);
    Begin(i, process());
    At(i).body = std::move(body);
    limit_ = std::max(limit_, i + 1);
    Clock known{};
    memory_.Release(current_, known);
    memory_.Acquire(i, known);
    Trace("starts thread %d", i);
    Step();
    return true;
  }
  return false;
}

bool Engine::HasThreads() const {
  for (int i = kMaxProcesses; i < limit_; ++i) {
    if (At(i).state == State::kRunnable && At(i).process == process()) return true;
  }
  return false;
}

void Engine::ReleaseAllOf(int process, Clock& into) {
  memory_.Release(process, into);
  for (int i = kMaxProcesses; i < limit_; ++i) {
    if (At(i).process == process) memory_.Release(i, into);
  }
}

bool Engine::Run(const Body& body) {
  body_ = &body;
  power_cut_ = false;
  Progressed();
  std::function<void(ctx::transfer_t)> enter = [this](ctx::transfer_t from) {
    // Whoever jumped here first is the main context or another fiber.
    if (previous_ < 0) {
      main_context_ = from.fctx;
    } else {
      At(previous_).context = from.fctx;
    }
    if (current_ >= kMaxProcesses) {
      At(current_).body();
    } else {
      (*body_)(current_);
      if (HasThreads()) Violation("a thread outlives its process");
    }
    At(current_).state = State::kEnded;
    Trace("ended");
    Progressed();
    if (current_ < kMaxProcesses && on_reaped) on_reaped(current_);
    SwitchAway();
  };
  entry_ = &enter;
  for (int i = 0; i < settings_.processes; ++i) Begin(i, i);
  const int first = PickNext();
  if (first >= 0) SwitchTo(first);
  return power_cut_;
}

void Engine::SwitchTo(int next) {
  if (next == current_) return;
  previous_ = current_;
  current_ = next;
  void* context = next < 0 ? main_context_ : At(next).context;
  const int own_errno = errno;
  const ctx::transfer_t from = ctx::jump_fcontext(context, entry_);
  errno = own_errno;
  // Back here: someone else jumped; remember where it stands.
  if (previous_ < 0) {
    main_context_ = from.fctx;
  } else {
    At(previous_).context = from.fctx;
  }
}

void Engine::RunEvents() {
  while (next_event_ns_ <= now_ns_) {
    auto due = events_.end();
    for (auto i = events_.begin(); i != events_.end(); ++i) {
      if (i->at_ns > now_ns_) continue;
      if (due == events_.end() || i->at_ns < due->at_ns ||
          (i->at_ns == due->at_ns && i->order < due->order)) {
        due = i;
      }
    }
    if (due != events_.end()) {
      const std::function<void()> then = std::move(due->then);
      events_.erase(due);
      then();
    }
    next_event_ns_ = INT64_MAX;
    for (const Event& e : events_) next_event_ns_ = std::min(next_event_ns_, e.at_ns);
  }
}

void Engine::After(std::int64_t nanos, std::function<void()> then) {
  events_.push_back({now_ns_ + nanos, ++event_order_, std::move(then)});
  next_event_ns_ = std::min(next_event_ns_, now_ns_ + nanos);
}

void Engine::Settle() {
  while (!events_.empty()) {
    now_ns_ = std::max(now_ns_, next_event_ns_);
    RunEvents();
  }
  now_ns_ += 1'000'000'000;
}

int Engine::PickNext() {
  for (;;) {
    if (next_event_ns_ <= now_ns_) RunEvents();
    int runnable[kMaxThreads];
    int count = 0;
    std::int64_t earliest = next_event_ns_;
    bool stopped = false;
    for (int i = 0; i < limit_; ++i) {
      const Thread& p = At(i);
      if (p.state != State::kRunnable) continue;
      if (CanRun(p)) {
        runnable[count++] = i;
      } else if (steps_ < p.resume_step) {
        stopped = true;
      } else if (p.blocked_on == nullptr) {
        earliest = std::min(earliest, p.wake_ns);
      }
    }
    if (count == 1) return runnable[0];
    if (count > 1) {
      if (settings_.strategy == Strategy::kPriorities) {
        const int first = *std::max_element(runnable, runnable + count, [this](int a, int b) {
          return At(a).priority < At(b).priority;
        });
        // While time goes by faster, those who only pause can always go on, too: then by turns. One
        // that never pauses keeps its place: it is what is looked for.
        if (idle_points_ <= kPatientPoints || At(first).unpaused >= kPatientPoints / 8)
          return first;
      }
      if (scripted()) {
        return runnable[settings_.script->Decide(static_cast<std::uint64_t>(count))];
      }
      return runnable[random_.Below(static_cast<std::uint64_t>(count))];
    }
    if (earliest != INT64_MAX) {
      now_ns_ = std::max(now_ns_, earliest);
      // Nobody else moves: a stopped process would be resumed some day.
      if (stopped && random_.OneIn(20)) steps_ += 100;
      continue;
    }
    if (!stopped) {
      for (int i = 0; i < limit_; ++i) {
        if (At(i).state == State::kRunnable) Violation("G8: no progress: all wait for ever");
      }
      return -1;
    }
    steps_ += 1000;
  }
}

void Engine::SwitchAway() { SwitchTo(PickNext()); }

// Ends the run here and now: no fiber is resumed.
void Engine::End() {
  for (Thread& p : threads_) {
    if (p.state == State::kRunnable) p.state = State::kDead;
  }
  SwitchTo(-1);
}

void Engine::CutPower() {
  Trace("POWER LOSS");
  power_cut_ = true;
  events_.clear();
  next_event_ns_ = INT64_MAX;
  End();
}

void Engine::Kill(int process) {
  if (At(process).state != State::kRunnable) return;
  if (settings_.trace) std::fprintf(stderr, "%8lu p%d  KILLED\n", steps_, process);
  Progressed();
  const bool itself = this->process() == process;
  for (Thread& p : threads_) {
    if (p.process == process && p.state == State::kRunnable) p.state = State::kDead;
  }
  const auto gone = [this, process] {
    Progressed();
    if (on_reaped) on_reaped(process);
  };
  if (settings_.late_death && random_.OneIn(2)) {
    After(static_cast<std::int64_t>(random_.Below(5'000'000)), gone);
  } else {
    gone();
  }
  if (itself) SwitchAway();  // for good
}

void Engine::Stop(int process, bool by_plan) {
  if (At(process).state != State::kRunnable) return;
  if (settings_.trace) std::fprintf(stderr, "%8lu p%d  STOPPED\n", steps_, process);
  const std::uint64_t until = steps_ + 200 + random_.Below(settings_.expected_steps * 2);
  for (int i = 0; i < limit_; ++i) {
    if (At(i).process == process) At(i).resume_step = until;
  }
  stopped_until_ = std::max(stopped_until_, until);
  stopped_by_plan_ |= by_plan;
  if (process != this->process()) return;
  SwitchAway();
  if (settings_.trace) std::fprintf(stderr, "%8lu p%d  RESUMED\n", steps_, process);
}

void Engine::Fork(int parent) {
  const int child = settings_.processes;
  if (!settings_.forked_child || At(child).state != State::kUnborn ||
      At(parent).state != State::kRunnable) {
    return;
  }
  if (settings_.trace) std::fprintf(stderr, "%8lu p%d  FORKS p%d\n", steps_, parent, child);
  Progressed();
  if (on_fork) on_fork(parent, child);
  Begin(child, child);
}

void Engine::InjectFaults(const char* label) {
  for (std::size_t i = 0; i < faults_.size(); ++i) {
    const Fault f = faults_[i];
    const bool at_point = f.kind == FaultKind::kCrashAtPoint || f.kind == FaultKind::kStopAtPoint;
    if (f.kind == FaultKind::kDisk) continue;
    if (at_point) {
      if (label == nullptr || f.process != process()) continue;
      if (f.label != nullptr && std::strcmp(f.label, label) != 0) continue;
      if (--faults_[i].at > 0) continue;
    } else if (steps_ < f.at) {
      continue;
    }
    faults_.erase(faults_.begin() + static_cast<std::ptrdiff_t>(i));
    switch (f.kind) {
      case FaultKind::kCrash:
      case FaultKind::kCrashAtPoint:
        Kill(f.process);
        break;
      case FaultKind::kStop:
      case FaultKind::kStopAtPoint:
        Stop(f.process, true);
        break;
      case FaultKind::kFork:
        Fork(f.process);
        break;
      default:
        CutPower();
    }
    return InjectFaults(nullptr);
  }
}

bool Engine::TakeDiskFault(std::uint64_t mask, std::uint64_t& what) {
  if (current_ < 0) return false;
  for (std::size_t i = 0; i < faults_.size(); ++i) {
    if (faults_[i].kind != FaultKind::kDisk || steps_ < faults_[i].at ||
        ((mask >> faults_[i].what) & 1) == 0) {
      continue;
    }
    what = faults_[i].what;
    faults_.erase(faults_.begin() + static_cast<std::ptrdiff_t>(i));
    return true;
  }
  return false;
}

void Engine::Step() {
  if (current_ < 0) return;  // set-up and verdict run outside of the fibers
  ++steps_;
  ++At(current_).turns;
  ++At(current_).unpaused;
  CountIdle();
  if (steps_ > settings_.most_points) {
    Violation("G8: no end: the run goes on and on");
  }
  if (violated()) End();
  if (!faults_.empty()) InjectFaults(nullptr);
  if (next_event_ns_ <= now_ns_) RunEvents();
  Preempt();
}

void Engine::Progressed() {
  idle_points_ = 0;
  idle_ns_ = 0;
  counted_ns_ = now_ns_;
  for (Thread& p : threads_) p.turns = p.unpaused = 0;
}

void Engine::SaysHowFar(const void* at, std::uint64_t value) {
  if (had_[at].insert(value).second) Progressed();
}

// What time a point takes, and whether this is one too many.
void Engine::CountIdle() {
  std::int64_t takes_ns = kPoint_ns;
  if (steps_ < stopped_until_) {
    now_ns_ += takes_ns;
    counted_ns_ = now_ns_;
    return;
  }
  if (stopped_until_ != 0) {
    stopped_until_ = 0;
    counted_ns_ = now_ns_;
    if (std::exchange(stopped_by_plan_, false)) Progressed();
  }
  if (++idle_points_ > kPatientPoints) {
    // 84 ms: no more is needed.
    constexpr std::uint64_t kMostDoublings = 22;
    takes_ns <<= std::min((idle_points_ - kPatientPoints) / kDoublingPoints, kMostDoublings);
  }
  now_ns_ += takes_ns;
  idle_ns_ += now_ns_ - counted_ns_;
  counted_ns_ = now_ns_;
  if (idle_points_ < kIdlePoints || idle_ns_ < kIdle_ns) return;
  const bool alone = At(current_).unpaused >= kIdlePoints;
  for (int i = 0; i < limit_ && !alone; ++i) {
    const Thread& p = At(i);
    const bool asleep = p.blocked_on != nullptr || p.wake_ns == INT64_MAX;
    if (p.state == State::kRunnable && !asleep && p.turns < kIdleTurns) return;
  }
  Violation("G8: no progress: nothing for " + std::to_string(idle_points_) + " points and " +
            std::to_string(idle_ns_ / 1'000'000'000) + " s" +
            (alone ? ", by one that never pauses" : ""));
}

void Engine::Preempt() {
  switch (settings_.strategy) {
    case Strategy::kUniform:
      if (random_.Below(switch_one_in_) == 0) SwitchTo(PickNext());
      return;
    case Strategy::kPriorities:
      if (!change_at_.empty() && change_at_.back() <= steps_) {
        change_at_.pop_back();
        At(current_).priority = --lowest_priority_;
      }
      SwitchTo(PickNext());
      return;
    case Strategy::kScripted: {
      if (crashes_left_ > 0 && settings_.script->Decide(2) == 1) {
        --crashes_left_;
        Kill(process());
      }
      if (preemptions_left_ <= 0) return;
      int others[kMaxThreads];
      std::uint64_t count = 0;
      for (int i = 0; i < limit_; ++i) {
        if (i != current_ && CanRun(At(i))) others[count++] = i;
      }
      if (count == 0) return;
      if (const std::uint64_t way = settings_.script->Decide(count + 1); way > 0) {
        --preemptions_left_;
        SwitchTo(others[way - 1]);
      }
      return;
    }
  }
}

// A process that spins waits for others: with priorities it must let them run.
void Engine::Relax(std::int64_t nanos) {
  now_ns_ += nanos;
  if (current_ < 0) return;
  At(current_).unpaused = 0;
  if (settings_.strategy == Strategy::kPriorities) At(current_).priority = --lowest_priority_;
  Step();
  if (!scripted()) return;
  // Whoever waits lets the next one run: nothing to decide.
  for (int i = 1; i < limit_; ++i) {
    const int other = (current_ + i) % limit_;
    if (CanRun(At(other))) return SwitchTo(other);
  }
}

std::uint64_t Engine::Load(const void* at, std::uint64_t in_memory, std::memory_order order,
                           bool decides) {
  if (current_ < 0) return in_memory;
  Step();
  // A private word: read before the switch, and written by this process only.
  if (!memory_.Shared(at)) return in_memory;
  bool stale = false;
  const std::uint64_t value =
      memory_.Load(current_, at, in_memory, order, decides, stale, [&](std::uint64_t allowed) {
        if (scripted()) {
          if (stale_left_ <= 0) return allowed - 1;
          const std::uint64_t chosen = allowed - 1 - settings_.script->Decide(allowed);
          if (chosen != allowed - 1) --stale_left_;
          return chosen;
        }
        return random_.OneIn(3) ? random_.Below(allowed) : allowed - 1;
      });
  if (settings_.trace) {
    Trace("load%s %s", stale ? " STALE" : "", describe ? describe(at, value).c_str() : "");
  }
  if (on_load) on_load(at, value);
  return value;
}

void Engine::BeforeStore(const void* at, std::uint64_t in_memory) {
  if (current_ >= 0 && memory_.Shared(at)) memory_.BeforeStore(at, in_memory);
}

void Engine::Store(const void* at, std::uint64_t value, std::memory_order order) {
  if (current_ < 0 || !memory_.Shared(at)) return;
  memory_.Store(current_, at, value, order);
  if (settings_.trace) Trace("store %s", describe ? describe(at, value).c_str() : "");
  if (on_store) on_store(at, value);
}

void Engine::BeforeModify(const void* at, std::uint64_t in_memory, std::memory_order order) {
  if (current_ >= 0 && memory_.Shared(at)) memory_.BeforeModify(current_, at, in_memory, order);
}

void Engine::AfterModify(const void* at, std::uint64_t value, std::memory_order order) {
  if (current_ < 0 || !memory_.Shared(at)) return;
  memory_.AfterModify(current_, at, value, order);
  if (settings_.trace) Trace("modify %s", describe ? describe(at, value).c_str() : "");
  if (on_store) on_store(at, value);
}

void Engine::MaySleepOn(const void* word) {
  if (current_ >= 0 && memory_.Shared(word)) memory_.BeginRecheck(current_, word);
}

void Engine::AcquireFence(bool orders) {
  if (current_ < 0) return;
  Step();
  if (orders) {
    memory_.AcquireFence(current_);
  } else {
    memory_.PlainReadsAreLate(current_);
  }
}

void Engine::Linger() {
  if (current_ < 0) return;
  if (random_.OneIn(32)) Stop(process(), false);
  Step();
}

void Engine::MayLingerIn(const char* function) {
  if (current_ < 0 || std::strstr(function, settings_.lingers_in) == nullptr) return;
  if (!random_.OneIn(settings_.linger_one_in)) return;
  Trace("lingers in %s", function);
  // By the clock, so that whoever waits for this thread waits no longer than it takes.
  At(current_).wake_ns =
      now_ns_ + 20 * static_cast<std::int64_t>(20 + random_.Below(settings_.expected_steps));
  SwitchAway();
}

void Engine::Point(const char* label) {
  if (current_ < 0) return;
  if (settings_.trace) Trace("-- %s", label);
  if (!faults_.empty()) InjectFaults(label);
  Step();
}

std::int64_t Engine::Now() {
  Step();
  return now_ns_;
}

void Engine::Sleep(std::int64_t nanos) {
  if (current_ < 0) {
    now_ns_ += nanos;
    RunEvents();
    return;
  }
  Step();
  At(current_).wake_ns = now_ns_ + nanos;
  At(current_).unpaused = 0;
  SwitchAway();
}

void Engine::Wait(const void* word, std::uint32_t expected, std::int64_t nanos) {
  if (current_ < 0) return Sleep(nanos);
  Step();
  // The kernel reads the word itself, under its own lock: the newest value.
  if (memory_.Shared(word) && memory_.Newest(word, expected) != expected) return;
  Thread& p = At(current_);
  p.waits_for = word;
  p.rung = false;
  p.unpaused = 0;
  p.wake_ns = nanos > INT64_MAX - now_ns_ ? INT64_MAX : now_ns_ + nanos;
  if (settings_.trace) Trace("sleeps on the bell, at most %ld ns", nanos);
  SwitchAway();
  At(current_).waits_for = nullptr;
  // A slice that ran out hides that nobody would have come.
  if (!At(current_).rung && memory_.Shared(word) && memory_.Newest(word, expected) == expected &&
      memory_.SleptThrough(current_, word)) {
    Violation("G8: slept through a change whose maker had looked at the bell");
  }
}

int Engine::WakeAll(const void* word) {
  if (current_ < 0) return 0;
  Step();
  int woken = 0;
  for (Thread& p : threads_) {
    if (p.state != State::kRunnable || p.waits_for != word) continue;
    ++woken;
    // A slow wake-up: the process is on its way, but not yet.
    p.rung = true;
    const bool slow = !scripted() && random_.OneIn(4);
    p.wake_ns = slow ? std::min(p.wake_ns, now_ns_ + 50'000) : now_ns_;
  }
  return woken;
}

void Engine::BlockUntil(const bool& done) {
  if (current_ < 0) {
    while (!done) {
      now_ns_ = std::max(now_ns_, next_event_ns_);
      RunEvents();
    }
    return;
  }
  At(current_).blocked_on = &done;
  At(current_).unpaused = 0;
  SwitchAway();
  At(current_).blocked_on = nullptr;
}

void Engine::Trace(const char* format, ...) {
  if (!settings_.trace) return;
  const char* further = current_ >= kMaxProcesses ? "'" : "";
  std::fprintf(stderr, "%8lu p%d%s  ", steps_, process(), further);
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fputc('\n', stderr);
}

}  // namespace epoch::sim
