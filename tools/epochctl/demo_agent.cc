#include "tools/epochctl/demo_agent.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "epoch/detail/platform/files.h"
#include "epoch/epoch.h"
#include "epoch/journal.h"
#include "tools/epochctl/demo_count.h"

namespace epoch::ctl::demo {
namespace {

void Tell(const AgentJob& job, ReportKind kind, std::uint64_t chunk, Epoch epoch,
          std::int64_t latency_ns) {
  const Report report{kind, static_cast<std::uint32_t>(chunk), epoch, latency_ns};
  // A broken pipe means that the demo is over.
  if (write(job.report_fd, &report, sizeof report) != sizeof report) _exit(1);
}

absl::Status FoldThroughEpoch(const AgentJob& job, const Input& input) {
  absl::StatusOr<Region> region = Region::Open(job.region);
  if (!region.ok()) return region.status();
  absl::StatusOr<Participant> self =
      Participant::Join(*region, {.name = absl::StrCat("agent-", job.agent)});
  if (!self.ok()) return self.status();
  const std::uint64_t chunks = input.chunks.size();

  for (std::uint64_t chunk = job.agent; chunk < chunks; chunk += job.agents) {
    {
      const Pin pin = self->Pin();
      if (!pin.ok()) return self->status();
      const absl::StatusOr<CountState> state = CountState::Parse(pin.state(), chunks);
      if (!state.ok()) Tell(job, ReportKind::kTornRead, chunk, pin.epoch(), 0);
      if (state.ok() && state->folded(chunk)) continue;
    }
    WordCounts counts;
    CountWords(input.chunks[chunk], counts);
    const std::int64_t started_ns = seam::MonotonicNanos();
    const absl::StatusOr<Epoch> committed = self->Update(
        [&](const Current& current, Draft& next) -> absl::Status {
          const absl::StatusOr<CountState> state = CountState::Parse(current.state, chunks);
          if (!state.ok()) {
            Tell(job, ReportKind::kTornRead, chunk, current.epoch, 0);
            return state.status();
          }
          // Its predecessor in this role may have been killed between commit and report.
          if (state->folded(chunk)) return absl::AlreadyExistsError("folded already");
          return next.Assign(state->With(chunk, counts));
        },
        {.token = chunk});
    if (absl::IsAlreadyExists(committed.status())) continue;
    if (!committed.ok()) return committed.status();
    Tell(job, ReportKind::kFolded, chunk, *committed, seam::MonotonicNanos() - started_ns);
  }
  return absl::OkStatus();
}

std::optional<std::vector<std::byte>> ReadFile(const std::string& path) {
  const detail::Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.ok()) return std::nullopt;
  std::vector<std::byte> bytes(1 << 16);
  std::size_t size = 0;
  for (;;) {
    if (size == bytes.size()) bytes.resize(2 * size);
    const ssize_t got = read(fd.get(), bytes.data() + size, bytes.size() - size);
    if (got <= 0) break;
    size += static_cast<std::size_t>(got);
  }
  bytes.resize(size);
  return bytes;
}

// What most programs do today. Each step is atomic; the whole is not.
absl::Status FoldNaively(const AgentJob& job, const Input& input) {
  const std::uint64_t chunks = input.chunks.size();
  const std::string temporary = absl::StrCat(job.naive_file, ".", getpid());
  for (std::uint64_t chunk = job.agent; chunk < chunks; chunk += job.agents) {
    WordCounts counts;
    CountWords(input.chunks[chunk], counts);
    const std::int64_t started_ns = seam::MonotonicNanos();
    const std::vector<std::byte> before =
        ReadFile(job.naive_file).value_or(std::vector<std::byte>{});
    const absl::StatusOr<CountState> state = CountState::Parse(before, chunks);
    if (!state.ok()) {
      Tell(job, ReportKind::kTornRead, chunk, 0, 0);
      continue;
    }
    if (state->folded(chunk)) continue;
    const std::vector<std::byte> after = state->With(chunk, counts);
    const detail::Fd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!fd.ok() ||
        write(fd.get(), after.data(), after.size()) != static_cast<ssize_t>(after.size())) {
      return detail::ErrnoStatus(errno, absl::StrCat("cannot write ", temporary));
    }
    if (rename(temporary.c_str(), job.naive_file.c_str()) != 0) {
      return detail::ErrnoStatus(errno, absl::StrCat("cannot rename ", temporary));
    }
    Tell(job, ReportKind::kFolded, chunk, 0, seam::MonotonicNanos() - started_ns);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RunAgent(const AgentJob& job) {
  const absl::StatusOr<Input> input = LoadInput(job.input, job.chunk_bytes);
  if (!input.ok()) return input.status();
  return job.region.empty() ? FoldNaively(job, *input) : FoldThroughEpoch(job, *input);
}

}  // namespace epoch::ctl::demo
