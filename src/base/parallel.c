#include "base/parallel.h"

#include <omp.h>

#include "base/arith.h"

int parallel_threads(void) {
    return omp_in_parallel() ? 1 : omp_get_max_threads();
}

int parallel_available(void) {
    return omp_get_num_procs();
}

int parallel_enter(int threads) {
    int previous = omp_get_max_threads();
    omp_set_num_threads(threads);
    return previous;
}

void parallel_leave(int previous) {
    omp_set_num_threads(previous);
}

void parallel_for(int64_t count, int64_t grain, parallel_body body, void *user) {
    if (count <= 0)
        return;
    int64_t parts = arith_min(parallel_threads(), arith_max(1, count / arith_max(1, grain)));
    if (parts == 1) {
        body(0, count, 0, user);
        return;
    }
#pragma omp parallel for schedule(static, 1) num_threads((int)parts)
    for (int64_t part = 0; part < parts; part++)
        body(count * part / parts, count * (part + 1) / parts, (int)part, user);
}

void parallel_for_dynamic(int64_t count, int64_t grain, parallel_body body, void *user) {
    if (count <= 0)
        return;
    int64_t step = arith_max(1, grain);
    int64_t pieces = arith_divide_up(count, step);
    int64_t threads = arith_min(parallel_threads(), pieces);
    if (threads == 1) {
        body(0, count, 0, user);
        return;
    }
#pragma omp parallel for schedule(dynamic, 1) num_threads((int)threads)
    for (int64_t piece = 0; piece < pieces; piece++)
        body(piece * step, arith_min(count, (piece + 1) * step), omp_get_thread_num(), user);
}
