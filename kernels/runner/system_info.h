#pragma once

#include "runner/events.h"

namespace hilnas {

const char* runner_version();
const char* executorch_version();

// Fields of the start event that describe this process and machine.
EventJson system_fields();

}  // namespace hilnas
