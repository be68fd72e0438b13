# Goroutines: on all CPUs, machines and CPU models, preempted at random.

for cpus in 1 2 4; do
    add "go/goroutines-${cpus}cpu" tap -c "$cpus" @goroutines
    add "go/event-${cpus}cpu" tap -c "$cpus" @event
    add "go/suspend-${cpus}cpu" tap -c "$cpus" -o sched.slice=1 @suspend
    add "go/suspend-stress-${cpus}cpu" tap -c "$cpus" -o "stress=preempt seed=$cpus" @suspend 100
    add "go/goroutines-q35-qemu64-${cpus}cpu" tap -M q35 --cpu qemu64 -c "$cpus" -m 64M @goroutines
done
for cpus in 2 4; do
    add "go/suspend-fail-${cpus}cpu" tap -c "$cpus" @suspend_fail
done
for cpus in 2 16; do
    add "go/pin-${cpus}cpu" tap -c "$cpus" @pin
done
add go/goroutines-4M tap -m 4M @goroutines 1
for seed in $(seq 1 20); do
    add "go/preempt-$seed" tap -c $((1 + seed % 4)) -o "stress=preempt seed=$seed" @goroutines 1
done

# Counted, the same seed preempts at the same instructions.
repeat_case() # image
{
    guest --icount -o "stress=preempt seed=7" "$1" 1
    status_is 0
    mv out first
    guest --icount -o "stress=preempt seed=7" "$1" 1
    status_is 0
    same first out "two runs with the same seed"
}
add go/preempt-repeats repeat_case @goroutines
add options/stress bad_option 'stress=oom: preempt: goroutines' @hello stress=oom

# Channels, sync, panics, time: after Go's own tests (go-tests*.tsv).
for cpus in 1 2 4; do
    for image in chan chan_files sync tasks atomic panic time context fair; do
        add "go/$image-${cpus}cpu" tap -c "$cpus" @go_$image
    done
    for image in "chan 50" chan_files "sync 200" "tasks 200" "atomic 200" panic "time 30" "context 30" fair; do
        add "go/${image% *}-stress-${cpus}cpu" tap -c "$cpus" -o "stress=preempt seed=$cpus" \
            "@go_${image% *}" $([ "${image#* }" = "$image" ] || echo "${image#* }")
    done
done
for image in go_chan go_panic go_time go_tasks; do
    add "go/${image#go_}-q35-qemu64" tap -M q35 --cpu qemu64 -c 2 -m 64M @$image
    add "go/${image#go_}-8M" tap -c 2 -m 8M @$image
done
add go/kick tap -c 2 @kick
add go/gen-1cpu tap -c 1 @go_gen 1 1000
add go/gen-2cpu tap -c 2 @go_gen 1001 300
add go/gen-4cpu tap -c 4 @go_gen 2001 200
add go/gen-stress tap -c 3 -o "stress=preempt seed=5" @go_gen 3001 200

# The memory model (docs/memory-model.md): what is allowed and was seen is a note.
litmus_case() # as guest
{
    tap "$@"
    note "$(sed -n 's/^# \(.*\): allowed, seen \(.*\) times of \(.*\)/\1: \2 of \3;/p' out | paste -sd ' ')"
}
for cpus in 2 4; do
    add "go/litmus-${cpus}cpu" litmus_case -c "$cpus" @go_litmus
done
add go/litmus-stress litmus_case -c 4 -o "stress=preempt seed=7" @go_litmus 400

# Each allocation of channels, timers and contexts fails once, and from then on.
add go/oom oom_in_turn @go_oom
oom_in_turn() # image
{
    local i plus refused=0 points=0
    # The C library has its own 38 or so before main.
    for i in $(seq 39 400); do
        guest -c 1 -o "heap.fail=$i" "$1" >one 2>&1
        check_tap out "# end"
        status_is 0
        grep -q '^# refused 0, then 0$' out && break
        grep -q '^# refused 1, then 0$\|^# refused 0, then 1$' out ||
            fail "heap.fail=$i: $(grep '^# refused' out)"
        points=$((points + 1))
    done
    [ $points -ge 125 ] || fail "only $points points"
    for i in $(seq 39 7 150); do
        guest -c 2 -o "heap.fail=$i+" "$1" >one 2>&1
        check_tap out "# end"
        status_is 0
        refused=$(sed -n 's/^# refused \([0-9]*\), then .*/\1/p' out)
        [ "${refused:-0}" -gt 0 ] || fail "heap.fail=$i+: nothing was refused"
        points=$((points + 1))
    done
    note "$points points failed"
}

