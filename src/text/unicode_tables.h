/* The data behind unicode.h and nfc.c, made by scripts/make_unicode_tables.py. */
#ifndef TEXT_UNICODE_TABLES_H
#define TEXT_UNICODE_TABLES_H

#include <stddef.h>
#include <stdint.h>

#define UNICODE_BLOCK_SIZE 256
#define UNICODE_BLOCKS     (0x110000 / UNICODE_BLOCK_SIZE)

/* Code points first..last share a canonical combining class, which is not 0. Sorted. */
typedef struct unicode_combining_run {
    uint32_t first, last;
    uint8_t combining_class;
} unicode_combining_run;

/* One level of canonical decomposition; second is 0 for a singleton. Sorted by code point. */
typedef struct unicode_decomposition {
    uint32_t code, first, second;
} unicode_decomposition;

/* Two stages: which block of properties the 256 code points have; a property is a letter: see
 * unicode_property(). */
extern const unsigned char unicode_block[UNICODE_BLOCKS];
extern const char unicode_properties[][UNICODE_BLOCK_SIZE + 1];

extern const unicode_combining_run unicode_combining_runs[];
extern const size_t unicode_combining_run_count;
extern const unicode_decomposition unicode_decompositions[];
extern const size_t unicode_decomposition_count;

/* Places in unicode_decompositions of the pairs that recompose, sorted by (first, second). */
extern const uint16_t unicode_compositions[];
extern const size_t unicode_composition_count;

#endif
