// Exit codes (one table) and the runner's result type.
#pragma once

#include <string>
#include <utility>
#include <variant>

namespace hilnas {

enum class ExitCode : int {
  kOk = 0,
  kUsage = 2,
  kBadPlan = 10,
  kMissingBlock = 11,
  kWrongDigest = 12,
  kOutOfMemory = 13,
  kLoadFailed = 14,
  kExecutionFailed = 15,
  kWrongCore = 16,
  kCheckFailed = 17,
  kOutputFailed = 18,
  kBadPrefix = 19,
  kCrashed = 70,
  kInterrupted = 130,
};

struct ExitInfo {
  ExitCode code;
  const char* name;  // the `code` of the error line
  const char* meaning;
};

extern const ExitInfo kExitTable[14];
const char* exit_name(ExitCode code);

struct RunError {
  ExitCode code;
  std::string message;
};

// A value, or an error instead of it.
template <typename T>
class [[nodiscard]] Outcome {
 public:
  Outcome(T value) : content_(std::move(value)) {}
  Outcome(RunError error) : content_(std::move(error)) {}
  bool ok() const { return std::holds_alternative<T>(content_); }
  T& value() { return std::get<T>(content_); }
  const T& value() const { return std::get<T>(content_); }
  const RunError& error() const { return std::get<RunError>(content_); }

 private:
  std::variant<T, RunError> content_;
};

using RunStatus = Outcome<std::monostate>;
inline RunStatus run_ok() { return RunStatus(std::monostate{}); }

}  // namespace hilnas
