#!/bin/sh
# The command-line program, each command and what each refuses: tests/cli.sh PROGRAM [WORK-FOLDER].
# Run from the repository root, with data/ at hand. The last line is `N passed, N failed`.
ae=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
work=${2:-build/cli}
data=$PWD/data
rm -rf "$work"
mkdir -p "$work" && cd "$work" || exit 1
passed=0
failed=0
OMP_NUM_THREADS=1
export OMP_NUM_THREADS

check() {       # check WHAT STATUS: counts it
    if [ "$2" = 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $1"
        sed 's/^/    /' err | head -n 5
    fi
}

good() {        # good WHAT ARGUMENTS...: succeeds, with nothing on stderr; stdout is kept in out.txt
    what=$1
    shift
    "$ae" "$@" >out.txt 2>err
    check "$what: ae $*" $?
    check "$what: silent on stderr" "$(wc -c <err)"
}

bad() {         # bad WORDS ARGUMENTS...: status 1 and one sentence with these words
    words=$1
    shift
    "$ae" "$@" >out.txt 2>err
    status=$?
    [ $status = 1 ] && [ "$(wc -l <err)" = 1 ] && grep -q "^ae: .*$words" err
    check "ae $* (status $status) says: $words" $?
}

has() {         # has PATTERN [FILE]: the last output has such a line
    grep -Eq "$1" "${2:-out.txt}"
    check "$1 in ${2:-the output}" $?
}

same() { cmp -s "$1" "$2"; check "$1 is $2" $?; }
exists() { [ -s "$1" ]; check "$1 exists" $?; }
result() { awk -v name="$1" '$1 == "result" && $2 == name { print $3 }' out.txt; }
below() { awk "BEGIN { exit !($1 < $2) }"; check "$1 < $2" $?; }

# --- words, options
good help --help
for verb in train reconstruct denoise encode decode anomaly sample info; do has "ae $verb"; done
bad 'train DATA' && bad "no command 'trian'" trian "$data"
bad 'no option --epoch:' train "$data" --epoch 3
bad 'value is missing after --epochs' train "$data" --epochs
bad "a whole number from 1 to .*, not '3x'" train "$data" --epochs 3x
bad "a number from .*, not 'nan'" train "$data" --lr nan
bad "from 0 to 0.99, not '1'" train "$data" --validation 1
bad "not '0'" train "$data" --batch 0
bad 'size is a width' train "$data" --size 4
bad 'one argument too many' train "$data" more
bad 'needs data' train
bad 'there is no .*nowhere' train nowhere
bad 'there is no model m.safetensors' reconstruct "$data" -m m.safetensors
bad 'there is no model' info

# --- layers: each mistake names its word
while IFS='|' read -r layers words; do
    bad "$words" train "$data" --layers "$layers" --epochs 1
done <<END
256q|word 1, '256q': a letter names the activation
300-32|a first number without a letter is the size of a sample
0r|at least 1
c16z-32|a letter names
cx|no such word
32 mirror mirror|word 3, 'mirror': there is a decoder already
mirror|no layers before
64r-blah|word 2, 'blah': there is no such word
dropout2-32|a share between 0 and 1
topk0.5|a whole number
mse-l1-32|a loss already
v4-vq8|a code already
v4 tied|no tied decoder
bn3-32|takes no number
32 mirror tanh bce|bce needs
32i-784-64r mirror relu bce|bce needs
32i-64r-785i-9 mirror 9|the last layer has 9 values, a sample 784
topk99-32r-topk99|top_k
c8r-pool40-32|max_pool2d
-|names no layer
END
for words in 784-32 '784-64r-16 mirror sigmoid bce' '64l-16e tied mse' 'noise0.3-32g-8t l1' \
    'c4s2r-bn-relu-c8k5s2l-16 transpose' 'c4r pool2 c4r pool2 vq8' '64u-8-64u-784s' \
    'mask-salt-dropout0.1-32-topk8 sparse0.01' 'conv2-pool-conv2-up2-c1 bce'; do
    good layers train "$data" -m l.safetensors --layers "$words" --epochs 1 --validation 0.5
    good layers info -m l.safetensors
done

good layers train "$data" -m l.safetensors --layers 'noise0.1 784-32' --epochs 1
good layers info -m l.safetensors
has '^all +50,992 '

good layers train "$data" -m l.safetensors --layers '64l-16e tied mse' --epochs 1
good layers info -m l.safetensors
has '^leaky_relu2 ' && has '^mse1 '

# --- training, resumed to the same bits
set -- --layers 'dropout0.1-64r-16' --patience 0 --validation 0.2
good train train "$data" -m whole.safetensors --epochs 4 "$@"
has '^epoch 4/4  loss [0-9.]+  [0-9.]+ s  [0-9]+ img/s  validation [0-9.]+'
has '^result threshold [0-9.]+' && has '^result validation_mse 0\.0[0-9]+$'
has '^result model whole.safetensors$'
good train train "$data" -m parts.safetensors --epochs 2 "$@"
bad 'learned for 2 epochs' train "$data" -m parts.safetensors --resume
bad 'leave out --layers' train "$data" -m parts.safetensors --resume --layers 32
good resume train "$data" -m parts.safetensors --resume --epochs 4
has '^epoch 3/4'
for part in whole parts; do tail -c 1200000 $part.safetensors >$part.end; done     # behind the texts
same whole.end parts.end
good patience train "$data" -m p.safetensors --layers 256r-32 --epochs 60 --lr 0.02 --patience 1
has 'was the best and is kept'

# --- interrupted
"$ae" train "$data" -m cut.safetensors --layers 64r-16 --epochs 100000 --patience 0 >out.txt 2>err &
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    [ -s cut.safetensors ] || sleep 1
done
kill -INT $!
wait $!
[ $? = 1 ] && grep -q 'stopped: --resume goes on from cut.safetensors' err
check "interrupted by SIGINT" $?
epochs=$(grep -c '^epoch' out.txt)
bad 'no threshold' anomaly "$data" -m cut.safetensors
good resume train "$data" -m cut.safetensors --resume --epochs $((epochs + 1))
has "^epoch $((epochs + 1))/$((epochs + 1))"
good anomaly anomaly "$data" -m cut.safetensors

# --- codes there and back are the reconstruction
good encode encode "$data" -m whole.safetensors -o codes.npy
good encode encode "$data" -m whole.safetensors -o codes.csv
good decode decode codes.npy -m whole.safetensors -o a.npy
good decode decode codes.csv -m whole.safetensors -o b.npy
good reconstruct reconstruct "$data" -m whole.safetensors -o c.npy
same a.npy b.npy && same a.npy c.npy
[ "$(wc -l <codes.csv)" = 500 ]
check "500 codes" $?
bad 'codes of 784 values' decode c.npy -m whole.safetensors
bad 'takes codes' decode "$data" -m whole.safetensors
good reconstruct reconstruct "$data" -m whole.safetensors
has '^result reconstruction_mse 0\.0' && exists out/side_by_side.png && exists out/reconstructed_00500.png

# --- denoising
good train train "$data" -m d.safetensors --layers 'noise0.5-128r-32' --epochs 15 --batch 32
good denoise denoise "$data" -m d.safetensors --noise 0.5 -o clean
exists clean/side_by_side.png && below "$(result denoised_mse)" "$(result noisy_mse)/2"
good denoise denoise "$data" -m d.safetensors -o d.npy

# --- samples
good train train "$data" -m v.safetensors --layers '128r-v6' --epochs 3
good sample sample 12 -m v.safetensors -o new
exists new/samples.png && exists new/sample_00012.png
good sample sample 12 -m v.safetensors -o x.npy && good sample sample 12 -m v.safetensors -o y.npy
same x.npy y.npy
bad 'not variational' sample 3 -m whole.safetensors
bad 'sample how many' sample -m v.safetensors

# --- info
good info info whole.safetensors
has 'dropout0.1-64r-16' && has '784' && has '^all +103,328 '

# --- pictures: four formats of one, sizes, classes
mkdir pics one
i=0
while [ $i -lt 24 ]; do
    awk -v i=$i 'BEGIN { w = 20 + i % 3; print "P2 # text\n" w " 16 100"
        for (y = 0; y < 16; y++) for (x = 0; x < w; x++)
            print (x - i) * (x - i) + (y - 8) * (y - 8) < 30 ? 100 : 10 }' >"pics/p$i.pgm"
    i=$((i + 1))
