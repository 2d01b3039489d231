// Integrate-and-fire without a leak: the equations of snnbench.kernels.integrate_and_fire.
#include "time_major.cuh"

template <bool HARD>
__device__ inline void integrate_and_fire(const float* current, long long current_stride, float* spikes,
                                          long long n_steps, long long n_neurons, const float* thresholds,
                                          float threshold, float initial_share) {
    const long long neuron = this_neuron();
    if (neuron >= n_neurons) return;
    const float theta = thresholds != nullptr ? thresholds[neuron] : threshold;
    const Column columns[1] = {from_first_step(current, current_stride, neuron)};
    float membrane = initial_share * theta;
    walk<16>(columns, static_cast<int>(n_steps), [&](int t, const float (&now)[1]) {
        membrane += now[0];
        const bool fired = membrane >= theta;
        if (fired) membrane = HARD ? 0.0f : membrane - theta;
        spikes[t * n_neurons + neuron] = fired ? 1.0f : 0.0f;
    });
}

// thresholds: one a neuron, or null where all have the one threshold
#define KERNEL(NAME, HARD)                                                                                          \
    extern "C" __global__ void __launch_bounds__(THREADS_PER_BLOCK)                                                 \
    integrate_and_fire_##NAME(const float* current, long long current_stride, float* spikes, long long n_steps,     \
                              long long n_neurons, const float* thresholds, float threshold, float initial_share) { \
        integrate_and_fire<HARD>(current, current_stride, spikes, n_steps, n_neurons, thresholds, threshold,        \
                                 initial_share);                                                                    \
    }

KERNEL(soft, false)
KERNEL(hard, true)
