/* The gradient's scale and the optimizers' steps. */
#include <math.h>
#include <string.h>

#include "cpu/internal.h"

balora_status cpu_clip_scale(backend_queue *queue, matrix_view sum_squares, double max_norm,
                             matrix_view scale) {
    (void)queue;
    STATUS_TRY(operand_check("clip_scale", "sum_squares", sum_squares, 1, 1, IN_F64));
    STATUS_TRY(operand_check("clip_scale", "scale", scale, 1, 1, IN_F32));
    double sum = *view_f64(sum_squares), factor = 1;
    if (!isfinite(sum))
        factor = NAN;
    else if (max_norm != 0)
        factor = fmin(1, max_norm / (sqrt(sum) + 1e-6));
    *view_f32(scale) = (float)factor;
    return BALORA_OK;
}

#define STEP_GRAIN 64 /* blocks that are worth a thread */

static_assert(MOMENT_CODES == OPTIMIZER_BLOCK, "a kernel's room for a block is that of its map");

static adamw_factors factors_of(const adamw_update *args, float scale) {
    double step = (double)args->step;
    return (adamw_factors){
        .keep = (float)(1 - args->learning_rate * args->weight_decay),
        .first = (float)(1 - args->beta1),
        .second = (float)(1 - args->beta2),
        .beta2 = (float)args->beta2,
        .step_size = (float)(args->learning_rate / (1 - pow(args->beta1, step))),
        .root_correction = (float)sqrt(1 - pow(args->beta2, step)),
        .epsilon = (float)args->epsilon,
        .scale = scale,
    };
}

typedef struct adamw_call {
    const cpu_kernels *kernels;
    const adamw_update *args;
    adamw_factors factors;
} adamw_call;

static void adamw_span(int64_t row, int64_t column, int64_t count, int thread, void *user) {
    (void)thread;
    const adamw_call *call = user;
    const adamw_update *args = call->args;
    call->kernels->adamw(&call->factors, (float *)view_row(args->parameter, row) + column,
                         (const float *)view_row(args->gradient, row) + column,
                         (float *)view_row(args->first_moment, row) + column,
                         (float *)view_row(args->second_moment, row) + column, count);
}

balora_status cpu_adamw(backend_queue *queue, const adamw_update *args) {
    matrix_view parameter = args->parameter;
    STATUS_TRY(operand_check("adamw", "parameter", parameter, ANY_SIZE, ANY_SIZE, IN_F32));
    STATUS_TRY(operand_check("adamw", "gradient", args->gradient, parameter.rows, parameter.cols, IN_F32));
    STATUS_TRY(
        operand_check("adamw", "first_moment", args->first_moment, parameter.rows, parameter.cols, IN_F32));
    STATUS_TRY(
        operand_check("adamw", "second_moment", args->second_moment, parameter.rows, parameter.cols, IN_F32));
    STATUS_TRY(operand_check("adamw", "scale", args->scale, 1, 1, IN_F32));
    if (args->step < 1)
        return status_fail(BALORA_ERROR_INTERNAL, "cpu adamw: step %lld; the first is 1",
                           (long long)args->step);
    float scale = *view_f32(args->scale);
    if (!isfinite(scale))
        return BALORA_OK;
    adamw_call call = {.kernels = queue->kernels, .args = args, .factors = factors_of(args, scale)};
    int joined = is_joined(parameter) && is_joined(args->gradient) && is_joined(args->first_moment) &&
                 is_joined(args->second_moment);
    parallel_spans(parameter.rows, parameter.cols, joined, adamw_span, &call);
    return BALORA_OK;
}

/* --- blocks of a flat array --- */

typedef struct block_rates {
    adamw_factors adamw;
    lion_factors lion;
} block_rates;

typedef struct step_call {
    const cpu_kernels *kernels;
    const optimizer_update *args;
    int64_t blocks;
    const int64_t *starts;       /* [blocks + 1]; NULL: every OPTIMIZER_BLOCK numbers */
    const unsigned char *groups; /* [blocks]; NULL: 0 */
    block_rates rates[OPTIMIZER_GROUPS];
    moment_map first, second;
} step_call;

static int64_t block_start(const step_call *call, int64_t block) {
    return call->starts != NULL ? call->starts[block]
                                : arith_min(block * OPTIMIZER_BLOCK, call->args->parameter.cols);
}

static unsigned block_group(const step_call *call, int64_t block) {
    return call->groups != NULL ? call->groups[block] : 0;
}

static balora_status check_blocks(const step_call *call) {
    int64_t last = call->starts != NULL ? call->starts[0] : 0;
    for (int64_t i = 0; i < call->blocks; i++) {
        int64_t end = block_start(call, i + 1);
        if (last < 0 || end < last || end - last > OPTIMIZER_BLOCK || end > call->args->parameter.cols)
            return status_fail(BALORA_ERROR_INTERNAL,
                               "cpu optimizer_step: block %lld goes from %lld to %lld of %lld numbers",
                               (long long)i, (long long)last, (long long)end,
                               (long long)call->args->parameter.cols);
        if (block_group(call, i) >= (unsigned)call->args->group_count)
            return status_fail(BALORA_ERROR_INTERNAL,
                               "cpu optimizer_step: block %lld is of group %u; there are %d", (long long)i,
                               block_group(call, i), (int)call->args->group_count);
        last = end;
    }
    return BALORA_OK;
}

