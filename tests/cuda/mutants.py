#!/usr/bin/env python3
"""Are mistakes in the kernels noticed? Makes one at a time in a copy of ae_cuda.cuh and runs the tests.

  tests/cuda/mutants.py                       all of them: hours
  tests/cuda/mutants.py --sample 100 --seed 1     so many, drawn at random: a quarter of an hour
  tests/cuda/mutants.py --section conv --kind barrier --list     which there are

A mistake is made in device code alone: a barrier or fence removed, a condition always true or never, half
of a condition dropped, < for <=, + for -, += for =, a whole number one larger. The test programs that launch a
kernel with it are built with g++ -O0 and run (one that hangs fails); where they all pass, two of them
again with clang++: under the thread sanitizer with blocks of 64 threads when a barrier or condition was
changed, under the address and undefined-behaviour sanitizers when anything else was. Red is right: the
mutant is killed. One that does not compile was not made.

A program is built once for many mutants: each is a copy of its function, and AE_MUTANT=5 in the
environment makes the function call its fifth instead.

Survivors that no test can see, because the mutant computes the same, stand in survivors.txt with the
reason. Exit status 1 when of the others fewer than 95 % are killed.
"""
import argparse
import collections
import concurrent.futures
import os
import pty
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time

from gates import read, without_comments

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
OUT = os.path.join(ROOT, "build", "cuda_mutants")
SOURCE = "ae_cuda.cuh"
SURVIVORS = os.path.join(HERE, "survivors.txt")
WANTED = 0.95

COMMON = ["-std=c++17", "-ffp-contract=off", "-w", "-DAE_CUDA_SIM"]
BUILDS = collections.OrderedDict((      # how a program is built; the later ones only for survivors
    ("plain", ["g++", "-O0", "-DAE_SETTINGS=3"]),       # forward, reverse, random
    ("address", ["clang++", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]),
    ("thread", ["clang++", "-O1", "-fsanitize=thread", "-DAE_CUDA_BLOCK=64"]),
))
SANITIZED = 2                           # so many programs with the sanitizers
BATCH = 40                              # mutants in one program


# ---------------------------------------------------------------------------
# Device code

# [start, end) is the body; the definition begins at `first`, its name at `at`; a macro has none of both.
Function = collections.namedtuple("Function", "name section start end kernel first at")


def functions_of(code, text):
    """Kernels, device functions and the macros they use: [start, end) is the body."""
    keys = [(m.start(), m.group(1)) for m in re.finditer(r"^   >>(\w+)", text, re.M)]
    section = lambda at: (["shared"] + [key for place, key in keys if place < at])[-1]
    found = []
    for m in re.finditer(r"^[^\n#/ ][^\n]*__(device|global)__[^;{}]*?(\w+)\s*(?=\()", code, re.M):
        name, at = m.group(2), m.end(2)
        if name == "__launch_bounds__":
            after = re.compile(r"(\w+)\s*(?=\()").search(code, closing(code, code.index("(", at)))
            name, at = after.group(1), after.end(1)
        after = closing(code, code.index("(", at))
        if code[after:].lstrip()[:1] == "{":            # not a declaration
            end = closing(code, code.index("{", after))
            template = re.search(r"template <[^\n]*>\s*$", code[:m.start()])
            found.append(Function(name, section(m.start()), code.index("{", after), end,
                                  m.group(1) == "global",
                                  template.start() if template else m.start(),
                                  at - len(name)))
    bodies = " ".join(code[f.start:f.end] for f in found)
    for m in re.finditer(r"^#define (\w+)\([^)]*\)((?:[^\n]*\\\n)*[^\n]*)", code, re.M):
        if re.search(r"\b%s\b" % m.group(1), bodies):
            found.append(Function(m.group(1), section(m.start()), m.start(2), m.end(2), False, -1,
                                  -1))
    return sorted(found, key=lambda f: f.start)


def closing(code, at):
    """After the bracket that closes the one at `at`."""
    depth = 0
    for i in range(at, len(code)):
        depth += (code[i] in "([{") - (code[i] in ")]}")
        if depth == 0:
            return i + 1
    raise ValueError("no closing bracket")


