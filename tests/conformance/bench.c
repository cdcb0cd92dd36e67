#include "bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "base/random.h"
#include "base/status.h"
#include "numbers.h"
#include "tolerance.h"

enum {
    BORDER_BYTES = 128,  /* on both sides of a view: two cache lines, wider than any vector */
    REPORTS_PRINTED = 12 /* of one test */
};

#define DRAW_SEED UINT64_C(20250731)

const int32_t activation_types[ACTIVATION_TYPES] = {BALORA_F32, BALORA_BF16};

const char *slot_name(slot_number slot) {
#define SLOT_NAME(name) #name,
    static const char *const names[] = {CONFORMANCE_SLOTS(SLOT_NAME)};
#undef SLOT_NAME
    return names[slot];
}

/* --- device --- */

balora_status bench_open(bench *b, const backend_ops *ops, int32_t index, int32_t threads) {
    memset(b, 0, sizeof *b);
    b->ops = ops;
    b->index = index;
    b->threads = threads;
    memory_init(&b->memory, NULL, NULL, NULL);
    STATUS_TRY(CALL(b, device_open, &b->device, &b->memory, index, threads));
    backend_properties properties;
    balora_status status = CALL(b, device_properties, b->device, &properties);
    if (status == BALORA_OK)
        status = CALL(b, queue_open, &b->queue, b->device);
    if (status != BALORA_OK) {
        CALL_VOID(b, device_close, b->device);
        return status;
    }
    b->activation_count = properties.bf16_activations ? ACTIVATION_TYPES : 1;
    return BALORA_OK;
}

void bench_close(bench *b) {
    CALL_VOID(b, queue_close, b->queue);
    CALL_VOID(b, device_close, b->device);
    b->queue = NULL;
    b->device = NULL;
}

void bench_report(bench *b, const char *format, ...) {
    if (b->failures++ >= REPORTS_PRINTED)
        return;
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    print_error("slot %s, case %s: %s\n", slot_name(b->slot), b->label, message);
    if (b->failures == REPORTS_PRINTED)
        print_error("(further failures of this test are counted only)\n");
}

void bench_enter(bench *b, slot_number slot) {
    b->calls[slot]++;
    b->entered = slot;
    b->allocations = atomic_load(&b->memory.allocations);
}

balora_status bench_leave(bench *b, balora_status status) {
    uint64_t made = atomic_load(&b->memory.allocations) - b->allocations;
    if (b->no_allocation && made > 0 && b->entered != SLOT_buffer_allocate)
        bench_report(b, "%s made %llu allocations within the prepared limits", slot_name(b->entered),
                     (unsigned long long)made);
    return status;
}

void bench_expect(bench *b, slot_number slot, balora_status wanted, balora_status status) {
    if (status == wanted)
        return;
    bench_report(b, "%s answered %s, expected %s%s%s", slot_name(slot), balora_status_name(status),
                 balora_status_name(wanted), status == BALORA_OK ? "" : ": ",
                 status == BALORA_OK ? "" : balora_error_message());
}

/* --- cases --- */

void case_begin(bench *b, slot_number slot, const char *format, ...) {
    b->slot = slot;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(b->label, sizeof b->label, format, arguments);
    va_end(arguments);
    b->operand_count = 0;
    b->array_count = 0;
}

double *case_array(bench *b, int64_t count) {
    assert_in_range(b->array_count, 0, CASE_ARRAYS - 1);
    double *array = calloc((size_t)count + 1, sizeof *array);
    assert_non_null(array);
    b->arrays[b->array_count++] = array;
    return array;
}

static const char *operand_text(const operand *self, char *text, size_t bytes) {
    snprintf(text, bytes, "%s %s [%lld, %lld] ld %lld offset %lld", self->name, dtype_name(self->view.dtype),
             (long long)self->view.rows, (long long)self->view.cols, (long long)self->view.ld,
             (long long)(self->view.offset - BORDER_BYTES));
    return text;
}

/* Whether the byte belongs to an element of the view. */
static bool operand_holds(const operand *self, int64_t byte) {
    int64_t size = dtype_size(self->view.dtype), row_bytes = self->view.ld * size;
    int64_t inside = byte - self->view.offset;
    if (inside < 0 || row_bytes == 0 || inside / row_bytes >= self->view.rows)
        return false;
    return inside % row_bytes < self->view.cols * size;
}

