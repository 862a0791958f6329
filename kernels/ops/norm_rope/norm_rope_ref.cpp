#include <cmath>

#include "ops/norm_rope/norm_rope.h"

namespace hilnas {
namespace {

void normalized_head(const NormRopeArgs& a, const float* x, float* y) {
  double sum = 0;
  for (int64_t i = 0; i < a.D; ++i) sum += static_cast<double>(x[i]) * x[i];
  const double scale = 1.0 / std::sqrt(sum / static_cast<double>(a.D) + a.eps);
  for (int64_t i = 0; i < a.D; ++i) y[i] = a.weight == nullptr ? x[i] : static_cast<float>(x[i] * scale) * a.weight[i];
}

}  // namespace

void norm_rope_f32__scalar(const NormRopeArgs& a, int64_t first, int64_t last, float* scratch) {
  const int64_t half = a.D / 2;
  for (int64_t row = first * a.H; row < last * a.H; ++row) {
    normalized_head(a, a.x + row * a.D, scratch);
    float* out = a.out + row * a.D;
    for (int64_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(a.pos + row / a.H) * a.inv_freq[i];
      const double c = std::cos(static_cast<double>(angle)), s = std::sin(static_cast<double>(angle));
      out[i] = static_cast<float>(scratch[i] * c - scratch[i + half] * s);
      out[i + half] = static_cast<float>(scratch[i + half] * c + scratch[i] * s);
    }
  }
}

}  // namespace hilnas
