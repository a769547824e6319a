#include "core/inspect/ring_check.h"

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/journal/batch/ring.h"
#include "core/journal/format/format.h"
#include "core/journal/read/reader.h"
#include "core/journal/segment/current.h"
#include "core/journal/segment/segment.h"

namespace epoch::inspect {
namespace {

using detail::BatchState;
using detail::BatchW;
using detail::Phase;
using detail::StateWord;
using journal::BatchE;
using journal::BatchH;
using journal::BatchReading;

constexpr int kSlots = detail::kBatchRingSlots;

// The ring at one moment, in the order of its batches: the oldest first, the newest last. Where the
// next one is being frozen, the first is that one: its W is new already, its E and H are old.
struct Batches {
  struct Batch {
    int slot;
    BatchW w;
    BatchE e;
    BatchH h;
  };
  std::array<Batch, kSlots> all;
  std::array<Epoch, kSlots> cell_epochs;  // what each one's cell says
  StateWord head_before, head_after;      // read before, and after
  Epoch tail_after;
  bool next_frozen;  // the first one is the successor of the newest
  bool end_known;    // the newest one's end is
  int written;  // those in front of this one are, and all before them: so many can be relied on

  const Batch& newest() const { return all[kSlots - 1]; }
  // Nothing is on its way to the disk, or may have been when its writer died.
  bool settled() const {
    if (next_frozen) return false;
    for (const Batch& batch : all) {
      if (batch.w.state != BatchState::kWritten) return false;
    }
    return true;
  }
  // The furthest end that any process may have written to.
  BatchE furthest() const { return end_known ? newest().e : all[kSlots - 2].e; }
};

bool EndsBefore(const BatchE& a, const BatchE& b) { return a.Pack() < b.Pack(); }

class DurabilityCheck {
 public:
  DurabilityCheck(const detail::Mapping& mapping, std::vector<Finding>& findings)
      : mapping_(mapping), view_(mapping.view()), super_(mapping.superblock()), out_(findings) {}

  void Run() {
    // It only grows, and says nothing that the ring did not say before: so it is read first.
    const std::uint64_t named = view_.control->named_segment.Load();
    const std::optional<Batches> ring = Read();
    if (!ring.has_value()) {
      Note("batch ring", "kept changing while it was read: not looked at");
      return;
    }
    CheckStates(*ring);
    CheckOrder(*ring);
    CheckHints(*ring);
    CheckEnds(*ring);
    CheckNamed(named, *ring);
    CheckFiles(*ring);
  }

 private:
  void Damage(std::string where, std::string what) {
    out_.push_back({Finding::Severity::kDamage, std::move(where), std::move(what)});
  }
  void Note(std::string where, std::string what) {
    out_.push_back({Finding::Severity::kNote, std::move(where), std::move(what)});
  }
  static std::string Where(const Batches::Batch& batch) {
    return absl::StrCat("batch slot ", batch.slot);
  }

  // --- reading -----------------------------------------------------------------------------------

