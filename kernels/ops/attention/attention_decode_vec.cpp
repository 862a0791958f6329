// Decode kernel: one token, one K/V head, one run of keys. Bound by reading K and V once from memory: all heads of
// the group use a block of rows while it is in the first-level cache.
#include "ops/attention/attention.h"
#include "runtime/simd.h"

namespace hilnas {
namespace HILNAS_ISA {

constexpr int64_t kDecodeBlock = 32;  // keys between softmax updates: 8 KiB of K at D = 64
constexpr int kChunk = 4;             // vectors of a row kept in registers

static inline vf load_as_float(const float* p) { return load(p); }
static inline vf load_as_float(const uint16_t* p) { return load_half(p); }

// products[r] += q . k[r] without the last sum over lanes, for kWidth rows and V vectors of D.
template <int V, typename Element>
static inline void add_products(const float* q, const Element* k, int64_t stride, vf* products) {
  vf query[V];
#pragma GCC unroll 4
  for (int u = 0; u < V; ++u) query[u] = load(q + u * kWidth);
#pragma GCC unroll 16
  for (int r = 0; r < kWidth; ++r) {
#pragma GCC unroll 4
    for (int u = 0; u < V; ++u) products[r] = query[u] * load_as_float(k + r * stride + u * kWidth) + products[r];
  }
}

template <typename Element>
static inline vf row_scores(const float* q, const Element* k, int64_t stride, int64_t D) {
  vf products[kWidth] = {};
  int64_t i = 0;
  for (; i + kChunk * kWidth <= D; i += kChunk * kWidth) add_products<kChunk>(q + i, k + i, stride, products);
  for (; i < D; i += kWidth) add_products<1>(q + i, k + i, stride, products);
  return sum_rows<kWidth>(products);
}

template <typename Element>
static inline float row_score(const float* q, const Element* k, int64_t D) {
  vf product = {};
  for (int64_t i = 0; i < D; i += kWidth) product = load(q + i) * load_as_float(k + i) + product;
  return hsum(product);
}

// scores[j] = scale * q . k[j] for a block of keys; places past `count` get what softmax turns into 0.
template <typename Element>
static void block_scores(const float* q, const Element* k, int64_t stride, int64_t count, int64_t D, float scale,
                         float* scores) {
  int64_t j = 0;
  for (; j + kWidth <= count; j += kWidth) {
    store(scores + j, row_scores(q, k + j * stride, stride, D) * splat(scale));
  }
  for (; j < count; ++j) scores[j] = row_score(q, k + j * stride, D) * scale;
  for (; j < kDecodeBlock; ++j) scores[j] = -1e30f;
}

// Scores of one head become exponentials under the new maximum; returns the factor for what came before.
static inline float update_softmax(float* scores, float* maximum, float* sum) {
  vf top = splat(*maximum);
  for (int64_t j = 0; j < kDecodeBlock; j += kWidth) top = vmax(top, load(scores + j));
  const float largest = hmax(top);
  vf total = {};
  for (int64_t j = 0; j < kDecodeBlock; j += kWidth) {
    const vf p = exp_nonpositive(load(scores + j) - splat(largest));
    store(scores + j, p);
    total = total + p;
  }
  const float correction = exp_nonpositive(splat(*maximum - largest))[0];
  *sum = *sum * correction + hsum(total);
  *maximum = largest;
  return correction;
}

// out[h][0 .. V vectors) = out * correction + sum over keys of p * v, for H heads that share the loads of v.
template <int H, int V, typename Element>
static inline void add_values(const float* p, const Element* v, int64_t stride, int64_t count, const float* correction,
                              float* out, int64_t D) {
  vf acc[H][V];
  for (int h = 0; h < H; ++h) {
    for (int u = 0; u < V; ++u) acc[h][u] = load(out + h * D + u * kWidth) * splat(correction[h]);
  }
  for (int64_t j = 0; j < count; ++j) {
    vf value[V];
    for (int u = 0; u < V; ++u) value[u] = load_as_float(v + j * stride + u * kWidth);
    for (int h = 0; h < H; ++h) {
      const vf weight = splat(p[h * kDecodeBlock + j]);
      for (int u = 0; u < V; ++u) acc[h][u] = weight * value[u] + acc[h][u];
    }
  }
  for (int h = 0; h < H; ++h) {
    for (int u = 0; u < V; ++u) store(out + h * D + u * kWidth, acc[h][u]);
  }
}

template <int H, typename Element>
static void add_all_values(const float* p, const Element* v, int64_t stride, int64_t count, const float* correction,
                           float* out, int64_t D) {
  int64_t i = 0;
  for (; i + kChunk * kWidth <= D; i += kChunk * kWidth) {
    add_values<H, kChunk>(p, v + i, stride, count, correction, out + i, D);
  }
  for (; i < D; i += kWidth) add_values<H, 1>(p, v + i, stride, count, correction, out + i, D);
}

struct Accumulator {
  float* maximum;  // [G]
  float* sum;      // [G]
  float* out;      // [G][D]
};

// Asks for rows that come next: the arithmetic on one block takes longer than the hardware looks ahead.
template <typename Element>
static inline void prefetch_rows(const Element* rows, int64_t stride, int64_t count, int64_t D) {
  constexpr int64_t kLine = 64 / sizeof(Element);
  for (int64_t j = 0; j < count; ++j) {
    for (int64_t i = 0; i < D; i += kLine) __builtin_prefetch(rows + j * stride + i);
  }
}

// Three passes over the heads, so that the long chains of the softmax (maximum, exponential, sum) of several heads
// overlap. Values are taken for two heads at a time: eight accumulators hide the latency of the multiply-add.
template <typename Element>
static void attend_block(const AttentionArgs& a, const float* q, const Element* k, const Element* v, int64_t stride,
                         int64_t count, int64_t next, const Accumulator& acc) {
  const int64_t G = a.Hq / a.Hkv, D = a.D;
  float scores[kTileRows * kDecodeBlock], correction[kTileRows];  // attention_fits: G <= kTileRows
  prefetch_rows(v, stride, count, D);
  for (int64_t g = 0; g < G; ++g) block_scores(q + g * D, k, stride, count, D, a.scale, scores + g * kDecodeBlock);
  for (int64_t g = 0; g < G; ++g) {
    correction[g] = update_softmax(scores + g * kDecodeBlock, acc.maximum + g, acc.sum + g);
  }
  prefetch_rows(k + count * stride, stride, next, D);
  int64_t g = 0;
  for (; g + 2 <= G; g += 2) {
    add_all_values<2>(scores + g * kDecodeBlock, v, stride, count, correction + g, acc.out + g * D, D);
  }
  if (g < G) add_all_values<1>(scores + g * kDecodeBlock, v, stride, count, correction + g, acc.out + g * D, D);
}

template <typename Element>
static void attend_run(const AttentionArgs& a, const KeySegment& keys, int64_t kv_head, int64_t first, int64_t count,
                       const Accumulator& acc) {
  const int64_t offset = kv_head * keys.head_stride + first * keys.row_stride;
  const Element* k = static_cast<const Element*>(keys.k) + offset;
  const Element* v = static_cast<const Element*>(keys.v) + offset;
  const float* q = a.q + kv_head * (a.Hq / a.Hkv) * a.D;
  for (int64_t j = 0; j < count; j += kDecodeBlock) {
    const int64_t n = count - j < kDecodeBlock ? count - j : kDecodeBlock;
    const int64_t next = count - j - n < kDecodeBlock ? count - j - n : kDecodeBlock;
    attend_block(a, q, k + j * keys.row_stride, v + j * keys.row_stride, keys.row_stride, n, next, acc);
  }
}

}  // namespace HILNAS_ISA

// part: G maxima, G sums, then G rows of D.
void HILNAS_VARIANT(attention_decode_part)(const AttentionArgs& args, const KeySegment& keys, int64_t kv_head,
                                           int64_t first, int64_t count, float* part) {
  using namespace HILNAS_ISA;
  const int64_t G = args.Hq / args.Hkv;
  const Accumulator acc{part, part + G, part + 2 * G};
  for (int64_t g = 0; g < G; ++g) acc.maximum[g] = -1e30f, acc.sum[g] = 0;
  for (int64_t i = 0; i < G * args.D; ++i) acc.out[i] = 0;
  if (keys.dtype == CacheDtype::kFp16) return attend_run<uint16_t>(args, keys, kv_head, first, count, acc);
  attend_run<float>(args, keys, kv_head, first, count, acc);
}

void HILNAS_VARIANT(attention_store_rows)(void* cache, CacheDtype dtype, int64_t offset, const float* source,
                                          int64_t count) {
  using namespace HILNAS_ISA;
  if (dtype == CacheDtype::kFp32) {
    float* out = static_cast<float*>(cache) + offset;
    for (int64_t i = 0; i < count; i += kWidth) store(out + i, load(source + i));
    return;
  }
  uint16_t* out = static_cast<uint16_t*>(cache) + offset;
  for (int64_t i = 0; i < count; i += kWidth) store_half(out + i, load(source + i));
}

}  // namespace hilnas
