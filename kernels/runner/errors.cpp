#include "runner/errors.h"

namespace hilnas {

const ExitInfo kExitTable[14] = {
    {ExitCode::kOk, "ok", "the plan ran to its end"},
    {ExitCode::kUsage, "usage", "wrong command line"},
    {ExitCode::kBadPlan, "bad_plan", "the plan cannot be read or contradicts itself"},
    {ExitCode::kMissingBlock, "missing_block", "a block file is not in blocks_dir"},
    {ExitCode::kWrongDigest, "wrong_digest", "a block file's sha256 is not its name"},
    {ExitCode::kOutOfMemory, "out_of_memory", "memory_limit_bytes or the machine's memory is exhausted"},
    {ExitCode::kLoadFailed, "load_failed", "a block cannot be loaded or does not fit its role"},
    {ExitCode::kExecutionFailed, "execution_failed", "a step failed while running"},
    {ExitCode::kWrongCore, "wrong_core", "the requested affinity was not granted"},
    {ExitCode::kCheckFailed, "check_failed", "logits differ from the expected ones; nothing was measured"},
    {ExitCode::kOutputFailed, "output_failed", "an event could not be written (disk full, closed pipe)"},
    {ExitCode::kBadPrefix, "bad_prefix", "a prefix file cannot be used (torn, of another model) or written"},
    {ExitCode::kCrashed, "crashed", "a fatal signal; the error line names it"},
    {ExitCode::kInterrupted, "interrupted", "SIGINT or SIGTERM"},
};

const char* exit_name(ExitCode code) {
  for (const ExitInfo& info : kExitTable) {
    if (info.code == code) return info.name;
  }
  return "unknown";
}

}  // namespace hilnas
