// SRM neurons over all time steps: the equations of snnbench.kernels.srm, in one pass each way.
#include "alpha.cuh"
#include "surrogate.cuh"
#include "time_major.cuh"

// A neuron's latest spikes, one bit each. A spike's bit enters so far down that it leaves at the top as many steps
// later as the refractory kernel is long.
template <int WORDS>
struct History {
    unsigned long long bits[WORDS], entry[WORDS];

    // steps: until a spike leaves; 0: none ever does
    __device__ explicit History(int steps) {
        const int position = 64 * WORDS - steps;
#pragma unroll
        for (int w = 0; w < WORDS; ++w) {
            bits[w] = 0;
            entry[w] = steps != 0 && w == position / 64 ? 1ull << position % 64 : 0;
        }
    }

    __device__ bool leaves() {
        const bool top = bits[WORDS - 1] >> 63;
#pragma unroll
        for (int w = WORDS - 1; w > 0; --w) bits[w] = bits[w] << 1 | bits[w - 1] >> 63;
        bits[0] <<= 1;
        return top;
    }

    __device__ void enters(bool fired) {
#pragma unroll
        for (int w = 0; w < WORDS; ++w) bits[w] |= fired ? entry[w] : 0;
    }
};

template <bool FILTERED, int WORDS>
__device__ inline void srm_forward(const float* current, long long current_stride, float* spikes, float* membrane,
                                   long long n_steps, long long n_neurons, const Recursion& response,
                                   const Recursion& refractory, float threshold) {
    const long long neuron = this_neuron();
    if (neuron >= n_neurons) return;
    const int steps = static_cast<int>(n_steps);
    History<WORDS> history(refractory.taps < n_steps ? static_cast<int>(refractory.taps) : 0);
    AlphaState incoming, own;
    const auto step = [&](int t, float now) {
        own.forget(refractory, history.leaves() ? 1.0f : 0.0f);
        float u = own.pass_time(refractory);
        if constexpr (FILTERED) {
            u += incoming.pass_time(response);
            incoming.take_in(now);
        } else {
            u += now;
        }
        const bool fired = u >= threshold;
        history.enters(fired);
        own.take_in(fired ? 1.0f : 0.0f);
        const long long at = t * n_neurons + neuron;
        spikes[at] = fired ? 1.0f : 0.0f;
        if (membrane != nullptr) membrane[at] = u;
    };
    const int remembering = FILTERED ? min(steps, static_cast<int>(response.taps)) : steps;
    const Column first[1] = {from_first_step(current, current_stride, neuron)};
    walk<16>(first, remembering, [&](int t, const float (&now)[1]) { step(t, now[0]); });
    if constexpr (FILTERED) {
        if (remembering == steps) return;
        const Column then[2] = {from_first_step(current + remembering * current_stride, current_stride, neuron),
                                first[0]};
        walk<8>(then, steps - remembering, [&](int i, const float (&now)[2]) {
            incoming.forget(response, now[1]);
            step(remembering + i, now[0]);
        });
    }
}

template <class Surrogate>
__device__ inline float derivative(float u, float threshold, float inverse_width, float peak) {
    return peak * Surrogate::curve((u - threshold) * inverse_width);
}

// Past spikes are taken as given. What is forgotten is computed a second time: it would have to be read again anyway.
template <bool FILTERED, class Surrogate>
__device__ inline void srm_backward(const float* grad_spikes, long long grad_spikes_stride, const float* membrane,
                                    float* grad_current, long long n_steps, long long n_neurons,
                                    const Recursion& response, float threshold, float inverse_width, float peak) {
    const long long neuron = this_neuron();
    if (neuron >= n_neurons) return;
    const int steps = static_cast<int>(n_steps);
    AlphaState outgoing;
    const auto step = [&](int back, float g, float u) {
        float delta = g * derivative<Surrogate>(u, threshold, inverse_width, peak);
        if constexpr (FILTERED) {
            const float x = delta;
            delta = outgoing.pass_time(response);
            outgoing.take_in(x);
        }
        grad_current[(n_steps - 1 - back) * n_neurons + neuron] = delta;
    };
    const Column g = from_last_step(grad_spikes, grad_spikes_stride, neuron, steps);
    const Column u = from_last_step(membrane, n_neurons, neuron, steps);
    const int remembering = FILTERED ? min(steps, static_cast<int>(response.taps)) : steps;
    const Column first[2] = {g, u};
    walk<8>(first, remembering, [&](int back, const float (&now)[2]) { step(back, now[0], now[1]); });
    if constexpr (FILTERED) {
        if (remembering == steps) return;
        const Column then[4] = {{g.first + remembering * g.stride, g.stride},
                                {u.first + remembering * u.stride, u.stride}, g, u};
        walk<4>(then, steps - remembering, [&](int i, const float (&now)[4]) {
            outgoing.forget(response, now[2] * derivative<Surrogate>(now[3], threshold, inverse_width, peak));
            step(remembering + i, now[0], now[1]);
        });
    }
}

