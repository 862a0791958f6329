#include "runner/process_setup.h"

#include <sched.h>
#include <sys/resource.h>

#include <csignal>
#include <cstring>

#include "runner/crash_handler.h"
#include "runner/instance_pool.h"
#include "runner/memory_probe.h"
#include "runtime/threads.h"

namespace hilnas {
namespace {

volatile std::sig_atomic_t stop_requested = 0;

int64_t active_limit = 0;
constexpr int64_t kOwnMemory = 4 << 20;  // plan, events and allocator arenas

struct ThreadSetting {
  int64_t threads = 0;
  std::vector<int> affinity;
};

cpu_set_t initial_cpus() {
  static const cpu_set_t initial = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof(set), &set);
    return set;
  }();
  return initial;
}

RunStatus pin(const std::vector<int>& affinity) {
  cpu_set_t requested = initial_cpus(), granted;
  if (!affinity.empty()) {
    CPU_ZERO(&requested);
    for (int cpu : affinity) {
      if (cpu >= CPU_SETSIZE) return RunError{ExitCode::kWrongCore, "core " + std::to_string(cpu) + " cannot exist"};
      CPU_SET(cpu, &requested);
    }
  }
  CPU_ZERO(&granted);
  const bool set = sched_setaffinity(0, sizeof(requested), &requested) == 0;
  const bool known = sched_getaffinity(0, sizeof(granted), &granted) == 0;
  if (affinity.empty() || (set && known && CPU_EQUAL(&requested, &granted))) return run_ok();
  std::string message = "affinity not granted:";
  for (int cpu : affinity) message += " " + std::to_string(cpu);
  return RunError{ExitCode::kWrongCore, message};
}

}  // namespace

bool interrupted() { return stop_requested != 0; }

void install_interrupt_handlers() {
  struct sigaction action;
  std::memset(&action, 0, sizeof(action));
  action.sa_handler = [](int) { stop_requested = 1; };
  sigaction(SIGINT, &action, nullptr);  // without SA_RESTART: a read of the next plan must end too
  sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe is answered as output_failed
}

RunStatus apply_threads(const Protocol& protocol, InstancePool& pool) {
  static ThreadSetting current;
  initial_cpus();
  if (current.threads == protocol.threads && current.affinity == protocol.affinity) return run_ok();
  pool.clear();
  current = {};
  if (RunStatus pinned = pin(protocol.affinity); !pinned.ok()) return pinned;
  // New pool threads inherit the mask of this thread.
  if (!set_num_threads(protocol.threads) || num_threads() != protocol.threads) {
    return RunError{ExitCode::kExecutionFailed, "no pool of " + std::to_string(protocol.threads) + " threads"};
  }
  current = {protocol.threads, protocol.affinity};
  return run_ok();
}

RunStatus fits_memory_limit(int64_t bytes) {
  const MemoryReading reading = read_memory();
  if (bytes == 0 || !reading.vm_data_bytes || *reading.vm_data_bytes + kOwnMemory <= bytes) return run_ok();
  return RunError{ExitCode::kOutOfMemory, "memory_limit_bytes " + std::to_string(bytes) + " is below the " +
                                              std::to_string(*reading.vm_data_bytes + kOwnMemory) +
                                              " that the runner itself needs"};
}

void apply_memory_limit(int64_t bytes) {
  rlimit limit;
  if (getrlimit(RLIMIT_DATA, &limit) != 0) return;
  limit.rlim_cur = bytes > 0 ? static_cast<rlim_t>(bytes) : limit.rlim_max;
  setrlimit(RLIMIT_DATA, &limit);
  active_limit = bytes;
  set_crash_memory_limited(bytes > 0);
}

RunError explain_memory(RunError error, int64_t attempted_bytes) {
  if (active_limit == 0 || error.code == ExitCode::kOutOfMemory) return error;
  const MemoryReading reading = read_memory();
  // Packing takes the source and the packed weights, each about the file's size, and some working memory.
  const int64_t needed = 2 * attempted_bytes + (8 << 20);
  if (reading.vm_data_bytes && *reading.vm_data_bytes + needed < active_limit) return error;
  return {ExitCode::kOutOfMemory, "within memory_limit_bytes " + std::to_string(active_limit) + ": " + error.message};
}

}  // namespace hilnas
