#include "shaped_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arith.h"
#include "base/file.h"
#include "base/random.h"
#include "base/status.h"
#include "model/model.h"
#include "text/label.h"

#define WEIGHT_SEED      UINT64_C(20)
#define TOKEN_SEED       UINT64_C(21)
#define DEVIATION        0.02
#define LEAD             2.0             /* the largest singular value over the bulk's */
#define PIECE_ROWS       ((int64_t)4096) /* rows of a weight that are made at once */
#define SPECTRUM_DIVISOR 8               /* r of the decaying part is the smaller side over this */
#define POSITIONS        131072

#define LLAMA                                                                                                \
    "\"model_type\": \"llama\", \"rms_norm_eps\": 1e-5, \"rope_theta\": 500000.0, \"hidden_act\": \"silu\""
#define GEMMA2                                                                                               \
    "\"model_type\": \"gemma2\", \"sliding_window\": 4096, \"query_pre_attn_scalar\": 256, "                 \
    "\"attn_logit_softcapping\": 50.0, \"final_logit_softcapping\": 30.0"

static const model_shape shapes[] = {
    {"8b", 32, 4096, 14336, 32, 8, 128, 128256, 0, LLAMA},
    {"1b", 16, 2048, 8192, 32, 8, 64, 128256, 1, LLAMA},
    {"gemma2-2b", 26, 2304, 9216, 8, 4, 256, 256000, 1, GEMMA2},
    {"tiny", 2, 256, 688, 4, 2, 64, 2048, 0, LLAMA},
};

const model_shape *model_shape_find(const char *name) {
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        if (strcmp(shapes[i].name, name) == 0)
            return &shapes[i];
    return NULL;
}

/* --- weights --- */

/* Fills weights in F32 pieces; every draw has a stream of its own. */
typedef struct weight_maker {
    const backend_ops *ops;
    backend_queue *queue;
    uint64_t stream;
    arena memory;
    matrix_view piece;       /* F32 [PIECE_ROWS, the most columns] */
    matrix_view left, right; /* F32 [PIECE_ROWS, r], [r, the most columns] */
} weight_maker;

static balora_status draw(weight_maker *self, matrix_view x, double deviation) {
    return self->ops->fill_normal(self->queue, x, WEIGHT_SEED, self->stream++, deviation);
}

static int64_t spectrum_rank(matrix_view weight) {
    return arith_max(1, arith_min(weight.rows, weight.cols) / SPECTRUM_DIVISOR);
}

/* right[j, :] = c v_j^T / sqrt(1 + j / 8) */
static balora_status draw_right(weight_maker *self, matrix_view right, int64_t out) {
    double sides = 1 / sqrt((double)out) + 1 / sqrt((double)right.cols);
    for (int64_t j = 0; j < right.rows; j++) {
        double decay = 1 / sqrt(1 + (double)j / 8);
        STATUS_TRY(draw(self, view_rows(right, j, 1), LEAD * DEVIATION * sides * decay));
    }
    return BALORA_OK;
}

static balora_status fill_decaying(weight_maker *self, matrix_view weight) {
    int64_t rank = spectrum_rank(weight);
    matrix_view right = view_reshape(self->right, rank, weight.cols);
    STATUS_TRY(draw_right(self, right, weight.rows));
    for (int64_t row = 0; row < weight.rows; row += PIECE_ROWS) {
        int64_t rows = arith_min(PIECE_ROWS, weight.rows - row);
        matrix_view piece = view_reshape(self->piece, rows, weight.cols);
        matrix_view left = view_reshape(self->left, rows, rank);
        STATUS_TRY(draw(self, piece, DEVIATION));
        STATUS_TRY(draw(self, left, 1));
        STATUS_TRY(self->ops->gemm(self->queue, 0, 0, 1, left, right, 1, piece));
        STATUS_TRY(self->ops->copy(self->queue, view_rows(weight, row, rows), piece));
    }
    return BALORA_OK;
}

static balora_status fill_norm(weight_maker *self, const balora_model *model, matrix_view x) {
    allocator *memory = &model->context->memory;
    float *ones;
    STATUS_TRY(memory_new(memory, &ones, (size_t)x.cols, sizeof *ones, "the weights of a norm"));
    for (int64_t i = 0; i < x.cols; i++)
        ones[i] = 1 - model->config.norm_weight_offset;
    balora_status status = self->ops->upload(self->queue, x.buffer, x.offset, ones, view_bytes(x));
    memory_free(memory, ones);
    return status;
}

static balora_status fill_all(weight_maker *self, balora_model *model) {
    const weights *all = &model->weights;
    for (int64_t i = 0; i < all->tensor_count; i++) {
        const named_tensor *tensor = &all->tensors[i];
        if (tensor->rank == 1)
            STATUS_TRY(fill_norm(self, model, tensor->view));
        else if (tensor->view.offset == all->embedding.offset)
            STATUS_TRY(draw(self, tensor->view, DEVIATION));
        else
            STATUS_TRY(fill_decaying(self, tensor->view));
    }
    return self->ops->synchronize(self->queue);
}

