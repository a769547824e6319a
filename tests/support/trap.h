// Traps at labelled points (EPOCH_POINT in epoch/detail/platform/seam.h): kill or stop this process, or run
// some code, when a label is passed for the n-th time. Needs EPOCH_TEST_POINTS.
#ifndef EPOCH_TESTS_SUPPORT_TRAP_H_
#define EPOCH_TESTS_SUPPORT_TRAP_H_

#ifndef EPOCH_TEST_POINTS
#error "without EPOCH_TEST_POINTS no label is ever passed"
#endif

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <string>
#include <utility>

#include "epoch/detail/platform/seam.h"

namespace epoch::test {

// At most one at a time. Sprung once, by whichever thread comes first; what it runs may pass
// labelled points itself.
class Trap {
 public:
  // The action's result is the errno for an EPOCH_FAULT; elsewhere it is ignored.
  Trap(std::string label, int nth, std::function<int()> action)
      : label_(std::move(label)), left_(nth), action_(std::move(action)) {
    armed_ = this;
    seam::point_hook.store(&Trap::Passed);
  }
  // Sends `signal` to this process.
  Trap(std::string label, int nth, int signal)
      : Trap(std::move(label), nth, [signal] { return kill(getpid(), signal); }) {}
  Trap(const Trap&) = delete;
  Trap& operator=(const Trap&) = delete;
  ~Trap() {
    seam::point_hook.store(nullptr);
    armed_ = nullptr;
  }

  bool sprung() const { return left_.load() <= 0; }

 private:
  static int Passed(const char* label) {
    Trap* const trap = armed_;
    if (trap == nullptr || trap->label_ != label || --trap->left_ != 0) return 0;
    return trap->action_();
  }

  static inline std::atomic<Trap*> armed_{nullptr};
  const std::string label_;
  std::atomic<int> left_;
  const std::function<int()> action_;
};

}  // namespace epoch::test

#endif  // EPOCH_TESTS_SUPPORT_TRAP_H_
