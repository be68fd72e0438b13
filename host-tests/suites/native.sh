# Natively: goroutines as Linux processes (arch/host/process, runtime/native), and
# the heap as the malloc of Linux programs (arch/host/native, tools/bench-heap).

for cpus in 1 2 4; do
    add "host/go-goroutines-${cpus}cpu" native_tap "$cpus" '' +host-go
done
for seed in 1 2 3 4 5 6; do
    add "host/go-preempt-$seed" native_tap $((1 + seed % 4)) "stress=preempt seed=$seed" +host-go
done
for cpus in 1 2; do
    add "host/go-panic-${cpus}cpu" native_dies "$cpus" '' panic '^panic: runtime error: .*nil pointer' \
        "$waiter" "$sleeper" "$looper" "#[0-9]+ .* wait_for_ever\+" +host-go
    add "host/go-overflow-${cpus}cpu" native_dies "$cpus" '' overflow \
        '^runtime: goroutine stack exceeds 1048576-byte limit' \
        '^fatal error: stack overflow \(goroutine [0-9]+, deep\)' ' deep\+' "$waiter" +host-go
done
add host/go-negative native_dies 2 '' negative '^panic: sync: negative WaitGroup counter' \
    "$waiter" +host-go
for cpus in 1 2 4; do
    add "host/go-suspend-${cpus}cpu" native_points "$cpus" sched.slice=1 suspend 100 +host-go
done
add host/go-suspend-stress native_points 4 "stress=preempt seed=9" suspend 100 +host-go
for cpus in 1 2 4; do
    for image in chan chan_files sync tasks atomic time context fair; do
        add "host/go-$image-${cpus}cpu" native_points "$cpus" '' go_$image +host-go
    done
    add "host/go-try-${cpus}cpu" native_points "$cpus" '' go_panic host +host-go
done
add host/go-chan-stress native_points 4 "stress=preempt seed=3" go_chan 50 +host-go
add host/go-sync-stress native_points 4 "stress=preempt seed=3" go_sync 200 +host-go
add host/go-tasks-stress native_points 4 "stress=preempt seed=3" go_tasks 200 +host-go
for cpus in 2 4; do
    add "host/go-litmus-${cpus}cpu" native_points "$cpus" '' go_litmus +host-go
done
add host/go-gen native_points 3 '' go_gen 5001 300 +host-go
add host/go-misuse native_ends 2 misuse '^fatal error: sync: unlock of unlocked mutex$' ' misuse\+' +host-go
add host/go-deadlock native_ends 2 deadlock '^fatal error: all goroutines are asleep - deadlock!' \
    '^goroutine 1 \[chan receive\]: main' +host-go
add host/go-unrecovered native_ends 2 nil '^panic: runtime error: invalid memory address or nil' \
    ' nil_deref\+' +host-go
add host/go-pin native_pin +host-go
for cpus in 1 2; do
    add "host/go-sleep-${cpus}cpu" native_sleep "$cpus" +host-go
done
add host/go-watch native_watch +host-go
add host/go-key native_key +host-go
add host/go-wrong native_wrong +host-go
add host/go-ring native_same @ring +host-go
add host/go-mergesort native_same @mergesort +host-go
add host/go-pwordcount native_same @pwordcount +host-go

# Runs what make host-go has built, as tools/test's guest.
native() # CPUs, options, program, argument...
{
    local dir=$root/build/host/$3
    case $CC in *clang*) dir+=-clang ;; esac
    echo "\$ GN_CPUS=$1 GN_OPTS='$2' $dir/$3 ${*:4}"
    GN_CPUS=$1 GN_OPTS=$2 timeout $TIMEOUT_S "$dir/$3" "${@:4}" >out 2>err
    status=$?
    head -c 20000 out | sed 's/^/out: /'
    head -c 20000 err | sed 's/^/err: /'
    echo "# status $status"
}

native_tap() # CPUs, options
{
    native "$1" "$2" goroutines 2 host
    status_is 0
    check_tap out "# end"
}

native_points() # CPUs, options, program, argument...
{
    native "$@"
    status_is 0
    check_tap out "# end"
}

# Many threads for few CPUs of Linux: some begin late.
native_pin()
{
    local i
    for ((i = 0; i < 20 && failures == 0; i++)); do
        native 64 '' pin
        status_is 0
        check_tap out "# end"
    done
}

native_sleep() # CPUs
{
    native "$1" '' sleep
    status_is 0
    check_tap out "# end"
}

