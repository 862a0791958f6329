#include "runtime/simd.h"

namespace hilnas {

// exp, sine and cosine of n values, n a multiple of the width; halves go there and back.
void HILNAS_VARIANT(simd_probe)(const float* x, float* e, float* s, float* c, float* half, int64_t n) {
  using namespace HILNAS_ISA;
  for (int64_t i = 0; i < n; i += kWidth) {
    vf sine, cosine;
    sincos(load(x + i), &sine, &cosine);
    store(s + i, sine);
    store(c + i, cosine);
    store(e + i, exp_nonpositive(load(x + i)));
    uint16_t halves[kWidth];
    store_half(halves, load(x + i));
    store(half + i, load_half(halves));
  }
}

float HILNAS_VARIANT(simd_sum)(const float* x) { return HILNAS_ISA::hsum(HILNAS_ISA::load(x)); }
float HILNAS_VARIANT(simd_largest)(const float* x) { return HILNAS_ISA::hmax(HILNAS_ISA::load(x)); }

}  // namespace hilnas
