// LIF behind a synaptic filter: the equations of snnbench.kernels.synaptic_lif, in one pass each way. Resets and paths
// of the gradient are numbers (see linear.py), so that there is one kernel forward and one a surrogate backward.
#include "surrogate.cuh"
#include "time_major.cuh"

// membrane: null where there will be no backward pass
extern "C" __global__ void __launch_bounds__(THREADS_PER_BLOCK)
synaptic_lif_forward(const float* current, long long current_stride, float* spikes, float* membrane, long long n_steps,
                     long long n_neurons, float trace_decay, float gain, float decay, float scale, float shift,
                     float threshold) {
    const long long neuron = this_neuron();
    if (neuron >= n_neurons) return;
    const Column columns[1] = {from_first_step(current, current_stride, neuron)};
    float arriving = 0.0f;  // what the synapses have filtered
    float left = 0.0f;      // what a step leaves of the membrane to the next one
    walk<16>(columns, static_cast<int>(n_steps), [&](int t, const float (&now)[1]) {
        arriving = fmaf(trace_decay, arriving, gain * now[0]);
        const float u = arriving + left;
        const bool fired = u >= threshold;
        left = fired ? fmaf(scale, u, -shift) : decay * u;
        const long long at = t * n_neurons + neuron;
        spikes[at] = fired ? 1.0f : 0.0f;
        if (membrane != nullptr) membrane[at] = u;
    });
}

template <class Surrogate>
__device__ inline void synaptic_lif_backward(const float* grad_spikes, long long grad_spikes_stride,
                                             const float* membrane, float* grad_current, long long n_steps,
                                             long long n_neurons, float trace_decay, float gain, float carried,
                                             float carried_after_spike, float slope, float offset, float threshold,
                                             float inverse_width, float peak) {
    const long long neuron = this_neuron();
    if (neuron >= n_neurons) return;
    const int last = static_cast<int>(n_steps) - 1;
    const Column columns[2] = {from_last_step(grad_spikes, grad_spikes_stride, neuron, last + 1),
                               from_last_step(membrane, n_neurons, neuron, last + 1)};
    float delta = 0.0f;
    float leaving = 0.0f;  // through the synaptic filter
    walk<8>(columns, last + 1, [&](int i, const float (&now)[2]) {
        const float u = now[1];
        const float h = peak * Surrogate::curve((u - threshold) * inverse_width);
        const float jacobian = fmaf(-h, fmaf(slope, u, offset), u >= threshold ? carried_after_spike : carried);
        delta = fmaf(h, now[0], jacobian * delta);
        leaving = fmaf(trace_decay, leaving, gain * delta);
        grad_current[(last - i) * n_neurons + neuron] = leaving;
    });
}

#define BACKWARD(NAME, SURROGATE)                                                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS_PER_BLOCK)                                                   \
    synaptic_lif_backward_##NAME(const float* grad_spikes, long long grad_spikes_stride, const float* membrane,       \
                                 float* grad_current, long long n_steps, long long n_neurons, float trace_decay,      \
                                 float gain, float carried, float carried_after_spike, float slope, float offset,     \
                                 float threshold, float inverse_width, float peak) {                                  \
        synaptic_lif_backward<SURROGATE>(grad_spikes, grad_spikes_stride, membrane, grad_current, n_steps, n_neurons, \
                                         trace_decay, gain, carried, carried_after_spike, slope, offset, threshold,   \
                                         inverse_width, peak);                                                        \
    }

BACKWARD(arctan, Arctan)
BACKWARD(exponential, Exponential)
BACKWARD(fast_sigmoid, FastSigmoid)
BACKWARD(gaussian, Gaussian)
BACKWARD(logistic, Logistic)
BACKWARD(rectangular, Rectangular)
BACKWARD(triangular, Triangular)