def kernels_with(code, functions):
    """{function: the kernels whose code it is part of}."""
    names = {f.name for f in functions}
    uses = {f.name: names & set(re.findall(r"\w+", code[f.start:f.end])) for f in functions}
    result = {f.name: {f.name} if f.kernel else set() for f in functions}
    changed = True
    while changed:
        changed = False
        for user, used in uses.items():
            for name in used:
                if not result[user] <= result[name]:
                    result[name] |= result[user]
                    changed = True
    return result


# ---------------------------------------------------------------------------
# Mistakes

Mutant = collections.namedtuple("Mutant", "function kind start end new")

INTEGER = r"(?:int|unsigned|size_t|long|u?int\d+_t)\b"


def contexts(code, f):
    """For each place in the body: is it in an index, a for (...), a condition, a whole number's
    declaration? {place: word}"""
    where = {}

    def mark(start, end, word):
        for i in range(start, end):
            where.setdefault(i, word)

    body = code[f.start:f.end]
    for m in re.finditer(r"\bAE__SHARED\(|#pragma[^\n]*", body):
        at = f.start + m.end()
        mark(f.start + m.start(), closing(code, at - 1) if code[at - 1] == "(" else at, "shared")
    for m in re.finditer(r"\bfor \(", body):
        mark(f.start + m.start(), closing(code, f.start + m.end() - 1), "for")
    for m in re.finditer(r"\[", body):
        mark(f.start + m.start(), closing(code, f.start + m.start()), "index")
    for start, end in conditions(code, f):
        mark(start, end, "condition")
    for m in re.finditer(r"(?<=[;{}\n)])\s*(?:const )?" + INTEGER + r"[^;()]*(?:\([^;]*?)?;", body):
        mark(f.start + m.start(), f.start + m.end(), "integer")
    return where


def conditions(code, f):
    """(start, end) of what if, while and ? ask."""
    found = []
    for m in re.finditer(r"\b(?:if|while) \(", code[f.start:f.end]):
        at = f.start + m.end()
        found.append((at, closing(code, at - 1) - 1))
    for m in re.finditer(r" \? ", code[f.start:f.end]):
        depth, at = 0, f.start + m.start()
        while at > f.start:
            c, before = code[at - 1], code[at - 2:at]
            depth += (c in ")]") - (c in "([")
            if depth < 0 or depth == 0 and (c in ",;{?:" or c == "=" and before not in
                                            ("==", "<=", ">=", "!=") and code[at] != "="):
                break
            if depth == 0 and re.match(r"return\b", code[at - 1:]):
                at += 6
                break
            at -= 1
        found.append((at + len(code[at:]) - len(code[at:].lstrip()), f.start + m.start()))
    return found


def halves(code, start, end, word):
    """The parts of a condition between && or ||, at its own level."""
    parts, depth, first, i = [], 0, start, start
    while i < end:
        depth += (code[i] in "([") - (code[i] in ")]")
        if depth == 0 and code.startswith(word, i):
            parts.append((first, i))
            first = i = i + len(word)
            continue
        i += 1
    return parts + [(first, end)] if parts else []


def mutants_of(code, f):
    made, where = [], contexts(code, f)

    def add(kind, start, end, new):
        if where.get(start) != "shared":
            made.append(Mutant(f, kind, start, end, new))

    def each(pattern):
        return ((f.start + m.start(1), f.start + m.end(1), m) for m in
                re.finditer(pattern, code[f.start:f.end]))

    for start, end, _ in each(r"\b(__(?:syncthreads|syncwarp|threadfence\w*)\([^;]*?\));"):
        add("barrier", start, end, "(void)0")
    for start, end in conditions(code, f):
        if not code[:start].endswith("while ("):
            add("condition", start, end, "1")
            add("condition", start, end, "0")
        for word, neutral in ((" && ", "1"), (" || ", "0")):
            for a, b in halves(code, start, end, word):
                if word == " && " and halves(code, start, end, " || "):
                    continue        # && within || : its parts are no halves of the condition
                add("half", a, b, neutral)
    other = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
    for start, end, m in each(r" (<|<=|>|>=|==|!=)(?= )"):
        add("compare", start, end, other[m.group(1)])
    for start, end, m in each(r" ([+-])(?= )"):
        kind = "index" if where.get(start) in ("index", "for", "integer") else "value"
        add(kind, start, end, "-" if m.group(1) == "+" else "+")
    for start, end, m in each(r" ([+-]=)(?= )"):
        if where.get(start) != "for":
            add("store", start, end, "=")
    for start, end, _ in each(r" (=)(?= )"):
        if where.get(start) != "for" and assigns(code, start - 1, f.start):
            add("store", start, end, "+=")
    for start, end, m in each(r"(?<![\w.])(\d+)(?![\w.])"):
        if where.get(start) in ("index", "for", "condition", "integer"):
            add("constant", start, end, str(int(m.group(1)) + 1))
    return made


