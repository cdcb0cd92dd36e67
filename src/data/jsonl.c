#include "data/jsonl.h"

#include <stdio.h>
#include <string.h>

#include "base/arith.h"
#include "base/status.h"
#include "data/lines.h"
#include "data/row.h"
#include "text/prompt.h"
#include "text/tokenizer.h"

/* A file on its way into a data set. */
typedef struct jsonl_reader {
    allocator *memory;
    const jsonl_options *options;
    line_reader lines;
    row_fields fields;
    tokenizer *tokenizer;
    prompt_sequence row;      /* the row at hand */
    token_buffer ids, labels; /* of all rows so far */
    int64_t *offsets;
    size_t sequences, offset_capacity;
    int64_t skipped, truncated;
    char origin[512]; /* file and line of the row at hand, for messages */
} jsonl_reader;

static balora_status encode_row(jsonl_reader *reader, const data_row *row) {
    prompt_sequence *out = &reader->row;
    switch (row->form) {
    case ROW_INSTRUCTION:
        return prompt_encode_instruction(out, reader->tokenizer, row->source, row->target);
    case ROW_COMPLETION:
        return prompt_encode_completion(out, reader->tokenizer, row->source, row->target);
    case ROW_TEXT:
        return prompt_encode_completion(out, reader->tokenizer, "", row->target);
    default:
        return prompt_encode_messages(out, reader->tokenizer, row->messages);
    }
}

/* A row that ends here is worth a sequence when a token behind its first one is supervised. */
static bool has_target(const int32_t *labels, size_t count) {
    for (size_t i = 1; i < count; i++)
        if (labels[i] != LABEL_NONE)
            return true;
    return false;
}

static balora_status check_vocabulary(const jsonl_reader *reader, const token_buffer *ids) {
    for (size_t i = 0; i < ids->count; i++)
        if (ids->ids[i] >= reader->options->vocabulary)
            return status_fail(
                BALORA_ERROR_MISMATCH,
                "%s: the tokenizer gives token %d, but the model's vocabulary has %lld: the tokenizer "
                "belongs to another model",
                reader->origin, ids->ids[i], (long long)reader->options->vocabulary);
    return BALORA_OK;
}

static balora_status append_offset(jsonl_reader *reader, int64_t offset) {
    if (reader->sequences + 1 >= reader->offset_capacity) {
        size_t wanted = reader->offset_capacity < 1024 ? 1024 : reader->offset_capacity * 2;
        STATUS_TRY(memory_grow(reader->memory, &reader->offsets, reader->offset_capacity, wanted,
                               sizeof *reader->offsets, "offsets of sequences"));
        reader->offset_capacity = wanted;
    }
    reader->offsets[0] = 0;
    reader->offsets[++reader->sequences] = offset;
    return BALORA_OK;
}

static balora_status append_row(jsonl_reader *reader) {
    const token_buffer *ids = &reader->row.ids, *labels = &reader->row.labels;
    size_t count = ids->count, limit = (size_t)reader->options->max_length;
    STATUS_TRY(check_vocabulary(reader, ids));
    bool cut = count > limit;
    count = cut ? limit : count;
    if (!has_target(labels->ids, count)) {
        reader->skipped++;
        return BALORA_OK;
    }
    reader->truncated += cut;
    STATUS_TRY(token_buffer_append_all(&reader->ids, ids->ids, count));
    STATUS_TRY(token_buffer_append_all(&reader->labels, labels->ids, count));
    return append_offset(reader, (int64_t)reader->ids.count);
}

static bool is_blank(const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (text[i] != ' ' && text[i] != '\t')
            return false;
    return true;
}

static balora_status read_line(jsonl_reader *reader, const char *text, size_t bytes) {
    snprintf(reader->origin, sizeof reader->origin, "%s:%lld", reader->lines.file.path,
             (long long)reader->lines.number);
    if (is_blank(text, bytes))
        return BALORA_OK;
    json_t *value;
    data_row row;
    STATUS_TRY(json_parse(&value, text, bytes, reader->origin));
    balora_status status = row_read(&row, value, &reader->fields, reader->origin);
    if (status == BALORA_OK) {
        status = encode_row(reader, &row);
        if (status != BALORA_OK)
            status_prefix(status, "%s", reader->origin);
    }
    json_decref(value);
    STATUS_TRY(status);
    return append_row(reader);
}

static balora_status read_lines(jsonl_reader *reader, const char *path) {
    STATUS_TRY(row_fields_parse(&reader->fields, reader->memory, reader->options->fields));
    STATUS_TRY(lines_open(&reader->lines, reader->memory, path));
    STATUS_TRY(tokenizer_open(&reader->tokenizer, reader->memory, reader->options->folder));
    for (;;) {
        const char *text;
        size_t bytes;
        balora_status status = lines_next(&reader->lines, &text, &bytes);
        if (status == BALORA_DONE)
            return BALORA_OK;
        STATUS_TRY(status);
        STATUS_TRY(read_line(reader, text, bytes));
    }
}

/* Hand the arrays over, without the room that they kept for growing. */
static balora_status take_arrays(dataset *out, jsonl_reader *reader) {
    if (reader->sequences == 0)
        return status_fail(
            BALORA_ERROR_FORMAT,
            "%s: no row to learn from: %lld rows have no supervised token among their first %lld",
            reader->lines.file.path, (long long)reader->skipped, (long long)reader->options->max_length);
    out->memory = reader->memory;
    size_t tokens = reader->ids.count, offsets = reader->sequences + 1;
    STATUS_TRY(memory_grow(reader->memory, &reader->ids.ids, tokens, tokens, sizeof(int32_t), "tokens"));
    STATUS_TRY(memory_grow(reader->memory, &reader->labels.ids, tokens, tokens, sizeof(int32_t), "labels"));
    STATUS_TRY(memory_grow(reader->memory, &reader->offsets, offsets, offsets, sizeof(int64_t),
                           "offsets of sequences"));
    out->ids = reader->ids.ids;
    out->labels = reader->labels.ids;
    out->offsets = reader->offsets;
    out->tokens = (int64_t)tokens;
    out->sequences = (int64_t)reader->sequences;
    out->skipped_rows = reader->skipped;
    out->truncated_rows = reader->truncated;
    reader->ids.ids = reader->labels.ids = NULL;
    reader->offsets = NULL;
    return BALORA_OK;
}

balora_status jsonl_read(dataset *out, allocator *memory, const char *path, const jsonl_options *options) {
    memset(out, 0, sizeof *out);
    jsonl_reader reader = {.memory = memory, .options = options};
    reader.ids.memory = reader.labels.memory = memory;
    prompt_sequence_init(&reader.row, memory);
    balora_status status = read_lines(&reader, path);
    if (status == BALORA_OK)
        status = take_arrays(out, &reader);
    if (status == BALORA_OK)
        status = dataset_complete(out, options->vocabulary, 0, path, BALORA_ERROR_INTERNAL);
    lines_close(&reader.lines);
    tokenizer_free(reader.tokenizer);
    prompt_sequence_free(&reader.row);
    token_buffer_free(&reader.ids);
    token_buffer_free(&reader.labels);
    memory_free(memory, reader.offsets);
    memory_free(memory, reader.fields.names);
    if (status != BALORA_OK)
        dataset_free(out);
    return status;
}
