// A recording, flush by flush: what was stable up to there, and what was not.
#ifndef EPOCH_TESTS_IMAGES_TIMELINE_H_
#define EPOCH_TESTS_IMAGES_TIMELINE_H_

#include <cstddef>
#include <vector>

#include "tests/images/recording.h"

namespace epoch::images {

// The least that a power loss keeps or loses as a whole: a sector, a size, a change of names.
struct Piece {
  std::size_t entry;
  std::size_t offset, size;  // of a write's bytes
};

class Timeline {
 public:
  explicit Timeline(const Recording& recording);

  // To the next cut: the moment before another flush completes, when the most is loose and the most
  // was promised; and the end of the log. False behind that.
  bool Next();

  // What no power loss takes away. A caller may play on it between Begin and Rollback.
  Tree& stable() { return stable_; }
  // What was written and not flushed, as far as it can be reached by a name.
  const std::vector<Piece>& loose() const { return loose_; }
  const Acknowledged& acknowledged() const { return acknowledged_; }
  // Puts one piece on the tree.
  void Apply(const Piece& piece);

 private:
  void ApplyEntry(const Entry& entry);
  void Flush(const Entry& flush);
  void FindLoose();

  const Recording& recording_;
  Tree stable_;
  std::size_t next_ = 0;
  bool flush_is_due_ = false;
  bool ended_ = false;
  std::vector<std::size_t> pending_;  // entries
  std::vector<Piece> loose_;
  Acknowledged acknowledged_;
};

}  // namespace epoch::images

#endif  // EPOCH_TESTS_IMAGES_TIMELINE_H_
