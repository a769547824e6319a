#include "tools/epochctl/context.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <CLI/Validators.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "epoch/detail/platform/check.h"
#include "epoch/detail/platform/printable.h"
#include "epoch/details.h"

namespace epoch::ctl {

ExitCode ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return ExitCode::kOk;
    case absl::StatusCode::kInvalidArgument:
      return ExitCode::kUsage;
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kPermissionDenied:
      return ExitCode::kNotFound;
    case absl::StatusCode::kUnimplemented:
      return ExitCode::kLayout;
    case absl::StatusCode::kDataLoss:
      return ExitCode::kCorrupt;
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAlreadyExists:
      return ExitCode::kRefused;
    case absl::StatusCode::kDeadlineExceeded:
      return ExitCode::kTimedOut;
    default:
      return ExitCode::kFailed;
  }
}

Context::Context(CLI::App& app) {
  app.add_option("-o,--output", format_, "table or json")
      ->check(CLI::IsMember({"table", "json"}))
      ->type_name("FORMAT")
      ->capture_default_str();
  app.add_flag("--trust-other-owners", detail::trust_other_owners,
               "work on what belongs to neither this user nor root");
}

CLI::App* Context::AddVerb(CLI::App& app, const std::string& name, const std::string& description,
                           const std::string& example, Work work) {
  CLI::App* verb = app.add_subcommand(name, description);
  verb->fallthrough();  // global options may follow the verb
  verb->footer("Example:\n  " + example);
  verb->callback([this, name, work = std::move(work)] {
    verb_ = name;
    work_ = work;
  });
  return verb;
}

void Context::Print(std::string_view text) {
  out_ += text;
  if (out_.size() > (std::size_t{1} << 20)) Flush().IgnoreError();
}

void Context::PrintJson(const nlohmann::ordered_json& json) {
  Print(JsonText(json, 2));
  Print("\n");
}

absl::Status Context::Flush() {
  std::string_view left = out_;
  while (out_status_.ok() && !left.empty()) {
    const ssize_t wrote =
        sys::Uninterrupted([&] { return write(STDOUT_FILENO, left.data(), left.size()); });
    if (wrote >= 0) {
      left.remove_prefix(static_cast<std::size_t>(wrote));
    } else {
      reader_gone_ = errno == EPIPE;
      out_status_ = absl::InternalError(
          fmt::format("cannot write to standard output: {}", std::strerror(errno)));
    }
  }
  out_.clear();
  return out_status_;
}

namespace {

// One write: lines of several processes do not mix.
void ToStandardError(const std::string& line) {
  std::string_view left = line;
  while (!left.empty()) {
    const ssize_t wrote =
        sys::Uninterrupted([&] { return write(STDERR_FILENO, left.data(), left.size()); });
    if (wrote < 0) return;  // nobody can be told
    left.remove_prefix(static_cast<std::size_t>(wrote));
  }
}

const char* NameOf(Outcome outcome) {
  switch (outcome) {
    case Outcome::kUnchanged:
      return "unchanged";
    case Outcome::kPending:
      return "pending";
    default:
      return "unknown";
  }
}

// In words: "expected differs".
std::string NameOf(Cause cause) {
  const char* const known = detail::NameOfCause(static_cast<std::size_t>(cause));
  std::string name = known == nullptr ? "OTHER" : known;
  std::replace(name.begin(), name.end(), '_', ' ');
  absl::AsciiStrToLower(&name);
  return name;
}

// What a program can use of an error, beside its code. Details (epoch/details.h) where the library
// gives them.
nlohmann::ordered_json FieldsOf(const absl::Status& status) {
  nlohmann::ordered_json json = {{"code", absl::StatusCodeToString(status.code())},
                                 {"exit_code", static_cast<int>(ExitCodeOf(status))},
                                 {"message", std::string(status.message())}};
  const ErrorDetails details = Details(status);
  if (details.cause == Cause::kNone) return json;
  json["cause"] = NameOf(details.cause);
  json["outcome"] = NameOf(details.outcome);
  const auto number = [](const std::optional<Epoch>& epoch) -> nlohmann::ordered_json {
    return epoch.has_value() ? nlohmann::ordered_json(*epoch) : nlohmann::ordered_json(nullptr);
  };
  json["expected"] = number(details.expected);
  json["actual"] = number(details.actual);
  json["accepted"] = number(details.accepted);
  json["culprits"] = nlohmann::ordered_json::array();
  for (const Culprit& culprit : details.culprits) {
    json["culprits"].push_back({{"slot", culprit.slot},
                                {"generation", culprit.generation},
                                {"pid", culprit.pid},
                                {"name", culprit.name},
                                {"reason", culprit.reason},
                                {"epoch", number(culprit.epoch)}});
  }
  return json;
}

}  // namespace

