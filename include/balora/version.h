/* Release and ABI version. The soname follows the ABI version, not the release. */
#ifndef BALORA_VERSION_H
#define BALORA_VERSION_H

#include <stdint.h>

#include "balora/export.h"

#define BALORA_VERSION_MAJOR 0
#define BALORA_VERSION_MINOR 1
#define BALORA_VERSION_PATCH 0

/* Raised when a released symbol or struct changes incompatibly; fields appended to option structs do not
 * count. */
#define BALORA_ABI_VERSION 0

BALORA_BEGIN_DECLS

/* Release of the library that runs, "major.minor.patch". Static storage; any thread. Since 0.1. */
BALORA_API const char *balora_version(void);

/* BALORA_ABI_VERSION that the running library was built with. Since 0.1. */
BALORA_API int32_t balora_abi_version(void);

BALORA_END_DECLS

#endif
