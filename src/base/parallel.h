/*
 * Parallel loops that share OpenMP's thread team with OpenBLAS, so that the two never fight for cores.
 *
 * The split of a range depends on the range, the grain and the number of threads only: results are the same
 * from run to run with the same number of threads.
 */
#ifndef BASE_PARALLEL_H
#define BASE_PARALLEL_H

#include <stdint.h>

/* Works on [begin, end); `thread` is below parallel_threads(). */
typedef void (*parallel_body)(int64_t begin, int64_t end, int thread, void *user);

/* Split [0, count) into one contiguous part a thread, none smaller than `grain` unless it is the only one. */
void parallel_for(int64_t count, int64_t grain, parallel_body body, void *user);

/* Hand out pieces of `grain` as threads get free: for uneven work whose pieces do not share sums. */
void parallel_for_dynamic(int64_t count, int64_t grain, parallel_body body, void *user);

/* Threads that a loop of the calling thread may use now. */
int parallel_threads(void);

/* Cores that this process may run on. */
int parallel_available(void);

/* Set the calling thread's number of threads, for loops here and in OpenBLAS; returns the one before. */
int parallel_enter(int threads);
void parallel_leave(int previous);

#endif
