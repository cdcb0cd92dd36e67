/*
 * The safetensors container: 8 bytes of header length (little endian), a JSON header, then the tensors'
 * bytes.
 *
 * The reader trusts nothing: every tensor's place is proven to lie in the file, without hole or overlap,
 * before any size from the file is used.
 */
#ifndef FORMAT_SAFETENSORS_H
#define FORMAT_SAFETENSORS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/file.h"
#include "format/json.h"

#define SAFETENSORS_HEADER_LIMIT UINT64_C(100000000)
#define SAFETENSORS_TENSOR_LIMIT 1000000
#define SAFETENSORS_NAME_LIMIT   1024 /* bytes */
#define SAFETENSORS_RANK_LIMIT   8
#define SAFETENSORS_SHAPE_TEXT   192 /* holds any shape as text */

typedef struct safetensors_entry {
    const char *name;
    char type_name[16]; /* as the file has it: "F32", "F8_E4M3", ... */
    int32_t dtype;      /* BALORA_F32, ...; BALORA_DTYPE_AUTO for a type that this library has no code for */
    int32_t rank;
    int64_t shape[SAFETENSORS_RANK_LIMIT];
    int64_t elements;
    uint64_t offset; /* of its first byte in the file; not aligned to anything */
    uint64_t bytes;
} safetensors_entry;

typedef struct safetensors_file {
    file_reader file;
    safetensors_entry *entries; /* in the order of their bytes */
    int64_t count;
    const safetensors_entry **by_name;
    char *names;
    json_t *metadata; /* an object of strings; NULL when the file has none */
} safetensors_file;

/* The value may be moved while it is open. */
balora_status safetensors_open(safetensors_file *out, allocator *memory, const char *path);
void safetensors_close(safetensors_file *self); /* also on a zeroed value, and twice */

/* NULL when there is no such tensor. */
const safetensors_entry *safetensors_find(const safetensors_file *self, const char *name);

/* The tensor's bytes, all or `bytes` of them from `offset` of the tensor on. */
balora_status safetensors_read(const safetensors_file *self, const safetensors_entry *entry, void *out);
balora_status safetensors_read_part(const safetensors_file *self, const safetensors_entry *entry,
                                    uint64_t offset, uint64_t bytes, void *out);

/* "[32, 64]" into `text`, which it returns. */
const char *safetensors_shape_text(char text[SAFETENSORS_SHAPE_TEXT], int32_t rank, const int64_t *shape);

/* A tensor to be written. `data` is used by safetensors_save only. */
typedef struct safetensors_tensor {
    const char *name;
    int32_t dtype;
    int32_t rank;
    int64_t shape[SAFETENSORS_RANK_LIMIT];
    const void *data;
} safetensors_tensor;

/*
 * A file under construction. Tensors lie in the file by falling element size and otherwise as declared, so
 * that all are aligned, which some readers need:
 *
 *     for (int64_t i; (i = safetensors_next(&writer)) >= 0;)
 *         ... safetensors_write(&writer, bytes of tensors[i]), in as many pieces as is handy
 */
typedef struct safetensors_writer {
    file_writer file;
    int64_t *order;      /* the declared index of the tensor at each place */
    uint64_t *remaining; /* by place: bytes still to come */
    int64_t count;
    int64_t place;
} safetensors_writer;

/* Names and shapes are copied. `metadata`: an object of strings; NULL: {"format": "pt"}, which Transformers
 * asks for. */
balora_status safetensors_create(safetensors_writer *out, allocator *memory, const char *path,
                                 const safetensors_tensor *tensors, int64_t count, const json_t *metadata);
/* The declared index of the tensor whose bytes come next; -1 behind the last. */
int64_t safetensors_next(safetensors_writer *writer);
balora_status safetensors_write(safetensors_writer *writer, const void *data, uint64_t bytes);
balora_status safetensors_publish(safetensors_writer *writer); /* the writer is finished either way */
void safetensors_abandon(safetensors_writer *writer);          /* also after publish, and twice */

/* Write tensors that lie in memory. */
balora_status safetensors_save(allocator *memory, const char *path, const safetensors_tensor *tensors,
                               int64_t count, const json_t *metadata);

#endif
