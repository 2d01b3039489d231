// The recursion of alpha.py: P = sum r^k x[t-k], Q = sum k r^k x[t-k] over the samples of one alpha function.
#pragma once

struct Recursion {
    float leak, gain;
    long long taps;  // steps from which on inputs are forgotten
    float oldest, oldest_ramp;
};

struct AlphaState {
    float p = 0.0f, q = 0.0f;

    // Take out what is about to become older than the kernel is long.
    __device__ void forget(const Recursion& r, float gone) {
        p = fmaf(-r.oldest, gone, p);
        q = fmaf(-r.oldest_ramp, gone, q);
    }

    // Let a step's time pass; returns the filtered signal.
    __device__ float pass_time(const Recursion& r) {
        q += p;
        q = fmaf(-r.leak, q, q);
        p = fmaf(-r.leak, p, p);
        return r.gain * q;
    }

    __device__ void take_in(float x) { p += x; }
};
