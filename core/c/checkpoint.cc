// Checkpoints read, listed and pruned through C.
#include "epoch/checkpoint.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/c/error.h"
#include "core/c/handles.h"
#include "core/c/options.h"
#include "epoch/c.h"

namespace epoch::c {

struct ListBody {
  std::array<std::vector<Checkpoint>, EPOCH_LIST_DAMAGED + 1> parts;
  std::array<std::vector<std::string>, EPOCH_TEXT_CLEANED + 1> texts;
};

}  // namespace epoch::c

struct epoch_checkpoint : epoch::c::Shared<epoch::OpenCheckpoint, epoch::c::Kind::kCheckpoint> {};
struct epoch_checkpoint_list
    : epoch::c::Shared<epoch::c::ListBody, epoch::c::Kind::kCheckpointList> {};

namespace epoch::c {
namespace {

constexpr const char* kCheckpoint = "the checkpoint";
constexpr const char* kList = "the list of checkpoints";

epoch_checkpoint_info InfoOf(const Checkpoint& is) {
  return {.struct_size = 0,
          .step = is.step,
          .epoch = is.epoch,
          .attempt = is.attempt,
          .files = is.files(),
          .bytes = is.bytes(),
          .directory = is.directory.c_str(),
          .world = is.world,
          .pruned = is.pruned ? 1u : 0u};
}

// `find` of the directory's checkpoints, into a new handle.
template <typename Handle, typename Find>
epoch_code Found(const char* directory, Handle** to, epoch_error** error, Find&& find) {
  if (to != nullptr) *to = nullptr;
  return Call(error, [&]() -> absl::Status {
    if (to == nullptr) return Refused("the place for the result is NULL");
    if (directory == nullptr) return Refused("the directory is NULL");
    EPOCH_C_TRY(found, find(Checkpoints(directory)));
    *to = OpenShared<Handle>(*std::move(found));
    return absl::OkStatus();
  });
}

template <typename Handle, typename Body>
epoch_code WithResult(Handle* handle, const char* what, epoch_error** error, Body&& body) {
  return Call(error, [&]() -> absl::Status {
    const Use<Handle> use(handle);
    if (!use.ok()) return Invalid(what);
    return body(*use);
  });
}

bool IsPart(int part) { return part >= EPOCH_LIST_ALL && part <= EPOCH_LIST_DAMAGED; }
bool IsText(int kind) { return kind >= EPOCH_TEXT_PROBLEMS && kind <= EPOCH_TEXT_CLEANED; }

}  // namespace
}  // namespace epoch::c

using epoch::Checkpoints;
using epoch::c::Call;
using epoch::c::ListBody;
using epoch::c::OpenShared;
using epoch::c::Refused;
using epoch::c::Use;
using epoch::c::WithResult;
using epoch::c::WriteInfo;

epoch_code epoch_checkpoint_open_latest(const char* directory, epoch_checkpoint** checkpoint,
                                        epoch_error** error) {
  return epoch::c::Found(directory, checkpoint, error,
                         [](const Checkpoints& in) { return in.OpenLatest(); });
}
epoch_code epoch_checkpoint_open_step(const char* directory, uint64_t step,
                                      epoch_checkpoint** checkpoint, epoch_error** error) {
  return epoch::c::Found(directory, checkpoint, error,
                         [&](const Checkpoints& in) -> absl::StatusOr<epoch::OpenCheckpoint> {
                           EPOCH_C_TRY(found, in.Find(step));
                           return in.Open(*found);
                         });
}
epoch_code epoch_checkpoint_open_newest_good(const char* directory, epoch_checkpoint** checkpoint,
                                             epoch_checkpoint_list** passed_over,
                                             epoch_error** error) {
  if (passed_over != nullptr) *passed_over = nullptr;
  epoch_checkpoint_list* list = nullptr;
  const epoch_code code =
      epoch::c::Found(directory, checkpoint, error,
                      [&](const Checkpoints& in) -> absl::StatusOr<epoch::OpenCheckpoint> {
                        EPOCH_C_TRY(good, in.OpenNewestGood());
                        if (passed_over != nullptr) {
                          ListBody body;
                          body.parts[EPOCH_LIST_DAMAGED] = std::move(good->damaged);
                          body.texts[EPOCH_TEXT_PROBLEMS] = std::move(good->problems);
                          list = OpenShared<epoch_checkpoint_list>(std::move(body));
                        }
                        return std::move(good->checkpoint);
                      });
  // The other handle may not have come to be.
  if (code != EPOCH_OK) {
    epoch::c::FreeShared(list);
  } else if (passed_over != nullptr) {
    *passed_over = list;
  }
  return code;
}
void epoch_checkpoint_free(epoch_checkpoint* checkpoint) { epoch::c::FreeShared(checkpoint); }

