// What all verbs share: the global options, output, and how options are read.
//
// A verb is one .cc file with one function AddXxx (verbs.h). It declares its options and hands over
// a function that does the work and returns a status; main.cc turns that into a message and an
// exit code. Data goes to stdout through Print, everything else to stderr.
#ifndef EPOCH_TOOLS_EPOCHCTL_CONTEXT_H_
#define EPOCH_TOOLS_EPOCHCTL_CONTEXT_H_

#include <CLI/App.hpp>
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "epoch/region.h"

namespace epoch::ctl {

enum class ExitCode : int {
  kOk = 0,
  kFailed = 1,
  kUsage = 2,
  kNotFound = 3,  // or no permission
  kLayout = 4,
  kCorrupt = 5,
  kRefused = 6,
  kTimedOut = 7,
};
ExitCode ExitCodeOf(const absl::Status& status);

// Which region a verb is about, and where its journal lies, if that is elsewhere than when the
// region was made. The arguments of a verb that opens a region begin with these.
struct RegionArgs {
  std::string region, journal;

  void AddTo(CLI::App* verb);
};

class Context {
 public:
  using Work = std::function<absl::Status()>;

  explicit Context(CLI::App& app);

  // A verb with its help. `example` is shown below the options.
  CLI::App* AddVerb(CLI::App& app, const std::string& name, const std::string& description,
                    const std::string& example, Work work);

  bool json() const { return format_ == "json"; }
  void set_json() { format_ = "json"; }  // where the options could not be read

  // --- output: buffered; Flush says whether all of it arrived ---
  void Print(std::string_view text);
  void PrintJson(const nlohmann::ordered_json& json);
  absl::Status Flush();
  void DropOutput() { out_.clear(); }                // what was printed so far leads nowhere
  bool reader_gone() const { return reader_gone_; }  // EPIPE: whoever read stdout is gone
  // To stderr, a line: "epochctl VERB: text"; with -o json {"schema": "epoch.message/1", ...}. What
  // may not be shown is escaped.
  void Message(std::string_view text) const;
  // The error that ends this process, to stderr as well; with -o json {"schema": "epoch.error/1",
  // "error": {"code", "exit_code", "message"}}, and in "error", where the library says so, cause,
  // outcome, expected, actual, accepted, culprits. Returns the exit code.
  ExitCode Error(const absl::Status& status) const;

  // --- the work of the verb that was chosen ---
  const std::string& verb() const { return verb_; }
  void set_verb(const std::string& verb) { verb_ = verb; }
  absl::Status Run() const { return work_(); }

  // The region that was given, or EPOCH_REGION. InvalidArgument if there is neither.
  absl::StatusOr<std::string> RegionOrDefault(const std::string& given) const;
  // Opens it. Errors: those of Region::Open; InvalidArgument if no region is named.
  absl::StatusOr<Region> Open(const RegionArgs& given, bool read_only = false) const;
  // For "VERB [REGION] OTHER": a single argument is OTHER if EPOCH_REGION names the region.
  absl::Status ShiftIfDefault(std::string& region, std::string& other,
                              std::string_view other_name) const;

 private:
  std::string format_ = "table";
  std::string verb_;
  Work work_;
  std::string out_;
  absl::Status out_status_;
  bool reader_gone_ = false;
};

// Option values. Errors: InvalidArgument, naming the option and what it takes.
absl::StatusOr<std::uint64_t> ParseNumber(std::string_view option, const std::string& text,
                                          std::uint64_t most = UINT64_MAX);
absl::StatusOr<std::uint64_t> ParseBytes(std::string_view option, const std::string& text);
absl::StatusOr<absl::Duration> ParseDuration(std::string_view option, const std::string& text);

// The geometry options that `create` and `recover` share.
struct GeometryOptions {
  std::string state_bytes, participants, versions, segment_bytes, history, mode;
  std::string retain_segments, retain_epochs;

  // What a journal keeps is a property of a new one; a recovered one goes on as it was, with the
  // geometry of its last incarnation unless told otherwise.
  void AddTo(CLI::App* verb, bool new_journal);
  absl::Status FillIn(RegionOptions& options) const;
};

// "64 KiB", exact where it is a whole number of the unit.
std::string HumanBytes(std::uint64_t bytes);
// "1 segment", "2 segments".
std::string Count(std::uint64_t count, std::string_view thing);
// All that comes from outside, as one line: names, reasons, paths, names of files. UTF-8 stays as
// it is; what may not be shown (epoch/detail/platform/printable.h) is escaped: \n, \x1b, \u202e, and \xff
// for a byte that is no UTF-8. Nothing foreign drives a terminal or forges a line.
std::string Printable(std::string_view text);
// The same of a JSON value, as text: in strings \u009b, which a parser reads as the character it
// is. Bytes that are no UTF-8 become the four characters \xNN. `indent`: -1 for one line.
std::string JsonText(nlohmann::ordered_json json, int indent);
// How many bytes of `text` are whole characters and at most `most`.
std::size_t WholeCharacters(std::string_view text, std::size_t most);
std::string JoinPath(std::string_view directory, std::string_view name);
// Whether the region has lost its name; the name may stand for another file by now, and this one
// would never change again.
bool Removed(const Region& region);

// Rows of text in columns; the first row is the heading. Cells are made printable.
class Table {
 public:
  // One character a column: '<' left, '>' right.
  explicit Table(std::string_view alignment) : alignment_(alignment) {}
  void Row(const std::vector<std::string>& cells);
  std::string Text(std::string_view indent = "") const;

 private:
  std::string alignment_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace epoch::ctl

#endif  // EPOCH_TOOLS_EPOCHCTL_CONTEXT_H_
