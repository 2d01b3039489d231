// Axonal delays of snnbench.kernels.axonal_delay: the shift, its adjoint, and what the delay's gradient is the sum of.
#include "time_major.cuh"

// y stands at the first step of the walk, x at the one that arrives there; strides may be negative.
__device__ inline void shift(const float* x, long long x_stride, float* y, long long y_stride, int n_steps, int lag) {
    for (int t = 0; t < lag; ++t) y[t * y_stride] = 0.0f;
    if (lag == n_steps) return;
    y += lag * y_stride;
    const Column columns[1] = {{x, x_stride}};
    walk<16>(columns, n_steps - lag, [&](int t, const float (&now)[1]) { y[t * y_stride] = now[0]; });
}

extern "C" __global__ void __launch_bounds__(THREADS_PER_BLOCK)
axonal_delay_forward(const float* x, long long x_stride, const float* lags, float* y, long long n_steps,
                     long long n_neurons) {
    const long long neuron = this_neuron();
    if (neuron >= n_neurons) return;
    shift(x + neuron, x_stride, y + neuron, n_neurons, static_cast<int>(n_steps), static_cast<int>(lags[neuron]));
}

extern "C" __global__ void __launch_bounds__(THREADS_PER_BLOCK)
axonal_delay_backward(const float* grad_y, long long grad_y_stride, const float* lags, float* grad_x, long long n_steps,
                      long long n_neurons) {
    const long long neuron = this_neuron();
    if (neuron >= n_neurons) return;
    const long long last = n_steps - 1;
    shift(grad_y + last * grad_y_stride + neuron, -grad_y_stride, grad_x + last * n_neurons + neuron, -n_neurons,
          static_cast<int>(n_steps), static_cast<int>(lags[neuron]));
}

extern "C" __global__ void __launch_bounds__(THREADS_PER_BLOCK)
axonal_delay_climb(const float* grad_y, long long grad_y_stride, const float* y, float* totals, long long n_steps,
                   long long n_neurons) {
    const long long neuron = this_neuron();
    if (neuron >= n_neurons) return;
    const Column columns[2] = {from_first_step(grad_y, grad_y_stride, neuron), from_first_step(y, n_neurons, neuron)};
    float total = 0.0f, before = 0.0f;
    walk<16>(columns, static_cast<int>(n_steps), [&](int, const float (&now)[2]) {
        total = fmaf(now[0], now[1] - before, total);
        before = now[1];
    });
    totals[neuron] = total;
}