def assigns(code, at, first):
    """Does what stands before `at` assign (x[i] = ...), and not declare (float x = ...)?"""
    depth, i = 0, at
    while i > first and (depth or re.match(r"[\w.\])>*-]", code[i - 1])):
        depth += (code[i - 1] in ")]") - (code[i - 1] in "([")
        i -= 1
        if depth == 0 and code[i] == "(" and not code[i + 1] == "*":
            return code[:i].rstrip().endswith((";", "{", "}", ")"))     # if (...) x = ...
    before = code[:i].rstrip()
    return before.endswith((";", "{", "}", ")", "else"))


def line_of(code, place):
    return code.count("\n", 0, place) + 1


def shown(code, m):
    """The lines of a mutant before and after, without comments."""
    first, last = code.rfind("\n", 0, m.start) + 1, code.find("\n", m.end)
    squeeze = lambda s: " ".join(s.replace("\\\n", " ").rstrip("\\").split())
    return squeeze(code[first:last]), squeeze(code[first:m.start] + m.new + code[m.end:last])


# ---------------------------------------------------------------------------
# Survivors that are explained

def read_survivors():
    """{(function, line before, line after): reason}: see the head of survivors.txt."""
    rows, function, before, after = {}, None, None, None
    for line in read(SURVIVORS).split("\n") if os.path.exists(SURVIVORS) else []:
        if line.startswith("#") or not line.strip():
            continue
        if line.startswith("in "):
            function = line[3:].strip()
        elif line.startswith("- "):
            before = line[2:].strip()
        elif line.startswith("+ "):
            after = line[2:].strip()
            rows[function, before, after] = ""
        elif (function, before, after) in rows and line.startswith("  "):
            rows[function, before, after] += line.strip() + " "
        else:
            sys.exit("survivors.txt: not understood: " + line)
    for key, reason in rows.items():
        if not reason:
            sys.exit("survivors.txt: no reason: " + " ".join(key))
    return rows


# ---------------------------------------------------------------------------
# Many mutants in one file

def last_names(parameters):
    """The names of parameters or template parameters: `const float *x, float (*y)[4]` is x, y."""
    names, depth, part = [], 0, ""
    for c in parameters + ",":
        depth += (c in "([{<") - (c in ")]}>")
        if c == "," and depth == 0:
            inner = re.search(r"\(\s*[*&]\s*(\w+)", part)
            names += [inner.group(1)] if inner else re.findall(r"\w+", part.split("[")[0])[-1:]
            part = ""
        else:
            part += c
    return names


def source_with(text, code, chosen):
    """The file with chosen = [(number, mutant)] as copies of their functions. A macro, which has no
    copy, is changed where it stands: alone."""
    if len(chosen) == 1 and chosen[0][1].function.first < 0:
        m = chosen[0][1]
        return text[:m.start] + m.new + text[m.end:]
    of = collections.defaultdict(list)
    for number, m in chosen:
        of[m.function].append((number, m))
    first = min(f.first for f in of)
    for f in sorted(of, key=lambda f: -f.first):
        line = line_of(code, f.first)
        template = re.match(r"template <(.*)>", code[f.first:f.at])
        types = "<%s>" % ", ".join(last_names(template.group(1))) if template else ""
        open_ = code.index("(", f.at)
        arguments = ", ".join(last_names(code[open_ + 1:closing(code, open_) - 1]))
        copies, calls = "", ""
        for number, m in of[f]:
            name = "%s__%d" % (f.name, number)
            copies += '#line %d "mutant_%d"\n%s%s%s%s%s\n' % (
                line, number, text[f.first:f.at], name, text[f.at + len(f.name):m.start], m.new,
                text[m.end:f.end])
            calls += "if (ae__mutant == %d) return %s%s(%s); " % (number, name, types, arguments)
        text = "%s%s#line %d\n%s%s%s" % (
            text[:f.first], copies, line, text[f.first:f.start + 1], calls, text[f.start + 1:])
    return (text[:first] + '#include <stdlib.h>\nstatic const int ae__mutant = '
            'getenv("AE_MUTANT") ? atoi(getenv("AE_MUTANT")) : 0;\n' + text[first:])


