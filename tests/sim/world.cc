#include "tests/sim/world.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/journal/format.h"
#include "core/journal/journal.h"
#include "core/journal/reader.h"
#include "epoch/epoch.h"
#include "tests/sim/disk.h"
#include "tests/sim/history.h"
#include "tests/sim/names.h"

namespace epoch::sim {
namespace {

using detail::OwnerWord;
using detail::RegionView;
using detail::SlotWord;
using detail::StateWord;

constexpr const char* kRegion = "/dev/shm/epoch.sim";
constexpr const char* kJournal = "/disk/journal";
constexpr std::size_t kArenaBytes = std::size_t{1} << 20;

std::byte* Arena() {
  struct alignas(4096) Page {
    std::byte bytes[4096];
  };
  static Page* const pages = new Page[kArenaBytes / sizeof(Page)]();
  return pages->bytes;
}

class World {
 public:
  explicit World(const Plan& plan)
      : plan_(plan),
        memory_(Arena(), kArenaBytes),
        engine_(plan.settings, memory_),
        disk_(engine_, Arena(), kArenaBytes),
        history_([this](const std::string& what) { engine_.Violation(what); }) {
    options_.state_bytes = plan.state_bytes;
    options_.participants = static_cast<std::uint32_t>(plan.settings.processes + 2);
    options_.versions = plan.versions;
    options_.restore_timeout = absl::Milliseconds(20);
    if (plan.durable) {
      options_.journal = kJournal;
      options_.history = plan.latest ? JournalHistory::kLatest : JournalHistory::kAll;
      options_.retain_segments = plan.retain_segments;
      options_.segment_bytes =
          (journal::MinSegmentBlocks(plan.state_bytes) + plan.spare_blocks) * journal::kBlockBytes;
    }
    disk_.on_shm_link = [this](const std::string&, std::byte* memory) { Begins(memory); };
    engine_.on_store = [this](const void* at, std::uint64_t value) { Stored(at, value); };
    engine_.describe = [this](const void* at, std::uint64_t value) -> std::string {
      for (std::size_t i = incarnations_.size(); i-- > 0;) {
        const std::string name = NameOfWord(incarnations_[i].view, at, value);
        if (!name.empty()) return i == 0 ? name : absl::StrCat("#", i, " ", name);
      }
      return absl::StrCat("new+", static_cast<const std::byte*>(at) - Arena(), " = ", value);
    };
  }

  Outcome Play() {
    if (plan_.joined) Prepare();
    for (boot_ = 0; boot_ < plan_.boots && !engine_.violated() && !lost_; ++boot_) {
      const bool power_lost = engine_.Run([this](int process) { Live(process); });
      if (engine_.violated()) break;
      engine_.Settle();
      if (power_lost) disk_.PowerLoss(plan_.tears);
      if (plan_.damages && boot_ + 2 == plan_.boots) DamageSomething();
      if (!power_lost && boot_ + 1 < plan_.boots) {
        sys::unlink(kRegion);  // all are gone: somebody tidies up /dev/shm
      }
    }
    if (!engine_.violated() && !lost_) Audit();
    return {engine_.steps(), history_.visible_max(), engine_.violation()};
  }

 private:
  using JournalHistory = detail::History;

  struct Member {
    Region region;
    Participant self;
  };

  // Joins everybody before the run: small cases are about what comes then.
  void Prepare() {
    for (int p = 0; p < plan_.settings.processes; ++p) {
      disk_.ActAs(p);
      std::optional<Region> region = Enter();
      auto joined = Participant::Join(*region, {.name = "p"});
      members_.push_back(Member{*std::move(region), *std::move(joined)});
    }
    disk_.ActAs(-1);
  }

  struct Incarnation {
    std::byte* memory;
    RegionView view;
    Epoch head;
  };

  // --- what the machine tells --------------------------------------------------------------------

