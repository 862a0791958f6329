// One loaded step of a chain: its own Module, hence its own packed weights, over activation memory shared by all.
#pragma once

#include <executorch/extension/module/module.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runner/errors.h"

namespace hilnas {

// Address space for the planned activations of every step. Steps run one after the other, so they may share it; it is
// reserved once because loaded programs keep addresses into it, and takes memory only as far as steps need it.
class ActivationArena {
 public:
  static ActivationArena& instance();
  // At least `bytes` usable from data(); nullptr when the reservation is too small or memory is short.
  uint8_t* ensure(size_t bytes);
  // Gives the pages back; programs that point here stay valid, since they keep nothing between runs.
  void discard();

 private:
  uint8_t* base_ = nullptr;
  size_t usable_ = 0;
};

class StepInstance {
 public:
  using EValue = executorch::runtime::EValue;

  static Outcome<std::unique_ptr<StepInstance>> load(const std::string& path, const std::string& digest,
                                                     int64_t file_bytes);

  // Where the program's one output goes from now on. `bytes` may exceed what it needs.
  RunStatus bind_output(void* data, size_t bytes);
  RunStatus run(const std::vector<EValue>& inputs);

  const std::string& digest() const { return digest_; }
  int64_t file_bytes() const { return file_bytes_; }
  size_t num_inputs() const { return input_shapes_.size(); }
  // Upper bounds: the shapes of the export.
  const std::vector<int64_t>& input_shape(size_t i) const { return input_shapes_[i]; }
  const std::vector<int64_t>& output_shape() const { return output_shape_; }
  size_t output_bytes() const { return output_bytes_; }

 private:
  RunStatus load_method();
  RunStatus read_shapes();

  std::string digest_;
  int64_t file_bytes_ = 0;
  std::unique_ptr<executorch::extension::Module> module_;
  std::vector<executorch::runtime::Span<uint8_t>> spans_;
  std::unique_ptr<executorch::runtime::HierarchicalAllocator> planned_;
  std::vector<std::vector<int64_t>> input_shapes_;
  std::vector<int64_t> output_shape_;
  size_t output_bytes_ = 0;
};

// Settings of the XNNPACK delegate that all steps share; before the first load. Unknown options are left alone.
void configure_backends();

}  // namespace hilnas
