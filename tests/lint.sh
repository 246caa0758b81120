#!/usr/bin/env bash
# Form that no compiler checks: line length, tabs, leftovers, and the keys of the table of contents.
# Prints each finding as file:line and exits 1 when there is one.
cd "$(dirname "$0")/.." || exit 1
findings=0

report() {          # report TITLE FINDINGS
    [ -z "$2" ] && return
    printf '%s:\n%s\n' "$1" "$2"
    findings=1
}

files() {           # files FIND-TEST...: ours that pass it
    find . \( -name build -o -name out -o -name .git -o -path ./tests/golden \) -prune \
        -o -type f \( "$@" \) -print | sort
}
mapfile -t sources < <(files -name '*.h' -o -name '*.cuh' -o -name '*.cu' -o -name '*.c' -o -name '*.cpp')
mapfile -t texts < <(files -name '*.md')

report "lines over 100 columns" \
    "$(awk 'length > 100 { print FILENAME ":" FNR }' "${sources[@]}")"
report "tabs" "$(grep -n $'\t' "${sources[@]}" /dev/null)"
report "blanks at the end of a line" "$(grep -nE '[[:space:]]$' "${sources[@]}" /dev/null)"
report "leftovers" "$(grep -nwE 'TODO|FIXME|XXX' "${sources[@]}" "${texts[@]}" /dev/null)"

# Each >>key stands once in the contents, once in the banner of its implementation, and once in the
# banner of its part of the API where it has one: three lists in one order.
keys() {            # keys FILE: findings, one a line
    awk '
    /^#ifndef AE_.*_INCLUDED/                      { part = 1 }
    /Stop here if you only want the API/           { part = 2 }
    part == 0 { line = $0; while (match(line, />>[a-z_]+/)) {
                    add(0, substr(line, RSTART + 2, RLENGTH - 2))
                    line = substr(line, RSTART + RLENGTH) } }
    part > 0 && /^   >>[a-z_]+/ { match($0, />>[a-z_]+/); add(part, substr($0, 6, RLENGTH - 2)) }

    function add(p, key) {
        if ((p, key) in place) print ">>" key " stands twice in the " name(p)
        place[p, key] = ++count[p]; list[p, count[p]] = key
    }
    function name(p) { return p == 0 ? "contents" : p == 1 ? "API" : "implementation" }

    END {
        if (!count[0]) print "no >>keys before the header guard: where are the contents?"
        if (part != 2) print "no line with: Stop here if you only want the API"
        for (i = 1; i <= count[0]; i++)
            if (!((2, list[0, i]) in place))
                print ">>" list[0, i] " has no banner in the implementation"
        for (p = 1; p <= 2; p++) {
            before = 0
            for (i = 1; i <= count[p]; i++) {
                key = list[p, i]
                if (!((0, key) in place)) {
                    print ">>" key " (" name(p) ") is not in the contents"
                    continue
                }
                if (place[0, key] < before) print ">>" key " (" name(p) ") is out of order"
                before = place[0, key]
            }
        }
    }' "$1"
}
report "keys of ae.h" "$(keys ae.h)"

[ $findings = 0 ] && echo "lint: ${#sources[@]} files, nothing found"
exit $findings
