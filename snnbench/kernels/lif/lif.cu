// LIF over all time steps: the equations of snnbench.kernels.lif, in one pass each way. Where a product and a sum are
// rounded once, it is written fmaf: the compiler fuses nothing by itself.
#include "surrogate.cuh"
#include "time_major.cuh"

enum class Reset { NONE, SOFT, SOFT_AFTER_DECAY, HARD };

template <Reset RESET>
__device__ inline void lif_forward(const float* current, long long current_stride, float* spikes, float* membrane,
                                   long long n_steps, long long n_neurons, float decay, float threshold) {
    const long long neuron = this_neuron();
    if (neuron >= n_neurons) return;
    const Column columns[1] = {from_first_step(current, current_stride, neuron)};
    float left = 0.0f;  // what a step leaves to the next one
    walk<16>(columns, static_cast<int>(n_steps), [&](int t, const float (&now)[1]) {
        const float u = RESET == Reset::SOFT_AFTER_DECAY ? now[0] + left : fmaf(decay, left, now[0]);
        const bool fired = u >= threshold;
        if constexpr (RESET == Reset::HARD) {
            left = fired ? 0.0f : u;
        } else if constexpr (RESET == Reset::SOFT) {
            left = fired ? u - threshold : u;
        } else if constexpr (RESET == Reset::SOFT_AFTER_DECAY) {
            left = fmaf(decay, u, fired ? -threshold : 0.0f);
        } else {
            left = u;
        }
        const long long at = t * n_neurons + neuron;
        spikes[at] = fired ? 1.0f : 0.0f;
        if (membrane != nullptr) membrane[at] = u;
    });
}

// ATTACHED: the gradient takes the path through the reset as well. Detached, it meets every reset but the hard one as
// if there were none.
template <Reset RESET, bool ATTACHED, class Surrogate>
__device__ inline void lif_backward(const float* grad_spikes, long long grad_spikes_stride, const float* membrane,
                                    float* grad_current, long long n_steps, long long n_neurons, float decay,
                                    float threshold, float inverse_width, float peak) {
    const long long neuron = this_neuron();
    if (neuron >= n_neurons) return;
    const int last = static_cast<int>(n_steps) - 1;
    const Column columns[2] = {from_last_step(grad_spikes, grad_spikes_stride, neuron, last + 1),
                               from_last_step(membrane, n_neurons, neuron, last + 1)};
    float delta = 0.0f;
    walk<8>(columns, last + 1, [&](int i, const float (&now)[2]) {
        float g = now[0];
        const float u = now[1];
        float carried = decay * delta;
        if constexpr (ATTACHED) {
            if constexpr (RESET == Reset::HARD) g = fmaf(-u, carried, g);
            if constexpr (RESET == Reset::SOFT) g = fmaf(-threshold, carried, g);
            if constexpr (RESET == Reset::SOFT_AFTER_DECAY) g = fmaf(-threshold, delta, g);
        }
        if constexpr (RESET == Reset::HARD) carried = u >= threshold ? 0.0f : carried;
        delta = fmaf(peak * Surrogate::curve((u - threshold) * inverse_width), g, carried);
        grad_current[(last - i) * n_neurons + neuron] = delta;
    });
}

// membrane: null where there will be no backward pass; may be the current, which it then overwrites
#define FORWARD(NAME, RESET)                                                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS_PER_BLOCK)                                                  \
    lif_forward_##NAME(const float* current, long long current_stride, float* spikes, float* membrane,               \
                       long long n_steps, long long n_neurons, float decay, float threshold) {                       \
        lif_forward<RESET>(current, current_stride, spikes, membrane, n_steps, n_neurons, decay, threshold);         \
    }

#define BACKWARD(NAME, RESET, ATTACHED, SURROGATE)                                                                   \
    extern "C" __global__ void __launch_bounds__(THREADS_PER_BLOCK)                                                  \
    lif_backward_##NAME(const float* grad_spikes, long long grad_spikes_stride, const float* membrane,               \
                        float* grad_current, long long n_steps, long long n_neurons, float decay, float threshold,   \
                        float inverse_width, float peak) {                                                           \
        lif_backward<RESET, ATTACHED, SURROGATE>(grad_spikes, grad_spikes_stride, membrane, grad_current, n_steps,   \
                                                 n_neurons, decay, threshold, inverse_width, peak);                  \
    }

#define BACKWARDS(NAME, SURROGATE)                                                                                   \
    BACKWARD(none_##NAME, Reset::NONE, false, SURROGATE)                                                             \
    BACKWARD(hard_##NAME, Reset::HARD, false, SURROGATE)                                                             \
    BACKWARD(soft_attached_##NAME, Reset::SOFT, true, SURROGATE)                                                     \
    BACKWARD(soft_after_decay_attached_##NAME, Reset::SOFT_AFTER_DECAY, true, SURROGATE)                             \
    BACKWARD(hard_attached_##NAME, Reset::HARD, true, SURROGATE)

FORWARD(none, Reset::NONE)
FORWARD(soft, Reset::SOFT)
FORWARD(soft_after_decay, Reset::SOFT_AFTER_DECAY)
FORWARD(hard, Reset::HARD)

BACKWARDS(arctan, Arctan)
BACKWARDS(exponential, Exponential)
BACKWARDS(fast_sigmoid, FastSigmoid)
BACKWARDS(gaussian, Gaussian)
BACKWARDS(logistic, Logistic)
BACKWARDS(rectangular, Rectangular)
BACKWARDS(triangular, Triangular)
