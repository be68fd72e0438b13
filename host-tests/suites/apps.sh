# The apps: wordcount against the shell's tools, Lua against small scripts.

add wordcount/files wordcount_files @wordcount
add wordcount/stdin wordcount_stdin @wordcount
add wordcount/tree wordcount_tree @wordcount
add wordcount/edges wordcount_edges @wordcount
add wordcount/make wordcount_make
for cpus in 1 2 4; do
    add "pwordcount/${cpus}cpu" pwordcount_case @pwordcount @wordcount -c "$cpus"
    add "pwordcount/preempt-${cpus}cpu" pwordcount_case @pwordcount @wordcount \
        -c "$cpus" -o "stress=preempt seed=$cpus"
done
add pwordcount/q35-qemu64-2cpu pwordcount_case @pwordcount @wordcount -c 2 \
    -M q35 --cpu qemu64 -m 16M
add pwordcount/memory pwordcount_memory @pwordcount
add pwordcount/make pwordcount_make
add lua/language lua_case language @lua
add lua/system lua_case system @lua
add lua/status lua_status @lua
add lua/prompt lua_prompt @lua
add lua/make lua_make
for cpus in 1 2 4; do
    add "ring/${cpus}cpu" ring_case "$cpus" @ring
    add "mergesort/${cpus}cpu" mergesort_case "$cpus" @mergesort
done
add hello/arguments hello_arguments @hello
add same/boot same_runs @boot cpus=1
add same/lua same_lua @lua
add same/libc same_runs @prints
add same/tour same_runs @tour heap span tiny large return fragments
add same/tour-goroutines same_runs @tour grow goroutines
add same/mustdie same_runs @mustdie nil_in_qsort
add streams/stdout-only stdout_only

ring_case() # CPUs, image
{
    guest -c "$1" "$2" 20000 3
    status_is 0
    out_has "^20000 goroutines on $1 CPU"
    out_has '^the token went round 3 times'
    guest -c "$1" -m 16M "$2" 100000
    status_is 1
    err_has '^ring: no memory for goroutine [0-9]+ of 100000: run with more MEM'
    guest "$2" 0
    status_is 2
    err_has '^ring: 0: must be a number from 1'
}

mergesort_case() # CPUs, image
{
    local n
    for n in 1 2 3 8191 8192 8193 300000; do
        guest -c "$1" "$2" $n
        status_is 0
        out_has "^$n numbers in order on $1 CPUs?, [0-9.]+ ms\$"
    done
    guest "$2" many
    status_is 2
}

# What the issue says that wordcount prints.
shell_count() # file...
{
    cat "$@" | tr -cs 'A-Za-z' '\n' | tr 'A-Z' 'a-z' | grep . | sort |
        uniq -c | sort -k1,1nr -k2,2 | head -n 20
}

# Text of about $1 bytes, the same for the same seed $2: words of a skewed
# distribution, digits, punctuation, bytes that are no letters, CR LF.
make_text() # bytes, seed
{
    awk -v bytes="$1" -v seed="$2" 'BEGIN {
        srand(seed)
        for (i = 0; i < 3000; i++) {
            w = ""
            for (k = 1 + int(rand() * 9); k > 0; k--)
                w = w sprintf("%c", 97 + int(rand() * 26))
            word[i] = w
        }
        split(" |  |, |. |\n|\r\n|-|_|1|\303\244|\t|; |--|\n\n|!|0x", sep, "|")
        while (n < bytes) {
            r = rand()
            w = word[int(3000 * r * r * r)]
            if (rand() < 0.2) w = toupper(substr(w, 1, 1)) substr(w, 2)
            if (rand() < 0.01) w = toupper(w)
            s = rand() < 0.7 ? " " : sep[1 + int(rand() * 16)]
            printf "%s%s", w, s
            n += length(w) + length(s)
        }
    }'
}

# One text of 5 MB, made once for all cases that run at a time.
text_5mb()
{
    local text=$O/test/text-5mb
    (
        flock 9
        [ -s "$text" ] || { make_text 5000000 1 >"$text.new" &&
            mv "$text.new" "$text"; }
    ) 9>"$text.lock"
    echo "$text"
}

wordcount_files() # image
{
    local text
    text=$(text_5mb)
    cp "$text" one.txt
    rev one.txt >"two words.txt"
    tr a-m n-z <one.txt >three
    tac one.txt >four
    head -c 3000000 one.txt | tr -d ' ' >"five  'quoted\".txt"
    shell_count one.txt "two words.txt" three four five* >expected
    guest -f one.txt -f "two words.txt" -f three -f four -f five* "$1" \
        one.txt "two words.txt" three four five*
    status_is 0
    same expected out "23 MB in five files"
    guest -c 4 -M q35 -f one.txt "$1" one.txt
    shell_count one.txt >expected
    same expected out "one file on q35"
}

