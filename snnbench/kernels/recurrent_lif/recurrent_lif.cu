// A recurrent layer of LIF neurons: the equations of snnbench.kernels.recurrent_lif, in one pass each way. A block takes
// one sample through all steps; its threads share the layer's neurons among them and wait for each other once a step.
// What every neuron must know of the others lies in shared memory, twice: that of the step before is read while that of
// this step is written. Resets and paths of the gradient are numbers, as in synaptic_lif.cu.
#include "surrogate.cuh"

// As in cuda.py.
constexpr int THREADS = 256;
constexpr int MOST_NEURONS = 4096;

constexpr unsigned WARP = 32, WHOLE_WARP = 0xffffffffu;

// membrane: null where there will be no backward pass; may be the current, which it then overwrites. from_neuron: the
// weights, a row for each neuron that they come from.
extern "C" __global__ void __launch_bounds__(THREADS)
recurrent_lif_forward(const float* current, long long current_stride, const float* from_neuron, float* spikes,
                      float* membrane, long long n_steps, long long n_samples, long long n_neurons, float decay,
                      float scale, float shift, float threshold) {
    __shared__ float left[MOST_NEURONS];  // what a step leaves of a membrane to the next one; a thread's own
    __shared__ unsigned fired[2][MOST_NEURONS / WARP];  // a bit a neuron
    const int n = static_cast<int>(n_neurons), n_words = (n + WARP - 1) / WARP;
    const int lane = threadIdx.x % WARP;
    for (int j = threadIdx.x; j < n; j += THREADS) left[j] = 0.0f;
    for (int word = threadIdx.x; word < n_words; word += THREADS) fired[1][word] = 0;
    __syncthreads();
    for (long long t = 0; t < n_steps; ++t) {
        const unsigned* before = fired[(t + 1) % 2];
        const float* now = current + t * current_stride + blockIdx.x * n_neurons;
        const long long row = (t * n_samples + blockIdx.x) * n_neurons;
        // Whole warps go together, beyond the last neuron as well: they vote.
        for (int j = threadIdx.x; j - lane < n; j += THREADS) {
            bool fires = false;
            if (j < n) {
                float heard = 0.0f;
                for (int word = 0; word < n_words; ++word) {
                    for (unsigned bits = before[word]; bits != 0; bits &= bits - 1) {
                        const long long from = word * WARP + __ffs(bits) - 1;
                        heard += from_neuron[from * n_neurons + j];
                    }
                }
                const float u = now[j] + left[j] + heard;
                fires = u >= threshold;
                left[j] = fires ? fmaf(scale, u, -shift) : decay * u;
                spikes[row + j] = fires ? 1.0f : 0.0f;
                if (membrane != nullptr) membrane[row + j] = u;
            }
            const unsigned votes = __ballot_sync(WHOLE_WARP, fires);
            if (lane == 0) fired[t % 2][j / WARP] = votes;
        }
        __syncthreads();
    }
}

template <class Surrogate>
__device__ inline void recurrent_lif_backward(const float* grad_spikes, long long grad_spikes_stride,
                                              const float* membrane, const float* to_neuron, float* grad_current,
                                              long long n_steps, long long n_samples, long long n_neurons,
                                              float carried, float carried_after_spike, float slope, float offset,
                                              float threshold, float inverse_width, float peak) {
    __shared__ float deltas[2][MOST_NEURONS];
    const int n = static_cast<int>(n_neurons);
    for (int j = threadIdx.x; j < n; j += THREADS) deltas[n_steps % 2][j] = 0.0f;
    __syncthreads();
    for (long long t = n_steps - 1; t >= 0; --t) {
        const float* later = deltas[(t + 1) % 2];
        const float* g = grad_spikes + t * grad_spikes_stride + blockIdx.x * n_neurons;
        const long long row = (t * n_samples + blockIdx.x) * n_neurons;
        for (int j = threadIdx.x; j < n; j += THREADS) {
            float arriving = 0.0f;
#pragma unroll 8
            for (int to = 0; to < n; ++to) arriving = fmaf(later[to], to_neuron[to * n_neurons + j], arriving);
            const float u = membrane[row + j];
            const float h = peak * Surrogate::curve((u - threshold) * inverse_width);
            const float jacobian = fmaf(-h, fmaf(slope, u, offset), u >= threshold ? carried_after_spike : carried);
            const float delta = fmaf(h, g[j] + arriving, jacobian * later[j]);
            deltas[t % 2][j] = delta;
            grad_current[row + j] = delta;
        }
        __syncthreads();
    }
}

// to_neuron: the weights, a row for each neuron that they lead to.
#define BACKWARD(NAME, SURROGATE)                                                                                    \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                            \
    recurrent_lif_backward_##NAME(const float* grad_spikes, long long grad_spikes_stride, const float* membrane,     \
                                  const float* to_neuron, float* grad_current, long long n_steps,                    \
                                  long long n_samples, long long n_neurons, float carried,                           \
                                  float carried_after_spike, float slope, float offset, float threshold,             \
                                  float inverse_width, float peak) {                                                 \
        recurrent_lif_backward<SURROGATE>(grad_spikes, grad_spikes_stride, membrane, to_neuron, grad_current,        \
                                          n_steps, n_samples, n_neurons, carried, carried_after_spike, slope,        \
                                          offset, threshold, inverse_width, peak);                                   \
    }

BACKWARD(arctan, Arctan)
BACKWARD(exponential, Exponential)
BACKWARD(fast_sigmoid, FastSigmoid)
BACKWARD(gaussian, Gaussian)
BACKWARD(logistic, Logistic)
BACKWARD(rectangular, Rectangular)
BACKWARD(triangular, Triangular)