static void place(weight_maker *self, const weights *all) {
    int64_t columns = 1, rank = 1, right = 1;
    for (int64_t i = 0; i < all->tensor_count; i++) {
        matrix_view view = all->tensors[i].view;
        columns = arith_max(columns, view.cols);
        rank = arith_max(rank, spectrum_rank(view));
        right = arith_max(right, spectrum_rank(view) * view.cols);
    }
    self->piece = arena_place(&self->memory, BALORA_F32, PIECE_ROWS, columns);
    self->left = arena_place(&self->memory, BALORA_F32, PIECE_ROWS, rank);
    self->right = arena_place(&self->memory, BALORA_F32, 1, right);
}

static balora_status make_weights(balora_model *model, backend_queue *queue, int32_t dtype) {
    weight_maker maker = {.ops = model->device.ops, .queue = queue, .stream = 1};
    balora_status status;
    STATUS_TRY(weights_create(&model->weights, &model->context->memory, &model->device, &model->config,
                              dtype == BALORA_DTYPE_AUTO ? BALORA_F32 : dtype));
    place(&maker, &model->weights);
    STATUS_GOTO(arena_allocate(&maker.memory, &model->device));
    place(&maker, &model->weights);
    STATUS_GOTO(fill_all(&maker, model));
fail:
    arena_free(&maker.memory);
    return status;
}

/* --- the model --- */

static balora_status write_config(balora_context *context, const char *folder, const model_shape *shape) {
    char text[1024], *path;
    int length = snprintf(
        text, sizeof text,
        "{%s, \"num_hidden_layers\": %lld, \"hidden_size\": %lld, "
        "\"intermediate_size\": %lld, \"num_attention_heads\": %lld, \"num_key_value_heads\": %lld, "
        "\"head_dim\": %lld, \"vocab_size\": %lld, \"tie_word_embeddings\": %s, "
        "\"max_position_embeddings\": %d}\n",
        shape->traits, (long long)shape->layers, (long long)shape->hidden, (long long)shape->intermediate,
        (long long)shape->heads, (long long)shape->key_heads, (long long)shape->head_dim,
        (long long)shape->vocabulary, shape->tied ? "true" : "false", POSITIONS);
    STATUS_TRY(file_join(&context->memory, &path, folder, "config.json"));
    balora_status status = file_write_all(&context->memory, path, text, (uint64_t)length);
    memory_free(&context->memory, path);
    return status;
}

static void remove_folder(balora_context *context, const char *folder) {
    char *path;
    if (file_join(&context->memory, &path, folder, "config.json") == BALORA_OK) {
        unlink(path);
        memory_free(&context->memory, path);
    }
    rmdir(folder);
}

balora_status shaped_model_open(balora_model **out, balora_context *context, const model_shape *shape,
                                const balora_model_options *options) {
    const char *parent = getenv("TMPDIR");
    char folder[512];
    snprintf(folder, sizeof folder, "%s/balora-shape-XXXXXX", parent != NULL && *parent ? parent : "/tmp");
    if (mkdtemp(folder) == NULL)
        return status_fail(BALORA_ERROR_IO, "%s: a temporary folder cannot be made", folder);
    balora_status status = write_config(context, folder, shape);
    if (status == BALORA_OK)
        status = model_build(out, context, folder, options, make_weights);
    remove_folder(context, folder);
    return status;
}

/* --- rows --- */

balora_status shaped_rows_open(balora_data **out, balora_model *model, int64_t rows, int64_t length,
                               double supervised) {
    allocator *memory = &model->context->memory;
    int64_t count = rows * length, prompt = length - llround(supervised * (double)length);
    int32_t *ids = NULL, *labels = NULL;
    int64_t *offsets = NULL;
    balora_status status;
    STATUS_GOTO(memory_new(memory, &ids, (size_t)count, sizeof *ids, "random tokens"));
    STATUS_GOTO(memory_new(memory, &labels, (size_t)count, sizeof *labels, "random tokens"));
    STATUS_GOTO(memory_new(memory, &offsets, (size_t)rows + 1, sizeof *offsets, "random tokens"));
    for (int64_t i = 0; i < count; i++) {
        double share = random_uniform(TOKEN_SEED, RANDOM_STREAM_SHUFFLE, (uint64_t)i);
        ids[i] = (int32_t)(share * (double)model->config.vocabulary);
        labels[i] = i % length < prompt ? LABEL_NONE : ids[i];
    }
    for (int64_t row = 0; row <= rows; row++)
        offsets[row] = row * length;
    status = balora_data_from_tokens(out, model, ids, labels, offsets, rows);
fail:
    memory_free(memory, ids);
    memory_free(memory, labels);
    memory_free(memory, offsets);
    return status;
}
