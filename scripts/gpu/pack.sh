#!/usr/bin/env bash
# Packs the programs for a machine that has an NVIDIA GPU and torch, but neither Swift nor a network.
#
#   scripts/gpu/pack.sh           -> .gpu/kit.tar.xz and .gpu/run.sh, some 30 MB
#   TORCH=2.11.0 scripts/gpu/pack.sh     for that version of torch, which has to be the other machine's
#
# There, in a copy of this repository with .gpu:   bash .gpu/run.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
torch=${TORCH:-2.11.0} python=${PYTHON:-python3} build=.build-gpu kit=.build-gpu/kit
programs=(dag-train dag-sample dag-eval dag-reward dag-reward-worker libjpeg_compressibility.so libwarmth.so libaesthetic.so libclipscore.so
    libcifar_classifier.so)

# Headers and the two libraries to link with. Their CUDA dependencies, several GB, are on the other machine.
if [[ ! -f $build/torch-$torch/lib/libtorch_cpu.so ]]; then
    "$python" -m pip download -q --no-deps "torch===$torch" -d $build/wheel
    unzip -q -o $build/wheel/torch-"$torch"-*.whl 'torch/include/*' 'torch/lib/libtorch_cpu.so' 'torch/lib/libc10.so' -d $build/unpacked
    mv $build/unpacked/torch "$build/torch-$torch"
fi
export LIBTORCH=$PWD/$build/torch-$torch
flags=(-c release -Xswiftc -enable-testing -Xlinker --allow-shlib-undefined)
# SwiftPM 6.3 refuses its own description of a build with linker flags when it builds again.
rm -f $build/{programs,benchmarks}/release/description.json
swift build "${flags[@]}" --scratch-path $build/programs | tail -n 1
swift build "${flags[@]}" --scratch-path $build/benchmarks --package-path Benchmarks --product model-benchmark | tail -n 1

rm -rf $kit
mkdir -p $kit/bin $kit/lib $kit/wheels .gpu
cp "${programs[@]/#/$build/programs/release/}" $build/benchmarks/release/model-benchmark $kit/bin/
strip --strip-unneeded "$kit"/bin/*
# All that they need of this machine, but the C and C++ libraries and torch.
for file in "$kit"/bin/*; do ldd "$file" 2>/dev/null || true; done | awk '/=> \// { print $1, $3 }' | sort -u |
    grep -vE '^lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s|gomp|c10|torch_cpu)\.' |
    while read -r name path; do cp -L "$path" "$kit/lib/$name"; done
"$python" -m pip download -q --no-deps --only-binary=:all: diffusers==0.42.1 peft==0.21.2 importlib_metadata==10.2.0 zipp==4.1.2 \
    open_clip_torch==3.3.0 -d $kit/wheels
cp scripts/gpu/run.sh .gpu/
tar -C $build -cf - kit | xz -T0 -6 >.gpu/kit.tar.xz
du -sh .gpu
