// What every operator's registration needs: argument checks that end in message and an Error, never in a crash.
#pragma once

#include <executorch/runtime/core/exec_aten/exec_aten.h>
#include <executorch/runtime/kernel/kernel_includes.h>

#include <string>

#include "runtime/state_table.h"

namespace hilnas {

using executorch::aten::ScalarType;
using executorch::aten::Tensor;
using executorch::runtime::KernelRuntimeContext;

// Marks the call as failed with Error::InvalidArgument and keeps the message for take_kernel_error.
void fail_kernel(KernelRuntimeContext& ctx, const char* op, const std::string& message);

// The message of the last failed kernel call, then empty. The runner puts them into its error line.
std::string take_kernel_error();

bool is_float(const Tensor& t, int64_t dim);
bool is_dense(const Tensor& t);
std::string shape_text(const Tensor& t);

// The single value of an int64[1] tensor; fails on other tensors and on negative positions.
Result<int64_t> read_position(const Tensor& pos);

// The slot id at `index` of an int64 tensor.
Result<int64_t> read_slot(const Tensor& slots, int64_t index);

// Gives `out` the shape of `like`, or these sizes.
Status resize_out(Tensor& out, const Tensor& like);
Status resize_out(Tensor& out, std::initializer_list<int64_t> sizes);

}  // namespace hilnas

// Leaves the kernel when `condition` is false. `message` may build a string: it is evaluated on failure only.
#define HILNAS_OP_CHECK(ctx, op, condition, message, out) \
  do {                                                  \
    if (!(condition)) {                                 \
      ::hilnas::fail_kernel(ctx, op, message);            \
      return out;                                       \
    }                                                   \
  } while (false)
