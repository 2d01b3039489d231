// Exact spike times of a dense layer: the equations of snnbench.kernels.spike_times. A thread takes one neuron of one
// sample from event to event; a block's neurons are of one sample, so what there is to know of an event is the same for
// all of a block and comes from the first-level cache, and rows of weights are read in whole lines.
#include "time_major.cuh"

constexpr int AHEAD = 8;  // events whose weights are under way at a time

struct Place {
    long long row;  // of blocks
    long long column;
};

// Rows are padded to whole blocks.
__device__ inline Place this_place(long long n_columns) {
    const long long blocks = (n_columns + THREADS_PER_BLOCK - 1) / THREADS_PER_BLOCK;
    return {blockIdx.x / blocks, blockIdx.x % blocks * THREADS_PER_BLOCK + threadIdx.x};
}

// Lambert's W at -e^(excess - 1), excess <= 0: a series at the branch point, and Halley's iteration.
__device__ inline double lambert_w(double excess) {
    const double p = sqrt(-2.0 * expm1(excess));
    double w = -221.0 / 8505.0;
    w = fma(w, p, 769.0 / 17280.0);
    w = fma(w, p, -43.0 / 540.0);
    w = fma(w, p, 11.0 / 72.0);
    w = fma(w, p, -1.0 / 3.0);
    w = fma(w, p, 1.0);
    w = fma(w, p, -1.0);
    if (p < 0.01) return w;
    const double x = -exp(excess - 1.0);
#pragma unroll 1
    for (int i = 0; i < 4; ++i) {
        const double power = exp(w);
        const double f = w * power - x;
        w -= f / (power * (w + 1.0) - (w + 2.0) * f / (2.0 * w + 2.0));
    }
    return w;
}

// When, in units of the membrane's time constant, an undisturbed neuron reaches the threshold from below, and e to the
// minus that; negative: never. In double precision: close to a tangent, single has no digit left of the discriminant.
template <bool EQUAL>
__device__ inline double crossing(double i, double u, double threshold, double& remains) {
    const double rise = i - u;
    const double gap = threshold - u;
    if (!(i > 0.0 && rise > 0.0)) return -1.0;
    remains = 1.0;
    if (gap <= 0.0) return 0.0;
    if constexpr (EQUAL) {
        const double excess = log(threshold / i) - u / i + 1.0;
        if (excess > 0.0) return -1.0;
        const double sigma = fmax(-lambert_w(excess) - u / i, 0.0);
        remains = exp(-sigma);
        return sigma;
    } else {
        const double square = rise * rise - 4.0 * i * gap;
        if (square < 0.0 || i + u <= 0.0) return -1.0;
        const double gone = 2.0 * gap / (rise + sqrt(square));
        remains = 1.0 - gone;
        return -log1p(-gone);
    }
}

template <bool EQUAL>
__device__ inline void spike_times_forward(const float* times_ms, const long long* index, const long long* offsets,
                                           const float* weight, const double* gaps, const float* factors,
                                           long long n_events, long long n_out, long long max_spikes, float tau_ms,
                                           float threshold, float reset, float duration_ms, float* found, int* after,
                                           float* left, float* slope, int* count, int* truncated) {
    const auto [sample, neuron] = this_place(n_out);
    if (neuron >= n_out) return;
    const float* kept = factors;
    const float* fed = factors + n_events;
    const float* kept_current = factors + 2 * n_events;
    const long long end = offsets[sample + 1];
    const long long first = sample * max_spikes * n_out + neuron;
    float current = 0.0f;
    float potential = 0.0f;
    int n = 0;
    bool ended = false;
    for (long long e = offsets[sample]; e < end && !ended; e += AHEAD) {
        float w[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; ++k) w[k] = weight[index[min(e + k, end - 1)] * n_out + neuron];
#pragma unroll
        for (int k = 0; k < AHEAD; ++k) {
            const long long event = e + k;
            if (event >= end || ended) break;
            if (times_ms[event] >= duration_ms) {
                ended = true;
                break;
            }
            current += w[k];
            float next = fmaf(current, fed[event], potential * kept[event]);
            const float left_current = current * kept_current[event];
            // Above the threshold at the end, or a peak on the way: its height is at most i^2 / (2 i - u).
            if (next >= threshold || (current > potential && left_current <= next &&
                                      current * current >= threshold * (2.0f * current - potential))) {
                double u = potential;
                double fired_at = -1.0;
                while (true) {
                    double remains = 1.0;
                    const double sigma = crossing<EQUAL>(current, u, threshold, remains);
                    if (!(sigma > fired_at && sigma <= gaps[event])) break;
                    if (n == max_spikes) {
                        ended = true;
                        truncated[sample * n_out + neuron] = 1;
                        break;
                    }
                    const long long at = first + n * n_out;
                    found[at] = fminf(static_cast<float>(times_ms[event] + tau_ms * sigma), duration_ms);
                    after[at] = static_cast<int>(event);
                    left[at] = static_cast<float>(remains);
                    slope[at] = static_cast<float>(current * (EQUAL ? remains : remains * remains) - threshold);
                    ++n;
                    // The reset decays as the potential does: at the event, it would have been this much.
                    u -= reset / remains;
                    fired_at = sigma;
                }
                next = fmaf(current, fed[event], static_cast<float>(u) * kept[event]);
            }
            potential = next;
            current = left_current;
        }
    }
    count[sample * n_out + neuron] = n;
}

