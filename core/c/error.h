// The border: what a call gives back, and what must not come out of it.
//
// Thread safety: all functions. An error is immutable.
#ifndef EPOCH_CORE_C_ERROR_H_
#define EPOCH_CORE_C_ERROR_H_

#include <exception>
#include <new>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "epoch/c.h"
#include "epoch/details.h"

namespace epoch::c {

// The code of `status`; its words and details in *error, if the caller wants them.
epoch_code Told(const absl::Status& status, epoch_error** error) noexcept;
// What was thrown, as an error. `outcome`: what is known of the call that threw.
epoch_code Thrown(const std::exception* exception, Outcome outcome, epoch_error** error) noexcept;

// Runs what a call does, `body` -> absl::Status.
template <typename Body>
epoch_code Call(epoch_error** error, Body&& body,
                Outcome if_thrown = Outcome::kUnchanged) noexcept {
  try {
    return Told(body(), error);
  } catch (const std::exception& e) {
    return Thrown(&e, if_thrown, error);
  } catch (...) {
    return Thrown(nullptr, if_thrown, error);
  }
}
// For a call that has a transition accepted: one that threw may have got that far.
template <typename Body>
epoch_code Transition(epoch_error** error, Body&& body) noexcept {
  return Call(error, std::forward<Body>(body), Outcome::kUnknown);
}

// An argument that cannot be.
absl::Status Refused(const std::string& what);

// Memory for whoever frees it with epoch_string_free. Throws std::bad_alloc.
char* GivenAway(const std::string& text);

}  // namespace epoch::c

#endif  // EPOCH_CORE_C_ERROR_H_
