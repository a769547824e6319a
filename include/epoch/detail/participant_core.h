// The machinery behind Participant, Pin and Draft. See participant.h for what each call promises.
//
// Barriers:
//   A  Pin: the CAS that announces the pin is also the store-load barrier before head is re-read;
//      pairs with C in Reclaim (head before pins) and with the fence's drain scan.
//   D  slot state before lock byte (slots.h).
//   E  PinSlowly: narrowing an announcement releases what was read before.
//   G  HoldTail: the exchange that announces the guard, before tail is re-read; pairs with C.
#ifndef EPOCH_DETAIL_PARTICIPANT_CORE_H_
#define EPOCH_DETAIL_PARTICIPANT_CORE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "epoch/detail/bell.h"
#include "epoch/detail/check.h"
#include "epoch/detail/mapping.h"
#include "epoch/detail/slots.h"
#include "epoch/detail/transition.h"
#include "epoch/options.h"

namespace epoch::detail {

struct PinnedState {
  Epoch epoch = 0;
  const std::byte* bytes = nullptr;
  std::size_t length = 0;
};

struct TailState {
  Epoch epoch;
  std::uint64_t token;
  const std::byte* bytes;
  std::size_t length;
};

class ParticipantCore final : public ForkAware {
 public:
  static absl::StatusOr<std::unique_ptr<ParticipantCore>> Join(std::shared_ptr<Mapping> mapping,
                                                               const JoinOptions& options) {
    if (mapping->read_only()) {
      return absl::PermissionDeniedError(
          absl::StrCat(mapping->path(), " is mapped read-only: open it for writing to join"));
    }
    if (options.name.size() >= kNameBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("participant name is longer than ", kNameBytes - 1, " bytes"));
    }
    absl::StatusOr<SlotClaim> claim =
        TakeSlot(*mapping, options.name, options.voter ? std::uint32_t{kSlotVoter} : 0u);
    if (!claim.ok()) return claim.status();
    auto core = std::make_unique<ParticipantCore>(Badge{}, std::move(mapping), options, *claim);
    // Only now that the slot is Active are tail and head read: a scan of the slots that missed
    // this one was over before, so what it decided is already visible here.
    HelpAccepted(core->view_);
    core->Acknowledge(core->HeadEpoch());
    return core;
  }

  class Badge {
    friend class ParticipantCore;
    Badge() = default;
  };
  ParticipantCore(Badge, std::shared_ptr<Mapping> mapping, const JoinOptions& options,
                  const SlotClaim& claim)
      : slot_(&mapping->view().slots[claim.slot]),
        active_(SlotWord{SlotState::kActive, claim.generation}.Pack()),
        unpinned_(NoneOf(claim.generation)),
        announced_(PinWord(0)),
        release_word_(unpinned_),
        view_(mapping->view()),
        mapping_(std::move(mapping)),
        options_(options),
        claim_(claim),
        // Participants start their search for cells apart from each other.
        cursor_(claim.slot * 7 % view_.geometry.versions) {
    nowhere_.pin.Store(unpinned_);
    Register();
  }
  ~ParticipantCore() {
    EPOCH_CHECK(!pinned(), "a Pin outlives its Participant");
    EPOCH_CHECK(drafts_ == 0, "a Draft outlives its Participant");
    Leave();
    Unregister();
  }

  // --- reading -----------------------------------------------------------------------------------

  // False: expelled, forked away, or (only if it may not wait) a fence drains.
  //
  // The fast path stores nothing but the slot's own word: that word is also the only record of
  // whether a pin is held, since every further store would have to drain before the next CAS.
  [[gnu::always_inline]] bool Pin(bool may_wait = true) noexcept {
    Slot* const slot = slot_;  // loaded once: the compiler may not do so across the CAS
    // Any epoch that head has had will do for the announcement: an older one protects more.
    std::uint64_t found = unpinned_;
    const bool mine = slot->pin.CompareExchange(found, announced_);
    if (__builtin_expect(!mine, 0)) return PinAgain(found);
    EPOCH_POINT("pin.announced");
    const std::uint64_t word = view_.control->head.Load();  // A
    if (__builtin_expect(word != pinned_word_, 0)) return PinSlowly(word, may_wait);
    // After the announcement: either the expeller sees the pin, or this sees the expulsion.
    if (__builtin_expect(slot->state.Load() != active_, 0)) return PinSlowly(word, may_wait);
    return true;
  }

