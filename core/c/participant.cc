// Participants through C: joining and leaving, pins, what they say about themselves.
#include "core/c/participant.h"

#include <utility>

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

template <typename Number>
absl::Status Given(const absl::StatusOr<Number>& result, Number* to) {
  if (result.ok() && to != nullptr) *to = *result;
  return result.status();
}

void Fill(epoch_participant& participant, epoch_pin* pin) {
  const std::span<const std::byte> state = participant.pin.state();
  pin->participant = &participant;
  pin->epoch = participant.pin.epoch();
  pin->data = state.data();
  pin->size = state.size();
}

// `wait`: null: not at all.
[[gnu::noinline]] epoch_code PinSlowly(epoch_participant* participant, const WaitOptions* wait,
                                       epoch_pin* pin, epoch_error** error) {
  return Call(error, [&] {
    return Briefly(participant, [&](Participant& self) -> absl::Status {
      if (pin == nullptr) return Refused("the place for the pin is NULL");
      if (participant->pins == UINT32_MAX) return Refused("too many pins");
      absl::StatusOr<Pin> pinned = wait == nullptr ? self.TryPin() : self.TryPin(*wait);
      if (!pinned.ok()) return detail::Unchanged(pinned.status());
      // A further one counts on the first: it goes at once.
      if (participant->pins++ == 0) participant->pin = *std::move(pinned);
      Fill(*participant, pin);
      return absl::OkStatus();
    });
  });
}

[[gnu::noinline, gnu::cold]] epoch_code PinForSure(epoch_participant* participant, epoch_pin* pin,
                                                   epoch_error** error) {
  if (pin != nullptr) *pin = {};
  const WaitOptions wait;
  return PinSlowly(participant, &wait, pin, error);
}
// Inside, where it could not be pinned at once.
[[gnu::noinline, gnu::cold]] epoch_code PinAfterAll(epoch_participant* participant, epoch_pin* pin,
                                                    epoch_error** error) {
  participant->Exit(Pace::kBrief);
  return PinForSure(participant, pin, error);
}

// What is not the release of the only pin of an open participant that nobody is inside of.
[[gnu::noinline, gnu::cold]] epoch_code ReleaseSlowly(epoch_participant* participant,
                                                      epoch_pin* pin, bool inside) {
  *pin = {};
  if (!inside && (participant->InValidator() || !participant->TryEnter())) {
    participant->freed_pins.fetch_add(1, std::memory_order_relaxed);
    participant->CallAttention(Pace::kBrief);
    return EPOCH_OK;
  }
  const bool held = participant->pins != 0;
  if (held && --participant->pins == 0) participant->pin.Release();
  // It was freed while it was pinned, and this was all that kept it.
  const bool last = held && participant->pins == 0 &&
                    participant->kind.load(std::memory_order_relaxed) != Kind::kParticipant;
  participant->Exit(Pace::kBrief);
  if (last) participant->CallAttention(Pace::kBrief);
  return held ? EPOCH_OK : EPOCH_FAILED_PRECONDITION;
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
    return InParticipant(participant, [](epoch::Participant& self) { return self.Leave(); });
  });
}

epoch_code epoch_participant_rejoin(epoch_participant* participant, epoch_error** error) {
  return Call(error, [&] {
    return InParticipant(participant, [&](epoch::Participant& self) {
      const std::lock_guard lock(participant->voting);
      return self.Rejoin();
    });
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
    return Briefly(participant, [](epoch::Participant& self) { return self.Park(); });
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

epoch_code epoch_participant_pin(epoch_participant* participant, epoch_pin* pin,
                                 epoch_error** error) {
  // What is rare is elsewhere: each word that is put on the stack here has to be on its way to
  // memory before the pin is.
  if (participant == nullptr || pin == nullptr || !participant->TryEnter()) [[unlikely]] {
    return epoch::c::PinForSure(participant, pin, error);
  }
  if (participant->kind.load(std::memory_order_relaxed) != Kind::kParticipant ||
      participant->validating.load(std::memory_order_relaxed) != 0 || participant->pins != 0)
      [[unlikely]] {
    return epoch::c::PinAfterAll(participant, pin, error);
  }
  participant->pin = participant->self->Pin();
  if (!participant->pin.ok()) [[unlikely]] {
    return epoch::c::PinAfterAll(participant, pin, error);
  }
  participant->pins = 1;
  epoch::c::Fill(*participant, pin);
  if (error != nullptr) *error = nullptr;
  participant->Exit(Pace::kBrief);
  return EPOCH_OK;
}

epoch_code epoch_participant_try_pin(epoch_participant* participant, const epoch_wait_options* wait,
                                     epoch_pin* pin, epoch_error** error) {
  if (pin != nullptr) *pin = {};
  if (wait == nullptr) return epoch::c::PinSlowly(participant, nullptr, pin, error);
  epoch::WaitOptions is;
  const epoch_code read = Call(error, [&]() -> absl::Status {
    EPOCH_C_TRY(options, epoch::c::WaitOf(wait));
    is = *std::move(options);
    return absl::OkStatus();
  });
  return read != EPOCH_OK ? read : epoch::c::PinSlowly(participant, &is, pin, error);
}

epoch_code epoch_pin_release(epoch_pin* pin) {
  if (pin == nullptr || pin->participant == nullptr) [[unlikely]] {
    return pin == nullptr ? EPOCH_INVALID_ARGUMENT : EPOCH_FAILED_PRECONDITION;
  }
  epoch_participant* const participant = pin->participant;
  if (participant->validating.load(std::memory_order_relaxed) != 0 || !participant->TryEnter())
      [[unlikely]] {
    return epoch::c::ReleaseSlowly(participant, pin, /*inside=*/false);
  }
  if (participant->pins != 1 ||
      participant->kind.load(std::memory_order_relaxed) != Kind::kParticipant) [[unlikely]] {
    return epoch::c::ReleaseSlowly(participant, pin, /*inside=*/true);
  }
  participant->pins = 0;
  participant->pin.Release();
  participant->Exit(Pace::kBrief);
  *pin = {};
  return EPOCH_OK;
}
