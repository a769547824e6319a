// Processes as fibers of one thread: they are switched where they call the disk, sleep, wait or
// pass a labelled point, in an order that follows from a seed. Virtual time.
#ifndef EPOCH_TESTS_IMAGES_FIBERS_H_
#define EPOCH_TESTS_IMAGES_FIBERS_H_

#include <ucontext.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "tests/sim/random.h"

namespace epoch::images {

using sim::Random;

class Fibers {
 public:
  explicit Fibers(std::uint64_t seed);
  ~Fibers();
  // Null while nothing is played: then the code runs straight through.
  static Fibers* active() { return active_; }

  int Start(std::function<void()> body);
  // Gone, wherever it is: nothing of it runs any more, not even a destructor.
  void Kill(int process);
  // Until all have ended or are dead, or `steps` switches were made (false).
  bool Run(std::uint64_t steps);
  // Called before each switch, outside of all fibers.
  std::function<void()> between;
  std::function<void(int process)> on_gone;

  int current() const { return current_; }
  bool ended(int process) const { return processes_[static_cast<std::size_t>(process)]->ended; }
  std::int64_t now() const { return now_ns_; }
  Random& random() { return random_; }

  // --- for the code that is played
  void Step();  // others may run
  void Sleep(std::int64_t nanos);
  // Until `*done`, which an event sets.
  void Await(const std::shared_ptr<bool>& done);
  void WaitOn(const void* word, std::int64_t nanos);
  void Wake(const void* word);
  void After(std::int64_t nanos, std::function<void()> event);

 private:
  struct Process {
    ucontext_t context{};
    std::unique_ptr<char[]> stack;
    std::function<void()> body;
    std::int64_t wake_at_ns = 0;
    std::shared_ptr<bool> awaited;
    const void* word = nullptr;
    bool ended = false;
  };
  struct Event {
    std::int64_t at_ns;
    std::function<void()> run;
  };
  static void Enter();
  void Switch();
  bool Ready(const Process& p) const {
    return !p.ended && (p.awaited != nullptr ? *p.awaited : p.wake_at_ns <= now_ns_);
  }
  Process& self() { return *processes_[static_cast<std::size_t>(current_)]; }

  static Fibers* active_;
  Random random_;
  std::vector<std::unique_ptr<Process>> processes_;
  std::vector<Event> events_;
  ucontext_t scheduler_{};
  int current_ = -1;
  std::int64_t now_ns_ = 1'000'000;
};

}  // namespace epoch::images

#endif  // EPOCH_TESTS_IMAGES_FIBERS_H_
