/* PiSSA's factors of a host's matrices against torch.linalg.svd in F64: products, singular values, residuals. */
#include "scratch.h"

#include <math.h>

#include "balora/balora.h"
#include "format/safetensors.h"
#include "parts_noise.h"

#define SCALE 0.5

/* The generator's matrices, in its order. */
typedef struct host_matrix {
    const char *name;
    int64_t out, in, rank;
    int32_t dtype;
    double rounding; /* of the residual: half a unit in the last place */
} host_matrix;

static const host_matrix matrices[] = {
    {"small", 40, 24, 4, BALORA_F32, 0},        {"wide", 24, 61, 5, BALORA_F32, 0},
    {"rank-all", 9, 12, 9, BALORA_F32, 0},      {"tall", 400, 300, 6, BALORA_F32, 0},
    {"bf16", 300, 333, 4, BALORA_BF16, 0x1p-8}, {"f16", 50, 33, 3, BALORA_F16, 0x1p-11},
};
enum { MATRICES = sizeof matrices / sizeof matrices[0] };

static balora_context *context;

static int setup(void **state) {
    (void)state;
    balora_context_options options = BALORA_CONTEXT_OPTIONS_INIT;
    options.threads = 2;
    return balora_context_create(&context, &options) == BALORA_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    balora_memory_statistics statistics = BALORA_MEMORY_STATISTICS_INIT;
    balora_status status = balora_context_memory(context, &statistics);
    balora_context_free(context);
    return status == BALORA_OK && statistics.current_bytes == 0 ? 0 : -1;
}

/* --- numbers --- */

/* Of a magnitude below 65504, rounded to nearest even. */
static uint16_t half_of(double x) {
    int exponent;
    frexp(x, &exponent); /* |x| in [2^(exponent - 1), 2^exponent) */
    int unit = x != 0 && exponent > -13 ? exponent - 11 : -24;
    /* Units of 2^unit with the leading bit: the exponent's steps follow by carrying. */
    double units = nearbyint(ldexp(fabs(x), -unit));
    unsigned bits = (unsigned)units + ((unsigned)(unit + 24) << 10);
    return (uint16_t)(bits | (x < 0 ? 0x8000u : 0));
}

static double half_value(uint16_t half) {
    int exponent = half >> 10 & 31, mantissa = half & 1023;
    double size = exponent == 0 ? ldexp(mantissa, -24) : ldexp(mantissa + 1024, exponent - 25);
    return half & 0x8000 ? -size : size;
}

