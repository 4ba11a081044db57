#include "tomoserve/models/parts.h"

#include <google/protobuf/repeated_ptr_field.h>

#include <algorithm>
#include <set>

namespace tomoserve::models {
namespace {

using Steps = google::protobuf::RepeatedPtrField<v1::IntensityStep>;

const Steps& IntensityOf(const v1::Recipe& recipe, const v1::Part& part) {
  return part.intensity().empty() ? recipe.preparation().intensity() : part.intensity();
}

// Steps hold no maps: equal ones have equal bytes.
bool Same(const Steps& a, const Steps& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const v1::IntensityStep& one, const v1::IntensityStep& other) {
                      return one.SerializeAsString() == other.SerializeAsString();
                    });
}

}  // namespace

std::size_t NetworkCount(const v1::Recipe& recipe) {
  return static_cast<std::size_t>(std::max(recipe.network().parts_size(), 1));
}

v1::Recipe NetworkRecipe(const v1::Recipe& recipe, std::size_t part) {
  if (!IsComposite(recipe)) return recipe;
  const v1::Part own = recipe.network().parts(static_cast<int>(part));
  v1::Recipe alone = recipe;
  v1::Network& network = *alone.mutable_network();
  *network.mutable_files() = own.files();
  network.set_output_channels(own.output_channels());
  network.clear_parts();
  *network.add_parts() = own;
  *alone.mutable_preparation()->mutable_intensity() = IntensityOf(recipe, own);
  alone.clear_labels();
  for (const std::uint32_t value : own.labels()) {
    const auto label = std::find_if(recipe.labels().begin(), recipe.labels().end(),
                                    [value](const v1::Label& known) { return known.value() == value; });
    if (label != recipe.labels().end()) *alone.add_labels() = *label;
  }
  return alone;
}

std::vector<std::string> NetworkFiles(const v1::Recipe& recipe) {
  const v1::Network& network = recipe.network();
  std::vector<std::string> files(network.files().begin(), network.files().end());
  for (const v1::Part& part : network.parts()) {
    files.insert(files.end(), part.files().begin(), part.files().end());
  }
  return files;
}

std::uint32_t MostOutputChannels(const v1::Recipe& recipe) {
  std::uint32_t most = recipe.network().output_channels();
  for (const v1::Part& part : recipe.network().parts()) most = std::max(most, part.output_channels());
  return most;
}

std::vector<std::size_t> PreparedBy(const v1::Recipe& recipe) {
  std::vector<std::size_t> by(NetworkCount(recipe));
  for (std::size_t part = 1; part < by.size(); ++part) {
    const Steps& own = IntensityOf(recipe, recipe.network().parts(static_cast<int>(part)));
    by[part] = part;
    for (std::size_t other = 0; other < part; ++other) {
      if (!Same(own, IntensityOf(recipe, recipe.network().parts(static_cast<int>(other))))) continue;
      by[part] = other;
      break;
    }
  }
  return by;
}

std::size_t PreparationCount(const v1::Recipe& recipe) {
  const std::vector<std::size_t> by = PreparedBy(recipe);
  return std::set(by.begin(), by.end()).size();
}

}  // namespace tomoserve::models