wordcount_stdin() # image
{
    local text
    text=$(text_5mb)
    head -c 1000000 "$text" >part
    echo "\$ tools/run -t $TIMEOUT_S $1 <part"
    "$root/tools/run" -t $TIMEOUT_S "$1" <part >out 2>err
    status=$?
    status_is 0
    shell_count part >expected
    same expected out "a megabyte from standard input"
    printf 'a b a' | "$root/tools/run" -t $TIMEOUT_S "$1" 2>err >out
    printf '      2 a\n      1 b\n' >expected
    same expected out "no newline at the end"
    "$root/tools/run" -t $TIMEOUT_S "$1" </dev/null 2>err >out
    [ $? = 0 ] && [ ! -s out ] || fail "an empty input"
}

wordcount_tree() # image
{
    mkdir -p "tree/a dir/deep" tree/empty
    make_text 100000 2 >tree/1
    make_text 100000 3 >"tree/a dir/2 3"
    make_text 50000 4 >"tree/a dir/deep/4"
    printf 'tail without newline' >tree/last
    shell_count tree/1 "tree/a dir/2 3" "tree/a dir/deep/4" tree/last >expected
    guest -f tree "$1" tree
    status_is 0
    same expected out "a directory"
    guest -f tree "$1"
    same expected out "without arguments, all files that were given"
    guest -f tree/1 -f "tree/a dir" -f tree/last "$1"
    same expected out "several files and directories"
}

wordcount_edges() # image
{
    : >empty
    printf 'under' >a
    printf 'stand. ÄÖ caf\303\251 x' >b
    shell_count empty a b >expected
    guest -f empty -f a -f b "$1" empty a b
    same expected out "a word goes on from file to file, as with cat"
    printf '%0300000d' 0 | tr 0 Q >long
    shell_count long >expected
    guest -f long "$1" long
    same expected out "a word of 300,000 letters"
    head -c 300000 /dev/urandom >random
    shell_count random >expected
    guest -f random "$1" random
    same expected out "random bytes"
    guest "$1" missing
    [ "$status" != 0 ] || fail "a missing file is no error"
    err_has missing
}

make_run() # make arguments
{
    echo "\$ make -s run $(printf '%q ' "$@")"
    make -s --no-print-directory -C "$root" CC="$CC" O="${O#"$root"/}" \
        run TIMEOUT=60 "$@"
}

wordcount_make()
{
    mkdir 'some dir'
    make_text 30000 5 >'some dir/a file'
    shell_count 'some dir/a file' >expected
    make_run APP=wordcount FILES="'$PWD/some dir'" >out.all 2>err
    grep -v '^\$ ' out.all >out
    same expected out "make run APP=wordcount"
    make_run APP=wordcount FILES="'$PWD/some dir'" 2>err | grep -v '^\$ ' |
        head -n 3 >out
    head -n 3 expected >expected.3
    same expected.3 out "| head -n 3"
    make_run APP=wordcount <'some dir/a file' 2>err | grep -v '^\$ ' >out
    same expected out "make run APP=wordcount <file"
}

# Both word counters print the same, to both streams and as status, but for their
# names in messages.
both_count() # what, pwordcount, wordcount, options, --, argument...
{
    local what=$1 one=$2 other=$3 options=()
    shift 3
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    guest "${options[@]}" "$other" "$@"
    mv out expected
    grep '^wordcount: ' err | sed 's/^/p/' >expected.err
    local expected_status=$status
    guest "${options[@]}" "$one" "$@"
    status_is "$expected_status"
    same expected out "$what: the outputs"
    grep '^pwordcount: ' err >err.own
    same expected.err err.own "$what: the messages"
}

