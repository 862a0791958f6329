// hilnas-runner: runs a plan on this device and reports events. See docs/runner.md.
#include <executorch/runtime/platform/runtime.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "runner/crash_handler.h"
#include "runner/errors.h"
#include "runner/events.h"
#include "runner/process_setup.h"
#include "runner/serve.h"
#include "runner/session.h"
#include "runner/system_info.h"

namespace hilnas {
namespace {

constexpr int64_t kDefaultPoolBytes = int64_t{1} << 30;

struct Options {
  std::string plan;
  std::string out;
  bool serve = false;
  int64_t pool_bytes = kDefaultPoolBytes;
};

void print_help() {
  std::puts(
      "usage: hilnas-runner PLAN.json [--out FILE]   run one plan (- reads it from stdin)\n"
      "       hilnas-runner --serve [--pool-bytes N]  one plan path per line of stdin; loaded blocks are kept\n"
      "       hilnas-runner --version | --help\n\n"
      "Events are JSON lines on stdout, or in FILE. Exit codes:");
  for (const ExitInfo& info : kExitTable) {
    std::printf("  %3d  %-17s %s\n", static_cast<int>(info.code), info.name, info.meaning);
  }
}

int usage(const std::string& message) {
  std::fprintf(stderr, "hilnas-runner: %s; --help lists what works\n", message.c_str());
  return static_cast<int>(ExitCode::kUsage);
}

// Empty message on success.
std::string parse(int argc, char** argv, Options* options) {
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const bool wants_value = argument == "--out" || argument == "--pool-bytes";
    if (wants_value && i + 1 == argc) return argument + " needs a value";
    if (argument == "--serve") {
      options->serve = true;
    } else if (argument == "--out") {
      options->out = argv[++i];
    } else if (argument == "--pool-bytes") {
      char* end = nullptr;
      options->pool_bytes = std::strtoll(argv[++i], &end, 10);
      if (*end != '\0' || options->pool_bytes < 0) return "--pool-bytes needs a number of bytes";
    } else if (argument.size() > 1 && argument[0] == '-') {
      return "unknown option " + argument;
    } else if (options->plan.empty()) {
      options->plan = argument;
    } else {
      return "more than one plan given; --serve runs several";
    }
  }
  if (options->serve == !options->plan.empty()) return "give one plan, or --serve";
  return "";
}

int run(const Options& options) {
  EventWriter events(options.out);
  if (!events.usable()) {
    std::fprintf(stderr, "hilnas-runner: %s\n", events.message().c_str());
    return static_cast<int>(ExitCode::kOutputFailed);
  }
  install_crash_handlers(events.fd(), "");
  install_interrupt_handlers();
  executorch::runtime::runtime_init();
  configure_backends();
  InstancePool pool(options.serve ? options.pool_bytes : 0);
  if (options.serve) return static_cast<int>(serve(pool, events));
  return static_cast<int>(run_plan_file(options.plan, pool, events));
}

int main_or_usage(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "--help") == 0) {
    print_help();
    return 0;
  }
  if (argc == 2 && std::strcmp(argv[1], "--version") == 0) {
    std::printf("hilnas-runner %s, executorch %s\n", runner_version(), executorch_version());
    return 0;
  }
  Options options;
  const std::string message = parse(argc, argv, &options);
  return message.empty() ? run(options) : usage(message);
}

}  // namespace
}  // namespace hilnas

int main(int argc, char** argv) { return hilnas::main_or_usage(argc, argv); }
