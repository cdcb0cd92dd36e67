/*
 * Products by cuBLASLt, whose algorithms are chosen once a shape and kept; what it cannot do, and the rest of BLAS, by
 * cuBLAS. Both read columns where we have rows: they see every matrix transposed, and compute c^T = op(b)^T op(a)^T.
 */
#include <stdio.h>
#include <string.h>

#include "libraries.h"
#include "library_handles.h"

balora_status blas_check(const backend_queue *queue, const char *what, cublasStatus_t status) {
    if (status == CUBLAS_STATUS_SUCCESS)
        return BALORA_OK;
    return cuda_fail(status == CUBLAS_STATUS_ALLOC_FAILED ? BALORA_ERROR_MEMORY : BALORA_ERROR_BACKEND,
                     BALORA_ORIGIN_CUBLAS, status, "cuda:%d (%s): %s: %s (%s)", queue->device->index,
                     queue->device->name, what, cublasGetStatusString(status), cublasGetStatusName(status));
}

#define BLAS_TRY(queue, what, expression) CUDA_TRY(blas_check(queue, what, expression))

/* --- life --- */

/* What NVIDIA recommends: Hopper's kernels split more. */
static int64_t workspace_size(const backend_device *device) {
    return INT64_C(1) << (device->major >= 9 ? 26 : 25);
}

static balora_status open_blas(backend_queue *queue) {
    cuda_libraries *own = queue->libraries;
    BLAS_TRY(queue, "opening cuBLASLt", cublasLtCreate(&own->lt));
    BLAS_TRY(queue, "opening cuBLAS", cublasCreate(&own->blas));
    int64_t bytes = workspace_size(queue->device);
    CUDA_TRY(
        device_take(queue->device, queue->stream, bytes, "workspace of matrix products", &own->workspace));
    own->workspace_bytes = bytes;
    BLAS_TRY(queue, "opening cuBLAS", cublasSetStream(own->blas, queue->stream));
    /* After the stream, which would put the library's own workspace back. */
    return blas_check(queue, "opening cuBLAS", cublasSetWorkspace(own->blas, own->workspace, (size_t)bytes));
}

balora_status libraries_open(backend_queue *queue) {
    CUDA_TRY(cuda_host->allocate(queue->device->memory, &queue->libraries, 1, sizeof *queue->libraries,
                                 "handles of cuBLAS and cuSOLVER"));
    CUDA_TRY(open_blas(queue));
    return solver_open(queue);
}

void libraries_close(backend_queue *queue) {
    cuda_libraries *own = queue->libraries;
    if (own == nullptr)
        return;
    solver_close(queue);
    if (own->blas != nullptr)
        cublasDestroy(own->blas);
    if (own->lt != nullptr)
        cublasLtDestroy(own->lt);
    device_give(queue->device, queue->stream, own->workspace, own->workspace_bytes);
    cuda_host->release(queue->device->memory, own);
    queue->libraries = nullptr;
}

void libraries_describe(char *out, size_t bytes) {
    int blas = (int)cublasLtGetVersion(), solver = 0;
    if (cusolverGetVersion(&solver) != CUSOLVER_STATUS_SUCCESS)
        solver = 0;
    snprintf(out, bytes, "cublas=%d.%d,cusolver=%d.%d", blas / 10000, blas / 100 % 100, solver / 1000,
             solver / 100 % 10);
}

/* --- products --- */

static cudaDataType_t type_of(int32_t dtype) {
    switch (dtype) {
    case BALORA_F64:
        return CUDA_R_64F;
    case BALORA_BF16:
        return CUDA_R_16BF;
    case BALORA_F16:
        return CUDA_R_16F;
    default:
        return CUDA_R_32F;
    }
}