native_dies() # CPUs, options, argument, regex...
{
    native "$1" "$2" godie "$3"
    status_is 2
    out_has '^still here$'
    for regex in "${@:4}"; do
        err_has "$regex"
    done
}

native_ends() # CPUs, what, regex...
{
    native "$1" '' go_die "$2"
    status_is 2
    for regex in "${@:3}"; do
        err_has "$regex"
    done
}

native_watch()
{
    native 1 sched.dump=1 godie watch
    status_is 0
    err_has '^4 goroutines, [0-9]+ s after boot:'
    err_has "$looper"
}

# Ctrl-\ at a terminal: the program goes on.
native_key()
{
    local dir=$root/build/host/godie process
    case $CC in *clang*) dir+=-clang ;; esac
    "$dir/godie" watch >out 2>err &
    process=$!
    until grep -q '^still here' out; do sleep 0.05; done
    kill -QUIT $process
    wait $process
    status=$?
    status_is 0
    err_has '^4 goroutines, [0-9]+ s after boot:'
    err_has "$waiter"
    err_has "$sleeper"
}

native_wrong()
{
    native 65 '' ring 10
    status_is 2
    err_has '^gneiss: GN_CPUS must be a number from 1 to 64, not 65'
    native 1 sched.slice=0 ring 10
    status_is 2
    err_has '^gneiss: GN_OPTS: option sched.slice=0: must be a number from 1'
}

# The guest prints the same, but for times and bytes.
native_same() # image
{
    local app=${1##*/} args=() files=() f
    app=${app%.elf}
    case $app in
    ring) args=(3000 2) ;;
    mergesort) args=(300000) ;;
    pwordcount)
        cp "$root"/docs/*.md .
        args=(*.md)
        for f in *.md; do files+=(-f "$f"); done
        ;;
    esac
    native 2 '' "$app" "${args[@]}"
    status_is 0
    sed -E 's/[0-9.]+ (us|ms|bytes)/# \1/g' out >native
    guest -c 2 "${files[@]}" "$1" "${args[@]}"
    status_is 0
    sed -E 's/[0-9.]+ (us|ms|bytes)/# \1/g' out >guest
    same guest native "the guest's output and the process's"
}

add host/native native_case

native_case()
{
    local dir=$O/bench/heap heap
    heap=$dir/libgneiss.so
    (cd "$root" && tools/bench-heap/run -b) || {
        fail "it can't be built"
        return
    }
    gcc -O2 -Wall -Wextra -Werror -fno-builtin -pthread -o program \
        "$root/host-tests/native/malloc.c" || fail "the program can't be built"
    LD_PRELOAD=$heap timeout 120 ./program >out || fail "status $?"
    out_is ok
    # Programs that others wrote: they start others, and pass on the heap.
    LD_PRELOAD=$heap timeout 120 bash -c 'for i in $(seq 300); do
        (echo "$i" | sort)
    done' >out || fail "bash: status $?"
    seq 300 >want
    same want out "what bash prints with another heap"
    LD_PRELOAD=$heap timeout 120 "$dir/blocks" >out || fail "blocks: status $?"
    cat out
    [ "$(sed 's/.*over \(-*[0-9]*\) KiB.*/\1/' out)" -le 16384 ] ||
        fail "100,000 blocks of 1,029 bytes take more than 16 MiB over"
    for i in 64 256 512 1024 2048 4096 8192 16384 32768; do
        LD_PRELOAD=$heap timeout 120 "$dir/cheese" $i >out || fail "cheese $i: status $?"
        cat out
        awk '{ for (i = 1; i < NF; i++) v[$i] = $(i + 1) }
            END { exit !(v["over"] != "" && v["over"] + 0 <= v["allowed"] + 0) }' out ||
            fail "cheese of $i KiB takes more than it may"
    done
    # All programs of the benchmark were built, and one runs: it looks at its blocks.
    for i in "$root"/tools/bench-heap/*.c; do
        [ -x "$dir/$(basename "$i" .c)" ] || [ "$(basename "$i")" = gneiss.c ] ||
            fail "$i was not built"
    done
    LD_PRELOAD=$heap timeout 120 "$dir/larson" 2 >out || fail "larson: status $?"
    # A pointer that is wrong is reported.
    printf '#include <stdlib.h>\nint main(void) { char *p = malloc(40); %s }\n' \
        'free(p); free(p);' >twice.c
    gcc -w -fno-builtin -o twice twice.c
    (LD_PRELOAD=$heap ./twice) 2>err
    err_has '^panic: free of 0x[0-9a-f]*: freed already'
}
