/*
 * The slots of any device's table with the operands of a training step: seconds by the device's own clock (the median
 * of ten after three), and the rate beside the ceilings of the same run, a large product of the same dtype and a copy.
 *
 * Bytes are those that the call cannot do without: each operand read or written once. FLOP of attention are those of
 * the causal half. One line a call on stdout, or with `json` one JSON object.
 */
#ifndef BENCHMARKS_BENCH_DEVICE_H
#define BENCHMARKS_BENCH_DEVICE_H

#include "bench.h"
#include "shaped_model.h"

typedef struct device_table {
    const char *device;
    const model_shape *shape;
    int64_t length; /* tokens of a micro-batch, one sequence */
    int64_t rank;
    int64_t ceiling; /* size of the ceiling's products; 0: what suits the device */
    int threads;     /* of the host; 0: all */
    int json;
} device_table;

/* The exit code. */
int bench_device(const device_table *table);

#endif
