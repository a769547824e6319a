// The file system, as far as Epoch uses it: the seam's second half. Every call on files,
// directories and descriptors goes through `sys::`, so that a test build can put a simulated disk
// underneath the same code. In production these are the system's own functions, under their own
// names.
#ifndef EPOCH_DETAIL_SYSTEM_CALLS_H_
#define EPOCH_DETAIL_SYSTEM_CALLS_H_

#include "epoch/detail/seam.h"

#ifndef EPOCH_SEAM_HEADER  // one that replaces the seam brings its own

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <boost/interprocess/file_mapping.hpp>
#include <boost/interprocess/mapped_region.hpp>
#include <cstddef>

namespace epoch::sys {

// Descriptors and names.
using ::access;
using ::chmod;
using ::close;
using ::dup3;
using ::fchmod;
using ::fstat;
using ::fstatfs;
using ::linkat;
using ::lstat;
using ::mkdir;
using ::mkdtemp;
using ::open;
using ::openat;
using ::realpath;
using ::renameat2;
using ::rmdir;
using ::stat;
using ::statx;
using ::unlink;
using ::unlinkat;
// Bytes.
using ::fdatasync;
using ::fsync;
using ::posix_fallocate;
using ::pread;
using ::pwrite;
using ::pwritev2;
using ::read;
using ::write;
// Directories.
using ::closedir;
using ::DIR;
using ::dirfd;
using ::fdopendir;
using ::flock;
using ::opendir;
using ::readdir;
// Not files, but asked of the same kernel.
using ::eventfd;
using ::geteuid;
using ::getpid;
using ::getrandom;
using ::sched_yield;

// A file's memory, shared, for as long as this lives.
class MappedFile {
 public:
  MappedFile() = default;
  // Throws boost::interprocess::interprocess_exception.
  MappedFile(const char* path, bool writable)
      : region_(boost::interprocess::file_mapping(path, Mode(writable)), Mode(writable)) {}
  std::byte* data() const { return static_cast<std::byte*>(region_.get_address()); }

 private:
  static boost::interprocess::mode_t Mode(bool writable) {
    return writable ? boost::interprocess::read_write : boost::interprocess::read_only;
  }
  boost::interprocess::mapped_region region_;
};

}  // namespace epoch::sys

#endif  // EPOCH_SEAM_HEADER
#endif  // EPOCH_DETAIL_SYSTEM_CALLS_H_
