# What must end in a report: host-tests/guest/mustdie.c does it.

# name, regexes...; the frame of `main` is in every backtrace
die() # name, status, regex...
{
    add "die/$1" dies "${@:2}" -- -c 2 @mustdie "$1"
    case $1 in
    # the report alone, where the machine makes no difference to the rest
    panic_cpu3 | *_cpu1 | out_of_memory_stacks) ;;
    *) add "die/$1-q35-qemu64" dies "$2" "$3" -- -M q35 --cpu qemu64 -c 2 \
        @mustdie "$1" ;;
    esac
}

n=0x[0-9a-f]+
write=$(. host-tests/lib.sh; root=. frame write_byte write)
read=$(. host-tests/lib.sh; root=. frame read_byte read)
call=$(. host-tests/lib.sh; root=. frame call call)
forbidden='^panic: forbidden memory access'
overflow='^fatal error: stack overflow'

marker() # function, marker
{
    (. host-tests/lib.sh; root=. frame "$@")
}

die write_text 2 "$forbidden \(write of $n\)" "^  $n: text of the image" \
    "$write" "#1 .* write_text" "CPU [01] of 2, .* goroutine 1 \(main\)" \
    "^  rax [0-9a-f]{16} rbx [0-9a-f]{16}"
die write_text_direct 2 "$forbidden \(write of 0xffff8[0-9a-f]+\)" \
    "^  $n: the direct map of physical memory" "$write" "write_text_direct"
die write_rodata 2 "$forbidden \(write" "$n: read-only data" "$write"
die write_rodata_direct 2 "$forbidden \(write" "direct map" "$write"
die exec_heap 2 "$forbidden \(execution" "$n: the heap" "$call" exec_heap
die exec_stack 2 "$forbidden \(execution" \
    "$n: the stack of goroutine 1 \(main\)" "$call" exec_stack
die exec_rodata 2 "$forbidden \(execution" "$n: read-only data" "$call"
die exec_data 2 "$forbidden \(execution" "$n: data or bss" "$call"
die exec_direct 2 "$forbidden \(execution" "$n: the direct map" "$call"
die nil_read 2 '^panic: runtime error: .*nil pointer dereference \(read of 0x10\)' \
    '0x10: the nil page' "$read" nil_read
die nil_write 2 '^panic: runtime error: .*nil pointer dereference \(write of 0x0\)' "$write"
die nil_call 2 '^panic: runtime error: .*nil pointer dereference \(execution of 0x0\)' "$call"
die low_read 2 '^panic: invalid memory access \(read of 0x12345678\)' \
    '0x12345678: the low 4 GiB, never mapped' "$read"
die wild_write 2 '^panic: invalid memory access \(write' 'no region' "$write"
die not_canonical 2 '^panic: general protection fault' "$read"
die guard_byte 2 "$overflow \(goroutine 1, main\)" \
    'the guard of the stack of goroutine 1' "$write"
die far_below_sp 2 '^panic: invalid memory access \(write' \
    'the stack of goroutine 1 \(main\), 67108864 bytes below' "$write"
die overflow_megabyte 2 '^panic: invalid memory access \(write' \
    'the stack of goroutine 1 \(main\), 1048576 bytes below its top' "$write" \
    'goroutine 2 \(victim\)' next_slot
die smash_canary 2 '^panic: stack smashed' "#1 .* smash"
die stack_overflow 2 "$overflow \(goroutine 1, main\)" \
    'stack exceeds 67108864-byte limit' "$(marker deep deep)"
die stack_overflow_cpu1 2 "$overflow \(goroutine 2, victim\)" \
    'CPU 1 of 2' "$(marker deep deep)"
die stack_overflow_qsort 2 "$overflow" "$(marker deep deep)"
die nil_in_qsort 2 "$read" "$(marker compare_nil compare)" \
    '#2 .* qsort\+.* .*qsort\.c:[0-9]+' "$(marker nil_in_qsort nil_in_qsort)"
die system_overflow 2 '^fatal error: system stack overflow on CPU 1' \
    'CPU 1 of 2' "$(marker deep_irq deep_irq)"
die divide_by_zero 2 '^panic: runtime error: integer divide by zero' "$(marker divide divide)"
die invalid_opcode 2 '^panic: invalid opcode' \
    "$(marker invalid_opcode invalid_opcode)"
die double_fault 2 '^panic: double fault' "$read" double_fault
die fails_assert 134 \
    '^panic: assertion failed: zero == 1 \(fails_assert, .*mustdie\.c:[0-9]+\)' \
    "$(marker fails_assert fails_assert)"
die calls_abort 134 '^panic: abort\(\) called' "$(marker calls_abort calls_abort)"
die calls_panic 2 '^panic: test: 42 and text' "$(marker calls_panic calls_panic)"
die panic_locked 2 '^panic: frame_free: frame 0x1000' \
    'frame_free\+.*mm/frame\.c' 'panic_locked\+.*mustdie\.c:[0-9]+'
die fault_locked 2 '^panic: ' 'fault_locked\+'
die panic_in_interrupt 2 '^panic: test: in an interrupt' \
    "$(marker panic_irq panic_irq)" 'CPU 1 of 2'
die nested_fault 2 'panic: again, on CPU [01], while reporting the first'
add die/panic_cpu3 dies 2 '^panic: test: 42' 'CPU 3 of 4, .* \(worker\)' \
    "$(marker calls_panic calls_panic)" -- -c 4 @mustdie panic_cpu3
add die/panic_everywhere one_report -c 4 @mustdie panic_everywhere
add die/out_of_memory_stacks dies 2 \
    '^fatal error: out of memory: no frame left for the' \
    'the stack of goroutine [0-9]+ \(hungry\)' -- -m 64M @mustdie \
    out_of_memory_stacks
for machine in q35 pc; do
    add die/nil_read-$machine dies 2 nil "$read" -- -M $machine @mustdie nil_read
done
add die/exec_heap-qemu64 dies 2 "$forbidden" -- --cpu qemu64 @mustdie exec_heap
add die/stack_overflow_cpu1-qemu64 dies 2 "$overflow" -- --cpu qemu64 -c 2 \
    @mustdie stack_overflow_cpu1

one_report()
{
    guest "$@"
    status_is 2
    [ "$(grep -c '^panic:' err)" = 1 ] || fail "not one report"
    [ "$(grep -c 'CPU [0-3] of 4' err)" = 1 ] || fail "not one place"
}
