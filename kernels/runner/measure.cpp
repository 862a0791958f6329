#include "runner/measure.h"

#include <sched.h>
#include <sys/resource.h>

#include <cstring>

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

struct Measurement::Repetition {
  int64_t start_ns = 0, end_ns = 0, tokens = 0;
  int64_t switches = 0;           // involuntary ones of the process, at the start
  std::vector<int64_t> token_ns;  // decode
};

Done Measurement::run() {
  const Protocol& p = plan_.protocol;
  const int64_t decode_warmup = p.decode_warmup_tokens ? 0 : p.warmup;
  memory("load");
  for (int64_t length : p.prefill_lengths) {
    if (Done ran = repeat("prefill", length, p.warmup, p.repetitions); !ran.ok()) return ran;
    memory("prefill:" + std::to_string(length));
  }
  for (int64_t context : p.decode_contexts) {
    if (Done ran = repeat("decode", context, decode_warmup, p.decode_repetitions); !ran.ok()) return ran;
    memory("decode:" + std::to_string(context));
  }
  return done();
}

void Measurement::memory(const std::string& at) {
  if (plan_.protocol.memory) events_.write("memory", memory_fields(at));
}

// Warm-ups and measured repetitions are counted from 0 each.
Done Measurement::repeat(const char* phase, int64_t size, int64_t warmup, int64_t repetitions) {
  for (int64_t i = 0; i < warmup + repetitions; ++i) {
    const bool warm = i < warmup;
    if (Done ran = run_one(phase, size, warm ? i : i - warmup, warm); !ran.ok()) return ran;
    if (!events_.usable()) return RunError{ExitCode::kOutputFailed, events_.words()};
  }
  return done();
}

Done Measurement::run_one(const char* phase, int64_t size, int64_t index, bool warmup) {
  const bool prefill = std::strcmp(phase, "prefill") == 0;
  EventJson fields = {
      {"phase", phase}, {prefill ? "length" : "context", size}, {"repetition", index}, {"warmup", warmup}};
  if (!prefill && plan_.protocol.decode_warmup_tokens) fields["warmup_tokens"] = *plan_.protocol.decode_warmup_tokens;
  EventJson canary_fields = EventJson::object();
  if (canary_ != nullptr) {
    const Outcome<int64_t> canary_ns = canary_->run();
    if (!canary_ns.ok()) return canary_ns.error();
    canary_fields["canary_ns"] = canary_ns.value();
  }
  Repetition r;
  if (Done ran = prefill ? run_prefill(size, r) : run_decode(size, r); !ran.ok()) return ran;
  fields.update({{"start_ns", r.start_ns}, {"end_ns", r.end_ns}, {"duration_ns", r.end_ns - r.start_ns}});
  if (plan_.protocol.block_times) fields["block_ns"] = chain_.step_ns();
  add_custom_times(&fields);
  fields["tokens"] = r.tokens;
  if (!prefill) fields["token_ns"] = r.token_ns;
  fields.update(canary_fields);
  if (const int cpu = sched_getcpu(); cpu >= 0) fields["cpu"] = cpu;
  fields["switches_involuntary"] = involuntary_switches() - r.switches;
  events_.write("repetition", fields);
  if (!warmup) measured_ns_ += r.end_ns - r.start_ns;
  return done();
}

// What came before (the canary, entering a context, warm-up tokens) is nobody's time.
void Measurement::start_clocks(Repetition& r) {
  chain_.clear_step_ns();
  clear_op_times();
  r.switches = involuntary_switches();
  r.start_ns = monotonic_ns();
}

Done Measurement::run_prefill(int64_t length, Repetition& r) {
  const std::vector<int64_t> ids = cycled(plan_.tokens, length);
  chain_.reset();
  r.tokens = length;
  start_clocks(r);
  Done ran = chain_.forward_chunks(ids.data(), length);
  r.end_ns = monotonic_ns();
  return ran;
}

Done Measurement::enter_context(int64_t context) {
  chain_.reset();
  if (plan_.protocol.enter_with_noise) {
    chain_.enter_noise(context, plan_.protocol.seed);
    return done();
  }
  const std::vector<int64_t> ids = cycled(plan_.tokens, context);
  return chain_.forward_chunks(ids.data(), context);
}

// Leaves the id that follows in `id`.
Done Measurement::decode_untimed(int64_t tokens, int64_t* id) {
  for (int64_t i = 0; i < tokens; ++i) {
    if (Done ran = chain_.forward(id, 1, true); !ran.ok()) return ran;
    *id = chain_.argmax();
  }
  return done();
}

// Greedy: a token's time runs from its id to the choice of the next one.
Done Measurement::run_decode(int64_t context, Repetition& r) {
  if (Done entered = enter_context(context); !entered.ok()) return entered;
  int64_t id = plan_.tokens[static_cast<size_t>(context) % plan_.tokens.size()];
  const int64_t warmup_tokens = plan_.protocol.decode_warmup_tokens.value_or(0);
  if (Done warmed = decode_untimed(warmup_tokens, &id); !warmed.ok()) return warmed;
  r.tokens = plan_.protocol.decode_tokens;
  r.token_ns.reserve(static_cast<size_t>(r.tokens));
  start_clocks(r);
  int64_t before = r.start_ns;
  for (int64_t i = 0; i < r.tokens; ++i) {
    if (Done ran = chain_.forward(&id, 1, true); !ran.ok()) return ran;
    id = chain_.argmax();
    const int64_t now = monotonic_ns();
    r.token_ns.push_back(now - before);
    before = now;
  }
  r.end_ns = before;
  return done();
}

}  // namespace hilnas
