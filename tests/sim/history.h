// The checker: what every process was told, against what the guarantees allow.
//   G1 no process sees head go back, and no head word ever does
//   G2 one content per epoch
//   G3 a state is whole, was written by somebody, and reads are ordered behind the writes
//   G4 a conditional commit directly succeeds what it saw; what was refused never appears
//   G7 a new incarnation starts from an exact prefix with everything in it that was ever visible
//   G9 an expelled participant's late commits fail
//   A collective state holds exactly what its contributors gave, and all of them are told the same.
// (G3's "stays unchanged", G8 and G10 are checked where they happen: process.cc, audit.cc; G5 and
// G6: agreements.h.)
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

#include "epoch/detail/memory/words.h"

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
// False: torn, or no content at all. No bytes are the initial state. The content of a collective
// state has an id made of its bytes.
bool Decode(std::span<const std::byte> bytes, Content& content);
// What a contributor gives; `bytes` of at least eight.
std::vector<std::byte> EncodePart(std::uint64_t id, std::uint64_t bytes);

class History {
 public:
  explicit History(std::function<void(const std::string&)> violation)
      : violation_(std::move(violation)) {
    visible_[0] = Content{};
  }

  // A content that a process is about to propose.
  Content Draft(std::uint64_t based_on, std::uint64_t counter, std::uint64_t bytes);
  // Its proposal was refused: it must never appear, and must not have appeared.
  void Refused(const Content& content);

  // --- collective commits
  // The id of a part that a process is about to give, for this tag.
  std::uint64_t Part(std::uint64_t tag);
  // A collective state is up for decision.
  void Gathered(std::span<const std::byte> state);
  // Its contributor was told that it is in `epoch`; or that it is in none.
  void Given(std::uint64_t part, Epoch epoch);
  void Withheld(std::uint64_t part);

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
  struct PartRecord {
    std::uint64_t tag;
    Epoch epoch = 0;  // of the visible state that it is in
    bool withheld = false;
  };

  void Check(Epoch epoch, const Content& content);
  void CheckParts(Epoch epoch, const Content& content);

  std::function<void(const std::string&)> violation_;
  std::uint64_t ids_ = 0;
  std::map<std::uint64_t, Content> drafts_;
  std::map<Epoch, Content> visible_;
  std::map<Epoch, Content> accepted_;  // in this incarnation
  std::set<std::uint64_t> refused_;
  std::set<std::uint64_t> appeared_;
  std::map<std::uint64_t, PartRecord> parts_;
  std::map<std::uint64_t, std::vector<std::uint64_t>> gathered_;  // parts, by id of the content
  Epoch visible_max_ = 0;
};

}  // namespace epoch::sim

#endif  // EPOCH_TESTS_SIM_HISTORY_H_