  // Words never take a value twice, so two equal readings enclose a moment. Cells that are read in
  // between and that the ring needs have not been recycled: that takes another batch.
  std::optional<Batches> Read() {
    constexpr int kMostAttempts = 10'000;
    for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
      Batches ring{};
      ring.head_before = StateWord::Unpack(view_.control->head.Load());
      std::array<BatchReading, kSlots> words;
      for (int i = 0; i < kSlots; ++i) words[Index(i)] = BatchReading::Of(view_.control->ring[i]);
      std::array<Epoch, kSlots> cells{};
      for (int i = 0; i < kSlots; ++i) {
        const BatchW w = BatchW::Unpack(words[Index(i)].w);
        if (view_.ValidCell(w.version)) cells[Index(i)] = view_.cells[w.version].epoch.Load();
      }
      bool same = true;
      for (int i = 0; same && i < kSlots; ++i) {
        same = words[Index(i)] == BatchReading::Of(view_.control->ring[i]);
      }
      if (!same) continue;
      ring.head_after = StateWord::Unpack(view_.control->head.Load());
      ring.tail_after = StateWord::Unpack(view_.control->tail.Load()).epoch;
      const int newest = NewestOf(words);
      for (int i = 0; i < kSlots; ++i) {
        const int slot = (newest + 1 + i) % kSlots;
        const BatchReading& word = words[Index(slot)];
        ring.all[Index(i)] = {slot, BatchW::Unpack(word.w), BatchE::Unpack(word.e),
                              BatchH::Unpack(word.h)};
        ring.cell_epochs[Index(i)] = cells[Index(slot)];
      }
      const auto& newest_words = words[Index(newest)];
      const auto& before_words = words[Index((newest + kSlots - 1) % kSlots)];
      ring.next_frozen =
          journal::IsSuccessor(words[Index((newest + 1) % kSlots)].w, newest_words.w);
      ring.end_known =
          newest_words.e > before_words.e || ring.newest().w.state != BatchState::kFrozen;
      // Batches may be written in any order; the log ends at the first one that is not.
      ring.written = ring.next_frozen ? 1 : 0;
      while (ring.written < kSlots &&
             ring.all[Index(ring.written)].w.state == BatchState::kWritten) {
        ++ring.written;
      }
      // Whoever marks a batch as failed says so in head next: that is under way, or it has died.
      bool unsaid = false;
      for (const Batches::Batch& batch : ring.all) {
        unsaid = unsaid || (batch.w.state == BatchState::kFailed &&
                            ring.head_after.phase != Phase::kPoisoned);
      }
      if (unsaid && attempt + 1 < kMostAttempts) continue;
      return ring;
    }
    return std::nullopt;
  }

  static std::size_t Index(int slot) { return static_cast<std::size_t>(slot); }

  // The slot of the newest batch. The number of batch s is s modulo 2^16, and stands in slot
  // s modulo 16. Of a ring that was written over: the one that most of the others agree with.
  static int NewestOf(const std::array<BatchReading, kSlots>& words) {
    int best = 0, most = -1;
    for (int candidate = 0; candidate < kSlots; ++candidate) {
      const int agree = Agreeing(words, candidate);
      if (agree > most) {
        most = agree;
        best = candidate;
      }
    }
    return best;
  }
  static int Agreeing(const std::array<BatchReading, kSlots>& words, int newest) {
    const std::uint16_t tag = BatchH::Unpack(words[Index(newest)].h).tag;
    int agree = 0;
    for (int back = 0; back < kSlots; ++back) {
      const int slot = (newest - back + kSlots) % kSlots;
      agree += BatchH::Unpack(words[Index(slot)].h).tag == static_cast<std::uint16_t>(tag - back);
    }
    return agree;
  }

  // --- the ring by itself ------------------------------------------------------------------------

  void CheckStates(const Batches& ring) {
    for (int i = 0; i < kSlots; ++i) {
      const Batches::Batch& batch = ring.all[Index(i)];
      const std::string where = Where(batch);
      const bool newest = i == kSlots - 1 || (i == 0 && ring.next_frozen);
      if (batch.w.state != BatchState::kFrozen && batch.w.state != BatchState::kWritten &&
          batch.w.state != BatchState::kFailed) {
        Damage(where,
               absl::StrCat("impossible state in ", absl::Hex(batch.w.Pack(), absl::kZeroPad16)));
      } else if (!view_.ValidCell(batch.w.version)) {
        Damage(where,
               absl::StrCat("names version ", batch.w.version, " of ", view_.geometry.versions));
      } else if (batch.w.last > ring.tail_after) {
        Damage(where,
               absl::StrCat("ends at epoch ", batch.w.last, ", beyond tail's ", ring.tail_after));
      } else if ((batch.w.last > ring.head_after.epoch || newest) &&
                 ring.cell_epochs[Index(i)] != batch.w.last) {
        Damage(where, absl::StrCat("ends at epoch ", batch.w.last, ", its version ",
                                   batch.w.version, " says ", ring.cell_epochs[Index(i)]));
      }
      // One without versions head does not wait for.
      if (batch.w.state == BatchState::kFrozen && batch.w.last <= ring.head_before.epoch &&
          !(batch.w.hint_only && newest)) {
        Damage(where,
               absl::StrCat("was not written, but head has passed its epoch ", batch.w.last));
      }
      if (batch.w.state == BatchState::kFailed) {
        if (batch.w.last <= ring.head_before.epoch && !(batch.w.hint_only && newest)) {
          Damage(where, absl::StrCat("could not be written, but head has passed its epoch ",
                                     batch.w.last));
        } else if (ring.head_after.phase != Phase::kPoisoned) {
          Damage(where, absl::StrCat("could not be written, behind epoch ", ring.head_before.epoch,
                                     ", and head does not say so"));
        }
      }
    }
  }

