# Memory management: the API, and storms from all CPUs at once.

for cpus in 1 2 4; do
    add "mm/api-${cpus}cpu" tap -c "$cpus" @mem_api
    add "mm/mman-${cpus}cpu" tap -c "$cpus" @mem_mman
    add "mm/storm-${cpus}cpu" tap -c "$cpus" @storm quick
    add "mm/race-${cpus}cpu" tap -c "$cpus" @mem_race
    add "mm/stale-${cpus}cpu" tap -c "$cpus" @mem_stale
done
add mm/api-q35-qemu64 tap -M q35 --cpu qemu64 -c 2 -m 64M @mem_api
add mm/mman-q35-qemu64 tap -M q35 --cpu qemu64 -c 2 -m 64M @mem_mman
add mm/storm-q35-qemu64 tap -M q35 --cpu qemu64 -c 2 -m 64M @storm quick
for cpus in 1 2 4; do
    add "mm/fail-${cpus}cpu" fail_case "$cpus" @mem_fail
    add "mm/fail-cpus-${cpus}cpu" tap -c "$cpus" @mem_fail_cpus
done
for cpus in 1 2 4; do
    add "mm/model-${cpus}cpu" tap -c "$cpus" @mem_model 100000 "$cpus"
done
add mm/model-4cpu-q35-qemu64 tap -c 4 -M q35 --cpu qemu64 -m 64M @mem_model 100000 3
add mm/dirty-1cpu tap @mem_dirty
add mm/dirty-2cpu tap -c 2 @mem_dirty
add mm/dirty-4cpu tap -c 4 @mem_dirty 4
for cpus in 1 2 4; do
    add "mm/tight-${cpus}cpu" tap -c "$cpus" @mem_tight
done
# The CPU's 12 frames are used up; others have theirs.
tight_die() # name, CPUs, options of the runner
{
    local left=0
    case $2 in
    2) left='([0-9]|1[0-2])' ;;
    4) left='([0-9]|[12][0-9]|3[0-6])' ;;
    esac
    add "mm/tight-die$1" dies 2 \
        '^fatal error: out of memory: no frame left for the write' \
        " page tables, $left frames in reserves\$" \
        'the stack of goroutine 1 \(main\)' 'reach\+.*mem_tight\.c' -- \
        -c "$2" "${@:3}" @mem_tight die
}
tight_die "" 2
for cpus in 1 4; do
    for mem in 2M 1G; do
        tight_die "-$mem-${cpus}cpu" $cpus -m $mem
        tight_die "-$mem-q35-qemu64-${cpus}cpu" $cpus -m $mem -M q35 \
            --cpu qemu64
    done
done
# A gibibyte, in one page where the CPU has such.
add mm/huge-1cpu tap -M q35 -m 4G @mem_huge
add mm/huge-4cpu tap -c 4 -m 4G @mem_huge
add mm/huge-2cpu-8G tap -c 2 -m 8G @mem_huge
add mm/huge-q35-qemu64 tap -M q35 --cpu qemu64 -c 2 -m 4G @mem_huge
add mm/fail-boot-1cpu fail_boot_case 1 68 @hello
add mm/fail-boot-4cpu fail_boot_case 4 130 @hello # 132 to 134: which CPU runs main
for test in "mem_dirty 4" mem_race mem_tight "mem_chaos 1000 5"; do
    add "mm/${test%% *}-q35-qemu64" tap -M q35 --cpu qemu64 -c 2 -m 64M \
        "@${test%% *}" $([ "${test#* }" = "$test" ] || echo "${test#* }")
done
add mm/chaos-2cpu tap -c 2 @mem_chaos 2000 1
add mm/chaos-4cpu tap -c 4 @mem_chaos 1000 2
for cpus in 1 4; do
    for mem in 2 16; do
        # Four CPUs leave no frames to scatter in 2 MiB.
        add "mm/full-ram-${mem}M-${cpus}cpu" full_ram_case $cpus $mem @mem_ram \
            @mem @mem_api $([ $cpus$mem = 42 ] || echo @mem_scatter) @storm
    done
done
for cpus in 1 4; do
    add "mm/long-map-${cpus}cpu" long_map_case @long_map -c $cpus
    add "mm/long-map-q35-${cpus}cpu" long_map_case @long_map -c $cpus -M q35 \
        --cpu qemu64
done
add mm/tour-1cpu tour_case 1 @tour
add mm/tour-4cpu tour_case 4 @tour
add mm/tour-16M tour_case 2 @tour -m 16M
add mm/tour-64M tour_case 4 @tour -m 64M
for cpus in 1 2 4; do
    add "mm/tour-goroutines-${cpus}cpu" tour_goroutines "$cpus" @tour
