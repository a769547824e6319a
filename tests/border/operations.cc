#include "border/operations.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <memory>

#include "core/journal/batch/ring.h"
#include "core/journal/format/format.h"
#include "epoch/checkpoint.h"
#include "epoch/collective.h"
#include "epoch/history.h"
#include "epoch/journal.h"
#include "support/checked_state.h"

namespace epoch::test {
namespace {

// No operation waits so long for anything that comes; one that waits for what does not come ends.
constexpr absl::Duration kPatience = absl::Seconds(3);
constexpr char kPatienceText[] = "3s";
constexpr char kPastText[] = "2";  // kPastEpoch
constexpr std::size_t kBigBytes = 60'000;
constexpr int kSeveral = 6;

struct Member {
  Region region;
  Participant self;
};

template <typename T>
T Must(absl::StatusOr<T> result) {
  if (!result.ok()) throw Unprepared{result.status()};
  return *std::move(result);
}

std::shared_ptr<Member> Joined(const std::string& path, const RegionOptions& options,
                               bool voter = false) {
  Region region = Must(Region::Open(path, options));
  Participant self = Must(Participant::Join(region, {.name = "acting", .voter = voter}));
  return std::make_shared<Member>(Member{region, std::move(self)});
}

// The next state, of that size.
absl::StatusOr<Epoch> Add(Participant& self, const CommitOptions& options,
                          std::size_t size = kCheckedStateBytes) {
  return self.Update(
      [&](const Current& current, Draft& next) {
        if (absl::Status s = next.Resize(size); !s.ok()) return s;
        WriteChecked(next.bytes(), current.epoch + 1);
        return absl::OkStatus();
      },
      options);
}

CommitOptions Patient() {
  CommitOptions options;
  options.timeout = kPatience;
  return options;
}

// A commit of whoever has joined.
Operation Committing(const std::string& name, Ground ground,
                     std::function<absl::StatusOr<Epoch>(Member&)> commit) {
  Operation operation{.name = name, .ground = ground, .adds = 1};
  operation.prepare = [commit](const std::string& path, const RegionOptions& options) -> Act {
    return [commit, member = Joined(path, options)] { return commit(*member); };
  };
  return operation;
}

// What changes nothing, by whoever has joined.
Operation Looking(const std::string& name, Ground ground,
                  std::function<absl::Status(Member&)> look) {
  Operation operation{.name = name, .ground = ground};
  operation.prepare = [look](const std::string& path, const RegionOptions& options) -> Act {
    return [look, member = Joined(path, options)]() -> absl::StatusOr<Epoch> {
      if (absl::Status s = look(*member); !s.ok()) return s;
      return Epoch{0};
    };
  };
  return operation;
}

// What needs no participant.
Operation Plain(const std::string& name, Ground ground,
                std::function<absl::Status(const std::string&, const RegionOptions&)> work) {
  Operation operation{.name = name, .ground = ground};
  operation.prepare = [work](const std::string& path, const RegionOptions& options) -> Act {
    return [=]() -> absl::StatusOr<Epoch> {
      if (absl::Status s = work(path, options); !s.ok()) return s;
      return Epoch{0};
    };
  };
  return operation;
}

Operation Making(Operation operation, bool durable) {
  operation.makes = true;
  operation.durable = durable;
  operation.neighbour = false;
  return operation;
}

absl::Status CreateRegion(const std::string& path, const RegionOptions& options) {
  return Region::Create(path, options).status();
}
absl::Status OpenOrCreateRegion(const std::string& path, const RegionOptions& options) {
  return Region::OpenOrCreate(path, options).status();
}
absl::Status RestoreRegion(const std::string& path, const RegionOptions& options) {
  return Region::Restore(path, options).status();
}
absl::Status OpenRegion(const std::string& path, const RegionOptions& options) {
  return Region::Open(path, options).status();
}
absl::Status ReadRegion(const std::string& path, const RegionOptions& options) {
  RegionOptions inspect = options;
  inspect.read_only = true;
  absl::StatusOr<Region> region = Region::Open(path, inspect);
  if (!region.ok()) return region.status();
  absl::StatusOr<Snapshot> snapshot = region->Read();
  if (!snapshot.ok()) return snapshot.status();
  return ReadChecked(snapshot->state) == snapshot->epoch ? absl::OkStatus()
                                                         : absl::DataLossError("another state");
}

// By epoch, and one after the other.
absl::Status ReadHistory(const std::string& path, const RegionOptions& options) {
  RegionOptions inspect = options;
  inspect.read_only = true;
  const absl::StatusOr<Region> region = Region::Open(path, inspect);
  if (!region.ok()) return region.status();
  const absl::StatusOr<EpochHistory> history = region->History();
  if (!history.ok()) return history.status();
  const absl::StatusOr<PastEpoch> past = history->At(kPastEpoch);
  if (!past.ok()) return past.status();
  if (ReadChecked(past->state) != kPastEpoch) return absl::DataLossError("another state");
  absl::StatusOr<HistoryReader> reader = history->Read(1);
  if (!reader.ok()) return reader.status();
  for (Epoch epoch = 1; epoch <= kGroundEpoch; ++epoch) {
    const absl::StatusOr<std::optional<PastEpoch>> next = reader->Next();
    if (!next.ok()) return next.status();
    if (!next->has_value() || (*next)->epoch != epoch || ReadChecked((*next)->state) != epoch) {
      return absl::DataLossError("another epoch");
    }
  }
  return absl::OkStatus();
}

// Fills the second segment, so that the next commit that is big needs a third one, and the first is
// retired while others follow.
constexpr int kRollingCommits = 6;
Operation Rolling() {
  Operation operation{.name = "roll durable", .ground = Ground::kDurable, .adds = kRollingCommits};
  operation.steady = false;  // the ring prepares the next segment meanwhile
  operation.prepare = [](const std::string& path, const RegionOptions& options) -> Act {
    auto member = Joined(path, options);
    const detail::Mapping& mapping = *member->region.mapping();
    const std::uint64_t blocks = mapping.superblock().segment_bytes / journal::kBlockBytes;
    const auto full = [&] {
      const auto end = journal::BatchE::Unpack(journal::ReadRing(*mapping.view().control).At(0).e);
      return end.segment == 2 && end.end_block + 3 * journal::BlocksFor(kBigBytes) >= blocks;
    };
    while (!full()) Must(Add(member->self, Patient(), kBigBytes));
    return [member]() -> absl::StatusOr<Epoch> {
      absl::StatusOr<Epoch> last = Epoch{0};
      for (int i = 0; i < kRollingCommits && last.ok(); ++i) {
        last = Add(member->self, Patient(), kBigBytes);
      }
      return last;
    };
  };
  return operation;
}

// By one rank, beside the checkpoints that are there.
Operation Checkpointing(const std::string& name,
                        std::function<absl::Status(const std::string&, const std::string&)> work) {
  Operation operation{.name = "checkpoint " + name, .ground = Ground::kCheckpoints};
  operation.neighbour = false;
  operation.prepare = [work](const std::string& region, const RegionOptions&) -> Act {
    const std::string directory = detail::ParentOf(region) + "/checkpoints";
    return [=]() -> absl::StatusOr<Epoch> {
      if (absl::Status s = work(directory, region); !s.ok()) return s;
      return Epoch{0};
    };
  };
  return operation;
}

Operation MakingCheckpoint(
    const std::string& name,
    std::function<absl::Status(CheckpointRank&, std::optional<CheckpointStep>&)> work, bool begun,
    bool ready, std::uint32_t world = 1) {
  Operation operation{.name = "checkpoint " + name, .ground = Ground::kCheckpoints};
  operation.neighbour = false;
  operation.paired = world > 1;
  operation.prepare = [=](const std::string& region, const RegionOptions&) -> Act {
    struct Rank {
      CheckpointRank rank;
      std::optional<CheckpointStep> step{};
    };
    auto rank = std::make_shared<Rank>(Rank{Must(CheckpointRank::Join(
        detail::ParentOf(region) + "/checkpoints", CheckpointsOf(region, /*rank=*/0, world)))});
    if (begun) {
      rank->step = Must(rank->rank.Begin(4, kPatience));
      std::ofstream(rank->step->PathOf("model")) << "shard of 4";
    }
    if (ready) {
      if (absl::Status s = rank->step->Ready("model"); !s.ok()) throw Unprepared{s};
    }
    return [=]() -> absl::StatusOr<Epoch> {
      if (absl::Status s = work(rank->rank, rank->step); !s.ok()) return s;
      return Epoch{0};
    };
  };
  return operation;
}

void AddLibrary(std::vector<Operation>& all) {
  all.push_back(Making(Plain("create", Ground::kEmpty, CreateRegion), false));
  all.push_back(Making(Plain("create durable", Ground::kEmpty, CreateRegion), true));
  all.push_back(Making(Plain("make durable", Ground::kEmpty, OpenOrCreateRegion), true));
  all.push_back(Making(Plain("restore", Ground::kJournal, RestoreRegion), true));
  all.push_back(Making(Plain("remake", Ground::kJournal, OpenOrCreateRegion), true));
  for (const auto& [ground, kind] :
       {std::pair{Ground::kVolatile, ""}, std::pair{Ground::kDurable, " durable"}}) {
    all.push_back(Plain(std::string("open") + kind, ground, OpenRegion));
    all.push_back(Plain(std::string("read") + kind, ground, ReadRegion));
    all.push_back(Plain(std::string("join") + kind, ground,
                        [](const std::string& path, const RegionOptions& options) {
                          absl::StatusOr<Region> region = Region::Open(path, options);
                          if (!region.ok()) return region.status();
                          return Participant::Join(*region, {.name = "acting"}).status();
                        }));
    all.push_back(Committing(std::string("commit") + kind, ground, [](Member& member) {
      return member.self.Commit(CheckedState(kGroundEpoch + 1), Patient());
    }));
    all.push_back(Committing(std::string("update") + kind, ground,
                             [](Member& member) { return Add(member.self, Patient()); }));
    all.push_back(Committing(
        std::string("propose") + kind, ground, [](Member& member) -> absl::StatusOr<Epoch> {
          absl::StatusOr<Draft> draft = member.self.NewDraft(kCheckedStateBytes);
          if (!draft.ok()) return draft.status();
          WriteChecked(draft->bytes(), kGroundEpoch + 1);
          absl::StatusOr<Ticket> ticket = member.self.Propose(*std::move(draft), Patient());
          if (!ticket.ok()) return ticket.status();
          return member.self.Await(*ticket, kPatience);
        }));
    all.push_back(Committing(std::string("vote") + kind, ground, [](Member& member) {
      CommitOptions options = Patient();
      options.agreement = Agreement::kAllVoters;
      return Add(member.self, options);
    }));
    all.push_back(Committing(std::string("fence") + kind, ground, [](Member& member) {
      CommitOptions options = Patient();
      options.fence = true;
      return Add(member.self, options);
    }));
    all.push_back(Looking(std::string("reap") + kind, ground,
                          [](Member& member) { return member.region.Reap().status(); }));
    all.back().dead = true;
  }
  Operation collective{.name = "collective", .adds = 1, .neighbour = false, .checked = false};
  collective.prepare = [](const std::string& path, const RegionOptions& options) -> Act {
    return [member = Joined(path, options, /*voter=*/true)] {
      CollectiveOptions patient;
      patient.timeout = kPatience;
      return member->self.CommitCollective(7, "a part", patient);
    };
  };
  all.push_back(collective);
  collective.name = "collective durable";
  collective.ground = Ground::kDurable;
  all.push_back(collective);
  // More than are in flight at once.
  all.push_back(Committing("propose several durable", Ground::kDurable,
                           [](Member& member) -> absl::StatusOr<Epoch> {
                             std::optional<Ticket> last;
                             for (int i = 0; i < kSeveral; ++i) {
                               absl::StatusOr<Ticket> ticket = member.self.ProposeUpdate(
                                   [](const Current& current, Draft& next) {
                                     if (absl::Status s = next.Resize(kCheckedStateBytes); !s.ok())
                                       return s;
                                     WriteChecked(next.bytes(), current.epoch + 1);
                                     return absl::OkStatus();
                                   },
                                   Patient());
                               if (!ticket.ok()) return ticket.status();
                               last = *ticket;
                             }
                             return member.self.Await(*last, kPatience);
                           }));
  all.back().adds = kSeveral;
  all.push_back(Rolling());
  all.push_back(Plain("history durable", Ground::kDurable, ReadHistory));
  all.push_back(Looking("pin", Ground::kVolatile, [](Member& member) {
    const Pin pin = member.self.Pin();
    return pin.ok() && ReadChecked(pin.state()) == pin.epoch()
               ? absl::OkStatus()
               : absl::DataLossError("the pin is empty, or torn");
  }));
  all.push_back(Looking("converge", Ground::kVolatile, [](Member& member) {
    return member.self.Await(kGroundEpoch, Stage::kConverged, kPatience).status();
  }));
  all.push_back(Looking("listen", Ground::kVolatile, [](Member& member) {
    absl::StatusOr<Listener> listener = member.self.Listen();
    if (!listener.ok()) return listener.status();
    listener->Drain();
    listener->Stop();
    return absl::OkStatus();
  }));
  all.push_back(Looking("serve durable", Ground::kDurable,
                        [](Member& member) { return member.self.Serve(absl::Milliseconds(5)); }));
  all.push_back(
      Looking("leave", Ground::kVolatile, [](Member& member) { return member.self.Leave(); }));
  all.push_back(Looking("expel", Ground::kVolatile, [](Member& member) {
    return member.region.Expel(member.self.slot());  // its own: nobody else has to be harmed
  }));
  all.push_back(
      Plain("unlink", Ground::kVolatile,
            [](const std::string& path, const RegionOptions&) { return Region::Unlink(path); }));
  all.back().removes = true;
  // Last: a thread of whoever waits for them leaves a stack for the next one, which would be free.
  for (const auto& [ground, kind] :
       {std::pair{Ground::kVolatile, ""}, std::pair{Ground::kDurable, " durable"}}) {
    Operation both{.name = std::string("collective of two") + kind, .ground = ground, .adds = 1};
    both.checked = false;
    both.paired = true;
    both.prepare = [](const std::string& path, const RegionOptions& options) -> Act {
      return [member = Joined(path, options, /*voter=*/true)] {
        CollectiveOptions patient;
        patient.timeout = kPatience;
        patient.contributions = 2;
        return member->self.CommitCollective(kPairTag, "a part", patient);
      };
    };
    all.push_back(both);
  }
}

// The way that writes go where there is no io_uring.
void AddRingless(std::vector<Operation>& all) {
  for (const std::string name : {"propose durable", "roll durable", "serve durable"}) {
    const auto like = std::find_if(all.begin(), all.end(),
                                   [&](const Operation& each) { return each.name == name; });
    Operation ringless = *like;
    ringless.name += " without io_uring";
    ringless.ringless = true;
    ringless.steady = true;
    all.push_back(ringless);
  }
}

void AddCheckpoints(std::vector<Operation>& all) {
  using Step = std::optional<CheckpointStep>;
  all.push_back(Checkpointing("join", [](const std::string& directory, const std::string& region) {
    return CheckpointRank::Join(directory, CheckpointsOf(region)).status();
  }));
  const auto begin = [](CheckpointRank& rank, Step& step) {
    absl::StatusOr<CheckpointStep> begun = rank.Begin(4, kPatience);
    if (begun.ok()) step = *std::move(begun);
    return begun.status();
  };
  const auto commit = [](CheckpointRank&, Step& step) { return step->Commit(kPatience).status(); };
  all.push_back(MakingCheckpoint("begin", begin, false, false));
  all.push_back(MakingCheckpoint("begin of two", begin, false, false, /*world=*/2));
  all.push_back(MakingCheckpoint(
      "ready", [](CheckpointRank&, Step& step) { return step->Ready("model"); }, true, false));
  all.push_back(MakingCheckpoint("commit", commit, true, true));
  all.push_back(MakingCheckpoint("commit of two", commit, true, true, /*world=*/2));
  all.push_back(Checkpointing("open", [](const std::string& directory, const std::string&) {
    return Checkpoints(directory).OpenLatest().status();
  }));
  all.push_back(Checkpointing("prune", [](const std::string& directory, const std::string&) {
    return Checkpoints(directory).Prune({.keep = 1}).status();
  }));
}

void AddVerbs(std::vector<Operation>& all) {
  const auto verb = [&](const std::string& name, Ground ground, std::vector<std::string> words) {
    all.push_back({.name = "epochctl " + name, .ground = ground, .verb = std::move(words)});
    return &all.back();
  };
  Operation* made = verb(
      "create", Ground::kEmpty,
      {"create", "REGION", "--state-bytes", "64KiB", "--participants", "8", "--versions", "8"});
  made->makes = true;
  made->neighbour = false;
  made = verb("create durable", Ground::kEmpty,
              {"create", "REGION", "--journal", "JOURNAL", "--state-bytes", "64KiB",
               "--participants", "8", "--versions", "8", "--segment-bytes", "2MiB"});
  made->makes = made->durable = true;
  made->neighbour = false;
  made = verb("recover", Ground::kJournal, {"recover", "JOURNAL", "REGION", "--timeout", "1s"});
  made->makes = made->durable = true;
  made->neighbour = false;
  // From the journal of a region that lives, which is only read.
  Operation* past =
      verb("recover past", Ground::kDurable,
           {"recover", "JOURNAL", "COPY", "--epoch", kPastText, "--journal", "COPIED"});
  past->copies = true;
  verb("put", Ground::kVolatile, {"put", "REGION", "STATE", "--timeout", kPatienceText})->adds = 1;
  verb("put durable", Ground::kDurable, {"put", "REGION", "STATE", "--timeout", kPatienceText})
      ->adds = 1;
  verb("put agreed", Ground::kVolatile,
       {"put", "REGION", "STATE", "--agree", "--fence", "--timeout", kPatienceText})
      ->adds = 1;
  verb("get", Ground::kVolatile, {"get", "REGION"})->exact = true;
  verb("get past", Ground::kDurable, {"get", "REGION", "--epoch", kPastText})->exact = true;
  verb("status", Ground::kDurable, {"status", "REGION"});
  verb("list", Ground::kVolatile, {"list"})->steady = false;
  verb("wait", Ground::kVolatile,
       {"wait", "REGION", "--epoch", "3", "--for", "converged", "--timeout", kPatienceText});
  verb("check", Ground::kDurable, {"check", "REGION"});
  verb("check journal", Ground::kDurable, {"check", "JOURNAL"});
  verb("log", Ground::kDurable, {"log", "JOURNAL", "--verify"});
  verb("log past", Ground::kDurable, {"log", "JOURNAL", "--show", kPastText})->exact = true;
  verb("serve", Ground::kDurable, {"serve", "REGION", "--duration", "5ms"});
  verb("join accepting", Ground::kVolatile,
       {"join", "REGION", "--name", "acting", "--validate", "exit 0"})
      ->asked = true;
  Operation* refusing = verb("join refusing", Ground::kVolatile,
                             {"join", "REGION", "--name", "acting", "--validate", "exit 1"});
  refusing->asked = refusing->refuses = true;
  Operation* adopting = verb("join adopting", Ground::kVolatile,
                             {"join", "REGION", "--name", "acting", "--adopt", "exit 0"});
  adopting->asked = true;
  adopting->steady = false;  // it may be asked to end before it has said what it adopted
  verb("reap", Ground::kVolatile, {"reap", "REGION"})->dead = true;
  verb("expel", Ground::kVolatile, {"expel", "REGION", "0"});
  verb("rm", Ground::kVolatile, {"rm", "REGION", "--force"})->removes = true;
  verb("checkpoint list", Ground::kCheckpoints, {"checkpoint", "list", "CHECKPOINTS"});
  verb("checkpoint verify", Ground::kCheckpoints, {"checkpoint", "verify", "CHECKPOINTS"});
  verb("checkpoint prune", Ground::kCheckpoints,
       {"checkpoint", "prune", "CHECKPOINTS", "--keep", "1"});
  verb("version", Ground::kEmpty, {"version"});
  verb("help", Ground::kEmpty, {"help", "put"});
  for (Operation& each : all) {
    if (each.ground == Ground::kCheckpoints || each.ground == Ground::kEmpty) {
      each.neighbour = false;
    }
  }
}

}  // namespace

const std::vector<Operation>& AllOperations() {
  static const std::vector<Operation> all = [] {
    std::vector<Operation> made;
    AddLibrary(made);
    AddRingless(made);
    AddCheckpoints(made);
    AddVerbs(made);
    return made;
  }();
  return all;
}

const Operation& OperationNamed(const std::string& name) {
  for (const Operation& each : AllOperations()) {
    if (each.name == name) return each;
  }
  EPOCH_CHECK(false, name.c_str());
}

std::vector<std::string> WordsOf(const Operation& operation, const World& world) {
  std::vector<std::string> words = operation.verb;
  for (std::string& word : words) {
    if (word == "REGION") word = world.region();
    if (word == "JOURNAL") word = world.journal();
    if (word == "CHECKPOINTS") word = world.checkpoints();
    if (word == "STATE") word = world.state_file();
    if (word == "COPY") word = world.copy();
    if (word == "COPIED") word = world.copied();
  }
  return words;
}

void BecomeCtl(const std::vector<std::string>& words, bool marked) {
  std::vector<char*> arguments{const_cast<char*>("epochctl")};
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  if (marked) setenv("LD_PRELOAD", EPOCH_BORDER_MARKER, 1);
  execv(EPOCHCTL, arguments.data());
  _exit(kNotExecuted);
}

}  // namespace epoch::test
