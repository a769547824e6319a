#include "stress/history.h"

#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <utility>

#include "fmt/format.h"

namespace epoch::stress {
namespace {

bool Commits(Operation operation) {
  switch (operation) {
    case Operation::kCommit:
    case Operation::kCommitExpecting:
    case Operation::kUpdate:
    case Operation::kPropose:
    case Operation::kProposeUpdate:
      return true;
    default:
      return false;
  }
}

std::string NameOf(std::uint64_t content) {
  if ((content & kCollectiveContent) != 0) return fmt::format("gathered {:x}", content);
  return fmt::format("{}.{}", content >> 32, content & UINT32_MAX);
}

// Walks through one process's log.
class Walk {
 public:
  Walk(History& history, std::uint32_t serial) : history_(history), serial_(serial) {}

  void Take(std::uint32_t index, const Record& record) {
    const Place here{serial_, index};
    switch (record.kind) {
      case Kind::kBegin:
        return Begin(here, record);
      case Kind::kEnd:
        return End(here, record);
      case Kind::kDraft:
        return Draft(here, record);
      case Kind::kSeen:
      case Kind::kSeenAccepted:
      case Kind::kSeenAgain:
        return Seen(here, record);
      case Kind::kUnpinned:
        if (pin_.has_value()) {
          pin_->to_ns = record.time_ns;
          history_.pins.push_back(*pin_);
        }
        pin_.reset();
        return;
      case Kind::kOpened:
        member_ = {.incarnation = record.detail};
        return;
      case Kind::kJoined:
        member_.slot = record.slot;
        member_.generation = record.detail;
        history_.members[member_] = {
            .place = here, .joined_ns = record.time_ns, .voter = (record.flags & kIsVoter) != 0};
        return;
      case Kind::kVote:
        history_.votes[record.content].push_back(
            {here,
             record.time_ns,
             record.detail,
             record.epoch,
             record.digest,
             static_cast<Voted>(record.code),
             {member_.incarnation, record.slot, record.counter}});
        return;
      case Kind::kContribution:
        history_.contributions[record.content] = {here,         record.digest, record.counter,
                                                  record.flags, member_,       Sighting::kNone};
        return;
      case Kind::kGathered:
      case Kind::kPart:
        return Gather(here, record);
      case Kind::kExpelled:
        history_.expulsions.push_back({here,
                                       record.time_ns,
                                       {member_.incarnation, record.slot, record.detail},
                                       record.epoch});
        return;
      case Kind::kRaised:
        Raised(record);
        return;
      default:
        return;
    }
  }

  // A pin that was never given up was held when the process logged something for the last time.
  void Finish(std::int64_t last_ns) {
    if (!pin_.has_value()) return;
    pin_->to_ns = last_ns;
    history_.pins.push_back(*pin_);
  }

 private:
  void Begin(Place here, const Record& record) {
    Operated operated{.operation = record.operation,
                      .begin = here,
                      .begin_ns = record.time_ns,
                      .about = record.epoch,
                      .content = record.content,
                      .flags = record.flags,
                      .member = member_};
    latest_ = static_cast<std::uint32_t>(history_.operations.size());
    open_ = true;
    history_.operations.push_back(operated);
    if (record.operation == Operation::kCollective) {
      history_.contributions[record.content].operation = latest_;
    }
    if (const auto member = history_.members.find(member_);
        record.operation == Operation::kPark && member != history_.members.end()) {
      member->second.parked.emplace_back(record.time_ns, INT64_MAX);
    }
  }

  // Its participant had its slot after the operation began; and by its end it is not parked.
  void Served(const Operated& operated) {
    const auto found = history_.members.find(operated.member);
    if (found == history_.members.end() || operated.code != 0 || !NeedsSlot(operated.operation)) {
      return;
    }
    Member& member = found->second;
    member.active_ns = std::max(member.active_ns, operated.begin_ns);
    if (operated.operation == Operation::kPark || member.parked.empty()) return;
    member.parked.back().second = std::min(member.parked.back().second, operated.end_ns);
  }

  void Gather(Place here, const Record& record) {
    if (record.kind == Kind::kGathered) {
      Gathered& gathered = history_.gathered[record.content];
      gathering_ = gathered.known() && gathered.count != 0 ? nullptr : &gathered;
      if (gathering_ == nullptr) return;
      gathered = {here, record.digest, record.counter, member_.incarnation, record.detail, {}};
    } else if (gathering_ != nullptr && !gathering_->known()) {
      gathering_->parts.push_back({record.content, record.digest, record.slot, record.detail});
    }
  }

