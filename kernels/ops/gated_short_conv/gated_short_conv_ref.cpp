#include "ops/gated_short_conv/gated_short_conv.h"

namespace hilnas {
namespace {

// B * x of token t (negative: from the history).
float gated_input(const GatedShortConvArgs& a, int64_t t, int64_t c) {
  if (t < 0) return a.history[(a.K - 1 + t) * a.d + c];
  const float* row = a.bcx + t * 3 * a.d;
  return row[c] * row[2 * a.d + c];
}

}  // namespace

void gated_short_conv_f32__scalar(const GatedShortConvArgs& a, int64_t first, int64_t last, float*) {
  for (int64_t t = first; t < last; ++t) {
    for (int64_t c = 0; c < a.d; ++c) {
      float z = 0;
      for (int64_t k = 0; k < a.K; ++k) z += a.weight[c * a.K + k] * gated_input(a, t - (a.K - 1) + k, c);
      a.out[t * a.d + c] = a.bcx[t * 3 * a.d + a.d + c] * z;
    }
  }
}

void advance_history(const GatedShortConvArgs& a, float* history) {
  const int64_t taps = a.K - 1;
  for (int64_t i = 0; i < taps; ++i) {  // ascending, so that a row is read before it is overwritten
    const int64_t t = a.T - taps + i;
    for (int64_t c = 0; c < a.d; ++c) history[i * a.d + c] = gated_input(a, t, c);
  }
}

}  // namespace hilnas
