# Shared by the commands in this folder. Sourced, not run; bash, with set -euo pipefail.
#
# A step is one line of progress and one log in build/logs. `step TITLE LOG COMMAND...` runs it; a
# failed step says so, shows the end of its log and where the rest is, and returns 1. The functions
# that are run as steps chain with &&: under a condition bash does not heed `set -e`.
# `budget=SECONDS step ...` says how long it takes on two processors of today with nothing else to
# do: `over_budget` names those that took half as long again.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
logs=$root/build/logs
# A bare environment lacks what package tools, ccache and losetup need.
export PATH="${PATH:-/usr/bin:/bin}:/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
export HOME="${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}"
export LC_ALL=C.UTF-8
export CCACHE_SLOPPINESS=${CCACHE_SLOPPINESS:-pch_defines,time_macros}  # for precompiled headers
export CCACHE_BASEDIR=${CCACHE_BASEDIR:-$root}  # so that another clone finds what this one compiled
cd "$root"
mkdir -p "$logs"

steps_total=0
steps_begun=0
failed_steps=()
step_times=()   # "SECONDS BUDGET TITLE", a line each
began_at=$SECONDS
step_group=0

# Whatever a step starts carries this in its environment, and so do its children, wherever they go.
step_mark=CHECK_STEP_OF=$$-$(cut -d' ' -f22 /proc/$$/stat)

# The processes that steps have left, one number a line.
left_running() {
  local environment
  for environment in /proc/[0-9]*/environ; do
    if { tr '\0' '\n' <"$environment"; } 2>/dev/null | grep -qxF "$step_mark"; then
      environment=${environment#/proc/}
      echo "${environment%/environ}"
    fi
  done
}

# What an interrupted command still has to take away; a command may add to it.
clean_up() { :; }

interrupted() {
  trap - INT TERM HUP
  if ((step_group != 0)); then kill -TERM -- "-$step_group" 2>/dev/null || true; fi
  # Until none is left, as one that is being killed may have begun another; 10 s for those that the
  # disk holds up.
  local processes round
  for ((round = 0; round < 100; ++round)); do
    processes=$(left_running)
    if [[ -z $processes ]]; then break; fi
    # shellcheck disable=SC2086
    kill -KILL $processes 2>/dev/null || true
    sleep 0.1
  done
  clean_up
  die "interrupted"
}
trap interrupted INT TERM HUP

say() { printf '%s\n' "$*"; }
die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# Two runs in one tree would fight over the same build directories.
take_turns() {
  exec 9>"$root/build/.turn"
  if ! flock -n 9; then
    say "waiting for another run in this tree to end (build/.turn)"
    flock 9
  fi
}

# Shows the last line of a growing log while `pid` runs: in place on a terminal, else now and then.
follow() {
  local pid=$1 log=$2 line shown='' tick=0
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.5
    tick=$((tick + 1))
    line=$(tail -c 400 "$log" 2>/dev/null | tr '\r' '\n' | grep -v '^[[:space:]]*$' | tail -n 1 |
      tr -cd '\40-\176' | cut -c 1-100) || true
    if [[ -t 1 ]]; then
      printf '\r\033[K      %s' "$line"
    elif ((tick % 40 == 0)) && [[ $line != "$shown" ]]; then
      printf '      %s\n' "$line"
      shown=$line
    fi
  done
  if [[ -t 1 ]]; then printf '\r\033[K'; fi
}

step() {
  local title=$1 log=$logs/$2 status=0 started=$SECONDS
  shift 2
  steps_begun=$((steps_begun + 1))
  say "[$steps_begun/$steps_total] $title"
  : >"$log"
  # Not the lock of take_turns: what a step leaves running must not hold it.
  # In a process group of its own, so that an interrupt ends all of it.
  set -m
  (export "${step_mark?}" && "$@") >"$log" 2>&1 </dev/null 9>&- &
  step_group=$!
  set +m
  follow "$step_group" "$log"
  wait "$step_group" || status=$?
  step_group=0
  step_times+=("$((SECONDS - started)) ${budget:-0} $title")
  if ((status == 0)); then
    say "      ok, $((SECONDS - started)) s"
    return 0
  fi
  failed_steps+=("$title (log: ${log#"$root"/})")
  say "      FAILED after $((SECONDS - started)) s: $title"
  say "      the end of ${log#"$root"/}:"
  tail -n 15 "$log" | sed 's/^/      | /'
  return 1
}

# "1.4 min build (release)", a line each, the longest first.
minutes_per_step() {
  printf '%s\n' "${step_times[@]}" | sort -rn |
    awk '$1 >= 3 { s = $1; $1 = $2 = ""; printf "%7.1f min %s\n", s / 60, $0 }'
}
over_budget() {
  printf '%s\n' "${step_times[@]}" | awk '$2 > 0 && $1 > 1.5 * $2 && $1 > 10 {
    s = $1; b = $2; $1 = $2 = ""; printf "over its budget by half: %s (%d s, of %d)\n", $0, s, b }'
}

