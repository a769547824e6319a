// Participant: an actor in a region. It pins what it reads, drafts and commits what comes next, and
// acknowledges what it has adopted.
//
// Thread safety: a Participant, its Pins and its Drafts belong to one thread at a time. Threads of
// one process that act on their own join on their own.
// After fork() the child's copy is dead: every call reports it; join anew in the child.
// Descriptors: all that Epoch keeps are 3 or above, and closed by exec. Whoever closes those of
// others (closefrom(3), as programs do that turn into daemons) does it before a join. Afterwards it
// takes away the locks by which this participant is known to live: others expel it and take its
// slot, its own calls find that out or fail, and what is opened next may get the number of one, and
// be locked or written to in its place.
// Progress: Pin is wait-free except while a fence drains; a commit in a volatile region is
// lock-free; one in a durable region blocks on the disk, and helps whoever holds it up.
#ifndef EPOCH_PARTICIPANT_H_
#define EPOCH_PARTICIPANT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "epoch/detail/gathering.h"
#include "epoch/detail/participant_core.h"
#include "epoch/listener.h"
#include "epoch/options.h"
#include "epoch/region.h"
#include "epoch/vote.h"

namespace epoch {

// A hold on one (epoch, state) pair: while it lives, the bytes stay where they are, unchanged.
// Empty (ok() is false) if the participant was expelled or belongs to a parent process.
class Pin {
 public:
  Pin() = default;
  Pin(Pin&& other) noexcept : core_(std::exchange(other.core_, nullptr)) {}
  Pin& operator=(Pin&& other) noexcept {
    if (this != &other) {
      Release();
      core_ = std::exchange(other.core_, nullptr);
    }
    return *this;
  }
  [[gnu::always_inline]] ~Pin() { Release(); }

  bool ok() const { return core_ != nullptr; }
  explicit operator bool() const { return ok(); }
  // Epoch 0 and no bytes if the pin is empty.
  Epoch epoch() const { return core_ == nullptr ? 0 : core_->pinned_state().epoch; }
  std::span<const std::byte> state() const {
    if (core_ == nullptr) return {};
    return {core_->pinned_state().bytes, core_->pinned_state().length};
  }
  std::string_view text() const {
    return {reinterpret_cast<const char*>(state().data()), state().size()};
  }
  // Gives the hold up early. Wait-free: one store.
  [[gnu::always_inline]] void Release() {
    if (core_ != nullptr) core_->Unpin();
    core_ = nullptr;
  }

 private:
  friend class Participant;
  explicit Pin(detail::ParticipantCore* core) : core_(core) {}

  // All pins that a participant holds at one time see the same state: the core remembers it.
  detail::ParticipantCore* core_ = nullptr;
};

// A version under construction, in shared memory. Dropped unless it is committed.
class Draft {
 public:
  Draft(Draft&& other) noexcept
      : core_(std::exchange(other.core_, nullptr)), cell_(other.cell_), size_(other.size_) {}
  Draft& operator=(Draft&& other) noexcept {
    if (this != &other) {
      Drop();
      core_ = std::exchange(other.core_, nullptr);
      cell_ = other.cell_;
      size_ = other.size_;
    }
    return *this;
  }
  ~Draft() { Drop(); }

  std::span<std::byte> bytes() { return {core_->PayloadOf(cell_), size_}; }
  std::size_t size() const { return size_; }
  std::size_t capacity() const { return core_->state_bytes(); }
  // New bytes are what an earlier version left there: write them all. OutOfRange above capacity().
  absl::Status Resize(std::size_t size) {
    if (size > capacity()) return core_->TooLarge(size);
    size_ = size;
    return absl::OkStatus();
  }
  absl::Status Assign(std::span<const std::byte> bytes) {
    if (absl::Status s = Resize(bytes.size()); !s.ok()) return s;
    if (!bytes.empty()) std::memcpy(core_->PayloadOf(cell_), bytes.data(), bytes.size());
    return absl::OkStatus();
  }

 private:
  friend class Participant;
  Draft(detail::ParticipantCore* core, detail::DraftedCell cell, std::size_t size)
      : core_(core), cell_(cell), size_(size) {}
  void Drop() {
    if (core_ != nullptr) std::exchange(core_, nullptr)->Drop(cell_);
  }

  detail::ParticipantCore* core_ = nullptr;
  detail::DraftedCell cell_{};
  std::size_t size_ = 0;
};

// An accepted transition that may not be visible yet.
struct Ticket {
  Epoch epoch = 0;
};

// What Update hands to its function: the newest accepted state, not yet visible perhaps.
struct Current {
  Epoch epoch = 0;
  std::uint64_t token = 0;
  std::span<const std::byte> state;
};

class Participant {
 public:
  using UpdateFunction = absl::FunctionRef<absl::Status(const Current& current, Draft& next)>;

