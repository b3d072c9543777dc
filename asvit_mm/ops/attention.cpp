// Softmax attention of float32 heads on a CPU, forward and backward, for asvit_mm/ops/attention.py.
//
// A block of queries lies side by side in vector registers and each of its scores in a lane of its own, so
// that the softmax needs no sum across lanes and a head of any width wastes none. Scores exist for one block
// of keys at a time, and are computed again in the backward pass (FlashAttention, arXiv 2205.14135).
//
// Arrays are contiguous: qkv and its gradient (batch, tokens, 3, heads, dim); out and its gradient (batch,
// tokens, heads, dim); log_sums, the logarithm to base 2 of each softmax's denominator, (batch, heads, tokens);
// seen, whether a key may be attended to, (batch, tokens), at least one of each row, or null: all of them.

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <memory>
#include <new>

#include <omp.h>

#include "vectors.h"

namespace {

// Registers that a tile of ROWS rows may be wide so that its sums stay in registers.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int TILE = 4;
#else
constexpr int TILE = 2;
#endif
constexpr int ROWS = 6;
constexpr int QUERIES = 64;  // of a block: a multiple of a tile's floats
// Keys of a block, at most: its scores by a tile's queries (forward) or by all of a block's (backward) fit the
// first cache.
constexpr int FORWARD_KEYS = TILE * WIDTH > 16 ? 96 : 192, BACKWARD_KEYS = 96;
constexpr int NARROW = std::min(WIDTH, 8);  // registers of gradients by rows of a head: fewer lanes idle

// A matrix in memory, by the distance of its rows and of its columns.
struct Matrix {
    const float* data;
    int64_t row, column;
    Matrix below(int64_t rows) const { return {data + rows * row, row, column}; }
    Matrix transposed() const { return {data, column, row}; }
};

// out (rows x V registers) = a (rows x depth) b (depth x V registers), or added to what is there, R rows at a time;
// largest, unless it is null, becomes the larger of itself and its column of out. Inlined, the sums would not stay in
// registers; the loop over the depth is unrolled, since instructions that count take time from those that multiply.
template <int W, int R, int V, bool ADD>
__attribute__((noinline)) void multiply_tiles(Matrix a, int64_t rows, const float* b, int64_t b_row, float* out,
                                              int64_t out_row, int64_t depth, Floats<W>* largest) {
    const float* a_first = a.data;
    for (; rows >= R; rows -= R, a_first += R * a.row, out += R * out_row) {
        Floats<W> sums[R][V];
#pragma GCC unroll 8
        for (int r = 0; r < R; r++)
#pragma GCC unroll 8
            for (int v = 0; v < V; v++)
                sums[r][v] = ADD ? load<W>(out + r * out_row + v * W) : Floats<W>{};
        const float *a_k = a_first, *b_k = b;
#pragma GCC unroll 4
        for (int64_t k = 0; k < depth; k++, a_k += a.column, b_k += b_row) {
            Floats<W> right[V];
#pragma GCC unroll 8
            for (int v = 0; v < V; v++) right[v] = load<W>(b_k + v * W);
#pragma GCC unroll 8
            for (int r = 0; r < R; r++)
#pragma GCC unroll 8
                for (int v = 0; v < V; v++) sums[r][v] += a_k[r * a.row] * right[v];
        }
        if (largest)
#pragma GCC unroll 8
            for (int v = 0; v < V; v++) {
                Floats<W> most = largest[v];
#pragma GCC unroll 8
                for (int r = 0; r < R; r++) most = sums[r][v] > most ? sums[r][v] : most;
                largest[v] = most;
            }
#pragma GCC unroll 8
        for (int r = 0; r < R; r++)
#pragma GCC unroll 8
            for (int v = 0; v < V; v++) store<W>(out + r * out_row + v * W, sums[r][v]);
    }
}

template <int W, int V, bool ADD, int R = ROWS>
inline void multiply_rows(Matrix a, int64_t rows, const float* b, int64_t b_row, float* out, int64_t out_row,
                          int64_t depth, Floats<W>* largest = nullptr) {
    if (rows >= R) multiply_tiles<W, R, V, ADD>(a, rows, b, b_row, out, out_row, depth, largest);
    const int64_t done = rows / R * R;
    if constexpr (R > 1)
        if (done < rows)
            multiply_rows<W, V, ADD, R - 1>(a.below(done), rows - done, b, b_row, out + done * out_row, out_row,
                                            depth, largest);
}

// out (rows x columns) = a (rows x depth) b (depth x columns), or added to it; columns a multiple of W.
template <int W, bool ADD>
void multiply(Matrix a, int64_t rows, const float* b, int64_t b_row, float* out, int64_t out_row, int64_t columns,
              int64_t depth) {
    // Three registers at once, of fewer rows, rather than two and one: heads of 17 to 24 floats.
    if (TILE == 2 && columns == 3 * W) return multiply_rows<W, 3, ADD, 4>(a, rows, b, b_row, out, out_row, depth);
    for (; columns >= TILE * W; columns -= TILE * W, b += TILE * W, out += TILE * W)
        multiply_rows<W, TILE, ADD>(a, rows, b, b_row, out, out_row, depth);
    static_assert(TILE <= 4);
    switch (columns / W) {
        case 3: return multiply_rows<W, std::min(3, TILE), ADD>(a, rows, b, b_row, out, out_row, depth);
        case 2: return multiply_rows<W, 2, ADD>(a, rows, b, b_row, out, out_row, depth);
        case 1: return multiply_rows<W, 1, ADD>(a, rows, b, b_row, out, out_row, depth);
    }
}

inline int64_t up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// Memory of one thread, handed out in pieces that begin at a cache line; without any, it counts what is asked for.
class Memory {
    float* base;

public:
    int64_t used = 0;
    explicit Memory(float* base = nullptr) : base(base) {}
    float* take(int64_t size) {
        float* taken = base ? base + used : nullptr;
        used += up(size, 16);
        return taken;
    }
};

// Of all threads; none where there is not enough.
class Memories {
    int64_t each;
    std::unique_ptr<float[]> floats;

public:
    Memories(const Memory& counted, int threads)
        : each(counted.used), floats(new (std::nothrow) float[each * threads + 16]) {}
    explicit operator bool() const { return floats != nullptr; }
    Memory of_this_thread() const {
        float* first = reinterpret_cast<float*>(up(reinterpret_cast<intptr_t>(floats.get()), 64));
        return Memory(first + each * omp_get_thread_num());
    }
};

// out (columns, rows) = factor times in (rows, columns), each from one row to the next by its own distance.
inline void transpose(const float* in, int64_t in_row, int64_t rows, int64_t columns, float factor, float* out,
                      int64_t out_row) {
    int64_t first = 0;
#if defined(__AVX__)
    for (; rows - first >= 8 && columns >= 8; first += 8)
        for (int64_t j = 0; j < columns; j += 8) {
            const int64_t c = std::min(j, columns - 8);  // the last ones over some of those before
            transpose_8x8(in + first * in_row + c, in_row, factor, out + c * out_row + first, out_row);
        }
#endif
    for (int64_t i = first; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) out[j * out_row + i] = factor * in[i * in_row + j];
}

// The same of a block of queries, in rows of QUERIES. Beyond the last any number would do, but zeros are never slow.
inline void transpose_queries(Matrix in, int64_t queries, int64_t dim, float factor, float* out) {
    for (int64_t j = 0; j < dim; j++) std::fill(out + j * QUERIES + queries, out + (j + 1) * QUERIES, 0.0f);
    transpose(in.data, in.row, queries, dim, factor, out, QUERIES);
}

inline void copy(const float* from, int64_t size, float* to) {
    if (size < NARROW) return void(std::copy_n(from, size, to));
    for (int64_t j = 0; j < size - NARROW; j += NARROW) store<NARROW>(to + j, load<NARROW>(from + j));
    store<NARROW>(to + size - NARROW, load<NARROW>(from + size - NARROW));  // over some of the one before
}

// Rows of a width that registers like: out (rows, width) = in (rows, dim) and zeros beyond.
inline void widen(Matrix in, int64_t rows, int64_t dim, float* out, int64_t width) {
    for (int64_t i = 0; i < rows; i++) {
        copy(in.data + i * in.row, dim, out + i * width);
        std::fill(out + i * width + dim, out + (i + 1) * width, 0.0f);
    }
}

// Of rows whose length is a multiple of a register.
inline float dot(const float* a, const float* b, int64_t size) {
    Floats<NARROW> sums{};
    for (int64_t j = 0; j < size; j += NARROW) sums += load<NARROW>(a + j) * load<NARROW>(b + j);
    float sum = 0.0f;
    for (int i = 0; i < NARROW; i++) sum += sums[i];
    return sum;
}

struct Shape {
    int64_t batch, tokens, heads, dim;
    float scale;
    int64_t head(int64_t b, int64_t h) const { return b * tokens * heads * dim + h * dim; }
    int64_t part(int64_t b, int64_t h, int64_t which) const { return 3 * head(b, 0) + (which * heads + h) * dim; }
    Matrix rows(const float* out) const { return {out, heads * dim, 1}; }
    Matrix parts(const float* qkv) const { return {qkv, 3 * heads * dim, 1}; }
    bool sees(const bool* seen, int64_t b, int64_t key) const { return !seen || seen[b * tokens + key]; }
};

constexpr float LOG2_E = 1.4426950408889634f;

// Keys and values of a head that may be attended to, side by side, each (count, dim): every block of queries reads
// all of them, and in qkv they lie too far apart for the caches.
struct Keys {
    float *k, *v;
    int64_t count = 0;
    Keys(const Shape& shape, Memory& memory)
        : k(memory.take(shape.tokens * shape.dim)), v(memory.take(shape.tokens * shape.dim)) {}
    void pack(const Shape& shape, const float* qkv, const bool* seen, int64_t b, int64_t h) {
        const Matrix from_k = shape.parts(qkv + shape.part(b, h, 1)), from_v = shape.parts(qkv + shape.part(b, h, 2));
        count = 0;
        for (int64_t t = 0; t < shape.tokens; t++) {
            if (!shape.sees(seen, b, t)) continue;
            copy(from_k.below(t).data, shape.dim, k + count * shape.dim);
            copy(from_v.below(t).data, shape.dim, v + count * shape.dim);
            count++;
        }
    }
    // Of a block of ``most``, at most: about equally many in each, whole tiles of rows.
    int64_t block(int64_t most) const {
        const int64_t blocks = (count + most - 1) / most;
        return blocks ? up((count + blocks - 1) / blocks, ROWS) : 0;
    }
};

struct ForwardMemory {
    Keys keys;
    float *queries_t, *scores, *sums_t, *largest, *total;
    ForwardMemory(const Shape& shape, Memory& memory)
        : keys(shape, memory),
          queries_t(memory.take(shape.dim * QUERIES)),
          scores(memory.take(FORWARD_KEYS * TILE * WIDTH)),
          sums_t(memory.take(shape.dim * QUERIES)),
          largest(memory.take(QUERIES)),
          total(memory.take(QUERIES)) {}
};

// A block of keys for the queries from c on, in strips of V registers, whose scores stay in the first cache: weights
// are relative to the largest score so far, and so are their total and the sums of values by them.
template <int V = TILE>
void forward_strips(const ForwardMemory& at, int64_t dim, int64_t first, int64_t keys, int64_t c, int64_t columns) {
    const Matrix k{at.keys.k + first * dim, dim, 1}, values{at.keys.v + first * dim, 1, dim};
    for (; columns - c >= V * WIDTH; c += V * WIDTH) {
        Lanes top[V], sum[V];
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) top[v] = load(at.largest + c + v * WIDTH);
        multiply_rows<WIDTH, V, false>(k, keys, at.queries_t + c, QUERIES, at.scores, V * WIDTH, dim, top);
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) {
            const Lanes shrink = power_of_two(load(at.largest + c + v * WIDTH) - top[v]);
            sum[v] = load(at.total + c + v * WIDTH) * shrink;
            for (float* row = at.sums_t + c + v * WIDTH; row < at.sums_t + dim * QUERIES; row += QUERIES)
                store(row, load(row) * shrink);
        }
        for (float* row = at.scores; row < at.scores + keys * V * WIDTH; row += V * WIDTH)
#pragma GCC unroll 8
            for (int v = 0; v < V; v++) {
                const Lanes weight = power_of_two(load(row + v * WIDTH) - top[v]);
                store(row + v * WIDTH, weight);
                sum[v] += weight;
            }
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) {
            store(at.largest + c + v * WIDTH, top[v]);
            store(at.total + c + v * WIDTH, sum[v]);
        }
        multiply_rows<WIDTH, V, true>(values, dim, at.scores, V * WIDTH, at.sums_t + c, QUERIES, keys);
    }
    if constexpr (V > 1)
        if (c < columns) forward_strips<V - 1>(at, dim, first, keys, c, columns);
}

