#include "regularizer/evaluate.h"

#include <math.h>
#include <string.h>

#include "base/arith.h"
#include "base/status.h"
#include "regularizer/chunk.h"
#include "tensor/host_tensor.h"

/* --- what a call may ask --- */

static balora_status check_like_student(const balora_tensor *student, const balora_tensor *tensor,
                                        const char *name) {
    bool same = tensor->rank == student->rank;
    for (int32_t i = 0; same && i < student->rank; i++)
        same = tensor->shape[i] == student->shape[i];
    if (!same)
        return status_fail(BALORA_ERROR_MISMATCH, "%s: its shape is not the student's", name);
    if (tensor->device != student->device || tensor->device_index != student->device_index)
        return status_fail(BALORA_ERROR_MISMATCH, "%s: it is on another device than the student", name);
    return BALORA_OK;
}

static balora_status check_logits(const balora_tensor *tensor, const char *name) {
    if (tensor->dtype != BALORA_F32 && tensor->dtype != BALORA_BF16 && tensor->dtype != BALORA_F16)
        return status_fail(BALORA_ERROR_ARGUMENT, "%s: dtype is %s; expected float32, bfloat16 or float16",
                           name, dtype_name(tensor->dtype));
    if (tensor->rank < 1 || tensor->shape[tensor->rank - 1] < 1)
        return status_fail(BALORA_ERROR_ARGUMENT, "%s: expected a shape [.., V] with V of at least 1", name);
    if (tensor->shape[tensor->rank - 1] > INT32_MAX)
        return status_fail(BALORA_ERROR_UNSUPPORTED, "%s: %lld columns; expected at most %d", name,
                           (long long)tensor->shape[tensor->rank - 1], INT32_MAX);
    return BALORA_OK;
}

/* Row by row in place of the student is fine; any other overlap would read what has been written. */
static balora_status check_gradient(const evaluate_request *request) {
    const balora_tensor *gradient = request->gradient, *student = request->student;
    STATUS_TRY(check_logits(gradient, "gradient"));
    STATUS_TRY(check_like_student(student, gradient, "gradient"));
    if (gradient->read_only)
        return status_fail(BALORA_ERROR_ARGUMENT, "gradient: it is read-only");
    if (host_tensor_shares_elements(gradient))
        return status_fail(BALORA_ERROR_ARGUMENT,
                           "gradient: its strides put several elements in one place, as broadcasting does");
    bool same = gradient->data == student->data && gradient->dtype == student->dtype &&
                memcmp(gradient->strides, student->strides, (size_t)student->rank * sizeof(int64_t)) == 0;
    if (!same && host_tensor_overlaps(gradient, student))
        return status_fail(BALORA_ERROR_ARGUMENT,
                           "gradient: it overlaps the student without being the same view");
    if (same && request->accumulate)
        return status_fail(BALORA_ERROR_ARGUMENT,
                           "gradient: it is the student itself, to which a gradient cannot be added");
    if (request->teacher != NULL && host_tensor_overlaps(gradient, request->teacher))
        return status_fail(BALORA_ERROR_ARGUMENT, "gradient: it overlaps the teacher");
    return BALORA_OK;
}

static balora_status check_request(const evaluation *run) {
    const evaluate_request *request = run->request;
    STATUS_TRY(check_logits(request->student, "student"));
    if (run->active[0] && request->teacher == NULL)
        return status_fail(BALORA_ERROR_ARGUMENT,
                           "teacher is NULL; the consistency term, whose lambda is not 0, compares with it");
    if (request->teacher != NULL) {
        STATUS_TRY(check_logits(request->teacher, "teacher"));
        STATUS_TRY(check_like_student(request->student, request->teacher, "teacher"));
    }
    if (request->gradient != NULL)
        STATUS_TRY(check_gradient(request));
    int64_t columns = request->student->shape[request->student->rank - 1];
    if (run->covariance && columns > COVARIANCE_COLUMNS)
        return status_fail(
            BALORA_ERROR_UNSUPPORTED,
            "student: %lld columns; the covariance form of the diversity term is for class logits, "
            "up to %lld of them",
            (long long)columns, (long long)COVARIANCE_COLUMNS);
    return BALORA_OK;
}

/* --- set-up --- */

