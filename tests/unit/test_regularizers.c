/*
 * The regularizer set on a host's logits against PyTorch's autograd in fp64 (tests/fixtures/regularizers): every form, in every
 * layout, F32 and BF16, each term by itself and their sum; and what a call refuses.
 *
 * Tolerances: F32 results differ from fp64 by 1e-5 of their norm at most, on logits of some units; a BF16 gradient is
 * rounded to 8 bits once, which is 2^-9 of a number at most and half of that in the mean.
 */
#include "scratch.h"

#include <math.h>
#include <pthread.h>

#include "../device.h"
#include "backend/registry.h"
#include "balora/balora.h"
#include "faulty.h"
#include "format/safetensors.h"
#include "tensor/dtype.h"

#define TERM_TOLERANCE     1e-5
#define GRADIENT_TOLERANCE 1e-5
#define BF16_TOLERANCE     3e-3
#define SCALE              0.25 /* of gradients: a power of 2 keeps their rounding */
#define FILLER             0xFF /* bytes between rows: a NaN of every type */

enum { STUDENT, TEACHER, GRADIENT };

/* How a matrix lies in memory. */
typedef enum layout { CONTIGUOUS, PADDED, TRANSPOSED, REVERSED, LAYOUTS } layout;

typedef struct oracle_case {
    char name[64];
    int64_t rows, columns;
    int32_t dtype; /* of student and teacher */
    double options[6], terms[3];
    float *student, *teacher;
    float *gradients;    /* [3, rows, columns] */
    unsigned char *mask; /* [rows], or NULL */
} oracle_case;

/* A matrix in memory of the device under test. */
typedef struct place {
    balora_tensor tensor;
    backend_buffer *buffer; /* on the CPU NULL */
    unsigned char *image;   /* on the CPU the memory itself */
    int64_t bytes, first;   /* of the image; of element (0, 0) in it */
} place;

static balora_context *context;
static backend device;
static backend_queue *queue;
static allocator memory;
static bool on_cpu;

/* --- oracle --- */

static void *read_tensor(const safetensors_file *file, const char *name, const char *part, int64_t *elements,
                         int32_t *dtype) {
    char key[128];
    snprintf(key, sizeof key, "%s.%s", name, part);
    const safetensors_entry *entry = safetensors_find(file, key);
    if (entry == NULL)
        return NULL;
    void *out = malloc(entry->bytes + 1);
    assert_non_null(out);
    expect_ok(safetensors_read(file, entry, out));
    *elements = entry->elements;
    *dtype = entry->dtype;
    return out;
}

/* 16 bits widened. */
static float *read_numbers(const safetensors_file *file, const char *name, const char *part, int32_t *dtype) {
    int64_t count = 0;
    void *raw = read_tensor(file, name, part, &count, dtype);
    assert_non_null(raw);
    float *out = malloc((size_t)count * sizeof *out);
    assert_non_null(out);
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits = *dtype == BALORA_F32 ? ((uint32_t *)raw)[i] : (uint32_t)((uint16_t *)raw)[i] << 16;
        memcpy(&out[i], &bits, sizeof bits);
    }
    free(raw);
    return out;
}

static oracle_case load_case(const safetensors_file *file, const safetensors_entry *student) {
    oracle_case one = {.rows = student->shape[0], .columns = student->shape[1]};
    int64_t count;
    int32_t dtype;
    memcpy(one.name, student->name, strlen(student->name) - strlen(".student"));
    one.student = read_numbers(file, one.name, "student", &one.dtype);
    one.teacher = read_numbers(file, one.name, "teacher", &dtype);
    one.gradients = read_numbers(file, one.name, "gradient", &dtype);
    one.mask = read_tensor(file, one.name, "mask", &count, &dtype);
    double *options = read_tensor(file, one.name, "options", &count, &dtype);
    double *terms = read_tensor(file, one.name, "terms", &count, &dtype);
    memcpy(one.options, options, sizeof one.options);
    memcpy(one.terms, terms, sizeof one.terms);
    free(options);
    free(terms);
    return one;
}

static void free_case(oracle_case *one) {
    free(one->student);
    free(one->teacher);
    free(one->gradients);
    free(one->mask);
}

static void for_cases(void (*check)(const oracle_case *one)) {
    char path[1024];
    safetensors_file file;
    int cases = 0;
    const char *folder = getenv("BALORA_REGULARIZERS_FIXTURES");
    snprintf(path, sizeof path, "%s/terms.safetensors",
             folder != NULL ? folder : "tests/fixtures/regularizers");
    expect_ok(safetensors_open(&file, &memory, path));
    for (int64_t i = 0; i < file.count; i++) {
        const char *dot = strrchr(file.entries[i].name, '.');
        if (dot == NULL || strcmp(dot, ".student") != 0)
            continue;
        oracle_case one = load_case(&file, &file.entries[i]);
        check(&one);
        free_case(&one);
        cases++;
    }
    safetensors_close(&file);
    assert_int_equal(cases, 16);
}

/* --- memory of the device --- */

static void upload(const place *self) {
    if (!on_cpu)
        expect_ok(device.ops->upload(queue, self->buffer, 0, self->image, self->bytes));
    if (!on_cpu)
        expect_ok(device.ops->synchronize(queue));
}

static void download(const place *self) {
    if (on_cpu)
        return;
    expect_ok(device.ops->download(queue, self->image, self->buffer, 0, self->bytes));
    expect_ok(device.ops->synchronize(queue));
}