void Context::Message(std::string_view text) const {
  if (json()) {
    ToStandardError(
        JsonText({{"schema", "epoch.message/1"}, {"verb", verb_}, {"message", std::string(text)}},
                 -1) +
        "\n");
    return;
  }
  ToStandardError(
      fmt::format("epochctl{}{}: {}\n", verb_.empty() ? "" : " ", verb_, Printable(text)));
}

ExitCode Context::Error(const absl::Status& status) const {
  if (json()) {
    ToStandardError(
        JsonText({{"schema", "epoch.error/1"}, {"verb", verb_}, {"error", FieldsOf(status)}}, -1) +
        "\n");
  } else {
    Message(std::string(status.message()));
  }
  return ExitCodeOf(status);
}

absl::StatusOr<std::string> Context::RegionOrDefault(const std::string& given) const {
  if (!given.empty()) return given;
  const char* fallback = std::getenv("EPOCH_REGION");
  if (fallback != nullptr && *fallback != '\0') return std::string(fallback);
  return absl::InvalidArgumentError("which region? Name it, or set EPOCH_REGION");
}

void RegionArgs::AddTo(CLI::App* verb) {
  verb->add_option("REGION", region, "name or path")->type_name("");
  verb->add_option("--journal", journal, "where its journal lies, if elsewhere than it was made")
      ->type_name("DIR");
}

absl::StatusOr<Region> Context::Open(const RegionArgs& given, bool read_only) const {
  const absl::StatusOr<std::string> name = RegionOrDefault(given.region);
  if (!name.ok()) return name.status();
  RegionOptions options;
  options.read_only = read_only;
  options.journal = given.journal;
  return Region::Open(*name, options);
}

