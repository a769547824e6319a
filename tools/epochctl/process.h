// What this process has inherited from whoever started it, made safe once; what it hands on to
// those that it starts; and how these ended.
//
// Whoever starts a tool decides about its descriptors, signals and environment: cron, systemd,
// nohup, Python, a shell with closed descriptors. None of that may change what a verdict means.
#ifndef EPOCH_TOOLS_EPOCHCTL_PROCESS_H_
#define EPOCH_TOOLS_EPOCHCTL_PROCESS_H_

#include <signal.h>
#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace epoch::ctl {

// The first thing in main, before any thread starts and any file is opened.
// - Descriptors 0 to 2 are open afterwards, so that no file that is opened later becomes standard
//   output. Those that were closed fail when they are used: reading or writing them is an error,
//   not an empty file. Only standard error goes nowhere.
// - SIGCHLD has its default: where it is ignored the kernel keeps no exit status.
// - SIGPIPE and SIGXFSZ are ignored: a reader that is gone, and a file-size limit, are errors of
//   write().
void StartUp();

// SIGINT, SIGTERM and SIGHUP, without those that this process has inherited ignored: nohup and
// background jobs go on.
sigset_t EndingSignals();
// Has `handler` called for each of them. Calls that can be are restarted (poll is not).
void HandleEndingSignals(void (*handler)(int));

// For verbs that wait: from now on these signals end nothing by themselves. What waits asks
// AskedToEnd, which is true once one has come, and ends with a word of how far it got.
void CatchEndingSignals();
bool AskedToEnd();

// In a child, right before exec: signal mask and dispositions as this process has inherited them,
// but for SIGCHLD, which a shell needs as well. Async-signal-safe.
void RestoreInherited();

struct Variable {
  std::string name, value;
};
// The environment for a command: this process's own, in which each of `set` replaces what was
// there. What commands are told by (EPOCH_REGION, EPOCH_NUMBER, EPOCH_PROPOSER) and is not in `set`
// is not there. No name occurs twice.
std::vector<std::string> ChildEnvironment(const std::vector<Variable>& set);

// What became of a child.
struct ChildEnd {
  bool succeeded = false;  // it is known to have ended by itself, with exit code 0
  std::string how;         // "exit code 3", "signal 9", "unknown exit status"
};
// Of a wait status (waitpid(2)); nothing: it could not be had. An unknown end is no success.
ChildEnd EndOf(std::optional<int> status);
// Waits for a child of this process. Nothing: there is none, or somebody else has waited for it.
std::optional<int> AwaitChild(pid_t pid);
// Whether AwaitChild would return at once.
bool ChildHasEnded(pid_t pid);

}  // namespace epoch::ctl

#endif  // EPOCH_TOOLS_EPOCHCTL_PROCESS_H_
