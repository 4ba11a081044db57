#include "compute/add_tiles.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace tomoserve::compute {
namespace {

using Order = std::vector<std::int64_t>;

const std::vector<Order> kOrders = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

std::string Text(const Order& order) {
  std::string text;
  for (const std::int64_t axis : order) text += std::to_string(axis);
  return text;
}

// [channels][x][y][z] (0 channels: [x][y][z]) whose memory runs through the axes in this order, the last
// fastest, narrowed out of something larger.
at::Tensor Made(std::int64_t channels, const std::vector<std::int64_t>& size, const Order& order,
                std::uint64_t seed) {
  Order sizes;
  Order back(3);
  for (std::size_t place = 0; place < 3; ++place) {
    sizes.push_back(size[static_cast<std::size_t>(order[place])] + 2);
    back[static_cast<std::size_t>(order[place])] = static_cast<std::int64_t>(place);
  }
  if (channels > 0) {
    sizes.insert(sizes.begin(), channels);
    for (std::int64_t& axis : back) ++axis;
    back.insert(back.begin(), 0);
  }
  at::Tensor made = at::randn(sizes, at::detail::createCPUGenerator(seed)).permute(back);
  for (std::size_t axis = 0; axis < 3; ++axis) {
    made = made.narrow(made.dim() - 3 + static_cast<std::int64_t>(axis), 1, size[axis]);
  }
  return made;
}

// The plain reference: one operation after the other.
at::Tensor Sum(const at::Tensor& from, const at::Tensor& weights, const at::Tensor& to) {
  return to.add(weights.defined() ? from.mul(weights) : from);
}

TEST(AddTilesTest, EqualsOperationsToTheBitWhateverTheOrderOfMemory) {
  for (const std::vector<std::int64_t>& size :
       std::vector<std::vector<std::int64_t>>{{33, 18, 47}, {1, 20, 5}, {7, 1, 1}}) {
    for (const std::int64_t channels : {0, 3}) {
      for (const Order& from_order : kOrders) {
        for (const Order& to_order : kOrders) {
          for (const Order& weights_order : {Order{}, from_order, to_order}) {
            const at::Tensor from = Made(channels, size, from_order, 1);
            const at::Tensor to = Made(channels, size, to_order, 2);
            const at::Tensor weights = weights_order.empty() ? at::Tensor() : Made(0, size, weights_order, 3);
            const at::Tensor expected = Sum(from, weights, to);
            AddTiles(from, weights, to);
            ASSERT_TRUE(to.equal(expected)) << Text(from_order) << " to " << Text(to_order) << ", weights "
                                            << Text(weights_order) << ", " << channels << " channels";
          }
        }
      }
    }
  }
}

TEST(AddTilesTest, TouchesNothingOutsideTheBlock) {
  const at::Tensor all = at::randn({40, 40, 40}, at::detail::createCPUGenerator(4));
  const at::Tensor before = all.clone();
  const at::Tensor inside = all.narrow(0, 3, 20).narrow(1, 5, 21).narrow(2, 7, 22);
  AddTiles(Made(0, {20, 21, 22}, {2, 1, 0}, 5), {}, inside);
  EXPECT_FALSE(inside.equal(before.narrow(0, 3, 20).narrow(1, 5, 21).narrow(2, 7, 22)));
  inside.copy_(before.narrow(0, 3, 20).narrow(1, 5, 21).narrow(2, 7, 22));
  EXPECT_TRUE(all.equal(before));
}

TEST(AddTilesTest, NothingToAddIsNoError) {
  const at::Tensor to = Made(2, {4, 5, 6}, {0, 1, 2}, 6);
  const at::Tensor before = to.clone();
  AddTiles(Made(2, {4, 5, 6}, {2, 1, 0}, 7).narrow(1, 0, 0), {}, to.narrow(1, 0, 0));
  EXPECT_TRUE(to.equal(before));
}

}  // namespace
}  // namespace tomoserve::compute
