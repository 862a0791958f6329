// Decode kernel: one token, one K/V head, one run of keys. Bound by reading K and V once from memory: all heads of
// the group use a block of rows while it is in the first-level cache.
#include "ops/attention/attention.h"
#include "runtime/simd.h"

namespace hilnas {
namespace HILNAS_ISA {

constexpr int64_t kDecodeBlock = 32;  // keys between softmax updates: 8 KiB of K at D = 64
constexpr int kChunk = 4;             // vectors of the output kept in registers

static inline vf load_as_float(const float* p) { return load(p); }
static inline vf load_as_float(const uint16_t* p) { return load_half(p); }

template <typename Element>
static inline float dot(const float* q, const Element* k, int64_t D) {
  vf even = {}, odd = {};
  int64_t i = 0;
  for (; i + 2 * kWidth <= D; i += 2 * kWidth) {
    even = load(q + i) * load_as_float(k + i) + even;
    odd = load(q + i + kWidth) * load_as_float(k + i + kWidth) + odd;
  }
  if (i < D) even = load(q + i) * load_as_float(k + i) + even;
  return hsum(even + odd);
}

// Scores of one head become exponentials under the new maximum; returns the factor for what came before.
static float update_softmax(float* scores, int64_t count, float* maximum, float* sum) {
  for (int64_t j = count; j < kDecodeBlock; ++j) scores[j] = -1e30f;
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

// out[i .. i + V vectors) = out * correction + sum over keys of p * v.
template <int V, typename Element>
static inline void add_values(const float* p, const Element* v, int64_t stride, int64_t count, float correction,
                              float* out) {
  vf acc[V];
  for (int u = 0; u < V; ++u) acc[u] = load(out + u * kWidth) * splat(correction);
  for (int64_t j = 0; j < count; ++j) {
    const vf weight = splat(p[j]);
    for (int u = 0; u < V; ++u) acc[u] = weight * load_as_float(v + j * stride + u * kWidth) + acc[u];
  }
  for (int u = 0; u < V; ++u) store(out + u * kWidth, acc[u]);
}

template <typename Element>
static void add_all_values(const float* p, const Element* v, int64_t stride, int64_t count, float correction, float* out,
                           int64_t D) {
  int64_t i = 0;
  for (; i + kChunk * kWidth <= D; i += kChunk * kWidth) {
    add_values<kChunk>(p, v + i, stride, count, correction, out + i);
  }
  for (; i < D; i += kWidth) add_values<1>(p, v + i, stride, count, correction, out + i);
}

// part: G maxima, G sums, then G rows of D.
template <typename Element>
static void decode(const AttentionArgs& a, const Element* k, const Element* v, int64_t stride, int64_t kv_head,
                   int64_t count, float* part) {
  const int64_t G = a.Hq / a.Hkv, D = a.D;
  float* maximum = part;
  float* sum = part + G;
  float* out = part + 2 * G;
  for (int64_t g = 0; g < G; ++g) maximum[g] = -1e30f, sum[g] = 0;
  for (int64_t i = 0; i < G * D; ++i) out[i] = 0;
  float scores[kDecodeBlock];
  for (int64_t j0 = 0; j0 < count; j0 += kDecodeBlock) {
    const int64_t n = count - j0 < kDecodeBlock ? count - j0 : kDecodeBlock;
    for (int64_t g = 0; g < G; ++g) {
      const float* q = a.q + (kv_head * G + g) * D;
      for (int64_t j = 0; j < n; ++j) scores[j] = a.scale * dot(q, k + (j0 + j) * stride, D);
      const float correction = update_softmax(scores, n, maximum + g, sum + g);
      add_all_values(scores, v + j0 * stride, stride, n, correction, out + g * D, D);
    }
  }
}

}  // namespace HILNAS_ISA

void HILNAS_VARIANT(attention_decode_part)(const AttentionArgs& args, const KeySegment& keys, int64_t kv_head,
                                           int64_t first, int64_t count, float* part) {
  using namespace HILNAS_ISA;
  const int64_t offset = kv_head * keys.head_stride + first * keys.row_stride;
  if (keys.dtype == CacheDtype::kFp16) {
    const uint16_t* k = static_cast<const uint16_t*>(keys.k) + offset;
    const uint16_t* v = static_cast<const uint16_t*>(keys.v) + offset;
    return decode(args, k, v, keys.row_stride, kv_head, count, part);
  }
  const float* k = static_cast<const float*>(keys.k) + offset;
  const float* v = static_cast<const float*>(keys.v) + offset;
  decode(args, k, v, keys.row_stride, kv_head, count, part);
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