static place make_place(int64_t rows, int64_t columns, int32_t dtype, layout how) {
    int64_t size = dtype_size(dtype);
    int64_t distance = how == TRANSPOSED ? 1 : how == PADDED ? columns + 3 : columns;
    place self = {.tensor = BALORA_TENSOR_INIT, .bytes = (rows + 1) * (columns + 3) * size};
    self.image = malloc((size_t)self.bytes);
    assert_non_null(self.image);
    memset(self.image, FILLER, (size_t)self.bytes);
    self.first = how == REVERSED ? (rows - 1) * columns * size : 0;
    self.tensor.dtype = dtype;
    self.tensor.rank = 2;
    self.tensor.shape[0] = rows;
    self.tensor.shape[1] = columns;
    self.tensor.strides[0] = how == REVERSED ? -distance : distance;
    self.tensor.strides[1] = how == TRANSPOSED ? rows : 1;
    unsigned char *start = self.image;
    if (!on_cpu) {
        expect_ok(device.ops->buffer_allocate(&self.buffer, device.device, self.bytes));
        memcpy(&start, self.buffer, sizeof start); /* a buffer begins with its address */
        self.tensor.device = BALORA_DEVICE_CUDA;
    }
    self.tensor.data = start + self.first;
    return self;
}

static void free_place(place *self) {
    if (!on_cpu)
        device.ops->buffer_free(device.device, self->buffer);
    free(self->image);
}

static unsigned char *element(const place *self, int64_t row, int64_t column) {
    int64_t offset = row * self->tensor.strides[0] + column * self->tensor.strides[1];
    return self->image + self->first + offset * dtype_size(self->tensor.dtype);
}

