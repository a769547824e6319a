#include "bench/part.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace epoch::bench {
namespace {

// Of one byte each. To close the pipe would not do: later processes have inherited its other end.
constexpr char kRound = 'r';
constexpr char kQuit = 'q';

volatile sig_atomic_t interrupted = 0;
void Interrupt(int) { interrupted = 1; }

bool Put(int fd, const void* data, std::size_t size) {
  const auto* from = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t put = write(fd, from, size);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    from += put;
    size -= static_cast<std::size_t>(put);
  }
  return true;
}
bool Get(int fd, void* data, std::size_t size) {
  auto* to = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t got = read(fd, to, size);
    if (got < 0 && errno == EINTR && !Interrupted()) continue;
    if (got <= 0) return false;
    to += got;
    size -= static_cast<std::size_t>(got);
  }
  return true;
}

bool PutCount(int fd, std::size_t count) {
  const std::uint64_t wide = count;
  return Put(fd, &wide, sizeof wide);
}
bool GetCount(int fd, std::size_t& count) {
  std::uint64_t wide = 0;
  if (!Get(fd, &wide, sizeof wide)) return false;
  count = wide;
  return true;
}
bool PutText(int fd, const std::string& text) {
  return PutCount(fd, text.size()) && Put(fd, text.data(), text.size());
}
bool GetText(int fd, std::string& text) {
  std::size_t size = 0;
  if (!GetCount(fd, size)) return false;
  text.resize(size);
  return Get(fd, text.data(), size);
}

bool PutSamples(int fd, const Samples& samples) {
  if (!PutCount(fd, samples.size())) return false;
  for (const auto& [name, values] : samples) {
    if (!PutText(fd, name) || !PutCount(fd, values.size())) return false;
    if (!Put(fd, values.data(), values.size() * sizeof(double))) return false;
  }
  return true;
}
bool GetSamples(int fd, Samples& samples) {
  std::size_t series = 0;
  if (!GetCount(fd, series)) return false;
  for (; series > 0; --series) {
    std::string name;
    std::size_t count = 0;
    if (!GetText(fd, name) || !GetCount(fd, count)) return false;
    std::vector<double>& values = samples[name];
    values.resize(count);
    if (!Get(fd, values.data(), count * sizeof(double))) return false;
  }
  return true;
}

bool PutFacts(int fd, const Facts& facts) {
  if (!PutCount(fd, facts.size())) return false;
  for (const auto& [name, value] : facts) {
    if (!PutText(fd, name) || !PutText(fd, value)) return false;
  }
  return true;
}
bool GetFacts(int fd, Facts& facts) {
  std::size_t count = 0;
  if (!GetCount(fd, count)) return false;
  for (; count > 0; --count) {
    std::string name, value;
    if (!GetText(fd, name) || !GetText(fd, value)) return false;
    facts[name] = value;
  }
  return true;
}

void Serve(const MakePart& make, const Places& places, int commands, int replies) {
  const std::unique_ptr<Part> part = make(places);
  if (!PutFacts(replies, part->Describe())) return;
  for (char command = 0; Get(commands, &command, 1) && command == kRound;) {
    Samples samples;
    part->Round(samples);
    if (!PutSamples(replies, samples)) return;
  }
}

}  // namespace

void HandleInterrupts() {
  struct sigaction action {};  // no SA_RESTART: a read ends
  action.sa_handler = Interrupt;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaction(signal, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
}
bool Interrupted() { return interrupted != 0; }

pid_t ForkHelper(const std::function<void()>& body) {
  const pid_t parent = getpid();
  std::fflush(nullptr);
  const pid_t pid = fork();
  if (pid < 0) {
    std::perror("fork");
    std::abort();
  }
  if (pid > 0) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // Only the parent ends it.
  for (const int ignored : {SIGINT, SIGTERM, SIGHUP}) signal(ignored, SIG_IGN);
  if (getppid() == parent) body();
  std::fflush(nullptr);
  _exit(0);
}

void KillHelper(pid_t pid) {
  if (pid <= 0) return;
  kill(pid, SIGKILL);
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void AwaitDescendants() {
  while (waitpid(-1, nullptr, 0) > 0 || errno == EINTR) {
  }
}

PartProcess::PartProcess(std::string name, const MakePart& make, const Places& places)
    : name_(std::move(name)) {
  int commands[2], replies[2];
  if (pipe(commands) != 0 || pipe(replies) != 0) {
    std::perror("pipe");
    std::abort();
  }
  pid_ = ForkHelper([&] {
    close(commands[1]);
    close(replies[0]);
    Serve(make, places, commands[0], replies[1]);
  });
  close(commands[0]);
  close(replies[1]);
  commands_ = commands[1];
  replies_ = replies[0];
  if (!GetFacts(replies_, facts_)) Lost();
}

PartProcess::~PartProcess() {
  pid_t left = -1;
  if (!Interrupted() && pid_ > 0 && Put(commands_, &kQuit, 1)) {  // it cleans up, then leaves
    do {
      left = waitpid(pid_, nullptr, 0);
    } while (left < 0 && errno == EINTR && !Interrupted());
  }
  if (left != pid_) KillHelper(pid_);
  close(commands_);
  close(replies_);
}

void PartProcess::Lost() {
  if (!Interrupted())
    std::fprintf(stderr, "epoch_bench_commit: the part \"%s\" died; its figures are missing\n",
                 name_.c_str());
  KillHelper(std::exchange(pid_, -1));
}

Samples PartProcess::Round() {
  Samples samples;
  if (!alive()) return samples;
  if (!Put(commands_, &kRound, 1) || !GetSamples(replies_, samples)) {
    Lost();
    samples.clear();
  }
  return samples;
}

}  // namespace epoch::bench
