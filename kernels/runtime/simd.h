// Float vectors of HILNAS_WIDTH lanes on GCC/Clang vector extensions. Only for <op>_vec.cpp files.
//
// Such a file is compiled once per instruction set, so everything here is static inside a namespace of that
// name, and no C++ library function is used: an inline std:: function compiled with AVX-512 could be the copy
// that the linker keeps for the whole program.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__F16C__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define HILNAS_JOIN2(a, b) a##__##b
#define HILNAS_JOIN(a, b) HILNAS_JOIN2(a, b)
#define HILNAS_VARIANT(name) HILNAS_JOIN(name, HILNAS_ISA)

namespace hilnas::HILNAS_ISA {

constexpr int kWidth = HILNAS_WIDTH;
typedef float vf __attribute__((vector_size(HILNAS_WIDTH * 4)));
typedef int32_t vi __attribute__((vector_size(HILNAS_WIDTH * 4)));
typedef float vf_unaligned __attribute__((vector_size(HILNAS_WIDTH * 4), aligned(4), may_alias));
typedef int8_t vb_unaligned __attribute__((vector_size(HILNAS_WIDTH), aligned(1), may_alias));

static inline vf load(const float* p) { return *reinterpret_cast<const vf_unaligned*>(p); }
static inline void store(float* p, vf v) { *reinterpret_cast<vf_unaligned*>(p) = v; }
static inline vf splat(float x) { return x - vf{}; }
static inline vi splat_int(int32_t x) { return x - vi{}; }
static inline vf vmax(vf a, vf b) { return a > b ? a : b; }
static inline vf load_i8(const int8_t* p) {
  return __builtin_convertvector(*reinterpret_cast<const vb_unaligned*>(p), vf);
}

#if HILNAS_WIDTH == 16
typedef float vf_half __attribute__((vector_size(32)));
static inline vf_half fold(vf v) {
  return __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
         __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
}
typedef float vf_quad __attribute__((vector_size(16)));
static inline vf_quad fold(vf_half v) {
  return __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
}
static inline vf_quad fold_to_quad(vf v) { return fold(fold(v)); }
#elif HILNAS_WIDTH == 8
typedef float vf_quad __attribute__((vector_size(16)));
static inline vf_quad fold_to_quad(vf v) {
  return __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
}
#else
typedef vf vf_quad;
static inline vf_quad fold_to_quad(vf v) { return v; }
#endif

static inline float hsum(vf v) {
  const vf_quad q = fold_to_quad(v);
  const vf_quad pair = q + __builtin_shufflevector(q, q, 2, 3, 0, 1);
  return pair[0] + pair[1];
}

// Lane i of the answer is the sum over the lanes of rows[i]: a tree of pairwise sums, three instructions a row where
// one hsum takes nine. Overwrites rows.
#if HILNAS_WIDTH == 16
#define HILNAS_EVENS(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
#define HILNAS_ODDS(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)
#elif HILNAS_WIDTH == 8
#define HILNAS_EVENS(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14)
#define HILNAS_ODDS(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15)
#else
#define HILNAS_EVENS(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6)
#define HILNAS_ODDS(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7)
#endif
template <int kCount>  // recursion, not a loop: the rows then stay in registers
static inline vf sum_rows(vf* rows) {
  if constexpr (kCount > 1) {
#pragma GCC unroll 8
    for (int i = 0; i < kCount / 2; ++i) {
      rows[i] = HILNAS_EVENS(rows[2 * i], rows[2 * i + 1]) + HILNAS_ODDS(rows[2 * i], rows[2 * i + 1]);
    }
    return sum_rows<kCount / 2>(rows);
  }
  return rows[0];
}

static inline float hmax(vf v) {
#if HILNAS_WIDTH == 16
  v = vmax(v, __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
  v = vmax(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
  v = vmax(v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13));
#elif HILNAS_WIDTH == 8
  v = vmax(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3));
  v = vmax(v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5));
#else
  v = vmax(v, __builtin_shufflevector(v, v, 2, 3, 0, 1));
#endif
  return v[0] > v[1] ? v[0] : v[1];
}

// IEEE half precision. Values come from a cache we wrote ourselves, so no signalling NaN care is taken.
#if defined(__F16C__) && HILNAS_WIDTH == 16
static inline vf load_half(const uint16_t* p) {
  return (vf)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
static inline void store_half(uint16_t* p, vf v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__F16C__) && HILNAS_WIDTH == 8
static inline vf load_half(const uint16_t* p) {
  return (vf)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
static inline void store_half(uint16_t* p, vf v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__aarch64__)
static inline vf load_half(const uint16_t* p) { return (vf)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
static inline void store_half(uint16_t* p, vf v) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)v))); }
#endif

// exp for x <= 0 (softmax). Below -87 the answer is 0, above that the relative error is under 2e-7:
// x = n ln2 + r, |r| <= ln2 / 2, and the polynomial of degree 6 in r is Taylor's.
static inline vf exp_nonpositive(vf x) {
  const vf clamped = vmax(x, splat(-87.0f));
  const vf shifted = clamped * splat(1.44269504f) + splat(12582912.0f);  // 1.5 * 2^23 rounds to an integer
  const vf n = shifted - splat(12582912.0f);
  const vf r = (clamped - n * splat(0.693359375f)) - n * splat(-2.12194440e-4f);
  vf p = splat(1.0f / 720) * r + splat(1.0f / 120);
  p = p * r + splat(1.0f / 24);
  p = p * r + splat(1.0f / 6);
  p = p * r + splat(0.5f);
  p = p * r + splat(1.0f);
  p = p * r + splat(1.0f);
  const vi power = (__builtin_convertvector(n, vi) + splat_int(127)) << 23;
  return x < splat(-87.0f) ? vf{} : p * (vf)power;
}

// sin and cos for |x| up to about 1e6 radians, absolute error under 3e-7 of the float argument: Cody-Waite
// reduction by pi/2 in three parts (exact enough because n * part is fused), then Cephes' minimax polynomials.
static inline void sincos(vf x, vf* sine, vf* cosine) {
  const vf shifted = x * splat(0.636619772f) + splat(12582912.0f);
  const vf n = shifted - splat(12582912.0f);
  const vi quadrant = __builtin_convertvector(n, vi);
  vf r = x - n * splat(1.5707963705062866f);
  r = r - n * splat(-4.3711388286737929e-8f);
  r = r - n * splat(-1.7151245100058e-15f);
  const vf r2 = r * r;
  vf s = splat(-1.9515295891e-4f) * r2 + splat(8.3321608736e-3f);
  s = s * r2 + splat(-1.6666654611e-1f);
  s = s * r2 * r + r;
  vf c = splat(2.443315711809948e-5f) * r2 + splat(-1.388731625493765e-3f);
  c = c * r2 + splat(4.166664568298827e-2f);
  c = c * r2 * r2 + (splat(1.0f) - splat(0.5f) * r2);
  const vi odd = (quadrant & 1) != 0;
  const vf base_sin = odd ? c : s;
  const vf base_cos = odd ? s : c;
  *sine = (quadrant & 2) != 0 ? -base_sin : base_sin;
  *cosine = ((quadrant + 1) & 2) != 0 ? -base_cos : base_cos;
}

}  // namespace hilnas::HILNAS_ISA
