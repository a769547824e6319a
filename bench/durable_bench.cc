// Costs on disk, against raw writes to a zeroed, preallocated file of the same filesystem. The
// variants take turns, write by write, so that the disk's moods meet all of them alike.
//
// EPOCH_BENCH_DIR says where (default: the build directory); it must be on a real disk.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "bench/support.h"
#include "epoch/journal.h"

namespace epoch::bench {
namespace {

namespace fs = std::filesystem;

void Check(bool ok, const char* what) {
  if (ok) return;
  std::perror(what);
  std::abort();
}

class ScratchDirectory {
 public:
  ScratchDirectory() {
    const char* const given = std::getenv("EPOCH_BENCH_DIR");
    path_ = fs::path(given != nullptr ? given : EPOCH_BENCH_DEFAULT_DIR) /
            ("epoch_bench." + std::to_string(getpid()));
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~ScratchDirectory() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  std::string At(const char* name) const { return path_ / name; }

 private:
  fs::path path_;
};

constexpr std::size_t kBlock = 4096;

// Synchronous writes, one behind the other, to blocks that are allocated and zeroed.
class RawFile {
 public:
  RawFile(const std::string& path, std::size_t write_bytes, bool direct)
      : write_bytes_(direct ? (write_bytes + kBlock - 1) / kBlock * kBlock : write_bytes),
        buffer_(static_cast<std::byte*>(
                    std::aligned_alloc(kBlock, (write_bytes + kBlock - 1) / kBlock * kBlock)),
                &std::free),
        direct_(direct) {
    std::memset(buffer_.get(), 7, (write_bytes + kBlock - 1) / kBlock * kBlock);
    fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    Check(fd_ >= 0, "open");
    const std::vector<char> zeros(1 << 20);
    for (std::size_t at = 0; at < kFileBytes; at += zeros.size()) {
      Check(write(fd_, zeros.data(), zeros.size()) == static_cast<ssize_t>(zeros.size()), "write");
    }
    Check(fsync(fd_) == 0, "fsync");
    if (!direct) return;
    close(fd_);
    fd_ = open(path.c_str(), O_RDWR | O_DIRECT | O_DSYNC | O_CLOEXEC);
    Check(fd_ >= 0, "open O_DIRECT");
  }
  ~RawFile() { close(fd_); }
  RawFile(const RawFile&) = delete;
  RawFile& operator=(const RawFile&) = delete;

  void Write() {
    if (at_ + write_bytes_ > kFileBytes) at_ = 0;
    const ssize_t written = pwrite(fd_, buffer_.get(), write_bytes_, static_cast<off_t>(at_));
    Check(written == static_cast<ssize_t>(write_bytes_), "pwrite");
    if (!direct_) Check(fdatasync(fd_) == 0, "fdatasync");
    at_ += write_bytes_;
  }

 private:
  static constexpr std::size_t kFileBytes = 64 << 20;

