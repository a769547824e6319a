// One agent of the demo: a process that folds its share of the chunks into the shared count, and
// reports each fold that was acknowledged to it.
#ifndef EPOCH_TOOLS_EPOCHCTL_DEMO_AGENT_H_
#define EPOCH_TOOLS_EPOCHCTL_DEMO_AGENT_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace epoch::ctl::demo {

struct AgentJob {
  std::uint32_t agent = 0;   // this one
  std::uint32_t agents = 1;  // folds chunk c if c mod agents == agent
  std::string input;
  std::size_t chunk_bytes = 0;
  std::string region;      // through Epoch, or, if empty:
  std::string naive_file;  // by read, change, write a temporary file, rename
  int report_fd = -1;
};

enum class ReportKind : std::uint32_t { kFolded = 1, kTornRead = 2 };

// Written to the pipe in one piece (smaller than PIPE_BUF), after the fold was acknowledged.
struct Report {
  ReportKind kind;
  std::uint32_t chunk;
  std::uint64_t epoch;
  std::int64_t latency_ns;
};

// Folds every chunk of its share that the state does not have yet, once.
absl::Status RunAgent(const AgentJob& job);

}  // namespace epoch::ctl::demo

#endif  // EPOCH_TOOLS_EPOCHCTL_DEMO_AGENT_H_
