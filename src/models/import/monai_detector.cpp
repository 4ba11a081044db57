// A RetinaNet detector -> decode { detect_boxes } and its windows.
#include <algorithm>
#include <cmath>
#include <limits>

#include "models/import/errors.h"
#include "models/import/monai.h"
#include "models/names.h"

namespace tomoserve::models::importer {
namespace {

// From 1.6.0 on MONAI centres anchors half a stride further (Project-MONAI/MONAI PR 8475).
constexpr char kCentredSince[] = "1.6";

absl::StatusOr<std::vector<std::uint32_t>> Triple(Arguments* arguments, std::string_view name,
                                                  Config* config) {
  TS_ASSIGN_OR_RETURN(const std::vector<double> numbers, arguments->Numbers(name, config));
  std::vector<std::uint32_t> triple;
  for (const double number : numbers) {
    if (number < 1 || number > 4096 || number != std::floor(number)) {
      return arguments->Refuse(name, "whole numbers of at least 1 are required");
    }
    triple.push_back(static_cast<std::uint32_t>(number));
  }
  if (triple.size() != 3) return arguments->Refuse(name, "three values are required");
  return triple;
}

class DetectorReader {
 public:
  explicit DetectorReader(Bundle* bundle)
      : bundle_(bundle),
        config_(&bundle->config),
        windows_(bundle->draft->recipe.mutable_windows()),
        boxes_(bundle->draft->recipe.add_decode()->mutable_detect_boxes()) {}

  absl::Status Detector(const Located& detector);
  absl::Status Operations();
  absl::Status Inferer(Arguments* inferer);
  absl::Status Postprocessing(const std::optional<Located>& postprocessing);
  absl::Status Labels();

 private:
  absl::Status Anchors(const Located& generator);
  absl::Status Levels(const Located& network, const Place& place);
  absl::Status Operation(const Located& operation);
  absl::Status SetWindows(Arguments* arguments);