  // Whether both are what an incarnation's ring begins with.
  static bool SameBeginning(const Batches::Batch& a, const Batches::Batch& b) {
    return a.w.Pack() == b.w.Pack() && a.e.Pack() == b.e.Pack() && a.h.hint == b.h.hint &&
           b.h.hint == b.w.last && !b.w.hint_only && b.w.version == 0 &&
           b.w.state == BatchState::kWritten;
  }

  // Calls look(before, batch, index of batch, beginning) for each two that follow each other.
  template <typename Look>
  static void ForPairs(const Batches& ring, const Look& look) {
    bool beginning = true;  // nothing was frozen yet, as far back as the ring goes
    for (int i = ring.next_frozen ? 2 : 1; i < kSlots; ++i) {
      const Batches::Batch& before = ring.all[Index(i - 1)];
      const Batches::Batch& batch = ring.all[Index(i)];
      beginning = beginning && SameBeginning(before, batch);
      look(before, batch, i, beginning);
    }
  }

  void CheckOrder(const Batches& ring) {
    // Head stands at the end of a batch, which stays in the ring while it does.
    const Epoch head = ring.head_before.epoch;
    bool there = head != ring.head_after.epoch;
    for (const Batches::Batch& batch : ring.all) there = there || batch.w.last == head;
    if (!there) Damage("batch ring", absl::StrCat("has no batch that ends at head's epoch ", head));
    for (int i = 0; i < kSlots; ++i) {
      const Batches::Batch& batch = ring.all[Index(i)];
      const auto expected = static_cast<std::uint16_t>(ring.newest().h.tag - (kSlots - 1 - i));
      if (batch.h.tag != expected || batch.h.tag % kSlots != batch.slot) {
        Damage(Where(batch), absl::StrCat("has number ", batch.h.tag, ", its place in the ring is ",
                                          expected, "'s"));
      }
    }
    ForPairs(ring, [&](const auto& before, const auto& batch, int, bool beginning) {
      if (beginning) return;
      if (batch.w.hint_only) {
        if (before.w.hint_only || batch.w.last != before.w.last ||
            batch.w.version != before.w.version) {
          Damage(Where(batch), absl::StrCat("has no versions and ends at epoch ", batch.w.last,
                                            ", the batch before at ", before.w.last));
        }
      } else if (batch.w.last <= before.w.last) {
        Damage(Where(batch), absl::StrCat("ends at epoch ", batch.w.last,
                                          ", not behind the batch before, at ", before.w.last));
      }
    });
  }

  // The hint was head when the batch was frozen.
  void CheckHints(const Batches& ring) {
    ForPairs(ring, [&](const auto& before, const auto& batch, int i, bool beginning) {
      if (beginning) return;
      const Epoch hint = batch.h.hint;
      // While so many are in flight nothing is frozen.
      const int full = i - detail::kMostBatchesInFlight;
      const bool first_known = full >= (ring.next_frozen ? 1 : 0);
      if (hint > ring.head_after.epoch || hint > before.w.last || hint < before.h.hint ||
          (first_known && hint < ring.all[Index(full)].w.last)) {
        Damage(Where(batch),
               absl::StrCat("says that epoch ", hint,
                            " was visible when it was frozen, behind epoch ", before.w.last));
      }
    });
  }

