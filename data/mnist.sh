#!/bin/sh
# Puts the full MNIST into data/mnist: copied from a folder, or fetched from the public mirrors.
#
#   data/mnist.sh [DIR]      DIR: a folder with the four files, unpacked or as .gz
#
# Every file is checked before it gets its name, so a broken download never looks like data.
set -u

mirrors='https://ossci-datasets.s3.amazonaws.com/mnist
https://storage.googleapis.com/cvdf-datasets/mnist'
from=${1:-}
to=$(dirname "$0")/mnist

fail() { echo "mnist: $*" >&2; exit 1; }

md5_of() {
    if command -v md5sum >/dev/null 2>&1; then md5sum <"$1" | cut -d ' ' -f 1
    elif command -v md5 >/dev/null 2>&1; then md5 -q "$1"
    else openssl md5 <"$1" | sed 's/.*= //'; fi
}

# from_folder NAME MD5: the file, unpacked, to $temp.
from_folder() {
    if [ -f "$from/$1" ]; then cp "$from/$1" "$temp"
    elif [ -f "$from/$1.gz" ]; then gunzip -c "$from/$1.gz" >"$temp"
    else fail "$from has neither $1 nor $1.gz"; fi ||
        fail "cannot copy $1 from $from"
    [ "$(md5_of "$temp")" = "$2" ] || fail "$from/$1 is not MNIST's file: its MD5 should be $2"
}

# from_mirror NAME MD5: the file, unpacked, to $temp, from the first mirror that has it whole.
from_mirror() {
    for mirror in $mirrors; do
        if curl -fsSL --connect-timeout 20 --retry 2 -o "$temp.gz" "$mirror/$1.gz" &&
            gunzip -c "$temp.gz" >"$temp"; then
            [ "$(md5_of "$temp")" = "$2" ] && return
            echo "mnist: $mirror/$1.gz has the wrong MD5, trying the next mirror" >&2
        else
            echo "mnist: $mirror/$1.gz cannot be fetched" >&2
        fi
    done
    fail "no mirror gave $1. With the files at hand: make mnist MNIST=folder"
}

[ -z "$from" ] || [ -d "$from" ] || fail "$from is not a folder"
[ -n "$from" ] || command -v curl >/dev/null 2>&1 ||
    fail "curl is not installed. With the files at hand: make mnist MNIST=folder"
mkdir -p "$to" || fail "cannot make $to"
temp=$to/.part
trap 'rm -f "$temp" "$temp.gz"' EXIT
trap 'exit 1' HUP INT TERM

while read -r md5 name; do
    if [ -f "$to/$name" ] && [ "$(md5_of "$to/$name")" = "$md5" ]; then
        echo "have    $to/$name"
        continue
    fi
    if [ -n "$from" ]; then from_folder "$name" "$md5"; else from_mirror "$name" "$md5"; fi
    mv "$temp" "$to/$name" || fail "cannot write $to/$name"
    echo "wrote   $to/$name"
done <<END
6bbc9ace898e44ae57da46a324031adb train-images-idx3-ubyte
a25bea736e30d166cdddb491f175f624 train-labels-idx1-ubyte
2646ac647ad5339dbf082846283269ea t10k-images-idx3-ubyte
27ae3e4e09519cfbb04c329615203637 t10k-labels-idx1-ubyte
END
