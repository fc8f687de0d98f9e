#!/bin/sh
# Builds the extensions with AddressSanitizer and UndefinedBehaviorSanitizer, in build/sanitize and nowhere else, and runs
# pytest on them with the arguments given. $1: the interpreter. Needs gcc on Linux.
set -eu

python=$PWD/$1
shift
place=build/sanitize

# With their times, so that only what changed is compiled again; the ordinary extensions stay where they are.
mkdir -p "$place"
tar -cf - --exclude='*.so' --exclude=__pycache__ cacheorm setup.py pyproject.toml README.md LICENSE | tar -xf - -C "$place"
(
    cd "$place"
    CFLAGS="-g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined" \
    LDFLAGS="-fsanitize=address,undefined" CACHEORM_REQUIRE_EXTENSIONS=1 "$python" setup.py --quiet build_ext --inplace
)

# Python itself is not built so: it frees nothing at its end, and has an allocator of its own, which would hide much.
# What is asked for too much memory has to get none, as always. Children of the tests take the same package.
unset CACHEORM_NO_EXTENSIONS
export CACHEORM_REQUIRE_EXTENSIONS=1 PYTHONMALLOC=malloc PYTHONSAFEPATH=1 PYTHONPATH="$PWD/$place:$PWD"
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
export LD_PRELOAD

"$python" -c 'import cacheorm, sys; sys.exit("build/sanitize" not in cacheorm.__file__)'
exec "$python" -m pytest "$@"
