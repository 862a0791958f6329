#include "runner/chain.h"

#include <executorch/extension/tensor/tensor_ptr.h>

#include <algorithm>
#include <map>
#include <set>

#include "runner/file_digest.h"
#include "runner/process_setup.h"
#include "runner/sha256.h"
#include "runtime/clock.h"
#include "runtime/state_table.h"
#include "runtime/threads.h"

namespace hilnas {
namespace {

using executorch::aten::ScalarType;
using executorch::aten::SizesType;
using executorch::extension::TensorPtr;
using executorch::runtime::EValue;

// XNNPACK's kernels may read some bytes past their input's end.
constexpr size_t kReadPastEnd = 256;

// The delegate's workspace grows while running, on the first long chunk.
constexpr int64_t kWorkspaceGrowth = int64_t{32} << 20;

TensorPtr tensor(const void* data, std::vector<SizesType> sizes, ScalarType type) {
  return executorch::extension::make_tensor_ptr(std::move(sizes), const_cast<void*>(data), type);
}

std::string describe_step(const StepSpec& spec) { return "step " + (spec.name.empty() ? spec.digest : spec.name); }

bool takes_ids(Role role) { return role == Role::kEmbedding || role == Role::kModel; }
bool gives_logits(Role role) { return role == Role::kHead || role == Role::kModel; }
bool has_state(Role role) { return role == Role::kMixer || role == Role::kModel; }

// Checks every file that the chain will read, side by side: hashing takes as long as loading does.
RunStatus verify_files(const ChainSpec& spec, const LoadContext& context) {
  std::map<std::string, int64_t> needed;
  for (const StepSpec& step : spec.steps) ++needed[step.digest];
  std::vector<std::pair<int64_t, std::string>> files;
  for (const auto& [digest, count] : needed) {
    if (context.pool->count(digest) >= count) continue;
    const Outcome<int64_t> bytes = block_bytes(context.path(digest));
    if (!bytes.ok()) return bytes.error();
    files.emplace_back(bytes.value(), digest);
  }
  std::sort(files.rbegin(), files.rend());  // the largest first, so that no thread is left with it at the end
  std::vector<RunStatus> results(files.size(), run_ok());
  parallel_tasks(static_cast<int64_t>(files.size()), [&](int64_t i) {
    const std::string& digest = files[static_cast<size_t>(i)].second;
    results[static_cast<size_t>(i)] = verify_block(context.path(digest), digest);
  });
  const auto failed = std::find_if(results.begin(), results.end(), [](const RunStatus& d) { return !d.ok(); });
  return failed == results.end() ? run_ok() : *failed;
}

}  // namespace

Outcome<std::unique_ptr<Chain>> Chain::load(const ChainSpec& spec, LoadContext& context) {
  const int64_t start = monotonic_ns();
  if (context.verify_digests) {
    if (RunStatus verified = verify_files(spec, context); !verified.ok()) return verified.error();
    context.report.verify_ns += monotonic_ns() - start;
  }
  std::unique_ptr<Chain> chain(new Chain(spec, context.pool));
  for (const StepSpec& step : spec.steps) {
    if (interrupted()) return RunError{ExitCode::kInterrupted, "stopped while loading"};
    if (RunStatus loaded = chain->load_step(step, context); !loaded.ok()) return loaded.error();
  }
  std::set<std::string> counted;
  for (const Step& step : chain->steps_) {
    if (counted.insert(step.spec.digest).second) context.report.file_bytes += step.instance->file_bytes();
  }
  if (RunStatus bound = chain->bind_buffers(); !bound.ok()) return bound.error();
  return chain;
}

Chain::~Chain() {
  for (Step& step : steps_) {
    if (step.instance != nullptr) pool_->give_back(std::move(step.instance));
  }
}

RunStatus Chain::load_step(const StepSpec& spec, LoadContext& context) {
  Step step{spec, pool_->take(spec.digest), {}};
  ++context.report.instances;
  if (step.instance != nullptr) {
    ++context.report.reused;
  } else {
    const std::string path = context.path(spec.digest);
    const Outcome<int64_t> bytes = block_bytes(path);
    if (!bytes.ok()) return bytes.error();
    auto loaded = StepInstance::load(path, spec.digest, bytes.value());
    if (!loaded.ok()) return explain_memory(loaded.error(), bytes.value());
    step.instance = std::move(loaded.value());
  }
  if (RunStatus shapes = check_shapes(step); !shapes.ok()) return shapes;
  if (RunStatus states = add_states(step); !states.ok()) return states;
  steps_.push_back(std::move(step));
  return run_ok();
}

RunStatus Chain::add_states(Step& step) {
  StateTable& table = StateTable::instance();
  for (const StateSpec& spec : step.spec.states) {
    const Result<int64_t> slot = table.add(spec.kind->make(spec.sizes, spec_.cache));
    if (!slot.ok()) {
      const bool memory = slot.status().kind() == Status::Kind::kOutOfMemory;
      return RunError{memory ? ExitCode::kOutOfMemory : ExitCode::kBadPlan,
                      describe_step(step.spec) + ": " + slot.message()};
    }
    step.slots.push_back(slot.value());
    all_slots_.push_back(slot.value());
  }
  return run_ok();
}

RunStatus Chain::check_shapes(const Step& step) const {
  const Role role = step.spec.role;
  const size_t inputs = has_state(role) ? 3 : 1;
  const auto fail = [&](const std::string& message) {
    return RunError{ExitCode::kLoadFailed, describe_step(step.spec) + " does not fit its role: " + message};
  };
  if (step.instance->num_inputs() != inputs) {
    return fail("it has " + std::to_string(step.instance->num_inputs()) + " inputs, not " + std::to_string(inputs));
  }
  const auto& in = step.instance->input_shape(0);
  const auto& out = step.instance->output_shape();
  if (in.size() != (takes_ids(role) ? 2u : 3u))
    return fail("its first input has " + std::to_string(in.size()) + " dimensions");
  if (role != Role::kHead && in[1] < spec_.max_chunk) {
    return fail("exported for " + std::to_string(in[1]) + " tokens, max_chunk is " + std::to_string(spec_.max_chunk));
  }
  if (!takes_ids(role) && in[2] != spec_.hidden_size) return fail("its hidden size is " + std::to_string(in[2]));
  const int64_t width = gives_logits(role) ? spec_.vocab_size : spec_.hidden_size;
  if (out.size() != 3 || out[2] != width) return fail("its output is not " + std::to_string(width) + " wide");
  if (has_state(role) &&
      step.instance->input_shape(1) != std::vector<int64_t>{static_cast<int64_t>(step.spec.states.size())}) {
    return fail("it wants another number of states than the plan's " + std::to_string(step.spec.states.size()));
  }
  return run_ok();
}

RunStatus Chain::bind_buffers() {
  size_t hidden_bytes = static_cast<size_t>(spec_.max_chunk * spec_.hidden_size) * sizeof(float);
  size_t logit_bytes = 0;
  for (const Step& step : steps_) {
    size_t& needed = gives_logits(step.spec.role) ? logit_bytes : hidden_bytes;
    needed = std::max(needed, step.instance->output_bytes());
  }
  hidden_[0] = StateMemory(hidden_bytes + kReadPastEnd);
  hidden_[1] = StateMemory(hidden_bytes + kReadPastEnd);
  logits_ = StateMemory(logit_bytes + kReadPastEnd);
  if (!hidden_[0].valid() || !hidden_[1].valid() || !logits_.valid()) {
    return RunError{ExitCode::kOutOfMemory, "no room for the hidden states between steps"};
  }
  // A canary without embedding starts from this; zeros would make a norm's result depend on its epsilon alone.
  if (!takes_ids(steps_.front().spec.role)) std::fill_n(hidden(0), hidden_bytes / sizeof(float), 0.01f);
  step_ns_.assign(steps_.size(), 0);
  for (size_t i = 0; i < steps_.size(); ++i) {
    const bool last = gives_logits(steps_[i].spec.role);
    void* target = last ? logits_.data() : hidden(i + 1);
    if (RunStatus bound = steps_[i].instance->bind_output(target, last ? logit_bytes : hidden_bytes); !bound.ok())
      return bound;
  }
  return run_ok();
}

void Chain::reset() {
  StateTable::instance().reset(all_slots_);
  position_ = 0;
}

void Chain::enter_noise(int64_t tokens, uint64_t seed) {
  StateTable::instance().fill_noise(all_slots_, tokens, seed);
  position_ = tokens;
}

// The same blocks in the same roles and order compute the same states.
PrefixKey Chain::prefix_key() const {
  Sha256 sha;
  for (const Step& step : steps_) {
    const std::string line = std::to_string(static_cast<int>(step.spec.role)) + " " + step.spec.digest + "\n";
    sha.update(reinterpret_cast<const uint8_t*>(line.data()), line.size());
  }
  return {sha.hex_digest(), spec_.cache.dtype, spec_.cache.capacity, all_slots_};
}

Outcome<PrefixFile> Chain::save(const std::string& path, const std::vector<int64_t>& ids) const {
  return save_prefix(path, prefix_key(), ids, position_);
}

Outcome<PrefixFile> Chain::restore(const std::string& path, const std::vector<int64_t>& ids) {
  Outcome<PrefixFile> file = restore_prefix(path, prefix_key(), ids);
  if (file.ok()) position_ = file.value().position;
  return file;
}

RunStatus Chain::run_step(Step& step, const float* hidden, const int64_t* ids, int64_t count) {
  const auto T = static_cast<SizesType>(count);
  const auto d = static_cast<SizesType>(spec_.hidden_size);
  const Role role = step.spec.role;
  TensorPtr slots, pos, first;
  if (takes_ids(role)) {
    first = tensor(ids, {1, T}, ScalarType::Long);
  } else if (role == Role::kHead) {
    first = tensor(hidden + (count - 1) * spec_.hidden_size, {1, 1, d}, ScalarType::Float);
  } else {
    first = tensor(hidden, {1, T, d}, ScalarType::Float);
  }
  std::vector<EValue> inputs = {EValue(*first)};
  if (has_state(role)) {
    slots = tensor(step.slots.data(), {static_cast<SizesType>(step.slots.size())}, ScalarType::Long);
    pos = tensor(&position_, {1}, ScalarType::Long);
    inputs.emplace_back(*slots);
    inputs.emplace_back(*pos);
  }
  return step.instance->run(inputs);
}

RunStatus Chain::forward(const int64_t* ids, int64_t count, bool want_logits) {
  for (size_t i = 0; i < steps_.size(); ++i) {
    if (steps_[i].spec.role == Role::kHead && !want_logits) continue;
    const int64_t start = monotonic_ns();
    if (RunStatus ran = run_step(steps_[i], hidden(i), ids, count); !ran.ok()) {
      const RunError error{ran.error().code, describe_step(steps_[i].spec) + ": " + ran.error().message};
      return explain_memory(error, kWorkspaceGrowth);
    }
    step_ns_[i] += monotonic_ns() - start;
  }
  position_ += count;
  if (interrupted()) return RunError{ExitCode::kInterrupted, "stopped by a signal"};
  return run_ok();
}

RunStatus Chain::forward_chunks(const int64_t* ids, int64_t count) {
  for (int64_t at = 0; at < count; at += spec_.max_chunk) {
    const int64_t chunk = std::min(spec_.max_chunk, count - at);
    if (RunStatus ran = forward(ids + at, chunk, at + chunk == count); !ran.ok()) return ran;
  }
  return run_ok();
}

// Eight running maxima, so that the search keeps up with memory: 65536 logits cost 10 us, not 60.
int64_t Chain::argmax() const {
  constexpr size_t kLanes = 8;
  const size_t n = static_cast<size_t>(spec_.vocab_size);
  const float* values = logits();
  float best[kLanes];
  std::fill(best, best + kLanes, values[0]);
  for (size_t i = 0; i + kLanes <= n; i += kLanes) {
    for (size_t u = 0; u < kLanes; ++u) best[u] = values[i + u] > best[u] ? values[i + u] : best[u];
  }
  float top = *std::max_element(best, best + kLanes);
  for (size_t i = n - n % kLanes; i < n; ++i) top = std::max(top, values[i]);
  const float* found = std::find(values, values + n, top);
  return found == values + n ? 0 : found - values;  // only NaN is never found
}

}  // namespace hilnas
