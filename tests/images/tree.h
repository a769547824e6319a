// Directories and files in memory, with an undo log: what is done behind Begin() is taken back by
// Rollback(), at the cost of what was changed. So one tree of stable bytes serves any number of
// crash images, each made of it by a few sectors and names.
#ifndef EPOCH_TESTS_IMAGES_TREE_H_
#define EPOCH_TESTS_IMAGES_TREE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace epoch::images {

inline constexpr std::size_t kSector = 512;
using Bytes = std::vector<std::byte>;

struct Node {
  bool directory = false;
  bool shm = false;  // lives in memory: its bytes are mapped, and gone with the power
  int links = 0;
  Bytes bytes;                       // a file's
  std::byte* memory = nullptr;       // a shm file's
  std::size_t memory_bytes = 0;      // a shm file's
  std::map<std::string, int> names;  // a directory's
};

class Tree {
 public:
  // With /dev/shm and /disk.
  Tree();

  Node& at(int node) { return nodes_[static_cast<std::size_t>(node)]; }
  const Node& at(int node) const { return nodes_[static_cast<std::size_t>(node)]; }
  int count() const { return static_cast<int>(nodes_.size()); }

  struct Place {
    int node = -1;    // -1: nothing there
    int parent = -1;  // the directory that it is in, or would be in; -1: neither is that
    std::string name;
  };
  Place Find(std::string_view path) const;

  int Add(bool directory, bool shm);
  // Nodes get the numbers that another tree gave them.
  void AddUpTo(int node);
  void Write(int node, std::size_t offset, std::span<const std::byte> bytes);
  void Resize(int node, std::size_t size);
  // Removes a name, adds one, or both at once.
  void Change(int directory, const std::string& add, const std::string& remove, int target);

  void Begin();
  void Rollback();
  // What was done behind Begin() stays.
  void Forget();

 private:
  struct Undo {
    int node;
    std::size_t offset;  // kNames: of no use
    std::size_t size_before;
    std::size_t saved_at, saved_bytes;  // in saved_
    std::string name;                   // a directory's name
    int target_before;                  // -1: it was not there
    bool names;
  };
  void SetName(int directory, const std::string& name, int target);

  std::vector<Node> nodes_;
  bool undoing_ = false;
  std::size_t nodes_before_ = 0;
  std::vector<Undo> undo_;
  Bytes saved_;
  std::vector<Bytes> spare_;  // buffers of files that were rolled back
};

}  // namespace epoch::images

#endif  // EPOCH_TESTS_IMAGES_TREE_H_