# ---------------------------------------------------------------------------
# Building and running

RUNNING = set()


def stop(*_):
    for process in list(RUNNING):
        process.kill()
    os._exit(143)


def ended_from_outside(what):
    """Somebody wants it to end: all of it ends, and nothing is counted as killed or not made."""
    print("%s was ended from outside: no result" % what, flush=True)
    stop()


def build(folder, program, how, output):
    """None when it compiled, else what the compiler says. `folder` has the ae_cuda.cuh to use, and
    a link to ae.h."""
    command = BUILDS[how][:1] + COMMON + BUILDS[how][1:] + [
        "-I" + folder, "-I" + HERE, os.path.join(HERE, program), os.path.join(OUT, "sim.o"),
        os.path.join(OUT, "runtime.o"), "-o", output]
    return compiled(command)


def compiled(command):
    """None, or what the compiler says."""
    made = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if made.returncode < 0 or "signal terminated program" in made.stderr:
        ended_from_outside(command[0])
    return made.stderr or "?" if made.returncode else None


def build_mutants(text, code, chosen, program, how, folder):
    """Builds `program` with mutants [(number, mutant)]: [(file, those in it)]; one that compiles in no
    way is in none."""
    if not chosen:
        return []
    with open(os.path.join(folder, SOURCE), "w") as f:
        f.write(source_with(text, code, chosen))
    output = os.path.join(folder, "with_%d" % chosen[0][0])
    said = build(folder, program, how, output)
    if said is None:
        return [(output, chosen)]
    if len(chosen) == 1:
        return []
    wrong = {int(n) for n in re.findall(r"^mutant_(\d+):\d+:\d+: (?:fatal )?error", said, re.M)}
    good = [c for c in chosen if c[0] not in wrong]
    if wrong:
        return build_mutants(text, code, good, program, how, folder)
    half = len(chosen) // 2             # the compiler does not say which
    return (build_mutants(text, code, chosen[:half], program, how, folder)
            + build_mutants(text, code, chosen[half:], program, how, folder))


def run(program, limit, usual, extra=None):
    """None when it passed and printed only usual lines (None: any), else what it did; at once.

    A pseudo terminal, so that each line is seen when it is printed."""
    master, slave = pty.openpty()
    process = subprocess.Popen([program], stdin=subprocess.DEVNULL, stdout=slave, stderr=slave,
                               env=dict(os.environ, **(extra or {})))
    os.close(slave)
    RUNNING.add(process)
    end, text, seen = time.monotonic() + limit, b"", []
    try:
        while True:
            left = end - time.monotonic()
            if left <= 0:
                return "ran over %.0f s" % limit, seen
            if not select.select([master], [], [], left)[0]:
                continue
            try:
                data = os.read(master, 65536)
            except OSError:
                data = b""              # it ended
            *lines, text = (text + data).split(b"\n")
            for line in (l.decode("utf-8", "replace").strip() for l in lines):
                seen.append(line)
                if usual is not None and line and line not in usual:
                    return line, seen
            if not data:
                status = process.wait(10)
                if status == -signal.SIGTERM:   # no mutant does that
                    ended_from_outside(program)
                return "exit status %d" % status if status else None, seen
    finally:
        process.kill()
        process.wait()
        RUNNING.discard(process)
        os.close(master)