done
printf 'P2\n4 2\n255\n0 255 17 3\n9 80 255 255\n' >one/text.pgm
printf 'P5 4 2 255\n\000\377\021\003\011\120\377\377' >one/bytes.pgm
printf 'P3\n4 2\n255\n0 0 0 255 255 255 17 17 17 3 3 3 9 9 9 80 80 80 255 255 255 255 255 255\n' \
    >one/text.ppm
printf 'P6 4 2 65535\n\0\0\0\0\0\0\377\377\377\377\377\377\021\021\021\021\021\021\003\003\003\003\003\003' \
    >one/words.ppm
printf '\011\011\011\011\011\011\120\120\120\120\120\120\377\377\377\377\377\377\377\377\377\377\377\377' \
    >>one/words.ppm
good pictures train pics -m p.safetensors --layers 32r-4 --epochs 2
has '^24 pictures of several sizes, cut and resized to 20x16$' && has '^24 samples of 1x16x20'
good pictures reconstruct pics -m p.safetensors -o back
exists back/p0.pgm.png && exists back/side_by_side.png
good formats encode one -m p.safetensors -o one.csv --threads 1
[ "$(sort -u one.csv | wc -l)" = 1 ] && [ "$(wc -l <one.csv)" = 4 ]
check "four formats of one picture have one code" $?
good single encode one/bytes.pgm -m p.safetensors -o single.csv
[ "$(cat single.csv)" = "$(head -n 1 one.csv)" ]
check "a single picture" $?
good size train one -m q.safetensors --layers 3 --epochs 2 --size 6x5
has '^4 samples of 3x5x6'
good gray train one -m q.safetensors --layers 3 --epochs 2 --gray
has '^4 samples of 1x2x4' && has '^result train_mse'
printf 'P4 9 1\n\252\200' >one/bits.pbm && printf 'P1\n9 1\n1 0101 0 1 0 1\n' >one/bits2.pbm
good bitmaps encode one/bits.pbm -m p.safetensors -o u.csv
printf 'P2 9 1 1 0 1 0 1 0 1 0 1 0\n' >one/bits.pgm         # there 1 is white, in bitmaps black
good bitmaps encode one/bits2.pbm -m p.safetensors -o w.csv
good bitmaps encode one/bits.pgm -m p.safetensors -o x.csv
same u.csv w.csv
same u.csv x.csv
printf 'P5 4 2 255\n\000\377' >one/cut.pgm
bad 'cut.pgm is cut' encode one -m p.safetensors
printf 'P5 4 0 255\n' >one/cut.pgm
bad 'cut.pgm: a picture of 4 x 0 pixels' encode one -m p.safetensors
echo text >one/cut.pgm
bad 'cut.pgm is no PNG' encode one -m p.safetensors
mkdir empty
bad 'no pictures' train empty
if "$ae" train back -m png.safetensors --layers 8 --epochs 1 >out.txt 2>err; then
    has '^25 samples of 3' || has '^25 pictures'
    head -c 300 back/p0.pgm.png >back/p1.pgm.png
    bad 'back/p1.pgm.png' train back -m png.safetensors --layers 8 --epochs 1
