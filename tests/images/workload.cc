// All that calls Epoch: the processes of a workload, and recovery.
#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/journal/format/format.h"
#include "epoch/epoch.h"
#include "epoch/journal.h"
#include "tests/images/recording.h"

namespace epoch::images {

namespace {

using detail::RegionView;
using detail::StateWord;

std::optional<RegionView> ViewOf(std::byte* memory) {
  detail::Superblock super;
  std::memcpy(&super, memory, sizeof super);
  const auto geometry =
      detail::Geometry::For(super.state_bytes, super.participants, super.versions);
  if (!geometry.has_value()) return std::nullopt;
  return RegionView::At(memory, *geometry, true);
}

Version VersionIn(const RegionView& view, std::uint32_t index) {
  const detail::VersionCell& cell = view.cells[index];
  const std::byte* payload = view.PayloadOf(index);
  return {cell.chain.Load(), cell.token.Load(), {payload, payload + cell.length_bytes.Load()}};
}

RegionOptions OptionsFor(const Setup& setup) {
  RegionOptions options;
  options.state_bytes = setup.state_bytes;
  options.participants = 6;
  options.versions = 16;
  options.journal = kJournal;
  options.history = setup.latest ? History::kLatest : History::kAll;
  options.segment_bytes = setup.segment_bytes;
  options.retain_segments = setup.retain_segments;
  options.retain_epochs = setup.retain_epochs;
  return options;
}

class Workload {
 public:
  Workload(std::uint64_t seed, Recording& recording, const Tree& stable)
      : recording_(recording),
        tree_(stable),
        fibers_(seed),
        random_(seed + 0x51ed2701),
        disk_(tree_, &recording.log, seed + 77) {
    recording_.before = tree_;
    recording_.acknowledged = recording_.acknowledged_before;
    disk_.faults = random_.OneIn(3) ? 6 + random_.Below(20) : 0;
    disk_.on_shm_link = [this](std::byte* memory) { Begins(memory); };
    disk_.acknowledged = [this] {
      Look();
      return recording_.acknowledged;
    };
    fibers_.between = [this] { Look(); };
    fibers_.on_gone = [this](int process) { disk_.CloseAllOf(process); };
  }