class Program:
    """A test program: what it launches, prints and takes when nothing is wrong."""

    def __init__(self, name):
        self.name, self.short = name, name[len("test_"):-len(".cpp")]
        self.usual, self.seconds = {}, {}
        self.lock = threading.Lock()

    def learn(self, how, kernels=()):
        """Its usual output, once; a program that fails without a mistake ends everything."""
        with self.lock:
            if how in self.usual:
                return
            base = os.path.join(OUT, "usual")
            output = os.path.join(base, "%s.%s" % (self.short, how))
            ran = output + ".ran"
            said = build(base, self.name, how, output)
            if said:
                sys.exit("%s does not compile (%s): %s" % (self.name, how, said[:2000]))
            start = time.monotonic()
            failed, lines = run(output, 1800, None,
                                {"AE_CUDA_RAN": ran, "AE_CUDA_KERNELS": " ".join(kernels)})
            if failed:
                sys.exit("%s fails without any mistake (%s): %s" % (self.name, how, failed))
            self.seconds[how] = time.monotonic() - start
            self.usual[how] = set(lines)
            if kernels:
                self.ran = set(read(ran).split()) - {"ran"} if os.path.exists(ran) else set()


class Trial:
    """What became of a mutant: made, and what killed it."""

    def __init__(self, number, mutant, programs):
        self.number, self.mutant, self.programs = number, mutant, programs
        self.made, self.killed = True, ""

    def result(self):
        return "not made" if not self.made else "killed" if self.killed else "survived"


def try_batch(text, code, trials, program, how, say):
    """Builds program with all of them, and runs it once for each."""
    folder = os.path.join(OUT, "%s.%s.%d" % (program.short, how, trials[0].number))
    os.makedirs(folder)
    os.symlink(os.path.join(ROOT, "ae.h"), os.path.join(folder, "ae.h"))
    of = {t.number: t for t in trials}
    try:
        program.learn(how)
        files = build_mutants(text, code, [(t.number, t.mutant) for t in trials], program.name, how,
                              folder)
        inside = {number for _, chosen in files for number, _ in chosen}
        for t in trials:
            if t.number not in inside:
                t.made = False
                say(t)
        for file, chosen in files:
            for number, _ in chosen:
                said = run(file, 15 + 5 * program.seconds[how], program.usual[how],
                           {"AE_MUTANT": str(number)})[0]
                if said:
                    of[number].killed = "%s, %s: %s" % (program.name, how, said)
                    say(of[number])
    finally:
        shutil.rmtree(folder)


def batches_of(trials, k, jobs):
    """[(program, trials)]: those whose k-th program it is, in parts; a macro alone."""
    groups = collections.defaultdict(list)
    for t in trials:
        if k < len(t.programs):
            groups[t.programs[k]].append(t)
    result = []
    for program, group in groups.items():
        macros = [t for t in group if t.mutant.function.first < 0]
        others = [t for t in group if t.mutant.function.first >= 0]
        size = max(1, min(BATCH, -(-len(others) // jobs)))
        result += [(program, [t]) for t in macros]
        result += [(program, others[i:i + size]) for i in range(0, len(others), size)]
    return sorted(result, key=lambda b: -len(b[1]) * b[0].seconds["plain"])


def try_all(text, code, trials, options, say):
    for how in ["plain"] if options.quick else BUILDS:
        for k in range(max([len(t.programs) for t in trials], default=0)):
            left = [t for t in trials if t.made and not t.killed
                    and (how == "plain" or k < SANITIZED
                         and (how == "thread") == (t.mutant.kind in ("barrier", "condition")))]
            with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
                list(pool.map(lambda b: try_batch(text, code, b[1], b[0], how, say),
                              batches_of(left, k, options.jobs)))


# ---------------------------------------------------------------------------
# Main

def options_of():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=0, help="so many, drawn at random")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--section", help="only this one: linear, conv, ..., shared")
    parser.add_argument("--function", help="only this one")
    parser.add_argument("--kind", help="barrier, condition, half, compare, index, value, store, constant")
    parser.add_argument("--list", action="store_true", help="only say which there are")
    parser.add_argument("--quick", action="store_true", help="without the sanitizers")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--verbose", action="store_true", help="say what killed each")
    return parser.parse_args()


def prepare(kernels, jobs):
    """The test programs of kernels, with what each launches."""
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(os.path.join(OUT, "usual"))
    os.symlink(os.path.join(ROOT, "ae.h"), os.path.join(OUT, "usual", "ae.h"))
    shutil.copy(os.path.join(ROOT, SOURCE), os.path.join(OUT, "usual", SOURCE))
    for name in ("sim", "runtime"):
        said = compiled(["g++", "-std=c++17", "-O2", "-c", os.path.join(HERE, name + ".cpp"), "-o",
                         os.path.join(OUT, name + ".o")])
        if said:
            sys.exit(said)
    programs = [Program(name) for name in sorted(os.listdir(HERE))
                if re.fullmatch(r"test_\w+\.cpp", name) and name != "test_sim.cpp"]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda p: p.learn("plain", kernels), programs))
    return programs


