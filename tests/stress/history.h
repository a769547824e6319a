// The history of a round, put together from the logs alone: operations, what was drafted, what was
// seen, and what became of each process.
//
// "Claims" are statements of a process that an epoch has a certain content. A *committed* claim is
// for good, in this incarnation of the region and all later ones. An *accepted* one counts as long
// as this incarnation lives: what was accepted, but not visible, may be gone after a restore.
#ifndef EPOCH_TESTS_STRESS_HISTORY_H_
#define EPOCH_TESTS_STRESS_HISTORY_H_

#include <climits>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "stress/log.h"
#include "stress/record.h"

namespace epoch::stress {

// A record: which process's, and which one.
struct Place {
  std::uint32_t serial = 0;
  std::uint32_t index = 0;
};

// One owner of one slot.
struct Membership {
  std::uint64_t incarnation = 0;
  std::uint32_t slot = 0;
  std::uint64_t generation = 0;
  auto operator<=>(const Membership&) const = default;
};

struct Operated {
  Operation operation = Operation::kNone;
  Place begin{}, end{};
  std::int64_t begin_ns = 0;
  std::int64_t end_ns = INT64_MAX;  // INT64_MAX: it never ended
  std::uint16_t code = 0;
  std::uint64_t epoch = 0;    // the result
  std::uint64_t about = 0;    // the epoch awaited
  std::uint64_t content = 0;  // committed, or awaited
  std::uint64_t expected = kNothing;
  bool drafted = false;     // `content` and `expected` are of a draft
  std::uint32_t flags = 0;  // how it was to be committed
  bool told_rejected = false;
  std::uint32_t rejecter_slot = 0;
  std::uint32_t rejecter = 0;  // serial; 0: it was not named
  Membership member{};

  bool ended() const { return end_ns != INT64_MAX; }
  bool ok() const { return ended() && code == 0; }
};

struct Drafted {
  Place place{};
  std::uint64_t digest = 0;
  std::uint64_t expected = kNothing;
  std::uint64_t previous = kNothing;
  std::uint64_t counter = 0;
  std::uint32_t flags = 0;
  Membership member{};
  // A later draft of the same update, a refusal or a drop: it must never be seen.
  bool refused = false;
  Place refused_at{};
};

struct Claim {
  Place place{};
  std::uint64_t epoch = 0;
  std::uint64_t content = 0;
  std::uint64_t incarnation = 0;
  bool committed = false;
};

struct Sighting {
  Place place{};
  std::uint64_t epoch = 0;
  std::uint64_t content = 0;
  std::uint64_t digest = 0;
  std::uint64_t counter = 0;
  Kind kind = Kind::kNone;
  std::uint32_t operation = kNone;  // during or after which it was seen: index
  std::uint32_t same_as = kNone;    // the sighting that this one must repeat: index

  static constexpr std::uint32_t kNone = UINT32_MAX;
};

struct Expulsion {
  Place place{};
  std::int64_t time_ns = 0;
  Membership member{};
  std::uint64_t tail = 0;  // read afterwards
};

// One owner of one slot, as its process logged it.
struct Member {
  Place place{};
  std::int64_t joined_ns = 0;
  bool voter = false;
  // It surely had its slot until then: an operation that needs one began, and was served.
  std::int64_t active_ns = INT64_MIN;
  std::vector<std::pair<std::int64_t, std::int64_t>> parked{};  // perhaps

  // Whether it was surely in, and not parked, for all of that time.
  bool In(std::int64_t from_ns, std::int64_t to_ns) const;
};

struct Vote {
  Place place{};
  std::int64_t time_ns = 0;
  std::uint64_t ballot = 0;
  std::uint64_t epoch = 0;  // that it would become
  std::uint64_t digest = 0;
  Voted voted = Voted::kLater;
  Membership member{};
};

// What one participant gave to a collective commit, and what it was told.
struct Contributed {
  Place place{};
  std::uint64_t digest = 0;
  std::uint64_t tag = 0;
  std::uint32_t flags = 0;
  Membership member{};
  std::uint32_t operation = UINT32_MAX;  // index
};

// A state that a collective commit put together.
struct Gathered {
  struct Part {
    std::uint64_t content = 0;
    std::uint64_t digest = 0;
    std::uint32_t slot = 0;
    std::uint64_t generation = 0;
  };
  Place place{};
  std::uint64_t digest = 0;
  std::uint64_t tag = 0;
  std::uint64_t incarnation = 0;
  std::uint64_t count = 0;  // kNothing: it does not add up
  std::vector<Part> parts{};

  // Whoever logged it was not killed half-way.
  bool known() const { return parts.size() == count; }
};

// A pin from when it was surely held to when it was about to be released.
struct Held {
  Place place{};
  std::int64_t begun_ns = 0;  // when it was asked for
  std::int64_t from_ns = 0;
  std::int64_t to_ns = 0;
  std::uint64_t epoch = 0;
  Membership member{};
};

struct Fate {
  std::int64_t killed_ns = INT64_MAX;
  bool exited = false;
  std::uint64_t wait_status = 0;
  bool hung = false;
  std::vector<std::pair<std::int64_t, std::int64_t>> stops{};
};

struct Restored {
  Place place{};
  std::int64_t time_ns = 0;
  std::uint64_t epoch = 0;
};

// An operation that must be refused when it begins after its participant was expelled.
bool NeedsSlot(Operation operation);
// One that makes a new state.
bool MakesState(Operation operation);

struct History {
  // By serial number; 0 is the driver's.
  using Logs = std::map<std::uint32_t, std::span<const Record>>;
  static History Of(const Logs& logs);

  Logs logs;
  std::vector<Operated> operations;
  std::unordered_map<std::uint64_t, Drafted> drafts;             // by id
  std::unordered_map<std::uint64_t, std::vector<Vote>> votes;    // by content
  std::unordered_map<std::uint64_t, Contributed> contributions;  // by id
  std::unordered_map<std::uint64_t, Gathered> gathered;          // by content
  std::map<Membership, Member> members;
  std::vector<Claim> claims;
  std::vector<Sighting> sightings;
  std::vector<Expulsion> expulsions;
  std::vector<Held> pins;
  std::map<std::uint32_t, Fate> fates;
  std::vector<Restored> restores;
  std::vector<Place> audit_failures;

  // Whether that participant surely had its slot at that time.
  bool SurelyActive(const Membership& member, std::int64_t time_ns) const {
    const auto found = members.find(member);
    return found != members.end() && found->second.active_ns >= time_ns;
  }
  const Record& At(Place place) const { return logs.at(place.serial)[place.index]; }
  // "process 3, record 17: commit ended, code 0, epoch 9 at 12.345678 s".
  std::string Tell(Place place) const;
};

// A directory of logs, kept mapped.
class LogDirectory {
 public:
  explicit LogDirectory(const std::string& directory);
  const History::Logs& logs() const { return logs_; }

 private:
  std::vector<LogReader> readers_;
  History::Logs logs_;
};

}  // namespace epoch::stress

#endif  // EPOCH_TESTS_STRESS_HISTORY_H_