epoch_code epoch_checkpoint_get_info(epoch_checkpoint* checkpoint, epoch_checkpoint_info* info,
                                     epoch_error** error) {
  return WithResult(checkpoint, epoch::c::kCheckpoint, error, [&](const epoch::OpenCheckpoint& is) {
    return WriteInfo(info, epoch::c::InfoOf(is.info()));
  });
}
size_t epoch_checkpoint_shard_count(epoch_checkpoint* checkpoint) {
  const Use use(checkpoint);
  return use.ok() ? use->info().shards.size() : 0;
}
epoch_code epoch_checkpoint_shard(epoch_checkpoint* checkpoint, size_t index, epoch_shard* shard,
                                  epoch_error** error) {
  return WithResult(
      checkpoint, epoch::c::kCheckpoint, error,
      [&](const epoch::OpenCheckpoint& is) -> absl::Status {
        const std::vector<epoch::Shard>& shards = is.info().shards;
        if (index >= shards.size()) {
          return absl::OutOfRangeError(absl::StrCat("there are ", shards.size(), " shards"));
        }
        epoch_shard info{};
        info.name = shards[index].name.c_str();
        info.bytes = shards[index].bytes;
        info.rank = shards[index].rank;
        std::copy(shards[index].digest.begin(), shards[index].digest.end(), info.digest);
        return WriteInfo(shard, info);
      });
}
epoch_code epoch_checkpoint_path(epoch_checkpoint* checkpoint, uint32_t rank, const char* name,
                                 char** path, epoch_error** error) {
  if (path != nullptr) *path = nullptr;
  return WithResult(checkpoint, epoch::c::kCheckpoint, error,
                    [&](const epoch::OpenCheckpoint& is) -> absl::Status {
                      if (name == nullptr) return Refused("the shard's name is NULL");
                      if (path == nullptr) return Refused("the place for the path is NULL");
                      const std::string found = is.PathOf(rank, name);
                      if (found.empty()) {
                        return absl::NotFoundError(absl::StrCat(is.info().directory, ": rank ",
                                                                rank, " has no shard ", name));
                      }
                      *path = epoch::c::GivenAway(found);
                      return absl::OkStatus();
                    });
}
epoch_code epoch_checkpoint_metadata(epoch_checkpoint* checkpoint, uint32_t rank, const void** data,
                                     size_t* size, epoch_error** error) {
  return WithResult(checkpoint, epoch::c::kCheckpoint, error,
                    [&](const epoch::OpenCheckpoint& is) -> absl::Status {
                      if (data == nullptr || size == nullptr) {
                        return Refused("the place for the metadata is NULL");
                      }
                      const std::vector<std::string>& all = is.info().metadata;
                      if (rank >= all.size()) {
                        return absl::OutOfRangeError(
                            absl::StrCat("rank ", rank, " of a world of ", is.info().world));
                      }
                      *data = all[rank].data();
                      *size = all[rank].size();
                      return absl::OkStatus();
                    });
}

// --- lists
// -----------------------------------------------------------------------------------------

