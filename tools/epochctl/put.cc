#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "core/inspect/region_status.h"
#include "epoch/participant.h"
#include "tools/epochctl/process.h"
#include "tools/epochctl/verbs.h"

namespace epoch::ctl {
namespace {

struct PutArgs : RegionArgs {
  std::string file, expect, timeout, token, straggler, min_voters;
  std::string name = "epochctl put";
  bool agree = false;
  bool fence = false;
};

// All of a file or of standard input, but not more than fits.
absl::StatusOr<std::string> ReadAll(const std::string& file, std::uint64_t most) {
  const std::string what = file == "-" ? "standard input" : file;
  detail::Fd opened;
  int fd = STDIN_FILENO;
  if (file != "-") {
    opened = detail::Fd(open(file.c_str(), O_RDONLY | O_CLOEXEC));
    if (!opened.ok()) return detail::ErrnoStatus(errno, "cannot open " + what);
    fd = opened.get();
  }
  std::string bytes, chunk(std::size_t{64} << 10, '\0');
  for (;;) {
    const ssize_t got = sys::Uninterrupted([&] { return read(fd, chunk.data(), chunk.size()); });
    if (got == 0) return bytes;
    if (got < 0 && errno == EBADF && file == "-") {
      return absl::InvalidArgumentError(
          "standard input is closed: name a file, or give it one (epochctl put REGION - < FILE)");
    }
    if (got < 0) return detail::ErrnoStatus(errno, "cannot read " + what);
    bytes.append(chunk, 0, static_cast<std::size_t>(got));
    if (bytes.size() > most) {
      return absl::OutOfRangeError(
          fmt::format("{} has more than {} bytes, the most that the region was created for; "
                      "nothing was changed",
                      what, most));
    }
  }
}

absl::Status ReadAgreement(const PutArgs& given, CommitOptions& options) {
  options.agreement = given.agree ? Agreement::kAllVoters : Agreement::kNone;
  options.fence = given.fence;
  if (!given.min_voters.empty()) {
    if (!given.agree) {
      return absl::InvalidArgumentError(
          "--min-voters says how many must accept it: it needs --agree, which asks them");
    }
    const auto least = ParseNumber("--min-voters", given.min_voters, detail::kMaxParticipants);
    if (!least.ok()) return least.status();
    options.min_voters = static_cast<std::uint32_t>(*least);
  }
  if (!given.timeout.empty()) {
    const auto timeout = ParseDuration("--timeout", given.timeout);
    if (!timeout.ok()) return timeout.status();
    options.timeout = *timeout;
  }
  if (given.straggler.empty()) return absl::OkStatus();
  if (given.straggler != "abort" && given.straggler != "expel") {
    return absl::InvalidArgumentError(
        fmt::format("--on-straggler \"{}\": abort or expel", given.straggler));
  }
  if ((!given.agree && !given.fence) || options.timeout == absl::InfiniteDuration()) {
    return absl::InvalidArgumentError(
        "--on-straggler says what follows when --timeout passes before --agree or --fence is "
        "done: it needs both");
  }
  if (given.straggler == "expel") options.on_straggler = Straggler::kExpel;
  return absl::OkStatus();
}

absl::Status Put(Context& context, PutArgs given) {
  if (absl::Status s = context.ShiftIfDefault(given.region, given.file, "FILE"); !s.ok()) return s;
  CommitOptions options;
  if (!given.expect.empty()) {
    const auto expected = ParseNumber("--expect", given.expect, kMaxEpoch);
    if (!expected.ok()) return expected.status();
    options.expected = *expected;
  }
  if (absl::Status s = ReadAgreement(given, options); !s.ok()) return s;
  if (!given.token.empty()) {
    const auto token = ParseNumber("--token", given.token);
    if (!token.ok()) return token.status();
    options.token = *token;
  }

  // The input first: a slow writer of it must not hold a slot.
  const absl::StatusOr<Region> region = context.Open(given);
  if (!region.ok()) return region.status();
  const absl::StatusOr<std::string> bytes = ReadAll(given.file, region->state_bytes());
  if (!bytes.ok()) return bytes.status();
  absl::StatusOr<Participant> self = Participant::Join(*region, {.name = given.name});
  if (!self.ok()) return self.status();
  // From here on a signal is answered with what became of the transition.
  CatchEndingSignals();
  options.interrupted = AskedToEnd;
  const absl::StatusOr<Epoch> committed = self->Commit(std::string_view(*bytes), options);
  if (!committed.ok()) return committed.status();
  // Whether somebody was expelled for it: to be read only while it is the committed one.
  bool forced = false;
  if (options.on_straggler == Straggler::kExpel) {
    const inspect::RegionStatus status = inspect::InspectRegion(*region->mapping());
    forced = status.epoch == *committed && status.forced;
  }
  if (forced) {
    context.Message(
        fmt::format("epoch {} was forced: who did not answer or let go is expelled", *committed));
  }
  if (context.json()) {
    context.PrintJson({{"schema", "epoch.put/1"},
                       {"region", region->path()},
                       {"epoch", *committed},
                       {"forced", forced}});
  } else {
    context.Print(fmt::format("{}\n", *committed));
  }
  if (const absl::Status told = context.Flush(); !told.ok()) {
    return detail::Reworded(
        told, fmt::format("epoch {} is committed; {}", *committed, std::string(told.message())));
  }
  return absl::OkStatus();
}

}  // namespace

void AddPut(CLI::App& app, Context& context) {
  auto given = std::make_shared<PutArgs>();
  CLI::App* verb = context.AddVerb(app, "put", "Commits a file or standard input as the next state",
                                   "epochctl put config config.json --expect 41\n"
                                   "  epochctl put config config.json --agree --timeout 2s",
                                   [&context, given] { return Put(context, *given); });
  given->AddTo(verb);
  verb->add_option("FILE", given->file, "the new state, - for standard input")->type_name("");
  verb->add_option("--expect", given->expect, "commit only as the direct successor of this epoch")
      ->type_name("EPOCH");
  verb->add_option("--timeout", given->timeout,
                   "how long to wait for agreement, and for it to become visible")
      ->type_name("DURATION");
  verb->add_option("--token", given->token, "a number of your own, kept with the state")
      ->type_name("N");
  verb->add_option("--name", given->name, "what the tools show while it runs")->type_name("NAME");
  verb->add_flag("--agree", given->agree, "only if every voter accepts it");
  verb->add_option("--min-voters", given->min_voters,
                   "with --agree: and at least so many do (default 1)")
      ->type_name("N");
  verb->add_flag("--fence", given->fence, "visible only when nobody pins an earlier state");
  verb->add_option("--on-straggler", given->straggler,
                   "when --timeout passes: abort (the default) or expel")
      ->type_name("WHAT");
}

}  // namespace epoch::ctl
