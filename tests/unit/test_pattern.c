/* Regular expressions of PEFT's configurations: what Python's re.fullmatch says of the same pairs, and refusals. */
#include "adapter/pattern.h"

#include "scratch.h"

static allocator memory;

static bool matches(const char *source, const char *text) {
    pattern compiled;
    pattern_problem problem = {0};
    if (pattern_compile(&compiled, &memory, source, &problem) != BALORA_OK)
        fail_msg("%s: %s at %zu", source, problem.what, problem.place);
    bool found = pattern_matches(&compiled, text, strlen(text), 0, strlen(text));
    pattern_free(&compiled);
    return found;
}

static const struct {
    const char *source, *text;
    bool matches;
} pairs[] = {
    {"q_proj", "q_proj", true},
    {"q_proj", "k.q_proj", false},
    {".*\\.q_proj", "model.layers.0.self_attn.q_proj", true},
    {".*\\.(q|v)_proj", "model.layers.0.self_attn.v_proj", true},
    {".*\\.(q|v)_proj", "model.layers.0.self_attn.k_proj", false},
    {".*\\.(?:q|v)_proj$", "model.layers.0.self_attn.q_proj", true},
    {"^model\\.layers\\.\\d+\\.mlp\\..*", "model.layers.12.mlp.up_proj", true},
    {"^model\\.layers\\.\\d+\\.mlp\\..*", "model.layers.x.mlp.up_proj", false},
    {"model.layers.[0-3].*", "model.layers.3.mlp.up_proj", true},
    {"model.layers.[0-3].*", "model.layers.4.mlp.up_proj", false},
    {"model\\.layers\\.([02468]|1[0-9])\\..*?_proj", "model.layers.14.mlp.up_proj", true},
    {"model\\.layers\\.([02468]|1[0-9])\\..*?_proj", "model.layers.3.mlp.up_proj", false},
    {"(?P<layer>[^.]+\\.)*up_proj", "a.b.c.up_proj", true},
    {"(?P<layer>[^.]+\\.)*up_proj", "a.b.c.down_proj", false},
    {"a{2}", "aa", true},
    {"a{2}", "aaa", false},
    {"a{2,}", "aaaaa", true},
    {"a{2,}", "a", false},
    {"a{,2}", "", true},
    {"a{,2}", "aaa", false},
    {"a{1,3}", "aaa", true},
    {"a{1,3}", "aaaa", false},
    {"(ab){2}c", "ababc", true},
    {"(ab){0}c", "c", true},
    {"(ab){0}c", "abc", false},
    {"(a|bc){2,3}d", "abcad", true},
    {"((a|b){2}c){2}", "abcbac", true},
    {"((a|b){2}c){2}", "abcbc", false},
    {"a{x}", "a{x}", true},
    {"a{}", "a{}", true},
    {"a{,}", "aaaa", true},
    {"a+?b", "aaab", true},
    {"a??b", "b", true},
    {"(a*)*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaac", false},
    {"(a|a)*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", true},
    {"", "", true},
    {"", "a", false},
    {"|a", "", true},
    {"a|", "a", true},
    {"()", "", true},
    {"a||b", "", true},
    {"[]a]", "]", true},
    {"[^]a]", "]", false},
    {"[a-]", "-", true},
    {"[\\d_]+", "12_3", true},
    {"[^\\W\\d]+", "ab_", true},
    {"[^\\W\\d]+", "a1", false},
    {"\\w+\\s\\w+", "ab cd", true},
    {"\\W\\S\\D", ".a-", true},
    {"\\bup\\b_?", "up", true},
    {"\\bup\\B_proj", "up_proj", true},
    {"a$b", "ab", false},
    {"a^b", "ab", false},
    {"(^a|b)c$", "ac", true},
    {"\\Aa\\.\\Z", "a.", true},
    {"a\\.b", "axb", false},
    {"a.b", "a\nb", false},
    {"a.b", "a.b", true},
    {"\\[\\]\\(\\)\\{\\}\\-\\/", "[](){}-/", true},
    {"\\t\\n", "\t\n", true},
    {"[\\b]", "\b", true},
    {"Q_PROJ", "q_proj", false},
};

static void pairs_match_as_python_says(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (matches(pairs[i].source, pairs[i].text) != pairs[i].matches)
            fail_msg("\"%s\" and \"%s\": expected %s", pairs[i].source, pairs[i].text,
                     pairs[i].matches ? "a match" : "none");
}