  void Run() {
    const std::uint64_t lives = 1 + random_.Below(4);
    for (std::uint64_t life = 0; life < lives && recording_.broken.empty(); ++life) {
      const std::uint64_t writers = 1 + random_.Below(4);
      std::vector<int> alive;
      for (std::uint64_t i = 0; i < writers; ++i) {
        const std::uint64_t seed = random_.Next();
        const std::uint64_t operations = 2 + random_.Below(6);
        alive.push_back(fibers_.Start([this, seed, operations] { Write(seed, operations); }));
      }
      if (random_.OneIn(3)) {
        fibers_.Run(random_.Below(400));  // in the middle of making or restoring it
      } else {
        if (random_.OneIn(2)) fibers_.Run(20 + random_.Below(1500));
        if (random_.OneIn(2)) fibers_.Kill(alive[random_.Below(alive.size())]);
        fibers_.Run(random_.OneIn(2) ? random_.Below(3000) : 200'000);
      }
      if (life + 1 == lives) break;
      // Together, with their writes still under way; who comes next finds the region, or has to
      // restore it.
      for (const int process : alive) fibers_.Kill(process);
      if (random_.OneIn(3)) continue;
      Look();
      ForgetRegion();
      view_.reset();
    }
    Look();
  }

 private:
  void Broken(const std::string& what) {
    if (recording_.broken.empty()) recording_.broken = what;
  }

  // A region got its name. It starts from the newest epoch of an order that is known.
  void Begins(std::byte* memory) {
    const std::optional<RegionView> view = ViewOf(memory);
    if (!view.has_value()) return Broken("a region without a geometry");
    const StateWord head = StateWord::Unpack(view->control->head.Load());
    const Version base = VersionIn(*view, head.version);
    auto& all = recording_.incarnations;
    Order order;
    if (all.empty() && head.epoch == 0) order.push_back(base);
    for (auto known = all.rbegin(); known != all.rend() && order.empty(); ++known) {
      if (known->size() <= head.epoch || (*known)[head.epoch].chain != base.chain ||
          (*known)[head.epoch].state != base.state) {
        continue;
      }
      order.assign(known->begin(), known->begin() + static_cast<std::ptrdiff_t>(head.epoch) + 1);
    }
    if (order.empty()) {
      return Broken(absl::StrCat("a region starts from epoch ", head.epoch,
                                 " with a state that nobody has accepted"));
    }
    const Acknowledged& promised = recording_.acknowledged;
    if (promised.incarnation >= 0 &&
        (order.size() <= promised.epoch ||
         order[promised.epoch].chain !=
             all[static_cast<std::size_t>(promised.incarnation)][promised.epoch].chain)) {
      return Broken(absl::StrCat("a region starts from epoch ", head.epoch, ", but ",
                                 promised.epoch, " was acknowledged"));
    }
    all.push_back(std::move(order));
    view_ = view;
    Look();
  }

  // What was accepted and what became visible since the last look. Between two of them nothing
  // reaches the disk, so no cell of what was accepted meanwhile has been recycled.
  void Look() {
    if (!view_.has_value()) return;
    Order& order = recording_.incarnations.back();
    const StateWord tail = StateWord::Unpack(view_->control->tail.Load());
    std::uint32_t cell = tail.version;
    Epoch epoch = tail.epoch;
    if (tail.phase == detail::Phase::kVoting) {  // undecided
      cell = detail::PreviousCellOf(view_->cells[cell].shape.Load());
      --epoch;
    }
    std::vector<Version> accepted;
    for (; epoch >= order.size(); --epoch) {
      if (view_->cells[cell].epoch.Load() != epoch)
        return Broken("accepted versions are not linked");
      accepted.push_back(VersionIn(*view_, cell));
      cell = detail::PreviousCellOf(view_->cells[cell].shape.Load());
    }
    order.insert(order.end(), std::make_move_iterator(accepted.rbegin()),
                 std::make_move_iterator(accepted.rend()));
    const Epoch head = StateWord::Unpack(view_->control->head.Load()).epoch;
    if (head >= order.size()) return Broken("head is ahead of what was accepted");
    recording_.acknowledged = {static_cast<int>(recording_.incarnations.size()) - 1, head};
  }

  // --- one process -------------------------------------------------------------------------------

  void Write(std::uint64_t seed, std::uint64_t operations) {
    Random random(seed);
    for (int attempt = 0; attempt < 20; ++attempt) {
      absl::StatusOr<Region> region = Region::OpenOrCreate(kRegion, OptionsFor(recording_.setup));
      if (!region.ok()) {
        if (absl::IsDataLoss(region.status()) || absl::IsInternal(region.status())) {
          return Broken(absl::StrCat("open: ", region.status().ToString()));
        }
        seam::SleepFor(5'000'000);
        continue;
      }
      auto self = Participant::Join(*region, {.name = "w", .voter = random.OneIn(2)});
      if (!self.ok()) return;
      self->SetValidator([&](const Proposal&) {
        return random.OneIn(6) ? Answer::Reject("no") : Answer::Accept();
      });
      for (; operations > 0; --operations) {
        if (!Operate(*self, random)) break;
      }
      if (operations == 0) return;
    }
  }

  // False: it should open the region anew.
  bool Operate(Participant& self, Random& random) {
    CommitOptions options;
    options.timeout = absl::Seconds(2);
    options.token = random.Next();
    const auto update = [&](const Current&, Draft& next) { return Fill(next, random); };
    absl::Status status;
    switch (random.Below(8)) {
      case 0: {  // several accepted before any is awaited: a batch of more than one
        std::optional<Ticket> last;
        for (std::uint64_t i = 2 + random.Below(3); i > 0; --i) {
          absl::StatusOr<Ticket> ticket = self.ProposeUpdate(update, options);
          if (ticket.ok()) last = *ticket;
        }
        if (last.has_value()) status = self.Await(*last, options.timeout).status();
        break;
      }
      case 1:
        options.agreement = Agreement::kAllVoters;
        options.min_voters = 0;
        options.on_straggler = random.OneIn(4) ? Straggler::kAbort : Straggler::kExpel;
        options.timeout = absl::Microseconds(20 + random.Below(3000));
        status = self.Update(update, options).status();
        break;
      case 2:
        status = self.Poll().status();
        break;
      default:
        status = self.Update(update, options).status();
    }
    return !absl::IsDataLoss(status) && !absl::IsUnavailable(status) &&
           !(absl::IsFailedPrecondition(status));
  }

  absl::Status Fill(Draft& next, Random& random) const {
    const std::uint64_t most = recording_.setup.state_bytes;
    // Also sizes at which a record just fills a block, and states that are mostly zeros.
    constexpr std::array<std::uint64_t, 6> kSizes = {1, 8, 304, 3884, 3885, 7976};
    std::uint64_t size = random.OneIn(3)   ? kSizes[random.Below(kSizes.size())]
                         : random.OneIn(3) ? random.Below(most + 1)
                                           : random.Below(400);
    size = std::min(size, most);
    if (absl::Status s = next.Resize(size); !s.ok()) return s;
    const bool zeros = random.OneIn(4);
    std::byte* to = next.bytes().data();
    for (std::uint64_t i = 0; i < size; i += 8) {
      const std::uint64_t word = zeros && i > 0 ? 0 : random.Next();
      std::memcpy(to + i, &word, std::min<std::uint64_t>(8, size - i));
    }
    return absl::OkStatus();
  }

  Recording& recording_;
  Tree tree_;
  Fibers fibers_;
  Random random_;
  Disk disk_;
  std::optional<RegionView> view_;
};

}  // namespace

Recording Play(std::uint64_t seed) {
  Random random(seed ^ 0xabcdef);
  Recording recording;
  constexpr std::array<std::uint64_t, 4> kStates = {200, 3884, 9000, 14000};
  recording.setup.state_bytes = kStates[random.Below(kStates.size())];
  recording.setup.segment_bytes =
      (journal::MinSegmentBlocks(recording.setup.state_bytes) + random.Below(10)) *
      journal::kBlockBytes;
  recording.setup.latest = random.OneIn(3);
  recording.setup.retain_segments =
      random.OneIn(2) ? 0 : 1 + static_cast<std::uint32_t>(random.Below(2));
  recording.setup.retain_epochs = random.OneIn(3) ? 1 + random.Below(30) : 0;
  Workload(seed, recording, Tree()).Run();
  return recording;
}

Recording PlayOn(std::uint64_t seed, const Recording& before, const Tree& stable,
                 const Acknowledged& acknowledged) {
  Recording recording;
  recording.setup = before.setup;
  recording.incarnations = before.incarnations;
  recording.acknowledged_before = acknowledged;
  Workload(seed, recording, stable).Run();
  return recording;
}

void ForgetRegion() { Region::Unlink(kRegion).IgnoreError(); }

Recovered Recover(const Setup& setup) {
  RegionOptions options = OptionsFor(setup);
  options.participants = 1;
  options.versions = 4;
  options.restore_timeout = absl::ZeroDuration();
  Recovered result;
  absl::StatusOr<Region> region = Region::Restore(kRegion, options);
  if (!region.ok()) {
    result.no_journal = absl::IsNotFound(region.status());
    // A format number that is not this build's stands before the header's CRC is looked at.
    result.reported = absl::IsDataLoss(region.status()) || absl::IsUnimplemented(region.status());
    result.message = region.status().ToString();
    return result;
  }
  const RegionView& view = region->mapping()->view();
  const StateWord head = StateWord::Unpack(view.control->head.Load());
  absl::StatusOr<Snapshot> snapshot = region->Read();
  if (!snapshot.ok()) {
    result.message = snapshot.status().ToString();
    return result;
  }
  result.ok = true;
  result.epoch = snapshot->epoch;
  result.version = {view.cells[head.version].chain.Load(), snapshot->token,
                    std::move(snapshot->state)};
  return result;
}

}  // namespace epoch::images