  [[gnu::always_inline]] void Unpin() noexcept {
    const std::uint64_t word = release_word_;
    if (__builtin_expect(word == 0, 0)) return UnpinNested();
    // Release: what was read through the pin is read before the cell may be recycled.
    slot_->pin.Store(word, std::memory_order_release);
  }

  // Only this participant writes its pin word. (Compared with what it announced, not with "none":
  // a scribbled word is no pin.)
  bool pinned() const noexcept { return slot_->pin.Load(std::memory_order_relaxed) == announced_; }
  bool drafting() const noexcept { return drafts_ != 0; }
  const PinnedState& pinned_state() const noexcept { return pinned_; }

  // Why Pin() returned false although it might wait.
  absl::Status WhyUnpinned() const {
    if (absl::Status s = Status(); !s.ok()) return s;
    const StateWord head = StateWord::Unpack(view_.control->head.Load());
    if (!view_.ValidCell(head.version) ||
        view_.cells[head.version].length_bytes.Load() > view_.geometry.state_bytes) {
      return absl::DataLossError(absl::StrCat(mapping_->path(),
                                              ": the epoch word or the version it "
                                              "names (",
                                              head.version, ") is damaged"));
    }
    return absl::DataLossError(absl::StrCat(mapping_->path(), ": the pin word of slot ",
                                            claim_.slot, " was overwritten by somebody else"));
  }

  Epoch HeadEpoch() const noexcept { return StateWord::Unpack(view_.control->head.Load()).epoch; }

  // The newest accepted state, protected by a guard until ReleaseTail. Lock-free: tail moves on
  // under it only when another's transition was accepted.
  absl::StatusOr<TailState> HoldTail() {
    if (holds_tail_) {
      return absl::FailedPreconditionError("an update inside of an update: propose it afterwards");
    }
    std::uint64_t word = view_.control->tail.Load();
    StateWord tail{};
    for (;;) {
      tail = StateWord::Unpack(word);
      if (tail.phase != Phase::kAccepted || !view_.ValidCell(tail.version)) {
        ReleaseTail();
        return Refused(tail.phase != Phase::kAccepted ? Refusal::kVoting : Refusal::kDamaged,
                       tail.epoch);
      }
      slot_->help.Exchange((unpinned_ & ~kNumberMask) | tail.version);
      holds_tail_ = true;
      EPOCH_POINT("update.announced");
      // G: pairs with C. Still named by tail, so not below any head that a reclaimer has seen
      // before it looks at the guards.
      const std::uint64_t again = view_.control->tail.Load();
      if (again == word) break;
      word = again;
    }
    const VersionCell& cell = view_.cells[tail.version];
    const std::uint64_t length = cell.length_bytes.Load(std::memory_order_relaxed);
    if (length > view_.geometry.state_bytes) {
      ReleaseTail();
      return Refused(Refusal::kDamaged, tail.epoch);
    }
    return TailState{tail.epoch, cell.token.Load(std::memory_order_relaxed),
                     view_.PayloadOf(tail.version), static_cast<std::size_t>(length)};
  }

  void ReleaseTail() noexcept {
    if (!std::exchange(holds_tail_, false)) return;
    // Release: what was read under the guard is read before the cell may be recycled.
    slot_->help.Store(unpinned_, std::memory_order_release);
  }

  // --- drafting and committing -------------------------------------------------------------------

