// The simulator's engine: one real thread plays all threads of all processes, a fiber each. Every
// shared access, fence, futex call, clock read, liveness query and file-system call of the code
// under test is a scheduling point, where the plan may switch to another thread, kill a process,
// stop it for long, fork it, or cut the power. Where a process has several threads, so is every
// mutex. Nothing depends on the wall clock, threads or addresses: a plan replays to
// the step.
//
// A run that gets no further is a violation of G8. It gets further when
//   - a word that says how far it is (`SaysHowFar` in names.h: head, tail, a slot's state, what a
//     batch is, which segment has a durable name) takes a value that it never had in this run,
//   - a region is made or restored,
//   - an operation of a process returns, or an attempt to open its region (there are so many),
//   - a process begins, ends, dies, is reaped or forked, or one that the plan has stopped goes on.
// It does not by what a livelock goes on doing: bells, doors and whatever counts (ballots, rounds,
// a cell's uses, a batch's place), guards, pins and votes, reads and writes of the disk, names of
// files.
//
// No progress: so many points (`kIdlePoints`), so much virtual time (`kIdle_ns`), and so many
// points of each thread that can go on at all (`kIdleTurns`). Or, in place of the last: so many
// points (`kIdlePoints`) of one thread that neither slept nor gave way meanwhile; by priority it
// may keep all others off, and that is its own doing. Points and time while a process is stopped do
// not count: it will go on.
//
// The time is longer than anything under test waits. To get there in few points, each one takes
// longer and longer, once a run has got no further for `kPatientPoints`: a machine that is slow for
// all. Then each wait that has an end comes to it, and who waits without one is found. What gets
// further for ever is ended by `Settings::most_points`, in other words.
#ifndef EPOCH_TESTS_SIM_ENGINE_H_
#define EPOCH_TESTS_SIM_ENGINE_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "tests/sim/memory.h"
#include "tests/sim/random.h"

namespace epoch::sim {

inline constexpr std::size_t kStackBytes = 256 * 1024;

// What no progress is. What is waited for at most, in one operation and by all that take part:
//
//   30 s     a commit of a durable region    process.cc, Patience
//   10 s     a draft, before it, for space   participant_core.h, kJournalPatience
//   10 s     an attach, for a restorer       newest.cc, AttachNewest
//   1 s      a folder, for its remover       folder.cc, kPatienceMs
//   1 s      a batch of another              patience.h, Left_ns: 3 * 300 ms + 100 ms
//   1 s      a superseded region             region.h, 10 rounds of at most 100 ms
//   0.8 s    a listener                      process_listener.cc, kSlices
//   0.5 s    a vote, a fence, a collective   process_votes.cc, folder_process.cc; 20 ms of grace
//   0.4 s    a write                         disk.cc, Latency
//   64 ms    a slice                         deadline.h, listener.h
//
// An operation without a deadline waits for others, each of which has one, or ends.
inline constexpr std::int64_t kIdle_ns = 60'000'000'000;
inline constexpr std::uint64_t kIdlePoints = 16'384, kIdleTurns = 100;
// A point takes 20 ns; after so many idle ones, twice as long with each further `kDoublingPoints`.
inline constexpr std::uint64_t kPatientPoints = 8'192, kDoublingPoints = 512;

enum class Strategy {
  kUniform,     // at every point, with a rate of its own for each run, to any other thread
  kPriorities,  // PCT: the highest priority runs; a few points where the running one drops to last
  kScripted,    // small cases, all the ways with a bounded number of preemptions and stale loads
};

enum class FaultKind {
  kCrash,         // SIGKILL at a step
  kCrashAtPoint,  // SIGKILL when the process passes a labelled point for the n-th time
  kStop,          // SIGSTOP at a step; goes on much later with its next instruction
  kStopAtPoint,
  kFork,       // a child that holds on to the parent's descriptors for a while
  kPowerLoss,  // everything stops at a step
  kDisk,       // the first disk call of a kind after a step fails, or does half of its work
};

struct Fault {
  FaultKind kind;
  int process = 0;
  std::uint64_t at = 0;         // step or, of labelled points, count
  std::uint64_t what = 0;       // kDisk: which call and error (disk.h)
  const char* label = nullptr;  // of the point; none: any
};

struct Settings {
  std::uint64_t schedule = 1;  // seed of all decisions
  Strategy strategy = Strategy::kUniform;
  int processes = 3;  // a further one may be born by a fork
  bool forked_child = false;
  std::vector<Fault> faults;
  std::uint64_t expected_steps = 2000;    // where PCT's change points lie
  std::uint64_t most_points = 5'000'000;  // the last resort: more than any run takes
  bool late_death = true;            // a lock may look held for a while after its holder's death
  bool late_loads = false;           // relaxed loads may come after later loads
  const char* lingers_in = nullptr;  // functions with this in their name are left, and late
  std::uint64_t linger_one_in = 4;
  bool trace = false;
  Script* script = nullptr;  // kScripted
  int preemptions = 2;       // kScripted: at most so many
  int stale_loads = 1;       // kScripted
  int crashes = 0;           // kScripted: at any step
};

class Engine {
 public:
  using Body = std::function<void(int process)>;

