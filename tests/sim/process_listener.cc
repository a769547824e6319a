// What a process does that has a listener: another thread, which takes part for it meanwhile.
#include "absl/strings/match.h"
#include "tests/sim/process.h"

namespace epoch::sim {
namespace {

constexpr std::int64_t kSlice_ns = 20'000'000;
constexpr int kSlices = 40;  // ten times as long as a listener ever sleeps

}  // namespace

void Process::StartListener() {
  if (member_->listener.has_value()) {
    // One is enough, and said to be.
    const absl::Status again = member_->self.Listen().status();
    if (!absl::IsFailedPrecondition(again)) stage_.Fail(again, "a second listener");
    return;
  }
  auto listener = member_->self.Listen();
  if (!listener.ok()) return Tolerate(listener.status(), "listen");
  member_->listener.emplace(*std::move(listener));
}

void Process::StopListener(Random& random) {
  if (!member_->listener.has_value()) return;
  if (random.OneIn(2)) {
    const absl::Status left = member_->self.Leave();
    if (!absl::IsFailedPrecondition(left)) stage_.Fail(left, "left under its listener's feet");
  }
  member_->listener->Stop();
  member_->listener.reset();
}

// G8: whoever waits for the descriptor learns of what is committed from then on.
void Process::AwaitTold() {
  if (!member_->listener.has_value()) return;
  const Listener& listener = *member_->listener;
  listener.Drain();
  const Epoch before = member_->region.epoch();
  for (int slice = 0; slice < kSlices && !stage_.engine.violated(); ++slice) {
    if (stage_.disk.AwaitEvent(listener.fd(), kSlice_ns) != 0) return;
    if (member_->region.epoch() == before) return;
  }
  stage_.engine.Violation("G8: a listener does not tell that an epoch was committed");
}

// G8: while its own thread does something else, nobody waits for this participant's acknowledgment.
void Process::BeBusy() {
  const Participant& self = member_->self;
  if (!member_->listener.has_value() || !self.status().ok()) return;
  const detail::Slot& slot = member_->region.mapping()->view().slots[self.slot()];
  const Epoch wanted = member_->region.epoch();
  for (int slice = 0; slice < kSlices && !stage_.engine.violated(); ++slice) {
    seam::SleepFor(kSlice_ns);
    const bool parked = (slot.flags.Peek() & detail::kSlotParked) != 0;
    const std::uint64_t epoch = detail::OwnedWord::Unpack(slot.ack.Peek()).number;
    if (parked || !self.status().ok() || (epoch != detail::kNone && epoch >= wanted)) return;
  }
  stage_.engine.Violation("G8: a listener does not acknowledge for its busy participant");
}

}  // namespace epoch::sim
