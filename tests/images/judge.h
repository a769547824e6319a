// Whether what was recovered from an image is what the guarantees allow.
#ifndef EPOCH_TESTS_IMAGES_JUDGE_H_
#define EPOCH_TESTS_IMAGES_JUDGE_H_

#include <string>

#include "tests/images/recording.h"

namespace epoch::images {

enum class Verdict {
  kGood,
  kReported,    // damage, and recovery says so
  kUndetected,  // damage that took away the end of the log, where the documented rule has no proof
  kLost,        // something acknowledged is not there, or a sound journal is refused
  kTorn,        // what is there was never accepted, or is not the same the second time
};

// A sector or more of an image that came back otherwise than it was written.
struct Damage {
  std::string what;     // empty: there is none
  Bytes before, after;  // of the newest segment
  bool newest_gone = false;
};

struct Judgement {
  Verdict verdict;
  std::string why;
};

// Recovers what the active disk holds, twice.
Judgement Judge(const Recording& recording, const Acknowledged& acknowledged, const Damage& damage);

// Whether a journal that was `before` and is now `after` may be cut behind `epoch`:
// docs/journal.md, "The end of the log", said again. Nothing that it calls proof may stand behind
// the cut.
bool CutIsDocumented(const Bytes& before, const Bytes& after, std::uint64_t epoch);

bool AllZero(const std::byte* at, std::size_t size);

}  // namespace epoch::images

#endif  // EPOCH_TESTS_IMAGES_JUDGE_H_
