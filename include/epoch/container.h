// Container state: a Boost.Interprocess container whose memory is the version itself.
//
//   using Allocator = epoch::ContainerAllocator<int>;
//   using Numbers = boost::container::vector<int, Allocator>;
//   epoch::UpdateContainer<Numbers>(self, [](Numbers& numbers) { numbers.push_back(7); });
//   epoch::Pin pin = self.Pin();
//   auto numbers = epoch::Container<Numbers>(pin);  // StatusOr<const Numbers*>, while pinned
//
// All links inside are offset_ptr, so the bytes mean the same at any address: an update copies the
// newest version's bytes into a draft and changes the container there, and a reader uses the
// container where it is, without a copy and without a write (a read-only mapping will do).
//
//   0                  64                                     segment_bytes + 64
//   +------------------+---------------------------------------+
//   | ContainerHeader  | Boost's segment manager, root, memory |
//   +------------------+---------------------------------------+
//
// Limits:
//  - An update costs a copy and a digest of the whole state. The state is as long as the memory in
//    use reaches; holes that freed elements leave inside are reused, but not compacted.
//  - Elements must be free of raw pointers: containers with ContainerAllocator (nested ones, too:
//    hand on `root.get_allocator()`) and trivially copyable structs; no std::string.
//  - The layout is Boost's: programs of other Boost versions, word sizes or standard library ABIs
//    cannot share a container. Boost's version and the root's size are checked; its type is not.
//  - Header and sizes are checked before anything is used. What damaged bytes inside the segment do
//    to a container is undefined, as in Boost. Whoever does not trust the other participants reads
//    through Region::Read(), which verifies the digest, and ContainerIn().
//
// Thread safety and progress: as the Participant and Pin that are used. Nothing in here locks.
#ifndef EPOCH_CONTAINER_H_
#define EPOCH_CONTAINER_H_

#include <boost/interprocess/allocators/allocator.hpp>
#include <boost/interprocess/indexes/iset_index.hpp>
#include <boost/interprocess/managed_external_buffer.hpp>
#include <boost/interprocess/mem_algo/rbtree_best_fit.hpp>
#include <boost/interprocess/offset_ptr.hpp>
#include <boost/interprocess/sync/mutex_family.hpp>
#include <boost/version.hpp>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>
#include <stdexcept>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "epoch/detail/memory/layout.h"
#include "epoch/options.h"
#include "epoch/participant.h"

namespace epoch {

// Memory that lives inside a version: offsets for pointers, and no lock.
using ContainerSegment = boost::interprocess::basic_managed_external_buffer<
    char,
    boost::interprocess::rbtree_best_fit<boost::interprocess::null_mutex_family,
                                         boost::interprocess::offset_ptr<void>>,
    boost::interprocess::iset_index>;

template <typename T>
using ContainerAllocator = boost::interprocess::allocator<T, ContainerSegment::segment_manager>;

namespace detail {

struct ContainerHeader {
  std::uint64_t magic;
  std::uint32_t format;
  std::uint32_t boost_version;
  std::uint64_t segment_bytes;
  std::uint64_t root_offset;  // from the header's start
  std::uint64_t root_bytes;
  std::uint64_t reserved[3];
};
static_assert(sizeof(ContainerHeader) == 64 && std::is_trivially_copyable_v<ContainerHeader>);

inline constexpr std::uint64_t kContainerMagic = 0x544e4f4348435045ull;  // "EPCHCONT"
inline constexpr std::uint32_t kContainerFormat = 1;
inline constexpr std::size_t kSegmentAlignment = 16;
// Boost's grow() may make a block too small for its own bookkeeping of less.
inline constexpr std::size_t kLeastGrowth = 256;

// Everything that can be checked before the segment is touched, and the root's place.
inline absl::StatusOr<const std::byte*> CheckContainer(std::span<const std::byte> bytes,
                                                       std::size_t root_bytes,
                                                       std::size_t root_alignment) {
  if (reinterpret_cast<std::uintptr_t>(bytes.data()) % kSegmentAlignment != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a container's bytes must be aligned to ", kSegmentAlignment));
  }
  ContainerHeader header{};
  constexpr std::size_t first_root = sizeof header + sizeof(ContainerSegment::segment_manager);
  const std::size_t least = sizeof header + ContainerSegment::segment_manager::get_min_size();
  if (bytes.size() >= sizeof header) std::memcpy(&header, bytes.data(), sizeof header);
  if (bytes.size() < least || header.magic != kContainerMagic) {
    return absl::FailedPreconditionError(
        absl::StrCat("the state (", bytes.size(), " bytes) is not a container"));
  }
  if (header.format != kContainerFormat || header.boost_version != BOOST_VERSION) {
    return absl::FailedPreconditionError(
        absl::StrCat("the container has format ", header.format, " of Boost ", header.boost_version,
                     ", this program speaks ", kContainerFormat, " of Boost ", BOOST_VERSION));
  }
  if (header.root_bytes != root_bytes) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the container has a root of ", header.root_bytes, " bytes, the type asked for has ",
        root_bytes, ": it was committed as something else"));
  }
  const bool sound = header.segment_bytes == bytes.size() - sizeof header &&
                     header.root_offset >= first_root && header.root_offset <= bytes.size() &&
                     root_bytes <= bytes.size() - header.root_offset &&
                     header.root_offset % root_alignment == 0;
  if (!sound) return absl::DataLossError("the container's header contradicts the state's length");
  // Only reads: Boost's classes know no const segment.
  const ContainerSegment segment(boost::interprocess::open_only,
                                 const_cast<std::byte*>(bytes.data() + sizeof header),
                                 header.segment_bytes);
  if (segment.get_size() != header.segment_bytes) {
    return absl::DataLossError("the container's segment contradicts its header");
  }
  return bytes.data() + header.root_offset;
}

