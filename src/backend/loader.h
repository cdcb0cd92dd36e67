/*
 * Backends that are plugins (plugin.h): where their file is looked for, and whether it may be used.
 *
 * The file of the backend "cuda" is libbalora-cuda.so. It is taken from the path that the context's options give,
 * and from there only; without one from the first of these that has it:
 *   1. the folder that libbalora itself was loaded from, or the program's where the library is linked into it;
 *   2. the folder that the environment's BALORA_PLUGIN_DIR names, if that is an absolute path.
 * Never from the current directory nor from where the dynamic linker would look. A file that is there but cannot be
 * used ends the search. A plugin stays loaded until the process ends.
 */
#ifndef BACKEND_LOADER_H
#define BACKEND_LOADER_H

#include <limits.h>

#include "backend/ops.h"

#define LOADER_FOLDER_VARIABLE "BALORA_PLUGIN_DIR"

typedef struct loader_result {
    const backend_ops *ops;           /* NULL: it was not found or is refused */
    char path[PATH_MAX];              /* of the file that was found; "": none was */
    char searched[2 * PATH_MAX + 96]; /* the places that were tried, for people */
} loader_result;

/*
 * Find and load the plugin of the backend `name`; `path` is its file, or NULL. `out` is filled after a failure too,
 * as far as it went. BALORA_ERROR_UNSUPPORTED: not found, not loadable or no plugin; BALORA_ERROR_ABI: made for
 * another version.
 */
balora_status loader_load(loader_result *out, const char *name, const char *path);

#endif
