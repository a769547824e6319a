#include "stress/agent.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "epoch/journal.h"
#include "stress/content.h"
#include "stress/interrupts.h"
#include "stress/pause.h"

namespace epoch::stress {
namespace {

volatile std::sig_atomic_t told_to_end = 0;

constexpr std::size_t kRoomForAnOperation = 4096;  // records; far more than any takes

void Nap(std::uint64_t micros) {
  const timespec time{.tv_sec = 0, .tv_nsec = static_cast<long>(micros * 1000)};
  nanosleep(&time, nullptr);
}

bool MayFail(const absl::Status& status) {
  return status.ok() || absl::IsAborted(status) || absl::IsFailedPrecondition(status) ||
         absl::IsResourceExhausted(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsOutOfRange(status) || absl::IsAlreadyExists(status);
}

// What the words of an error say beyond its code.
void ReadWords(std::string_view words, Record& end) {
  if (words.find("nothing was changed") != std::string_view::npos) end.flags |= kToldUnchanged;
  const std::size_t rejected = words.find(" was rejected by ");
  if (rejected == std::string_view::npos) return;
  const auto number_after = [&](std::string_view mark) -> std::uint64_t {
    const std::size_t at = words.find(mark, rejected);
    if (at == std::string_view::npos) return 0;
    return std::strtoull(std::string(words.substr(at + mark.size(), 20)).c_str(), nullptr, 10);
  };
  end.flags |= kToldRejected;
  end.slot = static_cast<std::uint32_t>(number_after("(slot "));
  end.detail = number_after(kReasonMark);
}

}  // namespace

bool ToldToEnd() { return told_to_end != 0; }

Agent::Agent(const std::string& directory, std::uint32_t serial)
    : serial_(serial),
      spec_(Spec::Load(directory)),
      random_(spec_.seed * 1'000'003 + serial),
      log_(LogPath(directory, serial)),
      whims_(random_.Next()) {
  struct sigaction action {};
  action.sa_handler = [](int) { told_to_end = 1; };
  sigaction(SIGTERM, &action, nullptr);
  // Blocked until now, so that the driver may ask at any time.
  sigset_t terms;
  sigemptyset(&terms);
  sigaddset(&terms, SIGTERM);
  sigprocmask(SIG_UNBLOCK, &terms, nullptr);
  mix_ = static_cast<unsigned>(random_.Below(4));
  voter_ = random_.Below(8) < (spec_.crowded ? 6 : 5);
  listens_ = random_.OneIn(5);
  Pauses::Install(log_, random_.Next());
}

void Agent::Live() {
  OpenRegion();
  // Not in durable regions: a timer this fast would keep the making of files from ever ending.
  if (spec_.options.journal.empty()) {
    StartInterrupts(random_.Next(), static_cast<long>(random_.Between(150, 600)));
  }
  // Most are there to be killed; some leave in good order, and the driver starts others.
  std::uint64_t operations = random_.OneIn(3) ? random_.Between(10, 3000) : kNothing;
  while (!ToldToEnd() && operations-- != 0 && log_.room() > kRoomForAnOperation) Operate();
  LeaveRegion();
}

void Agent::Finish() {
  OpenRegion();
  JoinRegion();
  while (self_.has_value()) {
    const Drafted draft = MakeDraft(kNothing, kNothing, 0, {});
    if (Logged(Operation::kCommit, {}, [&] { return self_->Commit(draft.bytes); }).ok()) break;
    if (expelled_) JoinRegion();
  }
  LeaveRegion();
}

void Agent::OpenRegion() {
  while (!ToldToEnd() && !region_.has_value()) {
    auto opened = Logged(Operation::kOpen, {},
                         [&] { return Region::OpenOrCreate(spec_.region, spec_.options); });
    if (opened.ok()) {
      region_ = *std::move(opened);
      const std::string incarnation = region_->incarnation();
      log_.Append(
          {.kind = Kind::kOpened,
           .detail = DigestOf(std::as_bytes(std::span(incarnation.data(), incarnation.size())))});
    } else {
      Nap(1000);
    }
  }
}

// Joins, or takes a new slot after an expulsion.
void Agent::JoinRegion() {
  StopListening();
  while (!ToldToEnd() && region_.has_value()) {
    absl::Status joined;
    if (self_.has_value()) {
      joined = Logged(Operation::kRejoin, {}, [&] { return self_->Rejoin(); });
    } else {
      Begin(Operation::kJoin);
      auto made = Participant::Join(*region_,
                                    {.name = "agent-" + std::to_string(serial_), .voter = voter_});
      if (made.ok()) self_.emplace(*std::move(made));
      joined = made.status();
      End(Operation::kJoin, joined);
    }
    if (joined.ok()) {
      TakePartInVotes();
      log_.Append({.kind = Kind::kJoined,
                   .detail = self_->generation(),
                   .slot = self_->slot(),
                   .flags = voter_ ? kIsVoter : 0});
      expelled_ = false;
      if (listens_) StartListening();
      return;
    }
    Nap(random_.Between(200, 3000));  // all slots are taken
  }
}

void Agent::LeaveRegion() {
  StopListening();
  if (!self_.has_value()) return;
  Do(Operation::kLeave, {}, [&] { return self_->Leave(); });
}

void Agent::Operate() {
  if (!self_.has_value() || expelled_) return JoinRegion();
  Pauses::Rearm(random_);
  AnswerPutOff();
  if (CollectIfItIsTime()) return;
  // Operations of one kind crowd together in one process: mixes differ.
  const std::uint64_t choice = random_.Below(mix_ == 0 ? 40 : 64);
  if (choice < 9) return PinAndLook(0);
  if (choice < 13) return Commit();
  if (choice < 18) return CommitExpecting();
  if (choice < 24) return Update();
  if (choice < 26) return CommitHeldDraft();
  if (choice < 28) return ProposeSome();
  if (choice < 30) return DropDraft();
  if (choice < 32) return AwaitSomething();
  if (choice < 34) return ParkOrPoll();
  if (choice < 35) return ReadCopy();
  if (choice < 36) {
    Do(Operation::kReap, {}, [&] { return region_->Reap(); });
    return;
  }
  if (choice < 37) return LeaveOrRejoin();
  if (choice < 38) {
    if (random_.OneIn(6)) ExpelSomebody();
    return;
  }
  if (choice < 39) {
    if (random_.OneIn(50)) ForkChild();
    return;
  }
  if (choice < 40) return Hold();
  if (spec_.crowded) return mix_ < 2 ? Commit() : Update();
  if (mix_ == 1) return PinAndLook(0);
  if (mix_ == 2) return Update();
  return CommitExpecting();
}

// --- what each of them has in common -------------------------------------------------------------

void Agent::Begin(Operation operation, Record about) {
  about.kind = Kind::kBegin;
  about.operation = operation;
  log_.Append(about);
}

void Agent::End(Operation operation, const absl::Status& status, Epoch epoch) {
  Record end{.kind = Kind::kEnd,
             .operation = operation,
             .code = static_cast<std::uint16_t>(status.code()),
             .epoch = epoch};
  if (!status.ok()) ReadWords({status.message().data(), status.message().size()}, end);
  log_.Append(end);
  // The words of what nobody expects; the checker sees the code alone.
  if (!MayFail(status)) {
    std::fprintf(stderr, "process %u: %s: %s\n", serial_, NameOf(operation),
                 status.ToString().c_str());
  }
  if (absl::IsFailedPrecondition(status) && self_.has_value() && !self_->status().ok()) {
    expelled_ = true;
  }
}

Agent::Drafted Agent::MakeDraft(std::uint64_t expected, std::uint64_t previous,
                                std::uint64_t counter, const CommitOptions& how) {
  const ContentHead head{ContentId(serial_, ++drafted_), previous, counter};
  const std::uint64_t most = spec_.options.state_bytes;
  const std::size_t size = random_.OneIn(4) ? most : random_.Between(sizeof head, most);
  Drafted drafted{head.id, MakeContent(head, size)};
  Record record = Describe(Kind::kDraft, drafted.bytes);
  record.epoch = expected;
  record.flags = FlagsOf(how);
  log_.Append(record);
  return drafted;
}

void Agent::Look(Kind kind, Epoch epoch, std::span<const std::byte> bytes) {
  Record record = Describe(kind, bytes);
  record.epoch = epoch;
  log_.Append(record);
  if (kind == Kind::kSeen && epoch > seen_) seen_ = epoch;
  if ((record.content & kCollectiveContent) != 0) LookAtParts(record.content, bytes);
}

// As long as a reader may take: mostly short, now and then for many transitions of the others.
void Agent::Hold() {
  // Where all wait for each other's votes, a long look is rare.
  const std::uint64_t how = random_.Below(spec_.crowded ? 940 : 1000);
  if (how < 500) return;
  if (how < 800) {
    for (std::uint64_t i = random_.Below(4000); i > 0; --i) seam::CpuRelax();
  } else if (how < 980) {
    sched_yield();
  } else if (how < 998) {
    Nap(random_.Between(20, 500));
  } else {
    Nap(random_.Between(1000, 10'000));
  }
}

// --- reading -------------------------------------------------------------------------------------

void Agent::PinAndLook(int depth) {
  const Operation operation = depth == 0 ? Operation::kPin : Operation::kPinNested;
  Begin(operation);
  Pin pin = self_->Pin();
  if (!pin.ok()) {
    const absl::Status why = self_->status();
    return End(operation, why.ok() ? absl::InternalError("no pin, although not expelled") : why);
  }
  End(operation, absl::OkStatus(), pin.epoch());
  pinned_ = true;
  Look(Kind::kSeen, pin.epoch(), pin.state());
  for (std::uint64_t again = random_.Below(4); again > 0; --again) {
    Hold();
    if (random_.OneIn(8)) WhilePinned(depth);
    Look(Kind::kSeenAgain, pin.epoch(), pin.state());
  }
  if (depth != 0) return;
  log_.Append({.kind = Kind::kUnpinned});
  pin.Release();
  pinned_ = false;
}

void Agent::WhilePinned(int depth) {
  switch (random_.Below(5)) {
    case 0:
      if (depth < 3) PinAndLook(depth + 1);
      break;
    case 1:
      Commit();
      break;
    case 2:
      Update();
      break;
    case 3:
      Do(Operation::kPollPinned, {}, [&] { return self_->Poll(); });
      break;
    default:
      CommitExpecting();
  }
}

void Agent::ReadCopy() {
  Begin(Operation::kRead);
  absl::StatusOr<Snapshot> snapshot = region_->Read();
  End(Operation::kRead, snapshot.status(), snapshot.ok() ? snapshot->epoch : 0);
  if (snapshot.ok()) Look(Kind::kSeen, snapshot->epoch, snapshot->state);
}

void Agent::AwaitSomething() {
  const Epoch epoch = seen_ + random_.Below(3);
  const absl::Duration timeout = absl::Microseconds(random_.Between(0, 5000));
  const bool converged = !pinned_ && random_.OneIn(2);
  Do(converged ? Operation::kAwaitConverged : Operation::kAwaitCommitted, {.epoch = epoch}, [&] {
    return self_->Await(epoch, converged ? Stage::kConverged : Stage::kCommitted, timeout);
  });
}

void Agent::ParkOrPoll() {
  if (random_.OneIn(2)) {
    Do(Operation::kPark, {}, [&] { return self_->Park(); });
    Hold();
  } else {
    Do(Operation::kPoll, {}, [&] { return self_->Poll(); });
  }
}

// --- membership ----------------------------------------------------------------------------------

void Agent::LeaveOrRejoin() {
  if (random_.OneIn(2)) {
    LeaveRegion();
    Hold();
  }
  JoinRegion();
}

void Agent::ExpelSomebody() {
  const auto slot = static_cast<std::uint32_t>(random_.Below(spec_.options.participants));
  if (slot == self_->slot()) return;
  const detail::RegionView& view = region_->mapping()->view();
  const auto before = detail::SlotWord::Unpack(view.slots[slot].state.Load());
  if (before.state != detail::SlotState::kActive) return;
  const absl::Status done = Logged(Operation::kExpel, {.detail = before.generation, .slot = slot},
                                   [&] { return region_->Expel(slot); });
  const auto after = detail::SlotWord::Unpack(view.slots[slot].state.Load());
  if (!done.ok() || after.generation != before.generation ||
      after.state == detail::SlotState::kActive) {
    return;
  }
  const Epoch tail = detail::StateWord::Unpack(view.control->tail.Load()).epoch;
  log_.Append({.kind = Kind::kExpelled, .epoch = tail, .detail = before.generation, .slot = slot});
}

void Agent::ForkChild() {
  const pid_t parent = getpid();
  Begin(Operation::kFork);
  Pauses::Off();  // in the child: they are logged
  const pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(0);
    ForkedAway();
  }
  Pauses::On();
  int status = 0;
  while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  End(Operation::kFork, child < 0 || status == 0
                            ? absl::OkStatus()
                            : absl::InternalError("a fork child could use its parent's slot"));
}

// In the child: the log is the parent's, so nothing is written to it.
void Agent::ForkedAway() {
  bool refused = !self_->status().ok() && !self_->Pin().ok() &&
                 !self_->NewDraft(std::size_t{8}).ok() && !self_->Poll().ok() &&
                 !self_->Park().ok();
  // A participant of its own, with a pin, that nobody gives back: others reap it.
  if (refused && random_.OneIn(2) && self_->Rejoin().ok()) {
    const Pin pin = self_->Pin();
    const auto draft = self_->NewDraft(std::size_t{8});
    _exit(0);
  }
  _exit(refused ? 0 : 1);
}

}  // namespace epoch::stress
