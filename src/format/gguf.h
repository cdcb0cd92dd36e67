/*
 * The GGUF container of ggml and llama.cpp: a header of named values and of tensors' descriptions, then the
 * tensors' bytes. Versions 2 and 3 (which are the same on little-endian machines), after the specification in
 * ggml's docs/gguf.md.
 *
 * The reader trusts nothing: the header is read forward in blocks, every count and length is compared with
 * what is left of the file before memory is taken, and every tensor's place is proven to lie in the file
 * without overlap.
 */
#ifndef FORMAT_GGUF_H
#define FORMAT_GGUF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/file.h"
#include "format/gguf_types.h"

#define GGUF_VERSION           3
#define GGUF_HEADER_LIMIT      UINT64_C(100000000)
#define GGUF_VALUE_LIMIT       1000000
#define GGUF_TENSOR_LIMIT      1000000
#define GGUF_NAME_LIMIT        1024 /* bytes of a key or a tensor's name */
#define GGUF_RANK_LIMIT        4
#define GGUF_DEFAULT_ALIGNMENT 32
#define GGUF_ALIGNMENT_LIMIT   (1u << 20)

/* A named value. Texts are closed with a NUL that their length does not count. */
typedef struct gguf_value {
    const char *key;
    uint32_t type;
    uint32_t element_type;       /* of an array */
    uint64_t count;              /* elements of an array, bytes of a text, otherwise 1 */
    const unsigned char *data;   /* as the file has it, borrowed from the header */
    uint64_t key_offset, offset; /* of key and data in the file */
} gguf_value;

typedef struct gguf_tensor {
    const char *name;
    const gguf_tensor_type *type;
    uint32_t type_code;
    int32_t rank;
    int64_t shape[GGUF_RANK_LIMIT]; /* as the file has it: innermost dimension first */
    int64_t elements;
    uint64_t name_offset;
    uint64_t offset; /* of its first byte in the file */
    uint64_t bytes;
} gguf_tensor;

typedef struct gguf_file {
    file_reader file;
    unsigned char *header;
    uint32_t version, alignment;
    gguf_value *values; /* by key */
    int64_t value_count;
    gguf_tensor *tensors; /* in the order of their bytes */
    int64_t tensor_count;
    const gguf_tensor **by_name;
} gguf_file;

/* The value may be moved while it is open. */
balora_status gguf_open(gguf_file *out, allocator *memory, const char *path);
void gguf_close(gguf_file *self); /* also on a zeroed value, and twice */

/* NULL when there is no such value, or tensor. */
const gguf_value *gguf_find_value(const gguf_file *self, const char *key);
const gguf_tensor *gguf_find_tensor(const gguf_file *self, const char *name);

/*
 * Values by key. An absent key leaves *out as it is (give it the default first) unless `required`; another
 * type, or a value that does not fit, is BALORA_ERROR_FORMAT naming file and key. Integers and numbers may be
 * of any width. Texts are borrowed from the file and hold no NUL.
 */
balora_status gguf_integer(const gguf_file *self, const char *key, bool required, int64_t low, int64_t high,
                           int64_t *out);
balora_status gguf_number(const gguf_file *self, const char *key, bool required, double *out);
balora_status gguf_flag(const gguf_file *self, const char *key, bool required, bool *out);
balora_status gguf_text(const gguf_file *self, const char *key, bool required, const char **out);

/* The array of that key: its elements must be of `element_type`. NULL in *out where the key is absent. */
balora_status gguf_array(const gguf_file *self, const char *key, bool required, uint32_t element_type,
                         const gguf_value **out);

/* Texts of an array one after the other: begin with *at = array->data, at most array->count times. The text is
 * not closed with a NUL, and may hold some. */
const char *gguf_next_text(const unsigned char **at, uint64_t *length);

/* `bytes` of a tensor's bytes from `offset` of the tensor on. */
balora_status gguf_read_part(const gguf_file *self, const gguf_tensor *tensor, uint64_t offset,
                             uint64_t bytes, void *out);
balora_status gguf_read(const gguf_file *self, const gguf_tensor *tensor, void *out);

/* What is to be written: a text or an F32. */
typedef struct gguf_setting {
    const char *key;
    gguf_value_type type;
    const char *text;
    double number;
} gguf_setting;

typedef struct gguf_output {
    const char *name;
    int32_t dtype;
    int32_t rank;
    int64_t shape[GGUF_RANK_LIMIT]; /* innermost dimension first */
} gguf_output;

/*
 * A file under construction. Tensors lie in it as declared, each at a multiple of the default alignment:
 *
 *     for (int64_t i; (i = gguf_next(&writer)) >= 0;)
 *         ... gguf_write(&writer, bytes of tensors[i]), in as many pieces as is handy
 */
typedef struct gguf_writer {
    file_writer file;
    uint64_t *remaining; /* by tensor: bytes still to come */
    uint64_t *padding;   /* and zeros behind them */
    int64_t count;
    int64_t place;
} gguf_writer;

balora_status gguf_create(gguf_writer *out, allocator *memory, const char *path, const gguf_setting *settings,
                          int64_t setting_count, const gguf_output *tensors, int64_t tensor_count);
/* Index of the tensor whose bytes come next; -1 behind the last. */
int64_t gguf_next(const gguf_writer *writer);
balora_status gguf_write(gguf_writer *writer, const void *data, uint64_t bytes);
balora_status gguf_publish(gguf_writer *writer); /* the writer is finished either way */
void gguf_abandon(gguf_writer *writer);          /* also after publish, and twice */

#endif