/* Which terms are on, whatever their weights are at this step. */
static void choose_terms(evaluation *run) {
    const balora_regularizer_options *options = run->options;
    const double own[3] = {options->lambda_consistency, options->lambda_diversity, options->lambda_svd};
    for (int i = 0; i < 3; i++)
        run->active[i] = run->request->lambdas != NULL ? run->request->lambdas[i] != 0 : own[i] != 0;
    run->divergence = run->active[0] && options->consistency_form == BALORA_CONSISTENCY_FORM_KL;
    run->normalized = run->active[0] && options->consistency_form == BALORA_CONSISTENCY_FORM_NORMALIZED;
    run->entropy = run->active[1] && options->diversity_form == BALORA_DIVERSITY_FORM_ENTROPY;
    run->covariance = run->active[1] && options->diversity_form == BALORA_DIVERSITY_FORM_COVARIANCE;
    run->svd = run->active[2];
}

static balora_status open_tensors(evaluation *run) {
    const evaluate_request *request = run->request;
    const backend *device = &run->room->device;
    STATUS_TRY(tensor_rows_open(&run->student, device, request->student, "student"));
    if (run->active[0])
        STATUS_TRY(tensor_rows_open(&run->teacher, device, request->teacher, "teacher"));
    if (request->gradient != NULL)
        STATUS_TRY(tensor_rows_open(&run->gradient, device, request->gradient, "gradient"));
    return BALORA_OK;
}

static void close_run(evaluation *run) {
    const backend *device = &run->room->device;
    tensor_rows_close(&run->student, device);
    tensor_rows_close(&run->teacher, device);
    tensor_rows_close(&run->gradient, device);
    selection_free(&run->valid, &run->room->context->memory);
}

static bool is_staged(const tensor_rows *rows) {
    return rows->rows > 0 && !tensor_rows_in_place(rows);
}

static balora_status prepare_room(evaluation *run) {
    evaluator_sizes sizes = {.columns = run->student.columns,
                             .active = arith_max(1, run->valid.count),
                             .top = run->options->svd_k,
                             .norm = run->options->svd_norm,
                             .spectral = run->svd && run->valid.count >= 2,
                             .covariance = run->covariance && run->valid.count >= 2,
                             .normalized = run->normalized,
                             .staged = is_staged(&run->student) || is_staged(&run->teacher) ||
                                       is_staged(&run->gradient)};
    STATUS_TRY(evaluator_chunk(run->room, run->student.rows, sizes.columns, &sizes.chunk));
    STATUS_TRY(evaluator_prepare(run->room, &sizes));
    evaluator *room = run->room;
    matrix_view rows = view_columns(room->rows, 0, run->valid.count);
    STATUS_TRY(room->device.ops->fill_zero(room->queue, room->values));
    return room->device.ops->upload(room->queue, rows.buffer, rows.offset, run->valid.rows,
                                    run->valid.count * (int64_t)sizeof *run->valid.rows);
}

/* --- weights --- */

static balora_status find_lambdas(evaluation *run) {
    const evaluate_request *request = run->request;
    const balora_regularizer_options *options = run->options;
    bool scheduled = request->total_steps > 0;
    memset(run->lambdas, 0, sizeof run->lambdas);
    if (request->lambdas != NULL) {
        memcpy(run->lambdas, request->lambdas, sizeof run->lambdas);
        return BALORA_OK;
    }
    if (run->active[0] && options->consistency_schedule == BALORA_CONSISTENCY_ADAPTIVE)
        STATUS_TRY(chunk_teacher_entropy(run, &run->relative_entropy));
    regularizers_weights(run->set, scheduled ? request->step : 0, scheduled ? request->total_steps : 1,
                         run->relative_entropy, run->lambdas);
    if (!scheduled) {
        run->lambdas[1] = options->lambda_diversity;
        run->lambdas[2] = options->lambda_svd;
    }
    return BALORA_OK;
}

/* --- terms of the whole matrix --- */

static balora_status add_to_gram(evaluation *run, const logit_part *part) {
    return spectral_logits_accumulate(&run->room->spectral, part->logits, part->rows);
}

static balora_status project(evaluation *run, const logit_part *part) {
    return spectral_logits_project(&run->room->spectral, part->logits, part->rows, part->first_column);
}

static balora_status evaluate_svd(evaluation *run) {
    spectral_logits *term = &run->room->spectral;
    matrix_view value = view_columns(run->room->values, EVALUATOR_SVD, 1);
    STATUS_TRY(spectral_logits_begin(term, run->valid.count));
    bool by_rows = spectral_logits_by_rows(term);
    STATUS_TRY(chunk_for_parts(run, by_rows, add_to_gram));
    balora_status status = spectral_logits_solve(term, run->lambdas[2] * run->request->scale, value);
    if (status == BALORA_ERROR_NUMERIC)
        return status_prefix(status, "the SVD term of the student's logits");
    STATUS_TRY(status);
    bool used = run->request->gradient != NULL && run->lambdas[2] != 0 && by_rows;
    return used ? chunk_for_parts(run, true, project) : BALORA_OK;
}

