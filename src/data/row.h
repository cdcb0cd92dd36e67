/* What a JSON Lines row says: which form it has, and its texts. */
#ifndef DATA_ROW_H
#define DATA_ROW_H

#include "format/json.h"

typedef enum row_form {
    ROW_INSTRUCTION, /* source goes into the instruction prompt, target is the answer */
    ROW_COMPLETION,  /* target continues source as it is */
    ROW_TEXT,        /* target alone */
    ROW_MESSAGES     /* a conversation */
} row_form;

/* Borrowed from the row's JSON value. */
typedef struct data_row {
    row_form form;
    const char *source, *target;
    const json_t *messages;
} data_row;

/* The keys that --fields names. */
typedef struct row_fields {
    char *names; /* owned; NULL: every row is recognised by its keys */
    const char *source, *target;
} row_fields;

/* "a,b" (instruction and answer) or "a" (text); NULL: none. Free with memory_free(memory, names). */
balora_status row_fields_parse(row_fields *out, allocator *memory, const char *text);

/* `origin` is file and line. Errors: FORMAT naming the key. */
balora_status row_read(data_row *out, const json_t *value, const row_fields *fields, const char *origin);

#endif
