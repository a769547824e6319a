#include "tests/sim/disk.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace epoch::sim {

Disk* Disk::active_ = nullptr;

namespace {
constexpr std::string_view kFdPrefix = "/proc/self/fd/";
constexpr std::uint64_t Mask(std::uint64_t fault) { return std::uint64_t{1} << fault; }
}  // namespace

Disk::Disk(Engine& engine, std::byte* arena, std::size_t arena_bytes)
    : engine_(engine), arena_(arena), arena_bytes_(arena_bytes) {
  active_ = this;
  NewNode(true, false, 0755);  // the root, number 0
  for (const auto& [name, shm] : {std::pair{"dev", true}, std::pair{"disk", false}}) {
    Inode& top = NewNode(true, shm, 0755);
    NodeOf(0).names[name] = NodeOf(0).stable_names[name] = top.number;
  }
  Inode& shm = NewNode(true, true, 0777);
  NodeOf(1).names["shm"] = NodeOf(1).stable_names["shm"] = shm.number;
  engine_.on_reaped = [this](int process) { CloseAllOf(process); };
  engine_.on_fork = [this](int parent, int child) {
    std::vector<Descriptor> inherited;
    for (const auto& [fd, d] : fds_) {
      if (d.process == parent) inherited.push_back({d.description, child});
    }
    for (const Descriptor& d : inherited) {
      ++descriptions_[static_cast<std::size_t>(d.description)].references;
      fds_[next_fd_++] = d;
    }
  };
}

Disk::~Disk() {
  std::memset(arena_, 0, arena_used_);
  active_ = nullptr;
}

int Disk::Fail(int error) {
  errno = error;
  return -1;
}

Disk::Inode& Disk::NewNode(bool directory, bool shm, unsigned mode) {
  inodes_.push_back(std::make_unique<Inode>());
  Inode& node = *inodes_.back();
  node.number = static_cast<int>(inodes_.size()) - 1;
  node.directory = directory;
  node.shm = shm;
  node.mode = mode;
  node.links = directory ? 1 : 0;
  return node;
}

Disk::Inode* Disk::NodeAt(const std::string& path, std::string* last, Inode** parent, int at_fd) {
  if (path.rfind(kFdPrefix, 0) == 0) {
    const auto fd = fds_.find(std::atoi(path.c_str() + kFdPrefix.size()));
    if (fd == fds_.end()) return nullptr;
    return &NodeOf(descriptions_[static_cast<std::size_t>(fd->second.description)].inode);
  }
  const bool relative = at_fd != AT_FDCWD && path[0] != '/';
  Inode* node = &NodeOf(relative ? DescriptionOf(at_fd).inode : 0);
  std::size_t at = 0;
  while (at < path.size()) {
    const std::size_t begin = path.find_first_not_of('/', at);
    if (begin == std::string::npos) break;
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const std::string name = path.substr(begin, end - begin);
    at = end;
    if (node == nullptr || !node->directory) return nullptr;
    if (name == ".") continue;
    if (last != nullptr) *last = name;
    if (parent != nullptr) *parent = node;
    const auto found = node->names.find(name);
    node = found == node->names.end() ? nullptr : &NodeOf(found->second);
    if (node == nullptr && at < path.size()) {
      if (parent != nullptr) *parent = nullptr;
      return nullptr;
    }
  }
  return node;
}

int Disk::NewFd(int inode) {
  descriptions_.push_back({inode, 1, Self()});
  fds_[next_fd_] = {static_cast<int>(descriptions_.size()) - 1, Self()};
  return next_fd_++;
}

int Disk::Describe(int fd) const {
  const auto found = fds_.find(fd);
  if (found == fds_.end()) {
    engine_.Violation("a file-system call on a closed descriptor");
    return 0;
  }
  return found->second.description;
}

std::string Disk::PathOf(const Inode& directory) const {
  if (directory.number == 0) return "";
  return PathOf(NodeOf(directory.parent)) + "/" + directory.name;
}

