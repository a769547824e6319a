// epoch_stress_agent DIR SERIAL [live|finish [PLANTED]]: started by epoch_stress.
#include <cstdlib>
#include <cstring>

#include "stress/agent.h"
#ifdef EPOCH_TESTS_PLANTED_PLANTED_H_
#include "tests/planted/plant.h"
#endif

int main(int argc, char** argv) {
  if (argc < 3) return 2;
#ifdef EPOCH_TESTS_PLANTED_PLANTED_H_
  if (argc > 4) epoch::Plant(argv[4]);
#endif
  epoch::stress::Agent agent(argv[1], static_cast<std::uint32_t>(std::atoi(argv[2])));
  if (argc > 3 && std::strcmp(argv[3], "finish") == 0) {
    agent.Finish();
  } else {
    agent.Live();
  }
  return 0;
}
