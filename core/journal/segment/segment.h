// Segment files: names, making one, giving it its name. How a process gets hold of one: newest.h.
//
// Ownership. Every process that may write a segment holds a shared lock on the very description
// that it writes through; a restorer needs it exclusively. The kernel gives a dead process's lock
// away only when its last write has landed: that is the fence between incarnations.
// A segment gets its name when it is complete and synced, and is never renamed, reused or appended
// to by a later incarnation.
#ifndef EPOCH_CORE_JOURNAL_SEGMENT_SEGMENT_H_
#define EPOCH_CORE_JOURNAL_SEGMENT_SEGMENT_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "core/files/disk.h"
#include "core/journal/format/format.h"
#include "epoch/detail/platform/files.h"
#include "epoch/detail/platform/fork.h"

namespace epoch::journal {

struct SegmentFile {
  std::uint64_t number;
  std::string path;
  std::uint64_t bytes;
};

// "<dir>/epoch-<first 8 hex digits of the journal id>-<number, 8 digits>.segment"
std::string SegmentPath(const std::string& directory, const Id& journal, std::uint64_t number);

// Which file it is, whatever its name. An inode of 0: none.
struct FileId {
  std::uint64_t device = 0, inode = 0;

  static FileId Of(int fd);
  static FileId At(const std::string& path);
  static FileId In(int directory, const std::string& name);  // follows no link
  friend bool operator==(const FileId&, const FileId&) = default;
};
// Whether what is open is what has that name.
bool SameFile(int fd, const std::string& path);

// All segment files, by number. NotFound if there is no such directory; DataLoss if two journals
// are mixed in it.
absl::StatusOr<std::vector<SegmentFile>> ListSegments(const std::string& directory);
// The same of a directory that is open, and was found as `directory`.
absl::StatusOr<std::vector<SegmentFile>> ListSegmentsIn(int at, const std::string& directory);

// Reads and checks block 0. DataLoss (damaged, foreign), Unimplemented (another format version).
absl::StatusOr<SegmentHeader> ReadSegmentHeader(int fd, const std::string& path);

// A descriptor that a fork child does not keep: its description carries a lock that must not
// outlive the process that took it.
class ForkSafeFd {
 public:
  ForkSafeFd() = default;
  ForkSafeFd(detail::Fd fd) : node_(std::make_unique<Node>(std::move(fd))) {}  // NOLINT: implicit
  int get() const { return node_ == nullptr ? -1 : node_->fd.get(); }
  bool ok() const { return get() >= 0; }

 private:
  struct Node final : detail::ForkAware {
    explicit Node(detail::Fd given) : fd(std::move(given)) { Register(); }
    ~Node() { Unregister(); }
    void AfterForkInChild() noexcept override { fd.Close(); }
    detail::Fd fd;
  };
  std::unique_ptr<Node> node_;
};

// An open segment with a lock on it.
struct OpenSegment {
  ForkSafeFd fd;
  std::uint64_t number = 0;
  std::string path;
  bool direct = false;
};

// Makes a complete segment (header, base state, zeros), synced, with a shared lock, and no name
// yet. ResourceExhausted when there is no room; then nothing is left behind.
absl::StatusOr<OpenSegment> MakeSegment(const std::string& directory, const detail::Access& access,
                                        const SegmentHeader& header,
                                        std::span<const std::byte> base);
// Its steps. The header and the base, durably; the lock that says: somebody works here.
absl::Status WriteBeginning(const OpenSegment& segment, const SegmentHeader& header,
                            std::span<const std::byte> base);
absl::Status LockShared(const OpenSegment& segment);

// Makes durable what was read at `offset` of a segment that others wrote, by writing the same bytes
// once more. A sync would not do: after one that failed, in a process that is gone, what was never
// written is in the page cache all the same, and the next sync reports success. Internal, or what
// is in the way of this process (no room, a limit): that failed, nothing is known of those bytes.
absl::Status WriteAnew(const OpenSegment& segment, const AlignedBuffer& bytes,
                       std::uint64_t offset);

// Gives it its name. AlreadyExists if the number is taken.
absl::Status NameSegment(const OpenSegment& segment);
// And makes the name durable. Internal: that failed.
absl::Status PublishSegment(const std::string& directory, const OpenSegment& segment);

// Makes the names in it durable. Where the device failed (detail::IsDevices(..., kSync)) one that
// succeeds later proves nothing; any other error is this process's, and the sync is for another.
absl::Status SyncDirectory(const std::string& directory);

// The directory in which that segment has its name: what is done through the descriptor is done
// there, whatever stands under the path meanwhile. FailedPrecondition if it is not in it.
absl::StatusOr<detail::Fd> OpenDirectoryOf(const OpenSegment& segment);

// Whether no newer one has a name, and this one has its own.
enum class Standing : std::uint8_t { kNewest, kLeftBehind };
absl::StatusOr<Standing> StandingOf(const std::string& directory, const OpenSegment& segment);
// The same; what cannot be found out is no.
bool IsNewest(const std::string& directory, const OpenSegment& segment);

// Whether a journal's directory, and an open file of it, belong to whom they may (CheckOwner).
absl::Status CheckOwners(const std::string& directory, int fd, const std::string& path,
                         bool trusted);

// "pid 12 (name), pid 34 (name)": who has this file open, as far as /proc tells.
std::string NameHolders(int fd);

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_SEGMENT_SEGMENT_H_