  void Begins(std::byte* memory) {
    detail::Superblock super;
    std::memcpy(&super, memory, sizeof super);
    const auto geometry =
        detail::Geometry::For(super.state_bytes, super.participants, super.versions);
    if (!geometry.has_value()) return engine_.Violation("G12: a region without a geometry");
    const RegionView view = RegionView::At(memory, *geometry, super.durable != 0);
    const StateWord head = StateWord::Unpack(view.control->head.Peek());
    history_.Restored(head.epoch,
                      {view.PayloadOf(head.version), view.cells[head.version].length_bytes.Peek()});
    incarnations_.push_back({memory, view, head.epoch});
    converged_ = 0;
    expelled_.clear();
  }

  void Stored(const void* at, std::uint64_t value) {
    for (std::size_t i = 0; i < incarnations_.size(); ++i) {
      Incarnation& incarnation = incarnations_[i];
      if (at != &incarnation.view.control->head) continue;
      const Epoch epoch = StateWord::Unpack(value).epoch;
      if (epoch < incarnation.head) engine_.Violation("G1: head went back");
      if (epoch > incarnation.head && i + 1 < incarnations_.size()) {
        engine_.Violation("G7: a superseded incarnation went on");
      }
      incarnation.head = epoch;
      history_.HeadMoved(epoch);
    }
  }

  // Overwrites a sector that recovery must miss: with noise, any that was written; with zeros,
  // which may also be what a power loss left, one of a batch that has another batch behind it.
  void DamageSomething() {
    const std::vector<std::string> names = disk_.Names(kJournal);
    if (names.empty()) return;
    const std::string newest =
        absl::StrCat(kJournal, "/", *std::max_element(names.begin(), names.end()));
    const std::vector<std::byte> bytes = disk_.Stable(newest);
    std::vector<std::size_t> written, batches;
    for (std::size_t at = 0; at + kSector <= bytes.size(); at += kSector) {
      const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(at);
      if (std::any_of(begin, begin + kSector, [](std::byte b) { return b != std::byte{0}; })) {
        written.push_back(at / kSector);
      }
      if (std::memcmp(&bytes[at], &journal::kBatchMagic, sizeof journal::kBatchMagic) == 0) {
        batches.push_back(at / kSector);
      }
    }
    // Where sectors tear, the header behind it may be torn, too, and prove nothing.
    const bool zeros = !plan_.tears && engine_.random().OneIn(2);
    if (zeros) {
      std::erase_if(written, [&](std::size_t sector) {
        return batches.empty() || sector < batches.front() || sector >= batches.back();
      });
    }
    if (written.empty()) return;
    disk_.Damage(newest, written[engine_.random().Below(written.size())], zeros);
  }

  // --- one process -------------------------------------------------------------------------------

  void Live(int process) {
    if (process == plan_.settings.processes) {
      // Forked: until the child closes what it inherited, its parent's locks live on.
      for (std::uint64_t i = engine_.random().Below(40); i > 0; --i)
        engine_.Point("fork.inherited");
      disk_.CloseAllOf(process);
    }
    if (plan_.joined) {
      Member member = std::move(members_[static_cast<std::size_t>(process)]);
      Epoch newest = 0;
      Work(process, member.region, member.self, newest);
      return;
    }
    for (int life = 0; life < 6 && !engine_.violated() && !lost_; ++life) {
      std::optional<Region> region = Enter();
      if (!region.has_value()) return;
      auto joined = Participant::Join(*region, {.name = "p"});
      if (!joined.ok()) {
        if (!absl::IsResourceExhausted(joined.status())) Fail(joined.status(), "join");
        return;
      }
      Participant self = *std::move(joined);
      CheckAcknowledged(*region, self);
      Epoch newest = 0;  // G1
      if (!Work(process, *region, self, newest)) return;
    }
  }

  // Until there is nothing left to do (false), or the region has to be opened anew (true).
  bool Work(int process, const Region& region, Participant& self, Epoch& newest) {
    auto& next = next_[static_cast<std::size_t>(process)];
    const auto& operations = plan_.operations[static_cast<std::size_t>(process)];
    while (next < operations.size() && !engine_.violated()) {
      const Op op = operations[next];
      if (op.boot > boot_) return false;
      ++next;
      if (op.boot < boot_) continue;
      engine_.Trace("%s", NameOf(op.kind));
      bool reopen = op.kind == OpKind::kReopen;
      Operate(op, region, self, newest, reopen);
      if (reopen) return true;
    }
    return false;
  }

