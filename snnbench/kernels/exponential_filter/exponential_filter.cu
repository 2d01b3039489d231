// The exponential filter of snnbench.kernels.exponential_filter and its adjoint, the same filter backwards in time.
#include "time_major.cuh"

extern "C" __global__ void __launch_bounds__(THREADS_PER_BLOCK)
exponential_filter_forward(const float* x, long long x_stride, float* y, long long n_steps, long long n_neurons,
                           float decay, float gain) {
    const long long neuron = this_neuron();
    if (neuron >= n_neurons) return;
    const Column columns[1] = {from_first_step(x, x_stride, neuron)};
    float state = 0.0f;
    walk<16>(columns, static_cast<int>(n_steps), [&](int t, const float (&now)[1]) {
        state = fmaf(decay, state, now[0]);
        y[t * n_neurons + neuron] = gain * state;
    });
}

extern "C" __global__ void __launch_bounds__(THREADS_PER_BLOCK)
exponential_filter_backward(const float* grad_y, long long grad_y_stride, float* grad_x, long long n_steps,
                            long long n_neurons, float decay, float gain) {
    const long long neuron = this_neuron();
    if (neuron >= n_neurons) return;
    const int last = static_cast<int>(n_steps) - 1;
    const Column columns[1] = {from_last_step(grad_y, grad_y_stride, neuron, last + 1)};
    float state = 0.0f;
    walk<16>(columns, last + 1, [&](int i, const float (&now)[1]) {
        state = fmaf(decay, state, now[0]);
        grad_x[(last - i) * n_neurons + neuron] = gain * state;
    });
}
