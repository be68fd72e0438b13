# Guest programs that print TAP: in full once, in short over the matrix of
# machines, CPU models, numbers of CPUs and sizes of memory.

add cpu/full-4 tap -c 4 @cpu
add cpu/full-2 tap -c 2 @cpu
add stack/full-4 tap -c 4 @stack
for mem in 8M 64M 256M; do
    add mem/$mem tap -c 2 -m $mem @mem
done
add libc/full-2 libc_case 2 @libc
add libc/full-4 libc_case 4 @libc
add libc/numbered-arguments tap @posargs
add libc/prints prints_case @prints
add boot/args args_case @args
add boot/entropy entropy_case @boot
add boot/epoch epoch_case @boot
add boot/least-memory least_case @hello

# machine, CPU model, CPUs, memory
matrix()
{
    local id="$1-$2-$3cpu-$4"
    add "matrix/$id/boot" boot_case "$@" @boot
    add "matrix/$id/cpu" tap -M "$1" --cpu "$2" -c "$3" -m "$4" @cpu quick
    add "matrix/$id/stack" stack_case "$@" @stack
    add "matrix/$id/hello" hello_case "$@" @hello
}

matrix microvm max 1 256M
matrix microvm max 2 64M
matrix microvm max 4 256M
matrix microvm qemu64 1 64M
matrix microvm qemu64 4 256M
matrix q35 max 1 64M
matrix q35 max 2 256M
matrix q35 qemu64 4 256M
matrix microvm qemu64 2 8G
matrix q35 max 4 8G
matrix q35 qemu64 1 64M
matrix q35 qemu64 2 256M
matrix pc max 2 256M
matrix microvm max 1 8G
for mem in 2M 4M 8M; do
    add matrix/hello-$mem hello_case microvm max 1 $mem @hello
    add matrix/hello-q35-$mem hello_case q35 qemu64 1 $mem @hello
done
add matrix/boot-4M boot_case microvm max 1 4M @boot
add matrix/boot-8M boot_case microvm max 2 8M @boot
add matrix/mem-4M tap -c 1 -m 4M @mem
add matrix/cpu-4M tap -c 2 -m 4M @cpu quick
add matrix/hello-64cpu hello_case microvm max 64 256M @hello
add matrix/boot-64cpu boot_case microvm max 64 256M @boot
add matrix/hello-64cpu-q35 hello_case q35 qemu64 64 256M @hello

kib_of() # size as the runner takes it
{
    case $1 in
    *M) echo $((${1%M} * 1024)) ;;
    *G) echo $((${1%G} * 1024 * 1024)) ;;
    esac
}

boot_case() # machine, model, CPUs, memory, image
{
    tap -M "$1" --cpu "$2" -c "$3" -m "$4" "$5" \
        "cpus=$3" "mem=$(kib_of "$4")" "now=$(date +%s)"
    err_has "^gneiss: $3 CPU"
    [ "$(wc -l <err)" -le 3 ] || fail "the banner has more than three lines"
    if [ "$2" = qemu64 ]; then
        err_has '^cpu: uses .*; without .*xsave'
    else
        err_has '^cpu: uses .*xsave.*; without'
    fi
}

stack_case() # machine, model, CPUs, memory, image
{
    # 32 MiB deep, and then all CPUs 8 MiB each
    tap -M "$1" --cpu "$2" -c "$3" -m "$4" "$5" quick
}

hello_case() # machine, model, CPUs, memory, image
{
    guest -M "$1" --cpu "$2" -c "$3" -m "$4" "$5" Matrix
    status_is 0
    out_is "Hello from Gneiss, Matrix!"
    err_has "^gneiss: $3 CPU"
}

# Bytes that the C test makes as well: byte i of the file of n is i * 31 + n.
given_file() # size
{
    awk -v n="$1" 'BEGIN {
        for (i = 0; i < n; i++) printf "%02x\n", (i * 31 + n) % 256 }' |
        xxd_reverse >"f$1"
}

