#pragma once

#include <cstdint>
#include <string>

#include "runner/errors.h"

namespace hilnas {

// Size of a block file, or missing_block.
Outcome<int64_t> block_bytes(const std::string& path);

// wrong_digest unless the content's sha256 is `digest`.
RunStatus verify_block(const std::string& path, const std::string& digest);

}  // namespace hilnas
