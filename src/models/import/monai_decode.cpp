// postprocessing -> decode and labels.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "models/import/errors.h"
#include "models/import/monai.h"

namespace tomoserve::models::importer {
namespace {

// What a nested torch.where paints: the channel that is asked first wins.
struct Painted {
  std::uint32_t channel = 0;
  std::uint32_t value = 0;
};

// `x[[2]] > 0` or `x[2:3] > 0` without the slice: the channel, if that is what it says.
std::optional<std::uint32_t> ChannelOf(const Expression& condition, const std::string& parameter) {
  if (condition.kind != Expression::Kind::kGreater) return std::nullopt;
  const Expression& left = condition.parts[0];
  const Expression& right = condition.parts[1];
  if (right.kind != Expression::Kind::kValue || right.value != 0) return std::nullopt;
  if (left.kind != Expression::Kind::kIndex || left.parts[0].kind != Expression::Kind::kName ||
      left.parts[0].text != parameter) {
    return std::nullopt;
  }
  const Expression* index = &left.parts[1];
  if (index->kind == Expression::Kind::kList && index->parts.size() == 1) index = &index->parts[0];
  if (index->kind != Expression::Kind::kValue || !index->value.is_number_integer()) return std::nullopt;
  const auto channel = index->value.get<std::int64_t>();
  if (channel < 0 || channel > 4095) return std::nullopt;
  return static_cast<std::uint32_t>(channel);
}

// lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, 0)): channels in the order in which they
// are asked; nothing where the form is another.
std::optional<std::vector<Painted>> PaintingOf(const std::string& text) {
  if (text.empty() || text[0] != '$') return std::nullopt;
  const absl::StatusOr<Expression> lambda = ParseExpression(std::string_view(text).substr(1));
  if (!lambda.ok() || lambda->kind != Expression::Kind::kLambda) return std::nullopt;
  std::vector<Painted> painted;
  const Expression* at = &lambda->parts[0];
  while (at->kind == Expression::Kind::kCall) {
    if (DottedName(at->parts[0]) != "torch.where" || at->parts.size() != 4) return std::nullopt;
    const std::optional<std::uint32_t> channel = ChannelOf(at->parts[1], lambda->text);
    const Expression& value = at->parts[2];
    if (!channel || value.kind != Expression::Kind::kValue || !value.value.is_number_integer() ||
        value.value < 1 || value.value > 65535) {
      return std::nullopt;
    }
    painted.push_back({*channel, value.value.get<std::uint32_t>()});
    at = &at->parts[3];
  }
  const bool ends_in_background = at->kind == Expression::Kind::kValue && at->value == 0;
  if (!ends_in_background || painted.empty()) return std::nullopt;
  return painted;
}

class DecodeReader {
 public:
  explicit DecodeReader(Bundle* bundle) : bundle_(bundle), recipe_(bundle->draft->recipe) {}

  absl::Status Read(Transform* transform);
  absl::Status Finish(const Place& place);

 private:
  absl::Status Activations(Transform* transform);
  absl::Status AsDiscrete(Transform* transform);
  absl::Status Invert(Transform* transform);
  absl::Status KeepLargest(Transform* transform);
  absl::Status Paint(Transform* transform);
  absl::Status SaveImage(Transform* transform);

  void Activate(v1::Activation activation);
  std::string NameOf(std::size_t channel) const;
  v1::Threshold* FindThreshold();

