#include "ops/embedding/embedding.h"

#include <algorithm>

#include "runtime/threads.h"

namespace hilnas {
namespace {

// 16 rows of a thousand columns take some microseconds: worth a thread.
constexpr int64_t kTokensPerTask = 16;

template <typename Args, typename Kernel>
void run(const Args& args, Kernel kernel) {
  parallel_tasks((args.T + kTokensPerTask - 1) / kTokensPerTask,
                 [&](int64_t i) { kernel(args, i * kTokensPerTask, std::min(args.T, (i + 1) * kTokensPerTask)); });
}

}  // namespace

void embedding_4bit(const Embedding4Args& args) { run(args, HILNAS_SELECT(active_isa(), embedding_4bit)); }
void embedding_8bit(const Embedding8Args& args) { run(args, HILNAS_SELECT(active_isa(), embedding_8bit)); }

}  // namespace hilnas