static void download_operand(bench *b, operand *self) {
    CALL_OK(b, download, b->queue, self->after, self->view.buffer, 0, self->bytes);
    CALL_OK(b, synchronize, b->queue);
}

static unsigned char *element_at(const operand *self, unsigned char *image, int64_t row, int64_t column) {
    return image + self->view.offset + (row * self->view.ld + column) * dtype_size(self->view.dtype);
}

/* The whole buffer is as uploaded, but for elements that the case expects to be written. */
static void check_bytes(bench *b, operand *self) {
    size_t row_bytes = (size_t)(self->view.cols * dtype_size(self->view.dtype));
    for (int64_t i = 0; i < self->view.rows && self->written; i++)
        memcpy(element_at(self, self->before, i, 0), element_at(self, self->after, i, 0), row_bytes);
    if (memcmp(self->before, self->after, (size_t)self->bytes) == 0)
        return;
    int64_t byte = 0;
    while (self->before[byte] == self->after[byte])
        byte++;
    char text[160];
    bench_report(b, "%s: %s changed at byte %lld of the view (0x%02X became 0x%02X)",
                 operand_text(self, text, sizeof text), operand_holds(self, byte) ? "an input" : "the border",
                 (long long)(byte - self->view.offset), self->before[byte], self->after[byte]);
}

void case_end(bench *b) {
    for (int i = 0; i < b->operand_count; i++) {
        operand *self = &b->operands[i];
        download_operand(b, self);
        check_bytes(b, self);
        CALL_VOID(b, buffer_free, b->device, self->view.buffer);
        free(self->before);
        free(self->after);
    }
    for (int i = 0; i < b->array_count; i++)
        free(b->arrays[i]);
    b->operand_count = 0;
    b->array_count = 0;
}

/* --- operands --- */

/* Patterns that read as a NaN in every float type, and as a negative integer. */
static void fill_border(unsigned char *bytes, int64_t count) {
    static const unsigned char pattern[8] = {0xF6, 0xFF, 0xF5, 0xFF, 0xF4, 0xFF, 0xF3, 0xFF};
    for (int64_t i = 0; i < count; i++)
        bytes[i] = pattern[i % 8];
}

static operand *operand_new(bench *b, const char *name, int32_t dtype, int64_t rows, int64_t cols) {
    static const struct {
        int64_t offset, padding; /* in elements */
    } layouts[] = {{0, 0}, {1, 3}, {0, 5}, {3, 0}, {7, 9}, {0, 16}};

    assert_in_range(b->operand_count, 0, CASE_OPERANDS - 1);
    operand *self = &b->operands[b->operand_count];
    int64_t layout = draw_below(b, COUNT_OF(layouts)), size = dtype_size(dtype);
    memset(self, 0, sizeof *self);
    self->name = name;
    int64_t ld = cols + layouts[layout].padding;
    self->view = (matrix_view){NULL, BORDER_BYTES + layouts[layout].offset * size, rows, cols, ld, dtype, 0};
    self->bytes = self->view.offset + view_bytes(self->view) + BORDER_BYTES;
    self->before = malloc((size_t)self->bytes);
    self->after = malloc((size_t)self->bytes);
    assert_non_null(self->before);
    assert_non_null(self->after);
    self->value = case_array(b, rows * cols);
    self->result = case_array(b, rows * cols);
    fill_border(self->before, self->bytes);
    balora_status status = CALL(b, buffer_allocate, &self->view.buffer, b->device, self->bytes);
    if (status != BALORA_OK)
        fail_msg("buffer_allocate of %lld bytes: %s", (long long)self->bytes, balora_error_message());
    b->operand_count++;
    return self;
}

void operand_set(bench *b, operand *self, const double *values) {
    int32_t dtype = self->view.dtype;
    for (int64_t i = 0; i < self->view.rows; i++)
        for (int64_t j = 0; j < self->view.cols; j++) {
            int64_t at = i * self->view.cols + j;
            number_encode(dtype, values[at], element_at(self, self->before, i, j));
            self->value[at] = number_round(dtype, values[at]);
        }
    CALL_OK(b, upload, b->queue, self->view.buffer, 0, self->before, self->bytes);
}

operand *operand_of(bench *b, const char *name, int32_t dtype, int64_t rows, int64_t cols,
                    const double *values) {
    operand *self = operand_new(b, name, dtype, rows, cols);
    operand_set(b, self, values);
    return self;
}

