// What durable commits cost, and what recovery does, beside raw writes and other stores.
//
//   epoch_bench_commit [--rounds N] [--only PART[,PART...]] [--json FILE]
//                      [--disk DIR] [--memory DIR] [--scratch NAME]
//
// What it needs on disk and in memory is in directories NAME in DIR, and goes away with it.
//
// Not Google Benchmark: what is compared must be measured in turns within each round, over many
// processes, every sample kept for quantiles and for the intervals of ratios; that library runs one
// benchmark after the other and hands back means.
#include <sched.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "bench/commit_parts.h"

namespace epoch::bench {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

struct PartKind {
  const char* name;
  std::unique_ptr<Part> (*make)(const Places&);
  std::vector<Line> (*lines)(const Results&);
};
constexpr PartKind kParts[] = {
    {"single", MakeSinglePart, SingleLines},
    {"group", MakeGroupPart, GroupLines},
    {"async", MakeAsyncPart, AsyncLines},
    {"peers", MakePeersPart, PeersLines},
    {"roll", MakeRollPart, RollLines},
    {"takeover", MakeTakeoverPart, TakeoverLines},
    {"recovery", MakeRecoveryPart, RecoveryLines},
};

struct Options {
  int rounds = 60;
  std::string only, json;
  std::string disk = EPOCH_BENCH_DEFAULT_DIR;
  std::string memory = "/dev/shm";
  std::string scratch = "epoch_bench_commit." + std::to_string(getpid());
};

[[noreturn]] void Usage() {
  std::string parts;
  for (const PartKind& kind : kParts) parts += std::string(parts.empty() ? "" : ",") + kind.name;
  std::fprintf(stderr,
               "usage: epoch_bench_commit [--rounds N] [--only PART[,PART...]] [--json FILE]\n"
               "                          [--disk DIR] [--memory DIR] [--scratch NAME]\n"
               "parts: %s\n",
               parts.c_str());
  std::exit(2);
}

Options Parse(int argc, char** argv) {
  Options options;
  if (const char* given = std::getenv("EPOCH_BENCH_DIR"); given != nullptr) options.disk = given;
  for (int i = 1; i < argc; i += 2) {
    const std::string option = argv[i];
    if (i + 1 >= argc) Usage();
    const std::string value = argv[i + 1];
    if (option == "--rounds") {
      options.rounds = std::atoi(value.c_str());
    } else if (option == "--only") {
      options.only = "," + value + ",";
    } else if (option == "--json") {
      options.json = value;
    } else if (option == "--disk") {
      options.disk = value;
    } else if (option == "--memory") {
      options.memory = value;
    } else if (option == "--scratch") {
      options.scratch = value;
    } else {
      Usage();
    }
  }
  if (options.rounds < 1) Usage();
  return options;
}

// Directories that go away with all that is in them.
class Scratch {
 public:
  explicit Scratch(const Options& options)
      : places_{Make(options.disk, options.scratch), Make(options.memory, options.scratch)} {}
  ~Scratch() {
    AwaitDescendants();
    std::error_code ignored;
    fs::remove_all(places_.disk, ignored);
    fs::remove_all(places_.memory, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const Places& places() const { return places_; }

 private:
  static std::string Make(const std::string& parent, const std::string& name) {
    fs::create_directories(parent);
    const fs::path path = fs::absolute(parent) / name;
    fs::remove_all(path);
    fs::create_directory(path);
    return path;
  }
  const Places places_;
};

std::string Loads() {
  double loads[3] = {};
  getloadavg(loads, 3);
  char text[64];
  std::snprintf(text, sizeof text, "%.2f %.2f %.2f", loads[0], loads[1], loads[2]);
  return text;
}

std::string FirstMatch(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(key, 0) == 0)
      return line.substr(line.find_first_not_of(" \t", line.find(':') + 1));
  }
  return "";
}

// The filesystem that holds `directory`: its type, device and options, of the longest mount point.
std::string FilesystemOf(const std::string& directory) {
  std::ifstream mounts("/proc/self/mounts");
  std::string found;
  std::size_t longest = 0;
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream words(line);
    std::string device, point, type, flags;
    words >> device >> point >> type >> flags;
    const bool holds = point == "/" || directory.rfind(point + "/", 0) == 0;
    if (!holds || point.size() < longest) continue;
    longest = point.size();
    found = type + " on " + device + " (" + flags + ")";
  }
  return found;
}