static float get(const place *self, int64_t row, int64_t column) {
    uint32_t bits = 0;
    uint16_t half;
    float value;
    if (self->tensor.dtype == BALORA_BF16) {
        memcpy(&half, element(self, row, column), sizeof half);
        bits = (uint32_t)half << 16;
    } else {
        memcpy(&bits, element(self, row, column), sizeof bits);
    }
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void set(place *self, int64_t row, int64_t column, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t half = (uint16_t)(bits >> 16); /* of numbers that are BF16 already */
    if (self->tensor.dtype == BALORA_BF16)
        memcpy(element(self, row, column), &half, sizeof half);
    else
        memcpy(element(self, row, column), &bits, sizeof bits);
}

static place place_of(const float *values, int64_t rows, int64_t columns, int32_t dtype, layout how) {
    place self = make_place(rows, columns, dtype, how);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            set(&self, i, j, values[i * columns + j]);
    upload(&self);
    return self;
}

/* Bytes that belong to no element must have stayed. */
static void expect_gaps_untouched(const place *self) {
    unsigned char *copy = malloc((size_t)self->bytes);
    int64_t size = dtype_size(self->tensor.dtype);
    assert_non_null(copy);
    memcpy(copy, self->image, (size_t)self->bytes);
    for (int64_t i = 0; i < self->tensor.shape[0]; i++)
        for (int64_t j = 0; j < self->tensor.shape[1]; j++)
            memset(copy + (element(self, i, j) - self->image), FILLER, (size_t)size);
    for (int64_t i = 0; i < self->bytes; i++)
        assert_int_equal(copy[i], FILLER);
    free(copy);
}

/* --- a call --- */

static balora_regularizers *set_of(const oracle_case *one) {
    balora_regularizer_options options = BALORA_REGULARIZER_OPTIONS_INIT;
    balora_regularizers *out;
    options.consistency_form = (int32_t)one->options[0];
    options.diversity_form = (int32_t)one->options[1];
    options.temperature = one->options[2];
    options.top_k = (int64_t)one->options[3];
    options.svd_k = (int64_t)one->options[4];
    options.svd_norm = (int32_t)one->options[5];
    expect_ok(balora_regularizers_create(&out, context, &options));
    return out;
}

typedef struct trial {
    layout layouts[3]; /* of student, teacher, gradient */
    int32_t gradient_dtype;
    bool accumulate, in_place;
} trial;

static balora_tensor mask_of(const oracle_case *one) {
    balora_tensor mask = BALORA_TENSOR_INIT;
    expect_ok(balora_tensor_contiguous(&mask, one->mask, BALORA_U8, 1, &one->rows));
    return mask;
}

static void expect_terms(const oracle_case *one, const balora_regularizer_terms *found,
                         const double lambdas[3]) {
    const double values[3] = {found->consistency, found->diversity, found->svd};
    double loss = 0;
    for (int i = 0; i < 3; i++) {
        double expected = lambdas[i] != 0 ? one->terms[i] : 0;
        loss += lambdas[i] * expected;
        if (!(fabs(values[i] - expected) <= TERM_TOLERANCE * fabs(expected) + 1e-9))
            fail_msg("%s: term %d is %.9g, expected %.9g", one->name, i, values[i], expected);
    }
    if (!(fabs(found->loss - loss) <= TERM_TOLERANCE * (fabs(loss) + 0.1)))
        fail_msg("%s: the sum is %.9g, expected %.9g", one->name, found->loss, loss);
}

/* The gradient over the whole matrix, masked rows included: they expect 0. */
static void expect_gradient(const oracle_case *one, const place *gradient, const double lambdas[3],
                            const trial *how, float before) {
    double difference = 0, size = 0;
    bool narrow = gradient->tensor.dtype == BALORA_BF16;
    for (int64_t i = 0; i < one->rows; i++)
        for (int64_t j = 0; j < one->columns; j++) {
            double expected = 0, added = how->accumulate ? (double)before : 0;
            for (int term = 0; term < 3; term++)
                expected +=
                    SCALE * lambdas[term] * (double)one->gradients[(term * one->rows + i) * one->columns + j];
            double found = (double)get(gradient, i, j) - added;
            if (one->mask != NULL && !one->mask[i] && found != 0)
                fail_msg("%s: row %lld takes no part and has a gradient", one->name, (long long)i);
            difference += (found - expected) * (found - expected);
            size += expected * expected;
        }
    double count = sqrt((double)(one->rows * one->columns));
    double tolerance = (narrow ? BF16_TOLERANCE : GRADIENT_TOLERANCE) * sqrt(size) + 1e-9 * count;
    if (how->accumulate) /* the sum is rounded, to F32 or BF16 */
        tolerance += fabs((double)before) * (narrow ? 4e-3 : 1e-7) * count;
    if (!(sqrt(difference) <= tolerance))
        fail_msg("%s: weights %g %g %g, layouts %d %d %d: the gradient is off by %.3g of its norm %.3g",
                 one->name, lambdas[0], lambdas[1], lambdas[2], how->layouts[0], how->layouts[1],
                 how->layouts[2], sqrt(difference / size), sqrt(size));
}

static void run_trial(const oracle_case *one, balora_regularizers *regularizers, const trial *how,
                      const double lambdas[3]) {
    int64_t rows = one->rows, columns = one->columns;
    float before = 0.5f;
    place student = place_of(one->student, rows, columns, one->dtype, how->layouts[STUDENT]);
    place teacher = place_of(one->teacher, rows, columns, one->dtype, how->layouts[TEACHER]);
    place gradient = make_place(rows, columns, how->gradient_dtype, how->layouts[GRADIENT]);
    for (int64_t i = 0; how->accumulate && i < rows * columns; i++)
        set(&gradient, i / columns, i % columns, before);
    upload(&gradient);
    balora_tensor mask;
    balora_regularizer_inputs inputs = BALORA_REGULARIZER_INPUTS_INIT;
    balora_regularizer_terms terms = BALORA_REGULARIZER_TERMS_INIT;
    inputs.student = &student.tensor;
    inputs.teacher = &teacher.tensor;
    inputs.gradient = how->in_place ? &student.tensor : &gradient.tensor;
    inputs.accumulate = how->accumulate;
    inputs.gradient_scale = SCALE;
    inputs.use_lambdas = 1;
    memcpy(inputs.lambdas, lambdas, sizeof inputs.lambdas);
    if (one->mask != NULL) {
        mask = mask_of(one);
        inputs.mask = &mask;
    }
    expect_ok(balora_regularizers_evaluate(regularizers, &inputs, &terms));
    expect_terms(one, &terms, lambdas);
    const place *written = how->in_place ? &student : &gradient;
    download(written);
    expect_gradient(one, written, lambdas, how, before);
    expect_gaps_untouched(written);
    free_place(&student);
    free_place(&teacher);
    free_place(&gradient);
}

/* --- against autograd --- */

static const double weights[][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {0.7, 0.4, 0.9}};

static void check_terms(const oracle_case *one) {
    balora_regularizers *regularizers = set_of(one);
    trial how = {.gradient_dtype = BALORA_F32};
    for (int i = 0; i < 4; i++)
        run_trial(one, regularizers, &how, weights[i]);
    how.gradient_dtype = BALORA_BF16;
    for (int i = 0; i < 4; i++)
        run_trial(one, regularizers, &how, weights[i]);
    balora_regularizers_free(regularizers);
}

static void terms_and_gradients_are_those_of_autograd(void **state) {
    (void)state;
    for_cases(check_terms);
}

static void check_layouts(const oracle_case *one) {
    balora_regularizers *regularizers = set_of(one);
    int layouts = on_cpu ? LAYOUTS : TRANSPOSED;
    for (int i = 0; i < layouts * layouts * layouts; i++) {
        trial how = {.layouts = {(layout)(i % layouts), (layout)(i / layouts % layouts),
                                 (layout)(i / layouts / layouts)},
                     .gradient_dtype = i % 2 ? BALORA_F32 : BALORA_BF16};
        run_trial(one, regularizers, &how, weights[3]);
        how.accumulate = true;
        run_trial(one, regularizers, &how, weights[3]);
    }
    balora_regularizers_free(regularizers);
}

static void every_layout_gives_the_same(void **state) {
    (void)state;
    for_cases(check_layouts);
}

static void check_in_place(const oracle_case *one) {
    balora_regularizers *regularizers = set_of(one);
    int layouts = on_cpu ? LAYOUTS : TRANSPOSED;
    for (int i = 0; i < layouts; i++) {
        trial how = {
            .layouts = {(layout)i, CONTIGUOUS, CONTIGUOUS}, .gradient_dtype = one->dtype, .in_place = true};
        run_trial(one, regularizers, &how, weights[3]);
    }
    balora_regularizers_free(regularizers);
}

static void the_gradient_may_take_the_place_of_the_logits(void **state) {
    (void)state;
    for_cases(check_in_place);
}

/* --- other shapes of the same --- */

static float numbers[4 * 6 * 10], others[4 * 6 * 10];

static void draw(void) {
    for (int i = 0; i < 240; i++) {
        numbers[i] = (float)sin(0.37 * i * i) * 2;
        others[i] = (float)sin(0.37 * i * i + 0.3) * 2;
    }
}

static balora_tensor view(float *data, int32_t rank, const int64_t *shape) {
    balora_tensor tensor = BALORA_TENSOR_INIT;
    expect_ok(balora_tensor_contiguous(&tensor, data, BALORA_F32, rank, shape));
    return tensor;
}

static balora_regularizers *default_set(void) {
    balora_regularizers *out;
    expect_ok(balora_regularizers_create(&out, context, NULL));
    return out;
}

/* [4, 6, 10] with a mask, [24, 10] with indices, and a permuted [6, 4, 10] are the same rows. */
static void leading_dimensions_are_rows(void **state) {
    (void)state;
    const int64_t cube[] = {4, 6, 10}, flat[] = {24, 10}, grid[] = {4, 6}, list[] = {7};
    int64_t indices[] = {20, 3, 4, 5, 11, 0, 23};
    unsigned char marks[24] = {0};
    float gradients[3][240];
    balora_regularizer_terms terms[3];
    balora_regularizers *set_ = default_set();
    draw();
    for (int i = 0; i < 7; i++)
        marks[indices[i]] = 1;
    for (int i = 0; i < 3; i++) {
        balora_regularizer_inputs inputs = BALORA_REGULARIZER_INPUTS_INIT;
        balora_tensor student = i == 1 ? view(numbers, 2, flat) : view(numbers, 3, cube);
        balora_tensor teacher = student, gradient = student, mask = BALORA_TENSOR_INIT, rows;
        teacher.data = others;
        gradient.data = gradients[i];
        expect_ok(balora_tensor_contiguous(&mask, marks, BALORA_U8, 2, grid));
        rows = view(numbers, 1, list);
        rows.dtype = BALORA_I64;
        rows.data = indices;
        balora_tensor *permuted[] = {&student, &teacher, &gradient, &mask};
        for (int j = 0; i == 2 && j < 4; j++) {
            int64_t strides[] = {permuted[j]->strides[1], permuted[j]->strides[0]};
            permuted[j]->shape[0] = 6, permuted[j]->shape[1] = 4;
            memcpy(permuted[j]->strides, strides, sizeof strides);
        }
        inputs.student = &student;
        inputs.teacher = &teacher;
        inputs.gradient = &gradient;
        if (i == 1)
            inputs.indices = &rows;
        else
            inputs.mask = &mask;
        terms[i] = (balora_regularizer_terms)BALORA_REGULARIZER_TERMS_INIT;
        expect_ok(balora_regularizers_evaluate(set_, &inputs, &terms[i]));
        assert_int_equal(terms[i].rows, 7);
        assert_true(fabs(terms[i].loss - terms[0].loss) <= 1e-12);
        for (int j = 0; j < 240; j++)
            assert_true(fabs((double)gradients[i][j] - (double)gradients[0][j]) <= 1e-9);
    }
    balora_regularizers_free(set_);
}

static double half_value(uint16_t bits) {
    int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    double size = exponent == 0 ? ldexp(mantissa, -24) : ldexp(1024 + mantissa, exponent - 25);
    return bits & 0x8000 ? -size : size;
}

/* F16 logits count as the F32 numbers that they are; their gradient is the F32 one, rounded to 11 bits. */
static void halves_are_numbers(void **state) {
    (void)state;
    const int64_t shape[] = {24, 10};
    uint16_t narrow[3][240];
    float wide[3][240];
    balora_regularizer_terms terms[2];
    balora_regularizers *set_ = default_set();
    for (int i = 0; i < 480; i++) {
        uint16_t bits = (uint16_t)((i * 7919 & 0x8000) | (13 + i % 4) << 10 | (i * 613 & 0x3FF));
        narrow[i / 240][i % 240] = bits;
        wide[i / 240][i % 240] = (float)half_value(bits);
    }
    for (int i = 0; i < 2; i++) {
        balora_regularizer_inputs inputs = BALORA_REGULARIZER_INPUTS_INIT;
        balora_tensor tensors[3];
        for (int j = 0; j < 3; j++) {
            tensors[j] = (balora_tensor)BALORA_TENSOR_INIT;
            void *data = i == 0 ? (void *)wide[j] : (void *)narrow[j];
            expect_ok(
                balora_tensor_contiguous(&tensors[j], data, i == 0 ? BALORA_F32 : BALORA_F16, 2, shape));
        }
        inputs.student = &tensors[0], inputs.teacher = &tensors[1], inputs.gradient = &tensors[2];
        inputs.use_lambdas = 1, inputs.gradient_scale = 64; /* far from numbers that halves cannot have */
        for (int j = 0; j < 3; j++)
            inputs.lambdas[j] = 1;
        terms[i] = (balora_regularizer_terms)BALORA_REGULARIZER_TERMS_INIT;
        expect_ok(balora_regularizers_evaluate(set_, &inputs, &terms[i]));
    }
    assert_true(terms[0].loss == terms[1].loss);
    for (int i = 0; i < 240; i++)
        assert_true(fabs(half_value(narrow[2][i]) - (double)wide[2][i]) <=
                    ldexp(fabs((double)wide[2][i]), -11) + ldexp(1, -25));
    balora_regularizers_free(set_);
}

/* What rows hold that take no part does not matter. */
static void rows_without_a_part_may_hold_anything(void **state) {
    (void)state;
    const int64_t shape[] = {24, 10}, all[] = {24};
    unsigned char marks[24];
    float gradients[2][240];
    balora_regularizers *set_ = default_set();
    for (int i = 0; i < 2; i++) {
        balora_regularizer_inputs inputs = BALORA_REGULARIZER_INPUTS_INIT;
        balora_regularizer_terms terms = BALORA_REGULARIZER_TERMS_INIT;
        balora_tensor student = view(numbers, 2, shape), teacher = view(others, 2, shape);
        balora_tensor gradient = view(gradients[i], 2, shape), mask = BALORA_TENSOR_INIT;
        draw();
        for (int j = 0; j < 24; j++) {
            marks[j] = (unsigned char)(j % 3 != 1);
            for (int column = 0; i == 1 && !marks[j] && column < 10; column++)
                numbers[j * 10 + column] = others[j * 10 + column] = column % 2 ? NAN : INFINITY;
        }
        expect_ok(balora_tensor_contiguous(&mask, marks, BALORA_U8, 1, all));
        inputs.student = &student, inputs.teacher = &teacher, inputs.gradient = &gradient,
        inputs.mask = &mask;
        expect_ok(balora_regularizers_evaluate(set_, &inputs, &terms));
    }
    assert_memory_equal(gradients[0], gradients[1], sizeof gradients[0]);
    balora_regularizers_free(set_);
}

static balora_status call(balora_regularizers *set_, const balora_tensor *student,
                          const balora_tensor *teacher, const balora_tensor *gradient,
                          balora_regularizer_terms *terms) {
    balora_regularizer_inputs inputs = BALORA_REGULARIZER_INPUTS_INIT;
    inputs.student = student, inputs.teacher = teacher, inputs.gradient = gradient;
    *terms = (balora_regularizer_terms)BALORA_REGULARIZER_TERMS_INIT;
    return balora_regularizers_evaluate(set_, &inputs, terms);
}

static void small_and_empty_matrices_have_terms(void **state) {
    (void)state;
    const int64_t empty[] = {0, 10}, column[] = {24, 1};
    float gradient[240];
    balora_regularizer_terms terms;
    balora_regularizers *set_ = default_set();
    draw();
    balora_tensor student = view(numbers, 2, empty), teacher = view(others, 2, empty);
    balora_tensor slope = view(gradient, 2, empty);
    expect_ok(call(set_, &student, &teacher, &slope, &terms));
    assert_true(terms.rows == 0 && terms.loss == 0);
    student = view(numbers, 2, column), teacher = view(others, 2, column), slope = view(gradient, 2, column);
    expect_ok(call(set_, &student, &teacher, &slope, &terms));
    assert_true(terms.consistency == 0 && terms.diversity == 0 && fabs(terms.svd + 1) <= 1e-12);
    for (int i = 0; i < 24; i++)
        assert_true(fabs((double)gradient[i]) <= 1e-9);
    balora_regularizers_free(set_);
}

/* Both understanding forms on a batch that says nothing: rows of zeros. */
static void rows_of_zeros_are_no_trouble(void **state) {
    (void)state;
    const int64_t shape[] = {24, 10};
    float gradient[240];
    balora_regularizer_options options = BALORA_REGULARIZER_OPTIONS_INIT;
    for (int preset = 0; preset < 3; preset++) {
        static const int32_t presets[] = {BALORA_PRESET_GENERATION, BALORA_PRESET_UNDERSTANDING,
                                          BALORA_PRESET_UNDERSTANDING_2024};
        balora_regularizers *set_;
        balora_regularizer_terms terms;
        expect_ok(balora_regularizer_options_preset(&options, presets[preset]));
        expect_ok(balora_regularizers_create(&set_, context, &options));
        memset(numbers, 0, sizeof numbers);
        balora_tensor student = view(numbers, 2, shape), slope = view(gradient, 2, shape);
        expect_ok(call(set_, &student, &student, &slope, &terms));
        assert_true(terms.svd == 0 && fabs(terms.consistency) <= 1e-12 && isfinite(terms.loss));
        for (int i = 0; i < 240; i++)
            assert_true(fabs((double)gradient[i]) <= 1e-9);
        balora_regularizers_free(set_);
    }
}

static void logits_that_are_not_finite_are_told(void **state) {
    (void)state;
    const int64_t shape[] = {24, 10};
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    balora_regularizer_terms terms;
    float gradient[240];
    for (int preset = 0; preset <= 20; preset += 10)
        for (int i = 0; i < 3; i++) {
            balora_regularizer_options options = BALORA_REGULARIZER_OPTIONS_INIT;
            balora_regularizers *set_;
            expect_ok(balora_regularizer_options_preset(&options, preset));
            expect_ok(balora_regularizers_create(&set_, context, &options));
            draw();
            numbers[137] = bad[i];
            balora_tensor student = view(numbers, 2, shape), teacher = view(others, 2, shape);
            balora_tensor slope = view(gradient, 2, shape);
            expect_failure(call(set_, &student, &teacher, &slope, &terms), BALORA_ERROR_NUMERIC,
                           "not finite");
            assert_true(terms.rows == 0); /* untouched */
            balora_regularizers_free(set_);
        }
}

/* The logits' scale does not change the SVD term:  <Z, dZ> = 0. */
static void the_svd_term_does_not_see_the_scale(void **state) {
    (void)state;
    const int64_t shapes[][2] = {{12, 20}, {24, 10}};
    float gradient[240];
    balora_regularizers *set_ = default_set();
    for (int i = 0; i < 2; i++) {
        balora_regularizer_inputs inputs = BALORA_REGULARIZER_INPUTS_INIT;
        balora_regularizer_terms terms = BALORA_REGULARIZER_TERMS_INIT;
        double inner = 0, length = 0, size = 0;
        draw();
        balora_tensor student = view(numbers, 2, shapes[i]), slope = view(gradient, 2, shapes[i]);
        inputs.student = &student, inputs.gradient = &slope, inputs.use_lambdas = 1, inputs.lambdas[2] = 1;
        expect_ok(balora_regularizers_evaluate(set_, &inputs, &terms));
        for (int j = 0; j < 240; j++) {
            inner += (double)numbers[j] * (double)gradient[j];
            length += pow((double)gradient[j], 2);
            size += pow((double)numbers[j], 2);
        }
        assert_true(length > 0 && fabs(inner) <= 1e-6 * sqrt(length * size));
    }
    balora_regularizers_free(set_);
}

/* --- weights --- */

static void weights_follow_the_schedules(void **state) {
    (void)state;
    const int64_t shape[] = {24, 10};
    balora_regularizer_options options = BALORA_REGULARIZER_OPTIONS_INIT;
    for (int32_t schedule = BALORA_CONSISTENCY_COSINE; schedule <= BALORA_CONSISTENCY_ADAPTIVE;
         schedule += 10)
        for (int64_t step = -1; step < 100; step += 13) {
            balora_regularizers *set_;
            balora_regularizer_inputs inputs = BALORA_REGULARIZER_INPUTS_INIT;
            balora_regularizer_terms terms = BALORA_REGULARIZER_TERMS_INIT;
            double lambdas[3];
            draw();
            balora_tensor student = view(numbers, 2, shape), teacher = view(others, 2, shape);
            options.consistency_schedule = schedule;
            expect_ok(balora_regularizers_create(&set_, context, &options));
            inputs.student = &student, inputs.teacher = &teacher;
            inputs.step = step < 0 ? 0 : step, inputs.total_steps = step < 0 ? 0 : 100;
            expect_ok(balora_regularizers_evaluate(set_, &inputs, &terms));
            double entropy = terms.relative_teacher_entropy;
            assert_true(schedule == BALORA_CONSISTENCY_ADAPTIVE ? entropy > 0.5 && entropy < 1
                                                                : entropy == 0);
            expect_ok(balora_regularizers_weights(set_, step < 0 ? 0 : step, 100, entropy, lambdas));
            if (step < 0)
                lambdas[1] = lambdas[2] = 0.005;
            assert_true(terms.lambda_consistency == lambdas[0] && terms.lambda_diversity == lambdas[1] &&
                        terms.lambda_svd == lambdas[2]);
            assert_true(terms.diversity < -1 &&
                        terms.svd < -0.5); /* told even where its weight is 0 for now */
            balora_regularizers_free(set_);
        }
}

/* --- memory --- */

/* Workspaces are there after the first call, grow with a larger matrix, and are less than it where it is large. */
static void workspaces_grow_with_the_largest_call(void **state) {
    (void)state;
    enum { ROWS = 512, COLUMNS = 40000 };
    int64_t shape[] = {ROWS, COLUMNS};
    float *large = calloc((size_t)3 * ROWS * COLUMNS, sizeof *large);
    balora_memory_statistics before = BALORA_MEMORY_STATISTICS_INIT, after = before;
    balora_regularizers *set_ = default_set();
    balora_regularizer_terms terms;
    assert_non_null(large);
    for (int64_t i = 0; i < (int64_t)3 * ROWS * COLUMNS; i++)
        large[i] = (float)(i * 7919 % 1009) / 200;
    balora_tensor student = view(large, 2, shape), teacher = view(large + (int64_t)ROWS * COLUMNS, 2, shape);
    balora_tensor slope = view(large + (int64_t)2 * ROWS * COLUMNS, 2, shape);
    expect_ok(call(set_, &student, &teacher, &slope, &terms));
    assert_true(terms.workspace_bytes < (int64_t)ROWS * COLUMNS * (int64_t)sizeof *large);
    expect_ok(balora_context_memory(context, &before));
    student.shape[0] = teacher.shape[0] = slope.shape[0] = 300;
    expect_ok(call(set_, &student, &teacher, &slope, &terms));
    expect_ok(balora_context_memory(context, &after));
    assert_true(after.current_bytes == before.current_bytes);
    balora_regularizers_free(set_);
    free(large);
}

/* Memory refused at every call, once and from then on: an error, nothing lost, and the set works when there is some. */
static void refused_memory_leaves_a_set_that_works(void **state) {
    (void)state;
    const int64_t shape[] = {24, 10};
    float gradient[240];
    unsigned char marks[24] = {1, 1, 0, 1, 1, 1, 1};
    const int64_t all[] = {24};
    draw();
    balora_tensor student = view(numbers, 2, shape), teacher = view(others, 2, shape),
                  mask = BALORA_TENSOR_INIT;
    balora_tensor slope = view(gradient, 2, shape);
    student.shape[0] = 10, student.shape[1] = 24; /* transposed: moved by pieces */
    student.strides[0] = 1, student.strides[1] = 10;
    teacher.shape[0] = slope.shape[0] = 10, teacher.shape[1] = slope.shape[1] = 24;
    teacher.strides[0] = slope.strides[0] = 24;
    expect_ok(balora_tensor_contiguous(&mask, marks, BALORA_U8, 1, all));
    mask.shape[0] = 10;
    int refusals = 0;
    for (int round = 0; round < 6; round++)
        for (int64_t refused = 0;; refused++) {
            faulty faults = {.refused = -1};
            balora_context_options options = BALORA_CONTEXT_OPTIONS_INIT;
            balora_regularizer_options forms = BALORA_REGULARIZER_OPTIONS_INIT;
            balora_memory_statistics before = BALORA_MEMORY_STATISTICS_INIT, after = before;
            balora_regularizer_inputs inputs = BALORA_REGULARIZER_INPUTS_INIT;
            balora_regularizer_terms terms = BALORA_REGULARIZER_TERMS_INIT;
            balora_context *own;
            balora_regularizers *set_;
            options.allocate = faulty_allocate, options.release = faulty_release;
            options.allocator_user = &faults;
            expect_ok(balora_regularizer_options_preset(&forms, round / 2 * 10));
            expect_ok(balora_context_create(&own, &options));
            expect_ok(balora_context_memory(own, &before));
            expect_ok(balora_regularizers_create(&set_, own, &forms));
            inputs.student = &student, inputs.teacher = &teacher, inputs.gradient = &slope,
            inputs.mask = &mask;
            faults = (faulty){.refused = refused, .from_then_on = round % 2};
            balora_status status = balora_regularizers_evaluate(set_, &inputs, &terms);
            bool reached = faults.calls > refused;
            faults.refused = -1;
            faults.from_then_on = 0;
            if (reached)
                expect_failure(status, BALORA_ERROR_MEMORY, "");
            expect_ok(balora_regularizers_evaluate(set_, &inputs, &terms));
            balora_regularizers_free(set_);
            expect_ok(balora_context_memory(own, &after));
            assert_true(after.current_bytes == before.current_bytes);
            balora_context_free(own);
            refusals += reached;
            if (!reached)
                break;
        }
    assert_true(refusals > 50);
}

/* --- threads --- */

enum { THREADS = 3, CALLS = 20 };

typedef struct worker {
    balora_regularizers *regularizers;
    float gradient[240];
    double loss;
    balora_status status;
} worker;

static void *work(void *user) {
    worker *self = user;
    const int64_t shape[] = {24, 10};
    balora_regularizer_terms terms;
    balora_tensor student = view(numbers, 2, shape), teacher = view(others, 2, shape);
    balora_tensor slope = view(self->gradient, 2, shape);
    for (int i = 0; i < CALLS && self->status == BALORA_OK; i++) {
        self->status = call(self->regularizers, &student, &teacher, &slope, &terms);
        self->loss = terms.loss;
    }
    return NULL;
}

/* Sets of one context, a thread each, on the same logits. */
static void sets_do_not_disturb_each_other(void **state) {
    (void)state;
    worker workers[THREADS + 1];
    pthread_t threads[THREADS];
    draw();
    for (int i = 0; i <= THREADS; i++)
        workers[i] = (worker){.regularizers = default_set(), .status = BALORA_OK};
    work(&workers[THREADS]);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i <= THREADS; i++) {
        expect_ok(workers[i].status);
        assert_true(workers[i].loss == workers[THREADS].loss);
        assert_memory_equal(workers[i].gradient, workers[THREADS].gradient, sizeof workers[i].gradient);
        balora_regularizers_free(workers[i].regularizers);
    }
}

