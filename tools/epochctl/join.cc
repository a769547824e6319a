// A program takes part without a line of code: its commands validate and adopt states.
//
// The listener's thread answers votes, so that a long adoption holds up no vote. The main thread
// adopts. It pins what it adopts: the bytes stay, and a fence waits for the command's end.
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "epoch/participant.h"
#include "tools/epochctl/shell.h"
#include "tools/epochctl/verbs.h"

namespace epoch::ctl {
namespace {

constexpr std::size_t kReasonBytes = 120;

struct JoinArgs : RegionArgs {
  std::string name, validate, adopt;
};

// A descriptor that becomes readable when this process is asked to end, and stays so: it is never
// read. Before the first thread starts.
absl::StatusOr<detail::Fd> EndDescriptor() {
  const sigset_t signals = EndingSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  detail::Fd fd(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.ok()) return detail::ErrnoStatus(errno, "signalfd");
  return fd;
}

ShellCommand CommandOf(const std::string& text, const Region& region, Epoch epoch) {
  return {
      .text = text,
      .environment = {{"EPOCH_REGION", region.path()}, {"EPOCH_NUMBER", fmt::format("{}", epoch)}}};
}

class Member {
 public:
  Member(Context& context, const JoinArgs& given, Region region, int end_fd)
      : context_(context), given_(given), region_(std::move(region)), end_fd_(end_fd) {}

  // Until this process is asked to end; true: until the region had lost its name.
  absl::StatusOr<bool> Run() {
    absl::StatusOr<Participant> self =
        Participant::Join(region_, {.name = given_.name,
                                    .voter = !given_.validate.empty(),
                                    .acknowledges_by_hand = !given_.adopt.empty()});
    if (!self.ok()) return self.status();
    if (!given_.validate.empty()) {
      self->SetValidator([this](const Proposal& proposal) { return Validate(proposal); });
    }
    const absl::StatusOr<Listener> listener = self->Listen();
    if (!listener.ok()) return listener.status();
    for (;;) {
      listener->Drain();
      // What became of this one in a region that nobody finds any more is nobody's business.
      if (Removed(region_)) return true;
      if (absl::Status s = self->status(); !s.ok()) return s;
      bool fence = false;
      if (absl::Status s = LookOnce(*self, fence); !s.ok()) return s;
      pollfd fds[2] = {{.fd = end_fd_, .events = POLLIN, .revents = 0},
                       {.fd = listener->fd(), .events = POLLIN, .revents = 0}};
      // Not for ever: what is removed tells nobody.
      const int ready = poll(fds, 2, fence ? 5 : 1000);
      if (ready < 0 && errno != EINTR) return detail::ErrnoStatus(errno, "cannot wait");
      if (ready > 0 && fds[0].revents != 0) return false;
    }
  }

 private:
  // Adopts the committed epoch, if it was not looked at yet. `fence`: one keeps it from looking.
  absl::Status LookOnce(Participant& self, bool& fence) {
    if (seen_ == region_.epoch()) return absl::OkStatus();
    const absl::StatusOr<Pin> pin = self.TryPin();  // a Pin that waits would not hear signals
    fence = absl::IsUnavailable(pin.status());
    if (fence) return absl::OkStatus();
    if (!pin.ok()) return pin.status();
    seen_ = pin->epoch();
    if (pin->epoch() == 0) return self.Acknowledge(0);  // nobody has committed anything yet
    if (!given_.adopt.empty()) {
      const absl::StatusOr<ShellResult> adopted =
          RunShell(CommandOf(given_.adopt, region_, pin->epoch()), pin->state(), end_fd_,
                   [] { return false; });
      if (!adopted.ok()) return adopted.status();
      if (adopted->given_up) return absl::OkStatus();
      if (!adopted->end.succeeded) {
        context_.Message(fmt::format("epoch {} was not adopted: {} of {}; it is not acknowledged",
                                     pin->epoch(), adopted->end.how, given_.adopt));
        return absl::OkStatus();
      }
      if (absl::Status s = self.Acknowledge(pin->epoch()); !s.ok()) return s;
    }
    if (context_.json()) {
      const nlohmann::ordered_json line = {{"schema", "epoch.join/1"}, {"epoch", pin->epoch()}};
      context_.Print(JsonText(line, -1) + "\n");  // a line each: this goes on for long
    } else {
      context_.Print(fmt::format("{}\n", pin->epoch()));
    }
    return context_.Flush();
  }

