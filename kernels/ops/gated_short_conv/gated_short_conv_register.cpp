#include <executorch/extension/kernel_util/make_boxed_from_unboxed_functor.h>

#include "ops/gated_short_conv/gated_short_conv.h"
#include "runtime/op_support.h"
#include "runtime/op_time.h"

namespace hilnas {
namespace {

Result<ConvState*> find_state(const Tensor& slots, int64_t index, int64_t channels, int64_t taps) {
  const Result<int64_t> slot = read_slot(slots, index);
  if (!slot.ok()) return slot.status();
  ConvState* state = StateTable::instance().conv(slot.value());
  if (state == nullptr) return Status::failure("slot " + std::to_string(slot.value()) + " holds no conv state");
  if (state->channels != channels || state->taps != taps) {
    return Status::failure("slot " + std::to_string(slot.value()) + " has " + std::to_string(state->channels) +
                           " channels and " + std::to_string(state->taps) + " taps, the block needs " +
                           std::to_string(channels) + " and " + std::to_string(taps));
  }
  return state;
}

Tensor& gated_short_conv_out(KernelRuntimeContext& ctx, const Tensor& bcx, const Tensor& weight, const Tensor& slots,
                             const Tensor& pos, int64_t index, Tensor& out) {
  constexpr const char* kOp = "gated_short_conv";
  static OpTime time(kOp);
  const OpTimer timer(time);
  HILNAS_OP_CHECK(ctx, kOp, is_float(bcx, 3) && bcx.size(0) == 1 && is_float(weight, 2), "bcx [1,T,3d], weight [d,K]",
                  out);
  const int64_t T = bcx.size(1), d = weight.size(0), K = weight.size(1);
  HILNAS_OP_CHECK(ctx, kOp, bcx.size(2) == 3 * d && T > 0 && K > 1,
                  "bcx " + shape_text(bcx) + " does not fit weight " + shape_text(weight), out);
  const Result<int64_t> position = read_position(pos);
  HILNAS_OP_CHECK(ctx, kOp, position.ok(), position.message(), out);
  const Result<ConvState*> state = find_state(slots, index, d, K - 1);
  HILNAS_OP_CHECK(ctx, kOp, state.ok(), state.message(), out);
  const Status resized = resize_out(out, {1, T, d});
  HILNAS_OP_CHECK(ctx, kOp, resized.ok(), resized.message(), out);
  float* history = state.value()->data();
  gated_short_conv_f32(
      {bcx.const_data_ptr<float>(), weight.const_data_ptr<float>(), history, out.mutable_data_ptr<float>(), T, d, K},
      history);
  return out;
}

}  // namespace
}  // namespace hilnas

EXECUTORCH_LIBRARY(hilnas, "gated_short_conv.out", hilnas::gated_short_conv_out);
