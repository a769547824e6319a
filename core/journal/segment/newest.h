// The newest segment: how a process that writes the journal gets hold of it, and how a restorer
// keeps all others from it.
//
// Both list the directory, open what is newest, take their lock, and list once more: only under the
// lock does the listing say who owns the journal (segment.h, Ownership).
//
// Thread safety: any number of processes and threads.
// Progress: AttachNewest waits for a restorer, at most 10 s; LockNewest for those who write, as
// long as it is told. A death lets go of its lock, so nobody waits for the dead.
#ifndef EPOCH_CORE_JOURNAL_SEGMENT_NEWEST_H_
#define EPOCH_CORE_JOURNAL_SEGMENT_NEWEST_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/journal/format/format.h"
#include "core/journal/segment/segment.h"
#include "epoch/detail/platform/files.h"

namespace epoch::journal {

// Opens the newest segment for writing, with a shared lock, and makes sure that it is still the
// newest and of that incarnation, and no copy. FailedPrecondition if it is not: "superseded", a
// copy, another journal. PermissionDenied: somebody else's, unless `trusted`. Its name need not be
// durable (AttachDurably).
absl::StatusOr<OpenSegment> AttachNewest(const std::string& directory, const Id& journal,
                                         const Id& incarnation,
                                         bool trusted = detail::trust_other_owners);

// Locks the newest segment exclusively: nobody can write to this journal while it is held.
// FailedPrecondition when processes are still attached after `timeout`: names them. AlreadyExists
// as soon as the journal's region turns out to live: `region_lives(header of that segment)`.
// Cancelled when `interrupted` says so. kAsk: only finds out whether it could be locked, with the
// same errors.
enum class Locking : std::uint8_t { kLock, kAsk };
absl::StatusOr<OpenSegment> LockNewest(
    const std::string& directory, absl::Duration timeout,
    const std::function<bool(const SegmentHeader&)>& region_lives = nullptr,
    bool trusted = detail::trust_other_owners, Locking locking = Locking::kLock,
    const std::function<bool()>& interrupted = nullptr);

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_SEGMENT_NEWEST_H_
