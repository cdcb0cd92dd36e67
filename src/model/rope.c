#include "model/rope.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arith.h"
#include "base/status.h"

#define PI 3.14159265358979323846

/* Llama 3.1: long waves are stretched by the factor, short ones kept, those between are blended. */
static double llama3_frequency(const rope_config *rope, double frequency) {
    double wavelength = 2 * PI / frequency, original = (double)rope->original_positions;
    if (wavelength < original / rope->high_frequency_factor)
        return frequency;
    if (wavelength > original / rope->low_frequency_factor)
        return frequency / rope->factor;
    double blend = (original / wavelength - rope->low_frequency_factor) /
                   (rope->high_frequency_factor - rope->low_frequency_factor);
    return (1 - blend) * frequency / rope->factor + blend * frequency;
}

/* YaRN (Peng et al., 2023, section 3.2): the dimension that turns `rotations` times over the original
 * context. */
static double yarn_dimension(const rope_config *rope, int64_t head_dim, double rotations) {
    double positions = (double)rope->original_positions;
    return (double)head_dim * log(positions / (rotations * 2 * PI)) / (2 * log(rope->theta));
}

static double yarn_frequency(const rope_config *rope, int64_t head_dim, double frequency, int64_t pair) {
    double low = yarn_dimension(rope, head_dim, rope->beta_fast);
    double high = yarn_dimension(rope, head_dim, rope->beta_slow);
    if (rope->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, (double)(head_dim - 1));
    if (low == high)
        high += 0.001;
    double ramp = fmin(fmax(((double)pair - low) / (high - low), 0), 1);
    return frequency / rope->factor * ramp + frequency * (1 - ramp);
}

static double dynamic_theta(const model_config *config, const rope_config *rope, int64_t length) {
    double dimension = (double)config->head_dim, positions = (double)config->positions;
    double seen = (double)arith_max(length, config->positions);
    return rope->theta *
           pow(rope->factor * seen / positions - (rope->factor - 1), dimension / (dimension - 2));
}

void rope_frequencies(const model_config *config, const rope_config *rope, int64_t length, float *out) {
    double theta = rope->kind == ROPE_DYNAMIC ? dynamic_theta(config, rope, length) : rope->theta;
    for (int64_t pair = 0; pair < config->head_dim / 2; pair++) {
        double frequency = 1 / pow(theta, 2 * (double)pair / (double)config->head_dim);
        if (rope->kind == ROPE_LINEAR)
            frequency /= rope->factor;
        else if (rope->kind == ROPE_LLAMA3)
            frequency = llama3_frequency(rope, frequency);
        else if (rope->kind == ROPE_YARN)
            frequency = yarn_frequency(rope, config->head_dim, frequency, pair);
        out[pair] = (float)frequency;
    }
}

/* Angles are rounded to F32 as the model was trained with. */
static void fill_rows(const rope_config *rope, const float *frequencies, int64_t half, int64_t rows,
                      float *out) {
    float factor = (float)rope->attention_factor;
    for (int64_t position = 0; position < rows; position++)
        for (int64_t pair = 0; pair < half; pair++) {
            float angle = (float)position * frequencies[pair];
            out[2 * half * position + pair] = (float)cos((double)angle) * factor;
            out[2 * half * position + half + pair] = (float)sin((double)angle) * factor;
        }
}