operand *operand_random(bench *b, const char *name, int32_t dtype, int64_t rows, int64_t cols,
                        double deviation) {
    operand *self = operand_new(b, name, dtype, rows, cols);
    for (int64_t i = 0; i < rows * cols; i++)
        self->result[i] = deviation * draw_normal(b);
    operand_set(b, self, self->result);
    return self;
}

operand *operand_filled(bench *b, const char *name, int32_t dtype, int64_t rows, int64_t cols, double value) {
    operand *self = operand_new(b, name, dtype, rows, cols);
    for (int64_t i = 0; i < rows * cols; i++)
        self->result[i] = value;
    operand_set(b, self, self->result);
    return self;
}

const double *operand_fetch(bench *b, operand *self) {
    self->written = true;
    download_operand(b, self);
    for (int64_t i = 0; i < self->view.rows; i++)
        for (int64_t j = 0; j < self->view.cols; j++)
            self->result[i * self->view.cols + j] =
                number_decode(self->view.dtype, element_at(self, self->after, i, j));
    return self->result;
}

void operand_may_change(operand *self) {
    self->written = true;
}

/* --- expectations --- */

/* How far beyond its tolerance a result is: at most 1 is good. */
static double excess(double got, double want, double magnitude, tolerance allowed) {
    if (isnan(want) || isinf(want))
        return (isnan(want) && isnan(got)) || (isinf(want) && got == want) ? 0.0 : (double)INFINITY;
    double error = fabs(got - want);
    if (error == 0.0)
        return 0.0;
    double limit = allowed.relative * magnitude + allowed.rounding * fabs(want) + allowed.absolute;
    return isfinite(got) && limit > 0.0 ? error / limit : (double)INFINITY;
}

void expect_close(bench *b, operand *self, const double *want, const double *magnitude) {
    const double *got = operand_fetch(b, self);
    tolerance allowed = tolerance_of(b->slot, self->view.dtype);
    int64_t count = self->view.rows * self->view.cols, worst = 0, beyond = 0;
    double worst_excess = 0.0;
    for (int64_t i = 0; i < count; i++) {
        double now = excess(got[i], want[i], magnitude != NULL ? magnitude[i] : fabs(want[i]), allowed);
        beyond += now > 1.0;
        if (now > worst_excess) {
            worst_excess = now;
            worst = i;
        }
    }
    if (beyond == 0)
        return;
    char text[160];
    bench_report(b,
                 "%s: at [%lld, %lld] got %.9g, expected %.9g: error %.3g is %.3g x the tolerance; %lld of "
                 "%lld beyond",
                 operand_text(self, text, sizeof text), (long long)(worst / self->view.cols),
                 (long long)(worst % self->view.cols), got[worst], want[worst],
                 fabs(got[worst] - want[worst]), worst_excess, (long long)beyond, (long long)count);
}

void expect_near(bench *b, const char *what, double got, double want, double allowed) {
    if (!(fabs(got - want) <= allowed))
        bench_report(b, "%s: got %.9g, expected %.9g within %.3g", what, got, want, allowed);
}

/* --- numbers --- */

/* Two numbers of each pair of draws (Box and Muller): most of the suite's time would go into drawing them singly. */
double draw_normal(bench *b) {
    uint64_t draw = b->draws++, pair = draw / 2 + 1;
    if (b->pair != pair) {
        uint64_t bits = random_bits(DRAW_SEED, 1, pair);
        double radius = sqrt(-2.0 * log(((double)(bits >> 32) + 1.0) * 0x1p-32));
        double angle = 6.283185307179586477 * 0x1p-32 * (double)(bits & UINT32_MAX);
        b->pair = pair;
        b->normals[0] = radius * cos(angle);
        b->normals[1] = radius * sin(angle);
    }
    return b->normals[draw % 2];
}

int64_t draw_below(bench *b, int64_t bound) {
    return (int64_t)(random_bits(DRAW_SEED, 2, b->draws++) % (uint64_t)bound);
}

double array_dot(const double *x, const double *y, int64_t count) {
    double sum = 0.0;
    for (int64_t i = 0; i < count; i++)
        sum += x[i] * y[i];
    return sum;
}

double array_norm(const double *x, int64_t count) {
    return sqrt(array_dot(x, x, count));
}

double array_largest(const double *x, int64_t count) {
    double largest = 0.0;
    for (int64_t i = 0; i < count; i++)
        largest = fmax(largest, fabs(x[i]));
    return largest;
}
