/* The one place where the option structs' keys, types, defaults, bounds and help are written. */
#ifndef LIB_OPTION_TABLE_H
#define LIB_OPTION_TABLE_H

#include <stddef.h>
#include <stdint.h>

/* How a field is stored in its struct. */
typedef enum option_storage {
    STORED_INT32,
    STORED_INT64,
    STORED_UINT64,
    STORED_DOUBLE,
    STORED_TEXT
} option_storage;

typedef struct option_field {
    const char *key;
    int32_t type; /* BALORA_OPTION_... */
    option_storage storage;
    size_t offset;
    double minimum, maximum;   /* both included; open ends are the next representable number */
    const char *default_value; /* as text; equal to the _INIT macro's, which a test holds */
    const char *choices;       /* "first|second" */
    const int32_t *values;     /* of the choices, in their order */
    const char *help;
} option_field;

typedef struct option_table {
    int32_t options;      /* BALORA_OPTIONS_... */
    const char *name;     /* of the struct */
    size_t bytes;         /* of the struct as this library knows it */
    const void *defaults; /* its _INIT value */
    size_t reserved;      /* offset of its int32_t padding, which must be 0; 0: none */
    const option_field *fields;
    size_t count;
} option_table;

/* NULL for a number that names no struct. */
const option_table *option_table_find(int32_t options);

#endif
