#!/bin/bash
# Packs what benchmarks/training.py needs for a machine with a GPU and no package registry.
#
#   benchmarks/gpu_bundle.sh FOLDER
#
# gives FOLDER/01/piece, FOLDER/02/piece, ... of at most 56 MiB, and FOLDER/01/setup.sh, which unpacks them over there:
#
#   FOLDER/01/setup.sh TARGET && . TARGET/environment && python3.12 -m benchmarks.training
#
# Needed there: x86-64, Python 3.12, a GPU of compute capability 9.0 (H100, H200) and its driver. Needed here: uv, gcc,
# binutils, zstd, python3. From the lock of the newer stack come the packages that a training imports, and from NVIDIA
# those versions that TensorFlow's extra and-cuda begins with. Kernels for other GPUs are blanked, which zstd then
# makes nothing of, and so are PTX sources wherever a compiled kernel stands beside them.
#
# PYTHON=3.13 packs for that version, and CUDA= without what the GPU needs, to try a bundle on a CPU. LEVEL is zstd's.
# TORCH=yes packs the peers of benchmarks/torch_2.11.txt, too, with CUDA's libraries of their own, and a program that
# runs them over there: --peer rechub=TARGET/peer/python.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
[ $# -eq 1 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "$0" >&2; exit 2; }
mkdir -p "$1"
folder=$(cd "$1" && pwd)
[ -z "$(ls "$folder")" ] || { echo "error: $folder is not empty; give an empty folder" >&2; exit 2; }
uv=$(command -v uv || echo "$here/.venv/bin/uv")
python=${PYTHON-3.12}
capability=90
cuda=${CUDA-nvidia-cublas-cu12==12.5.3.2 nvidia-cuda-runtime-cu12==12.5.82 nvidia-cudnn-cu12==9.3.0.75
nvidia-cusolver-cu12==11.6.3.83 nvidia-nccl-cu12==2.27.7 nvidia-cuda-nvcc-cu12==12.5.82 nvidia-nvjitlink-cu12==12.5.82
nvidia-cuda-nvrtc-cu12==12.5.82 nvidia-cuda-cupti-cu12==12.5.82}
packages='tensorflow keras numpy ml-dtypes h5py optree protobuf absl-py astunparse flatbuffers gast google-pasta opt-einsum
packaging requests urllib3 idna certifi charset-normalizer setuptools six termcolor typing-extensions wrapt
rich markdown-it-py mdurl pygments namex pydantic pydantic-core annotated-types typing-inspection tqdm'

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
site=$work/bundle/site
mkdir -p "$site" "$folder/01/zstd"

# --- what to install -------------------------------------------------------------------------------------------------
for package in $packages; do
    grep -oE "^$package==[^ ;]+" "$here/requirements/tfx-1.21.lock" ||
        { echo "error: requirements/tfx-1.21.lock does not name $package, which a training imports" >&2; exit 1; }
done >"$work/requirements.txt"
printf '%s\n' $cuda >>"$work/requirements.txt"
"$uv" pip install --quiet --no-deps --link-mode copy --target "$site" --python-version "$python" \
    --python-platform x86_64-manylinux_2_39 -r "$work/requirements.txt"

if [ -n "${TORCH-}" ]; then
    "$uv" pip install --quiet --link-mode copy --target "$work/bundle/peer" --python-version "$python" \
        --python-platform x86_64-manylinux_2_39 -r "$here/benchmarks/torch_2.11.txt"
    find "$work/bundle/peer" -name '*.a' -delete
    # CUDA's libraries of the one side are too old for the other: each finds its own.
    cat >"$work/bundle/peer/python" <<PEER
#!/bin/sh
here=\$(cd "\$(dirname "\$0")" && pwd)
PYTHONPATH=\$here LD_LIBRARY_PATH= exec python$python "\$@"
PEER
    chmod +x "$work/bundle/peer/python"
fi

# --- what no training reads ------------------------------------------------------------------------------------------
rm -rf "$site/tensorflow/include" "$site/bin" "$site/nvidia/cusolver/lib/libcusolverMg.so.11"
# TensorFlow imports the client of remote profilers, 80 MB, and calls it for those alone.
profiler=$site/tensorflow/python/profiler/internal/_pywrap_profiler_plugin
rm "$profiler.so"
: >"$profiler.py"
find "$site" -depth \( -name tests -o -name include -o -name __pycache__ \) -type d -exec rm -rf {} +
find "$site" \( -name '*.a' -o -name '*.pyi' -o -name '*.h' -o -name 'libnvblas*' \) -delete
# Of TensorFlow alone: other wheels' libraries have been moved about in, and strip breaks those.
find "$site/tensorflow" -name '*.so*' -type f -exec strip --strip-unneeded {} +

# --- kernels for other GPUs ------------------------------------------------------------------------------------------
# A section .nv_fatbin is a row of containers: a header (magic, version, its size, size of the entries), then entries
# (kind 1 PTX or 2 machine code, version, size of its header, size of its contents, and the capability at offset 28).
# The driver chooses an entry by its header, so that the contents of the others can be anything.
cat >"$work/blank.py" <<'END'
import mmap, struct, subprocess, sys

capability, *paths = sys.argv[1:]
for path in paths:
    sections = [line.replace("[ ", "[").split() for line in
                subprocess.run(["readelf", "-SW", path], stdout=subprocess.PIPE, text=True).stdout.splitlines()]
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        for words in (words for words in sections if len(words) > 6 and words[1] in (".nv_fatbin", "__nv_relfatbin")):
            place, size = int(words[4], 16), int(words[5], 16)
            end = place + size
            while place + 16 <= end:
                magic, _, header, length = struct.unpack_from("<IHHQ", data, place)
                if magic != 0xBA55ED50:
                    place += 8
                    continue
                entries, at = [], place + header
                place = at + length
                while at < place:
                    kind, _, head, contents = struct.unpack_from("<HHIQ", data, at)
                    entries.append((kind, struct.unpack_from("<I", data, at + 28)[0], at + head, contents))
                    at += head + contents
                compiled = [entry for entry in entries if entry[:2] == (2, int(capability))]
                sources = [entry for entry in entries if entry[0] == 1 and entry[1] <= int(capability)]
                for entry in entries:
                    if entry not in (compiled or sources):
                        data[entry[2] : entry[2] + entry[3]] = bytes(entry[3])
END
find "$site" \( -path '*/tensorflow/*' -o -path '*/nvidia/*' \) -name 'lib*.so*' -size +10M -type f \
    -exec python3 "$work/blank.py" "$capability" {} +

# --- libraries that are opened and not called ------------------------------------------------------------------------
# TensorFlow gives up on the GPU if it cannot open each of them, and cuSOLVER names symbols of two.
stand_in() {
    symbols=$(nm -D --undefined-only "$site"/nvidia/cusolver/lib/libcusolver.so.* | sed -n "s/.* \(.*\)@$2\$/\1/p")
    mkdir -p "$site/nvidia/$1/lib"
    echo "$2 { global: *; };" >"$work/version"
    printf 'void %s(void) { __builtin_trap(); }\n' stand_in $symbols |
        gcc -shared -fPIC -x c -w -Wl,-soname,"$2" -Wl,--version-script="$work/version" -o "$site/nvidia/$1/lib/$2" -
}
if [ -n "$cuda" ]; then
    stand_in cufft libcufft.so.11
    stand_in curand libcurand.so.10
    stand_in cusparse libcusparse.so.12
fi

# --- pieces ----------------------------------------------------------------------------------------------------------
cat >"$work/bundle/environment" <<'END'
export PYTHONPATH="$bundle/site${PYTHONPATH:+:$PYTHONPATH}" LD_LIBRARY_PATH="$(ls -d "$bundle"/site/nvidia/*/lib 2>/dev/null | tr '\n' ':')${LD_LIBRARY_PATH-}"
END
tar -C "$work/bundle" -c . | zstd --quiet -"${LEVEL-9}" -T0 --long=27 | split -b 56M -d --suffix-length 2 - "$work/piece."
number=0
for piece in "$work"/piece.*; do
    number=$((number + 1))
    mkdir -p "$folder/$(printf %02d $number)"
    mv "$piece" "$folder/$(printf %02d $number)/piece"
done
# The machine may lack zstd. Its C library is newer than the one here, so that the program runs there with its libraries.
cp "$(command -v zstd)" $(ldd "$(command -v zstd)" | awk '$3 ~ /lib(z|lzma|lz4|zstd)\.so/ {print $3}') "$folder/01/zstd"
cat >"$folder/01/setup.sh" <<END
#!/bin/sh
# setup.sh TARGET: unpacks the $number pieces that lie beside this one's folder, after which TARGET/environment can be read.
set -eu
pieces=\$(cd "\$(dirname "\$0")/.." && pwd)
found=\$(ls "\$pieces"/*/piece | wc -l)
[ "\$found" -eq $number ] || { echo "error: \$found pieces lie in \$pieces; expected $number" >&2; exit 1; }
mkdir -p "\$1"
cat "\$pieces"/*/piece | LD_LIBRARY_PATH="\$pieces/01/zstd" "\$pieces/01/zstd/zstd" -d --long=27 | tar -x -C "\$1"
sed -i "1i bundle='\$(cd "\$1" && pwd)'" "\$1/environment"
END
chmod +x "$folder/01/setup.sh"
du -h --apparent-size "$folder"/*/piece
