/*
 * Attention by cuDNN's graph API, through its header-only C++ interface (package nvidia-cudnn-frontend). cuDNN itself is
 * looked for at run time; without it, and for what it cannot do, the slots take their own kernels.
 *
 * This file follows the interface's ways: standard containers, and memory from operator new for plans. Whatever it
 * throws is caught before it leaves the file.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <exception>
#include <memory>
#include <new>
#include <unordered_map>

#include "attention.h"

/*
 * The interface looks for the CUDA runtime by name as well, takes the first of several versions and reports a second one
 * on stderr. It shall have the runtime that the plugin is linked with, which may be in it and nowhere else.
 */
struct runtime_function {
    const char *name;
    void *address;
};

template <typename Function> static runtime_function named(const char *name, Function *function) {
    return {name, reinterpret_cast<void *>(function)};
}

#define RUNTIME_FUNCTION(name) named(#name, name)
static const runtime_function runtime_functions[] = {
    RUNTIME_FUNCTION(cudaDeviceGetAttribute),
    RUNTIME_FUNCTION(cudaGetDevice),
    RUNTIME_FUNCTION(cudaGetDriverEntryPointByVersion),
    RUNTIME_FUNCTION(cudaGetErrorString),
    RUNTIME_FUNCTION(cudaGetLastError),
    RUNTIME_FUNCTION(cudaGraphRetainUserObject),
    RUNTIME_FUNCTION(cudaMemcpyAsync),
    RUNTIME_FUNCTION(cudaMemsetAsync),
    RUNTIME_FUNCTION(cudaRuntimeGetVersion),
    RUNTIME_FUNCTION(cudaStreamGetCaptureInfo),
    RUNTIME_FUNCTION(cudaThreadExchangeStreamCaptureMode),
    RUNTIME_FUNCTION(cudaUserObjectCreate),
    RUNTIME_FUNCTION(cudaUserObjectRelease),
};

/* Stands for the runtime where the interface wants a handle of a library. */
static void *runtime_handle() {
    return const_cast<runtime_function *>(runtime_functions);
}

static void *open_library(const char *name, int flags) {
    static const char runtime[] = "libcudart.so.";
    if (strncmp(name, runtime, sizeof runtime - 1) != 0)
        return dlopen(name, flags);
    return strtol(name + sizeof runtime - 1, nullptr, 10) == CUDART_VERSION / 1000 ? runtime_handle()
                                                                                   : nullptr;
}

static void *find_symbol(void *library, const char *name) {
    if (library != runtime_handle())
        return dlsym(library, name);
    for (const runtime_function &function : runtime_functions)
        if (strcmp(function.name, name) == 0)
            return function.address;
    return nullptr;
}

#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#define NV_CUDNN_FRONTEND_DISABLE_LOGGING
#define CUDNN_FRONTEND_SKIP_JSON_LIB
#define dlopen(name, flags)  open_library(name, flags)
#define dlsym(library, name) find_symbol(library, name)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <cudnn_frontend.h>
#pragma GCC diagnostic pop
#undef dlopen
#undef dlsym

static_assert(CUDNN_FRONTEND_VERSION >= 13200, "cudnn_frontend 1.32.0 or newer is needed");

namespace cudnn_frontend {
void *cudnn_dlhandle; /* declared there; set once, by find_cudnn */
}

namespace fe = cudnn_frontend;
using fe::graph::Tensor_attributes;
using tensor = std::shared_ptr<Tensor_attributes>;

/*
 * Deterministic gradients of packed sequences work from here on: 9.18 initializes the workspace of Hopper's backward
 * (NaN before: github.com/NVIDIA/TransformerEngine/issues/2186), 9.18.1 has a deterministic one for Blackwell. Older
 * faults lie behind it too: 9.10.0 and 9.10.1, sliding windows in 9.14.0 (the interface's sdpa_support_surface.h), some
 * large head sizes on Hopper from 9.11 until 9.13 (its notes on 1.14.1).
 */
const size_t OLDEST_CUDNN = 91801;
const size_t ORDERED_CUDNN = 92500; /* has an ordered sum of query gradients on Hopper */

