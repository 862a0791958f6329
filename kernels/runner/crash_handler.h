#pragma once

#include <string>

namespace hilnas {

// A fatal signal then ends in one error line on `fd` and exit code 70. Call again when plan or fd change.
void install_crash_handlers(int fd, const std::string& plan_id);

// While memory is limited a fatal signal is told as out_of_memory.
void tell_crash_handlers_of_limit(bool limited);

}  // namespace hilnas