# Programs; each checks its own output, too.
prints() # regular expression, image, arguments...
{
    local regex=$1
    shift
    guest -c 2 "$@"
    status_is 0
    out_has "$regex"
}
add go/app-sieve prints '^467 479 487 491 499 503 509 521 523 541$' @sieve
add go/app-sieve-1000 prints ' 7919$' @sieve 1000
add go/app-pipeline prints ' squares, of numbers up to .*: the sum is large enough$' @pipeline
add go/app-pipeline-50 prints 'the sum is large enough$' @pipeline 100000000000 50
add go/app-powser prints '^tan +0 1 0 1/3 0 2/15 0 17/315 0 62/2835$' @powser
add go/app-powser-16 prints '^all coefficients are right' @powser 16
add go/app-workers prints '^40 jobs, at most 200 a second, by 4 workers: ' @workers
app_usage() # image...
{
    local image
    for image; do
        guest "$image" 0
        status_is 2
        err_has '^usage: '
    done
}
add go/app-philosophers prints '^5 philosophers have eaten 5000 times, neighbours at once: 0$' @philosophers
add go/app-philosophers-1000 prints '^1000 philosophers have eaten 20000 times, neighbours at once: 0$' @philosophers 1000 20
add go/app-usage app_usage @sieve @pipeline @powser @workers @philosophers

# How a program ends: name, lines of stderr that have to be there.
ends() # name, regular expressions...
{
    local name=$1
    shift
    add "go/die-$name" dies 2 "$@" -- -c 2 @go_die "$name"
}
running='^goroutine 1 \[running\]: main'
asleep='^fatal error: all goroutines are asleep - deadlock!'
ends panic '^deferred$' '^panic: panic 1 of none$' "$running" '#[0-9]+ .* panic_now\+'
ends double '^panic: panic 1 of none$' '^.panic: second$' "$running" '#[0-9]+ .* double_panic\+'
ends repanic '^panic: panic 1 of none \[recovered\]$' '^.panic: again$' "$running"
ends repanic-same '^panic: panic 1 of none \[recovered, repanicked\]$' "$running"
ends repanic-value '^panic: a value$' '^.panic: a value$' "$running"
ends sandwich '^panic: outer \[recovered\]$' '^.panic: inner \[recovered\]$' '^.panic: outer$' "$running"
ends middle '^panic: inner \[recovered\]$' '^.panic: middle \[recovered, repanicked\]$' '^.panic: outer$' "$running"
ends lines '^panic: one line$' '^.$' '^.goroutine 1 .running.:$' '^.and two$' "$running"
ends recursive '^panic: zero$' '^.panic: second$' '^.panic: panic 1 of one$'
ends nil '^deferred$' '^panic: runtime error: invalid memory address or nil pointer dereference$' \
    '^\[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x' '#[0-9]+ .* nil_deref\+'
ends nil-plain '^panic: runtime error: invalid memory address or nil pointer dereference \(write of 0x8\)'
ends divide '^deferred$' '^panic: runtime error: integer divide by zero$' \
    '^\[signal SIGFPE: floating-point exception code=0x1' '#[0-9]+ .* divide\+'
