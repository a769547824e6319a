// Participant: an actor in a region. It pins what it reads, drafts and commits what comes next, and
// acknowledges what it has adopted.
//
// Thread safety: a Participant, its Pins and its Drafts belong to one thread at a time. Threads of
// one process that act on their own join on their own. Vote() alone may come from another thread.
// A handle that was moved from reports that (FailedPrecondition) from every call; its Pin is empty.
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

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "epoch/detail/participant/gathering.h"
#include "epoch/detail/participant/participant_core.h"
#include "epoch/detail/platform/deadline.h"
#include "epoch/details.h"
#include "epoch/listener.h"
#include "epoch/options.h"
#include "epoch/region.h"
#include "epoch/vote.h"

namespace epoch {

namespace detail {
struct CAccess;  // core/c
}  // namespace detail

// A hold on one (epoch, state) pair: while it lives, the bytes stay where they are, unchanged.
// Empty (ok() is false) if the participant was expelled, was moved from or belongs to a parent
// process, or if the region is damaged: TryPin says which. The bytes are the region's file, mapped:
// if somebody truncates that file, reading them is SIGBUS, as of any mapped file.
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
  friend struct detail::CAccess;
  explicit Pin(detail::ParticipantCore* core) : core_(core) {}

  // All pins that a participant holds at one time see the same state: the core remembers it.
  detail::ParticipantCore* core_ = nullptr;
};

// A version under construction, in shared memory. Dropped unless it is committed.
// One that was moved from, or committed, has no bytes and no room; to write it is
// FailedPrecondition.
class Draft {
 public:
  Draft(Draft&& other) noexcept
      : core_(std::exchange(other.core_, nullptr)),
        cell_(other.cell_),
        size_(std::exchange(other.size_, 0)),
        touched_(other.touched_) {}
  Draft& operator=(Draft&& other) noexcept {
    if (this != &other) {
      Drop();
      core_ = std::exchange(other.core_, nullptr);
      cell_ = other.cell_;
      size_ = std::exchange(other.size_, 0);
      touched_ = other.touched_;
    }
    return *this;
  }
  ~Draft() { Drop(); }

  std::span<std::byte> bytes() {
    if (core_ == nullptr) return {};
    touched_ = true;
    return {core_->PayloadOf(cell_), size_};
  }
  std::size_t size() const { return size_; }
  std::size_t capacity() const { return core_ == nullptr ? 0 : core_->state_bytes(); }
  // New bytes are what an earlier version left there: write them all. OutOfRange above capacity().
  absl::Status Resize(std::size_t size) {
    if (core_ == nullptr) return detail::MovedFrom("draft");
    if (size > capacity()) return core_->TooLarge(size);
    size_ = size;
    touched_ = true;
    return absl::OkStatus();
  }
  // Resize and copy. Assign({}) makes the state empty.
  absl::Status Assign(std::span<const std::byte> bytes) {
    if (absl::Status s = Resize(bytes.size()); !s.ok()) return s;
    if (!bytes.empty()) std::memcpy(core_->PayloadOf(cell_), bytes.data(), bytes.size());
    return absl::OkStatus();
  }
  // Text, whatever can be a std::string_view. A template, so that {} is no text.
  template <typename Text>
  requires std::is_convertible_v<const Text&, std::string_view> absl::Status Assign(
      const Text& text) {
    return Assign(std::as_bytes(std::span(std::string_view(text))));
  }

 private:
  friend class Participant;
  Draft(detail::ParticipantCore* core, detail::DraftedCell cell, std::size_t size,
        bool touched = false)
      : core_(core), cell_(cell), size_(size), touched_(touched) {}
  void Drop() {
    if (core_ != nullptr) std::exchange(core_, nullptr)->Drop(cell_);
  }

  detail::ParticipantCore* core_ = nullptr;
  detail::DraftedCell cell_{};
  std::size_t size_ = 0;
  bool touched_ = false;  // somebody said what the state is to be, if only that it is empty
};