done
for option in fill=1 random=1 check=100 delay=0 keep=64M limit=2M; do
    add "mm/tour-heap.${option%=*}" tour_case 2 @tour -o "heap.$option"
done
add mm/memload memload_case @memload
add mm/costs costs_case @bench-mem

# From the least memory to more than 4 GiB: each size on each number of CPUs, with
# both machines and both models; of any two of the four, every pair occurs, for
# every test. mm/matrix-pairs looks after that.
matrix_sizes=(2M 3M 4M 8M 16M 32M 64M 128M 256M 512M 1G 2G 4G 8G)
matrix_tests=(mem mem_api mem_mman mem_race mem_stale mem_tight mem_chaos
    mem_model mem_scatter mem_fail mem_fail_cpus mem_dirty storm cpu)
matrix_rows=() # memory, machine, model, CPUs

machines=(microvm q35)
models=(max qemu64)
i=0
for mem in "${matrix_sizes[@]}"; do
    matrix_rows+=("$mem ${machines[i % 2]} ${models[i / 2 % 2]} 1"
        "$mem ${machines[(i + 1) % 2]} ${models[i / 4 % 2]} 2"
        "$mem ${machines[i / 4 % 2]} ${models[(i / 2 + 1) % 2]} 4")
    i=$((i + 1))
done
for row in "${matrix_rows[@]}"; do
    # shellcheck disable=SC2086 # four words
    add "mm/matrix-${row// /-}cpu" matrix_case $row "${matrix_tests[@]/#/@}"
done
add mm/matrix-pairs matrix_pairs

# What a test is started with in a row.
matrix_args() # test, memory, machine, model, CPUs
{
    case $1 in
    mem_race) echo $((1000 / $5)) ;;
    mem_stale) echo 1 ;;
    cpu) echo quick ;;
    mem_chaos) echo 300 3 ;;
    mem_model) echo 2000 3 ;;
    mem_fail_cpus) echo 2 ;;
    mem_dirty) [ "$5" -lt 4 ] && echo 1 || echo 1 6 ;;
    storm)
        # CPUs that wait for each other where there are fewer real ones: in full
        # once on each machine.
        case $5,$2 in
        4,512M | 4,4G) ;;
        4,*) echo brief ;;
        *) echo quick ;;
        esac
        ;;
    esac
}

matrix_case() # memory, machine, model, CPUs, images of matrix_tests
{
    local config=("${@:1:4}") image test args points=0
    for image in "${@:5}"; do
        test=$(basename "$image" .elf)
        args=$(matrix_args "$test" "${config[@]}")
        # shellcheck disable=SC2086 # several words
        tap -m "$1" -M "$2" --cpu "$3" -c "$4" "$image" $args
        say_left_out "$test"
        points=$((points + $(grep -ac '^ok ' out)))
    done
    echo "# points $points"
}

# Every test has every pair of memory and CPUs, of machine and model, and each of
# the others, in a row; storm in full on both machines.
matrix_pairs()
{
    local test row mem machine model cpus args
    # a case that failed left its files
    : >pairs
    : >storms
    for test in "${matrix_tests[@]}"; do
        for row in "${matrix_rows[@]}"; do
            read -r mem machine model cpus <<<"$row"
            # shellcheck disable=SC2086 # four words
            args=$(matrix_args "$test" $row)
            printf "$test %s\n" "$mem-${cpus}cpu" "$machine-$model" \
                "$mem-$machine" "$mem-$model" "$machine-${cpus}cpu" \
                "$model-${cpus}cpu" >>pairs
            [ "$test:$cpus:$args" != storm:4: ] || echo "$machine" >>storms
        done
    done
    sort -u pairs >have
    for test in "${matrix_tests[@]}"; do
        for cpus in 1 2 4; do
            printf "$test %s-${cpus}cpu\n" "${matrix_sizes[@]}" \
                "${machines[@]}" "${models[@]}"
        done
        for machine in "${machines[@]}"; do
            printf "$test $machine-%s\n" "${models[@]}"
        done
        for mem in "${matrix_sizes[@]}"; do
            printf "$test $mem-%s\n" "${machines[@]}" "${models[@]}"
        done
    done | sort -u >wanted
    same wanted have "pairs that are wanted and pairs that there are"
    [ "$(sort -u storms | wc -l)" = 2 ] || fail "storm is nowhere in full"
    echo "# points $(wc -l <have)"
}

