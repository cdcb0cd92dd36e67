#include "adapter/pissa.h"

#include <math.h>
#include <string.h>

#include "base/arith.h"
#include "base/random.h"
#include "base/status.h"

#define SMALL_SIDE         128 /* below, a full SVD costs less than iterating */
#define CHECK_INTERVAL     4
#define ITERATION_LIMIT    160
#define OVERSAMPLING_FLOOR 16
/* Eigenvalues below this share of the largest one have lost too much to rounding in F32: what is left of their
 * vectors would put the singular value off by more than the tolerance. Products with the Gram matrix lose the square
 * of what products with W lose. */
#define GRAM_RESOLUTION   1e-4
#define DIRECT_RESOLUTION 1e-7

/*
 * The iteration runs on the smaller side of W: rows of `basis` are vectors of that side ("near"), rows of
 * `image` their images under W on the other ("far").
 */
typedef struct subspace {
    const pissa_request *request;
    const backend_ops *ops;
    backend_queue *queue;
    arena arena;
    int64_t near, far, block, rank;
    bool near_is_input;
    bool direct;               /* products with W and its transpose instead of the Gram matrix */
    matrix_view gram;          /* F32 [near, near] */
    matrix_view basis, next;   /* F32 [block, near] */
    matrix_view image;         /* F32 [block, far] */
    matrix_view wide, wide2;   /* F64 [block, the larger of near and far] */
    matrix_view small, small2; /* F64 [block, block] */
    matrix_view vectors;       /* F64 [block, block] */
    matrix_view values;        /* F64 [1, block] */
    matrix_view coefficients;  /* F32 [rank, block] */
    double *host;              /* [3 block^2 + block] */
} subspace;

static void place(subspace *self) {
    int64_t long_side = arith_max(self->near, self->far), b = self->block;
    self->gram = arena_place(&self->arena, BALORA_F32, self->near, self->near);
    self->basis = arena_place(&self->arena, BALORA_F32, b, self->near);
    self->next = arena_place(&self->arena, BALORA_F32, b, self->near);
    self->image = arena_place(&self->arena, BALORA_F32, b, self->far);
    self->wide = arena_place(&self->arena, BALORA_F64, b, long_side);
    self->wide2 = arena_place(&self->arena, BALORA_F64, b, long_side);
    self->small = arena_place(&self->arena, BALORA_F64, b, b);
    self->small2 = arena_place(&self->arena, BALORA_F64, b, b);
    self->vectors = arena_place(&self->arena, BALORA_F64, b, b);
    self->values = arena_place(&self->arena, BALORA_F64, 1, b);
    self->coefficients = arena_place(&self->arena, BALORA_F32, self->rank, b);
}

static balora_status upload_view(const subspace *self, matrix_view view, const void *host) {
    return self->ops->upload(self->queue, view.buffer, view.offset, host, view_bytes(view));
}

static balora_status download_view(const subspace *self, void *host, matrix_view view) {
    return self->ops->download(self->queue, host, view.buffer, view.offset, view_bytes(view));
}

static balora_status start(subspace *self) {
    const pissa_request *request = self->request;
    STATUS_TRY(self->ops->fill_normal(self->queue, self->basis, request->seed, RANDOM_STREAM_SUBSPACE, 1));
    STATUS_TRY(self->ops->gram(self->queue, self->near_is_input, request->weight, self->gram));
    return self->ops->orthonormalize_rows(self->queue, self->basis);
}

/* c = x y^T in F64 for F32 rows x, y. */
static balora_status inner_products(const subspace *self, matrix_view x, matrix_view y, matrix_view c) {
    matrix_view a = view_reshape(self->wide, x.rows, x.cols), b = view_reshape(self->wide2, y.rows, y.cols);
    STATUS_TRY(self->ops->copy(self->queue, a, x));
    STATUS_TRY(self->ops->copy(self->queue, b, y));
    return self->ops->gemm(self->queue, 0, 1, 1, a, b, 0, c);
}

/* |e_i|^2 = e_i S e_i^T for the i-th row of the block x block matrix e. */
static double quadratic_form(const double *e, const double *s, int64_t size) {
    double sum = 0;
    for (int64_t i = 0; i < size; i++) {
        double row = 0;
        for (int64_t j = 0; j < size; j++)
            row += s[i * size + j] * e[j];
        sum += e[i] * row;
    }
    return sum;
}

/*
 * Ritz values t_i of G in the basis X, from Y = X G, and the bound |lambda_i - t_i| <= |r_i|^2 / gap_i (Kato,
 * Temple) with |r_i|^2 = |y_i|^2 - t_i^2 and the gap to the block's last Ritz value. Half of it, over t_i, is
 * the relative error of the singular value. *error gets the largest of the kept ones that the Gram matrix
 * resolves, *resolved whether it resolves all of them.
 */