Json Machine(const Places& places) {
  utsname name{};
  uname(&name);
  return {{"kernel", std::string(name.sysname) + " " + name.release},
          {"architecture", name.machine},
          {"cpus", sysconf(_SC_NPROCESSORS_ONLN)},
          {"cpu", FirstMatch("/proc/cpuinfo", "model name")},
          {"memory", FirstMatch("/proc/meminfo", "MemTotal")},
          {"filesystem", FilesystemOf(places.disk)},
          {"compiler", __VERSION__}};
}

int Run(const Options& options) {
  const Scratch scratch(options);
  Json json = {{"schema", "epoch.bench-commit/1"}, {"rounds", options.rounds}};
  if (const char* revision = std::getenv("EPOCH_BENCH_REVISION"); revision != nullptr) {
    json["revision"] = revision;
  }
  json["machine"] = Machine(scratch.places());
  const std::string load_before = Loads();
  const bool terminal = isatty(STDERR_FILENO) != 0;
  std::vector<const PartKind*> kinds;
  std::vector<std::unique_ptr<PartProcess>> parts;
  for (const PartKind& kind : kParts) {
    if (!options.only.empty() &&
        options.only.find("," + std::string(kind.name) + ",") == std::string::npos) {
      continue;
    }
    std::fprintf(stderr, "preparing: %s\n", kind.name);
    kinds.push_back(&kind);
    parts.push_back(std::make_unique<PartProcess>(kind.name, kind.make, scratch.places()));
    if (Interrupted()) return 130;
  }
  if (parts.empty()) Usage();
  Results results;
  const double start = NowNs();
  for (int round = 1; round <= options.rounds; ++round) {
    for (const std::unique_ptr<PartProcess>& part : parts) {
      const double seconds = (NowNs() - start) / 1e9;
      if (terminal) {
        std::fprintf(stderr, "\r\033[Kround %d of %d, %.0f s: %s", round, options.rounds, seconds,
                     part->name().c_str());
      }
      results.Add(part->Round());
      if (Interrupted()) return 130;
    }
    if (!terminal && (round % 10 == 0 || round == 1)) {
      std::fprintf(stderr, "round %d of %d, %.0f s\n", round, options.rounds,
                   (NowNs() - start) / 1e9);
    }
  }
  if (terminal) std::fprintf(stderr, "\r\033[K");

  bool whole = true;
  Facts facts;
  for (const std::unique_ptr<PartProcess>& part : parts) {
    whole = whole && part->alive();
    facts.insert(part->facts().begin(), part->facts().end());
  }
  std::vector<Line> lines;
  for (const PartKind* kind : kinds) {
    for (Line& line : kind->lines(results)) lines.push_back(std::move(line));
  }
  const std::string load_after = Loads();
  json["machine"]["load_before"] = load_before;
  json["machine"]["load_after"] = load_after;
  facts["priority"] = sched_getscheduler(0) == SCHED_RR
                          ? "realtime"
                          : "nice " + std::to_string(getpriority(PRIO_PROCESS, 0));
  for (const auto& [name, value] : facts) json["facts"][name] = value;
  json["results"] = Json::array();
  for (const Line& line : lines) json["results"].push_back(ToJson(line));
  json["series"] = results.ToJson();

  std::printf("%s, %ld CPUs, %s\n", json["machine"]["kernel"].get<std::string>().c_str(),
              sysconf(_SC_NPROCESSORS_ONLN),
              json["machine"]["filesystem"].get<std::string>().c_str());
  for (const auto& [name, value] : facts) std::printf("%s: %s\n", name.c_str(), value.c_str());
  std::printf("load average before: %s, after: %s; %d rounds; [95 %% interval]\n\n",
              load_before.c_str(), load_after.c_str(), options.rounds);
  Print(lines);
  if (!options.json.empty()) {
    std::ofstream file(options.json);
    file << json.dump(1) << "\n";
    if (!file.flush()) {
      std::perror(options.json.c_str());
      return 1;
    }
  }
  return whole ? 0 : 1;
}

}  // namespace
}  // namespace epoch::bench

int main(int argc, char** argv) {
  using namespace epoch::bench;
  const Options options = Parse(argc, argv);
  HandleInterrupts();
  // Where it may: neighbours then disturb less, and what is compared has the same priority.
  setpriority(PRIO_PROCESS, 0, -18);
  return Run(options);
}
