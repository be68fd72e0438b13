// sources: $(host) arch/option.c
// Boot options: what is taken, and what is refused with which words.

#include "host-tests/support.h"

#include "arch/option.h"

static bool flag;
static uint64_t count = 7;
static uint64_t bytes;
static const char *name;
OPTION_BOOL(o_flag, "test.flag", flag, "a flag");
OPTION_UINT(o_count, "test.count", count, 1, 100, "a number");
OPTION_STRING(o_name, "test.name", name, "a string");
OPTION_ROW(o_size, "test.size", "a size", &bytes, NULL, 0, UINT64_MAX,
           OPTION_SIZE);

static const char *set_call(const char *value)
{
    return strcmp(value, "good") == 0 ? NULL : "must be good";
}

OPTION_CALL(o_call, "test.call", set_call, "a call");

static struct option_words words;
static char line[512], err[512];

static const char *parse(const char *text)
{
    snprintf(line, sizeof line, "%s", text);
    return option_parse(line, &words, err, sizeof err);
}

static void sets_each_type(void **state)
{
    (void)state;
    assert_null(parse("test.flag=1 test.count=42  test.name=\"a b\" "
                      "test.size=2M test.call=good"));
    assert_true(flag);
    assert_int_equal(count, 42);
    assert_string_equal(name, "a b");
    assert_int_equal(bytes, 2 << 20);
    assert_int_equal(words.argc, 0);
}

static void refuses(const char *text, const char *part)
{
    const char *wrong = parse(text);

    assert_non_null(wrong);
    if (strstr(wrong, part) == NULL)
        fail_msg("%s: says \"%s\", not \"%s\"", text, wrong, part);
}

static void names_what_is_wrong_and_what_is_right(void **state)
{
    (void)state;
    refuses("nosuch=1", "unknown option \"nosuch=1\"");
    refuses("nosuch=1", "test.call test.count test.flag");
    refuses("test.count", "option test.count: the value is missing");
    refuses("test.coun", "unknown option");
    refuses("=1", "unknown option");
    refuses("test.flag=2", "must be 0 or 1");
    refuses("test.count=0", "from 1 to 100");
    refuses("test.count=101", "from 1 to 100");
    refuses("test.count=", "number");
    refuses("test.count=1x", "number");
    refuses("test.count=-1", "number");
    refuses("test.count=99999999999999999999999", "number");
    refuses("test.size=99999999999G", "number");
    refuses("test.size=1T", "number");
    refuses("test.call=bad", "must be good");
    refuses("test.name=\"abc", "quote without end");
    refuses("env.=x", "unknown option");
}

static const char *arg(int i)
{
    const char *p = words.args;

    while (i-- > 0)
        p += strlen(p) + 1;
    return p;
}

static void arguments_are_exact(void **state)
{
    (void)state;
    assert_null(
        parse("test.flag=0 -- \"a b\" \"\" \"q\\\"\\\\\" x\\y test.flag=1"));
    assert_int_equal(words.argc, 5);
    assert_string_equal(arg(0), "a b");
    assert_string_equal(arg(1), "");
    assert_string_equal(arg(2), "q\"\\");
    assert_string_equal(arg(3), "x\\y");
    assert_string_equal(arg(4), "test.flag=1");
    assert_false(flag);
}

static void environment_is_collected(void **state)
{
    (void)state;
    assert_null(parse("env.A=1 env.PATH=/x:/y \"env.B=two words\""));
    assert_int_equal(words.envc, 3);
    assert_string_equal(words.envp[0], "A=1");
    assert_string_equal(words.envp[2], "B=two words");
    assert_null(words.envp[3]);
    assert_null(parse("env.A=1 env.AB=2 env.A=3"));
    assert_int_equal(words.envc, 2);
    assert_string_equal(words.envp[0], "A=3");
    assert_string_equal(words.envp[1], "AB=2");
}

static void too_many_words_are_refused(void **state)
{
    static char many[8192];
    static char copy[8192];

    (void)state;
    strcpy(many, "--");
    for (int i = 0; i < OPTION_MAX_ARGS; i++)
        strcat(many, " a");
    strcpy(copy, many);
    assert_null(option_parse(copy, &words, err, sizeof err));
    assert_int_equal(words.argc, OPTION_MAX_ARGS);
    strcpy(copy, many);
    strcat(copy, " b");
    assert_non_null(option_parse(copy, &words, err, sizeof err));
}

static void any_bytes_are_parsed_without_harm(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++) {
        static const char bits[] = "ab.=\"\\ -\n1test.flag=env.";
        size_t n = support_below(60);

        for (size_t k = 0; k < n; k++)
            line[k] = bits[support_below(sizeof bits - 1)];
        line[n] = '\0';
        option_parse(line, &words, err, sizeof err);
    }
}

static char listed[256];

static void list(const struct option *o, void *arg)
{
    (void)arg;
    strcat(listed, o->name);
    strcat(listed, " ");
}

static void all_are_listed_by_name(void **state)
{
    (void)state;
    option_each(list, NULL);
    assert_string_equal(
        listed, "seed test.call test.count test.flag test.name test.size ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_each_type),
        cmocka_unit_test(names_what_is_wrong_and_what_is_right),
        cmocka_unit_test(arguments_are_exact),
        cmocka_unit_test(environment_is_collected),
        cmocka_unit_test(too_many_words_are_refused),
        cmocka_unit_test(any_bytes_are_parsed_without_harm),
        cmocka_unit_test(all_are_listed_by_name),
    };

    return cmocka_run_group_tests_name("option", tests, NULL, NULL);
}