def report(code, results, explained):
    counts = collections.Counter(result for _, result, _ in results)
    kinds = collections.defaultdict(collections.Counter)
    listed = []
    for mutant, result, how in results:
        kinds[mutant.kind][result] += 1
        if result == "survived":
            before, after = shown(code, mutant)
            if (mutant.function.name, before, after) in explained:
                counts["explained"] += 1
            else:
                listed.append((line_of(code, mutant.start), mutant, before, after, how))
    for line, mutant, before, after, how in sorted(listed, key=lambda row: row[0]):
        print("survived %s:%d (%s)%s\nin %s\n- %s\n+ %s" % (
            SOURCE, line, mutant.kind, how and ": " + how, mutant.function.name, before, after))
    for kind in sorted(kinds):
        print("%-10s %4d killed, %d survived, %d not made" % (
            kind, kinds[kind]["killed"], kinds[kind]["survived"], kinds[kind]["not made"]))
    counted = counts["killed"] + len(listed)
    share = counts["killed"] / counted if counted else 1.0
    print("%d mutants: %d killed, %d survived, %d more that are explained, %d not made: %.1f %%" % (
        len(results), counts["killed"], len(listed), counts["explained"], counts["not made"],
        100 * share))
    return share >= WANTED


def main():
    options = options_of()
    text = read(os.path.join(ROOT, SOURCE))
    code = without_comments(text)
    functions = functions_of(code, text)
    every = [m for f in functions for m in mutants_of(code, f)]
    explained = read_survivors()
    known = {(m.function.name, *shown(code, m)) for m in every}
    for row in explained:
        if row not in known:
            sys.exit("survivors.txt: there is no such mutant: in %s\n- %s\n+ %s" % row)
    chosen = [m for m in every if options.section in (None, m.function.section)
              and options.function in (None, m.function.name) and options.kind in (None, m.kind)]
    if options.sample and options.sample < len(chosen):
        chosen = sorted(random.Random(options.seed).sample(chosen, options.sample))
    if options.list:
        for m in chosen:
            print("%s:%d in %s (%s)\n- %s\n+ %s" % (
                SOURCE, line_of(code, m.start), m.function.name, m.kind, *shown(code, m)))
        print("%d mutants of %d functions" % (len(chosen), len({m.function for m in chosen})))
        return 0
    for tool in ("g++",) + (() if options.quick else ("clang++",)):
        if not shutil.which(tool):
            print("%s is not installed" % tool)
            return 77
    signal.signal(signal.SIGTERM, stop)
    programs = prepare([f.name for f in functions if f.kernel], options.jobs)
    part_of = kernels_with(code, functions)

    trials = []
    for number, mutant in enumerate(chosen, 1):
        fit = [p for p in programs if p.ran & part_of[mutant.function.name]]
        own = "test_%s.cpp" % mutant.function.section
        fit.sort(key=lambda p: (p.name != own, p.seconds["plain"]))
        trials.append(Trial(number, mutant, fit))

    def say(t):
        if options.verbose:
            print("%-9s %s:%d in %s: %s  =>  %s   (%s)" % (
                t.result(), SOURCE, line_of(code, t.mutant.start), t.mutant.function.name,
                *shown(code, t.mutant), t.killed), flush=True)

    try_all(text, code, trials, options, say)
    results = [(t.mutant, t.result(), "" if t.programs else "no test launches it") for t in trials]
    print()
    return 0 if report(code, results, explained) else 1


if __name__ == "__main__":
    sys.exit(main())