// An accepted transition that may not be visible yet.
struct Ticket {
  Epoch epoch = 0;
  // Of an update whose function returned NoChange(): `epoch` is what that was called with, and this
  // update has no part in it.
  bool unchanged = false;
};

// What Update hands to its function: the newest accepted state, not yet visible perhaps.
struct Current {
  Epoch epoch = 0;
  std::uint64_t token = 0;
  std::span<const std::byte> state;

  std::string_view text() const {
    return {reinterpret_cast<const char*>(state.data()), state.size()};
  }
};

class Participant {
 public:
  using UpdateFunction = absl::FunctionRef<absl::Status(const Current& current, Draft& next)>;

  // Takes a slot. Errors: ResourceExhausted (all taken: by whom), InvalidArgument (name too long),
  // PermissionDenied (region opened read-only).
  static absl::StatusOr<Participant> Join(const Region& region, const JoinOptions& options = {}) {
    auto core = detail::ParticipantCore::Join(region.mapping(), options);
    if (!core.ok()) return detail::Unchanged(core.status());
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
    return epoch::Pin(core != nullptr && core->Pin() ? core : nullptr);
  }
  // As Pin, but never waits, and says why there is none. Unavailable while a fence drains; DataLoss
  // (the region is damaged); FailedPrecondition as status().
  absl::StatusOr<epoch::Pin> TryPin() {
    detail::Limit not_at_all(detail::Deadline::AtOnce());
    return PinWithin(not_at_all);
  }
  // The same, waiting for a fence as long as `wait` allows. DeadlineExceeded, Cancelled: a fence
  // drains still.
  absl::StatusOr<epoch::Pin> TryPin(const WaitOptions& wait) {
    detail::Limit limit = detail::Limit::Of(wait);
    return PinWithin(limit);
  }

  // OK, or FailedPrecondition: expelled, left, moved from, or in a fork child.
  absl::Status status() const {
    return core_ == nullptr ? detail::MovedFrom("participant") : core_->Status();
  }

  // A draft of `size` bytes. Errors: OutOfRange, ResourceExhausted (no free version: names who
  // holds them), FailedPrecondition (expelled). In a durable region waits for versions that the
  // disk still needs; DeadlineExceeded if it takes none for 10 s, or as long as `wait` allows.
  // (A commit that drafts by itself waits until its time-out at most.)
  absl::StatusOr<Draft> NewDraft(std::size_t size) { return DraftWithin(size, detail::Limit()); }
  absl::StatusOr<Draft> NewDraft(std::size_t size, const WaitOptions& wait) {
    return DraftWithin(size, detail::Limit::Of(wait));
  }
  absl::StatusOr<Draft> NewDraft(std::span<const std::byte> bytes) {
    return DraftWithin(bytes, detail::Limit());
  }
  absl::StatusOr<Draft> NewDraft(std::span<const std::byte> bytes, const WaitOptions& wait) {
    return DraftWithin(bytes, detail::Limit::Of(wait));
  }

