#!/usr/bin/env bash
# Everything that only a GPU can show, in one command, and all of it in one JSON file:
#
#   tests/gpu/run.sh [--out DIR] [--data DIR] [--only PATTERN] [--build] [--run]
#
# --build builds and runs nothing (no GPU needed); --run runs what is built (no nvcc needed); else both.
# PATTERN picks steps: test-*, memcheck-*, racecheck-*, synccheck-*, example-*, bench-*.
# Results: DIR/result.json, logs beside it (build/gpu). Exits 1 when a step failed, 77 without a GPU.
set -u
cd "$(dirname "$0")/../.." || exit 1
root=$PWD
out=$root/build/gpu data=data only='*' build=yes run=yes
[ -e data/mnist/train-images-idx3-ubyte ] && data=data/mnist
while [ $# -gt 0 ]; do
    case $1 in
    --out)   out=$2; shift ;;
    --data)  data=$2; shift ;;
    --only)  only=$2; shift ;;
    --build) run=no ;;
    --run)   build=no ;;
    *)       echo "tests/gpu/run.sh: wrong argument: $1" >&2; exit 1 ;;
    esac
    shift
done
mkdir -p "$out" || exit 1
out=$(cd "$out" && pwd)
LIMIT=${LIMIT:-900}         # seconds a step may take
JOBS=${JOBS:-2}             # compilers at a time
REPEATS=${REPEATS:-15}      # of what benches measure
for python in "${PYTHON:-python3}" /usr/bin/python3; do
    "$python" -c 'import torch' 2>/dev/null && break
done
failed=0 records=

# ---------------------------------------------------------------------------
# Building

asked() { nvidia-smi --query-gpu="$1" --format=csv,noheader 2>/dev/null | head -n 1; }

capability=$(asked compute_cap)
ARCH=${ARCH:-sm_${capability:+${capability/./}}}
[ "$ARCH" = sm_ ] && ARCH=sm_75         # with its PTX, which newer GPUs can run
NVCC="nvcc -std=c++17 -arch=$ARCH -I. -Itests/cuda"

tests() {                   # the tests of kernels, by name
    local file
    for file in ${TESTS:-tests/cuda/test_*.cpp}; do
        file=$(basename "$file" .cpp)
        [ "$file" = test_sim ] || echo "$file"
    done
}

# The stand-in's tests on the real runtime: real.cpp counts, and the linker puts it in between.
build_test() {              # build_test NAME FLAGS...: with flags the result is called NAME_blas
    local name=$1 result=$1${2:+_blas} wraps
    shift
    wraps=$(nm "$out/real.o" | grep -o '__wrap_[A-Za-z]*' | sed 's/__wrap_/-Xlinker --wrap=/')
    $NVCC -O1 -lineinfo -x cu -DAE_CUDA_SIM -diag-suppress 177 -Xcompiler -ffp-contract=off \
        "$@" -c "tests/cuda/$name.cpp" -o "$out/$result.o" &&
        $NVCC $wraps "$out/$result.o" "$out/real.o" -o "$out/$result" ${1:+-lcublas}
}

build_program() {           # what is .cu says itself that it uses CUDA
    local use=-DAE_USE_CUDA
    case $1 in *.cu) use= ;; esac
    $NVCC -O2 -x cu $use "$1" -o "$out/$(basename "${1%.*}")"
}

build_bench() {             # build_bench NAME FLAG: with cuBLAS
    $NVCC -O2 -x cu "$2" bench/bench_cuda.cu -o "$out/$1" -lcublas
}

compile() {                 # compile NAME COMMAND...: in the background, JOBS at a time
    local name=$1
    shift
    while [ "$(jobs -rp | wc -l)" -ge "$JOBS" ]; do wait -n; done
    if "$@" >"$out/$name.build.log" 2>&1; then
        echo "built $name"
    else
        echo "FAIL to build $name ($out/$name.build.log)"
        touch "$out/broken"
    fi &
}

build_all() {
    local name
    rm -f "$out/broken"
    $NVCC -O1 -x cu -DAE_CUDA_SIM -c tests/gpu/real.cpp -o "$out/real.o" || exit 1
    for name in $(tests); do compile "$name" build_test "$name"; done
    for name in ${PROGRAMS:-examples/01_deep.c examples/05_conv.c bench/bench_cuda.cu}; do
        compile "$(basename "$name")" build_program "$name"
    done
    if [ -z "${PROGRAMS:-}" ]; then
        compile test_linear_blas build_test test_linear -DAE_CUDA_CUBLAS -DAE_CUDA_LARGE=1
        compile bench_cublas build_bench bench_cublas -DAE_CUDA_CUBLAS
        compile bench_tf32 build_bench bench_tf32 -DAE_CUDA_TF32
    fi
    wait
    [ ! -e "$out/broken" ]
}

# ---------------------------------------------------------------------------
# Running

quoted() { printf '"%s"' "$(printf %s "$1" | tr '\t\n' '  ' | tr -d '\000-\037' | sed 's/[\\"]/\\&/g')"; }