int Disk::Open(const char* path, int flags, unsigned mode, int at) {
  engine_.Step();
  Inode* parent = nullptr;
  std::string name;
  Inode* node = NodeAt(path, &name, &parent, at);
  const bool creates = (flags & O_CREAT) != 0;
  if (creates && node != nullptr && (flags & O_EXCL) != 0) return Fail(EEXIST);
  if (creates && node == nullptr && parent != nullptr && parent->links > 0) {
    node = &NewNode(false, parent->shm, mode);
    node->links = 1;
    Change(*parent, name, "", node->number);
    engine_.Trace("create %s", path);
  }
  if (node == nullptr) return Fail(ENOENT);
  if ((flags & O_TRUNC) != 0) {
    node->now.clear();
    node->dirty.clear();
    node->changed_ns = engine_.now_ns();
  }
  if (parent != nullptr && engine_.current() >= 0) {
    engine_.memory().Acquire(engine_.current(), parent->clock);
  }
  if ((flags & O_TMPFILE) == O_TMPFILE) {
    if (!node->directory) return Fail(ENOTDIR);
    Inode& unnamed = NewNode(false, node->shm, mode);
    unnamed.linkable = true;
    return NewFd(unnamed.number);
  }
  if ((flags & O_DIRECTORY) != 0 && !node->directory) return Fail(ENOTDIR);
  if (node->shm && (flags & O_DIRECT) != 0) return Fail(EINVAL);
  const int fd = NewFd(node->number);
  engine_.Trace("open %s -> %d", path, fd);
  return fd;
}

void Disk::Drop(int description) {
  Description& d = descriptions_[static_cast<std::size_t>(description)];
  if (--d.references > 0) return;
  for (const Lock& lock : locks_) {
    if (lock.description != description) continue;
    if (d.process >= 0) engine_.ReleaseAllOf(d.process, ReleasedAt(lock.inode, lock.byte));
  }
  std::erase_if(locks_, [&](const Lock& lock) { return lock.description == description; });
}

int Disk::Close(int fd) {
  const auto found = fds_.find(fd);
  if (found == fds_.end()) return Fail(EBADF);
  const int description = found->second.description;
  fds_.erase(found);
  Drop(description);
  return 0;
}

void Disk::CloseAllOf(int process) {
  std::vector<int> mine;
  for (const auto& [fd, d] : fds_) {
    if (d.process == process) mine.push_back(fd);
  }
  for (const int fd : mine) Close(fd);
}

int Disk::Dup3(int from, int to) {
  const int description = Describe(from);
  Close(to);
  ++descriptions_[static_cast<std::size_t>(description)].references;
  fds_[to] = {description, engine_.process()};
  return to;
}

ssize_t Disk::Read(int fd, void* to, std::size_t size, std::int64_t offset) {
  engine_.Step();
  Inode& node = NodeOf(DescriptionOf(fd).inode);
  if (node.event) {
    if (node.count == 0) return Fail(EAGAIN);
    if (engine_.current() >= 0) engine_.memory().Acquire(engine_.current(), node.clock);
    std::memcpy(to, &node.count, sizeof node.count);
    node.count = 0;
    return sizeof node.count;
  }
  std::uint64_t what = 0;
  if (!node.shm && engine_.TakeDiskFault(Mask(kReadFails), what)) {
    engine_.Trace("read: EIO");
    return Fail(EIO);
  }
  const std::byte* bytes = node.shm ? node.memory : node.now.data();
  const std::size_t end = node.shm ? node.memory_bytes : node.now.size();
  const auto from = static_cast<std::size_t>(offset);
  if (from >= end) return 0;
  size = std::min(size, end - from);
  std::memcpy(to, bytes + from, size);
  return static_cast<ssize_t>(size);
}

void Disk::MarkDirty(Inode& node, std::size_t offset, std::size_t size) {
  node.dirty.resize((node.now.size() + kSector - 1) / kSector);
  for (std::size_t s = offset / kSector; s * kSector < offset + size; ++s) node.dirty[s] = true;
}

