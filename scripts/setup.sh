#!/usr/bin/env bash
# Brings in everything the build needs: system packages, libtorch and, with --python, what the tests need.
# Safe to run again: what is there already is left alone.
set -euo pipefail

usage() {
    cat <<'HELP'
Usage: scripts/setup.sh [--lint] [--python] [--study] [--cpu | --cuda]

Debian and Ubuntu packages that are missing are installed by apt-get, by way of sudo if you are not root; their names are
printed first. If they are there already, neither root nor sudo is needed.


  --lint     also install what only `make lint` needs: ruff, shellcheck, clang-format and check-jsonschema, in .venv
  --python   that, and what only the tests need: abigail-tools, openmpi-bin, iproute2, and the Python packages that they compare with, in .venv
  --study    all that, and what only the study needs: images of clothes, and matplotlib in .venv
  --cpu      a libtorch without CUDA (the default where no NVIDIA GPU is found)
  --cuda     a libtorch with CUDA, a download of several GB (the default where one is)

Environment:
  LIBTORCH   a libtorch of your own: a folder with include/ and lib/, 2.11 or newer. Nothing is downloaded then.
  PYTHON     the python3 whose pip fetches libtorch, if not the one on PATH
HELP
}

TORCH=2.13.0 OLDEST_TORCH=2.11 OLDEST_SWIFT=6.3
PYTORCH_INDEX=https://download.pytorch.org/whl/cpu

say() { printf '==> %s\n' "$*"; }
note() { printf '    %s\n' "$*"; }
die() {
    printf '\nsetup: %s\n' "$1" >&2
    shift
    if (($#)); then printf '%s\n' "$@" | sed 's/^/       /' >&2; fi
    exit 1
}
older() { [[ $1 != "$2" && $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]; }

with_lint=no with_python=no with_study=no flavour=auto
for word; do
    case $word in
    --lint) with_lint=yes ;;
    --python) with_lint=yes with_python=yes ;;
    --study) with_lint=yes with_python=yes with_study=yes ;;
    --cpu | --cuda) flavour=${word#--} ;;
    -h | --help) usage && exit ;;
    *) usage >&2 && exit 2 ;;
    esac
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
[[ $(uname -s) == Linux ]] || die "this script knows Linux only."

# What is under way lives in a folder of its own and is renamed when complete, so that a broken download leaves nothing behind.
work=
trap '[[ -z $work ]] || rm -rf -- "$work"' EXIT
trap 'exit 130' INT TERM

# --- Swift ---------------------------------------------------------------------------------------------------------------
say "Swift"
command -v swift >/dev/null || die "there is no swift on PATH." \
    "Install Swift $OLDEST_SWIFT or newer from https://www.swift.org/install/linux/ and run this again."
swift_version=$(swift --version 2>/dev/null | sed -nE 's/.*Swift version ([0-9]+(\.[0-9]+)+).*/\1/p' | head -n 1)
[[ -n $swift_version ]] || die "'swift --version' does not work here:" "$(swift --version 2>&1 | tail -n 1)" \
    "Reinstall Swift from https://www.swift.org/install/linux/ and run this again."
! older "$swift_version" "$OLDEST_SWIFT" || die "Swift $swift_version is too old, $OLDEST_SWIFT is the oldest that will do." \
    "Get a newer one from https://www.swift.org/install/linux/ and run this again."
note "$swift_version"

# --- System packages -----------------------------------------------------------------------------------------------------
say "System packages"
python=${PYTHON:-python3}
packages=(libopenblas-dev libpng-dev libjpeg-dev libjansson-dev libcurl4-openssl-dev libffi-dev libutf8proc-dev zlib1g-dev pkg-config make g++ patchelf)
# What the tests compare the plugin ABI with, Tesseract, which they use as a reward, a browser for the pages, and a launcher of several
# processes.
if [[ $with_python == yes ]]; then
    packages+=(abigail-tools tesseract-ocr openmpi-bin iproute2)
    # Without any font Chromium ends at once.
    command -v chromium chromium-browser google-chrome >/dev/null || packages+=(chromium fonts-dejavu-core)
