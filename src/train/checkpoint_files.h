/* The files of one checkpoint's folder: names, the manifest, the arrays. */
#ifndef TRAIN_CHECKPOINT_FILES_H
#define TRAIN_CHECKPOINT_FILES_H

#include "base/context.h"
#include "format/safetensors.h"
#include "tensor/view.h"

#define CHECKPOINT_NAME_BYTES 48
#define CHECKPOINT_STEP_LIMIT INT64_C(1000000000000)
#define CHECKPOINT_JSON_LIMIT (UINT64_C(8) << 20) /* bytes of manifest.json and trainer.json */

/* What a manifest speaks for, in the order of writing. */
enum { CHECKPOINT_ADAPTER, CHECKPOINT_OPTIMIZER, CHECKPOINT_TRAINER, CHECKPOINT_FILES };
extern const char *const checkpoint_file_names[CHECKPOINT_FILES];

typedef struct checkpoint_file {
    uint64_t bytes;
    uint32_t checksum;
} checkpoint_file;

/* "step-00000500", and FOLDER/step-00000500; owned. */
void checkpoint_name(char name[CHECKPOINT_NAME_BYTES], int64_t step);
balora_status checkpoint_path(allocator *memory, char **out, const char *folder, int64_t step);

/* Steps that FOLDER has a checkpoint's folder of, falling. With `clean`, what a process that is gone left half-written
 * is removed. NOT_FOUND: there is no FOLDER. */
typedef struct checkpoint_list {
    allocator *memory;
    int64_t *steps;
    int64_t count;
} checkpoint_list;
balora_status checkpoint_list_read(checkpoint_list *out, allocator *memory, const char *folder, bool clean);
void checkpoint_list_free(checkpoint_list *self); /* also on a zeroed value, and twice */

/* Write PATH/manifest.json. */
balora_status manifest_write(allocator *memory, const char *path, int64_t step,
                             const checkpoint_file files[CHECKPOINT_FILES]);

/* Read it, and every file that it speaks for. Errors: NOT_FOUND, IO, FORMAT; UNSUPPORTED: of a later form. */
balora_status manifest_verify(allocator *memory, const char *path, int64_t step);

/* Arrays on a device, and the way to them. */
typedef struct checkpoint_arrays {
    balora_context *context;
    const backend *device;
    backend_queue *queue;
    named_view views[8];
    int32_t count;
    bool heed_cancel; /* while writing */
} checkpoint_arrays;

balora_status checkpoint_arrays_write(const checkpoint_arrays *self, const char *path,
                                      checkpoint_file *written);

/* Open a file of exactly these arrays. FORMAT: names, types or lengths differ. Then fill the device's from it. */
balora_status checkpoint_arrays_open(const checkpoint_arrays *self, safetensors_file *out, const char *path);
balora_status checkpoint_arrays_read(const checkpoint_arrays *self, const safetensors_file *file);

#endif
