// A kernel that does not have, or does not allow, some system calls.
#ifndef EPOCH_TESTS_SUPPORT_REFUSE_CALLS_H_
#define EPOCH_TESTS_SUPPORT_REFUSE_CALLS_H_

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace epoch::test {

struct RefusedCall {
  long number;
  int error;
};

// From now on the kernel answers these calls of this process so.
inline bool RefuseCalls(const std::vector<RefusedCall>& calls) {
  std::vector<sock_filter> program{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (const RefusedCall& call : calls) {
    program.push_back(
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(call.number), 0, 1));
    program.push_back(
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(call.error)));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog filter{.len = static_cast<unsigned short>(program.size()),
                          .filter = program.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

// As in most containers.
inline bool RefuseIoUring() { return RefuseCalls({{SYS_io_uring_setup, EPERM}}); }

}  // namespace epoch::test

#endif  // EPOCH_TESTS_SUPPORT_REFUSE_CALLS_H_
