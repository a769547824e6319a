#include "border/case.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <new>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "border/answer.h"
#include "border/errnos.h"
#include "border/judge.h"
#include "border/told.h"
#include "epoch/detail/platform/files.h"
#include "support/refuse_calls.h"

namespace epoch::test {
namespace {

// Ends with a code that epochctl has not.
constexpr int kNotImposed = 96;
constexpr int kNotLoaded = 127;  // what the loader of shared libraries ends with

// -1: they cannot be listed.
int CountDescriptors() {
  int count = 0;
  std::error_code error;
  for (std::filesystem::directory_iterator each("/proc/self/fd", error), end; each != end;
       each.increment(error)) {
    ++count;
  }
  return error ? -1 : count;
}

// A standard descriptor that is open though it was closed, or -1.
int StandardTaken(const bool (&open_before)[3]) {
  for (int fd = 0; fd < 3; ++fd) {
    if (!open_before[fd] && fcntl(fd, F_GETFD) >= 0) return fd;
  }
  return -1;
}

// The operation, in this process.
void Operate(const Operation& operation, const std::string& region, const RegionOptions& options,
             Told& told) {
  const bool open_before[3] = {fcntl(0, F_GETFD) >= 0, fcntl(1, F_GETFD) >= 0,
                               fcntl(2, F_GETFD) >= 0};
  told.descriptors_before = CountDescriptors();
  try {
    const Act act = operation.prepare(region, options);
    told.begun = true;
    BeginOperation();
    const absl::StatusOr<Epoch> result = act();
    EndOperation();
    told.standard_taken = StandardTaken(open_before);
    told.code = result.status().code();
    told.message.Set(std::string(result.status().message()));
    if (result.ok()) told.epoch = *result;
  } catch (const Unprepared& refused) {
    told.code = refused.why.code();
    told.message.Set(std::string(refused.why.message()));
  } catch (const std::bad_alloc&) {
    EndOperation();
    told.out_of_memory = true;
  }
  told.descriptors_after = CountDescriptors();
  told.ended = true;
}

// A file without a name, outside of the world: what a process prints.
class Capture {
 public:
  Capture()
      : fd_(open(std::filesystem::temp_directory_path().c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC,
                 0600)) {
    EPOCH_CHECK(fd_.ok(), "an unnamed file");
  }
  void Become(int fd) const { dup2(fd_.get(), fd); }
  std::string Text() const {
    std::string text(64 * 1024, '\0');
    const ssize_t got = pread(fd_.get(), text.data(), text.size(), 0);
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return text;
  }

 private:
  const detail::Fd fd_;
};

class Case {
 public:
  Case(const std::string& parent, const Operation& operation, const Hindrance& hindrance)
      : operation_(operation), hindrance_(hindrance), world_(parent, operation.ground) {
    if (operation.neighbour) world_.AddNeighbour();
    if (operation.dead) world_.AddDead();
    if (hindrance.ready) hindrance.ready(world_);
  }

  Outcome Run(const Usual* usual, Usual* learned) {
    Watched watched;
    if (hindrance_.denial.has_value()) {
      watched.calls = {hindrance_.denial->call, SYS_execve};
    } else if (hindrance_.impose) {
      watched.calls = {SYS_getpriority};
    }
    watched.denial = hindrance_.denial;
    watched.meanwhile = [&](pid_t process) {
      if (operation_.asked) return world_.Ask(process);
      operation_.paired ? world_.Pair() : world_.Look();
    };
    Outcome outcome;
    outcome.ending = RunWatched([&] { Act(); }, watched);
    world_.RemoveNeighbour();
    const Answered answered = Answer(outcome.ending.code);
    if (told_->imposed.bytes[0] != '\0') {
      outcome.not_imposed = told_->imposed.bytes;
      return outcome;
    }
    if (outcome.ending.code == kNotExecuted) {
      outcome.not_imposed = "epochctl cannot be executed";
      return outcome;
    }
    outcome.what = answered.what;
    outcome.message = Named(answered.message);
    LookAtProcess(outcome);
    if (outcome.ending.hung) return outcome;
    if (hindrance_.look) AddTo(outcome.faults, hindrance_.look(world_));
    const Judgement judgement = JudgeWorld(world_, operation_, answered, hindrance_.allows, usual);
    AddTo(outcome.faults, judgement.faults);
    if (judgement.poisoned) outcome.what += ", poisoned";
    if (learned != nullptr) *learned = {judgement.names, answered.printed};
    return outcome;
  }

