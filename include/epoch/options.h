// Plain option structs of the public interface.
#ifndef EPOCH_OPTIONS_H_
#define EPOCH_OPTIONS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "epoch/types.h"

namespace epoch {

// Asked about ten times a second by a call that waits, first when it has waited for a tenth: true
// ends the wait, and the call returns Cancelled (or what it waited for, if that came first), with
// the outcome in its Details. So a signal handler that sets a flag ends a wait within 200 ms. Not
// asked while the disk is written to, a validator runs or the state is copied: that cannot be
// interrupted. Called by the thread that waits. It may look at anything, but must call nothing of
// its participant, and must not throw.
using Interrupted = std::function<bool()>;

struct RegionOptions {
  // Geometry; used when the region is created, ignored when it is opened. Memory is taken whole
  // when the region is created: about state_bytes x versions, and 1 KiB for each participant.
  std::uint64_t state_bytes = 64 * 1024;  // largest state, bytes
  std::uint32_t participants = 64;        // slots, at most 4,096
  std::uint32_t versions = 128;           // cells, 4 to 8,191: one per state that may be in use at
                                          // once (head, pinned, drafted, waiting for the disk)
  // Permission bits of the region and the journal's files, whatever the umask is. Whoever may not
  // write to the region can only open it read_only: to join is to write. Their group is as the
  // system has it: a setgid folder's, or the process's. Not given: 0600; for a region that is
  // restored, mode and group of the journal's newest file, which what is made in a journal has
  // always. Who may not give a file that group gives its own no more than all others have.
  std::optional<unsigned> mode{};

  // A directory makes the region durable. Needs the compiled part (epoch/journal.h). When a
  // region is opened: where its journal is, if that is not where it was when the region was made
  // (mounted elsewhere, say); FailedPrecondition if the region has no journal, or another one.
  std::string journal{};
  History history = History::kAll;
  std::uint64_t segment_bytes = 0;  // size of a journal file; 0: 16 MiB or what a state needs
  // Which older segments are kept; each begins with a full state, so recovery needs none of them. A
  // segment goes when neither of these asks for it. Both 0: all stay (kAll), or one (kLatest).
  std::uint32_t retain_segments = 0;  // so many, so `segment_bytes` for each
  std::uint64_t retain_epochs = 0;    // those with one of the last so many epochs
  // How long to wait for processes that still hold the journal, before restoring from it.
  absl::Duration restore_timeout = absl::Seconds(10);

  // Restore although a block behind the last good batch is damaged in a way that no crash explains:
  // an acknowledged epoch may be lost.
  bool ignore_block_damage = false;

  // Ends the wait of `restore_timeout`: Cancelled, with nothing changed.
  Interrupted interrupted{};

  bool read_only = false;  // map read-only: inspection; such a process cannot join

  // A region, a journal's directory and its files are refused (PermissionDenied) if they belong to
  // neither the effective user nor root: who owns a file may have put anything there. True: not so.
  // For regions that several users write to; for root, to look after those of others; and where a
  // user namespace shows owners that it does not know as nobody (65534). See SECURITY.md.
  bool trust_other_owners = detail::trust_other_owners;
};

struct JoinOptions {
  std::string name{};  // shown by the tools, at most 63 bytes
  bool voter = false;  // counts in voted transitions
  // Neither a pin nor Poll nor a listener acknowledges: only Participant::Acknowledge does. For one
  // that has not adopted a state yet when it has seen it.
  bool acknowledges_by_hand = false;
  // In a durable region: Propose waits while so many epochs are accepted and not durable yet. 0: as
  // many as the region has versions for.
  std::uint32_t window = 0;
};

// Who has to agree before a transition counts.
enum class Agreement : std::uint8_t {
  kNone,  // nobody: the first one to propose e+1 has made it
  // Every participant that joined as a voter, is in, and is not parked. A voter that proposes
  // agrees by that: its own validator is not asked.
  kAllVoters,
};

// What becomes of those who have not answered, or not let go of an older epoch, in time.
enum class Straggler : std::uint8_t {
  kAbort,  // the transition is given up
  // They are expelled, and the transition is marked as forced for ever: also if the one that was to
  // be expelled left by itself at that moment.
  kExpel,
};

struct CommitOptions {
  // Commit only as the direct successor of this epoch; otherwise succeed whatever is newest.
  std::optional<Epoch> expected = std::nullopt;
  Agreement agreement = Agreement::kNone;
  // With kAllVoters: at least so many voters must have accepted, and still be in, when it is
  // decided; FailedPrecondition otherwise, with nothing changed. A proposer that is a voter counts.
  // Unset: one; or, with Straggler::kExpel, somebody was expelled for its sake. With a number,
  // nobody is expelled if fewer would be left: DeadlineExceeded, which names the straggler. So
  // somebody had a say, or is known not to have had it: "all voters accepted" is true of none, and
  // workers that are being restarted must not let a state pass unseen. A voter that is left alone
  // by the deaths of the others can go on; ask for 2 if that is not wanted. 0: nobody need be in.
  // Whoever waits for voters to come proposes again.
  std::optional<std::uint32_t> min_voters = std::nullopt;
  // Visible only when no participant pins an earlier epoch.
  bool fence = false;
  Straggler on_straggler = Straggler::kAbort;
  // How long to wait: until it is accepted (for a vote or a fence, then `on_straggler` decides);
  // and as long again until it is visible. When it passes in a durable region the state may already
  // be accepted: the error says so.
  absl::Duration timeout = absl::InfiniteDuration();
  std::uint64_t token = 0;  // the application's own tag, kept in the version and the journal
  // Ends the waits of the whole call. Behind the acceptance the transition stays accepted, and the
  // error says so. One that is up for a vote is taken back if it is not decided yet (nothing
  // changed).
  Interrupted interrupted{};
};

// For calls that only wait.
struct WaitOptions {
  absl::Duration timeout = absl::InfiniteDuration();
  Interrupted interrupted{};
};

struct CollectiveOptions {
  // Given up when it passes; or with kExpel, done without those who did not contribute, unless that
  // leaves another number than `contributions`.
  absl::Duration timeout = absl::InfiniteDuration();
  Straggler on_straggler = Straggler::kAbort;
  // Exactly so many contributions make it complete. 0: one of each voter that is in.
  std::uint32_t contributions = 0;
  bool fence = false;
  // This participant withdraws, which ends it for all; once it is decided, only its own wait for
  // the disk ends.
  Interrupted interrupted{};
};

namespace detail {

// Options of which nothing is set: made once, and never destroyed. As a default argument they would
// be made, and destroyed, at each call. (A static object would keep a child that is forked while
// another thread makes it waiting for ever.)
template <typename Options>
const Options& Unset() {
  static constinit std::atomic<const Options*> unset{nullptr};
  const Options* made = unset.load(std::memory_order_acquire);
  if (made == nullptr) [[unlikely]] {
    const Options* const fresh = new Options();
    if (unset.compare_exchange_strong(made, fresh, std::memory_order_acq_rel)) return *fresh;
    delete fresh;
  }
  return *made;
}

}  // namespace detail

enum class Stage {
  kCommitted,  // head has reached the epoch: visible to all, durable if the region is
  kConverged,  // and every live participant that is not parked has acknowledged it
};

}  // namespace epoch

#endif  // EPOCH_OPTIONS_H_