void forward_block(const Shape& shape, const float* qkv, int64_t b, int64_t h, int64_t start, const ForwardMemory& at,
                   float* out, float* log_sums) {
    const int64_t dim = shape.dim, queries = std::min<int64_t>(QUERIES, shape.tokens - start);
    const Matrix q = shape.parts(qkv + shape.part(b, h, 0)).below(start);
    transpose_queries(q, queries, dim, shape.scale * LOG2_E, at.queries_t);
    std::fill_n(at.sums_t, dim * QUERIES, 0.0f);
    std::fill_n(at.largest, QUERIES, -FLT_MAX);  // finite: it is taken from scores
    std::fill_n(at.total, QUERIES, 0.0f);
    for (int64_t first = 0, keys; first < at.keys.count; first += keys) {
        keys = std::min(at.keys.block(FORWARD_KEYS), at.keys.count - first);
        forward_strips(at, dim, first, keys, 0, up(queries, WIDTH));
    }
    for (int64_t i = 0; i < queries; i++) {
        // Where no score is above the least, there is nothing to weigh by.
        const float inverse = at.largest[i] > -FLT_MAX ? 1.0f / at.total[i] : NAN;
        log_sums[(b * shape.heads + h) * shape.tokens + start + i] = at.largest[i] - std::log2(inverse);
        at.total[i] = inverse;
    }
    for (float* row = at.sums_t; row < at.sums_t + dim * QUERIES; row += QUERIES)
        for (int64_t c = 0; c < queries; c += WIDTH) store(row + c, load(row + c) * load(at.total + c));
    transpose(at.sums_t, QUERIES, dim, queries, 1.0f, out + shape.head(b, h) + start * shape.heads * dim,
              shape.heads * dim);
}

