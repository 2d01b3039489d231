// The alpha filter of snnbench.kernels.alpha_filter and its adjoint, the same filter backwards in time.
#include "alpha.cuh"
#include "time_major.cuh"

// x and y stand at the first step of the walk; strides lead to the next one and may be negative.
__device__ inline void filter(const float* x, long long x_stride, float* y, long long y_stride, int n_steps,
                              const Recursion& recursion) {
    AlphaState state;
    const int remembering = min(n_steps, static_cast<int>(recursion.taps));
    const Column first[1] = {{x, x_stride}};
    walk<16>(first, remembering, [&](int t, const float (&now)[1]) {
        y[t * y_stride] = state.pass_time(recursion);
        state.take_in(now[0]);
    });
    if (remembering == n_steps) return;
    y += remembering * y_stride;
    const Column then[2] = {{x + remembering * x_stride, x_stride}, {x, x_stride}};
    walk<16>(then, n_steps - remembering, [&](int t, const float (&now)[2]) {
        state.forget(recursion, now[1]);
        y[t * y_stride] = state.pass_time(recursion);
        state.take_in(now[0]);
    });
}

extern "C" __global__ void __launch_bounds__(THREADS_PER_BLOCK)
alpha_filter_forward(const float* x, long long x_stride, float* y, long long n_steps, long long n_neurons, float leak,
                     float gain, long long taps, float oldest, float oldest_ramp) {
    const long long neuron = this_neuron();
    if (neuron >= n_neurons) return;
    filter(x + neuron, x_stride, y + neuron, n_neurons, static_cast<int>(n_steps),
           {leak, gain, taps, oldest, oldest_ramp});
}

extern "C" __global__ void __launch_bounds__(THREADS_PER_BLOCK)
alpha_filter_backward(const float* grad_y, long long grad_y_stride, float* grad_x, long long n_steps,
                      long long n_neurons, float leak, float gain, long long taps, float oldest, float oldest_ramp) {
    const long long neuron = this_neuron();
    if (neuron >= n_neurons) return;
    const long long last = n_steps - 1;
    filter(grad_y + last * grad_y_stride + neuron, -grad_y_stride, grad_x + last * n_neurons + neuron, -n_neurons,
           static_cast<int>(n_steps), {leak, gain, taps, oldest, oldest_ramp});
}
