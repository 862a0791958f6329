// Reading and writing a recurrence's matrices from a program, so that a mixer made of ExecuTorch's own operators can keep
// a state between tokens.
#pragma once

#include <cstdint>

namespace hilnas {

struct MatrixStateArgs {
  const float* from;
  float* to;
  int64_t elements;  // num_heads * key_dim * value_dim
};

// Copies all elements; the two never overlap.
void matrix_state_copy(const MatrixStateArgs& args);

}  // namespace hilnas