  // Makes the draft the next state and waits until it is visible (durable, in a durable region).
  // With agreement or a fence in `options` it counts only when the others have agreed and let go.
  // Errors before it is accepted, with nothing changed: Aborted (`expected` differs; or rejected:
  // names the voter and its reason), DeadlineExceeded (not agreed on in time: names the straggler),
  // FailedPrecondition (expelled; too few voters), Unavailable (nobody writes the journal, or it is
  // poisoned), ResourceExhausted (disk full), Cancelled (interrupted), and those of NewDraft.
  // Errors behind it say that the epoch is accepted and its outcome pending, and must not be
  // answered by another try: DeadlineExceeded, Cancelled, Unavailable (this process cannot get it
  // to the disk: why), DataLoss (the journal failed meanwhile: unknown until recovery). To be
  // expelled then changes nothing any more. Details() tells programs which it was.
  absl::StatusOr<Epoch> Commit(Draft&& draft,
                               const CommitOptions& options = detail::Unset<CommitOptions>()) {
    detail::Limit limit = detail::Limit::Of(options);
    return Settled(Offer(draft, options, options.expected, limit), options.timeout, limit);
  }
  absl::StatusOr<Epoch> Commit(std::span<const std::byte> state,
                               const CommitOptions& options = detail::Unset<CommitOptions>()) {
    detail::Limit limit = detail::Limit::Of(options);
    const absl::StatusOr<detail::DraftedCell> cell = CellWithin(state.size(), limit);
    if (!cell.ok()) [[unlikely]]
      return cell.status();
    Fill(*cell, state);
    if (AsksOthers(options)) [[unlikely]]
      return CommitToAll(*cell, state.size(), options, limit);
    // As Offer, but for the Draft: to publish takes fifty nanoseconds, and to hand one around is
    // some of them. Nothing else throws in between.
    const absl::StatusOr<Epoch> accepted = core_->Offering(*cell, [&] {
      return core_->Accept(*cell, state.size(), options.token, options.expected, limit,
                           /*again=*/false);
    });
    if (!accepted.ok()) [[unlikely]]
      return NotAccepted(*cell, accepted.status(), /*voted=*/false, /*again=*/false);
    if (core_->HeadEpoch() >= *accepted) [[likely]]
      return *accepted;
    return AwaitSettled(Ticket{*accepted}, options.timeout, limit);
  }
  absl::StatusOr<Epoch> Commit(std::string_view text,
                               const CommitOptions& options = detail::Unset<CommitOptions>()) {
    return Commit(std::as_bytes(std::span(text)), options);
  }

  // As Commit, without waiting: the transition is accepted (its number is certain), and becomes
  // visible later. Many may be under way at once. With agreement or a fence it blocks until that is
  // decided. Errors: those of Commit before it is accepted.
  absl::StatusOr<Ticket> Propose(Draft&& draft,
                                 const CommitOptions& options = detail::Unset<CommitOptions>()) {
    detail::Limit limit = detail::Limit::Of(options);
    return Proposed(Offer(draft, options, options.expected, limit));
  }

  // Waits until the transition is visible, even if this participant was expelled meanwhile: what
  // was accepted stays accepted. Errors: as Commit behind the acceptance. It may be called again.
  absl::StatusOr<Epoch> Await(const Ticket& ticket,
                              absl::Duration timeout = absl::InfiniteDuration()) {
    return Await(ticket, WaitOptions{.timeout = timeout});
  }
  absl::StatusOr<Epoch> Await(const Ticket& ticket, const WaitOptions& wait) {
    detail::Limit limit(detail::Deadline::Never(), &wait.interrupted);
    return Settled(ticket, wait.timeout, limit);
  }

  // Waits until the region has reached `epoch`. For kConverged this participant acknowledges, too,
  // and holding a pin is FailedPrecondition: it would wait for itself. DeadlineExceeded and
  // Cancelled name the stragglers. An epoch that is accepted already, by whomever: errors as Commit
  // behind the acceptance. Returns the committed epoch, which may be later.
  absl::StatusOr<Epoch> Await(Epoch epoch, Stage stage,
                              absl::Duration timeout = absl::InfiniteDuration()) {
    return Await(epoch, stage, WaitOptions{.timeout = timeout});
  }
  absl::StatusOr<Epoch> Await(Epoch epoch, Stage stage, const WaitOptions& wait) {
    if (core_ == nullptr) return status();
    detail::Limit limit = detail::Limit::Of(wait);
    absl::Status s = stage == Stage::kCommitted ? core_->AwaitEpoch(epoch, limit)
                                                : core_->AwaitConverged(epoch, limit);
    if (!s.ok()) return detail::Unchanged(s);
    return core_->HeadEpoch();
  }

