#!/bin/bash
# SPDX-License-Identifier: MIT
# zsem demo: every section draws its picture, the page holds them all, and what is missing is named.
. "$(dirname "$0")/lib.sh"

# five steps: what the pictures look like is not the point here
accept "$ZSEM" demo --steps 5 --vary-steps 5 --out "$dir/demo" --json
for name in reconstruct vary interpolate edit sample classes; do
    [ "$(head -c 4 "$dir/demo/$name.png" | tail -c 3)" = PNG ] && ok || bad "$name.png is no PNG"
done
for text in mse_inverted mse_random acceptance_rates Trouser index.html; do
    grep -q "$text" "$dir/.out" && ok || bad "no $text in: $(cat "$dir/.out")"
done
[ "$(grep -o '<h2' "$dir/demo/index.html" | wc -l)" -eq 6 ] && ok || bad "not six sections"
[ "$(grep -o 'src="data:image/png' "$dir/demo/index.html" | wc -l)" -eq 6 ] && ok || bad "not six pictures"

# the same seed draws the same pictures, another one does not
accept "$ZSEM" demo --steps 5 --vary-steps 5 --threads 1 --out "$dir/again"
check "another number of threads, other samples" cmp "$dir/demo/sample.png" "$dir/again/sample.png"
accept "$ZSEM" demo --steps 5 --vary-steps 5 --seed 7 --out "$dir/other"
cmp -s "$dir/demo/sample.png" "$dir/other/sample.png" && bad "--seed changes nothing" || ok

refuse fashion32.safetensors -- env ZSEM_SHARE="$dir" "$ZSEM" demo --out "$dir/none"
mkdir -p "$dir/share" && cp share/fashion32.safetensors "$dir/share"
refuse images -- env ZSEM_SHARE="$dir/share" "$ZSEM" demo --out "$dir/none"
refuse steps -- "$ZSEM" demo --steps 1001 --out "$dir/none"

finish