  absl::StatusOr<DraftedCell> NewDraft(std::size_t size) {
    if (size > view_.geometry.state_bytes) return TooLarge(size);
    for (bool reaped = false;;) {
      if (absl::Status s = Ready(); !s.ok()) return s;
      if (auto cell = DraftCell(view_, claim_.slot, cursor_); cell.has_value()) {
        ++drafts_;
        return *cell;
      }
      const Epoch head = HeadEpoch();
      if (view_.durable && StateWord::Unpack(view_.control->tail.Load()).epoch > head) {
        // Accepted versions wait for the disk: back-pressure, not exhaustion.
        absl::Status s = AwaitCommitted(head + 1, absl::Seconds(10));
        if (s.ok()) continue;
        return absl::Status(s.code(), absl::StrCat("no free version, and the journal does not "
                                                   "move on: ",
                                                   std::string(s.message())));
      }
      if (reaped) return NoVersions();
      ReapAll(*mapping_);
      reaped = true;
    }
  }

  void Drop(const DraftedCell& cell) noexcept {
    --drafts_;
    if (!forked_) DropDraft(view_, cell);
  }

  std::byte* PayloadOf(const DraftedCell& cell) const noexcept {
    return view_.PayloadOf(cell.index);
  }
  std::uint64_t state_bytes() const noexcept { return view_.geometry.state_bytes; }

  absl::StatusOr<Epoch> Accept(const DraftedCell& cell, std::size_t size, std::uint64_t token,
                               std::optional<Epoch> expected) {
    if (absl::Status s = Ready(); !s.ok()) return s;
    if (view_.durable) {
      // Before the tail CAS: after it, "accepted, outcome pending" is the only honest answer.
      if (absl::Status s = JournalReady(); !s.ok()) return s;
    }
    const std::uint64_t digest = Xxh64::Of(PayloadOf(cell), size);
    const Acceptance accepted = detail::Accept(view_, claim_, cell, size, digest, token, expected);
    if (accepted.refusal == Refusal::kAccepted) [[likely]] {
      --drafts_;
      // Whoever serves the journal may be asleep; a process that can flush does so itself.
      if (view_.durable && mapping_->port() == nullptr) Ring(*view_.control);
      return accepted.at;
    }
    if (accepted.refusal == Refusal::kExpectedDiffers) {
      return ExpectedDiffers(*expected, accepted.at);
    }
    return Refused(accepted.refusal, accepted.at);
  }

  // --- waiting -----------------------------------------------------------------------------------

  // `accepted`: the epoch is this participant's own transition. To be expelled changes nothing
  // about it any more; an error would say that nothing was changed, and be wrong.
  absl::Status AwaitCommitted(Epoch epoch, absl::Duration timeout, bool accepted = false) {
    if (HeadEpoch() >= epoch) return absl::OkStatus();
    if (absl::Status s = Status(); !accepted && !s.ok()) return s;
    const std::int64_t deadline_ns = DeadlineAfter(timeout);
    Slices slices(deadline_ns);
    std::string stalled;
    for (;;) {
      HelpAccepted(view_);
      const StateWord head = StateWord::Unpack(view_.control->head.Load());
      if (head.epoch >= epoch) return absl::OkStatus();
      if (head.phase == Phase::kPoisoned) {
        return absl::DataLossError(
            absl::StrCat("the journal failed: whether epoch ", epoch,
                         " is durable is unknown until recovery; head stays at ", head.epoch));
      }
      std::int64_t nanos = slices.Next();
      bool idle = true;
      const std::uint64_t tail_word = view_.control->tail.Load();
      if (view_.durable && StateWord::Unpack(tail_word).epoch > head.epoch) {
        if (JournalPort* port = mapping_->port(); port != nullptr) {
          absl::StatusOr<JournalPort::Outcome> flushed =
              port->Flush(claim_.slot, claim_.generation);
          if (absl::IsResourceExhausted(flushed.status())) {
            stalled = absl::StrCat(" (", std::string(flushed.status().message()), ")");
          } else if (!flushed.ok()) {
            return flushed.status();
          } else if (flushed->progress == JournalPort::Progress::kMoved && nanos > 0) {
            slices = Slices(deadline_ns);
            continue;
          } else if (flushed->progress == JournalPort::Progress::kBusy) {
            nanos = std::min(nanos, flushed->help_after_ns);
            idle = false;
          }
        } else if (!SomebodyFlushes()) {
          return absl::UnavailableError(
              absl::StrCat("epoch ", epoch,
                           " is accepted, but nobody writes the journal now: "
                           "its outcome is pending"));
        }
      }
      if (nanos <= 0) {
        if (HeadEpoch() >= epoch) return absl::OkStatus();
        return absl::DeadlineExceededError(
            absl::StrCat("the region is at epoch ", head.epoch, ", not yet at ", epoch,
                         StateWord::Unpack(tail_word).epoch >= epoch
                             ? "; the transition is accepted and its outcome pending"
                             : "",
                         stalled));
      }
      SleepUnless(*view_.control, nanos, [&] {
        return view_.control->head.Load() != head.Pack() ||
               (idle && view_.control->tail.Load() != tail_word);
      });
    }
  }