static int compare_lengths(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Sort the lengths that need their own section to the front of long_lengths; returns the rows of the common
 * section. */
static int64_t plan_sections(rope_table *table, const model_config *config, const int64_t *lengths,
                             int64_t count) {
    int64_t common = 1, kept = 0;
    bool by_length =
        config->rope.kind == ROPE_DYNAMIC || (config->two_ropes && config->local_rope.kind == ROPE_DYNAMIC);
    for (int64_t i = 0; i < count; i++) {
        if (by_length && lengths[i] > config->positions)
            table->long_lengths[table->long_count++] = lengths[i];
        else
            common = arith_max(common, lengths[i]);
    }
    if (table->long_count > 1)
        qsort(table->long_lengths, (size_t)table->long_count, sizeof(int64_t), compare_lengths);
    for (int64_t i = 0; i < table->long_count; i++)
        if (kept == 0 || table->long_lengths[kept - 1] != table->long_lengths[i])
            table->long_lengths[kept++] = table->long_lengths[i];
    table->long_count = kept;
    return common;
}

/* The table of one kind of layers, [rows, head_dim] on the host. */
static void fill_table(const rope_table *table, const model_config *config, const rope_config *rope,
                       int64_t common, float *frequencies, float *out) {
    int64_t half = config->head_dim / 2;
    rope_frequencies(config, rope, 1, frequencies);
    fill_rows(rope, frequencies, half, common, out);
    for (int64_t i = 0; i < table->long_count; i++) {
        rope_frequencies(config, rope, table->long_lengths[i], frequencies);
        fill_rows(rope, frequencies, half, table->long_lengths[i],
                  out + table->long_rows[i] * config->head_dim);
    }
}

static balora_status build(rope_table *out, backend_queue *queue, const model_config *config,
                           const int64_t *lengths, int64_t count) {
    allocator *memory = out->memory;
    float *host = NULL, *frequencies = NULL;
    balora_status status;
    size_t places = (size_t)arith_max(count, 1);
    STATUS_GOTO(memory_new(memory, &out->long_lengths, places, sizeof(int64_t), "rotary sections"));
    STATUS_GOTO(memory_new(memory, &out->long_rows, places, sizeof(int64_t), "rotary sections"));
    int64_t common = plan_sections(out, config, lengths, count), rows = common;
    for (int64_t i = 0; i < out->long_count; i++) {
        out->long_rows[i] = rows;
        rows += out->long_lengths[i];
    }
    int64_t numbers = rows * config->head_dim, tables = config->two_ropes ? 2 : 1;
    STATUS_GOTO(memory_new(memory, &host, (size_t)(tables * numbers), sizeof(float), "rotary table"));
    STATUS_GOTO(
        memory_new(memory, &frequencies, (size_t)config->head_dim / 2, sizeof(float), "rotary frequencies"));
    fill_table(out, config, &config->rope, common, frequencies, host);
    if (config->two_ropes)
        fill_table(out, config, &config->local_rope, common, frequencies, host + numbers);
    const backend_ops *ops = out->device->ops;
    int64_t bytes = tables * numbers * (int64_t)sizeof(float);
    STATUS_GOTO(ops->buffer_allocate(&out->buffer, out->device->device, bytes));
    matrix_view all = view_make(out->buffer, 0, BALORA_F32, tables * rows, config->head_dim);
    out->table = view_rows(all, 0, rows);
    out->local_table = view_rows(all, config->two_ropes ? rows : 0, rows);
    status = ops->upload(queue, out->buffer, 0, host, bytes);
fail:
    memory_free(memory, host);
    memory_free(memory, frequencies);
    return status;
}

balora_status rope_table_create(rope_table *out, allocator *memory, const backend *device,
                                backend_queue *queue, const model_config *config, const int64_t *lengths,
                                int64_t count) {
    memset(out, 0, sizeof *out);
    out->device = device;
    out->memory = memory;
    balora_status status = build(out, queue, config, lengths, count);
    if (status != BALORA_OK)
        rope_table_free(out);
    return status;
}

void rope_table_free(rope_table *table) {
    if (table->device == NULL)
        return;
    table->device->ops->buffer_free(table->device->device, table->buffer);
    memory_free(table->memory, table->long_lengths);
    memory_free(table->memory, table->long_rows);
    memset(table, 0, sizeof *table);
}

int64_t rope_table_first_row(const rope_table *table, int64_t length) {
    for (int64_t i = 0; i < table->long_count; i++)
        if (table->long_lengths[i] == length)
            return table->long_rows[i];
    return 0;
}
