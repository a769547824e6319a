// The next segment's space, written ahead while commits go on, so that rolling has only a header
// and a base to write.
//
// Zeros only: what the segment begins with is known when it is rolled to. A spare is a file
// "...-NUMBER.spare" beside the segments; it gets that name when it is complete and synced, and
// then the name is made durable, too. Whoever rolls to NUMBER writes the beginning into it (all who
// do write the same bytes) and links it under the segment's name. A spare of any other number is
// rubbish, and swept.
//
// Who prepares is agreed on by advice in shared memory. If it dies, or there is no io_uring to be
// had, whoever rolls makes the segment then and there.
#ifndef EPOCH_CORE_JOURNAL_SEGMENT_SPARE_H_
#define EPOCH_CORE_JOURNAL_SEGMENT_SPARE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "core/files/disk.h"
#include "core/files/write_queue.h"
#include "core/journal/segment/segment.h"

namespace epoch::journal {

// "<dir>/epoch-<first 8 hex digits of the journal id>-<number, 8 digits>.spare"
std::string SparePath(const std::string& directory, const Id& journal, std::uint64_t number);

// The name that a spare's segment has, or will have.
std::string SegmentOfSpare(const std::string& spare);

// A complete segment out of the spare of its number, with a shared lock, and no name of its own
// yet. Whatever is in the way, a segment can be made without it.
struct FromSpare {
  enum class Kind : std::uint8_t {
    kNone,   // there is no spare, or this process cannot use it
    kTaken,  // `segment` is it
    kFailed  // the device failed: what was written to the spare may be there in part
  };
  Kind kind = Kind::kNone;
  OpenSegment segment;
};
FromSpare TakeSpare(const std::string& directory, const SegmentHeader& header,
                    std::span<const std::byte> base);

// Removes that journal's spares of segments up to `number` from its directory, which is open.
void SweepSpares(int directory, const Id& journal, std::uint64_t number);

// Thread safety: external.
class Spare {
 public:
  static constexpr std::uint64_t kTag = 1'000;  // of its entries in the queue
  // How much of a segment is used when the next one is begun, and when it should be there.
  static constexpr double kFrom = 0.25, kUntil = 0.8;

  // Starts the next piece of work if it is time for it: `used`, from 0 to 1, is how much of the
  // current segment is. Never waits for the disk.
  void Prepare(const std::string& directory, const Id& journal, const OpenSegment& current,
               std::uint64_t capacity_blocks, double used, WriteQueue& queue);
  // Whether the one for segment `number` is done, or was given up.
  bool Over(std::uint64_t number) const { return number_ == number && step_ == Step::kOver; }
  enum class News { kNone, kNamed, kFailed };
  // What Prepare put in the queue is done. kNamed: the name of the spare for segment `number` is
  // durable. kFailed: the directory could not be synced.
  News Finished(int result);
  std::uint64_t number() const { return number_; }
  // What is in the queue cannot be waited for: its memory must never be used again.
  void Leak() { zeros_.Leak(); }
  // In a fork child: what was in flight is the parent's.
  void AfterForkInChild();

 private:
  enum class Step { kNone, kZeros, kSync, kName, kOver };

  void Begin(const std::string& directory, const detail::Access& access,
             std::uint64_t capacity_blocks);

  Step step_ = Step::kNone;
  bool busy_ = false;  // a piece of work is in the queue
  std::uint64_t number_ = 0;
  std::string path_;
  ForkSafeFd fd_;  // of the file; then of its directory
  AlignedBuffer zeros_;
  std::uint64_t at_ = 0, end_ = 0;  // bytes
  std::size_t piece_bytes_ = 0;     // of the work in the queue
};

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_SEGMENT_SPARE_H_
