// epochctl: look at, change, check and recover Epoch regions and journals from a shell.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <memory>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "epoch/journal.h"
#include "tools/epochctl/context.h"
#include "tools/epochctl/process.h"
#include "tools/epochctl/verbs.h"

namespace epoch::ctl {
namespace {

// A file that is cut short while it is mapped cannot be read any further; say so and end.
volatile sig_atomic_t errors_are_json = 0;
extern "C" void OnBusError(int) {
  static constexpr char kMessage[] =
      "epochctl: the file was cut short while it was being read: it is damaged\n";
  static constexpr char kJson[] =
      "{\"schema\":\"epoch.error/1\",\"verb\":\"\",\"error\":{\"code\":\"DATA_LOSS\","
      "\"exit_code\":5,\"message\":\"the file was cut short while it was being read: it is "
      "damaged\"}}\n";
  const bool json = errors_are_json != 0;
  [[maybe_unused]] const ssize_t wrote =
      write(STDERR_FILENO, json ? kJson : kMessage, (json ? sizeof kJson : sizeof kMessage) - 1);
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

// What can be told of the command line without its parser, which stops at the first mistake.
struct CommandLine {
  std::string verb;     // the first argument that is no option
  std::string unknown;  // the first option before it that there is not
  bool json = false;    // -o json, wherever it stands
};
CommandLine ReadRoughly(const CLI::App& app, int argc, char** argv) {
  CommandLine line;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--") break;
    const bool output = argument == "-o" || argument == "--output";
    if (output && i + 1 < argc) {
      line.json = argv[++i] == std::string_view("json");
    } else if (argument == "--output=json" || argument == "-ojson" || argument == "-o=json") {
      line.json = true;
    } else if (!argument.empty() && argument[0] != '-') {
      if (line.verb.empty()) line.verb = argument;
    } else if (line.verb.empty() && line.unknown.empty()) {
      const std::string name = argument.substr(0, argument.find('='));
      const bool known = name.starts_with("-o") || app.get_option_no_throw(name) != nullptr;
      if (!known) line.unknown = argument;
    }
  }
  return line;
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

absl::Status UsageError(const CLI::App& app, Context& context, const CLI::ParseError& error,
                        const CommandLine& line) {
  const auto mistake = [](const std::string& what, std::string_view see) {
    return absl::InvalidArgumentError(fmt::format("{}; see epochctl {}--help", what, see));
  };
  const std::vector<CLI::App*> parsed = app.get_subcommands();
  if (!parsed.empty()) {
    context.set_verb(parsed.front()->get_name());
    return mistake(error.what(), parsed.front()->get_name() + " ");
  }
  if (!line.unknown.empty()) {
    return mistake(fmt::format("unknown option \"{}\"", line.unknown), "");
  }
  if (line.verb.empty() && dynamic_cast<const CLI::RequiredError*>(&error) != nullptr) {
    return mistake("which verb?", "");
  }
  if (line.verb.empty() || IsVerb(app, line.verb)) return mistake(error.what(), "");
  return absl::InvalidArgumentError(UnknownVerb(app, line.verb));
}

// `epochctl help`, `epochctl help checkpoint latest`: what --help says there.
void AddHelp(CLI::App& app, Context& context) {
  auto words = std::make_shared<std::vector<std::string>>();
  CLI::App* verb =
      context.AddVerb(app, "help", "Says this, or the help of a verb", "epochctl help put",
                      [&app, &context, words]() -> absl::Status {
                        CLI::App* about = &app;
                        std::string before;
                        for (const std::string& word : *words) {
                          if (!IsVerb(*about, word)) {
                            return absl::InvalidArgumentError(UnknownVerb(*about, word));
                          }
                          before += (before.empty() ? "" : " ") + about->get_name();
                          about = about->get_subcommand(word);
                        }
                        // Of the whole program without its choice, which is this verb.
                        app.clear();
                        context.Print(about->help(before));
                        return absl::OkStatus();
                      });
  verb->add_option("VERB", *words, "whose help")->type_name("");
}

int Main(int argc, char** argv) {
  StartUp();
  signal(SIGBUS, OnBusError);

  CLI::App app("Looks at, changes, checks and recovers Epoch regions and journals.", "epochctl");
  app.require_subcommand(1);
  app.set_version_flag("--version", "epochctl " EPOCH_VERSION);
  app.footer(
      "REGION is a name or a path; EPOCH_REGION is its default.\n"
      "Durations: 100ms, 2s, 1m30s, inf. Sizes: 4096, 64KiB, 1MiB.\n"
      "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found or no permission, 4 layout mismatch,\n"
      "            5 corrupt or data loss, 6 refused, 7 timed out.\n"
      "With -o json errors are JSON, too: a line on standard error.");
  Context context(app);
  for (auto* add :
       {AddCreate, AddList, AddStatus, AddGet, AddPut, AddWait, AddCheck, AddLog, AddCheckpoint,
        AddRecover, AddJoin, AddServe, AddReap, AddExpel, AddRemove, AddVersion}) {
    add(app, context);
  }
#ifdef EPOCHCTL_DEMO
  AddDemo(app, context);
#endif
  AddHelp(app, context);
  if (argc == 1) {
    std::fputs(app.help().c_str(), stderr);
    return static_cast<int>(ExitCode::kUsage);
  }

  const CommandLine line = ReadRoughly(app, argc, argv);
  errors_are_json = line.json ? 1 : 0;
  absl::Status result;
  try {
    app.parse(argc, argv);
    result = context.Run();
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) {
      if (line.json) context.set_json();
      return static_cast<int>(context.Error(UsageError(app, context, error, line)));
    }
    std::ostringstream help;  // --help or --version
    app.exit(error, help, help);
    context.Print(help.str());
  } catch (const std::bad_alloc&) {
    result = absl::ResourceExhaustedError("out of memory");
  } catch (const std::exception& error) {  // of a library; never a silent abort
    result = absl::InternalError(error.what());
  }
  const absl::Status flushed = context.Flush();
  if (result.ok()) result = flushed;
  if (result.ok()) return 0;
  // Whoever read the output has left: nobody wants to hear of that.
  if (context.reader_gone() && result == flushed) return static_cast<int>(ExitCodeOf(result));
  if (absl::IsPermissionDenied(result)) {
    const absl::Status told(result.code(),
                            absl::StrCat(std::string(result.message()),
                                         " (run as its owner, or let others in: chmod, or create "
                                         "--mode)"));
    return static_cast<int>(context.Error(told));
  }
  return static_cast<int>(context.Error(result));
}

}  // namespace
}  // namespace epoch::ctl

int main(int argc, char** argv) { return epoch::ctl::Main(argc, argv); }
