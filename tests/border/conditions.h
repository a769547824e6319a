// What a process inherits, or finds around it: each as something that is imposed upon an operation
// from its beginning.
#ifndef EPOCH_TESTS_BORDER_CONDITIONS_H_
#define EPOCH_TESTS_BORDER_CONDITIONS_H_

#include <string>
#include <vector>

#include "border/case.h"

namespace epoch::test {

struct Condition {
  std::string name;
  Hindrance hindrance{};
  bool as_root = false;       // only root can impose it
  bool of_its_own = false;    // a region that is made under it is for nobody else
  std::string memory_size{};  // of the filesystem that the world is in; empty: as it is
};

// --- of the process: conditions.cc ---
std::vector<Condition> ProcessConditions();
// --- of what is around it: surroundings.cc ---
std::vector<Condition> SurroundingConditions();

// "", or what failed, and errno's words.
std::string Unless(bool done, const std::string& what);
// Becomes that user, for good.
std::string BecomeUser(uid_t user);
inline constexpr uid_t kNobodyUser = 65534;
// All of the world is that user's.
void GiveWorldTo(const World& world, uid_t user);

}  // namespace epoch::test

#endif  // EPOCH_TESTS_BORDER_CONDITIONS_H_