  void CheckEnds(const Batches& ring) {
    const std::uint64_t capacity = super_.segment_bytes / journal::kBlockBytes;
    const auto impossible = [&](const BatchE& e) {
      return e.segment == 0 || e.segment > journal::kMaxSegment || e.end_block == 0 ||
             e.end_block > capacity - journal::kSealBlocks;
    };
    for (const Batches::Batch& batch : ring.all) {
      if (impossible(batch.e)) {
        Damage(Where(batch),
               absl::StrCat("ends at block ", batch.e.end_block, " of segment ", batch.e.segment,
                            "; segments have ", capacity, " blocks"));
      }
    }
    ForPairs(ring, [&](const auto& before, const auto& batch, int i, bool beginning) {
      if (beginning || (i == kSlots - 1 && !ring.end_known)) return;
      if (!Fits(before, batch)) {
        Damage(Where(batch), absl::StrCat("ends at block ", batch.e.end_block, " of segment ",
                                          batch.e.segment, ", the batch before at block ",
                                          before.e.end_block, " of segment ", before.e.segment));
      }
    });
    // What is not known yet is what stood there sixteen batches ago.
    const Batches::Batch& first = ring.all[0];
    const Batches::Batch& second = ring.all[1];
    const BatchE oldest = ring.next_frozen ? second.e : first.e;
    if (!ring.end_known && EndsBefore(oldest, ring.newest().e)) {
      Damage(Where(ring.newest()),
             absl::StrCat("is frozen, and has a wrong end: block ", ring.newest().e.end_block,
                          " of segment ", ring.newest().e.segment));
    }
    if (ring.next_frozen && (EndsBefore(second.e, first.e) || first.h.hint > second.h.hint ||
                             first.w.state != BatchState::kFrozen)) {
      Damage(Where(first), "is being frozen, but has its end or its hint already");
    }
  }

  // Whether a batch can end where it does, behind the one before. How long the states are is not
  // known any more; how long they can be is.
  bool Fits(const Batches::Batch& before, const Batches::Batch& batch) const {
    std::uint64_t from = before.e.end_block;
    if (batch.e.segment != before.e.segment) {
      // The first one of a segment, behind a base.
      if (batch.e.segment != before.e.segment + 1 || batch.w.hint_only) return false;
      from = 1;
    }
    if (batch.e.end_block <= from) return false;
    const std::uint64_t blocks = batch.e.end_block - from;
    if (batch.w.hint_only) return blocks == 1;
    const std::uint64_t records =
        super_.history == History::kLatest ? 1 : batch.w.last - before.w.last;
    const std::uint64_t base =
        batch.e.segment != before.e.segment ? journal::BlocksFor(super_.state_bytes) : 0;
    // Before any product: what is written over may be any number.
    if (records > view_.geometry.versions) return false;
    const std::uint64_t least =
        journal::BlocksFor(sizeof(journal::BatchHeader) + records * journal::RecordBytes(0));
    const std::uint64_t most =
        base + journal::BlocksFor(sizeof(journal::BatchHeader) +
                                  records * journal::RecordBytes(super_.state_bytes));
    return blocks >= least && blocks <= most;
  }

  void CheckNamed(std::uint64_t named, const Batches& ring) {
    const std::uint64_t newest = ring.furthest().segment;
    const bool by_itself = (named & 1) != 0;
    if (named / 2 > newest + (by_itself ? 0 : 1)) {
      Damage("control", absl::StrCat("says that the name of segment ", named / 2,
                                     " is durable, but the newest batch is in segment ", newest));
    }
  }

  // --- the ring and the files --------------------------------------------------------------------

