#pragma once

#include "runner/errors.h"
#include "runner/events.h"
#include "runner/instance_pool.h"

namespace hilnas {

// Reads one plan path a line from stdin, runs it and ends it with {"event":"done","exit":N}. Returns at end of input
// or on interruption; a failed plan does not end the service, an output that cannot be written does.
ExitCode serve(InstancePool& pool, EventWriter& events);

}  // namespace hilnas
