/* What the build and the machine offer, as JSON: see docs/formats.md. */
#ifndef LIB_DESCRIBE_H
#define LIB_DESCRIBE_H

#include "base/context.h"

/* One JSON object as text in the context's memory. Leaves the thread's failure detail alone when it succeeds. */
balora_status describe_machine(char **out, balora_context *context);

#endif