ends goroutine '^panic: panic 1 of none$' '^goroutine 2 \[running\]' '^goroutine 1 \[(sleep|running|runnable)\]: main'
ends close '^panic: close of closed channel$' '#[0-9]+ .* closes_twice\+'
ends goexit-panic '^panic: panic 1 of none$' "$running"
ends deadlock "$asleep" '^goroutine 1 \[chan receive\]: main' '^goroutine 3 \[chan receive\]'
ends deadlock-select "$asleep" '^goroutine 1 \[select \(no cases\)\]: main'
ends deadlock-wg "$asleep" '^goroutine 1 \[sync.WaitGroup.Wait\]: main'
ends deadlock-sync "$asleep" '^goroutine 1 \[sync.RWMutex.Lock\]: main' '^goroutine 2 \[sync.Mutex.Lock\]' \
    '^goroutine 3 \[sync.RWMutex.RLock\]' '^goroutine 4 \[sync.Cond.Wait\]' '^goroutine 5 \[semacquire\]'
ends deadlock-writers "$asleep" '^goroutine 1 \[sync.Mutex.Lock\]: main' # as in Go
ends deadlock-once "$asleep" '^goroutine 1 \[sync.Mutex.Lock\]: main'
ends wg-go '^panic: panic 1 of none$' '^goroutine 2 \[running\]' '^goroutine 1 \[(sync.WaitGroup.Wait|running|runnable)\]: main'
ends group-go '^panic: panic 1 of none$' '^goroutine 2 \[running\]' '^goroutine 1 \[(sync.WaitGroup.Wait|running|runnable)\]: main'
# TestMutexMisuse: nobody recovers.
misuse_case() # how, text, image
{
    guest -c 2 "$3" misuse "$1"
    status_is 2
    err_has "^fatal error: sync: $2\$"
    err_has '#[0-9]+ .* misuse\+'
    err_lacks '^not reached'
}
for how in Mutex.Unlock Mutex.Unlock2 Cond.Wait; do
    add "go/die-misuse-$how" misuse_case $how 'unlock of unlocked mutex' @go_die
done
for how in '' 2 3; do
    add "go/die-misuse-RWMutex.Unlock$how" misuse_case RWMutex.Unlock$how 'Unlock of unlocked RWMutex' @go_die
    add "go/die-misuse-RWMutex.RUnlock$how" misuse_case RWMutex.RUnlock$how 'RUnlock of unlocked RWMutex' @go_die
done
ends deadlock-later "$asleep" '^goroutine 1 \[chan receive\]: main'
ends deadlock-unused "$asleep" '^goroutine 1 \[chan receive\]: main'
ends deadlock-deadline "$asleep" '^goroutine 1 \[chan receive\]: main'
ends deadlock-timer "$asleep" '^goroutine 1 \[chan receive\]: main'
ends deadlock-goexit "$asleep" '^goroutine 2 \[chan receive\]'
ends deadlock-none '^fatal error: no goroutines \(main called gn_goexit\) - deadlock!'
printed_case() # image
{
    local how cpus
    for how in panic deadlock "misuse Mutex.Unlock2"; do
        for cpus in 1 2 4; do
            guest -c $cpus "$1" $how
            status_is 2
            out_has '^printed before'
        done
    done
}
add go/die-flushes printed_case @go_die
recovered_case() # image
{
    guest -c 2 "$1" recovered
    status_is 0
    err_has '^deferred$'
}
add go/die-not-recovered recovered_case @go_die

waiter='^goroutine [0-9]+ \[sync\.WaitGroup\.Wait\]: waiter'
sleeper='^goroutine [0-9]+ \[sleep\]: sleeper'
looper='^goroutine [0-9]+ \[(runnable|running)\]: looper'
for cpus in 1 2; do
    add "go/dump-panic-${cpus}cpu" dies 2 '^panic: runtime error: .*nil pointer' "$waiter" "$sleeper" "$looper" \
        "#[0-9]+ .* wait_for_ever\+" "#[0-9]+ .* sleep_long\+" -- -c $cpus @godie panic
done
add go/dump-negative dies 2 '^panic: sync: negative WaitGroup counter' "$waiter" -- -c 2 @godie negative

watch_case() # image
{
    guest -c 2 -o sched.dump=1 "$1" watch
    status_is 0
    err_has '^4 goroutines, [0-9]+ s after boot:'
    err_has "$waiter"
    err_has "$looper"
    err_has '^goroutine 1 \[sleep\]: main'
}
add go/dump-watch watch_case @godie

