// GELU of float32 numbers on a CPU, alone or with its derivative in the same pass, for asvit_mm/models/gelu.py.
//
// GELU(x) = x P(x) and its derivative is P(x) + x p(x), for the probability P and the density p of the standard
// normal distribution (arXiv 1606.08415).

#include "../ops/vectors.h"

namespace {

// Some numbers, at most a register, and zeros beyond.
inline Lanes load_some(const float* from, int64_t count) {
    if (count >= WIDTH) return load(from);
    Lanes x{};
    std::memcpy(&x, from, count * sizeof(float));
    return x;
}
inline void store_some(float* to, Lanes x, int64_t count) {
    if (count >= WIDTH) return store(to, x);
    std::memcpy(to, &x, count * sizeof(float));
}

// x, or the end of [-most, most] that is nearer. What is no number stays none.
inline Lanes bounded(Lanes x, float most) {
    x = x > most ? all(most) : x;
    return x < -most ? all(-most) : x;
}

// P(x) = (1 + erf(x / sqrt(2))) / 2, in [0, 1]. For |x| <= MOST, erf(x / sqrt(2)) = x N(x^2) / D(x^2) to 5e-8 of it,
// rounding apart: a quotient of polynomials fitted by least squares, weights raised where the error was largest.
// Beyond, P is within 2e-8 of 0 or 1, which are taken for it.
inline Lanes probability(Lanes x) {
    constexpr float MOST = 5.5154f;
    const Lanes inside = bounded(x, MOST), square = inside * inside;
    Lanes n = all(4.566342723970647e-8f);
    n = n * square + 1.2597884548095586e-5f;
    n = n * square + 3.3041184059220854e-4f;
    n = n * square + 9.31040195138323e-3f;
    n = n * square + 6.705605801333782e-2f;
    n = n * square + 7.978845471223839e-1f;
    Lanes d = all(1.1959361582274833e-6f);
    d = d * square + 7.233341821469444e-5f;
    d = d * square + 1.8642444106157668e-3f;
    d = d * square + 2.845435906027347e-2f;
    d = d * square + 2.507086969655114e-1f;
    d = d * square + 1.0f;
    const Lanes p = 0.5f * bounded(inside * (n / d), 1.0f) + 0.5f;
    return x < -MOST ? Lanes{} : p;
}

// x p(x) = x exp(-x^2 / 2) / sqrt(2 pi). From 14 on it is less than float32 can tell from 0.
inline Lanes times_density(Lanes x) {
    x = bounded(x, 14.0f);
    return 3.989422804014327e-1f * x * power_of_two(-7.213475204444817e-1f * x * x);
}

}  // namespace

// out = GELU(x). Both return true: there is nothing that they could run out of.
extern "C" bool gelu(const float* x, float* out, int64_t count, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < count; i += WIDTH) {
        const Lanes at = load_some(x + i, count - i);
        store_some(out + i, at * probability(at), count - i);
    }
    return true;
}

// out = GELU(x), and grad, that of out, becomes that of x.
extern "C" bool gelu_backward(const float* x, float* grad, float* out, int64_t count, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < count; i += WIDTH) {
        const Lanes at = load_some(x + i, count - i), p = probability(at);
        store_some(out + i, at * p, count - i);
        store_some(grad + i, load_some(grad + i, count - i) * (p + times_density(at)), count - i);
    }
    return true;
}
