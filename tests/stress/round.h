// One round: a fresh region, processes that work and are disturbed in it, an audit, and the
// checker's verdict. Rounds are short, so that logs stay small and geometries vary.
#ifndef EPOCH_TESTS_STRESS_ROUND_H_
#define EPOCH_TESTS_STRESS_ROUND_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "stress/crew.h"
#include "stress/random.h"
#include "stress/spec.h"

namespace epoch::stress {

struct Verdict {
  std::uint64_t transitions = 0;
  std::uint64_t voted = 0;  // of them, as far as the logs tell
  std::uint64_t operations = 0;
  std::uint64_t violations = 0;
  double longest_ms = 0;
};

class Round {
 public:
  struct Plan {
    std::string directory;  // of its logs: made here
    std::string region;     // name
    std::string journal;    // directory, or none for a volatile region
    std::vector<std::string> programs;
    std::string checker;
    std::string planted{};  // a bug that they have
    unsigned processes = 8;
    bool voted = false;  // most transitions are
    std::int64_t until_ns = 0;
  };

  Round(Plan plan, std::uint64_t seed, Crew::Tally& tally, std::function<void()> progress);

  // Adds to the verdict. False: interrupted.
  bool Play(Verdict& verdict);

 private:
  bool Disturbances(Crew& crew, LogWriter& log);
  void KillEverybody(Crew& crew, LogWriter& log);
  // The region is lost; it comes back from its journal.
  void Restore(Crew& crew, LogWriter& log);
  bool Judge(Verdict& verdict);

  const Plan plan_;
  Random random_;
  Crew::Tally& tally_;
  const std::function<void()> progress_;
  Spec spec_;
};

}  // namespace epoch::stress

#endif  // EPOCH_TESTS_STRESS_ROUND_H_
