/* Blocks of threads as fibers: see cuda_runtime.h. x86-64 System V. */
#include <cuda_runtime.h>

#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <vector>

#include "recording.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace {

enum state { READY, AT_BARRIER, AT_EXCHANGE, DONE };

const std::size_t STACK_BYTES = 256 * 1024;
const unsigned LANES = 32;

/* One CUDA thread. */
struct fiber {
    void *stack = nullptr; /* lowest address */
    void *sp = nullptr;    /* where it stands while it waits */
    void *fake_stack = nullptr;
    uint3 thread{};
    unsigned lane = 0, warp = 0;
    state now = DONE;
    int parity = 0; /* which of the warp's two sets of pieces the next exchange uses */
};

struct warp_pieces {
    alignas(64) unsigned char set[2][LANES * EMULATION_PIECE];
};

struct player;
thread_local player *playing = nullptr;
thread_local fiber *current = nullptr;

} // namespace

__thread uint3 threadIdx, blockIdx, blockDim, gridDim;
__thread unsigned emulation_lane;

extern "C" void emulation_switch(void **save, void *load);
extern "C" void emulation_fiber_main();

/* Keeps what a function must keep (rbx, rbp, r12-r15, the stack), takes up the other stack. */
asm(R"(
    .text
    .globl emulation_switch
    .hidden emulation_switch
    .type emulation_switch, @function
emulation_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emulation_switch, .-emulation_switch
)");

namespace {

/* Plays blocks one after the other on one thread of the host. */
struct player {
    std::vector<fiber> fibers;
    std::vector<warp_pieces> warps;
    std::vector<unsigned char> shared_memory;
    unsigned char *shared = nullptr;
    const std::function<void()> *body = nullptr;
    void *scheduler_sp = nullptr;
    void *scheduler_fake = nullptr;
    const void *scheduler_bottom = nullptr;
    std::size_t scheduler_size = 0;
    int counted = 0, count_result = 0;

    ~player() {
        for (fiber &f : fibers)
            if (f.stack != nullptr)
                munmap(f.stack, STACK_BYTES);
    }

    bool provide(unsigned threads, std::size_t shared_bytes) {
        if (fibers.size() < threads)
            fibers.resize(threads);
        for (fiber &f : fibers)
            if (f.stack == nullptr) {
                f.stack = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
                if (f.stack == MAP_FAILED) {
                    f.stack = nullptr;
                    return false;
                }
            }
        warps.resize((threads + LANES - 1) / LANES);
        shared_memory.assign(shared_bytes + 256, 0xFF); /* NaN: what a block must not read before it writes */
        auto address = reinterpret_cast<std::uintptr_t>(shared_memory.data());
        shared = shared_memory.data() + (128 - address % 128) % 128;
        return true;
    }

    void prepare(fiber &f) {
        auto *top = reinterpret_cast<std::uintptr_t *>(static_cast<unsigned char *>(f.stack) + STACK_BYTES);
        *--top = 0; /* keeps the stack aligned as a call would */
        *--top = reinterpret_cast<std::uintptr_t>(&emulation_fiber_main);
        for (int saved = 0; saved < 6; saved++)
            *--top = 0;
        f.sp = top;
        f.fake_stack = nullptr;
        f.now = READY;
        f.parity = 0;
    }

    void enter(fiber &f) {
        current = &f;
        threadIdx = f.thread;
        emulation_lane = f.lane;
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_start_switch_fiber(&scheduler_fake, f.stack, STACK_BYTES);
#endif
        emulation_switch(&scheduler_sp, f.sp);
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_finish_switch_fiber(scheduler_fake, nullptr, nullptr);
#endif
        current = nullptr;
    }

    /* Back to the scheduler until the fiber's turn comes again. */
    void leave(fiber &f, state now) {
        f.now = now;
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_start_switch_fiber(now == DONE ? nullptr : &f.fake_stack, scheduler_bottom,
                                       scheduler_size);
#endif
        emulation_switch(&f.sp, scheduler_sp);
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_finish_switch_fiber(f.fake_stack, &scheduler_bottom, &scheduler_size);
#endif
    }

    /* Let fibers go on that wait for each other; false: some wait for a thread that will never come. */
    bool release(unsigned threads) {
        bool moved = false;
        unsigned at_barrier = 0, done = 0;
        for (unsigned first = 0; first < threads; first += LANES) {
            unsigned end = first + LANES < threads ? first + LANES : threads, waiting = 0;
            for (unsigned i = first; i < end; i++) {
                waiting += fibers[i].now == AT_EXCHANGE;
                at_barrier += fibers[i].now == AT_BARRIER;
                done += fibers[i].now == DONE;
            }
            if (waiting == end - first) {
                for (unsigned i = first; i < end; i++)
                    fibers[i].now = READY;
                moved = true;
            }
        }
        if (at_barrier == threads) {
            count_result = counted;
            counted = 0;
            for (unsigned i = 0; i < threads; i++)
                fibers[i].now = READY;
            moved = true;
        }
        return moved || done == threads;
    }