static cublasComputeType_t compute_of(const library_gemm *call) {
    if (call->c.dtype == BALORA_F64)
        return CUBLAS_COMPUTE_64F;
    return call->tf32 && call->a.dtype == BALORA_F32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

static cublasOperation_t operation(int transpose) {
    return transpose ? CUBLAS_OP_T : CUBLAS_OP_N;
}

/* The exponent of the power of two that the address is a multiple of; cuBLASLt makes no difference beyond 256. */
static uint8_t alignment(const void *address) {
    return (uint8_t)__builtin_ctzll((unsigned long long)reinterpret_cast<uintptr_t>(address) | 256);
}

static product_key key_of(const library_gemm *call) {
    product_key key;
    memset(&key, 0, sizeof key);
    key.m = call->c.rows;
    key.n = call->c.cols;
    key.k = call->transpose_a ? call->a.rows : call->a.cols;
    key.lda = call->a.ld;
    key.ldb = call->b.ld;
    key.ldc = call->c.ld;
    key.count = call->count;
    key.stride_a = call->stride_a;
    key.stride_b = call->stride_b;
    key.stride_c = call->stride_c;
    key.type_ab = call->a.dtype;
    key.type_c = call->c.dtype;
    key.compute = compute_of(call);
    key.transposes = (uint8_t)((call->transpose_a != 0) | (call->transpose_b != 0) << 1);
    key.bias = call->bias != nullptr;
    key.align_a = alignment(call->a.data);
    key.align_b = alignment(call->b.data);
    key.align_c = alignment(call->c.data);
    key.align_bias = alignment(call->bias);
    return key;
}

/* A product as cuBLASLt describes it; its a is our b. */
struct product_description {
    cublasLtMatmulDescOpaque_t product;
    cublasLtMatrixLayoutOpaque_t a, b, c;
};

static cublasStatus_t describe_matrix(cublasLtMatrixLayoutOpaque_t *out, const library_matrix *x,
                                      int64_t count, int64_t stride) {
    cublasStatus_t status =
        cublasLtMatrixLayoutInit(out, type_of(x->dtype), (uint64_t)x->cols, (uint64_t)x->rows, x->ld);
    if (status != CUBLAS_STATUS_SUCCESS || count == 1)
        return status;
    int32_t batch = (int32_t)count;
    status = cublasLtMatrixLayoutSetAttribute(out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    return cublasLtMatrixLayoutSetAttribute(out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                                            sizeof stride);
}

static balora_status describe(const backend_queue *queue, const library_gemm *call,
                              product_description *out) {
    const char *what = "describing a product";
    cublasOperation_t left = operation(call->transpose_b), right = operation(call->transpose_a);
    cublasLtMatmulDesc_t product = &out->product;
    BLAS_TRY(queue, what,
             cublasLtMatmulDescInit(product, compute_of(call),
                                    call->c.dtype == BALORA_F64 ? CUDA_R_64F : CUDA_R_32F));
    BLAS_TRY(queue, what,
             cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSA, &left, sizeof left));
    BLAS_TRY(queue, what,
             cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSB, &right, sizeof right));
    if (call->bias != nullptr) {
        cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
        int32_t type = CUDA_R_32F;
        BLAS_TRY(queue, what,
                 cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                                sizeof epilogue));
        BLAS_TRY(
            queue, what,
            cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type));
        BLAS_TRY(queue, what,
                 cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &call->bias,
                                                sizeof call->bias));
    }
    BLAS_TRY(queue, what, describe_matrix(&out->a, &call->b, call->count, call->stride_b));
    BLAS_TRY(queue, what, describe_matrix(&out->b, &call->a, call->count, call->stride_a));
    return blas_check(queue, what, describe_matrix(&out->c, &call->c, call->count, call->stride_c));
}

