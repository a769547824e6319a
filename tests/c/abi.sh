#!/bin/sh
# abi.sh SOURCE_DIR LIBRARY COMPILER: what libepoch.so and c.h promise to programs that exist is what
# golden/abi.txt says. Lines may be added there (a later version adds calls, and members at the end); none may go.
# With --write as fourth argument it is written anew.
set -eu
tests=$1/tests/c include=$1/include library=$2 compiler=$3
headers="$include/epoch/c.h $include/epoch/c_inline.h"
there=$(mktemp -d)
trap 'rm -rf "$there"' EXIT

# Structs with their members, and all enumerators, from the headers themselves.
awk '
  { gsub(/\/\*[^*]*\*\//, "") }
  /^typedef struct [a-z_]+ \{/ { type = $3; print "STRUCT(" type ");"; next }
  type != "" && /^\}/ { type = ""; next }
  type != "" && /;/ {
    line = $0; sub(/;.*/, "", line); sub(/\[[^]]*\]/, "", line); n = split(line, words, /[ *]+/)
    print "MEMBER(" type ", " words[n] ");"
  }
  { line = $0; while (match(line, /EPOCH_[A-Z_]+ = -?[0-9]+/)) {
      name = substr(line, RSTART, RLENGTH); sub(/ =.*/, "", name); print "NUMBER(" name ");"
      line = substr(line, RSTART + RLENGTH) } }
  /^#define EPOCH_[A-Z_]+ [^_]/ && !/EPOCH_API|EPOCH_C_H|EPOCH_(HAS|NO)_INLINE/ { print "NUMBER(" $2 ");" }
' $headers >"$there/abi_of_header.inc"
"$compiler" -std=c99 -I"$there" -I"$include" "$tests/abi.c" -o "$there/abi"

# The type of each function, as gcc has understood it, and of each callback, as it stands there. (Types of members
# show in their sizes, and are left to those who review.)
printf '#define EPOCH_NO_INLINE\n#include "epoch/c.h"\n' >"$there/types.c"
(cd "$there" && gcc -std=c99 -I"$include" -fsyntax-only -aux-info types.txt types.c)
sed -nE 's,^/\* [^ ]*/epoch/c(_inline)?\.h:[^ ]* \*/ extern (.*);.*$,\2;,p' "$there/types.txt" | LC_ALL=C sort -u >"$there/functions"
awk '/^typedef [a-z ]*\(\*/ { text = ""; open = 1 }
     open { gsub(/\/\*[^*]*\*\//, ""); text = text " " $0; if (/;/) { gsub(/ +/, " ", text); sub(/^ /, "", text); print text; open = 0 } }
' $headers | LC_ALL=C sort >"$there/callbacks"
{
  nm -D --defined-only "$library" | awk '$2 != "A" { print $2, $3 }' | LC_ALL=C sort
  cat "$there/functions" "$there/callbacks"
  "$there/abi"
} >"$there/abi.txt"

if [ "${4-}" = --write ]; then cp "$there/abi.txt" "$tests/golden/abi.txt"; fi

status=0
# Nothing but epoch_*, with its version.
if nm -D --defined-only "$library" | awk '$2 != "A" { print $2, $3 }' | grep -vE '^T epoch_[a-z_]+@@EPOCH_0$'; then
  echo "the library shows what is no call of the C interface" && status=1
fi
# Each call that is declared is there, and the other way round.
grep -oE '\bepoch_[a-z_]+ \(' "$there/functions" | tr -d '( ' | LC_ALL=C sort -u >"$there/declared"
sed -nE 's/^T (epoch_[a-z_]+)@@EPOCH_0$/\1/p' "$there/abi.txt" >"$there/defined"
[ -s "$there/declared" ] && [ -s "$there/callbacks" ] || { echo "gcc -aux-info says nothing of c.h" && status=1; }
diff "$there/declared" "$there/defined" || { echo "c.h declares (<) and the library defines (>) others" && status=1; }
# And each is called with NULL by the test that says so.
while read -r call; do
  grep -q "\b$call)\?(" "$tests/misuse_calls.c" || { echo "misuse_calls.c does not call $call" && status=1; }
done <"$there/declared"
diff "$tests/golden/abi.txt" "$there/abi.txt" || {
  echo "golden/abi.txt (<) and this build (>) differ. What is gone or has moved breaks programs that exist:"
  echo "a new SONAME. What was only added: $0 ... --write"
  status=1
}
exit $status