epoch_code epoch_checkpoints_list(const char* directory, epoch_checkpoint_list** list,
                                  epoch_error** error) {
  return epoch::c::Found(
      directory, list, error, [](const Checkpoints& in) -> absl::StatusOr<ListBody> {
        EPOCH_C_TRY(all, in.List());
        ListBody body;
        body.parts[EPOCH_LIST_ALL] = std::move(all->checkpoints);
        body.texts[EPOCH_TEXT_PROBLEMS] = std::move(all->damage);
        for (epoch::Staging& staging : all->stagings) {
          body.texts[staging.live ? EPOCH_TEXT_STAGINGS_LIVE : EPOCH_TEXT_STAGINGS].push_back(
              std::move(staging.directory));
        }
        return body;
      });
}
epoch_code epoch_checkpoints_prune(const char* directory, const epoch_prune_options* options,
                                   epoch_checkpoint_list** list, epoch_error** error) {
  return epoch::c::Found(directory, list, error,
                         [&](const Checkpoints& in) -> absl::StatusOr<ListBody> {
                           EPOCH_C_TRY(is, epoch::c::PruneOptionsOf(options));
                           EPOCH_C_TRY(done, in.Prune(*is));
                           ListBody body;
                           body.parts[EPOCH_LIST_KEPT] = std::move(done->kept);
                           body.parts[EPOCH_LIST_REMOVED] = std::move(done->removed);
                           body.parts[EPOCH_LIST_IN_USE] = std::move(done->in_use);
                           body.parts[EPOCH_LIST_DAMAGED] = std::move(done->damaged);
                           body.texts[EPOCH_TEXT_PROBLEMS] = std::move(done->problems);
                           body.texts[EPOCH_TEXT_CLEANED] = std::move(done->cleaned);
                           return body;
                         });
}
epoch_code epoch_checkpoints_clean_up(const char* directory, epoch_checkpoint_list** list,
                                      epoch_error** error) {
  return epoch::c::Found(directory, list, error,
                         [](const Checkpoints& in) -> absl::StatusOr<ListBody> {
                           EPOCH_C_TRY(cleaned, in.CleanUp());
                           ListBody body;
                           body.texts[EPOCH_TEXT_CLEANED] = *std::move(cleaned);
                           return body;
                         });
}
epoch_code epoch_checkpoints_verify(const char* directory, uint64_t step,
                                    epoch_checkpoint_list** list, epoch_error** error) {
  return epoch::c::Found(directory, list, error,
                         [&](const Checkpoints& in) -> absl::StatusOr<ListBody> {
                           EPOCH_C_TRY(found, in.Find(step));
                           ListBody body;
                           for (const absl::Status& problem : in.Verify(*found)) {
                             body.texts[EPOCH_TEXT_PROBLEMS].emplace_back(problem.message());
                           }
                           body.parts[EPOCH_LIST_ALL].push_back(*std::move(found));
                           return body;
                         });
}

size_t epoch_checkpoint_list_count(epoch_checkpoint_list* list, int part) {
  const Use use(list);
  return use.ok() && epoch::c::IsPart(part) ? use->parts[static_cast<std::size_t>(part)].size() : 0;
}
epoch_code epoch_checkpoint_list_at(epoch_checkpoint_list* list, int part, size_t index,
                                    epoch_checkpoint_info* info, epoch_error** error) {
  return WithResult(list, epoch::c::kList, error, [&](const ListBody& body) -> absl::Status {
    if (!epoch::c::IsPart(part)) return Refused("the part is none of them");
    const std::vector<epoch::Checkpoint>& of = body.parts[static_cast<std::size_t>(part)];
    if (index >= of.size()) return absl::OutOfRangeError(absl::StrCat("there are ", of.size()));
    return WriteInfo(info, epoch::c::InfoOf(of[index]));
  });
}
size_t epoch_checkpoint_list_text_count(epoch_checkpoint_list* list, int kind) {
  const Use use(list);
  return use.ok() && epoch::c::IsText(kind) ? use->texts[static_cast<std::size_t>(kind)].size() : 0;
}
const char* epoch_checkpoint_list_text(epoch_checkpoint_list* list, int kind, size_t index) {
  const Use use(list);
  if (!use.ok() || !epoch::c::IsText(kind)) return nullptr;
  const std::vector<std::string>& of = use->texts[static_cast<std::size_t>(kind)];
  return index < of.size() ? of[index].c_str() : nullptr;
}
void epoch_checkpoint_list_free(epoch_checkpoint_list* list) { epoch::c::FreeShared(list); }
