// An old epoch, as text and as JSON: for all verbs that show one.
#ifndef EPOCH_TOOLS_EPOCHCTL_PAST_EPOCH_H_
#define EPOCH_TOOLS_EPOCHCTL_PAST_EPOCH_H_

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "epoch/history.h"

namespace epoch::ctl {

// Adds its fields to `json`: epoch, token, bytes, digest, proposer, ballot, forced, segment, block,
// state_base64.
void AddPastEpoch(nlohmann::ordered_json& json, const PastEpoch& past);

// A table of the same, without the state.
std::string PastEpochText(const PastEpoch& past);

}  // namespace epoch::ctl

#endif  // EPOCH_TOOLS_EPOCHCTL_PAST_EPOCH_H_
