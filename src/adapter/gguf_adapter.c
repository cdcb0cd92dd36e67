/*
 * Adapters as GGUF files for llama.cpp. It reads lora_a and lora_b of any matrix, one alpha for all of them, and scales by
 * alpha / rank with the rank of each lora_b. So an alpha of a module's own is folded into its B, and a rank-stabilised
 * scale alpha / sqrt(rank) is that of alpha sqrt(rank).
 */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "adapter/plain.h"
#include "base/file.h"
#include "base/status.h"
#include "format/gguf.h"
#include "model/families.h"

#define NAME_BYTES 64 /* what llama.cpp has room for */

static const struct {
    const char *name, *gguf;
} modules[] = {
    {"q_proj", "attn_q"},      {"k_proj", "attn_k"},  {"v_proj", "attn_v"},      {"o_proj", "attn_output"},
    {"gate_proj", "ffn_gate"}, {"up_proj", "ffn_up"}, {"down_proj", "ffn_down"},
};

/* A file under construction. */
typedef struct gguf_adapter {
    plain_factors factors;
    const family_description *family;
    const char *path;
    double alpha;
    gguf_output *tensors; /* A and B of each module in turn */
    char (*names)[NAME_BYTES];
    gguf_writer writer;
} gguf_adapter;

/* What GGUF has no place for. */
static balora_status check_expressible(const gguf_adapter *self) {
    const balora_adapter *adapter = self->factors.adapter;
    if (adapter->use_dora)
        return status_fail(
            BALORA_ERROR_UNSUPPORTED,
            "%s: the adapter has magnitudes (\"use_dora\"), which a GGUF adapter has no place for; merge the "
            "adapter into the model instead",
            self->path);
    if (adapter->trained_count == 0)
        return BALORA_OK;
    return status_fail(
        BALORA_ERROR_UNSUPPORTED,
        "%s: %s is trained as it is (\"modules_to_save\" or \"bias\"), which a GGUF adapter has no place "
        "for; merge the adapter into the model instead",
        self->path, adapter->trained[0].tensor->name);
}

static balora_status find_family(gguf_adapter *self) {
    const char *model_type = self->factors.adapter->model->config.family;
    STATUS_TRY(family_find(&self->family, model_type, self->path));
    if (self->family->gguf != NULL)
        return BALORA_OK;
    return status_fail(BALORA_ERROR_UNSUPPORTED, "%s: there are no GGUF adapters of model_type \"%s\"",
                       self->path, model_type);
}

/* "blk.3.attn_q.weight.lora_a" */
static balora_status make_name(const gguf_adapter *self, const adapter_module *module, factor_kind kind,
                               char name[NAME_BYTES]) {
    for (size_t i = 0; i < sizeof modules / sizeof modules[0]; i++)
        if (strcmp(modules[i].name, module->projection->name) == 0) {
            snprintf(name, NAME_BYTES, "blk.%" PRId64 ".%s.weight.lora_%c", module->layer, modules[i].gguf,
                     kind == FACTOR_A ? 'a' : 'b');
            return BALORA_OK;
        }
    return status_fail(BALORA_ERROR_UNSUPPORTED, "%s: %s has no place in a GGUF adapter; merge it instead",
                       self->path, module->name);
}

/* The alpha with which alpha / rank is the module's scale. */
static double module_alpha(const gguf_adapter *self, const adapter_module *module) {
    bool use_rslora = self->factors.adapter->use_rslora != 0;
    double alpha = plain_alpha(module, use_rslora, false);
    return use_rslora ? alpha * sqrt((double)plain_rank(module, false)) : alpha;
}

/* That of most modules, so that few are multiplied by a ratio; the first of equals. */
static balora_status choose_alpha(gguf_adapter *self) {
    const balora_adapter *adapter = self->factors.adapter;
    for (int64_t i = 0, most = 0; i < adapter->module_count; i++) {
        int64_t count = 0;
        double alpha = module_alpha(self, &adapter->modules[i]);
        for (int64_t k = 0; k < adapter->module_count; k++)
            count += module_alpha(self, &adapter->modules[k]) == alpha;
        if (count > most) {
            most = count;
            self->alpha = alpha;
        }
    }
    /* llama.cpp takes an alpha of 0 for none at all */
    if (self->alpha >= (double)FLT_MIN && self->alpha <= (double)FLT_MAX)
        return BALORA_OK;
    return status_fail(BALORA_ERROR_NUMERIC, "%s: alpha %g cannot be written in 32 bits", self->path,
                       self->alpha);
}