  void End(Place here, const Record& record) {
    if (!std::exchange(open_, false)) return;
    Operated& operated = history_.operations[latest_];
    operated.end = here;
    operated.end_ns = record.time_ns;
    operated.code = record.code;
    operated.epoch = record.epoch;
    operated.told_rejected = (record.flags & kToldRejected) != 0;
    operated.rejecter_slot = record.slot;
    operated.rejecter = static_cast<std::uint32_t>(record.detail);
    Served(operated);
    if (Commits(record.operation) && draft_.has_value()) {
      const auto draft = history_.drafts.find(*draft_);
      operated.drafted = true;
      operated.content = *draft_;
      operated.expected = draft->second.expected;
      const bool awaits =
          record.operation != Operation::kPropose && record.operation != Operation::kProposeUpdate;
      if (record.code == 0) {
        history_.claims.push_back(
            {here, record.epoch, *draft_, member_.incarnation, /*committed=*/awaits});
      } else if (NothingChanged(record.code) || (record.flags & kToldUnchanged) != 0) {
        draft->second.refused = true;
        draft->second.refused_at = here;
      }
      draft_.reset();
    } else if (draft_.has_value() &&
               (record.operation == Operation::kDropDraft ||
                (record.operation == Operation::kNewDraft && record.code != 0))) {
      Drafted& draft = history_.drafts.at(*draft_);
      draft.refused = true;
      draft.refused_at = here;
      draft_.reset();
    } else if (record.operation == Operation::kAwaitTicket && record.code == 0) {
      history_.claims.push_back(
          {here, operated.about, operated.content, member_.incarnation, /*committed=*/true});
    } else if (record.operation == Operation::kPin && record.code == 0) {
      pin_ = Held{here, operated.begin_ns, record.time_ns, INT64_MAX, record.epoch, member_};
    }
  }

  void Draft(Place here, const Record& record) {
    // An update that drafts once more was told that its draft before came too late.
    if (draft_.has_value() && open_ && drafted_inside_) {
      Drafted& before = history_.drafts.at(*draft_);
      before.refused = true;
      before.refused_at = here;
    }
    draft_ = record.content;
    drafted_inside_ = open_;
    history_.drafts.emplace(record.content, Drafted{.place = here,
                                                    .digest = record.digest,
                                                    .expected = record.epoch,
                                                    .previous = record.detail,
                                                    .counter = record.counter,
                                                    .flags = record.flags,
                                                    .member = member_});
  }

  void Seen(Place here, const Record& record) {
    const auto index = static_cast<std::uint32_t>(history_.sightings.size());
    Sighting sighting{here,           record.epoch, record.content, record.digest,
                      record.counter, record.kind,  latest_,        Sighting::kNone};
    if (record.kind == Kind::kSeenAccepted) {
      accepted_ = index;
    } else if (record.kind == Kind::kSeenAgain) {
      sighting.same_as = open_ ? accepted_ : seen_;
    } else if (latest_ != Sighting::kNone &&
               history_.operations[latest_].operation == Operation::kPinNested) {
      sighting.same_as = seen_;
    } else {
      seen_ = index;
    }
    if (record.kind != Kind::kSeenAgain) {
      history_.claims.push_back(
          {here, record.epoch, record.content, member_.incarnation, record.kind == Kind::kSeen});
    }
    history_.sightings.push_back(sighting);
  }

  void Raised(const Record& record) {
    Fate& fate = history_.fates[serial_];
    if (record.detail == SIGKILL) fate.killed_ns = record.time_ns;
    if (record.detail == SIGSTOP) fate.stops.emplace_back(record.time_ns, INT64_MAX);
  }

  // Codes of a commit after which, as the README's table of errors says, nothing has changed.
  static bool NothingChanged(std::uint16_t code) {
    constexpr std::uint16_t kFailedPrecondition = 9, kResourceExhausted = 8, kAborted = 10,
                            kOutOfRange = 11;
    return code == kAborted || code == kResourceExhausted || code == kOutOfRange ||
           code == kFailedPrecondition;
  }

