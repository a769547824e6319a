// Faults that are known and not mended yet: printed, and no failure. The shorter the better.
#ifndef EPOCH_TESTS_BORDER_KNOWN_H_
#define EPOCH_TESTS_BORDER_KNOWN_H_

#include <string>
#include <vector>

namespace epoch::test {

// `row`, `detail` and `operation` as in the table, each empty for all; `fault` is a part of what is
// found, "it hangs" of what is not even tried.
struct KnownFault {
  std::string row, detail, operation, fault;
};

inline const std::vector<KnownFault>& KnownFaults() {
  static const std::vector<KnownFault> known = {
      // A refused vote is taken for damage.
      {"", "", "", "which is free"},
      // Not a row of the README's table.
      {"", "", "", "Internal"},
      // No byte was lost, or not by the device.
      {"pwritev2", "", "", "is poisoned"},
      {"linkat", "", "", "is poisoned"},
      {"fsync", "", "", "is poisoned"},
      {"seccomp: preadv2, pwritev2 EPERM", "", "", "is poisoned"},
      {"file size 0, SIGXFSZ ignored", "", "", "is poisoned"},
      {"file size 4096, SIGXFSZ ignored", "", "", "is poisoned"},
      {"file size 1048576, SIGXFSZ ignored", "", "", "is poisoned"},
      {"seccomp: linkat ENOSYS", "", "", "is poisoned"},
      {"getrandom", "", "", "did not end"},
      {"mkdir", "EEXIST", "", "it hangs"},
      {"file size 1048576", "", "roll durable", "it hangs"},
      {"file size 1048576, SIGXFSZ ignored", "", "roll durable", "it hangs"},
      {"poll", "ENOMEM", "epochctl join", "it hangs"},
      // The epoch is there, and the error does not say so.
      {"", "", "", "it speaks of data loss"},
      {"statx", "", "", "nothing was changed: it was"},
      {"", "", "epochctl put", "nothing was changed: it was"},
      {"wait4", "ECHILD", "epochctl join", "its validator refuses"},
      {"SIGCHLD ignored", "", "epochctl join", "its validator refuses"},
      {"", "", "", "it keeps descriptor"},
      {"standard output closed", "", "", "cannot be opened afterwards"},
      {"standard error closed", "", "", "cannot be opened afterwards"},
      {"standard descriptors closed", "", "", "cannot be opened afterwards"},
      // Modes and groups of folders.
      {"setgid parent directory", "", "", "has group"},
      {"umask 777", "", "", ""},
  };
  return known;
}

inline bool IsKnown(const std::string& row, const std::string& detail, const std::string& operation,
                    const std::string& fault) {
  for (const KnownFault& known : KnownFaults()) {
    if ((known.row.empty() || known.row == row) &&
        (known.detail.empty() || known.detail == detail) &&
        (known.operation.empty() || operation.find(known.operation) != std::string::npos) &&
        fault.find(known.fault) != std::string::npos) {
      return true;
    }
  }
  return false;
}

inline bool IsKnownToHang(const std::string& row, const std::string& detail,
                          const std::string& operation) {
  return IsKnown(row, detail, operation, "it hangs");
}

}  // namespace epoch::test

#endif  // EPOCH_TESTS_BORDER_KNOWN_H_
