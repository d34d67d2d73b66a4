# SPDX-License-Identifier: MIT
# kill -9 at ten random moments of a training run, the same command again after each: the final
# weights are those of the run that nobody disturbed, bit for bit. So with Ctrl-C.
. tests/e2e/lib.sh

train()
{
    "$ZSEM" train autoencoder --data share/images --out "$1" --preset fashion32 --seed 11 \
        --set model_channels=8 --set channel_mult=1,2 --set enc_channel_mult=1,2,2 --set z_dim=8 \
        --set embed_channels=16 --set attention=16 --batch 4 --steps 60 --checkpoint-every 2 --keep 2 --quiet
}

weights() { ls "$1"/checkpoints/*.safetensors | sort | tail -1; }

train "$dir/whole" || bad "the undisturbed run failed"
kills=0
for i in 1 2 3 4 5 6 7 8 9 10; do
    train "$dir/killed" >/dev/null 2>&1 &
    pid=$!
    sleep "0.$((RANDOM % 9 + 1))"
    if kill -9 "$pid" 2>/dev/null; then kills=$((kills + 1)); fi
    wait "$pid" 2>/dev/null
done
train "$dir/killed" || bad "the last resume failed"
check "some kills hit a running process ($kills)" test "$kills" -ge 3
check "killed and resumed equals undisturbed" cmp "$(weights "$dir/whole")" "$(weights "$dir/killed")"
check "no temporary file is left in checkpoints" test -z "$(find "$dir/killed" -name '*.tmp-*' -newer "$dir/killed/config.json" -size +1M)"

train "$dir/stopped" >/dev/null 2>&1 &
pid=$!
sleep 0.7
kill -INT "$pid" 2>/dev/null
wait "$pid"
train "$dir/stopped" || bad "resume after SIGINT failed"
check "stopped and resumed equals undisturbed" cmp "$(weights "$dir/whole")" "$(weights "$dir/stopped")"
finish