  // Takes a slot. Errors: ResourceExhausted (all taken: by whom), InvalidArgument (name too long),
  // PermissionDenied (region opened read-only).
  static absl::StatusOr<Participant> Join(const Region& region, const JoinOptions& options = {}) {
    auto core = detail::ParticipantCore::Join(region.mapping(), options);
    if (!core.ok()) return core.status();
    return Participant(*std::move(core));
  }

  Participant(Participant&&) noexcept = default;
  Participant& operator=(Participant&&) noexcept = default;
  // Leaves. No Pin or Draft of this participant may outlive it.
  ~Participant() = default;

  // Pins the committed state and acknowledges its epoch. Nested pins see what the outermost sees.
  // Wait-free (one CAS, two loads) except while a fence drains: then blocking.
  [[gnu::always_inline]] epoch::Pin Pin() {
    detail::ParticipantCore* const core = core_.get();
    return epoch::Pin(core->Pin() ? core : nullptr);
  }
  // As Pin, but never waits. Unavailable while a fence drains; FailedPrecondition as status().
  absl::StatusOr<epoch::Pin> TryPin() {
    if (core_->Pin(/*may_wait=*/false)) return epoch::Pin(core_.get());
    if (absl::Status s = status(); !s.ok()) return s;
    return absl::UnavailableError("a fence drains: try again");
  }

  // OK, or FailedPrecondition: expelled, or in a fork child.
  absl::Status status() const { return core_->Status(); }

  // A draft of `size` bytes. Errors: OutOfRange, ResourceExhausted (no free version: names who
  // holds them), FailedPrecondition (expelled). In a durable region waits for versions that the
  // disk still needs; DeadlineExceeded if it takes none for 10 s. (A commit that drafts by itself
  // waits until its time-out at most.)
  absl::StatusOr<Draft> NewDraft(std::size_t size) { return DraftUntil(size, INT64_MAX); }
  absl::StatusOr<Draft> NewDraft(std::span<const std::byte> bytes) {
    return DraftUntil(bytes, INT64_MAX);
  }

  // Makes the draft the next state and waits until it is visible (durable, in a durable region).
  // With agreement or a fence in `options` it counts only when the others have agreed and let go.
  // Errors: Aborted (`expected` differs; or rejected: names the voter and its reason; nothing
  // changed), DeadlineExceeded (accepted, not visible yet; or not agreed on in time, nothing
  // changed: names the straggler), Unavailable (nobody writes the journal, or it is poisoned),
  // ResourceExhausted (disk full; nothing changed), DataLoss (the journal failed meanwhile: outcome
  // unknown until recovery), FailedPrecondition (expelled).
  absl::StatusOr<Epoch> Commit(Draft&& draft, const CommitOptions& options = {}) {
    absl::StatusOr<Ticket> ticket = Propose(std::move(draft), options);
    if (!ticket.ok()) return ticket.status();
    return Await(*ticket, options.timeout);
  }
  absl::StatusOr<Epoch> Commit(std::span<const std::byte> state,
                               const CommitOptions& options = {}) {
    absl::StatusOr<Draft> draft = DraftUntil(state, detail::DeadlineAfter(options.timeout));
    if (!draft.ok()) return draft.status();
    return Commit(*std::move(draft), options);
  }
  absl::StatusOr<Epoch> Commit(std::string_view text, const CommitOptions& options = {}) {
    return Commit(std::as_bytes(std::span(text)), options);
  }

  // As Commit, without waiting: the transition is accepted (its number is certain), and becomes
  // visible later. Many may be under way at once. With agreement or a fence it blocks until that is
  // decided.
  absl::StatusOr<Ticket> Propose(Draft&& draft, const CommitOptions& options = {}) {
    Draft mine = std::move(draft);
    EPOCH_CHECK(mine.core_ == core_.get(), "a draft of another participant");
    const bool voted = options.agreement != Agreement::kNone || options.fence;
    absl::StatusOr<Epoch> accepted =
        !voted ? core_->Accept(mine.cell_, mine.size_, options.token, options.expected,
                               options.timeout)
               : core_->Agree(mine.cell_, mine.size_, options.token, options.expected,
                              {.deadline_ns = detail::DeadlineAfter(options.timeout),
                               .voters = options.agreement == Agreement::kAllVoters,
                               .fence = options.fence,
                               .expel = options.on_straggler == Straggler::kExpel});
    if (accepted.ok() || (voted && core_->draft_is_lost())) mine.core_ = nullptr;  // the region's
    if (!accepted.ok()) return accepted.status();
    return Ticket{*accepted};
  }

