#include "runtime/op_support.h"

#include <executorch/runtime/platform/log.h>

#include <mutex>
#include <vector>

namespace hilnas {
namespace {

std::mutex error_mutex;
std::string last_error;

Status do_resize(Tensor& out, executorch::aten::ArrayRef<executorch::aten::SizesType> sizes) {
  if (executorch::runtime::resize_tensor(out, sizes) == executorch::runtime::Error::Ok) return Status::success();
  return Status::failure("output of shape " + shape_text(out) + " cannot take the result's shape");
}

}  // namespace

void fail_kernel(KernelRuntimeContext& ctx, const char* op, const std::string& message) {
  {
    const std::lock_guard<std::mutex> lock(error_mutex);
    last_error = std::string("hilnas::") + op + ": " + message;
  }
  ET_LOG(Error, "hilnas::%s: %s", op, message.c_str());
  ctx.fail(executorch::runtime::Error::InvalidArgument);
}

std::string take_kernel_error() {
  const std::lock_guard<std::mutex> lock(error_mutex);
  return std::exchange(last_error, {});
}

bool is_dense(const Tensor& t) { return executorch::runtime::tensor_is_default_dim_order(t); }

bool is_float(const Tensor& t, int64_t dim) {
  return t.scalar_type() == ScalarType::Float && t.dim() == dim && is_dense(t);
}

std::string shape_text(const Tensor& t) {
  std::string message = "[";
  for (ssize_t i = 0; i < t.dim(); ++i) message += (i ? "," : "") + std::to_string(t.size(i));
  return message + "]";
}

Result<int64_t> read_position(const Tensor& pos) {
  if (pos.scalar_type() != ScalarType::Long || pos.numel() != 1) return Status::failure("pos must be int64[1]");
  const int64_t value = pos.const_data_ptr<int64_t>()[0];
  if (value < 0) return Status::failure("pos is negative: " + std::to_string(value));
  return value;
}

Result<int64_t> read_slot(const Tensor& slots, int64_t index) {
  if (slots.scalar_type() != ScalarType::Long) return Status::failure("slots must be int64");
  if (index < 0 || index >= slots.numel()) {
    return Status::failure("slot index " + std::to_string(index) + " of " + std::to_string(slots.numel()) + " slots");
  }
  return slots.const_data_ptr<int64_t>()[index];
}

Status resize_out(Tensor& out, const Tensor& like) { return do_resize(out, like.sizes()); }

Status resize_out(Tensor& out, std::initializer_list<int64_t> sizes) {
  std::vector<executorch::aten::SizesType> converted(sizes.begin(), sizes.end());
  return do_resize(out, {converted.data(), converted.size()});
}

}  // namespace hilnas
