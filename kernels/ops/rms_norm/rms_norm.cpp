#include "ops/rms_norm/rms_norm.h"

#include <algorithm>

#include "runtime/threads.h"

namespace hilnas {

void rms_norm_f32(const RmsNormArgs& args) {
  const auto kernel = HILNAS_SELECT(active_isa(), rms_norm_f32);
  // A task of 16K floats takes about 2 us, which is what waking a thread costs.
  const int64_t rows_per_task = std::max<int64_t>(1, 16384 / std::max<int64_t>(1, args.D));
  const int64_t tasks = (args.rows + rows_per_task - 1) / rows_per_task;
  parallel_tasks(tasks,
                 [&](int64_t i) { kernel(args, i * rows_per_task, std::min(args.rows, (i + 1) * rows_per_task)); });
}

}  // namespace hilnas
