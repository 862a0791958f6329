// Calls an operator as ExecuTorch does: by its registered name, with boxed arguments.
#pragma once

#include <executorch/extension/tensor/tensor_ptr.h>
#include <executorch/runtime/kernel/kernel_runtime_context.h>
#include <executorch/runtime/kernel/operator_registry.h>
#include <executorch/runtime/platform/runtime.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "runtime/op_support.h"

namespace hilnas::test {

using executorch::aten::ScalarType;
using executorch::aten::SizesType;
using executorch::extension::TensorPtr;
using executorch::runtime::EValue;

struct CallResult {
  bool ok = false;
  std::string message;
};

class RegistryCall {
 public:
  explicit RegistryCall(const char* name) : name_(name) { executorch::runtime::runtime_init(); }

  RegistryCall& tensor(void* data, std::vector<SizesType> sizes, ScalarType type) {
    tensors_.push_back(executorch::extension::make_tensor_ptr(std::move(sizes), data, type));
    values_.emplace_back(*tensors_.back());
    return *this;
  }
  RegistryCall& floats(std::vector<float>& data, std::vector<SizesType> sizes) {
    return tensor(data.data(), std::move(sizes), ScalarType::Float);
  }
  RegistryCall& integers(std::vector<int64_t>& data) {
    return tensor(data.data(), {static_cast<SizesType>(data.size())}, ScalarType::Long);
  }
  RegistryCall& integer(int64_t value) {
    values_.emplace_back(value);
    return *this;
  }
  RegistryCall& real(double value) {
    values_.emplace_back(value);
    return *this;
  }
  RegistryCall& none() {
    values_.emplace_back();
    return *this;
  }

  CallResult run() {
    const auto op = executorch::runtime::get_op_function_from_registry(name_, {});
    if (!op.ok()) return {false, std::string(name_) + " is not registered"};
    executorch::runtime::KernelRuntimeContext context;
    std::vector<EValue*> stack;
    for (EValue& value : values_) stack.push_back(&value);
    (*op)(context, {stack.data(), stack.size()});
    const bool ok = context.failure_state() == executorch::runtime::Error::Ok;
    return {ok, take_kernel_error()};
  }

 private:
  const char* name_;
  std::vector<TensorPtr> tensors_;
  std::vector<EValue> values_;
};

}  // namespace hilnas::test
