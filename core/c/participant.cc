// Participants through C: joining and leaving, pins, what they say about themselves.
#include "core/c/participant.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/c/options.h"
#include "core/c/region.h"

using epoch::c::Briefly;
using epoch::c::Call;
using epoch::c::InParticipant;
using epoch::c::Inside;
using epoch::c::Kind;
using epoch::c::Pace;
using epoch::c::Refused;
using epoch::c::Use;

namespace epoch::c {
namespace {

// Where c_inline.h looks for it. (Of a class with virtual functions this is an extension, which
// both compilers have.)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winvalid-offsetof"
static_assert(offsetof(epoch_participant, hot) == EPOCH_HOT_OFFSET);
#pragma GCC diagnostic pop

template <typename Number>
absl::Status Given(const absl::StatusOr<Number>& result, Number* to) {
  if (result.ok() && to != nullptr) *to = *result;
  return result.status();
}

void Fill(epoch_participant& participant, epoch_pin& pin) {
  const detail::PinnedState& state = participant.core().pinned_state();
  pin = {
      .participant = &participant, .epoch = state.epoch, .data = state.bytes, .size = state.length};
}

// What a program has announced by itself (c_inline.h), and did not get. Given up, unless it is
// taken over here.
class Claim {
 public:
  explicit Claim(const epoch_claim* claim) : claim_(claim) {}
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;
  ~Claim() { GiveUp(); }
  void GiveUp() noexcept {
    if (claim_ != nullptr) HotPin::GiveUp(*claim_);
    claim_ = nullptr;
  }
  // Inside: whether it is this participant's pin word that says so, for this thread. From then on
  // that is the caller's.
  bool TakeOver(epoch_participant& participant) noexcept {
    if (claim_ == nullptr || participant.pins != 0) return false;
    if (!participant.hot_pin.Stands(*claim_, participant.core())) return false;
    claim_ = nullptr;
    return true;
  }

 private:
  const epoch_claim* claim_;
};

// The first pin of those that are held. Inside.
absl::Status PinFirst(epoch_participant& participant, bool announced, detail::Limit* limit) {
  detail::ParticipantCore& core = participant.core();
  participant.hot_pin.Close();
  for (int tries = 0; !(announced ? core.PinAnnounced(limit) : core.Pin(limit)); ++tries) {
    announced = false;
    absl::Status why = detail::Unchanged(core.WhyUnpinned());
    // A claim of another thread looks like a word that somebody has written over; it may be gone
    // again. What is damaged stays so.
    constexpr int kMostTries = 8;
    if (!absl::IsDataLoss(why) || tries == kMostTries) return why;
    if (participant.hot_pin.MayBeClaimed(core)) return Busy(epoch_participant::kWhat);
  }
  if (core.nested_pins() != 0) {  // on top of a claim that another thread has made just now
    core.Unpin();
    return Busy(epoch_participant::kWhat);
  }
  if (!participant.hot_pin.Open(core)) {
    participant.pins = 1;
    participant.pin = detail::CAccess::PinOf(core);
  }
  return absl::OkStatus();
}

// `wait`: null: not at all.
epoch_code PinInside(epoch_participant* participant, const epoch_claim* made,
                     const WaitOptions* wait, epoch_pin* pin, epoch_error** error) {
  return Call(error, [&]() -> absl::Status {
    Claim claim(made);
    const Inside inside(participant, Kind::kParticipant, epoch_participant::kWhat, Pace::kBrief);
    if (!inside.ok()) return inside.status();
    if (pin == nullptr) return Refused("the place for the pin is NULL");
    const bool announced = claim.TakeOver(*participant);
    claim.GiveUp();
    if (!announced && !participant->Settle()) return Busy(epoch_participant::kWhat);
    if (participant->pins == UINT32_MAX) return Refused("too many pins");
    if (participant->pins == 0) {
      detail::Limit limit =
          wait == nullptr ? detail::Limit(detail::Deadline::AtOnce()) : detail::Limit::Of(*wait);
      if (absl::Status s = PinFirst(*participant, announced, &limit); !s.ok()) return s;
    } else {
      ++participant->pins;  // it counts on the first, and goes at once
    }
    Fill(*participant, *pin);
    return absl::OkStatus();
  });
}

// C++ goes by the pin word, which somebody may have written over.
absl::Status HoldsNoPin(epoch_participant& participant, const char* before) {
  if (!participant.SettleForGood()) return Busy(epoch_participant::kWhat);
  if (participant.pins == 0) return absl::OkStatus();
  return detail::Refuse(Cause::kPinHeld,
                        absl::StrCat("a pin is still held: release it before ", before));
}

}  // namespace
}  // namespace epoch::c

