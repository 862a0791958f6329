// Each exit code of the runner's table that needs no exported block, with its error line.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "tests/check.h"

extern char** environ;

using Json = nlohmann::json;

namespace {

// The runner, behind an emulator's command in a cross build.
std::vector<std::string> runner;
std::string folder;
// sha256 of the text "not a program".
const std::string kNotAProgram = "03e0d1ed85bbc4ef68b4eb66b4b0c8b8dd4a0f1f0f8b3f6b26bb9ab30c1d4b66";

struct Run {
  int code;
  std::string output;
  Json last_line() const {
    const std::string body = output.substr(0, output.size() - (output.empty() ? 0 : 1));
    return Json::parse(body.substr(body.rfind('\n') + 1), nullptr, false);
  }
};

pid_t start(std::vector<std::string> arguments, const std::string& out, const std::string& in) {
  arguments.insert(arguments.begin(), runner.begin(), runner.end());
  std::vector<char*> raw;
  for (std::string& a : arguments) raw.push_back(a.data());
  raw.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, in.c_str(), O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  pid_t pid = -1;
  posix_spawnp(&pid, raw[0], &actions, nullptr, raw.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  return pid;
}

Run finish_run(pid_t pid, const std::string& out) {
  int status = 0;
  waitpid(pid, &status, 0);
  std::ifstream file(out);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status),
          std::string(std::istreambuf_iterator<char>(file), {})};
}

Run run(const std::vector<std::string>& arguments, const std::string& in = "/dev/null") {
  const std::string out = folder + "/out.jsonl";
  return finish_run(start(arguments, out, in), out);
}

std::string write_file(const std::string& name, const std::string& content) {
  std::ofstream(folder + "/" + name) << content;
  return folder + "/" + name;
}

Json plan(const std::string& digest) {
  return {{"version", 1},
          {"id", "test \"plan\""},
          {"blocks_dir", folder},
          {"hidden_size", 8},
          {"vocab_size", 10},
          {"max_chunk", 4},
          {"cache", {{"capacity", 32}}},
          {"chain", Json::array({{{"block", digest}, {"role", "model"}, {"name", "all"}}})},
          {"protocol", {{"threads", 1}}}};
}

void expect_error(const Json& content, int code, const char* name, const std::string& message) {
  const Run r = run({write_file("plan.json", content.dump())});
  const Json line = r.last_line();
  CHECK(r.code == code, std::string(name) + " ended with " + std::to_string(r.code) + ": " + r.output);
  CHECK(line.is_object() && line.value("event", "") == "error" && line.value("code", "") == name, r.output);
  CHECK(line.is_object() && line.value("message", "").find(message) != std::string::npos, r.output);
  CHECK(line.is_object() && line.value("plan_id", "") == content.value("id", "?"), r.output);
}

void usage() {
  CHECK(run({}).code == 2, "no plan");
  CHECK(run({"--fast"}).code == 2, "an unknown option");
  CHECK(run({"a", "b"}).code == 2, "two plans");
  CHECK(run({"--serve", "a"}).code == 2, "a plan and --serve");
  CHECK(run({"--version"}).code == 0 && run({"--version"}).output.find("executorch") != std::string::npos, "version");
  const Run help = run({"--help"});
  for (const char* code : {"bad_plan", "missing_block", "wrong_digest", "out_of_memory", "bad_prefix", "crashed"}) {
    CHECK(help.code == 0 && help.output.find(code) != std::string::npos, std::string("--help names ") + code);
  }
}

void plan_errors() {
  Json broken = plan(kNotAProgram);
  broken["protocol"]["threads"] = "two";
  expect_error(broken, 10, "bad_plan", "plan.protocol.threads");
  CHECK(run({folder + "/absent.json"}).code == 10, "an absent plan");
  CHECK(run({"-"}, write_file("stdin.json", broken.dump())).code == 10, "a plan from stdin");
  expect_error(plan(std::string(64, 'b')), 11, "missing_block", "cannot read block");
  write_file(std::string(64, 'c') + ".pte", "not a program");
  expect_error(plan(std::string(64, 'c')), 12, "wrong_digest", "has sha256");
  Json unverified = plan(std::string(64, 'c'));
  unverified["verify_digests"] = false;
  expect_error(unverified, 14, "load_failed", "cannot load");
  Json pinned = plan(kNotAProgram);
  pinned["protocol"]["affinity"] = {1000};
  expect_error(pinned, 16, "wrong_core", "affinity not granted: 1000");
  Json huge = unverified;
  huge["protocol"]["memory_limit_bytes"] = 1;
  const Run limited = run({write_file("plan.json", huge.dump())});
  CHECK(limited.code == 13 && limited.last_line().value("code", "") == "out_of_memory", limited.output);
}

void output_errors() {
  const std::string path = write_file("plan.json", plan(std::string(64, 'b')).dump());
  CHECK(run({path, "--out", folder + "/no/such/folder"}).code == 18, "a file that cannot be made");
  CHECK(run({path, "--out", "/dev/full"}).code == 18, "a full disk");
  const Run to_file = run({path, "--out", folder + "/events.jsonl"});
  CHECK(to_file.code == 11 && to_file.output.empty(), "events go to the file, stdout stays empty");
}

// The runner waits in --serve; a signal must end it with message.
void signals() {
  const std::string out = folder + "/signal.jsonl", fifo = folder + "/plans";
  mkfifo(fifo.c_str(), 0600);
  for (const auto& [signal, code] : {std::pair{SIGSEGV, 70}, std::pair{SIGABRT, 70}, std::pair{SIGTERM, 130}}) {
    if (signal == SIGABRT && runner.size() > 1) continue;  // qemu keeps SIGABRT from outside for itself
    const int keep_open = open(fifo.c_str(), O_RDWR);
    unlink(out.c_str());  // the last round's done line must not be taken for this one's
    const pid_t pid = start({"--serve"}, out, fifo);
    const std::string path = write_file("plan.json", plan(std::string(64, 'b')).dump()) + "\n";
    CHECK(write(keep_open, path.data(), path.size()) == static_cast<ssize_t>(path.size()), "send a plan");
    // The done line says that handlers are up and that it waits again.
    for (int i = 0; i < 500; ++i) {
      std::ifstream file(out);
      const std::string text(std::istreambuf_iterator<char>(file), {});
      if (text.find("\"done\"") != std::string::npos) break;
      usleep(10000);
    }
    kill(pid, signal);
    const Run r = finish_run(pid, out);
    close(keep_open);
    CHECK(r.code == code,
          "signal " + std::to_string(signal) + " ended with " + std::to_string(r.code) + " " + r.output);
    const char* name = code == 70 ? "crashed" : "interrupted";
    CHECK(r.last_line().is_object() && r.last_line().value("code", "") == name, r.output);
  }
}

void serve_goes_on() {
  const std::string bad = write_file("plan.json", plan(std::string(64, 'b')).dump());
  const Run r = run({"--serve"}, write_file("list", bad + "\n\n" + folder + "/absent.json\n"));
  CHECK(r.code == 0, "the service ends well: " + r.output);
  CHECK(r.output.find("\"exit\":11") != std::string::npos && r.output.find("\"exit\":10") != std::string::npos,
        r.output);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  runner.assign(argv + 1, argv + argc);
  char name[] = "/tmp/hilnas_runner_test_XXXXXX";
  folder = mkdtemp(name);
  usage();
  plan_errors();
  output_errors();
  serve_goes_on();
  signals();
  const std::string remove = "rm -r " + folder;
  if (std::system(remove.c_str()) != 0) std::printf("left behind: %s\n", folder.c_str());
  return hilnas::test::finish();
}