else
    has 'without libpng' err
fi
mkdir -p classes/disc classes/other
cp pics/p?.pgm pics/p1?.pgm classes/disc
for i in 1 2 3; do sed 's/^10$/99/' "pics/p$i.pgm" >"classes/other/$i.pgm"; done
good classes train classes --normal disc -m k.safetensors --layers 32r-4 --epochs 30 --size 20x16
has '^20 samples'
good classes anomaly classes -m k.safetensors -o odd
has '^result odd [1-9]' && has '^result auroc 1.0000$' && exists odd/anomalies.png
has '^other/1.pgm,[0-9.]+,1$' odd/scores.csv
bad "no class 'square'" train classes --normal square

# --- tables: columns of different units, classes first, pictures as rows
awk 'BEGIN { srand(1); print "a,b,c"
    for (i = 0; i < 300; i++) { t = rand() * 6; print sin(t) ", " 1000 * cos(t) "," 0.01 * t } }' >t.csv
awk 'BEGIN { srand(2)
    for (i = 0; i < 60; i++) { t = rand() * 6; odd = i % 10 == 0
        print odd "," sin(t) "," (odd ? -1500 : 1000 * cos(t)) "," 0.01 * t } }' >u.csv
good table train t.csv -m t.safetensors --layers 16t-2 --epochs 60
has '^300 samples of 3x1x1'
good table reconstruct t.csv -m t.safetensors -o r.csv
[ "$(wc -l <r.csv)" = 300 ] && awk -F, '$2 < -500 { n++ } END { exit n < 30 }' r.csv
check "rows come back in their units" $?
good table anomaly u.csv -m t.safetensors --labels first --normal 0
has '^result auroc 1.0000$'
good half train t.csv -m t2.safetensors --layers 16t-2 --patience 0 --epochs 2
good resume train t.csv -m t2.safetensors --patience 0 --epochs 4 --resume
good whole train t.csv -m t4.safetensors --layers 16t-2 --patience 0 --epochs 4
for part in t2 t4; do good same reconstruct t.csv -m $part.safetensors -o $part.npy; done
same t2.npy t4.npy
bad 'do not fit' anomaly u.csv -m t.safetensors
bad 'is not a finite number' train "$data/README.md"
printf '1,2\n3,x\n' >broken.csv
bad "line 2, column 2" train broken.csv
good rows train "$data/train-images-idx3-ubyte" -m i.safetensors --layers 8 --epochs 1
good npy reconstruct c.npy -m i.safetensors -o z.npy
awk 'BEGIN { for (i = 0; i < 9; i++) print i / 9 "," i / 20 "," 1 - i / 9 }' >unit.csv
good unit train unit.csv -m unit.safetensors --layers 2 --epochs 2
bad 'the model learned values of 0 ... 1' reconstruct t.csv -m unit.safetensors
good shape train r.csv -m r.safetensors --size 3x1 --layers 2 --epochs 1
bad 'no such shape' train r.csv --size 2x1 -m r.safetensors

echo "$passed passed, $failed failed"
[ $failed = 0 ]
