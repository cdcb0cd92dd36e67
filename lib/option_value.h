/* One field of an option struct: its check, and its value from and to text, whatever the host's locale is. */
#ifndef LIB_OPTION_VALUE_H
#define LIB_OPTION_VALUE_H

#include "balora/status.h"
#include "option_table.h"

/* The field's value in `object` is in its bounds, or one of its choices. */
balora_status option_value_check(const option_field *field, const void *object);

/* Parse `text` into the field; the object is untouched after a failure. Text values are borrowed. */
balora_status option_value_parse(const option_field *field, void *object, const char *text);

/* Write the field's value as text. */
balora_status option_value_print(const option_field *field, const void *object, char *buffer,
                                 size_t capacity);

#endif
