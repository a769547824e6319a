// Synchronous writes, one behind the other, to a file that is allocated and zeroed: the least that
// a durable commit can take. Four ways to ask the kernel for one.
#ifndef EPOCH_BENCH_RAW_FILE_H_
#define EPOCH_BENCH_RAW_FILE_H_

#include <liburing.h>

#include <array>
#include <cstddef>
#include <memory>
#include <string>

namespace epoch::bench {

enum class RawWay {
  kDirectSync,  // pwrite, O_DIRECT | O_DSYNC
  kFdatasync,   // pwrite into the page cache, then fdatasync
  kRwfDsync,    // pwritev2 with RWF_DSYNC, O_DIRECT
  kRing,        // io_uring write with RWF_DSYNC, O_DIRECT; fixed file and buffer,
                // SINGLE_ISSUER | DEFER_TASKRUN
};
inline constexpr std::array kRawWays = {RawWay::kDirectSync, RawWay::kFdatasync, RawWay::kRwfDsync,
                                        RawWay::kRing};
const char* NameOf(RawWay way);

class RawFile {
 public:
  RawFile(const std::string& path, RawWay way, std::size_t blocks);
  ~RawFile();
  RawFile(const RawFile&) = delete;
  RawFile& operator=(const RawFile&) = delete;

  // False where the kernel refuses io_uring: then Write must not be called.
  bool ok() const { return ok_; }
  // Writes the next `blocks` blocks of 4 KiB; returns when they are on stable storage.
  void Write();

 private:
  void StartRing();
  void WriteByRing();

  const RawWay way_;
  const std::size_t bytes_;
  std::unique_ptr<std::byte, void (*)(void*)> buffer_;
  int fd_ = -1;
  io_uring ring_{};
  bool ok_ = true;
  std::size_t at_ = 0;
};

}  // namespace epoch::bench

#endif  // EPOCH_BENCH_RAW_FILE_H_
