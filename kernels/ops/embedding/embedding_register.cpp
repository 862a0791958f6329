#include <executorch/extension/kernel_util/make_boxed_from_unboxed_functor.h>

#include "ops/embedding/embedding.h"
#include "runtime/op_support.h"
#include "runtime/op_time.h"

namespace hilnas {
namespace {

Status check_ids(const Tensor& ids, int64_t vocab_size) {
  if (ids.scalar_type() != ScalarType::Long || ids.dim() != 2 || ids.size(0) != 1) {
    return Status::failure("ids must be int64 [1,T]");
  }
  for (ssize_t i = 0; i < ids.numel(); ++i) {
    const int64_t id = ids.const_data_ptr<int64_t>()[i];
    if (id < 0 || id >= vocab_size) {
      return Status::failure("token id " + std::to_string(id) + " is outside the vocabulary of " +
                             std::to_string(vocab_size));
    }
  }
  return Status::success();
}

bool table_agrees(const Tensor& packed, const Tensor& scales, int64_t group_size) {
  return packed.scalar_type() == ScalarType::Byte && packed.dim() == 2 && is_dense(packed) && is_float(scales, 2) &&
         group_size > 0 && scales.size(0) == packed.size(0) && packed.size(1) * 2 == scales.size(1) * group_size;
}

Tensor& embedding_4bit_out(KernelRuntimeContext& ctx, const Tensor& ids, const Tensor& packed, const Tensor& scales,
                           int64_t group_size, Tensor& out) {
  constexpr const char* kOp = "embedding_4bit";
  static OpTime time(kOp);
  const OpTimer timer(time);
  HILNAS_OP_CHECK(ctx, kOp, table_agrees(packed, scales, group_size),
                  "packed " + shape_text(packed) + " and scales " + shape_text(scales) +
                      " are not uint8 [V,d/2] and float32 [V,d/" + std::to_string(group_size) + "]",
                  out);
  const Status checked = check_ids(ids, packed.size(0));
  HILNAS_OP_CHECK(ctx, kOp, checked.ok(), checked.message(), out);
  const int64_t T = ids.size(1), d = packed.size(1) * 2;
  const Status resized = resize_out(out, {1, T, d});
  HILNAS_OP_CHECK(ctx, kOp, resized.ok(), resized.message(), out);
  embedding_4bit({ids.const_data_ptr<int64_t>(), packed.const_data_ptr<uint8_t>(), scales.const_data_ptr<float>(),
                  out.mutable_data_ptr<float>(), T, d, group_size});
  return out;
}

Tensor& embedding_8bit_out(KernelRuntimeContext& ctx, const Tensor& ids, const Tensor& rows, const Tensor& scales,
                           Tensor& out) {
  constexpr const char* kOp = "embedding_8bit";
  static OpTime time(kOp);
  const OpTimer timer(time);
  HILNAS_OP_CHECK(
      ctx, kOp,
      rows.scalar_type() == ScalarType::Char && rows.dim() == 2 && is_dense(rows) && is_float(scales, 1) &&
          scales.size(0) == rows.size(0),
      "rows " + shape_text(rows) + " and scales " + shape_text(scales) + " are not int8 [V,d] and float32 [V]", out);
  const Status checked = check_ids(ids, rows.size(0));
  HILNAS_OP_CHECK(ctx, kOp, checked.ok(), checked.message(), out);
  const int64_t T = ids.size(1), d = rows.size(1);
  const Status resized = resize_out(out, {1, T, d});
  HILNAS_OP_CHECK(ctx, kOp, resized.ok(), resized.message(), out);
  embedding_8bit({ids.const_data_ptr<int64_t>(), rows.const_data_ptr<int8_t>(), scales.const_data_ptr<float>(),
                  out.mutable_data_ptr<float>(), T, d});
  return out;
}

}  // namespace
}  // namespace hilnas

EXECUTORCH_LIBRARY(hilnas, "embedding_4bit.out", hilnas::embedding_4bit_out);
EXECUTORCH_LIBRARY(hilnas, "embedding_8bit.out", hilnas::embedding_8bit_out);
