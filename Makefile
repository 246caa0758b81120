# For development only: a program that uses ae.h needs no Makefile, just the header.

CFLAGS       ?= -O2 -std=c99
MNIST        ?=
DATA         ?=
ONLY         ?=
FUZZ_SECONDS ?= 60

EXAMPLES := $(patsubst examples/%.c,build/%,$(wildcard examples/*.c))
BENCHES  := $(patsubst bench/%.c,build/%,$(wildcard bench/bench_*.c))
FUZZERS  := $(patsubst tests/%.c,build/%,$(wildcard tests/fuzz_*.c))
TESTS    := $(wildcard tests/test_*.c)

# -fopenmp where the compiler can link it: the examples' and benches' --threads.
OPENMP := $(shell mkdir -p build && echo 'int main(void) { return 0; }' >build/probe.c && \
            $(CC) -fopenmp build/probe.c -o build/probe 2>build/probe.log && echo -fopenmp)

# libpng and libjpeg where they are installed: the pictures that build/ae reads.
HASH := \#
probe = $(shell printf '%s\n' '$(HASH)include <stdio.h>' '$(HASH)include <$(1)>' \
            'int main(void) { return 0; }' >build/probe.c; $(CC) build/probe.c -o build/probe \
            $(2) 2>build/probe.log && echo $(3) $(2))
PICTURES = $(call probe,png.h,-lpng,-DUSE_PNG) $(call probe,jpeglib.h,-ljpeg,-DUSE_JPEG)

.PHONY: run test check examples bench mnist help sanitize fuzz lint mutants clean

run: build/01_deep ## train the deep autoencoder on data/, pictures to out/
	@mkdir -p out
	build/01_deep --plain --epochs 60 --batch 32 --data data --out out

test: build/test ## all tests; the last line is: N passed, N failed
	@build/test

check: ## the wider matrix of compilers, flags and tools; ONLY='name*' runs a part
	@tests/check.sh $(if $(ONLY),'$(ONLY)')

examples: $(EXAMPLES) ## every example to build/

bench: $(BENCHES) ## the tables of bench/ and its bars; DATA=dir, ONLY='name*' runs a part
	@bench/run.sh $(if $(DATA),--data '$(DATA)') $(if $(ONLY),--only '$(ONLY)')

mnist: ## the full MNIST to data/mnist, from the mirrors or from MNIST=dir
	@data/mnist.sh $(if $(MNIST),'$(MNIST)')

sanitize: | build/tests ## the tests under the address and undefined-behaviour sanitizers
	$(CC) -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined -I. $(TESTS) \
	    -o build/test_sanitize -lm
	@build/test_sanitize

fuzz: $(FUZZERS) ## each fuzzer for FUZZ_SECONDS=60 (needs clang)
	@set -e; for f in $(FUZZERS); do mkdir -p $$f.corpus; \
	    echo "$$f"; $$f -max_total_time=$(FUZZ_SECONDS) $$f.corpus; done

lint: ## line length, tabs, contents keys, leftovers
	@tests/lint.sh

mutants: ## each line of tests/mutants.txt must turn the tests red
	@tests/mutants.sh

clean: ## remove what was built
	rm -rf build out

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' Makefile | expand -t 10

build/test: $(patsubst tests/%.c,build/tests/%.o,$(TESTS))
	$(CC) $(CFLAGS) $^ -o $@ -lm

build/tests/%.o: tests/%.c ae.h $(wildcard tests/*.h) | build/tests
	$(CC) $(CFLAGS) -Wall -Wextra -Werror=unused-function -I. -c $< -o $@

build/bench_%: bench/bench_%.c ae.h $(wildcard bench/*.h)
	$(CC) $(CFLAGS) $(OPENMP) -I. $< -o $@ -lm -ldl

build/fuzz_%: tests/fuzz_%.c ae.h
	clang -g -O1 -fsanitize=fuzzer,address,undefined -I. $< -o $@ -lm

build/%: examples/%.c ae.h
	$(CC) $(CFLAGS) $(OPENMP) -I. $< -o $@ -lm

build/ae: examples/ae.c ae.h
	$(CC) $(CFLAGS) $(OPENMP) -I. $< -o $@ $(PICTURES) -lm

build/tests:
	@mkdir -p $@
