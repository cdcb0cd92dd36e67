#include "data/order.h"

#include <math.h>

#include "base/arith.h"
#include "base/random.h"
#include "base/status.h"

#define LARGEST_RUN 0x1p52 /* sequences: far beyond any run, and exact as a double */

balora_status order_init(data_order *out, const order_options *options) {
    int64_t step_size;
    if (options->sequences < 1)
        return status_fail(BALORA_ERROR_ARGUMENT, "the data set has no sequence");
    if (options->batch_size < 1 || options->accumulation < 1 ||
        !arith_multiply_i64(options->batch_size, options->accumulation, &step_size))
        return status_fail(
            BALORA_ERROR_ARGUMENT,
            "batch_size is %lld and gradient_accumulation %lld; expected 1 and above, and a product within "
            "64 bits",
            (long long)options->batch_size, (long long)options->accumulation);
    *out = (data_order){.sequences = options->sequences,
                        .micro_batch_size = options->packing ? options->batch_size : 1,
                        .step_size = step_size,
                        .seed = options->seed,
                        .shuffle = options->shuffle};
    if (options->max_steps != 0) {
        double places = (double)options->max_steps * (double)step_size;
        if (options->max_steps < 0 || places > LARGEST_RUN)
            return status_fail(BALORA_ERROR_ARGUMENT,
                               "max_steps is %lld; expected 0 or above, and at most 2^52 sequences",
                               (long long)options->max_steps);
        out->places = options->max_steps * step_size;
    } else {
        /* Rounded down a little first: 1.1 epochs of 10 sequences are 11, not the 12 of 1.1 * 10
         * = 11.000000000000002. */
        double places = ceil(options->epochs * (double)options->sequences * (1 - 1e-12));
        if (!(places >= 1) || places > LARGEST_RUN)
            return status_fail(BALORA_ERROR_ARGUMENT,
                               "epochs is %g; expected above 0, and at most 2^52 sequences", options->epochs);
        out->places = (int64_t)places;
    }
    /* A step beyond the run's end changes nothing, and a sum of it and a place stays within 64 bits. */
    out->step_size = arith_min(out->step_size, out->places);
    out->micro_batch_size = arith_min(out->micro_batch_size, out->places);
    out->steps = arith_divide_up(out->places, out->step_size);
    return BALORA_OK;
}

int64_t order_sequence(const data_order *self, int64_t place) {
    int64_t epoch = place / self->sequences, index = place % self->sequences;
    return self->shuffle ? random_permuted(self->seed, (uint64_t)epoch, index, self->sequences) : index;
}

order_range order_step(const data_order *self, int64_t step) {
    int64_t first = step * self->step_size;
    return (order_range){first, arith_min(self->step_size, self->places - first)};
}

int64_t order_micro_batches(const data_order *self, int64_t step) {
    return arith_divide_up(order_step(self, step).count, self->micro_batch_size);
}

order_range order_micro_batch(const data_order *self, int64_t step, int64_t micro_batch) {
    order_range range = order_step(self, step);
    int64_t skipped = micro_batch * self->micro_batch_size;
    return (order_range){range.first + skipped, arith_min(self->micro_batch_size, range.count - skipped)};
}

double order_epochs(const data_order *self, int64_t steps) {
    return (double)arith_min(steps * self->step_size, self->places) / (double)self->sequences;
}
