#!/bin/bash
# SPDX-License-Identifier: MIT
# zsem bench: rows are found by name, measured, profiled, and written for other programs to compare.
. "$(dirname "$0")/lib.sh"

# has FILE TEXT...: each text stands in the file
has()
{
    local file=$1
    shift
    for text in "$@"; do
        if grep -q -- "$text" "$file"; then ok; else bad "$text is not in: $(head -c 600 "$file")"; fi
    done
}

"$ZSEM" bench --list >"$dir/list" 2>"$dir/err" || bad "--list: $(cat "$dir/err")"
has "$dir/list" train-ffhq64-n8 prior-ffhq64-n256 "only when named"

"$ZSEM" bench --rows conv-dw-n8-c32-s32,adagn-n8-c256 --runs 2 --json >"$dir/json" 2>"$dir/err" ||
    bad "two rows: $(cat "$dir/err")"
has "$dir/json" '"name": "conv-dw-n8-c32-s32"' '"name": "adagn-n8-c256-s16"' '"gflops"' '"threads"'
[ "$(grep -c '"name"' "$dir/json")" -eq 2 ] && ok || bad "not two rows: $(cat "$dir/json")"

# a full name selects its row alone, though it begins the names of others
"$ZSEM" bench --rows eps-fashion32-n1 --runs 1 --json >"$dir/json" 2>"$dir/err" || bad "eps"
[ "$(grep -c '"name"' "$dir/json")" -eq 1 ] && ok || bad "eps-fashion32-n1 selects more than itself"
has "$dir/json" '"per_s"' '"peak_mib"'

"$ZSEM" bench --profile eps-fashion32-n1 --runs 1 >"$dir/text" 2>"$dir/err" || bad "--profile"
has "$dir/text" "conv2d 3x3" gn_act "outside the graph"

"$ZSEM" bench --rows conv-fwd-n8-c32-s32,eps-fashion32-n1 --save "$dir/saved" >"$dir/text" 2>"$dir/err" ||
    bad "--save: $(cat "$dir/err")"
for f in conv-fwd-n8-c32-s32 eps-fashion32-n1 fashion32.model; do
    [ -s "$dir/saved/$f.safetensors" ] && ok || bad "$f.safetensors was not written"
done

accept "$ZSEM" info "$dir/saved/fashion32.model.safetensors"

refuse "no row called nosuch" "--list" -- "$ZSEM" bench --rows nosuch
refuse "--runs must be" -- "$ZSEM" bench --runs 0
refuse "one argument too many" -- "$ZSEM" bench train

finish