  const std::size_t write_bytes_;
  const std::unique_ptr<std::byte, decltype(&std::free)> buffer_;
  const bool direct_;
  int fd_ = -1;
  std::size_t at_ = 0;
};

RegionOptions Durable(const ScratchDirectory& directory, std::size_t state_bytes,
                      History history = History::kAll) {
  RegionOptions options;
  options.state_bytes = state_bytes;
  options.journal = directory.At("journal");
  options.history = history;
  return options;
}

void DurableCommit(benchmark::State& state) {
  const auto bytes = static_cast<std::size_t>(state.range(0));
  const ScratchDirectory directory;
  RawFile buffered(directory.At("buffered"), bytes, false);
  RawFile direct(directory.At("direct"), bytes, true);
  ScratchRegion scratch(Durable(directory, bytes));
  Participant self = scratch.Join("bench");
  const std::vector<std::byte> content(bytes, std::byte{7});
  enum { kBuffered, kDirect, kCommit, kVariants };
  std::array<std::vector<double>, kVariants> samples;
  const auto run = [&](int variant) {
    const double start = NowNs();
    switch (variant) {
      case kBuffered:
        buffered.Write();
        break;
      case kDirect:
        direct.Write();
        break;
      default:
        Require(self.Commit(content).status());
    }
    samples[static_cast<std::size_t>(variant)].push_back(NowNs() - start);
  };
  int first = 0;
  for (auto _ : state) {
    for (int i = 0; i < kVariants; ++i) run((first + i) % kVariants);
    ++first;
    state.SetIterationTime(1e-9 * samples[kCommit].back());
  }
  const double buffered_us = Median(samples[kBuffered]) / 1e3;
  const double direct_us = Median(samples[kDirect]) / 1e3;
  const double commit_us = Median(samples[kCommit]) / 1e3;
  state.counters["us"] = commit_us;
  state.counters["p99_us"] = Quantile(samples[kCommit], 0.99) / 1e3;
  state.counters["fdatasync_us"] = buffered_us;
  state.counters["fdatasync_p99_us"] = Quantile(samples[kBuffered], 0.99) / 1e3;
  state.counters["direct_us"] = direct_us;
  state.counters["direct_p99_us"] = Quantile(samples[kDirect], 0.99) / 1e3;
  state.counters["ratio"] = commit_us / std::min(buffered_us, direct_us);
}
BENCHMARK(DurableCommit)->Arg(64)->Arg(4096)->Arg(65536)->Iterations(400)->UseManualTime();

// Many transitions under way at once, from one participant: they share writes.
void DurablePipeline(benchmark::State& state) {
  const auto depth = static_cast<std::size_t>(state.range(0));
  const ScratchDirectory directory;
  ScratchRegion scratch(Durable(directory, 4096));
  Participant self = scratch.Join("bench");
  const std::vector<std::byte> content(4096, std::byte{7});
  std::size_t commits = 0;
  const double start = NowNs();
  for (auto _ : state) {
    Ticket last;
    for (std::size_t i = 0; i < depth; ++i) {
      last = Require(self.Propose(Require(self.NewDraft(content))));
    }
    Require(self.Await(last).status());
    commits += depth;
  }
  state.counters["commits_per_s"] = static_cast<double>(commits) / (NowNs() - start) * 1e9;
}
BENCHMARK(DurablePipeline)->ArgName("depth")->Arg(1)->Arg(16)->Arg(64)->Iterations(200);

void DropFromPageCache(const std::string& directory) {
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    const int fd = open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
    Check(fd >= 0, "open");
    Check(fdatasync(fd) == 0, "fdatasync");
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
  }
}

// A region is rebuilt from a journal of 1 GiB of committed states, 64 KiB each. The journal's files
// are not in the page cache.
void Recover(benchmark::State& state, History history) {
  constexpr std::size_t kBytes = 64 << 10;
  constexpr std::size_t kTotalBytes = std::size_t{1} << 30;
  const ScratchDirectory directory;
  const RegionOptions options = Durable(directory, kBytes, history);
  const std::string name = "bench.recover." + std::to_string(getpid());
  {
    Region region = Require(Region::Create(name, options));
    Participant self = Require(Participant::Join(region, {.name = "bench"}));
    std::vector<std::byte> content(kBytes, std::byte{7});
    Ticket last;
    for (std::size_t i = 0; i < kTotalBytes / kBytes; ++i) {
      std::memcpy(content.data(), &i, sizeof i);
      last = Require(self.Propose(Require(self.NewDraft(content))));
      if (i % 16 == 15) Require(self.Await(last).status());
    }
  }
  std::uintmax_t journal_bytes = 0;
  std::vector<double> samples;
  for (auto _ : state) {
    Require(Region::Unlink(name));
    DropFromPageCache(options.journal);
    const double start = NowNs();
    {
      const Region region = Require(Region::Restore(name, options));
      if (region.epoch() != kTotalBytes / kBytes) std::abort();
      samples.push_back(NowNs() - start);
    }
    state.SetIterationTime(1e-9 * samples.back());
  }
  for (const fs::directory_entry& entry : fs::directory_iterator(options.journal)) {
    if (entry.is_regular_file()) journal_bytes += entry.file_size();
  }
  Region::Unlink(name).IgnoreError();
  state.counters["ms"] = Median(samples) / 1e6;
  state.counters["max_ms"] = Quantile(samples, 1) / 1e6;
  state.counters["journal_MiB"] = static_cast<double>(journal_bytes) / (1 << 20);
}
void RecoverAll(benchmark::State& state) { Recover(state, History::kAll); }
BENCHMARK(RecoverAll)->Iterations(9)->UseManualTime()->Unit(benchmark::kMillisecond);
void RecoverLatest(benchmark::State& state) { Recover(state, History::kLatest); }
BENCHMARK(RecoverLatest)->Iterations(9)->UseManualTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace epoch::bench

BENCHMARK_MAIN();
