/* Every allocation of the readers and writers refused in turn: a status, nothing kept, nothing half made. */
#include "ascii_tokenizer.h"
#include "data/batch.h"
#include "data/jsonl.h"
#include "data/token_file.h"
#include "faulty.h"
#include "format/safetensors.h"
#include "format/tensor_files.h"
#include "scratch.h"

typedef balora_status (*scenario)(scratch *self, allocator *memory);

static const int32_t ids[] = {1, 2, 3, 4, 5, 6};
static const int64_t offsets[] = {0, 2, 6};

static balora_status write_and_open(scratch *self, allocator *memory) {
    const safetensors_tensor tensors[] = {{"offsets", BALORA_I64, 1, {3}, offsets},
                                          {"input_ids", BALORA_I32, 1, {6}, ids}};
    const char *path = scratch_path(self, "written.safetensors");
    safetensors_file file;
    STATUS_TRY(safetensors_save(memory, path, tensors, 2, NULL));
    STATUS_TRY(safetensors_open(&file, memory, path));
    safetensors_close(&file);
    return BALORA_OK;
}

static balora_status open_shards(scratch *self, allocator *memory) {
    tensor_files files;
    STATUS_TRY(tensor_files_open(&files, memory, self->folder, "model"));
    tensor_files_close(&files);
    return BALORA_OK;
}

static balora_status read_tokens(scratch *self, allocator *memory) {
    dataset data;
    STATUS_TRY(token_file_read(&data, memory, scratch_path(self, "tokens.safetensors"), 10, 0));
    dataset_free(&data);
    return BALORA_OK;
}

static balora_status read_rows(scratch *self, allocator *memory) {
    dataset data;
    const jsonl_options options = {self->folder, "question,answer", VOCABULARY, 512};
    STATUS_TRY(jsonl_read(&data, memory, scratch_path(self, "rows.jsonl"), &options));
    dataset_free(&data);
    return BALORA_OK;
}

static balora_status make_batch(scratch *self, allocator *memory) {
    (void)self;
    dataset data;
    token_batch batch;
    const batch_counts capacity = {.sequences = 2, .tokens = 6, .longest_sequence = 4, .rows = 6};
    STATUS_TRY(dataset_from_tokens(&data, memory, ids, NULL, offsets, 2, 10));
    balora_status status = batch_allocate(&batch, memory, &capacity);
    if (status == BALORA_OK)
        batch_free(&batch);
    dataset_free(&data);
    return status;
}

static void write_inputs(scratch *self) {
    const safetensors_tensor tensors[] = {{"offsets", BALORA_I64, 1, {3}, offsets},
                                          {"input_ids", BALORA_I32, 1, {6}, ids}};
    expect_ok(safetensors_save(&self->memory, scratch_path(self, "tokens.safetensors"), tensors, 2, NULL));
    expect_ok(safetensors_save(&self->memory, scratch_path(self, "part.safetensors"), tensors, 2, NULL));
    scratch_text(
        self, "model.safetensors.index.json",
        "{\"weight_map\": {\"offsets\": \"part.safetensors\", \"input_ids\": \"tokens.safetensors\"}}");
}

static void write_rows(scratch *self) {
    write_tokenizer(self, "{\"eos_token\": \"<|im_end|>\"}");
    scratch_text(self, "rows.jsonl",
                 "{\"question\": \"1 + 1?\", \"answer\": \"2\"}\n"
                 "{\"question\": \"1 + 2?\", \"answer\": \"3\"}\n");
}

static void run_refused(scratch *self, scenario run, int from_then_on) {
    for (int64_t refused = 0;; refused++) {
        faulty fault = {.refused = refused, .from_then_on = from_then_on};
        allocator memory;
        memory_init(&memory, faulty_allocate, faulty_release, &fault);
        balora_status status = run(self, &memory);
        assert_int_equal(memory.current_bytes, 0);
        if (fault.calls <= refused) { /* nothing was refused any more */
            expect_ok(status);
            assert_true(refused > 0);
            return;
        }
        assert_int_equal(status, BALORA_ERROR_MEMORY);
    }
}

static void refusals_are_survived(void **state) {
    scratch *self = *state;
    static const scenario scenarios[] = {write_and_open, open_shards, read_tokens, read_rows, make_batch};
    write_inputs(self);
    write_rows(self);
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
        run_refused(self, scenarios[i], 0);
        run_refused(self, scenarios[i], 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {SCRATCH_TEST(refusals_are_survived)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