inline absl::Status ContainerTooLarge(std::size_t capacity) {
  return Because(Cause::kTooLarge,
                 absl::OutOfRangeError(absl::StrCat(
                     "the container does not fit into a state of ", capacity,
                     " bytes; nothing was changed: create the region with more state_bytes")));
}

}  // namespace detail

// The container in `bytes`, in place. Errors: FailedPrecondition (not a container; of another Boost
// version; root of another size), DataLoss (header and length contradict each other),
// InvalidArgument (not aligned to 16 bytes).
template <typename Root>
absl::StatusOr<const Root*> ContainerIn(std::span<const std::byte> bytes) {
  static_assert(alignof(Root) <= detail::kSegmentAlignment, "Boost aligns to 16 bytes at most");
  auto root = detail::CheckContainer(bytes, sizeof(Root), alignof(Root));
  if (!root.ok()) return root.status();
  return std::launder(reinterpret_cast<const Root*>(*root));
}

// The pinned state's container, in place: valid while the pin is held. Constant time.
// Errors: as ContainerIn; NotFound (the state is empty, as it is at epoch 0 of a new region);
// FailedPrecondition (the pin is empty).
template <typename Root>
absl::StatusOr<const Root*> Container(const Pin& pin) {
  if (!pin.ok()) return absl::FailedPreconditionError("the pin is empty");
  if (pin.state().empty()) {
    return absl::NotFoundError(absl::StrCat("the state of epoch ", pin.epoch(),
                                            " is empty: no container has been committed yet"));
  }
  return ContainerIn<Root>(pin.state());
}
template <typename Root>
absl::StatusOr<const Root*> Container(Pin&&) = delete;  // it would point to what is no longer held

// Read-modify-write: calls `fn(Root&)` with a copy of the newest accepted container (with an empty
// one if the state is empty), in the draft of its direct successor, and commits that. Called again
// whenever another transition came first, so `fn` must depend on nothing but its argument. It
// returns nothing or an absl::Status; an error ends the update with nothing changed, and NoChange()
// with nothing to do (as Participant::Update). So does an exception, which is passed on, unless it
// says that the memory is used up. Root is constructible from a ContainerAllocator, or from a
// ContainerSegment::segment_manager*. Errors: as Participant::Update and ContainerIn; OutOfRange
// (does not fit into the region's state_bytes any more).
template <typename Root, typename Fn>
requires std::invocable<Fn&, Root&> absl::StatusOr<Epoch> UpdateContainer(
    Participant& self, Fn&& fn, const CommitOptions& options = detail::Unset<CommitOptions>()) {
  using Result = std::invoke_result_t<Fn&, Root&>;
  static_assert(std::is_void_v<Result> || std::same_as<Result, absl::Status>,
                "the function returns nothing or an absl::Status");
  static_assert(std::is_constructible_v<Root, ContainerSegment::segment_manager*>,
                "Root must take an allocator of the segment");
  return self.Update(
      [&fn](const Current& current, Draft& next) -> absl::Status {
        namespace ipc = boost::interprocess;
        constexpr std::size_t kHeader = sizeof(detail::ContainerHeader);
        const std::size_t capacity =
            next.capacity() / detail::kSegmentAlignment * detail::kSegmentAlignment;
        if (capacity < kHeader + ContainerSegment::segment_manager::get_min_size()) {
          return detail::ContainerTooLarge(next.capacity());
        }
        if (absl::Status s = next.Resize(capacity); !s.ok()) return s;
        std::byte* const base = next.bytes().data();
        ContainerSegment segment;
        Root* root = nullptr;
        try {
          if (current.state.empty()) {
            segment = ContainerSegment(ipc::create_only, base + kHeader, capacity - kHeader);
            root = ::new (segment.allocate(sizeof(Root))) Root(segment.get_segment_manager());
          } else {
            auto old = ContainerIn<Root>(current.state);
            if (!old.ok()) return detail::Unchanged(old.status());
            const std::size_t size = current.state.size();
            if (size > capacity) return detail::ContainerTooLarge(next.capacity());
            std::memcpy(base, current.state.data(), size);
            segment = ContainerSegment(ipc::open_only, base + kHeader, size - kHeader);
            if (capacity - size >= detail::kLeastGrowth) segment.grow(capacity - size);
            const auto* in_old = reinterpret_cast<const std::byte*>(*old);
            root = std::launder(reinterpret_cast<Root*>(base + (in_old - current.state.data())));
          }
          if constexpr (std::is_void_v<Result>) {
            fn(*root);
          } else {
            if (absl::Status s = fn(*root); !s.ok()) return s;
          }
        } catch (const ipc::bad_alloc&) {
          return detail::ContainerTooLarge(next.capacity());
        } catch (const std::bad_alloc&) {
          return detail::ContainerTooLarge(next.capacity());
        } catch (const std::length_error&) {
          return detail::ContainerTooLarge(next.capacity());
        }
        segment.get_segment_manager()->shrink_to_fit();
        const detail::ContainerHeader header{.magic = detail::kContainerMagic,
                                             .format = detail::kContainerFormat,
                                             .boost_version = BOOST_VERSION,
                                             .segment_bytes = segment.get_size(),
                                             .root_offset = static_cast<std::uint64_t>(
                                                 reinterpret_cast<const std::byte*>(root) - base),
                                             .root_bytes = sizeof(Root),
                                             .reserved = {}};
        std::memcpy(base, &header, sizeof header);
        return next.Resize(kHeader + segment.get_size());
      },
      options);
}

}  // namespace epoch

#endif  // EPOCH_CONTAINER_H_