// The gradient takes the path through past spikes, too. delta: where that is written down if something is forgotten.
template <bool FILTERED, class Surrogate>
__device__ inline void srm_backward_attached(const float* grad_spikes, long long grad_spikes_stride,
                                             const float* membrane, float* grad_current, float* delta,
                                             long long n_steps, long long n_neurons, const Recursion& response,
                                             const Recursion& refractory, float threshold, float inverse_width,
                                             float peak) {
    const long long neuron = this_neuron();
    if (neuron >= n_neurons) return;
    const int steps = static_cast<int>(n_steps);
    AlphaState outgoing, later;
    const Column columns[2] = {from_last_step(grad_spikes, grad_spikes_stride, neuron, steps),
                               from_last_step(membrane, n_neurons, neuron, steps)};
    walk<4>(columns, steps, [&](int back, const float (&now)[2]) {
        const long long at = (n_steps - 1 - back) * n_neurons + neuron;
        if (back >= refractory.taps) later.forget(refractory, delta[at + refractory.taps * n_neurons]);
        const float x = derivative<Surrogate>(now[1], threshold, inverse_width, peak) *
                        (now[0] + later.pass_time(refractory));
        later.take_in(x);
        if (delta != nullptr) delta[at] = x;
        if constexpr (FILTERED) {
            if (back >= response.taps) outgoing.forget(response, delta[at + response.taps * n_neurons]);
            grad_current[at] = outgoing.pass_time(response);
            outgoing.take_in(x);
        } else {
            grad_current[at] = x;
        }
    });
}

#define RECURSION(NAME) \
    float NAME##_leak, float NAME##_gain, long long NAME##_taps, float NAME##_oldest, float NAME##_oldest_ramp
#define PACKED(NAME) {NAME##_leak, NAME##_gain, NAME##_taps, NAME##_oldest, NAME##_oldest_ramp}

// membrane: null where there will be no backward pass
#define FORWARD(NAME, FILTERED, WORDS)                                                                               \
    extern "C" __global__ void __launch_bounds__(THREADS_PER_BLOCK)                                                  \
    srm_forward_##NAME(const float* current, long long current_stride, float* spikes, float* membrane,               \
                       long long n_steps, long long n_neurons, RECURSION(response), RECURSION(refractory),           \
                       float threshold) {                                                                            \
        srm_forward<FILTERED, WORDS>(current, current_stride, spikes, membrane, n_steps, n_neurons, PACKED(response), \
                                     PACKED(refractory), threshold);                                                 \
    }

#define BACKWARD(NAME, FILTERED, SURROGATE)                                                                          \
    extern "C" __global__ void __launch_bounds__(THREADS_PER_BLOCK)                                                  \
    srm_backward_##NAME(const float* grad_spikes, long long grad_spikes_stride, const float* membrane,               \
                        float* grad_current, long long n_steps, long long n_neurons, RECURSION(response),            \
                        float threshold, float inverse_width, float peak) {                                          \
        srm_backward<FILTERED, SURROGATE>(grad_spikes, grad_spikes_stride, membrane, grad_current, n_steps,          \
                                          n_neurons, PACKED(response), threshold, inverse_width, peak);              \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(THREADS_PER_BLOCK)                                                  \
    srm_backward_attached_##NAME(const float* grad_spikes, long long grad_spikes_stride, const float* membrane,      \
                                 float* grad_current, float* delta, long long n_steps, long long n_neurons,          \
                                 RECURSION(response), RECURSION(refractory), float threshold, float inverse_width,   \
                                 float peak) {                                                                       \
        srm_backward_attached<FILTERED, SURROGATE>(grad_spikes, grad_spikes_stride, membrane, grad_current, delta,   \
                                                   n_steps, n_neurons, PACKED(response), PACKED(refractory),         \
                                                   threshold, inverse_width, peak);                                  \
    }

#define BACKWARDS(NAME, SURROGATE)               \
    BACKWARD(filtered_##NAME, true, SURROGATE)   \
    BACKWARD(unfiltered_##NAME, false, SURROGATE)

FORWARD(filtered_64, true, 1)
FORWARD(filtered_256, true, 4)
FORWARD(unfiltered_64, false, 1)
FORWARD(unfiltered_256, false, 4)

BACKWARDS(arctan, Arctan)
BACKWARDS(exponential, Exponential)
BACKWARDS(fast_sigmoid, FastSigmoid)
BACKWARDS(gaussian, Gaussian)
BACKWARDS(logistic, Logistic)
BACKWARDS(rectangular, Rectangular)
BACKWARDS(triangular, Triangular)