# The key: SIGQUIT of the runner, which Ctrl-\ sends; twice, and it disturbs nothing.
wait_for() # file, how often, extended regular expression
{
    local i n
    for ((i = 0; i < 1200; i++)); do
        n=$(grep -csaE -- "$3" "$1")
        [ "${n:-0}" -lt "$2" ] || return 0
        sleep 0.1
    done
    fail "$1 has no line like: $3"
}
key_case() # image, tools/run options...
{
    local image=$1 pid n
    shift
    mkfifo in
    # bash has what it starts in the background ignore it
    env --default-signal=QUIT "$root/tools/run" -t $TIMEOUT_S "$@" "$image" read <in >out 2>err &
    pid=$!
    exec 7>in
    wait_for out 1 '^still here'
    # Until main has got as far as where it waits; then no more comes.
    for ((n = 1; n < 100; n++)); do
        kill -QUIT $pid
        wait_for err $n "$looper"
        ! grep -q '^goroutine 1 \[IO wait\]: main' err || break
    done
    printf 'half ' >&7
    kill -QUIT $pid
    wait_for err $((n + 1)) "$looper"
    printf 'and half\n' >&7
    wait $pid
    status=$?
    exec 7>&-
    sed 's/^/err: /' err
    status_is 0
    out_has '^read: half and half$'
    err_has '^4 goroutines, [0-9]+ s after boot:'
    err_has "$waiter"
    err_has '^goroutine 1 \[IO wait\]: main'
    err_has '#0 .* loop\+'
    err_has '#1 .* first\+'
}
add go/dump-key-1cpu key_case @godie -c 1
add go/dump-key-4cpu key_case @godie -c 4 -M q35

# On a serial line without the runner it is the byte that Ctrl-\ is.
key_serial_case() # image
{
    local pid
    mkfifo in
    $(command -v "${QEMU:-qemu-system-x86_64}") -M microvm -m 64M -nodefaults -no-reboot \
        -device isa-debug-exit,iobase=0xf4,iosize=4 -display none -kernel "$1" -append "-- godie read" -serial stdio <in >out 2>err &
    pid=$!
    exec 7>in
    wait_for out 1 '^still here'
    printf '\034' >&7
    wait_for out 1 "$looper"
    printf 'all\n' >&7
    wait_for out 1 '^read: all'
    exec 7>&-
    wait $pid
    sed 's/^/out: /' out
    out_has "$waiter"
}
add go/dump-key-serial key_serial_case @godie

add go/overflow dies 2 '^runtime: goroutine stack exceeds 1048576-byte limit' \
    '^fatal error: stack overflow \(goroutine [0-9]+, deep\)' "$waiter" -- -c 2 @godie overflow
add go/overflow-option dies 2 '^runtime: goroutine stack exceeds 524288-byte limit' -- \
    -o stack.limit=512K @mustdie stack_overflow
# A debug build: everything in the order of locks, and what is not is reported.
go_debug_case() # no image: its own build
{
    local app build=$root/build/debug
    case $CC in *clang*) build=$root/build/clang/debug ;; esac
    for app in goroutines suspend storm heap rank go_chan go_time go_sync go_tasks go_context; do
        make -C "$root" -s --no-print-directory image DEBUG=1 APP=host-tests/guest/$app.c >make.out 2>&1 || {
            fail "$app can't be built"
            cat make.out
            return
        }
    done
    tap -c 4 "$build/goroutines/goroutines.elf" 1
    tap -c 2 -o sched.slice=1 "$build/suspend/suspend.elf" 50
    tap -c 4 "$build/storm/storm.elf" brief
    tap -c 2 "$build/go_chan/go_chan.elf" 50
    tap -c 2 "$build/go_time/go_time.elf" 30
    tap -c 2 "$build/go_sync/go_sync.elf"
    tap -c 2 "$build/go_tasks/go_tasks.elf"
    tap -c 2 "$build/go_context/go_context.elf" 30
    tap -c 2 "$build/heap/heap.elf" 3000
    guest "$build/rank/rank.elf" none
    status_is 0
    dies 2 '^panic: spinlock 0x[0-9a-f]+ of rank 8: CPU 0 holds 0x[0-9a-f]+ of rank 9' \
        ' take\+' -- "$build/rank/rank.elf" order
    dies 2 '^panic: spinlock 0x[0-9a-f]+ of rank 9: CPU 0 holds 0x[0-9a-f]+ of rank 9' \
        -- "$build/rank/rank.elf" twice
}
add go/debug go_debug_case


