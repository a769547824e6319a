// Random operations on a small region, with everything that was seen checked against a model:
//   G1 no process sees head go back            G2 one content per epoch
//   G3 a pinned state is whole and stays        G4 a conditional commit directly succeeds what it
//   saw G8 every run ends                           G9 an expelled participant's late commits fail
//   G10 afterwards every slot and cell is accounted for
#include "tests/sim/workload.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "epoch/epoch.h"

namespace epoch::detail {

struct MappingTestPeer {
  static void Initialise(std::byte* base, const Geometry& geometry, const RegionOptions& options,
                         const JournalSeed& seed) {
    Mapping::Initialise(base, geometry, options, seed);
  }
};

}  // namespace epoch::detail

namespace epoch::sim {
namespace {

using detail::Geometry;
using detail::Mapping;
using detail::OwnerWord;
using detail::SlotWord;
using detail::StateWord;

constexpr std::uint64_t kUnconditional = ~std::uint64_t{0};

struct Content {
  std::uint64_t id = 0;        // of the draft: unique
  std::uint64_t based_on = 0;  // the epoch it must directly succeed, or kUnconditional
  std::uint64_t counter = 0;   // of the state it is based on, plus one
  std::uint64_t filler[5] = {};

  static Content Make(std::uint64_t id, std::uint64_t based_on, std::uint64_t counter) {
    Content c{id, based_on, counter, {}};
    for (std::uint64_t& word : c.filler) word = id * 0x9E3779B97F4A7C15ull;
    return c;
  }
  bool whole() const {
    for (const std::uint64_t word : filler) {
      if (word != id * 0x9E3779B97F4A7C15ull) return false;
    }
    return true;
  }
  bool operator==(const Content& o) const { return std::memcmp(this, &o, sizeof o) == 0; }
};
static_assert(sizeof(Content) == 64);

class World {
 public:
  explicit World(const Settings& settings) : engine_(settings), settings_(settings) {
    const auto participants = static_cast<std::uint32_t>(settings.processes + 1);
    const auto versions = static_cast<std::uint32_t>(4 + engine_.random().Below(4));
    options_.state_bytes = sizeof(Content);
    options_.participants = participants;
    options_.versions = versions;
    const Geometry geometry = *Geometry::For(options_.state_bytes, participants, versions);
    memory_.resize(geometry.total_bytes / sizeof(Page) + 1);
    auto* base = reinterpret_cast<std::byte*>(memory_.data());
    detail::MappingTestPeer::Initialise(base, geometry, options_, detail::JournalSeed{});
    std::memcpy(&superblock_, base, sizeof superblock_);
    engine_.Share(base, geometry.total_bytes);
    contents_[0] = Content{};
  }

  Outcome Play() {
    engine_.Run([this](int process) { Live(process); });
    if (!engine_.violated()) Audit();
    return {engine_.steps(), contents_.empty() ? 0 : contents_.rbegin()->first,
            engine_.violation()};
  }

 private:
  struct alignas(4096) Page {
    std::byte bytes[4096];
  };