# For a step that others cannot do without.
must() { step "$@" || die "stopped: ${failed_steps[-1]}"; }

packages_build=(g++ cmake ninja-build ccache pkg-config libboost-dev libboost-context-dev libabsl-dev liburing-dev
  libxxhash-dev libcli11-dev nlohmann-json3-dev libfmt-dev libgtest-dev libgmock-dev
  libbenchmark-dev patch libfuse3-dev e2fsprogs python3-dev)
# What the tests of the Python package import, beside it.
packages_python=(python3-pytest python3-hypothesis python3-numpy python3-jsonpatch mypy)
# For the presets that compile with clang: edit, asan, tsan, clang.
packages_clang=(clang-14 libclang-rt-14-dev)

# Installs those of the given Debian packages that are missing.
install_packages() {
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "no apt-get here: install what these Debian packages hold, if the build asks for it: $*"
    return 0
  fi
  local package missing=() as_root=()
  for package in "$@"; do
    if [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) != installed ]]; then
      missing+=("$package")
    fi
  done
  if ((${#missing[@]} == 0)); then
    echo "all packages are there"
    return 0
  fi
  echo "missing: ${missing[*]}"
  if (($(id -u) != 0)); then
    if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
      echo "Installing them needs root, or sudo without a password. As root, run:"
      echo "  apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
      return 1
    fi
    as_root=(sudo -n)
  fi
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y --no-install-recommends "${missing[@]}"
}

# Sanitizers of this age cannot cope with every address space randomisation: without it, if it can
# be switched off.
if setarch -R true 2>/dev/null; then fixed_addresses=(setarch -R); else fixed_addresses=(); fi
around() {
  case $1 in
    asan | tsan) shift && "${fixed_addresses[@]}" "$@" ;;
    *) shift && "$@" ;;
  esac
}

# A report ends its process with a code that no program here has for anything else.
sanitizer_options() {
  echo ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1:exitcode=99 \
    UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=second_deadlock_stack=1:halt_on_error=1
}

# build PRESET [target...]
build() {
  local preset=$1
  shift
  around "$preset" cmake --preset "$preset" &&
    around "$preset" cmake --build --preset "$preset" --parallel "$(nproc)" ${1:+--target "$@"} &&
    compile_commands
}

# build/pieces/compile_commands.json, for editors and linters: each file by itself, as nobody else
# compiles it here. Made anew when the list of files has changed.
compile_commands() {
  local made=build/pieces/compile_commands.json
  if [[ -e $made ]] && [[ -z $(find CMakeLists.txt CMakePresets.json core tests tools bench examples \
    -newer "$made" \( -name CMakeLists.txt -o -name CMakePresets.json -o -type d \) -print -quit) ]]; then
    return 0
  fi
  cmake --preset pieces >build/logs/compile-commands.log 2>&1 && touch "$made" || {
    echo "no compile commands: build/logs/compile-commands.log"
    return 1
  }
}
