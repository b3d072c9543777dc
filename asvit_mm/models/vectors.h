// Vector registers of floats, for the C++ of this folder.

#pragma once

#include <cstdint>
#include <cstring>

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

// 2^x of x < 127, to 2 units in the last place; no less than 2^-126. What is no number stays none.
inline Lanes power_of_two(Lanes x) {
    typedef int32_t Integers __attribute__((vector_size(WIDTH * 4)));
    const Lanes least = all(-126.0f);
    x = least > x ? least : x;
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

}  // namespace
