# SPDX-License-Identifier: MIT
# With any amount of memory a command ends soon: it does the same work as ever, or says in one
# sentence what could not be had, with status 2 and nothing half-written.
. tests/e2e/lib.sh

# sanitizers reserve terabytes of addresses
(ulimit -v 4000000 && "$ZSEM" --version) >/dev/null 2>&1 || { echo "SKIPPED: no address limits"; exit 0; }

small="--set model_channels=8 --set channel_mult=1,2 --set embed_channels=16 --set attention=16"
images=$(ls share/images/*.png | head -3)
tiny=$dir/tiny/model.safetensors

# shellcheck disable=SC2086 # the lists of options are lists
train="$ZSEM train autoencoder --data share/images --preset fashion32 --steps 2 --batch 4
    --sample-every 0 --set enc_channel_mult=1,2,2 --set z_dim=8 --seed 3 $small --quiet"
$train --out "$dir/tiny" || bad "no model to test with"
accept "$ZSEM" encode "$tiny" share/images --out "$dir/codes.safetensors"

# limited KIB COMMAND...: with an address space of so many KiB
limited()
{
    (ulimit -v "$1" && shift && exec timeout -k 1 10 "$@" >"$dir/.out" 2>"$dir/.err" </dev/null)
}

# body FILE: without the header, which holds the seconds that a training took
body()
{
    local skip=0
    case $1 in *.safetensors) skip=$((8 + $(od -An -tu8 -N8 "$1" | tr -d ' '))) ;; esac
    echo "$1 $(tail -c +$((1 + skip)) "$1" | cksum)"
}

# What a run left behind, without what tells the time
result()
{
    find "$dir/work" -type f ! -name '*.html' ! -name '*.tfevents*' ! -name 'log.json*' | sort |
        while read -r file; do body "$file"; done
}

# starve NAME COMMAND...: puts its files below $dir/work
starve()
{
    local name=$1 kib status want enough=0 refused=0
    shift
    rm -rf "$dir/work" && mkdir "$dir/work"
    accept "$@"
    want=$(result)
    for kib in 12000 22000 32000 45000 60000 90000 800000; do
        rm -rf "$dir/work" && mkdir "$dir/work"
        limited $kib "$@"
        status=$?
        if [ $status -eq 0 ]; then
            enough=$((enough + 1))
            [ "$(result)" = "$want" ] || bad "$name with $kib KiB: other results"
        elif grep -q "error while loading shared libraries" "$dir/.err"; then
            [ $kib -le 18000 ] || bad "$name with $kib KiB: $(cat "$dir/.err")"
        elif [ $status -ne 2 ] || [ "$(grep -c '^zsem: ' "$dir/.err")" -ne 1 ]; then
            bad "$name with $kib KiB: status $status: $(head -c 300 "$dir/.err")"
        else
            refused=$((refused + 1))
            grep -q "memory" "$dir/.err" || bad "$name with $kib KiB: $(cat "$dir/.err")"
        fi
        [ -z "$(find "$dir/work" -name '*.part' -o -name '*.tmp*')" ] ||
            bad "$name with $kib KiB: a file is half-written"
        ok
    done
    [ $enough -gt 0 ] || bad "$name: never enough memory: $(cat "$dir/.err")"
    echo "$name: enough $enough times, refused $refused times"
}

# shellcheck disable=SC2086
{
    starve info "$ZSEM" info "$tiny"
    starve encode "$ZSEM" encode "$tiny" $images --out "$dir/work/z.safetensors"
    starve reconstruct "$ZSEM" reconstruct "$tiny" $images --steps 2 --out "$dir/work/out"
    starve convert "$ZSEM" convert "$tiny" "$dir/work/model.safetensors"
    starve pack "$ZSEM" data pack share/images "$dir/work/images.tar" --size 16 --quiet
    starve autoencoder $train --out "$dir/work/run"
    starve prior "$ZSEM" train prior "$tiny" --data share/images --steps 2 --batch 4 --quiet \
        --out "$dir/work/run"
    starve mse "$ZSEM" eval mse share/images share/images --quiet
    starve bench "$ZSEM" bench --rows eps-fashion32-n1 --runs 1 --quiet
}
finish
