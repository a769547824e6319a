// What checkpoints cost beside what cannot be saved: reading, hashing, syncing. The variants take
// turns, shard by shard.
//
// EPOCH_BENCH_DIR says where (default: the build directory); it must be on a real disk.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <xxhash.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "bench/support.h"
#include "core/checkpoint/shard.h"
#include "core/files/disk.h"
#include "epoch/checkpoint.h"

namespace epoch::bench {
namespace {

namespace fs = std::filesystem;

class Folder {
 public:
  Folder() {
    const char* const given = std::getenv("EPOCH_BENCH_DIR");
    path_ = fs::path(given != nullptr ? given : EPOCH_BENCH_DEFAULT_DIR) /
            ("epoch_bench_checkpoint." + std::to_string(getpid()));
    fs::remove_all(path_);
    fs::create_directories(path_);
    fd_ = detail::Fd(open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  int fd() const { return fd_.get(); }
  std::string At(const std::string& name) const { return path_ / name; }

 private:
  fs::path path_;
  detail::Fd fd_;
};

std::vector<char> RandomBytes(std::size_t size) {
  std::vector<char> bytes(size);
  std::uint64_t x = 88172645463325252ull;
  for (std::size_t i = 0; i + 8 <= size; i += 8) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    std::memcpy(&bytes[i], &x, 8);
  }
  return bytes;
}

// A new file each time: its pages are dirty, as they are when a rank has just written them.
void WriteNew(const std::string& path, const std::vector<char>& bytes) {
  fs::remove(path);
  const detail::Fd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  for (std::size_t at = 0; at < bytes.size();) {
    const ssize_t wrote = write(fd.get(), bytes.data() + at, bytes.size() - at);
    if (wrote <= 0) std::abort();
    at += static_cast<std::size_t>(wrote);
  }
}

template <typename Call>
double Timed(Call&& call) {
  const double start = NowNs();
  call();
  return NowNs() - start;
}

// One core: plain reads of a cached file, XXH3-128 of memory, and the digest of the file.
void BM_Digest(benchmark::State& state) {
  const Folder folder;
  const std::vector<char> bytes = RandomBytes(static_cast<std::size_t>(state.range(0)) << 20);
  const std::string path = folder.At("shard");
  WriteNew(path, bytes);
  const detail::Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const journal::AlignedBuffer buffer(std::size_t{1} << 20);
  std::vector<double> read, hash, digest;
  for (auto _ : state) {
    read.push_back(Timed([&] {
      for (std::size_t at = 0; at < bytes.size(); at += buffer.size()) {
        if (pread(fd.get(), buffer.data(), buffer.size(), static_cast<off_t>(at)) <= 0)
          std::abort();
      }
    }));
    hash.push_back(
        Timed([&] { benchmark::DoNotOptimize(XXH3_128bits(bytes.data(), bytes.size())); }));
    digest.push_back(
        Timed([&] { benchmark::DoNotOptimize(Require(checkpoint::Measure(fd.get(), path))); }));
  }
  const auto size = static_cast<double>(bytes.size());
  state.counters["digest_GB_per_s"] = size / Median(digest);
  state.counters["read_GB_per_s"] = size / Median(read);
  state.counters["xxh3_GB_per_s"] = size / Median(hash);
  state.counters["digest_to_read"] = Median(digest) / Median(read);
  state.counters["digest_to_xxh3"] = Median(digest) / Median(hash);
}
BENCHMARK(BM_Digest)->ArgName("MiB")->Arg(1)->Arg(64)->Arg(512)->Iterations(20)->UseRealTime();
BENCHMARK(BM_Digest)->ArgName("MiB")->Arg(1024)->Arg(4096)->Iterations(3)->UseRealTime();

// Ready of a shard that was just written, against a sync alone, and a sync followed by a digest.
void BM_Ready(benchmark::State& state) {
  const Folder folder;
  const std::vector<char> bytes = RandomBytes(static_cast<std::size_t>(state.range(0)) << 20);
  const std::string path = folder.At("shard");
  std::vector<double> sync, digest, ready;
  for (auto _ : state) {
    WriteNew(path, bytes);
    {
      const detail::Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
      sync.push_back(Timed([&] {
        if (fdatasync(fd.get()) != 0) std::abort();
      }));
      digest.push_back(
          Timed([&] { benchmark::DoNotOptimize(Require(checkpoint::Measure(fd.get(), path))); }));
    }
    WriteNew(path, bytes);
    ready.push_back(Timed([&] {
      benchmark::DoNotOptimize(Require(checkpoint::MakeReady(folder.fd(), "shard", path)));
    }));
  }
  state.counters["ready_ms"] = Median(ready) / 1e6;
  state.counters["sync_ms"] = Median(sync) / 1e6;
  state.counters["digest_ms"] = Median(digest) / 1e6;
  state.counters["ready_to_sync"] = Median(ready) / Median(sync);
  state.counters["ready_to_both"] = Median(ready) / (Median(sync) + Median(digest));
}
BENCHMARK(BM_Ready)->ArgName("MiB")->Arg(1)->Arg(64)->Arg(512)->Iterations(7)->UseRealTime();
BENCHMARK(BM_Ready)->ArgName("MiB")->Arg(1024)->Arg(4096)->Iterations(3)->UseRealTime();

// All that a checkpoint of one rank adds to writing and syncing its shard; and opening it again,
// which verifies the shard, while it is cached.
void BM_Checkpoint(benchmark::State& state) {
  const Folder folder;
  CheckpointOptions options;
  options.region = "bench." + std::to_string(getpid());
  const std::vector<char> bytes = RandomBytes(static_cast<std::size_t>(state.range(0)) << 20);
  std::vector<double> begin, ready, commit, open;
  {
    CheckpointRank rank = Require(CheckpointRank::Join(folder.At("checkpoints"), options));
    std::uint64_t number = 0;
    for (auto _ : state) {
      std::optional<CheckpointStep> step;
      begin.push_back(Timed([&] { step = Require(rank.Begin(++number)); }));
      WriteNew(step->PathOf("shard"), bytes);
      ready.push_back(Timed([&] { Require(step->Ready("shard")); }));
      commit.push_back(Timed([&] { benchmark::DoNotOptimize(Require(step->Commit())); }));
      open.push_back(Timed([&] {
        benchmark::DoNotOptimize(Require(Checkpoints(folder.At("checkpoints")).OpenLatest()));
      }));
    }
  }
  Require(Region::Unlink(options.region));
  state.counters["begin_ms"] = Median(begin) / 1e6;
  state.counters["ready_ms"] = Median(ready) / 1e6;
  state.counters["commit_ms"] = Median(commit) / 1e6;
  state.counters["open_ms"] = Median(open) / 1e6;
}
BENCHMARK(BM_Checkpoint)->ArgName("MiB")->Arg(1)->Arg(64)->Iterations(10)->UseRealTime();
BENCHMARK(BM_Checkpoint)->ArgName("MiB")->Arg(1024)->Arg(4096)->Iterations(3)->UseRealTime();

}  // namespace
}  // namespace epoch::bench

BENCHMARK_MAIN();
