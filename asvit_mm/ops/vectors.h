// Vector registers of floats, for the C++ of this folder.

#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace {

template <int WIDTH> struct Vector { typedef float type __attribute__((vector_size(WIDTH * 4))); };
template <int WIDTH> using Floats = typename Vector<WIDTH>::type;

// Floats of a register.
#if defined(__AVX512F__)
constexpr int WIDTH = 16;
#elif defined(__AVX__)
constexpr int WIDTH = 8;
#else
constexpr int WIDTH = 4;
#endif

typedef Floats<WIDTH> Lanes;

template <int W> inline Floats<W> load(const float* from) {
    Floats<W> x;
    std::memcpy(&x, from, sizeof x);
    return x;
}
template <int W> inline void store(float* to, Floats<W> x) { std::memcpy(to, &x, sizeof x); }
inline Lanes load(const float* from) { return load<WIDTH>(from); }
inline void store(float* to, Lanes x) { store<WIDTH>(to, x); }
inline Lanes all(float x) { return x - Lanes{}; }

// The larger of two numbers; b where either is none. Where one is a constant, compilers make two instructions of it.
inline Lanes larger(Lanes a, Lanes b) {
#if defined(__AVX512F__)
    return _mm512_max_ps(a, b);
#elif defined(__AVX__)
    return _mm256_max_ps(a, b);
#else
    return a > b ? a : b;
#endif
}

// 2^x of x < 127, to 2 units in the last place; no less than 2^-126. What is no number stays none.
inline Lanes power_of_two(Lanes x) {
    typedef int32_t Integers __attribute__((vector_size(WIDTH * 4)));
    x = larger(all(-126.0f), x);
    const Lanes shifted = x + (12582912.0f + 127.0f);  // 1.5 * 2^23: its last bits are x rounded, and 127
    const Lanes f = x - (shifted - (12582912.0f + 127.0f));
    Lanes y = all(1.535336188319500e-4f);  // Taylor's series of 2^f, its rest spread over [-1/2, 1/2]
    y = y * f + 1.339887440266574e-3f;
    y = y * f + 9.618437357674640e-3f;
    y = y * f + 5.550332471162809e-2f;
    y = y * f + 2.402264791363012e-1f;
    y = y * f + 6.931472028550421e-1f;
    y = y * f + 1.0f;
    Integers bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits <<= 23;  // the exponent of a number
    Lanes power;
    std::memcpy(&power, &bits, sizeof power);
    return y * power;
}

#if defined(__AVX__)
// 8 rows of 8 floats to columns, times factor.
inline void transpose_8x8(const float* in, int64_t in_row, float factor, float* out, int64_t out_row) {
    __m256 x[8], y[8];
    for (int i = 0; i < 8; i++) x[i] = _mm256_mul_ps(_mm256_loadu_ps(in + i * in_row), _mm256_set1_ps(factor));
    for (int i = 0; i < 8; i += 2) {
        y[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
        y[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            x[i + 2 * j] = _mm256_shuffle_ps(y[i + j], y[i + j + 2], 0x44);
            x[i + 2 * j + 1] = _mm256_shuffle_ps(y[i + j], y[i + j + 2], 0xee);
        }
    for (int j = 0; j < 4; j++) {
        _mm256_storeu_ps(out + j * out_row, _mm256_permute2f128_ps(x[j], x[j + 4], 0x20));
        _mm256_storeu_ps(out + (j + 4) * out_row, _mm256_permute2f128_ps(x[j], x[j + 4], 0x31));
    }
}
#endif

}  // namespace
