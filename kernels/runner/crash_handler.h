#pragma once

#include <string>

namespace hilnas {

// Makes a fatal signal write one error line to `fd` and exit with code 70. Call again when plan or fd change.
void install_crash_handlers(int fd, const std::string& plan_id);

// While memory is limited, a fatal signal is reported as out_of_memory.
void set_crash_memory_limited(bool limited);

}  // namespace hilnas
