#!/usr/bin/env python3
"""What nvcc says of the kernels in ae_cuda.cuh: compiled for each kind of GPU, none needed.

  tests/cuda/gates.py             all gates: warnings, registers, shared memory, spills, the PTX
  tests/cuda/gates.py --update    the same, and writes the measured figures to budget.txt
  tests/cuda/gates.py --red       breaks each rule in turn: is it noticed?
  tests/cuda/gates.py --list      the kernels of ae_cuda.cuh, one a line
  tests/cuda/gates.py --ran FILE...   was each of them launched? (files that AE_CUDA_RAN named)

Each finding is one line: the kernel, then the rule. The last line counts them; exit status 1 when there
is one, 77 when there is no nvcc. --jobs N compiles so many kinds at a time (2).
"""
import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
KERNELS = os.path.join(ROOT, "ae_cuda.cuh")
BUDGET = os.path.join(HERE, "budget.txt")

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
REGISTERS = 64                      # 256 threads of a block, and four blocks at once
REGISTERS_OF_PRODUCTS = 128         # what multiplies matrices keeps a tile of them in registers
PRODUCTS = ("linear", "conv")       # the sections of such kernels, and one more: w w^T
GRAM = "ae__k_orthogonal"
SHARED = 48 << 10                   # bytes: what every GPU gives without being asked

FLAGS = ["-std=c++17", "-Werror", "all-warnings",
         "-Xcompiler", "-Wall,-Wextra,-Wno-missing-field-initializers,-Werror",
         "-Xptxas", "-v,-warn-spills,-warn-lmem-usage,-warn-double-usage,-Werror"]


# ---------------------------------------------------------------------------
# The source

def read(path):
    with open(path) as f:
        return f.read()


def without_comments(text):
    """Comments and strings become blanks: every place and line number stays."""
    blank = lambda m: re.sub(r"[^\n]", " ", m.group())
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.S)


def kernels_of(text):
    """{kernel: section} of a file's __global__ functions; the sections are its >>keys."""
    banners = [(m.start(), m.group(1)) for m in re.finditer(r"^   >>(\w+)", text, re.M)]
    found = {}
    for m in re.finditer(r"__global__[^;{}]*?\b(\w+)\s*\(", re.sub(
            r"__launch_bounds__\s*\([^)]*\)", lambda b: " " * len(b.group()),
            without_comments(text))):
        found[m.group(1)] = ([""] + [key for at, key in banners if at < m.start()])[-1]
    return found


def source_findings(text, file):
    """What neither nvcc nor a test on the CPU would see."""
    findings = []
    for name in kernels_of(text):
        if not name.startswith("ae__k_"):
            findings.append("%s: a kernel's name begins with ae__k_" % name)
    for number, line in enumerate(without_comments(text).split("\n"), 1):
        for word, why in (("__CUDA_ARCH__", "the tests on the CPU do not see that code"),
                          ("asm", "inline PTX is not seen by the tests on the CPU")):
            if re.search(r"\b%s\b" % word, line):
                findings.append("%s:%d: %s: %s" % (file, number, word, why))
    return findings


# ---------------------------------------------------------------------------
# Compiling

def demangled(symbol):
    """_Z10ae__k_gemmILi32ELb1EEvPfi is ae__k_gemm<32,1>; what is no template has no <>."""
    for m in re.finditer(r"\d+", symbol):
        for first in range(m.start(), m.end()):         # ...4_10ae__k_x: digits may touch
            name = symbol[m.end():m.end() + int(symbol[first:m.end()])]
            if name.startswith("ae__") and len(name) == int(symbol[first:m.end()]):
                arguments = re.match(r"I((?:L[^E]+E|[a-z])+)E", symbol[m.end() + len(name):])
                if not arguments:
                    return name
                values = re.findall(r"L[a-z]n?(\d+)E|L\d+\w*?(\d+)E|([a-z])", arguments.group(1))
                return "%s<%s>" % (name, ",".join(a or b or c for a, b, c in values))
    return symbol