  std::shared_ptr<Mapping> MapFor(int process) {
    // Not real descriptors: the seam's lock calls are the only ones that see them.
    return std::make_shared<Mapping>(reinterpret_cast<std::byte*>(memory_.data()), superblock_,
                                     detail::Fd(100'000 + 100 * (process + 1)),
                                     detail::Fd(100'001 + 100 * (process + 1)));
  }

  // --- one process -------------------------------------------------------------------------------

  void Live(int process) {
    const Region region = Region::Over(MapFor(process));
    auto joined = Participant::Join(region, {.name = "p"});
    if (!joined.ok()) {
      if (!absl::IsResourceExhausted(joined.status())) Fail(joined.status(), "join");
      return;
    }
    Participant self = *std::move(joined);
    Epoch newest = 0;  // G1
    const std::uint64_t operations = 4 + engine_.random().Below(8);
    for (std::uint64_t i = 0; i < operations && !engine_.violated(); ++i) {
      Operate(region, self, newest);
    }
  }

  void Operate(const Region& region, Participant& self, Epoch& newest) {
    Random& random = engine_.random();
    switch (random.Below(12)) {
      case 0:
      case 1:
      case 2:
        return PinAndLook(self, newest);
      case 3:
      case 4:
        return CommitUnconditionally(self, newest);
      case 5:
      case 6:
        return CommitExpecting(self, newest);
      case 7:
      case 8:
        return UpdateOnce(self, newest);
      case 9:
        if (random.OneIn(2)) {
          Tolerate(self.Park(), "park");
        } else {
          Tolerate(self.Poll().status(), "poll");
        }
        return;
      case 10:
        if (random.OneIn(3)) return ExpelSomebody(region, self);
        return Tolerate(region.Reap().status(), "reap");
      default: {
        if (random.OneIn(2)) {
          if (random.OneIn(2)) Tolerate(self.Leave(), "leave");
          const absl::Status s = self.Rejoin();
          if (!s.ok() && !absl::IsResourceExhausted(s)) Fail(s, "rejoin");
          return;
        }
        const auto waited = self.Await(newest, Stage::kConverged, absl::Milliseconds(3));
        if (!absl::IsDeadlineExceeded(waited.status())) Tolerate(waited.status(), "await");
        return;
      }
    }
  }

  void PinAndLook(Participant& self, Epoch& newest) {
    const Pin pin = self.Pin();
    if (!pin.ok()) return;  // expelled
    if (pin.epoch() < newest) Violation("G1: head went back");
    newest = pin.epoch();
    const Content first = See(pin.epoch(), pin.state());
    for (std::uint64_t i = engine_.random().Below(6); i > 0; --i) {
      engine_.Point("pinned");
      if (pin.state().size() == sizeof(Content)) {
        Content again;
        std::memcpy(&again, pin.state().data(), sizeof again);
        if (!(again == first)) Violation("G3: a pinned state changed");
      }
    }
  }

  void CommitUnconditionally(Participant& self, Epoch& newest) {
    const Content content = Content::Make(++ids_, kUnconditional, 0);
    drafts_[content.id] = content;
    Committed(self, newest, content, self.Commit(Bytes(content)));
  }

  void CommitExpecting(Participant& self, Epoch& newest) {
    const Epoch seen = newest;
    const Content content = Content::Make(++ids_, seen, 0);
    drafts_[content.id] = content;
    Committed(self, newest, content, self.Commit(Bytes(content), {.expected = seen}));
  }

  void UpdateOnce(Participant& self, Epoch& newest) {
    Content content;
    const auto epoch = self.Update([&](const Current& current, Draft& next) -> absl::Status {
      const Content before = See(current.epoch, current.state);
      content = Content::Make(++ids_, current.epoch, before.counter + 1);
      drafts_[content.id] = content;
      engine_.Point("updating");
      return next.Assign(Bytes(content));
    });
    Committed(self, newest, content, epoch);
  }

  void Committed(const Participant& self, Epoch& newest, const Content& content,
                 const absl::StatusOr<Epoch>& result) {
    if (!result.ok()) {
      if (absl::IsAborted(result.status())) refused_.insert(content.id);
      if (!absl::IsAborted(result.status()) && !absl::IsResourceExhausted(result.status())) {
        Tolerate(result.status(), "commit");
      }
      return;
    }
    Note(*result, content);
    newest = std::max(newest, *result);  // its own commit is visible to it from now on
    const auto expelled = expelled_.find({self.slot(), self.generation()});
    if (expelled != expelled_.end() && *result > expelled->second + 1) {
      Violation("G9: an expelled participant committed after another epoch was");
    }
  }

  void ExpelSomebody(const Region& region, const Participant& self) {
    const auto slot = static_cast<std::uint32_t>(
        engine_.random().Below(static_cast<std::uint64_t>(settings_.processes)));
    if (slot == self.slot()) return;
    const auto& words = region.mapping()->view().slots[slot];
    const std::uint64_t generation = SlotWord::Unpack(words.state.Load()).generation;
    if (!region.Expel(slot).ok()) return;
    if (SlotWord::Unpack(words.state.Load()).generation != generation) return;
    expelled_.try_emplace({slot, generation},
                          StateWord::Unpack(region.mapping()->view().control->tail.Load()).epoch);
  }

  // --- the model ---------------------------------------------------------------------------------

  static std::span<const std::byte> Bytes(const Content& content) {
    return std::as_bytes(std::span(&content, 1));
  }

  Content See(Epoch epoch, std::span<const std::byte> bytes) {
    Content content;
    if (bytes.empty() && epoch == 0) return content;
    if (bytes.size() != sizeof content) {
      Violation("G3: a state of the wrong size");
      return content;
    }
    std::memcpy(&content, bytes.data(), sizeof content);
    if (!content.whole()) Violation("G3: a torn state");
    Note(epoch, content);
    return content;
  }

  void Note(Epoch epoch, const Content& content) {
    const auto draft = drafts_.find(content.id);
    if (draft == drafts_.end() || !(draft->second == content)) Violation("G3: nobody wrote this");
    if (refused_.count(content.id) != 0) Violation("G4: a refused state became visible");
    if (content.based_on != kUnconditional && content.based_on + 1 != epoch) {
      Violation("G4: not the direct successor of what it saw");
    }
    const auto [known, fresh] = contents_.try_emplace(epoch, content);
    if (!fresh && !(known->second == content)) {
      Violation(absl::StrCat("G2: two states under epoch ", epoch));
    }
  }

  void Audit() {
    engine_.Settle();
    const std::shared_ptr<Mapping> mapping = MapFor(kMaxProcesses - 1);
    const detail::RegionView& view = mapping->view();
    detail::HelpAccepted(view);
    detail::ReapAll(*mapping);
    detail::Reclaim(view);
    for (std::uint32_t i = 0; i < view.geometry.participants; ++i) {
      const SlotWord slot = SlotWord::Unpack(view.slots[i].state.Load());
      if (slot.state != detail::SlotState::kFree) {
        Violation(absl::StrCat("G10: slot ", i, " leaked in state ", static_cast<int>(slot.state)));
      }
    }
    const StateWord head = StateWord::Unpack(view.control->head.Load());
    const StateWord tail = StateWord::Unpack(view.control->tail.Load());
    if (head.epoch != tail.epoch) Violation("G8: an accepted epoch never became visible");
    for (std::uint32_t i = 0; i < view.geometry.versions; ++i) {
      const OwnerWord owner = OwnerWord::Unpack(view.cells[i].owner.Load());
      const auto wanted =
          i == head.version ? detail::CellState::kPublished : detail::CellState::kFree;
      if (owner.state != wanted) {
        Violation(absl::StrCat("G10: cell ", i, " is left in state ", static_cast<int>(owner.state),
                               ", head names ", head.version));
      }
    }
    if (!contents_.empty() && contents_.rbegin()->first > head.epoch) {
      Violation("G1: an epoch was seen that head does not reach");
    }
  }

  void Violation(const std::string& what) { engine_.Violation(what); }
  void Fail(const absl::Status& status, const char* what) {
    Violation(absl::StrCat(what, ": ", status.ToString()));
  }
  // Being expelled, or exhausted, is nobody's fault here; anything else is.
  void Tolerate(const absl::Status& status, const char* what) {
    if (!status.ok() && !absl::IsFailedPrecondition(status) && !absl::IsResourceExhausted(status)) {
      Fail(status, what);
    }
  }

  Engine engine_;
  const Settings settings_;
  RegionOptions options_;
  detail::Superblock superblock_;
  std::vector<Page> memory_;
  std::uint64_t ids_ = 0;
  std::map<std::uint64_t, Content> drafts_;
  std::map<Epoch, Content> contents_;
  std::set<std::uint64_t> refused_;
  std::map<std::pair<std::uint32_t, std::uint64_t>, Epoch> expelled_;
};

}  // namespace

Outcome PlayVolatile(const Settings& settings) { return World(settings).Play(); }

}  // namespace epoch::sim
