// The simulator's engine: one real thread plays all processes, one fiber each. Every shared access,
// futex call, clock read and liveness query of the code under test is a scheduling point where the
// seed may switch to another process, kill this one, or stop it for long. Memory is weak: a load
// may return any store that C++ happens-before still allows, not only the newest.
//
// The memory model is C++'s with one simplification: modification order is execution order. Loads
// that are not seq_cst may be stale; seq_cst ones not older than the last seq_cst store;
// read-modify-writes read the newest. Nothing depends on the wall clock, threads or addresses: a
// seed replays to the step.
#ifndef EPOCH_TESTS_SIM_ENGINE_H_
#define EPOCH_TESTS_SIM_ENGINE_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace epoch::sim {

inline constexpr int kMaxProcesses = 6;
inline constexpr std::size_t kStackBytes = 256 * 1024;

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

using Clock = std::array<std::uint32_t, kMaxProcesses>;

struct Faults {
  int crashes = 0;         // processes killed at random steps
  int stops = 0;           // processes stopped at random steps, resumed much later
  bool late_death = true;  // a lock may look held for a while after its holder's death
};

struct Settings {
  std::uint64_t seed = 1;
  int processes = 3;
  Faults faults;
  std::uint64_t expected_steps = 2000;  // where in a run faults are placed
  std::uint64_t step_limit = 200'000;   // more is a livelock
  bool trace = false;
};

class Engine {
 public:
  using Body = std::function<void(int process)>;

  explicit Engine(const Settings& settings);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // The memory that counts as shared. What it holds when the run starts happened before everything.
  void Share(void* base, std::size_t bytes);

  // Runs one fiber per process until each has ended or died.
  void Run(const Body& body);

  // A violation ends the run: the first one is kept.
  void Violation(const std::string& what);
  bool violated() const { return !violation_.empty(); }
  const std::string& violation() const { return violation_; }

  std::uint64_t steps() const { return steps_; }
  // After the run: every death has been noticed.
  void Settle() { now_ns_ += 1'000'000'000; }
  Random& random() { return random_; }
  int current() const { return current_; }
  bool dead(int process) const { return processes_[process].state == State::kDead; }
  bool was_stopped(int process) const { return processes_[process].stopped_once; }

  // --- the seam's side ---------------------------------------------------------------------------
  std::uint64_t Load(const void* at, std::uint64_t in_memory, std::memory_order order);
  void BeforeStore(const void* at, std::uint64_t in_memory) { Find(at, in_memory); }
  void Store(const void* at, std::uint64_t value, std::memory_order order);
  // Before a read-modify-write: scheduling point and acquire. After it, if it wrote: the store.
  void BeforeModify(const void* at, std::uint64_t in_memory);
  void AfterModify(const void* at, std::uint64_t value);

  void Point(const char* label);
  std::int64_t Now();
  void Wait(const void* word, std::uint32_t in_memory, std::uint32_t expected, std::int64_t nanos);
  void WakeAll(const void* word);

  // Descriptions are 100 * (process + 1) + 0 (lock) or 1 (probe).
  int LockByte(int fd, bool release, std::int64_t offset);
  bool ByteHeld(int fd, std::int64_t offset);

  static Engine* active() { return active_; }

 private:
  enum class State { kRunnable, kBlocked, kStopped, kDead, kEnded };

  struct StoreRecord {
    std::uint64_t value;
    int process;          // -1: before the run
    std::uint32_t stamp;  // of the storing process's clock
    Clock released;       // what an acquire load of it learns
  };
  struct Location {
    std::vector<StoreRecord> stores;
    std::uint64_t dropped = 0;                        // older stores no longer kept
    std::array<std::uint64_t, kMaxProcesses> seen{};  // index of the newest store each one knows
    std::uint64_t last_seq_cst = 0;
  };
  struct Process {
    State state = State::kRunnable;
    void* context = nullptr;
    Clock clock{};
    const void* waits_for = nullptr;
    std::int64_t wake_ns = 0;
    std::uint64_t resume_step = 0;
    std::int64_t looks_alive_until = 0;
    bool stopped_once = false;
  };

  bool ByteHeldBy(int holder);
  void LetGo(int process, std::int64_t byte);
  void LetAllGo(int process);
  void Step();
  void InjectFaults();
  void SwitchAway();
  void SwitchTo(int next);
  int PickNext();
  Location* Find(const void* at, std::uint64_t in_memory);
  void Trace(const char* what, const void* at, std::uint64_t value);
  void Learn(Clock& clock, const Clock& other);

  static Engine* active_;

  const Settings settings_;
  Random random_;
  const Body* body_ = nullptr;
  std::array<Process, kMaxProcesses> processes_;
  void* entry_ = nullptr;
  void* main_context_ = nullptr;
  int current_ = -1;
  int previous_ = -1;
  std::uint64_t switch_one_in_;
  std::uint64_t steps_ = 0;
  std::int64_t now_ns_ = 1'000'000'000;
  std::vector<std::pair<std::uint64_t, int>> crash_at_, stop_at_;
  std::byte* base_ = nullptr;
  std::size_t bytes_ = 0;
  std::vector<std::int32_t> index_;  // by word: into locations_, or -1
  std::vector<Location> locations_;
  std::vector<std::pair<std::int64_t, int>> held_;  // byte, process
  // The kernel's lock is a synchronisation: who finds a byte free sees all that its last holder
  // did before it let go or died.
  std::map<std::int64_t, Clock> let_go_;
  std::string violation_;
};

}  // namespace epoch::sim

#endif  // EPOCH_TESTS_SIM_ENGINE_H_