struct BackwardMemory {
    Keys keys;
    int64_t wide;  // floats from one row to the next of what is wide
    float *queries_t, *grads_t, *queries_wide, *grads_wide, *outs_wide, *weights, *of_scores, *of_queries_t;
    float *sums, *offsets, *of_k, *of_v;
    BackwardMemory(const Shape& shape, Memory& memory)
        : keys(shape, memory),
          wide(up(shape.dim, NARROW)),
          queries_t(memory.take(shape.dim * QUERIES)),
          grads_t(memory.take(shape.dim * QUERIES)),
          queries_wide(memory.take(wide * QUERIES)),
          grads_wide(memory.take(wide * QUERIES)),
          outs_wide(memory.take(wide * QUERIES)),
          weights(memory.take(BACKWARD_KEYS * QUERIES)),
          of_scores(memory.take(BACKWARD_KEYS * QUERIES)),
          of_queries_t(memory.take(shape.dim * QUERIES)),
          sums(memory.take(QUERIES)),
          offsets(memory.take(QUERIES)),
          of_k(memory.take(shape.tokens * wide)),
          of_v(memory.take(shape.tokens * wide)) {}
};

// With p = softmax(s), s = scale q k': gradients of v = p' g; of p = g v'; of s = p (of p - rows' sums of p (of
// p)), these sums being those of out g; of q = scale (of s) k; of k = scale (of s)' q.
void backward_head(const Shape& shape, const float* qkv, const float* out, const float* log_sums,
                   const float* grad, const bool* seen, int64_t b, int64_t h, BackwardMemory& at,
                   float* of_qkv) {
    const int64_t dim = shape.dim, wide = at.wide, tokens = shape.tokens, row = shape.heads * dim;
    const Matrix q = shape.parts(qkv + shape.part(b, h, 0));
    at.keys.pack(shape, qkv, seen, b, h);
    const Matrix k{at.keys.k, dim, 1}, v{at.keys.v, dim, 1};
    const Matrix o = shape.rows(out + shape.head(b, h)), g = shape.rows(grad + shape.head(b, h));
    std::fill_n(at.of_k, tokens * wide, 0.0f);
    std::fill_n(at.of_v, tokens * wide, 0.0f);
    for (int64_t start = 0; start < tokens; start += QUERIES) {
        const int64_t queries = std::min<int64_t>(QUERIES, tokens - start), columns = up(queries, WIDTH);
        transpose_queries(q.below(start), queries, dim, shape.scale * LOG2_E, at.queries_t);
        transpose_queries(g.below(start), queries, dim, 1.0f, at.grads_t);
        widen(q.below(start), queries, dim, at.queries_wide, wide);
        widen(g.below(start), queries, dim, at.grads_wide, wide);
        widen(o.below(start), queries, dim, at.outs_wide, wide);
        // Lanes beyond the last query are left out of the sums below: any number does.
        std::fill_n(at.sums, QUERIES, 0.0f);
        std::fill_n(at.offsets, QUERIES, 0.0f);
        for (int64_t i = 0; i < queries; i++) {
            at.sums[i] = dot(at.outs_wide + i * wide, at.grads_wide + i * wide, wide);
            at.offsets[i] = log_sums[(b * shape.heads + h) * tokens + start + i];
        }
        std::fill_n(at.of_queries_t, dim * QUERIES, 0.0f);
        for (int64_t first = 0, keys; first < at.keys.count; first += keys) {
            keys = std::min(at.keys.block(BACKWARD_KEYS), at.keys.count - first);
            multiply<WIDTH, false>(k.below(first), keys, at.queries_t, QUERIES, at.weights, QUERIES, columns, dim);
            multiply<WIDTH, false>(v.below(first), keys, at.grads_t, QUERIES, at.of_scores, QUERIES, columns, dim);
            for (int64_t j = 0; j < keys; j++)
                for (int64_t c = 0; c < columns; c += WIDTH) {
                    const int64_t i = j * QUERIES + c;
                    const Lanes weight = power_of_two(load(at.weights + i) - load(at.offsets + c));
                    store(at.weights + i, weight);
                    store(at.of_scores + i, weight * (load(at.of_scores + i) - load(at.sums + c)));
                }
            const Matrix p{at.weights, QUERIES, 1}, s{at.of_scores, QUERIES, 1};
            float *of_k = at.of_k + first * wide, *of_v = at.of_v + first * wide;
            multiply<NARROW, true>(p, keys, at.grads_wide, wide, of_v, wide, wide, queries);
            multiply<NARROW, true>(s, keys, at.queries_wide, wide, of_k, wide, wide, queries);
            multiply<WIDTH, true>(k.below(first).transposed(), dim, at.of_scores, QUERIES, at.of_queries_t, QUERIES,
                                  columns, keys);
        }
        transpose(at.of_queries_t, QUERIES, dim, queries, shape.scale,
                  of_qkv + shape.part(b, h, 0) + start * 3 * row, 3 * row);
    }
    float *to_k = of_qkv + shape.part(b, h, 1), *to_v = of_qkv + shape.part(b, h, 2);
    for (int64_t t = 0, i = 0; t < tokens; t++) {
        const bool sees = shape.sees(seen, b, t);
        for (int64_t j = 0; j < dim; j++) {
            to_k[t * 3 * row + j] = sees ? shape.scale * at.of_k[i * wide + j] : 0.0f;
            to_v[t * 3 * row + j] = sees ? at.of_v[i * wide + j] : 0.0f;
        }
        i += sees;
    }
}

}  // namespace