/* --- refusals --- */

static void what_does_not_fit_is_refused(void **state) {
    (void)state;
    const int64_t shape[] = {24, 10}, other[] = {10, 24}, list[] = {3}, cube[] = {4, 6, 10};
    float gradient[240];
    int32_t twice[] = {1, 5, 1}, beyond[] = {1, 24, 2};
    balora_regularizer_terms terms;
    balora_regularizers *set_ = default_set();
    draw();
    balora_tensor good = view(numbers, 2, shape), teacher = view(others, 2, shape),
                  slope = view(gradient, 2, shape);
    balora_tensor bad;
#define REFUSED(status, part, student_, teacher_, gradient_)                                                 \
    expect_failure(call(set_, student_, teacher_, gradient_, &terms), status, part)
    REFUSED(BALORA_ERROR_ARGUMENT, "student is NULL", NULL, &teacher, NULL);
    REFUSED(BALORA_ERROR_ARGUMENT, "teacher is NULL", &good, NULL, NULL);
    bad = view(others, 2, other);
    REFUSED(BALORA_ERROR_MISMATCH, "teacher: its shape", &good, &bad, NULL);
    bad = view(others, 3, cube);
    REFUSED(BALORA_ERROR_MISMATCH, "teacher: its shape", &good, &bad, NULL);
    REFUSED(BALORA_ERROR_MISMATCH, "gradient: its shape", &good, &teacher, &bad);
    bad = good, bad.dtype = BALORA_I32;
    REFUSED(BALORA_ERROR_ARGUMENT, "student: dtype is int32", &bad, &teacher, NULL);
    bad = good, bad.rank = 0;
    REFUSED(BALORA_ERROR_ARGUMENT, "student: expected a shape", &bad, &teacher, NULL);
    bad = good, bad.rank = 9;
    REFUSED(BALORA_ERROR_ARGUMENT, "student: rank is 9", &bad, &teacher, NULL);
    bad = slope, bad.read_only = 1;
    REFUSED(BALORA_ERROR_ARGUMENT, "gradient: it is read-only", &good, &teacher, &bad);
    bad = slope, bad.strides[0] = 0;
    REFUSED(BALORA_ERROR_ARGUMENT, "gradient: its strides", &good, &teacher, &bad);
    bad = slope, bad.strides[0] = 9;
    REFUSED(BALORA_ERROR_ARGUMENT, "gradient: its strides", &good, &teacher, &bad);
    bad = good, bad.data = numbers + 1, bad.shape[0] = 23;
    balora_tensor shorter = good, taught = teacher;
    shorter.shape[0] = taught.shape[0] = 23;
    REFUSED(BALORA_ERROR_ARGUMENT, "gradient: it overlaps the student", &shorter, &taught, &bad);
    REFUSED(BALORA_ERROR_ARGUMENT, "gradient: it overlaps the teacher", &good, &teacher, &teacher);
    bad = good, bad.struct_size = 64;
    REFUSED(BALORA_ERROR_ABI, "BALORA_TENSOR_INIT", &bad, &teacher, NULL);
    balora_regularizer_inputs inputs = BALORA_REGULARIZER_INPUTS_INIT;
    inputs.student = &good, inputs.teacher = &teacher;
    balora_tensor rows = view(numbers, 1, list);
    rows.dtype = BALORA_I32;
#define INPUTS(status, part) expect_failure(balora_regularizers_evaluate(set_, &inputs, &terms), status, part)
    inputs.indices = &rows;
    rows.data = twice;
    INPUTS(BALORA_ERROR_ARGUMENT, "row 1 is named twice");
    rows.data = beyond;
    INPUTS(BALORA_ERROR_ARGUMENT, "entry 1 is 24; expected 0 to 23");
    rows.dtype = BALORA_F32;
    INPUTS(BALORA_ERROR_ARGUMENT, "indices: dtype is float32");
    rows.dtype = BALORA_I32;
    inputs.mask = &rows;
    INPUTS(BALORA_ERROR_ARGUMENT, "mask and indices are both given");
    inputs.indices = NULL;
    INPUTS(BALORA_ERROR_ARGUMENT, "mask: 3 elements; expected one a row, 24");
    inputs.mask = NULL;
    inputs.step = 5, inputs.total_steps = 5;
    INPUTS(BALORA_ERROR_ARGUMENT, "step is 5 of 5");
    inputs.step = inputs.total_steps = 0;
    inputs.use_lambdas = 2;
    INPUTS(BALORA_ERROR_ARGUMENT, "use_lambdas 2");
    inputs.use_lambdas = 1;
    inputs.lambdas[1] = -1;
    INPUTS(BALORA_ERROR_ARGUMENT, "lambdas[1] is -1");
    inputs.use_lambdas = 0;
    inputs.gradient = &good;
    inputs.accumulate = 1;
    INPUTS(BALORA_ERROR_ARGUMENT, "gradient: it is the student itself");
    inputs.accumulate = 0;
    inputs.gradient_scale = 0;
    INPUTS(BALORA_ERROR_ARGUMENT, "gradient_scale is 0");
    balora_regularizers_free(set_);
}