/* Larger problems are left to the own kernels, which need next to none. */
const int64_t WORKSPACE_MOST = INT64_C(2) << 30;
const int64_t WORKSPACE_SLACK = INT64_C(1) << 20;
const int64_t PADDING_MOST = 8, PADDING_SLACK = 4096; /* rows that a plan is for, by rows that there are */
const int PLANS_MOST = 48;

enum { Q, K, V, OUT, LOGSUMEXP, DOUT, DQ, DK, DV, OPERANDS };
static_assert((int)OPERANDS <= (int)OFFSET_OPERANDS, "the table of offsets holds every operand");

/* Names of tensors in a graph: an operand's number + 1, that of its offsets, those of the lengths. */
enum { OFFSETS_ID = 101, QUERY_LENGTHS_ID = 201, KEY_LENGTHS_ID = 202 };

enum plan_kind { FORWARD, BACKWARD, BACKWARD_ORDERED };

/* Everything that a plan depends on; compared as bytes. The number of rows is not part of it. */
struct plan_key {
    int64_t kind;
    int64_t sequences, longest; /* rounded up, so that ragged batches share plans */
    int64_t heads, key_heads, head_dim, window;
    int64_t strides[OPERANDS]; /* of rows, in elements; 0: no such operand */
    double scale;
};

struct plan {
    plan_key key;
    plan *next;        /* by the time of last use */
    bool is_supported; /* false: cuDNN cannot do it, and need not be asked again */
    int64_t workspace_bytes;
    fe::graph::Graph graph;
    std::unordered_map<int64_t, void *> pointers; /* by tensor, set anew for each run */
};

struct cuda_attention_plans {
    cudnnHandle_t handle; /* NULL: cuDNN could not be started on this device */
    plan *first;
};

struct attention_call {
    const attention_shape *shape;
    matrix_view offsets;
    matrix_view operands[OPERANDS]; /* without a buffer where a call does not have them */
    bool is_backward;
};

/* --- the library --- */

struct cudnn_library {
    size_t version; /* 0: not there, or too old */
    char text[24];
};

static cudnn_library find_cudnn() noexcept {
    cudnn_library library = {};
    fe::cudnn_dlhandle = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
    if (fe::cudnn_dlhandle == nullptr)
        return library;
    try {
        size_t version = fe::detail::get_backend_version();
        if (version < OLDEST_CUDNN)
            return library;
        library.version = version;
        snprintf(library.text, sizeof library.text, "%d.%d.%d", (int)(version / 10000),
                 (int)(version / 100 % 100), (int)(version % 100));
    } catch (...) { /* not a cuDNN: as if there were none */
    }
    return library;
}

static const cudnn_library &the_library() {
    static const cudnn_library library = find_cudnn();
    return library;
}

const char *cudnn_version(void) {
    return the_library().version != 0 ? the_library().text : nullptr;
}

/* --- what cuDNN is asked --- */

/* Powers of two, or with `halfway` those and the numbers halfway between. */
static int64_t round_up(int64_t count, int64_t least, bool halfway) {
    int64_t size = least;
    while (size < count)
        size *= 2;
    return halfway && size > 2 * least && size / 4 * 3 >= count ? size / 4 * 3 : size;
}

static bool is_same_place(matrix_view a, matrix_view b) {
    return a.buffer == b.buffer && a.offset == b.offset;
}

static bool is_hopper(const backend_queue *queue) {
    return queue->device->major == 9;
}

/* Deterministic gradients of packed sequences exist for Hopper and data center Blackwell only. */
static bool is_known_device(const backend_queue *queue) {
    return the_library().version != 0 && (is_hopper(queue) || queue->device->major == 10);
}

static bool is_within_reach(const backend_queue *queue, const attention_call *call) {
    const attention_shape *shape = call->shape;
    if (!is_known_device(queue) || shape->soft_cap > 0 || shape->head_dim % 8 != 0 || shape->head_dim > 256 ||
        shape->sequences == 0 || call->operands[Q].rows == 0)
        return false;
    /* cuDNN does not say that a result may take an operand's place. */
    if (is_same_place(call->operands[OUT], call->operands[Q]) ||
        (call->is_backward && is_same_place(call->operands[DQ], call->operands[DOUT])))
        return false;
    for (int i = 0; i < OPERANDS; i++) {
        matrix_view view = call->operands[i];
        if (is_none(view))
            continue;
        bool fits = i == LOGSUMEXP ? is_joined(view) : view.dtype == BALORA_BF16 && is_aligned(view, 8);
        if (!fits)
            return false;
    }
    return true;
}

