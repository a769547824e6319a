#include "tools/epochctl/context.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <CLI/Validators.hpp>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "epoch/detail/check.h"

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
  // A path may hold any bytes; JSON may not.
  Print(json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  Print("\n");
}

absl::Status Context::Flush() {
  std::string_view left = out_;
  while (out_status_.ok() && !left.empty()) {
    const ssize_t wrote = write(STDOUT_FILENO, left.data(), left.size());
    if (wrote >= 0) {
      left.remove_prefix(static_cast<std::size_t>(wrote));
    } else if (errno != EINTR) {
      reader_gone_ = errno == EPIPE;
      out_status_ = absl::InternalError(
          fmt::format("can not write to standard output: {}", std::strerror(errno)));
    }
  }
  out_.clear();
  return out_status_;
}

void Context::Message(std::string_view text) const {
  std::fputs(
      fmt::format("epochctl{}{}: {}\n", verb_.empty() ? "" : " ", verb_, Printable(text)).c_str(),
      stderr);
}

absl::StatusOr<std::string> Context::RegionOrDefault(const std::string& given) const {
  if (!given.empty()) return given;
  const char* fallback = std::getenv("EPOCH_REGION");
  if (fallback != nullptr && *fallback != '\0') return std::string(fallback);
  return absl::InvalidArgumentError("which region? Name it, or set EPOCH_REGION");
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
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n' || (byte >= 0x20 && byte < 0x7f)) {
      printable += c;
    } else {
      printable += fmt::format("\\x{:02x}", byte);
    }
  }
  return printable;
}

bool Removed(const Region& region) { return region.orphaned(); }

std::string JoinPath(std::string_view directory, std::string_view name) {
  return fmt::format("{}/{}", directory, name);
}

std::string Table::Text(std::string_view indent) const {
  std::vector<std::size_t> widths(alignment_.size(), 0);
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows_) {
    std::string line(indent);
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (i > 0) line += "  ";
      const std::string padding(widths[i] - row[i].size(), ' ');
      line += alignment_[i] == '>' ? padding + row[i] : row[i] + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

}  // namespace epoch::ctl