fi
# What the classifiers and models of the study are trained on, and compared with.
if [[ $with_study == yes ]]; then packages+=(dataset-fashion-mnist); fi
command -v git >/dev/null || packages+=(git)
command -v "$python" >/dev/null || packages+=(python3)
# ensurepip is what Debian takes out of Python; python3-venv brings it back.
"$python" -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3-venv)
missing=()
if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
    for package in "${packages[@]}"; do
        state=$(dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null || true)
        grep -qx installed <<<"$state" || missing+=("$package")
    done
    if ((${#missing[@]})); then
        as_root=()
        if ((EUID != 0)); then
            command -v sudo >/dev/null || die "these packages are missing, and you are neither root nor have sudo:" \
                "${missing[*]}" "Ask somebody who is root to run: apt-get install ${missing[*]}"
            as_root=(sudo)
        fi
        note "installing Debian packages: ${as_root[*]:+sudo }apt-get install ${missing[*]}"
        note "(to choose yourself, stop this with Ctrl-C and install them first)"
        log=$(mktemp)
        apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y)
        "${apt[@]}" update >"$log" 2>&1 </dev/null || note "apt-get update had trouble; going on with the package lists that are there"
        "${apt[@]}" install --no-install-recommends "${missing[@]}" >>"$log" 2>&1 </dev/null ||
            die "apt-get could not install them; this is what it said:" "$(tail -n 15 "$log")" \
                "Repair that, or install by hand: apt-get install ${missing[*]}. Then run this again. (Whole log: $log)"
        rm -f "$log"
    else
        note "all there"
    fi
else
    note "this is not Debian or Ubuntu: please see to it that your own packages for these are installed:"
    note "${packages[*]}"
fi

# --- Python helpers ------------------------------------------------------------------------------------------------------
python_there() {
    command -v "$python" >/dev/null || die "there is no $python on PATH." \
        "Install Python 3.10 or newer, or name one: PYTHON=/path/to/python3 scripts/setup.sh"
}
new_venv() { # folder
    "$python" -m venv "$1" || die "$python cannot make a virtual environment." \
        "On Debian and Ubuntu: apt-get install python3-venv. Or name another Python with PYTHON=/path/to/python3."
}
# Tries pip with one line of arguments after the other until one works; its output goes to a log that is shown if none does.
first_that_works() { # log, then one quoted list of arguments each
    local log=$1 arguments
    shift
    : >"$log"
    for arguments; do
        echo "--- pip install $arguments" >>"$log"
        # shellcheck disable=SC2086  # split on purpose: no argument here holds a space
        if "${pip[@]}" install --no-input $arguments "${pip_target[@]}" >>"$log" 2>&1 </dev/null; then return 0; fi
        # A half-done attempt must not mix with the next.
        if ((${#pip_target[@]})); then rm -rf -- "${pip_target[1]}"; fi
    done
    return 1
}
last_words() { # log
    if grep -q '^ERROR' "$1"; then grep -E '^(ERROR|--- pip)' "$1" | cut -c 1-200 | tail -n 8; else tail -n 15 "$1"; fi
}
pip_help() {
    printf '%s\n' "If it found no matching version: torch $TORCH has no build for $("$python" --version 2>&1) on $(uname -m); try another" \
        "Python with PYTHON=/path/to/python3, or unpack a libtorch yourself and set LIBTORCH to its folder." \
        "If it could not connect: check the network, and proxy or mirror in pip's configuration ('pip config list')."
}

# --- libtorch ------------------------------------------------------------------------------------------------------------
say "libtorch"
check_libtorch() { # folder, what to do
    [[ -d $1/include/ATen ]] || die "$1 has no include/ATen." "$2"
    [[ -f $1/lib/libtorch_cpu.so ]] || die "$1 has no lib/libtorch_cpu.so." "$2"
    local gone
    grep -q ProcessGroupGloo "$1/lib/libtorch_cpu.so" || die "$1 was built without c10d (USE_DISTRIBUTED), which joins processes." "$2"
    gone=$(ldd "$1/lib/libtorch_cpu.so" 2>/dev/null | awk '/not found/ { print $1 }' | sort -u | tr '\n' ' ' || true)
    [[ -z $gone ]] || die "$1/lib/libtorch_cpu.so needs libraries that are not there: $gone" "$2"
}
torch_version() { # folder
    cat "$1/include/torch/headeronly/version.h" "$1/include/torch/csrc/api/include/torch/version.h" 2>/dev/null |
        awk '$2 == "TORCH_VERSION_MAJOR" { major = $3 } $2 == "TORCH_VERSION_MINOR" { minor = $3 }
             END { if (major != "") print major "." minor }'
}
if [[ -n ${LIBTORCH:-} ]]; then
    check_libtorch "$LIBTORCH" "Set LIBTORCH to a folder with include/ and lib/, such as .../site-packages/torch, or unset it."
    version=$(torch_version "$LIBTORCH" || true)
    if [[ -n $version ]] && older "$version" "$OLDEST_TORCH"; then
        die "LIBTORCH is version $version; $OLDEST_TORCH is the oldest that will do." \
            "Get a newer one, or unset LIBTORCH and run this again."
    fi
    note "yours: $LIBTORCH (${version:-version unknown})"
else
    stamp=$(cat .libtorch/stamp 2>/dev/null || true)
    if [[ $flavour == auto ]]; then
        flavour=cpu
        if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then flavour=cuda; fi
        # Whatever was chosen by hand before stays.
        if [[ $stamp == "$TORCH "* ]]; then flavour=${stamp#* }; fi
    fi
    if [[ $stamp == "$TORCH $flavour" && -f .libtorch/torch/lib/libtorch_cpu.so ]]; then
        note "$stamp, in .libtorch"
    else
        python_there
        # `work` is removed on exit. A venv is for the Pythons that come without pip.
        work=$(mktemp -d "$root/.libtorch.XXXXXX")
        if "$python" -m pip --version >/dev/null 2>&1; then pip=("$python" -m pip); else
            new_venv "$work/venv"
            pip=("$work/venv/bin/python" -m pip)
        fi
        pip_target=(--target "$work/torch")
        # The CPU build stands alone. A CUDA build needs the nvidia packages, which pip brings as its dependencies; '===' keeps
        # pip from taking a +cpu build instead.
        cpu=("--no-deps torch==$TORCH+cpu" "--no-deps --extra-index-url $PYTORCH_INDEX torch==$TORCH+cpu" "torch==$TORCH")
        cuda=("torch===$TORCH" "torch==$TORCH")
        if [[ $flavour == cuda ]]; then
            note "downloading torch $TORCH with CUDA (several GB, this takes a while)"
            attempts=("${cuda[@]}")
        else
            note "downloading torch $TORCH for CPU (about 200 MB)"
            attempts=("${cpu[@]}")
        fi
        first_that_works "$work/log" "${attempts[@]}" ||
            die "pip could not install torch $TORCH; the last it said:" "$(last_words "$work/log")" "$(pip_help)"
        # Of the Python package only headers, libraries and licences are needed; test programs and the Python binding are not.
        cd "$work/torch"
        for entry in *; do
            case $entry in torch | torch.libs | torch-*.dist-info | nvidia*) ;; *) rm -rf -- "$entry" ;; esac
        done
        find torch -mindepth 1 -maxdepth 1 ! -name include ! -name lib -exec rm -rf -- {} +
        rm -f torch/lib/libtorch_python.so torch/lib/lib{aoti_custom_ops,backend_with_compiler,jitbackend_test,torchbind_test}.so
        cd "$root"
        check_libtorch "$work/torch/torch" "The download is not what was expected. Run this again; if it stays so, set LIBTORCH to a libtorch of yours."
        [[ $flavour == cpu || -f $work/torch/torch/lib/libtorch_cuda.so ]] ||
            die "pip brought a torch without CUDA." "Run with --cpu to take it, or set LIBTORCH to a libtorch with CUDA."
        echo "$TORCH $flavour" >"$work/torch/stamp"
        if [[ -e .libtorch ]]; then mv .libtorch "$work/old"; fi
        mv -T "$work/torch" .libtorch
        rm -rf -- "$work"
        work=
        note "$TORCH $flavour, in .libtorch ($(du -sh .libtorch | cut -f 1))"
    fi
fi

# --- Python packages -----------------------------------------------------------------------------------------------------
if [[ $with_python == yes ]]; then
    say "Python packages for the tests"
    python_there
    requirements=Tests/python/requirements.txt
    [[ -f $requirements ]] || die "$requirements is missing." "Is this a complete checkout?"
    # One requirements file may include others; the stamp covers all of them, and the Python.
    stamp=$({ cat Tests/python/requirements*.txt Tests/Goldens/requirements*.txt 2>/dev/null || true; "$python" --version; } | sha256sum | cut -d ' ' -f 1)
    if [[ $(cat .venv/stamp 2>/dev/null || true) == "$stamp" ]] && .venv/bin/python -c '' 2>/dev/null; then
        note "all there, in .venv"
    else
        note "installing $requirements into .venv (about 1.5 GB with torch, this takes a few minutes)"
        # A virtual environment cannot be renamed; the stamp, written last, says that it is complete.
        rm -rf .venv
        new_venv .venv
        pip=(.venv/bin/python -m pip)
        pip_target=()
        log=$(mktemp)
        { first_that_works "$log" "torch==$TORCH+cpu" "--extra-index-url $PYTORCH_INDEX torch==$TORCH+cpu" "torch==$TORCH" &&
            first_that_works "$log" "-r $requirements"; } ||
            die "pip could not install $requirements; the last it said:" "$(last_words "$log")" "$(pip_help)" "(Whole log: $log)"
        rm -f "$log"
        echo "$stamp" >.venv/stamp
        note "done, in .venv ($(du -sh .venv | cut -f 1))"
    fi
fi
# Adds a requirements file to .venv; a stamp says that it is there.
add_to_venv() { # name, requirements file
    local stamp log
    say "Python packages for $1"
    python_there
    stamp=$(sha256sum <"$2" | cut -d ' ' -f 1)
    if [[ $(cat ".venv/stamp-$1" 2>/dev/null || true) == "$stamp" ]]; then
        note "all there, in .venv"
        return
    fi
    [[ -x .venv/bin/python ]] || new_venv .venv
    pip=(.venv/bin/python -m pip)
    pip_target=()
    log=$(mktemp)
    first_that_works "$log" "-r $2" ||
        die "pip could not install $2; the last it said:" "$(last_words "$log")" "$(pip_help)" "(Whole log: $log)"
    rm -f "$log"
    echo "$stamp" >".venv/stamp-$1"
    note "done, in .venv"
}
if [[ $with_lint == yes ]]; then add_to_venv lint scripts/requirements-lint.txt; fi
if [[ $with_study == yes ]]; then add_to_venv study Benchmarks/Study/requirements.txt; fi

say "Ready. Next: make demo"