# Hexadecimal bytes, one a line, to bytes; bash alone, no xxd needed.
xxd_reverse()
{
    local line text=
    while read -r line; do
        text+="\\x$line"
    done
    # shellcheck disable=SC2059 # the format is the text
    printf "$text"
}

libc_case() # CPUs, image
{
    local n files=()
    for n in 0 1 4095 4096 4097 20000; do
        given_file $n
        files+=(-f f$n)
    done
    mkdir -p d/e
    echo deep >d/e/deep.txt
    tap -c "$1" -e 'GUEST=a "b" \c' "${files[@]}" -f d "$2" \
        f0 f1 f4095 f4096 f4097 f20000
    tail -n 3 out >last
    printf '# at exit: %s\n' "registered second" "registered first" \
        destructor >expected
    same expected last "the last lines"
    [ "$(grep -c '^gneiss: fork: not implemented, returns ENOSYS$' err)" = 1 ] ||
        fail "a call that is not there is not named once"
}

prints_case() # image
{
    local cpu i
    guest -c 2 "$1"
    status_is 0
    for cpu in 0 1; do
        for i in $(seq 0 4999); do
            echo "cpu $cpu line $i"
        done
    done | sort >expected
    head -n -1 out | sort >found
    # the last line has no newline: head leaves it out
    same expected found "what two CPUs printed"
    [ "$(tail -n 1 out)" = "the end, without a newline" ] ||
        fail "the last text was not flushed"
}

# What args.c prints for these arguments and this environment.
expect_args() # program name, argument...
{
    local a
    echo "argc $#"
    for a in "$@"; do
        echo "arg $(printf %s "$a" | wc -c):$a"
    done
}

args_case() # image
{
    local many long
    set -- "$1" "" "a b" '"' "\\" "\\\\" 'x"y\z' " lead" "trail " -- --help \
        -f "tab	tab" "\$HOME" "'" "a=b" "seed=1" "käse"
    guest -e "A=1" -e 'B=x "y" \z' -e EMPTY= "$@"
    status_is 0
    {
        expect_args args "${@:2}"
        printf 'env %s\n' "3:A=1" '10:B=x "y" \z' "6:EMPTY="
    } >expected
    same expected out "arguments and environment"
    mapfile -t many < <(seq 300)
    guest "$1" "${many[@]}"
    expect_args args "${many[@]}" >expected
    same expected out "300 arguments"
    long=$(printf 'x%.0s' {1..3000})
    guest "$1" "$long" "" 'q"\' "$long"
    expect_args args "$long" "" 'q"\' "$long" >expected
    same expected out "arguments of 6000 bytes"
    guest "$1"
    expect_args args >expected
    same expected out "no arguments"
}

entropy_of()
{
    sed -n 's/^# entropy //p' out
}

entropy_case() # image
{
    local model first second
    for model in max qemu64; do
        tap --cpu $model "$1"
        first=$(entropy_of)
        tap --cpu $model "$1"
        second=$(entropy_of)
        [ "$first" != "$second" ] || fail "two boots give the same ($model)"
        tap --cpu $model -o seed=5 "$1"
        first=$(entropy_of)
        tap --cpu $model -o seed=5 "$1"
        second=$(entropy_of)
        [ "$first" = "$second" ] || fail "seed=5 does not repeat ($model)"
        tap --cpu $model -o seed=6 "$1"
        [ "$first" != "$(entropy_of)" ] || fail "seed=6 is like seed=5"
    done
}

epoch_case() # image
{
    tap -o clock.epoch=1000000000 "$1" now=1000000000
    tap -M q35 -o clock.epoch=4000000000 "$1" now=4000000000
}

# DESIGN 13, and what the issue promises: 2 MiB and 300,000 bytes.
least_case() # image
{
    local size
    hello_case microvm max 1 2M "$1"
    hello_case q35 max 1 2M "$1"
    size=$("$root/tools/imgsize" "$1" | sed -n 's/.*memory=\([0-9]*\).*/\1/p')
    [ "$size" -le 300000 ] || fail "the image takes $size bytes, not 300000"
    note "hello takes $size bytes of memory"
}