# Blocks are of 64 KiB: words that end at a border, before it and behind it, that
# fill a block, and that fill several.
pwordcount_case() # pwordcount, wordcount, option of the runner...
{
    local images=("$1" "$2") options=("${@:3}") n
    make_text 600000 $((${#options[@]} + 7)) >text
    both_count "random text" "${images[@]}" -f text "${options[@]}" -- text
    [ "$(wc -l <expected)" = 20 ] || fail "wordcount printed too little"
    shell_count text >expected
    same expected out "random text: what the shell counts"
    for n in -2 -1 0 1 2; do
        head -c $((65536 + n)) /dev/zero | tr '\0' Q
        printf ' '
    done >borders
    both_count "words of a block" "${images[@]}" -f borders "${options[@]}" -- \
        borders borders
    head -c 300000 /dev/zero | tr '\0' L >long
    : >empty
    printf 'under' >a
    printf 'stand. \303\204 caf\303\251 x' >b
    head -c 150000 /dev/urandom >random
    both_count "all kinds" "${images[@]}" -f long -f empty -f a -f b -f random \
        "${options[@]}" -- empty a b random empty long long a random b missing a
    [ "$status" != 0 ] || fail "a missing file is no error"
    both_count "nothing" "${images[@]}" -f empty "${options[@]}" -- empty
    mkdir -p tree/deep
    head -c 70000 text >tree/1
    tail -c 70000 text >tree/deep/2
    both_count "a directory" "${images[@]}" -f tree "${options[@]}" -- tree
    both_count "all that was given" "${images[@]}" -f tree "${options[@]}" --
    head -c 200000 text >part
    echo "\$ tools/run -t $TIMEOUT_S ${options[*]} $1 <part"
    "$root/tools/run" -t $TIMEOUT_S "${options[@]}" "$1" <part >out 2>err
    status=$?
    status_is 0
    shell_count part >expected
    same expected out "standard input"
}

# Too little memory is a message and a status, from whichever goroutine it comes.
pwordcount_memory() # image
{
    head -c 1500000 /dev/zero | tr '\0' L >long
    guest -m 4M -c 2 -f long "$1" long
    status_is 1
    err_has '^pwordcount: out of memory after [0-9]+ words$'
}

pwordcount_make()
{
    make_text 30000 5 >text
    shell_count text >expected
    make_run APP=pwordcount FILES="'$PWD/text'" >out.all 2>err
    grep -v '^\$ ' out.all >out
    same expected out "make run APP=pwordcount"
    err_has '4 CPUs'
    make -s --no-print-directory -C "$root" host APP=pwordcount CPUS=2 \
        FILES="'$PWD/text'" >out 2>>err || fail "make host: status $?"
    same expected out "make host APP=pwordcount"
    make -s --no-print-directory -C "$root" host APP=pwordcount SAN=thread >out 2>&1 &&
        fail "a sanitizer is accepted"
    out_has 'SAN=thread: not for programs with goroutines'
}

# ---- Lua ----

lua_case() # script, image
{
    cp "$root"/host-tests/lua/*.lua .
    tap -m 256M -e HOME_OF_LUA=here -f check.lua -f "$1.lua" "$2" "$1.lua" \
        one "two words"
}

lua_status() # image
{
    echo 'os.exit(7)' >seven.lua
    guest -f seven.lua "$1" seven.lua
    status_is 7
    echo 'io.write("unflushed") os.exit(true, true)' >flush.lua
    guest -f flush.lua "$1" flush.lua
    status_is 0
    out_is unflushed
    echo 'error("out of luck")' >error.lua
    guest -f error.lua "$1" error.lua
    status_is 1
    err_has 'error\.lua:1: out of luck'
    err_has 'stack traceback'
    guest "$1" missing.lua
    status_is 1
    err_has 'cannot open .*missing\.lua'
    guest "$1" -e 'print(1 + 1)'
    out_is 2
    guest "$1" -v
    out_has '^Lua 5\.4'
}

lua_prompt() # image
{
    printf '1 + 1\nx = 5\nx * 2\nerror("e")\nfor i = 1, 2 do\nprint(i)\nend\n' >in
    guest "$1" -i <in
    status_is 0
    sed 's/^\(> \|>> \)*//' out | grep -v '^Lua 5' | grep . >found
    printf '2\n10\n1\n2\n' >expected
    same expected found "what the prompt printed"
    err_has 'stdin:1: e'
    out_has '^> '
    echo 'print("piped", ...)' >in
    echo "\$ tools/run $1 - a b <in"
    "$root/tools/run" -t $TIMEOUT_S "$1" - a b <in >out 2>err
    out_is "$(printf 'piped\ta\tb')"
}

lua_make()
{
    echo 'print("from make", arg[1])' >script.lua
    make_run APP=lua FILES="$PWD/script.lua" \
        ARGS="${PWD#/}/script.lua 'two words'" >out.all 2>err
    status=$?
    grep -v '^\$ ' out.all >out
    status_is 0
    out_is "$(printf 'from make\ttwo words')"
}

hello_arguments() # image
{
    guest "$1"
    out_is "Hello from Gneiss, world!"
    guest "$1" "you two"
    out_is "Hello from Gneiss, you two!"
}

# ---- the same run twice ----

same_runs() # image, argument...
{
    guest --icount -o seed=1 "$@"
    cp out out.1 && cp err err.1
    [ -s err.1 ] || fail "nothing was printed"
    guest --icount -o seed=1 "$@"
    same out.1 out "the outputs of two runs"
    same err.1 err "the messages of two runs"
}

same_lua() # image
{
    cp "$root/host-tests/lua/deterministic.lua" .
    same_runs -f deterministic.lua "$1" deterministic.lua
    status_is 0
    [ "$(wc -l <out)" -ge 6 ] || fail "the script printed too little"
}

# stdout carries the program's output and nothing else, from a fresh build too.
stdout_only()
{
    make_run APP=hello >out.all 2>err
    grep -v '^\$ ' out.all >out
    out_is "Hello from Gneiss, world!"
    make_run APP=hello OPTS=nosuch=1 >out.all 2>err
    grep -v '^\$ ' out.all >out
    out_is ""
    make_run APP="$root/host-tests/guest/args.c" ARGS="'a b' c" >out.all 2>err
    grep -v '^\$ ' out.all >out
    out_is "$(printf 'argc 3\narg 4:args\narg 3:a b\narg 1:c')"
}