// --- coming and going
// ------------------------------------------------------------------------------

epoch_code epoch_participant_join(epoch_region* region, const epoch_join_options* options,
                                  epoch_participant** participant, epoch_error** error) {
  if (participant != nullptr) *participant = nullptr;
  return Call(error, [&]() -> absl::Status {
    if (participant == nullptr) return Refused("the place for the participant is NULL");
    const Use use(region);
    if (!use.ok()) return epoch::c::Invalid("the region");
    EPOCH_C_TRY(is, epoch::c::JoinOptionsOf(options));
    EPOCH_C_TRY(joined, epoch::Participant::Join(use->region, *is));
    std::string name = joined->name();
    epoch_participant* const cell = epoch::c::TakeCell<epoch_participant>();
    cell->AwaitEntry();
    cell->self.emplace(*std::move(joined));
    cell->name = std::move(name);
    cell->kind.store(Kind::kParticipant, std::memory_order_release);
    cell->Exit(Pace::kBrief);
    *participant = cell;
    return absl::OkStatus();
  });
}

void epoch_participant_free(epoch_participant* participant) {
  if (participant != nullptr) participant->Free(Kind::kParticipant);
}

epoch_code epoch_participant_leave(epoch_participant* participant, epoch_error** error) {
  return Call(error, [&] {
    return InParticipant(
        participant,
        [&](epoch::Participant& self) -> absl::Status {
          if (absl::Status s = epoch::c::HoldsNoPin(*participant, "leaving"); !s.ok()) return s;
          participant->hot_pin.Withdraw(participant->core());
          return self.Leave();
        },
        Pace::kForVoter);
  });
}

epoch_code epoch_participant_rejoin(epoch_participant* participant, epoch_error** error) {
  return Call(error, [&] {
    return InParticipant(
        participant,
        [&](epoch::Participant& self) -> absl::Status {
          if (absl::Status s = epoch::c::HoldsNoPin(*participant, "rejoining"); !s.ok()) return s;
          participant->hot_pin.Withdraw(participant->core());
          const std::lock_guard lock(participant->voting);
          absl::Status rejoined = self.Rejoin();
          if (rejoined.ok()) participant->forked.store(false, std::memory_order_relaxed);
          return rejoined;
        },
        Pace::kForVoter, epoch::c::InChild::kGoesOn);
  });
}

epoch_code epoch_participant_status(epoch_participant* participant, epoch_error** error) {
  return Call(error, [&] {
    return Briefly(participant, [](epoch::Participant& self) { return self.status(); });
  });
}

epoch_code epoch_participant_get_info(epoch_participant* participant, epoch_participant_info* info,
                                      epoch_error** error) {
  return Call(error, [&] {
    return Briefly(participant, [&](epoch::Participant& self) {
      return epoch::c::WriteInfo(info, {.struct_size = 0,
                                        .generation = self.generation(),
                                        .name = participant->name.c_str(),
                                        .slot = self.slot(),
                                        .reserved = 0});
    });
  });
}

// --- what it says
// ----------------------------------------------------------------------------------

epoch_code epoch_participant_poll(epoch_participant* participant, uint64_t* epoch,
                                  epoch_error** error) {
  return Call(error, [&] {
    return InParticipant(
        participant, [&](epoch::Participant& self) { return epoch::c::Given(self.Poll(), epoch); });
  });
}

