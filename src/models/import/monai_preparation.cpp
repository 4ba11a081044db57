// preprocessing -> preparation.
#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

#include "models/import/errors.h"
#include "models/import/monai.h"

namespace tomoserve::models::importer {
namespace {

class PreparationReader {
 public:
  explicit PreparationReader(Bundle* bundle)
      : bundle_(bundle), preparation_(bundle->draft->recipe.mutable_preparation()) {}

  absl::Status Read(Transform* transform);
  absl::Status Finish(const Place& place);

 private:
  using Reader = absl::Status (PreparationReader::*)(Transform*);
  static const std::map<std::string, Reader>& Readers();

  absl::Status LoadImage(Transform* transform);
  absl::Status EnsureChannelFirst(Transform* transform);
  absl::Status EnsureType(Transform* transform);
  absl::Status ConcatItems(Transform* transform);
  absl::Status Orientation(Transform* transform);
  absl::Status Spacing(Transform* transform);
  absl::Status ScaleIntensityRange(Transform* transform);
  absl::Status ScaleIntensity(Transform* transform);
  absl::Status NormalizeIntensity(Transform* transform);
  absl::Status ScaleIntensityRangePercentiles(Transform* transform);

  // Statistics of all channels together are no part of the schema.
  absl::Status CheckChannelWise(Arguments* arguments);
  absl::StatusOr<v1::IntensityStep*> NewStep(Transform* transform);

