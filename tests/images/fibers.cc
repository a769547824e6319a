#include "tests/images/fibers.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace epoch::images {

namespace {
constexpr std::size_t kStackBytes = 256 * 1024;
// Of fibers that ended: touched pages are used again.
std::vector<std::unique_ptr<char[]>> spare_stacks;
}  // namespace

Fibers* Fibers::active_ = nullptr;

Fibers::Fibers(std::uint64_t seed) : random_(seed) { active_ = this; }

Fibers::~Fibers() {
  for (auto& process : processes_) {
    if (process->stack != nullptr) spare_stacks.push_back(std::move(process->stack));
  }
  active_ = nullptr;
}

int Fibers::Start(std::function<void()> body) {
  auto process = std::make_unique<Process>();
  process->body = std::move(body);
  process->wake_at_ns = now_ns_;
  if (spare_stacks.empty()) {
    process->stack = std::unique_ptr<char[]>(new char[kStackBytes]);
  } else {
    process->stack = std::move(spare_stacks.back());
    spare_stacks.pop_back();
  }
  getcontext(&process->context);
  process->context.uc_stack.ss_sp = process->stack.get();
  process->context.uc_stack.ss_size = kStackBytes;
  process->context.uc_link = &scheduler_;
  makecontext(&process->context, &Fibers::Enter, 0);
  processes_.push_back(std::move(process));
  return static_cast<int>(processes_.size()) - 1;
}

void Fibers::Enter() {
  active_->self().body();
  active_->self().ended = true;  // and on to the scheduler, by uc_link
}

void Fibers::Kill(int process) {
  Process& p = *processes_[static_cast<std::size_t>(process)];
  if (p.ended) return;
  p.ended = true;
  if (on_gone) on_gone(process);
}

bool Fibers::Run(std::uint64_t steps) {
  for (; steps > 0; --steps) {
    if (between) between();
    now_ns_ += 50 + static_cast<std::int64_t>(random_.Below(2000));
    std::int64_t next = std::numeric_limits<std::int64_t>::max();
    for (std::size_t i = 0; i < events_.size();) {
      if (events_[i].at_ns > now_ns_) {
        next = std::min(next, events_[i++].at_ns);
        continue;
      }
      const Event due = std::move(events_[i]);
      events_.erase(events_.begin() + static_cast<std::ptrdiff_t>(i));
      due.run();
      i = 0;
      next = std::numeric_limits<std::int64_t>::max();
    }
    std::vector<int> ready;
    bool alive = false;
    for (std::size_t i = 0; i < processes_.size(); ++i) {
      const Process& p = *processes_[i];
      if (Ready(p)) ready.push_back(static_cast<int>(i));
      alive = alive || !p.ended;
      if (!p.ended && p.awaited == nullptr) next = std::min(next, p.wake_at_ns);
    }
    if (!alive && events_.empty()) return true;
    if (ready.empty()) {
      if (next == std::numeric_limits<std::int64_t>::max()) return false;  // stuck
      now_ns_ = std::max(now_ns_, next);
      continue;
    }
    current_ = ready[random_.Below(ready.size())];
    Process& p = self();
    p.awaited = nullptr;
    p.word = nullptr;
    swapcontext(&scheduler_, &p.context);
    const int left = std::exchange(current_, -1);
    if (ended(left) && on_gone) on_gone(left);
  }
  return false;
}

void Fibers::Switch() {
  ucontext_t& mine = self().context;
  swapcontext(&mine, &scheduler_);
}

void Fibers::Step() {
  if (current_ < 0 || !random_.OneIn(2)) return;
  self().wake_at_ns = now_ns_;
  Switch();
}

void Fibers::Sleep(std::int64_t nanos) {
  if (current_ < 0) return;
  self().wake_at_ns = now_ns_ + std::min<std::int64_t>(nanos, 1'000'000'000'000);
  Switch();
}

void Fibers::Await(const std::shared_ptr<bool>& done) {
  self().awaited = done;
  Switch();
}

void Fibers::WaitOn(const void* word, std::int64_t nanos) {
  if (current_ < 0) return;
  self().word = word;
  Sleep(nanos);
}

void Fibers::Wake(const void* word) {
  for (auto& process : processes_) {
    if (process->word == word) process->wake_at_ns = now_ns_;
  }
}

void Fibers::After(std::int64_t nanos, std::function<void()> event) {
  events_.push_back({now_ns_ + nanos, std::move(event)});
}

}  // namespace epoch::images
