// What most tests include, compiled once per test binary. Files still include what they use.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "epoch/epoch.h"
