// A segment that goes by its spare's name.
//
// Whoever rolls into a spare whose name is durable does not wait for the segment's own name to be
// so (current.h). After a power cut the newest segment may therefore be found under the spare's
// name alone. It was begun if its header and its base are whole, since they are durable before
// anything is acknowledged in it. A spare that was not begun may hold parts of either, and nothing
// else.
#ifndef EPOCH_CORE_JOURNAL_READ_BEGUN_H_
#define EPOCH_CORE_JOURNAL_READ_BEGUN_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/journal/segment/segment.h"

namespace epoch::journal {

// The segment behind `newest` that was begun in its spare and has no name of its own; mostly there
// is none. DataLoss: there is one, and its beginning is damaged.
absl::StatusOr<std::optional<SegmentFile>> FindBegun(const std::string& directory,
                                                     const SegmentFile& newest);

// Writes its beginning anew, and gives it its own name, durably. The caller holds `newest` exclusively.
// False: there is none. PermissionDenied: it is somebody else's, unless `trusted`.
absl::StatusOr<bool> NameBegun(const std::string& directory, const OpenSegment& newest,
                               bool trusted);

// ListSegments, and behind the newest the one that FindBegun finds.
absl::StatusOr<std::vector<SegmentFile>> ListWithBegun(const std::string& directory);

}  // namespace epoch::journal

#endif  // EPOCH_CORE_JOURNAL_READ_BEGUN_H_