record() {                  # record STEP STATUS SECONDS LAST-LINE
    records="$records${records:+,
}    {\"step\": $(quoted "$1"), \"status\": \"$2\", \"seconds\": $3, \"last\": $(quoted "$4")}"
    printf '%-6s %s (%s s) %s\n' "$2" "$1" "$3" "$4"
}

step() {                    # step NAME COMMAND...
    local name=$1 start=$SECONDS status last
    shift
    # shellcheck disable=SC2254
    case $name in $only) ;; *) return ;; esac
    timeout "$LIMIT" "$@" >"$out/$name.log" 2>&1 </dev/null
    status=$?
    last=$(grep -v '^$' "$out/$name.log" | tail -n 1 | cut -c 1-200)
    case $status in
    0)   status=ok; [[ $last == skip* ]] && status=skip ;;
    124) last="ran over $LIMIT s; $last" status=FAIL ;;
    *)   last="exit $status; $last" status=FAIL ;;
    esac
    [ $status = FAIL ] && failed=$((failed + 1))
    record "$name" $status $((SECONDS - start)) "$last"
}

measured() {                # what the benches and examples printed as "result ..." lines, in JSON
    local first=yes log name words
    for log in "$out"/bench-*.log "$out"/example-*.log; do
        [ -e "$log" ] || continue
        name=$(basename "$log" .log)
        while read -r _ words; do
            [ $first = yes ] || printf ',\n'
            first=no
            case $words in      # result MODEL WHO STEPS, or result test_mse VALUE
            *' '*' '*) printf '    {"step": "%s", "model": "%s", "who": "%s", "steps_per_s": %s}' \
                        "$name" $words ;;
            *)         printf '    {"step": "%s", "what": "%s", "value": %s}' "$name" $words ;;
            esac
        done < <(grep '^result ' "$log")
    done
}

write_json() {
    {
        printf '{\n  "date": "%s",\n  "commit": %s,\n' "$(date -u +%FT%TZ)" \
            "$(quoted "$(git describe --always --dirty 2>/dev/null)")"
        printf '  "gpu": %s,\n  "driver": %s,\n  "compute_capability": %s,\n' \
            "$(quoted "$(asked name)")" "$(quoted "$(asked driver_version)")" "$(quoted "$capability")"
        printf '  "pytorch": %s,\n' \
            "$(quoted "$("$python" -c 'import torch; print(torch.__version__)' 2>/dev/null)")"
        printf '  "nvcc": %s,\n  "arch": "%s",\n  "host": %s,\n  "data": %s,\n' \
            "$(quoted "$(nvcc --version 2>/dev/null | grep -o 'V[0-9.]*' | tail -n 1)")" "$ARCH" \
            "$(quoted "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)")" \
            "$(quoted "$data")"
        printf '  "failed": %d,\n  "steps": [\n%s\n  ],\n' "$failed" "$records"
        printf '  "measured": [\n%s\n  ]\n}\n' "$(measured)"
    } >"$out/result.json"
}

sanitizer() {               # sanitizer TOOL TEST
    command -v compute-sanitizer >/dev/null || { echo "skip $1 (no compute-sanitizer)"; return; }
    compute-sanitizer --tool "$1" --error-exitcode 9 --print-limit 10 "$out/$2"
}
export -f sanitizer
export out

run_all() {
    local name tool
    rm -f "$out"/bench-*.log "$out"/example-*.log
    export AE_DEVICE=cuda       # a program that finds no GPU fails, and does not compute elsewhere
    for name in $(tests); do
        [ -x "$out/$name" ] && step "test-${name#test_}" env -u AE_DEVICE "$out/$name"
    done
    step test-linear-cublas env -u AE_DEVICE "$out/test_linear_blas"
    step example-deep "$out/01_deep" --plain --epochs 60 --batch 32 --data "$data" --out "$out"
    step example-conv "$out/05_conv" --epochs 30 --batch 16 --data "$data" --out "$out"
    step bench-ours "$out/bench_cuda" --repeats "$REPEATS" --data "$data"
    step bench-cublas "$out/bench_cublas" --repeats "$REPEATS" --data "$data"
    step bench-tf32 "$out/bench_tf32" --repeats "$REPEATS" --data "$data"
    step bench-torch "$python" -B bench/peers/torch_cuda.py --model all \
        --repeats "$REPEATS" --data "$data"
    for tool in memcheck racecheck synccheck; do
        for name in $(tests); do
            [ -x "$out/$name" ] && step "$tool-${name#test_}" \
                env -u AE_DEVICE AE_SETTINGS=1 bash -c 'sanitizer "$@"' "$tool" "$tool" "$name"
        done
    done
}

if [ $build = yes ]; then
    command -v nvcc >/dev/null || { echo "nvcc is not installed"; exit 77; }
    build_all || failed=1
fi
[ $run = yes ] || exit $failed
[ -n "$capability" ] || { echo "there is no GPU here"; exit 77; }
run_all
write_json
echo "$failed failed; $out/result.json"
[ "$failed" = 0 ]
