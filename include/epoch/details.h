// What an error means, for programs: why, what became of the transition, and because of whom. The
// message of a status is for people, and its code is coarse; Details() reads the rest.
//
//   absl::StatusOr<epoch::Epoch> made = self.Commit(state, options);
//   const epoch::ErrorDetails why = epoch::Details(made);
//   if (why.outcome == epoch::Outcome::kPending) made = self.Await(epoch::Ticket{*why.accepted});
//
// Every error of a Participant, of what opens, makes or changes a Region, and of a CheckpointRank
// and its steps as far as it comes from one of these, carries them. An error that a caller's own
// function returned (Update's) is handed on as it is.
//
// Thread safety: pure functions.
#ifndef EPOCH_DETAILS_H_
#define EPOCH_DETAILS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "epoch/types.h"

namespace epoch {

// The numbers are part of the encoding: never reused, only added to.
enum class Cause : std::uint8_t {
  kNone = 0,             // no error, or not one of these
  kOther = 1,            // code and message say all there is
  kExpectedDiffers = 2,  // the region is at `actual`, not at `expected`
  kRejected = 3,         // a voter refused: `culprits` has its reason
  kOtherBytes = 4,       // a voter found other bytes than were drafted
  kTimedOut = 5,         // `culprits`: whom it waited for, as far as that is known
  kInterrupted = 6,      // `interrupted` said so
  kTooFewVoters = 7,     // fewer than `min_voters` accepted
  kGone = 8,             // collective: a contributor died, left or was expelled
  kOtherTag = 9,         // collective: a contributor brought another tag
  kGaveUp = 10,          // collective: a contributor gave up, or the round went on without this one
  kExpelled = 11,        // this participant
  kLeft = 12,            // this participant; or its handle was moved from
  kForked = 13,          // this participant belongs to the parent process
  kPinHeld = 14,         // by this participant: it would wait for itself
  kBusy = 15,            // this participant is in an update, a vote, a listener already
  kNoSlot = 16,          // all taken: `culprits`
  kNoVersion = 17,       // all in use: `culprits`
  kNoSpace = 18,         // on the disk, in memory
  kTooLarge = 19,        // the state, or the contribution
  kNoWriter = 20,        // nobody writes the journal
  kPoisoned = 21,        // the journal failed a write
  kSuperseded = 22,      // the journal went on without this region
  kDamaged = 23,         // words or bytes that no participant writes
  kDraining = 24,        // a fence drains: try again
  kRepeated = 25,        // collective: that tag is committed already
  kReadOnly = 26,        // the region is mapped read-only
  kInvalid = 27,         // an argument
  kNotWritten = 28,      // an update's function returned OK and left its draft untouched
  kNoChange = 29,        // NoChange(): no error, if an update's function returns it
  kJournalAway = 30,     // the journal is not where it was: moved, replaced, unmounted
};

// What became of the transition that the call was about.
enum class Outcome : std::uint8_t {
  kUnchanged = 0,  // nothing of this call was accepted, and nothing will be: it may be repeated
  kPending = 1,    // it is accepted, and becomes visible when others, or later calls, get that far
  kUnknown = 2,    // it is accepted, or may be; what became of it is known after recovery
};

// A participant that had a part in it.
struct Culprit {
  std::uint32_t slot = 0;
  std::uint64_t generation = 0;
  std::uint32_t pid = 0;  // in its own pid namespace
  std::string name{};
  std::string reason{};                       // of a refusal
  std::optional<Epoch> epoch = std::nullopt;  // pinned, or acknowledged last

  friend bool operator==(const Culprit&, const Culprit&) = default;
};

struct ErrorDetails {
  Cause cause = Cause::kNone;
  Outcome outcome = Outcome::kUnknown;
  std::optional<Epoch> expected = std::nullopt;
  std::optional<Epoch> actual = std::nullopt;  // where the region was found
  // What is pending, or unknown. With kUnchanged: what a NoChange() had read, and waited for.
  std::optional<Epoch> accepted = std::nullopt;
  std::vector<Culprit> culprits{};  // at most 8

