#include "runner/events.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "runtime/clock.h"

namespace hilnas {

EventWriter::EventWriter(const std::string& path) {
  if (path.empty()) {
    fd_ = STDOUT_FILENO;
    return;
  }
  fd_ = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  owned_ = fd_ >= 0;
  if (fd_ < 0) fail("cannot open " + path);
}

EventWriter::~EventWriter() {
  if (owned_) close(fd_);
}

void EventWriter::fail(const std::string& what) {
  failed_ = true;
  message_ = what + ": " + std::strerror(errno);
}

void EventWriter::write(const char* event, const EventJson& fields) {
  if (!usable()) return;
  EventJson line = {{"event", event}, {"plan_id", plan_id_}, {"t_ns", monotonic_ns()}};
  line.update(fields);
  const std::string text = line.dump(-1, ' ', false, EventJson::error_handler_t::replace) + "\n";
  for (size_t done = 0; done < text.size();) {
    const ssize_t written = ::write(fd_, text.data() + done, text.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return fail("cannot write an event");
    done += static_cast<size_t>(written);
  }
}

}  // namespace hilnas
