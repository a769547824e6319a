// What a region looks like right now, read without disturbing it: from a read-only mapping, without
// a slot, a lock or a store. Rendering is the caller's business.
//
// Thread safety: all functions. Progress: wait-free, O(participants + versions).
// A region in use changes while it is read; each field is true of some moment during the call.
#ifndef EPOCH_CORE_INSPECT_REGION_STATUS_H_
#define EPOCH_CORE_INSPECT_REGION_STATUS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "epoch/detail/protocol/slots.h"

namespace epoch::inspect {

struct ParticipantStatus {
  std::uint32_t slot = 0;
  std::uint64_t generation = 0;
  std::string name;  // printable, whatever bytes the slot holds
  std::uint32_t pid = 0;
  detail::SlotState state{};
  bool alive = false;    // what the kernel says: its lock is held
  bool stopped = false;  // alive, but not running (SIGSTOP, a debugger)
  bool voter = false;
  bool parked = false;
  bool flushes = false;  // writes the journal for others
  bool straggler = false;
  bool awaited = false;  // the vote under way waits for its answer, or for it to let go of its pin
  detail::Condition condition{};
  std::optional<Epoch> ack_epoch;
  std::optional<Epoch> pin_epoch;
  std::uint64_t lag = 0;  // epochs between its acknowledgment and head
};

// What tail has up for decision.
struct VoteStatus {
  Epoch epoch = 0;  // what it would become
  std::uint64_t ballot = 0;
  std::uint64_t token = 0;
  std::uint32_t proposer = 0;  // slot
  bool voters = false;         // all voters must accept
  bool fence = false;          // all readers must let go
  bool expel = false;          // whoever does not in time is expelled
  bool collective = false;
  bool forced = false;                  // somebody was expelled for it already
  bool draining = false;                // the fence is closed: nobody can pin now
  std::optional<std::int64_t> left_ns;  // until its deadline, if it has one; 0: it has passed
};

// Every cell is counted once, so these sum up to `total`.
struct VersionCounts {
  std::uint32_t total = 0;
  std::uint32_t free = 0;
  std::uint32_t drafted = 0;      // being written by a participant
  std::uint32_t accepted = 0;     // beyond head: waiting for the disk
  std::uint32_t current = 0;      // head, unless it is pinned
  std::uint32_t pinned = 0;       // committed, held by the pin of a participant
  std::uint32_t quarantined = 0;  // held by an expelled participant that still lives
  std::uint32_t guarded = 0;      // a refused proposal that a participant still looks at
  std::uint32_t superseded = 0;   // or refused; held by nobody: reclaimed when a draft needs it
  std::uint32_t damaged = 0;      // the owner word makes no sense
};

struct RegionStatus {
  std::string path;
  Epoch epoch = 0;
  Epoch tail_epoch = 0;
  detail::Phase phase{};
  detail::Phase tail_phase{};
  std::string incarnation;
  std::uint32_t layout_major = 0;
  std::uint32_t layout_minor = 0;
  std::int64_t created_unix_ns = 0;
  detail::Geometry geometry;
  std::uint64_t length_bytes = 0;  // of the committed state
  std::uint64_t digest = 0;
  std::uint64_t token = 0;
  bool durable = false;
  History history{};
  std::uint32_t retain_segments = 0;  // 0, both: all are kept
  std::uint64_t retain_epochs = 0;
  std::string journal;  // directory; empty in a volatile region
  bool forced = false;  // an unresponsive voter was expelled to get to this epoch
  std::optional<VoteStatus> vote;
  std::vector<ParticipantStatus> participants;
  VersionCounts versions;

  bool poisoned() const { return phase == detail::Phase::kPoisoned; }
};

RegionStatus InspectRegion(const detail::Mapping& mapping);

std::string_view NameOf(detail::Phase phase);
std::string_view NameOf(detail::SlotState state);
std::string_view NameOf(History history);
std::string_view NameOf(detail::Condition condition);

}  // namespace epoch::inspect

#endif  // EPOCH_CORE_INSPECT_REGION_STATUS_H_