class Figures:
    """Of one kernel: the largest over the architectures."""

    def __init__(self, registers=0, shared=0, barriers=0):
        self.of = {"registers": registers, "shared": shared, "barriers": barriers}
        self.where = {}

    def raise_to(self, what, value, where):
        if value >= self.of[what]:
            self.where.setdefault(what, where)
            if value > self.of[what]:
                self.of[what], self.where[what] = value, where


def nvcc(program, architecture, output):
    """The compiler's output for one architecture. The host's code is compiled once, with sm_75."""
    whole = architecture == ARCHITECTURES[0]
    command = ["nvcc", *FLAGS, "-I" + ROOT, "-arch=sm_%d" % architecture,
               "-c" if whole else "-cubin", program, "-o", output]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return run.returncode, run.stdout


# Lines that say nothing, or what the figures say.
SAID_BY_FIGURES = (r"ptxas info|Compile time|Ptx assembly aborted|being treated as errors"
                   r"|Local memory used for|Registers are spilled|uses too much shared")


def read_log(log, architecture, figures, findings):
    """Takes the figures of each kernel from what ptxas -v says; returns what nobody understood."""
    sm, kernel, rest = "sm_%d" % architecture, None, []
    for line in log.split("\n"):
        if m := re.search(r"Compiling entry function '(\w+)'", line):
            kernel = demangled(m.group(1))
            figures.setdefault(kernel, Figures())
        elif m := re.search(r"Function properties for (\w+)", line):
            kernel = demangled(m.group(1))
        elif m := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes "
                            r"spill loads", line):
            stack, stores, loads = map(int, m.groups())
            if stores or loads:
                findings.append("%s: spills registers on %s (%d bytes out, %d back)"
                                % (kernel, sm, stores, loads))
            elif stack:
                findings.append("%s: %d bytes of local memory on %s" % (kernel, stack, sm))
        elif m := re.search(r"Used (\d+) registers", line):
            figures[kernel].raise_to("registers", int(m.group(1)), sm)
            for what, pattern in (("barriers", r"used (\d+) barriers"), ("shared", r"(\d+) bytes smem")):
                if n := re.search(pattern, line):
                    figures[kernel].raise_to(what, int(n.group(1)), sm)
        elif "Program is doing double precision" in line:
            findings.append("sm_%d: doubles (the PTX says in which kernel)" % architecture)
        elif line.strip() and not re.search(SAID_BY_FIGURES, line):
            rest.append(line.strip())
    return rest


def compile_all(program, architectures, folder, jobs):
    """(figures of each kernel, findings), after all architectures."""
    figures, findings = {}, []

    def one(architecture):
        return nvcc(program, architecture, os.path.join(folder, "%d.o" % architecture))

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for architecture, (status, log) in zip(architectures, pool.map(one, architectures)):
            rest = read_log(log, architecture, figures, findings)
            if status or rest:
                said = [line for line in rest if re.search(r"(error|warning)( #\S+)?:", line)] or rest
                findings += ["nvcc on sm_%d: %s" % (architecture, line) for line in said[:20]
                             if not any(f.endswith(": " + line) for f in findings)]
            if status and not findings and "ptxas error" not in log:
                findings.append("nvcc on sm_%d: exit status %d" % (architecture, status))
    return figures, list(dict.fromkeys(findings))


# ---------------------------------------------------------------------------
# PTX

PTX_RULES = (
    (r"\.f64\b", "doubles (.f64)"),
    (r"\b(?:atom|red)\b\S*\.b?f(?:16|32|64)", "an atomic operation on floats: their order is not fixed"),
    (r"\.local\b", "local memory (.local)"),
    (r"\bcall\b", "calls a function that was not inlined"),
    (r"@!?%p\d+\s+bar", "a barrier under a predicate: not all threads reach it"),
)


