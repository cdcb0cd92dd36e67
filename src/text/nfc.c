#include "text/nfc.h"

#include <string.h>

#include "base/status.h"
#include "text/unicode.h"

/* Conjoining jamo are composed by arithmetic (The Unicode Standard, section 3.12). */
#define HANGUL_SYLLABLES   0xAC00u
#define HANGUL_LEADS       0x1100u
#define HANGUL_VOWELS      0x1161u
#define HANGUL_TRAILS      0x11A7u /* one before the first: a syllable without a trail has trail 0 */
#define HANGUL_LEAD_COUNT  19u
#define HANGUL_VOWEL_COUNT 21u
#define HANGUL_TRAIL_COUNT 28u
#define HANGUL_COUNT       (HANGUL_LEAD_COUNT * HANGUL_VOWEL_COUNT * HANGUL_TRAIL_COUNT)

#define FIRST_UNSAFE 0x300u /* everything below stays as it is and composes with nothing before it */

/* Characters of one region, decomposed: the code point below, its combining class above bit 24. */
typedef struct character_buffer {
    allocator *memory;
    uint32_t *items;
    size_t count, capacity;
} character_buffer;

#define CLASS_SHIFT    24
#define CODE_MASK      0xFFFFFFu
#define CLASS_OF(item) ((item) >> CLASS_SHIFT)

static uint32_t combining_class(uint32_t code) {
    size_t low = 0, high = unicode_combining_run_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (code > unicode_combining_runs[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == unicode_combining_run_count || code < unicode_combining_runs[low].first)
        return 0;
    return unicode_combining_runs[low].combining_class;
}

static const unicode_decomposition *find_decomposition(uint32_t code) {
    size_t low = 0, high = unicode_decomposition_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (code > unicode_decompositions[middle].code)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == unicode_decomposition_count || unicode_decompositions[low].code != code)
        return NULL;
    return &unicode_decompositions[low];
}

/* The primary composite of the pair; 0: there is none. */
static uint32_t compose_pair(uint32_t first, uint32_t second) {
    if (first - HANGUL_LEADS < HANGUL_LEAD_COUNT && second - HANGUL_VOWELS < HANGUL_VOWEL_COUNT)
        return HANGUL_SYLLABLES +
               ((first - HANGUL_LEADS) * HANGUL_VOWEL_COUNT + (second - HANGUL_VOWELS)) * HANGUL_TRAIL_COUNT;
    if (first - HANGUL_SYLLABLES < HANGUL_COUNT && (first - HANGUL_SYLLABLES) % HANGUL_TRAIL_COUNT == 0 &&
        second - HANGUL_TRAILS - 1 < HANGUL_TRAIL_COUNT - 1)
        return first + (second - HANGUL_TRAILS);
    size_t low = 0, high = unicode_composition_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const unicode_decomposition *row = &unicode_decompositions[unicode_compositions[middle]];
        if (row->first == first && row->second == second)
            return row->code;
        if (row->first < first || (row->first == first && row->second < second))
            low = middle + 1;
        else
            high = middle;
    }
    return 0;
}

static balora_status push(character_buffer *buffer, uint32_t code) {
    if (buffer->count == buffer->capacity) {
        size_t capacity = buffer->capacity < 64 ? 64 : buffer->capacity * 2;
        STATUS_TRY(memory_grow(buffer->memory, &buffer->items, buffer->count, capacity, sizeof *buffer->items,
                               "characters to normalize"));
        buffer->capacity = capacity;
    }
    buffer->items[buffer->count++] = code | combining_class(code) << CLASS_SHIFT;
    return BALORA_OK;
}

static balora_status decompose(character_buffer *buffer, uint32_t code) {
    uint32_t syllable = code - HANGUL_SYLLABLES;
    if (syllable < HANGUL_COUNT) {
        uint32_t trail = syllable % HANGUL_TRAIL_COUNT;
        syllable /= HANGUL_TRAIL_COUNT;
        STATUS_TRY(push(buffer, HANGUL_LEADS + syllable / HANGUL_VOWEL_COUNT));
        STATUS_TRY(push(buffer, HANGUL_VOWELS + syllable % HANGUL_VOWEL_COUNT));
        return trail > 0 ? push(buffer, HANGUL_TRAILS + trail) : BALORA_OK;
    }
    /* Only the first half of a pair decomposes further: the second halves wait on a short stack. */
    uint32_t waiting[4];
    size_t depth = 0;
    const unicode_decomposition *row;
    while ((row = find_decomposition(code)) != NULL && depth < sizeof waiting / sizeof *waiting) {
        code = row->first;
        if (row->second != 0)
            waiting[depth++] = row->second;
    }
    STATUS_TRY(push(buffer, code));
    while (depth > 0)
        STATUS_TRY(push(buffer, waiting[--depth]));
    return BALORA_OK;
}