  Engine(const Settings& settings, Memory& memory);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  static Engine* active() { return active_; }

  // Runs one fiber per process until each has ended or died, or the power is cut (then true).
  // May be called again: the next boot, with new processes.
  bool Run(const Body& body);

  // The run has got further; see above.
  void Progressed();
  // So it has if a word that says how far it is never had that value.
  void SaysHowFar(const void* at, std::uint64_t value);

  // A violation ends the run: the first one is kept.
  void Violation(const std::string& what);
  bool violated() const { return !violation_.empty(); }
  const std::string& violation() const { return violation_; }

  std::uint64_t steps() const { return steps_; }
  std::int64_t now_ns() const { return now_ns_; }
  // Of the code under test's decisions (which state to write), not of the schedule.
  Random& random() { return random_; }
  // One of `n` ways to go on.
  std::uint64_t Decide(std::uint64_t n) { return random_.Below(n); }
  bool scripted() const { return settings_.strategy == Strategy::kScripted; }
  const Settings& settings() const { return settings_; }
  Memory& memory() { return memory_; }

  // The thread that runs, and its process. -1: outside of the fibers (set-up and verdict).
  int current() const { return current_; }
  int process() const { return current_ < 0 ? -1 : At(current_).process; }
  bool dead(int process) const { return At(process).state == State::kDead; }

  // --- threads of the running process
  // A further thread, which knows what this one does and dies with it. False: there cannot be one.
  bool Spawn(std::function<void()> body);
  // Whether the running process has more than one.
  bool HasThreads() const;
  // What all threads of a process have done becomes known.
  void ReleaseAllOf(int process, Clock& into);

  // --- the seam's side ---------------------------------------------------------------------------
  std::uint64_t Load(const void* at, std::uint64_t in_memory, std::memory_order order,
                     bool decides);
  void BeforeStore(const void* at, std::uint64_t in_memory);
  void Store(const void* at, std::uint64_t value, std::memory_order order);
  void BeforeModify(const void* at, std::uint64_t in_memory, std::memory_order order);
  void AfterModify(const void* at, std::uint64_t value, std::memory_order order);
  // The process has set the sleepers' bit of a bell.
  void MaySleepOn(const void* word);
  void AcquireFence(bool orders);
  // A scheduling point where the process is now and then stopped for long.
  void Linger();
  // The same, for the thread, if the plan lingers in that function.
  void LingerIn(const char* function) {
    if (settings_.lingers_in != nullptr) MayLingerIn(function);
  }
  void Point(const char* label);
  void Relax(std::int64_t nanos = 0);
  std::int64_t Now();
  void Sleep(std::int64_t nanos);
  void Wait(const void* word, std::uint32_t expected, std::int64_t nanos);
  int WakeAll(const void* word);  // how many

  // --- the disk's side
  // ----------------------------------------------------------------------------- A scheduling
  // point. May not return.
  void Step();
  // Calls `then` at a later time, whatever has become of the process.
  void After(std::int64_t nanos, std::function<void()> then);
  // Blocks the process until `done` is true; others, or events, make it so.
  void BlockUntil(const bool& done);
  // If a disk fault of one of the kinds in `mask` is due: its number and true.
  bool TakeDiskFault(std::uint64_t mask, std::uint64_t& what);
  void CutPower();
  void NoMoreFaults() { faults_.clear(); }

