#include <executorch/extension/kernel_util/make_boxed_from_unboxed_functor.h>

#include "ops/rms_norm/rms_norm.h"
#include "runtime/op_support.h"
#include "runtime/op_time.h"

namespace hilnas {
namespace {

Tensor& rms_norm_out(KernelRuntimeContext& ctx, const Tensor& x, const Tensor& weight, double eps, Tensor& out) {
  constexpr const char* kOp = "rms_norm";
  static OpTime time(kOp);
  const OpTimer timer(time);
  HILNAS_OP_CHECK(ctx, kOp, x.dim() >= 1 && is_float(x, x.dim()), "x must be dense float32", out);
  const int64_t D = x.size(x.dim() - 1);
  HILNAS_OP_CHECK(ctx, kOp, is_float(weight, 1) && weight.size(0) == D && D > 0,
                  "weight " + shape_text(weight) + " does not fit x " + shape_text(x), out);
  const Status resized = resize_out(out, x);
  HILNAS_OP_CHECK(ctx, kOp, resized.ok(), resized.message(), out);
  rms_norm_f32({x.const_data_ptr<float>(), weight.const_data_ptr<float>(), out.mutable_data_ptr<float>(), x.numel() / D,
                D, static_cast<float>(eps)});
  return out;
}

}  // namespace
}  // namespace hilnas

EXECUTORCH_LIBRARY(hilnas, "rms_norm.out", hilnas::rms_norm_out);
