#include "runner/measure.h"

#include <sched.h>
#include <sys/resource.h>

#include <cstring>

#include "runner/clock.h"
#include "runner/memory_probe.h"

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

}  // namespace

struct Measurement::Repetition {
  int64_t start_ns = 0, end_ns = 0, tokens = 0;
  std::vector<int64_t> token_ns;  // decode
};

Done Measurement::run() {
  memory("load");
  for (int64_t length : plan_.protocol.prefill_lengths) {
    if (Done ran = repeat("prefill", length); !ran.ok()) return ran;
    memory("prefill:" + std::to_string(length));
  }
  for (int64_t context : plan_.protocol.decode_contexts) {
    if (Done ran = repeat("decode", context); !ran.ok()) return ran;
    memory("decode:" + std::to_string(context));
  }
  return done();
}

void Measurement::memory(const std::string& at) {
  if (plan_.protocol.memory) events_.write("memory", memory_fields(at));
}

Done Measurement::repeat(const char* phase, int64_t size) {
  for (int64_t i = -plan_.protocol.warmup; i < plan_.protocol.repetitions; ++i) {
    if (Done ran = run_one(phase, size, i); !ran.ok()) return ran;
    if (!events_.usable()) return RunError{ExitCode::kOutputFailed, events_.words()};
  }
  return done();
}

// index < 0: warm-up, counted up to -1.
Done Measurement::run_one(const char* phase, int64_t size, int64_t index) {
  const bool prefill = std::strcmp(phase, "prefill") == 0, warmup = index < 0;
  EventJson fields = {{"phase", phase},
                      {prefill ? "length" : "context", size},
                      {"repetition", warmup ? index + plan_.protocol.warmup : index},
                      {"warmup", warmup}};
  EventJson canary_fields = EventJson::object();
  if (canary_ != nullptr) {
    const Outcome<int64_t> canary_ns = canary_->run();
    if (!canary_ns.ok()) return canary_ns.error();
    canary_fields["canary_ns"] = canary_ns.value();
  }
  const int64_t switches = involuntary_switches();
  Repetition r;
  if (Done ran = prefill ? run_prefill(size, r) : run_decode(size, r); !ran.ok()) return ran;
  fields.update({{"start_ns", r.start_ns}, {"end_ns", r.end_ns}, {"duration_ns", r.end_ns - r.start_ns}});
  if (plan_.protocol.block_times) fields["block_ns"] = chain_.step_ns();
  fields["tokens"] = r.tokens;
  if (!prefill) fields["token_ns"] = r.token_ns;
  fields.update(canary_fields);
  if (const int cpu = sched_getcpu(); cpu >= 0) fields["cpu"] = cpu;
  fields["switches_involuntary"] = involuntary_switches() - switches;
  events_.write("repetition", fields);
  if (!warmup) measured_ns_ += r.end_ns - r.start_ns;
  return done();
}

Done Measurement::run_prefill(int64_t length, Repetition& r) {
  const std::vector<int64_t> ids = cycled(plan_.tokens, length);
  chain_.reset();
  chain_.clear_step_ns();
  r.tokens = length;
  r.start_ns = monotonic_ns();
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

// Greedy: a token's time runs from its id to the choice of the next one.
Done Measurement::run_decode(int64_t context, Repetition& r) {
  if (Done entered = enter_context(context); !entered.ok()) return entered;
  int64_t id = plan_.tokens[static_cast<size_t>(context) % plan_.tokens.size()];
  chain_.clear_step_ns();
  r.tokens = plan_.protocol.decode_tokens;
  r.token_ns.reserve(static_cast<size_t>(r.tokens));
  r.start_ns = monotonic_ns();
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
