# SPDX-License-Identifier: MIT
# Ranks that are killed, stopped, started wrongly or find damage: what is said, what is left, and
# that the run goes on afterwards on any number of ranks.
. tests/e2e/lib.sh

# without a message-passing library each process would do all of the work
refuse 'mpirun started 4 processes' 'libopenmpi-dev' 'ZSEM_ALONE' -- \
    env OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_RANK=0 ZSEM_MODULES="$dir" "$ZSEM" train ddpm --data share/images
env OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_RANK=2 ZSEM_MODULES="$dir" "$ZSEM" train ddpm >"$dir/.out" 2>&1
check 'the others say nothing' test ! -s "$dir/.out"
accept env OMPI_COMM_WORLD_SIZE=4 ZSEM_ALONE=1 ZSEM_MODULES="$dir" "$ZSEM" info share/fashion32.safetensors

# what each of them knows is said by one
for asked in --help --version 'help train'; do
    for rank in 0 2; do # word splitting is wanted
        OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_RANK=$rank "$ZSEM" $asked >"$dir/said$rank" 2>&1
    done
    check "rank 0 answers $asked" grep -q zsem "$dir/said0"
    check "the others do not: $asked" test ! -s "$dir/said2"
done
OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_RANK=2 "$ZSEM" >"$dir/.out" 2>&1
check 'without a command the others let one speak' test "$?" -eq 0
check 'and say nothing themselves' test ! -s "$dir/.out"

if ! command -v mpirun >/dev/null || [ ! -r "$(dirname "$ZSEM")/zsem-mpi.so" ]; then
    echo 'SKIPPED: no mpirun or no MPI module; scripts/setup mpi installs what is missing'
    finish
    exit
fi

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export ASAN_OPTIONS=detect_leaks=0 # Open MPI's own
ranks=(mpirun --bind-to none -n)
for asked in '--help' 'train --help'; do
    "${ranks[@]}" 3 "$ZSEM" $asked >"$dir/said" 2>&1 </dev/null
    check "one answer to $asked" test "$(grep -c '^usage: ' "$dir/said")" -eq 1
done
"${ranks[@]}" 3 "$ZSEM" train --nonsense 1 >"$dir/said" 2>&1 </dev/null
check 'one sentence about a wrong option' test "$(grep -c '^zsem: ' "$dir/said")" -eq 1
refuse 'mpiexec started 4 processes' 'finds 1' -- env PMI_SIZE=4 PMI_RANK=0 "$ZSEM" info share/fashion32.safetensors

cp -r share/images "$dir/pictures"
tiny=(train autoencoder --data "$dir/pictures" --preset fashion32 --seed 11 --set model_channels=8
    --set channel_mult=1,2 --set enc_channel_mult=1,2,2 --set z_dim=8 --set embed_channels=16
    --set attention=16 --batch 8 --sample-every 0 --log-every 1 --bucket-mb 0.05)

# said WORDS...: each is in the last job's output
said()
{
    for word in "$@"; do
        grep -qF -- "$word" "$dir/said" || { bad "no '$word' in: $(cat "$dir/said")"; return; }
    done
    ok
}

# job RANKS ARGUMENTS...: in the background; $job is mpirun, ${members[@]} its ranks once they train
job()
{
    "${ranks[@]}" "$1" "$ZSEM" "${@:2}" >"$dir/said" 2>&1 </dev/null &
    job=$!
}

# trains RUN STEP: waits until the run has logged that step
trains()
{
    for _ in $(seq 600); do
        grep -q "\"step\":$2," "$1/log.jsonl" 2>/dev/null && break
        sleep 0.1
    done
    mapfile -t members < <(pgrep -P "$job")
}

# ended STATUS: waits for mpirun, whose status must be that, or any failure for "failed"
ended()
{
    local status=0
    wait "$job" || status=$?
    if [ "$1" = failed ]; then
        check "mpirun failed: $(cat "$dir/said")" test "$status" -ne 0
    else
        check "status $status of mpirun: $(cat "$dir/said")" test "$status" -eq "$1"
    fi
    local left # mpirun does not wait until those whom it told to end have done so
    for _ in $(seq 100); do
        left=
        for pid in "${members[@]}"; do
            case $(ps -o stat= -p "$pid") in '' | Z*) ;; *) left="$left $pid" ;; esac
        done
        [ -n "$left" ] || break
        sleep 0.1
    done
    check "ranks are left:$left" test -z "$left"
}

