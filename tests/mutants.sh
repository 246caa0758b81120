#!/usr/bin/env bash
# Is every mistake in tests/mutants.txt noticed? Makes one at a time in a copy of ae.h, builds the
# tests with it and runs them: red is right ("killed"). Exits 1 when a mutant survives, does not
# compile, or no longer finds its place. JOBS mutants run at a time; PATTERN picks descriptions.
#
#   tests/mutants.sh [PATTERN]
set -u
cd "$(dirname "$0")/.." || exit 1
root=$PWD
out=$root/build/mutants
list=tests/mutants.txt
pattern=${1:-*}
CC=${CC:-cc}
JOBS=${JOBS:-2}
LIMIT=${LIMIT:-300}     # seconds; a mutant that hangs is noticed too

rm -rf "$out"
mkdir -p "$out" || exit 1

# mutate WHERE OLD NEW: ae.h with the change, or a sentence and exit status 1.
mutate() {
    WHERE=$1 OLD=$2 NEW=$3 awk '
    { line[NR] = $0 }
    END {
        where = ENVIRON["WHERE"]; old = ENVIRON["OLD"]; new = ENVIRON["NEW"]
        first = 1; last = NR
        if (where != "") {              # the definition: its { comes before any line ending in ;
            first = 0
            for (i = 1; i <= NR && !first; i++)
                if (index(line[i], where) && line[i] !~ /^ /)
                    for (j = i; j <= NR && line[j] !~ /;$/; j++)
                        if (line[j] == "{") { first = i; break }
            if (!first) { print "no definition with: " where; exit 1 }
            for (last = first; last < NR && line[last] !~ /^}/; ) last++
        }
        for (i = first; i <= last; i++)
            for (rest = line[i]; (p = index(rest, old)); rest = substr(rest, p + length(old))) {
                found++
                at = i
            }
        if (found != 1) { print "found " found + 0 " times: " old; exit 1 }
        p = index(line[at], old)
        line[at] = substr(line[at], 1, p - 1) new substr(line[at], p + length(old))
        for (i = 1; i <= NR; i++) print line[i]
    }' ae.h
}

try() {                 # try NUMBER: the mutant in build/mutants/NUMBER; prints a word
    local dir=$out/$1
    (
        cd "$dir" || exit 1
        # shellcheck disable=SC2086
        if ! $CC -O1 -std=c99 -I. tests/test_*.c -o test -lm >compile.log 2>&1; then
            echo invalid
        elif timeout "$LIMIT" ./test >test.log 2>&1; then
            echo survived
        else
            echo killed
        fi
        rm -f test
    )
}

prepare() {             # prepare NUMBER: a small copy of the project around a changed ae.h
    mkdir -p "$out/$1/build" "$out/$1/out"
    cp -R tests "$out/$1/tests"
    ln -s "$root/data" "$out/$1/data"
}

one_mutant() {          # one_mutant NUMBER DESCRIPTION WHERE OLD NEW
    local result
    prepare "$1"
    if mutate "$3" "$4" "$5" >"$out/$1/ae.h"; then
        result=$(try "$1")
    else
        result="misplaced ($(cat "$out/$1/ae.h"))"
    fi
    echo "$result" >"$out/$1.result"
    printf '%-9s %s\n' "$result" "$2"
}

trim() {                # trim VARIABLE: without blanks at both ends
    local text=${!1}
    text=${text#"${text%%[![:space:]]*}"}
    printf -v "$1" %s "${text%"${text##*[![:space:]]}"}"
}

prepare 0
cp ae.h "$out/0/ae.h"
if [ "$(try 0)" != survived ]; then
    cat "$out/0/"*.log | tail -n 20
    echo "the tests fail without any change to ae.h"
    exit 1
fi

number=0
while IFS= read -r row; do
    case $row in '' | '#'*) continue ;; esac
    number=$((number + 1))
    description=${row%%|*} rest=${row#*|}
    where=${rest%%|*} change=${rest#*|}
    old=${change%%=>*} new=${change#*=>}
    if [ "$rest" = "$row" ] || [ "$change" = "$rest" ] || [ "$new" = "$change" ]; then
        echo "misplaced (not of the form: description | where | old => new): $row"
        echo misplaced >"$out/$number.result"
        continue
    fi
    for field in description where old new; do trim "$field"; done
    # shellcheck disable=SC2254
    case $description in $pattern) ;; *) continue ;; esac
    while [ "$(jobs -rp | wc -l)" -ge "$JOBS" ]; do wait -n; done
    one_mutant "$number" "$description" "$where" "$old" "$new" &
done <"$list"
wait

results=$(cat "$out"/*.result 2>/dev/null)
killed=$(grep -cx killed <<<"$results")
bad=$(grep -cvx killed <<<"$results")
[ -n "$results" ] || bad=1
echo "$killed killed, $bad not"
[ "$bad" = 0 ]
