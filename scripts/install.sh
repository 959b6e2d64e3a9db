#!/usr/bin/env bash
# Copies what `make build` built, and what it needs at run time, to where users look for it. `make install` runs this.
#
#   scripts/install.sh PREFIX              programs, libdagcore.so, plugins, headers, templates of rewards, shell completions,
#                                          files for pkg-config and CMake
#   scripts/install.sh --uninstall PREFIX  removes exactly those again, and the folders made for them if nothing else is in them
#   scripts/install.sh --flat FOLDER       libdagcore.so with plugins and all that they need in one folder, for the Python wheel
#
# DESTDIR is put before PREFIX, as packagers want it. LIBTORCH and SWIFT_FLAGS are those of the build.
#
# The installed copy does not need the build folder, Swift or libtorch. It brings a libtorch under names of its own (libdag_torch_cpu.so):
# so it can share a process with a Python that has torch loaded, whichever version that is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() {
    printf 'install: %s\n' "$1" >&2
    exit 1
}
flat=no uninstall=no
case ${1:-} in
--flat) flat=yes && shift ;;
--uninstall) uninstall=yes && shift ;;
esac
[[ $# == 1 && $1 == /* ]] || die "give one absolute path; see the top of scripts/install.sh"
prefix=${1%/} destination=${DESTDIR:-}${1%/}
library=$destination/lib home=$destination/lib/dag
if [[ $flat == yes ]]; then library=$destination home=$destination; fi
manifest=$home/manifest

if [[ $uninstall == yes ]]; then
    [[ -f $manifest ]] || die "$manifest is missing: nothing of this is installed in $prefix"
    mapfile -t listed <"$manifest"
    rm -f -- "$manifest"
    for place in "${listed[@]}"; do if [[ $place != */ ]]; then rm -f -- "$destination/$place"; fi; done
    # The innermost first.
    mapfile -t folders < <(printf '%s\n' "${listed[@]}" | grep '/$' | LC_ALL=C sort -r)
    for place in "${folders[@]}"; do rmdir -- "$destination/${place#./}" 2>/dev/null || true; done
    echo "removed from $prefix"
    exit
fi

for tool in patchelf python3 ldd strip; do command -v "$tool" >/dev/null || die "there is no $tool; run scripts/setup.sh, or install it"; done
read -ra flags <<<"${SWIFT_FLAGS:--c release -Xswiftc -enable-testing}"
binaries=$(swift build "${flags[@]}" --show-bin-path)
[[ -x $binaries/dag-train && -f $binaries/libdagcore.so ]] || die "nothing is built in $binaries; run make build first"
torch=$(readlink -f "${LIBTORCH:-.libtorch/torch}")/lib
[[ -f $torch/libtorch_cpu.so ]] || die "$torch/libtorch_cpu.so is missing; set LIBTORCH to the libtorch of the build"
version=$(sed -n 's/.*text = "\(.*\)".*/\1/p' Sources/Support/Version.swift)

# What the manifest lists, folders with a slash at their end.
installed=()
folder() { # place under the prefix
    if [[ -d $destination/$1 ]]; then return; fi
    if [[ $1 != . ]]; then folder "$(dirname "$1")"; fi
    mkdir -p -- "$destination/$1"
    installed+=("$1/")
}
put() { # mode, source, place under the prefix
    folder "$(dirname "$3")"
    install -m "$1" -- "$2" "$destination/$3"
    installed+=("$3")
}
under() { echo "${1#"$destination"/}"; }

# --- What was built ------------------------------------------------------------------------------------------------------
ours=()
binary() { # source, place
    put 755 "$1" "$2"
    strip --strip-unneeded "$destination/$2"
    ours+=("$destination/$2")
}
if [[ $flat == yes ]]; then
    worker=dag-reward-worker rewards=.
else
    worker=libexec/dag/dag-reward-worker rewards=lib/dag/rewards
    for program in dag-train dag-sample dag-eval dag-report dag-lora dag-reward; do binary "$binaries/$program" "bin/$program"; done
fi
binary "$binaries/dag-reward-worker" "$worker"
binary "$binaries/libdagcore.so" "$(under "$library/libdagcore.so.1")"
scripts/manifests.sh "$binaries"
for described in "$binaries"/lib*.so.json; do
    plugin=${described%.json}
    if [[ ! -f $plugin ]]; then continue; fi # of a plugin that is no more
    binary "$plugin" "$rewards/${plugin##*/}"
    put 644 "$described" "$rewards/${described##*/}"
done

# --- What that needs: Swift's run-time libraries, and a libtorch of its own name ---------------------------------------------
swift_home=$(readlink -f "$(command -v swift)")
swift_home=${swift_home%/bin/*}/lib/swift/linux
mapfile -t runtime < <(ldd "${ours[@]}" | awk -v home="$swift_home/" 'index($3, home) == 1 { print $3 }' | sort -u)
for file in "${runtime[@]}"; do
    put 644 "$file" "$(under "$home/${file##*/}")"
    # shellcheck disable=SC2016  # the loader expands it
    patchelf --set-rpath '$ORIGIN' "$home/${file##*/}"
done

# libtorch_cuda.so is loaded at run time from beside libtorch_cpu.so, with the NVIDIA libraries where they are.
renamed=()
for name in c10 c10_cuda torch_cpu torch_cuda torch_cuda_linalg; do
    if [[ -f $torch/lib$name.so ]]; then renamed+=("lib$name.so"); fi
done
rename() { # file
    for name in "${renamed[@]}"; do patchelf --replace-needed "$name" "libdag_${name#lib}" "$1"; done
}
for name in "${renamed[@]}"; do
    new=$home/libdag_${name#lib}
    put 644 "$torch/$name" "$(under "$new")"
    # The folders that the original looks in, $ORIGIN being its own.
    paths=$(patchelf --print-rpath "$new" | tr ':' '\n' | sed "s|^\$ORIGIN|$torch|" | grep -vxF "$torch" | paste -sd : || true)
    # One change a call: patchelf 0.14 mixes names up that it changes together.
    patchelf --set-soname "${new##*/}" "$new"
    patchelf --set-rpath "\$ORIGIN${paths:+:$paths}" "$new"
    rename "$new"
    python3 scripts/private_symbols.py "$new"
done
for file in "$torch"/libgomp*; do put 644 "$file" "$(under "$home/${file##*/}")"; done
for file in "${ours[@]}"; do
    patchelf --set-rpath "\$ORIGIN/$(realpath -m --relative-to="$(dirname "$file")" "$home")" "$file"
    rename "$file"
done
if [[ $flat == yes ]]; then
    # What other distributions may have in other versions; C and C++ run-time libraries are everywhere.
    mapfile -t system < <(ldd "${ours[@]}" | awk '$1 ~ /^lib(png[0-9]*|jpeg|ffi|jansson|utf8proc|z)\.so/ { print $3 }' | sort -u)
    for file in "${system[@]}"; do put 644 "$file" "${file##*/}"; done
    exit
fi

# --- Headers, templates, pkg-config, CMake, completions --------------------------------------------------------------------
ln -sf libdagcore.so.1 "$library/libdagcore.so"
installed+=(lib/libdagcore.so)
for header in dag_reward.h dagcore.h; do put 644 "include/$header" "include/$header"; done
for language in c cpp go python rust swift wheel; do
    while read -r file; do put 644 "examples/plugins/$language/$file" "share/dag/reward-templates/$language/$file"; done \
        < <(cd "examples/plugins/$language" && find . -name .build -prune -o -name target -prune -o -name __pycache__ -prune \
            -o -type f ! -name '*.so' ! -name '*.resolved' ! -name Cargo.lock -printf '%P\n')
done
folder lib/pkgconfig
cat >"$library/pkgconfig/dagcore.pc" <<PC
prefix=$prefix
includedir=\${prefix}/include
libdir=\${prefix}/lib
rewarddir=\${libdir}/dag/rewards

Name: dagcore
Description: Post-trains diffusion models so that they sample in proportion to a reward
Version: $version
Cflags: -I\${includedir}
Libs: -L\${libdir} -ldagcore -Wl,-rpath,\${libdir}
PC
cat >"$library/pkgconfig/dag-reward.pc" <<PC
prefix=$prefix
includedir=\${prefix}/include
rewarddir=\${prefix}/lib/dag/rewards

Name: dag-reward
Description: The header of reward plugins, and the folder where dag-train finds them
Version: $version
Cflags: -I\${includedir}
PC
installed+=(lib/pkgconfig/dagcore.pc lib/pkgconfig/dag-reward.pc)
put 644 scripts/DagRewardConfig.cmake lib/cmake/DagReward/DagRewardConfig.cmake
put 644 examples/plugins/cpp/exports.map lib/cmake/DagReward/exports.map
cat >"$library/cmake/DagReward/DagRewardConfigVersion.cmake" <<CMAKE
set(PACKAGE_VERSION $version)
if(PACKAGE_FIND_VERSION VERSION_LESS_EQUAL PACKAGE_VERSION AND PACKAGE_FIND_VERSION_MAJOR EQUAL ${version%%.*})
    set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
    set(PACKAGE_VERSION_EXACT TRUE)
endif()
CMAKE
installed+=(lib/cmake/DagReward/DagRewardConfigVersion.cmake)
for program in dag-train dag-sample dag-eval dag-report dag-lora dag-reward; do
    complete() { # shell, place
        folder "$(dirname "$2")"
        "$binaries/$program" --generate-completion-script "$1" >"$destination/$2"
        installed+=("$2")
    }
    complete bash "share/bash-completion/completions/$program"
    complete zsh "share/zsh/site-functions/_$program"
    complete fish "share/fish/vendor_completions.d/$program.fish"
done
if [[ -f $manifest ]]; then
    # A version that was here before: its folders are still ours, and files that are no more go.
    mapfile -t folders < <(grep '/$' "$manifest")
    mapfile -t stale < <(comm -23 <(grep -v '/$' "$manifest" | sort) <(printf '%s\n' "${installed[@]}" | sort))
    for place in "${stale[@]}"; do rm -f -- "$destination/$place"; done
    installed+=("${folders[@]}")
fi
printf '%s\n' "${installed[@]}" >"$manifest"
echo "installed in $prefix ($(du -sh "$home" | cut -f 1) in lib/dag)"
