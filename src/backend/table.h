/* Tables that come from elsewhere are checked before they are used. */
#ifndef BACKEND_TABLE_H
#define BACKEND_TABLE_H

#include "backend/ops.h"

/*
 * The table is one that this library can work with, and the backend `name`'s: magic, ABI numbers, size, name,
 * and no required slot empty. Reads nothing beyond what it has checked. BALORA_ERROR_ABI where versions do not
 * fit, BALORA_ERROR_UNSUPPORTED where it is something else.
 */
balora_status table_check(const backend_ops *ops, const char *name);

#endif
