#include "runner/system_info.h"

#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>
#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include "runtime/isa.h"

namespace hilnas {
namespace {

#if defined(__x86_64__)
// Those that XNNPACK's and our kernels choose by.
EventJson cpu_features() {
  EventJson found = EventJson::array();
#define HILNAS_FEATURE(name) \
  if (__builtin_cpu_supports(name)) found.push_back(name);
  HILNAS_FEATURE("avx")
  HILNAS_FEATURE("avx2") HILNAS_FEATURE("fma") HILNAS_FEATURE("f16c") HILNAS_FEATURE("avx512f")
      HILNAS_FEATURE("avx512bw") HILNAS_FEATURE("avx512vl") HILNAS_FEATURE("avx512vnni") HILNAS_FEATURE("avx512bf16")
#undef HILNAS_FEATURE
          return found;
}
#elif defined(__aarch64__)
// Bits of the kernel's hwcap.h, which old sysroots name only in part.
EventJson cpu_features() {
  const unsigned long hwcap = getauxval(AT_HWCAP), hwcap2 = getauxval(AT_HWCAP2);
  EventJson found = EventJson::array();
  if (hwcap & (1ul << 1)) found.push_back("asimd");
  if (hwcap & (1ul << 10)) found.push_back("asimdhp");
  if (hwcap & (1ul << 20)) found.push_back("asimddp");
  if (hwcap & (1ul << 22)) found.push_back("sve");
  if (hwcap2 & (1ul << 13)) found.push_back("i8mm");
  if (hwcap2 & (1ul << 14)) found.push_back("bf16");
  if (hwcap2 & (1ul << 23)) found.push_back("sme");
  return found;
}
#else
EventJson cpu_features() { return EventJson::array(); }
#endif

EventJson allowed_cpus() {
  EventJson cpus = EventJson::array();
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

}  // namespace

const char* runner_version() { return HILNAS_RUNNER_VERSION; }
const char* executorch_version() { return HILNAS_EXECUTORCH_VERSION; }

EventJson system_fields() {
  EventJson fields = {{"runner_version", runner_version()}, {"pid", getpid()}};
  utsname name;
  if (uname(&name) == 0) fields["arch"] = name.machine;
  fields["isa"] = isa_name(active_isa());
  fields["cpu_features"] = cpu_features();
  fields["allowed_cpus"] = allowed_cpus();
  fields["executorch_version"] = executorch_version();
  return fields;
}

}  // namespace hilnas
