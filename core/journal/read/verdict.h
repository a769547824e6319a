// The end of the log, as a table: what a scan may find there, and what it means.
//
// A scan reads batches one after the other, up to the first that does not count, behind epoch h.
// What it finds then is evidence (Evidence). Each combination of it matches exactly one row of
// EndCases, whose label is that of docs/journal.md ("The end of the log"); evidence that a row does
// not ask for need not have been looked for.
#ifndef EPOCH_CORE_JOURNAL_READ_VERDICT_H_
#define EPOCH_CORE_JOURNAL_READ_VERDICT_H_

#include <cstdint>
#include <span>

namespace epoch::journal {

struct Evidence {
  bool unreadable = false;     // a read error
  bool no_beginning = false;   // the segment's header, or its base, is damaged
  bool contradiction = false;  // what stands at the end is whole, and does not fit (Flaw)
  bool proof = false;  // further on, a valid batch header at its own place has a hint above h
  // A block fails its CRC and has no sector of zeros, or a header's sector is neither zeros nor a
  // header; and nobody said to go on regardless.
  bool damaged_block = false;
  bool newest_is_sealed = false;  // no segment is behind this one, and it says that there is
  bool written = false;           // anything but zeros stands behind the end
};

enum class End : std::uint8_t {
  kUnreadable,
  kNoBeginning,
  kContradiction,
  kProof,
  kDamagedBlock,
  kSealed,
  kTorn,  // a write that was torn, and that nobody was told about: cut
  kWhole  // nothing is behind it
};

enum class Asks : std::uint8_t { kNo, kYes, kAny };
struct EndCase {
  const char* label;
  End end;
  bool loss;  // nothing is cut, and nothing restored
  Asks unreadable, no_beginning, contradiction, proof, damaged_block, newest_is_sealed, written;

  bool Matches(const Evidence& found) const;
};

std::span<const EndCase> EndCases();
// The one row that it matches.
const EndCase& JudgeEnd(const Evidence& found);

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_READ_VERDICT_H_
