# SPDX-License-Identifier: MIT
# Ranks on machines that are not alike: each rank has a working folder and an environment of its
# own, as it has on a machine of its own. What may differ works, what may not is one sentence.
. tests/e2e/lib.sh

# under Slurm, but nobody says how tasks find each other, which all of them see
slurm=(env SLURM_STEP_NUM_TASKS=2 SLURM_LOCALID=0)
refuse 'srun started 2 processes' '--mpi=pmix' -- "${slurm[@]}" SLURM_PROCID=0 "$ZSEM" train ddpm
"${slurm[@]}" SLURM_PROCID=1 "$ZSEM" train ddpm >"$dir/.out" 2>&1
check 'the second task says nothing' test ! -s "$dir/.out"

# the module is missing: one process of each machine says so
refuse 'rank 4 (' 'zsem-mpi.so' -- env OMPI_COMM_WORLD_SIZE=8 OMPI_COMM_WORLD_RANK=4 \
    OMPI_COMM_WORLD_LOCAL_RANK=0 ZSEM_MODULES="$dir" "$ZSEM" train ddpm
env OMPI_COMM_WORLD_SIZE=8 OMPI_COMM_WORLD_RANK=5 OMPI_COMM_WORLD_LOCAL_RANK=1 ZSEM_MODULES="$dir" \
    "$ZSEM" train ddpm >"$dir/.out" 2>&1
check 'its neighbours say nothing' test ! -s "$dir/.out"

if ! command -v mpirun >/dev/null || [ ! -r "$(dirname "$ZSEM")/zsem-mpi.so" ]; then
    echo 'SKIPPED: no mpirun or no MPI module; scripts/setup mpi installs what is missing'
    finish
    exit
fi

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export ASAN_OPTIONS=detect_leaks=0 # Open MPI's own

# Two machines as far as Open MPI knows: it starts its daemon on each through what stands for ssh
# here, and their ranks reach each other by TCP.
cat >"$dir/ssh" <<SH
#!/bin/sh
while [ "\${1#-}" != "\$1" ]; do shift; done
echo \$\$ >"$dir/\$1"
export TMPDIR="$dir/tmp-\$1" # daemons of one job are not meant to share it
mkdir -p "\$TMPDIR"
shift
exec sh -c "\$*"
SH
chmod +x "$dir/ssh"
machines=(mpirun --bind-to none --mca plm_rsh_agent "$dir/ssh" --mca oob_tcp_if_include lo
    --mca btl_tcp_if_include lo --mca btl tcp,self --host 127.0.0.2:1,127.0.0.3:1)
if [ "$("${machines[@]}" hostname 2>/dev/null </dev/null | wc -l)" -ne 2 ]; then
    echo 'SKIPPED: this MPI has no daemons on 127.0.0.x; the ranks are neighbours'
    machines=(mpirun --bind-to none -n 2)
    export OMPI_MCA_rmaps_base_oversubscribe=1
fi

# at0 and at1 are the machines; settings in at1/env are that machine's alone
cat >"$dir/each" <<SH
#!/bin/sh
cd "$dir/at\$OMPI_COMM_WORLD_RANK" && [ ! -e env ] || . ./env
exec "$ZSEM" "\$@"
SH
chmod +x "$dir/each"
fresh()
{
    rm -rf "$dir/at0" "$dir/at1"
    mkdir "$dir/at0" "$dir/at1"
    for i in 0 1; do
        cp -r share/images "$dir/at$i/data"
        ln -s "$PWD/share/fashion32.safetensors" "$dir/at$i/model.safetensors"
    done
}

# apart ARGUMENTS...: two ranks; what they say is left in $dir/said
apart()
{
    status=0
    "${machines[@]}" "$dir/each" "$@" >"$dir/said" 2>&1 </dev/null || status=$?
}

# works WORDS...: the last job did, and said these
works()
{
    check "status $status: $(cat "$dir/said")" test "$status" -eq 0
    for word in "$@"; do
        check "no '$word' in: $(cat "$dir/said")" grep -qF -- "$word" "$dir/said"
    done
}

# fails WORDS...: the last job did, with one sentence that has these in it
fails()
{
    check "status $status instead of 2: $(cat "$dir/said")" test "$status" -eq 2
    check "one sentence: $(cat "$dir/said")" test "$(grep -c '^zsem: ' "$dir/said")" -eq 1
    for word in "$@"; do
        check "no '$word' in: $(cat "$dir/said")" grep -q -- "^zsem: .*$word" "$dir/said"
    done
}

tiny=(train autoencoder --data data --preset fashion32 --seed 11 --set model_channels=8
    --set channel_mult=1,2 --set enc_channel_mult=1,2,2 --set z_dim=8 --set embed_channels=16
    --set attention=16 --batch 8 --sample-every 0 --log-every 1 --quiet --out run)

