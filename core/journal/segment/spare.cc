#include "core/journal/segment/spare.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "epoch/detail/platform/blame.h"
#include "epoch/detail/platform/files.h"
#include "epoch/detail/platform/seam.h"

namespace epoch::journal {
namespace {

// Small enough that a commit does not wait long behind one; more, if commits are faster than that.
constexpr std::size_t kPieceBytes = std::size_t{128} << 10;
constexpr std::size_t kMostPieceBytes = std::size_t{1} << 20;

}  // namespace

std::string SparePath(const std::string& directory, const Id& journal, std::uint64_t number) {
  const std::string path = SegmentPath(directory, journal, number);
  return absl::StrCat(path.substr(0, path.rfind('.')), ".spare");
}

std::string SegmentOfSpare(const std::string& spare) {
  return absl::StrCat(spare.substr(0, spare.rfind('.')), ".segment");
}

FromSpare TakeSpare(const std::string& directory, const SegmentHeader& header,
                    std::span<const std::byte> base) {
  using Kind = FromSpare::Kind;
  OpenSegment segment;
  segment.number = header.segment;
  segment.path = SegmentPath(directory, header.journal, header.segment);
  absl::StatusOr<detail::Fd> fd = OpenDirect(SparePath(directory, header.journal, header.segment),
                                             O_RDWR | O_NONBLOCK, segment.direct);
  if (!fd.ok()) return {};
  struct stat info {};
  if (sys::fstat(fd->get(), &info) != 0 || !S_ISREG(info.st_mode) ||
      static_cast<std::uint64_t>(info.st_size) != header.capacity_blocks * kBlockBytes) {
    return {};
  }
  segment.fd = *std::move(fd);
  EPOCH_POINT("spare.opened");
  if (const absl::Status s = WriteBeginning(segment, header, base); !s.ok()) {
    return {detail::IsDevices(s, detail::Attempt::kWrite) ? Kind::kFailed : Kind::kNone, {}};
  }
  if (!LockShared(segment).ok()) return {};
  return {Kind::kTaken, std::move(segment)};
}

void SweepSpares(int directory, const Id& journal, std::uint64_t number) {
  const detail::Listing dir = detail::ListingOf(directory);
  if (dir == nullptr) return;
  while (const dirent* entry = sys::readdir(dir.get())) {
    const std::string name = entry->d_name;
    std::uint64_t of = 0;
    // "epoch-XXXXXXXX-NNNNNNNN.spare"
    if (name.size() == 29 && absl::StartsWith(name, "epoch-") && absl::EndsWith(name, ".spare") &&
        absl::SimpleAtoi(name.substr(15, 8), &of) && of <= number &&
        absl::StrCat("/", name) == SparePath("", journal, of)) {
      sys::unlinkat(sys::dirfd(dir.get()), entry->d_name, 0);
    }
  }
}

void Spare::Begin(const std::string& directory, const detail::Access& access,
                  std::uint64_t capacity_blocks) {
  step_ = Step::kOver;  // whatever fails: then there is none
  bool direct = false;
  absl::StatusOr<detail::Fd> fd = OpenUnnamedDirect(directory, access, direct);
  if (!fd.ok()) return;
  end_ = capacity_blocks * kBlockBytes;
  at_ = 0;
  if (Reserve(fd->get(), end_, "spare.allocate") != 0) return;
  if (zeros_.data() == nullptr) zeros_ = AlignedBuffer(kMostPieceBytes);
  if (zeros_.data() == nullptr) return;
  fd_ = *std::move(fd);
  step_ = Step::kZeros;
}

void Spare::Prepare(const std::string& directory, const Id& journal, const OpenSegment& current,
                    std::uint64_t capacity_blocks, double used, WriteQueue& queue) {
  if (busy_ || used < kFrom) return;
  if (number_ != current.number + 1) {
    number_ = current.number + 1;
    path_ = SparePath(directory, journal, number_);
    fd_ = ForkSafeFd();
    step_ = Step::kOver;
    if (sys::access(path_.c_str(), F_OK) == 0) return;  // somebody else's
    Begin(directory, detail::Access::Of(current.fd.get()), capacity_blocks);
  }
  switch (step_) {
    case Step::kZeros: {
      const double share = std::min(1.0, (used - kFrom) / (kUntil - kFrom));
      const auto due = static_cast<std::uint64_t>(share * static_cast<double>(end_));
      if (at_ > due) return;
      const std::uint64_t behind =
          std::clamp<std::uint64_t>(due - at_, kPieceBytes, kMostPieceBytes) & ~(kBlockBytes - 1);
      piece_bytes_ = static_cast<std::size_t>(std::min(behind, end_ - at_));
      busy_ = queue.Submit(fd_.get(), zeros_.data(), piece_bytes_, at_, /*durably=*/false, kTag);
      return;
    }
    case Step::kSync:
    case Step::kName:
      busy_ = queue.SubmitSync(fd_.get(), kTag);
      return;
    default:
      return;
  }
}

Spare::News Spare::Finished(int result) {
  busy_ = false;
  const Step done = std::exchange(step_, Step::kOver);  // whatever fails: then there is none
  switch (done) {
    case Step::kZeros:
      if (EPOCH_FAULT("spare.zeros") != 0) result -= static_cast<int>(kBlockBytes);  // short
      if (result != static_cast<int>(piece_bytes_)) break;
      at_ += piece_bytes_;
      step_ = at_ == end_ ? Step::kSync : Step::kZeros;
      return News::kNone;
    case Step::kSync: {
      if (EPOCH_FAULT("spare.synced") != 0 || result != 0) break;
      if (!detail::LinkUnnamed(fd_.get(), path_).ok()) break;  // another may have been faster
      EPOCH_POINT("spare.linked");
      const std::string directory = path_.substr(0, path_.rfind('/'));
      fd_ = detail::Fd(sys::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      if (!fd_.ok()) break;
      step_ = Step::kName;
      return News::kNone;
    }
    case Step::kName:
      fd_ = ForkSafeFd();
      if (const int fault = EPOCH_FAULT("spare.named"); fault != 0) result = -fault;
      if (result == 0) return News::kNamed;
      // Of its own trouble, or the queue's, the device knows nothing: then the name is not known to
      // be durable, and that is all.
      return detail::BlameFor(-result, detail::Attempt::kSync) == detail::Blame::kDevices
                 ? News::kFailed
                 : News::kNone;
    default:
      break;
  }
  fd_ = ForkSafeFd();
  return News::kNone;
}

void Spare::AfterForkInChild() {
  step_ = Step::kNone;
  busy_ = false;
  number_ = 0;
}

}  // namespace epoch::journal
