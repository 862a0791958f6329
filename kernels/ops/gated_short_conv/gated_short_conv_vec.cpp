#include "ops/gated_short_conv/gated_short_conv.h"
#include "runtime/simd.h"

namespace hilnas {
namespace HILNAS_ISA {

// Scratch holds the weight as [K][d] (unit stride over channels) and a ring of the last K rows of B * x.
struct ConvScratch {
  float* weight;
  float* ring;
};

static void transpose_weight(const GatedShortConvArgs& a, float* out) {
  for (int64_t c = 0; c < a.d; ++c) {
    for (int64_t k = 0; k < a.K; ++k) out[k * a.d + c] = a.weight[c * a.K + k];
  }
}

// B * x of token t into its ring row; t < 0 copies from the history.
static void load_ring_row(const GatedShortConvArgs& a, int64_t t, float* ring) {
  float* row = ring + ((t + a.K) % a.K) * a.d;
  const float* b = a.bcx + t * 3 * a.d;
  const float* older = a.history + (a.K - 1 + t) * a.d;
  for (int64_t c = 0; c < a.d; ++c) row[c] = t < 0 ? older[c] : b[c] * b[2 * a.d + c];
}

// K is a template argument so that the taps unroll. Row t of the ring is written on the way.
template <int K>
static void conv_token(const GatedShortConvArgs& a, int64_t t, const ConvScratch& scratch) {
  const int64_t d = a.d;
  const float* row = a.bcx + t * 3 * d;
  float* out = a.out + t * d;
  float* taps[K];
  for (int k = 0; k < K; ++k) taps[k] = scratch.ring + ((t + 1 + k) % K) * d;  // taps[K - 1] is token t
  int64_t c = 0;
  for (; c + kWidth <= d; c += kWidth) {
    const vf bx = load(row + c) * load(row + 2 * d + c);
    store(taps[K - 1] + c, bx);
    vf z = bx * load(scratch.weight + (K - 1) * d + c);
    for (int k = 0; k < K - 1; ++k) z = load(taps[k] + c) * load(scratch.weight + k * d + c) + z;
    store(out + c, z * load(row + d + c));
  }
  for (; c < d; ++c) {
    taps[K - 1][c] = row[c] * row[2 * d + c];
    float z = 0;
    for (int k = 0; k < K; ++k) z += taps[k][c] * scratch.weight[k * d + c];
    out[c] = z * row[d + c];
  }
}

template <int K>
static void conv_tokens(const GatedShortConvArgs& a, int64_t first, int64_t last, float* memory) {
  const ConvScratch scratch{memory, memory + K * a.d};
  transpose_weight(a, scratch.weight);
  for (int64_t t = first - (K - 1); t < first; ++t) load_ring_row(a, t, scratch.ring);
  for (int64_t t = first; t < last; ++t) conv_token<K>(a, t, scratch);
}

}  // namespace HILNAS_ISA

void HILNAS_VARIANT(gated_short_conv_f32)(const GatedShortConvArgs& a, int64_t first, int64_t last, float* scratch) {
  switch (a.K) {
    case 2: return HILNAS_ISA::conv_tokens<2>(a, first, last, scratch);
    case 3: return HILNAS_ISA::conv_tokens<3>(a, first, last, scratch);
    case 4: return HILNAS_ISA::conv_tokens<4>(a, first, last, scratch);
    case 5: return HILNAS_ISA::conv_tokens<5>(a, first, last, scratch);
    case 7: return HILNAS_ISA::conv_tokens<7>(a, first, last, scratch);
    default: return gated_short_conv_f32__scalar(a, first, last, scratch);
  }
}

}  // namespace hilnas
