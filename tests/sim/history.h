// The checker: what every process was told, against what the guarantees allow.
//   G1 no process sees head go back, and no head word ever does
//   G2 one content per epoch
//   G3 a state is whole, was written by somebody, and reads are ordered behind the writes
//   G4 a conditional commit directly succeeds what it saw; what was refused never appears
//   G7 a new incarnation starts from an exact prefix with everything in it that was ever visible
//   G9 an expelled participant's late commits fail
// (G3's "stays unchanged", G8 and G10 are checked where they happen: world.cc.)
#ifndef EPOCH_TESTS_SIM_HISTORY_H_
#define EPOCH_TESTS_SIM_HISTORY_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "epoch/detail/words.h"

namespace epoch::sim {

// What a state says about itself. The rest of its bytes follow from the id.
struct Content {
  std::uint64_t id = 0;        // of the draft: unique
  std::uint64_t based_on = 0;  // the epoch it must directly succeed, or kUnconditional
  std::uint64_t counter = 0;   // of the state it is based on, plus one
  std::uint64_t bytes = 0;

  static constexpr std::uint64_t kUnconditional = ~std::uint64_t{0};
  bool operator==(const Content&) const = default;
};

std::vector<std::byte> Encode(const Content& content);
// False: torn, or no content at all. No bytes are the initial state.
bool Decode(std::span<const std::byte> bytes, Content& content);

class History {
 public:
  explicit History(std::function<void(const std::string&)> violation)
      : violation_(std::move(violation)) {
    visible_[0] = Content{};
  }

  // A content that a process is about to propose.
  Content Draft(std::uint64_t based_on, std::uint64_t counter, std::uint64_t bytes);
  // Its proposal was refused: it must never appear.
  void Refused(const Content& content) { refused_.insert(content.id); }

  // Somebody saw `content` under a committed epoch, or (only the next proposer may) an accepted
  // one.
  void Visible(Epoch epoch, const Content& content);
  void Accepted(Epoch epoch, const Content& content);
  // Head stands at `epoch`, whether anybody looks or not.
  void HeadMoved(Epoch epoch) { visible_max_ = epoch > visible_max_ ? epoch : visible_max_; }

  // A new incarnation starts from (epoch, bytes).
  void Restored(Epoch epoch, std::span<const std::byte> bytes);
  // A record of the journal, at the end of the run.
  void Recorded(Epoch epoch, std::span<const std::byte> bytes);

  Epoch visible_max() const { return visible_max_; }

 private:
  void Check(Epoch epoch, const Content& content);

  std::function<void(const std::string&)> violation_;
  std::uint64_t ids_ = 0;
  std::map<std::uint64_t, Content> drafts_;
  std::map<Epoch, Content> visible_;
  std::map<Epoch, Content> accepted_;  // in this incarnation
  std::set<std::uint64_t> refused_;
  Epoch visible_max_ = 0;
};

}  // namespace epoch::sim

#endif  // EPOCH_TESTS_SIM_HISTORY_H_
