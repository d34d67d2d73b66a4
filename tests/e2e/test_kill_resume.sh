# SPDX-License-Identifier: MIT
# kill -9 at ten random moments of a training run, the same command again after each: the final
# weights are those of the run that nobody disturbed, bit for bit. So with Ctrl-C.
. tests/e2e/lib.sh

# the command itself, so that $! is the program and not a shell around it
train=("$ZSEM" train autoencoder --data share/images --preset fashion32 --seed 11 --set model_channels=8
    --set channel_mult=1,2 --set enc_channel_mult=1,2,2 --set z_dim=8 --set embed_channels=16
    --set attention=16 --batch 4 --steps 60 --checkpoint-every 2 --keep 2 --quiet)

# The tensors of the newest checkpoint: what follows the header of a safetensors file, which also
# holds the time that the run took. Weights, their average and Adam's moments are all in there.
tensors()
{
    local file
    file=$(find "$1/checkpoints" -name '*.safetensors' | sort | tail -1)
    local header
    header=$(od -An -tu8 -N8 "$file")
    tail -c "+$((header + 9))" "$file"
}

same()
{
    tensors "$1" >"$dir/a" && tensors "$2" >"$dir/b" && [ -s "$dir/a" ] && cmp "$dir/a" "$dir/b"
}

"${train[@]}" --out "$dir/whole" || bad "the undisturbed run failed"
# a run that ends between two kills is compared, and a fresh one takes the remaining kills
kills=0
rounds=0
while [ "$kills" -lt 10 ] && [ "$rounds" -lt 200 ]; do
    rounds=$((rounds + 1))
    "${train[@]}" --out "$dir/killed" >/dev/null 2>&1 &
    pid=$!
    sleep "0.$((RANDOM % 9))$((RANDOM % 10))"
    if kill -9 "$pid" 2>/dev/null; then kills=$((kills + 1)); fi
    status=0
    wait "$pid" 2>/dev/null || status=$?
    if [ "$status" -eq 0 ]; then
        check "killed and resumed equals undisturbed" same "$dir/whole" "$dir/killed"
        rm -rf "$dir/killed"
    fi
done
check "ten kills hit a running process" test "$kills" -eq 10
"${train[@]}" --out "$dir/killed" || bad "the last resume failed"
check "killed and resumed equals undisturbed" same "$dir/whole" "$dir/killed"
check "old temporary files are swept away" test -z "$(find "$dir/killed" -name '*.tmp-*')"

"${train[@]}" --out "$dir/stopped" >/dev/null 2>&1 &
pid=$!
sleep 0.7
kill -INT "$pid" 2>/dev/null
wait "$pid"
"${train[@]}" --out "$dir/stopped" || bad "resume after SIGINT failed"
check "stopped and resumed equals undisturbed" same "$dir/whole" "$dir/stopped"
finish
