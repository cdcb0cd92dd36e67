/* Structs that cross the border: option structs coming in, information structs going out. */
#ifndef LIB_OPTIONS_H
#define LIB_OPTIONS_H

#include <stdint.h>

#include "balora/options.h"

/*
 * Complete a caller's option struct of any version: the defaults, then what the caller's size covers, checked
 * against the option table. `complete` is the struct that `options` (BALORA_OPTIONS_...) names; `caller` may
 * be NULL.
 */
balora_status options_import(int32_t options, void *complete, const void *caller);

/* The same for a struct without an option table: `complete` [bytes] from `defaults` and the caller's. */
balora_status options_import_plain(void *complete, const void *defaults, uint64_t bytes, const void *caller,
                                   const char *name);

/* The caller's struct `name` begins with a size that a version of this library can have given it. */
balora_status options_check_size(const void *caller, const char *name);

/* Copy an information struct of `bytes` bytes into the caller's, as far as its struct_size goes; what a newer
 * caller knows beyond is set to 0. options_check_size came first. */
void options_export(void *caller, const void *complete, uint64_t bytes);

#endif
