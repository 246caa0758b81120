#!/usr/bin/env bash
# All benches in turn, then each figure against its bar. make bench builds and runs it; alone:
#   bench/run.sh [--quick] [--data DIR] [--only PATTERN]
# PATTERN: products, avx2, layers, train, threads, latency, memory, size, or several: 't*'.
# BUILD (build) is where the programs are, and where everything is kept: BUILD/bench.txt.
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build}
data=data only='*' quick=
[ -e data/mnist/train-images-idx3-ubyte ] && data=data/mnist
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=--quick ;;
    --data)  data=$2; shift ;;
    --only)  only=$2; shift ;;
    *)       echo "bench/run.sh: wrong argument: $1" >&2; exit 1 ;;
    esac
    shift
done
output=$BUILD/bench.txt
failed=

say() { echo "$@" | tee -a "$output"; }

run() {                 # run NAME COMMAND...: its output but the bars, which come at the end
    local name=$1
    shift
    # shellcheck disable=SC2254
    case $name in $only) ;; *) return ;; esac
    say "## $name: $* $quick"
    say
    "$@" $quick 2>&1 | tee -a "$output" | grep --line-buffered -v '^bar: '
    [ "${PIPESTATUS[0]}" = 0 ] || { say "FAILED: $name"; failed="$failed $name"; }
    say
}

: >"$output" || exit 1
say "$(date +%F), load $(cut -d ' ' -f 1-3 /proc/loadavg 2>/dev/null), data: $data"
say
run products "$BUILD/bench_products"
if grep -qs avx512f /proc/cpuinfo; then     # else the first run was the one with AVX2
    run avx2 "$BUILD/bench_products" --isa avx2
fi
run layers "$BUILD/bench_layers"
run train "$BUILD/bench_train" --data "$data"
run threads "$BUILD/bench_train" --data "$data" --threads 2 ${quick:+--model deep}
run latency "$BUILD/bench_latency"
run memory "$BUILD/bench_memory" --data "$data"
run size bench/size.sh

say "## bars${quick:+ (quick: these figures mean nothing)}"
say
{
    echo "| what | measured | bar | | |"
    echo "|------|----------|-----|-|-|"
    sed -n 's/^bar: \(.*[^ ]\) *$/| \1 |/p' "$output"
    [ -z "$failed" ] || printf '\nnot all ran:%s\n' "$failed"
} >"$output.bars"
tee -a "$output" <"$output.bars"
rm "$output.bars"
[ -z "$failed" ]
