#!/usr/bin/env bash
# Keeps plugins and programs working that are built already: refuses headers in which anything but what was appended is new.
#
#   scripts/abi_gate.sh                       compare dag_reward.h and dagcore.h with Tests/ABI/headers.abi
#   scripts/abi_gate.sh --accept              the same, then make what was appended part of Tests/ABI/headers.abi
#   scripts/abi_gate.sh --exports LIBRARY...  see that plugins export dag_reward_entry and nothing else, libdagcore.so the functions of dagcore.h
#
# It needs a C compiler, abidw and abidiff (Debian: abigail-tools; scripts/setup.sh --python installs it).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dump=Tests/ABI/headers.abi
refuse() { # what broke, the whole report
    printf 'abi_gate: refused: %s\n' "$1"
    if [[ -n ${2:-} ]]; then printf '%s\n' "$2" | sed 's/^/    /'; fi
    exit 1
}
trainer=$(sed -nE 's/^DAG_EXPORT [a-z0-9_ ]+[ *]\**(dag_[a-z_]+)\(.*/\1/p' include/dagcore.h | sort)
advice="Plugins that are built already would break. Leave fields and constants as they are; append new fields at the struct's end."

if [[ ${1:-} == --exports ]]; then
    shift
    (($#)) || refuse "no library given"
    for library; do
        case ${library##*/} in libdagcore.so*) wanted=$trainer ;; *) wanted=dag_reward_entry ;; esac
        # Some linkers add the ends of their sections; what has a small letter is local, but for u, of which the loader lets a process have
        # only one, and i. A version's name is no symbol.
        symbols=$(nm -D --defined-only "$library" | awk '$(NF - 1) ~ /^[B-Zui]$/ { sub(/@.*/, "", $NF); print $NF }' |
            grep -vxE '__bss_start|_edata|_end|_init|_fini' | sort || true)
        missing=$(comm -23 <(echo "$wanted") <(echo "$symbols") | head -n 1)
        [[ -z $missing ]] || refuse "$library does not export $missing"
        others=$(comm -13 <(echo "$wanted") <(echo "$symbols") | grep . || true)
        [[ -z $others ]] || refuse "$library exports $(wc -l <<<"$others") symbols besides ${wanted%%$'\n'*}, such as $(head -n 1 <<<"$others")" \
            "Hide them: in C by -fvisibility=hidden, else by a version script such as examples/plugins/cpp/exports.map."
    done
    printf 'abi_gate: exported symbols are as they should be: %s\n' "$*"
    exit
fi
[[ $# == 0 || $* == --accept ]] || refuse "unknown arguments: $*; see the top of scripts/abi_gate.sh"
for tool in cc abidw abidiff; do
    command -v "$tool" >/dev/null || refuse "there is no $tool; run scripts/setup.sh --python, or install abigail-tools (libabigail)"
done

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

# -Wpadded: padding at a struct's end would let a field be appended without struct_size telling.
if ! cc -std=c11 -g -Wpadded -Wmissing-prototypes -Werror -shared -fPIC -fvisibility=hidden -I include -o "$work/surface.so" \
    Sources/C/CDAGCore/anchor.c Tests/ABI/surface.c 2>"$work/errors"; then
    first=$(sed -n 's/.*error: //p' "$work/errors" | head -n 1)
    refuse "$(sed 's/static assertion failed[^"]*: *//; s/"//g' <<<"$first"). $advice" "$(cat "$work/errors")"
fi
unknown=$(comm -23 <(echo "$trainer") <(nm -D --defined-only "$work/surface.so" | awk '{ print $NF }' | sort) | head -n 1)
[[ -z $unknown ]] || refuse "dagcore.h has $unknown, which nothing holds in place; give it a line in Tests/ABI/surface.c"

note="the header is as released"
if [[ -f $dump ]]; then
    status=0
    abidiff --no-architecture --leaf-changes-only --harmless --impacted-interfaces "$dump" "$work/surface.so" >"$work/report" 2>&1 || status=$?
    # Bits 1 and 2: abidiff itself failed. Bits 4 and 8: there are differences.
    if ((status & 3)); then refuse "abidiff ended with status $status" "$(cat "$work/report")"; fi
    # What an append looks like, and nothing else, is let through.
    struct="^'struct dag_[a-z_]+( at .*)?' changed:\$" field="^    '(.*)', at offset [0-9]+ \(in bits\)( at .*)?\$"
    broken=$(grep -vE -e '^$' -e '^[A-Z][a-zA-Z/ ]* summary: ' -e "$struct" -e "$field" -e '^  [0-9]+ data member insertions?:$' \
        -e '^  type size changed from [0-9]+ to [0-9]+ \(in bits\)$' -e '^  (one|[0-9]+) impacted interfaces?:$' -e '^    function ' \
        -e '^[0-9]+ Added functions?:$' -e "^  \[A\] 'function .* dag_" \
        "$work/report" || grep -E "'struct dag_reward_(text|setting)" "$work/report" || true)
    structs=$(sed -nE "s/^'struct (dag_[a-z_]+).*/\1/p" "$work/report" | paste -sd ' ')
    [[ -z $broken ]] || refuse "${structs:-a function} changed other than by an appended field. $advice" "$(cat "$work/report")"
    appended=$(sed -nE "s/^  \[A\] 'function .*(dag_[a-z_]+)\(.*/\1(),/p; s/^'struct (dag_[a-z_]+).*/\1:/p; s/$field/\1,/p" "$work/report" | paste -sd ' ' | sed 's/,$//')
    if [[ -n $appended ]]; then note="appended: $appended"; fi
fi
if [[ ${1:-} == --accept ]]; then
    abidw --no-show-locs --no-comp-dir-path --no-corpus-path --no-architecture "$work/surface.so" >"$dump"
    echo "abi_gate: $note; written to $dump"
elif [[ ! -f $dump ]]; then
    refuse "$dump is missing; run scripts/abi_gate.sh --accept"
elif [[ $note == appended:* ]]; then
    echo "abi_gate: $note. What is built already keeps working. Give it a line in Sources/C/CDAGCore/anchor.c, then run scripts/abi_gate.sh --accept"
else
    echo "abi_gate: $note"
fi
