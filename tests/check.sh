#!/usr/bin/env bash
# The wider matrix: `make check`, or tests/check.sh PATTERN for the steps whose names match.
#
# A step is a function below with its arguments. It passes when every command in it does (set -e),
# is skipped when it says so (`lacks`), and leaves its output in build/check/NAME.log. JOBS steps
# run at a time. The last line is `N passed, N failed, N skipped`; the exit status says the same.
set -u
cd "$(dirname "$0")/.." || exit 1
root=$PWD
out=$root/build/check
pattern=${1:-*}
JOBS=${JOBS:-2}
LIMIT=${LIMIT:-900}     # seconds a test program may take, under valgrind or qemu too

WARN='-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wdouble-promotion -Werror'
WARN_C="$WARN -Wstrict-prototypes"
WARN_CXX="$WARN -Wno-missing-field-initializers"
NO_FLAGS='AE_NO_MALLOC AE_NO_STDIO AE_NO_SIMD AE_NO_THREADS AE_NO_TRAIN'

rm -rf "$out"
mkdir -p "$out" || exit 1

# ---------------------------------------------------------------------------
# Running steps

step() {                # step NAME COMMAND...: starts it, waiting while JOBS are running
    local name=$1
    shift
    # shellcheck disable=SC2254
    case $name in $pattern) ;; *) return ;; esac
    while [ "$(jobs -rp | wc -l)" -ge "$JOBS" ]; do wait -n; done
    one_step "$name" "$@" &
}

one_step() {
    local name=$1 log=$out/$1.log status
    shift
    (set -e; "$@") >"$log" 2>&1 </dev/null
    status=$?
    case $status in
    0)  echo "ok $name" ;;
    77) echo "skip $name ($(tail -n 1 "$log"))" ;;
    *)  printf 'FAIL %s (%s)\n%s\n' "$name" "${log#"$root"/}" \
            "$(tail -n 15 "$log" | cut -c 1-300 | sed 's/^/    /')" ;;
    esac
    echo "$status" >"$out/$name.status"
}

barrier() { wait; }     # later steps use what earlier ones built

lacks() { echo "$*"; exit 77; }

need() {                # need COMMAND...: skips the step where one is not installed
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null 2>&1 || lacks "$tool is not installed"
    done
}

can_link() {            # can_link 'HEADERS' COMPILER FLAGS...: does a program with these link?
    local headers=$1 header dir
    shift
    dir=$(mktemp -d "$out/probe.XXXXXX")
    for header in $headers; do echo "#include <$header>"; done >"$dir/probe.c"
    echo 'int main(void) { return 0; }' >>"$dir/probe.c"
    "$1" "$dir/probe.c" -o "$dir/probe" "${@:2}" 2>/dev/null
}

sandbox() {             # sandbox NAME COMMAND...: in a folder of its own, data/ and tests/ at hand
    local dir=$out/$1.dir
    shift
    mkdir -p "$dir/build" "$dir/out"
    ln -sfn "$root/data" "$dir/data"
    ln -sfn "$root/tests" "$dir/tests"
    (cd "$dir" && timeout "$LIMIT" "$@")
}

# ---------------------------------------------------------------------------
# Compiling

cxx_of() { case $1 in gcc) echo g++ ;; clang) echo clang++ ;; esac }

compile_header() {      # compile_header COMPILER STANDARD FLAGS...: one object, no warning
    local compiler=$1 std=$2
    shift 2
    echo "$compiler -std=$std $*"
    case $std in
    c++*) "$(cxx_of "$compiler")" -std="$std" $WARN_CXX "$@" -c tests/compile.cpp -o /dev/null ;;
    *)    "$compiler" -std="$std" $WARN_C "$@" -c tests/compile.c -o /dev/null ;;
    esac
}

compile_flags() {       # compile_flags COMPILER STANDARD: no flag, each alone, all that leave out
    local flag
    need "$1" "$(cxx_of "$1")"
    compile_header "$1" "$2"
    for flag in AE_STATIC $NO_FLAGS; do
        compile_header "$1" "$2" "-D$flag"
    done
    # shellcheck disable=SC2046
    compile_header "$1" "$2" $(printf -- '-D%s ' $NO_FLAGS)
}

