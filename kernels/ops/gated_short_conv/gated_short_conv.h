// The mixing half of LFM2's short convolution: bcx = [B | C | x], z = causal depthwise conv_K(B * x), out = C * z.
// weight[:, K-1] multiplies the current token. History is the state's last K-1 values of B * x.
#pragma once

#include <cstdint>

#include "runtime/isa.h"

namespace hilnas {

struct GatedShortConvArgs {
  const float* bcx;      // [T][3 * d]
  const float* weight;   // [d][K]
  const float* history;  // [K - 1][d], oldest first
  float* out;            // [T][d]
  int64_t T;
  int64_t d;
  int64_t K;
};

// Floats of working memory that a vector variant needs.
inline int64_t gated_short_conv_scratch(const GatedShortConvArgs& args) { return 2 * args.K * args.d; }

// Tokens first .. last - 1 on the calling thread; history is only read.
HILNAS_DECLARE_VARIANTS(void, gated_short_conv_f32, const GatedShortConvArgs& args, int64_t first, int64_t last,
                        float* scratch);

// All tokens, best variant, all threads; then `history` (args.history, writable) moves on by T tokens.
void gated_short_conv_f32(const GatedShortConvArgs& args, float* history);

// The state's move alone: the newest K-1 values of B * x, taking older ones over when T < K-1.
void advance_history(const GatedShortConvArgs& args, float* history);

}  // namespace hilnas
