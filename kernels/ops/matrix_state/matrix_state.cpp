#include "ops/matrix_state/matrix_state.h"

#include <cstring>

namespace hilnas {

// A copy is as fast as memory: no variants per instruction set.
void matrix_state_copy(const MatrixStateArgs& args) {
  std::memcpy(args.to, args.from, static_cast<size_t>(args.elements) * sizeof(float));
}

}  // namespace hilnas
