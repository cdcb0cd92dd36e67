/* Normalization form C: Unicode's own examples, long runs of marks, and laws over all characters. */
#include "scratch.h"
#include "text/nfc.h"
#include "text/unicode.h"

static text_buffer normalize(scratch *self, const char *text, size_t bytes) {
    text_buffer out = {.memory = &self->memory};
    assert_int_equal(utf8_check(text, bytes), bytes);
    expect_ok(nfc_normalize(&out, text, bytes));
    return out;
}

static void examples_of_the_standard(void **state) {
    scratch *self = *state;
    /* UAX #15, figures 3 to 6 and its text, and rows of NormalizationTest.txt. */
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"", ""},
        {"plain ASCII", "plain ASCII"},
        {"\u212B", "\u00C5"}, /* a singleton */
        {"\u2126", "\u03A9"},
        {"A\u030A", "\u00C5"},
        {"o\u0302\u0323", "\u1ED9"}, /* marks are ordered before they compose */
        {"s\u0323\u0307", "\u1E69"},
        {"\u1E9B\u0323", "\u1E9B\u0323"},
        {"d\u0307\u0323", "\u1E0D\u0307"},
        {"q\u0307\u0323", "q\u0323\u0307"},
        {"\u0958", "\u0915\u093C"}, /* excluded from composition */
        {"\u0344", "\u0308\u0301"},
        {"\uFB01", "\uFB01"}, /* compatibility characters stay */
        {"\u1100\u1161", "\uAC00"},
        {"\u1100\u1161\u11A8", "\uAC01"},
        {"\uAC00\u11A8", "\uAC01"},
        {"\uAC01\u11A8", "\uAC01\u11A8"},
        {"\u1100\u1100\u1161", "\u1100\uAC00"},
        {"a\u0315\u0300\u05AE"
         "b",
         "\u00E0\u05AE\u0315b"}, /* the same class: order kept */
        {"a\u0301\u0300", "\u00E1\u0300"},
        {"\u0301e", "\u0301e"}, /* a mark without a starter */
        {"e\u0327\u0301", "\u0229\u0301"},
        {"\u03B1\u0345\u0301", "\u1FB4"},
        {"\u09C7\u09BE", "\u09CB"},                   /* two starters compose */
        {"\u09C7\u0334\u09BE", "\u09C7\u0334\u09BE"}, /* blocked */
        {"\U0001D157\U0001D165", "\U0001D157\U0001D165"},
        {"x\u0301y e\u0301 z", "x\u0301y \u00E9 z"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        text_buffer found = normalize(self, cases[i].text, strlen(cases[i].text));
        assert_int_equal(found.count, strlen(cases[i].expected));
        if (found.count > 0)
            assert_memory_equal(found.bytes, cases[i].expected, found.count);
        text_buffer_free(&found);
    }
}

/* Every character after a base and a mark: normalizing twice changes nothing more, and the quick check never
 * lies. */
static void laws_hold_for_every_character(void **state) {
    scratch *self = *state;
    static const char *const frames[][2] = {
        {"", ""}, {"e\u0323", "\u0301"}, {"\u1100", "\u1161"}, {"\u0334", "\u0338"}};
    for (size_t f = 0; f < sizeof frames / sizeof frames[0]; f++)
        for (uint32_t code = 1; code < 0x110000; code += code < 0x30000 ? 1 : 97) {
            if (code >= 0xD800 && code < 0xE000)
                continue;
            char text[32];
            size_t bytes = strlen(strcpy(text, frames[f][0]));
            bytes += utf8_write(text + bytes, code);
            bytes += strlen(strcpy(text + bytes, frames[f][1]));
            text_buffer once = normalize(self, text, bytes);
            text_buffer twice = normalize(self, once.bytes, once.count);
            bool same = once.count == twice.count && memcmp(once.bytes, twice.bytes, once.count) == 0;
            bool kept = once.count == bytes && memcmp(once.bytes, text, bytes) == 0;
            if (!same || (nfc_is_normal(text, bytes) && !kept))
                fail_msg("frame %zu, U+%04X", f, code);
            text_buffer_free(&once);
            text_buffer_free(&twice);
        }
}

/* A million marks in the wrong order: sorting must not be quadratic, and is stable. */
static void long_runs_of_marks_are_sorted(void **state) {
    scratch *self = *state;
    enum { PAIRS = 250000 };
    char *text = malloc(4 * PAIRS + 1);
    text[0] = 'q';
    for (size_t i = 0; i < PAIRS; i++)
        memcpy(text + 1 + 4 * i, "\u0307\u0323", 4); /* classes 230 and 220 */
    text_buffer found = normalize(self, text, 4 * PAIRS + 1);
    assert_int_equal(found.count, 4 * PAIRS + 1);
    for (size_t i = 0; i < 2 * PAIRS; i++)
        assert_memory_equal(found.bytes + 1 + 2 * i, i < PAIRS ? "\u0323" : "\u0307", 2);
    text_buffer_free(&found);
    free(text);
}

static void characters_round_trip(void **state) {
    (void)state;
    for (uint32_t code = 0; code < 0x110000; code++) {
        char text[4];
        size_t bytes = utf8_write(text, code);
        bool surrogate = code >= 0xD800 && code < 0xE000;
        assert_int_equal(utf8_check(text, bytes), surrogate ? 0 : bytes);
        const char *at = text;
        assert_int_equal(utf8_next(&at), code);
        assert_ptr_equal(at, text + bytes);
        assert_int_equal(utf8_previous(&at), code);
        assert_ptr_equal(at, text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(examples_of_the_standard),
        SCRATCH_TEST(laws_hold_for_every_character),
        SCRATCH_TEST(long_runs_of_marks_are_sorted),
        cmocka_unit_test(characters_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
