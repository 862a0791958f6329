#include "runner/measure.h"

#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>

#include "runner/memory_probe.h"
#include "runtime/clock.h"
#include "runtime/op_time.h"

namespace hilnas {
namespace {

int64_t involuntary_switches() {
  rusage usage;
  return getrusage(RUSAGE_SELF, &usage) == 0 ? usage.ru_nivcsw : 0;
}

std::vector<int64_t> cycled(const std::vector<int64_t>& tokens, int64_t count) {
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < count; ++i) ids.push_back(tokens[static_cast<size_t>(i) % tokens.size()]);
  return ids;
}

// The part of a repetition that our own operators took; the rest is XNNPACK's and dispatch.
void add_custom_times(EventJson* fields) {
  const std::map<std::string, int64_t> times = op_times();
  int64_t total = 0;
  for (const auto& [op, ns] : times) total += ns;
  (*fields)["custom_ns"] = total;
  (*fields)["custom_op_ns"] = times;
}

}  // namespace

enum class Phase { kPrefill, kDecode, kFirstToken };

// What a repetition runs: prefill of `size` tokens, decode behind `size` tokens, or the first token behind a prompt of
// `size` tokens, of which a file holds the first `prefix`.
struct Measurement::Case {
  Phase phase;
  int64_t size;
  int64_t prefix = 0;
  bool restored = false;

  EventJson fields() const {
    if (phase == Phase::kDecode) return {{"phase", "decode"}, {"context", size}};
    if (phase == Phase::kPrefill) return {{"phase", "prefill"}, {"length", size}};
    return {{"phase", "first_token"}, {"length", size}, {"prefix", prefix}, {"restored", restored}};
  }
};

struct Measurement::Repetition {
  int64_t start_ns = 0, end_ns = 0, tokens = 0;
  int64_t restore_ns = 0;         // first token from a file
  int64_t switches = 0;           // involuntary ones of the process, at the start
  std::vector<int64_t> token_ns;  // decode
};

RunStatus Measurement::run() {
  const Protocol& p = plan_.protocol;
  const int64_t decode_warmup = p.decode_warmup_tokens ? 0 : p.warmup;
  memory("load");
  if (plan_.prefix) {
    if (RunStatus ran = plan_.prefix->save ? save_prefix() : measure_prefix(); !ran.ok()) return ran;
    memory("prefix");
  }
  for (int64_t length : p.prefill_lengths) {
    if (RunStatus ran = run_phase({Phase::kPrefill, length}, p.warmup, p.repetitions); !ran.ok()) return ran;
    memory("prefill:" + std::to_string(length));
  }
  for (int64_t context : p.decode_contexts) {
    if (RunStatus ran = run_phase({Phase::kDecode, context}, decode_warmup, p.decode_repetitions); !ran.ok()) return ran;
    memory("decode:" + std::to_string(context));
  }
  return run_ok();
}

void Measurement::memory(const std::string& at) {
  if (plan_.protocol.memory) events_.write("memory", memory_fields(at));
}

// Warm-ups and measured repetitions are counted from 0 each.
RunStatus Measurement::run_phase(const Case& phase, int64_t warmup, int64_t repetitions) {
  for (int64_t i = 0; i < warmup + repetitions; ++i) {
    const bool warm = i < warmup;
    if (RunStatus ran = run_one(phase, warm ? i : i - warmup, warm); !ran.ok()) return ran;
    if (!events_.usable()) return RunError{ExitCode::kOutputFailed, events_.message()};
  }
  return run_ok();
}

RunStatus Measurement::run_case(const Case& phase, Repetition& r) {
  if (phase.phase == Phase::kPrefill) return run_prefill(phase.size, r);
  return phase.phase == Phase::kDecode ? run_decode(phase.size, r) : run_first_token(phase, r);
}

