/* Queues beside each other: events, memory in use, and recorded work. */
#include "reference.h"
#include "tests.h"

/* --- events --- */

static backend_event *event_new(bench *b) {
    backend_event *event = NULL;
    CALL_OK(b, event_open, &event, b->device);
    return event;
}

static double seconds_between(bench *b, backend_event *begin, backend_event *end) {
    double seconds = -1.0;
    CALL_OK(b, event_elapsed, begin, end, &seconds);
    return seconds;
}

void test_queue_events(bench *b) {
    case_begin(b, SLOT_event_elapsed, "three moments of one queue");
    operand *x = operand_random(b, "x", BALORA_F32, 100, 257, 1.0);
    operand *y = operand_filled(b, "y", BALORA_F32, 100, 257, 0.0);
    backend_event *events[3];
    for (int i = 0; i < 3; i++)
        events[i] = event_new(b);
    for (int round = 0; round < 2; round++) { /* the second time they are recorded again */
        for (int i = 0; i < 3; i++) {
            CALL_OK(b, event_record, b->queue, events[i]);
            CALL_OK(b, scale_add, b->queue, 1.0, x->view, 0.5, y->view);
        }
        double first = seconds_between(b, events[0], events[1]),
               second = seconds_between(b, events[1], events[2]);
        double both = seconds_between(b, events[0], events[2]),
               none = seconds_between(b, events[1], events[1]);
        if (!(first >= 0.0 && second >= 0.0 && none == 0.0 && both < 60.0))
            bench_report(b, "%g and %g seconds, together %g, and %g from an event to itself", first, second,
                         both, none);
        /* A clock of a device ticks in steps of up to a microsecond. */
        expect_near(b, "seconds of both parts", both, first + second, 2e-6);
    }
    for (int i = 0; i < 3; i++)
        CALL_VOID(b, event_close, events[i]);
    operand_may_change(y);
    case_end(b);
}

/* What one queue made, another reads after the event, and the first goes on only when it has been read. */
void test_queue_event_wait(bench *b) {
    enum { ROWS = 300, COLS = 400, ROUNDS = 4 };
    case_begin(b, SLOT_event_wait, "two queues in turns");
    double *want = case_array(b, (int64_t)ROWS * COLS);
    operand *x = operand_random(b, "x", BALORA_F32, ROWS, COLS, 1.0);
    operand *there = operand_filled(b, "there", BALORA_F32, ROWS, COLS, 0.0);
    operand *back = operand_filled(b, "back", BALORA_F32, ROWS, COLS, 0.0);
    backend_queue *other = NULL;
    backend_event *made = event_new(b), *taken = event_new(b);
    CALL_OK(b, queue_open, &other, b->device);
    CALL_OK(b, synchronize, b->queue);
    for (int round = 1; round <= ROUNDS; round++) {
        CALL_OK(b, scale_add, b->queue, (double)round, x->view, 0.0, there->view);
        CALL_OK(b, event_record, b->queue, made);
        CALL_OK(b, event_wait, other, made);
        CALL_OK(b, scale_add, other, 1.0, there->view, 1.0, back->view);
        CALL_OK(b, event_record, other, taken);
        CALL_OK(b, event_wait, b->queue, taken);
    }
    CALL_OK(b, synchronize, b->queue); /* behind `taken`, and so behind all of the other queue */
    for (int64_t i = 0; i < (int64_t)ROWS * COLS; i++)
        want[i] = x->value[i] * (ROUNDS * (ROUNDS + 1) / 2);
    operand_may_change(there);
    b->slot = SLOT_scale_add; /* for its tolerance */
    expect_close(b, back, want, NULL);
    CALL_VOID(b, event_close, made);
    CALL_VOID(b, event_close, taken);
    CALL_VOID(b, queue_close, other);
    case_end(b);
}

/* --- memory --- */

void test_queue_memory_usage(bench *b) {
    enum { BYTES = 3 << 20 };
    backend_memory before, with, after;
    backend_buffer *buffer = NULL;
    case_begin(b, SLOT_memory_usage, "a buffer of %d bytes", BYTES);
    CALL_OK(b, memory_usage, b->device, &before);
    CALL_OK(b, buffer_allocate, &buffer, b->device, BYTES);
    CALL_OK(b, memory_usage, b->device, &with);
    CALL_VOID(b, buffer_free, b->device, buffer);
    CALL_OK(b, memory_usage, b->device, &after);
    if (with.current - before.current != BYTES || after.current != before.current)
        bench_report(b, "%lld bytes in use before, %lld with the buffer, %lld after",
                     (long long)before.current, (long long)with.current, (long long)after.current);
    if (before.peak < before.current || with.peak < with.current || after.peak < with.peak)
        bench_report(b, "peaks of %lld, %lld and %lld bytes", (long long)before.peak, (long long)with.peak,
                     (long long)after.peak);
    if (before.free < 0 || before.total <= 0 || before.free > before.total)
        bench_report(b, "%lld bytes free of %lld", (long long)before.free, (long long)before.total);
    case_end(b);
}

/* --- recorded work --- */

