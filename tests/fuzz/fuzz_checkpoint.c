/*
 * Resuming from a checkpoint of which one file was changed: a byte that says which, then patches between bytes 0xFF.
 * A patch is an offset of two bytes, how many bytes go there, and the text that comes in their place. Of the arrays'
 * files the header is patched; its length and the manifest's checksums are made to fit, except where the manifest itself is the file.
 */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checksum.h"
#include "base/file.h"
#include "tiny_model.h"
#include "train/checkpoint_files.h"

#define STEP       "checkpoints/step-00000001"
#define FILE_BYTES 65536

static const char *const names[] = {"trainer.json", "manifest.json", "adapter.safetensors",
                                    "optimizer.safetensors"};
enum { FILES = sizeof names / sizeof *names, MANIFEST = 1, ARRAYS = 2 };

typedef struct content {
    char *bytes;
    uint64_t count;
} content;

static content originals[FILES];

static balora_model *open_model(void) {
    const char header[] = TINY_HEADER;
    balora_model *model = NULL;
    fuzz_write_text("config.json", TINY_CONFIG);
    fuzz_write_safetensors("model.safetensors", (fuzz_part){(const uint8_t *)header, sizeof header - 1},
                           (fuzz_part){0});
    fuzz_require(balora_model_open(&model, fuzz_context(), fuzz_folder(), NULL) == BALORA_OK);
    return model;
}

/* LoRA of rank 1 on two sequences of three tokens, ten steps long. */
static balora_trainer *make_trainer(balora_model *model) {
    static const int32_t ids[] = {0, 1, 2, 3, 4, 0};
    static const int64_t offsets[] = {0, 3, 6};
    balora_adapter_options shape = BALORA_ADAPTER_OPTIONS_INIT;
    balora_train_options options = BALORA_TRAIN_OPTIONS_INIT;
    balora_adapter *adapter = NULL;
    balora_data *data = NULL;
    balora_trainer *trainer = NULL;
    shape.method = BALORA_METHOD_LORA;
    shape.rank = 1;
    shape.target_modules = "q_proj,down_proj";
    options.max_steps = 10;
    fuzz_require(balora_adapter_create(&adapter, model, &shape) == BALORA_OK);
    fuzz_require(balora_data_from_tokens(&data, model, ids, NULL, offsets, 2) == BALORA_OK);
    fuzz_require(balora_trainer_create(&trainer, adapter, data, &options) == BALORA_OK);
    balora_data_free(data);
    balora_adapter_free(adapter);
    return trainer;
}

static void keep_originals(balora_model *model) {
    balora_trainer *trainer = make_trainer(model);
    fuzz_require(balora_trainer_step(trainer, NULL) == BALORA_OK);
    fuzz_require(balora_trainer_save_checkpoint(trainer, fuzz_path("checkpoints"), 2) == BALORA_OK);
    balora_trainer_free(trainer);
    for (int i = 0; i < FILES; i++) {
        char name[96];
        snprintf(name, sizeof name, STEP "/%s", names[i]);
        fuzz_require(file_read_all(&originals[i].bytes, &originals[i].count, fuzz_memory(), fuzz_path(name),
                                   FILE_BYTES) == BALORA_OK);
    }
}

/* Applies the patches to `text`, which has room for FILE_BYTES. */
static uint64_t apply_patches(char *text, uint64_t count, fuzz_part input) {
    while (input.count > 0) {
        fuzz_part patch = fuzz_next_part(&input);
        uint64_t at = fuzz_take_byte(&patch);
        at += (uint64_t)fuzz_take_byte(&patch) << 8;
        uint64_t gone = fuzz_take_byte(&patch);
        at = at < count ? at : count;
        gone = gone < count - at ? gone : count - at;
        if (count - gone + patch.count > FILE_BYTES)
            return count;
        memmove(text + at + patch.count, text + at + gone, count - at - gone);
        if (patch.count > 0)
            memcpy(text + at, patch.bytes, patch.count);
        count += patch.count - gone;
    }
    return count;
}

static content patch_file(int file, fuzz_part input) {
    static char changed[FILE_BYTES * 2];
    const content *original = &originals[file];
    if (file < ARRAYS) {
        memcpy(changed, original->bytes, original->count);
        return (content){changed, apply_patches(changed, original->count, input)};
    }
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--)
        length = length << 8 | (unsigned char)original->bytes[i];
    memcpy(changed + 8, original->bytes + 8, length);
    uint64_t count = apply_patches(changed + 8, length, input), data = original->count - 8 - length;
    for (int i = 0; i < 8; i++)
        changed[i] = (char)(count >> (8 * i));
    memcpy(changed + 8 + count, original->bytes + 8 + length, data);
    return (content){changed, 8 + count + data};
}

static void write_checkpoint(int changed_file, content changed) {
    checkpoint_file files[CHECKPOINT_FILES];
    mkdir(fuzz_path("checkpoints"), 0777);
    mkdir(fuzz_path(STEP), 0777);
    for (int i = 0; i < FILES; i++) {
        content one = i == changed_file ? changed : originals[i];
        char name[96];
        snprintf(name, sizeof name, STEP "/%s", names[i]);
        fuzz_write(name, (fuzz_part){(const uint8_t *)one.bytes, one.count});
        for (int f = 0; f < CHECKPOINT_FILES; f++)
            if (strcmp(checkpoint_file_names[f], names[i]) == 0)
                files[f] = (checkpoint_file){one.count, checksum_add(0, one.bytes, one.count)};
    }
    if (changed_file != MANIFEST)
        fuzz_require(manifest_write(fuzz_memory(), fuzz_path(STEP), 1, files) == BALORA_OK);
}

void fuzz_one(fuzz_part input) {
    static balora_model *model;
    if (model == NULL) {
        model = open_model();
        keep_originals(model);
    }
    int file = (int)(fuzz_take_byte(&input) % FILES);
    write_checkpoint(file, patch_file(file, input));
    balora_trainer *trainer = make_trainer(model);
    balora_resume_information information = BALORA_RESUME_INFORMATION_INIT;
    balora_status status = balora_trainer_resume(trainer, fuzz_path("checkpoints"), &information);
    fuzz_expect_message(status, "checkpoints");
    if (status == BALORA_OK) {
        fuzz_require(information.step == 1);
        status = balora_trainer_step(trainer, NULL);
        fuzz_require(status == BALORA_OK || status == BALORA_DONE);
    }
    balora_trainer_free(trainer);
}