static void covariance_is_for_classes(void **state) {
    (void)state;
    enum { COLUMNS = 4097 };
    static float wide[2 * COLUMNS];
    const int64_t shape[] = {2, COLUMNS};
    balora_regularizer_options options = BALORA_REGULARIZER_OPTIONS_INIT;
    balora_regularizer_terms terms;
    balora_regularizers *set_;
    expect_ok(balora_regularizer_options_preset(&options, BALORA_PRESET_UNDERSTANDING));
    expect_ok(balora_regularizers_create(&set_, context, &options));
    balora_tensor student = view(wide, 2, shape);
    expect_failure(call(set_, &student, &student, NULL, &terms), BALORA_ERROR_UNSUPPORTED, "4097 columns");
    balora_regularizers_free(set_);
}

/* Memory that a device cannot reach, and strides that it cannot take. */
static void a_device_refuses_what_is_not_its_own(void **state) {
    (void)state;
    if (on_cpu)
        skip();
    const int64_t shape[] = {24, 10};
    balora_regularizer_terms terms;
    balora_regularizers *set_ = default_set();
    draw();
    balora_tensor student = view(numbers, 2, shape);
    student.device = BALORA_DEVICE_CUDA;
    expect_failure(call(set_, &student, &student, NULL, &terms), BALORA_ERROR_ARGUMENT,
                   "is not of cuda device 0");
    place transposed = place_of(numbers, 24, 10, BALORA_F32, TRANSPOSED);
    expect_failure(call(set_, &transposed.tensor, &transposed.tensor, NULL, &terms), BALORA_ERROR_UNSUPPORTED,
                   "contiguous copy");
    free_place(&transposed);
    balora_regularizers_free(set_);
}