epoch_code epoch_participant_acknowledge(epoch_participant* participant, uint64_t epoch,
                                         epoch_error** error) {
  return Call(error, [&] {
    return Briefly(participant, [&](epoch::Participant& self) { return self.Acknowledge(epoch); });
  });
}

epoch_code epoch_participant_park(epoch_participant* participant, epoch_error** error) {
  return Call(error, [&] {
    return Briefly(participant, [&](epoch::Participant& self) {
      if (absl::Status s = epoch::c::HoldsNoPin(*participant, "parking"); !s.ok()) return s;
      return self.Park();
    });
  });
}

epoch_code epoch_participant_serve(epoch_participant* participant,
                                   const epoch_wait_options* duration, epoch_error** error) {
  return Call(error, [&] {
    return InParticipant(participant, [&](epoch::Participant& self) -> absl::Status {
      EPOCH_C_TRY(wait, epoch::c::WaitOf(duration));
      return self.Serve(wait->timeout,
                        [&] { return wait->interrupted != nullptr && wait->interrupted(); });
    });
  });
}

// --- pins
// ------------------------------------------------------------------------------------------

// In parentheses: these two are macros, too.
epoch_code(epoch_participant_pin)(epoch_participant* participant, epoch_pin* pin,
                                  epoch_error** error) {
#if defined(EPOCH_HAS_INLINE)
  return epoch_inline_pin(participant, pin, error);
#else
  return epoch_participant_pin_slowly(participant, nullptr, pin, error);
#endif
}

epoch_code epoch_participant_pin_slowly(epoch_participant* participant, const epoch_claim* claim,
                                        epoch_pin* pin, epoch_error** error) {
  if (pin != nullptr) *pin = {};
  const epoch::WaitOptions wait;
  const epoch_code code = epoch::c::PinInside(participant, claim, &wait, pin, error);
  if (claim != nullptr && participant != nullptr) participant->AttendWhatIsAsked();
  return code;
}

epoch_code epoch_participant_try_pin(epoch_participant* participant, const epoch_wait_options* wait,
                                     epoch_pin* pin, epoch_error** error) {
  if (pin != nullptr) *pin = {};
  if (wait == nullptr) return epoch::c::PinInside(participant, nullptr, nullptr, pin, error);
  epoch::WaitOptions is;
  const epoch_code read = Call(error, [&]() -> absl::Status {
    EPOCH_C_TRY(options, epoch::c::WaitOf(wait));
    is = *std::move(options);
    return absl::OkStatus();
  });
  return read != EPOCH_OK ? read : epoch::c::PinInside(participant, nullptr, &is, pin, error);
}

epoch_code(epoch_pin_release)(epoch_pin* pin) {
#if defined(EPOCH_HAS_INLINE)
  return epoch_inline_release(pin);
#else
  return epoch_pin_release_slowly(pin);
#endif
}

epoch_code epoch_pin_release_slowly(epoch_pin* pin) {
  if (pin == nullptr || pin->participant == nullptr) {
    return pin == nullptr ? EPOCH_INVALID_ARGUMENT : EPOCH_FAILED_PRECONDITION;
  }
  epoch_participant* const participant = pin->participant;
  *pin = {};
  if (participant->InValidator() || !participant->TryEnter()) {
    participant->freed_pins.fetch_add(1, std::memory_order_relaxed);
    participant->CallAttention(Pace::kBrief);
    return EPOCH_OK;
  }
  const Kind kind = participant->kind.load(std::memory_order_relaxed);
  if (kind != Kind::kNone) participant->Settle();
  const bool held = participant->pins != 0;
  if (held && --participant->pins == 0) participant->pin.Release();
  // It was freed while it was pinned, and this was all that kept it.
  const bool last = held && participant->pins == 0 && kind != Kind::kParticipant;
  participant->Exit(Pace::kBrief);
  if (last) participant->CallAttention(Pace::kBrief);
  return held ? EPOCH_OK : EPOCH_FAILED_PRECONDITION;
}

void epoch_participant_attend(epoch_participant* participant) {
  if (participant != nullptr) participant->AttendWhatIsAsked();
}