  History& history_;
  const std::uint32_t serial_;
  Membership member_;
  bool open_ = false;  // an operation has begun and not ended; they do not nest
  std::uint32_t latest_ = Sighting::kNone;
  std::optional<std::uint64_t> draft_;  // not decided yet
  bool drafted_inside_ = false;         // by the operation itself: an update
  std::optional<Held> pin_;
  Gathered* gathering_ = nullptr;
  std::uint32_t seen_ = Sighting::kNone;      // under the outermost pin
  std::uint32_t accepted_ = Sighting::kNone;  // by the update
};

void TakeDriversWord(History& history, std::uint32_t index, const Record& record) {
  const Place here{0, index};
  Fate& fate = history.fates[record.slot];
  switch (record.kind) {
    case Kind::kKilled:
      fate.killed_ns = std::min(fate.killed_ns, record.time_ns);
      break;
    case Kind::kStopped:
      fate.stops.emplace_back(record.time_ns, INT64_MAX);
      break;
    case Kind::kResumed:
      for (auto& [from, to] : fate.stops) {
        if (from <= record.time_ns) to = std::min(to, record.time_ns);
      }
      break;
    case Kind::kExited:
      fate.exited = true;
      fate.wait_status = record.detail;
      break;
    case Kind::kHung:
      fate.hung = true;
      break;
    case Kind::kRestored:
      history.restores.push_back({here, record.time_ns, record.epoch});
      history.claims.push_back({here, record.epoch, record.content, kNothing, true});
      history.sightings.push_back(
          {here, record.epoch, record.content, record.digest, record.counter, record.kind});
      break;
    case Kind::kAuditFailed:
      history.audit_failures.push_back(here);
      break;
    default:
      break;
  }
}

}  // namespace

History History::Of(const Logs& logs) {
  History history;
  history.logs = logs;
  for (const auto& [serial, records] : logs) {
    if (serial == 0) continue;
    Walk walk(history, serial);
    for (std::uint32_t i = 0; i < records.size(); ++i) walk.Take(i, records[i]);
    if (!records.empty()) walk.Finish(records.back().time_ns);
  }
  if (const auto driver = logs.find(0); driver != logs.end()) {
    for (std::uint32_t i = 0; i < driver->second.size(); ++i) {
      TakeDriversWord(history, i, driver->second[i]);
    }
    history.fates.erase(0);
  }
  return history;
}

bool Member::In(std::int64_t from_ns, std::int64_t to_ns) const {
  return joined_ns < from_ns && active_ns >= to_ns &&
         std::ranges::none_of(parked, [&](const auto& interval) {
           return interval.first <= to_ns && interval.second >= from_ns;
         });
}

bool MakesState(Operation operation) {
  return Commits(operation) || operation == Operation::kNewDraft ||
         operation == Operation::kDropDraft || operation == Operation::kCollective;
}

bool NeedsSlot(Operation operation) {
  return MakesState(operation) || operation == Operation::kPin || operation == Operation::kPark ||
         operation == Operation::kPoll || operation == Operation::kPollPinned ||
         operation == Operation::kAwaitConverged;
}

std::string History::Tell(Place place) const {
  const Record& record = At(place);
  std::string text = place.serial == 0 ? "driver" : fmt::format("process {}", place.serial);
  text += fmt::format(", record {}, {:.6f} s: ", place.index,
                      static_cast<double>(record.time_ns) / 1e9);
  const auto state = [&](const char* what) {
    return fmt::format("{} epoch {}, content {}, digest {:016x}", what, record.epoch,
                       NameOf(record.content), record.digest);
  };
  switch (record.kind) {
    case Kind::kBegin:
      return text + fmt::format("{} began", NameOf(record.operation));
    case Kind::kEnd:
      return text + fmt::format("{} ended, code {}, epoch {}", NameOf(record.operation),
                                record.code, record.epoch);
    case Kind::kDraft:
      return text + fmt::format("drafted content {}", NameOf(record.content));
    case Kind::kContribution:
      return text + fmt::format("contributes {} to tag {}", NameOf(record.content), record.counter);
    case Kind::kVote: {
      constexpr const char* kSays[] = {"puts off", "accepts", "rejects"};
      return text + fmt::format("slot {}, generation {} {} ballot {}, epoch {}, content {}",
                                record.slot, record.counter, kSays[record.code % 3], record.detail,
                                record.epoch, NameOf(record.content));
    }
    case Kind::kGathered:
      return text +
             fmt::format("saw the parts of {}, tag {}", NameOf(record.content), record.counter);
    case Kind::kJoined:
      return text + fmt::format("joined as slot {}, generation {}", record.slot, record.detail);
    case Kind::kSeen:
    case Kind::kSeenAgain:
      return text + state("saw");
    case Kind::kSeenAccepted:
      return text + state("was handed");
    case Kind::kRestored:
      return text + state("restored");
    case Kind::kExpelled:
      return text + fmt::format("had expelled slot {}, generation {}; tail at {}", record.slot,
                                record.detail, record.epoch);
    case Kind::kUnpinned:
      return text + "was about to unpin";
    case Kind::kAuditFailed:
      return text + fmt::format("audit, index {}, found {}", record.slot, record.detail);
    default:
      return text +
             fmt::format("kind {}, process {}", static_cast<unsigned>(record.kind), record.slot);
  }
}

LogDirectory::LogDirectory(const std::string& directory) {
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const std::string name = entry.path().filename();
    std::uint32_t serial = 0;
    if (name.starts_with("process-") && name.ends_with(".log")) {
      serial = static_cast<std::uint32_t>(std::atoi(name.c_str() + 8));
    } else if (name != "driver.log") {
      continue;
    }
    // Moving a reader does not move what it maps.
    logs_[serial] = readers_.emplace_back(entry.path()).records();
  }
}

}  // namespace epoch::stress