# The emulator's RAM is zero at the start, a machine's is not: what is free has any
# contents when the image starts, right from its end on.
full_ram_case() # CPUs, MiB, images
{
    local image test machine start size end
    for image in "${@:3}"; do
        test=$(basename "$image" .elf)
        read -r start size < <(readelf -lW "$image" |
            awk '$1 == "LOAD" { s = $4 " " $6 } END { print s }')
        end=$((start + size))
        for machine in "${machines[@]}"; do
            # Text, pointers, small numbers; or all bits.
            case $machine in
            q35) tr '\0' '\377' </dev/zero ;;
            *) while cat "$image"; do :; done ;;
            esac 2>/dev/null | head -c $(($2 * 1024 * 1024 - end)) >ram
            printf '#!/bin/sh\nexec qemu-system-x86_64 "$@" -device %s\n' \
                "loader,file=$PWD/ram,addr=$end,force-raw=on" >qemu
            chmod +x qemu
            # The first 640 KiB are zero.
            QEMU=$PWD/qemu tap -m "${2}M" -M "$machine" -c "$1" "$image" \
                $([ "$test" != mem_ram ] || echo $(($2 > 2 ? 90 : 50))) \
                $([ "$test" != storm ] || echo brief)
            say_left_out "$test"
        done
    done
}

# The entry that the image's note names becomes that of long_map.c: 4 bytes, after
# three numbers and "Xen".
long_map_case() # image, options of the runner
{
    local entry at
    entry=$(nm "$1" | awk '$3 == "long_map_entry" { print $1 }')
    at=$(readelf -SW "$1" |
        sed -n 's/.* \.note\.pvh  *NOTE  *[0-9a-f]* \([0-9a-f]*\) 000014 .*/\1/p')
    [ -n "$entry" ] && [ -n "$at" ] || {
        fail "no entry or no note in the image"
        return
    }
    entry=$(printf %08x $((0x$entry - 0xffffffff80000000)))
    cp "$1" long_map.elf
    # shellcheck disable=SC2059 # the format is the bytes
    printf "\\x${entry:6:2}\\x${entry:4:2}\\x${entry:2:2}\\x${entry:0:2}" |
        dd of=long_map.elf bs=1 seek=$((0x$at + 16)) conv=notrunc status=none
    tap "${@:2}" long_map.elf
    err_has '^gneiss: the memory map has 82 pieces: the smallest 18, 684 KiB, are not used$'
    # As it is, the image has the machine's map, and nothing is said.
    guest "${@:2}" "$1"
    err_lacks 'pieces'
}

# What a test has said it leaves out, in a line.
say_left_out() # test
{
    local cases
    cases=$(sed -n 's/^# \(.*\): .*left out, too little memory$/\1/p' out |
        paste -sd ';' | sed 's/;/; /g')
    [ -z "$cases" ] || note "$1 leaves out, for want of memory: $cases"
}

fail_case() # cpus, image
{
    tap -c "$1" "$2"
    note "$(sed -n 's/^ok .* \([0-9]* points failed\)$/\1/p' out)"
    say_left_out mem_fail
}

# Each request for a frame fails, from the first of the start-up on, until the
# program does not notice any more: always one line that says so.
fail_boot_case() # CPUs, points recorded, image
{
    local n
    for n in $(seq 300); do
        guest -c "$1" -o "boot.banner=0 mm.fail=$n+" "$3"
        [ "$status" != 0 ] || break
        status_is 2
        err_has '^gneiss: too little memory|^panic: mm: no frame left during|^gneiss: no memory for the|^panic: heap: no memory|^fatal error: out of memory: no frame'
    done
    status_is 0
    out_is "Hello from Gneiss, world!"
    [ "$n" -gt "$2" ] || fail "only $((n - 1)) points failed, of $2"
    note "$((n - 1)) points failed"
}

# The tour checks what it claims, and ends by itself.
tour_case() # cpus, image, option of the runner...
{
    guest -c "$1" "${@:3}" "$2"
    status_is 0
    [ "$(wc -L <out)" -le 80 ] || fail "a line of the tour is longer than 80"
    out_has '^tour: 21 chapters, .* all true$'
    guest -c "$1" "$2" list
    status_is 0
    [ "$(wc -l <out)" = 21 ] || fail "the list has not 21 chapters"
}

