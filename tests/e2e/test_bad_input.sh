# SPDX-License-Identifier: MIT
# Bad input gets one sentence that names the file, status 2, and nothing half-written.
. tests/e2e/lib.sh

# two models of one training step each: an autoencoder and a DDPM
train()
{
    "$ZSEM" train "$@" --data share/images --preset fashion32 --steps 1 --batch 2 --quiet --sample-every 0 \
        --set model_channels=8 --set channel_mult=1,2 --set embed_channels=16 --set attention=16 ||
        bad "no model to test with"
}
train autoencoder --out "$dir/autoencoder" --set enc_channel_mult=1,2,2 --set z_dim=8
train ddpm --out "$dir/ddpm"
tiny=$dir/autoencoder/model.safetensors
plain=$dir/ddpm/model.safetensors
image=share/images/$(ls share/images | grep png | head -1)

# the command line itself
refuse "no command 'frobnicate'" reconstruct -- "$ZSEM" frobnicate
refuse --steps integer -- "$ZSEM" reconstruct "$tiny" "$image" --steps many
refuse --nonsense --help -- "$ZSEM" encode "$tiny" "$image" --nonsense 3
refuse usage -- "$ZSEM" encode "$tiny"
refuse "train autoencoder has no use for --shots" -- "$ZSEM" train autoencoder --data share/images \
    --out "$dir/no" --shots 5
refuse "train probe has no use for --preset" -- "$ZSEM" train probe "$tiny" --data share/images \
    --out "$dir/no" --preset ffhq64
refuse "needs a value" -- "$ZSEM" encode "$tiny" "$image" --out
refuse "no function 'frob'" -- "$ZSEM" apply frob --model "$tiny" --in a --out b
refuse --in missing -- "$ZSEM" apply encode --model "$tiny" --out "$dir/z.safetensors"
accept "$ZSEM" --help
accept "$ZSEM" --version
for command in demo train info convert encode reconstruct vary interpolate apply data sample edit \
    eval bench; do
    accept "$ZSEM" "$command" --help
    check "$command --help has examples" test "$(grep -c "^  zsem $command" "$dir/.out")" -ge 2
done

# models that are none
refuse missing.ckpt "No such file" -- "$ZSEM" info "$dir/missing.ckpt"
: >"$dir/empty.ckpt"
refuse empty.ckpt -- "$ZSEM" info "$dir/empty.ckpt"
echo 'this is a letter to my aunt' >"$dir/letter.ckpt"
refuse letter.ckpt -- "$ZSEM" info "$dir/letter.ckpt"
refuse "$dir" -- "$ZSEM" info "$dir"
head -c 3000 "$tiny" >"$dir/short.safetensors"
refuse short.safetensors -- "$ZSEM" info "$dir/short.safetensors"
printf '\xff\xff\xff\xff\xff\xff\xff\x7f{}' >"$dir/huge.safetensors"
refuse huge.safetensors -- "$ZSEM" info "$dir/huge.safetensors"
# a pickle that would run a program
printf '\x80\x02cposix\nsystem\nX\x12\x00\x00\x00touch '"$dir"'/pwned\x85R.' >"$dir/evil.pt"
refuse evil.pt -- "$ZSEM" info "$dir/evil.pt"
check "nothing was executed" test ! -e "$dir/pwned"

# weights that are no numbers, in the part of the model that the command needs
# not_numbers FILE TENSOR: a copy of the model whose TENSOR begins with NaN
not_numbers()
{
    local header at
    header=$(od -An -tu8 -N8 "$tiny" | tr -d ' ')
    at=$(head -c $((8 + header)) "$tiny" | grep -ao "\"$2\":{[^}]*" | sed 's/.*\[\([0-9]*\),[0-9]*\]$/\1/')
    cp "$tiny" "$1"
    printf '\xff\xff\xff\x7f\xff\xff\xff\x7f' |
        dd of="$1" bs=1 seek=$((8 + header + at)) conv=notrunc 2>/dev/null
}
not_numbers "$dir/nan.safetensors" out.0.weight
not_numbers "$dir/nan-encoder.safetensors" encoder.out.0.weight
refuse nan.safetensors "not finite" -- "$ZSEM" vary "$dir/nan.safetensors" "$image" --out "$dir/vary"
for command in encode reconstruct vary; do
    refuse nan-encoder.safetensors "not finite" -- \
        "$ZSEM" "$command" "$dir/nan-encoder.safetensors" "$image" --out "$dir/z.npy"
