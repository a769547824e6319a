#include "border/judge.h"

#include <grp.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "border/answer.h"
#include "border/told.h"
#include "core/inspect/region_check.h"
#include "epoch/checkpoint.h"
#include "support/checked_state.h"
#include "support/files.h"
#include "support/region_test.h"

namespace epoch::test {
namespace {

constexpr unsigned kJudgeHangs_s = 120;
constexpr absl::Duration kJudgeWaits = absl::Seconds(10);

// What an error says of the transition.
enum class Claim { kUnchanged, kPending, kUnknown };

Claim ClaimOf(const Answered& answered) {
  const std::string& said = answered.message;
  if (said.empty()) return Claim::kUnknown;  // nobody could be told
  if (absl::StrContains(said, "is committed")) return Claim::kPending;
  if (absl::StrContains(said, "nothing was changed")) return Claim::kUnchanged;
  if (absl::StrContains(said, "pending") || absl::StrContains(said, "accepted")) {
    return Claim::kPending;
  }
  const bool unknown = absl::StrContains(said, "unknown") || answered.what == "DataLoss" ||
                       answered.what == "exit 5" || answered.out_of_memory;
  return unknown ? Claim::kUnknown : Claim::kUnchanged;
}

// In a process of its own: what is wrong may end it.
class Judge {
 public:
  Judge(const World& world, const Operation& operation, const Answered& answered,
        const Allowance& allowance, const Usual* usual, Text& faults, bool& poisoned)
      : world_(world),
        operation_(operation),
        answered_(answered),
        allowance_(allowance),
        usual_(usual),
        faults_(faults),
        poisoned_(poisoned) {}

  void Run() {
    if (world_.ground() == Ground::kCheckpoints) return LookAtCheckpoints();
    const bool there = std::filesystem::exists(world_.region());
    if (operation_.removes) {
      if (answered_.good == there) Fault("the region is there, or not, against what was said");
      if (!there) return;
    }
    if (world_.ground() == Ground::kEmpty && !operation_.makes) return;
    if (operation_.makes) {
      if (answered_.good && !there) return Fault("it succeeded, and there is no region");
    }
    if (operation_.copies) LookAtCopy();
    LookAtRegion();
  }

 private:
  void Fault(std::string_view text) { faults_.Add(text); }
  bool Good(const absl::Status& status, const std::string& what) {
    if (status.ok()) return true;
    Fault(absl::StrCat(what, ": ", status.ToString()));
    return false;
  }

  void LookAtRegion() {
    const RegionOptions options = world_.Options(world_.durable() || operation_.durable);
    absl::StatusOr<Region> region = operation_.makes
                                        ? Region::OpenOrCreate(world_.region(), options)
                                        : Region::Open(world_.region(), options);
    if (!Good(region.status(), "the region cannot be opened afterwards")) return;
    const detail::RegionView& view = region->mapping()->view();
    const auto head = detail::StateWord::Unpack(view.control->head.Load());
    if (head.phase == detail::Phase::kPoisoned) {
      poisoned_ = true;
      if (!allowance_.device_fails) Fault("the region is poisoned");
    }
    const Epoch base = operation_.ground == Ground::kEmpty ? 0 : kGroundEpoch;
    if (!LookAtState(*region, base)) return;
    if (!poisoned_ && !GoOn(*region, base)) return;
    const Epoch last = region->epoch();
    region = absl::UnknownError("closed");
    if (operation_.durable || world_.durable()) Recover(options, base, last);
    LookAtNames();
  }

  // What was made of an old epoch goes on by itself, and recovers; and where that failed, it can be
  // made.
  void LookAtCopy() {
    RegionOptions options = world_.Options(/*durable=*/true);
    options.journal = world_.copied();
    Epoch epoch = 0;
    for (const char* when : {"the copy", "the recovered copy"}) {
      absl::StatusOr<Region> region = Region::OpenOrCreate(world_.copy(), options);
      if (!Good(region.status(), absl::StrCat(when, " cannot be opened"))) return;
      const absl::StatusOr<Snapshot> found = region->Read();
      if (!Good(found.status(), absl::StrCat("the state of ", when))) return;
      if (epoch == 0) epoch = answered_.good ? kPastEpoch : found->epoch;
      if (found->epoch != epoch || (epoch > 0 && ReadChecked(found->state) != epoch)) {
        Fault(absl::StrCat(when, " is at epoch ", found->epoch, ", not ", epoch));
      }
      absl::StatusOr<Participant> self = Participant::Join(*region, {.name = "judge"});
      if (!Good(self.status(), absl::StrCat("nobody can join ", when))) return;
      CommitOptions commit;
      commit.timeout = kJudgeWaits;
      const auto next = self->Commit(CheckedState(found->epoch + 1), commit);
      if (!Good(next.status(), absl::StrCat("nobody can commit to ", when))) return;
      epoch = *next;
      self = absl::UnknownError("left");
      region = absl::UnknownError("closed");
      if (!Good(Region::Unlink(world_.copy()), absl::StrCat(when, " cannot be removed"))) return;
    }
  }