RunStatus Measurement::run_one(const Case& phase, int64_t index, bool warmup) {
  const bool decode = phase.phase == Phase::kDecode;
  EventJson fields = phase.fields();
  fields.update({{"repetition", index}, {"warmup", warmup}});
  if (decode && plan_.protocol.decode_warmup_tokens) fields["warmup_tokens"] = *plan_.protocol.decode_warmup_tokens;
  EventJson canary_fields = EventJson::object();
  if (canary_ != nullptr) {
    const Outcome<int64_t> canary_ns = canary_->run();
    if (!canary_ns.ok()) return canary_ns.error();
    canary_fields["canary_ns"] = canary_ns.value();
  }
  Repetition r;
  if (RunStatus ran = run_case(phase, r); !ran.ok()) return ran;
  fields.update({{"start_ns", r.start_ns}, {"end_ns", r.end_ns}, {"duration_ns", r.end_ns - r.start_ns}});
  if (plan_.protocol.block_times) fields["block_ns"] = chain_.step_ns();
  add_custom_times(&fields);
  fields["tokens"] = r.tokens;
  if (phase.restored) fields["restore_ns"] = r.restore_ns;
  if (decode) fields["token_ns"] = r.token_ns;
  fields.update(canary_fields);
  if (const int cpu = sched_getcpu(); cpu >= 0) fields["cpu"] = cpu;
  fields["switches_involuntary"] = involuntary_switches() - r.switches;
  events_.write("repetition", fields);
  if (!warmup) measured_ns_ += r.end_ns - r.start_ns;
  return run_ok();
}

// What came before (the canary, entering a context, warm-up tokens) is nobody's time.
void Measurement::start_clocks(Repetition& r) {
  chain_.clear_step_ns();
  clear_op_times();
  r.switches = involuntary_switches();
  r.start_ns = monotonic_ns();
}

RunStatus Measurement::run_prefill(int64_t length, Repetition& r) {
  const std::vector<int64_t> ids = cycled(plan_.tokens, length);
  chain_.reset();
  r.tokens = length;
  start_clocks(r);
  RunStatus ran = chain_.forward_chunks(ids.data(), length);
  r.end_ns = monotonic_ns();
  return ran;
}

RunStatus Measurement::enter_context(int64_t context) {
  chain_.reset();
  if (plan_.protocol.enter_with_noise) {
    chain_.enter_noise(context, plan_.protocol.seed);
    return run_ok();
  }
  const std::vector<int64_t> ids = cycled(plan_.tokens, context);
  return chain_.forward_chunks(ids.data(), context);
}

// Leaves the id that follows in `id`.
RunStatus Measurement::decode_untimed(int64_t tokens, int64_t* id) {
  for (int64_t i = 0; i < tokens; ++i) {
    if (RunStatus ran = chain_.forward(id, 1, true); !ran.ok()) return ran;
    *id = chain_.argmax();
  }
  return run_ok();
}

// Greedy: a token's time runs from its id to the choice of the next one.
RunStatus Measurement::run_decode(int64_t context, Repetition& r) {
  if (RunStatus entered = enter_context(context); !entered.ok()) return entered;
  int64_t id = plan_.tokens[static_cast<size_t>(context) % plan_.tokens.size()];
  const int64_t warmup_tokens = plan_.protocol.decode_warmup_tokens.value_or(0);
  if (RunStatus warmed = decode_untimed(warmup_tokens, &id); !warmed.ok()) return warmed;
  r.tokens = plan_.protocol.decode_tokens;
  r.token_ns.reserve(static_cast<size_t>(r.tokens));
  start_clocks(r);
  int64_t before = r.start_ns;
  for (int64_t i = 0; i < r.tokens; ++i) {
    if (RunStatus ran = chain_.forward(&id, 1, true); !ran.ok()) return ran;
    id = chain_.argmax();
    const int64_t now = monotonic_ns();
    r.token_ns.push_back(now - before);
    before = now;
  }
  r.end_ns = before;
  return run_ok();
}

