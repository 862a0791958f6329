#include "ops/norm_rope/norm_rope.h"
#include "runtime/simd.h"

namespace hilnas {
namespace HILNAS_ISA {

// Sine and cosine of one token, shared by its heads: scratch[0 .. D/2) cosines, then sines.
static void rotations(const NormRopeArgs& a, int64_t t, float* cosines, float* sines) {
  const float position = static_cast<float>(a.pos + t);
  for (int64_t i = 0; i < a.D / 2; i += kWidth) {
    vf s, c;
    sincos(load(a.inv_freq + i) * splat(position), &s, &c);
    store(cosines + i, c);
    store(sines + i, s);
  }
}

static inline float norm_scale(const float* x, int64_t D, float eps) {
  vf even = {}, odd = {};
  for (int64_t i = 0; i < D; i += 2 * kWidth) {  // D / 2 is a multiple of the width
    even = load(x + i) * load(x + i) + even;
    odd = load(x + i + kWidth) * load(x + i + kWidth) + odd;
  }
  return 1.0f / __builtin_sqrtf(hsum(even + odd) / static_cast<float>(D) + eps);
}

template <bool kNorm>
static inline void rotate_head(const NormRopeArgs& a, const float* x, float* out, const float* cosines,
                               const float* sines) {
  const int64_t half = a.D / 2;
  const vf scale = splat(kNorm ? norm_scale(x, a.D, a.eps) : 1.0f);
  for (int64_t i = 0; i < half; i += kWidth) {
    vf low = load(x + i), high = load(x + half + i);
    if (kNorm) {
      low = low * scale * load(a.weight + i);
      high = high * scale * load(a.weight + half + i);
    }
    const vf c = load(cosines + i), s = load(sines + i);
    store(out + i, low * c - high * s);
    store(out + half + i, high * c + low * s);
  }
}

template <bool kNorm>
static void rotate_tokens(const NormRopeArgs& a, int64_t first, int64_t last, float* scratch) {
  for (int64_t t = first; t < last; ++t) {
    rotations(a, t, scratch, scratch + a.D / 2);
    for (int64_t row = t * a.H; row < (t + 1) * a.H; ++row) {
      rotate_head<kNorm>(a, a.x + row * a.D, a.out + row * a.D, scratch, scratch + a.D / 2);
    }
  }
}

}  // namespace HILNAS_ISA

void HILNAS_VARIANT(norm_rope_f32)(const NormRopeArgs& a, int64_t first, int64_t last, float* scratch) {
  using namespace HILNAS_ISA;
  if (a.D % (2 * kWidth) != 0) return norm_rope_f32__scalar(a, first, last, scratch);  // such as D = 80 with AVX-512
  if (a.weight != nullptr) return rotate_tokens<true>(a, first, last, scratch);
  rotate_tokens<false>(a, first, last, scratch);
}

}  // namespace hilnas