static balora_status measure_error(subspace *self, double *error, bool *resolved) {
    int64_t b = self->block;
    double *gram = self->host, *vectors = gram + b * b, *values = vectors + b * b;
    double resolution = self->direct ? DIRECT_RESOLUTION : GRAM_RESOLUTION;
    STATUS_TRY(inner_products(self, self->next, self->next, self->small2));
    STATUS_TRY(inner_products(self, self->basis, self->next, self->small));
    STATUS_TRY(self->ops->eigh_top(self->queue, self->small, self->values, self->vectors));
    STATUS_TRY(download_view(self, gram, self->small2));
    STATUS_TRY(download_view(self, vectors, self->vectors));
    STATUS_TRY(download_view(self, values, self->values));
    STATUS_TRY(self->ops->synchronize(self->queue));
    *error = 0;
    *resolved = true;
    for (int64_t i = 0; i < self->rank && *resolved; i++) {
        double gap = values[i] - values[b - 1];
        double residual = fmax(quadratic_form(vectors + i * b, gram, b) - values[i] * values[i], 0);
        *resolved = values[i] > resolution * values[0];
        if (*resolved)
            *error = fmax(*error, gap > 0 ? residual / (2 * gap * values[i]) : INFINITY);
    }
    return BALORA_OK;
}

/* image = the basis under W. */
static balora_status take_image(subspace *self) {
    return self->ops->gemm(self->queue, 0, self->near_is_input, 1, self->basis, self->request->weight, 0,
                           self->image);
}

/* next = basis G. */
static balora_status multiply(subspace *self) {
    if (!self->direct)
        return self->ops->gemm(self->queue, 0, 0, 1, self->basis, self->gram, 0, self->next);
    STATUS_TRY(take_image(self));
    return self->ops->gemm(self->queue, 0, !self->near_is_input, 1, self->image, self->request->weight, 0,
                           self->next);
}

/* Iterate until the bound holds for every kept value; *converged tells. Goes over to products with W where the Gram
 * matrix cannot resolve the last of them, and ends early where those cannot either. */
static balora_status iterate(subspace *self, bool *converged) {
    bool possible = true;
    *converged = false;
    for (int iteration = 1; iteration <= ITERATION_LIMIT && !*converged && possible; iteration++) {
        STATUS_TRY(multiply(self));
        if (iteration % CHECK_INTERVAL == 0) {
            double error;
            bool resolved;
            STATUS_TRY(measure_error(self, &error, &resolved));
            bool settled = error <= PISSA_TOLERANCE / 2;
            *converged = settled && resolved;
            possible = !settled || resolved || !self->direct;
            self->direct = self->direct || (settled && !resolved);
        }
        matrix_view old = self->basis;
        self->basis = self->next;
        self->next = old;
        STATUS_TRY(self->ops->orthonormalize_rows(self->queue, self->basis));
    }
    return BALORA_OK;
}

/* coefficients[i, :] = factor_i e_i, as F32. */
static balora_status upload_coefficients(subspace *self, const double *vectors, const double *singular,
                                         bool far) {
    const pissa_request *request = self->request;
    float *host;
    STATUS_TRY(
        memory_new(request->memory, &host, (size_t)(self->rank * self->block), sizeof *host, "coefficients"));
    for (int64_t i = 0; i < self->rank; i++) {
        double root = sqrt(singular[i] / request->scale);
        double factor = !far ? root : singular[i] > 1e-12 * singular[0] ? root / singular[i] : 0;
        for (int64_t j = 0; j < self->block; j++)
            host[i * self->block + j] = (float)(factor * vectors[i * self->block + j]);
    }
    balora_status status = upload_view(self, self->coefficients, host);
    if (status == BALORA_OK)
        status = self->ops->synchronize(self->queue);
    memory_free(request->memory, host);
    return status;
}

/* Rayleigh-Ritz on W: the SVD of W's restriction to the subspace. */
static balora_status finish(subspace *self) {
    const pissa_request *request = self->request;
    const backend_ops *ops = self->ops;
    int64_t b = self->block;
    double *vectors = self->host, *values = vectors + b * b;
    STATUS_TRY(take_image(self));
    STATUS_TRY(inner_products(self, self->image, self->image, self->small));
    STATUS_TRY(ops->eigh_top(self->queue, self->small, self->values, self->vectors));
    STATUS_TRY(download_view(self, vectors, self->vectors));
    STATUS_TRY(download_view(self, values, self->values));
    STATUS_TRY(ops->synchronize(self->queue));
    for (int64_t i = 0; i < b; i++)
        values[i] = sqrt(fmax(values[i], 0));
    matrix_view input_rows = self->near_is_input ? self->basis : self->image;
    matrix_view output_rows = self->near_is_input ? self->image : self->basis;
    STATUS_TRY(upload_coefficients(self, vectors, values, !self->near_is_input));
    STATUS_TRY(ops->gemm(self->queue, 0, 0, 1, self->coefficients, input_rows, 0, request->a));
    STATUS_TRY(upload_coefficients(self, vectors, values, self->near_is_input));
    STATUS_TRY(ops->gemm(self->queue, 1, 1, 1, output_rows, self->coefficients, 0, request->b));
    return ops->synchronize(self->queue);
}

