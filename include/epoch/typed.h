// Typed state: a region whose state is one trivially copyable struct.
//
//   struct Limits { double speed_m_s = 1.0; std::uint32_t retries = 3; };
//   epoch::CommitValue(self, Limits{2.0, 5});
//   epoch::UpdateValue<Limits>(self, [](Limits& limits) { ++limits.retries; });
//   epoch::Pin pin = self.Pin();
//   auto limits = epoch::Value<Limits>(pin);  // StatusOr<const Limits*>, valid while `pin` is held
//
// The state is the struct's bytes, in place: reading copies nothing. So every program of the region
// must agree on the struct, and nothing but its size is checked: give it a version field if it will
// change, and no pointers or references, which mean nothing in another process.
// Padding is part of the bytes: it is digested, journaled and visible to others. A struct whose
// padding must not matter is one without (std::has_unique_object_representations_v), or one that is
// only ever changed by UpdateValue, which carries the padding over.
//
// Thread safety and progress: as the Participant and Pin that are used.
#ifndef EPOCH_TYPED_H_
#define EPOCH_TYPED_H_

#include <concepts>
#include <cstddef>
#include <cstring>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "epoch/detail/memory/layout.h"
#include "epoch/options.h"
#include "epoch/participant.h"

namespace epoch {

// What can be a state byte for byte. Payloads start at multiples of 128 bytes.
template <typename T>
concept Shareable =
    std::is_object_v<T> && std::same_as<T, std::remove_cvref_t<T>> && !std::is_pointer_v<T> &&
    !std::is_member_pointer_v<T> && std::is_trivially_copyable_v<T> &&
    alignof(T) <= detail::kHotStride;

namespace detail {

inline absl::Status NoValueYet(Epoch epoch) {
  return Because(Cause::kOther,
                 absl::NotFoundError(absl::StrCat("the state of epoch ", epoch,
                                                  " is empty: no value has been committed yet")));
}
inline absl::Status OtherValueSize(Epoch epoch, std::size_t found, std::size_t wanted) {
  return Refuse(Cause::kOther, absl::StrCat("the state of epoch ", epoch, " has ", found,
                                            " bytes, the type asked for has ", wanted,
                                            ": it was committed as something else"));
}

}  // namespace detail

// The pinned state as a T, in place. Valid while the pin is held. Wait-free.
// Errors: NotFound (the state is empty, as it is at epoch 0 of a new region), FailedPrecondition
// (the state has another size than T; the pin is empty).
template <Shareable T>
absl::StatusOr<const T*> Value(const Pin& pin) {
  if (!pin.ok()) return absl::FailedPreconditionError("the pin is empty");
  const std::span<const std::byte> state = pin.state();
  if (state.empty()) return detail::NoValueYet(pin.epoch());
  if (state.size() != sizeof(T)) {
    return detail::OtherValueSize(pin.epoch(), state.size(), sizeof(T));
  }
  return std::launder(reinterpret_cast<const T*>(state.data()));
}
template <Shareable T>
absl::StatusOr<const T*> Value(Pin&&) = delete;  // it would point to what is no longer held

// Commits `value` as the next state. Errors: as Participant::Commit.
template <Shareable T>
absl::StatusOr<Epoch> CommitValue(Participant& self, const T& value,
                                  const CommitOptions& options = detail::Unset<CommitOptions>()) {
  return self.Commit(std::as_bytes(std::span<const T, 1>(&value, 1)), options);
}

// Read-modify-write: calls `fn(T&)` with a copy of the newest accepted value, in the draft of its
// direct successor, and commits that. Called again whenever another transition came first, so `fn`
// must depend on nothing but its argument. It returns nothing or an absl::Status; an error ends the
// update with nothing changed, and NoChange() with nothing to do (as Participant::Update).
// An empty state counts as T{} (if T has a default constructor; NotFound otherwise).
// Errors: as Participant::Update; FailedPrecondition (the state has another size than T).
template <Shareable T, typename Fn>
requires std::invocable<Fn&, T&> absl::StatusOr<Epoch> UpdateValue(
    Participant& self, Fn&& fn, const CommitOptions& options = detail::Unset<CommitOptions>()) {
  using Result = std::invoke_result_t<Fn&, T&>;
  static_assert(std::is_void_v<Result> || std::same_as<Result, absl::Status>,
                "the function returns nothing or an absl::Status");
  return self.Update(
      [&fn](const Current& current, Draft& next) -> absl::Status {
        if (absl::Status s = next.Resize(sizeof(T)); !s.ok()) return s;
        std::byte* const bytes = next.bytes().data();
        if (current.state.size() == sizeof(T)) {
          std::memcpy(bytes, current.state.data(), sizeof(T));
        } else if (!current.state.empty()) {
          return detail::OtherValueSize(current.epoch, current.state.size(), sizeof(T));
        } else if constexpr (std::is_default_constructible_v<T>) {
          std::memset(bytes, 0, sizeof(T));  // the padding, too
          ::new (static_cast<void*>(bytes)) T{};
        } else {
          return detail::NoValueYet(current.epoch);
        }
        T& value = *std::launder(reinterpret_cast<T*>(bytes));
        if constexpr (std::is_void_v<Result>) {
          fn(value);
          return absl::OkStatus();
        } else {
          return fn(value);
        }
      },
      options);
}

}  // namespace epoch

#endif  // EPOCH_TYPED_H_