static const struct {
    const char *source;
    balora_status status;
    const char *what;
    size_t place;
} refusals[] = {
    {"a(?=b)", BALORA_ERROR_UNSUPPORTED, "a lookahead", 1},
    {"a(?!b)", BALORA_ERROR_UNSUPPORTED, "a lookahead", 1},
    {"(?<=a)b", BALORA_ERROR_UNSUPPORTED, "a lookbehind", 0},
    {"(?<!a)b", BALORA_ERROR_UNSUPPORTED, "a lookbehind", 0},
    {"(a)\\1", BALORA_ERROR_UNSUPPORTED, "a backreference or octal escape", 3},
    {"(?P<n>a)(?P=n)", BALORA_ERROR_UNSUPPORTED, "a backreference", 8},
    {"(?i)a", BALORA_ERROR_UNSUPPORTED, "a flag", 0},
    {"(?i:a)", BALORA_ERROR_UNSUPPORTED, "a flag", 0},
    {"(a)(?(1)b|c)", BALORA_ERROR_UNSUPPORTED, "a conditional group", 3},
    {"(?#a)", BALORA_ERROR_UNSUPPORTED, "a comment", 0},
    {"(?>a)", BALORA_ERROR_UNSUPPORTED, "an atomic group", 0},
    {"a*+", BALORA_ERROR_UNSUPPORTED, "a possessive quantifier", 2},
    {"\\x41", BALORA_ERROR_UNSUPPORTED, "an escape by a letter's number or name", 0},
    {"caf\xc3\xa9", BALORA_ERROR_UNSUPPORTED, "a letter that is not ASCII", 3},
    {"a{1001}", BALORA_ERROR_UNSUPPORTED, "a repetition of more than 1000 times", 1},
    {"((a{1000}){1000}){1000}", BALORA_ERROR_UNSUPPORTED, "a repetition too large for this version", 10},
    {"*a", BALORA_ERROR_FORMAT, "nothing to repeat", 0},
    {"(|*a)", BALORA_ERROR_FORMAT, "nothing to repeat", 2},
    {"a**", BALORA_ERROR_FORMAT, "a quantifier behind a quantifier", 2},
    {"a{3,2}", BALORA_ERROR_FORMAT, "a repetition whose least is above its most", 1},
    {"(a", BALORA_ERROR_FORMAT, "an opening parenthesis without its closing one", 0},
    {"a)", BALORA_ERROR_FORMAT, "a closing parenthesis without its opening one", 1},
    {"a[bc", BALORA_ERROR_FORMAT, "a class without its closing bracket", 1},
    {"[]", BALORA_ERROR_FORMAT, "a class without its closing bracket", 0},
    {"[z-a]", BALORA_ERROR_FORMAT, "a range from a later letter to an earlier one", 1},
    {"[a-\\d]", BALORA_ERROR_FORMAT, "a range that ends with a class", 1},
    {"a\\", BALORA_ERROR_FORMAT, "a backslash at the end", 1},
    {"\\q", BALORA_ERROR_FORMAT, "an escape that Python does not know", 0},
    {"(?P<n", BALORA_ERROR_FORMAT, "a group's name without its end", 0},
};

static void what_cannot_be_matched_is_named(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        pattern compiled;
        pattern_problem problem = {"nothing", 0};
        balora_status status = pattern_compile(&compiled, &memory, refusals[i].source, &problem);
        if (status != refusals[i].status || strcmp(problem.what, refusals[i].what) != 0 ||
            problem.place != refusals[i].place)
            fail_msg("\"%s\": %s: %s at %zu", refusals[i].source, balora_status_name(status), problem.what,
                     problem.place);
    }
    assert_int_equal(memory.current_bytes, 0);
}

/* What a backtracking engine needs 2^n steps for; and as much nesting and length as is allowed, and more. */
static void hostile_patterns_take_little(void **state) {
    (void)state;
    static char source[PATTERN_BYTES + 2], text[4096];
    pattern compiled;
    pattern_problem problem;
    memset(text, 'a', sizeof text - 1);
    assert_false(matches("(a|aa|aaa)*(a*)*(a+)+b", text));
    assert_false(matches("(a?){1000}b", text));
    memset(source, '(', PATTERN_BYTES);
    assert_int_equal(pattern_compile(&compiled, &memory, source, &problem), BALORA_ERROR_UNSUPPORTED);
    assert_string_equal(problem.what, "more than 64 groups in each other");
    memset(source, 'a', PATTERN_BYTES);
    assert_int_equal(pattern_compile(&compiled, &memory, source, &problem), BALORA_OK);
    pattern_free(&compiled);
    memset(source, 'a', PATTERN_BYTES + 1);
    assert_int_equal(pattern_compile(&compiled, &memory, source, &problem), BALORA_ERROR_UNSUPPORTED);
    assert_string_equal(problem.what, "a pattern of more than 4096 bytes");
    assert_int_equal(memory.current_bytes, 0);
}

static void a_part_of_a_text_is_matched_in_its_place(void **state) {
    (void)state;
    pattern compiled;
    pattern_problem problem;
    assert_int_equal(pattern_compile(&compiled, &memory, "^q|p$|lay", &problem), BALORA_OK);
    assert_true(pattern_matches(&compiled, "q.layer", 7, 0, 1));
    assert_true(pattern_matches(&compiled, "q.layer", 7, 2, 5));
    assert_false(pattern_matches(&compiled, "k.q", 3, 2, 3));
    assert_true(pattern_matches(&compiled, "q.p", 3, 2, 3));
    assert_false(pattern_matches(&compiled, "q.p.", 4, 2, 3));
    pattern_free(&compiled);
}

int main(void) {
    memory_init(&memory, NULL, NULL, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_match_as_python_says),
        cmocka_unit_test(what_cannot_be_matched_is_named),
        cmocka_unit_test(hostile_patterns_take_little),
        cmocka_unit_test(a_part_of_a_text_is_matched_in_its_place),
    };
    return cmocka_run_group_tests_name("pattern", tests, NULL, NULL);
}