  void CheckFiles(const Batches& ring) {
    const std::string& directory = mapping_.journal_directory();
    constexpr int kMostLooks = 100;  // at a journal that moves on meanwhile
    for (int look = 0; look < kMostLooks; ++look) {
      if (CheckDirectory(directory, ring)) return;
    }
    Note("journal", absl::StrCat(directory, " kept changing while it was read: not looked at"));
  }

  // What this process cannot look at is no damage.
  void Unreadable(const absl::Status& status) {
    if (detail::IsOwnTrouble(status) && !absl::IsNotFound(status)) {
      Note("journal", absl::StrCat("not looked at: ", std::string(status.message())));
    } else {
      Damage("journal", absl::StrCat("is not there: ", std::string(status.message())));
    }
  }

  // False: a segment was retired, or the ring moved on, while this looked.
  bool CheckDirectory(const std::string& directory, const Batches& ring) {
    const auto files = journal::ListSegments(directory);
    if (!files.ok()) {
      Unreadable(files.status());
      return true;
    }
    if (files->empty()) {
      Damage("journal", absl::StrCat(directory,
                                     " holds no journal segments any more: what is committed "
                                     "now is lost with this region"));
      return true;
    }
    const journal::SegmentFile& newest = files->back();
    const auto header = HeaderOf(newest.path);
    if (absl::IsNotFound(header.status())) return false;
    if (!header.ok()) {
      Unreadable(header.status());
      return true;
    }
    if (header->journal != super_.journal) {
      Damage("journal",
             absl::StrCat(directory, " holds another journal, ", detail::HexOf(header->journal),
                          ", not this region's, ", detail::HexOf(super_.journal)));
      return true;
    }
    if (header->incarnation != super_.incarnation) {
      Note("journal", absl::StrCat("went on without this region, which was superseded: it was "
                                   "restored into incarnation ",
                                   detail::HexOf(header->incarnation)));
      return true;
    }
    const auto fd = journal::OpenToRead(newest.path);
    if (absl::IsNotFound(fd.status())) return false;
    if (fd.ok()) {
      const auto file = detail::IdentityOf(fd->get(), newest.path);
      if (file.ok() && !detail::SameIdentity(header->file, *file)) {
        Damage("journal", absl::StrCat(newest.path, " is a copy of this region's journal"));
        return true;
      }
    }
    std::vector<Finding> found;
    std::swap(found, out_);
    const bool done = CheckSegments(directory, newest, ring);
    std::swap(found, out_);
    if (done) out_.insert(out_.end(), found.begin(), found.end());
    return done;
  }

  static absl::StatusOr<journal::SegmentHeader> HeaderOf(const std::string& path) {
    const auto fd = journal::OpenToRead(path);
    if (!fd.ok()) return fd.status();
    return journal::ReadSegmentHeader(fd->get(), path);
  }

  bool CheckSegments(const std::string& directory, const journal::SegmentFile& newest,
                     const Batches& ring) {
    std::set<std::uint64_t> numbers{newest.number};
    for (int i = FirstWritten(ring); i < ring.written; ++i) {
      numbers.insert(ring.all[Index(i)].e.segment);
    }
    for (const std::uint64_t number : numbers) {
      if (number > newest.number) {
        // Damaged, and said already; or it was listed before it was made.
        const auto again = journal::ListSegments(directory);
        if (again.ok() && !again->empty() && again->back().number >= number) return false;
        Damage("journal", absl::StrCat("segment ", number, ", which the newest batches are in, is ",
                                       "gone: the newest is ", newest.path));
        continue;
      }
      if (!CheckSegment(journal::SegmentPath(directory, super_.journal, number), number,
                        number == newest.number, ring)) {
        return false;
      }
    }
    return true;
  }

  static int FirstWritten(const Batches& ring) { return ring.next_frozen ? 1 : 0; }

  // What ends at a block.
  struct OnDisk {
    Epoch last, hint;
    bool hint_only, base;
  };