  absl::Status AwaitConverged(Epoch epoch, absl::Duration timeout) {
    if (pinned()) {
      return absl::FailedPreconditionError(
          "waiting for convergence while holding a pin would wait for oneself: release it first");
    }
    const std::int64_t deadline_ns = DeadlineAfter(timeout);
    if (absl::Status s = AwaitCommitted(epoch, timeout); !s.ok()) return s;
    Slices slices(deadline_ns, 1'000'000, 2'000'000);  // a death is noticed within 2 ms
    const auto converged = [&] {
      bool behind = false;
      ForEachStraggler(*mapping_, epoch, [&](std::uint32_t) { return !(behind = true); });
      return !behind;
    };
    for (;;) {
      if (absl::StatusOr<Epoch> polled = Poll(); !polled.ok()) return polled.status();
      if (converged()) return absl::OkStatus();
      const std::int64_t nanos = slices.Next();
      if (nanos <= 0) {
        return absl::DeadlineExceededError(absl::StrCat("epoch ", epoch,
                                                        " is committed, but not acknowledged by ",
                                                        NameStragglers(*mapping_, epoch)));
      }
      SleepUnless(*view_.control, nanos, converged);
    }
  }

  absl::StatusOr<Epoch> Poll() {
    if (absl::Status s = Ready(); !s.ok()) return s;
    HelpAccepted(view_);
    // What is pinned is what this participant operates under, however far head has moved.
    const Epoch epoch = pinned() ? pinned_.epoch : HeadEpoch();
    Acknowledge(epoch);
    return epoch;
  }

  absl::Status Park() {
    if (absl::Status s = Status(); !s.ok()) return s;
    if (pinned()) {
      return absl::FailedPreconditionError("a participant that holds a pin can not park");
    }
    parked_ = true;
    pinned_word_ = 0;
    slot_->flags.FetchOr(kSlotParked);
    Ring(*view_.control);
    return absl::OkStatus();
  }

  absl::Status Serve(absl::Duration duration, absl::FunctionRef<bool()> stop) {
    if (absl::Status s = Status(); !s.ok()) return s;
    if (!view_.durable) {
      return absl::FailedPreconditionError("the region is volatile: there is no journal to serve");
    }
    if (mapping_->port() == nullptr) {
      return absl::FailedPreconditionError(
          "this program has no compiled journal: link epoch::journal");
    }
    const std::int64_t deadline_ns = DeadlineAfter(duration);
    // Raised once for the whole time: between two looks at `stop` others must still count on it.
    slot_->flags.FetchOr(kSlotFlushes);
    absl::Status s;
    do {
      const std::int64_t left_ns = deadline_ns - seam::MonotonicNanos();
      s = AwaitCommitted(kMaxEpoch, std::min(absl::Nanoseconds(left_ns), absl::Milliseconds(100)));
    } while (absl::IsDeadlineExceeded(s) && !stop() && seam::MonotonicNanos() < deadline_ns);
    SetFlags(slot_->flags.Load() & ~std::uint32_t{kSlotFlushes});
    return absl::IsDeadlineExceeded(s) ? absl::OkStatus() : s;
  }