done

# a wrong model for the command
refuse ddpm encoder -- "$ZSEM" encode "$plain" "$image" --out "$dir/z.npy"
refuse ddpm encoder -- "$ZSEM" vary "$plain" "$image" --out "$dir/vary"
refuse prior -- "$ZSEM" apply prior-eps --model "$plain" --in "$tiny" --out "$dir/o.safetensors"
refuse 'a probe alone is no model' 'share/fashion32.safetensors:encoder+probe' -- \
    "$ZSEM" info share/fashion32.safetensors:probe
refuse 'has no bogus' 'its parts are generator, encoder, prior, probe' -- \
    "$ZSEM" info share/fashion32.safetensors:bogus
refuse 'has no part without a name' -- "$ZSEM" info share/fashion32.safetensors:
"$ZSEM" info share/fashion32.safetensors:encoder >"$dir/.out"
check 'a probe that is left out is no fact' \
    test "$(grep -c 'fingerprint\|attributes' "$dir/.out")" -eq 1
refuse "a generator and this one has none" -- "$ZSEM" sample "$tiny:encoder" --out "$dir/new"
refuse prior -- "$ZSEM" sample "$tiny" --out "$dir/new"
refuse "has neither" -- "$ZSEM" sample "$plain" --class 1 --steps 2 --out "$dir/new"
refuse "guidance of 2" -- "$ZSEM" sample share/fashion32.safetensors --guidance 2 --out "$dir/new"
refuse "10 classes" -- "$ZSEM" sample share/fashion32.safetensors --class 10 --out "$dir/new"
refuse "made for representations of" "another encoder" -- \
    "$ZSEM" sample "share/fashion32.safetensors:prior,$tiny:generator" --out "$dir/new"
refuse "generator takes no representations" -- \
    "$ZSEM" sample "$plain,share/fashion32.safetensors:prior" --out "$dir/new"
check "no folder was made for samples" test ! -e "$dir/new"

# images that are none
: >"$dir/zero.png"
refuse zero.png -- "$ZSEM" encode "$tiny" "$dir/zero.png" --out "$dir/z.npy"
cp "$dir/letter.ckpt" "$dir/letter.png"
refuse letter.png -- "$ZSEM" encode "$tiny" "$dir/letter.png" --out "$dir/z.npy"
head -c 100 "$image" >"$dir/cut.png"
refuse cut.png -- "$ZSEM" encode "$tiny" "$dir/cut.png" --out "$dir/z.npy"
mkfifo "$dir/pipe.png"
refuse pipe.png "regular file" -- timeout 60 "$ZSEM" encode "$tiny" "$dir/pipe.png" --out "$dir/z.npy"
mkdir "$dir/none"
refuse "$dir/none" -- "$ZSEM" encode "$tiny" "$dir/none" --out "$dir/z.npy"
refuse nothere -- "$ZSEM" encode "$tiny" "$dir/nothere*.png" --out "$dir/z.npy"
refuse nothere.png -- "$ZSEM" reconstruct "$tiny" "$dir/nothere.png"
refuse "one image" -- "$ZSEM" vary "$tiny" share/images --out "$dir/vary"
check "no codes were written" test ! -e "$dir/z.npy"

