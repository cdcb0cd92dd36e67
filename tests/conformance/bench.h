/*
 * The bench that a slot is tested on: a device with a queue, and the operands of the case at hand.
 *
 * Every operand lies in a buffer of its own between borders filled with NaN patterns: before the view, after
 * it, and between `cols` and `ld`. case_end() demands that all borders, and all operands that no test
 * declared to be written, are bit for bit what was uploaded.
 */
#ifndef CONFORMANCE_BENCH_H
#define CONFORMANCE_BENCH_H

#include <stdbool.h>
#include <stddef.h>

#include "backend/slots.h"
#include "base/memory.h"
#include "tensor/view.h"

/* Every slot of the table, optional or not. */
#define CONFORMANCE_SLOTS(X) BACKEND_SLOTS(X, X)

typedef enum slot_number {
#define SLOT_ENUM(name) SLOT_##name,
    CONFORMANCE_SLOTS(SLOT_ENUM)
#undef SLOT_ENUM
        SLOT_COUNT
} slot_number;

const char *slot_name(slot_number slot);

/* What "activation" operands may be: F32, and BF16 where the device takes it (bench.activation_count of them). */
enum { ACTIVATION_TYPES = 2 };
extern const int32_t activation_types[ACTIVATION_TYPES];

typedef struct operand {
    const char *name;
    matrix_view view;
    int64_t bytes;         /* of its buffer, borders included */
    unsigned char *before; /* the buffer as uploaded */
    unsigned char *after;  /* and as last fetched */
    double *value;         /* [rows, cols] as uploaded: rounded to the dtype */
    double *result;        /* [rows, cols] as last fetched */
    bool written;          /* the case expects the slot to change it */
} operand;

enum { CASE_OPERANDS = 32, CASE_ARRAYS = 96, CASE_LABEL_BYTES = 320 };

typedef struct bench {
    const backend_ops *ops;
    int32_t index, threads;
    allocator memory;
    backend_device *device;
    backend_queue *queue;
    int activation_count; /* of activation_types */

    uint64_t calls[SLOT_COUNT];
    slot_number entered;  /* the slot being called */
    uint64_t allocations; /* the allocator's count before */
    bool no_allocation;   /* a slot that allocates is a failure, buffer_allocate apart */

    slot_number slot; /* what the case tests */
    char label[CASE_LABEL_BYTES];
    operand operands[CASE_OPERANDS];
    int operand_count;
    double *arrays[CASE_ARRAYS];
    int array_count;

    uint64_t draws; /* random numbers drawn so far */
    uint64_t pair;  /* the pair of draws that `normals` holds, from 1 */
    double normals[2];
    int failures; /* of the test at hand */
} bench;

/* Whether the device takes BF16 activations. */
static inline bool takes_bf16(const bench *b) {
    return b->activation_count == ACTIVATION_TYPES;
}

balora_status bench_open(bench *b, const backend_ops *ops, int32_t index, int32_t threads);
void bench_close(bench *b);

/* Count a failure of the case at hand and print it, with the slot and the case before it. */
void bench_report(bench *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Calling slots: counted, and watched for allocations. CALL_OK reports any other status. */
#define CALL(b, name, ...)      bench_leave(b, (bench_enter(b, SLOT_##name), (b)->ops->name(__VA_ARGS__)))
#define CALL_VOID(b, name, ...) (bench_enter(b, SLOT_##name), (b)->ops->name(__VA_ARGS__))
#define CALL_OK(b, name, ...)   bench_expect(b, SLOT_##name, BALORA_OK, CALL(b, name, __VA_ARGS__))
#define CALL_FAILS(b, name, ...)                                                                             \
    bench_expect(b, SLOT_##name, BALORA_ERROR_INTERNAL, CALL(b, name, __VA_ARGS__))
void bench_enter(bench *b, slot_number slot);
balora_status bench_leave(bench *b, balora_status status);
void bench_expect(bench *b, slot_number slot, balora_status wanted, balora_status status);

/* A case: one call with its operands. Everything made in it is freed by case_end, after the checks above. */
void case_begin(bench *b, slot_number slot, const char *format, ...) __attribute__((format(printf, 3, 4)));
void case_end(bench *b);
double *case_array(bench *b, int64_t count); /* zeroed */

/* Operands with a layout (offset, ld) drawn at random. */
operand *operand_random(bench *b, const char *name, int32_t dtype, int64_t rows, int64_t cols,
                        double deviation);
operand *operand_filled(bench *b, const char *name, int32_t dtype, int64_t rows, int64_t cols, double value);
operand *operand_of(bench *b, const char *name, int32_t dtype, int64_t rows, int64_t cols,
                    const double *values);

/* Upload other values of the same shape. */
void operand_set(bench *b, operand *self, const double *values);

/* Download; the slot may have changed it. Returns `result`. */
const double *operand_fetch(bench *b, operand *self);

/* Declare that the slot may leave anything inside the view. */
void operand_may_change(operand *self);

/*
 * Fetch and compare: |got - want| within the slot's tolerance (tolerance.h); a NULL magnitude is |want|. A NaN must be a NaN, an infinity the same infinity.
 */
void expect_close(bench *b, operand *self, const double *want, const double *magnitude);

/* The same for numbers that a test derived itself, called `what` in the message. */
void expect_near(bench *b, const char *what, double got, double want, double allowed);

double draw_normal(bench *b);
int64_t draw_below(bench *b, int64_t bound); /* 0 .. bound - 1 */

double array_norm(const double *x, int64_t count);
double array_largest(const double *x, int64_t count); /* of |x| */
double array_dot(const double *x, const double *y, int64_t count);

#define COUNT_OF(array) ((int64_t)(sizeof(array) / sizeof((array)[0])))

#endif
