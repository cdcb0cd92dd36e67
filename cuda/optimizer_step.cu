/* The optimizers on blocks of one flat array. */
#include "optimizer.cuh"
#include "reduce.cuh"
#include "slots.h"
#include "spans.cuh"

enum { CODES = 256, WARPS = OPTIMIZER_BLOCK / 32 };

static_assert(CODES == OPTIMIZER_BLOCK, "a thread reads one number of each map and of each block");

struct group_factors {
    adamw_factors adamw; /* LION: keep, first and second; step_size is the learning rate */
};

/* What every kernel here takes: its pointers are to the first number, block or code. */
struct step_arguments {
    int64_t count, blocks;
    const int64_t *starts;  /* NULL: a block every OPTIMIZER_BLOCK numbers */
    const uint8_t *members; /* NULL: group 0 */
    const float *scale;
    float *parameter;
    const float *gradient;
    void *first, *second;
    float *first_scales, *second_scales;
    const float *first_map, *second_map;
    int32_t group_count;
    group_factors groups[OPTIMIZER_GROUPS];
};

/* Where this thread's number of a block is, and its group; index -1 where it has none. */
struct block_place {
    int64_t index;
    int32_t group;
};

/* A block or group that the operands do not have is passed over: no block of it is touched. */
static __device__ __forceinline__ block_place place_of(const step_arguments &a, int64_t block) {
    int64_t start = a.starts != nullptr ? a.starts[block] : block * OPTIMIZER_BLOCK;
    int64_t end = a.starts != nullptr ? a.starts[block + 1] : start + OPTIMIZER_BLOCK;
    if (a.starts == nullptr && end > a.count)
        end = a.count;
    block_place place = {start + (int64_t)threadIdx.x, a.members != nullptr ? (int32_t)a.members[block] : 0};
    bool sound =
        start >= 0 && end <= a.count && end - start <= OPTIMIZER_BLOCK && place.group < a.group_count;
    if (!sound || place.index >= end)
        place.index = -1;
    return place;
}

template <bool IS_LION> static __global__ void step_float(step_arguments a) {
    float factor = *a.scale;
    if (!isfinite(factor))
        return;
    float *first = static_cast<float *>(a.first), *second = static_cast<float *>(a.second);
    for (int64_t block = blockIdx.x; block < a.blocks; block += gridDim.x) {
        block_place place = place_of(a, block);
        if (place.index < 0)
            continue;
        const adamw_factors &f = a.groups[place.group].adamw;
        int64_t i = place.index;
        float g = a.gradient[i] * factor;
        if (IS_LION) {
            float moment = first[i], change = g - moment, direction = moment + change * f.first;
            float size = direction > 0 ? f.step_size : direction < 0 ? -f.step_size : 0.0f;
            a.parameter[i] = a.parameter[i] * f.keep - size;
            first[i] = moment + change * f.second;
        } else {
            adamw_number(f, g, a.parameter[i], first[i], second[i]);
        }
    }
}

/* A map and the borders between its codes, in shared memory. */
struct shared_map {
    float values[CODES], borders[CODES];
};

static __device__ __forceinline__ void share_map(shared_map &map, const float *values) {
    unsigned code = threadIdx.x;
    map.values[code] = values[code];
    map.borders[code] = code + 1 < CODES ? (values[code] + values[code + 1]) / 2 : 0.0f;
}

/* Bisection: the number of borders below x. */
static __device__ __forceinline__ int nearest_code(const shared_map &map, float x) {
    int code = 0;
#pragma unroll
    for (int step = CODES / 2; step > 0; step /= 2)
        code += x > map.borders[code + step - 1] ? step : 0;
    return code;
}

/* The code of this thread's x in a block whose largest size is `largest`; above 0 at least `positive`. */
static __device__ __forceinline__ uint8_t code_of(const shared_map &map, float x, float largest,
                                                  int positive) {
    bool usable = largest > 0 && isfinite(largest);
    int code = nearest_code(map, usable ? x / largest : 0.0f);
    return (uint8_t)(usable && x > 0 && code < positive ? positive : code);
}

