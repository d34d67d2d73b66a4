# SPDX-License-Identifier: MIT
# zsem data: conversions give the same set again, bad input gets one sentence, and nothing is left of
# what was not finished.
. tests/e2e/lib.sh

images=share/images
count=$(find $images -name '*.png' | wc -l)

# there and back
accept "$ZSEM" data pack $images "$dir/a.lmdb" --quiet
accept "$ZSEM" data pack "$dir/a.lmdb" "$dir/a.tar" --quiet
accept "$ZSEM" data pack "$dir/a.tar" "$dir/shards" --shard 7 --quiet
accept "$ZSEM" data pack "$dir/shards/*.tar" "$dir/folder" --quiet
for f in $(cd $images && find . -name '*.png'); do
    check "$f is the same after four conversions" cmp -s $images/"$f" "$dir/folder/$f"
done
accept "$ZSEM" data info "$dir/shards/*.tar" --json --quiet
check "the count is right" grep -q "\"images\": $count" "$dir/.out"
accept "$ZSEM" data info "$dir/folder" --out "$dir/grid.png" --quiet
check "a grid is written" test -s "$dir/grid.png"
accept "$ZSEM" data pack "$dir/folder" "$dir/small.lmdb" --size 16 --channels 1 --quiet
accept "$ZSEM" data info "$dir/small.lmdb"
check "images have the size asked for" grep -q "16 x 16: $count images" "$dir/.out"
check "and the channels" grep -q "0 colour, $count grey" "$dir/.out"
accept "$ZSEM" data pack "$dir/folder" "$dir/second" --quiet

# the command line
refuse "not one of info, pack" -- "$ZSEM" data frob "$dir/folder"
refuse usage -- "$ZSEM" data pack "$dir/folder"
refuse "data info has no use for --size" -- "$ZSEM" data info "$dir/folder" --size 8
refuse "exists already" -- "$ZSEM" data pack $images "$dir/folder"
refuse "exists already" -- "$ZSEM" data pack $images "$dir/a.tar"
refuse "folder, tar or lmdb" -- "$ZSEM" data pack $images "$dir/o" --to zip
refuse --shard -- "$ZSEM" data pack $images "$dir/o" --to lmdb --shard 5
refuse --fit -- "$ZSEM" data pack $images "$dir/o" --fit stretch

# files that were cut short
head -c 9000 "$dir/a.lmdb/data.mdb" >"$dir/cut.mdb"
refuse cut.mdb "cut short" -- "$ZSEM" data info "$dir/cut.mdb"
head -c 4608 "$dir/a.tar" >"$dir/cut.tar"
refuse cut.tar "cut short" -- "$ZSEM" data info "$dir/cut.tar"

# unreadable images, mixed sizes, names that collide
cp -r "$dir/folder" "$dir/bad"
echo 'no image' >"$dir/bad/broken.png"
refuse broken.png "not a PNG" --skip-bad -- "$ZSEM" data pack "$dir/bad" "$dir/o"
check "nothing remains" test -z "$(find "$dir" -name 'o*' -not -name '*.out')"
accept "$ZSEM" data pack "$dir/bad" "$dir/good" --skip-bad
check "the bad one is named" grep -q "left out: .*broken.png" "$dir/.err"
check "and left out" test "$(find "$dir/good" -name '*.png' | wc -l)" -eq "$count"
accept "$ZSEM" data info "$dir/bad"
check "info counts it" grep -q "unreadable *1 images" "$dir/.out"
cp "$dir/grid.png" "$dir/folder/zz-large.png"
refuse zz-large.png "one size" --size -- "$ZSEM" data pack "$dir/folder" "$dir/o.lmdb"
cp "$dir/grid.png" "$dir/folder/zz-large.webp"
refuse zz-large.webp "would both" --rename -- "$ZSEM" data pack "$dir/folder" "$dir/o.tar" --size 16
accept "$ZSEM" data pack "$dir/folder" "$dir/numbered.tar" --size 16 --rename --quiet

# Ctrl-C: status of an interruption, and nothing of the output
"$ZSEM" data pack fashion-mnist "$dir/large" --size 64 --quiet >"$dir/.out" 2>"$dir/.err" &
pid=$!
for _ in $(seq 100); do
    ls -d "$dir"/large.tmp-* >/dev/null 2>&1 && break
    sleep 0.1
done
kill -INT $pid
wait $pid
check "an interrupted pack fails" test $? -ne 0
check "and leaves nothing" test -z "$(find "$dir" -maxdepth 1 -name 'large*')"

finish