  Bundle* bundle_;
  Config* config_;
  v1::Windows* windows_;
  v1::DetectBoxes* boxes_;
  std::vector<double> scales_;
  double classes_ = 1;
};

absl::Status DetectorReader::Detector(const Located& detector) {
  TS_ASSIGN_OR_RETURN(Arguments arguments, Arguments::Of(config_, detector));
  if (arguments.target() != "RetinaNetDetector") {
    return NotSupported(detector.place.Text(),
                        absl::StrCat("the detector ", OneLine(arguments.target(), 80), " is not known"));
  }
  TS_RETURN_IF_ERROR(arguments.Only("spatial_dims", 3));
  TS_ASSIGN_OR_RETURN(classes_, arguments.Number("num_classes", 1));
  if (classes_ < 1 || classes_ > 1000 || classes_ != std::floor(classes_)) {
    return arguments.Refuse("num_classes", "a whole number of at least 1 is required");
  }
  bundle_->output_channels = static_cast<std::uint32_t>(classes_);
  TS_ASSIGN_OR_RETURN(const std::vector<std::uint32_t> divisible,
                      Triple(&arguments, "size_divisible", config_));
  for (const std::uint32_t size : divisible) boxes_->add_pad_to_multiple_of(size);
  arguments.Accept({"debug", "cls_key", "box_reg_key", "box_overlap_metric"});
  const std::optional<Located> generator = arguments.Take("anchor_generator");
  const std::optional<Located> network = arguments.Take("network");
  TS_RETURN_IF_ERROR(arguments.Done());
  if (!generator) return arguments.Refuse("anchor_generator", "is missing");
  if (!network) return arguments.Refuse("network", "is missing");
  TS_RETURN_IF_ERROR(Anchors(*generator));
  return Levels(*network, detector.place.Child("size_divisible"));
}

absl::Status DetectorReader::Anchors(const Located& generator) {
  TS_ASSIGN_OR_RETURN(Arguments arguments, Arguments::Of(config_, generator));
  if (arguments.target() != "AnchorGeneratorWithAnchorShape") {
    return NotSupported(
        generator.place.Text(),
        absl::StrCat("the anchors of ", OneLine(arguments.target(), 80), " are not supported"));
  }
  TS_RETURN_IF_ERROR(arguments.Only("indexing", "ij"));
  TS_ASSIGN_OR_RETURN(scales_, arguments.Numbers("feature_map_scales", config_));
  const std::optional<Located> shapes = arguments.Take("base_anchor_shapes");
  if (!shapes) return arguments.Refuse("base_anchor_shapes", "is missing");
  TS_ASSIGN_OR_RETURN(const Json list, config_->Whole(*shapes));
  for (const Json& shape : list) {
    const bool triple = shape.is_array() && shape.size() == 3 &&
                        std::all_of(shape.begin(), shape.end(), [](const Json& n) { return n.is_number(); });
    if (!triple) return arguments.Refuse("base_anchor_shapes", "three numbers each are required");
    v1::AnchorShape* anchor = boxes_->add_anchors();
    for (const Json& size : shape) anchor->add_size(size.get<double>());
  }
  if (bundle_->monai_version.empty()) {
    return Malformed("metadata.monai_version",
                     "where anchors are centred depends on it: state --monai-version");
  }
  boxes_->set_anchor_centre(OlderVersion(bundle_->monai_version, kCentredSince)
                                ? v1::ANCHOR_CENTRE_CELL_START
                                : v1::ANCHOR_CENTRE_CELL_MIDDLE);
  return arguments.Done();
}

absl::Status DetectorReader::Levels(const Located& network, const Place& place) {
  TS_ASSIGN_OR_RETURN(const auto strides, DetectorStrides(network, config_));
  if (strides.size() != scales_.size()) {
    return NotSupported("anchor_generator.feature_map_scales",
                        absl::StrCat(scales_.size(), " scales for ", strides.size(), " feature maps"));
  }
  for (std::size_t level = 0; level < strides.size(); ++level) {
    v1::BoxLevel* box_level = boxes_->add_levels();
    for (const std::uint32_t stride : strides[level]) box_level->add_stride(stride);
    box_level->set_anchor_scale(scales_[level]);
  }
  for (int axis = 0; axis < 3; ++axis) {
    if (boxes_->pad_to_multiple_of(axis) % strides.back()[static_cast<std::size_t>(axis)] != 0) {
      return NotSupported(place.Text(), "is no multiple of the coarsest feature map's stride");
    }
  }
  return absl::OkStatus();
}

absl::Status DetectorReader::Operations() {
  // RetinaNetDetector's own.
  boxes_->set_score_above(0.05);
  boxes_->set_candidates_per_level(1000);
  boxes_->set_suppress_iou_above(0.5);
  boxes_->set_max_boxes(300);
  TS_ASSIGN_OR_RETURN(const std::optional<Located> operations, config_->Find("detector_ops"));
  if (operations) {
    if (!operations->value->is_array()) return NotSupported("detector_ops", "is no list");
    for (std::size_t i = 0; i < operations->value->size(); ++i) {
      TS_ASSIGN_OR_RETURN(const Located operation, config_->Child(*operations, i));
      TS_RETURN_IF_ERROR(Operation(operation));
    }
  }
  if (windows_->size().empty()) {
    return NotSupported("detector_ops",
                        "no set_sliding_window_inferer: whole volumes only are not supported");
  }
  return absl::OkStatus();
}

absl::Status DetectorReader::Operation(const Located& operation) {
  TS_ASSIGN_OR_RETURN(const std::optional<Config::Call> call, config_->AsCall(operation));
  const std::string target = call ? call->target : "";
  if (target == "@detector.set_target_keys") return absl::OkStatus();
  if (target == "@detector.set_box_selector_parameters") {
    Arguments arguments = Arguments::OfCall(
        *call, operation.place,
        {"score_thresh", "topk_candidates_per_level", "nms_thresh", "detections_per_img", "apply_sigmoid"});
    TS_ASSIGN_OR_RETURN(const double score, arguments.Number("score_thresh", 0.05));
    TS_ASSIGN_OR_RETURN(const double candidates, arguments.Number("topk_candidates_per_level", 1000));
    TS_ASSIGN_OR_RETURN(const double overlap, arguments.Number("nms_thresh", 0.5));
    TS_ASSIGN_OR_RETURN(const double most, arguments.Number("detections_per_img", 300));
    TS_RETURN_IF_ERROR(arguments.Only("apply_sigmoid", true));
    for (const double count : {candidates, most}) {
      if (count < 1 || count > 1e6 || count != std::floor(count)) {
        return NotSupported(operation.place.Text(), "whole numbers of at least 1 are required");
      }
    }
    boxes_->set_score_above(score);
    boxes_->set_candidates_per_level(static_cast<std::uint32_t>(candidates));
    boxes_->set_suppress_iou_above(overlap);
    boxes_->set_max_boxes(static_cast<std::uint32_t>(most));
    return arguments.Done();
  }
  if (target == "@detector.set_sliding_window_inferer") {
    Arguments arguments = Arguments::OfCall(
        *call, operation.place,
        {"roi_size", "sw_batch_size", "overlap", "mode", "sigma_scale", "padding_mode", "cval"});
    TS_RETURN_IF_ERROR(SetWindows(&arguments));
    return arguments.Done();
  }
  return NotSupported(operation.place.Text(), absl::StrCat(Short(*operation.value), " is not understood"));
}

absl::Status DetectorReader::SetWindows(Arguments* arguments) {
  windows_->clear_size();
  TS_ASSIGN_OR_RETURN(const std::vector<std::uint32_t> size, Triple(arguments, "roi_size", config_));
  for (const std::uint32_t voxels : size) windows_->add_size(voxels);
  TS_ASSIGN_OR_RETURN(const double overlap, arguments->Number("overlap", 0.5));
  windows_->set_overlap(overlap);
  TS_RETURN_IF_ERROR(arguments->Only("mode", "constant"));
  TS_RETURN_IF_ERROR(arguments->Only("padding_mode", "constant"));
  TS_RETURN_IF_ERROR(arguments->Only("cval", 0));
  arguments->Accept(
      {"sw_batch_size", "sigma_scale", "sw_device", "device", "progress", "cache_roi_weight_map"});
  return absl::OkStatus();
}

absl::Status DetectorReader::Inferer(Arguments* inferer) {
  TS_ASSIGN_OR_RETURN(const bool always, inferer->Bool("force_sliding_window", false));
  if (always) return absl::OkStatus();
  std::uint64_t voxels = 1;
  for (const std::uint32_t size : windows_->size()) voxels *= size;
  boxes_->set_whole_below_voxels(voxels);
  return absl::OkStatus();
}

absl::Status DetectorReader::Postprocessing(const std::optional<Located>& postprocessing) {
  if (!postprocessing) return absl::OkStatus();
  TS_ASSIGN_OR_RETURN(std::vector<Transform> transforms, ActiveTransforms(config_, *postprocessing));
  for (Transform& transform : transforms) {
    Arguments& arguments = transform.arguments;
    if (transform.name == "ClipBoxToImage") {
      // Boxes without extent inside the image are none.
      TS_RETURN_IF_ERROR(arguments.Only("remove_empty", true));
      arguments.Accept({"box_keys", "label_keys", "box_ref_image_keys"});
    } else if (transform.name == "AffineBoxToWorldCoordinate") {
      // Results are in the patient's coordinates in any case.
      arguments.Accept({"box_keys", "box_ref_image_keys", "image_meta_key", "image_meta_key_postfix",
                        "affine_lps_to_ras"});
    } else if (transform.name == "ConvertBoxMode") {
      arguments.Accept({"box_keys", "src_mode", "dst_mode"});
    } else if (transform.name == "DeleteItems") {
      arguments.Accept({"keys", "sep", "use_re"});
    } else {
      return NotSupported(arguments.place().Text(),
                          absl::StrCat(transform.name, " is not supported after a detector"));
    }
    TS_RETURN_IF_ERROR(arguments.Done());
  }
  return absl::OkStatus();
}

absl::Status DetectorReader::Labels() {
  std::vector<NamedLabel> labels;
  const std::vector<std::string>& names = bundle_->output_names;
  for (std::uint32_t index = 0; index < bundle_->output_channels; ++index) {
    std::string name = index < names.size() ? names[index] : "";
    if (name.empty() && bundle_->output_channels == 1) {
      const About& about = bundle_->draft->about;
      const bool nodules =
          (about.name + " " + about.description + " " + about.source).find("odule") != std::string::npos;
      name = nodules ? "nodule" : "object";
    }
    if (name.empty()) name = absl::StrCat("class ", index);
    labels.push_back({index + 1, name});
  }
  AddLabels(labels, true, bundle_->draft);
  // As many as the detector returns: a rule's default may be fewer.
  for (v1::FindingRule& rule : *bundle_->draft->recipe.mutable_findings()) {
    rule.set_max_findings(boxes_->max_boxes());
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status AddDetector(const Located& inferer, const std::optional<Located>& postprocessing,
                         Bundle* bundle) {
  v1::Recipe& recipe = bundle->draft->recipe;
  recipe.mutable_windows()->set_layout(v1::WINDOW_LAYOUT_MONAI);
  recipe.mutable_network()->set_spatial_dims(3);
  recipe.mutable_network()->set_axes(v1::TENSOR_AXES_XYZ);
  TS_ASSIGN_OR_RETURN(Arguments arguments, Arguments::Of(&bundle->config, inferer));
  const std::optional<Located> detector = arguments.Take("detector");
  if (!detector) return arguments.Refuse("detector", "is missing");
  DetectorReader reader(bundle);
  TS_RETURN_IF_ERROR(reader.Detector(*detector));
  TS_RETURN_IF_ERROR(reader.Operations());
  TS_RETURN_IF_ERROR(reader.Inferer(&arguments));
  TS_RETURN_IF_ERROR(arguments.Done());
  TS_RETURN_IF_ERROR(reader.Postprocessing(postprocessing));
  return reader.Labels();
}

}  // namespace tomoserve::models::importer