std::int64_t Disk::Latency() {
  Random& random = engine_.random();
  switch (random.Below(16)) {
    case 0:
      return static_cast<std::int64_t>(random.Below(400'000'000));  // longer than anyone waits
    case 1:
    case 2:
      return static_cast<std::int64_t>(random.Below(4'000'000));
    case 3:
    case 4:
    case 5:
      return static_cast<std::int64_t>(random.Below(20'000));
    default:
      return static_cast<std::int64_t>(random.Below(500));
  }
}

// Writes the sectors of a flight that `sector_lands` lets pass.
void Disk::Land(const Flight& flight, bool stable, const std::function<bool()>& sector_lands) {
  Inode& node = NodeOf(flight.inode);
  node.changed_ns = engine_.now_ns();
  if (node.now.size() < flight.offset + flight.bytes.size()) {
    node.now.resize(flight.offset + flight.bytes.size());
  }
  if (stable && node.stable.size() < node.now.size()) node.stable.resize(node.now.size());
  for (std::size_t at = 0; at < flight.bytes.size(); at += kSector) {
    if (!sector_lands()) continue;
    const std::size_t part = std::min(kSector, flight.bytes.size() - at);
    std::memcpy(node.now.data() + flight.offset + at, flight.bytes.data() + at, part);
    if (stable) {
      std::memcpy(node.stable.data() + flight.offset + at, flight.bytes.data() + at, part);
    } else {
      MarkDirty(node, flight.offset + at, part);
    }
  }
}

ssize_t Disk::Write(int fd, const void* from, std::size_t size, std::int64_t offset, bool durable) {
  const Begun begun = Begin(fd, from, size, offset, durable);
  if (!*begun.done) engine_.BlockUntil(*begun.done);
  return *begun.result < 0 ? Fail(static_cast<int>(-*begun.result)) : *begun.result;
}

Disk::Begun Disk::Begin(int fd, const void* from, std::size_t size, std::int64_t offset,
                        bool durable) {
  engine_.Step();
  const int description = Describe(fd);
  Inode& node = NodeOf(DescriptionOf(fd).inode);
  const auto* bytes = static_cast<const std::byte*>(from);
  auto flight = std::make_shared<Flight>(Flight{description,
                                                node.number,
                                                static_cast<std::size_t>(offset),
                                                {bytes, bytes + size},
                                                std::make_shared<bool>(false)});
  std::uint64_t what = kDiskFaults;
  if (durable) {
    engine_.TakeDiskFault(Mask(kWriteFails) | Mask(kWriteIsShort) | Mask(kWriteInterrupted), what);
  }
  engine_.Trace("write fd %d offset %ld bytes %zu%s%s", fd, offset, size, durable ? " durable" : "",
                what == kWriteFails         ? ": EIO"
                : what == kWriteIsShort     ? ": short"
                : what == kWriteInterrupted ? ": refused"
                                            : "");
  Random& random = engine_.random();
  switch (what) {
    case kWriteFails:
      // Not stable, but there for all to read, perhaps all of it; or in part, and stable.
      if (random.OneIn(2)) {
        Land(*flight, false,
             [whole = random.OneIn(2), &random] { return whole || random.OneIn(2); });
      } else {
        Land(*flight, true, [&random] { return random.OneIn(2); });
      }
      return Begun::Over(-EIO);
    case kWriteIsShort:
      flight->bytes.resize(random.Below(size / kSector) * kSector);
      Land(*flight, false, [] { return true; });
      return Begun::Over(static_cast<ssize_t>(flight->bytes.size()));
    case kWriteInterrupted:
      switch (random.Below(4)) {
        case 0:
          return Begun::Over(-EINTR);
        case 1:
          return Begun::Over(-EAGAIN);
        case 2:
          return Begun::Over(-EFBIG);
        default:
          return Begun::Over(-ENOSPC);
      }
    default:
      break;
  }
  if (!durable || engine_.current() < 0) {
    Land(*flight, durable, [] { return true; });
    return Begun::Over(static_cast<ssize_t>(size));
  }
  ++descriptions_[static_cast<std::size_t>(description)].references;
  flights_.push_back(flight);
  engine_.After(Latency(), [this, flight] {
    Land(*flight, true, [] { return true; });
    engine_.Trace("landed: offset %zu bytes %zu", flight->offset, flight->bytes.size());
    *flight->done = true;
    std::erase(flights_, flight);
    Drop(flight->description);
  });
  return {flight->done, std::make_shared<ssize_t>(static_cast<ssize_t>(size))};
}

int Disk::Sync(int fd) {
  const Begun begun = BeginSync(fd);
  if (!*begun.done) engine_.BlockUntil(*begun.done);
  return *begun.result < 0 ? Fail(static_cast<int>(-*begun.result)) : 0;
}

Disk::Begun Disk::BeginSync(int fd) {
  engine_.Step();
  const int description = Describe(fd);
  Inode& node = NodeOf(DescriptionOf(fd).inode);
  engine_.Trace("sync fd %d", fd);
  if (node.shm) return Begun::Over(0);
  std::uint64_t what = 0;
  const bool fails = engine_.TakeDiskFault(Mask(kSyncFails), what);
  Begun begun = Begun::Over(fails ? -EIO : 0);
  if (engine_.current() < 0) {
    MakeStable(node, changes_, node.dirty, fails);
    return begun;
  }
  *begun.done = false;
  ++descriptions_[static_cast<std::size_t>(description)].references;
  // What changes while it is under way is for the next one.
  engine_.After(Latency() / 4, [this, self = engine_.current(), description, &node,
                                up_to = changes_, dirty = node.dirty, fails, done = begun.done] {
    if (!Dropped(self)) MakeStable(node, up_to, dirty, fails);
    engine_.Trace("synced: inode %d%s", node.number, fails ? ": EIO" : "");
    *done = true;
    Drop(description);
  });
  return begun;
}

// What a process leaves in a queue when it dies may have been begun, or not.
bool Disk::Dropped(int submitter) {
  return submitter >= 0 && engine_.dead(submitter) && engine_.random().OneIn(2);
}

void Disk::MakeStable(Inode& node, std::uint64_t up_to, const std::vector<bool>& dirty,
                      bool fails) {
  if (node.directory) {
    if (fails) return;
    std::erase_if(node.unsynced, [&](const Inode::Change& change) {
      if (change.number > up_to) return false;
      if (!change.remove.empty()) node.stable_names.erase(change.remove);
      if (!change.add.empty()) node.stable_names[change.add] = change.inode;
      return true;
    });
    return;
  }
  node.stable.resize(node.now.size());
  for (std::size_t s = 0; s < dirty.size() && s < node.dirty.size(); ++s) {
    if (!dirty[s] || !node.dirty[s]) continue;
    // After a failure the pages count as clean: a later sync succeeds and proves nothing.
    if (!fails || engine_.random().OneIn(2)) {
      const std::size_t part = std::min(kSector, node.now.size() - s * kSector);
      std::memcpy(node.stable.data() + s * kSector, node.now.data() + s * kSector, part);
    }
    node.dirty[s] = false;
  }
}

int Disk::Allocate(int fd, std::int64_t size) {
  engine_.Step();
  Inode& node = NodeOf(DescriptionOf(fd).inode);
  std::uint64_t what = 0;
  if (!node.shm && engine_.TakeDiskFault(Mask(kNoSpace), what)) return ENOSPC;
  const auto bytes = static_cast<std::size_t>(size);
  if (!node.shm) {
    if (node.now.size() < bytes) node.now.resize(bytes);
    return 0;
  }
  const std::size_t whole = (bytes + 4095) / 4096 * 4096;
  if (arena_used_ + whole > arena_bytes_) return ENOSPC;
  node.memory = arena_ + arena_used_;
  node.memory_bytes = bytes;
  arena_used_ += whole;
  return 0;
}

void Disk::Change(Inode& directory, const std::string& add, const std::string& remove, int inode,
                  bool by_itself) {
  if (!remove.empty()) directory.names.erase(remove);
  if (!add.empty()) {
    directory.names[add] = inode;
    NodeOf(inode).parent = directory.number;
    NodeOf(inode).name = add;
  }
  if (!directory.shm) directory.unsynced.push_back({add, remove, inode, ++changes_});
  // Who comes to see it knows what its changer did; of one that goes on by itself, nothing.
  if (engine_.current() >= 0 && !by_itself) {
    engine_.memory().Release(engine_.current(), directory.clock);
  }
}

int Disk::Link(const char* from, const char* to) {
  engine_.Step();
  Inode* node = NodeAt(from);
  Inode* parent = nullptr;
  std::string name;
  Inode* there = NodeAt(to, &name, &parent);
  if (node == nullptr || parent == nullptr) return Fail(ENOENT);
  if (there != nullptr) return Fail(EEXIST);
  // What has lost its last name gets none again.
  if (node->links == 0 && !std::exchange(node->linkable, false)) return Fail(ENOENT);
  engine_.Trace("link %s", to);
  ++node->links;
  Change(*parent, name, "", node->number);
  if (node->shm && on_shm_link) on_shm_link(to, node->memory);
  return 0;
}

int Disk::Unlink(const std::string& path, bool directory, int at) {
  engine_.Step();
  const int result = Remove(path, directory, at, /*by_itself=*/false);
  return result < 0 ? Fail(-result) : 0;
}

Disk::Begun Disk::BeginUnlink(const std::string& name, int at) {
  engine_.Step();
  // The queue holds the directory, whatever becomes of the descriptor.
  const std::string path = PathOf(NodeOf(DescriptionOf(at).inode)) + "/" + name;
  // An older kernel does not know how.
  if (engine_.random().OneIn(16)) return Begun::Over(-EINVAL);
  Begun begun = Begun::Over(0);
  *begun.done = false;
  engine_.After(Latency() / 4, [this, self = engine_.current(), path, begun] {
    if (!Dropped(self)) *begun.result = Remove(path, false, AT_FDCWD, /*by_itself=*/true);
    *begun.done = true;
  });
  return begun;
}

int Disk::Remove(const std::string& path, bool directory, int at, bool by_itself) {
  Inode* parent = nullptr;
  std::string name;
  Inode* node = NodeAt(path, &name, &parent, at);
  if (node == nullptr) return -ENOENT;
  if (node->directory != directory) return directory ? -ENOTDIR : -EISDIR;
  if (directory && !node->names.empty()) return -ENOTEMPTY;
  const std::string whole = PathOf(*parent) + "/" + name;
  engine_.Trace("unlink %s", whole.c_str());
  if (!directory && !node->shm && on_unlink) on_unlink(whole);
  --node->links;
  Change(*parent, "", name, node->number, by_itself);
  return 0;
}

int Disk::Rename(const char* from, const char* to, int from_at, int to_at) {
  engine_.Step();
  Inode *from_parent = nullptr, *to_parent = nullptr;
  std::string from_name, to_name;
  Inode* node = NodeAt(from, &from_name, &from_parent, from_at);
  Inode* there = NodeAt(to, &to_name, &to_parent, to_at);
  if (node == nullptr || to_parent == nullptr) return Fail(ENOENT);
  if (there != nullptr) return Fail(EEXIST);  // always RENAME_NOREPLACE
  if (from_parent != to_parent) return Fail(EXDEV);
  engine_.Trace("rename %s to %s", from, to);
  Change(*to_parent, to_name, from_name, node->number);
  return 0;
}

int Disk::MakeDirectory(const char* path) {
  engine_.Step();
  Inode* parent = nullptr;
  std::string name;
  if (NodeAt(path, &name, &parent) != nullptr) return Fail(EEXIST);
  if (parent == nullptr) return Fail(ENOENT);
  const int number = NewNode(true, parent->shm, 0700).number;
  Change(*parent, name, "", number);
  return 0;
}

void Disk::Fill(const Inode& node, struct stat* info) const {
  *info = {};
  info->st_ino = static_cast<ino_t>(node.number) + 1;
  info->st_dev = node.shm ? 2 : 1;
  info->st_nlink = static_cast<nlink_t>(node.links);
  info->st_mode = (node.directory ? S_IFDIR : S_IFREG) | node.mode;
  info->st_mtim = {node.changed_ns / 1'000'000'000, node.changed_ns % 1'000'000'000};
  info->st_ctim = info->st_mtim;
  info->st_size = static_cast<off_t>(node.shm ? node.memory_bytes : node.now.size());
  info->st_blocks = (info->st_size + 511) / 512;
}

int Disk::Stat(const char* path, struct stat* info, int at) {
  engine_.Step();
  const Inode* node = NodeAt(path, nullptr, nullptr, at);
  if (node == nullptr) return Fail(ENOENT);
  Fill(*node, info);
  return 0;
}

int Disk::StatFd(int fd, struct stat* info) {
  engine_.Step();
  Fill(NodeOf(DescriptionOf(fd).inode), info);
  return 0;
}

int Disk::StatX(int at, const char* path, unsigned, struct statx* info) {
  const Inode* node = *path == '\0' && fds_.count(at) != 0 ? &NodeOf(DescriptionOf(at).inode)
                      : *path == '\0'                      ? nullptr
                                                           : NodeAt(path, nullptr, nullptr, at);
  if (node == nullptr) return Fail(ENOENT);
  struct stat plain {};
  Fill(*node, &plain);
  *info = {};
  info->stx_mask = STATX_INO | STATX_NLINK | STATX_TYPE;
  info->stx_ino = plain.st_ino;
  info->stx_dev_minor = static_cast<std::uint32_t>(plain.st_dev);
  info->stx_nlink = static_cast<std::uint32_t>(plain.st_nlink);
  info->stx_mode = static_cast<std::uint16_t>(plain.st_mode);
  return 0;
}

bool Disk::Exists(const char* path) {
  engine_.Step();
  return NodeAt(path) != nullptr;
}

int Disk::LockByte(int fd, bool exclusive, bool release, std::int64_t byte) {
  engine_.Step();
  const int description = Describe(fd);
  const int inode = DescriptionOf(fd).inode;
  if (!release) {
    for (const Lock& lock : locks_) {
      if (lock.inode == inode && lock.byte == byte && lock.description != description &&
          (lock.exclusive || exclusive)) {
        return EAGAIN;
      }
    }
  }
  const auto held = std::erase_if(locks_, [&](const Lock& lock) {
    return lock.inode == inode && lock.byte == byte && lock.description == description;
  });
  const int self = engine_.current();
  Clock& clock = ReleasedAt(inode, byte);
  if (!release) {
    locks_.push_back({inode, byte, description, exclusive});
    if (held == 0) taken_[{inode, byte}] = engine_.memory().time();
    if (self >= 0) engine_.memory().Acquire(self, clock);
  } else if (held > 0 && self >= 0) {
    engine_.memory().Release(self, clock);
  }
  engine_.Trace("%s byte %ld of file %d", release ? "unlocked" : "locked", byte, inode);
  return 0;
}

bool Disk::ByteHeld(int fd, std::int64_t byte) {
  engine_.Step();
  const int description = Describe(fd);
  const int inode = DescriptionOf(fd).inode;
  for (const Lock& lock : locks_) {
    if (lock.inode != inode || lock.byte != byte || lock.description == description) continue;
    // The look at the lock is a load, too: one that is still late may come after it.
    const bool early = engine_.current() >= 0 &&
                       engine_.memory().MayComeBefore(engine_.current(), taken_[{inode, byte}]);
    return !early || !engine_.random().OneIn(3);
  }
  // The kernel's lock is a synchronisation: who finds a byte free sees all that its last holder
  // did before it let go or died.
  if (engine_.current() >= 0) engine_.memory().Acquire(engine_.current(), ReleasedAt(inode, byte));
  return false;
}

int Disk::Flock(int fd, bool wait) {
  for (;;) {
    const int error = LockByte(fd, true, false, -1);
    if (error == 0) return 0;
    if (!wait) return Fail(EWOULDBLOCK);
    engine_.Sleep(10'000);
  }
}

std::byte* Disk::MemoryOf(int fd) {
  engine_.Step();
  return NodeOf(DescriptionOf(fd).inode).memory;
}

int Disk::MakeEvent() {
  engine_.Step();
  Inode& node = NewNode(false, true, 0600);
  node.event = true;
  return NewFd(node.number);
}

int Disk::AddToEvent(int fd, std::uint64_t count) {
  engine_.Step();
  Inode& node = NodeOf(DescriptionOf(fd).inode);
  if (!node.event) return Fail(EINVAL);
  node.count += count;
  if (engine_.current() >= 0) engine_.memory().Release(engine_.current(), node.clock);
  return sizeof count;
}

std::uint64_t Disk::AwaitEvent(int fd, std::int64_t nanos) {
  const std::int64_t until_ns = engine_.now_ns() + nanos;
  for (;;) {
    engine_.Step();
    const Inode& node = NodeOf(DescriptionOf(fd).inode);
    if (node.count != 0 || engine_.now_ns() >= until_ns) return node.count;
    engine_.Sleep(std::min<std::int64_t>(until_ns - engine_.now_ns(), 2'000'000));
  }
}

Disk::Listing* Disk::OpenDirectory(const char* path, int at) {
  engine_.Step();
  Inode* node = NodeAt(path, nullptr, nullptr, at);
  if (node == nullptr || !node->directory) {
    errno = ENOENT;
    return nullptr;
  }
  if (engine_.current() >= 0) engine_.memory().Acquire(engine_.current(), node->clock);
  auto* listing = new Listing{at == AT_FDCWD ? NewFd(node->number) : at};
  for (const auto& [name, inode] : node->names) listing->names.push_back(name);
  // The kernel promises no order.
  for (std::size_t i = listing->names.size(); i > 1; --i) {
    std::swap(listing->names[i - 1], listing->names[engine_.random().Below(i)]);
  }
  return listing;
}

std::vector<std::string> Disk::Names(const std::string& directory) const {
  std::vector<std::string> names;
  const Inode* node = const_cast<Disk*>(this)->NodeAt(directory);
  if (node == nullptr) return names;
  for (const auto& [name, inode] : node->names) names.push_back(name);
  return names;
}

std::vector<std::byte> Disk::Stable(const std::string& path) {
  const Inode* node = NodeAt(path);
  return node == nullptr ? std::vector<std::byte>() : node->stable;
}

void Disk::Damage(const std::string& path, std::size_t sector, bool zeros) {
  Inode& node = *NodeAt(path);
  for (std::size_t i = 0; i < kSector; ++i) {
    const auto noise = static_cast<std::byte>(engine_.random().Below(256)) | std::byte{1};
    const std::size_t at = sector * kSector + i;
    node.stable[at] = node.now[at] = zeros ? std::byte{0} : noise;
  }
  damaged_ = true;
  engine_.Trace("damaged: %s offset %zu%s", path.c_str(), sector * kSector, zeros ? " zeros" : "");
}

void Disk::PowerLoss(bool tear) {
  Random& random = engine_.random();
  for (const auto& flight : flights_) Land(*flight, false, [] { return true; });
  flights_.clear();
  ++boot_;
  descriptions_.clear();
  fds_.clear();
  locks_.clear();
  released_.clear();
  const bool ordered = random.OneIn(2);  // names: a journal keeps their order, POSIX does not
  for (const auto& owned : inodes_) {
    Inode& node = *owned;
    node.clock = {};
    if (node.shm) {
      if (node.directory && node.number > 2) node.names.clear();
      continue;
    }
    if (node.directory) {
      const std::uint64_t kept = random.Below(node.unsynced.size() + 1);
      for (std::size_t i = 0; i < node.unsynced.size(); ++i) {
        if (ordered ? i >= kept : random.OneIn(2)) continue;
        const Inode::Change& change = node.unsynced[i];
        if (!change.remove.empty()) node.stable_names.erase(change.remove);
        if (!change.add.empty()) node.stable_names[change.add] = change.inode;
      }
      node.unsynced.clear();
      node.names = node.stable_names;
      continue;
    }
    // The new size is there or not; what lies beyond reads as zeros, if it is.
    if (node.now.size() > node.stable.size() && random.OneIn(2))
      node.stable.resize(node.now.size());
    for (std::size_t s = 0; s < node.dirty.size(); ++s) {
      if (!node.dirty[s] || (s + 1) * kSector > node.stable.size() || random.OneIn(2)) continue;
      const std::size_t part = tear && random.OneIn(8) ? random.Below(kSector) : kSector;
      std::memcpy(node.stable.data() + s * kSector, node.now.data() + s * kSector, part);
    }
    node.now = node.stable;
    node.dirty.assign(node.dirty.size(), false);
  }
  // An unlink that was lost has not happened.
  for (const auto& node : inodes_) {
    if (!node->directory) node->links = 0;
  }
  for (const auto& owned : inodes_) {
    for (const auto& [name, inode] : owned->names) {
      if (!NodeOf(inode).directory) ++NodeOf(inode).links;
    }
  }
}

}  // namespace epoch::sim