  // By now whoever came after has taken away what the operation had left half-made.
  void LookAtNames() {
    if (usual_ == nullptr || operation_.removes) return;
    for (const std::string& name : world_.Names()) {
      if (!std::binary_search(usual_->names.begin(), usual_->names.end(), name)) {
        Fault("left behind: " + name);
      }
    }
  }

  bool LookAtState(const Region& region, Epoch base) {
    const absl::StatusOr<Snapshot> found = region.Read();
    if (!Good(found.status(), "its state cannot be read")) return false;
    const bool collective = !operation_.checked && found->epoch > base;
    if (!collective && ReadChecked(found->state) != found->epoch) Fault("its state is torn");
    if (found->epoch < std::max(base, answered_.epoch)) Fault("an acknowledged epoch is gone");
    const absl::StatusOr<inspect::CheckReport> report = inspect::CheckRegion(world_.region());
    if (!Good(report.status(), "it cannot be checked")) return false;
    for (const inspect::Finding& finding : report->findings) {
      if (finding.severity == inspect::Finding::Severity::kDamage) {
        Fault(absl::StrCat("damage: ", finding.where, ": ", finding.what));
      }
    }
    return true;
  }

  // Somebody joins and commits; then nobody is in, and nothing is held.
  bool GoOn(const Region& region, Epoch base) {
    if (!Good(region.Reap().status(), "the dead cannot be reaped")) return false;
    {
      absl::StatusOr<Participant> self = Participant::Join(region, {.name = "judge"});
      if (!Good(self.status(), "nobody can join")) return false;
      CommitOptions options;
      options.timeout = kJudgeWaits;
      const absl::StatusOr<Epoch> next =
          self->Update([&](const Current& current,
                           Draft& draft) { return draft.Assign(CheckedState(current.epoch + 1)); },
                       options);
      if (!Good(next.status(), "nobody can commit")) return false;
      Compare(base, *next - 1);
      if (const Pin pin = self->Pin(); !pin.ok() || pin.epoch() != *next) Fault("nobody can pin");
    }
    if (!Good(region.Reap().status(), "the dead cannot be reaped")) return false;
    const detail::RegionView& view = region.mapping()->view();
    detail::Reclaim(view);
    const CellCount cells = CountCells(region);
    if (cells.free + 1 != view.geometry.versions) {
      Fault(absl::StrCat("versions leak: ", cells.free, " free, ", cells.drafted, " drafted, ",
                         cells.published, " published, ", cells.retired, " retired"));
    }
    if (CountSlots(region, detail::SlotState::kFree) != view.geometry.participants) {
      Fault(absl::StrCat("slots leak: ", CountSlots(region, detail::SlotState::kFree), " free"));
    }
    return true;
  }

  // What it said, and what was there when it had ended.
  void Compare(Epoch base, Epoch found) {
    if (operation_.paired && !answered_.good) {
      // Both or none; and what the other one was told is so, too.
      if (world_.added() != 0 && found != base + world_.added()) {
        Fault("its neighbour was told of another epoch");
      }
    } else if (operation_.paired && world_.added() == 0) {
      Fault("it succeeded, and the other one was told that nothing did");
    }
    if (operation_.asked) {
      if (found != base + world_.added()) Fault("its neighbour was told of another epoch");
      if (operation_.refuses && answered_.good && found != base)
        Fault("accepted, though its validator refuses");
      return;
    }
    if (answered_.good && operation_.adds > 0) {
      const Epoch told = answered_.epoch != 0 ? answered_.epoch : base + operation_.adds;
      if (found != told)
        Fault(absl::StrCat("it told of epoch ", told, ", but ", found, " is there"));
    }
    if (answered_.good || operation_.adds > 1) return;
    const Claim claim = answered_.ended ? ClaimOf(answered_) : Claim::kUnknown;
    if (claim == Claim::kUnchanged && found != base) {
      Fault("it says, or its code does, that nothing was changed: it was");
    }
    if (claim == Claim::kPending && found != base + operation_.adds) {
      Fault("it says that the epoch was accepted: it was not");
    }
    if (found > base + operation_.adds) Fault("there are more epochs than were committed");
  }

  // The machine restarts: only the journal is left.
  void Recover(const RegionOptions& options, Epoch base, Epoch last) {
    if (!Good(Region::Unlink(world_.region()), "it cannot be removed")) return;
    const absl::StatusOr<Region> region = Region::Restore(world_.region(), options);
    if (!Good(region.status(), "its journal cannot be recovered from")) return;
    const absl::StatusOr<Snapshot> found = region->Read();
    if (!Good(found.status(), "the recovered state cannot be read")) return;
    // A commit whose outcome is unknown may be in the journal, though it never became visible.
    const bool exact = !poisoned_ && found->epoch != last;
    if (found->epoch < last || exact || found->epoch > base + operation_.adds + 1 + 100) {
      Fault(absl::StrCat("recovered epoch ", found->epoch, ", it was ", last));
    }
    const bool collective = !operation_.checked && poisoned_;
    if (!collective && ReadChecked(found->state) != found->epoch) {
      Fault("the recovered state is torn");
    }
  }