  // In the listener's thread.
  Answer Validate(const Proposal& proposal) {
    ShellCommand command = CommandOf(given_.validate, region_, proposal.epoch);
    command.environment.push_back({"EPOCH_PROPOSER", std::string(proposal.proposer)});
    command.keep_stderr = kReasonBytes;
    // A command that hangs must not keep this voter from the next vote.
    const absl::StatusOr<ShellResult> validated =
        RunShell(command, proposal.state, end_fd_, [&] { return Decided(proposal.ballot); });
    if (validated.ok() && validated->end.succeeded) return Answer::Accept();
    if (validated.ok() && validated->given_up) return Answer::Later();  // which never comes
    std::string reason =
        validated.ok() ? validated->said : std::string(validated.status().message());
    reason.erase(reason.find_last_not_of(" \t\r\n") + 1);
    if (reason.empty()) reason = fmt::format("{} of {}", validated->end.how, given_.validate);
    reason.resize(WholeCharacters(reason, kReasonBytes));
    context_.Message(
        fmt::format("epoch {} of \"{}\" refused: {}", proposal.epoch, proposal.proposer, reason));
    return Answer::Reject(reason);
  }

  bool Decided(std::uint64_t ballot) const {
    const detail::RegionView& view = region_.mapping()->view();
    const auto tail = detail::StateWord::Unpack(view.control->tail.Load());
    return tail.phase != detail::Phase::kVoting || !view.ValidCell(tail.version) ||
           view.cells[tail.version].ballot.Load() != ballot;
  }

  Context& context_;
  const JoinArgs& given_;
  const Region region_;
  const int end_fd_;
  std::optional<Epoch> seen_;
};

// The region that has the name by now. Whoever makes one anew removes the old one first, so it may
// take a while. None: this process is asked to end.
absl::StatusOr<std::optional<Region>> Successor(const Context& context, const JoinArgs& given,
                                                int end_fd) {
  constexpr int kLook_ms = 50, kMostLooks = 40;
  absl::Status why;
  for (int look = 0; look < kMostLooks; ++look) {
    absl::StatusOr<Region> region = context.Open(given);
    if (region.ok()) return std::optional<Region>(*std::move(region));
    why = region.status();
    pollfd end{.fd = end_fd, .events = POLLIN, .revents = 0};
    if (poll(&end, 1, kLook_ms) > 0) return std::optional<Region>();
  }
  return why;
}

absl::Status Join(Context& context, const JoinArgs& given) {
  std::optional<Region> region;
  if (absl::StatusOr<Region> opened = context.Open(given); opened.ok()) {
    region = *std::move(opened);
  } else {
    return opened.status();
  }
  const absl::StatusOr<detail::Fd> end = EndDescriptor();
  if (!end.ok()) return end.status();
  for (;;) {
    const absl::StatusOr<bool> removed = Member(context, given, *region, end->get()).Run();
    if (!removed.ok() || !*removed) return removed.status();
    const std::string path = region->path();
    const detail::Id was = region->mapping()->superblock().incarnation;
    // Whoever restores it from its journal waits until nobody is at that any more.
    region.reset();
    absl::StatusOr<std::optional<Region>> next = Successor(context, given, end->get());
    if (absl::IsNotFound(next.status())) {
      return detail::Reworded(next.status(),
                              fmt::format("{} was removed, and no other has its name: {}", path,
                                          std::string(next.status().message())));
    }
    if (!next.ok()) return next.status();
    if (!next->has_value()) return absl::OkStatus();
    region = **std::move(next);
    if (region->mapping()->superblock().incarnation == was && region->orphaned()) {
      return absl::NotFoundError(
          fmt::format("{} was removed, or is not to be found by its name from here: name it by an "
                      "absolute path",
                      path));
    }
    context.Message(fmt::format("{} was removed; taking part in the new one of its name", path));
  }
}

}  // namespace

void AddJoin(CLI::App& app, Context& context) {
  auto given = std::make_shared<JoinArgs>();
  CLI::App* verb = context.AddVerb(
      app, "join", "Takes part for a program, until SIGTERM or SIGINT",
      "epochctl join config --name web --validate 'jq -e .port' \\\n"
      "    --adopt 'cat > web.json && systemctl reload web'\n"
      "CMD is run by /bin/sh, the state on its standard input; EPOCH_REGION and\n"
      "EPOCH_NUMBER say whose. A fence waits for an --adopt that runs. Epochs that\n"
      "come while it does are passed over, but for the last. If the region is removed\n"
      "and made anew, it takes part in the new one.",
      [&context, given] { return Join(context, *given); });
  given->AddTo(verb);
  verb->add_option("--name", given->name, "what the tools show")->type_name("NAME")->required();
  verb->add_option("--validate", given->validate,
                   "makes it a voter: exit code 0 accepts, otherwise stderr is the reason")
      ->type_name("CMD");
  verb->add_option("--adopt", given->adopt, "runs after each commit; only its success acknowledges")
      ->type_name("CMD");
}

}  // namespace epoch::ctl
