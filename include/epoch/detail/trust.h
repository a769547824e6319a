// Whose files are worked with.
#ifndef EPOCH_DETAIL_TRUST_H_
#define EPOCH_DETAIL_TRUST_H_

namespace epoch::detail {

// Whether this program works with files that belong to neither its effective user nor root, where
// no option says otherwise. For a program that asks its user once, as epochctl does: to be set
// before the first region is opened, and before there are threads.
inline bool trust_other_owners = false;

}  // namespace epoch::detail

#endif  // EPOCH_DETAIL_TRUST_H_