  // --- membership --------------------------------------------------------------------------------

  absl::Status Status() const {
    if (forked_) {
      return absl::FailedPreconditionError(
          "this participant belongs to the parent process: join anew after fork()");
    }
    if (left_) return absl::FailedPreconditionError("this participant has left the region");
    if (slot_->state.Load() != active_) {
      return absl::FailedPreconditionError(absl::StrCat("expelled: slot ", claim_.slot,
                                                        " was taken from \"", options_.name,
                                                        "\"; rejoin to go on"));
    }
    return absl::OkStatus();
  }

  void Leave() noexcept {
    if (forked_ || left_) return;
    left_ = true;
    ReturnSlot(*mapping_, claim_);
    slot_ = &nowhere_;
  }

  // A new participant in a new slot, in place of this one.
  absl::StatusOr<std::unique_ptr<ParticipantCore>> Successor() {
    EPOCH_CHECK(drafts_ == 0, "a Draft outlives its Participant");
    Leave();
    return Join(mapping_, options_);
  }

  const SlotClaim& claim() const noexcept { return claim_; }
  const std::string& name() const noexcept { return options_.name; }

  void BeforeFork() noexcept override {
    // Not through slot_, which may belong to another thread's Leave().
    pin_at_fork_ = view_.slots[claim_.slot].pin.Load(std::memory_order_relaxed);
  }
  void AfterForkInChild() noexcept override {
    // Pins and drafts copied from the parent must touch nothing that is shared. What was pinned at
    // the fork is remembered: the parent goes on, and its word with it.
    if (forked_) return;  // a child's child
    forked_ = true;
    if (!left_ && pin_at_fork_ == announced_) nowhere_.pin.Store(announced_);
    slot_ = &nowhere_;
  }

  absl::Status TooLarge(std::size_t size) const {
    return absl::OutOfRangeError(absl::StrCat("a state of ", size,
                                              " bytes does not fit: ", mapping_->path(),
                                              " was created for ", view_.geometry.state_bytes));
  }
  absl::Status ExpectedDiffers(Epoch expected, Epoch found) const {
    return absl::AbortedError(absl::StrCat("expected epoch ", expected, ", but the region is at ",
                                           found, "; nothing was changed"));
  }

 private:
  // False if what shared memory says can not be: it is checked before it is used.
  bool Fill(std::uint64_t word) noexcept {
    const StateWord head = StateWord::Unpack(word);
    if (!view_.ValidCell(head.version)) return false;
    const std::uint64_t length =
        view_.cells[head.version].length_bytes.Load(std::memory_order_relaxed);
    if (length > view_.geometry.state_bytes) return false;
    pinned_ = {head.epoch, view_.PayloadOf(head.version), static_cast<std::size_t>(length)};
    pinned_word_ = word;
    return true;
  }

  // The pin word was not "none": a pin is held already, or the slot is not this participant's.
  [[gnu::noinline]] bool PinAgain(std::uint64_t found) noexcept {
    if (forked_ || found != announced_) return false;
    ++nested_;
    release_word_ = 0;
    return true;
  }
  [[gnu::noinline]] void UnpinNested() noexcept {
    if (--nested_ == 0) release_word_ = unpinned_;
  }

  std::uint64_t PinWord(std::uint64_t head_word) const noexcept {
    return (unpinned_ & ~kNumberMask) | (head_word & kNumberMask);
  }

