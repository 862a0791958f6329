#include "runner/session.h"

#include <cstdio>
#include <new>

#include "runner/check.h"
#include "runner/crash_handler.h"
#include "runner/measure.h"
#include "runner/process_setup.h"
#include "runner/system_info.h"
#include "runtime/clock.h"
#include "runtime/state_table.h"

namespace hilnas {
namespace {

void write_start(const Plan& plan, EventWriter& events) {
  EventJson fields = system_fields();
  fields["threads"] = plan.protocol.threads;
  events.write("start", fields);
}

void write_load(const LoadReport& report, int64_t load_ns, EventWriter& events) {
  EventJson fields = {{"load_ns", load_ns},
                      {"instances", report.instances},
                      {"reused", report.reused},
                      {"file_bytes", report.file_bytes},
                      {"state_bytes", StateTable::instance().bytes()}};
  if (report.verify_ns > 0) fields["verify_ns"] = report.verify_ns;
  events.write("load", fields);
}

RunStatus check_first(const Plan& plan, Chain& chain, EventWriter& events) {
  if (!plan.check) return run_ok();
  Outcome<CheckResult> checked = run_check(*plan.check, chain);
  if (!checked.ok()) return checked.error();
  events.write("check", checked.value().fields);
  if (checked.value().passed) return run_ok();
  return RunError{ExitCode::kCheckFailed, "logits are outside the plan's tolerances; nothing was measured"};
}

RunStatus run_loaded(const Plan& plan, InstancePool& pool, EventWriter& events, int64_t start_ns) {
  LoadContext context{plan.blocks_dir, plan.verify_digests, &pool, {}};
  const int64_t load_start = monotonic_ns();
  auto chain = Chain::load(plan.chain, context);
  if (!chain.ok()) return chain.error();
  std::unique_ptr<Canary> canary;
  if (plan.canary) {
    auto loaded = Canary::load(*plan.canary, context);
    if (!loaded.ok()) return loaded.error();
    canary = std::move(loaded.value());
  }
  write_load(context.report, monotonic_ns() - load_start, events);
  if (RunStatus checked = check_first(plan, *chain.value(), events); !checked.ok()) return checked;
  Measurement measurement(plan, *chain.value(), canary.get(), events);
  if (RunStatus measured = measurement.run(); !measured.ok()) return measured;
  events.write("end",
               {{"ok", true}, {"forward_ns", measurement.measured_ns()}, {"wall_ns", monotonic_ns() - start_ns}});
  return run_ok();
}

RunStatus run_plan(const std::string& path, InstancePool& pool, EventWriter& events) {
  const int64_t start_ns = monotonic_ns();
  const Outcome<std::string> text = read_plan_text(path);
  if (!text.ok()) return text.error();
  std::string id;
  const Outcome<Plan> plan = parse_plan(text.value(), &id);
  events.set_plan_id(id);
  install_crash_handlers(events.fd(), id);
  if (!plan.ok()) return plan.error();
  if (RunStatus applied = apply_threads(plan.value().protocol, pool); !applied.ok()) return applied;
  write_start(plan.value(), events);
  const int64_t memory_limit = plan.value().protocol.memory_limit_bytes;
  if (RunStatus fits = fits_memory_limit(memory_limit); !fits.ok()) return fits;
  apply_memory_limit(memory_limit);
  return run_loaded(plan.value(), pool, events, start_ns);
}

RunStatus guarded(const std::string& path, InstancePool& pool, EventWriter& events) {
  try {
    return run_plan(path, pool, events);
  } catch (const std::bad_alloc&) {
    return RunError{ExitCode::kOutOfMemory, "an allocation was refused"};
  } catch (const std::exception& error) {
    return RunError{ExitCode::kExecutionFailed, error.what()};
  }
}

}  // namespace

ExitCode run_plan_file(const std::string& path, InstancePool& pool, EventWriter& events) {
  events.set_plan_id("");
  const RunStatus ran = guarded(path, pool, events);
  apply_memory_limit(0);
  StateTable::instance().clear();
  ActivationArena::instance().discard();
  if (!events.usable()) {
    std::fprintf(stderr, "hilnas-runner: %s\n", events.message().c_str());
    return ExitCode::kOutputFailed;
  }
  if (ran.ok()) return ExitCode::kOk;
  events.write("error", {{"code", exit_name(ran.error().code)}, {"message", ran.error().message}});
  return ran.error().code;
}

}  // namespace hilnas
