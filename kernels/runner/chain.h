// A candidate: its steps loaded and joined, run from token ids to logits over the states of its mixers.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runner/instance_pool.h"
#include "runner/plan.h"
#include "runner/prefix_file.h"
#include "runner/step_instance.h"
#include "runtime/state_memory.h"

namespace hilnas {

struct LoadReport {
  int64_t instances = 0;
  int64_t reused = 0;
  int64_t file_bytes = 0;  // of distinct files
  int64_t verify_ns = 0;
};

struct LoadContext {
  std::string blocks_dir;
  bool verify_digests = true;
  InstancePool* pool = nullptr;
  LoadReport report;

  std::string path(const std::string& digest) const { return blocks_dir + "/" + digest + ".pte"; }
};

class Chain {
 public:
  static Outcome<std::unique_ptr<Chain>> load(const ChainSpec& spec, LoadContext& context);
  ~Chain();  // gives the instances back to the pool

  // Empties the context, or fills the states as if `tokens` of seeded noise had passed.
  void reset();
  void enter_noise(int64_t tokens, uint64_t seed);

  // Runs `count` (at most max_chunk) tokens; logits are computed for the last one on request.
  RunStatus forward(const int64_t* ids, int64_t count, bool want_logits);
  // The same over any number of tokens in chunks of max_chunk; logits of the very last one.
  RunStatus forward_chunks(const int64_t* ids, int64_t count);

  const float* logits() const { return static_cast<const float*>(logits_.data()); }
  int64_t argmax() const;
  int64_t position() const { return position_; }

  // The states after the first position() of `ids`, as a file; and from such a file, whose tokens `ids` must begin with.
  Outcome<PrefixFile> save(const std::string& path, const std::vector<int64_t>& ids) const;
  Outcome<PrefixFile> restore(const std::string& path, const std::vector<int64_t>& ids);

  // Time spent in each step since the last clear.
  const std::vector<int64_t>& step_ns() const { return step_ns_; }
  void clear_step_ns() { step_ns_.assign(step_ns_.size(), 0); }

 private:
  struct Step {
    StepSpec spec;
    std::unique_ptr<StepInstance> instance;
    std::vector<int64_t> slots;
  };

  explicit Chain(const ChainSpec& spec, InstancePool* pool) : spec_(spec), pool_(pool) {}
  RunStatus load_step(const StepSpec& spec, LoadContext& context);
  RunStatus add_states(Step& step);
  RunStatus check_shapes(const Step& step) const;
  RunStatus bind_buffers();
  PrefixKey prefix_key() const;
  RunStatus run_step(Step& step, const float* hidden, const int64_t* ids, int64_t count);
  float* hidden(size_t step) const { return static_cast<float*>(hidden_[step % 2].data()); }

  ChainSpec spec_;
  InstancePool* pool_;
  std::vector<Step> steps_;
  std::vector<int64_t> all_slots_;
  StateMemory hidden_[2];  // step i reads hidden_[i % 2] and writes hidden_[(i + 1) % 2]
  StateMemory logits_;
  std::vector<int64_t> step_ns_;
  int64_t position_ = 0;
};

}  // namespace hilnas
