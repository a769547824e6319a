#include <gmock/gmock.h>

#include "support/child.h"
#include "support/scratch.h"

int main(int argc, char** argv) {
  if (const int code = epoch::test::RunRole(argc, argv); code >= 0) return code;
  testing::InitGoogleMock(&argc, argv);
  epoch::test::SweepLeftovers();
  return RUN_ALL_TESTS();
}