 private:
  // In the process that acts.
  void Act() {
    const bool by_ctl = !operation_.verb.empty();
    if (operation_.ringless) EPOCH_CHECK(RefuseIoUring(), "seccomp");
    if (by_ctl) {
      const detail::Fd nothing(open("/dev/null", O_RDONLY | O_CLOEXEC));
      dup2(nothing.get(), STDIN_FILENO);
      out_.Become(STDOUT_FILENO);
      err_.Become(STDERR_FILENO);
    }
    if (hindrance_.impose) {
      const std::string why = hindrance_.impose(world_);
      told_->imposed.Set(why);
      if (!why.empty()) _exit(kNotImposed);
    }
    if (by_ctl) BecomeCtl(WordsOf(operation_, world_), hindrance_.impose == nullptr);
    Operate(operation_, world_.region(), world_.Options(world_.durable() || operation_.durable),
            *told_);
  }

  Answered Answer(int code) const {
    Answered answered;
    answered.signal = code < 0 ? -code : 0;
    if (!operation_.verb.empty()) {
      answered.ended = code >= 0;
      answered.good = code == 0;
      answered.message = err_.Text();
      answered.printed = out_.Text();
      answered.what = code == kNotLoaded ? "not started" : absl::StrCat("exit ", code);
    } else {
      answered.ended = told_->ended;
      answered.out_of_memory = told_->out_of_memory;
      answered.good = told_->ended && !told_->out_of_memory && told_->code == absl::StatusCode::kOk;
      answered.message = told_->message.bytes;
      answered.epoch = told_->epoch;
      answered.what = told_->out_of_memory ? "std::bad_alloc" : NameOf(told_->code);
    }
    if (answered.good) answered.what = kAsIfNothing;
    if (!answered.ended) answered.what = absl::StrCat("signal ", answered.signal);
    return answered;
  }

  // What the process itself has kept.
  void LookAtProcess(Outcome& outcome) const {
    if (outcome.ending.hung) outcome.faults.push_back("it hangs");
    if (outcome.ending.left_running) outcome.faults.push_back("a child of it goes on");
    if (!told_->ended) return;
    // Whoever is denied close() still has the descriptor, as with no kernel.
    const bool cannot_close = hindrance_.denial.has_value() && hindrance_.denial->call == SYS_close;
    if (!cannot_close && told_->descriptors_after >= 0 &&
        told_->descriptors_after != told_->descriptors_before) {
      outcome.faults.push_back(absl::StrCat("descriptors: ", told_->descriptors_before, " before, ",
                                            told_->descriptors_after, " after"));
    }
    if (told_->standard_taken >= 0) {
      outcome.faults.push_back(absl::StrCat("it keeps descriptor ", told_->standard_taken));
    }
  }

  void AddTo(std::vector<std::string>& faults, const std::vector<std::string>& more) const {
    for (const std::string& fault : more) faults.push_back(Named(fault));
  }
  // The same in every run.
  std::string Named(const std::string& text) const {
    return absl::StrReplaceAll(text, {{world_.directory(), "WORLD"}});
  }

  const Operation& operation_;
  const Hindrance& hindrance_;
  World world_;
  const Capture out_, err_;
  const SharedPage<Told> told_;
};

// What every case of an operation is compared with.
const Usual& UsualOf(const std::string& parent, const Operation& operation) {
  static std::map<std::string, Usual> known;
  const auto [usual, fresh] = known.try_emplace(operation.name);
  if (fresh) Case(parent, operation, {}).Run(nullptr, &usual->second);
  return usual->second;
}

}  // namespace

Outcome RunCase(const std::string& parent, const Operation& operation, const Hindrance& hindrance) {
  const Usual& usual = UsualOf(parent, operation);
  return Case(parent, operation, hindrance).Run(&usual, nullptr);
}

Allowance AllowanceOf(const Denial& denial, const Operation& operation) {
  Allowance allows;
  allows.device_fails = IsDeviceFailure(denial.call, denial.error);
  // Whoever looks for what is missing, and is told that a file is not there, says so.
  const bool missing = denial.error == ENOENT || denial.error == ENOTDIR;
  allows.unreadable =
      denial.error == EIO || (missing && operation.name.starts_with("epochctl check"));
  allows.short_of_memory = denial.error == ENOMEM || denial.error == EAGAIN;
  allows.mute = denial.call == SYS_write || denial.call == SYS_writev;
  return allows;
}

Outcome RunDenied(const std::string& parent, const Operation& operation, const Denial& denial) {
  Hindrance hindrance{.denial = denial};
  hindrance.allows = AllowanceOf(denial, operation);
  return RunCase(parent, operation, hindrance);
}

std::map<int, int> CallsOf(const std::string& parent, const Operation& operation) {
  return RunCase(parent, operation).ending.calls;
}

}  // namespace epoch::test
