#include "core/journal/aftermath.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/journal/spare.h"
#include "epoch/detail/seam.h"

namespace epoch::journal {

void Aftermath::Begin(const std::string& directory, const Id& journal, OpenSegment old,
                      std::uint64_t seal_block, std::uint64_t number, std::uint64_t first_kept) {
  // What is in the queue goes on; its result is of no use any more.
  again_ = busy_;
  directory_ = directory;
  journal_ = journal;
  old_ = std::move(old);
  seal_block_ = seal_block;
  number_ = number;
  first_kept_ = std::max(first_kept_, first_kept);
  step_ = Step::kBegun;
}

Aftermath::News Aftermath::Continue(WriteQueue& queue) {
  if (busy_) return News::kNone;
  if (step_ == Step::kBegun) {
    step_ = seal_block_ != 0 ? Step::kSeal : Step::kName;
    return News::kNone;
  }
  if (step_ == Step::kSeal) {
    const std::uint64_t at = seal_block_ * kBlockBytes;
    step_ = Step::kName;
    busy_ = queue.Submit(old_.fd.get(), seal_.data(), kBlockBytes, at, /*durably=*/false, kTag);
    if (busy_) return News::kNone;
    WriteFully(old_.fd.get(), seal_.data(), kBlockBytes, at, old_.path).IgnoreError();
  }
  if (step_ == Step::kName) {
    old_ = OpenSegment{};
    names_ = detail::Fd(sys::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    EPOCH_POINT("aftermath.sealed");
    if (!names_.ok()) return News::kNone;  // no descriptor to be had, say: the next time
    step_ = Step::kOver;
    busy_ = syncing_ = queue.SubmitSync(names_.get(), kTag);
    if (!busy_) return Named(sys::fsync(names_.get()) == 0 ? 0 : errno);
  }
  return News::kNone;
}

Aftermath::News Aftermath::Finished(int result) {
  busy_ = false;
  const bool again = std::exchange(again_, false);
  if (!std::exchange(syncing_, false)) return News::kNone;  // of the seal nothing hangs
  const bool failed = result < 0 && !IsTransient(-result);
  if (again) return failed ? News::kFailed : News::kNone;
  // Otherwise it was the queue's trouble, not the device's.
  if (result < 0 && !failed) return Named(sys::fsync(names_.get()) == 0 ? 0 : errno);
  return Named(-result);
}

Aftermath::News Aftermath::Named(int error) {
  names_ = ForkSafeFd();
  const int fault = EPOCH_FAULT("aftermath.named");
  if (error != 0 || fault != 0) return News::kFailed;
  SweepSpares(directory_, journal_, number_);
  SweepSegments(directory_, journal_, std::exchange(first_kept_, 0));
  return News::kNamed;
}

void Aftermath::AfterForkInChild() {
  step_ = Step::kOver;
  busy_ = syncing_ = again_ = false;
  first_kept_ = 0;
}

}  // namespace epoch::journal
