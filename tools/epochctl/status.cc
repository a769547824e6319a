#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/files/write_queue.h"
#include "core/inspect/region_status.h"
#include "core/journal/segment/segment.h"
#include "tools/epochctl/verbs.h"

namespace epoch::ctl {
namespace {

using inspect::ParticipantStatus;
using inspect::RegionStatus;
using Json = nlohmann::ordered_json;

// What this process sees of the journal's directory.
struct JournalFiles {
  std::string backend;  // what this process would write with
  std::size_t segments = 0;
  std::uint64_t bytes = 0;
  bool superseded = false;  // restored elsewhere: this region is history
  bool in_memory = false;   // what is committed does not outlive the machine's power
  std::string error{};      // why the directory cannot be read
};

JournalFiles InspectJournal(const RegionStatus& status) {
  JournalFiles files{.backend = journal::WriteBackend()};
  const auto segments = journal::ListSegments(status.journal);
  if (!segments.ok()) {
    files.error = std::string(segments.status().message());
    return files;
  }
  const detail::Fd directory(open(status.journal.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  files.in_memory = directory.ok() && detail::LiesInMemory(directory.get());
  files.segments = segments->size();
  for (const journal::SegmentFile& segment : *segments) files.bytes += segment.bytes;
  if (segments->empty()) {
    files.error = fmt::format("{} holds no journal segments", status.journal);
    return files;
  }
  const std::string& newest = segments->back().path;
  const detail::Fd fd(open(newest.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  const auto header = fd.ok() ? journal::ReadSegmentHeader(fd.get(), newest)
                              : detail::ErrnoStatus(errno, "cannot open " + newest);
  if (header.ok()) {
    files.superseded = detail::HexOf(header->incarnation) != status.incarnation;
  } else {
    files.error = std::string(header.status().message());
  }
  return files;
}

Json OrNull(const std::optional<Epoch>& epoch) {
  return epoch.has_value() ? Json(*epoch) : Json(nullptr);
}

Json VoteJson(const RegionStatus& s) {
  if (!s.vote.has_value()) return nullptr;
  const inspect::VoteStatus& v = *s.vote;
  Json json = {{"epoch", v.epoch},
               {"ballot", v.ballot},
               {"token", v.token},
               {"proposer", v.proposer},
               {"agree", v.voters},
               {"fence", v.fence},
               {"draining", v.draining},
               {"collective", v.collective},
               {"on_straggler", v.expel ? "expel" : "abort"},
               {"forced", v.forced},
               {"left_ms", v.left_ns.has_value() ? Json(*v.left_ns / 1'000'000) : Json(nullptr)},
               {"waits_for", Json::array()}};
  for (const ParticipantStatus& p : s.participants) {
    if (p.awaited) json["waits_for"].push_back({{"slot", p.slot}, {"name", p.name}});
  }
  return json;
}

Json ToJson(const RegionStatus& s) {
  Json json = {{"schema", "epoch.status/1"},
               {"region", s.path},
               {"epoch", s.epoch},
               {"tail_epoch", s.tail_epoch},
               {"phase", inspect::NameOf(s.phase)},
               {"tail_phase", inspect::NameOf(s.tail_phase)},
               {"incarnation", s.incarnation},
               {"layout", fmt::format("{}.{}", s.layout_major, s.layout_minor)},
               {"created_unix_ns", s.created_unix_ns},
               {"state",
                {{"bytes", s.length_bytes},
                 {"capacity", s.geometry.state_bytes},
                 {"digest", fmt::format("{:016x}", s.digest)},
                 {"token", s.token}}},
               {"durable", s.durable},
               {"journal", nullptr},
               {"participants", Json::array()},
               {"slots", s.geometry.participants},
               {"versions",
                {{"total", s.versions.total},
                 {"free", s.versions.free},
                 {"drafted", s.versions.drafted},
                 {"accepted", s.versions.accepted},
                 {"current", s.versions.current},
                 {"pinned", s.versions.pinned},
                 {"quarantined", s.versions.quarantined},
                 {"guarded", s.versions.guarded},
                 {"superseded", s.versions.superseded},
                 {"damaged", s.versions.damaged}}},
               {"stragglers", Json::array()},
               {"forced", s.forced},
               {"vote", VoteJson(s)}};
  if (s.durable) {
    const JournalFiles files = InspectJournal(s);
    json["journal"] = {{"directory", s.journal},
                       {"history", inspect::NameOf(s.history)},
                       {"retain_segments", s.retain_segments},
                       {"retain_epochs", s.retain_epochs},
                       {"backend", files.backend},
                       {"segments", files.segments},
                       {"bytes", files.bytes},
                       {"poisoned", s.poisoned()},
                       {"superseded", files.superseded},
                       {"in_memory", files.in_memory},
                       {"error", files.error.empty() ? Json(nullptr) : Json(files.error)}};
  }
  for (const ParticipantStatus& p : s.participants) {
    json["participants"].push_back({{"slot", p.slot},
                                    {"generation", p.generation},
                                    {"name", p.name},
                                    {"pid", p.pid},
                                    {"state", inspect::NameOf(p.state)},
                                    {"alive", p.alive},
                                    {"stopped", p.stopped},
                                    {"condition", inspect::NameOf(p.condition)},
                                    {"voter", p.voter},
                                    {"parked", p.parked},
                                    {"flushes", p.flushes},
                                    {"ack_epoch", OrNull(p.ack_epoch)},
                                    {"pin_epoch", OrNull(p.pin_epoch)},
                                    {"lag", p.lag}});
    if (p.straggler) {
      json["stragglers"].push_back({{"slot", p.slot},
                                    {"name", p.name},
                                    {"pid", p.pid},
                                    {"condition", inspect::NameOf(p.condition)},
                                    {"ack_epoch", OrNull(p.ack_epoch)},
                                    {"pin_epoch", OrNull(p.pin_epoch)}});
    }
  }
  return json;
}

std::string StateOf(const ParticipantStatus& p) {
  std::string state(inspect::NameOf(p.state));
  if (!p.alive) {
    state = "dead";
  } else if (p.stopped) {
    state += ", stopped";
  }
  if (p.parked) state += ", parked";
  if (p.voter) state += ", voter";
  if (p.flushes) state += ", serves";
  return state;
}

std::string VersionsText(const inspect::VersionCounts& v) {
  std::string text = fmt::format("{} of {} free", v.free + v.superseded, v.total);
  const std::pair<std::uint32_t, const char*> parts[] = {
      {v.drafted, "drafted"},         {v.accepted, "accepted"}, {v.pinned, "pinned"},
      {v.quarantined, "quarantined"}, {v.guarded, "guarded"},   {v.damaged, "damaged"}};
  for (const auto& [count, name] : parts) {
    if (count != 0) text += fmt::format(", {} {}", count, name);
  }
  return text;
}

std::string EpochText(const RegionStatus& s) {
  std::string text = fmt::format("{}  {}", s.epoch, inspect::NameOf(s.phase));
  if (s.poisoned()) text += ": the journal failed a write; recover the region (epochctl recover)";
  if (s.tail_epoch != s.epoch && s.tail_phase != detail::Phase::kVoting) {
    text += fmt::format(", {} accepted and not visible yet", s.tail_epoch - s.epoch);
  }
  std::size_t stragglers = 0, active = 0;
  for (const ParticipantStatus& p : s.participants) {
    stragglers += p.straggler ? 1 : 0;
    active += p.alive && p.state != detail::SlotState::kExpelled ? 1 : 0;
  }
  if (stragglers != 0) {
    text += fmt::format(", not acknowledged by {} of {}", stragglers, active);
  } else if (active != 0) {
    text += ", converged";
  }
  if (s.forced) text += ", forced";
  return text;
}

// Who is awaited is said in the table of participants.
std::string VoteText(const RegionStatus& s) {
  const inspect::VoteStatus& v = *s.vote;
  std::string text = fmt::format("epoch {}, {}", v.epoch, v.collective ? "collective" : "proposed");
  for (const ParticipantStatus& p : s.participants) {
    if (p.slot == v.proposer) text += fmt::format(" by {} (slot {})", p.name, p.slot);
  }
  if (v.fence) text += v.draining ? ", fence closed" : ", fenced";
  const auto awaited =
      std::count_if(s.participants.begin(), s.participants.end(),
                    [](const ParticipantStatus& participant) { return participant.awaited; });
  text += fmt::format(", waits for {}", awaited);
  if (v.left_ns.has_value()) {
    text += fmt::format(", {} in {:.1f} s", v.expel && !v.collective ? "expels them" : "given up",
                        static_cast<double>(*v.left_ns) / 1e9);
  }
  if (v.forced) text += ", forced";
  return text;
}

std::string Remark(const RegionStatus& s, const ParticipantStatus& p) {
  if (p.awaited) {
    return s.vote->draining && p.pin_epoch.has_value() ? "<- holds up the fence"
                                                       : "<- has not voted";
  }
  return p.straggler ? "<- straggler" : "";
}

std::string JournalText(const RegionStatus& s) {
  const JournalFiles files = InspectJournal(s);
  if (!files.error.empty()) return Printable(files.error);
  return fmt::format("{}, {}, history {}, {}{}{}", Count(files.segments, "segment"),
                     HumanBytes(files.bytes), inspect::NameOf(s.history), files.backend,
                     files.in_memory ? "; in memory: lost at a reboot" : "",
                     files.superseded ? "; superseded: it was restored elsewhere" : "");
}

std::string ToText(const RegionStatus& s) {
  Table facts("<<");
  facts.Row({"region", Printable(s.path)});
  facts.Row({"epoch", EpochText(s)});
  if (s.vote.has_value()) facts.Row({"vote", VoteText(s)});
  facts.Row({"state", fmt::format("{} of {}, digest {:016x}, token {}", HumanBytes(s.length_bytes),
                                  HumanBytes(s.geometry.state_bytes), s.digest, s.token)});
  if (s.durable) {
    facts.Row({"journal", fmt::format("{}, {}", Printable(s.journal), JournalText(s))});
  } else {
    facts.Row({"journal", "none: a volatile region"});
  }
  facts.Row({"versions", VersionsText(s.versions)});
  facts.Row({"incarnation",
             fmt::format("{}, layout {}.{}", s.incarnation, s.layout_major, s.layout_minor)});
  std::string text = facts.Text();
  if (s.participants.empty()) return text + "\nno participants\n";

  const auto number = [](const std::optional<Epoch>& epoch) {
    return epoch.has_value() ? fmt::format("{}", *epoch) : std::string("-");
  };
  Table table("><><>>><");
  table.Row({"SLOT", "NAME", "PID", "STATE", "ACK", "LAG", "PIN", ""});
  for (const ParticipantStatus& p : s.participants) {
    table.Row({fmt::format("{}", p.slot), p.name, fmt::format("{}", p.pid), StateOf(p),
               number(p.ack_epoch), fmt::format("{}", p.lag), number(p.pin_epoch), Remark(s, p)});
  }
  return text + "\n" + table.Text();
}

absl::Status Status(Context& context, const RegionArgs& given) {
  const absl::StatusOr<Region> region = context.Open(given, /*read_only=*/true);
  if (!region.ok()) return region.status();
  const RegionStatus status = inspect::InspectRegion(*region->mapping());
  if (context.json()) {
    context.PrintJson(ToJson(status));
  } else {
    context.Print(ToText(status));
  }
  return absl::OkStatus();
}

}  // namespace

void AddStatus(CLI::App& app, Context& context) {
  auto given = std::make_shared<RegionArgs>();
  given->AddTo(context.AddVerb(app, "status", "Shows a region: epoch, participants, who is behind",
                               "epochctl status config",
                               [&context, given] { return Status(context, *given); }));
}

}  // namespace epoch::ctl