static int open_all(void **state) {
    (void)state;
    on_cpu = strcmp(test_device(), "cpu") == 0;
    memory_init(&memory, NULL, NULL, NULL);
    balora_context_options options = BALORA_CONTEXT_OPTIONS_INIT;
    options.threads = 2;
    return balora_context_create(&context, &options) != BALORA_OK ||
           backend_open(&device, &memory, test_device(), NULL, 1) != BALORA_OK ||
           device.ops->queue_open(&queue, device.device) != BALORA_OK;
}

static int close_all(void **state) {
    (void)state;
    device.ops->queue_close(queue);
    backend_close(&device);
    balora_context_free(context);
    return memory.current_bytes != 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(terms_and_gradients_are_those_of_autograd),
        cmocka_unit_test(every_layout_gives_the_same),
        cmocka_unit_test(the_gradient_may_take_the_place_of_the_logits),
        cmocka_unit_test(leading_dimensions_are_rows),
        cmocka_unit_test(halves_are_numbers),
        cmocka_unit_test(rows_without_a_part_may_hold_anything),
        cmocka_unit_test(small_and_empty_matrices_have_terms),
        cmocka_unit_test(rows_of_zeros_are_no_trouble),
        cmocka_unit_test(logits_that_are_not_finite_are_told),
        cmocka_unit_test(the_svd_term_does_not_see_the_scale),
        cmocka_unit_test(weights_follow_the_schedules),
        cmocka_unit_test(workspaces_grow_with_the_largest_call),
        cmocka_unit_test(refused_memory_leaves_a_set_that_works),
        cmocka_unit_test(sets_do_not_disturb_each_other),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(covariance_is_for_classes),
        cmocka_unit_test(a_device_refuses_what_is_not_its_own),
    };
    return cmocka_run_group_tests_name("regularizers", tests, open_all, close_all);
}