  bool CheckSegment(const std::string& path, std::uint64_t number, bool is_newest,
                    const Batches& ring) {
    std::map<std::uint64_t, OnDisk> ends;
    journal::ScanOptions options;
    options.on_batch = [&](const journal::BatchInfo& info) {
      const journal::BatchHeader& h = info.header;
      ends[h.block + h.blocks] = {h.last_epoch, h.durable_hint,
                                  (h.flags & journal::kBatchHintOnly) != 0, false};
    };
    const auto header = HeaderOf(path);
    // An older one may have been retired, and says nothing then that anybody needs.
    if (absl::IsNotFound(header.status())) return !is_newest;
    if (header.ok() && header->incarnation != super_.incarnation) return true;
    const auto scan = header.ok() ? journal::ScanSegmentFile(path, options)
                                  : absl::StatusOr<journal::SegmentScan>(header.status());
    if (absl::IsNotFound(scan.status())) return !is_newest;
    if (!scan.ok() && !absl::IsDataLoss(scan.status())) {
      Unreadable(scan.status());
      return true;
    }
    // Everything that was visible when the ring was read was written before.
    std::uint64_t end = 0;
    if (header.ok()) {
      const std::uint64_t base_end = 1 + journal::BlocksFor(header->base_length_bytes);
      end = ends.empty() ? base_end : ends.rbegin()->first;
      ends.emplace(base_end, OnDisk{header->base_epoch, header->base_epoch, false, true});
    }
    bool lost = false;
    for (int i = FirstWritten(ring); i < ring.written; ++i) {
      const Batches::Batch& batch = ring.all[Index(i)];
      if (batch.e.segment != number) continue;
      const auto found = ends.find(batch.e.end_block);
      if (found == ends.end()) {
        if (!scan.ok() && batch.e.end_block > end) {
          lost = true;
          continue;
        }
        Damage(Where(batch), absl::StrCat("ends at block ", batch.e.end_block, ", where ", path,
                                          " has no end of a batch; its log ends at block ", end));
      } else if (!Matches(batch, found->second)) {
        Damage(Where(batch),
               absl::StrCat("ends at block ", batch.e.end_block, " with epoch ", batch.w.last,
                            ", hint ", batch.h.hint, batch.w.hint_only ? ", no versions" : "",
                            "; there ", path, " has epoch ", found->second.last, ", hint ",
                            found->second.hint, found->second.hint_only ? ", no versions" : ""));
      }
    }
    if (!is_newest) {
      if (!scan.ok()) Damage("journal", std::string(scan.status().message()));
      return true;
    }
    // Nobody writes behind an end that is not in the ring yet.
    const std::optional<Batches> later = Read();
    if (!later.has_value()) return true;
    if (EndsBefore(later->furthest(), BatchE{number, end})) {
      Damage("journal",
             absl::StrCat(path, " goes on to block ", end, ", the ring only to block ",
                          later->furthest().end_block, " of segment ", later->furthest().segment));
    }
    const bool at_rest =
        ring.settled() && later->settled() && later->newest().h.Pack() == ring.newest().h.Pack();
    if (!scan.ok() && (lost || at_rest)) {
      Damage("journal", std::string(scan.status().message()));
    } else if (scan.ok() && at_rest && scan->sealed && later->furthest().segment == number) {
      Damage("journal", std::string(journal::CheckNewest(*scan).message()));
    } else if (scan.ok() && at_rest && scan->torn) {
      Note("journal", absl::StrCat(path, ": something stands behind its end, block ", end,
                                   ", which is not a batch"));
    }
    return true;
  }

  static bool Matches(const Batches::Batch& batch, const OnDisk& there) {
    return batch.w.last == there.last && batch.h.hint == there.hint &&
           batch.w.hint_only == there.hint_only;
  }

  const detail::Mapping& mapping_;
  const detail::RegionView& view_;
  const detail::Superblock& super_;
  std::vector<Finding>& out_;
};

}  // namespace

void CheckDurability(const detail::Mapping& mapping, std::vector<Finding>& findings) {
  DurabilityCheck(mapping, findings).Run();
}

}  // namespace epoch::inspect