  // Read-modify-write: calls `fn` with the newest accepted state and an empty draft, and commits
  // the draft as its direct successor, calling `fn` again whenever another transition came first.
  // `fn` may pin, but not update. What it is given stays valid until it returns.
  // It says what the next state is by Resize, Assign or bytes() (Resize(0) and Assign({}): an empty
  // one); to return OK without that is InvalidArgument, with nothing changed. NoChange() leaves
  // everything as it is: the update succeeds and returns the epoch that `fn` was called with, when
  // that is visible (as ever, what was accepted before it is then visible, too). Errors of that
  // wait say that this call changed nothing, and which epoch it waited for (Details: kUnchanged,
  // and that epoch as `accepted`). Any other error from `fn` ends the update with nothing
  // changed, and is handed on. Lock-free until accepted; then as Commit.
  absl::StatusOr<Epoch> Update(UpdateFunction fn,
                               const CommitOptions& options = detail::Unset<CommitOptions>()) {
    detail::Limit limit = detail::Limit::Of(options);
    return Settled(OfferUpdate(fn, options, limit), options.timeout, limit);
  }
  absl::StatusOr<Ticket> ProposeUpdate(
      UpdateFunction fn, const CommitOptions& options = detail::Unset<CommitOptions>()) {
    detail::Limit limit = detail::Limit::Of(options);
    return Proposed(OfferUpdate(fn, options, limit));
  }

  // One part of a transition that all voters make together: an all-gather that is atomic, durable
  // where the region is, or did not happen. `tag` says what it is about, the same for all: the step
  // of a checkpoint, say; it becomes the state's token. The parts, of at most kMaxContributionBytes
  // each, become the state, in slot order (collective.h reads it). Blocks until it is decided.
  // Errors: Aborted (a death, a withdrawal or another tag: names whose), DeadlineExceeded (names
  // who is missing), AlreadyExists (that tag is what was committed last), OutOfRange (too large),
  // FailedPrecondition (no voter; expelled; a pin is held and a fence asked for), Cancelled
  // (interrupted: this participant withdraws). After these errors nothing was changed, for anybody.
  // Once it is decided, a durable one waits for the disk, however long that takes; errors from
  // there on are those of Commit behind the acceptance.
  absl::StatusOr<Epoch> CommitCollective(std::uint64_t tag, std::span<const std::byte> contribution,
                                         const CollectiveOptions& options = {}) {
    if (core_ == nullptr) return status();
    absl::StatusOr<Epoch> made = detail::Gathering(*core_, tag, contribution, options).Commit();
    if (!made.ok()) return detail::Unchanged(made.status());
    return made;
  }
  absl::StatusOr<Epoch> CommitCollective(std::uint64_t tag, std::string_view contribution,
                                         const CollectiveOptions& options = {}) {
    return CommitCollective(tag, std::as_bytes(std::span(contribution)), options);
  }

  // What this voter says to proposals of others; without one it accepts whatever is whole. Called
  // by Poll and by whatever waits, or by the listener's thread. It must not call this participant.
  // Not asked about what this participant proposes itself: to propose is to agree.
  void SetValidator(Validator validator) {
    Validator copy = validator;  // if there is no memory for it, nothing was changed
    if (core_ != nullptr) core_->voter().SetValidator(std::move(copy));
    validator_ = std::move(validator);
  }

  // The answer to a ballot for which the validator said Later. Any thread, also while the
  // participant's own leaves (not while it rejoins, moves the handle or destroys it). Errors:
  // Aborted (it is decided or answered already: this answer counts for nothing), FailedPrecondition
  // (not put off by this participant's validator; expelled; left).
  absl::Status Vote(std::uint64_t ballot, const Answer& answer) {
    if (core_ == nullptr) return status();
    return core_->voter().AnswerLater(ballot, answer);
  }

  // Starts a thread that answers votes, acknowledges, and tells an eventfd of what was committed,
  // so that this participant holds up nobody while it does something else. Errors:
  // FailedPrecondition (there is one already; expelled), ResourceExhausted (no thread, no
  // descriptor). The listener must end before the participant does.
  absl::StatusOr<Listener> Listen() {
    if (core_ == nullptr) return status();
    absl::StatusOr<Listener> listener = Listener::Start(*core_);
    if (!listener.ok()) return detail::Unchanged(listener.status());
    return listener;
  }

  // Acknowledges the committed epoch, without holding it; answers a vote that waits for it. Returns
  // the epoch.
  absl::StatusOr<Epoch> Poll() {
    if (core_ == nullptr) return status();
    return core_->Poll();
  }

