// What a journal needs of the filesystem that it lies on.
#ifndef EPOCH_CORE_FILES_FILESYSTEM_H_
#define EPOCH_CORE_FILES_FILESYSTEM_H_

#include <string>

#include "absl/status/status.h"

namespace epoch::journal {

// FailedPrecondition, with what to do about it, if a new file of a journal must not lie where `fd`
// is: on a network or user-space filesystem, or on an ext4 with fast commits, as far as those can
// be seen.
absl::Status CheckFilesystem(int fd, const std::string& directory);

// Whether an ext4 says that it makes fast commits: in its /proc/fs/ext4/DEVICE/options, or by
// having made some, in fc_info beside it.
bool SaysFastCommits(const std::string& options, const std::string& fc_info);

}  // namespace epoch::journal

#endif  // EPOCH_CORE_FILES_FILESYSTEM_H_
