#!/usr/bin/env bash
# Keeps plugins working that are built already: refuses a dag_reward.h in which anything but an appended field is new.
#
#   scripts/abi_gate.sh                       compare include/dag_reward.h with Tests/ABI/dag_reward.abi
#   scripts/abi_gate.sh --accept              the same, then make the header's appended fields part of Tests/ABI/dag_reward.abi
#   scripts/abi_gate.sh --exports LIBRARY...  see that each library exports dag_reward_entry and nothing else
#
# It needs a C compiler, abidw and abidiff (Debian: abigail-tools; scripts/setup.sh --python installs it).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dump=Tests/ABI/dag_reward.abi
refuse() { # what broke, the whole report
    printf 'abi_gate: refused: %s\n' "$1"
    if [[ -n ${2:-} ]]; then printf '%s\n' "$2" | sed 's/^/    /'; fi
    exit 1
}
advice="Plugins that are built already would break. Leave fields and constants as they are; append new fields at the struct's end."

if [[ ${1:-} == --exports ]]; then
    shift
    (($#)) || refuse "no library given"
    for library; do
        # Some linkers add the ends of their sections; what has a small letter is local.
        symbols=$(nm -D --defined-only "$library" | awk '$(NF - 1) ~ /^[A-Z]$/ { print $NF }' | grep -vxE '__bss_start|_edata|_end|_init|_fini' || true)
        grep -qx dag_reward_entry <<<"$symbols" || refuse "$library does not export dag_reward_entry"
        others=$(grep -vx dag_reward_entry <<<"$symbols" || true)
        [[ -z $others ]] || refuse "$library exports $(wc -l <<<"$others") symbols besides dag_reward_entry, such as $(head -n 1 <<<"$others")" \
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
if ! cc -std=c11 -g -Wpadded -Werror -shared -fPIC -fvisibility=hidden -I include -o "$work/surface.so" \
    include/anchor.c Tests/ABI/surface.c 2>"$work/errors"; then
    first=$(sed -n 's/.*error: //p' "$work/errors" | head -n 1)
    refuse "$(sed 's/static assertion failed[^"]*: *//; s/"//g' <<<"$first"). $advice" "$(cat "$work/errors")"
fi

note="the header is as released"
if [[ -f $dump ]]; then
    status=0
    abidiff --no-architecture --leaf-changes-only --harmless --impacted-interfaces "$dump" "$work/surface.so" >"$work/report" 2>&1 || status=$?
    # Bits 1 and 2: abidiff itself failed. Bits 4 and 8: there are differences.
    if ((status & 3)); then refuse "abidiff ended with status $status" "$(cat "$work/report")"; fi
    # What an append looks like, and nothing else, is let through.
    struct="^'struct dag_reward_[a-z]+( at .*)?' changed:\$" field="^    '(.*)', at offset [0-9]+ \(in bits\)( at .*)?\$"
    broken=$(grep -vE -e '^$' -e '^[A-Z][a-zA-Z/ ]* summary: ' -e "$struct" -e "$field" -e '^  [0-9]+ data member insertions?:$' \
        -e '^  type size changed from [0-9]+ to [0-9]+ \(in bits\)$' -e '^  (one|[0-9]+) impacted interfaces?:$' -e '^    function ' \
        "$work/report" || grep -E "'struct dag_reward_(text|setting)" "$work/report" || true)
    structs=$(sed -nE "s/^'struct (dag_reward_[a-z]+).*/\1/p" "$work/report" | paste -sd ' ')
    [[ -z $broken ]] || refuse "${structs:-dag_reward_entry} changed other than by an appended field. $advice" "$(cat "$work/report")"
    appended=$(sed -nE "s/^'struct (dag_reward_[a-z]+).*/\1:/p; s/$field/\1,/p" "$work/report" | paste -sd ' ' | sed 's/,$//')
    if [[ -n $appended ]]; then note="appended: $appended"; fi
fi
if [[ ${1:-} == --accept ]]; then
    abidw --no-show-locs --no-comp-dir-path --no-corpus-path --no-architecture "$work/surface.so" >"$dump"
    echo "abi_gate: $note; written to $dump"
elif [[ ! -f $dump ]]; then
    refuse "$dump is missing; run scripts/abi_gate.sh --accept"
elif [[ $note == appended:* ]]; then
    echo "abi_gate: $note. Old plugins keep working. Give it a line in include/anchor.c, then run scripts/abi_gate.sh --accept"
else
    echo "abi_gate: $note"
fi