  std::optional<Region> Enter() {
    RegionOptions options = options_;
    for (int attempt = 0; attempt < 8; ++attempt) {
      absl::StatusOr<Region> region = Region::OpenOrCreate(kRegion, options);
      if (region.ok()) return *std::move(region);
      engine_.Trace("open: %s", region.status().ToString().c_str());
      switch (region.status().code()) {
        case absl::StatusCode::kDataLoss:
          if (disk_.damaged()) {
            lost_ = true;  // said so, as it must: the end of this run
            return std::nullopt;
          }
          // A sector that was torn in itself looks like damage; the override says to go on.
          if (plan_.tears && !options.ignore_block_damage) {
            options.ignore_block_damage = true;
            continue;
          }
          Fail(region.status(), "G7: nothing was damaged, but recovery says");
          return std::nullopt;
        case absl::StatusCode::kInternal:            // a read or a sync failed
        case absl::StatusCode::kFailedPrecondition:  // somebody is still attached; superseded
        case absl::StatusCode::kResourceExhausted:   // no room
        case absl::StatusCode::kUnavailable:
        case absl::StatusCode::kAlreadyExists:
          if (!plan_.durable) Fail(region.status(), "open");
          seam::SleepFor(5'000'000);
          continue;
        default:
          if (absl::StrContains(region.status().message(), "can not sync") ||
              absl::StrContains(region.status().message(), "Input/output error")) {
            continue;  // EIO while making a segment
          }
          Fail(region.status(), "open");
          return std::nullopt;
      }
    }
    return std::nullopt;
  }

  void Operate(const Op& op, const Region& region, Participant& self, Epoch& newest, bool& reopen) {
    Random random(op.argument);
    switch (op.kind) {
      case OpKind::kPin:
        return PinAndLook(region, self, newest, random);
      case OpKind::kCommit:
        return CommitOne(self, newest, std::nullopt, random, reopen);
      case OpKind::kCommitExpecting:
        return CommitOne(self, newest, newest, random, reopen);
      case OpKind::kUpdate:
      case OpKind::kProposeThenAwait:
        return UpdateOnce(self, newest, random, op.kind == OpKind::kUpdate, reopen);
      case OpKind::kDropDraft: {
        auto draft = self.NewDraft(plan_.state_bytes);
        engine_.Point("drafting");
        return Tolerate(draft.status(), "draft", reopen);
      }
      case OpKind::kRead: {
        const auto snapshot = region.Read();
        if (!snapshot.ok()) {
          if (!absl::IsUnavailable(snapshot.status())) Fail(snapshot.status(), "read");
          return;
        }
        See(snapshot->epoch, snapshot->state, newest, false);
        return;
      }
      case OpKind::kPark:
        return Tolerate(self.Park(), "park", reopen);
      case OpKind::kPoll:
        return Tolerate(self.Poll().status(), "poll", reopen);
      case OpKind::kReap:
        return Tolerate(region.Reap().status(), "reap", reopen);
      case OpKind::kExpel:
        return ExpelSomebody(region, self, random);
      case OpKind::kRejoin: {
        if (random.OneIn(2)) Tolerate(self.Leave(), "leave", reopen);
        const absl::Status s = self.Rejoin();
        if (!s.ok() && !absl::IsResourceExhausted(s)) return Fail(s, "rejoin");
        if (s.ok()) CheckAcknowledged(region, self);
        return;
      }
      case OpKind::kAwaitConverged: {
        const auto waited = self.Await(newest, Stage::kConverged, absl::Milliseconds(3));
        if (waited.ok()) {
          if (IsNewest(region)) converged_ = std::max(converged_, newest);
          return;
        }
        if (!absl::IsDeadlineExceeded(waited.status())) Tolerate(waited.status(), "await", reopen);
        return;
      }
      case OpKind::kReopen:
        return;
    }
  }