    bool play(const cudaLaunchConfig_t &config, const uint3 &block, const std::vector<unsigned> &order) {
        unsigned threads = (unsigned)order.size();
        std::memset(shared, 0xFF, config.dynamicSmemBytes);
        blockIdx = block;
        for (unsigned i = 0; i < threads; i++) {
            fiber &f = fibers[i];
            prepare(f);
            f.thread = {i % config.blockDim.x, i / config.blockDim.x % config.blockDim.y,
                        i / config.blockDim.x / config.blockDim.y};
            f.lane = i % LANES;
            f.warp = i / LANES;
        }
        for (;;) {
            unsigned done = 0;
            for (unsigned i : order) {
                if (fibers[i].now == READY)
                    enter(fibers[i]);
                done += fibers[i].now == DONE;
            }
            if (done == threads)
                return true;
            if (!release(threads))
                return false;
        }
    }
};

std::vector<unsigned> turn_order(unsigned threads) {
    std::vector<unsigned> order(threads);
    const char *wish = std::getenv("BALORA_EMULATION_ORDER");
    bool reverse = wish != nullptr && std::strcmp(wish, "reverse") == 0;
    bool shuffle = wish != nullptr && std::strcmp(wish, "shuffle") == 0;
    for (unsigned i = 0; i < threads; i++)
        order[i] = reverse ? threads - 1 - i : i;
    std::uint64_t state = 88172645463325252u;
    for (unsigned i = threads; shuffle && i > 1; i--) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        std::swap(order[i - 1], order[state % i]);
    }
    return order;
}

} // namespace

extern "C" void emulation_fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &playing->scheduler_bottom, &playing->scheduler_size);
#endif
    (*playing->body)();
    playing->leave(*current, DONE);
    __builtin_unreachable();
}

unsigned char *emulation_dynamic_shared() {
    return playing->shared;
}

void emulation_barrier() {
    playing->leave(*current, AT_BARRIER);
}

int emulation_count(int predicate) {
    playing->counted += predicate != 0;
    playing->leave(*current, AT_BARRIER);
    return playing->count_result;
}

const unsigned char *emulation_exchange(const void *value, std::size_t bytes) {
    fiber &f = *current;
    unsigned char *set = playing->warps[f.warp].set[f.parity];
    f.parity ^= 1;
    std::memcpy(set + f.lane * EMULATION_PIECE, value, bytes);
    playing->leave(f, AT_EXCHANGE);
    return set;
}

cudaError_t emulation_play(const cudaLaunchConfig_t &config, const std::function<void()> &thread) {
    unsigned threads = config.blockDim.x * config.blockDim.y * config.blockDim.z;
    std::int64_t blocks = (std::int64_t)config.gridDim.x * config.gridDim.y * config.gridDim.z;
    if (threads == 0 || threads > 1024 || blocks == 0 || config.gridDim.y > 65535 ||
        config.gridDim.z > 65535 || config.dynamicSmemBytes > EMULATED_SHARED_BYTES)
        return cudaErrorInvalidValue;
    const std::vector<unsigned> order = turn_order(threads);
    std::atomic<int> error{cudaSuccess};
#pragma omp parallel if (blocks > 1)
    {
        static thread_local std::unique_ptr<player> own;
        if (!own)
            own = std::make_unique<player>();
        player &p = *own;
        p.body = &thread;
        blockDim = {config.blockDim.x, config.blockDim.y, config.blockDim.z};
        gridDim = {config.gridDim.x, config.gridDim.y, config.gridDim.z};
        playing = &p;
        if (!p.provide(threads, config.dynamicSmemBytes))
            error = cudaErrorMemoryAllocation;
#pragma omp for schedule(dynamic)
        for (std::int64_t i = 0; i < blocks; i++) {
            uint3 block = {(unsigned)(i % config.gridDim.x),
                           (unsigned)(i / config.gridDim.x % config.gridDim.y),
                           (unsigned)(i / config.gridDim.x / config.gridDim.y)};
            if (error == cudaSuccess && !p.play(config, block, order))
                error = cudaErrorLaunchFailure;
        }
        playing = nullptr;
    }
    return (cudaError_t)error.load();
}
