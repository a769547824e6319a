// Old epochs, read back from a journal: one at a time, verified, and without disturbing those who
// write it. Reads only; takes no lock.
#ifndef EPOCH_CORE_JOURNAL_READ_PAST_H_
#define EPOCH_CORE_JOURNAL_READ_PAST_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "core/journal/format/format.h"
#include "epoch/detail/memory/mapping.h"
#include "epoch/history.h"

namespace epoch::journal {

// The epochs that the journal in a directory keeps (epoch/history.h). Thread safety: all functions.
class Past final : public detail::HistorySource {
 public:
  // Those that recovery would count; of a journal in use, those that were whole when they were
  // read. `trusted`, of both: it may be anybody's (CheckOwners).
  explicit Past(std::string directory, bool trusted = detail::trust_other_owners)
      : directory_(std::move(directory)), trusted_(trusted) {}
  // Those of that journal, up to what `committed` says whenever it is asked.
  Past(std::string directory, const Id& journal, std::function<Epoch()> committed,
       bool trusted = detail::trust_other_owners)
      : directory_(std::move(directory)),
        journal_(journal),
        committed_(std::move(committed)),
        trusted_(trusted) {}

  absl::StatusOr<Epoch> Oldest() const override;
  absl::StatusOr<PastEpoch> At(Epoch epoch) const override;
  // The same, with the header of the segment that it is in.
  struct Found {
    PastEpoch past;
    SegmentHeader segment;
  };
  absl::StatusOr<Found> Find(Epoch epoch) const;
  absl::StatusOr<std::unique_ptr<detail::HistoryCursor>> Read(Epoch from, Epoch to) const override;

 private:
  friend class PastCursor;

  const std::string directory_;
  const std::optional<Id> journal_;
  const std::function<Epoch()> committed_;  // none: what recovery would count
  const bool trusted_;
};

// For the engine: of a durable region, which it does not keep.
absl::StatusOr<std::unique_ptr<detail::HistorySource>> PastOf(
    const std::shared_ptr<const detail::Mapping>& mapping);

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_READ_PAST_H_
