// A bug planted on purpose, in front of the journal's own code: what is written durably is written,
// but not synced, by io_uring and by calls.
#include <linux/fs.h>
#include <sys/uio.h>
#undef RWF_DSYNC
#define RWF_DSYNC 0
