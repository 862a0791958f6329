// Only async-signal-safe calls below the signal: write, clock_gettime, _exit.
#include "runner/crash_handler.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "runner/errors.h"
#include "runner/events.h"
#include "runtime/clock.h"

namespace hilnas {
namespace {

int output_fd = -1;
char prefix[2048];  // the line up to the time, written while all is well
volatile sig_atomic_t memory_limited = 0;

char* append(char* out, const char* text) {
  while (*text != '\0') *out++ = *text++;
  return out;
}

char* append_number(char* out, int64_t value) {
  char digits[24];
  int count = 0;
  do digits[count++] = static_cast<char>('0' + value % 10);
  while ((value /= 10) != 0);
  while (count > 0) *out++ = digits[--count];
  return out;
}

const char* signal_name(int signal) {
  switch (signal) {
    case SIGSEGV: return "SIGSEGV";
    case SIGBUS: return "SIGBUS";
    case SIGABRT: return "SIGABRT";
    case SIGFPE: return "SIGFPE";
    default: return "SIGILL";
  }
}

void on_crash(int signal) {
  char line[sizeof(prefix) + 128];
  char* out = append(line, prefix);
  out = append_number(out, monotonic_ns());
  // Under a memory limit a fatal signal is an allocation that some library did not check.
  const bool out_of_memory = memory_limited != 0;
  out = append(out, out_of_memory ? ",\"code\":\"out_of_memory\",\"message\":\"fatal signal under memory_limit_bytes, most likely exhausted: " : ",\"code\":\"crashed\",\"message\":\"");
  out = append(out, signal_name(signal));
  out = append(out, "\"}\n");
  const ssize_t ignored = write(output_fd, line, static_cast<size_t>(out - line));
  static_cast<void>(ignored);
  _exit(static_cast<int>(out_of_memory ? ExitCode::kOutOfMemory : ExitCode::kCrashed));
}

}  // namespace

void set_crash_memory_limited(bool limited) { memory_limited = limited ? 1 : 0; }

void install_crash_handlers(int fd, const std::string& plan_id) {
  static char stack[64 * 1024];  // a stack overflow leaves no other
  output_fd = fd;
  const std::string id = EventJson(plan_id.substr(0, 512)).dump(-1, ' ', true, EventJson::error_handler_t::replace);
  const std::string text = "{\"event\":\"error\",\"plan_id\":" + (id.size() < 1900 ? id : "\"\"") + ",\"t_ns\":";
  std::memcpy(prefix, text.c_str(), text.size() + 1);
  stack_t alternative;
  std::memset(&alternative, 0, sizeof(alternative));
  alternative.ss_sp = stack;
  alternative.ss_size = sizeof(stack);
  sigaltstack(&alternative, nullptr);
  struct sigaction action;
  std::memset(&action, 0, sizeof(action));
  action.sa_handler = on_crash;
  action.sa_flags = SA_ONSTACK | SA_RESETHAND;
  for (int signal : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL}) sigaction(signal, &action, nullptr);
}

}  // namespace hilnas