// Each head (and, forward, each block of queries) is one thread's, so results do not depend on their number. Both
// return whether there was memory enough.
extern "C" bool attention_forward(const float* qkv, const bool* seen, float* out, float* log_sums, int64_t batch,
                                  int64_t tokens, int64_t heads, int64_t dim, float scale, int threads) {
    const Shape shape{batch, tokens, heads, dim, scale};
    const int64_t blocks = (tokens + QUERIES - 1) / QUERIES;
    Memory counted;
    ForwardMemory(shape, counted);
    const Memories memories(counted, threads);
    if (!memories) return false;
#pragma omp parallel num_threads(threads)
    {
        Memory memory = memories.of_this_thread();
        ForwardMemory at(shape, memory);
        int64_t packed = -1;
#pragma omp for schedule(static)
        for (int64_t i = 0; i < batch * heads * blocks; i++) {
            const int64_t head = i / blocks, start = i % blocks * QUERIES;
            if (head != packed) {
                at.keys.pack(shape, qkv, seen, head / heads, head % heads);
                packed = head;
            }
            forward_block(shape, qkv, head / heads, head % heads, start, at, out, log_sums);
        }
    }
    return true;
}

extern "C" bool attention_backward(const float* qkv, const bool* seen, const float* out, const float* log_sums,
                                   const float* grad, float* of_qkv, int64_t batch, int64_t tokens, int64_t heads,
                                   int64_t dim, float scale, int threads) {
    const Shape shape{batch, tokens, heads, dim, scale};
    Memory counted;
    BackwardMemory(shape, counted);
    const Memories memories(counted, threads);
    if (!memories) return false;
#pragma omp parallel num_threads(threads)
    {
        Memory memory = memories.of_this_thread();
        BackwardMemory at(shape, memory);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < batch * heads; i++)
            backward_head(shape, qkv, out, log_sums, grad, seen, i / heads, i % heads, at, of_qkv);
    }
    return true;
}