static balora_status add_to_mean(evaluation *run, const logit_part *part) {
    return covariance_add_mean(&run->room->covariance, part->logits, part->rows);
}

static balora_status add_to_products(evaluation *run, const logit_part *part) {
    return covariance_add_products(&run->room->covariance, part->logits, part->rows);
}

static balora_status evaluate_covariance(evaluation *run) {
    STATUS_TRY(covariance_begin(&run->room->covariance, run->valid.count));
    STATUS_TRY(chunk_for_parts(run, false, add_to_mean));
    STATUS_TRY(chunk_for_parts(run, false, add_to_products));
    return covariance_finish(&run->room->covariance,
                             view_columns(run->room->values, EVALUATOR_COVARIANCE, 1));
}

/* --- results --- */

static balora_status collect(evaluation *run, balora_regularizer_terms *out) {
    evaluator *room = run->room;
    const backend_ops *ops = room->device.ops;
    double values[3], rows = (double)run->valid.count, columns = (double)run->student.columns;
    STATUS_TRY(ops->download(room->queue, values, room->values.buffer, room->values.offset, sizeof values));
    STATUS_TRY(ops->synchronize(room->queue));
    if (rows > 0) {
        out->consistency = run->normalized ? values[EVALUATOR_NORMALIZED] / (rows * columns)
                                           : run->sums[LOSS_CONSISTENCY] / rows;
        out->diversity =
            run->covariance ? values[EVALUATOR_COVARIANCE] / columns : run->sums[LOSS_DIVERSITY] / rows;
        out->svd = values[EVALUATOR_SVD];
    }
    out->loss = 0;
    const double terms[3] = {out->consistency, out->diversity, out->svd};
    for (int i = 0; i < 3; i++)
        out->loss += run->active[i] ? run->lambdas[i] * terms[i] : 0;
    for (int i = 0; i < 3; i++)
        if (!isfinite(terms[i]))
            return status_fail(
                BALORA_ERROR_NUMERIC,
                "a term is not finite (consistency %g, diversity %g, svd %g): a valid row of the "
                "logits, the first being row %lld, holds an infinity, a NaN or numbers near the "
                "largest float",
                terms[0], terms[1], terms[2], (long long)run->first_not_finite);
    return BALORA_OK;
}

static balora_status run_terms(evaluation *run, balora_regularizer_terms *out) {
    STATUS_TRY(find_lambdas(run));
    if (run->room->sizes.spectral && run->svd && run->valid.count >= 2)
        STATUS_TRY(evaluate_svd(run));
    if (run->room->sizes.covariance && run->covariance && run->valid.count >= 2)
        STATUS_TRY(evaluate_covariance(run));
    STATUS_TRY(chunk_run_all(run));
    STATUS_TRY(collect(run, out));
    out->lambda_consistency = run->lambdas[0];
    out->lambda_diversity = run->lambdas[1];
    out->lambda_svd = run->lambdas[2];
    out->relative_teacher_entropy = run->relative_entropy;
    out->rows = run->valid.count;
    out->workspace_bytes = evaluator_bytes(run->room);
    return BALORA_OK;
}

/* The set's evaluator for the device of the student. */
static balora_status find_room(balora_regularizers *set, const balora_tensor *student, evaluator **out) {
    evaluator *room = set->evaluator;
    if (room != NULL && (room->place != student->device || room->place_index != student->device_index)) {
        evaluator_free(room);
        set->evaluator = NULL;
    }
    if (set->evaluator == NULL)
        STATUS_TRY(evaluator_create(&set->evaluator, set->context, student->device, student->device_index));
    *out = set->evaluator;
    return BALORA_OK;
}

balora_status regularizers_evaluate(balora_regularizers *set, const evaluate_request *request,
                                    balora_regularizer_terms *out) {
    evaluation run = {.set = set, .options = &set->options, .request = request, .first_not_finite = -1};
    balora_status status;
    choose_terms(&run);
    STATUS_TRY(check_request(&run));
    STATUS_TRY(find_room(set, request->student, &run.room));
    STATUS_GOTO(open_tensors(&run));
    STATUS_GOTO(
        selection_make(&run.valid, &set->context->memory, run.student.rows, request->mask, request->indices));
    STATUS_GOTO(prepare_room(&run));
    status = run_terms(&run, out);
fail:
    if (run.room->queue != NULL && status != BALORA_OK) {
        status_detail detail;
        status_keep(&detail); /* work on the caller's memory must not go on behind its back */
        run.room->device.ops->synchronize(run.room->queue);
        status_put_back(&detail);
    }
    close_run(&run);
    return status;
}
