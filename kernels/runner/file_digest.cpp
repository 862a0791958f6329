#include "runner/file_digest.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "runner/sha256.h"

namespace hilnas {
namespace {

RunError missing(const std::string& path) {
  return {ExitCode::kMissingBlock, "cannot read block " + path + ": " + std::strerror(errno)};
}

}  // namespace

Outcome<int64_t> block_bytes(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return missing(path);
  if (!S_ISREG(info.st_mode)) return RunError{ExitCode::kMissingBlock, path + " is not a regular file"};
  return static_cast<int64_t>(info.st_size);
}

// read() into a small buffer, not mmap: mapped pages would show up in the resident size that is measured later.
RunStatus verify_block(const std::string& path, const std::string& digest) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return missing(path);
  Sha256 sha;
  std::vector<uint8_t> buffer(1 << 18);
  ssize_t got;
  while ((got = read(fd, buffer.data(), buffer.size())) > 0) sha.update(buffer.data(), static_cast<size_t>(got));
  close(fd);
  if (got < 0) return missing(path);
  const std::string actual = sha.hex_digest();
  if (actual == digest) return run_ok();
  return RunError{ExitCode::kWrongDigest, path + " has sha256 " + actual};
}

}  // namespace hilnas