compile_standards() {   # compile_standards COMPILER 'HEADERS' FLAGS...: in every standard
    local compiler=$1 headers=$2 std
    shift 2
    need "$compiler" "$(cxx_of "$compiler")"
    can_link "$headers" "$compiler" || lacks "no header $headers"
    for std in c99 c11 gnu99 c++11 c++17; do
        compile_header "$compiler" $std "$@"
    done
}

compile_example() {     # compile_example FILE: as C99 and C++11 with both compilers
    local compiler name
    name=$(basename "$1" .c)
    need gcc g++ clang clang++
    for compiler in gcc clang; do
        $compiler -std=c99 -O1 $WARN_C -I. "$1" -o "$out/$name.$compiler" -lm
        $(cxx_of $compiler) -std=c++11 -O1 $WARN_CXX -I. -x c++ "$1" -o "$out/$name.$compiler++" -lm
    done
}

include_order() {       # include_order COMPILER
    local copy
    need "$1"
    for copy in '' '-DAE_STATIC -DAE_IMPLEMENTATION'; do
        $1 -std=c99 $WARN_C -c tests/include_order_a.c -o "$out/order_$1_a.o"
        $1 -std=c99 $WARN_C $copy -c tests/include_order_b.c -o "$out/order_$1_b.o"
        $1 "$out/order_$1_a.o" "$out/order_$1_b.o" -o "$out/order_$1" -lm
        "$out/order_$1"
    done
}

refuses() {             # what must not compile: another ae.h, half an allocator
    local flags
    need gcc
    for flags in -D__AE_H__ '-DAE_MALLOC(n,u)=0' '-DAE_FREE(p,u)=0'; do
        echo "gcc $flags"
        if gcc "$flags" -fsyntax-only tests/compile.c; then
            echo "compiled, but should say #error"
            return 1
        fi
    done
}