enum { CAPTURE_ROWS = 17, CAPTURE_COLS = 33, CAPTURE_COUNT = CAPTURE_ROWS * CAPTURE_COLS };

/* y = a b + x over `inner`, then z = y in BF16, with a uploaded and y downloaded within the recording. */
typedef struct captured {
    operand *a, *b, *x, *y, *z;
    float uploaded[CAPTURE_ROWS * 64], downloaded[CAPTURE_COUNT];
    int64_t inner;
} captured;

static void record(bench *b, captured *c) {
    matrix_view a = {c->a->view.buffer, c->a->view.offset, CAPTURE_ROWS, c->inner, c->inner, BALORA_F32, 0};
    for (int64_t i = 0; i < CAPTURE_ROWS * c->inner; i++)
        c->uploaded[i] = (float)draw_normal(b);
    for (int64_t i = 0; i < CAPTURE_COUNT; i++)
        c->downloaded[i] = -77.0F;
    CALL_OK(b, capture_begin, b->queue);
    CALL_OK(b, upload, b->queue, a.buffer, a.offset, c->uploaded,
            (int64_t)sizeof(float) * CAPTURE_ROWS * c->inner);
    CALL_OK(b, copy, b->queue, c->y->view, c->x->view);
    CALL_OK(b, gemm, b->queue, 0, 0, 1.0, a, view_rows(c->b->view, 0, c->inner), 1.0, c->y->view);
    CALL_OK(b, copy, b->queue, c->z->view, c->y->view);
    CALL_OK(b, download, b->queue, c->downloaded, c->y->view.buffer, c->y->view.offset,
            (int64_t)sizeof c->downloaded);
    if (c->downloaded[0] != -77.0F || c->downloaded[CAPTURE_COUNT - 1] != -77.0F)
        bench_report(b, "work ran while it was recorded");
}

/* Contiguous, so that rows can be downloaded in one piece. */
static operand *operand_joined(bench *b, const char *name, int64_t rows, int64_t cols) {
    operand *self = operand_random(b, name, BALORA_F32, 1, rows * cols, 1.0);
    self->view.rows = rows;
    self->view.cols = self->view.ld = cols;
    return self;
}

static void capture_round(bench *b, captured *c, int64_t inner, bool run) {
    double values[CAPTURE_ROWS * 64], want[CAPTURE_COUNT], magnitude[CAPTURE_COUNT];
    c->inner = inner;
    operand_fetch(b, c->y);
    for (int64_t i = 0; i < CAPTURE_COUNT; i++)
        want[i] = c->y->result[i];
    record(b, c);
    for (int64_t i = 0; i < CAPTURE_ROWS * inner; i++) {
        values[i] = (double)c->uploaded[i];
        c->uploaded[i] = 1e30F; /* host memory may be reused at once */
    }
    CALL_OK(b, capture_end, b->queue, run);
    CALL_OK(b, synchronize, b->queue);
    b->slot = SLOT_gemm;
    if (!run) {
        expect_close(b, c->y, want, NULL);
        if (c->downloaded[0] != -77.0F || c->downloaded[CAPTURE_COUNT - 1] != -77.0F)
            bench_report(b, "a dropped download arrived");
    } else {
        reference_product product = {0,   0,   CAPTURE_ROWS, CAPTURE_COLS, inner,
                                     1.0, 1.0, values,       c->b->value,  c->x->value};
        reference_gemm(&product, want, magnitude);
        expect_close(b, c->y, want, magnitude);
        for (int64_t i = 0; i < CAPTURE_COUNT; i++)
            if ((double)c->downloaded[i] != c->y->result[i]) {
                bench_report(b, "element %lld was downloaded as %.9g, is %.9g", (long long)i,
                             (double)c->downloaded[i], c->y->result[i]);
                break;
            }
    }
    b->slot = SLOT_capture_end;
}

/* Twice the same shape, which a graph may be kept for, then others, and what was dropped in between. */
void test_queue_capture(bench *b) {
    static const struct {
        int64_t inner;
        bool run;
    } rounds[] = {{20, true},  {20, true}, {20, false}, {64, true}, {1, true},
                  {64, false}, {64, true}, {20, true},  {20, true}};
    if (b->ops->capture_begin == NULL)
        return;
    case_begin(b, SLOT_capture_end, "copies, a product, an upload and a download");
    captured c = {0};
    c.a = operand_joined(b, "a", CAPTURE_ROWS, 64);
    c.b = operand_random(b, "b", BALORA_F32, 64, CAPTURE_COLS, 1.0);
    c.x = operand_random(b, "x", BALORA_F32, CAPTURE_ROWS, CAPTURE_COLS, 1.0);
    c.y = operand_joined(b, "y", CAPTURE_ROWS, CAPTURE_COLS);
    c.z = operand_random(b, "z", BALORA_BF16, CAPTURE_ROWS, CAPTURE_COLS, 1.0);
    operand_may_change(c.a);
    operand_may_change(c.z);
    CALL_OK(b, prepare, b->queue, &(backend_limits){.gemm_columns = 64});
    for (int64_t i = 0; i < COUNT_OF(rounds); i++)
        capture_round(b, &c, rounds[i].inner, rounds[i].run);
    case_end(b);
}
