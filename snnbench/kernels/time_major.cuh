// Walking neurons through time: data lie [step][neuron], a thread takes one neuron through all steps and keeps its
// state in registers. The threads of a warp are neighbours, so that every step is read and written in whole lines.
#pragma once

// As in cupy_module.py. Small, because few neurons should still reach every multiprocessor.
constexpr int THREADS_PER_BLOCK = 64;

// One neuron's values in the order of the walk.
struct Column {
    const float* first;
    long long stride;  // elements from one step to the next; 0 where all steps share one value
};

__device__ inline long long this_neuron() {
    return static_cast<long long>(blockIdx.x) * THREADS_PER_BLOCK + threadIdx.x;
}

__device__ inline Column from_first_step(const float* values, long long stride, long long neuron) {
    return {values + neuron, stride};
}

__device__ inline Column from_last_step(const float* values, long long stride, long long neuron, int n_steps) {
    return {values + (n_steps - 1) * stride + neuron, -stride};
}

// Loads the values of AHEAD steps. Beyond the last one it reads that again: cheaper than a branch around each load.
template <int AHEAD, int COLUMNS>
__device__ inline void fetch(float (&values)[AHEAD][COLUMNS], const Column (&columns)[COLUMNS], int from, int n_steps) {
#pragma unroll
    for (int k = 0; k < AHEAD; ++k) {
        const long long i = min(from + k, n_steps - 1);
#pragma unroll
        for (int c = 0; c < COLUMNS; ++c) values[k][c] = columns[c].first[i * columns[c].stride];
    }
}

// Calls step(i, values of the columns) for i = 0 ... n_steps - 1, at least one. Steps depend on each other, loads do not: while AHEAD
// steps are computed, the loads of the next AHEAD are under way. They go out as one batch, because the hardware has too
// few barriers to wait for single ones.
template <int AHEAD, int COLUMNS, class Step>
__device__ inline void walk(const Column (&columns)[COLUMNS], int n_steps, Step step) {
    float now[AHEAD][COLUMNS];
    float next[AHEAD][COLUMNS];
    fetch(now, columns, 0, n_steps);
    int i = 0;
    for (; i + AHEAD <= n_steps; i += AHEAD) {
        fetch(next, columns, i + AHEAD, n_steps);
#pragma unroll
        for (int k = 0; k < AHEAD; ++k) step(i + k, now[k]);
#pragma unroll
        for (int k = 0; k < AHEAD; ++k) {
#pragma unroll
            for (int c = 0; c < COLUMNS; ++c) now[k][c] = next[k][c];
        }
    }
#pragma unroll
    for (int k = 0; k < AHEAD; ++k) {
        if (i + k < n_steps) step(i + k, now[k]);
    }
}