/* What an algorithm must heed, as cuBLASLt takes it. */
static balora_status prefer(const backend_queue *queue, const product_key *key,
                            cublasLtMatmulPreferenceOpaque_t *out) {
    const char *what = "choosing an algorithm for a product";
    uint64_t bytes = (uint64_t)queue->libraries->workspace_bytes;
    /* Partial sums of a split inner dimension are added in the compute type, and rounded to 16 bits once. */
    uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    if (key->type_c == BALORA_F32 || key->type_c == BALORA_F64)
        schemes |= CUBLASLT_REDUCTION_SCHEME_INPLACE;
    const struct {
        cublasLtMatmulPreferenceAttributes_t which;
        uint32_t align;
    } alignments[] = {{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, 1u << key->align_b},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, 1u << key->align_a},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, 1u << key->align_c},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, 1u << key->align_c}};
    BLAS_TRY(queue, what, cublasLtMatmulPreferenceInit(out));
    BLAS_TRY(queue, what,
             cublasLtMatmulPreferenceSetAttribute(out, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes,
                                                  sizeof bytes));
    BLAS_TRY(queue, what,
             cublasLtMatmulPreferenceSetAttribute(out, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes,
                                                  sizeof schemes));
    for (const auto &one : alignments)
        BLAS_TRY(queue, what,
                 cublasLtMatmulPreferenceSetAttribute(out, one.which, &one.align, sizeof one.align));
    return BALORA_OK;
}

static balora_status choose(backend_queue *queue, product_description *description, kept_algorithm *out) {
    cublasLtMatmulPreferenceOpaque_t preference;
    cublasLtMatmulHeuristicResult_t result;
    int count = 0;
    CUDA_TRY(prefer(queue, &out->key, &preference));
    cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(queue->libraries->lt, &description->product,
                                                           &description->a, &description->b, &description->c,
                                                           &description->c, &preference, 1, &result, &count);
    if (status != CUBLAS_STATUS_NOT_SUPPORTED && status != CUBLAS_STATUS_INVALID_VALUE)
        CUDA_TRY(blas_check(queue, "choosing an algorithm for a product", status));
    out->found = status == CUBLAS_STATUS_SUCCESS && count > 0 && result.state == CUBLAS_STATUS_SUCCESS;
    if (out->found)
        out->algorithm = result.algo;
    out->used = 1;
    return BALORA_OK;
}

static uint64_t hash_of(const product_key *key) {
    unsigned char bytes[sizeof *key];
    uint64_t hash = UINT64_C(0xCBF29CE484222325); /* FNV-1a */
    memcpy(bytes, key, sizeof bytes);
    for (unsigned char byte : bytes)
        hash = (hash ^ byte) * UINT64_C(0x100000001B3);
    return hash ^ hash >> 32;
}

static balora_status algorithm_for(backend_queue *queue, const library_gemm *call,
                                   product_description *description, const kept_algorithm **out) {
    cuda_libraries *own = queue->libraries;
    product_key key = key_of(call);
    int32_t set = (int32_t)(hash_of(&key) % ALGORITHM_SETS);
    for (kept_algorithm &kept : own->algorithms[set])
        if (kept.used && memcmp(&kept.key, &key, sizeof key) == 0) {
            *out = &kept;
            return BALORA_OK;
        }
    kept_algorithm *kept = &own->algorithms[set][own->oldest[set]];
    own->oldest[set] = (own->oldest[set] + 1) % ALGORITHM_WAYS;
    kept->used = 0;
    kept->key = key;
    *out = kept;
    return choose(queue, description, kept);
}

/* alpha and beta in the type that the library reads them in. */
union scalar {
    float f32;
    double f64;
};

static scalar scalar_of(const library_gemm *call, double value) {
    scalar out = {};
    if (call->c.dtype == BALORA_F64)
        out.f64 = value;
    else
        out.f32 = (float)value;
    return out;
}

