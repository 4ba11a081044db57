// The strides of a RetinaNet's feature maps: a ResNet halves at its first convolution (as it is told), at its
// max-pool and at each layer from the second on; the pyramid adds one more level by a max-pool.
#include <algorithm>

#include "models/import/errors.h"
#include "models/import/monai.h"

namespace tomoserve::models::importer {
namespace {

using Strides = std::vector<std::uint32_t>;

bool IsResNet(const std::string& target) {
  if (target == "ResNet") return true;
  const std::string digits = target.substr(0, 6) == "resnet" ? target.substr(6) : "";
  return !digits.empty() && digits.find_first_not_of("0123456789") == std::string::npos;
}

absl::StatusOr<Arguments> CallOf(const Located& value, const char* what, Config* config,
                                 std::initializer_list<std::string_view> positional) {
  TS_ASSIGN_OR_RETURN(const std::optional<Config::Call> call, config->AsCall(value));
  if (!call)
    return NotSupported(value.place.Text(), absl::StrCat(what, " is not understood: ", Short(*value.value)));
  return Arguments::OfCall(*call, value.place, positional);
}

// Stride of the first layer's map.
absl::StatusOr<Strides> BackboneStride(const Located& backbone, Config* config) {
  TS_ASSIGN_OR_RETURN(Arguments arguments,
                      CallOf(backbone, "the backbone", config,
                             {"block", "layers", "block_inplanes", "spatial_dims", "n_input_channels",
                              "conv1_t_size", "conv1_t_stride", "no_max_pool"}));
  if (!IsResNet(arguments.target())) {
    return NotSupported(backbone.place.Text(),
                        absl::StrCat("the backbone ", OneLine(arguments.target(), 80), " is not known"));
  }
  TS_RETURN_IF_ERROR(arguments.Only("no_max_pool", false));
  Strides stride(3, 1);
  if (const std::optional<Located> stated = arguments.Take("conv1_t_stride")) {
    TS_ASSIGN_OR_RETURN(const std::vector<double> numbers, arguments.Numbers("conv1_t_stride", config));
    if (numbers.size() != 3) return arguments.Refuse("conv1_t_stride", "three values are required");
    for (std::size_t axis = 0; axis < 3; ++axis) {
      if (numbers[axis] != 1 && numbers[axis] != 2 && numbers[axis] != 4) {
        return arguments.Refuse("conv1_t_stride", "only 1, 2 and 4 are supported");
      }
      stride[axis] = static_cast<std::uint32_t>(numbers[axis]);
    }
  }
  for (std::uint32_t& along : stride) along *= 2;
  return stride;
}

// The numbers of the ResNet's layers that feed the pyramid, ascending.
absl::StatusOr<std::vector<std::uint32_t>> LayersOf(Arguments* extractor, Config* config) {
  std::vector<std::uint32_t> layers;
  if (extractor->target() == "resnet_fpn_feature_extractor") {
    if (!extractor->Take("returned_layers")) return std::vector<std::uint32_t>{1, 2, 3};
    TS_ASSIGN_OR_RETURN(const std::vector<double> numbers, extractor->Numbers("returned_layers", config));
    for (const double number : numbers) layers.push_back(static_cast<std::uint32_t>(std::max(number, 0.0)));
  } else {
    const std::optional<Located> returned = extractor->Take("return_layers");
    if (!returned || !returned->value->is_object())
      return extractor->Refuse("return_layers", "is not understood");
    for (const auto& [key, name] : returned->value->items()) {
      const bool layer = key.size() == 6 && key.substr(0, 5) == "layer";
      layers.push_back(layer ? static_cast<std::uint32_t>(key[5] - '0') : 0);
    }
  }
  for (const std::uint32_t layer : layers) {
    if (layer < 1 || layer > 4)
      return NotSupported(extractor->place().Text(), "the layers are not understood");
  }
  if (layers.empty() || !std::is_sorted(layers.begin(), layers.end())) {
    return NotSupported(extractor->place().Text(), "the layers are not in their order");
  }
  return layers;
}

}  // namespace

absl::StatusOr<std::vector<Strides>> DetectorStrides(const Located& network, Config* config) {
  Located definition = network;
  // "$@network_def.to(@device)" is the network that network_def describes.
  TS_ASSIGN_OR_RETURN(const std::optional<Config::Call> call, config->AsCall(network));
  if (call && call->target == "@network_def.to") {
    TS_ASSIGN_OR_RETURN(definition, config->At("network_def"));
  }
  TS_ASSIGN_OR_RETURN(Arguments net, CallOf(definition, "the network", config, {}));
  if (net.target() != "RetinaNet") {
    return NotSupported(definition.place.Text(),
                        absl::StrCat("the detector's network ", OneLine(net.target(), 80), " is not known"));
  }
  const std::optional<Located> feature_extractor = net.Take("feature_extractor");
  if (!feature_extractor) return net.Refuse("feature_extractor", "is missing");
  // Both forms have their own order of what comes without a name.
  TS_ASSIGN_OR_RETURN(Arguments extractor, CallOf(*feature_extractor, "the feature extractor", config, {}));
  if (extractor.target() == "resnet_fpn_feature_extractor") {
    TS_ASSIGN_OR_RETURN(extractor, CallOf(*feature_extractor, "the feature extractor", config,
                                          {"backbone", "spatial_dims", "pretrained_backbone",
                                           "returned_layers", "trainable_backbone_layers"}));
  } else if (extractor.target() == "BackboneWithFPN") {
    TS_ASSIGN_OR_RETURN(extractor, CallOf(*feature_extractor, "the feature extractor", config,
                                          {"backbone", "return_layers", "in_channels_list", "out_channels",
                                           "spatial_dims", "extra_blocks"}));
    TS_RETURN_IF_ERROR(extractor.Only("extra_blocks", nullptr));
  } else {
    return NotSupported(
        feature_extractor->place.Text(),
        absl::StrCat("the feature extractor ", OneLine(extractor.target(), 80), " is not known"));
  }
  const std::optional<Located> backbone = extractor.Take("backbone");
  if (!backbone) return extractor.Refuse("backbone", "is missing");
  TS_ASSIGN_OR_RETURN(const Strides first, BackboneStride(*backbone, config));
  TS_ASSIGN_OR_RETURN(const std::vector<std::uint32_t> layers, LayersOf(&extractor, config));

  std::vector<Strides> levels;
  for (const std::uint32_t layer : layers) {
    Strides stride = first;
    for (std::uint32_t& along : stride) along <<= layer - 1;
    levels.push_back(std::move(stride));
  }
  Strides pooled = levels.back();
  for (std::uint32_t& along : pooled) along *= 2;
  levels.push_back(std::move(pooled));
  return levels;
}

}  // namespace tomoserve::models::importer
