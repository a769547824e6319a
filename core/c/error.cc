#include "core/c/error.h"

#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "core/c/options.h"
#include "epoch/detail/platform/check.h"

struct epoch_error {
  epoch_code code = EPOCH_UNKNOWN;
  std::string message{};
  epoch::ErrorDetails details{};
  int error_number = 0;
};

namespace epoch::c {
namespace {

// For when there is no memory for another one. Never freed, and never destroyed.
epoch_error& NoMemory(Outcome outcome) {
  static epoch_error* const errors = [] {
    // In place: there is no memory to be had.
    alignas(epoch_error) static std::byte room[2][sizeof(epoch_error)];
    for (auto& place : room) {
      new (place) epoch_error{.code = EPOCH_RESOURCE_EXHAUSTED, .message = "no memory"};
    }
    auto* const made = std::launder(reinterpret_cast<epoch_error*>(room));
    for (int i = 0; i < 2; ++i) {
      made[i].details.cause = Cause::kNoSpace;
      made[i].details.outcome = i == 0 ? Outcome::kUnchanged : Outcome::kUnknown;
    }
    return made;
  }();
  return errors[outcome == Outcome::kUnchanged ? 0 : 1];
}
[[maybe_unused]] const epoch_error& no_memory_at_load = NoMemory(Outcome::kUnchanged);

bool IsStatic(const epoch_error* error) {
  return error == &NoMemory(Outcome::kUnchanged) || error == &NoMemory(Outcome::kUnknown);
}

// C may put any number into an enumeration; to C++ one beyond its range has no meaning.
template <typename Enumeration>
int NumberOf(const Enumeration& is) {
  int number = 0;
  static_assert(sizeof number == sizeof is);
  std::memcpy(&number, &is, sizeof number);
  return number;
}

int Number(const std::optional<Epoch>& number, std::uint64_t* to) {
  if (!number.has_value()) return 0;
  if (to != nullptr) *to = *number;
  return 1;
}

}  // namespace

epoch_code Told(const absl::Status& status, epoch_error** error) noexcept {
  if (error != nullptr) *error = nullptr;
  if (status.ok()) return EPOCH_OK;
  const auto code = static_cast<epoch_code>(status.raw_code());
  if (error == nullptr) return code;
  try {
    *error = new epoch_error{.code = code,
                             .message = std::string(status.message()),
                             .details = Details(status),
                             .error_number = detail::ErrnoOf(status)};
  } catch (const std::exception&) {
    // The code stays what it is; the words are gone, and with them the details.
    *error = &NoMemory(Outcome::kUnknown);
  }
  return code;
}

epoch_code Thrown(const std::exception* exception, Outcome outcome, epoch_error** error) noexcept {
  if (dynamic_cast<const std::bad_alloc*>(exception) != nullptr) {
    if (error != nullptr) *error = &NoMemory(outcome);
    return EPOCH_RESOURCE_EXHAUSTED;
  }
  try {
    return Told(detail::With(absl::InternalError(absl::StrCat(
                                 "an exception: ",
                                 exception == nullptr ? "of another kind" : exception->what())),
                             {.cause = Cause::kOther, .outcome = outcome}),
                error);
  } catch (...) {
    if (error != nullptr) *error = &NoMemory(outcome);
    return EPOCH_INTERNAL;
  }
}

absl::Status Refused(const std::string& what) {
  return detail::Because(Cause::kInvalid,
                         absl::InvalidArgumentError(absl::StrCat(what, "; nothing was changed")));
}

char* GivenAway(const std::string& text) {
  auto* const copy = static_cast<char*>(std::malloc(text.size() + 1));
  if (copy == nullptr) throw std::bad_alloc();
  std::memcpy(copy, text.c_str(), text.size() + 1);
  return copy;
}

}  // namespace epoch::c

using epoch::c::Number;

epoch_code epoch_error_code(const epoch_error* error) {
  return error == nullptr ? EPOCH_OK : error->code;
}
const char* epoch_error_message(const epoch_error* error) {
  return error == nullptr ? "" : error->message.c_str();
}
epoch_cause epoch_error_cause(const epoch_error* error) {
  return error == nullptr ? EPOCH_CAUSE_NONE : static_cast<epoch_cause>(error->details.cause);
}
epoch_outcome epoch_error_outcome(const epoch_error* error) {
  return error == nullptr ? EPOCH_OUTCOME_UNCHANGED
                          : static_cast<epoch_outcome>(error->details.outcome);
}
int epoch_error_expected(const epoch_error* error, uint64_t* epoch) {
  return error == nullptr ? 0 : Number(error->details.expected, epoch);
}
int epoch_error_actual(const epoch_error* error, uint64_t* epoch) {
  return error == nullptr ? 0 : Number(error->details.actual, epoch);
}
int epoch_error_accepted(const epoch_error* error, uint64_t* epoch) {
  return error == nullptr ? 0 : Number(error->details.accepted, epoch);
}
int epoch_error_errno(const epoch_error* error) {
  return error == nullptr ? 0 : error->error_number;
}
size_t epoch_error_culprit_count(const epoch_error* error) {
  return error == nullptr ? 0 : error->details.culprits.size();
}
epoch_code epoch_error_culprit(const epoch_error* error, size_t index, epoch_culprit* culprit) {
  return epoch::c::Call(nullptr, [&]() -> absl::Status {
    if (index >= epoch_error_culprit_count(error)) return absl::OutOfRangeError("");
    const epoch::Culprit& is = error->details.culprits[index];
    return epoch::c::WriteInfo(culprit, {.struct_size = 0,
                                         .generation = is.generation,
                                         .epoch = is.epoch.value_or(0),
                                         .name = is.name.c_str(),
                                         .reason = is.reason.c_str(),
                                         .slot = is.slot,
                                         .pid = is.pid,
                                         .has_epoch = is.epoch.has_value() ? 1u : 0u,
                                         .reserved = 0});
  });
}
void epoch_error_free(epoch_error* error) {
  if (error != nullptr && !epoch::c::IsStatic(error)) delete error;
}

const char* epoch_code_name(epoch_code is) {
  const int code = epoch::c::NumberOf(is);
  static constexpr const char* kNames[] = {"OK",
                                           "CANCELLED",
                                           "UNKNOWN",
                                           "INVALID_ARGUMENT",
                                           "DEADLINE_EXCEEDED",
                                           "NOT_FOUND",
                                           "ALREADY_EXISTS",
                                           "PERMISSION_DENIED",
                                           "RESOURCE_EXHAUSTED",
                                           "FAILED_PRECONDITION",
                                           "ABORTED",
                                           "OUT_OF_RANGE",
                                           "UNIMPLEMENTED",
                                           "INTERNAL",
                                           "UNAVAILABLE",
                                           "DATA_LOSS"};
  if (code == EPOCH_NO_CHANGE) return "NO_CHANGE";
  return code >= 0 && code < 16 ? kNames[code] : "?";
}
const char* epoch_cause_name(epoch_cause is) {
  const int cause = epoch::c::NumberOf(is);
  const char* const name =
      cause < 0 ? nullptr : epoch::detail::NameOfCause(static_cast<std::size_t>(cause));
  return name == nullptr ? "?" : name;
}
const char* epoch_version(void) { return EPOCH_VERSION; }
void epoch_string_free(char* text) { std::free(text); }