  void PinAndLook(const Region& region, Participant& self, Epoch& newest, Random& random) {
    const bool expelled = expelled_.count({self.slot(), self.generation()}) != 0;
    const Pin pin = self.Pin();
    if (!pin.ok()) return;
    if (expelled) engine_.Violation("G9: an expelled participant was not told");
    CheckConverged(region, self, pin.epoch(), "pinned");
    const Content first = See(pin.epoch(), pin.state(), newest, true);
    for (std::uint64_t i = random.Below(random.OneIn(4) ? 60 : 6); i > 0; --i) {
      engine_.Point("pinned");
      Content again;
      if (!Decode(pin.state(), again) || !(again == first)) {
        engine_.Violation("G3: a pinned state changed");
      }
    }
  }

  // Fills a draft. Its bytes are written after everybody's last read of that cell.
  void Fill(std::span<std::byte> to, const Content& content) {
    const std::vector<std::byte> bytes = Encode(content);
    std::memcpy(to.data(), bytes.data(), bytes.size());
    if (!memory_.PlainWrite(engine_.current(), to.data())) {
      engine_.Violation("G3: a draft is written before an earlier reader has finished");
    }
  }

  std::uint64_t SizeFor(Random& random) {
    return random.OneIn(2) ? plan_.state_bytes
                           : sizeof(Content) + random.Below(plan_.state_bytes - sizeof(Content));
  }

  void CommitOne(Participant& self, Epoch& newest, std::optional<Epoch> expected, Random& random,
                 bool& reopen) {
    const Content content =
        history_.Draft(expected.value_or(Content::kUnconditional), 0, SizeFor(random));
    auto draft = self.NewDraft(content.bytes);
    if (!draft.ok()) return Tolerate(draft.status(), "draft", reopen);
    Fill(draft->bytes(), content);
    const CommitOptions options{.expected = expected, .timeout = Patience()};
    Committed(self, newest, content, self.Commit(*std::move(draft), options), reopen);
  }

  void UpdateOnce(Participant& self, Epoch& newest, Random& random, bool wait, bool& reopen) {
    Content content;
    const CommitOptions options{.timeout = Patience()};
    const auto update = [&](const Current& current, Draft& next) -> absl::Status {
      Content before;
      if (!Decode(current.state, before)) engine_.Violation("G3: a torn accepted state");
      if (!memory_.PlainRead(engine_.current(), current.state.data())) {
        engine_.Violation("G3: a state is read before it is written");
      }
      history_.Accepted(current.epoch, before);
      content = history_.Draft(current.epoch, before.counter + 1, SizeFor(random));
      engine_.Point("updating");
      if (absl::Status s = next.Resize(content.bytes); !s.ok()) return s;
      Fill(next.bytes(), content);
      return absl::OkStatus();
    };
    if (wait) return Committed(self, newest, content, self.Update(update, options), reopen);
    const auto ticket = self.ProposeUpdate(update, options);
    if (!ticket.ok()) return Committed(self, newest, content, ticket.status(), reopen);
    history_.Accepted(ticket->epoch, content);
    Committed(self, newest, content, self.Await(*ticket, Patience()), reopen);
  }

  // Volatile commits need no patience; a disk may keep one waiting for ever.
  absl::Duration Patience() const {
    return plan_.durable ? absl::Seconds(30) : absl::InfiniteDuration();
  }

  void Committed(const Participant& self, Epoch& newest, const Content& content,
                 const absl::StatusOr<Epoch>& result, bool& reopen) {
    if (!result.ok()) {
      // These say that nothing was changed.
      const bool refused = absl::IsAborted(result.status()) ||
                           absl::IsFailedPrecondition(result.status()) ||
                           absl::IsResourceExhausted(result.status());
      if (refused && content.id != 0) history_.Refused(content);
      if (!absl::IsAborted(result.status())) Tolerate(result.status(), "commit", reopen);
      return;
    }
    history_.Visible(*result, content);
    newest = std::max(newest, *result);  // its own commit is visible to it from now on
    const auto expelled = expelled_.find({self.slot(), self.generation()});
    if (expelled != expelled_.end() && *result > expelled->second + 1) {
      engine_.Violation("G9: an expelled participant committed after another epoch was");
    }
  }