static balora_status by_subspace(const pissa_request *request, int64_t block, bool *converged) {
    bool near_is_input = request->weight.cols <= request->weight.rows;
    subspace self = {.request = request,
                     .ops = request->device->ops,
                     .queue = request->queue,
                     .near = near_is_input ? request->weight.cols : request->weight.rows,
                     .far = near_is_input ? request->weight.rows : request->weight.cols,
                     .block = block,
                     .rank = request->rank,
                     .near_is_input = near_is_input};
    balora_status status;
    place(&self);
    STATUS_GOTO(memory_new(request->memory, &self.host, (size_t)(3 * block * block + block), sizeof(double),
                           "a Rayleigh-Ritz step"));
    STATUS_GOTO(arena_allocate(&self.arena, request->device));
    place(&self);
    STATUS_GOTO(start(&self));
    STATUS_GOTO(iterate(&self, converged));
    if (*converged)
        STATUS_GOTO(finish(&self));
fail:
    memory_free(request->memory, self.host);
    arena_free(&self.arena);
    return status;
}

static balora_status by_full_svd(const pissa_request *request) {
    const backend_ops *ops = request->device->ops;
    int64_t out = request->weight.rows, in = request->weight.cols, side = arith_min(out, in),
            rank = request->rank;
    arena memory = {0};
    matrix_view copy, u, s, vt, diagonal;
    float *singular = NULL, *host = NULL;
    balora_status status;
    for (int pass = 0; pass < 2; pass++) {
        copy = arena_place(&memory, BALORA_F32, out, in);
        u = arena_place(&memory, BALORA_F32, out, side);
        s = arena_place(&memory, BALORA_F32, 1, side);
        vt = arena_place(&memory, BALORA_F32, side, in);
        diagonal = arena_place(&memory, BALORA_F32, rank, rank);
        if (pass == 0)
            STATUS_GOTO(arena_allocate(&memory, request->device));
    }
    STATUS_GOTO(memory_new(request->memory, &singular, (size_t)side, sizeof *singular, "singular values"));
    STATUS_GOTO(
        memory_zeroed(request->memory, &host, (size_t)(rank * rank), sizeof *host, "a diagonal matrix"));
    STATUS_GOTO(ops->copy(request->queue, copy, request->weight));
    STATUS_GOTO(ops->svd(request->queue, copy, u, s, vt));
    STATUS_GOTO(ops->download(request->queue, singular, s.buffer, s.offset, view_bytes(s)));
    STATUS_GOTO(ops->synchronize(request->queue));
    for (int64_t i = 0; i < rank; i++)
        host[i * rank + i] = (float)sqrt((double)singular[i] / request->scale);
    STATUS_GOTO(ops->upload(request->queue, diagonal.buffer, diagonal.offset, host, view_bytes(diagonal)));
    STATUS_GOTO(ops->gemm(request->queue, 0, 0, 1, diagonal, view_rows(vt, 0, rank), 0, request->a));
    STATUS_GOTO(ops->gemm(request->queue, 0, 0, 1, view_columns(u, 0, rank), diagonal, 0, request->b));
    status = ops->synchronize(request->queue);
fail:
    memory_free(request->memory, singular);
    memory_free(request->memory, host);
    arena_free(&memory);
    return status;
}

/* One pass over W in pieces. */
static balora_status check_finite(const pissa_request *request) {
    const backend_ops *ops = request->device->ops;
    int64_t rows = arith_min(request->weight.rows, arith_max(1, ((int64_t)1 << 20) / request->weight.cols));
    arena memory = {0};
    matrix_view piece, sum;
    double total = 0;
    balora_status status;
    for (int pass = 0; pass < 2; pass++) {
        piece = arena_place(&memory, BALORA_F32, rows, request->weight.cols);
        sum = arena_place(&memory, BALORA_F64, 1, 1);
        if (pass == 0)
            STATUS_GOTO(arena_allocate(&memory, request->device));
    }
    for (int64_t row = 0; row < request->weight.rows; row += rows) {
        int64_t count = arith_min(rows, request->weight.rows - row);
        STATUS_GOTO(
            ops->copy(request->queue, view_rows(piece, 0, count), view_rows(request->weight, row, count)));
        STATUS_GOTO(ops->sum_squares(request->queue, view_rows(piece, 0, count), row == 0 ? 0 : 1, sum));
    }
    STATUS_GOTO(ops->download(request->queue, &total, sum.buffer, sum.offset, sizeof total));
    STATUS_GOTO(ops->synchronize(request->queue));
    if (!isfinite(total))
        status = status_fail(BALORA_ERROR_NUMERIC, "%s: the weight holds a value that is not finite",
                             request->name);
fail:
    arena_free(&memory);
    return status;
}

balora_status pissa_factors(const pissa_request *request) {
    STATUS_TRY(check_finite(request));
    int64_t side = arith_min(request->weight.rows, request->weight.cols);
    int64_t block = request->rank + arith_max(OVERSAMPLING_FLOOR, request->rank / 2);
    if (!request->full_svd && side > SMALL_SIDE && block <= side / 2) {
        bool converged;
        STATUS_TRY(by_subspace(request, block, &converged));
        if (converged)
            return BALORA_OK;
    }
    return by_full_svd(request);
}