# Each request for a frame fails (mm.sh has fail_case).
for cpus in 1 2 4; do
    add "go/fail-${cpus}cpu" fail_case "$cpus" @go_fail
    add "go/fail-die-${cpus}cpu" dies 2 \
        '^fatal error: out of memory: no frame left for the' \
        'the stack of goroutine [0-9]+ \(grows\), 12[0-9]{4} bytes below' '#[0-9]+ .* need_a_table\+' \
        '^goroutine 1 \[(sync\.WaitGroup\.Wait|runnable|running)\]: main' -- -c "$cpus" @go_fail die
done
add go/fail-q35-qemu64 tap -M q35 --cpu qemu64 -c 2 -m 64M @go_fail

# The area of the stacks used up, though memory is left.
for cpus in 1 4; do
    add "go/slots-${cpus}cpu" tap -c "$cpus" -m 512M @go_slots
done

# The vector and x87 state of who is preempted at random.
fpu_case() # as guest
{
    tap "$@"
    note "$(sed -n 's/^# \(.*registers\)$/\1/p' out)"
}
for cpus in 1 2 4; do
    add "go/fpu-${cpus}cpu" fpu_case --cpu max -c "$cpus" -o "stress=preempt seed=$cpus" @go_fpu
    add "go/fpu-q35-qemu64-${cpus}cpu" fpu_case -M q35 --cpu qemu64 -c "$cpus" -o "stress=preempt seed=$cpus" @go_fpu
done

# Stacks that grow where it is least convenient.
for cpus in 1 2 4; do
    add "go/grow-${cpus}cpu" tap -c "$cpus" -o "stress=preempt seed=$cpus" @go_grow
done
add go/grow-q35-qemu64 tap -M q35 --cpu qemu64 -m 64M -c 2 -o "stress=preempt seed=5" @go_grow

# A wake-up is lost on purpose; and what takes long, and is right.
lost='^panic: sched: lost wake-up: goroutine [0-9]+ is runnable, and CPU 1 has begun none for 1 s'
for cpus in 2 4; do
    for how in lost pinned; do
        add "go/watchdog-$how-${cpus}cpu" dies 2 "$lost" '^goroutine [0-9]+ \[runnable\]: lost' -- \
            -c "$cpus" -o sched.watchdog=1 @watchdog $how
    done
done
for cpus in 1 2 4; do
    add "go/watchdog-quiet-${cpus}cpu" tap -c "$cpus" -o sched.watchdog=2 @watchdog quiet
done

# New seeds each time: what fails is printed with the command that repeats it.
soak_case() # images, for which it need not wait
{
    "$root/tools/soak" 30s >out 2>&1
    status=$?
    cat out
    status_is 0
    out_has '^[1-9][0-9]* passed, 0 failed$'
    note "$(tail -n 1 out)"
}
add go/soak-30s soak_case @goroutines @storm @heap @mem_chaos @mem_race
soak_args_case()
{
    local args
    for args in 0 3y "1 2" "-s x 1x" -q; do
        "$root/tools/soak" $args >out 2>err
        status=$?
        status_is 2
        err_has '^usage: tools/soak'
    done
}
add go/soak-args soak_args_case
add go/many-1cpu tap -m 1G @many 100000
add go/many-2cpu tap -c 2 -m 1G @many 100000

# Lines that goroutines print are whole.
lines_case() # image
{
    guest -c 4 -o "stress=preempt seed=3" "$1" 1
    status_is 0
    [ "$(grep -cE '^# ([0-9]+) \1 \1 \1$' out)" = 150 ] || fail "not 150 lines as they were printed"
}
add go/lines lines_case @goroutines