  // Waits until the transition is visible, even if this participant was expelled meanwhile: what
  // was accepted stays accepted. Errors: as Commit.
  absl::StatusOr<Epoch> Await(const Ticket& ticket,
                              absl::Duration timeout = absl::InfiniteDuration()) {
    if (core_->HeadEpoch() >= ticket.epoch) return ticket.epoch;
    absl::Status s = core_->AwaitCommitted(ticket.epoch, timeout, /*accepted=*/true);
    if (!s.ok()) return s;
    return ticket.epoch;
  }

  // Waits until the region has reached `epoch`. For kConverged this participant acknowledges, too,
  // and holding a pin is FailedPrecondition: it would wait for itself. DeadlineExceeded names the
  // stragglers. Returns the committed epoch, which may be later.
  absl::StatusOr<Epoch> Await(Epoch epoch, Stage stage,
                              absl::Duration timeout = absl::InfiniteDuration()) {
    absl::Status s = stage == Stage::kCommitted ? core_->AwaitCommitted(epoch, timeout)
                                                : core_->AwaitConverged(epoch, timeout);
    if (!s.ok()) return s;
    return core_->HeadEpoch();
  }

  // Read-modify-write: calls `fn` with the newest accepted state and an empty draft, and commits
  // the draft as its direct successor, calling `fn` again whenever another transition came first.
  // `fn` may pin, but not update. What it is given stays valid until it returns.
  // An error from `fn` ends it, with nothing changed. Lock-free until accepted; then as Commit.
  absl::StatusOr<Epoch> Update(UpdateFunction fn, const CommitOptions& options = {}) {
    absl::StatusOr<Ticket> ticket = ProposeUpdate(fn, options);
    if (!ticket.ok()) return ticket.status();
    return Await(*ticket, options.timeout);
  }
  absl::StatusOr<Ticket> ProposeUpdate(UpdateFunction fn, const CommitOptions& options = {}) {
    const std::int64_t deadline_ns = detail::DeadlineAfter(options.timeout);
    for (;;) {
      absl::StatusOr<Draft> next = DraftUntil(std::size_t{0}, deadline_ns);
      if (!next.ok()) return next.status();
      absl::StatusOr<detail::TailState> tail = core_->HoldTail(deadline_ns);
      if (!tail.ok()) return tail.status();
      const TailHold hold{core_.get()};
      if (options.expected.has_value() && *options.expected != tail->epoch) {
        return core_->ExpectedDiffers(*options.expected, tail->epoch);
      }
      const Current current{tail->epoch, tail->token, {tail->bytes, tail->length}};
      if (absl::Status s = fn(current, *next); !s.ok()) return s;
      CommitOptions exactly = options;
      exactly.expected = tail->epoch;
      if (deadline_ns != INT64_MAX) {
        exactly.timeout = absl::Nanoseconds(deadline_ns - seam::MonotonicNanos());
      }
      core_->ReleaseTail();  // `expected` goes on from here
      absl::StatusOr<Ticket> ticket = Propose(*std::move(next), exactly);
      // Another was faster. What a voter refused, it would refuse again.
      if (!absl::IsAborted(ticket.status()) ||
          core_->refusal() != detail::Refusal::kExpectedDiffers) {
        return ticket;
      }
    }
  }

  // One part of a transition that all voters make together: an all-gather that is atomic, durable
  // where the region is, or did not happen. `tag` says what it is about, the same for all: the step
  // of a checkpoint, say; it becomes the state's token. The parts, of at most kMaxContributionBytes
  // each, become the state, in slot order (collective.h reads it). Blocks until it is decided.
  // Errors: Aborted (a death, a withdrawal or another tag: names whose), DeadlineExceeded (names
  // who is missing), AlreadyExists (that tag is what was committed last), OutOfRange (too large),
  // FailedPrecondition (no voter; expelled; a pin is held and a fence asked for). After an error
  // nothing was changed, for anybody.
  absl::StatusOr<Epoch> CommitCollective(std::uint64_t tag, std::span<const std::byte> contribution,
                                         const CollectiveOptions& options = {}) {
    return detail::Gathering(*core_, tag, contribution, options).Commit();
  }
  absl::StatusOr<Epoch> CommitCollective(std::uint64_t tag, std::string_view contribution,
                                         const CollectiveOptions& options = {}) {
    return CommitCollective(tag, std::as_bytes(std::span(contribution)), options);
  }

  // What this voter says to proposals of others; without one it accepts whatever is whole. Called
  // by Poll and by whatever waits, or by the listener's thread. It must not call this participant.
  void SetValidator(Validator validator) {
    validator_ = std::move(validator);
    core_->voter().SetValidator(validator_);
  }