# These two leave nothing behind that the second time, or the heap's chapters,
# would see; whenever a CPU is taken away.
tour_goroutines() # cpus, image
{
    local option
    for option in "" "stress=preempt seed=$1" stack.limit=128K \
        stack.limit=16G; do
        guest -c "$1" -o "$option" "$2" grow goroutines grow goroutines heap \
            span tiny return fragments
        status_is 0
        [ "$(wc -L <out)" -le 80 ] || fail "a line is longer than 80"
        out_has '^tour: 9 chapters, 0 skipped; .* all true$'
        out_has '^  goroutine 1  +main +running$'
        out_has '^  goroutine [0-9]+ +waiter +sync\.WaitGroup\.Wait$'
        out_has '^  goroutine [0-9]+ +loop +[a-z]+$'
    done
    guest -c "$1" -M q35 --cpu qemu64 -m 8M "$2" grow goroutines
    status_is 0
    out_has 'all true$'
}

memload_case() # image
{
    guest --icount "$1"
    status_is 0
    grep -q '^MEM done$' out || fail "memload does not say that it is done"
}

# With 1 and with 4 CPUs, on both machines and both models.
mem_die() # which, regex...
{
    add "mm/die-$1" dies_everywhere "${@:2}" "#[0-9]+ .* main\+" \
        -- @memdie "$1"
}

dies_everywhere() # regex..., --, image, argument
{
    local machine model cpus points=0
    for machine in "${machines[@]}"; do
        for model in "${models[@]}"; do
            for cpus in 1 4; do
                dies 2 "CPU [0-3] of $cpus, " "${@:1:$#-2}" -M $machine \
                    --cpu $model -c $cpus "${@:$#-1}"
                points=$((points + 1))
            done
        done
    done
    echo "# points $points"
}

mem_die past '^panic: invalid memory access \(write of' \
    'no region, 0 bytes past the end of mapped memory'
mem_die unmapped '^panic: invalid memory access \(write of' 'no region'
mem_die reserve '^panic: forbidden memory access \(read of' 'range of gn_reserve'
mem_die decommitted '^panic: forbidden memory access \(write of' 'mapped memory'
mem_die zeros '^panic: invalid memory access \(read of' 'no region'
mem_die guard '^panic: forbidden memory access \(write of' 'a guard'
mem_die device '^panic: forbidden memory access \(write of' 'the IOAPIC'
mem_die alias '^panic: forbidden memory access \(write of' 'an alias'
mem_die read_only '^panic: forbidden memory access \(write of' 'mapped memory'
mem_die no_rights '^panic: forbidden memory access \(read of' 'mapped memory'

# Entries that a move would overwrite: the frames would be lost.
mem_die moved_over '^panic: .*vm_move\.c:[0-9]+: assertion failed: are_clear'
mem_die tables_moved_over '^panic: .*pt\.c:[0-9]+: assertion failed: there == 0'

# Faults that get no frame: a report, since a store can't fail.
no_frame='^fatal error: out of memory: no frame left for the'
mem_die touch_no_table "$no_frame write of" 'mapped memory'
mem_die cow_no_frame "$no_frame write of" 'a snapshot'
mem_die zeros_no_frame "$no_frame write of" 'mapped memory'
mem_die touch_no_page "$no_frame read of" 'mapped memory'

# What memory may cost: instructions, the same in every run. The bounds are the
# goals of tools/bench where there are any, else half of what Linux takes. clang's
# copy-on-write fault takes more than the goal.
costs_case() # image
{
    local name value bound cow=1200
    case $CC in *clang*) cow=1300 ;; esac
    guest --icount -o seed=1 -m 1G "$1"
    status_is 0
    cat out >figures
    guest --icount -o seed=1 -m 1536M "$1" move
    status_is 0
    cat out >>figures
    while read -r name bound; do
        value=$(awk -v n="$name" '$1 == n { print $2 }' figures)
        awk -v v="$value" -v b="$bound" 'BEGIN { exit !(v > 0 && v <= b) }' ||
            fail "$name is ${value:-missing}, at most $bound expected"
    done <<END
touch_scattered 1300
touch_order 800
touch_zeroed 250
touch_zeroed_scattered 800
cow_scattered $cow
cow_order $cow
clone_256m 4690000
map_1 3000
map_1_touched 8000
map_64_touched 80000
protect_1 3000
protect_1_inside 5000
protect_1000 100000
move_2m_aligned 20000
move_1g_aligned 20000
move_unaligned_page 20
move_unaligned_back_page 20
move_17_to_255_page 20
move_511_to_1_page 20
move_1_to_2_page 20
move_grown 20000
move_grown_page 20
move_watched_page 20
move_watched_back_page 20
move_unpromised_page 20
move_unpromised_back_page 20
END
    # What describes the frames: at most 1 % of the memory.
    guest -m 64M "$1" ram
    status_is 0
    awk '$1 == "metadata_kib" { ok = $2 > 0 && $2 <= 655 } END { exit !ok }' out ||
        fail "the frame array is no 1 % of 64 MiB"
}