RunStatus Measurement::save_prefix() {
  const int64_t start = monotonic_ns(), length = plan_.prefix->length;
  const std::vector<int64_t> ids = cycled(plan_.tokens, length);
  chain_.reset();
  if (RunStatus ran = chain_.forward_chunks(ids.data(), length); !ran.ok()) return ran;
  const int64_t read = monotonic_ns();
  const Outcome<PrefixFile> file = chain_.save(plan_.prefix->path, ids);
  if (!file.ok()) return file.error();
  events_.write("prefix_saved", {{"tokens", length},
                                 {"file_bytes", file.value().file_bytes},
                                 {"prefill_ns", read - start},
                                 {"save_ns", monotonic_ns() - read}});
  return run_ok();
}

// Cold and restored in turn, so that a change of the machine's speed meets both.
RunStatus Measurement::measure_prefix() {
  const Outcome<int64_t> prefix = compare_prefix();
  if (!prefix.ok()) return prefix.error();
  Case phase{Phase::kFirstToken, prefix.value() + plan_.prefix->suffix, prefix.value()};
  const int64_t warmup = plan_.protocol.warmup;
  for (int64_t i = 0; i < warmup + plan_.protocol.repetitions; ++i) {
    for (bool restored : {false, true}) {
      phase.restored = restored;
      if (RunStatus ran = run_one(phase, i < warmup ? i : i - warmup, i < warmup); !ran.ok()) return ran;
    }
    if (!events_.usable()) return RunError{ExitCode::kOutputFailed, events_.message()};
  }
  return run_ok();
}

// Logits behind the suffix, from the file and from nothing. The tokens that the file holds.
Outcome<int64_t> Measurement::compare_prefix() {
  const int64_t capacity = plan_.chain.cache.capacity, suffix = plan_.prefix->suffix;
  const std::vector<int64_t> ids = cycled(plan_.tokens, capacity);
  const Outcome<PrefixFile> file = chain_.restore(plan_.prefix->path, ids);
  if (!file.ok()) return file.error();
  const int64_t prefix = file.value().position;
  if (suffix > capacity - prefix) {
    return RunError{ExitCode::kBadPrefix, plan_.prefix->path + " holds " + std::to_string(prefix) + " tokens and " +
                                              std::to_string(suffix) + " follow, the plan's cache has room for " +
                                              std::to_string(capacity)};
  }
  if (RunStatus ran = chain_.forward_chunks(ids.data() + prefix, suffix); !ran.ok()) return ran.error();
  const std::vector<float> restored(chain_.logits(), chain_.logits() + plan_.chain.vocab_size);
  const int64_t restored_argmax = chain_.argmax();
  chain_.reset();
  if (RunStatus ran = chain_.forward_chunks(ids.data(), prefix + suffix); !ran.ok()) return ran.error();
  double largest = 0, squares = 0;
  for (size_t i = 0; i < restored.size(); ++i) {
    const double cold = chain_.logits()[i];
    largest = std::max(largest, std::fabs(cold - restored[i]));
    squares += cold * cold;
  }
  events_.write("prefix_restored", {{"tokens", prefix},
                                    {"suffix", suffix},
                                    {"file_bytes", file.value().file_bytes},
                                    {"logits_equal", largest == 0},
                                    {"max_abs_difference", largest},
                                    {"logits_rms", std::sqrt(squares / static_cast<double>(restored.size()))},
                                    {"argmax_equal", chain_.argmax() == restored_argmax}});
  return prefix;
}

// From the ids to the choice of the next one.
RunStatus Measurement::run_first_token(const Case& phase, Repetition& r) {
  const std::vector<int64_t> ids = cycled(plan_.tokens, phase.size);
  chain_.reset();
  r.tokens = phase.restored ? phase.size - phase.prefix : phase.size;
  start_clocks(r);
  if (phase.restored) {
    if (const Outcome<PrefixFile> file = chain_.restore(plan_.prefix->path, ids); !file.ok()) return file.error();
    r.restore_ns = monotonic_ns() - r.start_ns;
  }
  RunStatus ran = chain_.forward_chunks(ids.data() + phase.size - r.tokens, r.tokens);
  chain_.argmax();
  r.end_ns = monotonic_ns();
  return ran;
}

}  // namespace hilnas