# outputs that cannot be
refuse z.txt .safetensors -- "$ZSEM" encode "$dir/not-read" "$image" --out "$dir/z.txt"
refuse no/such -- "$ZSEM" encode "$tiny" "$image" --out "$dir/no/such/z.npy"
refuse /proc/zsem -- "$ZSEM" reconstruct "$tiny" "$image" --steps 2 --out /proc/zsem
if [ -w /dev/full ]; then
    refuse /dev/full -- "$ZSEM" convert "$tiny" /dev/full/x.safetensors
fi
# a full disk: files larger than the limit cannot be written
full() { (ulimit -f 8; exec "$@"); }
refuse full.safetensors "File too large" -- full "$ZSEM" convert "$tiny" "$dir/full.safetensors"
check "nothing is left of it" test -z "$(find "$dir" -name 'full.safetensors*')"

# standard output that is full
onto_full() { "$@" >/dev/full; }
if [ -w /dev/full ]; then
    refuse "standard output" "No space left" -- onto_full "$ZSEM" info "$tiny"
    refuse "standard output" -- onto_full "$ZSEM" --help
    refuse "standard output" -- onto_full "$ZSEM" vary --help
    refuse "standard output" -- onto_full "$ZSEM" --version
fi

# training
refuse data -- "$ZSEM" train autoencoder --out "$dir/run"
refuse "$dir/none" -- "$ZSEM" train autoencoder --data "$dir/none" --out "$dir/run" --preset fashion32
refuse nosuch fashion32 -- "$ZSEM" train autoencoder --data share/images --out "$dir/run" --preset nosuch
refuse color -- "$ZSEM" train autoencoder --data share/images --out "$dir/run" --preset fashion32 --set color=3
refuse sculpture -- "$ZSEM" train sculpture --data share/images --out "$dir/run"

refuse "$plain" missing -- "$ZSEM" train autoencoder --data share/images --out "$dir/tuned" --preset fashion32 \
    --quiet --init "$plain" --set model_channels=8 --set channel_mult=1,2 --set enc_channel_mult=1,2,2 --set z_dim=8 \
    --set embed_channels=16 --set attention=16
train autoencoder --out "$dir/tuned" --set enc_channel_mult=1,2,2 --set z_dim=8 --init "$tiny" --set lr=1e-12 --seed 5
codes() # rounded: the one step of training moves the last bits
{
    "$ZSEM" encode "$dir/$1/model.safetensors" "$image" --out "$dir/$1.npy" --quiet &&
        od -An -v -tf4 -j128 "$dir/$1.npy" | awk '{ for (i = 1; i <= NF; i++) printf "%.4f ", $i }'
}
check "a run starts from the weights it is given" test "$(codes tuned)" = "$(codes autoencoder)"
train autoencoder --out "$dir/other" --set enc_channel_mult=1,2,2 --set z_dim=8 --set lr=1e-12 --seed 5
check "and from others without --init" test "$(codes other)" != "$(codes autoencoder)"

# not bad at all: one good image and odd ones
accept "$ZSEM" encode "$tiny" "$image" --out "$dir/z.npy"
accept "$ZSEM" encode "$tiny" share/images --out "$dir/z.safetensors" --threads 1
accept "$ZSEM" reconstruct "$tiny" "$image" --steps 2 --out "$dir/rec" --json
check "JSON result" grep -q mean_mse "$dir/.out"
check "grid written" test -s "$dir/rec/grid.png"
# names need not be UTF-8; JSON must be
latin=$dir/$(printf 'caf\xe9.png')
cp "$image" "$latin"
accept "$ZSEM" reconstruct "$tiny" "$latin" --steps 2 --json
check "the name is there" grep -q '"caf?.png"' "$dir/.out"
accept "$ZSEM" encode "$tiny" "$latin" --out "$dir/$(printf 'caf\xe9.npy')" --json
accept "$ZSEM" info "$tiny"
accept "$ZSEM" convert "$tiny" "$dir/half.safetensors" --dtype f16
accept "$ZSEM" info "$dir/half.safetensors" --json
finish
