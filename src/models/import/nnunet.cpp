// plans.json, dataset.json and checkpoint.json of nnU-Net v2 -> a recipe: configuration, axes, inputs,
// labels.
#include "models/import/nnunet.h"

#include <algorithm>

namespace tomoserve::models::importer {

const Json& NnunetReader::Of(const std::string& key) const {
  static const Json& null = *new Json(nullptr);
  return configuration_.contains(key) ? configuration_[key] : null;
}

absl::Status NnunetReader::CheckKeysOf(const Json& object, const std::string& place,
                                       const std::set<std::string>& known) {
  for (const auto& [key, value] : object.items()) {
    if (!known.contains(key)) {
      return NotSupported(absl::StrCat(place, place.empty() ? "" : ".", OneLine(key, 80)), "is not known");
    }
  }
  return absl::OkStatus();
}

absl::Status NnunetReader::Configuration() {
  TS_RETURN_IF_ERROR(
      CheckKeysOf(checkpoint_, "checkpoint",
                  {"trainer_name", "configuration", "inference_allowed_mirroring_axes", "fold"}));
  TS_RETURN_IF_ERROR(CheckKeysOf(
      plans_, "",
      {"dataset_name", "plans_name", "original_median_spacing_after_transp",
       "original_median_shape_after_transp", "image_reader_writer", "transpose_forward", "transpose_backward",
       "configurations", "experiment_planner_used", "label_manager",
       "foreground_intensity_properties_per_channel", "foreground_intensity_properties_by_modality"}));
  if (plans_.contains("label_manager") && plans_["label_manager"] != "LabelManager") {
    return NotSupported("label_manager", absl::StrCat(Short(plans_["label_manager"]), " is not known"));
  }
  if (!checkpoint_.contains("configuration") || !checkpoint_["configuration"].is_string()) {
    return Malformed("checkpoint.configuration", "is missing");
  }
  name_ = OneLine(checkpoint_["configuration"].get<std::string>(), 80);
  const Json& all = plans_.contains("configurations") ? plans_["configurations"] : Json();
  if (!all.is_object()) return Malformed("configurations", "is missing");
  // The nearest of a line of ancestors counts.
  std::set<std::string> seen;
  std::string at = checkpoint_["configuration"].get<std::string>();
  configuration_ = Json::object();
  while (true) {
    if (!all.contains(at) || !all[at].is_object()) {
      return Malformed(absl::StrCat("configurations.", OneLine(at, 80)), "is missing");
    }
    if (!seen.insert(at).second) return Malformed(PathOf("inherits_from"), "leads in a circle");
    for (const auto& [key, value] : all[at].items()) {
      if (!configuration_.contains(key)) configuration_[key] = value;
    }
    if (!all[at].contains("inherits_from")) break;
    if (!all[at]["inherits_from"].is_string()) return Malformed(PathOf("inherits_from"), "is no name");
    at = all[at]["inherits_from"].get<std::string>();
  }
  TS_RETURN_IF_ERROR(CheckKeysOf(
      configuration_, absl::StrCat("configurations.", name_),
      {"inherits_from", "data_identifier", "preprocessor_name", "batch_size", "patch_size",
       "median_image_size_in_voxels", "spacing", "normalization_schemes", "use_mask_for_norm",
       "resampling_fn_data", "resampling_fn_seg", "resampling_fn_data_kwargs", "resampling_fn_seg_kwargs",
       "resampling_fn_probabilities", "resampling_fn_probabilities_kwargs", "architecture", "batch_dice",
       "next_stage", "previous_stage",
       // Plans of the first releases of version 2 describe the network here.
       "UNet_class_name", "UNet_base_num_features", "n_conv_per_stage_encoder", "n_conv_per_stage_decoder",
       "num_pool_per_axis", "pool_op_kernel_sizes", "conv_kernel_sizes", "unet_max_num_features"}));
  if (!Of("previous_stage").is_null()) {
    return NotSupported(PathOf("previous_stage"), "a cascade's second stage is not supported");
  }
  const Json& preprocessor = Of("preprocessor_name");
  if (!preprocessor.is_null() && preprocessor != "DefaultPreprocessor") {
    return NotSupported(PathOf("preprocessor_name"), absl::StrCat(Short(preprocessor), " is not known"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<double>> NnunetReader::NumbersOf(const std::string& key) const {
  const Json& list = Of(key);
  std::vector<double> numbers;
  if (list.is_array()) {
    for (const Json& number : list) {
      if (!number.is_number()) return Malformed(PathOf(key), "is no list of numbers");
      numbers.push_back(number.get<double>());
    }
  }
  if (numbers.size() == 2) return NotSupported(PathOf(key), "2D configurations are not supported");
  if (numbers.size() != 3) return Malformed(PathOf(key), "three numbers are required");
  return numbers;
}

absl::Status NnunetReader::Axes() {
  const Json& reader = plans_.contains("image_reader_writer") ? plans_["image_reader_writer"] : Json();
  v1::Preparation* preparation = recipe_.mutable_preparation();
  if (reader == "NibabelIOWithReorient" || reader == "SimpleITKIOWithReorient") {
    preparation->set_orientation("RAS");
  } else if (reader != "SimpleITKIO" && reader != "NibabelIO") {
    return NotSupported("image_reader_writer", absl::StrCat(Short(reader), " is not supported"));
  }
  Json forward = plans_.contains("transpose_forward") ? plans_["transpose_forward"] : Json::array({0, 1, 2});
  Json backward = plans_.contains("transpose_backward") ? plans_["transpose_backward"] : Json();
  if (!forward.is_array() || forward.size() != 3)
    return Malformed("transpose_forward", "three axes are required");
  std::set<int> used;
  for (std::size_t dimension = 0; dimension < 3; ++dimension) {
    const Json& axis = forward[dimension];
    if (!axis.is_number_integer() || axis < 0 || axis > 2)
      return Malformed("transpose_forward", "0, 1 and 2 once each");
    used.insert(axis.get<int>());
    axes_[dimension] = 2 - axis.get<int>();
  }
  if (used.size() != 3) return Malformed("transpose_forward", "0, 1 and 2 once each");
  if (!backward.is_null()) {
    for (std::size_t dimension = 0; dimension < 3; ++dimension) {
      const auto axis = forward[dimension].get<std::size_t>();
      if (!backward.is_array() || backward.size() != 3 || backward[axis] != dimension) {
        return Malformed("transpose_backward", "does not undo transpose_forward");
      }
    }
  }
  std::string letters;
  for (const int axis : axes_) letters.push_back("XYZ"[axis]);
  v1::TensorAxes tensor = v1::TENSOR_AXES_UNSPECIFIED;
  v1::TensorAxes_Parse("TENSOR_AXES_" + letters, &tensor);
  v1::Network* network = recipe_.mutable_network();
  network->set_axes(tensor);
  network->set_spatial_dims(3);
  return absl::OkStatus();
}

absl::Status NnunetReader::Inputs() {
  const char* key = dataset_.contains("modality") ? "modality" : "channel_names";
  if (!dataset_.contains(key) || !dataset_[key].is_object() || dataset_[key].empty()) {
    return Malformed("dataset.channel_names", "is missing");
  }
  for (const auto& [number, name] : dataset_[key].items()) {
    if (!name.is_string() || number != absl::StrCat(channels_.size())) {
      return Malformed(absl::StrCat("dataset.", key), "channels 0, 1, ... with their names are required");
    }
    channels_.push_back(name.get<std::string>());
  }
  if (channels_.size() > 64) return NotSupported(absl::StrCat("dataset.", key), "more than 64 channels");
  recipe_.mutable_network()->set_input_channels(static_cast<std::uint32_t>(channels_.size()));
  std::set<std::string> names;
  for (std::size_t i = 0; i < channels_.size(); ++i) {
    v1::Input* input = recipe_.add_inputs();
    std::string name = FolderName(OneLine(channels_[i], 32));
    for (char& c : name) c = c == '.' || c == '-' ? '_' : c;
    if (name.empty() || !names.insert(name).second) name = absl::StrCat("channel_", i);
    input->set_name(name);
    std::vector<std::string> modalities = ModalitiesOf(channels_[i]);
    const Json& schemes = Of("normalization_schemes");
    if (modalities.empty() && schemes.is_array() && i < schemes.size() && schemes[i] == "CTNormalization") {
      modalities = {"CT"};
    }
    AddModalities(modalities, input, draft_);
    input->set_when_missing(v1::WHEN_MISSING_WARN);
  }
  TellApart(channels_, draft_);
  return absl::OkStatus();
}

absl::Status NnunetReader::Regions(const Json& labels) {
  const Json& order = dataset_.contains("regions_class_order") ? dataset_["regions_class_order"] : Json();
  std::vector<NamedLabel> heads;
  for (const auto& [name, region] : labels.items()) {
    const bool background = region == 0 || (region.is_array() && !region.empty() &&
                                            std::all_of(region.begin(), region.end(),
                                                        [](const Json& value) { return value == 0; }));
    if (name == "ignore" || background) continue;
    // Head i paints the value that stands at i, over what is there.
    const std::size_t head = heads.size();
    if (!order.is_array() || head >= order.size() || !order[head].is_number_integer() || order[head] < 1 ||
        order[head] > 65535) {
      return Malformed("dataset.regions_class_order", "one value for each region is required");
    }
    heads.push_back({order[head].get<std::uint32_t>(), name});
  }
  if (heads.size() != order.size()) {
    return Malformed("dataset.regions_class_order", "one value for each region is required");
  }
  recipe_.add_decode()->set_activation(v1::ACTIVATION_SIGMOID);
  recipe_.add_decode()->mutable_threshold()->set_above(0.5);
  recipe_.mutable_network()->set_output_channels(static_cast<std::uint32_t>(heads.size()));
  AddLabels(heads, false, draft_);
  return absl::OkStatus();
}

absl::Status NnunetReader::Labels() {
  const Json& labels = dataset_.contains("labels") ? dataset_["labels"] : Json();
  if (!labels.is_object() || !labels.contains("background") || labels["background"] != 0) {
    return Malformed("dataset.labels", "background: 0 is required");
  }
  const bool regions = std::any_of(labels.begin(), labels.end(),
                                   [](const Json& value) { return value.is_array() && value.size() > 1; });
  // Logits are resampled; what follows is computed in the volume's own grid.
  if (!regions) recipe_.add_decode()->set_activation(v1::ACTIVATION_NONE);
  TS_RETURN_IF_ERROR(Resampling("resampling_fn_probabilities", true));
  if (regions) return Regions(labels);
  std::vector<NamedLabel> heads;
  for (const auto& [name, label] : labels.items()) {
    const Json& value = label.is_array() && label.size() == 1 ? label[0] : label;
    if (!value.is_number_integer() || value < 0 || value > 65535) {
      return Malformed(absl::StrCat("dataset.labels.", OneLine(name, 80)), "is no label value");
    }
    // Voxels that nobody judged: trained around, never predicted.
    if (name == "ignore" || value == 0) continue;
    heads.push_back({value.get<std::uint32_t>(), name});
  }
  std::sort(heads.begin(), heads.end(),
            [](const NamedLabel& a, const NamedLabel& b) { return a.value < b.value; });
  for (std::size_t i = 0; i < heads.size(); ++i) {
    if (heads[i].value != i + 1)
      return NotSupported("dataset.labels", "values 1, 2, ... without gaps are required");
  }
  recipe_.add_decode()->mutable_arg_max();
  recipe_.mutable_network()->set_output_channels(static_cast<std::uint32_t>(heads.size() + 1));
  AddLabels(heads, false, draft_);
  return absl::OkStatus();
}

absl::Status NnunetReader::Postprocessing(const Json& postprocessing) {
  constexpr char kFunction[] = "remove_all_but_largest_component_from_segmentation";
  const std::string place = "postprocessing.postprocessing_";
  const auto list = [&](const char* key) {
    return postprocessing.contains(key) ? postprocessing[key] : Json();
  };
  const Json functions = list("postprocessing_fns");
  const Json arguments = list("postprocessing_kwargs");
  if (!functions.is_array()) return Malformed(absl::StrCat(place, "fns"), "a list is required");
  if (!arguments.is_array() || arguments.size() != functions.size()) {
    return Malformed(absl::StrCat(place, "kwargs"), "one for each of postprocessing_fns is required");
  }
  for (std::size_t i = 0; i < functions.size(); ++i) {
    if (functions[i] != kFunction) {
      return NotSupported(absl::StrCat(place, "fns[", i, "]"),
                          absl::StrCat(Short(functions[i]), " is not known"));
    }
    const std::string of_call = absl::StrCat(place, "kwargs[", i, "]");
    if (!arguments[i].is_object()) return Malformed(of_call, "is no object");
    TS_RETURN_IF_ERROR(CheckKeysOf(arguments[i], of_call, {"labels_or_regions", "background_label"}));
    if (arguments[i].value("background_label", Json(0)) != 0) {
      return NotSupported(absl::StrCat(of_call, ".background_label"), "is another one than 0");
    }
    Json label = arguments[i].value("labels_or_regions", Json());
    while (label.is_array() && label.size() == 1) label = Json(label[0]);
    if (label.is_array()) {
      return NotSupported(absl::StrCat(of_call, ".labels_or_regions"),
                          "the largest component of several labels together is not supported");
    }
    const bool known =
        std::any_of(recipe_.labels().begin(), recipe_.labels().end(),
                    [&](const v1::Label& one) { return label.is_number_integer() && label == one.value(); });
    if (!known) return Malformed(absl::StrCat(of_call, ".labels_or_regions"), "is no label of the dataset");
    v1::KeepLargest* step = recipe_.add_decode()->mutable_keep_largest();
    step->set_label(label.get<std::uint32_t>());
    step->set_count(1);
  }
  return absl::OkStatus();
}

void NnunetReader::FillAbout() {
  const auto text = [](const Json& object, const char* key) {
    return object.contains(key) && object[key].is_string() ? object[key].get<std::string>() : std::string();
  };
  About& about = draft_->about;
  about.kind = "nnU-Net v2 model";
  const std::string dataset = text(plans_, "dataset_name");
  about.name = absl::StrCat(dataset.empty() ? text(dataset_, "name") : dataset, " ", name_);
  about.description = text(dataset_, "description");
  about.license = text(dataset_, "licence");
  if (about.license.empty()) about.license = text(dataset_, "license");
  about.source = text(dataset_, "reference");
  draft_->suggested_name = FolderName(about.name);
}

absl::Status NnunetReader::Read(bool mirroring) {
  TS_RETURN_IF_ERROR(Configuration());
  FillAbout();
  TS_RETURN_IF_ERROR(Axes());
  TS_RETURN_IF_ERROR(Inputs());
  TS_RETURN_IF_ERROR(Normalization());
  TS_RETURN_IF_ERROR(Spacing());
  TS_RETURN_IF_ERROR(Windows());
  if (mirroring) TS_RETURN_IF_ERROR(Mirroring());
  return Labels();
}

absl::StatusOr<Draft> DraftOfNnunet(const Json& plans, const Json& dataset, const Json& checkpoint,
                                    const Json& postprocessing, const ImportOptions& options) {
  if (!plans.is_object()) return Malformed("plans.json", "is no object");
  if (!dataset.is_object()) return Malformed("dataset.json", "is no object");
  if (!checkpoint.is_object()) return Malformed("checkpoint.json", "is no object");
  Draft draft;
  TS_ASSIGN_OR_RETURN(draft.modalities, CheckModalities(options.modalities));
  NnunetReader reader(plans, dataset, checkpoint, &draft);
  TS_RETURN_IF_ERROR(reader.Read(options.mirroring));
  if (!postprocessing.is_null()) TS_RETURN_IF_ERROR(reader.Postprocessing(postprocessing));
  return draft;
}

}  // namespace tomoserve::models::importer
