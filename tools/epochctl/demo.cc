// epochctl demo: several processes count the words of a text together, are killed at random, lose
// the whole region half-way, and must still end with the exact count; next to the same job done
// with "read the file, change it, write a temporary file, rename".
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "epoch/detail/platform/seam.h"
#include "epoch/epoch.h"
#include "epoch/journal.h"
#include "tools/epochctl/demo_agent.h"
#include "tools/epochctl/demo_count.h"
#include "tools/epochctl/demo_crew.h"
#include "tools/epochctl/verbs.h"

namespace epoch::ctl {
namespace demo {
namespace {

struct DemoArgs {
  std::uint32_t agents = 4;
  std::uint32_t kills = 20;
  std::string input = "/usr/share/common-licenses";
  std::uint64_t seed = 0;
  bool keep = false;
  // Of an agent process, set by the demo itself.
  std::optional<std::uint32_t> agent_index;
  std::size_t chunk_bytes = 0;
  std::string agent_region, agent_file;
  int report_fd = -1;
};

// A directory on disk and the region that goes with it. Its flock says that this demo lives: what a
// killed one left behind is removed by the next.
class Workplace {
 public:
  static absl::StatusOr<Workplace> Make() {
    const char* chosen = std::getenv("TMPDIR");
    const std::string parent = chosen != nullptr && *chosen != '\0' ? chosen : "/var/tmp";
    Sweep(parent);
    Workplace made;
    made.directory_ = absl::StrCat(parent, "/", kPrefix, "XXXXXX");
    if (mkdtemp(made.directory_.data()) == nullptr) {
      return detail::ErrnoStatus(errno, absl::StrCat("cannot make a directory in ", parent));
    }
    made.lock_ = detail::Fd(open(made.directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!made.lock_.ok() || flock(made.lock_.get(), LOCK_EX) != 0) {
      return detail::ErrnoStatus(errno, absl::StrCat("cannot lock ", made.directory_));
    }
    return made;
  }
  Workplace(Workplace&& other) noexcept
      : directory_(std::exchange(other.directory_, "")), lock_(std::move(other.lock_)) {}
  Workplace& operator=(Workplace&&) = delete;
  ~Workplace() {
    if (!directory_.empty()) Remove(directory_);
  }
  void Keep() { directory_.clear(); }

  std::string region() const { return RegionOf(directory_); }
  std::string journal() const { return absl::StrCat(directory_, "/journal"); }
  std::string naive_file() const { return absl::StrCat(directory_, "/naive"); }

 private:
  static constexpr const char* kPrefix = "epoch-demo-";

  Workplace() = default;
  static std::string RegionOf(const std::string& directory) {
    return absl::StrCat("demo-", directory.substr(directory.size() - 6));
  }
  static void Remove(const std::string& directory) {
    Region::Unlink(RegionOf(directory)).IgnoreError();
    std::error_code ignored;
    std::filesystem::remove_all(directory, ignored);
  }
  static void Sweep(const std::string& parent) {
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(parent, ignored)) {
      if (!absl::StartsWith(entry.path().filename().string(), kPrefix) ||
          std::filesystem::exists(entry.path() / "kept", ignored)) {
        continue;
      }
      const detail::Fd lock(
          open(entry.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
      struct stat info {};
      // What another user has put there is left alone.
      if (!lock.ok() || fstat(lock.get(), &info) != 0 || info.st_uid != geteuid()) continue;
      if (flock(lock.get(), LOCK_EX | LOCK_NB) == 0) Remove(entry.path().string());
    }
  }

  std::string directory_;
  detail::Fd lock_;
};

// One line on stderr: rewritten on a terminal, a new one each tenth of the way otherwise. None with
// -o json.
class ProgressLine {
 public:
  ProgressLine(const Context& context, std::string phase, std::uint64_t goal)
      : phase_(std::move(phase)),
        goal_(goal),
        silent_(context.json()),
        terminal_(isatty(STDERR_FILENO) != 0) {}
  ~ProgressLine() {
    if (terminal_ && shown_) fmt::print(stderr, "\n");
  }
  void operator()(const Tally& tally) {
    const std::uint64_t done = tally.chunks.size();
    const std::uint64_t step = terminal_ ? 200 : 10;
    const std::uint64_t tenth = goal_ == 0 ? 0 : done * step / goal_;
    if (silent_ || (shown_ && tenth == last_)) return;
    last_ = tenth;
    shown_ = true;
    fmt::print(stderr, "{}{:<9} {:>5}/{} chunks, {} kills, {} torn reads{}", terminal_ ? "\r" : "",
               phase_, done, goal_, tally.kills, tally.torn_reads, terminal_ ? "" : "\n");
  }

 private:
  const std::string phase_;
  const std::uint64_t goal_;
  const bool silent_;
  const bool terminal_;
  std::uint64_t last_ = 0;
  bool shown_ = false;
};

struct DemoResult {
  Tally tally;
  CountHeader final;  // of the state at the end
  std::uint64_t chunks_folded = 0;
  std::uint64_t lost = 0;         // acknowledged chunks that the state does not have
  std::uint64_t repeated = 0;     // folds beyond one a chunk
  std::uint64_t wrong_words = 0;  // words whose count differs from the plain count
  Epoch recovered = 0;
  Epoch newest = 0;
  bool exact() const {
    return lost == 0 && repeated == 0 && wrong_words == 0 && tally.torn_reads == 0;
  }
  double Percentile(double p) const {  // microseconds
    if (tally.latency_ns.empty()) return 0;
    std::vector<std::int64_t> sorted = tally.latency_ns;
    std::sort(sorted.begin(), sorted.end());
    const auto at = static_cast<std::size_t>(p * static_cast<double>(sorted.size() - 1));
    return static_cast<double>(sorted[at]) / 1e3;
  }
};

std::vector<std::uint64_t> KillPoints(std::uint32_t kills, std::uint64_t chunks) {
  std::vector<std::uint64_t> points;
  for (std::uint32_t i = 0; i < kills; ++i) points.push_back(1 + chunks * 4 / 5 * i / kills);
  return points;
}

std::uint64_t LostChunks(const Tally& tally, const CountState& state) {
  std::uint64_t lost = 0;
  for (const std::uint32_t chunk : tally.chunks) lost += state.folded(chunk) ? 0 : 1;
  return lost;
}

// Compares a final state with the plain count, word by word.
absl::Status Judge(std::span<const std::byte> bytes, std::uint64_t chunks, const WordCounts& plain,
                   DemoResult& result) {
  const absl::StatusOr<CountState> state = CountState::Parse(bytes, chunks);
  if (!state.ok()) return state.status();
  result.final = state->header();
  result.chunks_folded = state->chunks_folded();
  result.lost += LostChunks(result.tally, *state);
  result.repeated = state->header().folds - state->chunks_folded();
  const WordCounts words = state->Words();
  for (const auto& [word, count] : plain) {
    const auto found = words.find(word);
    result.wrong_words += found == words.end() || found->second != count ? 1 : 0;
  }
  for (const auto& [word, count] : words) result.wrong_words += plain.count(word) == 0 ? 1 : 0;
  return absl::OkStatus();
}

absl::StatusOr<DemoResult> ThroughEpoch(const Context& context, const DemoArgs& given,
                                        const Workplace& place, const Input& input, AgentJob job,
                                        const WordCounts& plain) {
  const std::uint64_t chunks = input.chunks.size();
  RegionOptions options;
  options.state_bytes = StateBytesFor(plain, chunks);
  options.participants = 2 * given.agents + 2;
  options.versions = 8 * given.agents + 16;
  options.journal = place.journal();
  options.history = History::kLatest;
  job.region = place.region();
  DemoResult result;
  {
    const absl::StatusOr<Region> region = Region::Create(place.region(), options);
    if (!region.ok()) return region.status();
    ProgressLine line(context, "epoch", chunks);
    Crew crew(job, given.seed, [&](const Tally& tally) { line(tally); });
    // At 85% of the way everybody dies at once.
    if (absl::Status s = crew.Run(KillPoints(given.kills, chunks), chunks * 17 / 20, result.tally);
        !s.ok()) {
      return s;
    }
  }
  if (absl::Status s = Region::Unlink(place.region()); !s.ok()) return s;
  context.Message(
      fmt::format("all agents killed, region removed: restoring from {}", place.journal()));
  const absl::StatusOr<Region> region = Region::OpenOrCreate(place.region(), options);
  if (!region.ok()) return region.status();
  const absl::StatusOr<Snapshot> recovered = region->Read();
  if (!recovered.ok()) return recovered.status();
  result.recovered = recovered->epoch;
  const absl::StatusOr<CountState> state = CountState::Parse(recovered->state, chunks);
  if (!state.ok()) return state.status();
  result.lost = LostChunks(result.tally, *state);

  ProgressLine line(context, "epoch", chunks);
  Crew crew(job, given.seed + 1, [&](const Tally& tally) { line(tally); });
  if (absl::Status s = crew.Run({}, 0, result.tally); !s.ok()) return s;
  const absl::StatusOr<Snapshot> final = region->Read();
  if (!final.ok()) return final.status();
  result.newest = final->epoch;
  if (absl::Status s = Judge(final->state, chunks, plain, result); !s.ok()) return s;
  return result;
}

absl::StatusOr<DemoResult> Naively(const Context& context, const DemoArgs& given,
                                   const Workplace& place, const Input& input, AgentJob job,
                                   const WordCounts& plain) {
  job.naive_file = place.naive_file();
  DemoResult result;
  {
    ProgressLine line(context, "rename", input.chunks.size());
    Crew crew(job, given.seed, [&](const Tally& tally) { line(tally); });
    if (absl::Status s = crew.Run(KillPoints(given.kills, input.chunks.size()), 0, result.tally);
        !s.ok()) {
      return s;
    }
  }
  std::ifstream file(place.naive_file(), std::ios::binary);
  std::ostringstream read;
  read << file.rdbuf();
  const std::string bytes = read.str();
  if (absl::Status s = Judge(std::as_bytes(std::span(bytes)), input.chunks.size(), plain, result);
      !s.ok()) {
    return s;
  }
  return result;
}

nlohmann::ordered_json ToJson(const DemoResult& r) {
  return {{"transitions", r.final.folds},
          {"kills", r.tally.kills},
          {"acknowledged", r.tally.acknowledged},
          {"lost_updates", r.lost},
          {"repeated_chunks", r.repeated},
          {"torn_reads", r.tally.torn_reads},
          {"wrong_words", r.wrong_words},
          {"words", r.final.words},
          {"distinct_words", r.final.entries},
          {"latency_us", {{"p50", r.Percentile(0.5)}, {"p99", r.Percentile(0.99)}}},
          {"exact", r.exact()}};
}

void ReportDemo(Context& context, const DemoArgs& given, const Input& input,
                const WordCounts& plain, const DemoResult& ours, const DemoResult& naive) {
  if (context.json()) {
    nlohmann::ordered_json json = {{"schema", "epoch.demo/1"},
                                   {"input", given.input},
                                   {"files", input.files},
                                   {"bytes", input.text.size()},
                                   {"chunks", input.chunks.size()},
                                   {"agents", given.agents},
                                   {"epoch_recovered", ours.recovered},
                                   {"epoch", ToJson(ours)},
                                   {"rename", ToJson(naive)}};
    context.PrintJson(json);
    return;
  }
  std::uint64_t words = 0;
  for (const auto& [word, count] : plain) words += count;
  context.Print(fmt::format(
      "{}: {} files, {} bytes in {} chunks, {} words ({} different), {} agents\n\n", given.input,
      input.files, input.text.size(), input.chunks.size(), words, plain.size(), given.agents));
  Table table("<>>");
  table.Row({"", "epoch", "write+rename"});
  const auto row = [&](const char* what, auto field) {
    table.Row({what, fmt::format("{}", field(ours)), fmt::format("{}", field(naive))});
  };
  row("updates acknowledged", [](const DemoResult& r) { return r.tally.acknowledged; });
  row("transitions in the state", [](const DemoResult& r) { return r.final.folds; });
  row("agents killed", [](const DemoResult& r) { return r.tally.kills; });
  row("lost updates", [](const DemoResult& r) { return r.lost; });
  row("repeated chunks", [](const DemoResult& r) { return r.repeated; });
  row("torn reads", [](const DemoResult& r) { return r.tally.torn_reads; });
  row("words counted", [](const DemoResult& r) { return r.final.words; });
  row("words with a wrong count", [](const DemoResult& r) { return r.wrong_words; });
  table.Row({"all killed, region removed", "once", "never"});
  table.Row({"epoch recovered / final", fmt::format("{} / {}", ours.recovered, ours.newest), "-"});
  table.Row({"commit is on disk", "yes", "no"});
  row("latency p50, us",
      [](const DemoResult& r) { return fmt::format("{:.0f}", r.Percentile(0.5)); });
  row("latency p99, us",
      [](const DemoResult& r) { return fmt::format("{:.0f}", r.Percentile(0.99)); });
  context.Print(table.Text());
  context.Print(ours.exact() ? "\nexact: the final table equals the plain count, word by word\n"
                             : "\nNOT EXACT\n");
}

absl::Status RunDemo(Context& context, const DemoArgs& given) {
  if (given.agent_index.has_value()) {
    return RunAgent({*given.agent_index, given.agents, given.input, given.chunk_bytes,
                     given.agent_region, given.agent_file, given.report_fd});
  }
  // Small enough chunks that every kill finds the agents at work.
  absl::StatusOr<Input> input = LoadInput(given.input, 1 << 20);
  if (!input.ok()) return input.status();
  const std::size_t chunk_bytes = std::clamp<std::size_t>(
      input->text.size() / std::max<std::size_t>(600, 20 * std::size_t{given.kills}), 64, 1 << 16);
  input = LoadInput(given.input, chunk_bytes);
  if (!input.ok()) return input.status();
  WordCounts plain;
  CountWords(input->text, plain);

  const Interruptible interruptible;
  absl::StatusOr<Workplace> place = Workplace::Make();
  if (!place.ok()) return place.status();
  AgentJob job;
  job.agents = given.agents;
  job.input = given.input;
  job.chunk_bytes = chunk_bytes;
  const absl::StatusOr<DemoResult> ours = ThroughEpoch(context, given, *place, *input, job, plain);
  if (!ours.ok()) return ours.status();
  const absl::StatusOr<DemoResult> naive = Naively(context, given, *place, *input, job, plain);
  if (!naive.ok()) return naive.status();
  ReportDemo(context, given, *input, plain, *ours, *naive);
  if (given.keep) {
    std::ofstream(place->journal() + "/../kept");
    context.Message(
        fmt::format("kept: region {}, journal {}; remove both with "
                    "rm -r and epochctl rm",
                    place->region(), place->journal()));
    place->Keep();
  }
  if (ours->exact()) return absl::OkStatus();
  return absl::DataLossError("the final count is not exact");
}

}  // namespace
}  // namespace demo

void AddDemo(CLI::App& app, Context& context) {
  auto given = std::make_shared<demo::DemoArgs>();
  CLI::App* verb =
      context.AddVerb(app, "demo", "Counts words with several processes, kills them, and compares",
                      "epochctl demo --agents 4 --input /usr/share/common-licenses --kills 20",
                      [&context, given] { return demo::RunDemo(context, *given); });
  verb->add_option("--agents", given->agents, "processes that count together, 1 to 256")
      ->check(CLI::Range(1, 256));
  verb->add_option("--kills", given->kills, "agents that get SIGKILL on the way, 0 to 10000")
      ->check(CLI::Range(0, 10000));
  verb->add_option("--input", given->input, "directory of text files")->type_name("DIR");
  verb->add_option("--seed", given->seed, "chooses who is killed when");
  verb->add_flag("--keep", given->keep, "leave the region and its journal for inspection");
  for (CLI::Option* hidden : {verb->add_option("--agent-index", given->agent_index),
                              verb->add_option("--chunk-bytes", given->chunk_bytes),
                              verb->add_option("--agent-region", given->agent_region),
                              verb->add_option("--agent-file", given->agent_file),
                              verb->add_option("--report-fd", given->report_fd)}) {
    hidden->group("");
  }
}

}  // namespace epoch::ctl
