// The curves of surrogate.py, each with value 1 at z = 0. None becomes NaN where an intermediate overflows, and all but
// the rectangle pass a NaN on, as there.
#pragma once

// To a unit in the last place, without the branch that the last half of it would cost each step.
__device__ inline float reciprocal(float x) { return __fdividef(1.0f, x); }

struct Arctan {
    __device__ static float curve(float z) { return reciprocal(fmaf(z, z, 1.0f)); }
};

struct Exponential {
    __device__ static float curve(float z) { return expf(-fabsf(z)); }
};

struct FastSigmoid {
    __device__ static float curve(float z) {
        const float r = reciprocal(1.0f + fabsf(z));
        return r * r;
    }
};

struct Gaussian {
    __device__ static float curve(float z) { return expf(-0.5f * z * z); }
};

struct Logistic {
    // 4 s(z) (1 - s(z)) by the exponential that cannot overflow
    __device__ static float curve(float z) {
        const float e = expf(-fabsf(z));
        const float r = reciprocal(1.0f + e);
        return 4.0f * e * r * r;
    }
};

struct Rectangular {
    __device__ static float curve(float z) { return fabsf(z) < 0.5f ? 1.0f : 0.0f; }
};

struct Triangular {
    __device__ static float curve(float z) {
        const float h = 1.0f - fabsf(z);
        return h < 0.0f ? 0.0f : h;
    }
};
