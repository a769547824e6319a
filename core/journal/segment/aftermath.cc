#include "core/journal/segment/aftermath.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/journal/segment/spare.h"
#include "epoch/detail/platform/blame.h"
#include "epoch/detail/platform/seam.h"

namespace epoch::journal {

void Aftermath::Begin(const std::string& directory, const Id& journal, OpenSegment old,
                      std::uint64_t seal_block, const OpenSegment& next, Epoch base_epoch) {
  // What is in the queue goes on; its result is of no use any more.
  again_ = queued_ != Queued::kNothing;
  directory_ = directory;
  journal_ = journal;
  old_ = std::move(old);
  seal_block_ = seal_block;
  number_ = next.number;
  next_path_ = next.path;
  next_ = FileId::Of(next.fd.get());
  base_epoch_ = base_epoch;
  step_ = Step::kBegun;
}

Aftermath::News Aftermath::Continue(WriteQueue& queue) {
  if (queued_ != Queued::kNothing) return News::kNone;
  if (step_ == Step::kBegun) {
    step_ = seal_block_ != 0 ? Step::kSeal : Step::kName;
    return News::kNone;
  }
  if (step_ == Step::kSeal) {
    const std::uint64_t at = seal_block_ * kBlockBytes;
    step_ = Step::kName;
    if (queue.Submit(old_.fd.get(), seal_.data(), kBlockBytes, at, /*durably=*/false, kTag)) {
      queued_ = Queued::kSeal;
      return News::kNone;
    }
    WriteFully(old_.fd.get(), seal_.data(), kBlockBytes, at, old_.path).IgnoreError();
  }
  if (step_ == Step::kName) {
    old_ = OpenSegment{};
    names_ = detail::Fd(sys::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    EPOCH_POINT("aftermath.sealed");
    if (!names_.ok()) return News::kNone;  // no descriptor to be had, say: the next time
    step_ = Step::kSweep;
    if (queue.SubmitSync(names_.get(), kTag)) {
      queued_ = Queued::kSync;
      return News::kNone;
    }
    const News news = Named(SyncAll(names_.get()));
    if (step_ == Step::kSweep) Sweep(queue);
    return news;
  }
  if (step_ == Step::kSweep) Sweep(queue);
  return News::kNone;
}

// One by one, through the queue: to free a large file takes milliseconds.
void Aftermath::Sweep(WriteQueue& queue) {
  while (!retired_.empty() && StillThere()) {
    if (queue.SubmitUnlink(names_.get(), retired_.back().c_str(), kTag)) {
      queued_ = Queued::kUnlink;
      return;
    }
    Removed(RemoveOldest());
  }
  retired_.clear();
  End();
}

int Aftermath::RemoveOldest() {
  return sys::unlinkat(names_.get(), retired_.back().c_str(), 0) == 0 ? 0 : errno;
}

void Aftermath::End() {
  names_ = ForkSafeFd();
  step_ = Step::kOver;
}

// What stays stays with all behind it, which hang on it: the next sweep tries again.
void Aftermath::Removed(int error) {
  if (error != 0 && error != ENOENT) {
    retired_.clear();
  } else {
    retired_.pop_back();
  }
}

Aftermath::News Aftermath::Finished(int result) {
  const bool again = std::exchange(again_, false);
  const bool failed =
      result < 0 && detail::BlameFor(-result, detail::Attempt::kSync) == detail::Blame::kDevices;
  switch (std::exchange(queued_, Queued::kNothing)) {
    case Queued::kSync:
      if (again) return failed ? News::kFailed : News::kNone;
      // Otherwise it was the queue's trouble, not the device's.
      if (result < 0 && !failed) return Named(SyncAll(names_.get()));
      return Named(-result);
    case Queued::kUnlink:
      if (result == -EINVAL) {  // an older kernel's queue
        Removed(RemoveOldest());
      } else {
        Removed(-result);
      }
      return News::kNone;
    default:
      return News::kNone;  // of the seal nothing hangs
  }
}

Aftermath::News Aftermath::Named(int error) {
  if (const int fault = EPOCH_FAULT("aftermath.named"); fault != 0) error = fault;
  if (error != 0) {
    End();
    // Otherwise it is this process that cannot: whoever attaches next makes the name durable.
    return detail::BlameFor(error, detail::Attempt::kSync) == detail::Blame::kDevices
               ? News::kFailed
               : News::kNone;
  }
  if (!StillThere()) {
    End();
    return News::kNone;
  }
  // Not the current one's, which is another name of a file that is being written: on ext4 the next
  // commit would wait until all that is removed here is.
  SweepSpares(names_.get(), journal_, number_ - 1);
  retired_ = RetiredSegments(names_.get(), directory_, journal_, number_, base_epoch_, kept_);
  std::reverse(retired_.begin(), retired_.end());
  return News::kNamed;
}

void Aftermath::AfterForkInChild() {
  step_ = Step::kOver;
  queued_ = Queued::kNothing;
  again_ = false;
  retired_.clear();
}

}  // namespace epoch::journal
