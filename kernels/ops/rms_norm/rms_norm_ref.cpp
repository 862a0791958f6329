#include <cmath>

#include "ops/rms_norm/rms_norm.h"

namespace hilnas {

void rms_norm_f32__scalar(const RmsNormArgs& args, int64_t first, int64_t last) {
  for (int64_t r = first; r < last; ++r) {
    const float* x = args.x + r * args.D;
    double sum = 0;
    for (int64_t i = 0; i < args.D; ++i) sum += static_cast<double>(x[i]) * x[i];
    const float scale = static_cast<float>(1.0 / std::sqrt(sum / static_cast<double>(args.D) + args.eps));
    for (int64_t i = 0; i < args.D; ++i) args.out[r * args.D + i] = x[i] * scale * args.weight[i];
  }
}

}  // namespace hilnas
