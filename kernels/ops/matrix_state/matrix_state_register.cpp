#include <executorch/extension/kernel_util/make_boxed_from_unboxed_functor.h>

#include "ops/matrix_state/matrix_state.h"
#include "runtime/op_support.h"
#include "runtime/op_time.h"

namespace hilnas {
namespace {

std::string describe_matrix(int64_t heads, int64_t key_dim, int64_t value_dim) {
  return std::to_string(heads) + " heads of " + std::to_string(key_dim) + " x " + std::to_string(value_dim);
}

Result<MatrixState*> find_state(const Tensor& slots, int64_t index, int64_t heads, int64_t key_dim, int64_t value_dim) {
  const Result<int64_t> slot = read_slot(slots, index);
  if (!slot.ok()) return slot.status();
  MatrixState* state = StateTable::instance().matrix(slot.value());
  if (state == nullptr) return Status::failure("slot " + std::to_string(slot.value()) + " holds no matrix state");
  if (state->num_heads != heads || state->key_dim != key_dim || state->value_dim != value_dim) {
    return Status::failure("slot " + std::to_string(slot.value()) + " has " +
                           describe_matrix(state->num_heads, state->key_dim, state->value_dim) +
                           ", the block needs " + describe_matrix(heads, key_dim, value_dim));
  }
  return state;
}

// x is only passed on, so that the read stands in the order of the program.
Tensor& matrix_state_read_out(KernelRuntimeContext& ctx, const Tensor& x, const Tensor& slots, int64_t index,
                              int64_t heads, int64_t key_dim, int64_t value_dim, Tensor& out) {
  constexpr const char* kOp = "matrix_state_read";
  static OpTime time(kOp);
  const OpTimer timer(time);
  (void)x;
  const Result<MatrixState*> state = find_state(slots, index, heads, key_dim, value_dim);
  HILNAS_OP_CHECK(ctx, kOp, state.ok(), state.message(), out);
  const Status resized = resize_out(out, {1, heads, key_dim, value_dim});
  HILNAS_OP_CHECK(ctx, kOp, resized.ok(), resized.message(), out);
  matrix_state_copy({state.value()->data(), out.mutable_data_ptr<float>(), heads * key_dim * value_dim});
  return out;
}

// Returns x: what follows in the program then follows the write.
Tensor& matrix_state_write_out(KernelRuntimeContext& ctx, const Tensor& x, const Tensor& matrix, const Tensor& slots,
                               int64_t index, Tensor& out) {
  constexpr const char* kOp = "matrix_state_write";
  static OpTime time(kOp);
  const OpTimer timer(time);
  HILNAS_OP_CHECK(ctx, kOp, is_float(matrix, 4) && matrix.size(0) == 1 && is_dense(x) &&
                                x.scalar_type() == ScalarType::Float,
                  "matrix " + shape_text(matrix) + " is not float32 [1,H,K,V] beside a float32 x", out);
  const Result<MatrixState*> state = find_state(slots, index, matrix.size(1), matrix.size(2), matrix.size(3));
  HILNAS_OP_CHECK(ctx, kOp, state.ok(), state.message(), out);
  const Status resized = resize_out(out, x);
  HILNAS_OP_CHECK(ctx, kOp, resized.ok(), resized.message(), out);
  matrix_state_copy({matrix.const_data_ptr<float>(), state.value()->data(), matrix.numel()});
  matrix_state_copy({x.const_data_ptr<float>(), out.mutable_data_ptr<float>(), x.numel()});
  return out;
}

}  // namespace
}  // namespace hilnas

EXECUTORCH_LIBRARY(hilnas, "matrix_state_read.out", hilnas::matrix_state_read_out);
EXECUTORCH_LIBRARY(hilnas, "matrix_state_write.out", hilnas::matrix_state_write_out);
