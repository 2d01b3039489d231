// CUDA's words for a host compiler: blocks of a kernel run one after the other, and so do a block's threads, if none
// waits for another. In a source with barriers (BARRIERS), each thread of a block is a fiber, which hands over to the
// next one where it waits; all threads must stay to the end. Data races are not seen, forgotten barriers seldom.
#pragma once
#include <algorithm>
#include <cmath>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include <ucontext.h>

#define __global__
#define __device__
#define __launch_bounds__(...)
#define __shared__ static  // blocks run one after the other

using std::min;
inline float __fdividef(float a, float b) { return a / b; }

struct Index {
    unsigned x;
};
static Index threadIdx, blockIdx;

namespace shim {

constexpr unsigned WARP = 32;

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    bool done;
};

struct Barrier {
    unsigned n_waiting = 0;
    unsigned long long opened = 0;
};

struct Block {
    std::vector<Fiber> fibers;
    Barrier barrier;
    std::vector<Barrier> barrier_of_warp;
    std::vector<bool> votes;
    void (*body)(void*);
    void* arguments;
    ucontext_t scheduler;
};
inline Block block;

inline void wait(Barrier& barrier, unsigned n_threads) {
    const unsigned long long opened = barrier.opened;
    if (++barrier.n_waiting == n_threads) {
        barrier.n_waiting = 0;
        ++barrier.opened;
    }
    while (barrier.opened == opened) swapcontext(&block.fibers[threadIdx.x].context, &block.scheduler);
}

inline void fiber() {
    block.body(block.arguments);
    Fiber& self = block.fibers[threadIdx.x];
    self.done = true;
    swapcontext(&self.context, &block.scheduler);
}

// Whole warps only.
inline void run_block(unsigned threads, void (*body)(void*), void* arguments) {
    constexpr std::size_t STACK = 1 << 18;
    block.body = body;
    block.arguments = arguments;
    block.barrier = {};
    block.barrier_of_warp.assign(threads / WARP, {});
    block.votes.assign(threads, false);
    block.fibers.resize(threads);
    for (Fiber& one : block.fibers) {
        if (!one.stack) one.stack = std::make_unique<char[]>(STACK);
        one.done = false;
        getcontext(&one.context);
        one.context.uc_stack.ss_sp = one.stack.get();
        one.context.uc_stack.ss_size = STACK;
        one.context.uc_link = nullptr;
        makecontext(&one.context, fiber, 0);
    }
    for (bool done = false; !done;) {
        done = true;
        for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) {
            const unsigned self = threadIdx.x;
            if (block.fibers[self].done) continue;
            swapcontext(&block.scheduler, &block.fibers[self].context);
            threadIdx.x = self;
            done = done && block.fibers[self].done;
        }
    }
}

template <class T>
constexpr char code() {
    if (std::is_pointer_v<T>) return 'p';
    if (std::is_same_v<T, long long>) return 'i';
    if (std::is_same_v<T, float>) return 'f';
    return '?';
}

template <class... Parameters, std::size_t... I>
void run(void (*kernel)(Parameters...), unsigned blocks, unsigned threads, void** arguments,
         std::index_sequence<I...>) {
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {
#ifdef BARRIERS
        auto call = [&] { kernel(*static_cast<Parameters*>(arguments[I])...); };
        run_block(threads, [](void* f) { (*static_cast<decltype(call)*>(f))(); }, &call);
#else
        for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) {
            kernel(*static_cast<Parameters*>(arguments[I])...);
        }
#endif
    }
}

// As cuLaunchKernel, which takes addresses of arguments, too; but their kinds are checked. Returns whether they fit.
template <class... Parameters>
bool launch(void (*kernel)(Parameters...), unsigned blocks, unsigned threads, const char* codes, void** arguments) {
    const char expected[] = {code<Parameters>()..., '\0'};
    for (std::size_t i = 0; i < sizeof(expected); ++i) {
        if (codes[i] != expected[i]) return false;
    }
    run(kernel, blocks, threads, arguments, std::index_sequence_for<Parameters...>{});
    return true;
}

}  // namespace shim

#ifdef BARRIERS
inline void __syncthreads() { shim::wait(shim::block.barrier, shim::block.fibers.size()); }

inline unsigned __ballot_sync(unsigned, bool vote) {
    const unsigned warp = threadIdx.x / shim::WARP;
    shim::block.votes[threadIdx.x] = vote;
    shim::wait(shim::block.barrier_of_warp[warp], shim::WARP);
    unsigned votes = 0;
    for (unsigned lane = 0; lane < shim::WARP; ++lane) {
        votes |= static_cast<unsigned>(shim::block.votes[warp * shim::WARP + lane]) << lane;
    }
    shim::wait(shim::block.barrier_of_warp[warp], shim::WARP);
    return votes;
}
#endif

inline int __ffs(unsigned bits) { return __builtin_ffs(static_cast<int>(bits)); }