/* Sort one run of combining marks by class, keeping the order inside a class. Linear, as a run may be long.
 */
static balora_status sort_marks(allocator *memory, uint32_t *items, size_t count) {
    bool sorted = true;
    for (size_t i = 1; i < count && sorted; i++)
        sorted = CLASS_OF(items[i - 1]) <= CLASS_OF(items[i]);
    if (sorted)
        return BALORA_OK;
    uint32_t *copy;
    STATUS_TRY(memory_new(memory, &copy, count, sizeof *copy, "combining marks"));
    memcpy(copy, items, count * sizeof *copy);
    size_t place[257] = {0};
    for (size_t i = 0; i < count; i++)
        place[CLASS_OF(copy[i]) + 1]++;
    for (size_t i = 1; i < 257; i++)
        place[i] += place[i - 1];
    for (size_t i = 0; i < count; i++)
        items[place[CLASS_OF(copy[i])]++] = copy[i];
    memory_free(memory, copy);
    return BALORA_OK;
}

static balora_status order_marks(character_buffer *buffer) {
    size_t begin = 0;
    while (begin < buffer->count) {
        size_t end = begin;
        while (end < buffer->count && CLASS_OF(buffer->items[end]) != 0)
            end++;
        if (end - begin > 1)
            STATUS_TRY(sort_marks(buffer->memory, buffer->items + begin, end - begin));
        begin = end + 1;
    }
    return BALORA_OK;
}

/* Canonical composition in place. */
static void compose(character_buffer *buffer) {
    size_t kept = 0, starter = SIZE_MAX;
    for (size_t i = 0; i < buffer->count; i++) {
        uint32_t item = buffer->items[i];
        if (starter != SIZE_MAX) {
            /* A mark is blocked by one kept after the starter whose class is not below its own. */
            bool blocked = kept - 1 > starter && CLASS_OF(buffer->items[kept - 1]) >= CLASS_OF(item);
            uint32_t composite =
                blocked ? 0 : compose_pair(buffer->items[starter] & CODE_MASK, item & CODE_MASK);
            if (composite != 0) {
                buffer->items[starter] = composite;
                continue;
            }
        }
        if (CLASS_OF(item) == 0)
            starter = kept;
        buffer->items[kept++] = item;
    }
    buffer->count = kept;
}

/* Normalize the characters of `text`, which begin with a starter and are followed by a safe one. */
static balora_status normalize_region(text_buffer *out, character_buffer *characters, const char *text,
                                      const char *end) {
    characters->count = 0;
    while (text < end)
        STATUS_TRY(decompose(characters, utf8_next(&text)));
    STATUS_TRY(order_marks(characters));
    compose(characters);
    for (size_t i = 0; i < characters->count; i++) {
        STATUS_TRY(text_buffer_reserve(out, 4));
        out->count += utf8_write(out->bytes + out->count, characters->items[i] & CODE_MASK);
    }
    return BALORA_OK;
}

static bool is_unsafe(uint32_t code) {
    return code >= FIRST_UNSAFE && (unicode_property(code) & UNICODE_NFC_UNSAFE) != 0;
}

/* Find the first run of unsafe characters from `text` on, with the safe one before it. False: there is none.
 */
static bool find_region(const char *text, const char *end, const char **region, const char **region_end) {
    const char *before = text;
    while (text < end) {
        const char *here = text;
        if (!is_unsafe(utf8_next(&text))) {
            before = here;
            continue;
        }
        *region = before;
        while (text < end) {
            here = text;
            if (!is_unsafe(utf8_next(&text))) {
                *region_end = here;
                return true;
            }
        }
        *region_end = end;
        return true;
    }
    return false;
}

bool nfc_is_normal(const char *text, size_t bytes) {
    const char *region, *region_end;
    return !find_region(text, text + bytes, &region, &region_end);
}

balora_status nfc_normalize(text_buffer *out, const char *text, size_t bytes) {
    character_buffer characters = {.memory = out->memory};
    const char *end = text + bytes, *region, *region_end;
    balora_status status = BALORA_OK;
    while (find_region(text, end, &region, &region_end)) {
        STATUS_GOTO(text_buffer_append(out, text, (size_t)(region - text)));
        STATUS_GOTO(normalize_region(out, &characters, region, region_end));
        text = region_end;
    }
    STATUS_GOTO(text_buffer_append(out, text, (size_t)(end - text)));
fail:
    memory_free(characters.memory, characters.items);
    return status;
}