absl::Status Context::ShiftIfDefault(std::string& region, std::string& other,
                                     std::string_view other_name) const {
  if (!other.empty()) return absl::OkStatus();
  if (!region.empty()) {
    const char* fallback = std::getenv("EPOCH_REGION");
    if (fallback != nullptr && *fallback != '\0') {
      other = std::move(region);
      region.clear();
      return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError(
      fmt::format("{} is missing (epochctl {} REGION {}; EPOCH_REGION may stand for REGION)",
                  other_name, verb_, other_name));
}

absl::StatusOr<std::uint64_t> ParseNumber(std::string_view option, const std::string& text,
                                          std::uint64_t most) {
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error == std::errc{} && stop == end && value <= most) return value;
  return absl::InvalidArgumentError(
      most == UINT64_MAX
          ? fmt::format("{} \"{}\": a whole number", option, text)
          : fmt::format("{} \"{}\": a whole number from 0 to {}", option, text, most));
}

absl::StatusOr<std::uint64_t> ParseBytes(std::string_view option, const std::string& text) {
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  const std::string_view unit(stop, static_cast<std::size_t>(end - stop));
  int shift = -1;
  if (unit.empty() || unit == "B") shift = 0;
  if (unit == "KiB" || unit == "K") shift = 10;
  if (unit == "MiB" || unit == "M") shift = 20;
  if (unit == "GiB" || unit == "G") shift = 30;
  if (error == std::errc{} && shift >= 0 && value <= (UINT64_MAX >> shift)) return value << shift;
  return absl::InvalidArgumentError(
      fmt::format("{} \"{}\": a number of bytes, or with a unit: 64KiB, 1MiB, 2GiB", option, text));
}

absl::StatusOr<absl::Duration> ParseDuration(std::string_view option, const std::string& text) {
  absl::Duration duration;
  if (absl::ParseDuration(text, &duration) && duration >= absl::ZeroDuration()) return duration;
  return absl::InvalidArgumentError(fmt::format(
      "{} \"{}\": a duration with a unit, such as 100ms, 2s, 1m30s or inf", option, text));
}

void GeometryOptions::AddTo(CLI::App* verb, bool new_journal) {
  const auto add = [&](const char* name, std::string& to, const std::string& what,
                       const char* fallback, const char* type) {
    verb->add_option(name, to,
                     fmt::format("{} (default {})", what, new_journal ? fallback : "as before"))
        ->type_name(type);
  };
  add("--state-bytes", state_bytes, "largest state", "64KiB", "SIZE");
  add("--participants", participants, "slots, 1 to 4096", "64", "N");
  add("--versions", versions, "states that may be in use at once, 4 to 8191", "128", "N");
  add("--segment-bytes", segment_bytes, "size of a journal file", "16MiB", "SIZE");
  verb->add_option("--mode", mode,
                   fmt::format("permission bits, octal (default {})",
                               new_journal ? "0600" : "as the journal's newest file"))
      ->type_name("MODE");
  if (new_journal) {
    add("--history", history, "what the journal keeps: all or latest", "all", "KIND");
    add("--retain-segments", retain_segments, "keep so many journal files besides the newest",
        "0: no such rule", "N");
    add("--retain-epochs", retain_epochs,
        "keep those with one of the last N epochs; without a rule all stay, of latest one",
        "0: no such rule", "N");
  }
}

absl::Status GeometryOptions::FillIn(RegionOptions& options) const {
  const auto read = [](std::string_view name, const std::string& text, auto parse, auto& to) {
    if (text.empty()) return absl::OkStatus();
    const absl::StatusOr<std::uint64_t> value = parse(name, text);
    if (value.ok()) to = static_cast<std::remove_reference_t<decltype(to)>>(*value);
    return value.status();
  };
  const auto count = [](std::string_view name, const std::string& text) {
    return ParseNumber(name, text, UINT32_MAX);
  };
  const auto number = [](std::string_view name, const std::string& text) {
    return ParseNumber(name, text);
  };
  const auto octal = [](std::string_view name,
                        const std::string& text) -> absl::StatusOr<std::uint64_t> {
    std::uint64_t value = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value, 8);
    if (error == std::errc{} && stop == end && value <= 0777 && (value & 0600) == 0600) {
      return value;
    }
    return absl::InvalidArgumentError(fmt::format(
        "{} \"{}\": permission bits in octal that let the owner read and write, 0600 to 0777", name,
        text));
  };
  for (const absl::Status& s :
       {read("--state-bytes", state_bytes, ParseBytes, options.state_bytes),
        read("--participants", participants, count, options.participants),
        read("--versions", versions, count, options.versions),
        read("--segment-bytes", segment_bytes, ParseBytes, options.segment_bytes),
        read("--retain-segments", retain_segments, count, options.retain_segments),
        read("--retain-epochs", retain_epochs, number, options.retain_epochs),
        read("--mode", mode, octal, options.mode)}) {
    if (!s.ok()) return s;
  }
  if (history == "latest") {
    options.history = History::kLatest;
  } else if (!history.empty() && history != "all") {
    return absl::InvalidArgumentError(
        fmt::format("--history \"{}\": all (every state) or latest (enough to recover)", history));
  }
  return absl::OkStatus();
}

std::string HumanBytes(std::uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  auto value = static_cast<double>(bytes);
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  const bool whole = (bytes & ((std::uint64_t{1} << (10 * unit)) - 1)) == 0;
  return fmt::format("{:.{}f} {}", value, whole ? 0 : 1, kUnits[unit]);
}

std::string Count(std::uint64_t count, std::string_view thing) {
  return fmt::format("{} {}{}", count, thing, count == 1 ? "" : "s");
}

std::string Printable(std::string_view text) {
  std::string printable;
  while (!text.empty()) {
    const detail::DecodedCharacter c = detail::DecodeUtf8(text);
    const std::size_t bytes = std::max<std::size_t>(c.bytes, 1);
    if (c.bytes == 0) {
      printable += fmt::format("\\x{:02x}", static_cast<unsigned char>(text.front()));
    } else if (detail::IsShown(c.value)) {
      printable.append(text.data(), bytes);
    } else if (c.value == '\n') {
      printable += "\\n";
    } else {
      const auto value = static_cast<std::uint32_t>(c.value);
      printable += value < 0x80      ? fmt::format("\\x{:02x}", value)
                   : value < 0x10000 ? fmt::format("\\u{:04x}", value)
                                     : fmt::format("\\U{:08x}", value);
    }
    text.remove_prefix(bytes);
  }
  return printable;
}

