#include "tests/images/disk.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <utility>

namespace epoch::images {

Disk* Disk::active_ = nullptr;

namespace {

constexpr std::string_view kFdPrefix = "/proc/self/fd/";
constexpr int kFirstFd = 1'000'000;  // no real descriptor: a call that bypasses the seam fails

// All memory that regions live in; one disk at a time has it.
constexpr std::size_t kMemoryBytes = std::size_t{64} << 20;
std::byte* Memory() {
  static auto* const memory =
      static_cast<std::byte*>(mmap(nullptr, kMemoryBytes, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  return memory;
}

}  // namespace

Disk::Disk(Tree& tree, Log* log, std::uint64_t seed) : tree_(tree), log_(log), random_(seed) {
  active_ = this;
}

Disk::~Disk() {
  Reset();
  active_ = nullptr;
}

void Disk::Reset() {
  descriptions_.clear();
  fds_.clear();
  locks_.clear();
  std::memset(Memory(), 0, memory_used_);
  memory_used_ = 0;
}

void Disk::Step() {
  if (auto* fibers = Fibers::active()) fibers->Step();
}

int Disk::Fail(int error) {
  errno = error;
  return -1;
}

void Disk::Record(Entry entry) {
  if (log_ == nullptr) return;
  if (acknowledged) entry.acknowledged = acknowledged();
  log_->push_back(std::move(entry));
}

Tree::Place Disk::NodeAt(std::string_view path, int at) const {
  if (path.starts_with(kFdPrefix)) {
    const int fd = std::atoi(path.data() + kFdPrefix.size());
    return {.node = NodeOf(fd), .parent = -1, .name = {}};
  }
  if (at == AT_FDCWD || path.starts_with('/')) return tree_.Find(path);
  const int parent = NodeOf(at);
  if (path == ".") return {.node = parent, .parent = -1, .name = {}};
  const auto& names = tree_.at(parent).names;
  const auto found = names.find(std::string(path));
  return {.node = found == names.end() ? -1 : found->second,
          .parent = parent,
          .name = std::string(path)};
}

int Disk::NewFd(int node) {
  descriptions_.push_back({node, 1});
  const int process = Fibers::active() == nullptr ? -1 : Fibers::active()->current();
  fds_.push_back({static_cast<int>(descriptions_.size()) - 1, process});
  return kFirstFd + static_cast<int>(fds_.size()) - 1;
}

int Disk::Describe(int fd) const {
  const auto index = static_cast<std::size_t>(fd - kFirstFd);
  if (fd < kFirstFd || index >= fds_.size() || fds_[index].description < 0) std::abort();
  return fds_[index].description;
}

void Disk::Drop(int description) {
  if (--descriptions_[static_cast<std::size_t>(description)].references > 0) return;
  std::erase_if(locks_, [&](const Lock& lock) { return lock.description == description; });
}

int Disk::Close(int fd) {
  const auto index = static_cast<std::size_t>(fd - kFirstFd);
  // An object may outlive its disk: the descriptors went with that.
  if (fd < kFirstFd || index >= fds_.size() || fds_[index].description < 0) return Fail(EBADF);
  Drop(std::exchange(fds_[index].description, -1));
  return 0;
}

void Disk::CloseAllOf(int process) {
  for (std::size_t i = 0; i < fds_.size(); ++i) {
    if (fds_[i].process == process) Close(kFirstFd + static_cast<int>(i));
  }
}

int Disk::Open(const char* path, int flags, unsigned, int at) {
  Step();
  const Tree::Place place = NodeAt(path, at);
  if (place.node < 0) return Fail(ENOENT);
  const bool shm = tree_.at(place.node).shm;
  if ((flags & O_TMPFILE) == O_TMPFILE) {
    const int made = tree_.Add(false, shm);
    return NewFd(made);
  }
  if ((flags & O_DIRECTORY) != 0 && !tree_.at(place.node).directory) return Fail(ENOTDIR);
  if (shm && (flags & O_DIRECT) != 0) return Fail(EINVAL);
  return NewFd(place.node);
}

ssize_t Disk::Read(int fd, void* to, std::size_t size, std::int64_t offset) {
  Step();
  const Node& node = tree_.at(NodeOf(fd));
  const std::byte* bytes = node.shm ? node.memory : node.bytes.data();
  const std::size_t end = node.shm ? node.memory_bytes : node.bytes.size();
  const auto from = static_cast<std::size_t>(offset);
  if (from >= end) return 0;
  size = std::min(size, end - from);
  std::memcpy(to, bytes + from, size);
  return static_cast<ssize_t>(size);
}

ssize_t Disk::Write(int fd, const void* from, std::size_t size, std::int64_t offset, bool durable) {
  Step();
  if (durable) {
    const Begun begun = Begin(fd, from, size, offset, true);
    Await(begun);
    return begun.result < 0 ? Fail(static_cast<int>(-begun.result)) : begun.result;
  }
  std::span<const std::byte> bytes(static_cast<const std::byte*>(from), size);
  const int node = NodeOf(fd);
  const auto at = static_cast<std::size_t>(offset);
  auto* fibers = Fibers::active();
  if (fibers != nullptr && faults != 0 && fibers->random().OneIn(faults)) {
    bytes = bytes.first(fibers->random().Below(size / kSector + 1) * kSector);
    if (bytes.empty()) return Fail(EINTR);
  }
  Record({.kind = Entry::kWrite, .node = node, .offset = at, .bytes{bytes.begin(), bytes.end()}});
  tree_.Write(node, at, bytes);
  return static_cast<ssize_t>(bytes.size());
}

Disk::Begun Disk::Begin(int fd, const void* from, std::size_t size, std::int64_t offset,
                        bool durable) {
  const int description = Describe(fd);
  const int node = NodeOf(fd);
  const auto at = static_cast<std::size_t>(offset);
  std::span<const std::byte> bytes(static_cast<const std::byte*>(from), size);
  const auto done = std::make_shared<bool>(false);
  auto* fibers = Fibers::active();
  if (log_ == nullptr || fibers == nullptr) {
    tree_.Write(node, at, bytes);
    *done = true;
    return {done, static_cast<ssize_t>(size)};
  }
  if (faults != 0 && fibers->random().OneIn(faults)) {
    bytes = bytes.first(fibers->random().Below(size / kSector + 1) * kSector);
    if (fibers->random().OneIn(3)) {
      // Interrupted: some of it may have got there, nothing is stable.
      Record(
          {.kind = Entry::kWrite, .node = node, .offset = at, .bytes{bytes.begin(), bytes.end()}});
      tree_.Write(node, at, bytes);
      *done = true;
      // Or refused: the trouble of who writes.
      constexpr int kErrors[] = {EINTR, EAGAIN, EFBIG, ENOSPC};
      return {done, -kErrors[fibers->random().Below(std::size(kErrors))]};
    }
    if (bytes.size() < size) {
      // A part, of which nobody says that it is stable.
      Record(
          {.kind = Entry::kWrite, .node = node, .offset = at, .bytes{bytes.begin(), bytes.end()}});
      tree_.Write(node, at, bytes);
      *done = true;
      return {done, static_cast<ssize_t>(bytes.size())};
    }
  }
  ++descriptions_[static_cast<std::size_t>(description)].references;
  Entry write{.kind = Entry::kWrite,
              .node = node,
              .offset = at,
              .bytes{bytes.begin(), bytes.end()},
              .under_way = durable};
  if (!durable) {  // there when it has landed, and stable when that was synced
    fibers->After(Latency(), [this, write, done, description] {
      tree_.Write(write.node, write.offset, write.bytes);
      Record(write);
      *done = true;
      Drop(description);
    });
    return {done, static_cast<ssize_t>(bytes.size())};
  }
  const std::size_t entry = log_->size();
  Record(std::move(write));
  fibers->After(Latency(), [this, entry, done, description] {
    const Entry landed = (*log_)[entry];
    tree_.Write(landed.node, landed.offset, landed.bytes);
    Record({.kind = Entry::kLanded, .node = landed.node, .of = entry});
    *done = true;
    Drop(description);
  });
  return {done, static_cast<ssize_t>(bytes.size())};
}

std::int64_t Disk::Latency() {
  Random& random = Fibers::active()->random();
  return static_cast<std::int64_t>(random.Below(random.OneIn(8) ? 60'000'000 : 100'000));
}

void Disk::Await(const Begun& begun) {
  if (!*begun.done) Fibers::active()->Await(begun.done);
}

int Disk::Sync(int fd) {
  const int node = NodeOf(fd);
  if (tree_.at(node).shm) return 0;
  const std::size_t before = log_ == nullptr ? 0 : log_->size();
  Step();
  const bool directory = tree_.at(node).directory;
  Record({.kind = directory ? Entry::kNamesSynced : Entry::kSynced, .node = node, .of = before});
  Step();
  return 0;
}

Disk::Begun Disk::BeginSync(int fd) {
  const auto done = std::make_shared<bool>(false);
  if (log_ == nullptr || Fibers::active() == nullptr) {
    *done = true;
    return {done, 0};
  }
  const int node = NodeOf(fd);
  const auto kind = tree_.at(node).directory ? Entry::kNamesSynced : Entry::kSynced;
  Fibers::active()->After(Latency(), [this, done, kind, node, before = log_->size()] {
    Record({.kind = kind, .node = node, .of = before});
    *done = true;
  });
  return {done, 0};
}

int Disk::Allocate(int fd, std::int64_t size) {
  Step();
  const int number = NodeOf(fd);
  Node& node = tree_.at(number);
  const auto bytes = static_cast<std::size_t>(size);
  if (!node.shm) {
    Record({.kind = Entry::kSize, .node = number, .offset = bytes});
    tree_.Resize(number, bytes);
    return 0;
  }
  const std::size_t whole = (bytes + 4095) / 4096 * 4096;
  if (memory_used_ + whole > kMemoryBytes) return ENOSPC;
  node.memory = Memory() + memory_used_;
  node.memory_bytes = bytes;
  memory_used_ += whole;
  return 0;
}

void Disk::Change(int directory, const std::string& add, const std::string& remove, int target) {
  if (!tree_.at(directory).shm) {
    Record({.kind = Entry::kName,
            .node = directory,
            .add = add,
            .remove = remove,
            .target = target,
            .directory = tree_.at(target).directory});
  }
  tree_.Change(directory, add, remove, target);
}

int Disk::Link(const char* from, const char* to) {
  Step();
  const Tree::Place source = NodeAt(from);
  const Tree::Place place = tree_.Find(to);
  if (source.node < 0 || place.parent < 0) return Fail(ENOENT);
  if (place.node >= 0) return Fail(EEXIST);
  ++tree_.at(source.node).links;
  Change(place.parent, place.name, "", source.node);
  if (tree_.at(source.node).shm && on_shm_link) on_shm_link(tree_.at(source.node).memory);
  return 0;
}

int Disk::Unlink(const std::string& path, bool directory, int at) {
  Step();
  const Tree::Place place = NodeAt(path, at);
  if (place.node < 0) return Fail(ENOENT);
  if (tree_.at(place.node).directory != directory) return Fail(directory ? ENOTDIR : EISDIR);
  if (directory && !tree_.at(place.node).names.empty()) return Fail(ENOTEMPTY);
  --tree_.at(place.node).links;
  Change(place.parent, "", place.name, place.node);
  return 0;
}

int Disk::Rename(const char* from, const char* to, int from_at, int to_at) {
  Step();
  const Tree::Place source = NodeAt(from, from_at);
  const Tree::Place place = NodeAt(to, to_at);
  if (source.node < 0 || place.parent < 0) return Fail(ENOENT);
  if (place.node >= 0) return Fail(EEXIST);  // always RENAME_NOREPLACE
  if (source.parent != place.parent) return Fail(EXDEV);
  Change(place.parent, place.name, source.name, source.node);
  return 0;
}

int Disk::MakeDirectory(const char* path) {
  Step();
  const Tree::Place place = tree_.Find(path);
  if (place.node >= 0) return Fail(EEXIST);
  if (place.parent < 0) return Fail(ENOENT);
  const int made = tree_.Add(true, tree_.at(place.parent).shm);
  tree_.at(made).links = 1;
  Change(place.parent, place.name, "", made);
  return 0;
}

int Disk::Stat(const char* path, struct stat* info, int at) {
  const Tree::Place place = NodeAt(path, at);
  if (place.node < 0) return Fail(ENOENT);
  const Node& node = tree_.at(place.node);
  *info = {};
  info->st_ino = static_cast<ino_t>(place.node) + 1;
  info->st_dev = node.shm ? 2 : 1;
  info->st_nlink = static_cast<nlink_t>(node.links);
  info->st_mode = (node.directory ? S_IFDIR : S_IFREG) | 0600u;
  info->st_size = static_cast<off_t>(node.shm ? node.memory_bytes : node.bytes.size());
  info->st_blocks = (info->st_size + 511) / 512;
  return 0;
}

int Disk::StatX(int at, const char* path, unsigned, struct statx* info) {
  struct stat plain {};
  if ((*path == '\0' ? StatFd(at, &plain) : Stat(path, &plain)) != 0) return -1;
  *info = {};
  info->stx_mask = STATX_INO | STATX_NLINK | STATX_TYPE;
  info->stx_ino = plain.st_ino;
  info->stx_dev_minor = static_cast<std::uint32_t>(plain.st_dev);
  info->stx_nlink = static_cast<std::uint32_t>(plain.st_nlink);
  info->stx_mode = static_cast<std::uint16_t>(plain.st_mode);
  return 0;
}

bool Disk::InMemory(int fd) { return tree_.at(NodeOf(fd)).shm; }

int Disk::StatFd(int fd, struct stat* info) {
  return Stat((std::string(kFdPrefix) + std::to_string(fd)).c_str(), info);
}

bool Disk::Conflicts(int node, std::int64_t byte, int description, bool exclusive) const {
  return std::any_of(locks_.begin(), locks_.end(), [&](const Lock& lock) {
    return lock.node == node && lock.byte == byte && lock.description != description &&
           (lock.exclusive || exclusive);
  });
}

int Disk::LockByte(int fd, bool exclusive, bool release, std::int64_t byte) {
  Step();
  const int description = Describe(fd);
  const int node = NodeOf(fd);
  if (!release && Conflicts(node, byte, description, exclusive)) return EAGAIN;
  std::erase_if(locks_, [&](const Lock& lock) {
    return lock.node == node && lock.byte == byte && lock.description == description;
  });
  if (!release) locks_.push_back({node, byte, description, exclusive});
  return 0;
}

bool Disk::ByteHeld(int fd, std::int64_t byte) {
  return Conflicts(NodeOf(fd), byte, Describe(fd), true);
}

int Disk::Flock(int fd, bool wait) {
  for (;;) {
    if (LockByte(fd, true, false, -1) == 0) return 0;
    if (!wait || Fibers::active() == nullptr) return Fail(EWOULDBLOCK);
    Fibers::active()->Sleep(10'000);
  }
}

std::byte* Disk::MemoryOf(int fd) { return tree_.at(NodeOf(fd)).memory; }

Disk::Listing* Disk::OpenDirectory(const char* path) {
  const int fd = Open(path, O_DIRECTORY, 0);
  return fd < 0 ? nullptr : OpenDirectory(fd);
}

Disk::Listing* Disk::OpenDirectory(int fd) {
  auto* listing = new Listing{.fd = fd};
  for (const auto& [name, node] : tree_.at(NodeOf(fd)).names) listing->names.push_back(name);
  return listing;
}

}  // namespace epoch::images
