#include "runner/prefix_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "runner/sha256.h"
#include "runtime/threads.h"

namespace hilnas {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kMagic[8] = {'h', 'i', 'l', 'n', 'p', 'f', 'i', 'x'};
constexpr uint32_t kVersion = 1;
constexpr uint32_t kMaxHeaderBytes = uint32_t{1} << 24;

// Little-endian, as every device of ours is.
struct Prelude {
  char magic[8];
  uint32_t version;
  uint32_t header_bytes;
  char header_sha256[64];
};
static_assert(sizeof(Prelude) == 80, "the file's first bytes");

class File {
 public:
  File(const std::string& path, int flags) : fd_(open(path.c_str(), flags | O_CLOEXEC, 0644)) {}
  ~File() { close_now(); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd() const { return fd_; }
  bool close_now() { return fd_ < 0 || close(std::exchange(fd_, -1)) == 0; }

 private:
  int fd_;
};

RunError bad(const std::string& message) { return {ExitCode::kBadPrefix, message}; }

bool write_all(int fd, const char* data, size_t bytes) {
  while (bytes > 0) {
    const ssize_t written = write(fd, data, bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    data += written;
    bytes -= static_cast<size_t>(written);
  }
  return true;
}

bool read_all(int fd, char* data, size_t bytes, int64_t offset) {
  while (bytes > 0) {
    const ssize_t got = pread(fd, data, bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    data += got;
    offset += got;
    bytes -= static_cast<size_t>(got);
  }
  return true;
}

const char* dtype_name(CacheDtype dtype) {
  return dtype == CacheDtype::kFp16 ? "fp16" : dtype == CacheDtype::kInt8 ? "int8" : "fp32";
}

std::vector<StatePiece> pieces_of(int64_t slot, int64_t position) {
  return StateTable::instance().state(slot)->pieces(position);
}

int64_t total_bytes(const std::vector<StatePiece>& pieces) {
  size_t total = 0;
  for (const StatePiece& piece : pieces) total += piece.bytes;
  return static_cast<int64_t>(total);
}

std::string digest_of(const std::vector<StatePiece>& pieces) {
  Sha256 sha;
  for (const StatePiece& piece : pieces) sha.update(reinterpret_cast<const uint8_t*>(piece.data), piece.bytes);
  return sha.hex_digest();
}

std::string text_digest(const std::string& text) {
  Sha256 sha;
  sha.update(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  return sha.hex_digest();
}

std::string tokens_digest(const std::vector<int64_t>& ids, int64_t count) {
  Sha256 sha;
  sha.update(reinterpret_cast<const uint8_t*>(ids.data()), static_cast<size_t>(count) * sizeof(int64_t));
  return sha.hex_digest();
}

// What the slot is and how much of it is kept, without its digest.
Json slot_fields(int64_t slot, int64_t position) {
  const State* state = StateTable::instance().state(slot);
  Json fields = {{"kind", state->kind()}};
  for (const StateSize& size : state->sizes()) fields[size.name] = size.value;
  fields["bytes"] = total_bytes(pieces_of(slot, position));
  return fields;
}

Json header_fields(const PrefixKey& key, const std::vector<int64_t>& ids, int64_t position) {
  std::vector<std::string> digests(key.slots.size());
  parallel_tasks(static_cast<int64_t>(digests.size()), [&](int64_t i) {
    digests[static_cast<size_t>(i)] = digest_of(pieces_of(key.slots[static_cast<size_t>(i)], position));
  });
  Json slots = Json::array();
  for (size_t i = 0; i < digests.size(); ++i) {
    slots.push_back(slot_fields(key.slots[i], position));
    slots.back()["sha256"] = digests[i];
  }
  return {{"model", key.model},
          {"cache_dtype", dtype_name(key.dtype)},
          {"position", position},
          {"tokens_sha256", tokens_digest(ids, position)},
          {"slots", slots}};
}

bool write_file(File& file, const PrefixKey& key, const std::string& header, int64_t position) {
  Prelude prelude{};
  std::memcpy(prelude.magic, kMagic, sizeof(kMagic));
  prelude.version = kVersion;
  prelude.header_bytes = static_cast<uint32_t>(header.size());
  std::memcpy(prelude.header_sha256, text_digest(header).data(), sizeof(prelude.header_sha256));
  if (!write_all(file.fd(), reinterpret_cast<const char*>(&prelude), sizeof(prelude))) return false;
  if (!write_all(file.fd(), header.data(), header.size())) return false;
  for (int64_t slot : key.slots) {
    for (const StatePiece& piece : pieces_of(slot, position)) {
      if (!write_all(file.fd(), piece.data, piece.bytes)) return false;
    }
  }
  return fsync(file.fd()) == 0 && file.close_now();
}

// The header, its own digest checked.
Outcome<Json> read_header(const File& file, const std::string& path, int64_t* end) {
  Prelude prelude{};
  if (!read_all(file.fd(), reinterpret_cast<char*>(&prelude), sizeof(prelude), 0) ||
      std::memcmp(prelude.magic, kMagic, sizeof(kMagic)) != 0) {
    return bad(path + " is not a prefix file");
  }
  if (prelude.version != kVersion) {
    return bad(path + " is a prefix file of version " + std::to_string(prelude.version) + "; this runner reads " +
               std::to_string(kVersion));
  }
  std::string text(std::min(prelude.header_bytes, kMaxHeaderBytes), '\0');
  const bool whole = read_all(file.fd(), text.data(), text.size(), sizeof(prelude));
  if (!whole || text_digest(text) != std::string(prelude.header_sha256, sizeof(prelude.header_sha256))) {
    return bad(path + " is torn or damaged: its header has another sha256");
  }
  *end = static_cast<int64_t>(sizeof(prelude) + text.size());
  return Json::parse(text);
}

// Empty message when the states of this header can be those of `key` and `ids`.
std::string misfit(const Json& header, const PrefixKey& key, const std::vector<int64_t>& ids) {
  const std::string model = header.at("model"), dtype = header.at("cache_dtype");
  const int64_t position = header.at("position");
  if (model != key.model) return "belongs to another model, whose chain has digest " + model.substr(0, 12);
  if (dtype != dtype_name(key.dtype)) return "holds " + dtype + " states, the plan's cache is " + dtype_name(key.dtype);
  if (position < 1 || position > key.capacity) {
    return "holds " + std::to_string(position) + " tokens, the plan's cache has room for " +
           std::to_string(key.capacity);
  }
  if (header.at("slots").size() != key.slots.size()) return "holds another number of states than the plan's chain";
  for (size_t i = 0; i < key.slots.size(); ++i) {
    Json stored = header.at("slots")[i];
    stored.erase("sha256");
    if (stored != slot_fields(key.slots[i], position)) {
      return "holds as state " + std::to_string(i) + " " + stored.dump() + ", the plan's chain keeps " +
             slot_fields(key.slots[i], position).dump();
    }
  }
  const bool same = position <= static_cast<int64_t>(ids.size()) &&
                    header.at("tokens_sha256").get<std::string>() == tokens_digest(ids, position);
  return same ? "" : "holds other tokens than the plan's first " + std::to_string(position);
}

// Reads and checks slots side by side: hashing takes longer than reading.
RunStatus read_states(const File& file, const std::string& path, const Json& header, const PrefixKey& key, int64_t offset) {
  const int64_t position = header.at("position");
  std::vector<int64_t> offsets;
  for (int64_t slot : key.slots) {
    offsets.push_back(offset);
    offset += total_bytes(pieces_of(slot, position));
  }
  std::vector<char> sound(key.slots.size());
  parallel_tasks(static_cast<int64_t>(sound.size()), [&](int64_t task) {
    const size_t i = static_cast<size_t>(task);
    const std::vector<StatePiece> pieces = pieces_of(key.slots[i], position);
    int64_t at = offsets[i];
    for (const StatePiece& piece : pieces) {
      if (!read_all(file.fd(), piece.data, piece.bytes, at)) return;
      at += static_cast<int64_t>(piece.bytes);
    }
    sound[i] = digest_of(pieces) == header.at("slots")[i].at("sha256").get<std::string>();
  });
  const auto wrong = std::find(sound.begin(), sound.end(), 0);
  if (wrong == sound.end()) return run_ok();
  return bad(path + " is damaged: state " + std::to_string(wrong - sound.begin()) + " has another sha256");
}

Outcome<PrefixFile> restore_from(const File& file, const std::string& path, const PrefixKey& key,
                                 const std::vector<int64_t>& ids) {
  int64_t payload_at = 0;
  const Outcome<Json> header = read_header(file, path, &payload_at);
  if (!header.ok()) return header.error();
  if (const std::string message = misfit(header.value(), key, ids); !message.empty()) return bad(path + " " + message);
  int64_t expected_bytes = payload_at;
  for (const Json& slot : header.value().at("slots")) expected_bytes += slot.at("bytes").get<int64_t>();
  struct stat info;
  if (fstat(file.fd(), &info) != 0 || info.st_size != expected_bytes) {
    return bad(path + " is torn: it has " + std::to_string(info.st_size) + " bytes, its header asks for " +
               std::to_string(expected_bytes));
  }
  if (RunStatus read = read_states(file, path, header.value(), key, payload_at); !read.ok()) return read.error();
  return PrefixFile{header.value().at("position").get<int64_t>(), expected_bytes};
}

}  // namespace

Outcome<PrefixFile> save_prefix(const std::string& path, const PrefixKey& key, const std::vector<int64_t>& ids,
                                int64_t position) {
  const std::string header = header_fields(key, ids, position).dump();
  const std::string partial = path + "." + std::to_string(getpid()) + ".partial";
  File file(partial, O_WRONLY | O_CREAT | O_TRUNC);
  if (file.fd() < 0 || !write_file(file, key, header, position) || rename(partial.c_str(), path.c_str()) != 0) {
    const RunError error = bad("cannot write prefix " + path + ": " + std::strerror(errno));
    unlink(partial.c_str());
    return error;
  }
  int64_t bytes = static_cast<int64_t>(sizeof(Prelude) + header.size());
  for (int64_t slot : key.slots) bytes += total_bytes(pieces_of(slot, position));
  return PrefixFile{position, bytes};
}

Outcome<PrefixFile> restore_prefix(const std::string& path, const PrefixKey& key, const std::vector<int64_t>& ids) {
  const File file(path, O_RDONLY);
  if (file.fd() < 0) return bad("cannot read prefix " + path + ": " + std::strerror(errno));
  try {
    return restore_from(file, path, key, ids);
  } catch (const nlohmann::json::exception& error) {
    return bad(path + " has a header that cannot be read: " + error.what());
  }
}

}  // namespace hilnas