/*
 * What the interface's graphs take (node/scaled_dot_product_flash_attention.h): for every head and row a sum, in grouped
 * attention BF16 gradients of each query head's keys and values, and either the slopes of all scores in BF16, as the
 * deterministic way on Hopper is, or query gradients in F32.
 */
static int64_t workspace_bytes(int64_t rows, int64_t heads, int64_t head_dim, int64_t longest, bool slopes) {
    int64_t each = 4 + 4 * head_dim + (slopes ? 2 * longest : 4 * head_dim), all;
    if (!arith_multiply_i64(rows, heads, &all) || !arith_multiply_i64(all, each, &all))
        return INT64_MAX;
    return all;
}

static int64_t padded_rows_most(int64_t tokens) {
    return PADDING_MOST * tokens + PADDING_SLACK;
}

int64_t cudnn_scratch_bytes(const backend_queue *queue, const backend_limits *limits) {
    if (!is_known_device(queue) || limits->tokens == 0 || limits->heads == 0)
        return 0;
    int64_t longest = round_up(limits->sequence_length, 128, true), rows = padded_rows_most(limits->tokens);
    int64_t bytes = workspace_bytes(rows, limits->heads, limits->head_dim, longest, false);
    if (is_hopper(queue))
        bytes = arith_max(bytes, workspace_bytes(rows, limits->heads, limits->head_dim, longest, true));
    return arith_min(bytes, WORKSPACE_MOST) + (OPERANDS * 8 + 4) * 2 * limits->tokens + WORKSPACE_SLACK;
}

/* False where no way has a workspace of a sensible size. */
static bool choose_kind(const backend_queue *queue, const attention_call *call, plan_key *key) {
    key->kind = FORWARD;
    if (!call->is_backward)
        return true;
    int64_t rows = key->sequences * key->longest;
    if (rows > padded_rows_most(call->operands[Q].rows))
        return false;
    key->kind = BACKWARD;
    if (workspace_bytes(rows, key->heads, key->head_dim, key->longest, is_hopper(queue)) <= WORKSPACE_MOST)
        return true;
    key->kind = BACKWARD_ORDERED;
    return is_hopper(queue) && the_library().version >= ORDERED_CUDNN &&
           workspace_bytes(rows, key->heads, key->head_dim, key->longest, false) <= WORKSPACE_MOST;
}

static bool make_key(const backend_queue *queue, const attention_call *call, plan_key *key) {
    const attention_shape *shape = call->shape;
    memset(key, 0, sizeof *key);
    key->sequences = round_up(shape->sequences, 1, false);
    key->longest = round_up(shape->longest_sequence, 128, true);
    key->heads = shape->heads;
    key->key_heads = shape->key_heads;
    key->head_dim = shape->head_dim;
    key->window = shape->window < key->longest ? shape->window : 0;
    key->scale = (double)shape->scale;
    for (int i = 0; i < OPERANDS; i++)
        if (!is_none(call->operands[i]))
            key->strides[i] = call->operands[i].rows == 1 ? call->operands[i].cols : call->operands[i].ld;
    return choose_kind(queue, call, key);
}

/* --- graphs --- */

static tensor add_index(fe::graph::Graph &graph, int64_t id, int64_t count, fe::DataType_t type) {
    return graph.tensor(Tensor_attributes()
                            .set_uid(id)
                            .set_dim({count, 1, 1, 1})
                            .set_stride({1, 1, 1, 1})
                            .set_data_type(type));
}

/* [sequences, heads, longest, head_dim] with a table of first elements: a sequence's rows follow each other, a row's
 * heads too, and the stride of sequences is never used. */
static void describe(fe::graph::Graph &graph, const plan_key &key, int operand, Tensor_attributes &out) {
    int64_t heads =
        operand == K || operand == V || operand == DK || operand == DV ? key.key_heads : key.heads;
    int64_t width = operand == LOGSUMEXP ? 1 : key.head_dim, stride = key.strides[operand];
    out.set_uid(operand + 1)
        .set_dim({key.sequences, heads, key.longest, width})
        .set_stride({key.longest * stride, width, stride, 1})
        .set_data_type(operand == LOGSUMEXP ? fe::DataType_t::FLOAT : fe::DataType_t::BFLOAT16)
        .set_ragged_offset(add_index(graph, OFFSETS_ID + operand, key.sequences + 1, fe::DataType_t::INT64));
}