  Bundle* bundle_;
  v1::Recipe& recipe_;
  bool activated_ = false;
  bool arg_max_ = false;
  bool threshold_ = false;
  bool in_volume_grid_ = false;
  std::vector<Painted> painted_;
};

absl::Status DecodeReader::Read(Transform* transform) {
  const std::string& name = transform->name;
  if (name == "DeleteItems" || name == "SelectItems") {
    transform->arguments.Accept({"keys", "sep", "use_re"});
    return transform->arguments.Done();
  }
  TS_RETURN_IF_ERROR(CheckKeys(transform, "keys", {"pred"}, &bundle_->config));
  if (name == "Activations") {
    TS_RETURN_IF_ERROR(Activations(transform));
  } else if (name == "AsDiscrete") {
    TS_RETURN_IF_ERROR(AsDiscrete(transform));
  } else if (name == "Invert") {
    TS_RETURN_IF_ERROR(Invert(transform));
  } else if (name == "KeepLargestConnectedComponent") {
    TS_RETURN_IF_ERROR(KeepLargest(transform));
  } else if (name == "Lambda") {
    TS_RETURN_IF_ERROR(Paint(transform));
  } else if (name == "SaveImage") {
    TS_RETURN_IF_ERROR(SaveImage(transform));
  } else if (name == "EnsureType" || name == "ToTensor" || name == "ToDevice") {
    TS_RETURN_IF_ERROR(CheckFloat(&transform->arguments, "dtype"));
    transform->arguments.Accept({"data_type", "device", "wrap_sequence", "track_meta"});
  } else {
    return NotSupported(transform->arguments.place().Text(),
                        absl::StrCat(name, " is not supported in postprocessing"));
  }
  return transform->arguments.Done();
}

void DecodeReader::Activate(v1::Activation activation) {
  recipe_.add_decode()->set_activation(activation);
  activated_ = true;
}

absl::Status DecodeReader::Activations(Transform* transform) {
  Arguments& arguments = transform->arguments;
  TS_ASSIGN_OR_RETURN(const bool sigmoid, arguments.Bool("sigmoid", false));
  TS_ASSIGN_OR_RETURN(const bool softmax, arguments.Bool("softmax", false));
  TS_RETURN_IF_ERROR(arguments.Only("other", nullptr));
  TS_RETURN_IF_ERROR(arguments.Only("dim", 0));
  if (!sigmoid && !softmax) return absl::OkStatus();
  if (activated_ || (sigmoid && softmax)) {
    return NotSupported(arguments.place().Text(), "scores are activated once");
  }
  Activate(sigmoid ? v1::ACTIVATION_SIGMOID : v1::ACTIVATION_SOFTMAX);
  return absl::OkStatus();
}

absl::Status DecodeReader::AsDiscrete(Transform* transform) {
  Arguments& arguments = transform->arguments;
  TS_ASSIGN_OR_RETURN(const bool arg_max, arguments.Bool("argmax", false));
  TS_ASSIGN_OR_RETURN(const std::optional<double> threshold, arguments.Number("threshold"));
  TS_RETURN_IF_ERROR(arguments.Only("to_onehot", nullptr));
  TS_RETURN_IF_ERROR(arguments.Only("rounding", nullptr));
  TS_RETURN_IF_ERROR(arguments.Only("dim", 0));
  TS_RETURN_IF_ERROR(arguments.Only("keepdim", true));
  arguments.Accept({"dtype"});
  if (!arg_max && !threshold) return absl::OkStatus();
  if (arg_max_ || threshold_ || (arg_max && threshold)) {
    return NotSupported(arguments.place().Text(), "labels are made once");
  }
  if (!activated_) Activate(v1::ACTIVATION_NONE);
  if (arg_max) {
    recipe_.add_decode()->mutable_arg_max();
    arg_max_ = true;
    return absl::OkStatus();
  }
  // MONAI takes scores of at least the threshold, a recipe those above it: the number just below is the same.
  const float at_least = static_cast<float>(*threshold);
  recipe_.add_decode()->mutable_threshold()->set_above(
      std::nextafter(at_least, -std::numeric_limits<float>::infinity()));
  bundle_->draft->remarks.push_back(absl::StrCat("MONAI's threshold takes scores of at least ", *threshold,
                                                 "; `above` is the float below it."));
  threshold_ = true;
  return absl::OkStatus();
}

absl::Status DecodeReader::Invert(Transform* transform) {
  Arguments& arguments = transform->arguments;
  if (in_volume_grid_) return NotSupported(arguments.place().Text(), "stands twice");
  const std::optional<Located> inverted = arguments.Take("transform");
  if (!inverted || inverted->place.keys != bundle_->preprocessing.keys) {
    return arguments.Refuse("transform", "only the preprocessing itself is inverted");
  }
  TS_ASSIGN_OR_RETURN(const std::vector<std::string> original,
                      arguments.Texts("orig_keys", &bundle_->config));
  const std::vector<std::string>& images = bundle_->image_keys;
  for (const std::string& key : original) {
    const bool image = std::find(images.begin(), images.end(), key) != images.end();
    if (!image && images.size() == 1) {
      return arguments.Refuse("orig_keys",
                              absl::StrCat(OneLine(key, 40), " is no image of the preprocessing"));
    }
  }
  TS_ASSIGN_OR_RETURN(const bool nearest, arguments.Bool("nearest_interp", true));
  TS_RETURN_IF_ERROR(arguments.Only("post_func", nullptr));
  arguments.Accept({"meta_keys", "orig_meta_keys", "meta_key_postfix", "to_tensor", "device"});

  const v1::Spacing& spacing = recipe_.preparation().spacing();
  const bool linear = !nearest && spacing.interpolation() != v1::INTERPOLATION_NEAREST;
  v1::ToVolumeGrid* step = recipe_.add_decode()->mutable_to_volume_grid();
  in_volume_grid_ = true;
  if (!arg_max_ && !threshold_) {
    step->set_interpolation(linear ? v1::INTERPOLATION_LINEAR : v1::INTERPOLATION_NEAREST);
    return absl::OkStatus();
  }
  step->set_interpolation(v1::INTERPOLATION_NEAREST);
  if (!linear || !recipe_.preparation().has_spacing()) return absl::OkStatus();
  if (threshold_ && (bundle_->output_channels > 1 || !painted_.empty())) {
    bundle_->draft->notes.push_back(
        "The bundle inverts labels with linear interpolation before or after they are painted, which makes "
        "values between two labels; here labels are resampled to the nearest, so borders differ by up to "
        "half a "
        "voxel.");
    return absl::OkStatus();
  }
  step->set_interpolation(v1::INTERPOLATION_LINEAR);
  bundle_->draft->notes.push_back(
      "The bundle inverts the label map with linear interpolation. Values between labels are cut to whole "
      "numbers here, as a cast to an integer type does; a bundle that stores float32 keeps them. So labels "
      "shrink by up to a voxel, and between a label and a lower one lie those between them.");
  return absl::OkStatus();
}

absl::Status DecodeReader::KeepLargest(Transform* transform) {
  Arguments& arguments = transform->arguments;
  if (!arg_max_ && !threshold_) {
    return NotSupported(arguments.place().Text(), "needs labels: argmax or threshold comes first");
  }
  if (!arg_max_ && painted_.empty() && bundle_->output_channels > 1) {
    return NotSupported(arguments.place().Text(),
                        "MONAI takes several channels as one-hot; only labels after a Lambda are supported");
  }
  TS_RETURN_IF_ERROR(arguments.Only("is_onehot", false));
  TS_ASSIGN_OR_RETURN(const bool independent, arguments.Bool("independent", true));
  TS_RETURN_IF_ERROR(arguments.Only("connectivity", 3));
  TS_ASSIGN_OR_RETURN(const double count, arguments.Number("num_components", 1));
  if (count < 1 || count != std::floor(count) || count > 1000) {
    return arguments.Refuse("num_components", "a whole number of at least 1 is required");
  }
  std::set<std::uint32_t> labels;
  if (const std::optional<Located> applied = arguments.Take("applied_labels")) {
    TS_ASSIGN_OR_RETURN(const Json whole, bundle_->config.Whole(*applied));
    for (const Json& label : whole.is_array() ? whole : Json::array({whole})) {
      if (!label.is_number_integer() || label < 1 || label > 65535) {
        return arguments.Refuse("applied_labels", absl::StrCat(Short(whole), " is not understood"));
      }
      labels.insert(label.get<std::uint32_t>());
    }
  } else {
    for (const Painted& one : painted_) labels.insert(one.value);
    const std::uint32_t highest = arg_max_ ? bundle_->output_channels - 1 : 1;
    for (std::uint32_t label = 1; painted_.empty() && label <= highest; ++label) labels.insert(label);
  }
  if (!arg_max_ && painted_.empty() && (labels.size() != 1 || *labels.begin() != 1)) {
    return arguments.Refuse("applied_labels", "one channel has the label 1 only");
  }
  if (!independent && labels.size() > 1) {
    return arguments.Refuse("independent", "components of several labels together are not supported");
  }
  for (const std::uint32_t label : labels) {
    v1::KeepLargest* step = recipe_.add_decode()->mutable_keep_largest();
    step->set_label(label);
    step->set_count(static_cast<std::uint32_t>(count));
  }
  return absl::OkStatus();
}

v1::Threshold* DecodeReader::FindThreshold() {
  for (v1::DecodeStep& step : *recipe_.mutable_decode()) {
    if (step.has_threshold()) return step.mutable_threshold();
  }
  return nullptr;
}

absl::Status DecodeReader::Paint(Transform* transform) {
  Arguments& arguments = transform->arguments;
  const std::optional<Located> function = arguments.Take("func");
  TS_RETURN_IF_ERROR(arguments.Only("overwrite", true));
  arguments.Accept({"inv_func", "track_meta"});
  std::optional<std::vector<Painted>> painted;
  if (function && function->value->is_string()) painted = PaintingOf(function->value->get<std::string>());
  if (!painted) {
    return arguments.Refuse("func", "only torch.where over channels, one inside the other, is understood");
  }
  if (!threshold_ || !painted_.empty()) {
    return arguments.Refuse("func", "needs the channels of one threshold before it");
  }
  std::set<std::uint32_t> channels;
  for (const Painted& one : *painted) channels.insert(one.channel);
  if (painted->size() != bundle_->output_channels || channels.size() != painted->size() ||
      *channels.rbegin() >= bundle_->output_channels) {
    return arguments.Refuse(
        "func", absl::StrCat("each of the ", bundle_->output_channels, " channels has to be asked once"));
  }
  // What is asked last paints first.
  for (auto one = painted->rbegin(); one != painted->rend(); ++one)
    FindThreshold()->add_paint_order(one->channel);
  // In MONAI one channel is 1 until it is painted; in a recipe it has its painted value from the start.
  for (v1::DecodeStep& step : *recipe_.mutable_decode()) {
    if (step.has_keep_largest()) step.mutable_keep_largest()->set_label(painted->front().value);
  }
  painted_ = *std::move(painted);
  return absl::OkStatus();
}

absl::Status DecodeReader::SaveImage(Transform* transform) {
  TS_RETURN_IF_ERROR(transform->arguments.Only("scale", nullptr));
  transform->arguments.Accept({"meta_keys",
                               "meta_key_postfix",
                               "output_dir",
                               "output_postfix",
                               "output_ext",
                               "resample",
                               "mode",
                               "padding_mode",
                               "dtype",
                               "output_dtype",
                               "squeeze_end_dims",
                               "data_root_dir",
                               "separate_folder",
                               "print_log",
                               "output_format",
                               "writer",
                               "output_name_formatter",
                               "folder_layout",
                               "savepath_in_metadict",
                               "channel_dim",
                               "align_corners"});
  return absl::OkStatus();
}

std::string DecodeReader::NameOf(std::size_t channel) const {
  const std::vector<std::string>& names = bundle_->output_names;
  if (channel < names.size() && !names[channel].empty()) return names[channel];
  return absl::StrCat("label ", channel);
}

absl::Status DecodeReader::Finish(const Place& place) {
  if (!arg_max_ && !threshold_) return NotSupported(place.Text(), "no AsDiscreted makes labels");
  if (!in_volume_grid_) {
    if (recipe_.preparation().has_spacing()) {
      return NotSupported(place.Text(), "no Invertd: labels would keep the network's spacing");
    }
    recipe_.add_decode()->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_NEAREST);
  }
  std::vector<NamedLabel> labels;
  if (arg_max_) {
    if (bundle_->output_channels < 2)
      return NotSupported(place.Text(), "argmax over one channel is always 0");
    for (std::uint32_t value = 1; value < bundle_->output_channels; ++value) {
      labels.push_back({value, NameOf(value)});
    }
  } else if (painted_.empty()) {
    if (bundle_->output_channels != 1) {
      return NotSupported(
          place.Text(),
          "a threshold of several channels gives labels that overlap, and nothing puts them in order");
    }
    // "0: background, 1: spleen" describes the values of one channel.
    labels.push_back({1, NameOf(bundle_->output_names.size() > 1 ? 1 : 0)});
  } else {
    for (std::uint32_t channel = 0; channel < bundle_->output_channels; ++channel) {
      const auto one = std::find_if(painted_.begin(), painted_.end(),
                                    [channel](const Painted& p) { return p.channel == channel; });
      const bool names_are_values = bundle_->output_channels == 1 && bundle_->output_names.size() > 1;
      labels.push_back({one->value, NameOf(names_are_values ? 1 : channel)});
    }
  }
  if (bundle_->output_names.empty()) {
    bundle_->draft->notes.push_back("The bundle does not name its labels: name and code them in the recipe.");
  }
  AddLabels(labels, false, bundle_->draft);
  return absl::OkStatus();
}

}  // namespace

absl::Status AddDecode(const std::optional<Located>& postprocessing, Bundle* bundle) {
  Place place = Place().Child("postprocessing");
  DecodeReader reader(bundle);
  if (postprocessing) {
    place = postprocessing->place;
    TS_ASSIGN_OR_RETURN(std::vector<Transform> transforms,
                        ActiveTransforms(&bundle->config, *postprocessing));
    for (Transform& transform : transforms) TS_RETURN_IF_ERROR(reader.Read(&transform));
  }
  return reader.Finish(place);
}

}  // namespace tomoserve::models::importer
