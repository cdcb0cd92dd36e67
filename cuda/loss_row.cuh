/*
 * One row of the loss head by one block: sums over the row, the top K, terms, then the gradient. The row is
 * read twice and written once.
 */
#ifndef CUDA_LOSS_ROW_CUH
#define CUDA_LOSS_ROW_CUH

#include "loss_top.cuh"

/* The operands of a call; T: of the gradient, which may be the logits themselves. */
template <typename T> struct loss_chunk {
    const float *logits, *teacher; /* teacher nullptr: none */
    const int32_t *targets, *regularized;
    double *terms;
    T *gradient; /* nullptr: not wanted */
    int64_t logits_ld, teacher_ld, terms_ld, gradient_ld;
    uint32_t vocabulary, top_k; /* top_k 0: the whole vocabulary */
    float task_weight, consistency_weight, diversity_weight, temperature;
};

/* What the second reading of a row needs. */
struct row_pass {
    float highest, teacher_highest;
    float p_share, q_share;          /* turn exponentials into probabilities */
    float scale, rate;               /* 1 / T, and that times LOG2_E */
    float log_ratio;                 /* of the student's sum to the teacher's, at T */
    float task;                      /* the gradient's factor of exp(x - highest) */
    float pull;                      /* ... of q - p at temperature T */
    float diversity, diversity_base; /* ... of exp(x - highest) (x - highest - diversity_base) */
    unsigned long long cut; /* diversity by the two factors above is of the logits with keys from here on */
    bool spread;            /* there are such */
    bool aimed;             /* there is a target */
    ranked_logit target;
};

struct loss_memory {
    sum_memory sums;
    top_memory top;
    row_pass pass;
};

/*
 * KL(p || q) as the sum of p (e^t - 1 - t), t = ln q - ln p: no term is negative, none cancels, and an error
 * in a log-sum-exp enters by its square only.
 */
static __device__ __forceinline__ float divergence_term(float p, float q, float t) {
    float series = fmaf(t, 1.0f / 8, 1.0f);
    series = fmaf(t * (1.0f / 7), series, 1.0f);
    series = fmaf(t * (1.0f / 6), series, 1.0f);
    series = fmaf(t * (1.0f / 5), series, 1.0f);
    series = fmaf(t * (1.0f / 4), series, 1.0f);
    series = fmaf(t * (1.0f / 3), series, 1.0f);
    float near = p * (t * t * 0.5f) * series, far = p == 0 ? q : q - p - p * t;
    return fabsf(t) < 0.4f ? near : far;
}

/* The gradient of logit x, less what target and ranked top add to it; its term of the divergence is added to
 * *divergence. */
template <row_kind KIND>
__device__ __forceinline__ float slope_of(const row_pass &pass, float x, float y, uint32_t column,
                                          float *divergence) {
    float above = x - pass.highest, student = power_of_two(above * pass.rate), one = student;
    if (KIND == ROW_AT_TWO)
        one = student * student;
    if (KIND == ROW_AT_ANY)
        one = power_of_two(above * LOG2_E);
    float slope = one * pass.task;
    if (KIND != ROW_ALONE) {
        float teacher_above = y - pass.teacher_highest, teacher = power_of_two(teacher_above * pass.rate);
        float t = fmaf(above - teacher_above, pass.scale, -pass.log_ratio);
        float p = teacher * pass.p_share, q = student * pass.q_share;
        slope += pass.pull * (q - p);
        *divergence += divergence_term(p, q, t);
    }
    if (pass.spread && one != 0 && logit_key(x, column) >= pass.cut)
        slope += one * pass.diversity * (above - pass.diversity_base);
    return slope;
}

/* Write the gradient, where it is wanted, and return this thread's part of the divergence. Every element is
 * read and written by one thread, since the gradient may take the place of the logits. */
template <row_kind KIND, bool VECTOR, typename T>
__device__ __forceinline__ double write_slopes(const row_pass pass, const float *row, const float *teacher,
                                               T *gradient, uint32_t count) {
    double total = 0;
    for (uint32_t start = 0; start < count; start += group_width()) {
        float x[LOSS_GROUP], y[LOSS_GROUP] = {}, divergence = 0;
        load_group<VECTOR>(x, row, start, threadIdx.x, count);
        if (KIND != ROW_ALONE)
            load_group<VECTOR>(y, teacher, start, threadIdx.x, count);
#pragma unroll
        for (int i = 0; i < LOSS_GROUP; i++)
            x[i] = slope_of<KIND>(pass, x[i], y[i], group_column(start, threadIdx.x, i), &divergence);
        total += (double)divergence;
        if (gradient != nullptr)
            store_group<VECTOR>(gradient, x, start, count);
    }
    return total;
}

/* The gradient anew where the target or the `ranked` logits of the top add to it, from the logits as they
 * were: in BF16 it is rounded once. */
template <row_kind KIND, typename T>
__device__ __forceinline__ void finish_slopes(const loss_chunk<T> &chunk, const loss_memory &memory,
                                              unsigned ranked, const float *teacher, T *gradient) {
    const ranked_logit *top = memory.top.top, target = memory.pass.target;
    bool apart = memory.pass.aimed && (ranked == 0 || goes_before(top[ranked - 1], target));
    for (unsigned i = threadIdx.x; i < ranked + (apart ? 1 : 0); i += blockDim.x) {
        ranked_logit one = i < ranked ? top[i] : target;
        float unused = 0, y = KIND == ROW_ALONE ? 0 : teacher[one.column];
        float slope = slope_of<KIND>(memory.pass, one.value, y, one.column, &unused);
        if (memory.pass.aimed && one.column == target.column)
            slope -= chunk.task_weight;
        if (i < ranked)
            slope += chunk.diversity_weight * top_slope(memory.top.softmax, one.value);
        gradient[one.column] = from_float<T>(slope);
    }
}

