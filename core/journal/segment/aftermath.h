// What is left to do after a roll, off the way of those who commit: the seal of the segment that
// was left, the next one's own name made durable, and then the sweeps.
//
// Killed at any point: the next roll's aftermath, or a recovery, sweeps what this one left. Until
// then the next segment can be found by its spare's name (begun.h).
#ifndef EPOCH_CORE_JOURNAL_SEGMENT_AFTERMATH_H_
#define EPOCH_CORE_JOURNAL_SEGMENT_AFTERMATH_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/files/disk.h"
#include "core/files/write_queue.h"
#include "core/journal/segment/retention.h"
#include "core/journal/segment/segment.h"

namespace epoch::journal {

// Thread safety: external.
class Aftermath {
 public:
  explicit Aftermath(const Retention& kept) : kept_(kept) {}

  static constexpr std::uint64_t kTag = 1'001;  // of its entries in the queue

  // Where the seal of the segment that is left is to be built, one block; null while it is still on
  // its way: then that one is begun without a seal.
  std::byte* seal() { return queued_ == Queued::kSeal ? nullptr : seal_.data(); }
  // This process has rolled from `old` to `next`, which begins at `base_epoch`. `seal_block`: where
  // the seal goes; 0: none.
  void Begin(const std::string& directory, const Id& journal, OpenSegment old,
             std::uint64_t seal_block, const OpenSegment& next, Epoch base_epoch);
  bool pending() const { return step_ != Step::kOver || queued_ != Queued::kNothing; }

  enum class News { kNone, kNamed, kFailed };
  // The first time does nothing: the commit that rolled has waited long enough. Then puts the next
  // step into the queue; does it, and the rest, at once if there is no queue to be had. kNamed: the
  // own name of segment number() is durable now. kFailed: it cannot be known to be.
  News Continue(WriteQueue& queue);
  // A step that was in the queue is done, with that result.
  News Finished(int result);
  std::uint64_t number() const { return number_; }
  // What is in the queue cannot be waited for: its memory must never be used again.
  void Leak() { seal_.Leak(); }

  // In a fork child: all of it is the parent's.
  void AfterForkInChild();

 private:
  enum class Step { kBegun, kSeal, kName, kSweep, kOver };
  enum class Queued { kNothing, kSeal, kSync, kUnlink };

  News Named(int error);
  void Sweep(WriteQueue& queue);
  void Removed(int error);
  int RemoveOldest();  // 0, or an errno
  // Whether the segment has its name in that directory. It has not if others went on and retired
  // it, which then sweep; or if somebody has put another journal there, or an older copy of this
  // one, in which nothing must be touched.
  bool StillThere() const {
    return next_ != FileId{} && next_ == FileId::In(names_.get(), detail::NameIn(next_path_));
  }
  void End();

  const Retention kept_;
  Step step_ = Step::kOver;
  Queued queued_ = Queued::kNothing;  // what is in the queue
  bool again_ = false;                // begun anew since
  std::string directory_;
  Id journal_{};
  OpenSegment old_;
  ForkSafeFd names_;                 // the directory, which is synced and swept through this
  AlignedBuffer seal_{kBlockBytes};  // empty if there is no memory: then nothing is sealed
  std::uint64_t seal_block_ = 0;
  std::uint64_t number_ = 0;
  std::string next_path_;
  FileId next_;
  Epoch base_epoch_ = 0;
  // Names to be removed, the oldest last; which may be in the queue.
  std::vector<std::string> retired_;
};

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_SEGMENT_AFTERMATH_H_