  friend bool operator==(const ErrorDetails&, const ErrorDetails&) = default;
};

namespace detail {

inline constexpr char kDetailsUrl[] = "epoch/details";
inline constexpr std::uint8_t kDetailsVersion = 1;
inline constexpr std::size_t kMostCulprits = 8;

// The cause of that number, as it is called in capitals: "EXPECTED_DIFFERS". Null: a later library
// has added it.
constexpr const char* NameOfCause(std::size_t number) {
  constexpr const char* kNames[] = {
      "NONE",        "OTHER",      "EXPECTED_DIFFERS", "REJECTED",
      "OTHER_BYTES", "TIMED_OUT",  "INTERRUPTED",      "TOO_FEW_VOTERS",
      "GONE",        "OTHER_TAG",  "GAVE_UP",          "EXPELLED",
      "LEFT",        "FORKED",     "PIN_HELD",         "BUSY",
      "NO_SLOT",     "NO_VERSION", "NO_SPACE",         "TOO_LARGE",
      "NO_WRITER",   "POISONED",   "SUPERSEDED",       "DAMAGED",
      "DRAINING",    "REPEATED",   "READ_ONLY",        "INVALID",
      "NOT_WRITTEN", "NO_CHANGE",  "JOURNAL_AWAY"};
  static_assert(std::size(kNames) == static_cast<std::size_t>(Cause::kJournalAway) + 1);
  return number < std::size(kNames) ? kNames[number] : nullptr;
}

// version:8 cause:8 outcome:8 which:8, those of expected, actual and accepted that there are,
// count:8, then each culprit: slot:32 generation:64 pid:32 has epoch:8 [epoch:64] length:8 name
// length:8 reason
class DetailsWriter {
 public:
  explicit DetailsWriter(const ErrorDetails& details) {
    Number<std::uint8_t>(kDetailsVersion);
    Number(static_cast<std::uint8_t>(details.cause));
    Number(static_cast<std::uint8_t>(details.outcome));
    const std::optional<Epoch>* const epochs[] = {&details.expected, &details.actual,
                                                  &details.accepted};
    std::uint8_t which = 0;
    for (unsigned i = 0; i < 3; ++i) {
      which = static_cast<std::uint8_t>(which | (epochs[i]->has_value() ? 1u << i : 0u));
    }
    Number(which);
    for (const auto* epoch : epochs) {
      if (epoch->has_value()) Number<std::uint64_t>(**epoch);
    }
    const std::size_t count = std::min(details.culprits.size(), kMostCulprits);
    Number(static_cast<std::uint8_t>(count));
    for (std::size_t i = 0; i < count; ++i) {
      const Culprit& culprit = details.culprits[i];
      Number(culprit.slot);
      Number(culprit.generation);
      Number(culprit.pid);
      Number<std::uint8_t>(culprit.epoch.has_value() ? 1 : 0);
      if (culprit.epoch.has_value()) Number<std::uint64_t>(*culprit.epoch);
      Text(culprit.name);
      Text(culprit.reason);
    }
  }
  const std::string& bytes() const { return bytes_; }

 private:
  template <typename T>
  void Number(T value) {
    char raw[sizeof value];
    std::memcpy(raw, &value, sizeof value);
    bytes_.append(raw, sizeof raw);
  }
  void Text(const std::string& text) {
    const std::size_t size = std::min<std::size_t>(text.size(), 255);
    Number(static_cast<std::uint8_t>(size));
    bytes_.append(text, 0, size);
  }

  std::string bytes_;
};

// Takes nothing on trust: a payload may come from anywhere.
class DetailsReader {
 public:
  explicit DetailsReader(std::string_view bytes) : bytes_(bytes) {}

  std::optional<ErrorDetails> Read() {
    ErrorDetails details;
    const auto version = Number<std::uint8_t>();
    const auto cause = Number<std::uint8_t>();
    const auto outcome = Number<std::uint8_t>();
    const auto which = Number<std::uint8_t>();
    if (version != kDetailsVersion || outcome > 2 || which > 7) return std::nullopt;
    // One that a later build has given a number.
    details.cause = cause <= static_cast<std::uint8_t>(Cause::kJournalAway)
                        ? static_cast<Cause>(cause)
                        : Cause::kOther;
    details.outcome = static_cast<Outcome>(outcome);
    std::optional<Epoch>* const epochs[] = {&details.expected, &details.actual, &details.accepted};
    for (unsigned i = 0; i < 3; ++i) {
      if ((which >> i & 1u) != 0) *epochs[i] = Number<std::uint64_t>();
    }
    const auto count = Number<std::uint8_t>();
    if (count > kMostCulprits) return std::nullopt;
    for (unsigned i = 0; i < count && !short_; ++i) {
      Culprit culprit;
      culprit.slot = Number<std::uint32_t>();
      culprit.generation = Number<std::uint64_t>();
      culprit.pid = Number<std::uint32_t>();
      const auto has_epoch = Number<std::uint8_t>();
      if (has_epoch > 1) return std::nullopt;
      if (has_epoch == 1) culprit.epoch = Number<std::uint64_t>();
      culprit.name = Text();
      culprit.reason = Text();
      details.culprits.push_back(std::move(culprit));
    }
    if (short_ || !bytes_.empty()) return std::nullopt;
    return details;
  }

 private:
  template <typename T>
  T Number() {
    T value{};
    if (bytes_.size() < sizeof value) {
      short_ = true;
      bytes_ = {};
      return value;
    }
    std::memcpy(&value, bytes_.data(), sizeof value);
    bytes_.remove_prefix(sizeof value);
    return value;
  }
  std::string Text() {
    const std::size_t size = Number<std::uint8_t>();
    if (bytes_.size() < size) {
      short_ = true;
      bytes_ = {};
      return {};
    }
    std::string text(bytes_.substr(0, size));
    bytes_.remove_prefix(size);
    return text;
  }

