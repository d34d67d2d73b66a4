# SPDX-License-Identifier: MIT
# What the scripts that make tables of results share; read with `.`, not run. Wants $zsem, $runs,
# $seed and $features.

mkdir -p "$runs/numbers" "$runs/samples"

# once NAME COMMAND...: keeps what the command prints, as numbers/NAME.json, and does not repeat it.
once()
{
    number=$runs/numbers/$1
    shift
    [ -s "$number.json" ] && return
    "$@" --json >"$number.tmp"
    mv "$number.tmp" "$number.json"
}

# draw NAME COMMAND...: as once, for a command that writes images: into samples/NAME. A grid is no
# sample, and FID would count it: it goes beside the folder.
draw()
{
    out=$runs/samples/$1
    [ -s "$runs/numbers/draw-$1.json" ] || rm -rf "$out"
    drawn=$1
    shift
    once "draw-$drawn" "$@" --out "$out" --seed "$seed" --batch 100
    [ ! -f "$out/grid.png" ] || mv "$out/grid.png" "$out.png"
}

# fid NAME SET STATISTICS [SAMPLES]: of samples/SAMPLES (NAME) from SET, in the classifier's eyes.
fid()
{
    once "fid-$1" "$zsem" eval fid "$runs/samples/${4:-$1}" "$2" --features "$features" \
        --stats "$runs/$3.npz" --batch 100
}

# all numbers, one line each
list_numbers()
{
    for f in "$runs"/numbers/*.json; do
        printf '%s ' "$(basename "$f" .json)"
        # members of the object itself, which are indented by one space
        grep -E '^ "(fid|is|mean_mse|mean_ssim|mean_auroc|accuracy|acceptance_rate|rep_fd)":' "$f" |
            tr -d '\n'
        echo
    done
}
