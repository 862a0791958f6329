// Optional RMS norm per head, then rotary position embedding in Hugging Face's rotate-half layout:
// out[i] = x[i] cos - x[i + D/2] sin and out[i + D/2] = x[i + D/2] cos + x[i] sin, angle = position * inv_freq[i].
// Angles are rounded to float before sine and cosine, as the Hugging Face models do.
#pragma once

#include <cstdint>

#include "runtime/isa.h"

namespace hilnas {

struct NormRopeArgs {
  const float* x;         // [T][H][D]
  const float* weight;    // [D], or nullptr: no norm
  const float* inv_freq;  // [D / 2]
  float* out;             // [T][H][D], may be x
  int64_t T, H, D;
  int64_t pos;
  float eps;
};

// Tokens first .. last - 1 on the calling thread. scratch: 2 * D floats.
HILNAS_DECLARE_VARIANTS(void, norm_rope_f32, const NormRopeArgs& args, int64_t first, int64_t last, float* scratch);

// All tokens, best variant, all threads. false: no memory.
bool norm_rope_f32(const NormRopeArgs& args);

}  // namespace hilnas