def ptx_findings(ptx):
    findings, name = [], None
    for line in re.sub(r"//.*", "", ptx).split("\n"):
        if m := re.search(r"\.(?:entry|func)\b.*?(\w+)\s*\($", line):
            name = demangled(m.group(1))
        for pattern, rule in PTX_RULES:
            if name and re.search(pattern, line):
                findings.append("%s: %s" % (name, rule))
    return list(dict.fromkeys(findings))


def lint_ptx(program, folder):
    output = os.path.join(folder, "program.ptx")
    run = subprocess.run(["nvcc", "-std=c++17", "-arch=compute_75", "-ptx", "-I" + ROOT, program,
                          "-o", output], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if run.returncode:
        return ["nvcc -ptx: " + run.stdout.strip().split("\n")[0]]
    return ptx_findings(read(output))


# ---------------------------------------------------------------------------
# The budget

HEADER = """\
# What each kernel of ae_cuda.cuh may use: registers of a thread, bytes of shared memory (the static
# part: what a launch adds is not known to the compiler), barriers; the largest over sm_%s.
# tests/cuda/gates.py compares, gates.py --update writes.
#
# %-46s registers   shared  barriers
""" % (" ".join(map(str, ARCHITECTURES)), "kernel")


def read_budget(path):
    rows = {}
    for line in read(path).split("\n"):
        if line and not line.startswith("#"):
            name, registers, shared, barriers = line.split()
            rows[name] = Figures(int(registers), int(shared), int(barriers))
    return rows


def write_budget(path, figures):
    with open(path, "w") as f:
        f.write(HEADER)
        for name in sorted(figures):
            of = figures[name].of
            f.write("%-48s %9d %8d %9d\n" % (name, of["registers"], of["shared"], of["barriers"]))


def limit_findings(figures, sections):
    findings = []
    for name, f in sorted(figures.items()):
        section = sections.get(name.split("<")[0], "")
        most = REGISTERS_OF_PRODUCTS if section in PRODUCTS or name == GRAM else REGISTERS
        if f.of["registers"] > most:
            findings.append("%s: %d registers on %s, at most %d" % (
                name, f.of["registers"], f.where["registers"], most))
        if f.of["shared"] > SHARED:
            findings.append("%s: %d bytes of shared memory on %s, at most %d" % (
                name, f.of["shared"], f.where["shared"], SHARED))
    return findings


def budget_findings(figures, budget):
    findings = []
    for name in sorted(set(figures) | set(budget)):
        if name not in budget:
            findings.append("%s: has no row in budget.txt (gates.py --update)" % name)
        elif name not in figures:
            findings.append("%s: in budget.txt, but not compiled (gates.py --update)" % name)
        else:
            for what, row in budget[name].of.items():
                if figures[name].of[what] > row:
                    findings.append("%s: %s %d on %s, its row in budget.txt says %d" % (
                        name, what, figures[name].of[what], figures[name].where[what], row))
    return findings


def missing_findings(figures, sections):
    compiled = {name.split("<")[0] for name in figures}
    return ["%s: not compiled: nothing launches it" % k for k in sections if k not in compiled]


# ---------------------------------------------------------------------------
# The modes

def check(program, source, architectures, jobs):
    """(figures, findings) of the kernels in the file `source`, which `program` includes or is."""
    text, file = read(source), os.path.basename(source)
    with tempfile.TemporaryDirectory() as folder:
        figures, findings = compile_all(program, architectures, folder, jobs)
        findings += lint_ptx(program, folder)
    sections = kernels_of(text)
    findings = findings or missing_findings(figures, sections)
    return figures, source_findings(text, file) + findings + limit_findings(figures, sections)


def gates(update, jobs):
    figures, findings = check(os.path.join(HERE, "program.cu"), KERNELS, ARCHITECTURES, jobs)
    if update:
        write_budget(BUDGET, figures)
    budget = read_budget(BUDGET)
    findings += budget_findings(figures, budget)
    less = [n for n in budget if n in figures and figures[n].of != budget[n].of]
    if less and not findings:
        print("%d kernels use less than their rows say: gates.py --update" % len(less))
    return findings, "%d kernels on %d architectures" % (len(figures), len(ARCHITECTURES))


def ran(files):
    """Kernels that no test launched. ops.h writes `ran KERNEL` to the file that AE_CUDA_RAN names."""
    launched = set()
    for file in files:
        launched.update(line.split()[1] for line in read(file).split("\n") if line.startswith("ran "))
    kernels = kernels_of(read(KERNELS))
    return (["%s: no test launches it" % k for k in kernels if k not in launched],
            "%d kernels, %d launched by tests" % (len(kernels), len(launched & set(kernels))))


# ---------------------------------------------------------------------------
# Every rule, broken once

RED_KERNEL = "static __global__ void ae__k_red(float *x, float a)\n"
RED_MAIN = "\nint main() { ae__k_red<<<1, 32>>>(nullptr, 1.0f); }\n"
RED_MANY = """{
    float y[80];
#pragma unroll
    for (int i = 0; i < 80; i++) y[i] = x[i * 33];
    for (int k = 0; k < (int)a; k++) {
#pragma unroll
        for (int i = 0; i < 80; i++) y[i] = y[i] * y[(i + 1) % 80] + x[k];
    }
#pragma unroll
    for (int i = 0; i < 80; i++) x[i * 33] = y[i];
}"""

# What is wrong; a kernel's file; how the findings begin that must come, all of them.
RED = (
    ("nothing", RED_KERNEL + "{ x[0] = a; }", []),
    ("doubles", RED_KERNEL + "{ x[0] = (float)(1.5 * a * x[1] + 0.1); }",
     ["sm_75: doubles", "ae__k_red: doubles (.f64)"]),
    ("an atomic add of floats", RED_KERNEL + "{ atomicAdd(x, a); }",
     ["ae__k_red: an atomic operation on floats"]),
    ("one whose result is used", RED_KERNEL + "{ x[1] = atomicAdd(x, a); }",
     ["ae__k_red: an atomic operation on floats"]),
    ("a local array", RED_KERNEL + "{ float y[64]; for (int i = 0; i < 64; i++) y[i] = a;\n"
     "  for (int i = 0; i < 999; i++) y[(int)x[i] % 64] += a;\n"
     "  x[0] = y[(int)a % 64]; }",
     ["ae__k_red: 256 bytes of local memory on sm_75", "ae__k_red: local memory (.local)"]),
    ("a function that is not inlined",
     "static __device__ __noinline__ float f(float *x) { x[1] = 2; return x[2]; }\n" + RED_KERNEL
     + "{ x[0] = f(x) + a; }", ["ae__k_red: calls a function"]),
    ("printing", "#include <stdio.h>\n" + RED_KERNEL + '{ printf("x"); x[0] = a; }',
     ["ae__k_red: calls a function"]),
    ("spilled registers", RED_KERNEL.replace("ae__k", "__launch_bounds__(1024) ae__k")
     + RED_MANY.replace("80", "160"), ["ae__k_red: spills registers on sm_75"]),
    ("too many registers", RED_KERNEL + RED_MANY, ["ae__k_red: 85 registers on sm_75, at most 64"]),
    ("that many in a product", "/* -\n   >>linear   y = x w^T + b  */\n" + RED_KERNEL + RED_MANY, []),
    ("too much shared memory", RED_KERNEL
     + "{ __shared__ float y[12289]; y[threadIdx.x * 12] = a; __syncthreads();\n"
     "  x[threadIdx.x] = y[12288 - threadIdx.x]; }",
     ["ae__k_red: 49156 bytes of shared memory on sm_75, at most 49152"]),
    ("a variable that nobody uses", RED_KERNEL + "{ int unused = 1; x[0] = a; }",
     ["nvcc on sm_75: "]),
    ("a warning of the host's compiler", "int f(int i) { unsigned j = 1; return i < j; }\n"
     + RED_KERNEL + "{ x[0] = a; }", ["nvcc on sm_75: "]),
    ("a kernel that nothing launches",
     "template <int N> static __global__ void ae__k_idle(float *x) { x[0] = N; }\n" + RED_KERNEL
     + "{ x[0] = a; }", ["ae__k_idle: not compiled: nothing launches it"]),
    ("a name that no list finds", "static __global__ void other(float *x) { x[0] = 1; }\n" + RED_KERNEL
     + "{ x[0] = a; }",
     ["other: a kernel's name begins with ae__k_", "nvcc on sm_75: "]),
    ("inline PTX", RED_KERNEL + '{ asm("" : "+f"(a)); x[0] = a; }', ["red.cu:2: asm: "]),
    ("code for one architecture", "#if __CUDA_ARCH__ == 750\n#endif\n" + RED_KERNEL + "{ x[0] = a; }",
     ["red.cu:1: __CUDA_ARCH__: "]),
)

RED_PTX = (
    ("@%p1 bar.sync 0;", "a barrier under a predicate"), ("@!%p12 bar.warp.sync 1;", "a barrier under"),
    ("red.global.add.f32 [%rd1], %f1;", "an atomic operation"), ("ld.local.f32 %f1, [%rd1];", "local"),
    ("call.uni (r), f;", "calls"), ("cvt.f64.f32 %fd1, %f1;", "doubles"), ("bar.sync 0;", None),
    ("atom.global.add.u32 %r1, [%rd1], 1;", None), ("@%p1 bra $L__BB0_2; // call", None),
)

# A kernel's figures, its row, and the finding.
RED_BUDGET = (
    ((32, 128, 1), (32, 128, 1), None), ((31, 0, 0), (32, 128, 1), None),
    ((33, 128, 1), (32, 128, 1), "k: registers 33 on sm, its row"),
    ((32, 132, 1), (32, 128, 1), "k: shared 132 on sm, its row"),
    ((32, 128, 2), (32, 128, 1), "k: barriers 2 on sm, its row"),
    ((32, 128, 1), None, "k: has no row"), (None, (32, 128, 1), "k: in budget.txt, but not"),
)


def red_findings():
    """Every rule, broken: what came beside what had to come."""
    findings = []

    def expect(what, got, wanted):
        pairs = list(zip(got, wanted))
        if len(got) == len(wanted) and all(g.startswith(w) for g, w in pairs):
            print("red: %s" % what if wanted else "green: %s" % what)
        else:
            findings.append("%s: wanted %s, got %s" % (what, wanted, got))

    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "red.cu")
        for what, source, wanted in RED:
            with open(file, "w") as f:
                f.write(source + RED_MAIN)
            got = check(file, file, ARCHITECTURES[:1], 1)[1]
            once = [g for i, g in enumerate(got) if not any(
                g.startswith(w) and any(h.startswith(w) for h in got[:i]) for w in wanted)]
            expect(what, once, wanted)
    for line, wanted in RED_PTX:
        got = ptx_findings(".entry _Z9ae__k_redPff(\n)\n{\n\t%s\n}\n" % line)
        expect(line, got, ["ae__k_red: " + wanted] if wanted else [])
    for of, row, wanted in RED_BUDGET:
        figures = {"k": Figures()} if of else {}
        for what, value in zip(("registers", "shared", "barriers"), of or ()):
            figures["k"].raise_to(what, value, "sm")
        got = budget_findings(figures, {"k": Figures(*row)} if row else {})
        expect("figures %s, row %s" % (of, row), got, [wanted] if wanted else [])
    return findings, "%d rules broken" % (len(RED) + len(RED_PTX) + len(RED_BUDGET))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--red", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--ran", nargs="+", metavar="FILE")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    if options.list:
        print("\n".join(kernels_of(read(KERNELS))))
        return 0
    if options.ran:
        findings, what = ran(options.ran)
    elif not shutil.which("nvcc"):
        print("nvcc is not installed")
        return 77
    else:
        findings, what = red_findings() if options.red else gates(options.update, options.jobs)
    print("\n".join(findings + ["%s, %d findings" % (what, len(findings))]))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