namespace {

// JSON is UTF-8; a path may hold any bytes.
std::string AsUtf8(std::string_view text) {
  std::string valid;
  while (!text.empty()) {
    const std::size_t bytes = detail::DecodeUtf8(text).bytes;
    if (bytes == 0) {
      valid += fmt::format("\\x{:02x}", static_cast<unsigned char>(text.front()));
    } else {
      valid.append(text.data(), bytes);
    }
    text.remove_prefix(std::max<std::size_t>(bytes, 1));
  }
  return valid;
}

void MakeUtf8(nlohmann::ordered_json& json) {
  if (json.is_string()) {
    auto& text = json.get_ref<std::string&>();
    text = AsUtf8(text);
  } else if (json.is_structured()) {  // what is no container would be its own only element
    for (auto& inner : json) MakeUtf8(inner);
  }
}

}  // namespace

std::string JsonText(nlohmann::ordered_json json, int indent) {
  MakeUtf8(json);
  const std::string dumped = json.dump(indent);
  std::string text;
  // Outside of strings there is only ASCII, and line ends between the values; within them the
  // library has escaped the ASCII ones.
  for (std::string_view left = dumped; !left.empty();) {
    const detail::DecodedCharacter c = detail::DecodeUtf8(left);
    const auto value = static_cast<std::uint32_t>(c.value);
    if (value == '\n' || detail::IsShown(c.value)) {
      text.append(left.data(), c.bytes);
    } else if (value < 0x10000) {
      text += fmt::format("\\u{:04x}", value);
    } else {
      text += fmt::format("\\u{:04x}\\u{:04x}", 0xd7c0 + (value >> 10), 0xdc00 + (value & 0x3ff));
    }
    left.remove_prefix(std::max<std::size_t>(c.bytes, 1));
  }
  return text;
}

std::size_t WholeCharacters(std::string_view text, std::size_t most) {
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t bytes = std::max<std::size_t>(detail::DecodeUtf8(text.substr(at)).bytes, 1);
    if (at + bytes > most) break;
    at += bytes;
  }
  return at;
}

bool Removed(const Region& region) { return region.orphaned(); }

std::string JoinPath(std::string_view directory, std::string_view name) {
  return fmt::format("{}/{}", directory, name);
}

namespace {

// Columns that a printable text takes on a terminal.
std::size_t WidthOf(std::string_view text) {
  std::size_t width = 0;
  while (!text.empty()) {
    const detail::DecodedCharacter decoded = detail::DecodeUtf8(text);
    const char32_t c = decoded.value;
    const auto within = [c](char32_t first, char32_t last) { return c >= first && c <= last; };
    const bool none = within(0x300, 0x36f) || c == 0x200c || c == 0x200d || within(0xfe00, 0xfe0f);
    const bool two = within(0x1100, 0x115f) || within(0x2e80, 0xa4cf) || within(0xac00, 0xd7a3) ||
                     within(0xf900, 0xfaff) || within(0xfe30, 0xfe6f) || within(0xff00, 0xff60) ||
                     within(0xffe0, 0xffe6) || within(0x1f300, 0x1f64f) ||
                     within(0x1f900, 0x1f9ff) || within(0x20000, 0x3fffd);
    width += none ? 0 : two ? 2 : 1;
    text.remove_prefix(std::max<std::size_t>(decoded.bytes, 1));
  }
  return width;
}

}  // namespace

void Table::Row(const std::vector<std::string>& cells) {
  std::vector<std::string>& row = rows_.emplace_back();
  for (const std::string& cell : cells) row.push_back(Printable(cell));
}

std::string Table::Text(std::string_view indent) const {
  std::vector<std::size_t> widths(alignment_.size(), 0);
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], WidthOf(row[i]));
  }
  std::string text;
  for (const auto& row : rows_) {
    std::string line(indent);
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (i > 0) line += "  ";
      const std::string padding(widths[i] - WidthOf(row[i]), ' ');
      line += alignment_[i] == '>' ? padding + row[i] : row[i] + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

}  // namespace epoch::ctl