  Bundle* bundle_;
  v1::Preparation* preparation_;
  std::vector<std::string> keys_;  // of the images that are still apart
  bool intensity_first_ = false;   // a step stands before Spacing
};

const std::map<std::string, PreparationReader::Reader>& PreparationReader::Readers() {
  using Self = PreparationReader;
  static const std::map<std::string, Reader>& readers = *new std::map<std::string, Reader>{
      {"LoadImage", &Self::LoadImage},
      {"EnsureChannelFirst", &Self::EnsureChannelFirst},
      {"EnsureType", &Self::EnsureType},
      {"CastToType", &Self::EnsureType},
      {"ToTensor", &Self::EnsureType},
      {"ToDevice", &Self::EnsureType},
      {"ConcatItems", &Self::ConcatItems},
      {"Orientation", &Self::Orientation},
      {"Spacing", &Self::Spacing},
      {"ScaleIntensityRange", &Self::ScaleIntensityRange},
      {"ScaleIntensity", &Self::ScaleIntensity},
      {"NormalizeIntensity", &Self::NormalizeIntensity},
      {"ScaleIntensityRangePercentiles", &Self::ScaleIntensityRangePercentiles},
  };
  return readers;
}

absl::Status PreparationReader::Read(Transform* transform) {
  const auto reader = Readers().find(transform->name);
  if (reader == Readers().end()) {
    return NotSupported(transform->arguments.place().Text(),
                        absl::StrCat(transform->name, " is not supported in preprocessing"));
  }
  if (transform->name != "LoadImage" && transform->name != "ConcatItems") {
    TS_RETURN_IF_ERROR(CheckKeys(transform, "keys", keys_, &bundle_->config));
  }
  TS_RETURN_IF_ERROR((this->*reader->second)(transform));
  return transform->arguments.Done();
}

absl::Status PreparationReader::LoadImage(Transform* transform) {
  Arguments& arguments = transform->arguments;
  if (!keys_.empty()) return NotSupported(arguments.place().Text(), "images are loaded once");
  if (transform->dictionary) {
    TS_ASSIGN_OR_RETURN(keys_, arguments.Texts("keys", &bundle_->config));
    const std::set<std::string> apart(keys_.begin(), keys_.end());
    if (keys_.empty() || apart.size() != keys_.size()) return arguments.Refuse("keys", "each image once");
  } else {
    keys_ = {"image"};
  }
  bundle_->image_keys = keys_;
  TS_ASSIGN_OR_RETURN(const std::optional<std::string> reader, arguments.Text("reader"));
  if (reader) {
    std::string name;
    for (const char c : *reader)
      name.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
    if (name != "itkreader" && name != "nibabelreader" && name != "pydicomreader") {
      return arguments.Refuse("reader", absl::StrCat(OneLine(*reader, 40), " is not supported"));
    }
  }
  // false would leave the axes of ITK, mirrored left to right.
  TS_RETURN_IF_ERROR(arguments.Only("affine_lps_to_ras", true));
  TS_RETURN_IF_ERROR(CheckFloat(&arguments, "dtype"));
  arguments.Accept({"meta_keys", "meta_key_postfix", "overwriting", "image_only", "ensure_channel_first",
                    "simple_keys", "prune_meta_pattern", "prune_meta_sep", "expanduser"});
  return absl::OkStatus();
}

absl::Status PreparationReader::EnsureChannelFirst(Transform* transform) {
  // Where the channels of a file stand: DICOM has its channels in series.
  transform->arguments.Accept({"channel_dim", "strict_check", "meta_keys", "meta_key_postfix"});
  return absl::OkStatus();
}

absl::Status PreparationReader::EnsureType(Transform* transform) {
  TS_RETURN_IF_ERROR(CheckFloat(&transform->arguments, "dtype"));
  transform->arguments.Accept({"data_type", "device", "wrap_sequence", "track_meta", "non_blocking"});
  return absl::OkStatus();
}

absl::Status PreparationReader::ConcatItems(Transform* transform) {
  TS_RETURN_IF_ERROR(CheckKeys(transform, "keys", keys_, &bundle_->config));
  TS_RETURN_IF_ERROR(transform->arguments.Only("dim", 0));
  TS_ASSIGN_OR_RETURN(const std::optional<std::string> name, transform->arguments.Text("name"));
  if (!name) return transform->arguments.Refuse("name", "is missing");
  keys_ = {*name};
  return absl::OkStatus();
}

absl::Status PreparationReader::Orientation(Transform* transform) {
  Arguments& arguments = transform->arguments;
  if (!preparation_->orientation().empty()) return NotSupported(arguments.place().Text(), "stands twice");
  if (preparation_->has_spacing()) {
    return NotSupported(arguments.place().Text(), "Orientation after Spacing is not supported");
  }
  TS_RETURN_IF_ERROR(arguments.Only("as_closest_canonical", false));
  TS_RETURN_IF_ERROR(arguments.Only("lazy", false));
  const std::optional<Located> labels = arguments.Take("labels");
  if (labels && *labels->value != Json::parse(R"([["L","R"],["P","A"],["I","S"]])")) {
    return arguments.Refuse("labels", "other names of axes are not supported");
  }
  TS_ASSIGN_OR_RETURN(const std::optional<std::string> letters, arguments.Text("axcodes"));
  if (!letters) return arguments.Refuse("axcodes", "is missing");
  preparation_->set_orientation(*letters);
  return absl::OkStatus();
}

absl::Status PreparationReader::Spacing(Transform* transform) {
  Arguments& arguments = transform->arguments;
  if (preparation_->has_spacing()) return NotSupported(arguments.place().Text(), "stands twice");
  TS_ASSIGN_OR_RETURN(const std::vector<double> pixdim, arguments.Numbers("pixdim", &bundle_->config));
  if (pixdim.size() != 3) return arguments.Refuse("pixdim", "three values are required");
  v1::Spacing* spacing = preparation_->mutable_spacing();
  for (const double mm : pixdim) {
    if (mm <= 0) return arguments.Refuse("pixdim", "an axis that keeps its own spacing is not supported");
    spacing->add_spacing_mm(mm);
  }
  spacing->set_rule(v1::SPACING_RULE_MONAI);
  TS_ASSIGN_OR_RETURN(const std::optional<std::string> mode, arguments.Text("mode"));
  if (!mode || *mode == "bilinear") {
    spacing->set_interpolation(v1::INTERPOLATION_LINEAR);
  } else if (*mode == "nearest") {
    spacing->set_interpolation(v1::INTERPOLATION_NEAREST);
  } else {
    return arguments.Refuse(
        "mode", absl::StrCat("only bilinear and nearest are supported, not ", OneLine(*mode, 40)));
  }
  for (const char* name : {"diagonal", "align_corners", "scale_extent", "recompute_affine", "lazy"}) {
    TS_RETURN_IF_ERROR(arguments.Only(name, false));
  }
  TS_RETURN_IF_ERROR(arguments.Only("padding_mode", "border"));
  TS_RETURN_IF_ERROR(arguments.Only("min_pixdim", nullptr));
  TS_RETURN_IF_ERROR(arguments.Only("max_pixdim", nullptr));
  TS_RETURN_IF_ERROR(CheckFloat(&arguments, "dtype"));
  arguments.Accept({"ensure_same_shape"});
  intensity_first_ = !preparation_->intensity().empty();
  return absl::OkStatus();
}

absl::StatusOr<v1::IntensityStep*> PreparationReader::NewStep(Transform* transform) {
  TS_RETURN_IF_ERROR(CheckFloat(&transform->arguments, "dtype"));
  if (intensity_first_) {
    return NotSupported(transform->arguments.place().Text(),
                        "intensity steps on both sides of Spacing are not supported");
  }
  return preparation_->add_intensity();
}

absl::Status PreparationReader::CheckChannelWise(Arguments* arguments) {
  TS_ASSIGN_OR_RETURN(const bool channel_wise, arguments->Bool("channel_wise", false));
  if (!channel_wise && bundle_->input_channels > 1) {
    return arguments->Refuse("channel_wise", "statistics over all channels together are not supported");
  }
  return absl::OkStatus();
}

absl::Status PreparationReader::ScaleIntensityRange(Transform* transform) {
  Arguments& arguments = transform->arguments;
  std::array<double, 4> bounds{};
  const std::array<const char*, 4> names = {"a_min", "a_max", "b_min", "b_max"};
  for (std::size_t i = 0; i < names.size(); ++i) {
    TS_ASSIGN_OR_RETURN(const std::optional<double> bound, arguments.Number(names[i]));
    if (!bound) return arguments.Refuse(names[i], "is missing");
    bounds[i] = *bound;
  }
  TS_ASSIGN_OR_RETURN(const bool clip, arguments.Bool("clip", false));
  TS_ASSIGN_OR_RETURN(v1::IntensityStep * step, NewStep(transform));
  v1::ScaleRange* range = step->mutable_scale_range();
  range->set_from_min(bounds[0]);
  range->set_from_max(bounds[1]);
  range->set_to_min(bounds[2]);
  range->set_to_max(bounds[3]);
  range->set_clip(clip);
  return absl::OkStatus();
}

absl::Status PreparationReader::ScaleIntensity(Transform* transform) {
  Arguments& arguments = transform->arguments;
  TS_ASSIGN_OR_RETURN(const double low, arguments.Number("minv", 0));
  TS_ASSIGN_OR_RETURN(const double high, arguments.Number("maxv", 1));
  TS_RETURN_IF_ERROR(arguments.Only("factor", nullptr));
  TS_RETURN_IF_ERROR(CheckChannelWise(&arguments));
  TS_ASSIGN_OR_RETURN(v1::IntensityStep * step, NewStep(transform));
  step->mutable_scale_min_max()->set_to_min(low);
  step->mutable_scale_min_max()->set_to_max(high);
  return absl::OkStatus();
}

absl::Status PreparationReader::NormalizeIntensity(Transform* transform) {
  Arguments& arguments = transform->arguments;
  TS_ASSIGN_OR_RETURN(const bool nonzero, arguments.Bool("nonzero", false));
  TS_ASSIGN_OR_RETURN(const std::optional<double> mean, arguments.Number("subtrahend"));
  TS_ASSIGN_OR_RETURN(const std::optional<double> std, arguments.Number("divisor"));
  if (mean.has_value() != std.has_value()) {
    return arguments.Refuse(mean ? "divisor" : "subtrahend", "one without the other is not supported");
  }
  if (mean && nonzero) return arguments.Refuse("nonzero", "with fixed values it is not supported");
  if (mean) {
    arguments.Accept({"channel_wise"});
  } else {
    TS_RETURN_IF_ERROR(CheckChannelWise(&arguments));
  }
  TS_ASSIGN_OR_RETURN(v1::IntensityStep * step, NewStep(transform));
  v1::ZScore* z_score = step->mutable_z_score();
  z_score->set_nonzero(nonzero);
  if (mean) {
    z_score->set_mean(*mean);
    z_score->set_std(*std);
  }
  return absl::OkStatus();
}

absl::Status PreparationReader::ScaleIntensityRangePercentiles(Transform* transform) {
  Arguments& arguments = transform->arguments;
  std::array<double, 4> bounds{};
  const std::array<const char*, 4> names = {"lower", "upper", "b_min", "b_max"};
  for (std::size_t i = 0; i < names.size(); ++i) {
    TS_ASSIGN_OR_RETURN(const std::optional<double> bound, arguments.Number(names[i]));
    if (!bound) return arguments.Refuse(names[i], "is missing");
    bounds[i] = *bound;
  }
  TS_ASSIGN_OR_RETURN(const bool clip, arguments.Bool("clip", false));
  TS_RETURN_IF_ERROR(arguments.Only("relative", false));
  TS_RETURN_IF_ERROR(CheckChannelWise(&arguments));
  TS_ASSIGN_OR_RETURN(v1::IntensityStep * step, NewStep(transform));
  v1::ScalePercentiles* percentiles = step->mutable_scale_percentiles();
  percentiles->set_lower(bounds[0]);
  percentiles->set_upper(bounds[1]);
  percentiles->set_to_min(bounds[2]);
  percentiles->set_to_max(bounds[3]);
  percentiles->set_clip(clip);
  return absl::OkStatus();
}

absl::Status PreparationReader::Finish(const Place& place) {
  if (keys_.empty()) return NotSupported(place.Text(), "no LoadImaged reads an image");
  if (keys_.size() > 1) return NotSupported(place.Text(), "the images are not put together (ConcatItemsd)");
  preparation_->set_intensity_before_spacing(intensity_first_);
  return absl::OkStatus();
}

}  // namespace

absl::Status AddPreparation(const Located& preprocessing, Bundle* bundle) {
  bundle->preprocessing = preprocessing.place;
  PreparationReader reader(bundle);
  TS_ASSIGN_OR_RETURN(std::vector<Transform> transforms, ActiveTransforms(&bundle->config, preprocessing));
  for (Transform& transform : transforms) TS_RETURN_IF_ERROR(reader.Read(&transform));
  return reader.Finish(preprocessing.place);
}

}  // namespace tomoserve::models::importer
