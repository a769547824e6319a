#include "border/completions.h"

#include <atomic>
#include <string_view>

#include "border/errnos.h"
#include "border/told.h"
#include "core/journal/format/format.h"
#include "epoch/detail/platform/seam.h"

namespace epoch::test {
namespace {

constexpr int kKinds = 3;

// In memory that the process which acts shares with whoever looks at it.
struct Counted {
  std::atomic<int> made[kKinds] = {};
  std::atomic<int> denied = 0;
};
Counted* counted = nullptr;
const Denial* denying = nullptr;

int KindOf(std::string_view label) {
  if (label == "uring.write") return kRingWrite;
  if (label == "uring.sync") return kRingSync;
  return label == "uring.unlink" ? kRingUnlink : 0;
}

int Answer(const char* label) {
  const int kind = KindOf(label);
  if (kind == 0) return 0;
  const int nth = counted->made[kind - kRingWrite].fetch_add(1, std::memory_order_relaxed) + 1;
  if (denying == nullptr || denying->call != kind || nth < denying->first || nth > denying->last) {
    return 0;
  }
  counted->denied.fetch_add(1, std::memory_order_relaxed);
  // A negative number: so many bytes fewer.
  return denying->error == kShortResult ? -static_cast<int>(journal::kBlockBytes) : denying->error;
}

// In the process that acts: what is denied, and what is counted, is that one's alone.
Outcome RunCounted(const std::string& parent, const Operation& operation, Hindrance hindrance,
                   const Denial* denial, Counted& to) {
  hindrance.impose = [&to, denial](const World&) {
    counted = &to;
    denying = denial;
    seam::point_hook.store(Answer);
    return std::string();
  };
  return RunCase(parent, operation, hindrance);
}

}  // namespace

std::map<int, int> CompletionsOf(const std::string& parent, const Operation& operation) {
  const SharedPage<Counted> page;
  RunCounted(parent, operation, {}, nullptr, *page);
  std::map<int, int> made;
  for (int kind = 0; kind < kKinds; ++kind) {
    if (const int count = page->made[kind]; count > 0) made[kRingWrite + kind] = count;
  }
  return made;
}

Outcome RunUncompleted(const std::string& parent, const Operation& operation,
                       const Denial& denial) {
  const SharedPage<Counted> page;
  Outcome outcome =
      RunCounted(parent, operation, {.allows = AllowanceOf(denial, operation)}, &denial, *page);
  outcome.ending.denied = page->denied;
  return outcome;
}

}  // namespace epoch::test
