// Other embedded stores, each set as fast as it goes while a put that has returned survives a power
// cut. Those whose development files are missing are left out of the build.
#ifndef EPOCH_BENCH_PEERS_H_
#define EPOCH_BENCH_PEERS_H_

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace epoch::bench {

// A store that holds one value under one key, as a region holds one state: for all of them the
// cheapest thing that can be put.
class Peer {
 public:
  virtual ~Peer() = default;
  // Replaces the value; returns when it is durable.
  virtual void Put(std::span<const std::byte> value) = 0;
  virtual const char* name() const = 0;
  // Version and settings, for people.
  virtual std::string settings() const = 0;
};

// All of them, in files under `directory`, in the state in which they stay: files at their full
// size, what is reused ready to be.
std::vector<std::unique_ptr<Peer>> OpenPeers(const std::string& directory, std::size_t value_bytes);

}  // namespace epoch::bench

#endif  // EPOCH_BENCH_PEERS_H_