// Walks back with p and s: -tau D/v of later spikes, summed with the response and with the current that a unit weight
// leaves. The sum with e^-s, which resets ask for, is that of both, or for equal time constants the latter alone.
template <bool EQUAL>
__device__ inline void spike_times_backward(const long long* index, const long long* offsets, const float* weight,
                                            const float* factors, long long n_events, long long n_out,
                                            long long max_spikes, float tau_ms, float reset, float min_slope,
                                            const float* grad_found, const int* after, const float* left,
                                            const float* slope, const int* count, float* of_weights, float* of_times) {
    const auto [sample, neuron] = this_place(n_out);
    if (neuron >= n_out) return;
    const float* kept = factors;
    const float* fed = factors + n_events;
    const float* kept_current = factors + 2 * n_events;
    long long k = count[sample * n_out + neuron] - 1;
    long long at = (sample * max_spikes + k) * n_out + neuron;
    float p = 0.0f;
    float s = 0.0f;
    for (long long e = offsets[sample + 1] - 1; e >= offsets[sample]; --e) {
        const float response = fmaf(s, fed[e], p * kept[e]);
        s *= kept_current[e];
        p = response;
        for (; k >= 0 && after[at] == e; --k, at -= n_out) {
            const float remains = left[at];
            const float later = EQUAL ? s : p + s;
            const float total = grad_found[at] - reset / tau_ms * later / remains;
            const float r = -tau_ms * total / fmaxf(slope[at], min_slope);
            if constexpr (EQUAL) {
                p += r * (-logf(remains) * remains);
                s += r * remains;
            } else {
                p += r * (remains - remains * remains);
                s += r * remains * remains;
            }
        }
        of_weights[e * n_out + neuron] = p;
        if (of_times != nullptr) of_times[e * n_out + neuron] = weight[index[e] * n_out + neuron] * (s - p);
    }
}

#define KERNELS(NAME, EQUAL)                                                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS_PER_BLOCK)                                                  \
    spike_times_forward_##NAME(const float* times_ms, const long long* index, const long long* offsets,              \
                               const float* weight, const double* gaps, const float* factors, long long n_events,    \
                               long long n_out, long long max_spikes, float tau_ms, float threshold, float reset,    \
                               float duration_ms, float* found, int* after, float* left, float* slope, int* count,   \
                               int* truncated) {                                                                     \
        spike_times_forward<EQUAL>(times_ms, index, offsets, weight, gaps, factors, n_events, n_out, max_spikes,     \
                                   tau_ms, threshold, reset, duration_ms, found, after, left, slope, count,          \
                                   truncated);                                                                       \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(THREADS_PER_BLOCK)                                                  \
    spike_times_backward_##NAME(const long long* index, const long long* offsets, const float* weight,               \
                                const float* factors, long long n_events, long long n_out, long long max_spikes,     \
                                float tau_ms, float reset, float min_slope, const float* grad_found,                 \
                                const int* after, const float* left, const float* slope, const int* count,           \
                                float* of_weights, float* of_times) {                                                \
        spike_times_backward<EQUAL>(index, offsets, weight, factors, n_events, n_out, max_spikes, tau_ms, reset,     \
                                    min_slope, grad_found, after, left, slope, count, of_weights, of_times);         \
    }

KERNELS(twice, false)
KERNELS(equal, true)

// Adds up what each input's events have for its weights, in their order, so that bits are the same every time.
extern "C" __global__ void __launch_bounds__(THREADS_PER_BLOCK)
spike_times_gather(const long long* by_input, const long long* ends, const float* of_weights, long long n_out,
                   float* grad_weight) {
    const auto [input, neuron] = this_place(n_out);
    if (neuron >= n_out) return;
    float sum = 0.0f;
    for (long long i = input == 0 ? 0 : ends[input - 1]; i < ends[input]; ++i) {
        sum += of_weights[by_input[i] * n_out + neuron];
    }
    grad_weight[input * n_out + neuron] = sum;
}
