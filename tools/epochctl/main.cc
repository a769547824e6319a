// epochctl: look at, change, check and recover Epoch regions and journals from a shell.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include "core/journal/journal.h"
#include "tools/epochctl/context.h"
#include "tools/epochctl/verbs.h"

namespace epoch::ctl {
namespace {

// A file that is cut short while it is mapped can not be read any further; say so and end.
extern "C" void OnBusError(int) {
  static constexpr char kMessage[] =
      "epochctl: the file was cut short while it was being read: it is damaged\n";
  [[maybe_unused]] const ssize_t wrote = write(STDERR_FILENO, kMessage, sizeof kMessage - 1);
  _exit(static_cast<int>(ExitCode::kCorrupt));
}

// How many single-letter edits turn `a` into `b`.
std::size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, replaced}));
    }
  }
  return row.back();
}

// The first argument that is no option: what was meant as the verb. Empty if there is none.
std::string VerbGiven(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "-o" || argument == "--output") {
      ++i;
    } else if (!argument.empty() && argument[0] != '-') {
      return std::string(argument);
    }
  }
  return "";
}

std::vector<const CLI::App*> AllVerbs(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

bool IsVerb(const CLI::App& app, const std::string& name) {
  const auto verbs = AllVerbs(app);
  return std::any_of(verbs.begin(), verbs.end(),
                     [&](const CLI::App* verb) { return verb->get_name() == name; });
}

std::string UnknownVerb(const CLI::App& app, const std::string& given) {
  std::string nearest;
  std::size_t best = given.size();  // all letters wrong is no likeness
  for (const CLI::App* verb : AllVerbs(app)) {
    const std::size_t distance = EditDistance(given, verb->get_name());
    if (distance < best && distance <= 3) {
      best = distance;
      nearest = verb->get_name();
    }
  }
  return fmt::format("unknown verb \"{}\"{}; all verbs: epochctl --help", given,
                     nearest.empty() ? "" : fmt::format(", did you mean \"{}\"?", nearest));
}

int UsageError(const CLI::App& app, Context& context, const CLI::ParseError& error,
               const std::string& given) {
  const std::vector<CLI::App*> parsed = app.get_subcommands();
  if (!parsed.empty()) {
    context.set_verb(parsed.front()->get_name());
    context.Message(
        fmt::format("{}; see epochctl {} --help", error.what(), parsed.front()->get_name()));
  } else if (given.empty() && dynamic_cast<const CLI::RequiredError*>(&error) != nullptr) {
    std::fputs(app.help().c_str(), stderr);
  } else if (given.empty() || IsVerb(app, given)) {
    context.Message(fmt::format("{}; see epochctl --help", error.what()));
  } else {
    context.Message(UnknownVerb(app, given));
  }
  return static_cast<int>(ExitCode::kUsage);
}

int Main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);  // a reader that goes away is an error of write(), not a death
  signal(SIGBUS, OnBusError);

  CLI::App app("Looks at, changes, checks and recovers Epoch regions and journals.", "epochctl");
  app.require_subcommand(1);
  app.set_version_flag("--version", "epochctl " EPOCH_VERSION);
  app.footer(
      "REGION is a name or a path; EPOCH_REGION is its default.\n"
      "Durations: 100ms, 2s, 1m30s, inf. Sizes: 4096, 64KiB, 1MiB.\n"
      "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found or no permission, 4 layout mismatch,\n"
      "            5 corrupt or data loss, 6 refused, 7 timed out.");
  Context context(app);
  for (auto* add :
       {AddCreate, AddList, AddStatus, AddGet, AddPut, AddWait, AddCheck, AddLog, AddCheckpoint,
        AddRecover, AddJoin, AddServe, AddReap, AddExpel, AddRemove, AddVersion}) {
    add(app, context);
  }
#ifdef EPOCHCTL_DEMO
  AddDemo(app, context);
#endif

  absl::Status result;
  try {
    app.parse(argc, argv);
    result = context.Run();
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) return UsageError(app, context, error, VerbGiven(argc, argv));
    std::ostringstream help;  // --help or --version
    app.exit(error, help, help);
    context.Print(help.str());
  } catch (const std::bad_alloc&) {
    result = absl::ResourceExhaustedError("out of memory");
  }
  const absl::Status flushed = context.Flush();
  if (result.ok()) result = flushed;
  if (result.ok()) return 0;
  if (!context.reader_gone() || result != flushed) {
    std::string message(result.message());
    if (absl::IsPermissionDenied(result)) {
      message += " (run as its owner, or let others in: chmod, or create --mode)";
    }
    context.Message(message);
  }
  return static_cast<int>(ExitCodeOf(result));
}

}  // namespace
}  // namespace epoch::ctl

int main(int argc, char** argv) { return epoch::ctl::Main(argc, argv); }
