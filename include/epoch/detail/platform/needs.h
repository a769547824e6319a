// What the headers need of a compiler, said once and before anything else is read.
#ifndef EPOCH_DETAIL_PLATFORM_NEEDS_H_
#define EPOCH_DETAIL_PLATFORM_NEEDS_H_

#if __cplusplus < 202002L
#error "Epoch needs C++20: compile with -std=c++20, or later"
#include "nothing behind this can be read without C++20"  // ends it here: one error, not a hundred
#endif
#if !defined(__cpp_exceptions)
#error "Epoch needs exceptions, to catch those of callbacks: compile without -fno-exceptions"
#include "nothing behind this can be read without exceptions"
#endif

#endif  // EPOCH_DETAIL_PLATFORM_NEEDS_H_