# no module, no data, another model on the second
fresh
echo "export ZSEM_MODULES=/nowhere OMPI_COMM_WORLD_LOCAL_RANK=0" >"$dir/at1/env"
apart "${tiny[@]}" --steps 2
fails 'rank 1 (' 'zsem-mpi.so'
fresh
rm -r "$dir/at1/data"
apart "${tiny[@]}" --steps 2
fails 'rank 1 (' 'data'
check 'nothing was made without data' test ! -e "$dir/at0/run"
fresh
rm "$dir/at1/model.safetensors"
apart sample model.safetensors -n 2 --batch 1 --steps 2 --out new
fails 'rank 1 (' 'model.safetensors'
apart encode model.safetensors data --out codes.npy
fails 'rank 1 (' 'model.safetensors'
check 'nothing was encoded' test ! -e "$dir/at0/codes.npy"

# an older processor: sums and steps are the same numbers on all, which the first step of each
# session checks, and each goes on with the folder of rank 0
fresh
echo 'export ZSEM_ISA=v2' >"$dir/at1/env"
apart "${tiny[@]}" --steps 2
works
apart "${tiny[@]}" --steps 4
works
check 'four steps' test -f "$dir/at0/run/checkpoints/step-00000004.safetensors"
check 'the second machine has no folder of the run' test ! -e "$dir/at1/run"

# another model
rm "$dir/at1/model.safetensors" "$dir/at1/env"
cp "$dir/at0/run/model.safetensors" "$dir/at1/"
prior=(train prior model.safetensors --data data --set layers=2 --set hidden=16 --views 1 --batch 4
    --steps 2 --sample-every 0 --log-every 0 --quiet)
apart "${prior[@]}" --out prior
fails 'rank 1 (' 'reads another model'

# folders that are not shared: codes reach rank 0 anyway, images stay and that is said
fresh
apart "${prior[@]}" --out prior
works
accept env -C "$dir/at0" "$ZSEM" "${prior[@]}" --out alone
check 'codes are those of one rank' cmp "$dir/at0/prior/codes.safetensors" \
    "$dir/at0/alone/codes.safetensors"
check 'the second machine has no folder of the prior' test ! -e "$dir/at1/prior"
apart sample model.safetensors -n 4 --batch 1 --steps 2 --out new
works 'new is another folder on ' 'for 1 of 2 ranks'
check 'halves' test -f "$dir/at0/new/000001.png" -a -f "$dir/at1/new/000002.png" \
    -a ! -e "$dir/at0/new/000002.png" -a -f "$dir/at0/new/grid.png"
check 'no mark is left' test -z "$(find "$dir" -name '.ranks-*')"
apart sample model.safetensors -n 4 --batch 1 --steps 2 --out "$dir/new"
works
check 'a shared folder is no news' test "$(grep -c 'another folder' "$dir/said")" -eq 0
check 'the same images' cmp "$dir/at1/new/000003.png" "$dir/new/000003.png"

# a machine is gone in the middle of a run: mpirun says which, and the run goes on elsewhere
below()
{
    local pid
    for pid in $(pgrep -P "$1"); do
        below "$pid"
        echo "$pid"
    done
}
if [ -r "$dir/127.0.0.3" ]; then
    "${machines[@]}" "$dir/each" "${tiny[@]}" --steps 100000 --checkpoint-every 2 --out lost \
        >"$dir/said" 2>&1 </dev/null &
    job=$!
    for _ in $(seq 600); do
        grep -q '"step":5,' "$dir/at0/lost/log.jsonl" 2>/dev/null && break
        sleep 0.1
    done
    read -r pid <"$dir/127.0.0.3"
    mapfile -t gone < <(below "$pid")
    kill -9 "$pid" "${gone[@]}"
    status=0
    wait "$job" || status=$?
    check "mpirun failed: $(cat "$dir/said")" test "$status" -ne 0
    check "a daemon is named: $(cat "$dir/said")" grep -q 'daemon' "$dir/said"
    check 'nothing is half written' test -z "$(find "$dir/at0/lost" -name '*.safetensors' -size 0)"
    last=$(find "$dir/at0/lost/checkpoints" -name 'step-*' | sort | tail -n 1 |
        sed 's/.*step-0*//; s/\..*//')
    check 'a checkpoint is there' test "${last:-0}" -ge 4
    last=$((last + 2))
    accept env -C "$dir/at0" "$ZSEM" "${tiny[@]}" --steps $last --out lost
    last=$(printf 'step-%08d.safetensors' $last)
    check 'it went on' test -f "$dir/at0/lost/checkpoints/$last"
fi
finish