  // Announced already; something is not as the fast path wants it.
  [[gnu::noinline]] bool PinSlowly(std::uint64_t word, bool may_wait) noexcept {
    if (parked_) {
      // Before head is read: a scan that still met the flag, and so did not wait for this one, came
      // after its epoch was committed, and then that epoch is found here.
      EPOCH_POINT("pin.unparking");
      Unpark();
      word = view_.control->head.Load();
    }
    // Announce exactly what head names, and look again: once head still names it, it is protected,
    // and nothing else is. If head keeps moving, announce "all from here" instead, which holds for
    // whatever head names next: that bounds the loop.
#ifdef EPOCH_PIN_EXACT_ATTEMPTS  // a test build, that wants to come here more often
    constexpr int kExactAttempts = EPOCH_PIN_EXACT_ATTEMPTS;
#else
    constexpr int kExactAttempts = 64;
#endif
    for (int attempt = 0;; ++attempt) {
      if (StateWord::Unpack(word).phase == Phase::kClosed) {
        slot_->pin.Store(unpinned_);  // withdraw: the fence waits for exactly this
        Ring(*view_.control);
        if (!may_wait || slot_->state.Load() != active_) return false;
        SleepUnless(*view_.control, 1'000'000, [&] { return view_.control->head.Load() != word; });
        word = view_.control->head.Load();
        attempt = -1;
        continue;
      }
      const bool exact = attempt < kExactAttempts;
      announced_ = PinWord(word);
      slot_->pin.Exchange(exact ? announced_ : announced_ | kPinsAllFrom);  // A
      EPOCH_POINT("pin.announced_again");
      const std::uint64_t again = view_.control->head.Load();  // A
      const bool settled = again == word || !exact;
      word = again;
      if (settled && StateWord::Unpack(word).phase != Phase::kClosed) break;
    }
    if (slot_->state.Load() != active_) {
      slot_->pin.Store(unpinned_);
      return false;
    }
    if (announced_ != PinWord(word) || slot_->pin.Load(std::memory_order_relaxed) != announced_) {
      // Narrowed to what was found. A scan meets one word or the other, and both protect this
      // version. E: release, so that whoever meets the narrow word and frees other cells comes
      // after this participant's earlier reads of them.
      announced_ = PinWord(word);
      slot_->pin.Store(announced_, std::memory_order_release);  // E
    }
    if (!Fill(word)) {
      slot_->pin.Store(unpinned_);
      return false;
    }
    Acknowledge(StateWord::Unpack(word).epoch);
    return true;
  }

  void Acknowledge(Epoch epoch) noexcept {
    if (epoch == acknowledged_) return;
    acknowledged_ = epoch;
    slot_->ack.Exchange((unpinned_ & ~kNumberMask) | epoch);  // full barrier, then look at the bell
    Ring(*view_.control);
  }

  void Unpark() noexcept {
    parked_ = false;
    SetFlags(slot_->flags.Load() & ~std::uint32_t{kSlotParked});
  }
  void SetFlags(std::uint32_t flags) noexcept { slot_->flags.Exchange(flags); }

  // Active, and not parked any more. (A forked or departed participant's slot_ is never Active.)
  absl::Status Ready() {
    if (slot_->state.Load() != active_) [[unlikely]]
      return Status();
    if (parked_) [[unlikely]]
      Unpark();
    return absl::OkStatus();
  }

  bool SomebodyFlushes() const noexcept {
    const std::uint32_t limit = view_.SlotLimit();
    for (std::uint32_t i = 0; i < limit; ++i) {
      const Slot& slot = view_.slots[i];
      if (SlotWord::Unpack(slot.state.Load()).state == SlotState::kActive &&
          (slot.flags.Load() & kSlotFlushes) != 0 && OwnerAlive(mapping_->probe_fd(), i)) {
        return true;
      }
    }
    return false;
  }

