#!/usr/bin/env bash
# Whether two builds of the simulator find the same sites, and play the same: schedules, points, and
# what they find.
#
#   same_play.sh PROGRAM OTHER [POINTS]
set -euo pipefail

sites() { "$1" --weaken list | sed -E 's/:[0-9]+$//'; }  # their lines differ
diff <(sites "$1") <(sites "$2")
echo "sites: the same $(sites "$1" | wc -l)"
for mode in mixed votes folders; do
  for program in "$1" "$2"; do
    said=$("$program" --mode "$mode" --points "${3:-50000000}" 2>&1 | tail -n 1)
    echo "$mode: $said ($(basename "$program"))"
    [[ $said =~ points=[0-9]+\ schedules=[0-9]+\ violations=0$ ]] || exit 1
    [[ $program == "$1" ]] && first=$said
    [[ $said == "$first" ]] || exit 1
  done
done
