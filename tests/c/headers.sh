#!/bin/sh
# headers.sh SOURCE_DIR: c.h is all that a program has to include, in C99 and in C++20, with gcc and clang.
set -eu
for compiler in "gcc -std=c99 -x c" "clang-14 -std=c99 -x c" "gcc -std=c17 -x c" "g++ -std=c++20 -x c++" "clang++-14 -std=c++20 -x c++"; do
  command -v "${compiler%% *}" >/dev/null || { echo "no ${compiler%% *}" && exit 1; }
  echo "$compiler"
  # Twice: it guards itself.
  printf '#include "epoch/c.h"\n#include "epoch/c.h"\nepoch_commit_options options = {sizeof(epoch_commit_options)};\n' |
    $compiler -pedantic -Wall -Wextra -Werror -Wno-missing-field-initializers -I"$1/include" -fsyntax-only -
done