static void set_number(const balora_tensor *tensor, int64_t row, int64_t column, float value) {
    int64_t place = row * tensor->strides[0] + column;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (tensor->dtype == BALORA_F32)
        ((float *)tensor->data)[place] = value;
    else
        ((uint16_t *)tensor->data)[place] = tensor->dtype == BALORA_F16
                                                ? half_of((double)value)
                                                : (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static double get_number(const balora_tensor *tensor, int64_t row, int64_t column) {
    int64_t place = row * tensor->strides[0] + column;
    if (tensor->dtype == BALORA_F32)
        return (double)((float *)tensor->data)[place];
    uint16_t half = ((uint16_t *)tensor->data)[place];
    if (tensor->dtype == BALORA_F16)
        return half_value(half);
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

static balora_tensor make_tensor(int32_t dtype, int64_t rows, int64_t cols, int64_t gap) {
    balora_tensor tensor = BALORA_TENSOR_INIT;
    tensor.dtype = dtype;
    tensor.rank = 2;
    tensor.shape[0] = rows;
    tensor.shape[1] = cols;
    tensor.strides[0] = cols + gap;
    tensor.strides[1] = 1;
    tensor.data = calloc((size_t)(rows * (cols + gap)), sizeof(float));
    return tensor;
}

static void fill_weight(const balora_tensor *weight, int index) {
    for (int64_t i = 0; i < weight->shape[0]; i++)
        for (int64_t j = 0; j < weight->shape[1]; j++) {
            int64_t half = j / 2 < 40 ? j / 2 : 40;
            double value =
                parts_noise((uint64_t)(7000 + index), i * weight->shape[1] + j) * ldexp(1, -(int)half);
            set_number(weight, i, j, (float)value);
        }
}

static float *read_expected(const host_matrix *matrix, const char *what, int64_t count) {
    char name[64];
    safetensors_file file;
    allocator memory;
    memory_init(&memory, NULL, NULL, NULL);
    snprintf(name, sizeof name, "pissa.%s.%s", matrix->name, what);
    const char *path = getenv("BALORA_PARTS_FIXTURES");
    assert_non_null(path);
    expect_ok(safetensors_open(&file, &memory, path));
    const safetensors_entry *entry = safetensors_find(&file, name);
    assert_non_null(entry);
    assert_int_equal(entry->elements, count);
    float *out = malloc((size_t)entry->bytes);
    expect_ok(safetensors_read(&file, entry, out));
    safetensors_close(&file);
    return out;
}

/* --- one matrix --- */

typedef struct factors {
    balora_tensor weight, a, b, residual;
    balora_pissa_options options;
} factors;

static void open_factors(factors *self, int index, int64_t gap, int32_t full_svd) {
    const host_matrix *matrix = &matrices[index];
    self->weight = make_tensor(matrix->dtype, matrix->out, matrix->in, gap);
    self->a = make_tensor(BALORA_F32, matrix->rank, matrix->in, gap);
    self->b = make_tensor(BALORA_F32, matrix->out, matrix->rank, gap);
    self->residual = make_tensor(matrix->dtype, matrix->out, matrix->in, gap);
    self->options = (balora_pissa_options)BALORA_PISSA_OPTIONS_INIT;
    self->options.rank = matrix->rank;
    self->options.scale = SCALE;
    self->options.full_svd = full_svd;
    fill_weight(&self->weight, index);
}

static void close_factors(factors *self) {
    free(self->weight.data);
    free(self->a.data);
    free(self->b.data);
    free(self->residual.data);
}

/* s b_i . a_j */
static double product(const factors *self, int64_t i, int64_t j) {
    double sum = 0;
    for (int64_t k = 0; k < self->options.rank; k++)
        sum += get_number(&self->b, i, k) * get_number(&self->a, k, j);
    return SCALE * sum;
}

static void expect_product(const factors *self, const host_matrix *matrix) {
    float *left = read_expected(matrix, "left", matrix->out * matrix->rank),
          *right = read_expected(matrix, "right", matrix->rank * matrix->in);
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < matrix->out; i++)
        for (int64_t j = 0; j < matrix->in; j++) {
            double want = 0;
            for (int64_t k = 0; k < matrix->rank; k++)
                want += (double)left[i * matrix->rank + k] * (double)right[k * matrix->in + j];
            difference += (product(self, i, j) - want) * (product(self, i, j) - want);
            norm += want * want;
        }
    if (!(sqrt(difference / norm) <= 1e-5))
        fail_msg("%s: the best part of rank %lld is off by %.3g", matrix->name, (long long)matrix->rank,
                 sqrt(difference / norm));
    free(left);
    free(right);
}

/* The lengths of a row of A and of a column of B are the root of sigma / s. */
static void expect_values(const factors *self, const host_matrix *matrix) {
    double *values = (double *)(void *)read_expected(matrix, "values", matrix->rank);
    for (int64_t k = 0; k < matrix->rank; k++) {
        double of_a = 0, of_b = 0;
        for (int64_t j = 0; j < matrix->in; j++)
            of_a += pow(get_number(&self->a, k, j), 2);
        for (int64_t i = 0; i < matrix->out; i++)
            of_b += pow(get_number(&self->b, i, k), 2);
        if (!(fabs(SCALE * of_a - values[k]) <= 1e-4 * values[k]) ||
            !(fabs(SCALE * of_b - values[k]) <= 1e-4 * values[k]))
            fail_msg("%s: singular value %lld is %.7g and %.7g, expected %.7g", matrix->name, (long long)k,
                     SCALE * of_a, SCALE * of_b, values[k]);
    }
    free(values);
}

/* F32's rounding of the weight and the product, then that of the type. */
static void expect_residual(const factors *self, const balora_tensor *residual, int index) {
    factors fresh;
    const host_matrix *matrix = &matrices[index];
    open_factors(&fresh, index, 0, 0);
    for (int64_t i = 0; i < matrix->out; i++)
        for (int64_t j = 0; j < matrix->in; j++) {
            double weight = get_number(&fresh.weight, i, j), want = weight - product(self, i, j);
            double found = get_number(residual, i, j);
            double allowed = 1e-6 * (fabs(weight) + 0.1) + matrix->rounding * fabs(want) + 0x1p-24;
            if (!(fabs(found - want) <= allowed))
                fail_msg("%s: residual [%lld, %lld] is %.8g, expected %.8g", matrix->name, (long long)i,
                         (long long)j, found, want);
        }
    close_factors(&fresh);
}

static void check(int index, int64_t gap, int32_t full_svd, bool in_place) {
    factors self;
    open_factors(&self, index, gap, full_svd);
    const balora_tensor *residual = in_place ? &self.weight : &self.residual;
    expect_ok(balora_pissa(&self.a, &self.b, residual, context, &self.weight, &self.options));
    expect_product(&self, &matrices[index]);
    expect_values(&self, &matrices[index]);
    expect_residual(&self, residual, index);
    close_factors(&self);
}

static void factors_are_the_best_part(void **state) {
    (void)state;
    for (int index = 0; index < MATRICES; index++)
        for (int32_t full_svd = 0; full_svd < 2; full_svd++) {
            check(index, 0, full_svd, false);
            check(index, 5, full_svd, false);
        }
}

static void the_residual_may_take_the_weights_place(void **state) {
    (void)state;
    for (int index = 0; index < MATRICES; index++)
        check(index, index % 2 * 3, 0, true);
}

/* --- refusals --- */

static void refuse(factors *self, balora_status expected, const char *part) {
    float untouched = 7;
    set_number(&self->a, 0, 0, untouched);
    balora_status status =
        balora_pissa(&self->a, &self->b, &self->residual, context, &self->weight, &self->options);
    if (status != expected || strstr(balora_error_message(), part) == NULL)
        fail_msg("%s \"%s\", expected %s with \"%s\"", balora_status_name(status), balora_error_message(),
                 balora_status_name(expected), part);
    assert_true(get_number(&self->a, 0, 0) == (double)untouched);
}

static void what_does_not_fit_is_refused(void **state) {
    (void)state;
    factors self;
    open_factors(&self, 0, 0, 0);
#define BREAK(field, value, status, part)                                                                    \
    do {                                                                                                     \
        factors kept = self;                                                                                 \
        self.field = value;                                                                                  \
        refuse(&self, status, part);                                                                         \
        self = kept;                                                                                         \
    } while (0)
    BREAK(options.rank, 25, BALORA_ERROR_ARGUMENT, "allows 1 to 24");
    BREAK(options.rank, 0, BALORA_ERROR_ARGUMENT, "rank is 0");
    BREAK(options.rank, 3, BALORA_ERROR_ARGUMENT, "a has 2 dimensions, [4, 24]; expected [3, 24]");
    BREAK(options.scale, 0, BALORA_ERROR_ARGUMENT, "scale is 0");
    BREAK(options.scale, NAN, BALORA_ERROR_ARGUMENT, "scale");
    BREAK(options.reserved, 1, BALORA_ERROR_ABI, "reserved");
    BREAK(weight.rank, 1, BALORA_ERROR_ARGUMENT, "weight has 1 dimensions");
    BREAK(weight.shape[0], 39, BALORA_ERROR_ARGUMENT, "b has 2 dimensions, [40, 4]; expected [39, 4]");
    BREAK(weight.dtype, BALORA_F64, BALORA_ERROR_ARGUMENT, "another type");
    BREAK(weight.strides[1], 2, BALORA_ERROR_ARGUMENT, "weight is not in row-major order");
    BREAK(weight.strides[0], 23, BALORA_ERROR_ARGUMENT, "weight is not in row-major order");
    BREAK(weight.struct_size, 8, BALORA_ERROR_ABI, "weight");
    BREAK(b.dtype, BALORA_BF16, BALORA_ERROR_ARGUMENT, "another type than float32");
    BREAK(b.read_only, 1, BALORA_ERROR_ARGUMENT, "b is read-only");
    BREAK(b.device, BALORA_DEVICE_CUDA, BALORA_ERROR_ARGUMENT, "b is on another device");
    BREAK(residual.shape[1], 23, BALORA_ERROR_ARGUMENT, "residual has 2 dimensions");
    BREAK(residual.data, (float *)self.weight.data + 24, BALORA_ERROR_ARGUMENT, "overlap");
    BREAK(a.data, self.b.data, BALORA_ERROR_ARGUMENT, "overlap");
#undef BREAK
    static const float wrong[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        set_number(&self.weight, 39, 23, wrong[i]);
        refuse(&self, BALORA_ERROR_NUMERIC, "not finite");
    }
    close_factors(&self);
}

static void null_is_refused(void **state) {
    (void)state;
    factors self;
    open_factors(&self, 0, 0, 0);
    const balora_tensor *w = &self.weight, *a = &self.a, *b = &self.b;
    assert_int_equal(balora_pissa(NULL, b, NULL, context, w, &self.options), BALORA_ERROR_ARGUMENT);
    assert_int_equal(balora_pissa(a, NULL, NULL, context, w, &self.options), BALORA_ERROR_ARGUMENT);
    assert_int_equal(balora_pissa(a, b, NULL, NULL, w, &self.options), BALORA_ERROR_ARGUMENT);
    assert_int_equal(balora_pissa(a, b, NULL, context, NULL, &self.options), BALORA_ERROR_ARGUMENT);
    assert_int_equal(balora_pissa(a, b, NULL, context, w, NULL),
                     BALORA_ERROR_ARGUMENT); /* rank 16: a is [4, 24] */
    expect_ok(balora_pissa(a, b, NULL, context, w, &self.options));
    close_factors(&self);
}

/* A matrix of no numbers has no rank; one of one number has one. */
static void sizes_end_at_one(void **state) {
    (void)state;
    float w = -3, a = 0, b = 0, r = 9;
    int64_t one[2] = {1, 1}, none[2] = {0, 4};
    balora_tensor weight = BALORA_TENSOR_INIT, left = weight, right = weight, rest = weight;
    balora_pissa_options options = BALORA_PISSA_OPTIONS_INIT;
    options.rank = 1;
    expect_ok(balora_tensor_contiguous(&weight, &w, BALORA_F32, 2, one));
    expect_ok(balora_tensor_contiguous(&right, &a, BALORA_F32, 2, one));
    expect_ok(balora_tensor_contiguous(&left, &b, BALORA_F32, 2, one));
    expect_ok(balora_tensor_contiguous(&rest, &r, BALORA_F32, 2, one));
    expect_ok(balora_pissa(&right, &left, &rest, context, &weight, &options));
    assert_true(fabsf(a * b + 3) < 1e-6F && fabsf(r) < 1e-6F);
    expect_ok(balora_tensor_contiguous(&weight, NULL, BALORA_F32, 2, none));
    assert_int_equal(balora_pissa(&right, &left, NULL, context, &weight, &options), BALORA_ERROR_ARGUMENT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(factors_are_the_best_part, setup, teardown),
        cmocka_unit_test_setup_teardown(the_residual_may_take_the_weights_place, setup, teardown),
        cmocka_unit_test_setup_teardown(what_does_not_fit_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(null_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(sizes_end_at_one, setup, teardown),
    };
    return cmocka_run_group_tests_name("pissa_host", tests, NULL, NULL);
}
