// Child processes for tests: this very binary, started again in a role.
//
//   ROLE(Counter) {                       // runs in the child; its result is the exit code
//     auto region = Region::Open(self.args.at(0));
//     self.wire.Say("ready");
//     ...
//   }
//   Child child("Counter", {region.name()});  // in the test
//   ASSERT_EQ(child.Hear(), "ready");
//
// A child is killed when its Child object goes, and when the test process dies. Processes talk in
// lines over pipes; nothing sleeps for synchronisation.
#ifndef EPOCH_TESTS_SUPPORT_CHILD_H_
#define EPOCH_TESTS_SUPPORT_CHILD_H_

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

namespace epoch::test {

// One end of a conversation in lines of text. Owns both descriptors.
class Wire {
 public:
  Wire(int in, int out) : in_(in), out_(out) {}
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;
  ~Wire();

  // False if nobody listens any more.
  bool Say(std::string_view line);
  // The next line; "<gone>" if the other side is gone, "<silent>" if it says nothing for as long
  // as kLong.
  std::string Hear();

 private:
  int in_;
  int out_;
  std::string buffer_;
};

struct RoleContext {
  std::vector<std::string> args;
  Wire wire;
};

using RoleFunction = int (*)(RoleContext& self);
bool RegisterRole(const char* name, RoleFunction function);
// The exit code of the role that this process was started for, or -1 if it was started as a test.
int RunRole(int argc, char** argv);

#define ROLE(name)                                                          \
  static int Role##name([[maybe_unused]] ::epoch::test::RoleContext& self); \
  [[maybe_unused]] static const bool kRegistered##name =                    \
      ::epoch::test::RegisterRole(#name, &Role##name);                      \
  static int Role##name([[maybe_unused]] ::epoch::test::RoleContext& self)

// For role functions: says what is wrong and where, and ends the process with code 3.
#define ROLE_CHECK(condition, ...)    \
  ((condition) ? static_cast<void>(0) \
               : ::epoch::test::RoleFailed(__FILE__, __LINE__, #condition, {__VA_ARGS__}))
[[noreturn]] void RoleFailed(const char* file, int line, const char* condition,
                             const std::vector<std::string>& details);

class Child {
 public:
  // Flags of clone(2) for namespaces of its own, such as CLONE_NEWPID.
  Child(const std::string& role, const std::vector<std::string>& args, int namespaces = 0);
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child();

  // Whether this process may start children with these flags.
  static bool CanIsolate(int namespaces);

  bool Say(std::string_view line) { return wire_->Say(line); }
  std::string Hear() { return wire_->Hear(); }

  pid_t pid() const { return pid_; }
  void Signal(int signal);
  // Sends SIGSTOP and waits until it has taken effect.
  void Stop();
  // Waits until the child has stopped by itself (true) or ended (false).
  bool AwaitStop();
  void Continue();
  // Sends SIGKILL and waits until the child is gone.
  void Kill();
  // Waits for the end: the exit code, or minus the signal that ended it.
  int Wait();

 private:
  pid_t pid_ = -1;
  bool ended_ = false;
  int result_ = 0;
  Wire* wire_ = nullptr;
};

}  // namespace epoch::test

#endif  // EPOCH_TESTS_SUPPORT_CHILD_H_
