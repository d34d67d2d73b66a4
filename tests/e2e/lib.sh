# SPDX-License-Identifier: MIT
# Shared by the end-to-end scripts: a scratch folder, and checks that count.
set -u
: "${ZSEM:?is the program under test}"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
passed=0
failures=0

ok()
{
    passed=$((passed + 1))
}

bad()
{
    failures=$((failures + 1))
    echo "FAILED: $*" >&2
}

# refuse WORDS... -- COMMAND...: COMMAND must exit with status 2, say one sentence on standard error
# that holds each of the words, and print nothing on standard output.
refuse()
{
    local words=()
    while [ "$1" != -- ]; do
        words+=("$1")
        shift
    done
    shift
    local status=0
    "$@" >"$dir/.out" 2>"$dir/.err" </dev/null || status=$?
    local said
    said=$(grep -c '^zsem: ' "$dir/.err")
    if [ "$status" -ne 2 ]; then
        bad "status $status instead of 2: $*: $(cat "$dir/.err")"
    elif [ "$said" -ne 1 ] || [ "$(wc -l <"$dir/.err")" -ne 1 ]; then
        bad "not one sentence: $*: $(cat "$dir/.err")"
    elif [ -s "$dir/.out" ]; then
        bad "wrote to standard output: $*"
    else
        for word in "${words[@]}"; do
            grep -qF -- "$word" "$dir/.err" || { bad "no '$word' in: $(cat "$dir/.err")"; return; }
        done
        ok
    fi
}

# accept COMMAND...: must exit with 0; its standard output is left in $dir/.out
accept()
{
    local status=0
    "$@" >"$dir/.out" 2>"$dir/.err" </dev/null || status=$?
    if [ "$status" -eq 0 ]; then ok; else bad "status $status: $*: $(cat "$dir/.err")"; fi
}

# check DESCRIPTION COMMAND...: COMMAND must succeed
check()
{
    local what=$1
    shift
    if "$@" >/dev/null 2>&1; then ok; else bad "$what"; fi
}

finish()
{
    echo "$passed passed, $failures failed"
    [ "$failures" -eq 0 ]
}