steps_done()
{
    find "$1/checkpoints" -name 'step-*.safetensors' | sort | tail -n 1 | sed 's/.*step-0*//; s/\..*//'
}

run=$dir/run
whole=("$ZSEM" "${tiny[@]}" --quiet --steps 16 --out "$dir/whole")
accept "${whole[@]}"

# kill -9 of one rank of four
job 4 "${tiny[@]}" --steps 100000 --checkpoint-every 2 --out "$run"
trains "$run" 3
kill -9 "${members[2]}"
ended failed
said 'rank 2' 'signal 9'
check 'nothing is half written' test -z "$(find "$run" -name '*.safetensors' -size 0)"
at=$(steps_done "$run")
check 'a checkpoint is there' test "$at" -ge 2

# it goes on with two, is asked to stop, goes on with four and with one
job 2 "${tiny[@]}" --steps 100000 --out "$run"
trains "$run" $((at + 5)) # beyond what the killed run may have logged
kill -USR1 "$job"
ended 130
said "resuming at step $at" 'stopped on request at step'
now=$(steps_done "$run")
check 'it went on' test "$now" -ge $((at + 5))
said "stopped on request at step $now,"
check 'temporary files are swept away' test -z "$(find "$run" -name '*.tmp-*')"
job 4 "${tiny[@]}" --steps $((now + 2)) --out "$run"
ended 0
said "resuming at step $now"
accept "$ZSEM" "${tiny[@]}" --steps $((now + 3)) --out "$run"
check 'one rank went on' test "$(steps_done "$run")" -eq $((now + 3))

# Ctrl-C
job 2 "${tiny[@]}" --steps 100000 --out "$run"
trains "$run" $((now + 5))
kill -INT "$job"
ended failed
check 'Ctrl-C saves' test "$(steps_done "$run")" -ge $((now + 5))

# a rank that does not answer
job 3 "${tiny[@]}" --batch 6 --steps 100000 --comm-timeout 2 --out "$dir/silent"
trains "$dir/silent" 2
kill -STOP "${members[1]}"
ended failed
said 'has waited' 'for rank 1 (' '--comm-timeout'
check 'rank 0 has saved' test "$(steps_done "$dir/silent")" -ge 2

# what cannot be shared, and another job in the same folder
job 3 "${tiny[@]}" --steps 2 --out "$dir/odd"
ended 2
said 'a batch of 8 cannot be shared by 3 ranks' '--batch 9'
check 'nothing was made' test ! -e "$dir/odd"
job 2 "${tiny[@]}" --steps 100000 --out "$run"
first=$job
trains "$run" $(($(steps_done "$run") + 3)) # beyond what is logged already
members=() # those of the second job are of interest
job 2 "${tiny[@]}" --steps 100000 --out "$run"
ended 2
said 'another process is training in this folder'
kill -USR1 "$first"
wait "$first"
job 2 reconstruct share/fashion32.safetensors share/images
ended 2
said 'reconstruct: works in one process'

# other data on one machine: each rank works in a folder of its own
cat >"$dir/each" <<SH
#!/bin/sh
cd "$dir/at\$OMPI_COMM_WORLD_RANK" && exec "$ZSEM" "\$@"
SH
chmod +x "$dir/each"
mkdir "$dir/at0" "$dir/at1"
cp -r "$dir/pictures" "$dir/at0/data"
cp -r "$dir/pictures" "$dir/at1/data"
rm "$dir/at1/data/0004-shirt.png"
"${ranks[@]}" 2 "$dir/each" "${tiny[@]}" --data data --steps 2 --out "$dir/differ" >"$dir/said" 2>&1
said 'rank 1 (' 'other images in data than rank 0'
check 'nothing was made of other data' test ! -e "$dir/differ"

# an image that cannot be read, on rank 1 alone: all end, and rank 0 has saved
cp "$dir/pictures/0004-shirt.png" "$dir/at1/data/"
dd if=/dev/zero of="$dir/at1/data/0004-shirt.png" bs=1 count=60 conv=notrunc 2>/dev/null
"${ranks[@]}" 2 "$dir/each" "${tiny[@]}" --data data --steps 100 --out "$dir/damaged" >"$dir/said" 2>&1
said 'rank 1 (' '0004-shirt.png'
check "one sentence: $(cat "$dir/said")" test "$(grep -c "^zsem: " "$dir/said")" -eq 1
check 'what was done is saved' test -f "$dir/damaged/model.safetensors"
finish
