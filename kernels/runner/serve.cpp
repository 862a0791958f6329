#include "runner/serve.h"

#include <iostream>
#include <string>

#include "runner/process_setup.h"
#include "runner/session.h"

namespace hilnas {

ExitCode serve(InstancePool& pool, EventWriter& events) {
  for (std::string path; !interrupted() && std::getline(std::cin, path);) {
    if (path.empty()) continue;
    const ExitCode code = run_plan_file(path, pool, events);
    events.write("done", {{"exit", static_cast<int>(code)}});
    if (!events.usable()) return ExitCode::kOutputFailed;
  }
  if (!interrupted()) return ExitCode::kOk;
  events.write("error", {{"code", exit_name(ExitCode::kInterrupted)}, {"message", "stopped while waiting for a plan"}});
  return ExitCode::kInterrupted;
}

}  // namespace hilnas
