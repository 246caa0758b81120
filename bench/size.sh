#!/usr/bin/env bash
# What ae.h costs before anything runs: seconds to compile the quickstart, bytes of the object file.
# bench/size.sh [--quick], from anywhere.
cd "$(dirname "$0")/.." || exit 1
runs=3
[ "${1:-}" = --quick ] && runs=1
compiler=gcc
command -v gcc >/dev/null || compiler=cc
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT

bar() {                 # bar WHAT VALUE LIMIT UNIT DIGITS: as bench_bar of bench.h, for <=
    awk -v what="$1" -v value="$2" -v limit="$3" -v unit="$4" -v digits="$5" 'BEGIN {
        scale = 10 ^ digits; shown = int(value * scale)
        if (shown < value * scale) shown++
        printf "bar: %s | %.*f %s | <= %s %s | %s |\n", what, digits, shown / scale, unit, limit,
               unit, value <= limit ? "met" : "NOT met" }'
}

seconds() {             # processor time of compiling the quickstart
    local TIMEFORMAT='%U %S'
    { time "$compiler" -O2 examples/00_quickstart.c -o "$folder/quickstart" -lm; } 2>&1 |
        awk '{ print $1 + $2 }'
}

bytes() {               # bytes FLAGS...: text and data of ae.h by itself
    printf '#define AE_IMPLEMENTATION\n#include "ae.h"\n' >"$folder/object.c"
    "$compiler" -O2 -I. "$@" -c "$folder/object.c" -o "$folder/object.o" &&
        size "$folder/object.o" | awk 'NR == 2 { print $1 + $2 }'
}

"$compiler" --version | head -n 1
time=$(for ((i = 0; i < runs; i++)); do seconds; done | sort -n | sed -n "$(((runs + 1) / 2))p")
whole=$(bytes)
inference=$(bytes -DAE_NO_TRAIN)
[ -n "$time" ] && [ -n "$whole" ] && [ -n "$inference" ] || exit 1

echo "| -O2                              | cost        |"
echo "|----------------------------------|-------------|"
printf '| compiling 00_quickstart.c        | %9.2f s |\n' "$time"
printf '| ae.h, text and data              | %8.1f KB |\n' "$(awk "BEGIN { print $whole / 1000 }")"
printf '| with AE_NO_TRAIN, inference only | %8.1f KB |\n' "$(awk "BEGIN { print $inference / 1000 }")"
bar "$compiler -O2 on the quickstart" "$time" 6 s 2
bar "object for inference only (AE_NO_TRAIN)" "$(awk "BEGIN { print $inference / 1000 }")" 250 KB 1
