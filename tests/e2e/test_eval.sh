# SPDX-License-Identifier: MIT
# zsem eval from the command line: numbers that must come out, and a sentence for what cannot be
# measured.
. tests/e2e/lib.sh

# bytes of an npy file: SHAPE TEXT, then little-endian floats from stdin
npy()
{
    local header="{'descr': '<f4', 'fortran_order': False, 'shape': ($2), }"
    while [ $(((10 + ${#header} + 1) % 64)) -ne 0 ]; do header="$header "; done
    {
        printf '\x93NUMPY\x01\x00'
        printf "\\x$(printf %x $((${#header} + 1)))\\x00"
        printf '%s\n' "$header"
        local v
        for v in $3; do printf '%b' "${bits[$v]}"; done
    } >"$1"
}
declare -A bits=(["0"]='\x00\x00\x00\x00' ["1"]='\x00\x00\x80\x3f' ["2"]='\x00\x00\x00\x40'
    ["3"]='\x00\x00\x40\x40' ["-1"]='\x00\x00\x80\xbf' ["nan"]='\x00\x00\xc0\x7f'
    ["inf"]='\x00\x00\x80\x7f')

# says WORDS: the last accepted command printed them
says()
{
    grep -qF -- "$1" "$dir/.out" || bad "no '$1' in: $(cat "$dir/.out")"
}

npy "$dir/a.npy" "4, 2" "0 0 1 0 0 1 1 1"
npy "$dir/b.npy" "4, 2" "2 0 3 0 2 1 3 1"
npy "$dir/wide.npy" "2, 3" "0 1 2 3 2 1"
npy "$dir/nan.npy" "4, 2" "0 0 1 nan 0 1 1 1"
npy "$dir/one.npy" "1, 2" "0 1"

# codes: the means differ by 2 in one direction, the covariances are equal
accept "$ZSEM" eval fid "$dir/a.npy" "$dir/b.npy" --json
says '"fid": 4.0'
accept "$ZSEM" eval rep-fd "$dir/a.npy" "$dir/b.npy" --stats "$dir/b.npz"
says 'rep-FD 4'
accept "$ZSEM" eval fid "$dir/a.npy" "$dir/b.npz"
says 'FID 4'
accept "$ZSEM" eval rep-fd "$dir/a.npy" "$dir/b.npy" --stats "$dir/b.npz"
accept "$ZSEM" eval fid "$dir/a.npy" --stats "$dir/alone.npz"
check "statistics of one set" test -s "$dir/alone.npz"
accept "$ZSEM" eval kid "$dir/a.npy" "$dir/b.npy" --subsets 3 --json
says '"subset_size": 4'
accept "$ZSEM" eval prc "$dir/a.npy" "$dir/b.npy" --neighbours 1 --json
says '"precision": 0.5'
says '"recall": 0.5'
accept "$ZSEM" eval is "$dir/a.npy" --splits 2

# labels: four scores, one tie
npy "$dir/s.npy" "4" "3 2 2 1"
npy "$dir/l.npy" "4" "1 1 0 0"
npy "$dir/celeba.npy" "4" "1 1 -1 -1"
npy "$dir/constant.npy" "4" "1 1 1 1"
npy "$dir/classes.npy" "4" "1 2 3 1"
accept "$ZSEM" eval auroc "$dir/s.npy" "$dir/l.npy" --json
says '"auroc": 0.875'
accept "$ZSEM" eval auroc "$dir/s.npy" "$dir/celeba.npy" --json
says '"auroc": 0.875'
refuse constant.npy "all 4 labels are positive" -- "$ZSEM" eval auroc "$dir/s.npy" "$dir/constant.npy"
refuse classes.npy "labels are 1 for yes" -- "$ZSEM" eval auroc "$dir/s.npy" "$dir/classes.npy"
refuse "each score needs its label" -- "$ZSEM" eval auroc "$dir/s.npy" "$dir/a.npy"

# pairs of images
mkdir "$dir/x" "$dir/y" "$dir/z"
set -- share/images/*.png
cp "$1" "$2" "$dir/x"
cp "$1" "$2" "$dir/y"
cp "$1" "$dir/z"
accept "$ZSEM" eval mse "$dir/x" "$dir/y" --json
says '"mse": 0.0'
accept "$ZSEM" eval ssim "$dir/x" "$dir/y"
says 'SSIM 1'
accept "$ZSEM" eval psnr "$dir/x" "$dir/y" --json
says '"psnr": null'
refuse "has 2 images and" "has 1" -- "$ZSEM" eval mse "$dir/x" "$dir/z"
refuse --alexnet --lin -- "$ZSEM" eval lpips "$dir/x" "$dir/y"
refuse "compares images" -- "$ZSEM" eval mse "$dir/a.npy" "$dir/x"

# sizes that differ
"$ZSEM" reconstruct share/fashion32.safetensors "$dir/z" --steps 10 --out "$dir/w" --quiet ||
    bad "no image of another size"
rm -f "$dir/w/grid.png"
refuse "a pair must have one size" -- "$ZSEM" eval mse "$dir/z" "$dir/w"

# what cannot be measured
echo "this is a letter to my aunt" >"$dir/letter.pth"
refuse "no metric 'fidd'" "fid is kid" -- "$ZSEM" eval fidd "$dir/a.npy" "$dir/b.npy"
refuse "two sets" -- "$ZSEM" eval kid "$dir/a.npy"
refuse "fid has no use for --splits" -- "$ZSEM" eval fid "$dir/a.npy" "$dir/b.npy" --splits 3
refuse nan.npy "feature 1 of sample 1" -- "$ZSEM" eval fid "$dir/nan.npy" "$dir/b.npy"
refuse nan.npy "feature 1 of sample 1" -- "$ZSEM" eval prc "$dir/nan.npy" "$dir/b.npy"
refuse one.npy "at least two samples" -- "$ZSEM" eval fid "$dir/one.npy" "$dir/b.npy"
refuse "must be seen through one network" -- "$ZSEM" eval fid "$dir/a.npy" "$dir/wide.npy"
refuse "add --features" -- "$ZSEM" eval fid "$dir/x" "$dir/y"
refuse missing.npy "No such file" -- "$ZSEM" eval fid "$dir/x" "$dir/missing.npy"
refuse letter.pth -- "$ZSEM" eval fid "$dir/x" "$dir/y" --features "$dir/letter.pth"
refuse a.npy -- "$ZSEM" eval is "$dir/x" --features "$dir/a.npy"
refuse "has no class scores" -- "$ZSEM" eval is "$dir/x" --features share/fashion32.safetensors

# class scores of an encoder of ours
accept "$ZSEM" train encoder --objective supervised --data fashion-mnist:test --preset fashion32 \
    --set model_channels=8 --images 256 --out "$dir/classes" --quiet
accept "$ZSEM" eval is "$dir/x" --features "$dir/classes" --splits 1 --json
says '"dimensions": 10'
refuse "statistics only" -- "$ZSEM" eval kid "$dir/a.npy" "$dir/b.npz"
refuse b.npz "other images" -- "$ZSEM" eval rep-fd "$dir/a.npy" "$dir/a.npy" --limit 3 --stats "$dir/b.npz"
refuse "--resize" "pytorch-fid" -- "$ZSEM" eval fid "$dir/a.npy" "$dir/b.npy" --resize lanczos
refuse "nothing to be compared" -- "$ZSEM" eval fid "$dir/a.npy"

refuse "$dir/z" "kid needs at least 2 samples" -- "$ZSEM" eval kid "$dir/x" "$dir/z" \
    --features share/fashion32.safetensors
refuse "--neighbours needs at least 4 samples" -- "$ZSEM" eval prc "$dir/x" "$dir/y" \
    --features share/fashion32.safetensors

# statistics that are kept belong to one encoder, whatever its file is called
accept "$ZSEM" convert share/fashion32.safetensors "$dir/net.safetensors"
accept "$ZSEM" eval fid "$dir/y" --features "$dir/net.safetensors" --stats "$dir/y.npz"
accept "$ZSEM" eval fid "$dir/x" "$dir/y" --features share/fashion32.safetensors --stats "$dir/y.npz"
accept "$ZSEM" convert share/fashion32.safetensors "$dir/net.safetensors" --dtype bf16
refuse y.npz "another network" -- "$ZSEM" eval fid "$dir/x" "$dir/y" \
    --features "$dir/net.safetensors" --stats "$dir/y.npz"

# too few images for the features: said, and why
accept "$ZSEM" eval fid "$dir/x" "$dir/y" --features share/fashion32.safetensors
check "a warning about few samples" grep -q "cannot fill a covariance" "$dir/.err"
accept "$ZSEM" eval --help
check "eval --help has examples" test "$(grep -c "^  zsem eval" "$dir/.out")" -ge 2
finish
