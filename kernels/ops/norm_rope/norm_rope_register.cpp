#include <executorch/extension/kernel_util/make_boxed_from_unboxed_functor.h>

#include <optional>

#include "ops/norm_rope/norm_rope.h"
#include "runtime/op_support.h"
#include "runtime/op_time.h"

namespace hilnas {
namespace {

Tensor& norm_rope_out(KernelRuntimeContext& ctx, const Tensor& x, std::optional<Tensor> weight, const Tensor& inv_freq,
                      const Tensor& pos, double eps, Tensor& out) {
  constexpr const char* kOp = "norm_rope";
  static OpTime time(kOp);
  const OpTimer timer(time);
  HILNAS_OP_CHECK(ctx, kOp, is_float(x, 4) && x.size(0) == 1 && x.numel() > 0, "x must be dense float32 [1,T,H,D]",
                  out);
  const int64_t D = x.size(3);
  HILNAS_OP_CHECK(ctx, kOp, D % 2 == 0 && is_float(inv_freq, 1) && inv_freq.size(0) == D / 2,
                  "inv_freq " + shape_text(inv_freq) + " does not fit x " + shape_text(x), out);
  HILNAS_OP_CHECK(ctx, kOp, !weight || (is_float(*weight, 1) && weight->size(0) == D),
                  "weight " + shape_text(*weight) + " does not fit x " + shape_text(x), out);
  const Result<int64_t> position = read_position(pos);
  HILNAS_OP_CHECK(ctx, kOp, position.ok(), position.message(), out);
  const Status resized = resize_out(out, x);
  HILNAS_OP_CHECK(ctx, kOp, resized.ok(), resized.message(), out);
  const bool enough_memory = norm_rope_f32(
      {x.const_data_ptr<float>(), weight ? weight->const_data_ptr<float>() : nullptr, inv_freq.const_data_ptr<float>(),
       out.mutable_data_ptr<float>(), x.size(1), x.size(2), D, position.value(), static_cast<float>(eps)});
  HILNAS_OP_CHECK(ctx, kOp, enough_memory, "out of memory", out);
  return out;
}

}  // namespace
}  // namespace hilnas

EXECUTORCH_LIBRARY(hilnas, "norm_rope.out", hilnas::norm_rope_out);