  // Told when a process is gone and the kernel has noticed; and when one is forked.
  std::function<void(int process)> on_reaped;
  std::function<void(int parent, int child)> on_fork;
  // Told of every store to a shared word, after it.
  std::function<void(const void* at, std::uint64_t value)> on_store;
  // Told of what every load of a shared word returned.
  std::function<void(const void* at, std::uint64_t value)> on_load;
  // Names words in traces.
  std::function<std::string(const void* at, std::uint64_t value)> describe;
  void Trace(const char* format, ...) __attribute__((format(printf, 2, 3)));

  // Lets all that is under way happen: deaths noticed, writes landed.
  void Settle();

 private:
  enum class State { kUnborn, kRunnable, kDead, kEnded };

  struct Thread {
    State state = State::kUnborn;
    int process = 0;
    std::function<void()> body{};  // of a further one
    void* context = nullptr;
    const void* waits_for = nullptr;   // futex word
    std::int64_t wake_ns = 0;          // asleep until then
    bool rung = false;                 // woken from its futex word
    const bool* blocked_on = nullptr;  // in the kernel until true
    std::uint64_t resume_step = 0;     // stopped until then
    std::uint64_t turns = 0;           // its points since the last progress
    std::uint64_t unpaused = 0;        // of these, those since it slept or gave way
    std::uint64_t priority = 0;
  };
  struct Event {
    std::int64_t at_ns;
    std::uint64_t order;
    std::function<void()> then;
  };

  // A process's number is that of its main thread.
  Thread& At(int thread) { return threads_[static_cast<std::size_t>(thread)]; }
  const Thread& At(int thread) const { return threads_[static_cast<std::size_t>(thread)]; }
  bool CanRun(const Thread& p) const {
    return p.state == State::kRunnable && steps_ >= p.resume_step && now_ns_ >= p.wake_ns &&
           (p.blocked_on == nullptr || *p.blocked_on);
  }
  void Begin(int thread, int process);
  void Kill(int process);
  void Stop(int process, bool by_plan);
  void MayLingerIn(const char* function);
  void Fork(int parent);
  void RunEvents();
  void CountIdle();
  void InjectFaults(const char* label);
  void Preempt();
  void SwitchAway();
  void SwitchTo(int next);
  int PickNext();
  void End();

  static Engine* active_;

  const Settings settings_;
  Memory& memory_;
  Random random_;
  std::vector<Fault> faults_;
  std::uint64_t next_fault_step_ = 0;
  const Body* body_ = nullptr;
  std::array<Thread, kMaxThreads> threads_;
  int limit_ = kMaxProcesses;  // threads from here on were never begun
  void* entry_ = nullptr;
  void* main_context_ = nullptr;
  int current_ = -1;
  int previous_ = -1;
  std::uint64_t switch_one_in_;
  std::vector<std::uint64_t> change_at_;  // PCT: steps at which the running one drops to last
  std::uint64_t lowest_priority_ = 1'000'000;
  int preemptions_left_ = 0, stale_left_ = 0, crashes_left_ = 0;
  std::uint64_t steps_ = 0;
  std::int64_t now_ns_ = 1'000'000'000;
  std::uint64_t stopped_until_ = 0;  // somebody is, until that step; 0: nobody
  bool stopped_by_plan_ = false;
  std::uint64_t idle_points_ = 0;  // since the last progress, without those of stops
  std::int64_t idle_ns_ = 0;       // the same
  std::int64_t counted_ns_ = 0;    // idle_ns_ is up to there
  std::unordered_map<const void*, std::unordered_set<std::uint64_t>> had_;  // values, by word
  std::vector<Event> events_;
  std::int64_t next_event_ns_ = INT64_MAX;
  std::uint64_t event_order_ = 0;
  bool power_cut_ = false;
  std::string violation_;
};

}  // namespace epoch::sim

#endif  // EPOCH_TESTS_SIM_ENGINE_H_
