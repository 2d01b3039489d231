// CUDA's words for a host compiler: blocks and threads of a kernel run one after the other. For kernels without
// barriers, shuffles and shared memory; one that uses them does not compile.
#pragma once
#include <algorithm>
#include <cmath>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __launch_bounds__(...)

using std::min;
inline float __fdividef(float a, float b) { return a / b; }

struct Index {
    unsigned x;
};
static Index threadIdx, blockIdx;

namespace shim {

template <class T>
constexpr char code() {
    if (std::is_pointer_v<T>) return 'p';
    if (std::is_same_v<T, long long>) return 'i';
    if (std::is_same_v<T, float>) return 'f';
    return '?';
}

template <class... Parameters, std::size_t... I>
void run(void (*kernel)(Parameters...), unsigned blocks, unsigned threads, void** arguments,
         std::index_sequence<I...>) {
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {
        for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) {
            kernel(*static_cast<Parameters*>(arguments[I])...);
        }
    }
}

// As cuLaunchKernel, which takes addresses of arguments, too; but their kinds are checked. Returns whether they fit.
template <class... Parameters>
bool launch(void (*kernel)(Parameters...), unsigned blocks, unsigned threads, const char* codes, void** arguments) {
    const char expected[] = {code<Parameters>()..., '\0'};
    for (std::size_t i = 0; i < sizeof(expected); ++i) {
        if (codes[i] != expected[i]) return false;
    }
    run(kernel, blocks, threads, arguments, std::index_sequence_for<Parameters...>{});
    return true;
}

}  // namespace shim