static balora_status check_step_operands(const optimizer_update *args) {
    optimizer_rules list;
    optimizer_list_rules(&list, args);
    for (int i = 0; i < list.count; i++) {
        const operand_rule *rule = &list.rules[i];
        STATUS_TRY(operand_check("optimizer_step", rule->name, rule->view, 1, rule->cols, rule->dtypes));
    }
    return BALORA_OK;
}

static balora_status check_step(const optimizer_update *args) {
    if (args->kind != OPTIMIZER_ADAMW && args->kind != OPTIMIZER_LION && args->kind != OPTIMIZER_ADAMW_8BIT)
        return status_fail(BALORA_ERROR_INTERNAL, "cpu optimizer_step: unknown kind %d", (int)args->kind);
    if (args->step < 1 || args->group_count < 1 || args->group_count > OPTIMIZER_GROUPS)
        return status_fail(BALORA_ERROR_INTERNAL, "cpu optimizer_step: step %lld, %d groups",
                           (long long)args->step, (int)args->group_count);
    return check_step_operands(args);
}

static void read_map(moment_map *out, matrix_view map) {
    memcpy(out->values, view_f32(map), sizeof out->values);
    out->zero = 0;
    for (int i = 0; i < MOMENT_CODES - 1; i++) {
        out->borders[i] = (out->values[i] + out->values[i + 1]) / 2;
        out->zero += 0 > out->borders[i];
    }
}

static block_rates rates_of(const optimizer_update *args, const optimizer_group *group, float scale) {
    adamw_update one = {.learning_rate = group->learning_rate,
                        .beta1 = args->beta1,
                        .beta2 = args->beta2,
                        .epsilon = args->epsilon,
                        .weight_decay = group->weight_decay,
                        .step = args->step};
    block_rates rates = {.adamw = factors_of(&one, scale)};
    rates.lion = (lion_factors){.keep = rates.adamw.keep,
                                .now = rates.adamw.first,
                                .past = rates.adamw.second,
                                .learning_rate = (float)group->learning_rate,
                                .scale = scale};
    return rates;
}

static void step_8bit(const step_call *call, int64_t block) {
    const optimizer_update *args = call->args;
    int64_t start = block_start(call, block);
    quantised_block one = {.parameter = view_f32(args->parameter) + start,
                           .gradient = view_f32(args->gradient) + start,
                           .first = (unsigned char *)view_data(args->first_moment) + start,
                           .second = (unsigned char *)view_data(args->second_moment) + start,
                           .first_scale = view_f32(args->first_scales) + block,
                           .second_scale = view_f32(args->second_scales) + block,
                           .count = block_start(call, block + 1) - start};
    call->kernels->adamw_8bit(&call->rates[block_group(call, block)].adamw, &call->first, &call->second,
                              &one);
}

/* Blocks [first, end) of one group, whose numbers lie behind each other. */
static void step_run(const step_call *call, int64_t first, int64_t end) {
    const optimizer_update *args = call->args;
    const block_rates *rates = &call->rates[block_group(call, first)];
    int64_t start = block_start(call, first), count = block_start(call, end) - start;
    float *parameter = view_f32(args->parameter) + start, *moment = view_f32(args->first_moment) + start;
    const float *gradient = view_f32(args->gradient) + start;
    if (args->kind == OPTIMIZER_LION)
        call->kernels->lion(&rates->lion, parameter, gradient, moment, count);
    else
        call->kernels->adamw(&rates->adamw, parameter, gradient, moment,
                             view_f32(args->second_moment) + start, count);
}

static void step_blocks(int64_t begin, int64_t end, int thread, void *user) {
    (void)thread;
    const step_call *call = user;
    for (int64_t block = begin; block < end;) {
        int64_t next = block + 1;
        if (call->args->kind == OPTIMIZER_ADAMW_8BIT) {
            step_8bit(call, block);
        } else {
            while (next < end && block_group(call, next) == block_group(call, block))
                next++;
            step_run(call, block, next);
        }
        block = next;
    }
}

balora_status cpu_optimizer_step(backend_queue *queue, const optimizer_update *args) {
    int64_t blocks = optimizer_block_count(args);
    step_call call = {.kernels = queue->kernels, .args = args, .blocks = blocks};
    STATUS_TRY(check_step(args));
    call.starts = is_none(args->block_starts) ? NULL : view_data(args->block_starts);
    call.groups = is_none(args->block_groups) ? NULL : view_data(args->block_groups);
    STATUS_TRY(check_blocks(&call));
    float scale = *view_f32(args->scale);
    if (!isfinite(scale))
        return BALORA_OK;
    for (int i = 0; i < args->group_count; i++)
        call.rates[i] = rates_of(args, &args->groups[i], scale);
    if (args->kind == OPTIMIZER_ADAMW_8BIT) {
        read_map(&call.first, args->first_map);
        read_map(&call.second, args->second_map);
    }
    parallel_for(blocks, STEP_GRAIN, step_blocks, &call);
    return BALORA_OK;
}