static balora_status list_tensors(gguf_adapter *self, int32_t dtype) {
    const balora_adapter *adapter = self->factors.adapter;
    allocator *memory = &adapter->model->context->memory;
    size_t count = (size_t)adapter->module_count * FACTOR_COUNT;
    STATUS_TRY(memory_zeroed(memory, &self->tensors, count, sizeof *self->tensors, "a list of factors"));
    STATUS_TRY(memory_zeroed(memory, &self->names, count, sizeof *self->names, "names of factors"));
    for (size_t i = 0; i < count; i++) {
        const adapter_module *module = &adapter->modules[i / FACTOR_COUNT];
        factor_kind kind = (factor_kind)(i % FACTOR_COUNT);
        int64_t shape[2];
        plain_shape(shape, module->projection, plain_rank(module, false), kind);
        STATUS_TRY(make_name(self, module, kind, self->names[i]));
        self->tensors[i] =
            (gguf_output){.name = self->names[i], .dtype = dtype, .rank = 2, .shape = {shape[1], shape[0]}};
    }
    return BALORA_OK;
}

/* Rows of B as llama.cpp has them: of each head, the first of its first half, the first of its second, the second of its
 * first, ... `loaded` is free by now. */
static void interleave(const plain_factors *factors, const adapter_module *module, int64_t heads) {
    int64_t rank = plain_rank(module, false), half = module->projection->out / heads / 2;
    size_t row_bytes = (size_t)rank * sizeof(float);
    memcpy(factors->loaded, factors->values, (size_t)module->projection->out * row_bytes);
    for (int64_t head = 0; head < heads; head++)
        for (int64_t i = 0; i < 2 * half; i++) {
            int64_t from = head * 2 * half + i % 2 * half + i / 2;
            memcpy(factors->values + (head * 2 * half + i) * rank, factors->loaded + from * rank, row_bytes);
        }
}

static void arrange(const gguf_adapter *self, const adapter_module *module) {
    const plain_factors *factors = &self->factors;
    const model_config *config = &factors->adapter->model->config;
    double ratio = module_alpha(self, module) / self->alpha;
    int64_t count = module->projection->out * plain_rank(module, false);
    for (int64_t i = 0; i < count && ratio != 1; i++)
        factors->values[i] = (float)(ratio * factors->values[i]);
    if (self->family->gguf_interleaved && strcmp(module->projection->name, "q_proj") == 0)
        interleave(factors, module, config->heads);
    if (self->family->gguf_interleaved && strcmp(module->projection->name, "k_proj") == 0)
        interleave(factors, module, config->key_heads);
}

static balora_status to_gguf(void *user, const void *data, uint64_t bytes) {
    return gguf_write(user, data, bytes);
}

static balora_status write_tensors(gguf_adapter *self) {
    for (int64_t i; (i = gguf_next(&self->writer)) >= 0;) {
        const adapter_module *module = &self->factors.adapter->modules[i / FACTOR_COUNT];
        const gguf_output *tensor = &self->tensors[i];
        factor_kind kind = (factor_kind)(i % FACTOR_COUNT);
        STATUS_TRY(plain_read(&self->factors, module, kind));
        if (kind == FACTOR_B)
            arrange(self, module);
        STATUS_TRY(plain_emit(&self->factors, tensor->name, tensor->shape[0] * tensor->shape[1],
                              tensor->dtype, to_gguf, &self->writer));
    }
    return BALORA_OK;
}

static balora_status make_parent(const gguf_adapter *self, allocator *memory) {
    char *parent;
    STATUS_TRY(file_parent(memory, &parent, self->path));
    balora_status status = file_make_folder(parent);
    memory_free(memory, parent);
    return status;
}

static balora_status write_file(gguf_adapter *self) {
    const balora_adapter *adapter = self->factors.adapter;
    allocator *memory = &adapter->model->context->memory;
    const gguf_setting settings[] = {
        {.key = "general.architecture", .type = GGUF_TEXT, .text = self->family->gguf},
        {.key = "general.type", .type = GGUF_TEXT, .text = "adapter"},
        {.key = "adapter.type", .type = GGUF_TEXT, .text = "lora"},
        {.key = "adapter.lora.alpha", .type = GGUF_F32, .number = self->alpha},
    };
    STATUS_TRY(make_parent(self, memory));
    STATUS_TRY(gguf_create(&self->writer, memory, self->path, settings, sizeof settings / sizeof settings[0],
                           self->tensors, adapter->module_count * FACTOR_COUNT));
    STATUS_TRY(write_tensors(self));
    return gguf_publish(&self->writer);
}

balora_status adapter_write_gguf(balora_adapter *adapter, const char *path, int32_t dtype) {
    allocator *memory = &adapter->model->context->memory;
    gguf_adapter self = {.path = path};
    balora_status status;
    STATUS_GOTO(plain_create(&self.factors, adapter, false));
    STATUS_GOTO(check_expressible(&self));
    STATUS_GOTO(find_family(&self));
    STATUS_GOTO(choose_alpha(&self));
    STATUS_GOTO(list_tensors(&self, dtype));
    status = write_file(&self);
fail:
    gguf_abandon(&self.writer);
    memory_free(memory, self.tensors);
    memory_free(memory, self.names);
    plain_free(&self.factors);
    return status;
}