/* By one thread: the factors of task and consistency, and the task's two terms. A target that is no column
 * leaves NaN in them and in the gradient. */
template <typename T>
__device__ void prepare_pass(const loss_chunk<T> &chunk, const row_sums &sums, const float *row,
                             int32_t target, bool consistent, double *terms, row_pass *pass) {
    double scale = consistent ? (double)(1 / chunk.temperature) : 1;
    *pass = {};
    pass->highest = sums.highest;
    pass->scale = (float)scale;
    pass->rate = pass->scale * LOG2_E;
    terms[LOSS_TASK] = terms[LOSS_CORRECT] = 0;
    if (target < -1 || (target >= 0 && (uint32_t)target >= chunk.vocabulary)) {
        pass->task = NAN;
        terms[LOSS_TASK] = terms[LOSS_CORRECT] = (double)NAN;
    } else if (target >= 0) {
        pass->aimed = true;
        pass->target = {row[target], (uint32_t)target};
        pass->task = (float)((double)chunk.task_weight / sums.total);
        terms[LOSS_TASK] = log(sums.total) + ((double)sums.highest - (double)pass->target.value);
        terms[LOSS_CORRECT] = (uint32_t)target == sums.place ? 1 : 0;
    }
    if (!consistent)
        return;
    pass->teacher_highest = sums.teacher_highest;
    pass->p_share = (float)(1 / sums.teacher_warm);
    pass->q_share = (float)(1 / sums.warm);
    pass->log_ratio = (float)(log(sums.warm) - log(sums.teacher_warm));
    pass->pull = chunk.consistency_weight * chunk.temperature;
}

/* By one thread: diversity over the logits with keys from `cut` on, whose sums these are. */
static __device__ void spread_pass(float weight, double total, double weighted, unsigned long long cut,
                                   double *terms, row_pass *pass) {
    pass->spread = true;
    pass->cut = cut;
    pass->diversity = (float)((double)weight / total);
    pass->diversity_base = (float)(weighted / total);
    terms[LOSS_DIVERSITY] = weighted / total - log(total);
}

/* The diversity term of a regularized row. True: of memory->top, else by the pass. */
template <bool VECTOR, typename T>
__device__ bool diversify(const loss_chunk<T> &chunk, const row_sums &sums, const float *row, float own,
                          double *terms, loss_memory *memory) {
    uint32_t count = chunk.vocabulary;
    double unseen = sums.total - sums.total; /* NaN where a logit is: no comparison has seen it */
    double over[2] = {sums.total, sums.weighted};
    unsigned long long cut = 0;
    if (chunk.top_k > 0 && find_top<VECTOR>(row, count, chunk.top_k, own, &memory->top)) {
        top_softmax softmax = soften_top(memory->top.top, chunk.top_k, &memory->sums);
        softmax.value += unseen;
        if (threadIdx.x == 0) {
            memory->top.softmax = softmax;
            terms[LOSS_DIVERSITY] = softmax.value;
        }
        return true;
    }
    if (chunk.top_k > 0) {
        cut = find_cut<VECTOR>(row, count, chunk.top_k, &memory->top);
        sum_above_cut<VECTOR>(row, count, sums.highest, cut, over, &memory->sums);
    }
    if (threadIdx.x == 0)
        spread_pass(chunk.diversity_weight, over[0], over[1] + unseen, cut, terms, &memory->pass);
    return false;
}

template <row_kind KIND, bool VECTOR, typename T>
__device__ __forceinline__ void play_row(const loss_chunk<T> &chunk, int64_t index, bool regularized,
                                         loss_memory *memory) {
    const float *row = chunk.logits + index * chunk.logits_ld;
    const float *teacher = KIND == ROW_ALONE ? nullptr : chunk.teacher + index * chunk.teacher_ld;
    double *terms = chunk.terms + index * chunk.terms_ld;
    T *gradient = chunk.gradient == nullptr ? nullptr : chunk.gradient + index * chunk.gradient_ld;
    float scale = KIND == ROW_ALONE ? 1 : 1 / chunk.temperature;
    uint32_t count = chunk.vocabulary;

    row_sums part = sum_part<KIND, VECTOR>(row, teacher, count, scale, regularized && chunk.top_k == 0);
    row_sums sums = join_parts<KIND>(part, scale, &memory->sums);
    if (threadIdx.x == 0) {
        prepare_pass(chunk, sums, row, chunk.targets[index], KIND != ROW_ALONE, terms, &memory->pass);
        terms[LOSS_CONSISTENCY] = terms[LOSS_DIVERSITY] = 0;
    }
    bool ranked = regularized && diversify<VECTOR>(chunk, sums, row, part.highest, terms, memory);
    __syncthreads();
    if (KIND != ROW_ALONE || gradient != nullptr) {
        double divergence[1] = {write_slopes<KIND, VECTOR>(memory->pass, row, teacher, gradient, count)};
        block_sums(divergence, &memory->sums);
        if (KIND != ROW_ALONE && threadIdx.x == 0)
            terms[LOSS_CONSISTENCY] = (double)chunk.temperature * (double)chunk.temperature * divergence[0];
    }
    if (gradient != nullptr)
        finish_slopes<KIND>(chunk, *memory, ranked ? chunk.top_k : 0, teacher, gradient);
}

#endif