  std::string_view bytes_;
  bool short_ = false;
};

}  // namespace detail

// What `status` says beyond its words. Cause kNone: it is OK, or says nothing more.
inline ErrorDetails Details(const absl::Status& status) {
  const auto payload = status.GetPayload(detail::kDetailsUrl);
  if (!payload.has_value()) return {};
  const std::string bytes(*payload);
  return detail::DetailsReader(bytes).Read().value_or(ErrorDetails{});
}
template <typename T>
ErrorDetails Details(const absl::StatusOr<T>& result) {
  return Details(result.status());
}

namespace detail {

inline absl::Status With(absl::Status status, const ErrorDetails& details) {
  const DetailsWriter writer(details);
  status.SetPayload(kDetailsUrl,
                    absl::Cord(absl::string_view(writer.bytes().data(), writer.bytes().size())));
  return status;
}

// An error of a call by which nothing has changed yet.
inline absl::Status Because(Cause cause, absl::Status status, std::vector<Culprit> culprits = {}) {
  return With(std::move(status),
              {.cause = cause, .outcome = Outcome::kUnchanged, .culprits = std::move(culprits)});
}

// The same error in other words.
inline absl::Status Reworded(const absl::Status& status, const std::string& message) {
  absl::Status reworded(status.code(), message);
  if (const auto payload = status.GetPayload(kDetailsUrl); payload.has_value()) {
    reworded.SetPayload(kDetailsUrl, *payload);
  }
  return reworded;
}

// An error of a call that has changed nothing, whoever made it: it has Details afterwards.
inline absl::Status Unchanged(absl::Status status) {
  if (status.ok() || status.GetPayload(kDetailsUrl).has_value()) return status;
  Cause cause = Cause::kOther;
  if (absl::IsResourceExhausted(status)) cause = Cause::kNoSpace;
  if (absl::IsDataLoss(status)) cause = Cause::kDamaged;
  if (absl::IsInvalidArgument(status)) cause = Cause::kInvalid;
  return Because(cause, std::move(status));
}

// An error of a call by which something has its name already: what becomes of it, the next one to look
// finds out.
inline absl::Status HalfDone(absl::Status status) {
  if (status.ok()) return status;
  ErrorDetails details = Details(status);
  if (details.cause == Cause::kNone) details.cause = Cause::kOther;
  details.outcome = Outcome::kUnknown;
  return With(std::move(status), details);
}

// What every error behind an acceptance goes through: `epoch` is accepted, and cannot be taken
// back, so the caller must not repeat it. The code says so, too: those of errors that changed
// nothing do not come out of here. What this process may not do, or has no room for, others may
// have.
inline absl::Status Pending(Epoch epoch, const absl::Status& why) {
  ErrorDetails details = Details(why);
  if (details.cause == Cause::kNone) details.cause = Cause::kOther;
  details.accepted = epoch;
  details.outcome = Outcome::kPending;
  absl::StatusCode code = absl::StatusCode::kUnavailable;
  if (absl::IsDeadlineExceeded(why) || absl::IsCancelled(why)) code = why.code();
  if (absl::IsDataLoss(why)) {
    code = why.code();
    details.outcome = Outcome::kUnknown;
  }
  if (details.cause == Cause::kSuperseded) details.outcome = Outcome::kUnknown;
  return With(
      absl::Status(code,
                   absl::StrCat("epoch ", epoch, " is accepted, its outcome pending",
                                details.outcome == Outcome::kUnknown ? " until recovery: " : ": ",
                                std::string(why.message()))),
      details);
}

// Of a call that changed nothing, and waited for what it had read, of `epoch`, to be visible.
inline absl::Status NothingChanged(Epoch epoch, const absl::Status& why) {
  ErrorDetails details = Details(why);
  if (details.cause == Cause::kNone) details.cause = Cause::kOther;
  details.accepted = epoch;
  details.outcome = Outcome::kUnchanged;
  return With(absl::Status(
                  why.code(),
                  absl::StrCat("this call changed nothing, and waited for epoch ", epoch,
                               ", which it had read, to be visible: ", std::string(why.message()))),
              details);
}
// What kept a call from changing anything, in words that say so.
inline absl::Status SayUnchanged(const absl::Status& why) {
  return Unchanged(
      Reworded(why, absl::StrCat(std::string(why.message()), "; nothing was changed")));
}

}  // namespace detail

// What an update's function returns to say: leave everything as it is.
inline absl::Status NoChange() {
  return detail::Because(Cause::kNoChange,
                         absl::FailedPreconditionError(
                             "nothing to change (what only the function of an update returns)"));
}

}  // namespace epoch

#endif  // EPOCH_DETAILS_H_
