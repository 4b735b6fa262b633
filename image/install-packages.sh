#!/bin/sh
# Installs what an image runs from a lock, then takes out what nothing opens at run time.
#   install-packages.sh ENVIRONMENT LOCK ACCELERATOR [LEFT_OUT]
# ENVIRONMENT: as python3 -m venv makes it. LOCK: a file of pinned packages with hashes. ACCELERATOR: the lock of
# tensorflow's CPU build or of CUDA's libraries. LEFT_OUT: names of packages that the lock has and the image has not.
set -eu
environment=$1 lock=$2 accelerator=$3
[ -f "$accelerator" ] || { echo "$accelerator: no such lock; ACCELERATOR is cpu or gpu" >&2; exit 1; }
chosen=$(mktemp) left_out=$(mktemp)

if [ "$#" -gt 3 ]; then cat "$4" >"$left_out"; fi
if grep -q '^tensorflow-cpu==' "$accelerator"; then echo tensorflow >>"$left_out"; fi
awk -F '[ =]' 'NR == FNR {left_out[$1]; next} /^[a-z]/ {keep = !($1 in left_out)} keep' "$left_out" "$lock" >"$chosen"
for file in "$chosen" "$accelerator"; do
    "$environment/bin/pip" install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes -r "$file"
done
# Packages name tensorflow, and tensorflow-cpu is not known to be the same.
"$(dirname "$0")/../requirements/check" "$environment" tensorflow >&2

cd "$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
# C++ headers: compilers read them.
rm -rf tensorflow/include pyarrow/include
# A requirement of TensorFlow's that no module of it imports.
rm -rf clang/native
# Packages' own tests, and TFX's examples with their data.
find . -depth -type d \( -name tests -o -name testdata \) -exec rm -rf {} +
rm -rf tfx/examples
# Symbols for debuggers, where they are large. Not everywhere: strip breaks libraries that patchelf laid out anew.
for package in tensorflow tfx_bsl tensorflow_data_validation ml_metadata apache_beam pyarrow zstandard; do
    if [ -d "$package" ]; then
        find "$package" -type f \( -name '*.so' -o -name '*.so.[0-9]*' \) -exec strip --strip-unneeded {} +
    fi
done
