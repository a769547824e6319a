// Loaded before epochctl (LD_PRELOAD): its operation begins when the loader's work is done. A
// program that epochctl starts is not epochctl, and says nothing.
#include "border/marker.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

__attribute__((constructor)) static void BeginOfEpochctl() {
  if (strcmp(program_invocation_short_name, "epochctl") != 0) return;
  syscall(epoch::test::kMarkerCall, epoch::test::kMarkerWhich, epoch::test::kMarkBegin);
}