static tensor add_input(fe::graph::Graph &graph, const plan_key &key, int operand) {
    Tensor_attributes input;
    describe(graph, key, operand, input);
    return graph.tensor(input);
}

static void add_output(fe::graph::Graph &graph, const plan_key &key, int operand, const tensor &output) {
    output->set_output(true);
    describe(graph, key, operand, *output);
}

/*
 * Keys j of a query i that count: j <= i + right bound, and j + left bound > i (the interface's sliding_window_mask, in
 * attn_score_modifiers.h): the left bound is the window itself.
 */
template <typename Attributes>
static void set_mask(fe::graph::Graph &graph, const plan_key &key, Attributes &out) {
    out.set_attn_scale((float)key.scale)
        .set_padding_mask(true)
        .set_seq_len_q(add_index(graph, QUERY_LENGTHS_ID, key.sequences, fe::DataType_t::INT32))
        .set_seq_len_kv(add_index(graph, KEY_LENGTHS_ID, key.sequences, fe::DataType_t::INT32))
        .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
        .set_diagonal_band_right_bound(0);
    if (key.window > 0)
        out.set_diagonal_band_left_bound((int)key.window);
}

/* cuDNN's statistics are max + log(sum of exp) of the scaled scores, natural: what the slot calls logsumexp
 * (the interface's node/softmax.h). */
static void add_forward(fe::graph::Graph &graph, const plan_key &key) {
    fe::graph::SDPA_attributes attributes;
    attributes.set_name("attention").set_generate_stats(key.strides[LOGSUMEXP] != 0);
    set_mask(graph, key, attributes);
    tensor q = add_input(graph, key, Q), k = add_input(graph, key, K), v = add_input(graph, key, V);
    auto [out, statistics] = graph.sdpa(q, k, v, attributes);
    add_output(graph, key, OUT, out);
    if (key.strides[LOGSUMEXP] != 0)
        add_output(graph, key, LOGSUMEXP, statistics);
}

/*
 * The largest total length is not set: it would make workspaces grow with the strides of the gradients' rows, and plans
 * depend on it.
 */
static void add_backward(fe::graph::Graph &graph, const plan_key &key) {
    fe::graph::SDPA_backward_attributes attributes;
    attributes.set_name("attention_backward").set_deterministic_algorithm(key.kind == BACKWARD);
    set_mask(graph, key, attributes);
    tensor q = add_input(graph, key, Q), k = add_input(graph, key, K), v = add_input(graph, key, V);
    tensor out = add_input(graph, key, OUT), dout = add_input(graph, key, DOUT);
    tensor statistics = add_input(graph, key, LOGSUMEXP);
    auto [dq, dk, dv] = graph.sdpa_backward(q, k, v, out, dout, statistics, attributes);
    add_output(graph, key, DQ, dq);
    add_output(graph, key, DK, dk);
    add_output(graph, key, DV, dv);
}

/*
 * Hopper's backward with query gradients summed in order of the keys: deterministic, with a workspace that grows with
 * the rows only. The interface asks for it so itself (CompositeSDPABackwardNode::override_heuristics_query), but only
 * where an environment variable wants it.
 */
static fe::error_t choose_engine(fe::graph::Graph &graph, const plan_key &key) {
    using knob = fe::KnobType_t;
    if (key.kind != BACKWARD_ORDERED)
        return graph.create_execution_plans({fe::HeurMode_t::A});
    return graph.create_execution_plan(6, {{knob::TILE_M, 2},
                                           {knob::TILE_N, 1},
                                           {knob::KERNEL_CFG, 2},
                                           {knob::STREAM_K, 0},
                                           {knob::TILE_CGA_M, 0},
                                           {knob::STAGES, 4}});
}

