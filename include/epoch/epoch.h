// Everything that a participant needs. Durable regions: also epoch/journal.h.
#ifndef EPOCH_EPOCH_H_
#define EPOCH_EPOCH_H_

#include "epoch/collective.h"   // IWYU pragma: export
#include "epoch/details.h"      // IWYU pragma: export
#include "epoch/listener.h"     // IWYU pragma: export
#include "epoch/options.h"      // IWYU pragma: export
#include "epoch/participant.h"  // IWYU pragma: export
#include "epoch/region.h"       // IWYU pragma: export
#include "epoch/vote.h"         // IWYU pragma: export

#endif  // EPOCH_EPOCH_H_