  void LookAtCheckpoints() {
    const Checkpoints checkpoints(world_.checkpoints());
    const bool committed = operation_.name.starts_with("checkpoint commit") && answered_.good;
    {
      const absl::StatusOr<OpenCheckpoint> latest = checkpoints.OpenLatest();
      if (!Good(latest.status(), "no good checkpoint")) return;
      if (latest->info().step < (committed ? 4u : 3u)) Fault("a checkpoint is gone");
    }
    const absl::StatusOr<CheckpointList> list = checkpoints.List();
    if (!Good(list.status(), "no list of checkpoints")) return;
    for (const std::string& damage : list->damage) Fault("damage: " + damage);
    absl::StatusOr<CheckpointRank> rank =
        CheckpointRank::Join(world_.checkpoints(), CheckpointsOf(world_.region()));
    if (!Good(rank.status(), "no rank can join")) return;
    absl::StatusOr<CheckpointStep> step = rank->Begin(5, kJudgeWaits);
    if (!Good(step.status(), "no checkpoint can be begun")) return;
    WriteText(step->PathOf("model"), "shard of 5");
    if (!Good(step->Ready("model"), "no shard can be made ready")) return;
    if (!Good(step->Commit(kJudgeWaits).status(), "no checkpoint can be committed")) return;
    const absl::StatusOr<OpenCheckpoint> latest = checkpoints.OpenLatest();
    if (Good(latest.status(), "the new checkpoint") && latest->info().step != 5) {
      Fault("the new checkpoint is not the latest");
    }
  }

  const World& world_;
  const Operation& operation_;
  const Answered& answered_;
  const Allowance& allowance_;
  const Usual* const usual_;
  Text& faults_;
  bool& poisoned_;
};

struct Page {
  Text faults;
  bool poisoned = false;
  bool ended = false;
  Text names{};
};

}  // namespace

std::string NameOf(absl::StatusCode code) {
  std::string name;
  bool initial = true;
  for (const char c : absl::StatusCodeToString(code)) {  // "PERMISSION_DENIED"
    if (c != '_') name += initial ? c : absl::ascii_tolower(static_cast<unsigned char>(c));
    initial = c == '_';
  }
  return name;
}

Judgement JudgeWorld(const World& world, const Operation& operation, const Answered& answered,
                     const Allowance& allowance, const Usual* usual) {
  Judgement judgement;
  const auto fault = [&](std::string text) { judgement.faults.push_back(std::move(text)); };
  const bool killed = answered.signal != 0 && answered.signal == allowance.killed_by;
  if (!answered.ended && !killed) fault("it did not end by itself");
  const bool failed = answered.ended && !answered.good && !answered.out_of_memory;
  if (failed && !allowance.mute && answered.message.empty()) {
    fault("it failed without a word");
  }
  if (answered.out_of_memory && !allowance.short_of_memory) fault("std::bad_alloc");
  if (answered.good && operation.exact && usual != nullptr && answered.printed != usual->printed) {
    fault(absl::StrCat("it printed \"", answered.printed, "\", and said that it succeeded"));
  }
  const SharedPage<Page> page;
  const pid_t pid = fork();
  EPOCH_CHECK(pid >= 0, "fork");
  if (pid == 0) {
    alarm(kJudgeHangs_s);
    if (allowance.user != 0 && (setgroups(0, nullptr) != 0 || setgid(allowance.user) != 0 ||
                                setuid(allowance.user) != 0)) {
      _exit(1);
    }
    Judge(world, operation, answered, allowance, usual, page->faults, page->poisoned).Run();
    for (const std::string& name : world.Names()) page->names.Add(name);
    page->ended = true;
    _exit(0);
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!page->ended) {
    fault(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "whoever comes after it hangs"
                                                             : "whoever comes after it dies");
  }
  judgement.poisoned = page->poisoned;
  const bool lost = answered.what == "DataLoss" || answered.what == "exit 5";
  if (lost && !page->poisoned && !allowance.unreadable) {
    fault("it speaks of data loss, and nothing is lost");
  }
  judgement.names = absl::StrSplit(page->names.bytes, '\n', absl::SkipEmpty());
  const std::vector<std::string> faults =
      absl::StrSplit(page->faults.bytes, '\n', absl::SkipEmpty());
  judgement.faults.insert(judgement.faults.end(), faults.begin(), faults.end());
  return judgement;
}

}  // namespace epoch::test