static bool build(const backend_queue *queue, cudnnHandle_t handle, plan *self) {
    fe::graph::Graph &graph = self->graph;
    graph.set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT)
        .set_sm_version(queue->device->major * 10 + queue->device->minor);
    if (self->key.kind == FORWARD)
        add_forward(graph, self->key);
    else
        add_backward(graph, self->key);
    return graph.validate().is_good() && graph.build_operation_graph(handle).is_good() &&
           choose_engine(graph, self->key).is_good() && graph.check_support().is_good() &&
           graph.build_plans().is_good() && graph.get_workspace_size(self->workspace_bytes).is_good();
}

/* --- plans of a queue --- */

/* Loading kernels is not allowed while a stream is being captured, unless the thread asks for it. */
struct relaxed_capture {
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    relaxed_capture() {
        cudaThreadExchangeStreamCaptureMode(&mode);
    }
    ~relaxed_capture() {
        cudaThreadExchangeStreamCaptureMode(&mode);
    }
};

/* NULL where cuDNN does not start on the queue's device, or lacks a symbol. */
static cudnnHandle_t open_handle(const backend_queue *queue) noexcept {
    relaxed_capture relaxed;
    cudnnHandle_t handle = nullptr;
    try {
        if (fe::detail::create_handle(&handle) != CUDNN_STATUS_SUCCESS)
            return nullptr;
        if (fe::detail::set_stream(handle, queue->stream) == CUDNN_STATUS_SUCCESS)
            return handle;
        fe::detail::destroy_handle(handle);
    } catch (...) { /* as where it fails */
    }
    return nullptr;
}

/* Drop the plans that were not used for longest. Work under way may still run their kernels. */
static void forget(const backend_queue *queue, cuda_attention_plans *plans) {
    plan **place = &plans->first;
    for (int i = 1; *place != nullptr && i < PLANS_MOST; i++)
        place = &(*place)->next;
    if (*place == nullptr || queue->capturing)
        return;
    cudaStreamSynchronize(queue->stream);
    while (*place != nullptr) {
        plan *old = *place;
        *place = old->next;
        delete old;
    }
}

static plan *make_plan(const backend_queue *queue, cuda_attention_plans *plans, const plan_key &key) {
    forget(queue, plans);
    std::unique_ptr<plan> made(new plan());
    made->key = key;
    relaxed_capture relaxed;
    try {
        made->is_supported = build(queue, plans->handle, made.get());
    } catch (const std::bad_alloc &) {
        throw; /* may go well the next time */
    } catch (...) {
        made->is_supported = false;
    }
    cudaGetLastError();
    made->next = plans->first;
    plans->first = made.release();
    return plans->first;
}

/* Moved to the front. */
static plan *find_plan(const backend_queue *queue, cuda_attention_plans *plans, const plan_key &key) {
    for (plan **place = &plans->first; *place != nullptr; place = &(*place)->next)
        if (memcmp(&(*place)->key, &key, sizeof key) == 0) {
            plan *found = *place;
            *place = found->next;
            found->next = plans->first;
            plans->first = found;
            return found;
        }
    return make_plan(queue, plans, key);
}

void cudnn_close(backend_queue *queue) {
    cuda_attention_plans *plans = queue->attention;
    if (plans == nullptr)
        return;
    queue->attention = nullptr;
    while (plans->first != nullptr) {
        plan *old = plans->first;
        plans->first = old->next;
        delete old;
    }
    try {
        if (plans->handle != nullptr)
            fe::detail::destroy_handle(plans->handle);
    } catch (...) { /* a cuDNN without this symbol: the process keeps the handle */
    }
    delete plans;
}

/* --- a run --- */

/* A result of a call, where the row starts turn out to be broken. */
static void add_result(offset_table *table, matrix_view view) {
    if (is_none(view))
        return;
    int64_t units = element_size(view.dtype) / 2;
    table->output[table->outputs++] = {view_data<uint16_t>(view), view.cols * units, view.ld * units};
}

