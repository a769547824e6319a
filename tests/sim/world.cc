#include "tests/sim/world.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/journal/format/format.h"
#include "tests/sim/audit.h"
#include "tests/sim/folders.h"
#include "tests/sim/names.h"
#include "tests/sim/process.h"
#include "tests/sim/stage.h"

namespace epoch::sim {
namespace {

using detail::RegionView;
using detail::StateWord;

class World {
 public:
  explicit World(const Plan& plan) : stage_(plan) {
    // One more may be born by a fork.
    for (int p = 0; p <= plan.settings.processes; ++p) processes_.emplace_back(stage_, p);
    stage_.disk.on_shm_link = [this](const std::string&, std::byte* memory) { Begins(memory); };
    stage_.engine.on_store = [this](const void* at, std::uint64_t value) { Stored(at, value); };
    if (plan.agrees) {
      stage_.engine.on_load = [this](const void* at, std::uint64_t value) {
        for (Incarnation& i : stage_.incarnations) i.agreements->Loaded(at, value);
      };
    }
    stage_.engine.describe = [this](const void* at, std::uint64_t value) {
      return Describe(at, value);
    };
  }

  Outcome Play() {
    Engine& engine = stage_.engine;
    const Plan& plan = stage_.plan;
    if (plan.joined) Prepare();
    for (stage_.boot = 0; stage_.boot < plan.boots; ++stage_.boot) {
      if (engine.violated() || stage_.lost) break;
      const bool power_lost =
          engine.Run([this](int process) { processes_[static_cast<std::size_t>(process)].Live(); });
      if (engine.violated()) break;
      engine.Settle();
      if (power_lost) stage_.disk.PowerLoss(plan.tears);
      if (plan.damages && stage_.boot + 2 == plan.boots) DamageSomething();
      if (!power_lost && stage_.boot + 1 < plan.boots) {
        sys::unlink(kRegion);  // all are gone: somebody tidies up /dev/shm
      }
    }
    if (!engine.violated() && !stage_.lost) Audit(stage_);
    return {engine.steps(), stage_.history.visible_max(), engine.violation()};
  }

 private:
  // Joins everybody before the run: small cases are about what comes then.
  void Prepare() {
    for (int p = 0; p < stage_.plan.settings.processes; ++p) {
      stage_.disk.ActAs(p);
      processes_[static_cast<std::size_t>(p)].JoinBeforehand();
    }
    stage_.disk.ActAs(-1);
  }

  // --- what the machine tells --------------------------------------------------------------------

  void Begins(std::byte* memory) {
    detail::Superblock super;
    std::memcpy(&super, memory, sizeof super);
    const auto geometry =
        detail::Geometry::For(super.state_bytes, super.participants, super.versions);
    if (!geometry.has_value()) return stage_.engine.Violation("G12: a region without a geometry");
    const RegionView view = RegionView::At(memory, *geometry, super.durable != 0);
    const StateWord head = StateWord::Unpack(view.control->head.Peek());
    stage_.history.Restored(
        head.epoch, {view.PayloadOf(head.version), view.cells[head.version].length_bytes.Peek()});
    stage_.incarnations.push_back(
        {memory, view, head.epoch,
         std::make_unique<Agreements>(stage_.plan, view, stage_.engine, stage_.history)});
    stage_.converged = 0;
    stage_.expelled.clear();
    stage_.engine.Progressed();
  }

  void Stored(const void* at, std::uint64_t value) {
    for (std::size_t i = 0; i < stage_.incarnations.size(); ++i) {
      Incarnation& incarnation = stage_.incarnations[i];
      if (naming::SaysHowFar(incarnation.view, at)) stage_.engine.SaysHowFar(at, value);
      incarnation.agreements->Stored(at, value);
      if (at != &incarnation.view.control->head) continue;
      const Epoch epoch = StateWord::Unpack(value).epoch;
      if (epoch < incarnation.head) stage_.engine.Violation("G1: head went back");
      if (epoch > incarnation.head && i + 1 < stage_.incarnations.size()) {
        stage_.engine.Violation("G7: a superseded incarnation went on");
      }
      if (epoch > incarnation.head) stage_.CheckVisible(epoch);
      incarnation.head = epoch;
      stage_.history.HeadMoved(epoch);
    }
  }

  std::string Describe(const void* at, std::uint64_t value) const {
    for (std::size_t i = stage_.incarnations.size(); i-- > 0;) {
      const std::string name = naming::NameOfWord(stage_.incarnations[i].view, at, value);
      if (!name.empty()) return i == 0 ? name : absl::StrCat("#", i, " ", name);
    }
    return absl::StrCat("new+", static_cast<const std::byte*>(at) - Arena(), " = ", value);
  }

  // Overwrites a sector that recovery must miss: with noise, any that was written; with zeros,
  // which may also be what a power loss left, one of a batch that another one behind it knows to
  // have been visible.
  void DamageSomething() {
    const std::vector<std::string> names = stage_.disk.Names(kJournal);
    if (names.empty()) return;
    const std::string newest =
        absl::StrCat(kJournal, "/", *std::max_element(names.begin(), names.end()));
    const std::vector<std::byte> bytes = stage_.disk.Stable(newest);
    std::vector<std::size_t> written;
    std::map<std::size_t, journal::BatchHeader> batches;  // by sector
    for (std::size_t at = 0; at + kSector <= bytes.size(); at += kSector) {
      const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(at);
      if (std::any_of(begin, begin + kSector, [](std::byte b) { return b != std::byte{0}; })) {
        written.push_back(at / kSector);
      }
      if (std::memcmp(&bytes[at], &journal::kBatchMagic, sizeof journal::kBatchMagic) == 0) {
        std::memcpy(&batches[at / kSector], &bytes[at], sizeof(journal::BatchHeader));
      }
    }
    // Where sectors tear, the header behind it may be torn, too, and prove nothing.
    Random& random = stage_.engine.random();
    const bool zeros = !stage_.plan.tears && random.OneIn(2);
    if (zeros) {
      std::erase_if(written, [&](std::size_t sector) {
        const auto behind = batches.upper_bound(sector);
        if (behind == batches.begin()) return true;
        const journal::BatchHeader& hit = std::prev(behind)->second;
        return std::none_of(behind, batches.end(), [&hit](const auto& later) {
          return later.second.durable_hint >= hit.first_epoch;
        });
      });
    }
    if (written.empty()) return;
    stage_.disk.Damage(newest, written[random.Below(written.size())], zeros);
  }

  Stage stage_;
  std::vector<Process> processes_;
};

}  // namespace

Outcome Play(const Plan& plan) { return plan.folders ? PlayFolders(plan) : World(plan).Play(); }

}  // namespace epoch::sim
