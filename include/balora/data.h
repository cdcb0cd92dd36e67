/* Training data: tokenized sequences with their supervised positions. */
#ifndef BALORA_DATA_H
#define BALORA_DATA_H

#include "balora/model.h"

BALORA_BEGIN_DECLS

typedef struct balora_data_options {
    uint64_t struct_size;
    int64_t max_length; /* tokens kept of a sequence; 0: 512 for JSONL, everything for a token file */
    const char *fields; /* JSONL: "a,b", keys of the instruction and the answer; NULL: found in each row */
} balora_data_options;

#define BALORA_DATA_OPTIONS_INIT                                                                             \
    { sizeof(balora_data_options), 0, NULL }

/*
 * Open a data file; the kind follows the name's end.
 *
 * FILE.jsonl: one object a line: {"instruction", "response"}, {"question", "answer"} (both with the
 * instruction prompt),
 * {"prompt", "completion"} (as they are), {"text"} (everything supervised) or {"messages": [{"role",
 * "content"}, ...]} (the assistant's turns supervised). Tokenized with tokenizer.json of the model's folder;
 * answers close with the end-of-sequence token.
 *
 * FILE.safetensors: input_ids I32 or I64 [N], labels [N] (-100: not supervised; may be absent: all
 * supervised), offsets I64 [sequences + 1].
 *
 * Errors: NOT_FOUND, IO, FORMAT (file and line, or tensor and index), UNSUPPORTED (the tokenizer's kind),
 * MISMATCH (a token outside the vocabulary), ARGUMENT, MEMORY, ABI. Since 0.1.
 */
BALORA_API balora_status balora_data_open(balora_data **out, balora_model *model, const char *path,
                                          const balora_data_options *options);

/*
 * The same from arrays in memory, which are copied: input_ids and labels [offsets[sequences]], offsets
 * [sequences + 1] from 0. `labels` may be NULL: everything is supervised. Errors: ARGUMENT, MISMATCH, MEMORY.
 * Since 0.1.
 */
BALORA_API balora_status balora_data_from_tokens(balora_data **out, balora_model *model,
                                                 const int32_t *input_ids, const int32_t *labels,
                                                 const int64_t *offsets, int64_t sequences);

/* Give the handle back; NULL is allowed. Since 0.1. */
BALORA_API void balora_data_free(balora_data *data);

typedef struct balora_data_information {
    uint64_t struct_size;
    int64_t sequences, tokens;
    int64_t supervised_tokens; /* positions whose own label is supervised */
    int64_t longest_sequence;
    int64_t skipped_rows;   /* rows of the file without a supervised token in reach */
    int64_t truncated_rows; /* rows cut at max_length */
} balora_data_information;

#define BALORA_DATA_INFORMATION_INIT                                                                         \
    { sizeof(balora_data_information), 0, 0, 0, 0, 0, 0 }

/* Facts of a data set. Errors: ARGUMENT, ABI. Since 0.1. */
BALORA_API balora_status balora_data_describe(const balora_data *data, balora_data_information *out);

/*
 * Borrow one sequence: *input_ids and *labels [*length], valid as long as the handle. Errors: ARGUMENT. Since
 * 0.1.
 */
BALORA_API balora_status balora_data_sequence(const balora_data *data, int64_t index,
                                              const int32_t **input_ids, const int32_t **labels,
                                              int64_t *length);

BALORA_END_DECLS

#endif
