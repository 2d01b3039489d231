// The backward pass of TSSL-BP: the equations of snnbench.kernels.tssl_bp. Each neuron is walked through twice. Forwards
// in time each step's factor on the gradient is written where the gradient will stand: the slope of a spike, 0 between
// spikes, or the surrogate with a minus sign where that stands in. Backwards in time goes the recursion.
#include "time_major.cuh"

extern "C" __global__ void __launch_bounds__(THREADS_PER_BLOCK)
tssl_bp_backward(const float* grad_spikes, long long grad_spikes_stride, const float* membrane, float* grad_current,
                 long long n_steps, long long n_neurons, float trace_decay, float gain, float decay, float growth,
                 float threshold, float width, float steepest, float silent_below, float between, float reach) {
    const long long neuron = this_neuron();
    if (neuron >= n_neurons) return;
    const int last = static_cast<int>(n_steps) - 1;

    const Column forwards[1] = {from_first_step(membrane, n_neurons, neuron)};
    float trace = 0.0f;
    float rest = 0.0f;
    walk<8>(forwards, last + 1, [&](int t, const float (&now)[1]) {
        const float u = now[0];
        const bool fired = u >= threshold;
        trace = fmaf(trace_decay, trace, fired ? gain : 0.0f);
        const float slope = fired ? fminf(1.0f / (u - rest), steepest) : 0.0f;
        const float e = expf(-fminf(fabsf(u - threshold) / width, reach));
        const float surrogate = e / ((1.0f + e) * (1.0f + e) * width);
        grad_current[t * n_neurons + neuron] = trace < silent_below ? -surrogate : slope;
        rest = fired ? 0.0f : u;
    });

    const Column backwards[3] = {from_last_step(grad_spikes, grad_spikes_stride, neuron, last + 1),
                                 from_last_step(membrane, n_neurons, neuron, last + 1),
                                 from_last_step(grad_current, n_neurons, neuron, last + 1)};
    float d = 0.0f;
    float leaving = 0.0f;  // through the synaptic filter
    walk<8>(backwards, last + 1, [&](int i, const float (&now)[3]) {
        const float g = now[0];
        const float u = now[1];
        const float factor = now[2];
        const bool fired = u >= threshold;
        const float slope = fmaxf(factor, 0.0f);
        d = fmaf(slope, g, (fired ? growth * u * slope : decay) * d);
        const float delta = factor < 0.0f ? -factor * g : fired ? d : between * d;
        leaving = fmaf(trace_decay, leaving, gain * delta);
        grad_current[(last - i) * n_neurons + neuron] = leaving;
    });
}
