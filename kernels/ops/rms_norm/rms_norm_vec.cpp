#include "ops/rms_norm/rms_norm.h"
#include "runtime/simd.h"

namespace hilnas {
namespace HILNAS_ISA {

// Four accumulators hide the latency of the multiply-add.
static inline float sum_of_squares(const float* x, int64_t n) {
  vf acc[4] = {};
  int64_t i = 0;
  for (; i + 4 * kWidth <= n; i += 4 * kWidth) {
    for (int u = 0; u < 4; ++u) {
      const vf v = load(x + i + u * kWidth);
      acc[u] = v * v + acc[u];
    }
  }
  for (; i + kWidth <= n; i += kWidth) acc[0] = load(x + i) * load(x + i) + acc[0];
  float sum = hsum((acc[0] + acc[1]) + (acc[2] + acc[3]));
  for (; i < n; ++i) sum += x[i] * x[i];
  return sum;
}

static inline void scale_row(const float* x, const float* weight, float* out, int64_t n, float scale) {
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) store(out + i, load(x + i) * splat(scale) * load(weight + i));
  for (; i < n; ++i) out[i] = x[i] * scale * weight[i];
}

}  // namespace HILNAS_ISA

void HILNAS_VARIANT(rms_norm_f32)(const RmsNormArgs& args, int64_t first, int64_t last) {
  using namespace HILNAS_ISA;
  for (int64_t r = first; r < last; ++r) {
    const float* x = args.x + r * args.D;
    const float mean = sum_of_squares(x, args.D) / static_cast<float>(args.D);
    scale_row(x, args.weight, args.out + r * args.D, args.D, 1.0f / __builtin_sqrtf(mean + args.eps));
  }
}

}  // namespace hilnas