/* By cuBLAS, which takes any alignment. */
static balora_status multiply_plainly(backend_queue *queue, const library_gemm *call) {
    scalar alpha = scalar_of(call, call->alpha), beta = scalar_of(call, call->beta);
    int64_t inner = call->transpose_a ? call->a.rows : call->a.cols;
    BLAS_TRY(queue, "a product", cublasSetMathMode(queue->libraries->blas, CUBLAS_DEFAULT_MATH));
    return blas_check(queue, "a product",
                      cublasGemmStridedBatchedEx_64(
                          queue->libraries->blas, operation(call->transpose_b), operation(call->transpose_a),
                          call->c.cols, call->c.rows, inner, &alpha, call->b.data, type_of(call->b.dtype),
                          call->b.ld, call->stride_b, call->a.data, type_of(call->a.dtype), call->a.ld,
                          call->stride_a, &beta, call->c.data, type_of(call->c.dtype), call->c.ld,
                          call->stride_c, call->count, compute_of(call), CUBLAS_GEMM_DEFAULT));
}

balora_status library_multiply(backend_queue *queue, const library_gemm *call) {
    product_description description;
    const kept_algorithm *kept;
    if (call->count > INT32_MAX)
        return cuda_fail(BALORA_ERROR_UNSUPPORTED, BALORA_ORIGIN_CUBLAS, 0,
                         "cuda:%d: a batch of %lld products", queue->device->index, (long long)call->count);
    if (call->bias != nullptr &&
        call->c.dtype != BALORA_F32) /* the library takes one of the result's type only */
        return BALORA_ERROR_UNSUPPORTED;
    CUDA_TRY(describe(queue, call, &description));
    CUDA_TRY(algorithm_for(queue, call, &description, &kept));
    if (!kept->found)
        return call->bias != nullptr ? BALORA_ERROR_UNSUPPORTED : multiply_plainly(queue, call);
    scalar alpha = scalar_of(call, call->alpha), beta = scalar_of(call, call->beta);
    return blas_check(queue, "a product",
                      cublasLtMatmul(queue->libraries->lt, &description.product, &alpha, call->b.data,
                                     &description.a, call->a.data, &description.b, &beta, call->c.data,
                                     &description.c, call->c.data, &description.c, &kept->algorithm,
                                     queue->libraries->workspace, (size_t)queue->libraries->workspace_bytes,
                                     queue->stream));
}

/* --- the rest of BLAS --- */

balora_status library_syrk(backend_queue *queue, int transpose, library_matrix a, library_matrix c) {
    cublasHandle_t blas = queue->libraries->blas;
    int64_t inner = transpose ? a.rows : a.cols;
    /* The library sees a^T; our upper triangle is its lower one. */
    cublasOperation_t form = operation(!transpose);
    if (a.dtype == BALORA_F64) {
        double one = 1, zero = 0;
        return blas_check(queue, "a Gram matrix",
                          cublasDsyrk_64(blas, CUBLAS_FILL_MODE_LOWER, form, c.rows, inner, &one,
                                         static_cast<const double *>(a.data), a.ld, &zero,
                                         static_cast<double *>(c.data), c.ld));
    }
    float one = 1, zero = 0;
    BLAS_TRY(queue, "a Gram matrix",
             cublasSetMathMode(blas, queue->allow_tf32 ? CUBLAS_TF32_TENSOR_OP_MATH : CUBLAS_DEFAULT_MATH));
    return blas_check(queue, "a Gram matrix",
                      cublasSsyrk_64(blas, CUBLAS_FILL_MODE_LOWER, form, c.rows, inner, &one,
                                     static_cast<const float *>(a.data), a.ld, &zero,
                                     static_cast<float *>(c.data), c.ld));
}

balora_status library_solve_lower(backend_queue *queue, library_matrix a, library_matrix x) {
    /* The library sees U = L^T and x^T, and x^T L^-T = x^T U^-1. */
    double one = 1;
    return blas_check(queue, "a triangular solve",
                      cublasDtrsm_64(queue->libraries->blas, CUBLAS_SIDE_RIGHT, CUBLAS_FILL_MODE_UPPER,
                                     CUBLAS_OP_N, CUBLAS_DIAG_NON_UNIT, x.cols, x.rows, &one,
                                     static_cast<const double *>(a.data), a.ld, static_cast<double *>(x.data),
                                     x.ld));
}