/* Scratch of a run: the workspace, offsets of all operands, lengths. */
static balora_status lay_out(backend_queue *queue, const attention_call *call, plan *self, void **workspace) {
    const plan_key &key = self->key;
    int64_t operands = call->is_backward ? OPERANDS : LOGSUMEXP + 1;
    int64_t front = arith_divide_up(self->workspace_bytes, 256) * 256;
    int64_t offsets = operands * (key.sequences + 1) * (int64_t)sizeof(int64_t);
    CUDA_TRY(scratch_reserve(queue, front + offsets + key.sequences * (int64_t)sizeof(int32_t), workspace));
    unsigned char *memory = static_cast<unsigned char *>(*workspace) + front;
    offset_table table = {};
    table.starts = view_data<const int32_t>(call->offsets);
    table.sequences = call->shape->sequences;
    table.longest = call->shape->longest_sequence;
    table.tokens = call->operands[Q].rows;
    table.padded = key.sequences;
    table.operands = (int32_t)operands;
    table.offsets = reinterpret_cast<int64_t *>(memory);
    table.lengths = reinterpret_cast<int32_t *>(memory + offsets);
    for (int i = 0; i < operands; i++) {
        table.strides[i] = key.strides[i];
        if (is_none(call->operands[i]))
            continue;
        self->pointers[i + 1] = view_data<void>(call->operands[i]);
        self->pointers[OFFSETS_ID + i] = table.offsets + i * (key.sequences + 1);
    }
    self->pointers[QUERY_LENGTHS_ID] = self->pointers[KEY_LENGTHS_ID] = table.lengths;
    for (int i = call->is_backward ? DQ : OUT; i < operands; i++)
        add_result(&table, call->operands[i]);
    return attention_offsets(queue, &table);
}

static balora_status run(backend_queue *queue, const attention_call *call) {
    plan_key key;
    if (!is_within_reach(queue, call) || !make_key(queue, call, &key))
        return BALORA_ERROR_UNSUPPORTED;
    if (queue->attention == nullptr) {
        std::unique_ptr<cuda_attention_plans> plans(new cuda_attention_plans());
        plans->handle = open_handle(queue);
        cudaGetLastError(); /* a failure of cuDNN is nobody else's business */
        queue->attention = plans.release();
    }
    if (queue->attention->handle == nullptr)
        return BALORA_ERROR_UNSUPPORTED;
    plan *self = find_plan(queue, queue->attention, key);
    if (!self->is_supported)
        return BALORA_ERROR_UNSUPPORTED;
    void *workspace;
    CUDA_TRY(lay_out(queue, call, self, &workspace));
    fe::error_t error = self->graph.execute(queue->attention->handle, self->pointers, workspace);
    if (error.is_good())
        return BALORA_OK;
    return cuda_fail(BALORA_ERROR_BACKEND, BALORA_ORIGIN_CUDNN, CUDNN_STATUS_EXECUTION_FAILED,
                     "cuda:%d (%s): attention by cuDNN %s: %s", queue->device->index, queue->device->name,
                     the_library().text, error.get_message().c_str());
}

static balora_status run_guarded(backend_queue *queue, const attention_call *call) noexcept {
    try {
        return run(queue, call);
    } catch (const std::bad_alloc &) {
        return cuda_fail(BALORA_ERROR_MEMORY, BALORA_ORIGIN_CUDNN, CUDNN_STATUS_ALLOC_FAILED,
                         "cuda:%d: a plan of cuDNN's attention: out of memory", queue->device->index);
    } catch (const std::exception &exception) {
        return cuda_fail(BALORA_ERROR_BACKEND, BALORA_ORIGIN_CUDNN, CUDNN_STATUS_INTERNAL_ERROR,
                         "cuda:%d (%s): attention by cuDNN %s: %s", queue->device->index, queue->device->name,
                         the_library().text, exception.what());
    } catch (...) {
        return cuda_fail(BALORA_ERROR_BACKEND, BALORA_ORIGIN_CUDNN, CUDNN_STATUS_INTERNAL_ERROR,
                         "cuda:%d (%s): attention by cuDNN %s failed", queue->device->index,
                         queue->device->name, the_library().text);
    }
}

balora_status cudnn_attention(backend_queue *queue, const attention_forward *args) {
    attention_call call = {
        &args->shape, args->offsets, {args->q, args->k, args->v, args->out, args->logsumexp}, false};
    return run_guarded(queue, &call);
}

balora_status cudnn_attention_backward(backend_queue *queue, const attention_backward *args) {
    attention_call call = {
        &args->shape,
        args->offsets,
        {args->q, args->k, args->v, args->out, args->logsumexp, args->dout, args->dq, args->dk, args->dv},
        true};
    return run_guarded(queue, &call);
}
