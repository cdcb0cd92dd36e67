/* JSON files and values through jansson: bounded depth, no duplicate keys, errors that name file and key. */
#ifndef FORMAT_JSON_H
#define FORMAT_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"

#define JSON_DEPTH_LIMIT 64

/* Parse UTF-8. `origin` names the file (and place) in messages. The value is owned: json_decref. */
balora_status json_parse(json_t **out, const char *text, size_t bytes, const char *origin);

/* Read and parse a file of at most `limit` bytes whose top is an object. */
balora_status json_read_object(json_t **out, allocator *memory, const char *path, uint64_t limit);

/* "an object", "a string", ...: for messages. */
const char *json_type_name(const json_t *value);

/*
 * Members of an object. An absent key, or null, leaves *out as it is (give it the default first); another
 * type or a value outside [low, high] is BALORA_ERROR_FORMAT naming origin and key. `required` turns absence
 * into an error.
 */
balora_status json_member_integer(const json_t *object, const char *key, const char *origin, bool required,
                                  int64_t low, int64_t high, int64_t *out);
balora_status json_member_number(const json_t *object, const char *key, const char *origin, bool required,
                                 double *out);
balora_status json_member_boolean(const json_t *object, const char *key, const char *origin, bool *out);
/* The string is borrowed from the object. */
balora_status json_member_string(const json_t *object, const char *key, const char *origin, bool required,
                                 const char **out);

/* A checksum of a value, whatever the layout and order of keys of the text that it came from. */
balora_status json_checksum(uint32_t *out, const json_t *value);

/* Give a text of json_dumps back, by the allocator that jansson has (a host may have set its own). */
void json_free_text(char *text);

/* Write a value to a file, atomically: indent 2, sorted keys when asked, a line end at the end. */
balora_status json_write_file(allocator *memory, const char *path, const json_t *value, bool sort_keys);

#endif
