/* Preloaded: a disk that has no room for another file while `no_room` is not 0. */
#include <errno.h>
#include <fcntl.h>

int no_room;

int posix_fallocate(int fd, off_t offset, off_t length) {
  if (no_room != 0) return ENOSPC;
  return fallocate(fd, 0, offset, length) == 0 ? 0 : errno;
}
int posix_fallocate64(int fd, off64_t offset, off64_t length) {
  return posix_fallocate(fd, offset, length);
}
