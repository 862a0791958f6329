// out[r] = x[r] / sqrt(mean(x[r]^2) + eps) * weight, over rows of D floats.
// Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019, equation 4 (eps inside the root).
#pragma once

#include <cstdint>

#include "runtime/isa.h"

namespace hilnas {

struct RmsNormArgs {
  const float* x;       // [rows][D]
  const float* weight;  // [D]
  float* out;           // [rows][D], may be x
  int64_t rows;
  int64_t D;
  float eps;
};

// Rows first .. last - 1 on the calling thread.
HILNAS_DECLARE_VARIANTS(void, rms_norm_f32, const RmsNormArgs& args, int64_t first, int64_t last);

// All rows, best variant, all threads.
void rms_norm_f32(const RmsNormArgs& args);

}  // namespace hilnas
