#include "runtime/threads.h"

#include <executorch/runtime/kernel/thread_parallel_interface.h>

#include <algorithm>
#include <atomic>

namespace executorch::extension::threadpool {

// The wheel exports this class from libexecutorch_threadpool but ships no header for it. Only members called
// here are declared; the object is made and owned by the library.
class ThreadPool {
 public:
  size_t get_thread_count() const;
  bool _unsafe_reset_threadpool(uint32_t num_threads);
};
ThreadPool* get_threadpool();

}  // namespace executorch::extension::threadpool

namespace hilnas {

using executorch::extension::threadpool::get_threadpool;

int64_t num_threads() { return std::max<int64_t>(1, static_cast<int64_t>(get_threadpool()->get_thread_count())); }

bool set_num_threads(int64_t threads) {
  return get_threadpool()->_unsafe_reset_threadpool(static_cast<uint32_t>(threads));
}

void parallel_tasks(int64_t count, executorch::runtime::FunctionRef<void(int64_t)> task) {
  const int64_t threads = count > 1 ? std::min(count, num_threads()) : 1;
  if (threads == 1) {
    for (int64_t i = 0; i < count; ++i) task(i);
    return;
  }
  // parallel_for hands each thread one fixed share, but causal attention has dear and cheap tasks and a busy
  // core may lag: so each share draws from a common counter instead.
  std::atomic<int64_t> next{0};
  executorch::extension::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    for (int64_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) task(i);
  });
}

}  // namespace hilnas