  absl::Status JournalReady() {
    if (StateWord::Unpack(view_.control->head.Load()).phase == Phase::kPoisoned) {
      return absl::UnavailableError(
          absl::StrCat("the journal failed a write: ", mapping_->path(),
                       " is read-only until it is recovered (epochctl recover); nothing was "
                       "changed"));
    }
    JournalPort* port = mapping_->port();
    if (port == nullptr) {
      if (SomebodyFlushes()) return absl::OkStatus();
      return absl::UnavailableError(
          "nobody writes the journal: link epoch::journal, or run a process that serves it; "
          "nothing was changed");
    }
    if (view_.control->journal_stall_errno.Load(std::memory_order_relaxed) != 0) {
      // The disk was full. Try again; while it still is, take on nothing new.
      absl::StatusOr<JournalPort::Outcome> flushed = port->Flush(claim_.slot, claim_.generation);
      if (!flushed.ok()) {
        return absl::Status(
            flushed.status().code(),
            absl::StrCat(std::string(flushed.status().message()), "; nothing was changed"));
      }
      if (flushed->progress == JournalPort::Progress::kIdle) {
        view_.control->journal_stall_errno.Store(0, std::memory_order_relaxed);  // a late report
      } else if (flushed->progress == JournalPort::Progress::kBusy &&
                 view_.control->journal_stall_errno.Load(std::memory_order_relaxed) != 0) {
        return absl::ResourceExhaustedError(
            "the disk is full: accepted transitions wait for room for the next journal segment; "
            "nothing was changed");
      }
    }
    return absl::OkStatus();
  }

  absl::Status NoVersions() const {
    std::string holders;
    std::size_t count = 0;
    const auto add = [&](const std::string& holder) {
      if (++count <= 5) absl::StrAppend(&holders, holders.empty() ? "" : ", ", holder);
    };
    for (std::uint32_t i = 0; i < view_.SlotLimit(); ++i) {
      const PinReading pin = PinReading::Of(view_.slots[i].pin.Load());
      std::uint32_t drafted = 0;
      for (std::uint32_t cell = 0; cell < view_.geometry.versions; ++cell) {
        const OwnerWord owner = OwnerWord::Unpack(view_.cells[cell].owner.Load());
        drafted += owner.state == CellState::kDrafted && owner.slot == i ? 1 : 0;
      }
      const std::string who = DescribeSlot(view_, i);
      if (pin.held) {
        add(absl::StrCat(who, " pins ", pin.all_from ? "all from " : "", "epoch ", pin.epoch));
      }
      if (drafted != 0) add(absl::StrCat(who, " drafts ", drafted));
    }
    return absl::ResourceExhaustedError(
        absl::StrCat("no free version among ", view_.geometry.versions, " in ", mapping_->path(),
                     ": ", holders.empty() ? "nobody holds them any more, try again" : holders));
  }

  absl::Status Refused(Refusal refusal, Epoch at) const {
    switch (refusal) {
      case Refusal::kVoting:
        return absl::UnavailableError(absl::StrCat("a vote on epoch ", at, " is undecided"));
      case Refusal::kExpelled:
        return Status();
      case Refusal::kFull:
        return absl::OutOfRangeError("epoch numbers are used up");
      default:
        return absl::DataLossError(
            absl::StrCat(mapping_->path(), ": the tail word is damaged at epoch ", at));
    }
  }

  // Hot: everything that Pin and Unpin touch in this process.
  Slot* slot_;
  const std::uint64_t active_;
  const std::uint64_t unpinned_;
  std::uint64_t announced_;     // what Pin writes into the slot: an epoch that head has had
  std::uint64_t release_word_;  // what Unpin writes: unpinned_, or 0 while pins are nested
  // The head word that `pinned_` was read from. While head is still that word, its version is the
  // same one: it is Open, acknowledged, checked, and this participant is not parked. 0: none.
  std::uint64_t pinned_word_ = 0;
  PinnedState pinned_;
  const RegionView view_;
  Epoch acknowledged_ = kNone;
  std::uint32_t nested_ = 0;  // pins beyond the first
  bool parked_ = false;
  bool holds_tail_ = false;

  const std::shared_ptr<Mapping> mapping_;
  const JoinOptions options_;
  const SlotClaim claim_;
  std::uint32_t cursor_;
  std::uint32_t drafts_ = 0;
  bool forked_ = false;
  bool left_ = false;
  std::uint64_t pin_at_fork_ = 0;
  Slot nowhere_{};  // what slot_ points to when the shared slot is not ours (any more)
};

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_PARTICIPANT_CORE_H_