  // Acknowledges `epoch`: this participant has adopted it. Needed only if it joined with
  // `acknowledges_by_hand`. An earlier one than before changes nothing. Errors: OutOfRange (not
  // committed yet), FailedPrecondition (expelled).
  absl::Status Acknowledge(Epoch epoch) {
    return core_ == nullptr ? status() : core_->AcknowledgeByHand(epoch);
  }

  // Declares this participant idle: it holds nothing and nobody waits for it. The next Pin, Poll
  // or commit ends that. FailedPrecondition while it holds a pin.
  absl::Status Park() { return core_ == nullptr ? status() : core_->Park(); }

  // Writes the journal for others (a process with the compiled journal only) for that long, or
  // until `stop` returns true: it is asked about ten times a second.
  absl::Status Serve(
      absl::Duration duration, absl::FunctionRef<bool()> stop = [] { return false; }) {
    return core_ == nullptr ? status() : detail::Unchanged(core_->Serve(duration, stop));
  }

  // Leaves now and reports what the destructor could not. FailedPrecondition while pinned.
  absl::Status Leave() {
    if (absl::Status s = HoldsNothing("leaving"); !s.ok()) return s;
    core_->Leave();
    return absl::OkStatus();
  }
  // Takes a new slot after an expulsion, in a fork child, or after Leave. The validator stays.
  // FailedPrecondition if the region is orphaned, or something is still held: in a fork child, too,
  // what was copied (pins, drafts, a listener, which refers to what this replaces) goes first.
  absl::Status Rejoin() {
    if (absl::Status s = HoldsNothing("rejoining"); !s.ok()) return s;
    if (detail::Whereabouts::IsAway(core_->mapping().Look())) {
      return detail::Refuse(
          Cause::kOther,
          absl::StrCat(core_->mapping().path(),
                       " was removed, or is another region by now: this one goes on without those "
                       "who open it; open it anew, and join there"));
    }
    Validator validator = validator_;  // throws before anything was changed, or not at all
    auto core = core_->Successor();
    if (!core.ok()) return detail::Unchanged(core.status());
    core_ = *std::move(core);
    // Nothing was asked of it yet: it answers when this thread, or its listener, looks.
    core_->voter().SetValidator(std::move(validator));
    return absl::OkStatus();
  }

  // Of a handle that was moved from: 0, 0 and empty.
  std::uint32_t slot() const { return core_ == nullptr ? 0 : core_->claim().slot; }
  std::uint64_t generation() const { return core_ == nullptr ? 0 : core_->claim().generation; }
  const std::string& name() const {
    static const std::string none;
    return core_ == nullptr ? none : core_->name();
  }

 private:
  struct TailHold {
    detail::ParticipantCore* core;
    ~TailHold() { core->ReleaseTail(); }
  };

  friend struct detail::CAccess;
  explicit Participant(std::unique_ptr<detail::ParticipantCore> core) : core_(std::move(core)) {}

