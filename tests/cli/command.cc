#include "cli/command.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <tuple>

#include "epoch/detail/platform/files.h"

namespace epoch::test {
namespace {

void MakePipe(int (&ends)[2]) { EPOCH_CHECK(pipe2(ends, O_CLOEXEC) == 0, "pipe"); }

[[noreturn]] void Exec(const std::vector<std::string>& args, const Setting& setting, int in,
                       int out, int err) {
  dup2(in, STDIN_FILENO);
  dup2(out, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  if (setting.region.empty()) {
    unsetenv("EPOCH_REGION");
  } else {
    setenv("EPOCH_REGION", setting.region.c_str(), 1);
  }
  signal(SIGPIPE, SIG_DFL);
  if (setting.as_user != 0 && (setgroups(0, nullptr) != 0 || setgid(setting.as_user) != 0 ||
                               setuid(setting.as_user) != 0)) {
    _exit(99);
  }
  std::vector<char*> argv{const_cast<char*>("epochctl")};
  for (const std::string& arg : args) argv.push_back(const_cast<char*>(arg.c_str()));
  argv.push_back(nullptr);
  if (setting.inherits) setting.inherits();
  execv(EPOCHCTL, argv.data());
  _exit(98);
}

}  // namespace

void PrintTo(const Result& result, std::ostream* os) {
  *os << "exit code " << result.code << "\nstdout:\n" << result.out << "\nstderr:\n" << result.err;
}

Command::Command(const std::vector<std::string>& args, const Setting& setting, bool held_open)
    : input_(setting.input) {
  int in[2], out[2], err[2];
  MakePipe(in);
  MakePipe(out);
  MakePipe(err);
  int stdout_fd = out[1];
  if (!setting.output_file.empty()) {
    stdout_fd = open(setting.output_file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  }
  if (setting.output_closed) {
    close(out[0]);
    out[0] = -1;
  }
  pid_ = fork();
  EPOCH_CHECK(pid_ >= 0, "fork");
  if (pid_ == 0) Exec(args, setting, in[0], stdout_fd, err[1]);
  if (stdout_fd != out[1]) close(stdout_fd);
  for (const int fd : {in[0], out[1], err[1]}) close(fd);
  in_ = in[1];
  out_ = out[0];
  err_ = err[0];
  if (!held_open && input_.empty()) close(std::exchange(in_, -1));
}

Command::~Command() {
  for (const int fd : {in_, out_, err_}) {
    if (fd >= 0) close(fd);
  }
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
}

void Command::Signal(int number) const { kill(pid_, number); }

void Command::Stop() const {
  kill(pid_, SIGSTOP);
  int status = 0;
  EXPECT_EQ(waitpid(pid_, &status, WUNTRACED), pid_);
  EXPECT_TRUE(WIFSTOPPED(status));
}

std::string Command::Hear() {
  for (;;) {
    if (const std::size_t end = heard_.find('\n'); end != std::string::npos) {
      const std::string line = heard_.substr(0, end);
      heard_.erase(0, end + 1);
      return line;
    }
    pollfd ready{.fd = out_, .events = POLLIN, .revents = 0};
    if (poll(&ready, 1, kLong_ms) == 0) return "<silent>";
    char chunk[4096];
    const ssize_t got = read(out_, chunk, sizeof chunk);
    if (got <= 0) return "<gone>";
    heard_.append(chunk, static_cast<std::size_t>(got));
  }
}

Result Command::Finish() {
  Result result;
  result.out = std::exchange(heard_, "");
  std::size_t sent = 0;
  struct sigaction ignore {
  }, before{};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &ignore, &before);
  while (out_ >= 0 || err_ >= 0) {
    pollfd fds[3] = {{.fd = out_, .events = POLLIN, .revents = 0},
                     {.fd = err_, .events = POLLIN, .revents = 0},
                     {.fd = sent < input_.size() ? in_ : -1, .events = POLLOUT, .revents = 0}};
    if (poll(fds, 3, kLong_ms) == 0) {
      ADD_FAILURE() << "epochctl hangs";
      kill(pid_, SIGKILL);
    }
    char chunk[4096];
    for (const auto& [fd, text, ready] :
         {std::tuple{&out_, &result.out, fds[0].revents}, {&err_, &result.err, fds[1].revents}}) {
      if (ready == 0) continue;
      const ssize_t got = read(*fd, chunk, sizeof chunk);
      if (got > 0) text->append(chunk, static_cast<std::size_t>(got));
      if (got <= 0) close(std::exchange(*fd, -1));
    }
    if (fds[2].revents != 0) {
      const ssize_t wrote =
          write(in_, input_.data() + sent, std::min<std::size_t>(input_.size() - sent, 4096));
      sent = wrote > 0 ? sent + static_cast<std::size_t>(wrote) : input_.size();
      if (sent == input_.size()) close(std::exchange(in_, -1));
    }
  }
  sigaction(SIGPIPE, &before, nullptr);
  int status = 0;
  waitpid(std::exchange(pid_, -1), &status, 0);
  result.code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  return result;
}

nlohmann::json CtlJson(std::vector<std::string> args, const Setting& setting) {
  const std::string schema = "epoch." + args.at(0) + "/1";
  args.insert(args.begin(), {"-o", "json"});
  const Result result = Ctl(args, setting);
  EXPECT_SUCCESS(result);
  nlohmann::json json = nlohmann::json::parse(result.out, nullptr, /*allow_exceptions=*/false);
  EXPECT_TRUE(json.is_object()) << result.out;
  if (!json.is_object()) return nlohmann::json::object();
  EXPECT_EQ(json.value("schema", ""), schema);
  return json;
}

nlohmann::json ErrorJson(const Result& result) {
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  nlohmann::json json = nlohmann::json::parse(result.err, nullptr, /*allow_exceptions=*/false);
  EXPECT_TRUE(json.is_object()) << result.err;
  return json.is_object() ? json : nlohmann::json::object();
}

}  // namespace epoch::test
