// What stands behind a region's handle.
#ifndef EPOCH_CORE_C_REGION_H_
#define EPOCH_CORE_C_REGION_H_

#include <string>

#include "core/c/handles.h"
#include "epoch/c.h"
#include "epoch/region.h"

namespace epoch::c {

struct RegionBody {
  explicit RegionBody(Region opened);
  Region region;
  std::string incarnation;
};

}  // namespace epoch::c

struct epoch_region : epoch::c::Shared<epoch::c::RegionBody, epoch::c::Kind::kRegion> {};

#endif  // EPOCH_CORE_C_REGION_H_