  // The answer to a ballot for which the validator said Later. Any thread. Errors: Aborted (it is
  // decided or answered already), FailedPrecondition (not put off by this participant's validator).
  absl::Status Vote(std::uint64_t ballot, const Answer& answer) {
    if (absl::Status s = status(); !s.ok()) return s;
    return core_->voter().AnswerLater(ballot, answer);
  }

  // Starts a thread that answers votes, acknowledges, and tells an eventfd of what was committed,
  // so that this participant holds up nobody while it does something else. Errors:
  // FailedPrecondition (there is one already; expelled), ResourceExhausted (no thread, no
  // descriptor). The listener must end before the participant does.
  absl::StatusOr<Listener> Listen() { return Listener::Start(*core_); }

  // Acknowledges the committed epoch, without holding it; answers a vote that waits for it. Returns
  // the epoch.
  absl::StatusOr<Epoch> Poll() { return core_->Poll(); }

  // Acknowledges `epoch`: this participant has adopted it. Needed only if it joined with
  // `acknowledges_by_hand`. An earlier one than before changes nothing. Errors: OutOfRange (not
  // committed yet), FailedPrecondition (expelled).
  absl::Status Acknowledge(Epoch epoch) { return core_->AcknowledgeByHand(epoch); }

  // Declares this participant idle: it holds nothing and nobody waits for it. The next Pin, Poll
  // or commit ends that. FailedPrecondition while it holds a pin.
  absl::Status Park() { return core_->Park(); }

  // Writes the journal for others (a process with the compiled journal only) for that long, or
  // until `stop` returns true: it is asked about ten times a second.
  absl::Status Serve(
      absl::Duration duration, absl::FunctionRef<bool()> stop = [] { return false; }) {
    return core_->Serve(duration, stop);
  }

  // Leaves now and reports what the destructor could not. FailedPrecondition while pinned.
  absl::Status Leave() {
    if (core_->pinned()) {
      return absl::FailedPreconditionError("a pin is still held: release it before leaving");
    }
    if (core_->drafting()) {
      return absl::FailedPreconditionError("a draft is still held: drop it before leaving");
    }
    if (core_->listening()) {
      return absl::FailedPreconditionError("a listener still runs: stop it before leaving");
    }
    core_->Leave();
    return absl::OkStatus();
  }
  // Takes a new slot after an expulsion, in a fork child, or after Leave. The validator stays.
  // FailedPrecondition if the region is orphaned, or something is still held.
  absl::Status Rejoin() {
    if (core_->pinned()) {
      return absl::FailedPreconditionError("a pin is still held: release it before rejoining");
    }
    if (core_->drafting()) {
      return absl::FailedPreconditionError("a draft is still held: drop it before rejoining");
    }
    if (core_->listening()) {
      return absl::FailedPreconditionError("a listener still runs: stop it before rejoining");
    }
    if (core_->mapping().Look() != detail::Whereabouts::Seen::kThere) {
      return absl::FailedPreconditionError(absl::StrCat(
          core_->mapping().path(),
          " was removed, or is another region by now: this one goes on without those who open it; "
          "open it anew, and join there"));
    }
    auto core = core_->Successor();
    if (!core.ok()) return core.status();
    core_ = *std::move(core);
    // Nothing was asked of it yet: it answers when this thread, or its listener, looks.
    core_->voter().SetValidator(validator_);
    return absl::OkStatus();
  }

  std::uint32_t slot() const { return core_->claim().slot; }
  std::uint64_t generation() const { return core_->claim().generation; }
  const std::string& name() const { return core_->name(); }

 private:
  struct TailHold {
    detail::ParticipantCore* core;
    ~TailHold() { core->ReleaseTail(); }
  };

  explicit Participant(std::unique_ptr<detail::ParticipantCore> core) : core_(std::move(core)) {}

  absl::StatusOr<Draft> DraftUntil(std::size_t size, std::int64_t deadline_ns) {
    absl::StatusOr<detail::DraftedCell> cell = core_->NewDraft(size, deadline_ns);
    if (!cell.ok()) return cell.status();
    return Draft(core_.get(), *cell, size);
  }
  absl::StatusOr<Draft> DraftUntil(std::span<const std::byte> bytes, std::int64_t deadline_ns) {
    absl::StatusOr<Draft> draft = DraftUntil(bytes.size(), deadline_ns);
    if (draft.ok() && !bytes.empty()) {
      std::memcpy(draft->bytes().data(), bytes.data(), bytes.size());
    }
    return draft;
  }

  Validator validator_;  // for the next core, after a Rejoin
  std::unique_ptr<detail::ParticipantCore> core_;
};

}  // namespace epoch

#endif  // EPOCH_PARTICIPANT_H_
