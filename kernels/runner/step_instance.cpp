#include "runner/step_instance.h"

#include <executorch/extension/tensor/tensor_ptr.h>
#include <executorch/runtime/backend/interface.h>
#include <sys/mman.h>

#include <algorithm>

#include "runtime/op_support.h"

namespace hilnas {
namespace {

using executorch::extension::Module;
using executorch::runtime::Error;

constexpr size_t kArenaReserve = size_t{4} << 30;
constexpr size_t kArenaAlignment = 64;
constexpr size_t kReadPastEnd = 256;  // XNNPACK's kernels may read some bytes past their input's end
constexpr const char* kMethod = "forward";

size_t aligned(size_t bytes) { return (bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment; }

RunError runtime_error(ExitCode code, const std::string& what, Error error) {
  const std::string kernel_message = take_kernel_error();
  const ExitCode actual = error == Error::MemoryAllocationFailed ? ExitCode::kOutOfMemory : code;
  std::string message = what + ": " + executorch::runtime::to_string(error);
  if (!kernel_message.empty()) message += " (" + kernel_message + ")";
  return {actual, message};
}

std::vector<int64_t> to_shape(const executorch::runtime::TensorInfo& info) {
  return {info.sizes().begin(), info.sizes().end()};
}

}  // namespace

ActivationArena& ActivationArena::instance() {
  static ActivationArena arena;
  return arena;
}

uint8_t* ActivationArena::ensure(size_t bytes) {
  if (base_ == nullptr) {
    void* mapped = mmap(nullptr, kArenaReserve, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) return nullptr;
    base_ = static_cast<uint8_t*>(mapped);
  }
  if (bytes > kArenaReserve) return nullptr;
  if (bytes > usable_) {
    const size_t rounded = (bytes + 4095) / 4096 * 4096;
    if (mprotect(base_, rounded, PROT_READ | PROT_WRITE) != 0) return nullptr;
    usable_ = rounded;
  }
  return base_;
}

void ActivationArena::discard() {
  if (base_ != nullptr) madvise(base_, usable_, MADV_DONTNEED);
}

Outcome<std::unique_ptr<StepInstance>> StepInstance::load(const std::string& path, const std::string& digest,
                                                          int64_t file_bytes) {
  auto step = std::make_unique<StepInstance>();
  step->digest_ = digest;
  step->file_bytes_ = file_bytes;
  step->module_ = std::make_unique<Module>(path, Module::LoadMode::Mmap);
  const Error loaded = step->module_->load();
  if (loaded != Error::Ok) return runtime_error(ExitCode::kLoadFailed, "cannot load " + path, loaded);
  if (RunStatus shapes = step->read_shapes(); !shapes.ok()) return shapes.error();
  if (RunStatus method = step->load_method(); !method.ok()) return method.error();
  return step;
}

RunStatus StepInstance::read_shapes() {
  const auto meta = module_->method_meta(kMethod);
  if (!meta.ok())
    return runtime_error(ExitCode::kLoadFailed, "block " + digest_ + " has no method forward", meta.error());
  if (meta->num_outputs() != 1)
    return RunError{ExitCode::kLoadFailed, "block " + digest_ + " has not exactly one output"};
  for (size_t i = 0; i < meta->num_inputs(); ++i) {
    const auto info = meta->input_tensor_meta(i);
    if (!info.ok())
      return runtime_error(ExitCode::kLoadFailed, "block " + digest_ + ": input is not a tensor", info.error());
    input_shapes_.push_back(to_shape(*info));
  }
  const auto info = meta->output_tensor_meta(0);
  if (!info.ok())
    return runtime_error(ExitCode::kLoadFailed, "block " + digest_ + ": output is not a tensor", info.error());
  output_shape_ = to_shape(*info);
  output_bytes_ = info->nbytes();
  return run_ok();
}

RunStatus StepInstance::load_method() {
  const auto meta = module_->method_meta(kMethod);
  size_t total = 0;
  std::vector<size_t> sizes;
  for (size_t i = 0; i < meta->num_memory_planned_buffers(); ++i) {
    sizes.push_back(static_cast<size_t>(meta->memory_planned_buffer_size(i).get()));
    total += aligned(sizes.back());
  }
  uint8_t* base = ActivationArena::instance().ensure(total + kReadPastEnd);
  if (base == nullptr) {
    return RunError{ExitCode::kOutOfMemory, "no " + std::to_string(total) + " bytes of activations for " + digest_};
  }
  for (size_t size : sizes) {
    spans_.emplace_back(base, size);
    base += aligned(size);
  }
  planned_ = std::make_unique<executorch::runtime::HierarchicalAllocator>(
      executorch::runtime::Span<executorch::runtime::Span<uint8_t>>(spans_.data(), spans_.size()));
  const Error loaded = module_->load_method(kMethod, planned_.get());
  if (loaded != Error::Ok) return runtime_error(ExitCode::kLoadFailed, "cannot load block " + digest_, loaded);
  return run_ok();
}

RunStatus StepInstance::bind_output(void* data, size_t bytes) {
  if (bytes < output_bytes_) {
    return RunError{ExitCode::kLoadFailed, "block " + digest_ + " writes " + std::to_string(output_bytes_) +
                                               " bytes, its place in the chain has " + std::to_string(bytes)};
  }
  std::vector<executorch::aten::SizesType> sizes(output_shape_.begin(), output_shape_.end());
  const auto tensor = executorch::extension::make_tensor_ptr(std::move(sizes), data);
  const Error bound = module_->set_output(kMethod, EValue(*tensor));
  if (bound == Error::Ok) return run_ok();
  return runtime_error(ExitCode::kLoadFailed, "block " + digest_ + " must be exported with alloc_graph_output=False",
                       bound);
}

RunStatus StepInstance::run(const std::vector<EValue>& inputs) {
  const auto outputs = module_->execute(kMethod, inputs);
  if (outputs.ok()) return run_ok();
  return runtime_error(ExitCode::kExecutionFailed, "block " + digest_ + " failed", outputs.error());
}

void configure_backends() {
  // Keys are the delegate's own. Sharing mode 2 is "global": one workspace for all steps, which never run at the same
  // time. The weight cache would hand two steps of one block the same packed weights: a candidate with sixteen layers
  // would then read less memory than the real model does.
  executorch::runtime::BackendOptions<2> options;
  (void)options.set_option("workspace_sharing_mode", 2);
  (void)options.set_option("weight_cache_enabled", false);
  for (size_t i = 0; i < options.view().size(); ++i) {
    (void)executorch::runtime::set_option("XnnpackBackend", {options.view().data() + i, 1});
  }
}

}  // namespace hilnas