/* A block of threads takes a block of numbers at a time. */
static __global__ void step_8bit(step_arguments a) {
    __shared__ shared_map first_map, second_map;
    __shared__ float pieces[WARPS];
    float factor = *a.scale;
    if (!isfinite(factor))
        return;
    share_map(first_map, a.first_map);
    share_map(second_map, a.second_map);
    __syncthreads();
    uint8_t *first = static_cast<uint8_t *>(a.first), *second = static_cast<uint8_t *>(a.second);
    for (int64_t block = blockIdx.x; block < a.blocks; block += gridDim.x) {
        block_place place = place_of(a, block);
        int64_t i = place.index;
        float m = 0, v = 0;
        if (i >= 0) {
            m = first_map.values[first[i]] * a.first_scales[block];
            v = second_map.values[second[i]] * a.second_scales[block];
            adamw_number(a.groups[place.group].adamw, a.gradient[i] * factor, a.parameter[i], m, v);
        }
        float largest_m = block_reduce<max_of>(fabsf(m), pieces);
        float largest_v = block_reduce<max_of>(fabsf(v), pieces);
        if (i < 0)
            continue;
        first[i] = code_of(first_map, m, largest_m, 0);
        second[i] = code_of(second_map, v, largest_v, 1);
        if (threadIdx.x == 0) {
            a.first_scales[block] = largest_m;
            a.second_scales[block] = largest_v;
        }
    }
}

static group_factors factors_of(const optimizer_update *args, const optimizer_group *group) {
    group_factors factors = {adamw_factors_of(group->learning_rate, group->weight_decay, args->beta1,
                                              args->beta2, args->epsilon, args->step)};
    if (args->kind == OPTIMIZER_LION)
        factors.adamw.step_size = (float)group->learning_rate;
    return factors;
}

static balora_status check_operands(const optimizer_update *args) {
    optimizer_rules list;
    optimizer_list_rules(&list, args);
    for (int i = 0; i < list.count; i++) {
        const operand_rule *rule = &list.rules[i];
        CUDA_TRY(operand_check("optimizer_step", rule->name, rule->view, 1, rule->cols, rule->dtypes));
    }
    return BALORA_OK;
}

static balora_status check_step(const optimizer_update *args) {
    if (args->kind != OPTIMIZER_ADAMW && args->kind != OPTIMIZER_LION && args->kind != OPTIMIZER_ADAMW_8BIT)
        return CUDA_INTERNAL("cuda optimizer_step: unknown kind %d", (int)args->kind);
    if (args->step < 1 || args->group_count < 1 || args->group_count > OPTIMIZER_GROUPS)
        return CUDA_INTERNAL("cuda optimizer_step: step %lld, %d groups", (long long)args->step,
                             (int)args->group_count);
    return check_operands(args);
}

template <typename T> static T *data_or_null(matrix_view view) {
    return is_none(view) ? nullptr : view_data<T>(view);
}

balora_status cuda_optimizer_step(backend_queue *queue, const optimizer_update *args) {
    int64_t count = args->parameter.cols;
    int64_t blocks = optimizer_block_count(args);
    CUDA_TRY(enter(queue));
    CUDA_TRY(check_step(args));
    step_arguments a = {};
    a.count = count;
    a.blocks = blocks;
    a.starts = data_or_null<int64_t>(args->block_starts);
    a.members = data_or_null<uint8_t>(args->block_groups);
    a.scale = view_data<float>(args->scale);
    a.parameter = view_data<float>(args->parameter);
    a.gradient = view_data<float>(args->gradient);
    a.first = data_or_null<void>(args->first_moment);
    a.second = data_or_null<void>(args->second_moment);
    a.first_scales = data_or_null<float>(args->first_scales);
    a.second_scales = data_or_null<float>(args->second_scales);
    a.first_map = data_or_null<float>(args->first_map);
    a.second_map = data_or_null<float>(args->second_map);
    a.group_count = args->group_count;
    for (int32_t i = 0; i < args->group_count; i++)
        a.groups[i] = factors_of(args, &args->groups[i]);
    /* Enough to fill the device several times over; each goes on to further blocks and so reads the maps once. */
    enum { BLOCKS_A_MULTIPROCESSOR = 16 };
    dim3 grid((unsigned)arith_min(blocks, (int64_t)queue->device->multiprocessors * BLOCKS_A_MULTIPROCESSOR));
    auto kernel = args->kind == OPTIMIZER_ADAMW_8BIT ? step_8bit
                  : args->kind == OPTIMIZER_LION     ? step_float<true>
                                                     : step_float<false>;
    return launch(queue, "optimizer_step", kernel, grid, OPTIMIZER_BLOCK, 0, a);
}