mingw() {
    local file
    need x86_64-w64-mingw32-gcc x86_64-w64-mingw32-g++
    x86_64-w64-mingw32-gcc -std=c99 -O2 $WARN_C -c tests/compile.c -o "$out/mingw.o"
    x86_64-w64-mingw32-g++ -std=c++11 -O2 $WARN_CXX -c tests/compile.cpp -o "$out/mingw.o"
    for file in examples/*.c; do
        x86_64-w64-mingw32-gcc -std=c99 -O2 $WARN_C -I. "$file" -o "$out/mingw.exe" -lm
    done
}

# ---------------------------------------------------------------------------
# Running the tests

build_tests() {         # build_tests PROGRAM COMPILER FLAGS... [-- LIBRARIES...]
    local program=$1 compiler=$2 flags=() language=(-std=c99)
    shift 2
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        flags+=("$1")
        shift
    done
    case $compiler in *++) language=(-std=c++11 -x c++) ;; esac
    echo "$compiler ${language[*]} ${flags[*]} tests/test_*.c -o $program -lm ${*:2}"
    "$compiler" "${language[@]}" -Wall -Wextra -Werror=unused-function -I. "${flags[@]}" \
        tests/test_*.c -x none -o "$program" -lm "${@:2}"
}

run_tests() {           # run_tests NAME COMMAND...: in a sandbox; its last line must agree
    local name=$1
    sandbox "$@" | tee "$out/$name.output"
    [ "${PIPESTATUS[0]}" = 0 ]
    tail -n 1 "$out/$name.output" | grep -qE '^[1-9][0-9]* passed, 0 failed$'
}

suite() {               # suite NAME COMPILER FLAGS... [-- LIBRARIES...]: builds and runs the tests
    local name=$1
    shift
    need "$1"
    build_tests "$out/$name" "$@"
    run_tests "$name" "$out/$name"
}

suite_with() {          # suite_with NAME 'HEADERS' COMPILER FLAGS...: the same where that can link
    local name=$1 headers=$2
    shift 2
    need "$1"
    can_link "$headers" "$@" || lacks "$1 cannot link $headers ${*:2}"
    suite "$name" "$@"
}

suite_cblas() {
    local library
    need gcc
    for library in openblas cblas; do
        if can_link cblas.h gcc -l$library; then
            suite test-cblas gcc -O2 -DAE_USE_CBLAS -- -l$library
            return
        fi
    done
    lacks "no CBLAS (libopenblas-dev)"
}

suite_zlib() {
    need gcc
    can_link zlib.h gcc -lz || lacks "no zlib (zlib1g-dev)"
    suite test-zlib gcc -O2 -DAE_USE_ZLIB -- -lz
}

suite_valgrind() {
    need valgrind gcc
    build_tests "$out/test-valgrind" gcc -O2 -g
    LIMIT=$((2 * LIMIT)) run_tests test-valgrind valgrind -q --error-exitcode=1 --leak-check=full \
        --errors-for-leak-kinds=all "$out/test-valgrind" --exact
}

suite_cross() {         # suite_cross NAME COMPILER EMULATOR TESTS...: another processor, emulated
    local name=$1 compiler=$2 emulator=$3
    shift 3
    need "$compiler" ${emulator:+"$emulator"}
    can_link 'math.h' "$compiler" -static -lm || lacks "$compiler cannot link (its libc6-dev cross package)"
    build_tests "$out/$name" "$compiler" -O2 -static
    run_tests "$name" ${emulator:+"$emulator"} "$out/$name" "$@"
}

suite_i686() {          # 32 bits where gcc has no -m32 (gcc-multilib excludes cross compilers)
    [ "$(uname -m)" = x86_64 ] || lacks "not an x86-64 machine"
    suite_cross test-i686 i686-linux-gnu-gcc ''
}

suite_isa() {           # suite_isa ISA FLAGS...: the kernels of one instruction set
    local isa=$1 flag
    shift
    [ -x "$out/test-gcc" ] || lacks "test-gcc did not build"
    for flag in "$@"; do
        grep -qw "$flag" /proc/cpuinfo || lacks "this processor has no $flag"
    done
    run_tests "test-isa-$isa" "$out/test-gcc" --isa "$isa"
}

suite_locale() {        # a locale that writes 0,5 for 0.5
    [ -x "$out/test-gcc" ] || lacks "test-gcc did not build"
    local name
    name=$(locale -a 2>/dev/null | grep -i '^de_DE' | head -n 1)
    if [ -z "$name" ]; then
        mkdir -p "$out/locales"
        localedef -i de_DE -f UTF-8 "$out/locales/de_DE.UTF-8" || lacks "no locale de_DE"
        export LOCPATH=$out/locales
        name=de_DE.UTF-8
    fi
    grep -q setlocale tests/*.[ch] || { echo "the test program never calls setlocale"; return 1; }
    LC_ALL=$name run_tests test-locale "$out/test-gcc"
}

cli() {                 # cli LIBRARIES...: the command-line program, with those for pictures or none
    local name=cli-${*:-plain} flags=() library
    need gcc
    for library in "$@"; do
        case $library in
        png)  can_link 'png.h' gcc -lpng || lacks "no libpng (libpng-dev)"; flags+=(-DUSE_PNG) ;;
        jpeg) can_link 'stdio.h jpeglib.h' gcc -ljpeg || lacks "no libjpeg (libjpeg-dev)"
              flags+=(-DUSE_JPEG) ;;
        esac
    done
    name=${name// /-}
    gcc -std=c99 -O2 $WARN_C "${flags[@]}" -I. examples/ae.c -o "$out/$name" "${@/#/-l}" -lm
    sandbox "$name" sh tests/cli.sh "$out/$name" "$out/$name.dir/work"
}

# ---------------------------------------------------------------------------
# Files between programs and processors

interop() {             # interop NAME COMPILER FLAGS...: builds file_interop.c
    local name=$1 compiler=$2
    shift 2
    "$compiler" -std=c99 -O1 -Wall -Wextra -Werror -I. "$@" tests/file_interop.c -o "$out/$name" -lm
}

file_python() {         # model files and arrays there and back, with NumPy and PyTorch
    local python
    need gcc
    for python in python3 /usr/bin/python3; do
        if "$python" -c 'import numpy, torch' 2>/dev/null; then break; fi
    done
    "$python" -c 'import numpy' || lacks "$python has no numpy"
    interop file-python gcc
    sandbox file-python.files "$python" "$root/tests/file_interop.py" "$out/file-python" .
}

file_across() {         # file_across NAME COMPILER EMULATOR FLAGS...: a file of this processor's
    local name=$1 compiler=$2 emulator=$3 files=(model.safetensors x.npy y.npy)
    shift 3
    need gcc "$compiler" ${emulator:+"$emulator"}
    can_link math.h "$compiler" "$@" -lm || lacks "$compiler cannot link $*"
    interop "$name-writer" gcc
    sandbox "$name.files" "$out/$name-writer" write "${files[@]}"
    interop "$name" "$compiler" "$@"
    sandbox "$name.files" ${emulator:+"$emulator"} "$out/$name" open "${files[@]}"
}

# ---------------------------------------------------------------------------
# CUDA on the CPU

cuda_sim() {            # cuda_sim NAME COMPILER FLAGS...: the CPU's stand-in for CUDA, tests/cuda
    local name=$1 compiler=$2 file
    shift 2
    need "$compiler"
    [ "$(uname -s)" = Linux ] || lacks "needs Linux"
    can_link '' "$compiler" "$@" || lacks "$compiler cannot link $*"
    for file in sim runtime; do     # without the sanitizers: see tests/cuda/sim.h
        "$compiler" -std=c++17 -O2 -g $WARN_CXX -c tests/cuda/$file.cpp -o "$out/$name.$file.o"
    done
    "$compiler" -std=c++17 -O1 -g -ffp-contract=off $WARN_CXX "$@" tests/cuda/test_sim.cpp \
        "$out/$name.sim.o" "$out/$name.runtime.o" -o "$out/$name"
    run_tests "$name" "$out/$name"
}

cuda_sim_nvcc() {       # what the stand-in's tests use is CUDA
    need nvcc
    nvcc -std=c++17 -arch=sm_75 -Werror all-warnings -x cu -ptx tests/cuda/test_sim.cpp \
        -o "$out/test_sim.ptx"
}

cuda_objects() {        # the stand-in, as cuda_sim builds it, once for all tests of operations
    local file
    for file in sim runtime; do
        [ -e "$out/cuda.$file.o" ] && continue
        g++ -std=c++17 -O2 -g $WARN_CXX -c tests/cuda/$file.cpp -o "$out/cuda.$file.$BASHPID.o"
        mv "$out/cuda.$file.$BASHPID.o" "$out/cuda.$file.o"
    done
}

cuda_ops() {            # cuda_ops NAME FILE COMPILER FLAGS...: kernels of ae_cuda.cuh, on the stand-in
    local name=$1 file=$2 compiler=$3 level=-O0
    shift 3
    need g++ "$compiler"
    [ "$(uname -s)" = Linux ] || lacks "needs Linux"
    can_link '' "$compiler" "$@" || lacks "$compiler cannot link $*"
    cuda_objects
    [ "$compiler" = g++ ] && level=-O1      # clang++'s sanitizers compile slowly
    "$compiler" -std=c++17 $level -g -ffp-contract=off $WARN_CXX -Wno-unused-function \
        -DAE_CUDA_SIM -I. -Itests/cuda "$@" "$file" "$out/cuda.sim.o" "$out/cuda.runtime.o" -o "$out/$name"
    sandbox "$name" "$out/$name" | tee "$out/$name.output"
    [ "${PIPESTATUS[0]}" = 0 ]
    tail -n 1 "$out/$name.output" | grep -qE ': [1-9][0-9]* checks, 0 failed$'
}

cuda_ops_plain() {      # cuda_ops_plain NAME FILE: with g++; notes which kernels ran, for cuda_ran
    need python3
    AE_CUDA_KERNELS=$(python3 -B tests/cuda/gates.py --list)
    AE_CUDA_RAN=$out/$1.ran
    export AE_CUDA_KERNELS AE_CUDA_RAN
    cuda_ops "$@" g++
}

cuda_cublas() {         # products by the stand-in's cuBLAS
    cuda_ops "$1-linear" tests/cuda/test_linear.cpp g++ -DAE_CUDA_CUBLAS -DAE_CUDA_LARGE=1
    cuda_ops "$1-model" tests/cuda/test_model.cpp g++ -DAE_CUDA_TF32 -DAE_CUDA_LARGE=1
}

cuda_flags() {          # what leaves out, with the GPU's part
    local compiler flag
    need g++ clang++
    for compiler in g++ clang++; do
        for flag in $NO_FLAGS AE_STATIC; do
            $compiler -std=c++17 -O0 -ffp-contract=off $WARN_CXX -DAE_CUDA_SIM -I. -Itests/cuda \
                "-D$flag" -x c++ -c tests/cuda/program.cu -o /dev/null
        done
    done
}

cuda_ran() {            # every kernel is launched by some test
    need python3
    compgen -G "$out/test-cuda-ops-*.ran" >/dev/null || lacks "no test of operations ran"
    python3 -B tests/cuda/gates.py --ran "$out"/test-cuda-ops-*.ran
}

cuda_gates() {          # cuda_gates [--red]: what nvcc says of the kernels
    need nvcc python3
    python3 -B tests/cuda/gates.py "$@"
}

cuda_program() {        # nvcc's own program, without a GPU: the CPU's numbers, and no claim of more
    local name=$1 status=0 mse
    need nvcc gcc
    nvcc -std=c++17 -O2 -x cu -arch=sm_75 -DAE_USE_CUDA -Werror all-warnings -I. \
        examples/01_deep.c -o "$out/$name"
    gcc -std=c99 -O2 -I. examples/01_deep.c -o "$out/$name.cpu" -lm
    mse=$(sandbox "$name" "$out/$name.cpu" --plain --epochs 2 | tail -n 1)
    if nvidia-smi -L 2>/dev/null | grep -q GPU; then lacks "there is a GPU: tests/gpu/run.sh"; fi
    [ "$(sandbox "$name" "$out/$name" --plain --epochs 2 | tail -n 1)" = "$mse" ] ||
        { echo "without a GPU not what the CPU computes: $mse"; return 1; }
    AE_DEVICE=cuda sandbox "$name" "$out/$name" --plain --epochs 2 >"$out/$name.asked" 2>&1 || status=$?
    cat "$out/$name.asked"
    [ $status != 0 ] && grep -q cudaError "$out/$name.asked"
}

cuda_gpu_build() {      # of what tests/gpu/run.sh runs on a GPU, one of each kind: it compiles and links
    need nvcc
    TESTS=tests/cuda/test_pool.cpp PROGRAMS=bench/bench_cuda.cu JOBS=1 ARCH=sm_90 \
        tests/gpu/run.sh --build --out "$out/gpu"
    nvcc -std=c++17 -x cu -arch=sm_90 -DAE_USE_CUDA -DAE_CUDA_TF32 -DAE_NO_SIMD -Werror all-warnings \
        -I. examples/00_quickstart.c -o "$out/tf32" -lcublas
}

cuda_two_objects() {    # a C program, and ae.h compiled by nvcc in an object of its own
    local name=$1 dir=$out/$1.dir nvcc
    need nvcc gcc
    mkdir -p "$dir"
    printf '#define AE_USE_CUDA\n#define AE_IMPLEMENTATION\n#include "ae.h"\n' >"$dir/ae.cu"
    grep -v '^#define AE_IMPLEMENTATION' examples/01_deep.c |
        sed 's|"\.\./ae\.h"|"ae.h"|' >"$dir/deep.c"
    nvcc=$(command -v nvcc)
    nvcc -std=c++17 -O1 -arch=sm_75 -DAE_NO_SIMD -I. -c "$dir/ae.cu" -o "$dir/ae.o"
    gcc -std=c99 -O1 $WARN_C -DAE_USE_CUDA -I. "$dir/deep.c" "$dir/ae.o" -o "$out/$name" \
        -L"$(dirname "$(dirname "$(readlink -f "$nvcc")")")/lib64" -lcudart_static -ldl -lpthread \
        -lrt -lstdc++ -lm
    sandbox "$name" "$out/$name" --plain --epochs 1
}

# ---------------------------------------------------------------------------
# What the object file and the preprocessor show

object() {              # object FILE COMPILER FLAGS...: not PIC, where const tables look writable
    local file=$1 compiler=$2
    shift 2
    echo "$compiler $*"
    "$compiler" -std=c99 -O2 -fno-pic -fno-stack-protector "$@" -c tests/compile.c -o "$file"
}

none() {                # none TITLE: fails when there is anything on standard input
    local found
    found=$(cat)
    [ -z "$found" ] && return
    printf '%s:\n%s\n' "$1" "$found"
    return 1
}

# Functions that print, end the program, or read a global; the allocator's; files'.
BANNED='_?exit|_Exit|quick_exit|abort|raise|signal|.*printf(_chk)?|f?puts|f?putc|putchar'
BANNED+='|perror|__assert.*|std(in|out|err)|__errno_location|getenv|s?rand|strto.*|ato[a-z]+'
BANNED+='|setlocale|localeconv|__ctype_.*|is(digit|alpha|space|upper|lower)|to(upper|lower)|calloc|realloc'
ALLOCATOR='malloc|free'
FILES='f(open|close|read|write|seek|tell|flush|eof|error)|remove|rename|gz.*'

undefined() { nm -u "$1" | awk '{ print $NF }' | sed 's/@.*//'; }

symbols() {             # symbols COMPILER
    local o=$out/symbols_$1.o bad=0
    need "$1" nm
    object "$o" "$1"
    nm -g --defined-only "$o" | awk '$NF !~ /^ae_[^_]/' | none "exported without ae_" || bad=1
    nm "$o" | awk '$(NF - 1) ~ /^[bBdDCsSgGuV]$/' | none "writable globals" || bad=1
    undefined "$o" | grep -xE "$BANNED" | none "calls" || bad=1
    object "$o" "$1" -DAE_NO_MALLOC
    undefined "$o" | grep -xE "$BANNED|$ALLOCATOR" | none "calls with AE_NO_MALLOC" || bad=1
    object "$o" "$1" -DAE_NO_STDIO
    undefined "$o" | grep -xE "$BANNED|$FILES" | none "calls with AE_NO_STDIO" || bad=1
    object "$o" "$1" -DAE_STATIC
    nm -g --defined-only "$o" | none "exported with AE_STATIC" || bad=1
    return $bad
}

macros() {              # macros that ae.h defines and does not undefine: AE_ and AE__ only
    local flags
    need gcc
    for flags in '' -DAE_IMPLEMENTATION; do
        echo "gcc $flags -E -dD ae.h"
        gcc -std=c99 $flags -E -dD -x c ae.h | awk '
            /^# [0-9]+ "/   { ours = $3 ~ /(^"|\/)ae(_cuda\.cuh|\.h)"$/ }
            !ours           { next }
            $1 == "#define" { sub(/\(.*/, "", $2); defined[$2] = 1 }
            $1 == "#undef"  { delete defined[$2] }
            END { for (name in defined) if (name !~ /^AE_/) print name }' | none "macros left over"
    done
}

# ---------------------------------------------------------------------------
# Programs in the documentation

run_program() {         # run_program NAME FILE: builds it in C and C++, no warning, and runs it
    need gcc g++ clang clang++
    gcc -std=c99 -O2 $WARN_C -I. "$2" -o "$out/$1" -lm
    clang -std=c99 -O2 $WARN_C -I. "$2" -o "$out/$1" -lm
    clang++ -std=c++11 -O2 $WARN_CXX -I. -x c++ "$2" -o "$out/$1" -lm
    g++ -std=c++11 -O2 $WARN_CXX -I. -x c++ "$2" -o "$out/$1" -lm
    sandbox "$1" "$out/$1"
}

header_program() {      # the program in the header's first comment, between its two marker lines
    local file=$out/header_program.c
    awk '/^ *--- program ends ---$/ { on = 0 } on { print }
         /^ *--- program begins ---$/ { on = 1 }' ae.h >"$file"
    grep -q 'int main' "$file" || { echo "no program between the marker lines"; return 1; }
    run_program header-program "$file"
}

readme_programs() {     # every block of C in README.md that is a program
    local file count=0 found=no quickstart
    quickstart=$(sed 's|"\.\./ae\.h"|"ae.h"|' examples/00_quickstart.c)
    awk -v base="$out/readme_" '
        /^```/ { on = !on && $0 == "```c"; if (on) n++; next }
        on     { print > (base n ".c") }' README.md
    for file in "$out"/readme_*.c; do
        grep -q 'int main' "$file" || continue
        count=$((count + 1))
        run_program "readme-program-$count" "$file"
        if [[ $quickstart == *"$(cat "$file")"* ]]; then found=yes; fi
    done
    [ $count -gt 0 ] || { echo "no program in README.md"; return 1; }
    [ $found = yes ] || { echo "examples/00_quickstart.c is not the README's program"; return 1; }
}

# ---------------------------------------------------------------------------
# Other tools

benches() {             # built without a warning, and all but size.sh run for a moment
    local file openmp=
    need gcc clang
    can_link omp.h gcc -fopenmp && openmp=-fopenmp
    for file in bench/bench_*.c; do
        clang -std=c99 $WARN_C -Wno-unknown-pragmas -I. -fsyntax-only "$file"
        gcc -std=c99 -O2 $WARN_C -Wno-unknown-pragmas $openmp -I. "$file" \
            -o "$out/$(basename "$file" .c)" -lm -ldl
    done
    BUILD=$out bench/run.sh --quick --data data --only '[!s]*'
}

threads() {             # the thread sanitizer on a training
    need gcc
    can_link pthread.h gcc -fsanitize=thread || lacks "gcc has no thread sanitizer"
    gcc -std=gnu99 -g -O1 -fsanitize=thread $WARN_C -I. tests/threads.c -o "$out/threads" -lm -lpthread
    sandbox threads "$out/threads"
}

fuzz() {                # fuzz FILE: twenty seconds
    local name
    name=$(basename "$1" .c)
    need clang
    can_link '' clang -fsanitize=address || lacks "clang has no sanitizers (libclang-rt-dev)"
    clang -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -I. "$1" \
        -o "$out/$name" -lm
    mkdir -p "$out/$name.corpus"
    sandbox "$name" "$out/$name" -max_total_time=20 -timeout=10 "$out/$name.corpus"
}

shell_scripts() {
    need shellcheck
    shellcheck -e SC2086 tests/*.sh tests/*/*.sh bench/*.sh data/*.sh .ci/run
}

cppcheck_errors() {
    need cppcheck
    timeout 300 cppcheck -q --error-exitcode=1 --max-configs=1 --suppress=missingInclude \
        -D__GNUC__ -DAE_IMPLEMENTATION --language=c --std=c99 tests/compile.c ||
        { [ $? = 124 ] && lacks "cppcheck took over 300 s"; return 1; }
}

# ---------------------------------------------------------------------------
# The steps, the longest of each part first

trap 'kill $(jobs -p) 2>/dev/null; exit 130' INT TERM
SAN='-g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined'

step lint tests/lint.sh
step test-gcc suite test-gcc gcc -O2
step test-valgrind suite_valgrind
step test-aarch64 suite_cross test-aarch64 aarch64-linux-gnu-gcc qemu-aarch64-static
# What reads and writes bytes; the whole suite takes minutes under this emulation.
step test-big-endian suite_cross test-big-endian s390x-linux-gnu-gcc qemu-s390x-static \
    arena rng data image model_snapshot file
step test-clang suite test-clang clang -O2
step test-gcc-sanitize suite_with test-gcc-sanitize '' gcc $SAN
step test-clang-sanitize suite_with test-clang-sanitize '' clang $SAN
step test-gcc-O0 suite test-gcc-O0 gcc -O0
for compiler in gcc clang; do
    step test-$compiler-native suite test-$compiler-native $compiler -O3 -march=native
    step test-$compiler-Ofast suite test-$compiler-Ofast $compiler -Ofast
    step test-$compiler-no-simd suite test-$compiler-no-simd $compiler -O2 -DAE_NO_SIMD
    step test-$compiler-openmp suite_with test-$compiler-openmp omp.h $compiler -O2 -fopenmp
done
step test-threads threads
step test-g++ suite test-g++ g++ -O2
step test-clang++ suite test-clang++ clang++ -O2
step test-cuda-sim cuda_sim test-cuda-sim g++
step test-cuda-sim-sanitize cuda_sim test-cuda-sim-sanitize clang++ \
    -fsanitize=address,undefined -fno-sanitize-recover=undefined
step test-cuda-sim-threads cuda_sim test-cuda-sim-threads clang++ -fsanitize=thread
step test-cuda-sim-nvcc cuda_sim_nvcc
step test-cuda-cublas cuda_cublas test-cuda-cublas
step cuda-flags cuda_flags
step cuda-gates cuda_gates
step cuda-gates-red cuda_gates --red
step cuda-program cuda_program cuda-program
step cuda-gpu-build cuda_gpu_build
step cuda-two-objects cuda_two_objects cuda-two-objects
for file in tests/cuda/test_*.cpp; do
    name=$(basename "$file" .cpp)
    name=test-cuda-ops-${name#test_}
    [ "$name" = test-cuda-ops-sim ] && continue
    step "$name" cuda_ops_plain "$name" "$file"
    step "$name-sanitize" cuda_ops "$name-sanitize" "$file" clang++ \
        -fsanitize=address,undefined -fno-sanitize-recover=undefined
    step "$name-threads" cuda_ops "$name-threads" "$file" clang++ -fsanitize=thread \
        -DAE_CUDA_BLOCK=64
done
step test-cblas suite_cblas
step test-zlib suite_zlib
step test-m32 suite_with test-m32 math.h gcc -O2 -m32
step test-i686 suite_i686
step file-python file_python
step file-32-bit file_across file-32-bit i686-linux-gnu-gcc '' -static
step file-big-endian file_across file-big-endian s390x-linux-gnu-gcc qemu-s390x-static -static
step file-no-train file_across file-no-train gcc '' -DAE_NO_TRAIN
barrier
step cuda-ran cuda_ran
step test-isa-scalar suite_isa scalar
step test-isa-sse2 suite_isa sse2 sse2
step test-isa-avx2 suite_isa avx2 avx2 fma
step test-isa-avx512 suite_isa avx512 avx512f avx512dq avx512bw avx512vl
step test-locale suite_locale

for compiler in gcc clang; do
    for std in c99 c11 gnu99 c++11 c++17; do
        step compile-$compiler-$std compile_flags $compiler $std
    done
    step compile-$compiler-AE_USE_CBLAS compile_standards $compiler cblas.h -DAE_USE_CBLAS
    step compile-$compiler-AE_USE_ZLIB compile_standards $compiler zlib.h -DAE_USE_ZLIB
    step compile-$compiler-O2 compile_standards $compiler '' -O2
    step compile-$compiler-O3 compile_standards $compiler '' -O3
    step include-order-$compiler include_order $compiler
    step symbols-$compiler symbols $compiler
done
step compile-mingw mingw
step compile-refuses refuses
step macros macros
for file in examples/*.c; do
    [ -e "$file" ] && step "example-$(basename "$file" .c)" compile_example "$file"
done
step cli cli
step cli-png-jpeg cli png jpeg
step benches benches
step header-program header_program
step readme-program readme_programs
for file in tests/fuzz_*.c; do
    [ -e "$file" ] && step "$(basename "$file" .c)" fuzz "$file"
done
step shellcheck shell_scripts
step cppcheck cppcheck_errors
barrier

count() { cat "$out"/*.status 2>/dev/null | grep -cxE "$1"; }
passed=$(count 0)
skipped=$(count 77)
failed=$(($(count '.*') - passed - skipped))
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
