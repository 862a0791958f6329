// One plan from its text to its exit code.
#pragma once

#include <string>

#include "runner/errors.h"
#include "runner/events.h"
#include "runner/instance_pool.h"

namespace hilnas {

// Every failure ends as an error line (unless lines cannot be written) and its exit code. Never throws.
ExitCode run_plan_file(const std::string& path, InstancePool& pool, EventWriter& events);

}  // namespace hilnas