  bool IsNewest(const Region& region) const {
    return region.mapping()->view().control == incarnations_.back().view.control;
  }

  void ExpelSomebody(const Region& region, const Participant& self, Random& random) {
    if (random.OneIn(2)) return;
    const auto slot = static_cast<std::uint32_t>(
        random.Below(static_cast<std::uint64_t>(plan_.settings.processes)));
    if (slot == self.slot()) return;
    const RegionView& view = region.mapping()->view();
    const std::uint64_t generation = SlotWord::Unpack(view.slots[slot].state.Load()).generation;
    if (!region.Expel(slot).ok()) return;
    if (SlotWord::Unpack(view.slots[slot].state.Load()).generation != generation) return;
    const Epoch tail = StateWord::Unpack(view.control->tail.Load()).epoch;
    if (IsNewest(region)) expelled_.try_emplace({slot, generation}, tail);
  }

  // Whoever is in the region operates under an epoch no older than one that has converged.
  void CheckAcknowledged(const Region& region, const Participant& self) {
    const auto& slot = region.mapping()->view().slots[self.slot()];
    CheckConverged(region, self, detail::OwnedWord::Unpack(slot.ack.Peek()).number, "joined");
  }
  void CheckConverged(const Region& region, const Participant& self, Epoch epoch,
                      const char* what) {
    if (!IsNewest(region)) return;
    const auto state = SlotWord::Unpack(region.mapping()->view().slots[self.slot()].state.Peek());
    if (state.state != detail::SlotState::kActive || state.generation != self.generation()) return;
    if (epoch < converged_) {
      engine_.Violation(
          absl::StrCat("G6: ", what, " under epoch ", epoch, " after convergence on ", converged_));
    }
  }

  Content See(Epoch epoch, std::span<const std::byte> bytes, Epoch& newest, bool in_place) {
    if (epoch < newest) engine_.Violation("G1: head went back");
    newest = epoch;
    Content content;
    if (!Decode(bytes, content)) {
      engine_.Violation("G3: a torn state");
      return content;
    }
    if (in_place && !memory_.PlainRead(engine_.current(), bytes.data())) {
      engine_.Violation("G3: a state is read before it is written");
    }
    history_.Visible(epoch, content);
    return content;
  }

  // --- afterwards --------------------------------------------------------------------------------

  void Audit() {
    engine_.Settle();
    std::optional<Region> region = Enter();
    if (lost_) return;
    if (!region.has_value()) return engine_.Violation("G8: the region can not be opened any more");
    const RegionView& view = region->mapping()->view();
    {
      auto last = Participant::Join(*region, {.name = "auditor"});
      if (!last.ok()) return Fail(last.status(), "G10: the auditor can not join");
      const StateWord tail = StateWord::Unpack(view.control->tail.Load());
      const auto waited = last->Await(tail.epoch, Stage::kCommitted, absl::Seconds(30));
      if (!waited.ok()) {
        if (!plan_.durable || !absl::IsDataLoss(waited.status())) {
          return Fail(waited.status(), "G8: an accepted epoch never becomes visible");
        }
      }
    }
    detail::ReapAll(*region->mapping());
    detail::Reclaim(view);
    AuditWords(view);
    if (plan_.durable && !engine_.violated()) {
      region.reset();
      AuditJournal();
    }
  }