  absl::Status HoldsNothing(const char* before) const {
    if (core_ == nullptr) return status();
    if (core_->pinned()) {
      return detail::Refuse(Cause::kPinHeld,
                            absl::StrCat("a pin is still held: release it before ", before));
    }
    if (core_->drafting()) {
      return detail::Refuse(Cause::kBusy,
                            absl::StrCat("a draft is still held: drop it before ", before));
    }
    if (core_->listening()) {
      return detail::Refuse(Cause::kBusy,
                            absl::StrCat("a listener still runs: stop it before ", before));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<epoch::Pin> PinWithin(detail::Limit& limit) {
    if (core_ == nullptr) return status();
    if (core_->Pin(&limit)) return epoch::Pin(core_.get());
    return core_->WhyUnpinned();
  }

  static bool AsksOthers(const CommitOptions& options) {
    return options.agreement != Agreement::kNone || options.fence;
  }

  absl::StatusOr<detail::DraftedCell> CellWithin(std::size_t size, detail::Limit& limit) {
    if (core_ == nullptr) [[unlikely]]
      return status();
    absl::StatusOr<detail::DraftedCell> cell = core_->NewDraft(size, limit);
    if (!cell.ok()) [[unlikely]]
      return detail::Unchanged(std::move(cell).status());
    return cell;
  }
  absl::StatusOr<Draft> DraftWithin(std::size_t size, detail::Limit&& limit) {
    absl::StatusOr<detail::DraftedCell> cell = CellWithin(size, limit);
    if (!cell.ok()) [[unlikely]]
      return std::move(cell).status();
    return Draft(core_.get(), *cell, size);
  }
  absl::StatusOr<Draft> DraftWithin(std::span<const std::byte> bytes, detail::Limit&& limit) {
    absl::StatusOr<detail::DraftedCell> cell = CellWithin(bytes.size(), limit);
    if (!cell.ok()) [[unlikely]]
      return std::move(cell).status();
    Fill(*cell, bytes);
    return Draft(core_.get(), *cell, bytes.size(), /*touched=*/true);
  }
  void Fill(const detail::DraftedCell& cell, std::span<const std::byte> bytes) {
    if (!bytes.empty()) std::memcpy(core_->PayloadOf(cell), bytes.data(), bytes.size());
  }

  // On success the draft is the region's, and it is dropped otherwise: in either case it is empty.
  // `again`: the caller tries again if the region is not at `expected`, and reads no words.
  absl::StatusOr<Ticket> Offer(Draft& draft, const CommitOptions& options,
                               std::optional<Epoch> expected, detail::Limit& limit,
                               bool again = false) {
    detail::ParticipantCore* const core = core_.get();
    if (core == nullptr || draft.core_ != core) [[unlikely]]
      return NotItsDraft(draft);
    const detail::DraftedCell& cell = draft.cell_;
    const std::size_t size = std::exchange(draft.size_, 0);
    draft.core_ = nullptr;
    const absl::StatusOr<Epoch> accepted = core->Offering(cell, [&] {
      return !AsksOthers(options) ? core->Accept(cell, size, options.token, expected, limit, again)
                                  : Agree(cell, size, options, expected, limit, again);
    });
    if (!accepted.ok()) [[unlikely]]
      return NotAccepted(cell, accepted.status(), AsksOthers(options), again);
    return Ticket{*accepted};
  }
  [[gnu::noinline]] absl::StatusOr<Epoch> Agree(const detail::DraftedCell& cell, std::size_t size,
                                                const CommitOptions& options,
                                                std::optional<Epoch> expected, detail::Limit& limit,
                                                bool again) {
    const bool voters = options.agreement == Agreement::kAllVoters;
    return core_->Agree(cell, size, options.token, expected,
                        {.deadline = limit.deadline,
                         .voters = voters,
                         .least_voters = voters ? LeastOf(options) : 0,
                         .fence = options.fence,
                         .expel = options.on_straggler == Straggler::kExpel},
                        limit, again);
  }
  [[gnu::noinline]] absl::StatusOr<Epoch> CommitToAll(const detail::DraftedCell& cell,
                                                      std::size_t size,
                                                      const CommitOptions& options,
                                                      detail::Limit& limit) {
    Draft mine(core_.get(), cell, size);
    return Settled(Offer(mine, options, options.expected, limit), options.timeout, limit);
  }
  [[gnu::noinline, gnu::cold]] absl::Status NotItsDraft(Draft& draft) {
    EPOCH_CHECK(core_ == nullptr || draft.core_ == nullptr, "a draft of another participant");
    absl::Status said = core_ == nullptr ? status() : detail::MovedFrom("draft");
    draft.Drop();
    draft.size_ = 0;
    return said;
  }
  [[gnu::noinline, gnu::cold]] absl::Status NotAccepted(const detail::DraftedCell& cell,
                                                        const absl::Status& why, bool voted,
                                                        bool again) {
    // Before the words are made, which takes memory.
    if (!voted || !core_->draft_is_lost()) core_->Drop(cell);
    const bool is_read = !again || core_->refusal() != detail::Refusal::kExpectedDiffers;
    return is_read ? detail::Unchanged(why) : why;
  }

  absl::StatusOr<Ticket> OfferUpdate(UpdateFunction fn, const CommitOptions& options,
                                     detail::Limit& limit) {
    for (;;) {
      absl::StatusOr<detail::DraftedCell> cell = CellWithin(0, limit);
      if (!cell.ok()) [[unlikely]]
        return std::move(cell).status();
      Draft next(core_.get(), *cell, 0);
      absl::StatusOr<detail::TailState> tail = core_->HoldTail(limit);
      if (!tail.ok()) return detail::Unchanged(tail.status());
      const TailHold hold{core_.get()};
      if (options.expected.has_value() && *options.expected != tail->epoch) {
        return core_->ExpectedDiffers(*options.expected, tail->epoch);
      }
      const Current current{tail->epoch, tail->token, {tail->bytes, tail->length}};
      if (absl::Status s = fn(current, next); !s.ok()) {
        if (Details(s).cause == Cause::kNoChange) return Ticket{tail->epoch, /*unchanged=*/true};
        return s;
      }
      if (!next.touched_) [[unlikely]]
        return NotWritten();
      core_->ReleaseTail();  // `expected` goes on from here
      absl::StatusOr<Ticket> ticket = Offer(next, options, tail->epoch, limit, /*again=*/true);
      // Another was faster. What a voter refused, it would refuse again.
      if (ticket.ok() || !absl::IsAborted(ticket.status()) ||
          core_->refusal() != detail::Refusal::kExpectedDiffers) {
        return ticket;
      }
      if (absl::Status s = core_->MayGoOn(limit); !s.ok()) return s;
    }
  }
  [[gnu::noinline, gnu::cold]] static absl::Status NotWritten() {
    return detail::Because(
        Cause::kNotWritten,
        absl::InvalidArgumentError(
            "the function of an update returned OK and did not write its draft (Resize, Assign, "
            "bytes()): Resize(0) makes an empty state, NoChange() leaves it as it is; nothing was "
            "changed"));
  }

  static std::uint32_t LeastOf(const CommitOptions& options) {
    if (!options.min_voters.has_value()) return detail::kSomeVoter;
    return std::min(*options.min_voters, detail::kSomeVoter - 1);
  }

  // The end of a call that does not wait for the journal.
  absl::StatusOr<Ticket> Proposed(absl::StatusOr<Ticket> ticket) {
    if (core_ != nullptr) core_->WritesNoMore();
    return ticket;
  }

  // What Commit and Update wait for. Errors from here on are of something that is accepted. The
  // time begins anew: a vote that took all of it, and was decided in time, still has to get to the
  // disk.
  absl::StatusOr<Epoch> Settled(const absl::StatusOr<Ticket>& ticket, absl::Duration timeout,
                                detail::Limit& limit) {
    if (!ticket.ok()) [[unlikely]]
      return ticket.status();
    return Settled(*ticket, timeout, limit);
  }
  absl::StatusOr<Epoch> Settled(const Ticket& ticket, absl::Duration timeout,
                                detail::Limit& limit) {
    if (core_ == nullptr) [[unlikely]]
      return status();
    if (core_->HeadEpoch() >= ticket.epoch) {
      core_->WritesNoMore();
      return ticket.epoch;
    }
    return AwaitSettled(ticket, timeout, limit);
  }
  [[gnu::noinline]] absl::StatusOr<Epoch> AwaitSettled(const Ticket& ticket, absl::Duration timeout,
                                                       detail::Limit& limit) {
    limit.deadline = detail::Deadline::After(timeout);
    struct Writing {
      detail::ParticipantCore* core;
      ~Writing() { core->WritesNoMore(); }
    } const writing{core_.get()};
    const absl::Status s = ticket.unchanged ? core_->AwaitRead(ticket.epoch, limit)
                                            : core_->AwaitAccepted(ticket.epoch, limit);
    if (!s.ok()) return s;
    return ticket.epoch;
  }

  Validator validator_;  // for the next core, after a Rejoin
  std::unique_ptr<detail::ParticipantCore> core_;
};

}  // namespace epoch

#endif  // EPOCH_PARTICIPANT_H_