  void AuditWords(const RegionView& view) {
    for (std::uint32_t i = 0; i < view.geometry.participants; ++i) {
      const SlotWord slot = SlotWord::Unpack(view.slots[i].state.Load());
      if (slot.state != detail::SlotState::kFree) {
        engine_.Violation(
            absl::StrCat("G10: slot ", i, " leaked in state ", static_cast<int>(slot.state)));
      }
    }
    const StateWord head = StateWord::Unpack(view.control->head.Load());
    const StateWord tail = StateWord::Unpack(view.control->tail.Load());
    const bool poisoned = head.phase == detail::Phase::kPoisoned;
    if (head.epoch != tail.epoch && !poisoned) {
      engine_.Violation("G8: an accepted epoch never became visible");
    }
    for (std::uint32_t i = 0; i < view.geometry.versions; ++i) {
      const OwnerWord owner = OwnerWord::Unpack(view.cells[i].owner.Load());
      const bool kept =
          owner.state == detail::CellState::kPublished && view.cells[i].epoch.Load() >= head.epoch;
      if (i == head.version && !kept) {
        engine_.Violation(absl::StrCat("G10: head names cell ", i, ", which is in state ",
                                       static_cast<int>(owner.state)));
      }
      if (owner.state != detail::CellState::kFree && !kept) {
        engine_.Violation(absl::StrCat("G10: cell ", i, " is left in state ",
                                       static_cast<int>(owner.state), ", head names ",
                                       head.version));
      }
    }
    if (history_.visible_max() > head.epoch) {
      engine_.Violation("G1: an epoch was seen that head does not reach");
    }
  }

  // Everything once more from the journal alone; twice, with the same result (checked by Begins).
  void AuditJournal() {
    for (int i = 0; i < 2 && !engine_.violated(); ++i) {
      sys::unlink(kRegion);
      if (!Enter().has_value() && !lost_) {
        return engine_.Violation("G8: the journal can not be restored from any more");
      }
      if (lost_) return;
    }
    if (disk_.damaged() || plan_.tears) return;
    journal::ScanOptions options;
    options.on_record = [this](const journal::Record& record) {
      history_.Recorded(record.header.epoch, record.payload);
    };
    const auto scan = journal::ScanJournal(kJournal, options);
    if (!scan.ok()) return Fail(scan.status(), "G7: the journal can not be read");
    // Cut tails of older segments are no damage of what they hand over.
    for (const std::string& damage : scan->damage) engine_.Violation("G7: " + damage);
    const std::size_t most = options_.retain_segments + std::size_t{1};
    const std::size_t bounded = plan_.latest && options_.retain_segments == 0 ? 2 : most;
    if ((plan_.latest || options_.retain_segments != 0) && scan->segments.size() > bounded) {
      engine_.Violation(absl::StrCat("G10: ", scan->segments.size(), " segments are left"));
    }
  }

  void Fail(const absl::Status& status, const char* what) {
    engine_.Violation(absl::StrCat(what, ": ", status.ToString()));
  }

  // Being expelled, or exhausted, is nobody's fault here; with a disk, neither is it to be told
  // that it failed. Anything else is.
  void Tolerate(const absl::Status& status, const char* what, bool& reopen) {
    if (status.ok() || absl::IsFailedPrecondition(status) || absl::IsResourceExhausted(status)) {
      reopen = reopen || absl::StrContains(status.message(), "superseded");
      return;
    }
    if (plan_.durable && (absl::IsUnavailable(status) || absl::IsDataLoss(status) ||
                          absl::IsInternal(status) || absl::IsDeadlineExceeded(status))) {
      engine_.Trace("%s: %s", what, status.ToString().c_str());
      if (!DiskFaulted()) Fail(status, what);
      reopen = true;
      return;
    }
    Fail(status, what);
  }
  bool DiskFaulted() const {
    return std::any_of(plan_.settings.faults.begin(), plan_.settings.faults.end(),
                       [](const Fault& f) { return f.kind == FaultKind::kDisk; });
  }

  const Plan& plan_;
  Memory memory_;
  Engine engine_;
  Disk disk_;
  History history_;
  RegionOptions options_;
  std::array<std::size_t, kMaxProcesses> next_{};  // operation, by process
  std::vector<Incarnation> incarnations_;
  std::vector<Member> members_;  // plan_.joined
  std::map<std::pair<std::uint32_t, std::uint64_t>, Epoch> expelled_;
  Epoch converged_ = 0;
  int boot_ = 0;
  bool lost_ = false;
};

}  // namespace

Outcome Play(const Plan& plan) { return World(plan).Play(); }

}  // namespace epoch::sim
